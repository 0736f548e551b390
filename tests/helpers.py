"""What several test files need: small runs, nets that misbehave on request, real processes."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from resweep.config import config_loader
from resweep.models.resnet import CifarResNet
from resweep.record import CHECKPOINTS, LAST, METRICS_FILE
from resweep.rows import read_rows
from resweep.sweep.ledger import write_run
from resweep.sweep.plan import Plan, make_plan

TESTS = Path(__file__).parent
STEPS = 4  # optimizer steps of one epoch of a small run
# 80 training, 20 validation and 40 test images of 10 classes, 3x8x8: an epoch takes less than 0.1 s.
SMALL = [
    "data=fake", "data.image_size=8", "data.train_count=100", "data.test_count=40", "data.batch_size=20",
    "model.width=4", "trainer.max_epochs=2",
]  # fmt: skip
TIMES = ("seconds", "images_per_second")


class Faulty(CifarResNet):
    """A ResNet that trains like one until a given call, then does what ``fault`` says.

    Args:
        fault: ``none``, ``raise``, ``exhaust`` (an error with a cause), ``diverge``, ``exit``, ``leave`` (sys.exit),
            ``segfault``, ``kill``, ``hang``, ``orphan`` (ends the processes that load its data),
            ``devour`` (memory), ``fill`` (the disk).
        after: training batches that still go well.
        slow_while: while this file exists, every training batch takes 0.05 s longer.
        hung: a file that is made when a net begins to hang, or fills the disk; a group whose memory is devoured.
        visible: a folder in which every net leaves a file with the accelerators it may see.
        unless: a file; where it exists nothing goes wrong any more, and otherwise it is made before something does.
    """

    def __init__(
        self,
        fault: str = "none",
        after: int = STEPS,
        slow_while: str | None = None,
        hung: str | None = None,
        unless: str | None = None,
        visible: str | None = None,
        **settings: Any,
    ) -> None:
        super().__init__(**settings)
        self.hung = hung
        self.unless = unless
        if visible is not None:
            (Path(visible) / str(os.getpid())).write_text(os.environ.get("CUDA_VISIBLE_DEVICES", "none"))
        self.fault = fault
        self.after = after
        self.slow_while = slow_while
        self.calls = 0

    def forward(self, images: Tensor) -> Tensor:
        if self.training:
            self.calls += 1
            if self.slow_while is not None and os.path.exists(self.slow_while):
                time.sleep(0.05)
            if self.fault not in ("none", "diverge") and self.calls > self.after and self._is_due():
                fail(self.fault, self.hung)
            if self.fault == "diverge" and self.calls > self.after:
                return super().forward(images) * float("nan")
        return super().forward(images)

    def _is_due(self) -> bool:
        if self.unless is None:
            return True
        there = os.path.exists(self.unless)
        Path(self.unless).touch()
        return not there


@dataclass
class Memory:
    """State of a schedule that is no plain value."""

    rates: list[float] = field(default_factory=list)


class OwnSchedule(torch.optim.lr_scheduler.LambdaLR):
    """Halves the learning rate at every step, and takes notes."""

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        self.memory = Memory()
        super().__init__(optimizer, lambda step: 0.5**step)

    def step(self, epoch: int | None = None) -> None:
        super().step(epoch)
        self.memory.rates.append(self.optimizer.param_groups[0]["lr"])


class Colour(CifarResNet):
    """A ResNet for colour images, whatever the data has."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**{**settings, "in_channels": 3})


class Coarse(CifarResNet):
    """A ResNet that sees one pixel in 20 by 20."""

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(torch.nn.functional.max_pool2d(images, 20))


