"""MLflow runs: continued by who works in the same run folder, begun anew where they cannot be."""

import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from cluster.tracking import RUN_FILE, BackgroundTracker, Tracker, tracking_uri
from eosvos.errors import BadInput


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with MLflow's tables, which take seconds to make."""
    path = tmp_path_factory.mktemp("store") / "empty.db"
    MlflowClient(f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def uri(empty_store: Path, tmp_path: Path) -> Iterator[str]:
    shutil.copyfile(empty_store, tmp_path / "mlflow.db")
    return f"sqlite:///{tmp_path / 'mlflow.db'}"


def _open(uri: str, folder: Path, **options: bool) -> Tracker:
    return Tracker(uri, "meta_train", "meta_train run", folder, {"T": 5, "model.backbone": "tiny"}, **options)


def test_a_new_run(uri: str, tmp_path: Path) -> None:
    tracker = _open(uri, tmp_path / "run")
    tracker.metrics([(1, {"loss": 2.0, "kept": 4}), (2, {"loss": 1.5, "kept": 4})])
    tracker.tags({"data_hash": "abc"})
    (tmp_path / "last.safetensors").write_bytes(b"weights")
    tracker.artifact(tmp_path / "last.safetensors")
    tracker.end()
    client = MlflowClient(uri)
    run = client.get_run(tracker.run_id)
    assert (run.info.status, run.info.run_name) == ("FINISHED", "meta_train run")
    assert run.data.params == {"T": "5", "model.backbone": "tiny"}
    assert run.data.tags["data_hash"] == "abc"
    assert [(m.step, m.value) for m in client.get_metric_history(tracker.run_id, "loss")] == [(1, 2.0), (2, 1.5)]
    assert tracker.last_step("loss") == 2
    assert tracker.last_step("another") == 0
    assert client.get_experiment(run.info.experiment_id).name == "meta_train"
    (stored,) = tmp_path.glob("mlflow_artifacts/meta_train/*/artifacts/last.safetensors")
    assert stored.read_bytes() == b"weights"
    assert (tmp_path / "run" / RUN_FILE).read_text() == f"{uri} {tracker.run_id}\n"


def test_more_metrics_than_one_request_takes(uri: str, tmp_path: Path) -> None:
    tracker = _open(uri, tmp_path / "run")
    tracker.metrics([(step, {"loss": float(step), "kept": 4.0}) for step in range(700)])
    assert tracker.last_step("loss") == tracker.last_step("kept") == 699


def test_the_same_folder_continues_its_run(uri: str, tmp_path: Path) -> None:
    first = _open(uri, tmp_path / "run")
    first.metrics([(1, {"loss": 2.0})])
    first.end(failed=True)
    assert MlflowClient(uri).get_run(first.run_id).info.status == "FAILED"
    second = _open(uri, tmp_path / "run")
    assert second.run_id == first.run_id
    assert MlflowClient(uri).get_run(first.run_id).info.status == "RUNNING"
    second.metrics([(2, {"loss": 1.0})])
    second.end()
    assert [m.step for m in MlflowClient(uri).get_metric_history(first.run_id, "loss")] == [1, 2]


def test_another_folder_and_one_that_does_not_resume_begin_runs_of_their_own(uri: str, tmp_path: Path) -> None:
    first = _open(uri, tmp_path / "run")
    assert _open(uri, tmp_path / "other").run_id != first.run_id
    assert _open(uri, tmp_path / "run", resume=False).run_id != first.run_id


def test_another_address_begins_a_run_of_its_own(uri: str, empty_store: Path, tmp_path: Path) -> None:
    first = _open(uri, tmp_path / "run")
    shutil.copyfile(empty_store, tmp_path / "other.db")
    other = f"sqlite:///{tmp_path / 'other.db'}"
    second = _open(other, tmp_path / "run")
    assert second.run_id != first.run_id
    assert (tmp_path / "run" / RUN_FILE).read_text() == f"{other} {second.run_id}\n"


def test_a_store_that_was_emptied_gets_a_new_run(uri: str, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / RUN_FILE).write_text(f"{uri} {'0' * 32}\n")
    tracker = _open(uri, tmp_path / "run")
    assert tracker.run_id != "0" * 32
    assert MlflowClient(uri).get_run(tracker.run_id).info.status == "RUNNING"


def test_a_run_that_was_deleted_is_not_continued(uri: str, tmp_path: Path) -> None:
    first = _open(uri, tmp_path / "run")
    MlflowClient(uri).delete_run(first.run_id)
    assert _open(uri, tmp_path / "run").run_id != first.run_id


def test_metrics_wait_for_a_server_that_does_not_answer(
    uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise MlflowException("too many\nconnections")

    tracker = _open(uri, tmp_path / "run")
    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, "log_batch", fail)
        waiting = tracker.metrics_or_later([(1, {"loss": 2.0})])
    assert waiting == [(1, {"loss": 2.0})]
    assert capsys.readouterr().out == "MLflow does not answer; 1 rows of metrics wait (too many connections)\n"
    assert tracker.metrics_or_later([*waiting, (2, {"loss": 1.0})]) == []
    assert tracker.last_step("loss") == 2


def test_an_address_that_mlflow_does_not_know(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"^nowhere://x: MLflow cannot be used there .*; check MLFLOW_TRACKING_URI$"):
        _open("nowhere://x", tmp_path / "run")


def test_without_an_address_a_file_below_runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert tracking_uri() == f"sqlite:///{tmp_path / 'runs' / 'mlflow.db'}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://host:5000")
    assert tracking_uri() == "http://host:5000"


