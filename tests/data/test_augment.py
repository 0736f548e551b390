from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf
from torchvision.transforms.v2 import functional as TF

from resweep.config import config_loader
from resweep.data.augment import Augment, crop, policies
from resweep.data.augment.augment import mean_color
from resweep.data.augment.geometry import flip_
from resweep.errors import RequestError
from resweep.seeding import derive_seed
from resweep.sweep.plan import make_plan

CONF = Path(__file__).parents[2] / "conf" / "augment"
CHOICES = sorted(path.stem for path in CONF.glob("*.yaml"))
MEAN, STD = torch.tensor([0.5, 0.4, 0.25]), torch.tensor([0.2, 0.25, 0.3])
ON = {
    "padding": {"padding": 2},
    "reflect": {"padding": 2, "padding_mode": "reflect"},
    "flip": {"flip": 0.5},
    "alternating": {"flip": 0.5, "flip_mode": "alternating"},
    "rotation": {"rotation": 20.0},
    "translate": {"translate": 0.3},
    "scale": {"scale": [0.8, 1.2]},
    "shear": {"shear": 20.0},
    "resized_crop": {"resized_crop": [0.2, 1.0]},
    "brightness": {"brightness": 0.4},
    "contrast": {"contrast": 0.4},
    "saturation": {"saturation": 0.4},
    "hue": {"hue": 0.2},
    "grayscale": {"grayscale": 0.5},
    "randaugment": {"policy": "randaugment"},
    "autoaugment": {"policy": "autoaugment"},
    "trivialaugment": {"policy": "trivialaugment"},
    "augmix": {"policy": "augmix", "policy_magnitude": 3},
    "erasing": {"erasing": 0.5},
    "cutout": {"cutout": 4},
    "cutout share": {"cutout": 0.3},
}


def normalize(images: torch.Tensor) -> torch.Tensor:
    channels = images.shape[1]
    return (images / 255 - MEAN[:channels].view(-1, 1, 1)) / STD[:channels].view(-1, 1, 1)


def levels(normalised: torch.Tensor) -> torch.Tensor:
    """Undo the normalisation: 0..1."""
    return normalised * STD.view(-1, 1, 1) + MEAN.view(-1, 1, 1)


def pictures(batch: int = 48, size: int = 12) -> torch.Tensor:
    generator = torch.Generator().manual_seed(5)
    return torch.randint(0, 256, (batch, 3, size, size), generator=generator, dtype=torch.uint8)


def shown(augment: Augment, images: torch.Tensor, epoch: int = 0, seed: int = 0, index: int = 0) -> torch.Tensor:
    return augment.images(
        images, normalize, positions=torch.arange(len(images)), epoch=epoch, seed=seed, index=index
    )  # fmt: skip


def test_nothing_on_is_the_normalised_batch() -> None:
    assert torch.equal(shown(Augment(), pictures()), normalize(pictures()))
    images, targets = normalize(pictures()), torch.arange(48)
    result = Augment().mix(images, targets, 48, epoch=0, seed=0, index=0)
    assert result[0] is images and result[1] is targets


@pytest.mark.parametrize(("padding", "p"), [(0, 1.0), (2, 0.0), (2, 0.5), (1, 1.0)])
def test_crop_and_flip_draw_in_this_order_from_the_batchs_own_generator(padding: int, p: float) -> None:
    generator = torch.Generator().manual_seed(derive_seed(3, "augment", 4, 7))
    expected = crop(normalize(pictures()), padding, generator)
    expected = flip_(expected, p, generator) if p else expected
    assert torch.equal(shown(Augment(padding, p), pictures(), epoch=4, seed=3, index=7), expected)


