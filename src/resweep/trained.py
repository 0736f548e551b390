"""One run as Python code and notebooks use it: its record, its curves and the net that it has trained."""

from __future__ import annotations

import html
from collections.abc import Iterator, Sequence
from copy import deepcopy
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from resweep.config import dump_yaml, read_frozen
from resweep.console import duration, relative
from resweep.errors import Problem, RequestError, nearest_name
from resweep.record import BEST, CHECKPOINTS, CONFUSION_FILE, Record

if TYPE_CHECKING:
    import pandas
    from torch import Tensor, nn

    from resweep.data.datamodule import ImageDataModule
    from resweep.report.load import RunRecord

SPLITS = ("train", "val", "test")


class Config(dict):
    """A frozen config as nested dictionaries, which a notebook shows as YAML."""

    def __repr__(self) -> str:
        return dump_yaml(self)


class TrainedRun:
    """A run's folder.

    Args:
        run_dir: the folder, with ``config.yaml`` and ``run.json``.

    Raises:
        RequestError: the folder is not a run, or its record is damaged.
    """

    def __init__(self, run_dir: str | Path) -> None:
        self.dir = Path(run_dir)
        try:
            self.record = Record.read(self.dir)
        except (ValueError, OSError) as error:
            raise RequestError(Problem("RUN_DIR", str(run_dir), f"is not a run: {error}")) from error

    @property
    def status(self) -> str:
        """State of the run, such as ``completed``."""
        return self.record.status

    @property
    def metrics(self) -> dict[str, float | None]:
        """``val/...`` of the best epoch and ``test/...`` of its checkpoint."""
        return self.record.metrics

    @cached_property
    def config(self) -> Config:
        """The frozen config."""
        return Config(read_frozen(self.dir))

    @cached_property
    def curves(self) -> pandas.DataFrame:
        """One row per epoch: the columns of ``metrics.csv``."""
        from resweep.report.load import load_curves

        return load_curves(self._as_loaded())

    @cached_property
    def confusion(self) -> pandas.DataFrame:
        """Test images by true class (rows) and predicted class (columns).

        Raises:
            RequestError: the run has no such table: it was not tested, or an image may have several labels.
        """
        import pandas

        from resweep.report.load import load_confusion

        found = load_confusion(self._as_loaded())
        if found is None:
            raise RequestError(Problem("RUN_DIR", str(self.dir), f"has no {CONFUSION_FILE}"))
        names = list(found.classes)
        return pandas.DataFrame(found.counts, pandas.Index(names, name="true"), pandas.Index(names, name="predicted"))

    def _as_loaded(self) -> RunRecord:
        from resweep.report.load import RunRecord

        return RunRecord(dir=self.dir, **vars(self.record))

    @cached_property
    def data(self) -> ImageDataModule:
        """The run's data, loaded from where the config says.

        Raises:
            RequestError: the data is missing, or no longer holds the images that the run was made with.
        """
        from resweep.build import build_data, prepare_imports

        prepare_imports(self.config)
        data = build_data(self.config)
        if self.record.data_digest not in (None, data.digest):
            root = str(self.config["data"].get("root"))
            raise RequestError(Problem("data.root", root, "no longer holds the images the run was made with"))
        return data

    def model(self) -> nn.Module:
        """Return the net of the best checkpoint, on the processor and in evaluation mode.

        These are the weights that validation and test have judged: with an average of the weights, or with Lookahead,
        those. The net takes normalized images, as :meth:`batches` gives them, and returns logits.

        Returns:
            A net from float32 (B, C, H, W) to float32 (B, K).

        Raises:
            RequestError: the run has no best checkpoint, or its data, which says how many classes there are, is
                missing.
        """
        checkpoint = self.dir / CHECKPOINTS / BEST
        if not checkpoint.is_file():
            message = f"has no {CHECKPOINTS}/{BEST}: it is {self.status} after {self.record.epochs} epochs"
            raise RequestError(Problem("RUN_DIR", str(self.dir), message))
        from resweep.build import build_lit_module, build_net
        from resweep.models.pretrained import structure_only
        from resweep.train import read_weights

        with structure_only():
            net = build_net(self.config, self.data)
        lit_module = build_lit_module(self.config, net, self.data)
        lit_module.load_state_dict(read_weights(checkpoint))
        with lit_module.judged_weights():
            return deepcopy(lit_module.judged).eval()

    def batches(self, split: str = "test") -> Iterator[tuple[Tensor, Tensor]]:
        """Give the batches of a split as the net sees them when it is judged: in order, not augmented, normalized.

        Args:
            split: ``train``, ``val`` or ``test``.

        Yields:
            Images, float32 (B, C, H, W), and targets: int64 (B,), or float (B, K) for several labels per image.

        Raises:
            RequestError: there is no such split, or the data is missing.
        """
        if split not in SPLITS:
            message = f"must be one of {', '.join(SPLITS)}"
            raise RequestError(Problem("split", str(split), message, nearest_name(str(split), SPLITS)))
        from resweep.build import build_trainer
        from resweep.train import log_to

        data = self.data
        with log_to(self.dir):
            data.trainer = build_trainer(self.config, None, [], [])
        for batch in data.evaluation_loader(getattr(data, split)):
            yield data.on_after_batch_transfer(batch, 0)

    def _facts(self) -> dict[str, str]:
        record = self.record
        facts = {"run": record.id, "status": record.status, "overrides": " ".join(record.overrides) or "none"}
        if record.error is not None:
            facts["cause"] = f"{record.error.get('type')}: {record.error.get('message')}"
        facts["epochs"] = f"{record.epochs}, best {record.best_epoch}, {duration(record.fit_seconds)}"
        facts |= {name: f"{value:.4f}" for name, value in record.metrics.items() if value is not None}
        return facts | {"folder": relative(self.dir)}

    def __repr__(self) -> str:
        return "\n".join(f"{name:<16} {text}" for name, text in self._facts().items())

    def _repr_html_(self) -> str:
        return html_table([], [[name, text] for name, text in self._facts().items()])


def html_table(columns: Sequence[str], rows: Sequence[Sequence[str]], marked: Sequence[bool] = ()) -> str:
    """Return a table of texts as HTML, everything escaped; marked rows are bold."""
    left = ' style="text-align:left"'
    head = "".join(f'<th scope="col"{left}>{html.escape(text)}</th>' for text in columns)
    lines = [f"<thead><tr>{head}</tr></thead>"] if columns else []
    for number, row in enumerate(rows):
        style = ' style="font-weight:bold"' if marked and marked[number] else ""
        cells = "".join(f"<td{left}>{html.escape(text)}</td>" for text in row)
        lines.append(f"<tr{style}>{cells}</tr>")
    return f"<table>{''.join(lines)}</table>"
