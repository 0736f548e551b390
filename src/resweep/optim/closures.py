"""Settings of training that do not go together: steps that evaluate their batch several times, averages, precision."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch

from resweep.errors import Problem, RequestError

HALF_PRECISION_WEIGHTS = ("bf16-true", "16-true", "transformer-engine", "transformer-engine-float16")


def check_closures(config: Mapping[str, Any], optimizer: Callable[..., Any]) -> None:
    """Refuse what cannot go with the steps of an optimizer, or with the average of the weights after them.

    L-BFGS and sharpness-aware minimization evaluate a batch several times in a step, which some settings do not allow.
    An exponential moving average moves by a small share of a difference at each step; weights of half precision round
    that away, so that the average stops (bfloat16 has 8 significant bits).

    Args:
        config: frozen config.
        optimizer: class or function of the optimizer.

    Raises:
        RequestError: naming every key to change.
    """
    problems = [*_closure_problems(config, optimizer), *_average_problems(config)]
    if problems:
        raise RequestError(problems)


def _closure_problems(config: Mapping[str, Any], optimizer: Callable[..., Any]) -> Iterator[Problem]:
    searches = isinstance(optimizer, type) and issubclass(optimizer, torch.optim.LBFGS)
    sharpness = config["regularizer"].get("sam_rho", 0.0)
    what = "L-BFGS" if searches else "sharpness-aware minimization" if sharpness else None
    if what is None:
        return
    trainer, regularizer = config["trainer"], config["regularizer"]
    batches, rates = trainer["accumulate_grad_batches"], config["optimizer"].get("layer_decay", 1.0)
    reasons = {"trainer.accumulate_grad_batches": (batches, 1, "only the last batch is at hand to be evaluated again")}
    if searches:
        reasons |= {
            "trainer.gradient_clip_val": (trainer["gradient_clip_val"], None, "its line search needs true gradients"),
            "trainer.precision": (trainer["precision"] if str(trainer["precision"]).startswith("16") else None, None,
                                  "scaled gradients cannot be searched along; bf16-mixed or 32-true can"),
            "regularizer.l1": (regularizer["l1"], 0.0, "it needs a differentiable loss; use optimizer.weight_decay"),
            "optimizer.layer_decay": (rates, 1.0, "it makes one step of all layers"),
            "regularizer.sam_rho": (sharpness, 0.0, "its line search has to see one function"),
        }  # fmt: skip
    for key, (value, off, why) in reasons.items():
        if value != off:
            message = f"cannot be used with {what}: {why}; set {key}={'null' if off is None else off}"
            yield Problem(key, str(value), message)


def _average_problems(config: Mapping[str, Any]) -> Iterator[Problem]:
    precision, decay = str(config["trainer"]["precision"]), config.get("averaging", {}).get("ema_decay")
    if decay is not None and precision in HALF_PRECISION_WEIGHTS:
        why = f"cannot be used with trainer.precision={precision}: rounded to half precision, the average stops moving"
        message = f"{why}; set trainer.precision=bf16-mixed or 32-true"
        yield Problem("averaging.ema_decay", str(decay), message)


def check_full_batch(config: Mapping[str, Any], optimizer: Callable[..., Any], train_count: int) -> None:
    """Refuse a line search over a part of the training images: it follows the noise of each batch.

    Args:
        config: frozen config.
        optimizer: class or function of the optimizer.
        train_count: images of the training split.

    Raises:
        RequestError: key ``data.batch_size``.
    """
    batch_size = config["data"]["batch_size"]
    searches = isinstance(optimizer, type) and issubclass(optimizer, torch.optim.LBFGS)
    if searches and config["optimizer"].get("line_search_fn") is not None and batch_size < train_count:
        message = (
            f"the line search of L-BFGS needs all {train_count} training images in one batch, smaller ones are fitted "
            f"one by one; set data.batch_size={train_count}, or optimizer.line_search_fn=null for steps of length lr"
        )
        raise RequestError(Problem("data.batch_size", str(batch_size), message))
