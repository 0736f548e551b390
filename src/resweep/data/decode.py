"""Image files to pixels.

Shapes: C channels, H height, W width, S side of a square image.
"""

from __future__ import annotations

import contextlib
import functools
import io
import math
import os
import struct
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

_JPEG, _PNG = b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"
_PLAIN_PNG = (b"\x08\x00", b"\x08\x02", b"\x08\x04", b"\x08\x06")  # 8 bits; grey or colour, opaque or not; no palette
_MODES = {1: "L", 3: "RGB"}
_MOST = 1 << 20  # bytes that are read at a time
Item = TypeVar("Item")
Result = TypeVar("Result")


class UnreadableImage(OSError):
    """A file that cannot be decoded as an image; the text names the file and the reason."""


def in_threads(work: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """Apply a function to items in as many threads as there are processors.

    Results come in the order of the items, and only a few are ready ahead of the one being used, so that memory stays
    bounded. Useful where the work releases Python's lock, as the decoders of images do.
    """
    threads = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    ahead: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        for item in items:
            ahead.append(pool.submit(work, item))
            if len(ahead) > 2 * threads:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()


def read_size(path: Path | str) -> tuple[int, int]:
    """Return (width, height) of an image file in pixels, from its header only.

    Raises:
        UnreadableImage: if the file is not an image.
    """
    with _reading(path), Image.open(path) as image:
        return image.size


def read_image(path: Path | str, image_size: int | None, channels: int, crop_pct: float = 1.0) -> np.ndarray:
    """Decode an image file, and scale and crop it to a square where a size is given.

    Pixels are those of :func:`read_pixels`. With image_size S and crop_pct 1 the largest centred square is scaled to
    S x S by Pillow's antialiased bilinear filter, that is the shorter side becomes S and the longer one is cropped on
    both sides. With a smaller crop_pct the shorter side becomes floor(S / crop_pct) by the same filter and the centred
    square of S x S is cut from that; 224 and 0.875 are the usual "resize to 256, crop 224" of ImageNet.

    Args:
        path: the file.
        image_size: side S of the result in pixels, None for the file's own size.
        channels: 1 (grey) or 3 (colour).
        crop_pct: share of the shorter side that is kept, in (0, 1]; nothing is cropped without image_size.

    Returns:
        uint8 array of shape (C, H, W).

    Raises:
        UnreadableImage: if the file cannot be decoded; the message names it.
    """
    pixels = read_pixels(path, channels)
    if image_size is None or (crop_pct == 1 and pixels.shape[1:] == (image_size, image_size)):
        return pixels
    return _pixels_of(centre_square(to_picture(pixels), image_size, crop_pct))


def read_pixels(path: Path | str, channels: int) -> np.ndarray:
    """Decode an image file at its own size.

    JPEG and 8-bit PNG files without a palette are decoded by ``torchvision.io``, all others, and those that it refuses,
    by Pillow; both give the same pixels where both can read a file. Grey is Pillow's ``L`` (ITU-R 601 luma); 16-bit
    grey keeps its upper 8 bits; transparency is dropped; the rotation flag of a camera is not applied.

    Args:
        path: the file.
        channels: 1 (grey) or 3 (colour).

    Returns:
        uint8 array of shape (C, H, W).

    Raises:
        UnreadableImage: if the file cannot be decoded; the message names it.
    """
    with _reading(path):
        data = _content(path)
        pixels = _decode(data)
        if pixels is None:
            return _pixels_of(_to_mode(Image.open(io.BytesIO(data)), _MODES[channels]))
    if len(pixels) == channels:
        return pixels
    if channels == 3:
        return np.broadcast_to(pixels, (3, *pixels.shape[1:]))
    return _pixels_of(to_picture(pixels).convert("L"))


def _content(path: Path | str) -> bytearray:
    """Read a file by as few system calls as possible: each hands Python's lock from thread to thread.

    Raises:
        OSError: it cannot be read.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        data = bytearray(os.read(descriptor, _MOST))
        while len(data) % _MOST == 0 and (more := os.read(descriptor, _MOST)):
            data += more
    finally:
        os.close(descriptor)
    return data


def to_picture(pixels: np.ndarray) -> Image.Image:
    """Return a picture of Pillow from uint8 pixels of shape (C, H, W)."""
    return Image.fromarray(pixels[0] if len(pixels) == 1 else np.ascontiguousarray(pixels.transpose(1, 2, 0)))


def centre_square(picture: Image.Image, side: int, crop_pct: float = 1.0) -> Image.Image:
    """Scale a picture and cut a centred square from it (see :func:`read_image`)."""
    if crop_pct == 1:
        return ImageOps.fit(picture, (side, side), Image.Resampling.BILINEAR)
    width, height = picture.size
    shorter = math.floor(side / crop_pct)
    scaled = [int(shorter * length / min(width, height)) for length in (width, height)]
    picture = picture.resize(scaled, Image.Resampling.BILINEAR)
    left, top = (round((length - side) / 2) for length in scaled)
    return picture.crop((left, top, left + side, top + side))


def _pixels_of(picture: Image.Image) -> np.ndarray:
    pixels = np.asarray(picture)
    return pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)


@functools.cache
def _decoders() -> tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]:
    """Import torchvision's decoders when they are needed: that takes long, and sets in memory do without."""
    from torchvision.io import decode_jpeg, decode_png

    return decode_jpeg, decode_png


def _decode(data: bytearray) -> np.ndarray | None:
    """Decode a JPEG or PNG file to uint8 pixels (1 or 3, H, W); None where that is left to Pillow."""
    jpeg = data.startswith(_JPEG)
    if not jpeg and not (data.startswith(_PNG) and data[24:26] in _PLAIN_PNG):
        return None
    try:
        pixels = _decoders()[0 if jpeg else 1](torch.frombuffer(data, dtype=torch.uint8)).numpy()
    except RuntimeError:  # broken, or of a kind that only Pillow knows, which then says what is wrong
        return None
    if len(pixels) in (1, 3):
        return pixels
    return None if jpeg else pixels[: len(pixels) - 1]  # four channels: printer's colours in JPEG, opacity last in PNG


def _to_mode(image: Image.Image, mode: str) -> Image.Image:
    """Convert any 8-bit or 16-bit picture to 8-bit grey or colour."""
    if image.mode.startswith("I;16"):
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    elif image.mode in ("I", "F"):
        raise ValueError(f"32-bit pixels (mode {image.mode}) are not supported, 8 or 16 bits are")
    elif image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")
    image.load()
    return image if image.mode == mode else image.convert(mode)


@contextlib.contextmanager
def _reading(path: Path | str) -> Iterator[None]:
    """Turn everything that a broken file makes Pillow raise into one error that names the file."""
    try:
        yield
    except UnidentifiedImageError as error:
        raise UnreadableImage(f"cannot read image {path}: not in a known format") from error
    except (OSError, SyntaxError, ValueError, EOFError, IndexError, struct.error, zlib.error) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror is not None else str(error)
        raise UnreadableImage(f"cannot read image {path}: {reason or type(error).__name__}") from error
    except Image.DecompressionBombError as error:
        raise UnreadableImage(f"cannot read image {path}: {error}") from error
