"""Runs in MLflow's own local store of files, read back with MLflow's client; what they show, and how they go on."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import STEPS, TESTS, faulty, frozen, new_run, plan
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from resweep.build import component
from resweep.callbacks import Silent
from resweep.errors import RequestError
from resweep.loggers import TRACKING_FILE, read_tracking
from resweep.loggers.mlflow import RunMLflowLogger, without_secrets
from resweep.record import LOG_FILE, METRICS_FILE, RUN_FILE, Record
from resweep.rows import read_rows
from resweep.stopping import Interrupted
from resweep.sweep.ledger import write_run
from resweep.tensorboard import hyperparameters
from resweep.train import execute

COLUMN_OF = {"time/epoch_seconds": "seconds", "time/images_per_second": "images_per_second"}


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No address and no permission but the logger's own; what it sets is taken back."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")  # so that the client below may look, too
    monkeypatch.setenv("GIT_PYTHON_REFRESH", "quiet")


def client(runs_dir: Path) -> MlflowClient:
    return MlflowClient((runs_dir / "mlruns").as_uri())


def runs_of(runs_dir: Path, sweep: str) -> list:
    store = client(runs_dir)
    return store.search_runs([store.get_experiment_by_name(sweep).experiment_id])


def only_run(runs_dir: Path, sweep: str = "sweep"):
    (run,) = runs_of(runs_dir, sweep)
    return run


def steps(runs_dir: Path, run_id: str, metric: str) -> list[int]:
    return [point.step for point in client(runs_dir).get_metric_history(run_id, metric)]


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two optimizers with two seeds each in MLflow, and the first of them in TensorBoard as well."""
    runs_dir = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        patch.delenv("MLFLOW_ALLOW_FILE_STORE", raising=False)
        planned = plan(f"runs_dir={runs_dir}", "optimizer=adam,sgd", "seed=1,2", "logger=mlflow").runs
        for run in planned:
            write_run(run, runs_dir / "sweep" / run.folder)
            assert execute(runs_dir / "sweep" / run.folder).status == "completed"
        patch.delenv("MLFLOW_ALLOW_FILE_STORE")  # which the logger has set
    same = plan(f"runs_dir={runs_dir}", "optimizer=adam,sgd", "seed=1,2", "logger=tensorboard").runs[0]
    write_run(same, runs_dir / "board" / same.folder)
    execute(runs_dir / "board" / same.folder)
    return runs_dir


def test_a_sweep_is_an_experiment_and_its_runs_are_runs(sweep: Path) -> None:
    runs = runs_of(sweep, "sweep")
    folders = [path.name for path in (sweep / "sweep").iterdir() if path.is_dir()]
    assert sorted(run.info.run_name for run in runs) == sorted(folders) and len(runs) == 4
    assert {run.info.status for run in runs} == {"FINISHED"}
    groups = {run.data.tags["resweep.setting"] for run in runs}
    assert len(groups) == 2, "two settings with two seeds each"
    for run in runs:
        record = Record.read(sweep / "sweep" / run.info.run_name)
        tags = {key.removeprefix("resweep."): run.data.tags[key] for key in run.data.tags if key.startswith("resweep.")}
        assert tags == {
            "id": record.id, "config_digest": record.config_digest, "status": "completed",
            "folder": str(sweep / "sweep" / run.info.run_name), "setting": run.data.tags["resweep.setting"],
        }  # fmt: skip


def test_metrics_are_the_rows_of_the_epochs_and_the_record(sweep: Path) -> None:
    store = client(sweep)
    for run in runs_of(sweep, "sweep"):
        run_dir = sweep / "sweep" / run.info.run_name
        rows, record = read_rows(run_dir / METRICS_FILE), Record.read(run_dir)
        for name in ("train/loss", "val/accuracy", "lr", *COLUMN_OF):
            history = store.get_metric_history(run.info.run_id, name)
            assert [point.step for point in history] == [1, 2]
            column = [row[COLUMN_OF.get(name, name)] for row in rows]
            assert [point.value for point in history] == pytest.approx(column, rel=1e-6)
        assert run.data.metrics["test/accuracy"] == record.metrics["test/accuracy"]
        assert run.data.metrics["best/val_accuracy"] == record.metrics["val/accuracy"]
        assert run.data.metrics["time/fit_seconds"] == record.fit_seconds
        assert steps(sweep, run.info.run_id, "test/accuracy") == [record.best_epoch]


