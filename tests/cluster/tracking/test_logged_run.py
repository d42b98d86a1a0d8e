"""What evaluations and sweeps log of themselves, and in which run."""

from collections.abc import Mapping
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.exceptions import MlflowException

from cluster.evaluation.config import Evaluation
from cluster.tracking.logged_run import CHILDREN, INPUTS, RunFacts, logged_run
from cluster.tracking.run import RUN_FILE


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "out").mkdir()
    return tmp_path / "out"


def _facts(inputs: str, tags: Mapping[str, str] | None) -> RunFacts:
    return RunFacts("evaluate", "out", Evaluation(), inputs, tags, (("/data/train", "0" * 64, "evaluation"),))


def _log(uri: str, folder: Path, inputs: str, tags: Mapping[str, str] | None) -> Run:
    """With a child, as a sweep has one for each setting."""
    with logged_run(uri, folder, _facts(inputs, tags)) as background:
        child = folder / CHILDREN / "T=5"
        background.do(lambda tracker: tracker.child("T=5", child, {"T": 5}).end())
    assert background.run_id is not None
    return MlflowClient(uri).get_run(background.run_id)


def test_the_same_inputs_go_on_with_the_run_and_other_inputs_begin_one(uri: str, folder: Path) -> None:
    first = _log(uri, folder, "checkpoint a", {"git_commit": "1"})
    child = (folder / CHILDREN / "T=5" / RUN_FILE).read_text()
    assert _log(uri, folder, "checkpoint a", {"git_commit": "2"}).info.run_id == first.info.run_id
    assert (folder / CHILDREN / "T=5" / RUN_FILE).read_text() == child
    second = _log(uri, folder, "checkpoint b", {"git_commit": "2"})
    assert second.info.run_id != first.info.run_id
    assert (folder / CHILDREN / "T=5" / RUN_FILE).read_text() != child


def test_a_run_that_is_older_than_its_inputs_goes_on(uri: str, folder: Path) -> None:
    first = _log(uri, folder, "checkpoint a", {"git_commit": "1"})
    (folder / INPUTS).unlink()
    assert _log(uri, folder, "checkpoint a", None).info.run_id == first.info.run_id
    assert _log(uri, folder, "checkpoint b", None).info.run_id != first.info.run_id


def test_what_computes_nothing_keeps_the_tags_of_what_did(
    uri: str, folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Also where they could not be logged then."""

    def gone(*_: object, **__: object) -> None:
        raise MlflowException("gone")

    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, "create_run", gone)
        with logged_run(uri, folder, _facts("checkpoint a", {"git_commit": "1"}), silence=0.1):
            pass
    said = f"MLflow does not answer at {uri}: not all is logged; the same command again logs the rest"
    assert caplog.messages[-1] == said
    run = _log(uri, folder, "checkpoint a", None)
    assert (run.info.status, run.data.tags["git_commit"]) == ("FINISHED", "1")
    assert [own.dataset.name for own in run.inputs.dataset_inputs] == ["train"]


def test_a_block_that_raises_fails_its_run(uri: str, folder: Path) -> None:
    with pytest.raises(ZeroDivisionError), logged_run(uri, folder, _facts("a", {})) as background:
        raise ZeroDivisionError
    assert background.run_id is not None
    assert MlflowClient(uri).get_run(background.run_id).info.status == "FAILED"
