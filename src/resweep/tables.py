"""What the test has shown, as files of the run: tables in CSV, and a picture of the worst mistakes."""

from __future__ import annotations

import csv
import io
import logging
import math
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from resweep.data.base import Samples
from resweep.mistakes import Mistake
from resweep.pictures import image_grid
from resweep.record import CALIBRATION_FILE, CONFUSION_FILE, MISTAKES_FILE, WEIGHTS_FILE, write_atomic
from resweep.scores import TestResult

CLASSES_FILE = "classes.csv"
LOG = logging.getLogger(__name__)


def write_result(
    run_dir: Path, result: TestResult, net: nn.Module, samples: Samples, classes: Sequence[str]
) -> dict[str, str]:
    """Write all files about the test that are not the record's.

    The counts of the test, ``classes.csv`` and ``confusion.csv``, have to be written. The other files show more of a
    run whose result is known: what goes wrong with one of them stands in the log and undoes nothing.

    Args:
        run_dir: folder of the run.
        result: of the test.
        net: with the weights that were tested.
        samples: the split that was tested.
        classes: K names.

    Returns:
        The files that could not be written, each with the reason; they do not exist.
    """
    write_classes(run_dir, result, classes)
    if result.confusion is not None:
        write_confusion(run_dir, result.confusion, classes)
    further = {
        CALIBRATION_FILE: partial(write_calibration, run_dir, result),
        WEIGHTS_FILE: partial(write_weights, run_dir, net),
        MISTAKES_FILE: partial(write_mistakes, run_dir, result.mistakes, samples, classes),
    }
    missing = {}
    for name, write in further.items():
        try:
            write()
        except Exception as error:  # whatever it was: the run's result does not depend on it
            LOG.exception("%s could not be written", name)
            missing[name] = " ".join(f"{type(error).__name__}: {error}".split())
            (run_dir / name).unlink(missing_ok=True)  # of an earlier attempt
    return missing


def write_confusion(run_dir: Path, confusion: Tensor, classes: Sequence[str]) -> None:
    """Write the confusion matrix as ``confusion.csv``: a header of class names, then one row per true class.

    Args:
        run_dir: folder of the run.
        confusion: int64 (K, K), rows = true class.
        classes: K names.
    """
    rows = [[name, *row] for name, row in zip(classes, confusion.tolist(), strict=True)]
    _write(run_dir / CONFUSION_FILE, ["true \\ predicted", *classes], rows)


def write_classes(run_dir: Path, result: TestResult, classes: Sequence[str]) -> None:
    """Write ``classes.csv``: one row per class or label with what the test split has shown about it.

    Numbers have ten digits; an undefined one (nan) is an empty field.

    Args:
        run_dir: folder of the run.
        result: has the columns.
        classes: K names.
    """
    rows = zip(classes, *result.classes.values(), strict=True)
    _write(run_dir / CLASSES_FILE, ["class", *result.classes], [[_text(value) for value in row] for row in rows])


def write_calibration(run_dir: Path, result: TestResult) -> None:
    """Write ``calibration.csv``: a row per bin of confidence with what came true of it.

    Columns ``lower,upper,count,confidence,accuracy``; the two means of an empty bin are empty fields.

    Args:
        run_dir: folder of the run.
        result: has the table, see :meth:`resweep.calibration.Calibration.table`.
    """
    rows = zip(*result.calibration.values(), strict=True)
    _write(run_dir / CALIBRATION_FILE, list(result.calibration), [[_text(value) for value in row] for row in rows])


def write_weights(run_dir: Path, net: nn.Module) -> None:
    """Write ``weights.csv``: a row ``name,count,norm,largest`` per parameter tensor of a net.

    Args:
        run_dir: folder of the run.
        net: with the weights that were tested.
    """
    rows = [[name, count, _text(norm), _text(largest)] for name, count, norm, largest in weight_rows(net)]
    _write(run_dir / WEIGHTS_FILE, ["name", "count", "norm", "largest"], rows)


def weight_rows(net: nn.Module) -> list[tuple[str, int, float, float]]:
    """Return name, number of values, L2 norm and largest absolute value of each parameter tensor of a net."""
    named = [(name, parameter.detach().float()) for name, parameter in net.named_parameters() if parameter.numel()]
    tensors = [tensor for _, tensor in named]
    if not tensors:
        return []
    norms, largest = (torch.stack(torch._foreach_norm(tensors, order)).tolist() for order in (2, torch.inf))
    return [(name, tensor.numel(), *values) for (name, tensor), *values in zip(named, norms, largest, strict=True)]


def write_mistakes(run_dir: Path, mistakes: Sequence[Mistake], samples: Samples, classes: Sequence[str]) -> None:
    """Write ``mistakes.png``: the images of the most confident mistakes with what they show and what was said.

    Where there are none there is no file, and one of an earlier attempt is removed.

    Args:
        run_dir: folder of the run.
        mistakes: at most 16.
        samples: the split that was tested; the images are read again.
        classes: K names.
    """
    path = run_dir / MISTAKES_FILE
    if not mistakes:
        path.unlink(missing_ok=True)
        return
    images, _ = samples.batch(torch.tensor([mistake.position for mistake in mistakes]))
    write_atomic(path, image_grid(images, [_caption(mistake, classes) for mistake in mistakes]))


def _caption(mistake: Mistake, classes: Sequence[str]) -> tuple[str, str]:
    true, predicted = mistake.names(classes)
    return f"true: {true}", f"{mistake.confidence:.0%}: {predicted}"


def _write(path: Path, header: list[str], rows: list[list]) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    write_atomic(path, text.getvalue())


def _text(value: str | float) -> str:
    if isinstance(value, float):
        return "" if math.isnan(value) else f"{value:.10g}"
    return str(value)
