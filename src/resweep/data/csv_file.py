"""Your own images by a list: a CSV file with a column of paths and a column of labels.

Shapes: N images, K classes.
"""

from __future__ import annotations

import csv
import io
import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor

from resweep.data.base import Source
from resweep.data.files import Decoding, Files, read_files
from resweep.data.image_folder import existing_folder
from resweep.errors import Problem, RequestError, nearest_name

SPLITS = ("train", "val", "test")
SIGNS = ("+", ";", "|", ",", "/")  # usual between labels
_SHOWN = 10


def csv_file(
    root: str | Path | None,
    file: str | Path,
    path_column: str = "path",
    label_column: str = "label",
    split_column: str | None = None,
    label_separator: str | None = None,
    classes: Sequence[str] | None = None,
    image_size: int | None = None,
    channels: int = 3,
    memory_limit_mb: int = 1024,
    crop_pct: float = 1.0,
) -> Source:
    """Read the images that a CSV file lists, one line per image behind a line with the names of the columns.

    Fields are separated by commas and may be quoted; the text is UTF-8. Spaces around a label do not count. All images
    are decoded once and held in memory, where they fit, otherwise whenever they are used
    (see :func:`resweep.data.files.read_files`).

    Args:
        root: folder that the paths are relative to; None for the folder of the CSV file.
        file: the CSV file.
        path_column: name of the column of paths.
        label_column: name of the column of labels.
        split_column: name of a column that says ``train``, ``val`` or ``test``; None makes every line ``train``.
        label_separator: what stands between the labels of one image, as in ``cat;dog``, each image having any number
            of labels; None for exactly one label per image.
        classes: names of the K classes in order; None for the labels of the training lines, sorted, by number where
            all are whole numbers.
        image_size: side S in pixels that every image is scaled and cropped to; None keeps the images' own size.
        channels: 1 (grey) or 3 (colour); images are converted.
        memory_limit_mb: largest size of all decoded images together that is held in memory, in MiB.
        crop_pct: share of the shorter side that is kept when an image is scaled, in (0, 1].

    Returns:
        The splits that the file has; with a separator labels are float32 of zeros and ones, shape (N, K), otherwise
        int64, shape (N,); mirror is True.

    Raises:
        RequestError: key ``data.file`` with the number of each wrong line, as an editor counts them: no such image,
            no or an unknown label, an unknown split, an empty line, a wrong number of fields, an image listed twice
            (the same mistake in several lines is said once); or for the whole file: missing, empty, no CSV, without a
            column, a class without a training line. Key ``data.label_separator`` if no label holds it and some hold
            another sign that is usual between labels, unless ``classes`` names them as they are. Key ``data.root`` if
            the folder is missing or images cannot be read.
    """
    decoding = Decoding(image_size, channels, crop_pct, memory_limit_mb)
    decoding.check()
    if label_separator == "":
        raise RequestError(Problem("data.label_separator", "''", "use null or at least one character, as in ;"))
    table = _Table(_existing_file(file), label_separator)
    folder = existing_folder(table.file.parent if root is None else root)
    table.read(folder, path_column, label_column, split_column)
    names = table.check_labels(None if classes is None else [str(name) for name in classes])
    splits = {
        split: Files([row.path for row in rows], table.labels(rows, names))
        for split in SPLITS
        if (rows := [row for row in table.rows if row.split == split])
    }
    choice = [str(table.file.resolve()), path_column, split_column]
    try:
        samples = read_files(table.file.stem, folder, splits, decoding, choice=choice)
    except RequestError as error:
        raise RequestError([table.with_lines(problem, folder) for problem in error.problems]) from error
    return Source(samples["train"], samples.get("val"), samples.get("test"), names, mirror=True)


def _existing_file(file: str | Path) -> Path:
    path = Path(file).expanduser()
    if path.is_file():
        return path
    if path.is_dir():
        raise RequestError(Problem("data.file", str(file), "is a folder, a CSV file is needed"))
    siblings = [entry.name for entry in path.parent.glob("*.csv")] if path.parent.is_dir() else []
    nearest = nearest_name(path.name, siblings)
    hint = None if nearest is None else str(path.parent / nearest)
    raise RequestError(Problem("data.file", str(file), "there is no such file", hint))


