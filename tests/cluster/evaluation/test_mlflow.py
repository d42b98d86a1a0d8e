"""What MLflow has of an evaluation, also where it was away."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from cluster import run_folder
from cluster.evaluation import driver
from cluster.evaluation.config import Evaluation
from cluster.evaluation.driver import evaluate, evaluate_all
from cluster.tracking.run import RUN_FILE
from eosvos.data.parquet import open_dataset
from eosvos.errors import BadInput
from eosvos.learning.optimization import load, save

MEASURES = ("j_mean", "f_mean", "j_and_f", "fps", "video_fps")
TABLES = {f"{name}.{ending}" for name in ("objects", "sequences", "summary") for ending in ("csv", "parquet")}
FIGURES = {"best.png", "worst.png"} | {
    f"{name}.{ending}" for name in ("accuracy_speed", "over_steps", "per_frame") for ending in ("png", "svg")
}


def _summary(folder: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = pq.read_table(folder / "summary.parquet").to_pylist()
    return rows


def _run_id(folder: Path) -> str:
    return (folder / RUN_FILE).read_text().split()[1]


def _gone(*_: object, **__: object) -> None:
    raise MlflowException("connection refused")


def test_scores_tables_and_pictures(
    learned: Evaluation, learned_folder: Path, grid: Evaluation, grid_folder: Path, tracking: str
) -> None:
    client = MlflowClient(tracking)
    for evaluation, folder, prefix in ((learned, learned_folder, ""), (grid, grid_folder, "rate_0.05/")):
        assert (folder / RUN_FILE).read_text().split()[0] == tracking
        run_id = _run_id(folder)
        run = client.get_run(run_id)
        assert run.info.status == "FINISHED"
        assert (run.data.tags["checkpoint_step"], run.data.tags["world_size"]) == ("7", "2")
        assert run.data.tags["hardware"].startswith("2 CPUs")
        assert run.data.tags["data_hash"] == open_dataset(evaluation.subject.data).hash
        assert [one.dataset.name for one in run.inputs.dataset_inputs] == ["held"]
        summary = [row for row in _summary(folder) if row["learning_rate"] in (None, 0.05)]
        for name in MEASURES:
            history = client.get_metric_history(run_id, prefix + name)
            assert {metric.step: metric.value for metric in history} == {row["T"]: row[name] for row in summary}
        assert f"{prefix}sequences/held-00001/j_and_f" in run.data.metrics
        assert {file.path for file in client.list_artifacts(run_id)} >= TABLES
    pictures = {file.path for file in client.list_artifacts(_run_id(grid_folder))} - TABLES
    assert pictures == {"overview.png", "report.html", "figures"}
    figures = {file.path.removeprefix("figures/") for file in client.list_artifacts(_run_id(grid_folder), "figures")}
    assert figures == FIGURES


def test_it_is_gone_once_the_work_has_begun(
    learned: Evaluation,
    learned_folder: Path,
    tracking: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    no_pictures: None,
) -> None:
    """All datasets are evaluated; the same command again computes nothing and logs everything."""
    other = tmp_path / "other"
    shutil.copytree(learned.subject.data, other)
    evaluations = []
    for data in (learned.subject.data, str(other)):
        evaluation = replace(learned, subject=replace(learned.subject, data=data))
        folder = tmp_path / f"out-{len(evaluations)}"
        for name in ("journal", "predictions"):
            shutil.copytree(learned_folder / name, folder / name)
        (folder / "journal" / "held-00001.json").unlink()
        run_folder.claim(folder, evaluation)
        evaluations.append((evaluation, folder))
    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, "create_run", _gone)
        patch.setattr(driver, "SILENCE", 0.2)
        patch.setattr(driver, "SHORT_SILENCE", 0.1)
        evaluate_all(evaluations)
    said = f"MLflow does not answer at {tracking}: not all is logged; the same command again logs the rest"
    assert caplog.messages.count(said) == 2

    def entries() -> dict[Path, int]:
        return {path: path.stat().st_mtime_ns for path in tmp_path.glob("*/journal/*.json")}

    before = entries()
    assert len(before) == 4
    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, "search_experiments", _gone)
        with pytest.raises(BadInput, match=r"MLflow cannot be used there \(connection refused"):
            evaluate_all(evaluations)
    evaluate_all(evaluations)
    assert entries() == before
    for evaluation, folder in evaluations:
        run = MlflowClient(tracking).get_run(_run_id(folder))
        assert run.info.status == "FINISHED"
        assert run.data.metrics["j_and_f"] == _summary(folder)[-1]["j_and_f"]
        assert run.data.tags["world_size"] == "2"  # of what computed it
        assert [one.dataset.name for one in run.inputs.dataset_inputs] == [Path(evaluation.subject.data).name]


def test_results_of_another_checkpoint_are_never_in_the_run_of_the_old_one(
    learned: Evaluation,
    ray_here: None,
    tracking: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    no_pictures: None,
) -> None:
    """Also where no run can be opened for them at first."""
    folder, checkpoint = tmp_path / "out", tmp_path / "c.safetensors"
    shutil.copyfile(learned.subject.checkpoint, checkpoint)
    subject = replace(learned.subject, checkpoint=checkpoint, sequences=("held-00000",))
    again = replace(learned, subject=subject, T=(3,))
    evaluate(again, folder)
    old = _run_id(folder)
    logged = MlflowClient(tracking).get_run(old).data.metrics["j_and_f"]
    save(load(checkpoint).with_single_rate(0.01), checkpoint)
    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, "create_run", _gone)
        patch.setattr(MlflowClient, "set_terminated", _gone)
        patch.setattr(driver, "SILENCE", 0.2)
        evaluate_all([(again, folder)])
    evaluate(again, folder)
    assert _run_id(folder) != old
    assert MlflowClient(tracking).get_run(old).data.metrics["j_and_f"] == logged


def test_pictures_that_cannot_be_drawn_keep_no_table_from_mlflow(
    learned: Evaluation, learned_folder: Path, tracking: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("no font")

    folder = tmp_path / "out"
    for name in ("journal", "predictions"):
        shutil.copytree(learned_folder / name, folder / name)
    run_folder.claim(folder, learned)
    monkeypatch.setattr(driver, "evaluation_pictures", fail)
    with pytest.raises(RuntimeError, match="no font"):
        evaluate(learned, folder)
    client, run_id = MlflowClient(tracking), _run_id(folder)
    assert client.get_run(run_id).info.status == "FAILED"
    assert {"objects.csv", "sequences.csv", "summary.parquet"} <= {one.path for one in client.list_artifacts(run_id)}
