"""Lets processes of resweep note what they are doing, so that one that is killed has left behind where it was.

Python imports this file by itself when its folder is on ``PYTHONPATH``; the product knows nothing of it. With
``KILL_MARKS=FOLDER`` every process keeps ``FOLDER/<pid>.mark`` up to date (``role|phase|run``, one ``pwrite`` per
change), and ``FOLDER/log`` gets a line when an attempt at a run begins and when it ends by itself:
``begin|end pid run status-on-disk``.
"""

import functools
import json
import os
import sys

FOLDER = os.environ.get("KILL_MARKS")
WIDTH = 240
# What a process does while it is in one of these functions; the innermost counts.
POINTS = {
    "resweep.sweep.plan": {"make_plan": "planning"},
    "resweep.sweep.ledger": {"prepare": "freezing"},
    "resweep.sweep.stock": {"take_stock": "taking stock"},
    "resweep.sweep.supervise": {"supervise": "supervising"},
    "resweep.sweep.launch": {"_sum_up": "summing up"},
    "resweep.sweep.executors.local": {"call_in_worker": "checking", "_work": "set-up"},
    "resweep.record": {"Record.write": "record"},
    "resweep.callbacks": {"BestAndLast.save": "checkpoint", "BestAndLast._last_is_best": "checkpoint"},
    "resweep.lit_module": {"LitClassifier.validation_step": "validation"},
    "resweep.train": {"_attempt": "set-up", "test": "testing", "_finish_trackers": "finishing"},
    "pytorch_lightning.loops.training_epoch_loop": {"_TrainingEpochLoop.run": "training"},
}
supervises = "resweep.cli" in sys.orig_argv
state = {"role": "supervisor" if supervises else "worker", "phase": "starting", "run": "", "file": None}


def mark(phase: str) -> str:
    """Note a phase and return the one before."""
    before, state["phase"] = state["phase"], phase
    if state["file"] is None:
        state["file"] = os.open(f"{FOLDER}/{os.getpid()}.mark", os.O_WRONLY | os.O_CREAT, 0o644)
    os.pwrite(state["file"], f"{state['role']}|{phase}|{state['run']}".ljust(WIDTH).encode(), 0)
    return before


def forget() -> None:
    """Let a forked process have a mark of its own."""
    if state["file"] is not None:
        os.close(state["file"])
    state.update(role="worker", phase="starting", run="", file=None)


def note(kind: str, run_dir: os.PathLike) -> None:
    with open(os.path.join(run_dir, "run.json"), encoding="utf-8") as stream:
        status = json.load(stream)["status"]
    log = os.open(f"{FOLDER}/log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.write(log, f"{kind} {os.getpid()} {os.path.basename(run_dir)} {status}\n".encode())
    os.close(log)


def marked(function, phase: str):
    """Wrap a function so that its phase is noted while it lasts."""

    @functools.wraps(function)
    def inner(*args, **kwargs):
        if function.__name__ == "_work":
            state["run"] = args[0][0].name
        before = mark(phase)
        if function.__name__ == "_attempt":
            note("begin", args[0])
        try:
            return function(*args, **kwargs)
        finally:
            if function.__name__ == "_attempt":
                note("end", args[0])
            mark("ending" if function.__name__ == "_work" else before)

    return inner


class Marker:
    """Finds the modules of ``POINTS`` as everybody does, and wraps their functions once they are loaded."""

    def find_spec(self, name, path=None, target=None):
        if name not in POINTS:
            return None
        others = (finder for finder in sys.meta_path if finder is not self)
        spec = next(filter(None, (finder.find_spec(name, path, target) for finder in others)))
        load = spec.loader.exec_module

        def exec_module(module):
            load(module)
            for words, phase in POINTS[name].items():
                *owner, attribute = words.split(".")
                place = functools.reduce(getattr, owner, module)
                setattr(place, attribute, marked(getattr(place, attribute), phase))

        spec.loader.exec_module = exec_module
        return spec


if FOLDER:
    sys.meta_path.insert(0, Marker())
    os.register_at_fork(after_in_child=forget)
    if supervises:
        mark("starting")
