"""Progress of one run and of a sweep, live on a terminal and line by line elsewhere."""

from __future__ import annotations

import functools
import time
from collections import Counter, deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from resweep.console import Output, duration, relative, size, value
from resweep.record import FINISHED, LOG_FILE, METRICS_FILE, Record
from resweep.rows import read_rows

STATUS_SECONDS = 300.0
HEARTBEAT_SECONDS = 60.0
SHOWN_RUNS = 12
RESERVED = (
    "run",
    "id",
    "reason",
    "log",
    "val_acc",
    "test_acc",
    "secs",
    "epochs",
)  # words of an event; axes named so stay whole


class RunDisplay:
    """Watches one run in this process (an ``Observer``).

    Args:
        output: where and how.
        epochs: planned number of epochs.
        banner: lines to print before training, without the facts that are known only then.
    """

    def __init__(self, output: Output, epochs: int, banner: list[str]) -> None:
        self.output = output
        self.epochs = epochs
        self.banner = banner
        self.seconds: list[float] = []
        self.beat = time.monotonic()
        self.live: Live | None = None

    def on_start(self, facts: dict[str, Any]) -> None:
        """Print the banner; at most eight lines, changed values first."""
        shape = "x".join(str(side) for side in facts["shape"])
        self.output.note(
            "\n".join(
                [
                    *self.banner,
                    f"model     {facts['parameters'] / 1e6:.2f} M parameters, {size(facts['bytes'])}; "
                    f"{facts['classes']} classes, {shape} images",
                    f"data      train {facts['train']}, val {facts['val']}, "
                    f"test {facts['test']} (not used before the end)",
                ]
            )
        )
        if self.output.mode == "live":
            self.output.note(f"{'epoch':>6} {'train loss':>11} {'val loss':>9} {'val acc':>8} {'lr':>9} {'time':>7}")
            self.live = Live(Text(""), console=Console(stderr=True), refresh_per_second=8, transient=True)
            self.live.start()

    def on_step(self, epoch: int, step: int, steps: int) -> None:
        """Move the bar, or write a heartbeat in an epoch longer than a minute."""
        if self.live is not None:
            done, left = int(24 * step / steps), self._left() or "?"
            self.live.update(Text(f"{epoch:>6}  {'━' * done}{'─' * (24 - done)}  {step}/{steps}   all {left} left"))
        elif time.monotonic() - self.beat > HEARTBEAT_SECONDS:
            self.beat = time.monotonic()
            self.output.event("step", epoch=f"{epoch}/{self.epochs}", step=f"{step}/{steps}", left=self._left())

    def on_epoch(self, row: dict[str, float], best: bool) -> None:
        """Keep one row per epoch on the screen."""
        self.seconds.append(row["seconds"])
        self.beat = time.monotonic()
        epoch = int(row["epoch"])
        usual = ("val/loss", "val/accuracy")
        further = {key: f"{value:.4f}" for key, value in row.items() if key.startswith("val/") and key not in usual}
        if self.live is not None:
            mark = "".join(f"   {key} {value}" for key, value in further.items()) + (" *" if best else "")
            self.live.console.print(
                f"{epoch:>6} {row['train/loss']:>11.4f} {row['val/loss']:>9.4f} {row['val/accuracy']:>8.4f} "
                f"{row['lr']:>9.2e} {duration(row['seconds']):>7}{mark}",
                highlight=False,
            )
        self.output.event(
            "epoch",
            epoch=f"{epoch}/{self.epochs}",
            train_loss=f"{row['train/loss']:.4f}",
            val_loss=f"{row['val/loss']:.4f}",
            val_acc=f"{row['val/accuracy']:.4f}",
            **{key.replace("/", "_"): value for key, value in further.items()},
            best="yes" if best else None,
            lr=f"{row['lr']:.2e}",
            secs=f"{row['seconds']:.2f}",
            left=self._left(),
        )

    def on_stop(self) -> None:
        """Say that the signal was heard."""
        _note(self.output, self.live, "stopping: the run saves itself; Ctrl-C again ends it at once")

    def _left(self) -> str | None:
        if not self.seconds:
            return None
        timed = self.seconds[1:] or self.seconds  # the first epoch is not representative
        return duration(sum(timed) / len(timed) * (self.epochs - len(self.seconds)))

    def close(self) -> None:
        """Take the bar away."""
        if self.live is not None:
            self.live.stop()
            self.live = None


