from __future__ import annotations

import math

import pytest
import torch
from PIL import Image, ImageOps
from torchvision.transforms import InterpolationMode, v2
from torchvision.transforms.v2 import functional as TF

from resweep.data.augment.operations import GEOMETRIC, OPERATIONS, apply_operations, auto_contrast, equalize

FILL = torch.tensor([125.0, 123.0, 114.0])
VALUES = {
    "ShearX": [0.3, -0.27, 0.06, -0.99], "ShearY": [0.3, -0.27, 0.06, -0.99], "TranslateX": [3.9, -3.9, 0.4, 11.0],
    "TranslateY": [3.9, -3.9, 0.4, 11.0], "Rotate": [30.0, -9.0, 90.0, 135.0], "Brightness": [0.9, -0.9, 0.27, 0.0],
    "Color": [0.9, -0.9, 0.27, 0.0], "Contrast": [0.9, -0.9, 0.27, 0.0], "Sharpness": [0.9, -0.9, 0.27, 0.0],
    "Posterize": [8.0, 4.0, 1.0, 0.0], "Solarize": [1.0, 0.7, 0.31, 0.0],
}  # fmt: skip


def pictures(channels: int = 3, size: int = 19) -> torch.Tensor:
    noise = torch.rand(4, channels, size, size, generator=torch.Generator().manual_seed(2))
    images = noise.mul(200).add(30).round().to(torch.uint8)
    images[1] = 77  # constant
    images[2] //= 4  # dark
    return images


def alone(
    image: torch.Tensor, name: str, value: float, fill: list[float] | None, mode: InterpolationMode
) -> torch.Tensor:
    """One image by torchvision's own functions."""
    shear = {"ShearX": [math.degrees(math.atan(value)), 0.0], "ShearY": [0.0, math.degrees(math.atan(value))]}
    shift = {"TranslateX": [int(value), 0], "TranslateY": [0, int(value)]}
    if name in shear:
        return TF.affine(image, 0.0, [0, 0], 1.0, shear[name], mode, fill, [0, 0])
    if name in shift:
        return TF.affine(image, 0.0, shift[name], 1.0, [0.0, 0.0], mode, fill)
    if name == "Rotate":
        return TF.rotate(image, value, mode, fill=fill)
    functions = {
        "Identity": lambda: image,
        "Brightness": lambda: TF.adjust_brightness(image, 1 + value),
        "Color": lambda: TF.adjust_saturation(image, 1 + value),
        "Contrast": lambda: TF.adjust_contrast(image, 1 + value),
        "Sharpness": lambda: TF.adjust_sharpness(image, 1 + value),
        "Posterize": lambda: TF.posterize(image, int(value)),
        "Solarize": lambda: TF.solarize(image, 255 * value),
        "AutoContrast": lambda: TF.autocontrast(image),
        "Equalize": lambda: TF.equalize(image),
        "Invert": lambda: TF.invert(image),
    }
    return functions[name]()


@pytest.mark.parametrize("mode", ["nearest", "bilinear"])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", OPERATIONS)
def test_each_operation_is_torchvisions(name: str, channels: int, mode: str) -> None:
    images, values = pictures(channels), VALUES.get(name, [0.0] * 4)
    fill = FILL[:channels] * (mode == "nearest")  # torchvision lets a fill into bilinear borders twice
    chosen = torch.full((4,), OPERATIONS.index(name))
    result = apply_operations(images, chosen, torch.tensor(values, dtype=torch.float64), fill, mode)
    pairs = zip(images, values, strict=True)
    theirs = fill.tolist() if mode == "nearest" else None
    expected = [alone(image, name, value, theirs, InterpolationMode(mode)) for image, value in pairs]
    difference = (result.int() - torch.stack(expected).int()).abs()
    # A neighbour's pixel where a place lies halfway between two; one level where a sum is rounded otherwise, which
    # can be all of the constant image.
    assert (difference > 1).float().mean() < (0.003 if name in ("ShearX", "ShearY", "Rotate") else 1e-9)
    assert (difference > 0).float().mean() < (0.26 if name == "Contrast" else 0.01)


@pytest.mark.parametrize("mode", ["nearest", "bilinear"])
@pytest.mark.parametrize("name", GEOMETRIC)
def test_an_image_of_the_fill_colour_stays(name: str, mode: str) -> None:
    images = FILL.to(torch.uint8).view(1, 3, 1, 1).repeat(4, 1, 9, 9)
    chosen, values = torch.full((4,), OPERATIONS.index(name)), torch.tensor(VALUES[name]).double()
    assert torch.equal(apply_operations(images, chosen, values, FILL, mode), images)


def test_images_of_one_batch_get_their_own_operations() -> None:
    count = len(OPERATIONS)
    images = pictures().repeat(count, 1, 1, 1)[: 3 * count]
    chosen = torch.arange(3 * count) % count
    values = torch.tensor([VALUES.get(OPERATIONS[number], [0.0])[0] for number in chosen.tolist()]).double()
    together = apply_operations(images, chosen, values, FILL, "nearest")
    for index in range(3 * count):
        one = slice(index, index + 1)
        assert torch.equal(together[one], apply_operations(images[one], chosen[one], values[one], FILL, "nearest"))
    assert torch.equal(images, pictures().repeat(count, 1, 1, 1)[: 3 * count]), "the given images must not change"


def test_equalize_and_auto_contrast_are_pillows() -> None:
    images = torch.cat([pictures(1), pictures(1, 19).clamp(max=99), torch.zeros(1, 1, 19, 19, dtype=torch.uint8)])
    for ours, theirs in ((equalize, ImageOps.equalize), (auto_contrast, ImageOps.autocontrast)):
        for image, result in zip(images, ours(images), strict=True):
            expected = v2.functional.pil_to_tensor(theirs(Image.fromarray(image[0].numpy())))
            assert (result.int() - expected.int()).abs().max() <= (0 if ours is equalize else 1)


def test_rotation_by_a_right_angle_turns_counter_clockwise() -> None:
    images = pictures()[:1]
    chosen, quarter = torch.tensor([OPERATIONS.index("Rotate")]), torch.tensor([90.0]).double()
    assert torch.equal(apply_operations(images, chosen, quarter, FILL, "bilinear"), images.rot90(1, (-2, -1)))
