"""How long TensorBoard takes to load a sweep, and how large the event files are.

Writes the event files of a made-up sweep through the run's own logger, with all its pictures, of digits, without
training anything; then starts the real server and asks it until it has found all runs.

    python benchmarks/tensorboard_load.py [--runs 300] [--epochs 30] [--on-request]
"""

from __future__ import annotations

import argparse
import json
import queue
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import torch

from resweep.build import build_data
from resweep.config import config_loader
from resweep.record import Record
from resweep.scores import MulticlassTest
from resweep.sweep.ledger import prepare
from resweep.sweep.plan import make_plan
from resweep.tables import write_mistakes
from resweep.tensorboard import RunLogger

SEEDS = 5
STATUSES = ["STATUS_UNKNOWN", "STATUS_SUCCESS", "STATUS_FAILURE", "STATUS_RUNNING"]


def write_sweep(folder: Path, runs: int, epochs: int, on_request: bool) -> Path:
    """Plan a sweep and write what its runs would have shown."""
    rates = ",".join(f"{0.001 * (step + 1):g}" for step in range(max(1, runs // (2 * SEEDS))))
    axes = ["optimizer=sgd,adam", f"optimizer.lr={rates}", f"seed={','.join(map(str, range(SEEDS)))}"]
    with config_loader() as loader:
        plan = make_plan(loader, [*axes, f"trainer.max_epochs={epochs}", f"runs_dir={folder}"])
    sweep = folder / "sweep"
    prepare(plan, sweep)
    data = build_data(plan.runs[0].config)
    generator = torch.Generator().manual_seed(0)
    for run in plan.runs:
        write_events(sweep / run.folder, run.config, data, epochs, generator, on_request)
    return sweep


def write_events(run_dir, config, data, epochs, generator, on_request):
    """Write the events of one run, with random figures."""
    logger, record = RunLogger(str(run_dir), pr_curves=on_request), Record.read(run_dir)
    logger.begin(config, record, "multiclass")
    for epoch in range(1, epochs + 1):
        names = ("train/loss", "train/accuracy", "val/loss", "val/accuracy", "lr", "time/epoch_seconds")
        values = torch.rand(len(names) + 1, generator=generator).tolist()
        logger.log_metrics(dict(zip((*names, "time/images_per_second"), values, strict=True)), step=epoch)
    if on_request:
        for tag in range(20):
            for epoch in range(1, epochs + 1):
                values = torch.randn(5000, generator=generator).numpy()
                logger.experiment.add_histogram(f"weights/{tag:02d}", values, epoch, max_bins=64)
    test = MulticlassTest(data.num_classes)
    labels = data.test.labels
    test.update(torch.randn(len(labels), data.num_classes, generator=generator), labels)
    result = test.compute()
    write_mistakes(run_dir, result.mistakes, data.test, data.classes)
    record.metrics = {"val/loss": 1.0, "val/accuracy": 0.5}
    record.metrics |= {f"test/{name}": value for name, value in result.scores.items()}
    record.best_epoch, record.fit_seconds, record.status = epochs, 1.0, "completed"
    logger.tested(record, result, data.classes)
    logger.finish(record)


@contextmanager
def server(logdir: Path):
    """Start TensorBoard; give its address."""
    words = [sys.executable, "-m", "tensorboard.main", "--logdir", str(logdir), "--host", "127.0.0.1", "--port", "0"]
    with subprocess.Popen(words, stderr=subprocess.PIPE, text=True) as process:
        lines: queue.Queue[str] = queue.Queue()
        threading.Thread(target=lambda: [lines.put(line) for line in process.stderr], daemon=True).start()
        try:
            said, found = "", None
            while found is None:
                said += lines.get(timeout=120)
                found = re.search(r"http://127\.0\.0\.1:\d+", said)
            yield found[0]
        finally:
            process.terminate()


def asked(url: str, path: str, body: object = None):
    """Return the server's answer and its seconds."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"{url}/data/{path}", data, {"Content-Type": "application/json"})
    started = time.perf_counter()
    with urllib.request.urlopen(request, timeout=600) as answer:
        return json.load(answer), time.perf_counter() - started


def measure(sweep: Path, runs: int) -> None:
    """Print how long the server takes."""
    started = time.perf_counter()
    with server(sweep) as url:
        ready = time.perf_counter() - started
        complete = lambda tags: sum("test/accuracy" in found for found in tags.values()) == runs  # noqa: E731
        while not complete(asked(url, "plugin/scalars/tags")[0]):
            time.sleep(0.1)
        loaded = time.perf_counter() - started
        experiment, first = asked(url, "plugin/hparams/experiment", {"experimentName": ""})
        columns = [{"hparam": info["name"]} for info in experiment["hparamInfos"]]
        body = {"experimentName": "", "allowedStatuses": STATUSES, "colParams": columns, "startIndex": 0}
        groups, second = asked(url, "plugin/hparams/session_groups", body | {"sliceSize": 10_000})
        _, images = asked(url, "plugin/images/tags")
    print(f"server answers after {ready:.1f} s, has all {runs} runs after {loaded:.1f} s")
    count = len(groups["sessionGroups"])
    print(f"HParams: columns {first:.2f} s, {count} lines {second:.2f} s; images: tags {images:.2f} s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=300, help="a multiple of 10")
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--on-request", action="store_true", help="with histograms and precision-recall curves")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as place:
        started = time.perf_counter()
        sweep = write_sweep(Path(place), options.runs, options.epochs, options.on_request)
        sizes = [path.stat().st_size for path in sweep.glob("*/events*")]
        print(f"{len(sizes)} event files written in {time.perf_counter() - started:.1f} s")
        print(f"size: median {statistics.median(sizes) / 1000:.1f} kB, largest {max(sizes) / 1000:.1f} kB")
        measure(sweep, options.runs)


if __name__ == "__main__":
    main()