@dataclass(frozen=True)
class _Row:
    """One line of the file: its number, the image, its labels and its split."""

    line: int
    path: str
    labels: tuple[str, ...]
    split: str


@dataclass
class _Table:
    """The lines of a CSV file, and what is wrong with them by number of line (0: the whole file)."""

    file: Path
    separator: str | None
    rows: list[_Row] = field(default_factory=list)
    wrong: list[tuple[int, str]] = field(default_factory=list)
    separated: bool = False  # whether any label holds the separator

    def read(self, root: Path, path_column: str, label_column: str, split_column: str | None) -> None:
        """Read all lines; what is wrong is collected.

        Raises:
            RequestError: the file is no CSV, has no lines or lacks a column.
        """
        lines = self._lines()
        header = [name.strip() for name in next(lines, (0, []))[1]]
        asked = [("data.path_column", path_column), ("data.label_column", label_column)]
        asked += [] if split_column is None else [("data.split_column", split_column)]
        problems = [
            Problem(
                key, name, f"is no column of {self.file.name}; it has {', '.join(header)}", nearest_name(name, header)
            )
            for key, name in asked
            if name not in header
        ]
        if problems:
            raise RequestError(problems)
        places = [header.index(name) for _, name in asked]
        seen: dict[str, int] = {}
        for line, fields in lines:
            if not any(text.strip() for text in fields):
                self.wrong.append((line, "is empty"))
            elif len(fields) != len(header):
                count = f"{len(fields)} field{'' if len(fields) == 1 else 's'}"
                self.wrong.append((line, f"has {count}, the first line has {len(header)}"))
            else:
                self._add(line, root, seen, *(fields[place] for place in places))

    def _lines(self) -> Iterator[tuple[int, list[str]]]:
        """Go through the lines with their numbers; a quoted field may go over several."""
        reader = csv.reader(io.StringIO(self._text(), newline=""), strict=True)
        before = 0
        try:
            for fields in reader:
                yield before + 1, fields
                before = reader.line_num
        except csv.Error as error:
            raise self._refused(f"is no CSV file, see behind line {before}: {error}") from error

    def _text(self) -> str:
        """Return the text of the file, after a look at its first line."""
        try:
            text = self.file.read_bytes().decode("utf-8-sig")
        except UnicodeDecodeError as error:
            line = len((error.object[: error.start] + b"?").splitlines())
            byte = error.object[error.start]
            message = f"line {line}: the byte 0x{byte:02x} is no UTF-8; save the file in UTF-8"
            raise self._refused(message) from error
        if not text.strip():
            raise self._refused("is empty")
        first = text.lstrip().splitlines()[0]
        other = next((name for sign, name in {";": ";", "\t": "tabs", "|": "|"}.items() if sign in first), None)
        if other is not None and "," not in first:
            raise self._refused(f"fields are separated by commas, and the first line has {other} and no comma")
        return text

    def _refused(self, message: str) -> RequestError:
        return RequestError(Problem("data.file", str(self.file), message))

    def _add(self, line: int, root: Path, seen: dict[str, int], path: str, label: str, split: str = "train") -> None:
        """Take a line over, or say what is wrong with it."""
        full, split = os.path.join(root, path.strip()), split.strip()
        self.separated = self.separated or (self.separator is not None and self.separator in label)
        labels = tuple(part.strip() for part in ([label] if self.separator is None else label.split(self.separator)))
        labels = tuple(dict.fromkeys(part for part in labels if part))
        if not path.strip():
            self.wrong.append((line, "has no path"))
        elif not os.path.isfile(full):
            self.wrong.append((line, f"there is no file {path.strip()}"))
        elif seen.setdefault(full, line) != line:
            self.wrong.append((line, f"{path.strip()} is in line {seen[full]} already"))
        if split not in SPLITS:
            self.wrong.append((line, f"{split or 'no'} split: use one of {', '.join(SPLITS)}"))
        elif not labels and self.separator is None:
            self.wrong.append((line, "has no label"))
        else:
            self.rows.append(_Row(line, full, labels, split))

    def check_labels(self, classes: Sequence[str] | None) -> tuple[str, ...]:
        """Return the names of the classes.

        Raises:
            RequestError: everything that is wrong with the file, or a separator that is not the file's.
        """
        self._check_separator(classes)
        used = {label for row in self.rows if row.split == "train" for label in row.labels}
        whole = all(label.isascii() and label.isdigit() for label in used)
        names = sorted(used, key=int if whole else str) if classes is None else list(classes)
        known = set(names)
        where = "not in data.classes" if classes is not None else "in no training line"
        for row in self.rows:
            for label in row.labels:
                if label not in known:
                    hint = nearest_name(label, names)
                    text = f"the label {label} is {where}" + (f", did you mean {hint}?" if hint else "")
                    self.wrong.append((row.line, text))
        if not self.wrong:
            self._check_classes(names, used)
        if self.wrong:
            raise RequestError(self._problems())
        return tuple(names)

    def _check_separator(self, classes: Sequence[str] | None) -> None:
        """Refuse a separator that no label holds where another sign stands between the parts of some."""
        labels = {label for row in self.rows for label in row.labels}
        if self.separator is None or self.separated or len(labels) < 2 or labels <= set(classes or ()):
            return
        held = Counter(sign for label in sorted(labels) for sign in SIGNS if _divides(sign, label))
        if held:
            sign = held.most_common(1)[0][0]
            example = next(label for label in sorted(labels) if _divides(sign, label))
            message = (
                f"is in no label of {self.file.name}, but {example} has {sign} (one label? list all in data.classes)"
            )
            wrong = Problem("data.label_separator", self.separator, message, sign)
            raise RequestError([wrong, *self._problems()])

    def _check_classes(self, names: Sequence[str], used: set[str]) -> None:
        """Refuse too few classes, and those without any image in a split."""
        least = 1 if self.separator is not None else 2
        if len(names) < least:
            self.wrong.append((0, f"has {len(names)} classes in its training lines, at least {least} are needed"))
        if absent := [name for name in names if name not in used]:
            self.wrong.append((0, f"has no training line with the label {_listed(absent)}"))
        for split in ("val", "test") if self.separator is None else ():
            there = {label for row in self.rows if row.split == split for label in row.labels}
            if there and (absent := [name for name in names if name not in there]):
                self.wrong.append((0, f"has no {split} line with the label {_listed(absent)}"))

    def labels(self, rows: Sequence[_Row], names: Sequence[str]) -> Tensor:
        """Return the labels of some lines as numbers."""
        numbers = {name: number for number, name in enumerate(names)}
        if self.separator is None:
            return torch.tensor([numbers[row.labels[0]] for row in rows], dtype=torch.int64)
        table = torch.zeros(len(rows), len(names))
        for target, row in zip(table, rows, strict=True):
            target[[numbers[label] for label in row.labels]] = 1
        return table

    def _problems(self) -> list[Problem]:
        """Name what is wrong, each mistake with its first line, up to ten of them."""
        lines: dict[str, list[int]] = {}
        for line, text in sorted(self.wrong):
            lines.setdefault(text, []).append(line)
        texts = [_at_lines(numbers) + text for text, numbers in lines.items()]
        if len(texts) > _SHOWN:
            texts = [*texts[:_SHOWN], f"and {sum(map(len, list(lines.values())[_SHOWN:]))} more"]
        return [Problem("data.file", str(self.file), text) for text in texts]

    def with_lines(self, problem: Problem, root: Path) -> Problem:
        """Add the numbers of the lines to a problem that names images, as in ``…: a.png: no image; b.png: …``."""
        lines = {row.path.removeprefix(f"{root}/") + ":": row.line for row in self.rows}
        words = re.split("(?<=[:;]) ", problem.message)
        words = [f"line {lines[word]}: {word}" if word in lines else word for word in words]
        return replace(problem, message=" ".join(words))


def _divides(sign: str, label: str) -> bool:
    return all(part.strip() for part in label.split(sign)) and sign in label


def _at_lines(numbers: Sequence[int]) -> str:
    if numbers[0] == 0:
        return ""
    return f"line {numbers[0]}" + (f" and {len(numbers) - 1} more: " if len(numbers) > 1 else ": ")


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
