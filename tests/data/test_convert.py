from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import v2

from resweep.data.convert import mean_std, to_channels, to_size
from resweep.data.samples import InMemory


def noise(*shape: int) -> torch.Tensor:
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def test_grey_has_the_bits_of_pillow() -> None:
    images = noise(4, 3, 40, 50)
    grey = to_channels(images, 1)
    assert grey.shape == (4, 1, 40, 50) and grey.dtype == torch.uint8
    for image, result in zip(images, grey, strict=True):
        expected = Image.fromarray(image.permute(1, 2, 0).numpy()).convert("L")
        np.testing.assert_array_equal(result[0].numpy(), np.asarray(expected))


def test_colour_repeats_grey_and_the_own_channels_stay() -> None:
    images = noise(2, 1, 4, 5)
    colour = to_channels(images, 3)
    assert all(torch.equal(colour[:, channel], images[:, 0]) for channel in range(3))
    assert to_channels(images, 1) is images and to_channels(colour, 3) is colour
    assert torch.equal(to_channels(colour, 1), images)


@pytest.mark.parametrize(("size", "side"), [((8, 8), 32), ((28, 28), 32), ((32, 32), 12), ((96, 96), 97)])
def test_scaling_agrees_with_torchvision(size: tuple[int, int], side: int) -> None:
    images = noise(3, 3, *size)
    expected = v2.functional.resize(images, [side, side], antialias=True)
    result = to_size(images, side)
    assert result.dtype == torch.uint8 and result.shape == (3, 3, side, side)
    assert (result.int() - expected.int()).abs().max() <= 1  # torchvision rounds intermediate results


def test_the_largest_centred_square_is_scaled() -> None:
    images = noise(2, 1, 10, 16)
    assert torch.equal(to_size(images, 10), images[:, :, :, 3:13])
    assert torch.equal(to_size(images.mT.contiguous(), 10), images[:, :, :, 3:13].mT)
    assert to_size(images[..., :10], 10).data_ptr() == images.data_ptr()


def test_constant_images_stay_constant() -> None:
    for value in (0, 1, 254, 255):
        assert to_size(torch.full((1, 1, 7, 7), value, dtype=torch.uint8), 29).unique().tolist() == [value]


def test_mean_and_deviation_are_those_of_the_converted_images() -> None:
    colour, grey = InMemory(noise(1500, 3, 4, 5), torch.zeros(1500, dtype=torch.int64)), noise(20, 1, 4, 5)
    mean, std = mean_std(colour, 1)
    pixels = to_channels(colour.images, 1).numpy() / 255
    np.testing.assert_allclose([mean.item(), std.item()], [pixels.mean(), pixels.std()], rtol=1e-12)
    mean, std = mean_std(InMemory(grey, torch.zeros(20, dtype=torch.int64)), 3)
    np.testing.assert_allclose(mean, [grey.numpy().mean() / 255] * 3, rtol=1e-12)
    assert std.shape == (3,) and std.unique().numel() == 1
    own = mean_std(colour, 3)
    assert all(torch.equal(one, other) for one, other in zip(own, colour.channel_mean_std(), strict=True))
