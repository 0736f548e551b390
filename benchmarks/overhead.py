"""What the framework costs: one run through resweep against a hand-written loop of the same training.

An 8-wide ResNet-8 on digits, one thread, 10 epochs. The framework's side has everything on: TensorBoard, metrics.csv,
best and last checkpoint, plain progress, the record. Both sides train the same net on the same batches with the same
augmentation and schedule and end with the same weights, which is checked. They run in turn; printed are the medians
and the median of the ratios of pairs.

    python benchmarks/overhead.py [--pairs 9] [--lightning]
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import pytorch_lightning as pl
import torch
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from resweep.build import build_data, build_net
from resweep.callbacks import Silent
from resweep.config import config_loader
from resweep.record import BEST, CHECKPOINTS
from resweep.seeding import derive_seed
from resweep.sweep.ledger import write_run
from resweep.sweep.plan import make_plan
from resweep.train import execute

OVERRIDES = ["model=resnet8", "model.width=8", "optimizer=momentum", "trainer.max_epochs=10", "data.batch_size=64"]


def planned(folder: Path, overrides: list[str]):
    with config_loader() as loader:
        return make_plan(loader, [*overrides, f"runs_dir={folder}"]).runs[0]


class Printing(Silent):
    """Formats a line per epoch, as plain progress does."""

    def on_epoch(self, row, best):
        self.line = " ".join(f"{key}={value:.4g}" for key, value in row.items())


def framework(folder: Path, number: int) -> tuple[float, dict]:
    run = planned(folder, OVERRIDES)
    run_dir = folder / f"run-{number}"
    write_run(run, run_dir)
    record = execute(run_dir, Printing(), build_data(run.config))
    assert record.status == "completed", record.error
    return record.fit_seconds, torch.load(run_dir / CHECKPOINTS / BEST.replace("best", "last"))["state_dict"]


def bare_loop(folder: Path) -> tuple[float, dict]:
    config = planned(folder, OVERRIDES).config
    torch.set_num_threads(config["threads"])
    data = build_data(config)
    pl.seed_everything(derive_seed(config["seed"], "init") % 2**32, verbose=False)
    net = build_net(config, data)
    optimizer = torch.optim.SGD(net.parameters(), lr=config["optimizer"]["lr"], momentum=0.9)
    train = data.train.images, data.train.labels
    val = data.normalize(data.val.images), data.val.labels
    size, epochs, seed = 64, config["trainer"]["max_epochs"], config["seed"]
    steps = -(-len(train[0]) // size)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, config["optimizer"]["lr"], total_steps=steps * epochs, cycle_momentum=False
    )
    started = time.perf_counter()
    for epoch in range(epochs):
        net.train()
        order = torch.randperm(
            len(train[0]), generator=torch.Generator().manual_seed(derive_seed(seed, "order", epoch))
        )
        for step, chosen in enumerate(order.split(size)):
            images = data.augmented(train[0][chosen], epoch, step, chosen)
            loss = F.cross_entropy(net(images), train[1][chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        net.eval()
        with torch.no_grad():
            logits = net(val[0])
            F.cross_entropy(logits, val[1]).item(), (logits.argmax(1) == val[1]).float().mean().item()
    return time.perf_counter() - started, {f"net.{key}": value for key, value in net.state_dict().items()}


class PlainModule(pl.LightningModule):
    """What a tutorial writes: a logged loss per step, torchmetrics objects updated per batch."""

    def __init__(self, net, lr, steps):
        super().__init__()
        from torchmetrics.classification import MulticlassAccuracy

        self.net, self.lr, self.steps = net, lr, steps
        self.train_accuracy, self.val_accuracy = MulticlassAccuracy(10), MulticlassAccuracy(10)

    def training_step(self, batch, _):
        logits = self.net(batch[0])
        loss = F.cross_entropy(logits, batch[1])
        self.train_accuracy(logits, batch[1])
        self.log("train/loss", loss, on_step=True, on_epoch=True)
        self.log("train/acc", self.train_accuracy, on_step=False, on_epoch=True)
        return loss

    def validation_step(self, batch, _):
        logits = self.net(batch[0])
        self.val_accuracy(logits, batch[1])
        self.log("val/loss", F.cross_entropy(logits, batch[1]))
        self.log("val/acc", self.val_accuracy)

    def configure_optimizers(self):
        optimizer = torch.optim.SGD(self.parameters(), lr=self.lr, momentum=0.9)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, self.lr, total_steps=self.steps, cycle_momentum=False)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def plain_lightning(folder: Path, number: int) -> float:
    config = planned(folder, OVERRIDES).config
    torch.set_num_threads(config["threads"])
    data = build_data(config)
    loaders = [
        DataLoader(TensorDataset(data.normalize(part.images), part.labels), batch_size=64, shuffle=part is data.train)
        for part in (data.train, data.val)
    ]
    where = folder / f"lightning-{number}"
    trainer = pl.Trainer(
        max_epochs=10, accelerator="cpu", default_root_dir=where, enable_model_summary=False, log_every_n_steps=5,
        logger=[pl.loggers.TensorBoardLogger(where), pl.loggers.CSVLogger(where)],
        callbacks=[pl.callbacks.ModelCheckpoint(monitor="val/acc", mode="max", save_last=True)],
    )  # fmt: skip
    module = PlainModule(build_net(config, data), 0.1, len(loaders[0]) * 10)
    started = time.perf_counter()
    trainer.fit(module, *loaders)
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=9, help="counted pairs after one that is not counted")
    parser.add_argument("--lightning", action="store_true", help="time plain Lightning as well")
    options = parser.parse_args()
    times: dict[str, list[float]] = {"resweep": [], "bare loop": [], "plain Lightning": []}
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        for number in range(options.pairs + 1):
            ours, weights = framework(folder, number)
            bare, expected = bare_loop(folder)
            torch.testing.assert_close({key: weights[key] for key in expected}, expected, rtol=1e-4, atol=1e-5)
            lightning = plain_lightning(folder, number) if options.lightning else float("nan")
            if number > 0:
                for name, seconds in zip(times, (ours, bare, lightning), strict=True):
                    times[name].append(seconds)
    for name in ("resweep", "plain Lightning") if options.lightning else ("resweep",):
        ratios = sorted(a / b for a, b in zip(times[name], times["bare loop"], strict=True))
        print(
            f"{name}: {statistics.median(times[name]):.2f} s, bare loop {statistics.median(times['bare loop']):.2f} s, "
            f"ratio median {statistics.median(ratios):.3f} (smallest {ratios[0]:.3f}, largest {ratios[-1]:.3f}, "
            f"{len(ratios)} pairs)"
        )


if __name__ == "__main__":
    main()
