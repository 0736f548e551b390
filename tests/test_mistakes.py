"""The most confident mistakes, of planted answers."""

from __future__ import annotations

import math

import pytest
import torch

from resweep.mistakes import MOST, Mistake, WorstMistakes
from resweep.scores import MulticlassTest, MultilabelTest
from resweep.tasks import Multilabel

CLASSES = ("cat", "dog", "bird")


def logits_of(probabilities: list[list[float]]) -> torch.Tensor:
    return torch.tensor(probabilities).log()


def test_the_most_confident_mistakes_stand_first() -> None:
    metrics = MulticlassTest(3)
    answers = [[0.6, 0.3, 0.1], [0.1, 0.2, 0.7], [0.2, 0.5, 0.3], [0.05, 0.05, 0.9], [0.5, 0.2, 0.3]]
    targets = torch.tensor([0, 0, 2, 1, 1])
    for start, stop in ((0, 2), (2, 3), (3, 5)):
        metrics.update(logits_of(answers)[start:stop], targets[start:stop])
    found = metrics.compute().mistakes
    assert [(one.position, one.true, one.predicted) for one in found] == [(3, 1, 2), (1, 0, 2), (2, 2, 1), (4, 1, 0)]
    assert [one.confidence for one in found] == pytest.approx([0.9, 0.7, 0.5, 0.5])
    assert [one.names(CLASSES) for one in found[:2]] == [("dog", "bird"), ("cat", "bird")]


def test_only_sixteen_are_kept_over_many_parts() -> None:
    worst, generator = WorstMistakes(), torch.Generator().manual_seed(0)
    confidence = torch.rand(300, generator=generator)
    predicted, targets = torch.ones(300, dtype=torch.int64), torch.randint(0, 2, (300,), generator=generator)
    for some in zip(confidence.split(37), predicted.split(37), targets.split(37), strict=True):
        worst.add_classes(*some)
    wrong = sorted((index for index in range(300) if targets[index] == 0), key=lambda index: -confidence[index])
    assert [mistake.position for mistake in worst.worst] == wrong[:MOST]
    assert worst.worst[0].confidence == confidence[wrong[0]].item()


def test_of_equal_ones_the_first_images_are_kept() -> None:
    worst = WorstMistakes()
    for _ in range(2):
        worst.add_classes(torch.full((20,), 0.5), torch.zeros(20, dtype=torch.int64), torch.ones(20, dtype=torch.int64))
    assert [mistake.position for mistake in worst.worst] == list(range(MOST))


def test_there_may_be_none() -> None:
    metrics = MulticlassTest(3)
    metrics.update(torch.eye(3) * 9, torch.arange(3))
    assert metrics.compute().mistakes == []


def test_a_forgotten_pass_leaves_nothing_and_counts_from_zero() -> None:
    worst = WorstMistakes()
    for _ in range(2):
        worst.reset()
        worst.add_classes(torch.tensor([0.5, 0.6]), torch.tensor([0, 1]), torch.tensor([0, 0]))
    assert worst.worst == [Mistake(1, 0, 1, pytest.approx(0.6))]


def test_what_has_no_confidence_is_no_confident_mistake() -> None:
    worst = WorstMistakes()
    worst.add_classes(torch.tensor([math.nan, 0.4]), torch.tensor([1, 1]), torch.tensor([0, 0]))
    assert [mistake.position for mistake in worst.worst] == [1]


def test_labels_that_were_given_and_missed() -> None:
    task = Multilabel(3, [0.5, 0.5, 0.2])
    probabilities = torch.tensor([[0.9, 0.1, 0.1], [0.05, 0.6, 0.1], [0.3, 0.2, 0.25], [0.8, 0.9, 0.9]])
    targets = torch.tensor([[0, 0, 0], [1, 0, 0], [0, 0, 0], [1, 1, 1]])
    metrics = MultilabelTest(task)
    metrics.update(probabilities.logit(), targets)
    found = metrics.compute().mistakes
    # Image 0: the cat was given with 0.9. Image 1: the cat was missed with 0.95, which beats the dog given with 0.6.
    # Image 2: the bird was given from 0.2 on, with 0.25. Image 3 is right.
    assert [(one.position, one.true, one.predicted) for one in found] == [(1, 0, None), (0, None, 0), (2, None, 2)]
    assert [one.confidence for one in found] == pytest.approx([0.95, 0.9, 0.25])
    assert [one.names(CLASSES) for one in found[:2]] == [("cat", "no cat"), ("no cat", "cat")]