@pytest.mark.parametrize("address", [None, "", "sqlite:///runs/mlflow.db", "runs/mlflow", "file:runs"])
def test_a_submitted_job_needs_an_absolute_address(monkeypatch: pytest.MonkeyPatch, address: str | None) -> None:
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    if address is not None:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    with pytest.raises(BadInput, match=f"^MLFLOW_TRACKING_URI={address or ''}: a submitted job"):
        tracking_uri()


@pytest.mark.parametrize("address", ["sqlite:////shared/mlflow.db", "http://host:5000", "databricks://profile"])
def test_absolute_addresses_of_a_submitted_job(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    assert tracking_uri() == address


def test_a_background_tracker_logs_in_order_and_only_once(uri: str, tmp_path: Path) -> None:
    for _ in range(2):  # the second time by the same command again
        tracker = _open(uri, tmp_path / "run")
        background = BackgroundTracker(tracker)
        rows = [(0, {"j": 0.5}), (5, {"j": 0.75, "f": 0.5})]
        background.do(lambda tracker, rows=rows: tracker.metrics(rows, timestamp=1000))
        (tmp_path / "table.csv").write_text("a")
        background.do(lambda tracker: tracker.artifact(tmp_path / "table.csv"))
        assert background.close()
    client = MlflowClient(uri)
    assert [(m.step, m.value) for m in client.get_metric_history(tracker.run_id, "j")] == [(0, 0.5), (5, 0.75)]
    assert [file.path for file in client.list_artifacts(tracker.run_id)] == ["table.csv"]
    assert client.get_run(tracker.run_id).info.status == "FINISHED"
    background = BackgroundTracker(_open(uri, tmp_path / "run"))
    background.do(lambda tracker: tracker.metrics([(5, {"j": 0.8})], timestamp=2000))  # of more sequences
    assert background.close()
    assert client.get_run(tracker.run_id).data.metrics["j"] == 0.8


def test_a_background_tracker_waits_for_a_server_that_comes_back(
    uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The request that failed had been carried out, but its answer was lost."""
    original, calls = MlflowClient.log_batch, []

    def lose_answers(self: MlflowClient, *arguments: Any, **values: Any) -> None:
        calls.append(1)
        original(self, *arguments, **values)
        if len(calls) == 1:
            raise MlflowException("connection lost")

    background = BackgroundTracker(_open(uri, tmp_path / "run"), retry_every=0.01)
    monkeypatch.setattr(MlflowClient, "log_batch", lose_answers)
    background.do(lambda tracker: tracker.metrics([(1, {"j": 0.5})], timestamp=1))
    background.do(lambda tracker: tracker.metrics([(2, {"j": 0.6})], timestamp=2))
    assert background.close(failed=True)
    run_id = (tmp_path / "run" / RUN_FILE).read_text().split()[1]
    assert [m.step for m in MlflowClient(uri).get_metric_history(run_id, "j")] == [1, 2]
    assert MlflowClient(uri).get_run(run_id).info.status == "FAILED"
    printed = capsys.readouterr().out
    assert "MLflow does not answer, the work goes on (connection lost)" in printed
    assert "MLflow answers again" in printed


def test_a_background_tracker_gives_up_in_the_end_and_stops(
    uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ConnectionError("gone")

    background = BackgroundTracker(_open(uri, tmp_path / "run"), retry_every=0.01)
    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, "log_batch", fail)
        background.do(lambda tracker: tracker.metrics([(1, {"j": 0.5})]))
        assert not background.close(silence=0.2)
    time.sleep(0.2)
    run = MlflowClient(uri).get_run((tmp_path / "run" / RUN_FILE).read_text().split()[1])
    assert (run.data.metrics, run.info.status) == ({}, "RUNNING")


def test_what_mlflow_refuses_does_not_stop_the_rest(uri: str, tmp_path: Path) -> None:
    tracker = _open(uri, tmp_path / "run")
    background = BackgroundTracker(tracker)
    background.do(lambda tracker: tracker.artifact(tmp_path / "missing.csv"))
    background.do(lambda tracker: tracker.metrics([(0, {"sequences/my video (1)/j": 0.5})]))
    background.do(lambda tracker: tracker.metrics([(0, {"broken": None})]))  # type: ignore[dict-item]
    assert background.close()
    assert len(background.refused) == 2
    assert "missing.csv" in background.refused[0]
    run = MlflowClient(uri).get_run(tracker.run_id)
    assert (run.data.metrics, run.info.status) == ({"sequences/my video _1_/j": 0.5}, "FINISHED")


def test_a_relative_address_of_a_file(empty_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copyfile(empty_store, tmp_path / "here.db")
    tracker = _open("sqlite:///here.db", tmp_path / "run")
    (tmp_path / "a.txt").write_text("a")
    tracker.artifact(tmp_path / "a.txt")
    assert (tmp_path / "run" / RUN_FILE).read_text().startswith(f"sqlite:///{tmp_path / 'here.db'} ")
    assert list((tmp_path / "mlflow_artifacts").rglob("a.txt"))


def test_versions_of_a_model_and_which_is_best(uri: str, tmp_path: Path) -> None:
    """Of the same data the one with the highest score; a run registers once."""
    (tmp_path / "best.safetensors").write_bytes(b"weights")
    versions = []
    for name, score, data in (("a", 0.5, "x"), ("b", 0.7, "x"), ("c", 0.6, "x"), ("d", 0.1, "y"), ("d", 0.1, "y")):
        tracker = _open(uri, tmp_path / name)
        tracker.artifact(tmp_path / "best.safetensors")
        versions.append(tracker.register("eosvos-tiny-64", "best.safetensors", score, {"data_hash": data}))
        best = MlflowClient(uri).get_model_version_by_alias("eosvos-tiny-64", "best")
        assert int(best.version) == {"a": 1, "b": 2, "c": 2, "d": 4}[name]
    assert versions == [1, 2, 3, 4, 4]
    client = MlflowClient(uri)
    client.delete_registered_model_alias("eosvos-tiny-64", "best")  # as where a kill came before it
    _open(uri, tmp_path / "d").register("eosvos-tiny-64", "best.safetensors", 0.1, {"data_hash": "y"})
    assert int(client.get_model_version_by_alias("eosvos-tiny-64", "best").version) == 4
    source = MlflowClient(uri).get_model_version("eosvos-tiny-64", "2").source
    assert Path(source.removeprefix("file://")).read_bytes() == b"weights"


def test_data_and_the_machines_load(uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", "0.1")
    tracker = _open(uri, tmp_path / "run")
    tracker.watch_system()
    tracker.dataset("s3://bucket/fit", "0" * 64, "training")
    deadline = time.monotonic() + 30
    client = MlflowClient(uri)
    while "system/cpu_utilization_percentage" not in client.get_run(tracker.run_id).data.metrics:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    tracker.end()
    run = client.get_run(tracker.run_id)
    (own,) = run.inputs.dataset_inputs
    assert (own.dataset.name, own.dataset.source, own.dataset.digest) == ("fit", "s3://bucket/fit", "0" * 36)
    assert [(tag.key, tag.value) for tag in own.tags] == [("mlflow.data.context", "training")]
