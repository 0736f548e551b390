"""The columns of the HParams page: the same keys with the same types in every run of a sweep.

TensorBoard takes the description of the columns from one run, whichever it meets first, so every run writes that of the
whole sweep.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from resweep.config import digest, flatten, load_yaml
from resweep.record import REPEATS, SWEEP_FILE

# Asked for by everybody, swept or not, and what stands for a missing value: a net without dropout has a dropout of 0.
FIXED: dict[str, float | None] = {
    "choices.data": None, "choices.augment": None, "choices.model": None, "choices.optimizer": None,
    "choices.scheduler": None, "data.batch_size": None, "optimizer.lr": None, "optimizer.weight_decay": 0.0,
    "model.dropout": 0.0, "trainer.max_epochs": None, "seed": None,
}  # fmt: skip
AFTER_AXES = "plan_digest:"  # the key that follows the axes in sweep.yaml
RANGE = re.compile(r"(interval|range)\(([^,()]+),([^,()]+)")  # start and end of numbers that a search draws from
DRAWN = re.compile(r"(interval|range|tag|int|float)\(")
WORDS = {"null": None, "true": True, "false": False}

Value = float | str
Axes = Mapping[str, Sequence[str]]


@dataclass(frozen=True)
class Column:
    """One column of the page.

    Attributes:
        key: dotted key of the config; a chosen group has its name.
        number: whether all values are numbers; otherwise all are text.
        values: all that the sweep has, in its order; empty where the key is not swept, or drawn from a range.
        ends: smallest and largest value of such a range.
    """

    key: str
    number: bool
    values: tuple[Value, ...] = ()
    ends: tuple[float, float] | None = None

    def typed(self, value: Any) -> Value:
        """Return a value as the column has it."""
        return float(value) if self.number else text(value)


def hyperparameters(config: Mapping[str, Any], swept: Mapping[str, Any], axes: Axes | None = None) -> dict[str, Value]:
    """Return the columns' values of a run: swept keys and fixed ones, numbers as float, the rest as text.

    Args:
        config: frozen config.
        swept: the run's own values of the sweep's axes.
        axes: see :func:`sweep_axes`; without them a value's own type decides.
    """
    shown = values_shown(config, swept)
    return {column.key: column.typed(shown[column.key]) for column in columns(config, swept, axes)}


def columns(config: Mapping[str, Any], swept: Mapping[str, Any], axes: Axes | None = None) -> list[Column]:
    """Return the columns of a run, the swept ones first; arguments as those of :func:`hyperparameters`."""
    written = {key.lstrip("+"): values for key, values in (axes or {}).items()}
    return [_column(key, value, written.get(key, ())) for key, value in values_shown(config, swept).items()]


def values_shown(config: Mapping[str, Any], swept: Mapping[str, Any]) -> dict[str, Any]:
    """Return the plain values of a run's columns, the swept ones first."""
    flat = flatten(config)
    found = {key: value if flat.get(key) is None else flat[key] for key, value in FIXED.items()}
    fixed = {key.removeprefix("choices."): value for key, value in found.items() if value is not None}
    return {**swept, **{key: value for key, value in fixed.items() if key not in swept}}


def setting_name(config: Mapping[str, Any], swept: Mapping[str, Any]) -> str:
    """Return a name that the runs of a setting share, whatever their seed and fold, and no others have."""
    plain = dict(flatten(config)) | dict.fromkeys(REPEATS)
    shown = [f"{key.rsplit('.', 1)[-1]}={text(value)}" for key, value in swept.items() if key not in REPEATS]
    return " ".join([*shown, digest(plain)[:5]])


def sweep_axes(run_dir: Path) -> dict[str, list[str]]:
    """Return the axes of the sweep that a run belongs to, values as they were written; empty for a single run.

    Only the beginning of ``sweep.yaml`` is read: the rest grows with the number of runs.
    """
    path = run_dir.absolute().parent / SWEEP_FILE
    if not path.is_file():
        return {}
    head = []
    with path.open(encoding="utf-8") as stream:
        for line in stream:
            if line.startswith(AFTER_AXES):
                break
            head.append(line)
    return load_yaml("".join(head)).get("axes") or {}


def text(value: Any) -> str:
    """Return a value as an override writes it: ``null``, ``true``, ``[1,2]``."""
    if isinstance(value, list):
        return f"[{','.join(map(text, value))}]"
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    return str(value)


def _column(key: str, value: Any, written: Sequence[str]) -> Column:
    """Describe a column by a run's value and all values of the sweep as they were written."""
    listed = [_value(word) for word in written if not DRAWN.match(word)]
    number = all(isinstance(one, (int, float)) and not isinstance(one, bool) for one in [value, *listed])
    if len(listed) == len(written):
        values = dict.fromkeys(float(one) if number else text(one) for one in listed)
        return Column(key, number, tuple(values))
    return Column(key, number, ends=_ends(written[0]) if number and len(written) == 1 else None)


def _value(word: str) -> Any:
    """Return a written value as Hydra reads it, as far as numbers and words go."""
    for kind in (int, float):
        try:
            return kind(word)
        except ValueError:
            continue
    return WORDS.get(word, word.replace(" ", "") if word.startswith("[") else word)


def _ends(word: str) -> tuple[float, float] | None:
    """Return the ends of ``interval(a,b)`` or ``range(a,b)``, where they are written as numbers."""
    found = RANGE.search(word)
    if found is None:
        return None
    try:
        low, high = float(found[2]), float(found[3])
    except ValueError:
        return None
    return low, high
