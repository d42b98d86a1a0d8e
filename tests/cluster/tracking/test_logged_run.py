"""What evaluations and sweeps log of themselves, and in which run."""

import io
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.exceptions import MlflowException
from rich.console import Console

from cluster.evaluation.config import Evaluation
from cluster.tracking.logged_run import CHILDREN, INPUTS, logged_run
from cluster.tracking.run import RUN_FILE
from eosvos.data.parquet import open_dataset


@pytest.fixture
def config(encoded: Path, tmp_path: Path) -> Evaluation:
    (tmp_path / "out").mkdir()
    return Evaluation(data=str(encoded), out=tmp_path / "out")


def _log(uri: str, config: Evaluation, inputs: str, tags: Mapping[str, str] | None) -> Run:
    """With a child, as a sweep has one for each setting."""
    assert config.out is not None
    with logged_run(
        uri, "evaluate", config, open_dataset(config.data), inputs, tags, Console(quiet=True)
    ) as background:
        folder = config.out / CHILDREN / "T=5"
        background.do(lambda tracker: tracker.child("T=5", folder, {"T": 5}).end())
    assert background.run_id is not None
    return MlflowClient(uri).get_run(background.run_id)


def test_the_same_inputs_go_on_with_the_run_and_other_inputs_begin_one(uri: str, config: Evaluation) -> None:
    assert config.out is not None
    first = _log(uri, config, "checkpoint a", {"git_commit": "1"})
    child = (config.out / CHILDREN / "T=5" / RUN_FILE).read_text()
    assert _log(uri, config, "checkpoint a", {"git_commit": "2"}).info.run_id == first.info.run_id
    assert (config.out / CHILDREN / "T=5" / RUN_FILE).read_text() == child
    second = _log(uri, config, "checkpoint b", {"git_commit": "2"})
    assert second.info.run_id != first.info.run_id
    assert (config.out / CHILDREN / "T=5" / RUN_FILE).read_text() != child


def test_a_run_that_is_older_than_its_inputs_goes_on(uri: str, config: Evaluation) -> None:
    first = _log(uri, config, "checkpoint a", {"git_commit": "1"})
    assert config.out is not None
    (config.out / INPUTS).unlink()
    assert _log(uri, config, "checkpoint a", None).info.run_id == first.info.run_id
    assert _log(uri, config, "checkpoint b", None).info.run_id != first.info.run_id


def test_what_computes_nothing_keeps_the_tags_of_what_did(
    uri: str, config: Evaluation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where they could not be logged then."""

    def gone(*_: object, **__: object) -> None:
        raise MlflowException("gone")

    printed = io.StringIO()
    log = partial(logged_run, uri, "evaluate", config, open_dataset(config.data), "checkpoint a")
    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, "create_run", gone)
        with log({"git_commit": "1"}, Console(file=printed, soft_wrap=True), silence=0.1):
            pass
    said = f"MLflow does not answer at {uri}: not all is logged; the same command again logs the rest\n"
    assert printed.getvalue() == said
    run = _log(uri, config, "checkpoint a", None)
    assert (run.info.status, run.data.tags["git_commit"]) == ("FINISHED", "1")
    assert [own.dataset.name for own in run.inputs.dataset_inputs] == ["train"]


def test_a_block_that_raises_fails_its_run(uri: str, config: Evaluation) -> None:
    log = logged_run(uri, "evaluate", config, open_dataset(config.data), "a", {}, Console(quiet=True))
    with pytest.raises(ZeroDivisionError), log as background:
        raise ZeroDivisionError
    assert background.run_id is not None
    assert MlflowClient(uri).get_run(background.run_id).info.status == "FAILED"
