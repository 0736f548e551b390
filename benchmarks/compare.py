"""How long `resweep compare` takes, how much memory it needs and how large its report is, on made-up sweeps.

The sweeps have the files of real ones (record, config, curves, confusion matrix, calibration, weights, log) with
figures from a formula and noise; one run in a hundred failed and one diverged. Each comparison is a fresh process.

    python benchmarks/compare.py [--runs 1000 10000] [--epochs 100] [--repeats 1] [--keep FOLDER] [--profile]
"""

from __future__ import annotations

import argparse
import io
import itertools
import json
import math
import os
import pstats
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy
import yaml

from resweep.record import (
    CALIBRATION_FILE,
    CONFIG_FILE,
    CONFUSION_FILE,
    LOG_FILE,
    METRICS_FILE,
    RUN_FILE,
    SWEEP_FILE,
    WEIGHTS_FILE,
    Record,
    columns,
)
from resweep.rows import plain

SEEDS = 3
OPTIMIZERS = {"sgd": 0.1, "adam": 0.003, "adamw": 0.003, "rmsprop": 0.001}  # and the rate that suits it best
DROPOUTS = [0.0, 0.1, 0.3]
DECAYS = [0.0, 1e-5, 1e-4, 5e-4, 1e-3]
CLASSES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
TENSORS = 65  # parameter tensors of ResNet-20
ENVIRONMENT = {
    "python": "3.11.7", "platform": "Linux-6.12-x86_64-with-glibc2.36", "processor": "Two Cores at 2.50GHz", "cores": 2,
    "threads": 1, "accelerator": None, "packages": {"resweep": "0.1.0", "torch": "2.12.1", "torchvision": "0.27.1"},
    "git": {"commit": "c11b5206f590420b62181f2f5db029df91d16e51", "dirty": False},
}  # fmt: skip


def settings(number: int) -> list[dict[str, Any]]:
    """Return a grid's first settings: optimizer, learning rate, weight decay, dropout."""
    rates = math.ceil(number / (len(OPTIMIZERS) * len(DROPOUTS) * len(DECAYS)))
    values = [float(f"{rate:.3g}") for rate in numpy.geomspace(1e-4, 1.0, max(rates, 2))][:rates]
    grid = itertools.product(values, OPTIMIZERS, DECAYS, DROPOUTS)
    return [
        {"optimizer": name, "optimizer.lr": rate, "optimizer.weight_decay": decay, "model.dropout": dropout}
        for rate, name, decay, dropout in itertools.islice(grid, number)
    ]


def quality(setting: dict[str, Any]) -> float:
    """Return the accuracy that a setting would have without noise."""
    away = math.log10(setting["optimizer.lr"] / OPTIMIZERS[setting["optimizer"]])
    decay = math.log10(setting["optimizer.weight_decay"] + 1e-6) + 3.3
    return 0.93 - 0.03 * away**2 - 0.002 * decay**2 - 0.2 * (setting["model.dropout"] - 0.1) ** 2


def make(folder: Path, runs: int, epochs: int) -> None:
    """Write a sweep of so many runs, of so many epochs each."""
    chance = numpy.random.default_rng(0)
    folder.mkdir(parents=True)
    names = []
    planned = [setting | {"seed": seed} for setting in settings(math.ceil(runs / SEEDS)) for seed in range(SEEDS)]
    for number, swept in enumerate(planned[:runs]):
        label = ",".join(f"{key.rsplit('.', 1)[-1]}={value}" for key, value in swept.items())
        run_id = f"{number * 7919 % 16**5:05x}"
        names.append(f"{label}-{run_id}")
        _write_run(folder / names[-1], run_id, label, swept, epochs, chance, number)
    axes = {key: list(dict.fromkeys(str(swept[key]) for swept in planned)) for key in planned[0]}
    overrides = [f"{key}={','.join(values)}" for key, values in axes.items()]
    request = {"name": folder.name, "command": ["resweep", "train", "-m", *overrides], "overrides": overrides}
    request |= {"axes": axes, "counts": {"runs": runs}, "created_at": "2026-11-22T16:18:21+00:00", "runs": names}
    request |= {"versions": {"resweep": "0.1.0", "python": "3.11.7"}}
    request["base"] = {"monitor": "val/accuracy", "monitor_mode": "max", "trainer.max_epochs": epochs}
    (folder / SWEEP_FILE).write_text(yaml.safe_dump(request, sort_keys=False))


