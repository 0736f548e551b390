"""How fast a folder of images becomes pixels, beside torchvision.io in as many threads.

Both sides read the same files and write them into one uint8 tensor (N, C, H, W), in turn, which goes first alternating:
``resweep.data.files.read_files`` with an empty cache, entry on disk and check of all sizes included, and
``torchvision.io.decode_image`` of each file, in chunks of 64 by a pool of one thread per processor. Printed are the
pairs, the median of the ratios of their speeds, and how long the next start takes with the cache filled. Where one side
gives other pixels than the other the script stops.

    python benchmarks/decode.py ROOT [--pairs 7] [--files 10000]
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from torch import Tensor
from torchvision.io import ImageReadMode, decode_image

from resweep.data.decode import read_size
from resweep.data.files import Decoding, Files, read_files
from resweep.data.image_folder import image_folder

CHUNK = 64


def by_torchvision(paths: list[str], threads: int) -> tuple[float, Tensor]:
    started = time.perf_counter()
    width, height = read_size(paths[0])
    images = torch.empty(len(paths), 3, height, width, dtype=torch.uint8)

    def read(positions: range) -> None:
        for position in positions:
            images[position] = decode_image(paths[position], ImageReadMode.RGB)

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(read, (range(len(paths))[start : start + CHUNK] for start in range(0, len(paths), CHUNK))))
    return time.perf_counter() - started, images


def by_resweep(root: Path, paths: list[str]) -> tuple[float, Tensor]:
    with tempfile.TemporaryDirectory() as cache:
        os.environ["RESWEEP_CACHE"] = cache
        started = time.perf_counter()
        files = Files(paths, torch.zeros(len(paths), dtype=torch.int64))
        samples = read_files("decode", root, {"all": files}, Decoding(memory_limit_mb=2**20))["all"]
        return time.perf_counter() - started, samples.batch(torch.arange(len(paths)))[0]


def next_start(root: Path) -> float:
    with tempfile.TemporaryDirectory() as cache:
        os.environ["RESWEEP_CACHE"] = cache
        image_folder(root, memory_limit_mb=2**20)
        started = time.perf_counter()
        image_folder(root, memory_limit_mb=2**20).train.batch(torch.arange(128))
        return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("root", type=Path, help="folder with CLASS/*.jpg or train/CLASS/*.jpg, colour, all of one size")
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--files", type=int, default=10_000, help="how many of the files, taken evenly; 0 takes all")
    options = parser.parse_args()
    torch.set_num_threads(1)
    threads = len(os.sched_getaffinity(0))
    found = sorted(str(path) for path in options.root.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg", ".png"))
    paths = found[:: max(1, len(found) // options.files)][: options.files] if options.files else found
    print(f"{len(paths)} files, {threads} threads")
    ratios = []
    for pair in range(options.pairs):
        sides = [lambda: by_resweep(options.root, paths), lambda: by_torchvision(paths, threads)]
        order = (0, 1) if pair % 2 == 0 else (1, 0)
        results = {side: sides[side]() for side in order}
        (ours, one), (theirs, other) = results[0], results[1]
        assert torch.equal(one, other), "the pixels differ"
        ratios.append(theirs / ours)
        rates = f"resweep {len(paths) / ours:.0f}, torchvision {len(paths) / theirs:.0f} images/s"
        print(f"pair {pair}: {rates}, ratio {ratios[-1]:.3f}", flush=True)
    print(f"median of the ratios {statistics.median(ratios):.3f}")
    print(f"next start of the whole folder from the cache: {next_start(options.root):.2f} s for {len(found)} files")


if __name__ == "__main__":
    main()
