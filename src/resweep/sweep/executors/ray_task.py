"""What a Ray task does on its node: hold a place while a process of its own carries out the runs.

The task's Ray worker starts the process from a fork server that has loaded torch once. So a run that crashes or leaks
never touches Ray, and the next run of the same worker starts in some 40 ms. A run whose Ray worker vanishes, with its
node or alone, gets SIGTERM by itself, and SIGKILL where that does not help.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
from multiprocessing.connection import wait
from pathlib import Path

from resweep.record import CONFIG_FILE
from resweep.sweep.executors.local import cause_of_end, enter_worker, oom_kills, start_process, start_server
from resweep.sweep.executors.worker import carry_out

POLL_SECONDS = 0.1  # how soon a task passes a cancellation on


def carry_out_unit(folders: list[str], cwd: str) -> str:
    """Body of a Ray task: carry out the runs of a unit in a process of its own.

    Args:
        folders: run folders as seen from every node.
        cwd: working folder of the runs, where the node has it.

    Returns:
        How the process ended, in words.
    """
    for folder in folders:
        if not Path(folder, CONFIG_FILE).is_file():
            return f"the lack of its folder on node {socket.gethostname()} (all nodes must share the file system)"
    asked: list[int] = []  # a number per cancellation
    before = signal.signal(signal.SIGINT, lambda number, _: asked.append(number))
    try:
        start_server()
        oom_kills_before = oom_kills()
        process = start_process(_run, (folders, cwd, dict(os.environ)), Path(folders[0]).name)
        told = 0
        while not wait([process.sentinel], POLL_SECONDS):
            if len(asked) > told:
                told = len(asked)
                (process.terminate if told == 1 else process.kill)()
        return cause_of_end(process, oom_kills_before)
    finally:
        signal.signal(signal.SIGINT, before)


def _run(folders: list[str], cwd: str, environ: dict[str, str]) -> None:
    """Body of the process; the runs behind one that did not end well are not begun."""
    enter_worker()
    os.environ.update(environ)  # the server began with its worker's first task; devices are given per task
    if os.path.isdir(cwd):
        os.chdir(cwd)
    for folder in folders:
        status = carry_out(Path(folder))
        if status:
            sys.exit(status)
