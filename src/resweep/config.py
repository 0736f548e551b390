"""From a composed Hydra config to the frozen config of one run.

Composition is Hydra's; this module finds the config folder, resolves a composed config to plain values, gives it the
digest from which a run takes its id, and writes and reads the frozen file.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml
from hydra import initialize_config_dir
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.config_loader import ConfigLoader
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode
from omegaconf import Container, DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from resweep import CallableModule
from resweep.errors import Problem, RequestError
from resweep.record import CONFIG_FILE, write_atomic

ENTRY = "train"
# Groups whose choice is part of what a run is; the others say where and how it is carried out.
AXES = ("data", "augment", "model", "optimizer", "scheduler", "regularizer", "averaging", "loss")
# Facts of a machine or of a request: they never change what is computed, so the digest leaves them out.
MACHINE_KEYS = (
    "runs_dir", "sweep_name", "threads", "logger", "search", "executor", "sweep", "experiment", "import_path",
    "checkpoint_every", "diagnostics_every", "data.root", "data.download", "data.num_workers", "data.source.root",
    "data.source.download", "data.file", "data.source.file", "trainer.accelerator", "trainer.devices",
)  # fmt: skip
_BELOW_MACHINE_KEYS = tuple(f"{key}." for key in MACHINE_KEYS)
# Data sets whose content does not depend on where they lie.
FIXED_DATA = (
    "digits", "mnist", "fashion_mnist", "kmnist", "emnist", "svhn", "cifar10", "cifar100", "stl10", "flowers102",
    "oxford_pets", "fgvc_aircraft", "stanford_cars", "dtd", "eurosat", "food101", "imagenet", "fake",
)  # fmt: skip
WEIGHT_FILES = (".pth", ".pt", ".ckpt", ".bin", ".npz", ".safetensors")
GIVEN_BY_RUN = "logger.save_dir"
ID_LENGTH = 5


def shipped(folder: str) -> Path:
    """Return a folder that ships with the package (``conf`` or ``experiments``), installed or in a checkout."""
    package = Path(__file__).parent
    installed = package / folder
    return installed if installed.is_dir() else package.parents[1] / folder


@contextmanager
def config_loader(config_dirs: tuple[str, ...] = ()) -> Iterator[ConfigLoader]:
    """Give Hydra's loader for the shipped configs and any folders of the user's.

    Inside a running Hydra application its own loader is used, so that ``--config-dir`` and search paths hold.

    Args:
        config_dirs: further config folders, absolute or relative to the working folder.
    """
    running = GlobalHydra.instance()
    if running.is_initialized():
        yield running.config_loader()
        return
    with initialize_config_dir(str(shipped("conf")), version_base="1.3", job_name=ENTRY):
        loader = GlobalHydra.instance().config_loader()
        search_path = loader.get_search_path()
        for folder in config_dirs:
            search_path.prepend("command-line", f"file://{os.path.abspath(folder)}", anchor="schema")  # which is last
        yield ConfigLoaderImpl(search_path) if config_dirs else loader  # a loader reads its search path once, when made


def compose(loader: ConfigLoader, overrides: list[str]) -> DictConfig:
    """Compose the entry config with overrides (group choices and values), Hydra's node included."""
    return loader.load_configuration(ENTRY, overrides, run_mode=RunMode.RUN, from_shell=False)


def freeze(composed: DictConfig) -> dict[str, Any]:
    """Resolve a composed config to plain values, with the chosen name of every axis and absolute folders.

    Args:
        composed: as Hydra composes it, with the ``hydra`` node.

    Returns:
        Plain dictionaries, lists and scalars; ``choices`` maps each group of ``AXES`` to the chosen file.

    Raises:
        RequestError: an interpolation cannot be resolved or a mandatory value (``???``) is missing.
    """
    return _with_facts(_resolve(composed), composed)


def _with_facts(plain: dict[str, Any], composed: DictConfig) -> dict[str, Any]:
    """Add the chosen names and make folders absolute, in place."""
    choices = composed.hydra.runtime.choices
    plain["choices"] = {group: choices.get(group) for group in AXES}
    given_mode = composed.get("monitor_mode")
    plain["monitor_mode"] = best_direction(plain["monitor"]) if given_mode is None else given_mode
    plain["data"]["content"] = _content(plain["data"])
    _absolute_weights(plain["model"])
    plain["import_path"] = _absolute("." if plain.get("import_path") is None else plain["import_path"])
    plain["runs_dir"] = _absolute(plain.get("runs_dir"))
    for section in (plain["data"], plain["data"].get("source") or {}):
        for key in ("root", "file"):
            if isinstance(section, dict) and section.get(key) is not None:
                section[key] = _absolute(str(section[key]))
    return plain


