from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import v2

from resweep.data.decode import UnreadableImage, in_threads, read_image, read_size


def smooth_picture(seed: int, width: int = 37, height: int = 23) -> Image.Image:
    """A picture with structure, as JPEG is made for."""
    small = np.random.default_rng(seed).integers(0, 256, (5, 6, 3), dtype=np.uint8)
    return Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)


def by_pillow(path: Path, mode: str) -> np.ndarray:
    """Pixels (C, H, W) by Pillow alone."""
    with Image.open(path) as picture:
        pixels = np.asarray(picture.convert(mode))
    return pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    ("mode", "settings"),
    [
        ("RGB", {"format": "JPEG", "quality": 60, "subsampling": 2}),
        ("RGB", {"format": "JPEG", "quality": 95, "subsampling": 0}),
        ("RGB", {"format": "JPEG", "progressive": True}),
        ("L", {"format": "JPEG"}),
        ("CMYK", {"format": "JPEG"}),
        ("RGB", {"format": "PNG"}),
        ("RGBA", {"format": "PNG"}),
        ("L", {"format": "PNG"}),
        ("LA", {"format": "PNG"}),
        ("1", {"format": "PNG"}),
        ("P", {"format": "PNG"}),
        ("RGB", {"format": "BMP"}),
        ("RGB", {"format": "WEBP", "lossless": True}),
        ("P", {"format": "GIF"}),
    ],
)
def test_pixels_are_those_of_pillow(tmp_path: Path, mode: str, settings: dict[str, object], channels: int) -> None:
    picture = smooth_picture(3)
    if mode in ("RGBA", "LA"):
        picture.putalpha(Image.linear_gradient("L").resize(picture.size))
    path = tmp_path / "picture"
    picture.convert(mode).save(path, **settings)
    np.testing.assert_array_equal(read_image(path, None, channels), by_pillow(path, {1: "L", 3: "RGB"}[channels]))
    assert read_size(path) == (37, 23)


def test_16_bits_of_colour_keep_the_upper_8(tmp_path: Path) -> None:
    pixels = np.array([[[0, 255, 256], [65535, 513, 1024]]], dtype=">u2")

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    lines = zlib.compress(b"\0" + pixels.tobytes())
    header = struct.pack(">IIBBBBB", 2, 1, 16, 2, 0, 0, 0)
    path = tmp_path / "deep.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", lines) + chunk(b"IEND", b""))
    assert read_image(path, None, 3).transpose(1, 2, 0).tolist() == [[[0, 0, 1], [255, 2, 4]]]


@pytest.mark.parametrize("size", [(40, 20), (20, 60), (30, 30)])
def test_resize_equals_torchvision_where_sides_divide(size: tuple[int, int], tmp_path: Path) -> None:
    path = tmp_path / "image.png"
    picture = smooth_picture(1, *size)
    picture.save(path)
    reference = v2.Compose([v2.Resize(10, v2.InterpolationMode.BILINEAR), v2.CenterCrop(10)])(picture)
    np.testing.assert_array_equal(read_image(path, 10, 3).transpose(1, 2, 0), np.asarray(reference))


@pytest.mark.parametrize("size", [(50, 37), (37, 50), (16, 16), (25, 64)])
def test_crop_pct_is_resize_and_centre_crop_of_torchvision(size: tuple[int, int], tmp_path: Path) -> None:
    path = tmp_path / "image.png"
    picture = smooth_picture(2, *size)
    picture.save(path)
    reference = v2.Compose([v2.Resize(16, v2.InterpolationMode.BILINEAR), v2.CenterCrop(14)])(picture)
    np.testing.assert_array_equal(read_image(path, 14, 3, crop_pct=0.875).transpose(1, 2, 0), np.asarray(reference))


def test_an_image_of_the_right_size_is_not_filtered(tmp_path: Path) -> None:
    path = tmp_path / "image.png"
    smooth_picture(1, 8, 8).save(path)
    np.testing.assert_array_equal(read_image(path, 8, 3), read_image(path, None, 3))


def test_grey_and_colour_conversions(tmp_path: Path) -> None:
    red = tmp_path / "red.png"
    Image.new("RGB", (2, 2), (255, 0, 0)).save(red)
    assert read_image(red, None, 1).tolist() == [[[76, 76], [76, 76]]]  # 0.299 * 255
    grey = tmp_path / "grey.png"
    Image.new("L", (1, 1), 7).save(grey)
    assert read_image(grey, None, 3).tolist() == [[[7]], [[7]], [[7]]]
    deep = tmp_path / "deep.png"
    Image.fromarray(np.array([[0, 255, 256, 65535]], dtype=np.uint16)).save(deep)
    assert read_image(deep, None, 1).tolist() == [[[0, 0, 1, 255]]]
    palette = tmp_path / "palette.gif"
    Image.new("RGB", (1, 1), (0, 0, 255)).convert("P").save(palette, transparency=0)
    assert read_image(palette, None, 3).shape == (3, 1, 1)


@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_broken_files_are_named_with_the_reason(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"cut.{suffix}"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:900])
    with pytest.raises(UnreadableImage, match=rf"cannot read image .*cut\.{suffix}: .*truncated"):
        read_image(path, None, 3)
    path.write_bytes(b"")
    with pytest.raises(UnreadableImage, match="not in a known format"):
        read_image(path, None, 3)


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    floats = tmp_path / "floats.tiff"
    Image.fromarray(np.zeros((2, 2), np.float32)).save(floats)
    with pytest.raises(UnreadableImage, match=r"32-bit pixels"):
        read_image(floats, None, 3)
    with pytest.raises(UnreadableImage, match=r"absent\.png: No such file"):
        read_image(tmp_path / "absent.png", None, 3)


def test_the_rotation_flag_is_not_applied(tmp_path: Path) -> None:
    path = tmp_path / "turned.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6
    smooth_picture(4).save(path, exif=exif)
    plain = io.BytesIO()
    smooth_picture(4).save(plain, "JPEG")
    assert torch.equal(
        torch.from_numpy(read_image(path, None, 3).copy()),
        torch.from_numpy(np.asarray(Image.open(plain)).transpose(2, 0, 1).copy()),
    )


def test_threads_keep_the_order() -> None:
    assert list(in_threads(lambda number: number * number, range(500))) == [number**2 for number in range(500)]
