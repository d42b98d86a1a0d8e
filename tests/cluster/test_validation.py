"""Validation beside a meta-training, on real Ray: which sequences and scores, what is kept, what a kill leaves."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from mlflow import MlflowClient

from cluster import checkpoints, progress
from cluster.config import MetaTraining
from cluster.evaluation import Evaluation, evaluate_sequence
from cluster.tracking import RUN_FILE
from cluster.training import COLLAPSE_STEPS, collapse_warning, train
from cluster.validation import Validation
from eosvos.data.parquet import open_dataset
from eosvos.learning.optimization import load, save
from eosvos.metrics.table import ObjectResult

pytestmark = pytest.mark.usefixtures("ray_here")
SCORES = ("validation_j_and_f_at_0", "validation_j_and_f_at_T")


@pytest.fixture(scope="module")
def validating(training: MetaTraining, tmp_path_factory: pytest.TempPathFactory) -> MetaTraining:
    """Three outer steps with a validation after the second and the last, on one of the four sequences."""
    outer = replace(training.outer, steps=3, learning_rate=0.01)
    folder = tmp_path_factory.mktemp("validation")
    return replace(training, outer=outer, held_out=0.25, validate_every=2, validation_frames=3, out=folder / "run")


@pytest.fixture(scope="module")
def run(ray_here: None, validating: MetaTraining) -> Path:
    return train(validating).parent


def test_the_held_out_sequence_is_never_trained_on(run: Path) -> None:
    (name,) = load(run / "last.safetensors").facts["held_out"]
    assert name in {
        sequence.name for sequence in open_dataset(json.loads((run / "config.json").read_text())["data"]).sequences
    }
    trained = {task["sequence"] for row in progress.read(run) for task in row["tasks"]}
    assert trained
    assert name not in trained


def _score(objects: tuple[ObjectResult, ...]) -> float:
    return sum(own.scores.j_and_f for own in objects) / len(objects)


def test_scores_are_those_of_an_evaluation(run: Path, validating: MetaTraining) -> None:
    rows = progress.read(run, progress.VALIDATION_FILE)
    assert [row["step"] for row in rows] == [2, 3]
    dataset = open_dataset(validating.data)
    optimization = load(run / "last.safetensors")
    names = [sequence.name for sequence in dataset.sequences]
    evaluation = Evaluation(run / "last.safetensors", validating.data, T=(0, validating.T), frames=3)
    index = names.index(optimization.facts["held_out"][0])
    expected = [_score(result.objects) for result in evaluate_sequence(optimization, dataset, index, evaluation)]
    assert [rows[1][name] for name in SCORES] == pytest.approx(expected)


def test_the_best_is_kept_and_logged(run: Path) -> None:
    rows = progress.read(run, progress.VALIDATION_FILE)
    best = max(rows, key=lambda row: (row[SCORES[1]], row["step"]))
    assert load(run / checkpoints.BEST).facts["step"] == best["step"]
    assert checkpoints.candidates(run) == []
    uri, run_id = (run / RUN_FILE).read_text().split()
    client = MlflowClient(uri)
    for name in SCORES:
        logged = {metric.step: metric.value for metric in client.get_metric_history(run_id, name)}
        assert logged == {row["step"]: row[name] for row in rows}
    assert checkpoints.BEST in {file.path for file in client.list_artifacts(run_id)}


def test_what_a_kill_leaves(run: Path, validating: MetaTraining, tmp_path: Path) -> None:
    """Candidates: one that is validated already, one that is not, and one after the step that the run resumes from."""
    last = load(run / "last.safetensors")
    rows = progress.read(run, progress.VALIDATION_FILE)

    for step in (1, 2, 3):
        save(replace(last, facts={**last.facts, "step": step}), checkpoints.candidate(tmp_path, step))
    progress.append(tmp_path, rows[0] | {"step": 1, SCORES[1]: -1.0}, progress.VALIDATION_FILE)
    progress.append(tmp_path, rows[1], progress.VALIDATION_FILE)
    validation = Validation(replace(validating, out=tmp_path), open_dataset(validating.data), 2)
    (row,) = validation.finished(wait=True)
    assert row == rows[1] | {"step": 2}
    assert [row["step"] for row in validation.rows()] == [1, 2]
    assert checkpoints.candidates(tmp_path) == []
    assert load(tmp_path / checkpoints.BEST).facts["step"] == 2


@pytest.mark.parametrize(("after", "warns"), [(0.5, False), (0.96, False), (0.98, True), (1.5, True)])
def test_a_warning_where_fine_tuning_no_longer_helps(after: float, warns: bool) -> None:
    rows: list[progress.Row] = [{"step": step, "loss_at_0": 1.0, "loss_at_T": after} for step in range(COLLAPSE_STEPS)]
    assert bool(collapse_warning(rows)) == warns
    assert collapse_warning(rows[1:]) == ""  # too few to tell
    if warns:
        assert f"changed the test loss by {100 * (after - 1):+.1f} %" in collapse_warning(rows)
