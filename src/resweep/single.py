"""One run from the command line: check, freeze, execute in this process, say what came out."""

from __future__ import annotations

import dataclasses
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from resweep import __version__
from resweep.code import code_digest, code_state, differences, in_words
from resweep.config import digest, flatten, read_frozen
from resweep.console import Output, command, duration, relative, size
from resweep.errors import Problem, RequestError
from resweep.record import BEST, CHECKPOINTS, CONFIG_FILE, FINISHED, LAST, LOG_FILE, METRICS_FILE, RUN_FILE, Record
from resweep.sweep.ledger import check_writable, new_record, point_latest, write_run
from resweep.sweep.plan import Plan, PlannedRun

SHOWN = ("accuracy", "map", "loss", "f1", "f1_macro", "ece")  # test metrics on the screen, as far as a task has them

if TYPE_CHECKING:
    from resweep.data.datamodule import ImageDataModule


def train_one(plan: Plan, output: Output, dry_run: bool = False) -> int:
    """Carry out a plan of one run, or with ``dry_run`` only say what it would be.

    Returns:
        Exit status: 0 the run has a result, 1 it failed, 130 or 143 it was interrupted.

    Raises:
        RequestError: something cannot be built; nothing was written.
    """
    run, run_dir, data = _checked(plan)
    if dry_run:
        output.note("\n".join(banner(run_dir, new_record(run), run.config)[:-1]))
        return 0
    begin(run, run_dir)
    return carry_out(run_dir, output, data)


def new_run(plan: Plan) -> tuple[Path, ImageDataModule]:
    """Check a plan of one run and write its folder; nothing is carried out yet.

    Returns:
        The folder, and the run's data, which the check has built.

    Raises:
        RequestError: something cannot be built; nothing was written.
    """
    run, run_dir, data = _checked(plan)
    begin(run, run_dir)
    return run_dir, data


def begin(run: PlannedRun, run_dir: Path) -> None:
    """Write a run's folder and let ``latest`` point to it."""
    write_run(run, run_dir)
    point_latest(Path(run.config["runs_dir"]), run_dir)


def _checked(plan: Plan) -> tuple[PlannedRun, Path, ImageDataModule]:
    """Return the run with the overrides that ask for it, a folder that is not there yet, and its data."""
    run = dataclasses.replace(plan.runs[0], overrides=tuple(plan.overrides))
    runs_dir = Path(run.config["runs_dir"])
    check_writable(runs_dir)
    from resweep.sweep.check import check_one  # loads torch

    data = check_one(run.config)
    stamp = time.strftime("%Y%m%d-%H%M%S")
    run_dir = runs_dir / (run.config["sweep_name"] or "train") / f"{stamp}-{run.id}"
    if run_dir.exists():
        run_dir = run_dir.with_name(f"{run_dir.name}-{os.getpid()}")
    return run, run_dir, data


def carry_out(run_dir: Path, output: Output, data: ImageDataModule | None = None, accept_changes: bool = False) -> int:
    """Execute a run folder in this process and print its result; a finished run is only reported.

    Args:
        run_dir: folder with the frozen config.
        output: where progress goes.
        data: the run's data if it was built already.
        accept_changes: continue with other code or another config than those with which the run has begun.

    Raises:
        RequestError: the folder is not a run, another process carries it out, or it has changed.
    """
    config = read_frozen(run_dir)
    record = _read_record(run_dir)
    if record.status in FINISHED:
        output.note(f"{relative(run_dir)} is {record.status}; nothing to do")
        output.result(result_text(run_dir, record, config))
        return 0
    if not accept_changes:
        _check_unchanged(run_dir, record, config)
    from resweep.claim import Busy
    from resweep.display import RunDisplay
    from resweep.train import Interrupted, execute

    display = RunDisplay(output, config["trainer"]["max_epochs"], banner(run_dir, record, config))
    try:
        record = execute(run_dir, display, data)
    except Busy as busy:
        raise RequestError(Problem("RUN", relative(run_dir), f"is being carried out by {busy.holder}")) from busy
    except Interrupted as stop:
        display.close()
        go_on = command("resweep", "resume", relative(run_dir))
        output.note(f"interrupted after epoch {_read_record(run_dir).epochs}; go on with:  {go_on}")
        return stop.status
    finally:
        display.close()
    output.result(result_text(run_dir, record, config))
    return 1 if record.status == "failed" else 0


def _check_unchanged(run_dir: Path, record: Record, config: dict[str, Any]) -> None:
    """Refuse to continue a run with other code, or another config, than it has begun with."""
    changes = [] if digest(config) == record.config_digest else [f"{CONFIG_FILE} has changed since it was planned"]
    before = record.environment.get("packages", {})
    now = code_state(config["import_path"], config["allowed_targets"])
    if record.attempts and record.environment.get("code") != code_digest(now):
        packages = {name: version for name, version in now.items() if name in before}
        changes += differences({name: before[name] for name in packages}, packages) or ["the code has changed"]
    if changes:
        again = command("resweep", "resume", relative(run_dir), "--accept-changes")
        message = f"{in_words(changes)} (git {git_words(record.environment)}). To go on nevertheless:  {again}"
        raise RequestError(Problem("RUN", relative(run_dir), message))


