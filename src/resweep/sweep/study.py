"""Optuna's side of a search: study, sampler and pruner. Optuna is imported when one of them is needed."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from resweep.errors import Problem, RequestError, nearest_name
from resweep.schema import rule_of_default
from resweep.seeding import derive_seed
from resweep.sweep.storage import (
    JOURNAL_FILE,
    address,
    check_journal,
    first_line,
    heal_journal,
    holds_study,
    open_storage,
    optuna_module,
    quiet,
    sqlite_path,
    without_password,
)

if TYPE_CHECKING:
    from optuna import Study
    from optuna.distributions import BaseDistribution
    from optuna.pruners import BasePruner
    from optuna.samplers import BaseSampler

# Names of search: Optuna's class and the arguments that make the name's difference.
SAMPLERS: dict[str, tuple[str, dict[str, Any]]] = {
    "random": ("RandomSampler", {}),
    "tpe": ("TPESampler", {"constant_liar": True}),
    "halton": ("QMCSampler", {"qmc_type": "halton"}),
    "sobol": ("QMCSampler", {"qmc_type": "sobol"}),
    "gp": ("GPSampler", {}),
    "nsga2": ("NSGAIISampler", {}),
}


def make_sampler(search: Mapping[str, Any], number: int, space: Mapping[str, BaseDistribution]) -> BaseSampler:
    """Return the sampler that proposes one trial.

    It is a new one for each trial, with a seed of its own made from ``search.seed`` and the trial's number, so that a
    continued search goes on as an uninterrupted one. Low-discrepancy sequences have one seed for all trials instead:
    their position is kept in the study.

    Args:
        search: section of the config.
        number: of the trial, from 0.
        space: all dimensions.

    Raises:
        ValueError, TypeError: an argument in ``search.sampler`` has a value that Optuna refuses.
    """
    kind, fixed = SAMPLERS[search["name"]]
    samplers = optuna_module().samplers
    arguments = {**fixed, **search["sampler"]}
    if kind != "QMCSampler":
        return getattr(samplers, kind)(seed=derive_seed(search["seed"], "trial", number) % 2**32, **arguments)

    class WholeSpace(samplers.QMCSampler):
        """Takes every trial from the sequence; Optuna's own draws the first one at random to learn the dimensions."""

        def infer_relative_search_space(self, *_: Any) -> dict[str, BaseDistribution]:
            return dict(space)

    return WholeSpace(seed=search["seed"], **arguments)


def make_pruner(search: Mapping[str, Any]) -> BasePruner:
    """Return the pruner of a search; epochs are counted from 1 and none is pruned before ``min_epochs``."""
    pruners = optuna_module().pruners
    least, factor = search.get("min_epochs"), search.get("reduction_factor")
    match search.get("pruner"):
        case "asha":
            return pruners.SuccessiveHalvingPruner(min_resource=least, reduction_factor=factor)
        case "hyperband":
            return pruners.HyperbandPruner(
                min_resource=least, max_resource=search["max_epochs"], reduction_factor=factor
            )
        case "median":
            return pruners.MedianPruner(n_warmup_steps=least)
        case _:
            return pruners.NopPruner()


def check_sampler(search: Mapping[str, Any]) -> list[Problem]:
    """Return what is wrong with the arguments in ``search.sampler``, by the signature of Optuna's sampler."""
    kind, _ = SAMPLERS[search["name"]]
    with quiet():
        signature = inspect.signature(getattr(optuna_module().samplers, kind))
    # Functions cannot be written in a config; seed and kind of sequence have keys of their own.
    known = {
        name: parameter.default
        for name, parameter in signature.parameters.items()
        if name not in ("seed", "qmc_type", "independent_sampler") and "Callable" not in str(parameter.annotation)
    }
    problems = []
    for name, value in search["sampler"].items():
        key, rule = f"search.sampler.{name}", rule_of_default(known.get(name))
        if name not in known:
            message = f"is not an argument of Optuna's {kind}; it has {', '.join(known) or 'none to set here'}"
            near = nearest_name(name, known)
            problems.append(Problem(key, str(value), message, near and f"search.sampler.{near}"))
        elif rule is not None and not rule.accepts(value):
            problems.append(Problem(key, str(value), f"{rule.text}, got {value!r}"))
    if problems:
        return problems
    try:
        with quiet():
            make_sampler(search, 0, {})
    except (ValueError, TypeError) as error:
        return [
            Problem("search.sampler", str(search["sampler"]), f"is refused by Optuna's {kind}: {first_line(error)}")
        ]
    return []


