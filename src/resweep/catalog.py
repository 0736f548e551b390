"""What there is to choose: ``resweep list``. Reads the config files themselves, so a user's own ones appear too."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path
from typing import Any

import yaml

from resweep.config import ENTRY, shipped
from resweep.errors import Problem, RequestError, nearest_name

WIDTH = 110  # columns of the table of groups
HIDDEN = ("_target_", "_partial_")


def describe(name: str | None, config_dirs: list[Path]) -> str:
    """Return the text of ``resweep list``.

    Args:
        name: None for the groups, ``GROUP`` for its choices, ``GROUP/CHOICE`` for one file with an example.
        config_dirs: further config folders.

    Raises:
        RequestError: no such group or choice, or a folder does not exist.
    """
    for folder in config_dirs:
        if not folder.is_dir():
            raise RequestError(Problem("--config-dir", str(folder), "is not a folder"))
    groups = _groups([shipped("conf"), *config_dirs])  # the first folder wins, as in Hydra's search path
    if name is None:
        return _all_groups(groups)
    group, _, choice = name.strip("/").partition("/")
    if group not in groups:
        message = f"is not a config group; there are {', '.join(groups)}"
        raise RequestError(Problem(group, None, message, _nearest(group, choice, groups)))
    if not choice:
        return _one_group(group, groups[group])
    if choice not in groups[group]:
        message = f"is not a choice of {group}; there are {', '.join(groups[group])}"
        near = nearest_name(choice, groups[group])
        raise RequestError(Problem(name, None, message, None if near is None else f"{group}/{near}"))
    text = groups[group][choice].read_text(encoding="utf-8").rstrip()
    return f"{text}\n\nuse it:  resweep train {group}={choice}"


def _groups(folders: list[Path]) -> dict[str, dict[str, Path]]:
    groups: dict[str, dict[str, Path]] = {}
    for folder in reversed(folders):
        for path in sorted(folder.glob("*/*.yaml"), key=_natural):
            groups.setdefault(path.parent.name, {})[path.stem] = path
    return dict(sorted(groups.items()))


def _nearest(group: str, choice: str, groups: dict[str, dict[str, Path]]) -> str | None:
    """The group meant, with the choice meant where one was given and the group has one like it."""
    near = nearest_name(group, groups)
    named = nearest_name(choice, groups[near]) if near and choice else None
    return f"{near}/{named}" if named else near


def _natural(path: Path) -> list[tuple[bool, int, str]]:
    """Sort resnet8 before resnet20: runs of digits count as numbers."""
    parts = re.findall(r"\d+|\D+", f"{path.parent.name}/{path.stem}")
    return [(not part.isdigit(), int(part) if part.isdigit() else 0, part) for part in parts]


def _all_groups(groups: dict[str, dict[str, Path]]) -> str:
    defaults = _defaults()
    rows = [(group, str(defaults.get(group) or "-"), ", ".join(files)) for group, files in groups.items()]
    order = {group: index for index, group in enumerate(defaults)}
    rows.sort(key=lambda row: order.get(row[0], len(order)))
    lines = ["group        default         choices"]
    for group, default, choices in rows:
        lines += textwrap.wrap(
            choices, WIDTH, initial_indent=f"{group:<12} {default:<15} ", subsequent_indent=" " * 29,
            break_long_words=False, break_on_hyphens=False,
        )  # fmt: skip
    return "\n".join([*lines, "", "choose with GROUP=CHOICE      values of a group's choices:  resweep list GROUP"])


def _defaults() -> dict[str, Any]:
    entry = yaml.safe_load((shipped("conf") / f"{ENTRY}.yaml").read_text(encoding="utf-8"))
    pairs = [next(iter(item.items())) for item in entry["defaults"] if isinstance(item, dict)]
    return {key: value for key, value in pairs if not key.startswith("override")}


def _one_group(group: str, files: dict[str, Path]) -> str:
    lines = [f"{group}      choose with {group}=NAME, change a value with {group}.KEY=VALUE", ""]
    width = max(len(name) for name in files)
    default = _defaults().get(group)
    for name, path in files.items():
        text = path.read_text(encoding="utf-8")
        comments = [line.lstrip("# ").strip() for line in text.splitlines() if line.startswith("#")]
        said = next((comment for comment in comments if comment and not comment.startswith("@package")), "")
        mark = "*" if name == default else " "
        lines.append(f"{mark}{name:<{width}}  {said}")
        values = _values(yaml.safe_load(text) or {})
        if values:
            lines.append(f" {'':<{width}}  {values}")
    lines += ["", f"* default      show one:  resweep list {group}/{default or next(iter(files))}"]
    return "\n".join(lines)


def _values(content: dict[str, Any]) -> str:
    shown = {key: value for key, value in content.items() if key not in (*HIDDEN, "defaults", "hydra", "source")}
    return " ".join(f"{key}={_short(value)}" for key, value in shown.items() if not isinstance(value, dict))


def _short(value: Any) -> str:
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value).replace(" ", "")