def _absolute_weights(model: Any) -> None:
    """Make the path of a file of weights absolute, in place."""
    for key in ("weights", "pretrained"):
        value = model.get(key) if isinstance(model, dict) else None
        if isinstance(value, str) and (os.sep in value or value.endswith(WEIGHT_FILES)):
            model[key] = _absolute(value)


class Freezer:
    """Freezes one composed config many times while a few of its values change, as the runs of a sweep do.

    Resolving a whole config takes milliseconds. After the first time only the changed keys, and those that refer to
    other keys, are resolved again; everything else is copied.

    Args:
        composed: as for :func:`freeze`; its values may be set between two calls.
    """

    def __init__(self, composed: DictConfig) -> None:
        self.composed = composed
        self.template: dict[str, Any] | None = None
        self.referring: list[str] = []

    def freeze(self, changed: Iterable[str]) -> dict[str, Any]:
        """Return what ``freeze(composed)`` returns.

        Args:
            changed: every key that may differ from the first call.

        Raises:
            RequestError: as :func:`freeze`.
        """
        if self.template is None:
            self.template = freeze(self.composed)
            written = flatten(OmegaConf.to_container(self.composed, resolve=False))  # type: ignore[arg-type]
            self.referring = [key for key, value in written.items() if "${" in str(value) and key[:6] != "hydra."]
            return _copied(self.template)
        plain = _copied(self.template)
        for key in (*self.referring, *changed):
            _put(plain, key, _resolved(self.composed, key))
        return _with_facts(plain, self.composed)


def _copied(node: Any) -> Any:
    if isinstance(node, dict):
        return {key: _copied(value) for key, value in node.items()}
    return list(map(_copied, node)) if isinstance(node, list) else node


def _put(plain: dict[str, Any], key: str, value: Any) -> None:
    *parents, last = key.split(".")
    for parent in parents:
        plain = plain[parent]
    plain[last] = value


def _resolved(composed: DictConfig, key: str) -> Any:
    try:
        value = OmegaConf.select(composed, key, throw_on_resolution_failure=True)
        return OmegaConf.to_container(value, resolve=True) if isinstance(value, Container) else value
    except (OmegaConfBaseException, ValueError) as error:
        raise RequestError(Problem(key, None, f"cannot be resolved: {str(error).splitlines()[0]}")) from error


def best_direction(metric: Any) -> str:
    """Return ``min`` for a loss and ``max`` for everything else."""
    return "min" if str(metric).endswith("loss") else "max"


def _content(data: Mapping[str, Any]) -> str | None:
    """Return what tells this data set from another one with the same settings; None where the name says it all.

    A folder of the user's own is known by the names and sizes of its files, a table by its text, wherever they lie.
    """
    root, table = (_absolute(data.get(key)) for key in ("root", "file"))
    if data.get("name") in FIXED_DATA:
        return None
    if isinstance(table, str) and os.path.isfile(table):
        return hashlib.blake2b(Path(table).read_bytes(), digest_size=8).hexdigest()
    return _listing(root) if isinstance(root, str) and os.path.isdir(root) else None


@lru_cache(maxsize=16)
def _listing(root: str) -> str:
    """Hash the relative names and sizes of all files below a folder."""
    found = hashlib.blake2b(digest_size=8)
    for name, size in _files(root, ""):
        found.update(f"{name}\0{size}\0".encode("utf-8", "surrogateescape"))
    return found.hexdigest()


def _files(folder: str, below: str) -> Iterator[tuple[str, int]]:
    """Give name and size (-1: a link to nothing) of every file, those of a folder before those of its subfolders."""
    with os.scandir(folder) as found:
        entries = sorted(found, key=lambda entry: entry.name)
    for entry in entries:
        if not entry.is_dir():
            yield f"{below}{entry.name}", entry.stat().st_size if entry.is_file() else -1
    for entry in entries:
        if entry.is_dir() and not entry.is_symlink():
            yield from _files(entry.path, f"{below}{entry.name}/")


