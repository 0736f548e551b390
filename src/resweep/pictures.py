"""Pictures that a run draws of itself, with Pillow: a plotting library takes 0.3 s for one, more than a small epoch.

Shapes: N images, C channels (1 or 3), H height, W width, K classes.
"""

from __future__ import annotations

import io
from bisect import bisect_right
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

Font = ImageFont.FreeTypeFont

PICTURE_BYTES = 40_000
CELL = 92  # width of a tile with its caption, in pixels, at least
TILES = (64, 56, 48, 40, 32, 24)  # sides of an image in a grid, in pixels; the first that keeps the file small is taken
ACROSS = 4
LINE = 14
MARGIN = 6


def confusion_picture(matrix: Tensor, classes: tuple[str, ...]) -> np.ndarray:
    """Return a confusion matrix as a picture: rows = true class, columns = predicted, colour = share of the row.

    Args:
        matrix: int64 (K, K).
        classes: K names; long ones are cut.

    Returns:
        uint8 (H, W, 3).
    """
    counts = matrix.numpy()
    share = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    count = len(classes)
    cell = max(1, min(30, 900 // count))
    font = ImageFont.load_default(12)
    names = [name if len(name) <= 14 else f"{name[:13]}\u2026" for name in classes] if cell >= 14 else [""] * count
    left = 24 + max(round(font.getlength(name)) for name in names)
    colours = np.rint(255 + share[..., None] * (np.array((8, 48, 107)) - 255)).astype(np.uint8)
    squares = colours.repeat(cell, 0).repeat(cell, 1)
    if cell >= 4:
        squares[cell - 1 :: cell] = squares[:, cell - 1 :: cell] = 255  # a white line between two squares
    picture = Image.new("RGB", (left + count * cell + 8, count * cell + left + 24), "white")
    picture.paste(Image.fromarray(squares), (left, 24))
    draw = ImageDraw.Draw(picture)
    draw.text((left, 4), "test split: rows true class, columns predicted", "black", font)
    for row, column in np.argwhere(counts) if cell >= 24 else ():
        place = (left + (column + 0.5) * cell - 1, 24 + (row + 0.5) * cell - 1)
        draw.text(place, str(counts[row, column]), "white" if share[row, column] > 0.5 else "black", font, anchor="mm")
    for index, name in enumerate(names):
        draw.text((left - 6, 24 + (index + 0.5) * cell), name, "black", font, anchor="rm")
        _draw_upwards(picture, name, (round(left + (index + 0.5) * cell), 28 + count * cell), font)
    return np.asarray(picture)


def _draw_upwards(picture: Image.Image, text: str, place: tuple[int, int], font: Font) -> None:
    """Write a text turned by 90 degrees, its end at the given place from above."""
    if text:
        label = Image.new("RGB", (round(font.getlength(text)) + 2, 16), "white")
        ImageDraw.Draw(label).text((1, 8), text, "black", font, anchor="lm")
        picture.paste(label.rotate(90, expand=True), (place[0] - 8, place[1]))


def image_grid(images: Tensor, captions: Sequence[Sequence[str]]) -> bytes:
    """Return images in rows of four, each with lines of text below it, as the bytes of a PNG file.

    Small images are enlarged without smoothing, large ones are made smaller, as far as 40,000 bytes allow.

    Args:
        images: uint8 (N, C, H, W), at least one and at most 16.
        captions: N texts of equally many lines; a line that is too long is cut.
    """
    lines = max(map(len, captions))
    font = ImageFont.load_default(11)
    width = max(*TILES, CELL) + 2 * MARGIN
    shown = [[_fitting(text, width - 4, font) for text in caption] for caption in captions]
    colours = None if images.shape[1] == 1 else 256
    for side in TILES:
        data = encoded(_grid(images, shown, width, side, lines, font), colours)
        if len(data) <= PICTURE_BYTES:
            break
    return data


def _grid(
    images: Tensor, captions: Sequence[Sequence[str]], width: int, side: int, lines: int, font: Font
) -> Image.Image:
    """Draw the grid with images that fit into squares of a side, in cells of a width."""
    height = side + LINE * lines + 2 * MARGIN
    across = min(ACROSS, len(images))
    mode = "L" if images.shape[1] == 1 else "RGB"
    picture = Image.new(mode, (across * width, -(-len(images) // across) * height), "white")
    draw = ImageDraw.Draw(picture)
    for index, (image, caption) in enumerate(zip(images, captions, strict=True)):
        left, top = index % across * width, index // across * height + MARGIN
        tile = _tile(image, side)
        picture.paste(tile, (left + (width - tile.width) // 2, top + (side - tile.height) // 2))
        for number, text in enumerate(caption):
            draw.text((left + width / 2, top + side + LINE * (number + 0.5) + 2), text, "black", font, anchor="mm")
    return picture


def _tile(image: Tensor, side: int) -> Image.Image:
    """Return an image (C, H, W) as a picture whose longer side is about as long as given."""
    pixels = image.permute(1, 2, 0).numpy()
    picture = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
    longer = max(picture.size)
    if longer <= side:
        return picture.resize([size * (side // longer) for size in picture.size], Image.Resampling.NEAREST)
    return picture.resize([max(1, round(size * side / longer)) for size in picture.size], Image.Resampling.BOX)


def _fitting(text: str, width: int, font: Font) -> str:
    """Cut a text that is too wide, or has more letters than pixels, and say so by three dots."""
    if len(text) <= width and font.getlength(text) <= width:
        return text
    count = bisect_right(range(1, min(len(text), width) + 1), width, key=lambda n: font.getlength(f"{text[:n]}\u2026"))
    return f"{text[:count]}\u2026"


def encoded(picture: Image.Image, colours: int | None = 256) -> bytes:
    """Return a picture as the bytes of a PNG file.

    Args:
        picture: of any mode.
        colours: size of a palette, which makes the file a third or a quarter as large and changes colours by at most 6
            per cent; None keeps the colours as they are.
    """
    stream = io.BytesIO()
    if colours is not None:
        picture = picture.quantize(colours, method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
    picture.save(stream, "PNG")
    return stream.getvalue()