def test_mlflow_gets_what_tensorboard_gets(sweep: Path) -> None:
    (board,) = (path for path in (sweep / "board").iterdir() if path.is_dir())
    events = EventAccumulator(str(board)).Reload()
    run = next(run for run in runs_of(sweep, "sweep") if run.info.run_name == board.name)
    assert set(run.data.metrics) == set(events.Tags()["scalars"])
    for name in ("val/accuracy", "test/loss", "best/val_loss"):
        assert run.data.metrics[name] == pytest.approx(events.Scalars(name)[-1].value, rel=1e-6)
    config = frozen("optimizer=adam", "seed=1")
    values = hyperparameters(config, {"optimizer": "adam", "seed": 1})
    assert run.data.params == {key: str(value) for key, value in values.items()}


class Stopping(Silent):
    """Asks the run to stop in its second epoch."""

    def on_step(self, epoch: int, step: int, steps: int) -> None:
        if (epoch, step) == (2, 2):
            os.kill(os.getpid(), 2)


def test_an_interrupted_run_goes_on_in_the_same_run(tmp_path: Path) -> None:
    run_dir = new_run(tmp_path / "sweep" / "run", "logger=mlflow", "trainer.max_epochs=3")
    with pytest.raises(Interrupted):
        execute(run_dir, Stopping())
    before = only_run(tmp_path)
    assert before.info.status == "KILLED" and steps(tmp_path, before.info.run_id, "val/loss") == [1]
    assert execute(run_dir).status == "completed"
    after = only_run(tmp_path)
    assert (after.info.run_id, after.info.status) == (before.info.run_id, "FINISHED")
    assert steps(tmp_path, after.info.run_id, "val/loss") == [1, 2, 3]


def test_a_failed_run_says_so_and_goes_on_in_the_same_run(tmp_path: Path) -> None:
    repaired = tmp_path / "repaired"
    run_dir = new_run(tmp_path / "sweep" / "run", "logger=mlflow", *faulty(fault="raise", unless=repaired))
    assert execute(run_dir).status == "failed"
    before = only_run(tmp_path)
    assert before.info.status == "FAILED"
    assert execute(run_dir).status == "completed"
    after = only_run(tmp_path)
    assert (after.info.run_id, after.info.status) == (before.info.run_id, "FINISHED")


class Outage:
    """Lets a store not answer from the n-th call of a method on, n counted from 1, for some calls."""

    def __init__(self, patch: pytest.MonkeyPatch, method: str, first: int, calls: int) -> None:
        self.count = 0
        real = getattr(MlflowClient, method)

        def call(client: MlflowClient, *args: object, **settings: object) -> object:
            self.count += 1
            if first <= self.count < first + calls:
                raise MlflowException("API request to http://ann:secret@host/api failed: connection refused")
            return real(client, *args, **settings)

        patch.setattr(MlflowClient, method, call)


def test_a_store_that_dies_in_training_is_warned_of_once_and_gets_everything_at_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outage = Outage(monkeypatch, "log_batch", first=3, calls=1)  # parameters, epoch 1, and epoch 2 is refused
    run_dir = new_run(tmp_path / "sweep" / "run", "logger=mlflow", "trainer.max_epochs=4")
    record = execute(run_dir)
    assert (record.status, record.error, record.epochs) == ("completed", None, 4)
    assert outage.count == 3 + 3 + 1, "epochs 2 to 4 and the final metrics at the end, none of them in between"
    run = only_run(tmp_path)
    assert run.info.status == "FINISHED" and steps(tmp_path, run.info.run_id, "val/loss") == [1, 2, 3, 4]
    assert run.data.metrics["test/accuracy"] == record.metrics["test/accuracy"]
    log = (run_dir / LOG_FILE).read_text()
    assert log.count("MLflow did not take what was sent") == log.count("connection refused") == 1
    assert "secret" not in log


