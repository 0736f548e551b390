from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torchvision.transforms import AutoAugment as PublishedAutoAugment
from torchvision.transforms import AutoAugmentPolicy, v2

from resweep.data.augment import policies
from resweep.data.augment.operations import OPERATIONS, SIGNED

FILL = torch.tensor([125.0, 123.0, 114.0])
SPACES = {
    "randaugment": (v2.RandAugment._AUGMENTATION_SPACE, policies.AUTO, 31),
    "autoaugment": (v2.AutoAugment._AUGMENTATION_SPACE, policies.AUTO, 10),
    "trivialaugment": (v2.TrivialAugmentWide._AUGMENTATION_SPACE, policies.WIDE, 31),
    "augmix": (v2.AugMix._PARTIAL_AUGMENTATION_SPACE, policies.AUGMIX, 10),
}
RUNS: dict[str, Callable[[torch.Tensor, torch.Generator], torch.Tensor]] = {
    "randaugment": lambda images, generator: policies.rand_augment(images, FILL, generator, ops=2, magnitude=9),
    "autoaugment": lambda images, generator: policies.AutoAugment("cifar10")(images, FILL, generator),
    "trivialaugment": lambda images, generator: policies.trivial_augment(images, FILL, generator),
    "augmix": lambda images, generator: policies.augmix(images, FILL, generator, width=3, severity=3),
}


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def picture(size: int = 16) -> torch.Tensor:
    return torch.randint(0, 256, (1, 3, size, size), generator=seeded(7), dtype=torch.uint8)


@pytest.mark.parametrize("name", SPACES)
def test_strengths_are_torchvisions_at_every_level(name: str) -> None:
    published, space, bins = SPACES[name]
    levels = torch.arange(bins, dtype=torch.float64) / (bins - 1)
    for operation, (magnitudes, signed) in published.items():
        assert signed == (operation in SIGNED)
        expected = magnitudes(bins, 24, 40)
        if expected is None:
            continue
        chosen = torch.full((bins,), OPERATIONS.index(operation))
        values = policies.strengths(space, chosen, levels, -torch.ones(bins).double(), torch.Size((bins, 3, 24, 40)))
        torch.testing.assert_close(values, expected.double() * (-1 if signed else 1), atol=1e-5, rtol=0)


def drawn(monkeypatch: pytest.MonkeyPatch, name: str, count: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """What a policy asks the operations to do."""
    calls = []

    def record(images: torch.Tensor, chosen: torch.Tensor, values: torch.Tensor, *_: object) -> torch.Tensor:
        calls.append((chosen, values))
        return images

    monkeypatch.setattr(policies, "apply_operations", record)
    RUNS[name](picture(4).repeat(count, 1, 1, 1), seeded())
    return calls


@pytest.mark.parametrize(("name", "steps"), [("randaugment", 2), ("trivialaugment", 1), ("augmix", 3)])
def test_operations_are_drawn_uniformly_from_the_published_ones(
    monkeypatch: pytest.MonkeyPatch, name: str, steps: int
) -> None:
    calls, names = drawn(monkeypatch, name, 6000), list(SPACES[name][0])
    assert len(calls) == steps
    counts = torch.bincount(calls[0][0], minlength=len(OPERATIONS)) / len(calls[0][0])
    p = 1 / len(names)
    for operation, share in zip(OPERATIONS, counts.tolist(), strict=True):
        expected = p if operation in names else 0.0
        assert share == pytest.approx(expected, abs=4 * (p * (1 - p) / 6000) ** 0.5 * (expected > 0)), operation


def test_signs_and_levels_are_drawn_for_each_image(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen, values = drawn(monkeypatch, "trivialaugment", 14_000)[0]
    angles = values[chosen == OPERATIONS.index("Rotate")]
    assert (angles > 0).double().mean().item() == pytest.approx(30 / 62, abs=0.07)
    assert {round(abs(angle) / 4.5) for angle in angles.tolist()} == set(range(31))
    assert values[chosen == OPERATIONS.index("Solarize")].min() == 0


def test_an_augmix_chain_has_one_to_three_operations(monkeypatch: pytest.MonkeyPatch) -> None:
    done = torch.stack([chosen > 0 for chosen, _ in drawn(monkeypatch, "augmix", 3000)])
    assert bool(done[0].all()), "its operations hold no identity"
    assert done.double().mean(1).tolist() == pytest.approx([1, 2 / 3, 1 / 3], abs=0.03)
    assert bool((done[1] >= done[2]).all())


@pytest.mark.parametrize("name", policies.AUTO_POLICIES)
def test_auto_augment_carries_out_the_published_pairs(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setitem(RUNS, "autoaugment", lambda *given: policies.AutoAugment(name)(given[0], FILL, given[1]))
    draws = 40_000
    calls = drawn(monkeypatch, "autoaugment", draws)
    published = PublishedAutoAugment(AutoAugmentPolicy(name)).policies
    assert len(calls) == 2 and len(published) == 25
    for step, (chosen, _) in enumerate(calls):
        expected = dict.fromkeys(OPERATIONS, 0.0)
        for pair in published:
            expected[pair[step][0]] += pair[step][1] / 25
        expected["Identity"] = 1 - sum(expected.values())
        found = (torch.bincount(chosen, minlength=len(OPERATIONS)) / draws).tolist()
        assert found == pytest.approx(list(expected.values()), abs=0.011)


@pytest.mark.parametrize("name", RUNS)
def test_equal_images_come_out_differently_and_the_generator_decides(name: str) -> None:
    images = picture().repeat(64, 1, 1, 1)
    state = torch.get_rng_state()
    first, again, other = (RUNS[name](images, seeded(seed)) for seed in (1, 1, 2))
    assert first.dtype == torch.uint8 and first.shape == images.shape
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert len({tuple(image.flatten().tolist()) for image in first}) > 20
    assert torch.equal(images, picture().repeat(64, 1, 1, 1)), "the given images must not change"
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("name", RUNS)
def test_grey_images_can_be_changed_too(name: str) -> None:
    images = picture()[:, :1].repeat(64, 1, 1, 1)
    fill = FILL[:1]
    runs = {
        "randaugment": lambda: policies.rand_augment(images, fill, seeded(), ops=2, magnitude=9),
        "autoaugment": lambda: policies.AutoAugment("svhn")(images, fill, seeded()),
        "trivialaugment": lambda: policies.trivial_augment(images, fill, seeded()),
        "augmix": lambda: policies.augmix(images, fill, seeded(), width=3, severity=3),
    }
    assert runs[name]().shape == images.shape


def test_randaugment_at_magnitude_zero_only_touches_the_tone() -> None:
    images = picture().repeat(200, 1, 1, 1)
    result = policies.rand_augment(images, FILL, seeded(), ops=1, magnitude=0)
    kept = (result == images).flatten(1).all(1)
    solarized = result.float().mean((1, 2, 3)) - images.float().mean((1, 2, 3))
    # Identity, five geometric, four of colour and Posterize to eight bits leave it; so does Solarize but for level 255.
    assert kept.float().mean() > 10 / 14 - 0.1
    assert bool(((~kept) | (solarized.abs() < 1e-6)).all())


def test_augmix_of_a_constant_image_stays_between_it_and_its_posterized_form() -> None:
    images = torch.full((50, 3, 6, 6), 200, dtype=torch.uint8)
    result = policies.augmix(images, torch.full((3,), 200.0), seeded(), width=1, severity=1)
    # Of a constant image only Posterize (to four bits: 192) and Solarize at no strength (never) change a level.
    assert set(result.flatten().tolist()) <= set(range(192, 201)) and 200 in result.flatten().tolist()