def git_words(environment: dict[str, Any]) -> str:
    """Return the commit with which a run has begun, in words."""
    git = environment.get("git")
    return "commit unknown" if git is None else f"{git['commit'][:8]}{' with changes' if git['dirty'] else ''} then"


def _read_record(run_dir: Path) -> Record:
    try:
        return Record.read(run_dir)
    except (ValueError, FileNotFoundError) as error:
        raise RequestError(Problem("RUN", str(run_dir), str(error))) from error


def banner(run_dir: Path, record: Record, config: dict[str, Any]) -> list[str]:
    """Return the first lines of a run's screen; the display adds what is known once the parts are built."""
    go_on = command("resweep", "resume", relative(run_dir))
    changed = record.overrides
    at_default = len(flatten({key: value for key, value in config.items() if key != "choices"})) - len(changed)
    choices = config["choices"]
    trainer = config["trainer"]
    threads = f"{config['threads']} thread" + ("s" if config["threads"] > 1 else "")
    words = "  ".join(changed) or "nothing"
    return [
        f"resweep {__version__}   run {record.id}   {relative(run_dir)}",
        f"changed   {words}      ({at_default} values at default: resweep train --cfg job)",
        f"setting   {choices['model']} on {choices['data']}, {choices['optimizer']}, {choices['scheduler']}; "
        f"{trainer['max_epochs']} epochs, {trainer['accelerator']} {trainer['precision']}, {threads}, "
        f"seed {config['seed']}",
        f"Ctrl-C saves and stops; go on with:  {go_on}",
    ]


def result_text(run_dir: Path, record: Record, config: dict[str, Any]) -> str:
    """Return the block that ends a run's screen: result with split, checkpoint and epoch, files, next commands."""
    if record.status == "failed":
        return failure_text(run_dir, record, config)
    metrics = record.metrics
    memory = "" if record.peak_memory_bytes is None else f", peak memory {size(record.peak_memory_bytes)}"
    rate = "" if record.images_per_second is None else f", {record.images_per_second:.0f} images/s"
    lines = [f"{'done' if record.status == 'completed' else record.status:<9} "
             f"{_epochs(record.epochs)} in {duration(record.fit_seconds)}{memory}{rate}"]  # fmt: skip
    if record.error is not None:
        lines.append(f"cause     {record.error['message']}")
    scores = [(name, metrics.get(f"test/{name}")) for name in SHOWN]
    if any(value is not None for _, value in scores):
        shown = "   ".join(f"{name} {value:.4f}" for name, value in scores if value is not None)
        monitored = f"{config['monitor']} {metrics[config['monitor']]:.4f}"
        lines.append(f"test      {shown}     checkpoint {BEST} = epoch {record.best_epoch} ({monitored})")
    folder = relative(run_dir)
    lines += [
        f"files     {folder}/: {CHECKPOINTS}/{BEST}, {CHECKPOINTS}/{LAST}, {METRICS_FILE}, {RUN_FILE}",
        f"next      {command('resweep', 'evaluate', folder)}",
        f"          {command('tensorboard', '--logdir', folder)}",
    ]
    if not config["allowed_targets"]:  # otherwise the command would need the folders of the user's own configs, too
        lines.append(f"          {command('resweep', 'train', '-m', *_without_seed(record.overrides), 'seed=0,1,2')}")
    return "\n".join(lines)


def _epochs(count: int) -> str:
    return "1 epoch" if count == 1 else f"{count} epochs"


def _without_seed(overrides: list[str]) -> list[str]:
    return [text for text in overrides if not text.startswith(("seed=", "sweep_name="))]


def failure_text(run_dir: Path, record: Record, config: dict[str, Any]) -> str:
    """Return the screen of a failed run: innermost cause, place, what survived, how to go on."""
    error = record.error or {}
    folder = relative(run_dir)
    saved = [name for name in (f"{CHECKPOINTS}/{LAST}", METRICS_FILE, LOG_FILE) if (run_dir / name).exists()]
    lines = [
        f"FAILED    run {record.id} after epoch {record.epochs}, {duration(record.fit_seconds)}",
        f"cause     {error.get('type')}: {error.get('message')}",
        f"where     {error.get('where', 'unknown')}          (whole trace: {folder}/{LOG_FILE})",
        f"saved     {'  '.join(saved) or 'nothing'}",
        f"rerun     {command('resweep', 'resume', folder)}",
    ]
    if "out of memory" in str(error.get("message", "")).lower():
        smaller = max(1, config["data"]["batch_size"] // 2)
        lines.insert(3, f"try       data.batch_size={smaller}   trainer.precision=bf16-mixed")
    return "\n".join(lines)