def _write_run(
    folder: Path,
    run_id: str,
    label: str,
    swept: dict[str, Any],
    epochs: int,
    chance: numpy.random.Generator,
    number: int,
) -> None:
    folder.mkdir()
    status = {50: "failed", 51: "diverged"}.get(number % 100, "completed")
    done = epochs if status == "completed" else epochs // 3
    rows = list(_curve(quality(swept), done, swept["optimizer.lr"], chance))
    best = max(range(done), key=lambda epoch: rows[epoch]["val/accuracy"])
    overrides = [f"{key}={value}" for key, value in swept.items()]
    digest = run_id + "0" * 27
    record = Record(run_id, label, swept["seed"], digest, overrides, swept, status, attempts=1, epochs=done)
    record.environment, record.data_digest = ENVIRONMENT, "5be95761f4dc51cbb9123bc3df757ba8"
    record.split_sizes = {"train": 45000, "val": 5000, "test": 10000}
    record.fit_seconds = float(sum(row["seconds"] for row in rows))
    record.images_per_second, record.parameters, record.peak_memory_bytes = 3000.0, 272474, 593_969_152
    record.started_at, record.finished_at = "2026-11-22T16:19:01+00:00", "2026-11-22T16:29:01+00:00"
    if status == "completed":
        record.best_epoch = best + 1
        record.metrics = {key: rows[best][key] for key in ("val/loss", "val/accuracy")}
        test = rows[best]["val/accuracy"] - 0.005 + 0.003 * chance.standard_normal()
        record.metrics |= {"test/loss": 3 * (1 - test), "test/accuracy": test, "test/ece": 0.02, "test/f1": test}
        _write_tables(folder, test, chance)
    else:
        record.error = {"type": "NonFiniteLoss", "message": "loss became nan", "epoch": done}
    (folder / RUN_FILE).write_text(json.dumps(asdict(record), indent=1) + "\n")
    lines = [",".join(columns()), *(",".join(plain(row).values()) for row in rows)]
    (folder / METRICS_FILE).write_text("\n".join(lines) + "\n")
    (folder / LOG_FILE).write_text("2026-11-22 16:19:07,022 resweep INFO a line of the log, as long as usual\n" * 30)
    config = {"trainer": {"max_epochs": epochs}, "optimizer": {"_target_": "torch.optim.SGD"}, "seed": swept["seed"]}
    (folder / CONFIG_FILE).write_text(yaml.safe_dump(config | {"model": {"depth": 20, "width": 16}}))


def _curve(level: float, epochs: int, rate: float, chance: numpy.random.Generator) -> Iterator[dict[str, float]]:
    noise = chance.standard_normal((epochs, 3)) * 0.004
    offset = chance.standard_normal() * 0.004  # of the seed
    for epoch in range(1, epochs + 1):
        reached = 0.1 + (level - 0.1) * (1 - math.exp(-12 * epoch / epochs)) + offset
        accuracy = [float(numpy.clip(reached + gap, 0, 1)) for gap in noise[epoch - 1]]
        values = [
            epoch,
            3 * (1 - accuracy[0]),
            accuracy[0],
            3 * (1 - accuracy[1]),
            accuracy[1],
            rate,
            2 + accuracy[2],
            3e3,
        ]
        yield dict(zip(columns(), values, strict=True))


def _write_tables(folder: Path, accuracy: float, chance: numpy.random.Generator) -> None:
    size = len(CLASSES)
    counts = chance.multinomial(1000, [accuracy, *[(1 - accuracy) / (size - 1)] * (size - 1)], size=size)
    rows = [",".join(["true \\ predicted", *CLASSES])]
    rows += [",".join([name, *map(str, numpy.roll(counts[k], k))]) for k, name in enumerate(CLASSES)]
    (folder / CONFUSION_FILE).write_text("\n".join(rows) + "\n")
    rows = ["lower,upper,count,confidence,accuracy"]
    for k in range(15):
        ends = f"{k / 15:.10g},{(k + 1) / 15:.10g}"
        rows.append(f"{ends},{10 * k * k},{(k + 0.5) / 15:.10g},{(k + 0.3) / 15:.10g}" if k else f"{ends},0,,")
    (folder / CALIBRATION_FILE).write_text("\n".join(rows) + "\n")
    rows = [
        f"layers.{k}.weight,{64 * k + 16},{chance.uniform(1, 9):.10g},{chance.uniform(0, 1):.10g}"
        for k in range(TENSORS)
    ]
    (folder / WEIGHTS_FILE).write_text("\n".join(["name,count,norm,largest", *rows]) + "\n")


def measure(folder: Path) -> tuple[float, float, float]:
    """Return the seconds, seconds of the processor, and peak memory in MB of a comparison in a process of its own."""
    code = "import sys; from resweep.cli import main; sys.exit(main())"
    silent = [(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)]
    command = [sys.executable, "-c", code, "compare", str(folder)]
    started = time.perf_counter()
    child = os.posix_spawn(sys.executable, command, os.environ, file_actions=silent)
    _, status, usage = os.wait4(child, 0)
    if status:
        raise SystemExit(f"resweep compare {folder} ended with {os.waitstatus_to_exitcode(status)}")
    memory = usage.ru_maxrss / (1024**2 if sys.platform == "darwin" else 1024)
    return time.perf_counter() - started, usage.ru_utime + usage.ru_stime, memory


def profile(folder: Path, lines: int) -> str:
    """Return the functions of a comparison by the time spent in them and what they call, seconds."""
    import cProfile

    from resweep.report.compare import compare

    profiler = cProfile.Profile()
    profiler.runcall(compare, [str(folder)])
    text = io.StringIO()
    pstats.Stats(profiler, stream=text).sort_stats("cumulative").print_stats("resweep", lines)
    return text.getvalue()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, nargs="+", default=[1000, 10000])
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--repeats", type=int, default=1, help="comparisons of each sweep")
    parser.add_argument("--keep", type=Path, help="make the sweeps here, use those that are there, and keep them")
    parser.add_argument("--profile", action="store_true", help="show where the time goes in place of measuring it")
    options = parser.parse_args()
    place = options.keep or Path(tempfile.mkdtemp())
    try:
        for runs in options.runs:
            folder = place / f"{runs}x{options.epochs}"
            if not (folder / SWEEP_FILE).exists():
                make(folder, runs, options.epochs)
            if options.profile:
                print(profile(folder, 60))
                continue
            for _ in range(options.repeats):
                seconds, busy, memory = measure(folder)
                size = (folder / "report.html").stat().st_size / 1e6
                times = f"{seconds:.1f} s ({busy:.1f} s of the processor)"
                print(f"{folder.name}: {times}, {memory:,.0f} MB at most, report {size:.2f} MB", flush=True)
    finally:
        if options.keep is None:
            shutil.rmtree(place)


if __name__ == "__main__":
    main()
