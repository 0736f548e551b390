from __future__ import annotations

import pytest
import torch

from resweep.data.base import Source
from resweep.data.divide import Division, three_splits
from resweep.data.samples import InMemory
from resweep.data.sources import fake
from resweep.errors import Problem, RequestError


def make(labels: torch.Tensor) -> InMemory:
    """Samples whose first two pixels are the image's number."""
    numbers = torch.arange(len(labels))
    images = torch.stack([numbers // 256, numbers % 256], dim=1).to(torch.uint8).view(-1, 1, 1, 2)
    return InMemory(images, labels)


def make_source(train: int = 120, val: int = 0, test: int = 0, classes: int = 4) -> Source:
    parts = [make(torch.arange(count) % classes) if count else None for count in (train, val, test)]
    return Source(*parts, tuple(f"class{label}" for label in range(classes)), mirror=True)


def divide(source: Source | None = None, **changes: object) -> tuple[InMemory, InMemory, InMemory]:
    settings = {"val_size": 0.2, "test_size": 0.25, "split_seed": 0, **changes}
    return three_splits(source or make_source(), Division(**settings))


def numbers(split: InMemory) -> list[int]:
    return (split.images[:, 0, 0, 0].int() * 256 + split.images[:, 0, 0, 1].int()).tolist()


def problem_of(source: Source | None = None, **changes: object) -> Problem:
    with pytest.raises(RequestError) as caught:
        divide(source, **changes)
    assert len(caught.value.problems) == 1
    return caught.value.problems[0]


def test_three_splits_are_disjoint_complete_and_balanced() -> None:
    splits = divide()
    assert [len(split) for split in splits] == [72, 18, 30]  # test 0.25 of 120, val 0.2 of the remaining 90
    assert sorted(number for split in splits for number in numbers(split)) == list(range(120))
    for split in splits:
        counts = torch.bincount(split.labels, minlength=4)
        assert counts.max() - counts.min() <= 1


def test_official_splits_are_used_as_they_are() -> None:
    source = make_source(40, val=12, test=20)
    train, val, test = divide(source, val_size=None, test_size=None)
    assert train is source.train and val is source.val and test is source.test
    assert [len(split) for split in divide(make_source(40, test=20), val_size=8, test_size=None)] == [32, 8, 20]


def test_subset_is_taken_after_val_from_the_training_images() -> None:
    whole, part = divide(), divide(subset=20)
    assert [numbers(split) for split in part[1:]] == [numbers(split) for split in whole[1:]]
    assert torch.bincount(part[0].labels).tolist() == [5, 5, 5, 5]
    assert set(numbers(part[0])) < set(numbers(whole[0]))
    assert len(divide(subset=72)[0]) == 72 and len(divide(subset=0.5)[0]) == 36


@pytest.mark.parametrize("test", [0, 40])
def test_over_the_folds_every_training_image_is_tested_once(test: int) -> None:
    source = make_source(121, test=test)
    tested = []
    for fold in range(5):
        train, val, part = divide(source, num_folds=5, fold=fold, test_size=None, val_size=0.2)
        tested += numbers(part)
        assert len(part) in (24, 25) and len(val) in (20, 21)  # a fifth, and a fifth of the rest
        assert sorted(numbers(train) + numbers(val) + numbers(part)) == list(range(121))
        for split in (train, val, part):
            counts = torch.bincount(split.labels, minlength=4)
            assert counts.max() - counts.min() <= 2
    assert sorted(tested) == list(range(121))


def test_an_official_validation_split_stays_with_folds() -> None:
    source = make_source(40, val=12, test=20)
    train, val, test = divide(source, num_folds=4, fold=0, val_size=None)
    assert val is source.val and [len(train), len(test)] == [30, 10]


def test_folds_depend_on_the_split_seed_only() -> None:
    tests = [numbers(divide(num_folds=5, fold=0, split_seed=seed)[2]) for seed in (0, 0, 1)]
    assert tests[0] == tests[1] != tests[2]


def test_folds_and_subsets_go_together() -> None:
    train, _, test = divide(num_folds=5, fold=2, subset=20)
    assert len(train) == 20 and len(test) == 24 and not set(numbers(train)) & set(numbers(test))


def test_noise_changes_training_labels_only() -> None:
    clean, noisy = divide(), divide(label_noise=0.25)
    assert int((clean[0].labels != noisy[0].labels).sum()) == 18
    assert all(torch.equal(one.labels, other.labels) for one, other in zip(clean[1:], noisy[1:], strict=True))
    assert numbers(clean[0]) == numbers(noisy[0]) and clean[0].digest() != noisy[0].digest()
    assert torch.equal(noisy[0].labels, divide(label_noise=0.25)[0].labels)
    whole = make_source(40, val=12, test=20)
    labels = whole.train.labels.clone()
    divide(whole, val_size=None, test_size=None, label_noise=0.5)
    assert torch.equal(whole.train.labels, labels)


def test_several_labels_are_divided_at_random_but_completely() -> None:
    source = fake(4, 4, 1, 100, 20, multilabel=True)
    for changes in ({"test_size": None}, {"num_folds": 5, "fold": 4, "test_size": None}):
        train, val, test = divide(source, **changes)
        assert train.labels.ndim == 2 and len(val) == (20 if "fold" not in changes else 16)
        assert len(train) + len(val) + len(test) == (120 if "fold" not in changes else 100)
        assert all((split.labels.sum(0) > 0).all() for split in (train, val, test))
    assert problem_of(source, test_size=None, label_noise=0.1).key == "data.label_noise"
    rare = torch.zeros(100, 2)
    rare[:, 0], rare[0, 1] = 1, 1
    problem = problem_of(Source(make(rare), None, None, ("common", "rare"), mirror=True))
    assert problem.key == "data.test_size" and "in the test split: rare" in problem.message


@pytest.mark.parametrize(
    ("changes", "key", "text"),
    [
        ({"val_size": 0}, "data.val_size", "takes 0 of 90 images, but 4 classes need at least 4 on both sides"),
        ({"val_size": 1.0}, "data.val_size", "not a share; use a count from 4 to 86, or a share between 0 and 1"),
        ({"val_size": None}, "data.val_size", "has no split of its own"),
        ({"test_size": 119}, "data.test_size", "use a count from 4 to 116"),
        ({"test_size": None}, "data.test_size", "has no split of its own"),
        ({"subset": 73}, "data.subset", "use a count from 4 to 68"),
        ({"subset": 0.0}, "data.subset", "not a share"),
        ({"fold": 0}, "data.fold", "needs data.num_folds, the number of folds, as in data.num_folds=5"),
        ({"num_folds": 5}, "data.num_folds", "needs data.fold, the fold to test; data.fold=range(0,5) with -m"),
        ({"num_folds": 5, "fold": 5}, "data.fold", "has the folds 0 to 4; data.fold=range(0,5) with -m"),
        ({"num_folds": 5, "fold": -1}, "data.fold", "has the folds 0 to 4"),
        ({"num_folds": 1, "fold": 0}, "data.num_folds", "a whole number of at least 2"),
        ({"num_folds": 31, "fold": 0}, "data.num_folds", "smallest class: class0 has 30, so use at most that"),
        ({"label_noise": 1.0}, "data.label_noise", "a share of at least 0 and below 1"),
    ],
)
def test_values_that_cannot_be_used_are_named(changes: dict[str, object], key: str, text: str) -> None:
    problem = problem_of(**changes)
    assert problem.key == key and text in problem.message
    value = changes[key.removeprefix("data.")]
    assert problem.value == ("null" if value is None else str(value))


def test_a_class_missing_from_a_split_is_named() -> None:
    rare = make(torch.tensor([0] * 100 + [1] * 100 + [2] * 2))
    source = Source(rare, None, None, ("a", "b", "rare"), True)
    problem = problem_of(source, test_size=0.1)
    assert problem.key == "data.test_size"
    assert problem.message == "leaves no image of these classes in the test split: rare; use another value"
    problem = problem_of(Source(rare, rare, rare, ("a", "b", "rare"), True), subset=20)
    assert (problem.key, problem.value) == ("data.subset", "20") and "in the training split: rare" in problem.message


@pytest.mark.parametrize(("place", "name"), [(0, "training"), (1, "validation"), (2, "test")])
def test_a_class_missing_from_an_official_split_is_named(place: int, name: str) -> None:
    parts = [make(torch.arange(30) % 3) for _ in range(3)]
    parts[place] = make(torch.arange(30) % 2)
    problem = problem_of(Source(*parts, ("a", "b", "c"), mirror=True))
    assert str(problem) == f"data: its {name} images have none of these classes: c"