def _absolute(path: Any) -> Any:
    """Return a path absolute; whatever is not one stays as it is, for the schema to refuse."""
    return os.path.abspath(os.path.expanduser(path)) if isinstance(path, str) and path else path


def _resolve(config: DictConfig) -> dict[str, Any]:
    sections = [str(key) for key in config if key != "hydra"]
    written = flatten(OmegaConf.to_container(config, resolve=False))  # type: ignore[arg-type]
    missing = [key for key, value in written.items() if value == "???" and key.split(".", 1)[0] in sections]
    if set(missing) - {GIVEN_BY_RUN}:
        raise RequestError(Problem(key, "???", f"must be given: {key}=VALUE") for key in missing if key != GIVEN_BY_RUN)
    plain: dict[str, Any] = {}
    try:
        for key in sections:  # one by one, below the composed root: values may refer to Hydra's own node
            value = config[key]
            plain[key] = OmegaConf.to_container(value, resolve=True) if isinstance(value, Container) else value
    except (OmegaConfBaseException, ValueError) as error:
        key = getattr(error, "full_key", None) or "config"
        raise RequestError(Problem(str(key), None, f"cannot be resolved: {str(error).splitlines()[0]}")) from error
    return plain


def flatten(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return the config as one level of dotted keys; lists stay values.

    Example:
        >>> flatten({"a": {"b": 1}, "c": [2]})
        {'a.b': 1, 'c': [2]}
    """
    flat: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, Mapping) and value:
            flat.update(flatten(value, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def nested(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Return dotted keys as nested dictionaries, the reverse of :func:`flatten`.

    Example:
        >>> nested({"a.b": 1, "c": [2]})
        {'a': {'b': 1}, 'c': [2]}
    """
    config: dict[str, Any] = {}
    for key, value in flat.items():
        *parents, last = key.split(".")
        place = config
        for parent in parents:
            place = place.setdefault(parent, {})
        place[last] = value
    return config


def is_machine_fact(key: str) -> bool:
    """Return whether a dotted key says where and how something is carried out, never what is computed."""
    return key in MACHINE_KEYS or key.startswith(_BELOW_MACHINE_KEYS)


def digest(config: Mapping[str, Any]) -> str:
    """Return the hex digest (BLAKE2b, 16 bytes) of what a frozen config computes, machine facts left out.

    Two configs with the same digest train the same net on the same data with the same seed, wherever they run.
    """
    kept = {key: value for key, value in flatten(config).items() if not is_machine_fact(key)}
    text = json.dumps(kept, sort_keys=True, default=str)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def write_frozen(config: Mapping[str, Any], run_dir: Path) -> None:
    """Write a frozen config into its run's folder, atomically."""
    write_atomic(run_dir / CONFIG_FILE, dump_yaml(config))


def dump_yaml(content: Mapping[str, Any]) -> str:
    """Return plain values as YAML, in their order; libyaml does it where it is there, ten times as fast."""
    dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
    return yaml.dump(_copied(dict(content)), Dumper=dumper, sort_keys=False, allow_unicode=True)


def load_yaml(text: str) -> Any:
    """Return the plain values of a YAML text.

    Raises:
        yaml.YAMLError: the text is not YAML.
    """
    return yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))


def read_frozen(run_dir: Path) -> dict[str, Any]:
    """Read the frozen config of a run.

    Raises:
        RequestError: the folder is not a run, its config cannot be read, or it names a target that is not allowed.
    """
    from resweep.schema import check_targets  # which needs this module

    path = run_dir / CONFIG_FILE
    if not path.is_file():
        raise RequestError(Problem("RUN", str(run_dir), f"is not a run: it has no {CONFIG_FILE}"))
    try:
        config = load_yaml(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise RequestError(Problem("RUN", str(run_dir), f"{CONFIG_FILE} is damaged: {error}")) from error
    if not isinstance(config, dict):
        raise RequestError(Problem("RUN", str(run_dir), f"{CONFIG_FILE} is damaged: it is not a mapping"))
    if problems := check_targets(config):
        raise RequestError(problems)
    return config


sys.modules[__name__].__class__ = CallableModule  # resweep.config([...]) composes a config
