from __future__ import annotations

import colorsys

import pytest
import torch
from torchvision.transforms.v2 import functional as TF

from resweep.data.augment import color


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def random_images(batch: int = 8, channels: int = 3, size: int = 7) -> torch.Tensor:
    images = torch.rand(batch, channels, size, size, generator=seeded(1))
    images[0] = 0.0
    images[1] = 1.0
    images[2, :] = images[2, :1]  # grey
    images[3, -1] = images[3, 0]  # two channels alike
    return images


FACTORS = torch.tensor([0.0, 0.3, 1.0, 1.7, 2.5, 0.9, 1.1, 1.4], dtype=torch.float64)
TURNS = torch.tensor([-0.5, -0.31, 0.0, 0.5, 0.11, 0.27, -0.02, 0.4])
PAIRS = {
    "brightness": (color.brightness_, TF.adjust_brightness, FACTORS),
    "contrast": (color.contrast_, TF.adjust_contrast, FACTORS),
    "saturation": (color.saturation_, TF.adjust_saturation, FACTORS),
    "sharpness": (color.sharpness_, TF.adjust_sharpness, FACTORS),
    "hue": (color.hue_, TF.adjust_hue, TURNS),
}


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", PAIRS)
def test_each_image_is_changed_as_torchvision_changes_it_alone(name: str, channels: int) -> None:
    ours, theirs, strengths = PAIRS[name]
    images = random_images(channels=channels)
    expected = torch.stack([theirs(image, float(value)) for image, value in zip(images, strengths, strict=True)])
    torch.testing.assert_close(ours(images.clone(), strengths), expected, atol=2e-6, rtol=0)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", ["brightness", "contrast", "saturation", "sharpness"])
def test_whole_levels_are_rounded_as_torchvision_rounds_uint8(name: str, channels: int) -> None:
    ours, theirs, strengths = PAIRS[name]
    images = random_images(channels=channels, size=16).mul(255).round().to(torch.uint8)
    expected = torch.stack([theirs(image, float(value)) for image, value in zip(images, strengths, strict=True)])
    result = ours(images.float(), strengths, whole=True).to(torch.uint8)
    difference = (result.int() - expected.int()).abs()
    assert difference.max() <= 1 and (difference > 0).float().mean() < 0.001  # a sum in another order


def test_the_hue_agrees_with_pythons_own_conversion() -> None:
    images = random_images(size=4)
    result = color.hue_(images.clone(), TURNS)
    for index, turn in enumerate(TURNS.tolist()):
        for pixel, changed in zip(images[index].flatten(1).T, result[index].flatten(1).T, strict=True):
            hue, saturation, value = colorsys.rgb_to_hsv(*pixel.tolist())
            expected = colorsys.hsv_to_rgb((hue + turn) % 1, saturation, value)
            assert changed.tolist() == pytest.approx(expected, abs=2e-6)


def test_a_full_set_of_changes_is_the_functions_in_their_order() -> None:
    images = random_images()
    result = color.jitter_(images.clone(), seeded(3), brightness=0.4, contrast=0.3, saturation=0.2, hue=0.1)
    generator = seeded(3)
    factors = [1 - strength + 2 * strength * torch.rand(8, generator=generator) for strength in (0.4, 0.3, 0.2)]
    turns = (torch.rand(8, generator=generator) - 0.5) * 0.2
    expected = []
    for index, image in enumerate(images):
        image = TF.adjust_brightness(image, float(factors[0][index]))
        image = TF.adjust_contrast(image, float(factors[1][index]))
        image = TF.adjust_saturation(image, float(factors[2][index]))
        expected.append(TF.adjust_hue(image, float(turns[index])))
    torch.testing.assert_close(result, torch.stack(expected), atol=1e-5, rtol=0)


def test_the_mean_brightness_stays_and_strengths_above_one_begin_at_black() -> None:
    images = torch.full((4000, 1, 1, 1), 0.25)
    for strength, low, high in ((0.4, 0.6, 1.4), (2.0, 0.0, 3.0)):
        result = color.jitter_(images.clone(), seeded(), brightness=strength).flatten() / 0.25
        assert low <= result.min() < low + 0.01 and high - 0.01 < result.max() <= high
        assert result.mean() == pytest.approx((low + high) / 2, abs=4 * (high - low) / (12 * 4000) ** 0.5)


def test_the_given_share_of_images_becomes_grey() -> None:
    images = random_images().repeat(2500, 1, 1, 1)[:, :, :2, :2]
    result = color.jitter_(images.clone(), seeded(), grayscale=0.2)
    grey = TF.rgb_to_grayscale(images, 3)
    changed = (result == grey).flatten(1).all(1)
    kept = (result == images).flatten(1).all(1)
    assert bool((changed | kept).all())
    coloured = ~(images == grey).flatten(1).all(1)
    assert changed[coloured].float().mean() == pytest.approx(0.2, abs=4 * (0.16 / int(coloured.sum())) ** 0.5)


@pytest.mark.parametrize("setting", ["saturation", "hue", "grayscale"])
def test_grey_images_have_no_colour_to_change(setting: str) -> None:
    images = random_images(channels=1)
    assert torch.equal(color.jitter_(images.clone(), seeded(), **{setting: 0.5}), images)


def test_zero_strength_changes_and_draws_nothing() -> None:
    generator, images = seeded(), random_images()
    before = generator.get_state()
    assert torch.equal(color.jitter_(images.clone(), generator), images)
    assert torch.equal(generator.get_state(), before)


def test_nothing_leaves_the_range_and_equal_images_come_out_differently() -> None:
    images = random_images()[5:6].repeat(64, 1, 1, 1)
    result = color.jitter_(images.clone(), seeded(), brightness=3, contrast=3, saturation=3, hue=0.5, grayscale=0.1)
    assert result.min() >= 0 and result.max() <= 1 and bool(result.isfinite().all())
    assert len({tuple(image.flatten().tolist()) for image in result}) > 50
