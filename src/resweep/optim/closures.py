"""Steps that evaluate their batch several times, and what they do not go with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch

from resweep.errors import Problem, RequestError


def check_closures(config: Mapping[str, Any], optimizer: Callable[..., Any]) -> None:
    """Refuse what cannot go with a step that evaluates its batch several times: L-BFGS, sharpness-aware minimization.

    Args:
        config: frozen config.
        optimizer: class or function of the optimizer.

    Raises:
        RequestError: naming the key to change.
    """
    searches = isinstance(optimizer, type) and issubclass(optimizer, torch.optim.LBFGS)
    sharpness = config["regularizer"].get("sam_rho", 0.0)
    what = "L-BFGS" if searches else "sharpness-aware minimization" if sharpness else None
    if what is None:
        return
    trainer, regularizer = config["trainer"], config["regularizer"]
    batches = trainer["accumulate_grad_batches"]
    reasons = {"trainer.accumulate_grad_batches": (batches, 1, "only the last batch is at hand to be evaluated again")}
    if searches:
        reasons |= {
            "trainer.gradient_clip_val": (trainer["gradient_clip_val"], None, "its line search needs true gradients"),
            "trainer.precision": (trainer["precision"] if str(trainer["precision"]).startswith("16") else None, None,
                                  "scaled gradients cannot be searched along; bf16-mixed or 32-true can"),
            "regularizer.l1": (regularizer["l1"], 0.0, "it needs a differentiable loss; use optimizer.weight_decay"),
            "regularizer.sam_rho": (sharpness, 0.0, "its line search has to see one function"),
        }  # fmt: skip
    problems = [
        Problem(key, str(value), f"cannot be used with {what}: {why}; set {key}={'null' if off is None else off}")
        for key, (value, off, why) in reasons.items()
        if value != off
    ]
    if problems:
        raise RequestError(problems)
