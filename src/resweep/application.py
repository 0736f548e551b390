"""`resweep train` as a Hydra application: Hydra parses flags, composes, and calls back for one run or a sweep."""

from __future__ import annotations

import os
import sys

import hydra
from hydra._internal.utils import get_args_parser
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from resweep import console
from resweep.config import AXES, ENTRY, config_loader, shipped
from resweep.errors import Problem, RequestError
from resweep.sweep.plan import make_plan


def run_application(words: list[str], output: console.Output, dry_run: bool = False) -> int:
    """Give a command line to Hydra.

    Args:
        words: flags and overrides behind ``resweep train``.
        output: where progress goes; reaches the sweeper through ``console.OUTPUT``.
        dry_run: check everything, say what would be done, and stop; reaches it through ``console.DRY_RUN``.

    Returns:
        The exit status.

    Raises:
        RequestError: with every problem of the request.
    """
    status: int | RequestError = 0
    composed = False

    def task(_: DictConfig) -> None:
        nonlocal status, composed
        composed = True
        from resweep.single import train_one

        loader = GlobalHydra.instance().config_loader()
        try:
            overrides = OmegaConf.to_container(HydraConfig.get().overrides.task, resolve=False)  # ${...} is the run's
            status = train_one(make_plan(loader, overrides), output, dry_run)  # type: ignore[arg-type]
        except RequestError as error:  # carried past Hydra, which would announce a failed job
            status = error

    token, dry_token = console.OUTPUT.set(output), console.DRY_RUN.set(dry_run)
    argv, full_error = sys.argv, os.environ.get("HYDRA_FULL_ERROR")
    many = [word for word in words if word in ("-m", "--multirun")]  # may stand anywhere; Hydra wants it in front
    words = [*many, *(word for word in words if word not in many)]
    sys.argv = ["resweep train", *words]
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra raises its errors instead of printing them; they are said here
    try:
        hydra.main(version_base="1.3", config_path=str(shipped("conf")), config_name=ENTRY)(task)()
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except (HydraException, OmegaConfBaseException) as error:
        raise RequestError(_diagnose(words, error)) from error
    except ValueError as error:  # Hydra's word for a group choice that is not text, as in optimizer=null
        problems = [] if composed else _found_problems(words)
        if not problems:  # not a mistake of the request
            raise
        raise RequestError(problems) from error
    finally:
        sys.argv = argv
        console.OUTPUT.reset(token)
        console.DRY_RUN.reset(dry_token)
        if full_error is None:
            del os.environ["HYDRA_FULL_ERROR"]
    if isinstance(status, RequestError):
        raise status
    return status


def _diagnose(words: list[str], error: Exception) -> list[Problem]:
    """Say every problem of a request that Hydra refused; it stops at the first."""
    return _found_problems(words) or [Problem(" ".join(words), None, str(error).strip().splitlines()[0])]


def _found_problems(words: list[str]) -> list[Problem]:
    flags = get_args_parser().parse_args(words)
    if flags.config_dir is not None and not os.path.isdir(flags.config_dir):
        return [Problem("--config-dir", flags.config_dir, "is not a folder")]
    problems: list[Problem] = []
    GlobalHydra.instance().clear()
    with config_loader(() if flags.config_dir is None else (flags.config_dir,)) as loader:
        try:
            make_plan(loader, flags.overrides, sweep=flags.multirun)
        except RequestError as found:
            problems += found.problems
    if not flags.multirun:
        problems += _several_values(flags.overrides)
    return problems


def _several_values(overrides: list[str]) -> list[Problem]:
    parser = OverridesParser.create()
    problems = []
    for text in overrides:
        try:
            override = parser.parse_override(text)
        except HydraException:
            continue  # reported by the plan
        if override.is_sweep_override():
            key, _, given = text.partition("=")
            message = "has several values: add -m for a sweep over them"
            if key.lstrip("+") not in AXES:  # a group takes one choice
                message += f", or write {key}=[{given}] for a list"
            problems.append(Problem(key, given, message))
    return problems