def test_a_store_that_stays_away_leaves_the_result_and_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Outage(monkeypatch, "log_batch", first=3, calls=99)
    run_dir = new_run(tmp_path / "sweep" / "run", "logger=mlflow", "trainer.max_epochs=3")
    execute(run_dir)
    record = Record.read(run_dir)
    assert (record.status, record.epochs) == ("completed", 3) and "test/accuracy" in record.metrics
    assert record.error["message"] == "API request to http://host/api failed: connection refused"
    log = (run_dir / LOG_FILE).read_text()
    assert "Traceback" in log and "secret" not in log + (run_dir / RUN_FILE).read_text()


def test_a_store_that_is_away_does_not_hide_why_a_run_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Outage(monkeypatch, "set_terminated", first=1, calls=1)
    record = execute(new_run(tmp_path / "sweep" / "one", "logger=mlflow", *faulty(fault="raise")))
    assert (record.status, record.error["message"]) == ("failed", "planted failure")
    log = (tmp_path / "sweep" / "one" / LOG_FILE).read_text()
    assert "still shows this run as running" in log and "secret" not in log
    Outage(monkeypatch, "log_batch", first=2, calls=99)
    changes = ["logger=mlflow", "trainer.max_epochs=3", *faulty(fault="raise", after=STEPS + 1)]
    record = execute(new_run(tmp_path / "sweep" / "two", *changes))
    assert (record.status, record.error["message"]) == ("failed", "planted failure")
    assert "1 rows of metrics were not sent" in (tmp_path / "sweep" / "two" / LOG_FILE).read_text()


@pytest.mark.parametrize(
    ("uri", "kept"),
    [
        ("https://ann:se%40cret@host:5000/path", "https://host:5000/path"),
        ("mysql+pymysql://ann:secret@host/db?password=secret", "mysql+pymysql://host/db"),
        ("http://host/a@b", "http://host/a@b"),
        ("file:///runs/ann@home/mlruns", "file:///runs/ann@home/mlruns"),
        ("databricks://profile", "databricks://profile"),
    ],
)
def test_an_address_is_kept_without_secrets(uri: str, kept: str) -> None:
    assert without_secrets(uri) == kept


def test_the_note_of_the_run_has_no_password_and_is_found_again_with_another(tmp_path: Path) -> None:
    run_dir = new_run(tmp_path / "sweep" / "run", "logger=mlflow")
    ids = []
    for password in ("secret", "changed"):
        logger = RunMLflowLogger(str(run_dir), tracking_uri=f"http://ann:{password}@127.0.0.1:9")
        logger._mlflow_client = client(tmp_path)  # a store that is there
        assert logger.experiment and ids.append(logger.run_id) is None
    assert ids[0] == ids[1] == read_tracking(run_dir, "mlflow")["run_id"]
    note = (run_dir / TRACKING_FILE).read_text()
    assert "http://127.0.0.1:9" in note and "secret" not in note and "ann" not in note


