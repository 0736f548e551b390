"""What batched augmentation costs: beside torchvision v2 image by image, and as a share of an epoch. One thread.

Crop, flip and changes of colour of 32x32 colour images in batches of 128, normalised: the batch at once, then each
image alone by torchvision's v2 transforms, as tensors and as pictures of Pillow (each starting from what it likes
best, and stacked in the end). Then the time of each choice of conf/augment beside training steps of ResNet-20; both
scale with the number of images, so that the shares are those of an epoch. Times are processor time of this process,
which does nothing else: less sensitive to neighbours than the clock.

    python benchmarks/augment.py [--pairs 7]
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from omegaconf import OmegaConf
from torch.nn import functional as F
from torchvision.transforms import v2

from resweep.config import shipped
from resweep.data.augment import Augment
from resweep.models.resnet import CifarResNet

BATCH, EPOCH = 128, 50_000
MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)
COLOR = {"brightness": 0.4, "contrast": 0.4, "saturation": 0.4, "hue": 0.1}


def seconds(work: Callable[[], object], repeats: int) -> float:
    """Processor seconds of one call, the median of some after one that is not counted."""
    work()
    times = []
    for _ in range(repeats):
        started = time.process_time()
        work()
        times.append(time.process_time() - started)
    return statistics.median(times)


def normalize(images: torch.Tensor) -> torch.Tensor:
    scale, shift = (torch.tensor(values).view(-1, 1, 1) for values in (STD, MEAN))
    return images.to(torch.float32, copy=True).mul_(1 / (255 * scale)).sub_(shift / scale)


def batched(augment: Augment, images: torch.Tensor, targets: torch.Tensor) -> Callable[[], object]:
    place = {"epoch": 0, "seed": 0, "index": 0}
    positions = torch.arange(len(images))

    def work() -> object:
        changed = augment.images(images, normalize, positions=positions, **place)
        return augment.mix(changed, targets, 10, **place)

    return work


def one_by_one(images: torch.Tensor, pictures: bool) -> Callable[[], object]:
    steps = [v2.RandomCrop(32, padding=4), v2.RandomHorizontalFlip(), v2.ColorJitter(**COLOR)]
    steps += [v2.PILToTensor()] * pictures + [v2.ToDtype(torch.float32, scale=True), v2.Normalize(MEAN, STD)]
    transform = v2.Compose(steps)
    inputs = [v2.functional.to_pil_image(image) for image in images] if pictures else list(images)
    return lambda: torch.stack([transform(one) for one in inputs])


def training(images: torch.Tensor, targets: torch.Tensor) -> Callable[[], object]:
    net = CifarResNet(20, num_classes=10, in_channels=3).to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    floats = normalize(images).to(memory_format=torch.channels_last)

    def work() -> object:
        optimizer.zero_grad()
        F.cross_entropy(net(floats), targets).backward()
        return optimizer.step()

    return work


def compare(name: str, ours: Callable[[], object], theirs: Callable[[], object], pairs: int) -> None:
    ratios, rates = [], []
    for _ in range(pairs):
        own, other = seconds(ours, 5), seconds(theirs, 1)
        ratios.append(other / own)
        rates.append((BATCH / own, BATCH / other))
    ours_rate, theirs_rate = (statistics.median(side) for side in zip(*rates, strict=True))
    spread = f"{min(ratios):.1f} to {max(ratios):.1f}, {pairs} pairs"
    rates = f"{ours_rate:,.0f} images/s against {theirs_rate:,.0f}"
    print(f"{name}: {rates}, ratio {statistics.median(ratios):.1f} ({spread})", flush=True)


def choices() -> dict[str, Augment]:
    folder = Path(str(shipped("conf"))) / "augment"
    data = {"crop_padding": 4, "flip": 0.5}
    made = {}
    for path in sorted(folder.glob("*.yaml")):
        files = [OmegaConf.load(folder / "none.yaml"), OmegaConf.load(path)]
        whole = OmegaConf.create({"data": data, "augment": OmegaConf.merge(*files)})
        settings = OmegaConf.to_container(whole.augment, resolve=True)
        made[path.stem] = Augment(
            **{key: value for key, value in settings.items() if key not in ("_target_", "defaults")}
        )
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=7)
    options = parser.parse_args()
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(0)
    low = torch.rand(BATCH, 3, 8, 8, generator=generator)
    images = F.interpolate(low, (32, 32), mode="bicubic").clamp(0, 1).mul(255).to(torch.uint8)
    targets = torch.arange(BATCH) % 10
    ours = batched(Augment(4, 0.5, **COLOR), images, targets)
    for form, pictures in (("tensors", False), ("Pillow", True)):
        compare(f"crop, flip, colour; torchvision v2 on {form}", ours, one_by_one(images, pictures), options.pairs)
    step = training(images, targets)
    for name, augment in choices().items():
        work, shares, costs = batched(augment, images, targets), [], []
        for _ in range(options.pairs):
            own, training_step = seconds(work, 5), seconds(step, 1)
            costs.append(own)
            shares.append(own / training_step)
        whole = statistics.median(costs) * EPOCH / BATCH
        share = f"{statistics.median(shares):.1%} of training them ({min(shares):.1%} to {max(shares):.1%})"
        print(f"{name:<15} {whole:6.2f} s for {EPOCH:,} images, {share}", flush=True)


if __name__ == "__main__":
    main()