def fail(fault: str, hung: str | None) -> None:
    """Do what the fault says."""
    if fault == "hang":
        if hung is not None:
            Path(hung).touch()
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        time.sleep(600)
    if fault == "orphan":
        for child in multiprocessing.active_children():
            os.kill(child.pid, signal.SIGKILL)
        return
    if fault == "devour":  # more memory than the group has into which it moves
        (Path(hung) / "cgroup.procs").write_text(str(os.getpid()))
        list(bytearray(1 << 24) for _ in range(64))
    if fault == "fill":  # the file system, to the last byte
        with suppress(OSError), open(hung, "ab", buffering=0) as stream:
            while stream.write(bytes(1 << 12)):
                pass
        return
    if fault == "leave":
        sys.exit(3)
    if fault == "exit":
        os._exit(3)
    if fault == "segfault":
        ctypes.string_at(0)
    if fault == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if fault == "exhaust":
        try:
            raise MemoryError("no room left")
        except MemoryError as error:
            raise RuntimeError("outer words") from error
    raise ArithmeticError("planted failure\nwith a second line")


def faulty(**settings: object) -> list[str]:
    """Overrides that put :class:`Faulty` in the place of the net."""
    return [
        "model._target_=helpers.Faulty",
        "+allowed_targets.own=helpers.Faulty",
        f"import_path={TESTS}",
        *(f"+model.{key}={value}" for key, value in settings.items()),
    ]


def plan(*overrides: str) -> Plan:
    """Plan small runs."""
    with config_loader() as loader:
        return make_plan(loader, [*SMALL, *overrides])


def new_run(run_dir: Path, *overrides: str) -> Path:
    """Freeze one small run into a new folder and return the folder."""
    write_run(plan(f"runs_dir={run_dir.parent}", *overrides).runs[0], run_dir)
    return run_dir


def frozen(*overrides: str) -> dict[str, Any]:
    """Return the frozen config of one small run."""
    return plan(*overrides).runs[0].config


def weights(run_dir: Path, name: str = LAST) -> dict[str, Tensor]:
    """Return the state of the net in a run's checkpoint."""
    return torch.load(run_dir / CHECKPOINTS / name, map_location="cpu", weights_only=True)["state_dict"]


def assert_same_bits(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    """Fail unless both states have the same names and, bit for bit, the same values."""
    assert list(one) == list(other)
    assert all(one[name].dtype == other[name].dtype and torch.equal(one[name], other[name]) for name in one)


def timeless_rows(run_dir: Path) -> list[dict[str, float]]:
    """Return the rows of ``metrics.csv`` without what depends on the speed of the machine."""
    rows = read_rows(run_dir / METRICS_FILE)
    return [{key: value for key, value in row.items() if key not in TIMES} for row in rows]


def snapshot(folder: Path) -> dict[str, tuple[int, int]]:
    """Return size and time of the last change (ns) of every file below a folder."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): (path.stat().st_size, path.stat().st_mtime_ns) for path in files}


@contextmanager
def started(*commands: tuple[list[str], Path]) -> Iterator[list[subprocess.Popen[str]]]:
    """Start command lines, each in a working folder, as processes of their own; none outlives the block."""
    with ExitStack() as stack:
        processes = []
        for words, cwd in commands:
            cwd.mkdir(parents=True, exist_ok=True)
            process = stack.enter_context(
                subprocess.Popen(
                    [sys.executable, "-m", "resweep.cli", *words], cwd=cwd, text=True, stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                )
            )  # fmt: skip
            stack.callback(process.kill)
            processes.append(process)
        yield processes


def wait_until(condition: Callable[[], bool], seconds: float = 90.0) -> None:
    """Wait for a condition; fail after the given time."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


def finished_epochs(run_dir: Path) -> int:
    """Return how many rows a run's ``metrics.csv`` has; 0 where there is none."""
    return len(read_rows(run_dir / METRICS_FILE))


def skip_or_fail(reason: str) -> NoReturn:
    """Skip a test that needs what this machine does not have; fail where ``RESWEEP_REQUIRE_CLUSTERS=1`` demands it."""
    if os.environ.get("RESWEEP_REQUIRE_CLUSTERS") == "1":
        pytest.fail(reason)
    pytest.skip(reason)


def write_images(root: Path, classes: tuple[str, ...] = ("cat", "dog"), count: int = 12, side: int = 8) -> Path:
    """Write a folder per class with random colour images, always the same ones."""
    random = np.random.default_rng(0)
    for name in classes:
        (root / name).mkdir(parents=True)
        for number in range(count):
            pixels = random.integers(0, 256, (side, side, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / name / f"{number}.png")
    return root
