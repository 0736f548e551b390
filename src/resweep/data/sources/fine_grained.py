"""Classes that differ in details: flowers, pets, aircraft and cars. All are colour pictures of many sizes."""

from __future__ import annotations

from pathlib import Path

from resweep.data.base import Source
from resweep.data.files import Decoding
from resweep.data.sources.annotated import annotated
from resweep.data.sources.published import Published, damaged, matlab_errors
from resweep.data.sources.thumbnails import choice

PET_LABELS = ("breed", "species")
AIRCRAFT_LABELS = ("variant", "family", "manufacturer")
_AIRCRAFT_FILES = {"variant": "variants.txt", "family": "families.txt", "manufacturer": "manufacturers.txt"}


def flowers102(
    root: str | Path,
    image_size: int | None = 224,
    channels: int = 3,
    memory_limit_mb: int = 1024,
    crop_pct: float = 1.0,
    download: bool = False,
) -> Source:
    """Read Oxford 102 Flowers: 1,020 training, 1,020 validation and 6,149 test pictures of 102 flowers.

    Args:
        root: folder that holds ``flowers-102/``.
        image_size: side S in pixels that every picture is scaled and cropped to.
        channels: 1 (grey) or 3 (colour).
        memory_limit_mb: decoded pictures are held in memory up to this size in MiB.
        crop_pct: share of the shorter side that is kept when a picture is scaled, in (0, 1].
        download: fetch the files if they are missing.

    Raises:
        RequestError: key ``data.root`` if files are missing or damaged, ``data.download`` if fetching failed.

    Source: Nilsback and Zisserman 2008, Automated flower classification over a large number of classes; read and
    fetched by ``torchvision.datasets.Flowers102``.
    """
    from torchvision.datasets import Flowers102

    title = "Flowers-102"
    files = tuple(f"flowers-102/{name}" for name in ("jpg", "imagelabels.mat", "setid.mat"))
    folder = Published(title, files, lambda where: Flowers102(where, download=True)).found(root, download)
    with damaged(title, root), matlab_errors():
        parts = {name: Flowers102(folder, name) for name in ("train", "val", "test")}
    splits = {name: (part._image_files, part._labels) for name, part in parts.items()}
    return annotated(
        "flowers102",
        title,
        folder,
        splits,
        Flowers102.classes,
        Decoding(image_size, channels, crop_pct, memory_limit_mb),
    )


def oxford_pets(
    root: str | Path,
    labels: str = "breed",
    image_size: int | None = 224,
    channels: int = 3,
    memory_limit_mb: int = 1024,
    crop_pct: float = 1.0,
    download: bool = False,
) -> Source:
    """Read the Oxford-IIIT Pets: 3,680 training and 3,669 test pictures of 37 breeds of cats and dogs.

    Args and errors are those of :func:`flowers102`, and:
        root: folder that holds ``oxford-iiit-pet/``.
        labels: ``breed`` for 37 classes, ``species`` for cat and dog.

    Raises:
        RequestError: also key ``data.labels``.

    Source: Parkhi, Vedaldi, Zisserman and Jawahar 2012, Cats and dogs; read and fetched by
    ``torchvision.datasets.OxfordIIITPet``.
    """
    from torchvision.datasets import OxfordIIITPet

    kind = choice("labels", labels, PET_LABELS)
    title = "Oxford-IIIT Pet"
    files = tuple(f"oxford-iiit-pet/{name}" for name in ("images", "annotations/trainval.txt", "annotations/test.txt"))
    kept = ("oxford-iiit-pet/images", "oxford-iiit-pet/annotations")
    folder = Published(title, files, lambda where: OxfordIIITPet(where, download=True), kept).found(root, download)
    with damaged(title, root):
        parts = {name: OxfordIIITPet(folder, split) for name, split in (("train", "trainval"), ("test", "test"))}
    splits = {name: (part._images, (part._labels, part._bin_labels)[kind]) for name, part in parts.items()}
    classes = (parts["train"].classes, parts["train"].bin_classes)[kind]
    return annotated(
        "oxford_pets", title, folder, splits, classes, Decoding(image_size, channels, crop_pct, memory_limit_mb)
    )


def fgvc_aircraft(
    root: str | Path,
    labels: str = "variant",
    image_size: int | None = 224,
    channels: int = 3,
    memory_limit_mb: int = 1024,
    crop_pct: float = 1.0,
    download: bool = False,
) -> Source:
    """Read FGVC-Aircraft: 3,334 training, 3,333 validation and 3,333 test pictures of aeroplanes.

    Args and errors are those of :func:`flowers102`, and:
        root: folder that holds ``fgvc-aircraft-2013b/``.
        labels: ``variant`` for 100 classes, ``family`` for 70, ``manufacturer`` for 30.

    Raises:
        RequestError: also key ``data.labels``.

    Source: Maji, Kannala, Rahtu, Blaschko and Vedaldi 2013, arXiv 1306.5151; read and fetched by
    ``torchvision.datasets.FGVCAircraft``.
    """
    from torchvision.datasets import FGVCAircraft

    choice("labels", labels, AIRCRAFT_LABELS)
    title, data = "FGVC-Aircraft", "fgvc-aircraft-2013b/data"
    lists = (f"images_{labels}_{name}.txt" for name in ("train", "val", "test"))
    files = tuple(f"{data}/{name}" for name in ("images", _AIRCRAFT_FILES[labels], *lists))
    published = Published(
        title, files, lambda where: FGVCAircraft(where, "train", download=True), ("fgvc-aircraft-2013b",)
    )
    folder = published.found(root, download)
    with damaged(title, root):
        parts = {name: FGVCAircraft(folder, name, labels) for name in ("train", "val", "test")}
    splits = {name: ([Path(file) for file in part._image_files], part._labels) for name, part in parts.items()}
    decoding = Decoding(image_size, channels, crop_pct, memory_limit_mb)
    return annotated(f"fgvc_aircraft-{labels}", title, folder, splits, parts["train"].classes, decoding)


def stanford_cars(
    root: str | Path,
    image_size: int | None = 224,
    channels: int = 3,
    memory_limit_mb: int = 1024,
    crop_pct: float = 1.0,
    download: bool = False,
) -> Source:
    """Read the Stanford Cars: 8,144 training and 8,041 test pictures of 196 models of cars.

    Its publishers no longer offer it: the files must be got elsewhere, and ``download`` is refused.

    Args and errors are those of :func:`flowers102`, and:
        root: folder that holds ``stanford_cars/`` with ``devkit/``, ``cars_train/``, ``cars_test/`` and
            ``cars_test_annos_withlabels.mat``.

    Source: Krause, Stark, Deng and Fei-Fei 2013, 3D object representations for fine-grained categorization; read by
    ``torchvision.datasets.StanfordCars``.
    """
    title = "Stanford Cars"
    names = ("devkit/cars_meta.mat", "devkit/cars_train_annos.mat", "cars_test_annos_withlabels.mat")
    files = tuple(f"stanford_cars/{name}" for name in (*names, "cars_train", "cars_test"))
    folder = Published(title, files, None).found(root, download)
    from torchvision.datasets import StanfordCars

    with damaged(title, root, fetched=False), matlab_errors():
        parts = {name: StanfordCars(folder, name) for name in ("train", "test")}
    splits = {
        name: ([Path(path) for path, _ in part._samples], [int(label) for _, label in part._samples])
        for name, part in parts.items()
    }
    classes = [str(name) for name in parts["train"].classes]
    return annotated(
        "stanford_cars", title, folder, splits, classes, Decoding(image_size, channels, crop_pct, memory_limit_mb)
    )
