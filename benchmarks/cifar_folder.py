"""ResNet-20 on an image folder of CIFAR-10's size beside a bare loop of the same net, in the same minutes.

The bare loop is timed for some steps before and after the framework's two epochs, on random images in memory, without
augmentation; it is what the processor can do with this net. Figures from JPEG versions of CIFAR-10 are not comparable
with published ones.

    python benchmarks/cifar_folder.py ROOT [--epochs 2] [--threads 2]
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import torch
from torch.nn import functional as F

from resweep.config import config_loader
from resweep.display import Output, RunDisplay
from resweep.models.resnet import CifarResNet
from resweep.sweep.ledger import write_run
from resweep.sweep.plan import make_plan
from resweep.train import execute

STEPS = 25


def bare_rates(threads: int, batch_size: int) -> list[float]:
    """Images per second of each step of a loop with nothing around it."""
    torch.set_num_threads(threads)
    net = CifarResNet(20, num_classes=10, in_channels=3).to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    images, labels = torch.randn(batch_size, 3, 32, 32), torch.randint(0, 10, (batch_size,))
    rates = []
    for step in range(STEPS + 3):
        started = time.perf_counter()
        optimizer.zero_grad()
        F.cross_entropy(net(images), labels).backward()
        optimizer.step()
        if step >= 3:
            rates.append(batch_size / (time.perf_counter() - started))
    return rates


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("root", help="folder with train/CLASS/*.jpg and test/CLASS/*.jpg")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place, config_loader() as loader:
        fixed = ["data=image_folder", "data.val_size=5000", "model=resnet20", f"runs_dir={place}"]
        asked = [f"data.root={options.root}", f"trainer.max_epochs={options.epochs}", f"threads={options.threads}"]
        overrides = [*fixed, *asked]
        run = make_plan(loader, overrides).runs[0]
        before = bare_rates(options.threads, run.config["data"]["batch_size"])
        run_dir = Path(place) / "run"
        write_run(run, run_dir)
        started = time.perf_counter()
        record = execute(run_dir, RunDisplay(Output("plain"), options.epochs, []))
        seconds = time.perf_counter() - started
        after = bare_rates(options.threads, run.config["data"]["batch_size"])
    bare = statistics.median(before + after)
    rate = record.images_per_second
    print(f"{record.status}: test accuracy {record.metrics.get('test/accuracy')}, {rate:.0f} images/s in training")
    print(f"{seconds:.0f} s with decoding and test, fit {record.fit_seconds:.0f} s")
    halves = f"before {statistics.median(before):.0f}, after {statistics.median(after):.0f}"
    print(f"bare loop {bare:.0f} images/s ({halves}); resweep reaches {rate / bare:.2f} of it")


if __name__ == "__main__":
    main()
