"""Which settings of optimizer, average and precision do not go together, and what each refusal says."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from helpers import frozen
from torch import nn

from resweep.errors import Problem, RequestError
from resweep.optim.averaging import moving_average
from resweep.optim.closures import check_closures
from resweep.sweep.check import check_one

EMA = {"averaging": {"ema_decay": 0.999}}


def config_of(precision: str, **changes: Any) -> dict[str, Any]:
    trainer = {"precision": precision, "accumulate_grad_batches": 1, "gradient_clip_val": None}
    return {"trainer": trainer, "optimizer": {}, "regularizer": {"l1": 0.0, "sam_rho": 0.0}, **changes}


def problems(config: dict[str, Any], optimizer: Any = torch.optim.SGD) -> list[Problem]:
    with pytest.raises(RequestError) as caught:
        check_closures(config, optimizer)
    return caught.value.problems


@pytest.mark.parametrize("precision", ["bf16-true", "16-true", "transformer-engine"])
def test_an_average_of_half_precision_weights_is_refused(precision: str) -> None:
    (problem,) = problems(config_of(precision, **EMA))
    assert (problem.key, problem.value) == ("averaging.ema_decay", "0.999")
    assert f"trainer.precision={precision}" in problem.message
    assert problem.message.endswith("set trainer.precision=bf16-mixed or 32-true")


@pytest.mark.parametrize("precision", ["32-true", "64-true", "bf16-mixed", "16-mixed", "32", "64"])
def test_other_weights_are_averaged(precision: str) -> None:
    check_closures(config_of(precision, **EMA), torch.optim.SGD)


def test_half_precision_goes_without_an_average() -> None:
    check_closures(config_of("bf16-true"), torch.optim.SGD)
    check_closures(config_of("bf16-true", averaging={"ema_decay": None, "lookahead_steps": 5}), torch.optim.SGD)


@pytest.mark.parametrize(("dtype", "end"), [(torch.float32, 1.4), (torch.bfloat16, 1.0)])
def test_an_average_of_half_precision_weights_would_stand_still(dtype: torch.dtype, end: float) -> None:
    net = nn.Linear(1, 1, bias=False).to(dtype)
    nn.init.ones_(net.weight)
    average = moving_average(net, 0.999)
    average.n_averaged += 10_000
    nn.init.constant_(net.weight, 1.4)
    for _ in range(5000):
        average.update_parameters(net)
    assert average.module.weight.item() == pytest.approx(end, abs=1e-2)


def test_everything_that_is_wrong_is_said_at_once() -> None:
    found = problems(config_of("16-true", **EMA), torch.optim.LBFGS)
    assert [problem.key for problem in found] == ["trainer.precision", "averaging.ema_decay"]


def test_a_plan_with_such_an_average_is_refused() -> None:
    with pytest.raises(RequestError, match=r"set trainer\.precision=bf16-mixed or 32-true"):
        check_one(frozen("averaging=ema", "trainer.precision=bf16-true"))
