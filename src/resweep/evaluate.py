"""Measuring a trained run again, from its checkpoint and its frozen config."""

from __future__ import annotations

import math
from pathlib import Path

import torch

from resweep.build import build_data, build_lit_module, build_net, build_trainer, prepare_imports
from resweep.config import read_frozen
from resweep.console import relative
from resweep.errors import Problem, RequestError
from resweep.models.pretrained import structure_only
from resweep.record import BEST, CHECKPOINTS, Record
from resweep.train import log_to, test

TOLERANCE = 1e-6


def evaluate(run_dir: Path) -> tuple[str, bool]:
    """Repeat the test metrics of a run's best checkpoint.

    Returns:
        A table of measured and recorded values, and whether all of them agree within 1e-6.

    Raises:
        RequestError: the folder is not a run, or it has no best checkpoint.
    """
    config = read_frozen(run_dir)
    checkpoint = run_dir / CHECKPOINTS / BEST
    if not checkpoint.is_file():
        raise RequestError(
            Problem("RUN_DIR", str(run_dir), f"has no {CHECKPOINTS}/{BEST}; it was not trained to the end")
        )
    try:
        record = Record.read(run_dir)
    except (ValueError, FileNotFoundError) as error:
        raise RequestError(Problem("RUN_DIR", str(run_dir), str(error))) from error
    if record.status != "completed":
        raise RequestError(
            Problem("RUN_DIR", str(run_dir), f"is {record.status}; only a completed run has a test result")
        )
    torch.set_num_threads(config["threads"])
    prepare_imports(config)
    with log_to(run_dir):
        data = build_data(config)
        if record.data_digest != data.digest:
            root = str(config["data"].get("root"))
            raise RequestError(Problem("data.root", root, "no longer holds the images the run was made with"))
        with structure_only():
            net = build_net(config, data)
        lit_module = build_lit_module(config, net, data)
        result = test(build_trainer(config, None, [], []), lit_module, data, run_dir)
    scores = {f"test/{name}": value for name, value in result.scores.items()}
    rows = [(name, value, record.metrics.get(name)) for name, value in scores.items()]
    agrees = all(_agree(value, kept) for _, value, kept in rows)
    lines = [f"{relative(run_dir)}: {BEST} = epoch {record.best_epoch}, test split, {len(data.test)} images",
             f"{'metric':<16} {'measured':>10} {'recorded':>10}"]  # fmt: skip
    lines += [f"{name:<16} {value:>10.6f} {'-' if kept is None else f'{kept:.6f}':>10}" for name, value, kept in rows]
    lines.append("agrees with run.json" if agrees else "DIFFERS from run.json")
    return "\n".join(lines), agrees


def _agree(measured: float, recorded: float | None) -> bool:
    """Compare with the record, in which a value that is not defined (nan) stands as None."""
    if math.isnan(measured):
        return recorded is None
    return recorded is not None and math.isclose(measured, recorded, abs_tol=TOLERANCE)
