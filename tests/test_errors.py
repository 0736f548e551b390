from __future__ import annotations

import pickle

import pytest

from resweep.errors import Problem, RequestError, nearest_key, nearest_name

KEYS = ["seed", "data.batch_size", "data.root", "optimizer.lr", "optimizer.weight_decay", "optimizer._target_"]


def test_a_problem_says_key_value_and_the_nearest_name() -> None:
    assert str(Problem("seed", "x", "must be whole")) == "seed=x: must be whole"
    assert str(Problem("seed", None, "is missing")) == "seed: is missing"
    assert "did you mean  seed ?" in str(Problem("sed", "1", "is not a key", "seed"))


def test_a_request_error_keeps_every_problem_in_order() -> None:
    problems = [Problem("a", "1", "is wrong"), Problem("b", None, "is missing")]
    error = RequestError(iter(problems))
    assert error.problems == problems
    assert str(error).splitlines() == [str(problem) for problem in problems]
    assert RequestError(problems[0]).problems == problems[:1]


def test_a_request_error_travels_between_processes() -> None:
    error = RequestError([Problem("a", "1", "is wrong", "b"), Problem("c", None, "is missing")])
    arrived = pickle.loads(pickle.dumps(error))
    assert type(arrived) is RequestError and arrived.problems == error.problems and str(arrived) == str(error)


@pytest.mark.parametrize(
    ("name", "nearest"),
    [("sead", "seed"), ("SEED", "seed"), ("lr", "optimizer.lr"), ("xyzxyz", None), ("", None)],
)
def test_nearest_name(name: str, nearest: str | None) -> None:
    assert nearest_name(name, KEYS) == nearest
    assert nearest_name(name, []) is None


@pytest.mark.parametrize(
    ("key", "nearest"),
    [
        ("data.bach_size", "data.batch_size"),
        ("data.foo", None),  # only the last part counts: data.root is not near
        ("optimizer.wieght_decay", "optimizer.weight_decay"),
        ("optimizer._target", None),  # what people do not write is not offered
        ("optmizer", "optimizer"),
        ("batch_size", "data.batch_size"),
        ("optimiser.lr", "optimizer.lr"),
    ],
)
def test_nearest_key(key: str, nearest: str | None) -> None:
    assert nearest_key(key, KEYS) == nearest
