"""Data sets of picture files with lists of which belong to which split and class."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from resweep.data.base import Source
from resweep.data.files import Decoding, Files, read_files
from resweep.errors import Problem, RequestError

_SHOWN = 3

Split = tuple[Sequence[Path], Sequence[int]]


def annotated(
    name: str, title: str, root: Path, splits: Mapping[str, Split], classes: Sequence[str], decoding: Decoding
) -> Source:
    """Return a source of files whose labels are known.

    Args:
        name: of the data set in the cache; other lists of files need another one.
        title: its name in messages.
        root: folder that all files lie below.
        splits: paths and labels of ``train`` and, where there are any, ``val`` and ``test``.
        classes: names of the K classes.
        decoding: size and channels of the images (see :func:`resweep.data.files.read_files`).

    Raises:
        RequestError: key ``data.root`` if files are missing or cannot be read; keys of ``decoding``.
    """
    empty = [split for split, (paths, _) in splits.items() if not paths]
    if empty:
        message = f"its {title} files are damaged (the lists name no {' and no '.join(empty)} images); replace them"
        raise RequestError(Problem("data.root", str(root), message))
    _require_files(title, root, [path for paths, _ in splits.values() for path in paths])
    files = {
        split: Files([str(path) for path in paths], torch.tensor(labels, dtype=torch.int64))
        for split, (paths, labels) in splits.items()
    }
    samples = read_files(name, root, files, decoding)
    return Source(samples["train"], samples.get("val"), samples.get("test"), tuple(classes), mirror=True)


def by_class(files: Sequence[str | Path], classes: Sequence[str]) -> Split:
    """Label files by the name of the folder they lie in."""
    index = {name: label for label, name in enumerate(classes)}
    paths = [Path(file) for file in files]
    return paths, [index[path.parent.name] for path in paths]


def _require_files(title: str, root: Path, paths: Sequence[Path]) -> None:
    """Refuse lists that name files which are not there."""
    folders: dict[Path, set[str]] = {}
    missing = []
    for path in paths:
        if path.parent not in folders:
            folders[path.parent] = set(os.listdir(path.parent)) if path.parent.is_dir() else set()
        if path.name not in folders[path.parent]:
            missing.append(path.relative_to(root).as_posix())
    if missing:
        more = "" if len(missing) <= _SHOWN else f" and {len(missing) - _SHOWN} more"
        message = f"lacks {len(missing)} of the {len(paths)} images of {title}: {', '.join(missing[:_SHOWN])}{more}"
        raise RequestError(Problem("data.root", str(root), message))
