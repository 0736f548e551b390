from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import v2

from resweep.data.augment import Augment
from resweep.data.augment.geometry import alternating_flip
from resweep.data.augment.per_image import PerImage
from resweep.data.decode import read_image
from resweep.seeding import derive_seed

FILL = {1: (90,), 3: (120, 110, 100)}
EVERYTHING = [
    {"padding": 3},
    {"padding": 3, "padding_mode": "reflect"},
    {"flip": 0.5},
    {"rotation": 30},
    {"translate": 0.3},
    {"scale": (0.7, 1.3)},
    {"shear": 20},
    {"resized_crop": (0.08, 1.0)},
    {"brightness": 0.5},
    {"contrast": 0.5},
    {"saturation": 0.5},
    {"hue": 0.4},
    {"policy": "randaugment", "policy_ops": 2, "policy_magnitude": 15},
    {"policy": "autoaugment", "policy_name": "imagenet"},
    {"policy": "trivialaugment"},
    {"policy": "augmix", "policy_ops": 3, "policy_magnitude": 3},
    {"erasing": 1.0},
    {"cutout": 6},
    {"cutout": 0.4},
]


def picture(seed: int = 0, size: tuple[int, int] = (24, 20), mode: str = "RGB") -> Image.Image:
    small = np.random.default_rng(seed).integers(0, 256, (5, 6, 3), dtype=np.uint8)
    return Image.fromarray(small).resize(size, Image.Resampling.BICUBIC).convert(mode)


def per_image(settings: dict[str, object], image_size: int | None = 16, channels: int = 3) -> PerImage:
    return PerImage(Augment(**settings), image_size, channels, FILL[channels])


def pixels(image: Image.Image) -> Tensor:
    return v2.functional.pil_to_tensor(image)


@pytest.mark.parametrize("channels", [1, 3])
def test_nothing_on_is_the_centre_square(channels: int) -> None:
    image = picture(mode={1: "L", 3: "RGB"}[channels], size=(32, 16))
    result = per_image({}, 8, channels)(image, seed=1)
    expected = v2.functional.resize(image, 8, v2.InterpolationMode.BILINEAR)
    assert torch.equal(result, pixels(v2.functional.center_crop(expected, [8, 8])))
    assert torch.equal(per_image({}, None, channels)(image, seed=1), pixels(image))


def test_nothing_on_with_a_cropped_share_is_what_evaluation_sees(tmp_path: Path) -> None:
    path = tmp_path / "image.png"
    picture(size=(31, 19)).save(path)
    result = PerImage(Augment(), 14, 3, FILL[3], crop_pct=0.875)(picture(size=(31, 19)), seed=0)
    np.testing.assert_array_equal(result.numpy(), read_image(path, 14, 3, crop_pct=0.875))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("settings", EVERYTHING, ids=str)
def test_every_setting(settings: dict[str, object], channels: int) -> None:
    transform = per_image(settings, 16, channels)
    image = picture(mode={1: "L", 3: "RGB"}[channels])
    before = torch.get_rng_state()
    results = [transform(image, seed) for seed in range(20)]
    assert torch.equal(torch.get_rng_state(), before)
    assert all(result.dtype == torch.uint8 and result.shape == (channels, 16, 16) for result in results)
    torch.manual_seed(7)
    assert all(torch.equal(transform(image, seed), result) for seed, result in enumerate(results))
    if channels == 1 and ("saturation" in settings or "hue" in settings):
        assert len({result.numpy().tobytes() for result in results}) == 1  # grey has none
    else:
        assert len({result.numpy().tobytes() for result in results}) > 1


def test_losing_the_colour() -> None:
    image = picture(size=(16, 16))
    grey = per_image({"grayscale": 1.0})(image, 0)
    assert torch.equal(grey, v2.functional.rgb_to_grayscale(pixels(image), num_output_channels=3))
    kept = [torch.equal(per_image({"grayscale": 0.5})(image, seed), pixels(image)) for seed in range(200)]
    assert 70 < sum(kept) < 130
    assert per_image({"grayscale": 1.0}, 16, 1)(image.convert("L"), 0).shape == (1, 16, 16)


