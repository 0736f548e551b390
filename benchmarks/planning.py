"""How long it takes to plan a sweep: expand, compose, check, freeze to disk.

python benchmarks/planning.py [--runs 1000]
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

from resweep.config import config_loader
from resweep.sweep.ledger import prepare
from resweep.sweep.plan import make_plan


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=1000, help="a multiple of 100: 2 optimizers x 50 rates x seeds")
    options = parser.parse_args()
    overrides = ["optimizer=sgd,adam", "optimizer.lr=range(0.001,0.051,0.001)", f"seed=range(0,{options.runs // 100})"]
    with config_loader() as loader, tempfile.TemporaryDirectory() as place:
        started = time.perf_counter()
        plan = make_plan(loader, overrides)
        planned = time.perf_counter()
        prepare(plan, Path(place) / "sweep")
        written = time.perf_counter()
    print(
        f"{len(plan.runs)} runs: planned and checked in {planned - started:.1f} s, written in {written - planned:.1f} s"
    )


if __name__ == "__main__":
    main()
