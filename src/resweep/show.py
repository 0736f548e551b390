"""Pictures of what a run does to its training images: ``resweep show augment``.

Shapes: N images shown, C channels, H height, W width, K classes.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from pathlib import Path

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from resweep.build import build_data, prepare_imports
from resweep.config import config_loader
from resweep.console import relative, value
from resweep.data.augment import Augment
from resweep.data.convert import to_channels, to_size
from resweep.data.datamodule import ImageDataModule
from resweep.errors import Problem, RequestError
from resweep.sweep.plan import make_plan

SMALLEST_SIDE, LARGEST_SIDE = 64, 160  # of an image in the picture, in pixels
MARGIN, LINE = 6, 13
LABELS_SHOWN = 3


def show_augment(
    overrides: list[str], file: Path, *, images: int = 8, epochs: int = 5, config_dirs: tuple[str, ...] = ()
) -> str:
    """Write a PNG with training images as they are and as the first epochs show them.

    The images are the first of the run's first epoch. They are treated as one batch, so that the draws are those of
    the run only where its batches have as many images.

    Args:
        overrides: of the config, as for ``resweep train``; one run.
        file: the PNG to write; an existing one is replaced.
        images: N.
        epochs: rows below the first one.
        config_dirs: config folders of the user's own.

    Returns:
        One line that says what was written, and where.

    Raises:
        RequestError: the overrides are wrong or ask for several runs, or the file cannot be written.
    """
    _check_file(file)
    with config_loader(config_dirs) as loader:
        runs = make_plan(loader, overrides).runs
    if len(runs) > 1:
        message = f"asks for {len(runs)} runs; one at a time can be shown"
        raise RequestError(Problem(" ".join(overrides), None, message))
    prepare_imports(runs[0].config)
    data = build_data(runs[0].config)
    title = [f"augment={runs[0].config['choices']['augment']}", *settings_on(data.augment)]
    rows = list(_rows(data, images, epochs))
    picture = draw(title, rows, data.classes)
    try:
        picture.save(file, format="PNG")
    except OSError as error:
        raise RequestError(Problem("-o", str(file), f"cannot be written: {error.strerror or error}")) from error
    shown, many = len(rows[0][1]), "" if epochs == 1 else "s"
    return f"{relative(file)}: {shown} training images before and in {epochs} epoch{many}; {' '.join(title)}"


def settings_on(augment: Augment) -> list[str]:
    """Return the settings that do something, as overrides write them: ``padding=4``, ``flip=0.5``."""
    defaults = {name: parameter.default for name, parameter in inspect.signature(Augment).parameters.items()}
    given = {name: getattr(augment, name) for name in defaults}
    of_policy = {
        "randaugment": ("policy_ops", "policy_magnitude"),
        "augmix": ("policy_ops", "policy_magnitude"),
        "autoaugment": ("policy_name",),
    }.get(augment.policy, ())
    hidden = {"policy_ops", "policy_magnitude", "policy_name"} - set(of_policy)
    on = [name for name in defaults if name in of_policy or (given[name] != defaults[name] and name not in hidden)]
    return [f"{name}={_written(given[name])}" for name in on]


def _written(setting: object) -> str:
    return value(list(setting)).replace(" ", "") if isinstance(setting, tuple) else value(setting)


def _rows(data: ImageDataModule, count: int, epochs: int) -> Iterator[tuple[str, Tensor, Tensor]]:
    """Give name, images (N, C, H, W) in 0..1 and targets of each row: the images, then the epochs."""
    loader = data.train_dataloader()
    positions = loader.order()[:count]
    images, targets = data.train.batch(positions)
    mean, std = (facts.float().view(-1, 1, 1) for facts in (data.mean, data.std))
    images = _sized(images, data)
    yield "before", images / 255, targets
    for epoch in range(epochs):
        if loader.transform is None:
            changed = data.augmented(images, epoch, 0, positions)
        else:
            pictures = data.train.pictures(positions)
            changed = data.normalize(_sized(loader.transform.batch(pictures, positions, epoch, data.seed), data))
        place = {"epoch": epoch, "seed": data.seed, "index": 0}
        changed, mixed = data.augment.mix(changed, targets, data.num_classes, **place)
        yield f"epoch {epoch}", changed * std + mean, mixed


def _sized(images: Tensor, data: ImageDataModule) -> Tensor:
    """Bring images to the size and the channels of the run's batches."""
    if tuple(images.shape[1:]) == data.image_shape:
        return images
    return to_size(to_channels(images, data.in_channels), data.image_shape[1])