@pytest.mark.parametrize("name", ON)
def test_each_setting_treats_equal_images_differently_and_the_same_each_time(name: str) -> None:
    images, state = pictures(1).repeat(48, 1, 1, 1), torch.get_rng_state()
    augment = Augment(**ON[name])
    first = shown(augment, images, seed=1)
    assert torch.equal(shown(Augment(**ON[name]), images, seed=1), first)
    assert len({tuple(image.flatten().tolist()) for image in first}) >= 2
    assert not torch.equal(shown(augment, images, seed=2), first)
    assert not torch.equal(shown(augment, images, seed=1, epoch=1), first)
    if name != "alternating":
        assert not torch.equal(shown(augment, images, seed=1, index=1), first)
    assert first.dtype == torch.float32 and first.shape == images.shape
    assert torch.equal(images, pictures(1).repeat(48, 1, 1, 1)), "the given images must not change"
    assert torch.equal(torch.get_rng_state(), state)
    assert levels(first).min() > -1e-5 and levels(first).max() < 1 + 1e-5


def test_changes_of_colour_come_before_normalisation_and_boxes_after() -> None:
    images = torch.full((40, 3, 8, 8), 51, dtype=torch.uint8)
    result = shown(Augment(brightness=0.5, cutout=3), images)
    hidden = (result == 0).all(1, keepdim=True)
    assert bool(hidden.flatten(1).any(1).all()), "the mean colour, whatever the brightness"
    bright = levels(result).masked_fill(hidden, torch.nan).flatten(1).nanmean(1) / 0.2
    assert bright.min() >= 0.5 and bright.max() <= 1.5 and bright.std() > 0.2


def test_what_a_policy_uncovers_is_the_mean_colour() -> None:
    images = torch.full((300, 3, 12, 12), 255, dtype=torch.uint8)
    fill = (MEAN * 255).round()
    assert torch.equal(mean_color(normalize, images), fill)
    result = levels(shown(Augment(policy="trivialaugment"), images)).mul(255).round()
    corners = result[:, :, 0, 0]
    assert int((corners == fill).all(1).sum()) > 30


@pytest.mark.parametrize("name", policies.POLICIES)
def test_each_policy_is_the_one_that_is_named(name: str) -> None:
    given = (
        pictures(),
        mean_color(normalize, pictures()),
        torch.Generator().manual_seed(derive_seed(0, "augment", 0, 0)),
    )
    made = {
        "randaugment": lambda: policies.rand_augment(*given, ops=3, magnitude=5),
        "autoaugment": lambda: policies.AutoAugment("svhn")(*given),
        "trivialaugment": lambda: policies.trivial_augment(*given),
        "augmix": lambda: policies.augmix(*given, width=3, severity=5),
    }
    augment = Augment(policy=name, policy_ops=3, policy_magnitude=5, policy_name="svhn")
    assert torch.equal(shown(augment, pictures()), normalize(made[name]()))


def test_a_colour_batch_is_the_functions_of_torchvision_image_by_image() -> None:
    generator = torch.Generator().manual_seed(derive_seed(0, "augment", 0, 0))
    contrast, saturation = (0.5 + torch.rand(48, generator=generator) for _ in range(2))
    result = levels(shown(Augment(contrast=0.5, saturation=0.5), pictures()))
    for image, changed, first, second in zip(pictures() / 255, result, contrast, saturation, strict=True):
        expected = TF.adjust_saturation(TF.adjust_contrast(image, first.item()), second.item())
        torch.testing.assert_close(changed, expected, atol=1e-5, rtol=0)