def test_flips_are_exact_and_as_often_as_asked() -> None:
    image = picture(size=(16, 16))
    transform, mirrored = per_image({"flip": 0.3}), pixels(image).flip(-1)
    count = 0
    for seed in range(400):
        result = transform(image, seed)
        assert torch.equal(result, mirrored) or torch.equal(result, pixels(image))
        count += torch.equal(result, mirrored)
    assert 84 < count < 156  # 120, and four standard deviations


def test_padded_crops_are_windows_of_the_padded_picture() -> None:
    image = picture(size=(16, 16))
    padded = v2.functional.pad(pixels(image), 2, fill=list(FILL[3]))
    windows = {padded[:, y : y + 16, x : x + 16].numpy().tobytes() for y in range(5) for x in range(5)}
    seen = {per_image({"padding": 2})(image, seed).numpy().tobytes() for seed in range(300)}
    assert seen == windows


@pytest.mark.parametrize("settings", [{"erasing": 1.0}, {"cutout": 4}, {"cutout": 0.25}])
def test_erased_pixels_have_the_fill_colour(settings: dict[str, object]) -> None:
    image = Image.new("RGB", (16, 16), (255, 255, 255))
    for seed in range(30):
        result = per_image(settings)(image, seed)
        changed = (result != 255).all(0)
        assert (result[:, changed] == torch.tensor(FILL[3]).view(3, 1)).all() and (result[:, ~changed] == 255).all()
        assert 4 <= changed.sum() <= (16 if "cutout" in settings else 0.45 * 256)


def batch_of(settings: dict[str, object], positions: Sequence[int], epoch: int, seed: int = 5) -> Tensor:
    pictures = [picture(position) for position in positions]
    return per_image(settings).batch(pictures, torch.tensor(positions), epoch, seed)


def test_a_picture_of_a_batch_does_not_depend_on_the_others() -> None:
    settings = {"resized_crop": (0.2, 1.0), "flip": 0.5, "brightness": 0.3, "policy": "trivialaugment"}
    whole = batch_of(settings, [4, 8, 15, 16], epoch=2)
    assert torch.equal(batch_of(settings, [16, 4], epoch=2), whole[[3, 0]])
    assert not torch.equal(batch_of(settings, [4], epoch=3)[0], whole[0])
    assert not torch.equal(batch_of(settings, [4], epoch=2, seed=6)[0], whole[0])
    assert torch.equal(whole[1], per_image(settings)(picture(8), derive_seed(5, "augment", 2, 8)))


def test_two_pictures_of_a_batch_differ_though_they_are_the_same() -> None:
    images = per_image({"brightness": 0.9}).batch([picture(), picture()], torch.tensor([0, 1]), 0, 0)
    assert not torch.equal(images[0], images[1])


def test_alternating_flips_are_those_of_batches_in_memory() -> None:
    positions = list(range(12))
    plain = batch_of({}, positions, epoch=0)
    epochs = [batch_of({"flip": 0.5, "flip_mode": "alternating"}, positions, epoch) for epoch in range(2)]
    assert torch.equal(epochs[0].flip(-1), epochs[1])
    for epoch in range(2):
        assert torch.equal(epochs[epoch], alternating_flip(plain, torch.tensor(positions), epoch, seed=5))


def test_the_fill_needs_a_number_per_channel() -> None:
    with pytest.raises(ValueError, match="fill="):
        PerImage(Augment(), 16, 3, (0,))


@pytest.mark.parametrize(
    "settings",
    [{"rotation": 30.0}, {"scale": (0.5, 0.8)}, {"translate": 0.3, "shear": 20.0}],
    ids=str,
)
def test_a_border_in_the_fill_colour_cannot_be_seen(settings: dict[str, object]) -> None:
    """An interpolation that counts the border twice draws dark lines around what was turned."""
    plain = Image.fromarray(np.full((16, 16, 3), (200, 120, 60), np.uint8))
    form = PerImage(Augment(**settings), 16, 3, [200, 120, 60])
    for seed in range(20):
        difference = form(plain, seed).int() - torch.tensor([200, 120, 60]).view(3, 1, 1)
        spread = difference.amax((1, 2)) - difference.amin((1, 2))
        assert spread.max() <= 1, seed