def draw(title: list[str], rows: list[tuple[str, Tensor, Tensor]], classes: tuple[str, ...]) -> Image.Image:
    """Draw rows of images with their labels below.

    Args:
        title: words written on top, in as many lines as they need.
        rows: name; images in 0..1, float (N, C, H, W); targets, int64 (N,) or float (N, K): shares of the classes are
            written in per cent, a class that holds alone without.
        classes: K names.

    Returns:
        The picture, mode RGB.
    """
    font = ImageFont.load_default(11)
    _, images, _ = rows[0]
    count, height, width = len(images), images.shape[-2], images.shape[-1]
    factor = max(1, -(-SMALLEST_SIDE // min(height, width))) if max(height, width) < LARGEST_SIDE else 0
    across, down = (width * factor, height * factor) if factor else _fitting(width, height)
    texts = [[label_lines(target, classes) for target in targets] for _, _, targets in rows]
    below = [LINE * max(map(len, lines)) for lines in texts]
    left = MARGIN + 50
    whole = left + count * (across + MARGIN)
    heading = _wrapped(title, font, whole - 2 * MARGIN)
    top = MARGIN + LINE * len(heading)
    picture = Image.new("RGB", (whole, top + sum(down + MARGIN + lines for lines in below) + MARGIN), "white")
    pen = ImageDraw.Draw(picture)
    pen.text((MARGIN, MARGIN // 2), "\n".join(heading), "black", font, spacing=2)
    for (name, images, _), lines, space in zip(rows, texts, below, strict=True):
        pen.text((MARGIN, top + down / 2), name, "black", font, anchor="lm")
        for column, (image, words) in enumerate(zip(images, lines, strict=True)):
            place = (left + column * (across + MARGIN), top)
            picture.paste(_picture(image).resize((across, down), _filter(factor)), place)
            for number, word in enumerate(words):
                pen.text((place[0], top + down + 1 + number * LINE), _cut(word, font, across), "black", font)
        top += down + space + MARGIN
    return picture


def label_lines(target: Tensor, classes: tuple[str, ...]) -> list[str]:
    """Return what is written below an image: its class, or its largest shares in per cent."""
    if target.ndim == 0:
        return [classes[int(target)]]
    order = target.argsort(descending=True, stable=True)[:LABELS_SHOWN].tolist()
    shown = [(classes[label], float(target[label])) for label in order if target[label] >= 0.005]
    return [name if share > 0.995 else f"{share:.0%} {name}" for name, share in shown] or ["-"]


def _picture(image: Tensor) -> Image.Image:
    """Make a picture of an image in 0..1, float (C, H, W)."""
    pixels = image.mul(255).round().clamp(0, 255).to(torch.uint8).expand(3, -1, -1)
    return Image.fromarray(pixels.permute(1, 2, 0).contiguous().numpy())


def _filter(factor: int) -> Image.Resampling:
    """Pixels of small images stay squares; large images are made smaller smoothly."""
    return Image.Resampling.NEAREST if factor else Image.Resampling.BILINEAR


def _fitting(width: int, height: int) -> tuple[int, int]:
    scale = LARGEST_SIDE / max(width, height)
    return max(1, round(width * scale)), max(1, round(height * scale))


def _wrapped(words: list[str], font: ImageFont.FreeTypeFont, width: int) -> list[str]:
    lines = [words[0]]
    for word in words[1:]:
        longer = f"{lines[-1]}    {word}"
        if font.getlength(longer) > width:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines


def _cut(text: str, font: ImageFont.FreeTypeFont, width: int) -> str:
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(f"{text}\u2026") > width:
        text = text[:-1]
    return f"{text}\u2026"


def _check_file(file: Path) -> None:
    if file.suffix.lower() != ".png":
        raise RequestError(Problem("-o", str(file), "must end in .png"))
    if not file.parent.is_dir():
        raise RequestError(Problem("-o", str(file), f"cannot be written: there is no folder {file.parent}"))
