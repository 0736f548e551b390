"""Areas under curves against scikit-learn, thresholds against trying out every cut."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn import metrics as sk

from resweep.ranking import Ranking, best_thresholds, rankings

CASES = {
    "distinct": lambda random: random.random(300, dtype=np.float32),
    "many ties": lambda random: random.integers(0, 6, 300).astype(np.float32) / 5,
    "all equal": lambda random: np.full(300, 0.25, np.float32),
    "neighbours": lambda random: np.nextafter(np.float32(0.5), np.float32(random.integers(0, 2, 300)), dtype="f4"),
}


def planted(name: str, share: float = 0.3, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    scores = CASES[name](random)
    return scores, (random.random(len(scores)) < share * (0.5 + scores)) | (np.arange(len(scores)) == 7)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", CASES)
def test_areas_agree_with_scikit_learn(name: str, seed: int) -> None:
    scores, positives = planted(name, seed=seed)
    ranking = Ranking.of(scores, positives)
    assert ranking.auroc() == pytest.approx(sk.roc_auc_score(positives, scores), abs=1e-12)
    assert ranking.average_precision() == pytest.approx(sk.average_precision_score(positives, scores), abs=1e-12)


def test_areas_do_not_depend_on_the_order_of_the_images() -> None:
    scores, positives = planted("many ties")
    order = np.random.default_rng(1).permutation(len(scores))
    one, other = Ranking.of(scores, positives), Ranking.of(scores[order], positives[order])
    assert (one.auroc(), one.average_precision()) == (other.auroc(), other.average_precision())


@pytest.mark.parametrize(("positive", "precision", "threshold"), [(False, None, 0.5), (True, 1.0, 0.125)])
def test_a_label_of_one_kind_only(positive: bool, precision: float | None, threshold: float) -> None:
    ranking = Ranking.of(np.array([0.25, 0.5], np.float32), np.full(2, positive))
    assert np.isnan(ranking.auroc())
    assert ranking.average_precision() == precision or (precision is None and np.isnan(ranking.average_precision()))
    assert ranking.best_threshold() == threshold  # halfway between 0 and the lowest where everything is let in


def f1_at(threshold: float, scores: np.ndarray, positives: np.ndarray) -> float:
    given = scores >= np.float32(threshold)
    return 2 * (given & positives).sum() / (given.sum() + positives.sum())


@pytest.mark.parametrize("share", [0.02, 0.3, 0.9])
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", CASES)
def test_no_threshold_is_better(name: str, seed: int, share: float) -> None:
    scores, positives = planted(name, share, seed)
    chosen = Ranking.of(scores, positives).best_threshold()
    best = max(f1_at(score, scores, positives) for score in np.unique(scores))
    assert f1_at(chosen, scores, positives) == pytest.approx(best, abs=1e-12)
    assert best == pytest.approx(sk.f1_score(positives, scores >= np.float32(chosen)), abs=1e-12)
    higher = np.unique(scores[scores > chosen])[1:]  # a larger threshold between two scores gives fewer images
    assert all(f1_at(score, scores, positives) < best for score in higher)


def test_a_threshold_lies_halfway_between_in_and_out() -> None:
    scores = np.array([0.9, 0.8, 0.2, 0.1], np.float32)
    assert Ranking.of(scores, np.array([1, 1, 0, 0], bool)).best_threshold() == pytest.approx(0.5, abs=1e-7)


def test_of_equally_good_thresholds_the_largest_is_taken() -> None:
    scores = np.array([0.9, 0.6, 0.4, 0.2], np.float32)  # F1 of one, two, ... images: 2/3, 1/2, 2/5, 2/3
    assert [f1_at(score, scores, np.array([1, 0, 0, 1], bool)) for score in (0.9, 0.2)] == pytest.approx([2 / 3] * 2)
    assert Ranking.of(scores, np.array([1, 0, 0, 1], bool)).best_threshold() == pytest.approx(0.75, abs=1e-7)


def test_every_label_has_a_ranking_and_a_threshold_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("resweep.ranking.BLOCK", 2)
    columns = [planted(name, seed=1) for name in CASES] + [(np.full(300, 0.3, np.float32), np.zeros(300, bool))]
    scores, positives = (torch.tensor(np.stack(parts, 1)) for parts in zip(*columns, strict=True))
    alone = [Ranking.of(*column) for column in columns]
    assert [ranking.average_precision() for ranking in rankings(scores, positives)][:-1] == [
        ranking.average_precision() for ranking in alone[:-1]
    ]
    expected = torch.tensor([ranking.best_threshold() for ranking in alone])
    assert torch.equal(best_thresholds(scores, positives.float()), expected) and expected[-1] == 0.5
