from __future__ import annotations

from collections import Counter

import pytest
import torch
import torch.nn.functional as F
from scipy import stats

from resweep.data.augment import Augment, crop, flip


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def distinct_images(batch: int, channels: int = 2, height: int = 5, width: int = 6) -> torch.Tensor:
    """Images whose pixels all differ and are never 0, so that every crop is recognisable."""
    return torch.arange(1.0, 1 + batch * channels * height * width).view(batch, channels, height, width)


def crop_offsets(image: torch.Tensor, cropped: torch.Tensor, padding: int) -> list[tuple[int, int]]:
    """All places at which the padded image shows exactly the crop."""
    padded = F.pad(image, (padding,) * 4)
    height, width = image.shape[-2:]
    places = range(2 * padding + 1)
    return [(y, x) for y in places for x in places if torch.equal(padded[:, y : y + height, x : x + width], cropped)]


@pytest.mark.parametrize("padding", [1, 2, 4])
def test_every_crop_is_a_window_of_the_padded_image(padding: int) -> None:
    images = distinct_images(64)
    result = crop(images, padding, seeded())
    assert result.shape == images.shape and result.dtype == images.dtype
    assert all(len(crop_offsets(*pair, padding)) == 1 for pair in zip(images, result, strict=True))


def test_all_offsets_are_equally_likely() -> None:
    padding, draws = 2, 5000
    image = distinct_images(1, channels=1, height=3, width=4)
    result = crop(image.expand(draws, -1, -1, -1), padding, seeded())
    counts = Counter(crop_offsets(image[0], cropped, padding)[0] for cropped in result)
    assert len(counts) == 25
    assert stats.chisquare(list(counts.values())).pvalue > 0.01


def test_images_of_a_batch_get_different_crops() -> None:
    image = distinct_images(1)
    result = crop(image.expand(32, -1, -1, -1), 2, seeded())
    assert len({tuple(crop_offsets(image[0], cropped, 2)) for cropped in result}) > 10


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_crop_does_not_depend_on_the_memory_layout(layout: torch.memory_format) -> None:
    images = distinct_images(8, channels=3)
    expected = crop(images, 2, seeded())
    assert torch.equal(crop(images.to(memory_format=layout), 2, seeded()), expected)
    spread = torch.stack([images, images], dim=-1)[..., 0]  # not contiguous
    assert torch.equal(crop(spread, 2, seeded()), expected)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_crop_keeps_the_type(dtype: torch.dtype) -> None:
    images = torch.randint(0, 100, (4, 1, 4, 4), generator=seeded()).float()
    assert torch.equal(crop(images.to(dtype), 1, seeded()), crop(images, 1, seeded()).to(dtype))


def test_flip_with_probability_one_is_torch_flip() -> None:
    images = distinct_images(7)
    assert torch.equal(flip(images, 1.0, seeded()), images.flip(-1))


@pytest.mark.parametrize("p", [0.25, 0.5, 0.9])
def test_flip_mirrors_the_given_share(p: float) -> None:
    draws = 4000
    images = distinct_images(draws, channels=1, height=1, width=2)
    result = flip(images, p, seeded())
    flipped = (result == images.flip(-1)).flatten(1).all(1)
    kept = (result == images).flatten(1).all(1)
    assert torch.equal(flipped, ~kept)
    assert stats.binomtest(int(flipped.sum()), draws, p).pvalue > 0.01


def test_zero_strength_changes_and_draws_nothing() -> None:
    images = distinct_images(3)
    generator = seeded()
    before = generator.get_state()
    for result in (crop(images, 0, generator), flip(images, 0.0, generator), Augment(0, 0.0)(images, generator)):
        assert torch.equal(result, distinct_images(3))
    assert torch.equal(generator.get_state(), before)


@pytest.mark.parametrize(("padding", "p"), [(0, 1.0), (2, 0.0), (2, 0.5), (1, 1.0)])
def test_augment_is_a_crop_and_then_a_flip(padding: int, p: float) -> None:
    images = distinct_images(16)
    generator = seeded(5)
    expected = flip(crop(images, padding, generator), p, generator)
    assert torch.equal(Augment(padding, p)(images, seeded(5)), expected)
    assert torch.equal(images, distinct_images(16)), "the given images must not change"


def test_the_generator_decides() -> None:
    images = distinct_images(32)
    augment = Augment(2, 0.5)
    torch.manual_seed(1)
    first = augment(images, seeded(1))
    torch.manual_seed(2)
    assert torch.equal(augment(images, seeded(1)), first)
    assert not torch.equal(augment(images, seeded(2)), first)


@pytest.mark.parametrize(
    ("padding", "p", "text"),
    [
        (-1, 0.0, "padding=-1"),
        (1.5, 0.0, "padding=1.5"),
        (True, 0.0, "padding=True"),
        (0, -0.1, "flip=-0.1"),
        (0, 1.1, "flip=1.1"),
    ],
)
def test_values_outside_the_range_are_refused(padding: int, p: float, text: str) -> None:
    with pytest.raises(ValueError, match=f"^{text}: "):
        Augment(padding, p)