def test_mixing_is_decided_by_its_place() -> None:
    augment, images, labels = Augment(mixup=1.0), normalize(pictures()), torch.arange(48) % 10
    assert augment.mixes and Augment(cutmix=0.5).mixes and not Augment(mixup=1.0, mix_probability=0.0).mixes
    place = {"epoch": 2, "seed": 1, "index": 3}
    mixed, targets = augment.mix(images, labels, 10, **place)
    assert torch.equal(augment.mix(images, labels, 10, **place)[0], mixed)
    for name in place:
        assert not torch.equal(augment.mix(images, labels, 10, **{**place, name: 9})[0], mixed)
    assert targets.shape == (48, 10) and targets.dtype == torch.float32
    torch.testing.assert_close(targets.sum(1), torch.ones(48))


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"padding": -1}, "padding=-1: a whole number of pixels"),
        ({"padding": 1.5}, "padding=1.5: "),
        ({"padding": True}, "padding=True: "),
        ({"flip": -0.1}, "flip=-0.1: a probability"),
        ({"flip": 1.1}, "flip=1.1: "),
        ({"flip": float("nan")}, "flip=nan: "),
        ({"mixup": -1}, "mixup=-1: a number of at least 0"),
        ({"cutmix": "a lot"}, "cutmix=a lot: "),
        ({"scale": [2, 1]}, r"scale=\[2, 1\]: two factors above 0, the smaller first"),
        ({"scale": 0.5}, "scale=0.5: "),
        ({"scale": [0, 1]}, r"scale=\[0, 1\]: "),
        ({"resized_crop": [0.5, 1.5]}, r"resized_crop=\[0.5, 1.5\]: "),
        ({"hue": 0.6}, "hue=0.6: a share of the circle"),
        ({"shear": 90}, "shear=90: "),
        ({"policy": "randaug"}, "policy=randaug: one of .*did you mean randaugment"),
        ({"policy_name": "cifar"}, "policy_name=cifar: one of .*did you mean cifar10"),
        ({"padding_mode": "zeros"}, "padding_mode=zeros: .*did you mean zero"),
        ({"policy": "randaugment", "policy_magnitude": 31}, "policy_magnitude=31: .*at most 30"),
        ({"policy": "augmix", "policy_magnitude": 0}, "policy_magnitude=0: .*at least 1"),
        ({"padding": 4, "resized_crop": [0.5, 1.0]}, "padding=4: resized_crop already"),
        ({"flip": 0.3, "flip_mode": "alternating"}, "flip=0.3: flip_mode=alternating"),
        ({"cutout": 1.5}, "cutout=1.5: 0 for off, a whole number of pixels, or a share"),
        ({"cutout": True}, "cutout=True: "),
        ({"erasing": 2, "cutout": -3}, "erasing=2: .*; cutout=-3: "),
    ],
)
def test_wrong_values_are_named(settings: dict, text: str) -> None:
    with pytest.raises(ValueError, match=f"^{text}"):
        Augment(**settings)


@pytest.mark.parametrize(
    ("batch_size", "count", "text"),
    [
        (1, 100, "data.batch_size=1: every batch has one image.*set data.batch_size=2"),
        (
            33,
            100,
            "data.batch_size=33: the last batch of the 100 training images has one image.*set data.batch_size=34",
        ),
        (2, 101, "data.batch_size=2: the last batch.*set data.batch_size=3$"),
        (10, 101, "data.batch_size=10: .*set data.batch_size=11$"),
    ],
)
def test_an_image_that_would_be_alone_cannot_be_mixed(batch_size: int, count: int, text: str) -> None:
    for augment in (Augment(mixup=0.2), Augment(cutmix=1.0, mix_probability=0.5)):
        with pytest.raises(RequestError, match=f"^{text}"):
            augment.check(batch_size, count)
    Augment().check(batch_size, count)
    Augment(mixup=0.2).check(batch_size + 1, 2 * (batch_size + 1))
    if batch_size > 1:
        Augment(mixup=0.2).check(batch_size, count, drop_last=True)


def test_images_that_are_too_small_for_reflection_are_refused() -> None:
    augment = Augment(padding=8, padding_mode="reflect")
    with pytest.raises(RequestError, match=r"^augment\.padding=8: reflection needs fewer pixels.*8x9"):
        augment.check(16, 100, (1, 8, 9))
    augment.check(16, 100, (1, 9, 9))


@pytest.mark.parametrize(
    ("settings", "texts"),
    [
        ({"cutout": 17}, ["augment.cutout=17: covers the whole 8x9 image; "]),
        ({"cutout": 10}, ["augment.cutout=10: can cover the whole 8x9 image; "]),
        ({"cutout": 8}, ["augment.cutout=8: can cover the shorter side of the 8x9 image; "]),
        ({"padding": 8}, ["augment.padding=8: a crop that shows some .*8x9; usual is .*augment.padding=1"]),
        ({"padding": 9, "cutout": 9}, ["augment.padding=9: ", "augment.cutout=9: "]),
    ],
)
def test_what_would_leave_nothing_of_an_image_is_refused(settings: dict, texts: list[str]) -> None:
    with pytest.raises(RequestError) as caught:
        Augment(**settings).check(16, 100, (1, 8, 9))
    assert len(caught.value.problems) == len(texts)
    for text, problem in zip(texts, caught.value.problems, strict=True):
        assert re.match(text, str(problem))
    Augment(**settings).check(16, 100, (1, 20, 20))
    Augment(padding=7, cutout=7).check(16, 100, (1, 8, 9))
    Augment(cutout=0.99).check(16, 100, (1, 8, 9))


