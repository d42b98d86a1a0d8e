"""Logging from a thread: in order, once, and never in the way of the work."""

import threading
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import requests
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException, get_error_code

from cluster.tracking.background import SILENCE, BackgroundTracker
from cluster.tracking.run import RUN_FILE, Tracker


def _background(uri: str, folder: Path, **options: Any) -> BackgroundTracker:
    return BackgroundTracker(partial(Tracker, uri, "evaluate", "run", folder, {"T": 5}), **options)


def test_a_background_tracker_logs_in_order_and_only_once(uri: str, tmp_path: Path) -> None:
    for _ in range(2):  # the second time by the same command again
        background = _background(uri, tmp_path / "run")
        rows = [(0, {"j": 0.5}), (5, {"j": 0.75, "f": 0.5})]
        background.do(lambda tracker, rows=rows: tracker.metrics(rows, timestamp=1000))
        (tmp_path / "table.csv").write_text("a")
        background.do(lambda tracker: tracker.artifact(tmp_path / "table.csv"))
        assert background.close()
    assert background.run_id is not None
    client, run_id = MlflowClient(uri), background.run_id
    assert [(m.step, m.value) for m in client.get_metric_history(run_id, "j")] == [(0, 0.5), (5, 0.75)]
    assert [file.path for file in client.list_artifacts(run_id)] == ["table.csv"]
    assert client.get_run(run_id).info.status == "FINISHED"
    background = _background(uri, tmp_path / "run")
    background.do(lambda tracker: tracker.metrics([(5, {"j": 0.8})], timestamp=2000))  # of more sequences
    assert background.close()
    assert client.get_run(run_id).data.metrics["j"] == 0.8


