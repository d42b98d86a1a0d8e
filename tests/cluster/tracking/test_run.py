"""MLflow runs: continued by who works in the same run folder, begun anew where they cannot be."""

import shutil
import time
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.data import get_source
from mlflow.exceptions import MlflowException

from cluster.tracking.run import RUN_FILE, Tracker, check_answers, tracking_uri
from eosvos.errors import BadInput


def _open(uri: str, folder: Path) -> Tracker:
    return Tracker(uri, "meta_train", "meta_train run", folder, {"T": 5, "model.backbone": "tiny"})


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


def test_another_folder_begins_a_run_of_its_own(uri: str, tmp_path: Path) -> None:
    assert _open(uri, tmp_path / "other").run_id != _open(uri, tmp_path / "run").run_id


def test_a_run_whose_server_goes_away_while_it_is_opened_is_continued(
    uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is not there twice, and has its parameters in the end."""

    def fail(*_: object, **__: object) -> None:
        raise MlflowException("gone")

    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, "log_batch", fail)
        with pytest.raises(BadInput, match="gone"):
            _open(uri, tmp_path / "run")
    run_id = _open(uri, tmp_path / "run").run_id
    client = MlflowClient(uri)
    (run,) = client.search_runs([client.get_run(run_id).info.experiment_id])
    assert run.data.params == {"T": "5", "model.backbone": "tiny"}


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


def test_an_address_that_mlflow_does_not_know(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"^nowhere://x: MLflow cannot be used there .*; check MLFLOW_TRACKING_URI$"):
        _open("nowhere://x", tmp_path / "run")
    with pytest.raises(BadInput, match=r"^nowhere://x: MLflow cannot be used there .*; check MLFLOW_TRACKING_URI$"):
        check_answers("nowhere://x")


def test_an_address_that_answers(uri: str) -> None:
    check_answers(uri)


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


def test_a_relative_address_of_a_file(empty_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copyfile(empty_store, tmp_path / "here.db")
    tracker = _open("sqlite:///here.db", tmp_path / "run")
    (tmp_path / "a.txt").write_text("a")
    tracker.artifact(tmp_path / "a.txt")
    assert (tmp_path / "run" / RUN_FILE).read_text().startswith(f"sqlite:///{tmp_path / 'here.db'} ")
    assert list((tmp_path / "mlflow_artifacts").rglob("a.txt"))


def test_versions_of_a_model_and_which_is_best(uri: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Of those that were scored on the same; a score of other data never takes the alias; a run registers once."""
    (tmp_path / "best.safetensors").write_bytes(b"weights")
    client, model, versions = MlflowClient(uri), "eosvos-tiny-64", []

    def register(name: str, score: float, data: str) -> int:
        tracker = _open(uri, tmp_path / name)
        tracker.artifact(tmp_path / "best.safetensors")
        versions.append(tracker.register(model, "best.safetensors", score, {"data_hash": data}))
        return int(client.get_model_version_by_alias(model, "best").version)

    assert [register(*one) for one in (("a", 0.5, "x"), ("b", 0.7, "x"), ("c", 0.6, "x"))] == [1, 2, 2]
    assert caplog.messages == []
    said = f"{model}: the alias best stays with version 2, which was scored on something else"
    for name, score in (("d", 0.1), ("e", 0.9), ("e", 0.9)):
        assert register(name, score, "y") == 2
        assert caplog.messages == [said]
        caplog.clear()
    assert versions == [1, 2, 3, 4, 5, 5]
    client.delete_registered_model_alias(model, "best")  # as where a kill came before it
    assert register("c", 0.6, "x") == 2
    client.set_registered_model_alias(model, "best", "4")  # a person's choice
    assert register("b", 0.7, "x") == 4
    source = client.get_model_version(model, "2").source
    assert Path(source.removeprefix("file://")).read_bytes() == b"weights"


def test_data_and_the_machines_load(uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", "0.1")
    tracker = _open(uri, tmp_path / "run")
    tracker.watch_system()
    tracker.dataset("/data/fit", "0" * 64, "training")
    tracker.dataset("/data/fit", "0" * 64, "training")  # by the same command again
    deadline = time.monotonic() + 120
    client = MlflowClient(uri)
    while "system/cpu_utilization_percentage" not in client.get_run(tracker.run_id).data.metrics:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    tracker.end()
    run = client.get_run(tracker.run_id)
    (own,) = run.inputs.dataset_inputs
    assert (own.dataset.name, own.dataset.digest) == ("fit", "0" * 36)
    assert [(tag.key, tag.value) for tag in own.tags] == [("mlflow.data.context", "training")]


@pytest.mark.parametrize("address", ["/data/fit", "file:///data/fit", "s3://bucket/fit", "gs://bucket/fit"])
def test_mlflow_reads_the_address_of_data_back(uri: str, tmp_path: Path, address: str) -> None:
    tracker = _open(uri, tmp_path / "run")
    tracker.dataset(address, "0" * 64, "training")
    (own,) = MlflowClient(uri).get_run(tracker.run_id).inputs.dataset_inputs
    assert get_source(own).uri == address
