"""A search against the full grid on digits: how good is what it finds, and for how many epochs of training.

python benchmarks/search.py [--trials 24] [--pruner asha]

Both choose by validation accuracy; the two winners are then trained with fresh seeds, because the best of many runs is
partly a lucky one.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import fmean

from resweep.record import Record
from resweep.sweep.ledger import run_folders

COMMON = ["data=digits", "model.width=4", "scheduler=onecycle", "data.batch_size=128", "trainer.max_epochs=9",
          "logger=none"]  # fmt: skip
GRID = ["optimizer=sgd,adam,rmsprop", "optimizer.lr=0.001,0.003,0.01,0.03,0.1,0.3", "model.dropout=0,0.2"]
SPACE = ["optimizer=sgd,adam,rmsprop", "optimizer.lr=tag(log,interval(0.001,1))", "model.dropout=0,0.2"]


def sweep(folder: Path, name: str, words: list[str]) -> list[Record]:
    """Carry a sweep out and return the records of its runs."""
    command = [sys.executable, "-m", "resweep.cli", "train", "-m", "-qq", *COMMON, f"runs_dir={folder}",
               f"sweep_name={name}", *words]  # fmt: skip
    subprocess.run(command, check=True)
    return [Record.read(run_dir) for run_dir in run_folders(folder / name)]


def best(records: list[Record]) -> Record:
    return max((r for r in records if r.status == "completed"), key=lambda r: r.metrics["val/accuracy"])


def fresh(folder: Path, name: str, record: Record) -> list[float]:
    """Train a setting with five seeds that nobody has chosen by."""
    texts = [f"{key}={value}" for key, value in record.swept.items()]
    records = sweep(folder, name, [*texts, "seed=101,102,103,104,105"])
    return [record.metrics["test/accuracy"] for record in records]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=24)
    parser.add_argument("--pruner", default="asha")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    asked = ["search=tpe", f"search.trials={options.trials}", f"search.pruner={options.pruner}",
             "search.reduction_factor=3", f"search.seed={options.seed}", "executor.workers=1"]  # fmt: skip
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        grid, found = sweep(folder, "grid", GRID), sweep(folder, "search", [*SPACE, *asked])
        print(f"{'':8} {'runs':>5} {'pruned':>7} {'epochs':>7} {'best val':>9}  {'test, 5 fresh seeds':>20}  setting")
        for name, records in (("grid", grid), ("search", found)):
            winner = best(records)
            tests = fresh(folder, f"{name}-fresh", winner)
            pruned, epochs = sum(r.status == "pruned" for r in records), sum(r.epochs for r in records)
            setting = " ".join(f"{key}={value}" for key, value in winner.swept.items())
            spread = f"{fmean(tests):.4f} {min(tests):.4f}..{max(tests):.4f}"
            accuracy = winner.metrics["val/accuracy"]
            print(f"{name:8} {len(records):5} {pruned:7} {epochs:7} {accuracy:9.4f}  {spread:>20}  {setting}")
        share = sum(r.epochs for r in found) / sum(r.epochs for r in grid)
    print(f"the search took {share:.0%} of the grid's epochs")


if __name__ == "__main__":
    main()
