"""Pictures: the confusion matrix, and grids of images that stay small."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw, ImageFont

from resweep.pictures import PICTURE_BYTES, confusion_picture, encoded, image_grid


def cells(picture: np.ndarray, count: int) -> np.ndarray:
    """Colour of each cell, taken beside its number: (count, count, 3)."""
    left = picture.shape[1] - 8 - count * 30
    corners = [[picture[24 + row * 30 + 2, left + column * 30 + 2] for column in range(count)] for row in range(count)]
    return np.array(corners)


def test_cells_are_as_dark_as_their_share_of_the_true_class() -> None:
    matrix = torch.tensor([[8, 0, 0], [2, 1, 1], [0, 0, 0]])
    picture = confusion_picture(matrix, ("cat", "dog", "never"))
    assert picture.dtype == np.uint8
    share = np.array([[1, 0, 0], [0.5, 0.25, 0.25], [0, 0, 0]])
    expected = 255 + share[..., None] * (np.array([8, 48, 107]) - 255)
    assert np.abs(cells(picture, 3) - expected).max() <= 0.5


@pytest.mark.parametrize(("count", "side"), [(2, 30), (10, 30), (60, 15), (200, 4), (400, 2), (1000, 1)])
def test_many_classes_still_make_a_picture(count: int, side: int) -> None:
    picture = confusion_picture(torch.eye(count, dtype=torch.int64) * 3, tuple(f"class {i}" for i in range(count)))
    assert picture.ndim == 3 and picture.shape[2] == 3
    assert count * side <= picture.shape[0] <= count * side + 200
    dark = (picture.reshape(-1, 3) == (8, 48, 107)).all(1).sum()  # the diagonal, without lines and numbers
    assert count * max(1, side - 1) ** 2 * 0.5 <= dark <= count * side**2


def test_long_names_are_cut_and_names_make_a_difference() -> None:
    matrix = torch.eye(2, dtype=torch.int64)
    short = confusion_picture(matrix, ("a", "b"))
    assert confusion_picture(matrix, ("x" * 13, "y")).shape[1] > short.shape[1]
    assert confusion_picture(matrix, ("x" * 500, "y")).shape[1] < short.shape[1] + 200


def opened(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))


def noise(count: int, *shape: int) -> torch.Tensor:
    return torch.randint(0, 256, (count, *shape), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


def test_small_images_are_enlarged_without_smoothing() -> None:
    images = noise(5, 1, 8, 8)
    picture = opened(image_grid(images, [("a", "b")] * 5))
    cell = picture.shape[1] // 4, picture.shape[0] // 2  # two rows of four
    for index, image in enumerate(images):
        left, top = index % 4 * cell[0] + (cell[0] - 64) // 2, index // 4 * cell[1] + 6
        tile = picture[top : top + 64, left : left + 64]
        assert np.array_equal(tile[4::8, 4::8, 0], image[0].numpy())
        assert np.array_equal(tile, np.repeat(np.repeat(tile[4::8, 4::8], 8, 0), 8, 1))


def test_colours_and_the_form_of_images_stay() -> None:
    images = torch.zeros(1, 3, 20, 40, dtype=torch.uint8)
    images[:, 0] = 200
    picture = opened(image_grid(images, [("red",)]))
    red = (np.abs(picture.astype(int) - (200, 0, 0)).max(2) < 8).nonzero()  # by a palette, hence not quite
    assert (red[0].max() - red[0].min() + 1, red[1].max() - red[1].min() + 1) == (20, 40)


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 32, 32), (1, 300, 100), (3, 300, 300), (3, 1, 500), (3, 224, 224)])
def test_no_picture_is_larger_than_allowed(shape: tuple[int, ...]) -> None:
    # Noise cannot be compressed: no images are larger.
    png = image_grid(noise(16, *shape), [("true: " + "x" * 99, "97%: y")] * 16)
    assert png.startswith(b"\x89PNG") and len(png) <= PICTURE_BYTES
    assert min(opened(png).shape[:2]) > 100


def test_a_palette_changes_little_and_saves_much() -> None:
    matrix = torch.randint(0, 30, (20, 20), generator=torch.Generator().manual_seed(0))
    pixels = confusion_picture(matrix, tuple(f"class {index}" for index in range(20)))
    small, exact = (encoded(Image.fromarray(pixels), colours) for colours in (256, None))
    assert np.array_equal(opened(exact), pixels)
    assert np.abs(opened(small).astype(int) - pixels).max() <= 16
    assert len(small) < 0.4 * len(exact)


def test_a_caption_makes_a_difference_and_a_long_one_stays_in_its_cell() -> None:
    images = torch.full((2, 1, 8, 8), 255, dtype=torch.uint8)  # white on white: nothing but texts is seen
    alone = opened(image_grid(images, [("x" * 500,), ("",)]))
    width = alone.shape[1] // 2
    assert (alone[:, :width] < 128).any() and (alone[:, width:] == 255).all()


def test_a_long_caption_is_cut_after_few_looks_and_as_late_as_possible(monkeypatch: pytest.MonkeyPatch) -> None:
    measured: list[str] = []
    drawn: list[str] = []
    length, text = ImageFont.FreeTypeFont.getlength, ImageDraw.ImageDraw.text
    monkeypatch.setattr(ImageFont.FreeTypeFont, "getlength", lambda font, t: measured.append(t) or length(font, t))
    monkeypatch.setattr(
        ImageDraw.ImageDraw,
        "text",
        lambda self, place, t, *args, **kw: drawn.append(t) or text(self, place, t, *args, **kw),
    )
    captions = [("x" * 1_000_000, "i" * 1_000), ("ab" * 40, "short")]
    image_grid(noise(2, 3, 300, 300), captions)  # too large for the first sides that are tried
    assert len(measured) <= 4 * 8, "a bisection among 100 letters takes 7 looks"
    assert max(map(len, measured)) <= 104
    font = ImageFont.load_default(11)
    assert drawn[3] == "short" and len(drawn) % 4 == 0
    for shown, whole in zip(drawn[:3], (captions[0][0], captions[0][1], captions[1][0]), strict=True):
        assert shown[-1] == "\u2026" and whole.startswith(shown[:-1])
        longer = f"{whole[: len(shown)]}\u2026"
        assert length(font, shown) <= 100 < length(font, longer), "one letter more would not fit"


def test_the_same_images_make_the_same_bytes() -> None:
    images = noise(3, 3, 40, 40)
    assert image_grid(images, [("a",)] * 3) == image_grid(images.clone(), [("a",)] * 3)
