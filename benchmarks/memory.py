"""Memory of processes that use CIFAR-10 (50,000 + 10,000 images, 184 MB), beside processes that use the digits.

The images are random, in files of CIFAR-10's format. Each process builds its data module (splits, mean, digest), goes
once through all three splits, normalised, and says how much memory it has: the peak of its resident pages, and its
proportional share (PSS), in which a page that k processes share counts 1 / k. First one process alone that reads the
files, then one that maps the cache, then several at a time.

    python benchmarks/memory.py [--processes 2]
"""

from __future__ import annotations

import argparse
import hashlib
import os
import pickle
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

NAMES = [*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"]


def write_cifar10(root: Path) -> None:
    folder = root / "cifar-10-batches-py"
    folder.mkdir()
    random = np.random.default_rng(0)
    for name in NAMES:
        labels = [int(label) for label in random.integers(0, 10, 10_000)]
        data = random.integers(0, 256, (10_000, 3072), dtype=np.uint8)
        (folder / name).write_bytes(pickle.dumps({"data": data, "labels": labels}))
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": [f"class{label}" for label in range(10)]}))


def use(what: str, root: Path) -> None:
    """Build the data, go through it, write down the memory, and stay until stdin is closed."""
    from torchvision.datasets import CIFAR10

    from resweep.data import sources
    from resweep.data.augment import Augment
    from resweep.data.datamodule import ImageDataModule

    for entry in (*CIFAR10.train_list, *CIFAR10.test_list):  # these files have checksums of their own
        entry[1] = hashlib.md5((root / CIFAR10.base_folder / entry[0]).read_bytes()).hexdigest()
    CIFAR10.meta["md5"] = hashlib.md5((root / CIFAR10.base_folder / "batches.meta").read_bytes()).hexdigest()
    source = sources.digits() if what == "digits" else sources.cifar10(root)
    test_size = 0.1 if source.test is None else None
    settings = {"batch_size": 128, "val_size": 0.1, "split_seed": 0, "subset": None, "seed": 0, "num_workers": 0}
    data = ImageDataModule(source, Augment(padding=4, flip=0.5), test_size=test_size, **settings)
    print(data.digest, file=sys.stderr)
    for loader in (data.train_dataloader(), data.val_dataloader(), data.test_dataloader()):
        for images, *_ in loader:
            data.normalize(images)
    print("ready", flush=True)
    sys.stdin.readline()
    peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    rollup = Path("/proc/self/smaps_rollup").read_text().splitlines()
    share = next(line for line in rollup if line.startswith("Pss:"))
    print(*(round(int(line.split()[1]) / 1000) for line in (peak, share)), flush=True)
    sys.stdin.readline()


def measured(what: str, root: Path, count: int) -> list[tuple[int, int]]:
    """Peak and share in MB (1e6 bytes) of processes that run at the same time."""
    processes = [
        subprocess.Popen(
            [sys.executable, __file__, "--use", what, "--root", root],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        for _ in range(count)
    ]
    for process in processes:
        assert process.stdout.readline() == "ready\n"
    results = []
    for process in processes:
        process.stdin.write("\n")
        process.stdin.flush()
        peak, share = process.stdout.readline().split()
        results.append((int(peak) * 1024 // 1000, int(share) * 1024 // 1000))
    for process in processes:
        process.communicate("\n")
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--use", help=argparse.SUPPRESS)
    parser.add_argument("--root", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.use is not None:
        use(options.use, options.root)
        return
    with tempfile.TemporaryDirectory() as place:
        os.environ.update(RESWEEP_CACHE=f"{place}/cache", OMP_NUM_THREADS="1")
        write_cifar10(Path(place))
        for what, count, text in (
            ("digits", 1, "digits"),
            ("cifar10", 1, "CIFAR-10, files read for the first time"),
            ("cifar10", 1, "CIFAR-10, from the cache"),
            ("digits", options.processes, f"digits, {options.processes} processes"),
            ("cifar10", options.processes, f"CIFAR-10, {options.processes} processes"),
        ):
            found = measured(what, Path(place), count)
            print(f"{text}: " + "; ".join(f"peak {peak} MB, share {share} MB" for peak, share in found), flush=True)


if __name__ == "__main__":
    main()
