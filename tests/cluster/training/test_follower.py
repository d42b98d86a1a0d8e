"""Rows of a training on their way to MLflow: each is there once."""

from functools import partial
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from cluster.tracking.background import BackgroundTracker
from cluster.tracking.run import Tracker
from cluster.training.follower import KEPT, RowLog
from cluster.training.progress import StepRow

ROWS: list[StepRow] = [{"step": step, "seconds": 1.0, "kept": 4, "loss_at_T": 0.5, "tasks": []} for step in (1, 2, 3)]


def _send(uri: str, folder: Path, rows: list[StepRow]) -> list[tuple[int, float]]:
    background = BackgroundTracker(partial(Tracker, uri, "test", "test", folder, {"a": 1}), retry_every=0.05)
    RowLog(background, KEPT).send(rows)
    assert background.close()
    assert background.run_id is not None
    history = MlflowClient(uri).get_metric_history(background.run_id, "loss_at_T")
    return sorted((metric.step, metric.value) for metric in history)


def test_what_a_killed_run_has_sent_is_not_sent_again(uri: str, tmp_path: Path) -> None:
    assert _send(uri, tmp_path / "run", ROWS[:2]) == [(1, 0.5), (2, 0.5)]
    assert _send(uri, tmp_path / "run", ROWS) == [(1, 0.5), (2, 0.5), (3, 0.5)]


def test_an_answer_that_is_lost_leaves_nothing_twice(uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original, lost = MlflowClient.log_batch, []

    def losing(self: MlflowClient, *arguments: Any, **values: Any) -> None:
        original(self, *arguments, **values)
        if values.get("metrics") and not lost:
            lost.append(True)
            raise MlflowException("connection lost")

    monkeypatch.setattr(MlflowClient, "log_batch", losing)
    assert _send(uri, tmp_path / "run", ROWS) == [(1, 0.5), (2, 0.5), (3, 0.5)]
    assert lost
