"""Every choice trains: each file of conf/ for two batches, and the choices of one group with those of another."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from helpers import write_images
from hydra.core.config_loader import ConfigLoader
from published import WRITERS, tiny
from torch import Tensor

from resweep.build import build_data, build_lit_module, build_net, build_trainer
from resweep.config import AXES, flatten, nested, shipped
from resweep.sweep.plan import make_plan

Frozen = Callable[..., dict[str, Any]]
CONF = shipped("conf")
# 8 training images of 2 classes in two batches, 4 for validation.
DATA = [
    "data=fake", "data.num_classes=2", "data.train_count=12", "data.test_count=4", "data.val_size=4",
    "data.batch_size=4", "trainer=cpu", "trainer.max_epochs=1", "logger=none", "threads=1",
]  # fmt: skip
SMALLEST = 8
# What a net needs of the data: the side of its images, or more.
SIDES = {"vgg": 32, "alexnet": 64, "alexnet_small": 32, "allcnnc": 32, "3c3d": 32, "2c2d": 28, "torchvision": 32,
         "timm": 32}  # fmt: skip
# A net of each family, the cheapest one.
FAMILIES = {
    "resnet8": ["model.width=4"],
    "plain20": ["model.width=4"],
    "preresnet20": ["model.width=4"],
    "wrn16_1": [],
    "vgg11_bn": [],
    "alexnet_small": [],
    "2c2d": [],
    "3c3d": [],
    "allcnnc": [],
    "torchvision": ["model.name=mobilenet_v3_small"],
    "timm": ["model.name=test_resnet"],
}
# Nets of more than a second for two batches of four images.
LARGE = {"resnet1202", "preresnet1001", "resnet152", "wrn28_10", "alexnet", "preresnet164", "resnet164", "resnet101"}
# What a schedule needs in a training of two steps.
SHORT = {"warmup_cosine": ["scheduler.warmup=0"], "onecycle": ["scheduler.pct_start=0.6"]}
REGULARIZERS = {
    "l1": ["regularizer=l1"],
    "max_norm": ["regularizer=max_norm"],
    "sam": ["regularizer=sam"],
    "asam": ["regularizer=asam"],
    "l2": ["optimizer.weight_decay=0.01", "optimizer.no_decay=[bias,norm]"],
    "layer_decay": ["optimizer.layer_decay=0.5"],
    "clipping": ["trainer.gradient_clip_val=0.1"],
    "accumulation": ["trainer.accumulate_grad_batches=2"],
    "ema": ["averaging=ema"],
    "lookahead": ["averaging=lookahead", "averaging.lookahead_steps=2"],
    "label_smoothing": ["loss.label_smoothing=0.1"],
    "bce": ["loss=bce"],
    "focal": ["loss=focal"],
    "class_weights": ["data.balance=weights"],
    "dropout": [],
}


def names(group: str) -> list[str]:
    return sorted(path.stem for path in (CONF / group).glob("*.yaml"))


def side(model: str) -> int:
    family = "vgg" if model.startswith("vgg") else model
    return SIDES.get(family, SMALLEST)


@pytest.fixture(scope="module")
def frozen(loader: ConfigLoader) -> Callable[..., dict[str, Any]]:
    """Freezes combinations of choices; each list of overrides is composed once, on top of the shared ones."""

    @cache
    def flat(words: tuple[str, ...]) -> dict[str, Any]:
        return flatten(make_plan(loader, [*DATA, *words]).runs[0].config)

    def combined(*choices: list[str]) -> dict[str, Any]:
        config, base = dict(flat(())), flat(())
        for words in choices:
            other = flat(tuple(words))
            group = next((word.split("=")[0] for word in words if word.split("=")[0] in AXES), None)
            config = {key: value for key, value in config.items() if not key.startswith(f"{group}.")}
            config |= {key: v for key, v in other.items() if key.startswith(f"{group}.") or base.get(key, other) != v}
        return nested(config)

    return combined


def train(config: dict[str, Any]) -> tuple[dict[str, Tensor], pl.Trainer, pl.LightningModule]:
    """Train two batches and validate; return the trained parameters as they were before."""
    data = build_data(config)
    torch.manual_seed(0)
    module = build_lit_module(config, build_net(config, data), data)
    before = {name: value.detach().clone() for name, value in module.net.named_parameters() if value.requires_grad}
    trainer = build_trainer(config, None, [], [])
    trainer.fit(module, datamodule=data)
    return before, trainer, module


def assert_trained(before: dict[str, Tensor], trainer: pl.Trainer, module: pl.LightningModule, steps: int = 2) -> None:
    after = dict(module.net.named_parameters())
    assert trainer.global_step == steps
    assert all(torch.isfinite(after[name]).all() for name in before)
    assert any(not torch.equal(after[name], value) for name, value in before.items())
    assert 0 <= module.val_scores["val/accuracy"] <= 1


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] if name in LARGE else []) for name in names("model")]
)
def test_every_model_trains(frozen: Frozen, name: str) -> None:
    model = [f"model={name}", f"data.image_size={side(name)}"]
    assert_trained(*train(frozen(model, ["optimizer=adam"], ["scheduler=none"])))


@pytest.mark.parametrize(("optimizer", "scheduler"), list(itertools.product(names("optimizer"), names("scheduler"))))
def test_every_optimizer_trains_with_every_schedule(frozen: Frozen, optimizer: str, scheduler: str) -> None:
    steps = ["optimizer.line_search_fn=null"] if optimizer == "lbfgs" else []  # a search needs all images in one batch
    choices = [[f"optimizer={optimizer}", *steps], [f"scheduler={scheduler}", *SHORT.get(scheduler, [])]]
    assert_trained(*train(frozen(["model.width=2", f"data.image_size={SMALLEST}"], *choices)))


@pytest.mark.slow
@pytest.mark.parametrize(("regularizer", "model"), list(itertools.product(REGULARIZERS, FAMILIES)))
def test_every_regularizer_trains_with_every_family(frozen: Frozen, regularizer: str, model: str) -> None:
    family = [f"model={model}", *FAMILIES[model], f"data.image_size={side(model)}"]
    if regularizer == "dropout":
        family, chosen = [*family, "model.dropout=0.3"], []
    else:
        chosen = [REGULARIZERS[regularizer]]
    config = frozen(family, ["scheduler=none"], ["optimizer.lr=1e-3"], *chosen)
    assert_trained(*train(config), steps=1 if regularizer == "accumulation" else 2)


@pytest.mark.slow
@pytest.mark.parametrize(("augment", "model"), list(itertools.product(names("augment"), FAMILIES)))
def test_every_augmentation_trains_with_every_family(frozen: Frozen, augment: str, model: str) -> None:
    family = [f"model={model}", *FAMILIES[model], f"data.image_size={side(model)}"]
    strength = [f"augment={augment}", "data.crop_padding=1", "data.flip=0.5"]
    assert_trained(*train(frozen(family, ["scheduler=none"], ["optimizer.lr=1e-3"], strength)))


def own_data(name: str, root: Path) -> list[str]:
    """Write files for the data sets that are of the user's own, and say where they are."""
    if name == "imagenet":
        for part in ("train", "val"):
            write_images(root / part, count=4)
        small = ["data.image_size=16", "data.crop_padding=2"]
        return [f"data.root={root}", "data.val_size=2", "data.num_workers=0", *small]
    write_images(root, count=6)
    if name == "image_folder":
        return [f"data.root={root}", "data.val_size=2", "data.test_size=2"]
    (root / "list.csv").write_text(
        "path,label\n" + "".join(f"{c}/{n}.png,{c}\n" for c in ("cat", "dog") for n in range(6))
    )
    return [f"data.file={root}/list.csv", "data.val_size=2", "data.test_size=2"]


@pytest.mark.parametrize("name", names("data"))
def test_every_data_set_trains(
    loader: ConfigLoader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    words: list[str] = []
    if name in WRITERS:
        WRITERS[name](tmp_path, monkeypatch)
        words = [*tiny(name, tmp_path)]
    elif name not in ("digits", "fake"):
        words = own_data(name, tmp_path)
    few = "data.subset=20" if name == "digits" else "data.batch_size=4"
    fixed = [word for word in DATA if not word.startswith("data")]
    planned = make_plan(loader, [f"data={name}", *words, few, *fixed, "model.width=4", "scheduler=none"])
    config = planned.runs[0].config
    before, trainer, module = train(config)
    assert_trained(before, trainer, module, steps=build_data(config).train_batches)