def test_a_server_that_comes_back(
    uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The requests that failed had been carried out, but their answers were lost; all of it is there once.

    They are of the run's parameters, its metrics and its end.
    """
    lost: list[str] = []

    def lose_first_answers(name: str) -> None:
        original, calls = getattr(MlflowClient, name), count()

        def losing(self: MlflowClient, *arguments: Any, **values: Any) -> None:
            original(self, *arguments, **values)
            if next(calls) < 2:
                lost.append(name)
                raise MlflowException("connection lost")

        monkeypatch.setattr(MlflowClient, name, losing)

    lose_first_answers("log_batch")
    lose_first_answers("set_terminated")
    background = _background(uri, tmp_path / "run", retry_every=0.01)
    background.do(lambda tracker: tracker.metrics([(1, {"j": 0.5})], timestamp=1))
    background.do(lambda tracker: tracker.metrics([(2, {"j": 0.6})], timestamp=2))
    background.failed = True
    assert background.close()
    assert background.all_logged
    assert sorted(lost) == ["log_batch"] * 2 + ["set_terminated"] * 2
    client = MlflowClient(uri)
    (run,) = client.search_runs([experiment.experiment_id for experiment in client.search_experiments()])
    assert (run.info.run_id, run.info.status, run.data.params) == (background.run_id, "FAILED", {"T": "5"})
    assert [m.step for m in client.get_metric_history(run.info.run_id, "j")] == [1, 2]
    assert "MLflow does not answer, the work goes on (" in caplog.text
    assert "MLflow answers again" in caplog.text


def test_a_server_that_is_gone_before_the_run_is_open(
    uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise MlflowException("gone")

    monkeypatch.setattr(MlflowClient, "get_experiment_by_name", fail)
    background = _background(uri, tmp_path / "run", retry_every=0.01)
    background.do(lambda tracker: tracker.metrics([(1, {"j": 0.5})]))
    assert not background.close(silence=0.2)
    assert (background.run_id, background.all_logged, background.refused) == (None, False, [])


def test_a_server_that_hangs_is_waited_for_as_long_as_is_said(uri: str, tmp_path: Path) -> None:
    """By a clock that goes on by a second whenever it is asked: no longer than 30 s, the limit of an evaluation."""
    seconds, asked, answered = count(), threading.Event(), threading.Event()
    background = _background(uri, tmp_path / "run", clock=lambda: float(next(seconds)))
    background.do(lambda _: asked.set() or (answered.wait(60) and None))
    assert asked.wait(60)
    before = next(seconds)
    assert not background.close()
    assert SILENCE < next(seconds) - before <= SILENCE + 5 < 30
    answered.set()


def test_every_answer_counts_for_the_wait(uri: str, tmp_path: Path) -> None:
    """A queue that takes longer than ``silence`` in all is logged where every part of it is answered."""
    now = [0.0]

    def later(_: Tracker) -> None:
        now[0] += 4

    background = _background(uri, tmp_path / "run", clock=lambda: now[0])
    steps = range(6)
    for step in steps:
        background.do(later)
        background.do(lambda tracker, step=step: tracker.metrics([(step, {"j": 0.5})]))
    assert background.close(silence=5)
    assert now[0] == 24
    assert background.run_id is not None
    assert len(MlflowClient(uri).get_metric_history(background.run_id, "j")) == len(steps)


def test_a_silent_server_is_given_up_and_the_thread_stops(
    uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ConnectionError("gone")

    background = _background(uri, tmp_path / "run", retry_every=0.01)
    opened = threading.Event()
    background.do(lambda _: opened.set())
    assert opened.wait(60)
    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, "log_batch", fail)
        background.do(lambda tracker: tracker.metrics([(1, {"j": 0.5})]))
        assert not background.close(silence=0.2)
    background._thread.join(60)
    run = MlflowClient(uri).get_run((tmp_path / "run" / RUN_FILE).read_text().split()[1])
    assert (run.data.metrics, run.info.status) == ({}, "RUNNING")


def test_what_mlflow_refuses_does_not_stop_the_rest(uri: str, tmp_path: Path) -> None:
    background = _background(uri, tmp_path / "run")
    background.do(lambda tracker: tracker.artifact(tmp_path / "missing.csv"))
    background.do(lambda tracker: tracker.metrics([(0, {"sequences/my video (1)/j": 0.5})]))
    background.do(lambda tracker: tracker.metrics([(0, {"broken": None})]))  # type: ignore[dict-item]
    assert background.close()
    assert len(background.refused) == 2
    assert "missing.csv" in background.refused[0]
    assert background.run_id is not None
    run = MlflowClient(uri).get_run(background.run_id)
    assert (run.data.metrics, run.info.status) == ({"sequences/my video _1_/j": 0.5}, "FINISHED")


@pytest.mark.parametrize(("status", "tried"), [(400, 1), (401, 1), (403, 1), (429, 3), (500, 3), (503, 3), (504, 3)])
def test_a_request_that_a_server_does_not_take(uri: str, tmp_path: Path, status: int, tried: int) -> None:
    """As MLflow's client turns a status into an error."""
    attempts: list[int] = []

    def request(_: Tracker) -> None:
        attempts.append(status)
        if len(attempts) < 3:
            raise MlflowException(f"{status} for request", error_code=get_error_code(status))

    background = _background(uri, tmp_path / "run", retry_every=0.01)
    background.do(request)
    assert background.close()
    assert len(attempts) == tried
    assert len(background.refused) == (tried == 1)


@pytest.mark.parametrize(("status", "tried"), [(400, 1), (403, 1), (413, 1), (408, 3), (429, 3), (500, 3), (503, 3)])
def test_an_artifact_that_a_server_does_not_take(uri: str, tmp_path: Path, status: int, tried: int) -> None:
    """What is too large or forbidden is so for ever, is said once, and the run ends; the rest is tried again."""
    attempts: list[int] = []

    def upload(_: Tracker) -> None:
        attempts.append(status)
        if len(attempts) < 3:
            response = requests.Response()
            response.status_code = status
            raise requests.HTTPError(f"{status} for artifact", response=response)

    background = _background(uri, tmp_path / "run", retry_every=0.01)
    background.do(upload)
    assert background.close()
    assert len(attempts) == tried
    assert background.refused == ([f"{status} for artifact"] if tried == 1 else [])
    assert background.run_id is not None
    assert MlflowClient(uri).get_run(background.run_id).info.status == "FINISHED"