@pytest.mark.parametrize("choice", ["cutout", "autoaugment", "trivialaugment"])
def test_the_square_of_a_choice_has_half_the_side(choice: str) -> None:
    """16 of 32 pixels, as in the papers, whatever the size of the images."""
    settings = {**composed(choice), "padding": 0, "policy": None}
    settings.pop("_target_")
    share, whole = Augment(**settings), Augment(**{**settings, "cutout": 16})
    assert torch.equal(shown(share, pictures(size=32)), shown(whole, pictures(size=32)))
    hidden = (shown(share, torch.full((40, 3, 8, 8), 255, dtype=torch.uint8)) == 0).all(1).sum((1, 2))
    assert hidden.max() == 16 and hidden.min() >= 4


def composed(choice: str) -> dict:
    """The settings of a choice as Hydra composes them: those of none below its own."""
    files = [OmegaConf.load(CONF / f"{name}.yaml") for name in ("none", choice)]
    assert choice == "none" or files[1].pop("defaults") == ["none", "_self_"]
    whole = OmegaConf.create({"data": {"crop_padding": 3, "flip": 0.5}, "augment": OmegaConf.merge(*files)})
    return OmegaConf.to_container(whole.augment, resolve=True)


@pytest.mark.parametrize("choice", CHOICES)
def test_every_choice_has_every_setting_and_a_first_line(choice: str) -> None:
    defaults = {name: parameter.default for name, parameter in inspect.signature(Augment).parameters.items()}
    settings = composed(choice)
    assert settings.pop("_target_") == "resweep.data.augment.Augment"
    assert sorted(settings) == sorted(defaults)
    made = Augment(**settings)
    if choice == "none":
        assert settings == defaults
    else:
        assert made.mixes or not torch.equal(shown(made, pictures()), normalize(pictures()))
    if choice in ("standard", "cutout", "mixup", "randaugment"):
        assert (made.padding, made.flip) == (3, 0.5)
    assert (CONF / f"{choice}.yaml").read_text(encoding="utf-8").startswith("# ")


def test_choices_combine_in_a_request() -> None:
    request = ["data=fake", "augment=standard", "augment.mixup=0.2", "augment.cutout=8", "augment.scale=[0.9,1.1]"]
    with config_loader() as loader:
        settings = dict(make_plan(loader, request).runs[0].config["augment"])
    settings.pop("_target_")
    made = Augment(**settings)
    assert (made.mixup, made.cutout, made.scale) == (0.2, 8, (0.9, 1.1))


@pytest.mark.parametrize("choice", ["none", "cutout"])
def test_a_square_in_pixels_or_as_a_share_can_be_asked_for(choice: str) -> None:
    with config_loader() as loader:
        for value in ("0", "3", "0.25"):
            request = ["data=digits", f"augment={choice}", f"augment.cutout={value}"]
            assert str(make_plan(loader, request).runs[0].config["augment"]["cutout"]) == value
        with pytest.raises(RequestError, match=r"augment\.cutout=2\.5: must be 0 for off, a whole number"):
            make_plan(loader, ["data=digits", "augment.cutout=2.5"])


def test_a_wrong_setting_of_a_request_is_one_message() -> None:
    with pytest.raises(RequestError, match=r"augment[.:] ?mixup=-1: a number of at least 0 is needed"):
        from resweep.build import build_data

        with config_loader() as loader:
            build_data(make_plan(loader, ["data=fake", "augment.mixup=-1"]).runs[0].config)