def test_without_a_server_the_run_fails_before_training_and_keeps_the_password(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://ann:secret@127.0.0.1:9")
    run_dir = new_run(tmp_path / "sweep" / "run", "logger=mlflow")
    record = execute(run_dir)
    assert (record.status, record.epochs) == ("failed", 0) and "127.0.0.1" in record.error["message"]
    assert not [path.name for path in run_dir.iterdir() if path.is_file() and b"secret" in path.read_bytes()]


def test_a_diverged_run_is_a_result(tmp_path: Path) -> None:
    run_dir = new_run(tmp_path / "sweep" / "run", "logger=mlflow", *faulty(fault="diverge", after=STEPS + 1))
    assert execute(run_dir).status == "diverged"
    run = only_run(tmp_path)
    assert (run.info.status, run.data.tags["resweep.status"]) == ("FINISHED", "diverged")
    values = client(tmp_path).get_metric_history(run.info.run_id, "train/loss")
    assert [point.step for point in values] == [1, 2] and values[1].value != values[1].value, "NaN stays NaN"
    assert "test/accuracy" not in run.data.metrics


def test_runs_of_one_process_go_to_their_own_stores(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    for runs_dir in (one, other):
        execute(new_run(runs_dir / "sweep" / "run", "logger=mlflow", "trainer.max_epochs=1"))
        assert "MLFLOW_TRACKING_URI" not in os.environ
    assert only_run(one).data.tags["resweep.folder"] == str(one / "sweep" / "run")
    assert only_run(other).data.tags["resweep.folder"] == str(other / "sweep" / "run")


def test_address_and_experiment_can_be_chosen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own, variable = tmp_path / "own", tmp_path / "variable"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", variable.as_uri())
    chosen = [f"logger.tracking_uri={own}", "logger.experiment_name=digits", "trainer.max_epochs=1", "logger=mlflow"]
    execute(new_run(tmp_path / "sweep" / "chosen", *chosen))
    execute(new_run(tmp_path / "sweep" / "given", "logger=mlflow", "trainer.max_epochs=1"))
    assert MlflowClient(own.as_uri()).get_experiment_by_name("digits") is not None
    assert MlflowClient(variable.as_uri()).get_experiment_by_name("sweep") is not None
    assert not (tmp_path / "mlruns").exists()


def test_a_damaged_note_of_the_run_is_named(tmp_path: Path) -> None:
    (tmp_path / TRACKING_FILE).write_text("{")
    with pytest.raises(ValueError, match=r"tracking\.json is damaged .* begins anew in mlflow"):
        read_tracking(tmp_path, "mlflow")


def test_a_missing_package_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mlflow", None)
    monkeypatch.delitem(sys.modules, "resweep.loggers.mlflow")
    with pytest.raises(RequestError, match=r"pip install 'resweep\[mlflow\]'"):
        component("logger", frozen("logger=mlflow")["logger"])


BEGIN = """
import os, sys, time
from mlflow.store.tracking.file_store import FileStore
from resweep.loggers.mlflow import RunMLflowLogger
make = FileStore._create_experiment_with_id
def slowly(*args, **kwargs):  # between the look for the name and the writing of it
    time.sleep(0.3)
    return make(*args, **kwargs)
FileStore._create_experiment_with_id = slowly
go = time.monotonic() + 0.5
for folder in sys.argv[1:]:
    if os.fork() == 0:  # what was imported is shared, so that all are ready at the same moment
        while time.monotonic() < go:
            pass
        os.write(1, (RunMLflowLogger(folder).experiment_id + chr(10)).encode())
        os._exit(0)
for folder in sys.argv[1:]:
    os.wait()
"""


@pytest.mark.slow
def test_runs_that_begin_at_the_same_time_share_the_experiment(tmp_path: Path) -> None:
    folders = [new_run(tmp_path / "sweep" / f"run{number}", f"seed={number}", "logger=mlflow") for number in range(4)]
    done = subprocess.run(
        [sys.executable, "-c", BEGIN, *folders], capture_output=True, text=True, check=True, timeout=250
    )
    store = client(tmp_path)
    assert done.stdout.split() == [store.get_experiment_by_name("sweep").experiment_id] * 4
    assert sorted(one.name for one in store.search_experiments()) == ["Default", "sweep"]
    assert sorted(run.info.run_name for run in runs_of(tmp_path, "sweep")) == [folder.name for folder in folders]


def test_the_choice_of_the_config_is_this_logger(tmp_path: Path) -> None:
    made = component("logger", frozen("logger=mlflow")["logger"])
    assert made.func is RunMLflowLogger
    assert TESTS.parent.joinpath("conf/logger/mlflow.yaml").read_text().startswith("# MLflow")
