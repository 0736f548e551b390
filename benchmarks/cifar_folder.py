"""ResNet-20 on an image folder of CIFAR-10's size beside a bare loop of the same net, in the same minutes.

First the images per second of 25 training steps, in turn: a run of the framework on 3,200 images, then a bare loop on
random images in memory, without augmentation, which is what the processor can do with this net. Then two whole epochs
for time and accuracy. Figures from JPEG versions of CIFAR-10 are not comparable with published ones.

    python benchmarks/cifar_folder.py ROOT [--pairs 5] [--epochs 2] [--threads 2]
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import torch
from torch.nn import functional as F

from resweep.build import build_data
from resweep.config import config_loader
from resweep.console import Output
from resweep.data.datamodule import ImageDataModule
from resweep.display import RunDisplay
from resweep.models.resnet import CifarResNet
from resweep.record import Record
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


def framework(folder: Path, name: str, overrides: list[str], data: ImageDataModule | None, epochs: int) -> Record:
    """Carry out one run on data that is decoded already, or decode it."""
    with config_loader() as loader:
        run = make_plan(loader, overrides).runs[0]
    write_run(run, folder / name)
    record = execute(folder / name, RunDisplay(Output("plain"), epochs, []), data or build_data(run.config))
    assert record.status == "completed", record.error
    return record


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("root", help="folder with train/CLASS/*.jpg and test/CLASS/*.jpg")
    parser.add_argument("--pairs", type=int, default=5, help="0 leaves the pairs out")
    parser.add_argument("--epochs", type=int, default=2, help="0 leaves the whole epochs out")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        fixed = ["data=image_folder", f"data.root={options.root}", "model=resnet20", f"threads={options.threads}",
                 f"runs_dir={place}"]  # fmt: skip
        few = [*fixed, "data.val_size=500", "data.subset=3200", "trainer.max_epochs=1"]
        ratios, data = [], None
        for pair in range(options.pairs):
            if data is None:
                with config_loader() as loader:
                    data = build_data(make_plan(loader, few).runs[0].config)
            ours = framework(folder, f"pair-{pair}", few, data, 1).images_per_second
            bare = statistics.median(bare_rates(options.threads, 128))
            ratios.append(ours / bare)
            print(f"pair {pair}: resweep {ours:.0f}, bare loop {bare:.0f} images/s, ratio {ratios[-1]:.3f}", flush=True)
        if ratios:
            print(f"median of the ratios {statistics.median(ratios):.3f}", flush=True)
        if options.epochs:
            whole = [*fixed, "data.val_size=5000", f"trainer.max_epochs={options.epochs}"]
            started = time.perf_counter()
            record = framework(folder, "whole", whole, None, options.epochs)
            print(f"{options.epochs} epochs: {time.perf_counter() - started:.0f} s with decoding and test")
            print(f"test accuracy {record.metrics['test/accuracy']:.4f}, {record.images_per_second:.0f} images/s")


if __name__ == "__main__":
    main()
