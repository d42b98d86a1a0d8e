"""Sequences and datasets that fail: the others stand, and the same command again tries what is missing."""

import logging
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from mlflow import MlflowClient

from cluster import run_folder
from cluster.evaluation import tasks
from cluster.evaluation.config import Evaluation
from cluster.evaluation.driver import evaluate, evaluate_all
from cluster.fan_out import ATTEMPTS
from cluster.tracking.run import RUN_FILE
from eosvos.errors import BadInput, PartsFailed

pytestmark = pytest.mark.usefixtures("no_pictures", "ray_here")


def _on(evaluation: Evaluation, **changes: Any) -> Evaluation:
    return replace(evaluation, subject=replace(evaluation.subject, **changes))


def _failing(monkeypatch: pytest.MonkeyPatch, name: str, tries: Path) -> None:
    """Makes every try of a sequence fail, and leave a file."""
    original = tasks.evaluate_sequence

    def failing(*arguments: Any) -> Any:
        if arguments[1].name != name:
            return original(*arguments)
        (tries / str(len(list(tries.iterdir())))).touch()
        raise RuntimeError("no luck")

    tries.mkdir()
    monkeypatch.setattr(tasks, "evaluate_sequence", failing)


def _sequences(folder: Path) -> set[str]:
    return set(pq.read_table(folder / "objects.parquet")["sequence"].to_pylist())


def test_what_fails_is_tried_again_by_the_same_command(
    learned: Evaluation, tracking: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One sequence fails with all its tries: the other's results stand, and MLflow has no means over a part."""
    once, folder = replace(learned, T=(0,)), tmp_path / "out"
    with monkeypatch.context() as patch:
        _failing(patch, "held-00001", tmp_path / "tries")
        with pytest.raises(PartsFailed, match=r"^1 of 2 sequences failed: held-00001 \(.*no luck\)"):
            evaluate(once, folder)
    assert len(list((tmp_path / "tries").iterdir())) == ATTEMPTS
    assert _sequences(folder) == {"held-00000"}
    client, run_id = MlflowClient(tracking), (folder / RUN_FILE).read_text().split()[1]
    run = client.get_run(run_id)
    assert (run.info.status, "j_and_f" in run.data.metrics) == ("FAILED", False)
    repaired = evaluate(once, folder)
    assert _sequences(folder) == {"held-00000", "held-00001"}
    assert client.get_run(run_id).info.status == "FINISHED"
    history = client.get_metric_history(run_id, "j_and_f")
    assert [(m.step, m.value) for m in history] == [(row["T"], row["j_and_f"]) for row in repaired.summary]


def test_parts_of_several_datasets_fail(
    learned: Evaluation, learned_folder: Path, broken: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Of one no frame can be read, of the other all is known: its results stand, and are in the table of all."""
    caplog.set_level(logging.INFO)
    folder = tmp_path / "known"
    for name in ("journal", "predictions"):
        shutil.copytree(learned_folder / name, folder / name)
    run_folder.claim(folder, learned)
    bad = rf"^1 of 2 datasets failed: {broken} \({broken}/data-00000.parquet, sequence held-0000\d, position 0: cannot"
    with pytest.raises(PartsFailed, match=bad):
        evaluate_all([(_on(learned, data=str(broken)), tmp_path / "bad"), (learned, folder)])
    assert not (tmp_path / "bad" / "objects.parquet").exists()
    assert _sequences(folder) == {"held-00000", "held-00001"}
    (table,) = (record.message for record in caplog.records if "all datasets" in record.message)
    assert [line.split()[:2] for line in table.splitlines()[3:]] == [["held", "0"], ["held", "3"]]


def test_the_table_says_of_how_many_sequences_a_dataset_is(
    learned: Evaluation,
    encoded: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setenv("COLUMNS", "120")  # of the terminal
    _failing(monkeypatch, "held-00000", tmp_path / "tries")
    first = replace(learned, T=(0,))
    second = _on(first, data=str(encoded), sequences=("train-00000",))
    failed = rf"^1 of 2 datasets failed: {learned.subject.data} \(1 of 2 sequences failed: held-00000 \(.*no luck"
    with pytest.raises(PartsFailed, match=failed):
        evaluate_all([(first, tmp_path / "first"), (second, tmp_path / "second")])
    assert _sequences(tmp_path / "first") == {"held-00001"}
    assert _sequences(tmp_path / "second") == {"train-00000"}
    (table,) = (record.message for record in caplog.records if "all datasets" in record.message)
    assert "held (1 of 2 sequences)" in table
    assert "train" in table


def test_a_frame_that_cannot_be_read_is_bad_input_that_names_it(
    learned: Evaluation, broken: Path, tmp_path: Path
) -> None:
    with pytest.raises(BadInput, match=rf"^{broken}/data-00000.parquet, sequence held-0000\d, position 0: cannot be"):
        evaluate_all([(_on(learned, data=str(broken)), tmp_path / "out")])