class SweepDisplay:
    """Watches a sweep through the files of its runs, as ``resweep status`` does.

    Args:
        output: where and how.
        records: of the runs that are known when the sweep starts, in plan order; a search adds others.
        epochs: returns the planned epochs of a run.
        total: runs that there are to be; None for those that are known.
    """

    def __init__(
        self, output: Output, records: dict[Path, Record], epochs: Callable[[Path], int], total: int | None = None
    ) -> None:
        self.output = output
        self.epochs = functools.cache(epochs)
        self.records = records
        self.numbers = {run_dir: number for number, run_dir in enumerate(records)}
        self.total = max(total or 0, len(records))
        self.states = Counter(record.status for record in records.values())  # without the runs under way
        scores = [record.metrics.get("val/accuracy") for record in records.values()]
        self.best = max((score for score in scores if score is not None), default=None)
        ended = [run_dir for run_dir, record in records.items() if record.finished_at]
        self.ended = deque(reversed(ended[-SHOWN_RUNS:]), maxlen=SHOWN_RUNS)
        self.width = max(3, len(str(self.total - 1)))
        self.started: dict[Path, float] = {}
        self.begin = self.status_at = time.monotonic()
        self.seconds: list[float] = []
        self.live: Live | None = None

    def open(self) -> None:
        """Start the live table on a terminal."""
        if self.output.mode == "live":
            self.live = Live(self._table(), console=Console(stderr=True), refresh_per_second=4, transient=True)
            self.live.start()

    def close(self) -> None:
        """Take the live table away."""
        if self.live is not None:
            self.live.stop()
            self.live = None

    def on_event(self, kind: str, run_dir: Path) -> None:
        """React to an executor's event."""
        if kind == "start":
            self._add(run_dir)
            self.states[self.records[run_dir].status] -= 1
            self.started[run_dir] = time.monotonic()
            self.output.event("start", **self._names(run_dir))
        elif kind == "end":
            self._add(run_dir)
            self._ended(run_dir)
        elif kind == "again":
            reason = self._take_note(run_dir).error
            cause = reason["message"] if reason else "interrupted"
            self._say("again", run_dir, f"{cause}; goes on from where it was saved")
        elif kind == "gone":
            self.started.pop(run_dir, None)
            self._say("FAILED", run_dir, "its folder was taken away or damaged")
        elif kind == "stop":
            _note(
                self.output, self.live, "stopping: the runs under way save themselves; Ctrl-C again ends them at once"
            )
        elif self.live is None and time.monotonic() - self.status_at > STATUS_SECONDS:
            self.status_at = time.monotonic()
            self.output.event("status", **self._counts())
        if self.live is not None:
            self.live.update(self._table())

    def _add(self, run_dir: Path) -> None:
        if run_dir not in self.numbers:
            self.numbers[run_dir] = len(self.numbers)
            record = self.records[run_dir] = Record.read(run_dir)
            self.states[record.status] += 1
            self.total = max(self.total, len(self.numbers))

    def _take_note(self, run_dir: Path) -> Record:
        """Read what has become of a run that is no longer under way."""
        record = self.records[run_dir] = Record.read(run_dir)
        if self.started.pop(run_dir, None) is not None:
            self.states[record.status] += 1
        score = record.metrics.get("val/accuracy")
        self.best = score if self.best is None else max(self.best, score or self.best)
        self.ended.appendleft(run_dir)
        return record

    def _ended(self, run_dir: Path) -> None:
        record = self._take_note(run_dir)
        if record.status in FINISHED:
            self.seconds.append(record.fit_seconds or 0.0)
        if record.status in ("completed", "pruned"):
            epochs = record.epochs if record.status == "pruned" else None
            word = "done" if epochs is None else "pruned"
            self.output.event(word, **self._names(run_dir), epochs=epochs, **_scores(record))
            return
        word = "FAILED" if record.status in ("failed", "lost") else record.status
        if record.status == "running":
            word, reason = "FAILED", "its record could not be written"
        else:
            reason = record.error["message"] if record.error else None
        self._say(word, run_dir, reason)

    def _say(self, word: str, run_dir: Path, reason: str | None) -> None:
        """Write a line that stays."""
        record = self.records[run_dir]
        self.output.event(word, **self._names(run_dir), reason=reason, log=relative(run_dir / LOG_FILE))
        if self.live is not None:
            swept = " ".join(f"{key}={value(given)}" for key, given in record.swept.items())
            text = (
                f"{word} {self._number(run_dir)}-{record.id} {swept}   {reason or ''}   {relative(run_dir / LOG_FILE)}"
            )
            self.live.console.print(Text(text, style="red" if word == "FAILED" else ""), soft_wrap=True)

    def _number(self, run_dir: Path) -> str:
        return f"{self.numbers[run_dir]:0{self.width}d}"

    def _names(self, run_dir: Path) -> dict[str, Any]:
        record = self.records[run_dir]
        lasts = Counter([*RESERVED, *(key.rsplit(".", 1)[-1] for key in record.swept)])
        swept = {
            key if lasts[last := key.rsplit(".", 1)[-1]] > 1 else last: value(v) for key, v in record.swept.items()
        }
        return {"run": self._number(run_dir), "id": record.id, **swept}

    def _counts(self) -> dict[str, Any]:
        done = sum(self.states[state] for state in FINISHED)
        failed = self.states["failed"] + self.states["lost"]
        counts = {"done": done, "running": len(self.started), "failed": failed}
        waiting = self.total - sum(counts.values())
        left = None
        if self.seconds:
            spent = time.monotonic() - self.begin
            left = duration(spent / len(self.seconds) * (waiting + len(self.started) / 2))
        elapsed = duration(time.monotonic() - self.begin)
        shown = None if self.best is None else f"{self.best:.4f}"
        return counts | {"waiting": waiting, "elapsed": elapsed, "left": left, "best": shown}

    def _table(self) -> Group:
        counts = self._counts()
        head = (
            f" {counts['done']} done   {counts['running']} running   {counts['failed']} failed   "
            f"{counts['waiting']} waiting     elapsed {counts['elapsed']}   left about {counts['left'] or '?'}"
            f"    best val acc {counts['best'] or '-'}"
        )
        shown = list(dict.fromkeys([*self.started, *self.ended]))[:SHOWN_RUNS]
        axes = list(dict.fromkeys(key for run_dir in shown for key in self.records[run_dir].swept))
        table = Table(box=None, pad_edge=False, header_style="dim")
        for title in ("run", "id", *(axis.rsplit(".", 1)[-1] for axis in axes), "state", "epoch", "val acc", "time"):
            table.add_column(title, justify="right" if title in ("epoch", "val acc", "time") else "left", no_wrap=True)
        for run_dir in shown:
            table.add_row(*self._row(run_dir, axes))
        return Group(Text(head, style="bold", no_wrap=True), table)

    def _row(self, run_dir: Path, axes: list[str]) -> list[str]:
        record = self.records[run_dir]
        swept = [value(record.swept.get(axis)) for axis in axes]
        names = [self._number(run_dir), record.id, *swept]
        if run_dir in self.started:
            rows = read_rows(run_dir / METRICS_FILE)
            accuracy = f"{rows[-1]['val/accuracy']:.4f}" if rows else ""
            spent = duration(time.monotonic() - self.started[run_dir])
            return [*names, "running", f"{len(rows)}/{self.epochs(run_dir)}", accuracy, spent]
        accuracy = record.metrics.get("val/accuracy")
        shown = "" if accuracy is None else f"{accuracy:.4f}"
        state = "done" if record.status == "completed" else record.status
        return [*names, state, f"{record.epochs}/{self.epochs(run_dir)}", shown, duration(record.fit_seconds)]


def _note(output: Output, live: Live | None, text: str) -> None:
    """Write a line that stays, above what is redrawn."""
    if live is None:
        output.note(text)
    else:
        live.console.print(text, highlight=False)


def _scores(record: Record) -> dict[str, Any]:
    names = {"val_acc": "val/accuracy", "test_acc": "test/accuracy"}
    scores = {word: record.metrics.get(key) for word, key in names.items()}
    shown = {word: f"{score:.4f}" for word, score in scores.items() if score is not None}
    return shown | {"secs": f"{record.fit_seconds or 0:.1f}"}