def open_study(content: Mapping[str, Any], sweep_dir: Path, known: int) -> Study:
    """Return the study of a sweep; it has the sweep's name. It is set up if it is to have no trials yet.

    Args:
        content: of ``sweep.yaml``.
        sweep_dir: folder of the sweep.
        known: number of trials that it must have.

    Raises:
        RequestError: the storage cannot be reached or is damaged, its study of this name belongs to another sweep, or
            trials are missing. Nothing has been written then.
    """
    search = content["search"]
    check_journal(search, sweep_dir)
    if known and not holds_study(search, content["name"], sweep_dir):
        raise RequestError(_lost(content, sweep_dir, 0, known))
    if known:
        try:
            study = load_study(content, search, sweep_dir)
        except KeyError as error:
            raise RequestError(_lost(content, sweep_dir, 0, known)) from error
    else:
        heal_journal(sweep_dir)
        study = _new_study(content, sweep_dir)
    trials = study.get_trials(deepcopy=False)
    owner = study.user_attrs.get("sweep")
    if owner is None and not trials and not known:
        study.set_user_attr("sweep", search["id"])
    elif owner != search["id"]:
        raise RequestError(_taken(content["name"]))
    if (there := sum(trial.state.name != "WAITING" for trial in trials)) < known:
        raise RequestError(_lost(content, sweep_dir, there, known))
    heal_journal(sweep_dir)
    return study


def _new_study(content: Mapping[str, Any], sweep_dir: Path) -> Study:
    optuna = optuna_module()
    return optuna.create_study(
        study_name=content["name"],
        storage=open_storage(content["search"], sweep_dir),
        sampler=optuna.samplers.RandomSampler(seed=0),  # each trial gets one of its own
        pruner=make_pruner(content["search"]),
        direction=content["search"]["direction"],
        load_if_exists=True,
    )


def _lost(content: Mapping[str, Any], sweep_dir: Path, there: int, known: int) -> Problem:
    storage = content["search"]["storage"]
    place = JOURNAL_FILE if storage is None else "search.storage=" + without_password(storage)
    message = f"{place} has {there} of the {known} trials of this sweep; its study was lost or replaced"
    return Problem("SWEEP_DIR", str(sweep_dir), f"{message}. Put it back, or begin anew with another sweep_name")


def load_study(content: Mapping[str, Any], pruning: Mapping[str, Any], sweep_dir: Path) -> Study:
    """Return the study of a sweep for a run that reports to it; nothing is created.

    Args:
        content: of ``sweep.yaml``.
        pruning: the ``search`` section of the run's frozen config.
        sweep_dir: folder of the sweep.
    """
    optuna = optuna_module()
    return optuna.load_study(
        study_name=content["name"],
        storage=open_storage(content["search"], sweep_dir),
        sampler=optuna.samplers.RandomSampler(seed=0),  # asked for nothing
        pruner=make_pruner(pruning),
    )


def _taken(name: str) -> Problem:
    message = "is in search.storage already, as the study of another sweep; give another name: sweep_name=NAME"
    return Problem("sweep_name", name, message)


def check_name_is_free(search: Mapping[str, Any], name: str) -> None:
    """Raise RequestError when a database has a study of this name already; a new sweep must have its own."""
    if search["storage"] is None:
        return
    url = address(search["storage"])
    path = sqlite_path(url)
    if path is not None and not path.exists():
        return
    with quiet():
        storage = open_storage(search, Path())
        if name in {study.study_name for study in storage.get_all_studies()}:
            raise RequestError(_taken(name))
