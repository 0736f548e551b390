"""What SIGKILL does to a sweep: its supervisor, its workers or both are killed at random moments and it is resumed.

The sweep must end as an undisturbed one does: every run completed, every checkpoint the same bit for bit, no finished
run touched again, and every attempt beyond a run's first explained by a kill. The processes note what they are doing
(``marks/sitecustomize.py``); the table shows what a victim had noted when it was dead, not what was aimed at.

    python benchmarks/kill.py [--kills 20] [--runs 12] [--seed 0] [--keep FOLDER]
"""

from __future__ import annotations

import argparse
import dataclasses
import random
import re
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from killed_sweep import START, Kill, Sweep, contents, leftovers

from resweep.record import BEST, CHECKPOINTS, CONFUSION_FILE, LAST, METRICS_FILE, Record
from resweep.rows import read_rows
from resweep.sweep.ledger import run_folders

EPOCHS = 4  # of every run
TIMES = {"seconds", "images_per_second"}
SHORT = ("validation", "checkpoint", "record", "freezing", "taking stock")
PHASES = ("planning", "set-up", "training", "validation", "checkpoint", "record")  # which must have been hit
AIMS = [
    ("worker", "set-up"), ("both", "training"), ("worker", "checkpoint"), ("supervisor", "supervising"),
    ("worker", "validation"), ("worker", "record"), ("both", "checkpoint"), ("worker", "training"),
    ("both", "record"), ("worker", "testing"), ("supervisor", "supervising"), ("both", "validation"),
]  # fmt: skip


