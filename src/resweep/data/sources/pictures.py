"""Textures, satellite pictures and food."""

from __future__ import annotations

from pathlib import Path

from resweep.data.base import Source
from resweep.data.files import Decoding
from resweep.data.sources.annotated import annotated, by_class
from resweep.data.sources.published import Published, damaged
from resweep.errors import Problem, RequestError

DTD_PARTITIONS = 10


def dtd(
    root: str | Path,
    partition: int = 1,
    image_size: int | None = 224,
    channels: int = 3,
    memory_limit_mb: int = 1024,
    crop_pct: float = 1.0,
    download: bool = False,
) -> Source:
    """Read the Describable Textures: 1,880 training, 1,880 validation and 1,880 test pictures of 47 textures.

    Args and errors are those of :func:`resweep.data.sources.fine_grained.flowers102`, and:
        root: folder that holds ``dtd/dtd/``.
        partition: which of the ten published divisions, from 1 to 10.

    Raises:
        RequestError: also key ``data.partition``.

    Source: Cimpoi, Maji, Kokkinos, Mohamed and Vedaldi 2014, arXiv 1311.3618; read and fetched by
    ``torchvision.datasets.DTD``.
    """
    if isinstance(partition, bool) or partition not in range(1, DTD_PARTITIONS + 1):
        raise RequestError(Problem("data.partition", str(partition), "DTD has the partitions 1 to 10"))
    from torchvision.datasets import DTD

    lists = (f"labels/{name}{partition}.txt" for name in ("train", "val", "test"))
    files = tuple(f"dtd/dtd/{name}" for name in ("images", *lists))
    folder = Published("DTD", files, lambda where: DTD(where, download=True), ("dtd/dtd",)).found(root, download)
    with damaged("DTD", root):
        parts = {name: DTD(folder, name, partition) for name in ("train", "val", "test")}
        classes = parts["train"].classes
        splits = {name: by_class(part._image_files, classes) for name, part in parts.items()}
    return annotated(
        f"dtd-{partition}", "DTD", folder, splits, classes, Decoding(image_size, channels, crop_pct, memory_limit_mb)
    )


def eurosat(
    root: str | Path,
    image_size: int | None = 64,
    channels: int = 3,
    memory_limit_mb: int = 1024,
    crop_pct: float = 1.0,
    download: bool = False,
) -> Source:
    """Read EuroSAT (RGB): 27,000 satellite pictures, 64 x 64, of 10 kinds of land use, without official splits.

    Args and errors are those of :func:`resweep.data.sources.fine_grained.flowers102`, and:
        root: folder that holds ``eurosat/2750/``.

    Source: Helber, Bischke, Dengel and Borth 2019, arXiv 1709.00029; read and fetched by
    ``torchvision.datasets.EuroSAT``.
    """
    from torchvision.datasets import EuroSAT

    published = Published("EuroSAT", ("eurosat/2750",), lambda where: EuroSAT(where, download=True))
    folder = published.found(root, download)
    try:
        found = EuroSAT(folder)
    except FileNotFoundError as error:  # torchvision's word for a folder without classes, or a class without images
        raise RequestError(Problem("data.root", str(root), f"its EuroSAT files are damaged ({error})")) from error
    splits = {"train": by_class([path for path, _ in found.samples], found.classes)}
    return annotated(
        "eurosat", "EuroSAT", folder, splits, found.classes, Decoding(image_size, channels, crop_pct, memory_limit_mb)
    )


def food101(
    root: str | Path,
    image_size: int | None = 224,
    channels: int = 3,
    memory_limit_mb: int = 1024,
    crop_pct: float = 1.0,
    download: bool = False,
) -> Source:
    """Read Food-101: 75,750 training pictures, some of them mislabelled, and 25,250 test pictures of 101 dishes.

    Args and errors are those of :func:`resweep.data.sources.fine_grained.flowers102`, and:
        root: folder that holds ``food-101/``.

    Source: Bossard, Guillaumin and Van Gool 2014, Food-101: mining discriminative components with random forests; read
    and fetched by ``torchvision.datasets.Food101``.
    """
    from torchvision.datasets import Food101

    files = tuple(f"food-101/{name}" for name in ("images", "meta/train.json", "meta/test.json"))
    kept = ("food-101/images", "food-101/meta")
    folder = Published("Food-101", files, lambda where: Food101(where, download=True), kept).found(root, download)
    with damaged("Food-101", root):
        parts = {name: Food101(folder, name) for name in ("train", "test")}
        classes = parts["train"].classes
        splits = {name: by_class(part._image_files, classes) for name, part in parts.items()}
    return annotated(
        "food101", "Food-101", folder, splits, classes, Decoding(image_size, channels, crop_pct, memory_limit_mb)
    )
