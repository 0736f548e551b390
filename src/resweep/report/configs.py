"""Values of configs as texts and files give them: overrides, ``config.yaml``, ``sweep.yaml``."""

from __future__ import annotations

import copy
import math
import re
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from resweep.record import CONFIG_FILE, LONGEST_INTEGER, TOO_LARGE

if TYPE_CHECKING:
    import yaml

    from resweep.report.load import RunRecord

INTEGER = re.compile(r"[+-]?(?:0|[1-9][0-9]*(?:_[0-9]+)*)")
"""An integer on the command line."""

FLOAT = re.compile(r"[+-]?(?:[0-9]+\.[0-9]*|\.[0-9]+|[0-9]+(?=[eE]))(?:[eE][+-]?[0-9]+)?")
"""A number with a point or an exponent on the command line."""

WORDS = {"true": True, "false": False, "null": None}
STRUCTURED = re.compile(r"[\[{'\"]|.*\\")
"""What a list, a mapping, a quoted text, or one with an escaped sign begins like."""

LARGEST = 10**LONGEST_INTEGER

FIRST_LINE = re.compile(rb"(?:\xef\xbb\xbf)?(?:[ \t]*(?:#.*|---.*)?\r?\n)*[^\s#][^\r\n]*:|\{")
"""How a mapping in YAML begins: a key and a colon behind comments, or a brace."""


def override_values(overrides: Iterable[str]) -> dict[str, Any]:
    """Return the values of overrides by their keys, of the same types as in the config that they ask for.

    Args:
        overrides: texts ``key=value``; those without a value are left out.

    Example:
        >>> override_values(["data.fold=0", "optimizer.lr=1e-3", "+tag=a b", "~extra"])
        {'data.fold': 0, 'optimizer.lr': 0.001, 'tag': 'a b'}
    """
    pairs = [text.lstrip("+").partition("=") for text in overrides]
    return {key: copy.copy(_override_value(value)) for key, separator, value in pairs if separator}


@lru_cache(maxsize=4096)
def _override_value(text: str) -> Any:
    """The value of one override; a text that is no value of the command line's grammar stays a text."""
    if text.lower() in WORDS:
        return WORDS[text.lower()]
    if INTEGER.fullmatch(text):
        return int(text) if len(text) <= LONGEST_INTEGER else text
    if FLOAT.fullmatch(text):
        number = float(text)
        return number if math.isfinite(number) else text
    return _structured(text) if STRUCTURED.match(text) else text


def _structured(text: str) -> Any:
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    try:
        value = OverridesParser.create().parse_override(f"key={text}").value()
    except HydraException:
        return text
    return plain_values(value) if isinstance(value, (list, dict)) else str(value)


def checked_repeats(swept: dict[str, Any], keys: Iterable[str]) -> dict[str, Any]:
    """Return swept values in which seed and fold are whole numbers, also where they were kept as texts.

    Raises:
        ValueError: one of them is something else.
    """
    for key in keys:
        value = swept.get(key)
        if isinstance(value, str) and INTEGER.fullmatch(value) and len(value) <= LONGEST_INTEGER:
            swept = swept | {key: int(value)}
        elif value is not None and (isinstance(value, bool) or not isinstance(value, int)):
            raise ValueError(f"swept {key} is not a whole number")
        if value is not None and abs(swept[key]) >= TOO_LARGE:
            raise ValueError(f"swept {key} is too large")
    return swept


def load_config(run: RunRecord) -> tuple[dict[str, Any] | None, str | None]:
    """Return a run's frozen config, and what is wrong with the file.

    Args:
        run: a loaded run.

    Returns:
        The config and None; None and a line ``folder/config.yaml: reason``; without such a file None and None.
    """
    import yaml

    try:
        data = config_bytes(run.dir / CONFIG_FILE)
        if data is None:
            return None, None
        content = yaml.load(data.decode("utf-8-sig"), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
        if not isinstance(content, dict):
            raise ValueError("is no mapping")
    except yaml.YAMLError as error:
        return None, f"{run.folder}/{CONFIG_FILE}: {_yaml_reason(error)}"
    except (OSError, ValueError, RecursionError) as error:
        return None, f"{run.folder}/{CONFIG_FILE}: {getattr(error, 'strerror', None) or first_line(error)}"
    return plain_values(content), None


def plain_values(content: Any) -> Any:
    """Return values as they were read from YAML, with texts as keys and for integers that no float can hold."""
    if isinstance(content, dict):
        return {str(key): plain_values(value) for key, value in content.items()}
    if isinstance(content, list):
        return [plain_values(value) for value in content]
    if isinstance(content, int) and abs(content) >= LARGEST:
        return str(content)
    return content


def config_bytes(path: Path) -> bytes | None:
    """Return a config file's content, None without such a file.

    Only its encoding and its beginning are checked: parsing the configs of a large sweep would take half a minute.

    Raises:
        ValueError: the file is no text or cannot be a mapping in YAML.
        OSError: the file cannot be read.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    try:
        data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError("is no text in UTF-8") from error
    if b"\0" in data or not FIRST_LINE.match(data):
        raise ValueError("does not begin like a config in YAML" if data.strip() else "is empty")
    return data


def _yaml_reason(error: yaml.YAMLError) -> str:
    mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None)
    return f"is no YAML ({first_line(error) if None in (mark, problem) else f'line {mark.line + 1}: {problem}'})"


def first_line(error: Exception) -> str:
    """Return the first line of what an error says, its kind where it says nothing."""
    return (str(error) or type(error).__name__).splitlines()[0]