def draw(kills: int, epochs: int, seed: int) -> list[Kill]:
    """Draw moments: a quarter while a supervisor starts, half in phases of the work, the rest at any time at all.

    A kill during a start follows one that has ended a supervisor; the first two are such ones.
    """
    chance = random.Random(seed)
    later = [phase for phase in START if phase != "freezing"]  # which happens once
    starts = ["planning", "freezing", *chance.choices(later, k=max(0, kills // 4 - 2))][: max(1, kills // 4)]
    aims = [chance.choice([aim for aim in AIMS if aim[1] == phase]) for phase in PHASES if phase not in START]
    aims += chance.sample(AIMS, min(len(AIMS), max(0, kills // 2 - len(aims))))
    aims += [(chance.choice(AIMS)[0], None) for _ in range(kills)]
    aims = aims[: kills - len(starts)]
    chance.shuffle(aims)
    if not any(victim != "worker" for victim, _ in aims):
        aims[0] = ("both", None)
    made = [Kill(*aim, after=after) for aim, after in zip(aims, moments(chance, len(aims), epochs), strict=True)]
    for number, phase in enumerate(starts):
        follows = [k for k, kill in enumerate(made) if kill.victim != "worker"]
        place = number if number < 2 else chance.choice(follows) + 1
        after = made[place - 1].after if place else 0
        again = "resume" if phase == "taking stock" else "train"
        made.insert(place, Kill("supervisor", phase, after=after, command=again))
    for kill in made:
        kill.delay = chance.uniform(0, 0.001 if kill.phase in SHORT else 0.05 if kill.phase in START else 0.25)
        kill.at_once = chance.random() < 0.5
        if kill.phase not in START:
            kill.command = chance.choice(["train", "resume"])
    alone = [kill for kill in made if kill.victim == "supervisor" and kill.phase not in START]
    for number, kill in enumerate(alone):
        kill.at_once = number % 2 == 0
    return made


def moments(chance: random.Random, count: int, epochs: int) -> list[int]:
    """Return increasing counts of epochs, at most four fifths of all, so that there is work left to be disturbed."""
    return sorted(chance.randrange(0, max(1, epochs * 4 // 5)) for _ in range(count))


def differing(one: Any, other: Any, place: str = "") -> list[str]:
    """Return the places in which two checkpoints are not the same bit for bit, times left out."""
    if isinstance(one, dict) and isinstance(other, dict):
        if one.keys() != other.keys():
            return [f"{place} keys"]
        return [d for key in one.keys() - TIMES for d in differing(one[key], other[key], f"{place}/{key}")]
    if isinstance(one, (list, tuple)) and isinstance(other, (list, tuple)) and len(one) == len(other):
        return [d for k, pair in enumerate(zip(one, other, strict=True)) for d in differing(*pair, f"{place}/{k}")]
    if isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
        same = one.dtype == other.dtype and one.shape == other.shape
        return [] if same and one.numpy().tobytes() == other.numpy().tobytes() else [place]
    return [] if type(one) is type(other) and one == other else [f"{place}: {one!r} and {other!r}"]


def same_results(sweep: Sweep, undisturbed: Sweep) -> list[str]:
    """Compare every run with the undisturbed sweep's: checkpoints, rows, record, confusion matrix."""
    found = []
    if [d.name for d in run_folders(sweep.dir)] != [d.name for d in run_folders(undisturbed.dir)]:
        return ["the runs are not the same"]
    for run_dir in run_folders(sweep.dir):
        other = undisturbed.dir / run_dir.name
        for name in (LAST, BEST):
            states = [torch.load(d / CHECKPOINTS / name, weights_only=False) for d in (run_dir, other)]
            found += [f"{run_dir.name} {name}{place}" for place in differing(*states)]
        rows = [[{**row, **dict.fromkeys(TIMES)} for row in read_rows(d / METRICS_FILE)] for d in (run_dir, other)]
        records = [Record.read(d) for d in (run_dir, other)]
        facts = [(r.status, r.metrics, r.best_epoch, r.epochs, r.parameters, r.data_digest, r.error) for r in records]
        tables = [(d / CONFUSION_FILE).read_bytes() for d in (run_dir, other)]
        pairs = {METRICS_FILE: rows, "record": facts, CONFUSION_FILE: tables}
        found += [f"{run_dir.name} {name}: {one} and {two}" for name, (one, two) in pairs.items() if one != two]
        if records[0].status != "completed":
            found.append(f"{run_dir.name} is {records[0].status}")
    return found


def nothing_twice(sweep: Sweep) -> list[str]:
    """Return what speaks against every attempt being needed: finished runs that were touched, unexplained attempts."""
    found = [f"{d.name} was changed after it was finished" for d, then in sweep.finished.items() if contents(d) != then]
    begun, ended, before = Counter(), {}, {}
    for kind, pid, run, status in map(str.split, (sweep.marks / "log").read_text().splitlines()):
        if kind == "end":  # a worker whose supervisor is gone may be stopped before its first record is written
            ended[run, pid] = "uncounted" if status == before[run, pid] else status
            continue
        begun[run] += 1
        before[run, pid] = status
        ended[run, pid] = "killed" if int(pid) in sweep.killed else "gone"
        if status in ("completed", "diverged", "pruned"):
            found.append(f"{run} was executed again when it was {status}")
    for run_dir in run_folders(sweep.dir):
        ends = Counter(status for (run, _), status in ended.items() if run == run_dir.name)
        attempts = Record.read(run_dir).attempts
        uncounted = ends["killed"] + ends["uncounted"]  # perhaps before the record said that they had begun
        needless = ends.keys() - {"completed", "killed", "interrupted", "uncounted"}
        if needless or ends["completed"] > 1 or not begun[run_dir.name] - uncounted <= attempts <= begun[run_dir.name]:
            found.append(f"{run_dir.name}: {attempts} attempts in the record, its processes ended so: {dict(ends)}")
    return found


def phases_hit(kills: list[Kill]) -> Counter[str]:
    """Count what the victims were doing, as they had noted it."""
    return Counter(phase for kill in kills for phase in kill.hit)


def kill_and_resume(sweep: Sweep, kills: list[Kill], say: Callable[[str], None]) -> list[Kill]:
    """Carry out a sweep that is killed again and again until it is complete.

    Returns:
        The kills; one whose phase was missed, and has not been hit by another, is followed by up to two more like it.
    """
    done: list[Kill] = []
    for kill in kills:
        for _ in range(3):
            done.append(dataclasses.replace(kill, hit=[], left=[]))
            if not strike(sweep, done[-1]):
                sweep.problems.append(f"kill {len(done)} did not come about")
            say(row(len(done), done[-1]))
            if kill.phase not in PHASES or phases_hit(done)[kill.phase]:
                break
    sweep.finish()
    missed = set(PHASES) - set(phases_hit(done))
    sweep.problems += [f"no kill has hit {phase}" for phase in PHASES if phase in missed]
    return done


def strike(sweep: Sweep, kill: Kill) -> bool:
    """Kill once, starting commands as long as they end before the moment comes."""
    for _ in range(20):
        if sweep.process is None:
            sweep.start(kill.command)
        if sweep.strike(kill):
            return True
    return False


ROW = "{:>4} {:>6}  {:<10} {:<12} {:<48} {:<18} {}"


def row(number: int, kill: Kill) -> str:
    outlived = f"{kill.survivors} {'not waited for' if kill.at_once else 'waited for'}" if kill.over else "goes on"
    left = " ".join(re.sub(r"\d{2,}", "#", name) for name in kill.left) or "-"
    return ROW.format(number, kill.epochs, kill.victim, kill.phase or "any", ", ".join(kill.hit), outlived, left)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--runs", type=int, default=12, help="an even number")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--keep", type=Path, help="a new folder for everything that is written")
    options = parser.parse_args()
    kills = draw(options.kills, options.runs * EPOCHS, options.seed)
    folder = options.keep or Path(tempfile.mkdtemp(prefix="kill-"))
    started = time.monotonic()
    undisturbed = Sweep(folder / "undisturbed", options.runs, EPOCHS)
    undisturbed.finish()
    alone = time.monotonic() - started
    print(ROW.format("kill", "epochs", "victim", "aimed at", "what the victims were doing", "workers", "left behind"))
    sweep = Sweep(folder / "killed", options.runs, EPOCHS)
    kills = kill_and_resume(sweep, kills, lambda text: print(text, flush=True))
    problems = [*undisturbed.problems, *sweep.problems, *same_results(sweep, undisturbed), *nothing_twice(sweep)]
    attempts = [Record.read(run_dir).attempts for run_dir in run_folders(sweep.dir)]
    print(f"\nattempts {attempts}, {sum(attempts)} in all; {sweep.commands} commands")
    print(f"{len(sweep.finished)} runs were finished before the last command, and watched from then on")
    print(f"workers outlived their supervisor by {sweep.longest:.1f} s at most")
    print(f"phases hit: {', '.join(f'{phase} {count}' for phase, count in sorted(phases_hit(kills).items()))}")
    print(f"left behind at the end: {' '.join(str(p.relative_to(folder)) for p in leftovers(folder)) or 'nothing'}")
    print(f"{alone:.0f} s undisturbed, {time.monotonic() - started - alone:.0f} s with {len(kills)} kills")
    print("\n".join(problems) or f"no difference: {len(attempts)} of {len(attempts)} completed, bit for bit the same")
    if options.keep is None:
        shutil.rmtree(folder)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
