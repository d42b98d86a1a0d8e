"""Validation beside a meta-training, on real Ray: which sequences and scores, what is kept, what a kill leaves."""

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from mlflow import MlflowClient

from cluster.evaluation.config import Evaluation
from cluster.evaluation.tasks import evaluate_sequence
from cluster.tracking.run import RUN_FILE, Tracker
from cluster.training import checkpoints, progress
from cluster.training import validation as validation_module
from cluster.training.config import MetaTraining
from cluster.training.driver import COMPLETE, CURVE, _initial, train
from cluster.training.follower import COLLAPSE_STEPS, collapse_warning, finish
from cluster.training.validation import AT_0, AT_T, Validation
from eosvos.data.parquet import open_dataset
from eosvos.errors import BadInput
from eosvos.learning.optimization import load, save
from eosvos.metrics.table import ObjectResult

pytestmark = pytest.mark.usefixtures("ray_here")
SCORES = (AT_0, AT_T)


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
    expected = [_score(result.objects) for result in evaluate_sequence(optimization, dataset, index, evaluation)[0]]
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
    progress.append(tmp_path, {"step": 1, AT_0: 0.0, AT_T: -1.0}, progress.VALIDATION_FILE)
    progress.append(tmp_path, rows[1], progress.VALIDATION_FILE)
    validation = Validation(replace(validating, out=tmp_path), open_dataset(validating.data), 2)
    assert validation.waiting() == [1, 2]
    assert validation.poll(timeout=120) == rows[1] | {"step": 2}  # of the last step's values
    assert [row["step"] for row in validation.rows()] == [1, 2]
    assert checkpoints.candidates(tmp_path) == validation.waiting() == []
    assert validation.poll() is None
    assert load(tmp_path / checkpoints.BEST).facts["step"] == 2


def test_a_run_whose_last_validation_a_kill_cut_short(
    run: Path, validating: MetaTraining, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It looks like the finished run without the last validation and what came after; the same command ends it."""
    shutil.copytree(run, tmp_path / "run")
    folder = tmp_path / "run"
    for name in (f"{CURVE}.png", COMPLETE):
        (folder / name).unlink()
    shutil.copy(folder / "last.safetensors", checkpoints.candidate(folder, 3))
    rows = progress.read(folder, progress.VALIDATION_FILE)
    progress.forget_after(folder, 2, progress.VALIDATION_FILE)
    best = load(folder / checkpoints.BEST).facts["step"]
    train(replace(validating, out=folder))
    assert "validated step 3: J&F" in capsys.readouterr().out
    assert progress.read(folder, progress.VALIDATION_FILE) == rows
    assert load(folder / checkpoints.BEST).facts["step"] == best
    assert (folder / f"{CURVE}.png").is_file()
    assert checkpoints.candidates(folder) == []
    train(replace(validating, out=folder))
    assert "are done already" in capsys.readouterr().out


def test_a_validation_that_fails_is_said_and_raised_in_the_end(
    run: Path, validating: MetaTraining, tmp_path: Path, tracking: str, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(validating.data, tmp_path / "data")
    dataset = open_dataset(tmp_path / "data")
    for path in (tmp_path / "data").glob("data-*.parquet"):
        path.write_bytes(b"\0" * path.stat().st_size)
    save(load(run / "last.safetensors"), checkpoints.candidate(tmp_path, 2))
    training = replace(validating, data=str(tmp_path / "data"), out=tmp_path)
    validation = Validation(training, dataset, 3)
    with pytest.raises(BadInput, match=rf"^{tmp_path}/data/data-00000.parquet, .*cannot be read"):
        finish(validation, training, Tracker(tracking, "test", "test", tmp_path, {}))
    assert "the validation of step 2 failed" in capsys.readouterr().out
    assert checkpoints.candidates(tmp_path) == [2]  # to be tried again when the run goes on


def test_a_validation_whose_process_dies_is_tried_again(
    run: Path,
    validating: MetaTraining,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    marker, evaluate_after = tmp_path / "died", validation_module._evaluate_after

    def dying_once(*arguments: Any) -> Any:
        if not marker.exists():
            marker.touch()
            os._exit(1)
        return evaluate_after(*arguments)

    monkeypatch.setattr(validation_module, "_evaluate_after", dying_once)
    save(load(run / "last.safetensors"), checkpoints.candidate(tmp_path, 3))
    validation = Validation(replace(validating, out=tmp_path), open_dataset(validating.data), 3)
    assert validation.poll(timeout=120) is None
    assert "the validation of step 3 failed and is tried again: " in capsys.readouterr().out
    assert validation.poll(timeout=120) == progress.read(run, progress.VALIDATION_FILE)[1]
    assert validation.failed == {}


def test_a_parent_that_has_seen_the_held_out_sequences_is_refused(
    run: Path, validating: MetaTraining, tmp_path: Path
) -> None:
    last = load(run / "last.safetensors")
    save(replace(last, rates=None), tmp_path / "same.safetensors")
    save(replace(last, rates=None, facts={**last.facts, "held_out": []}), tmp_path / "all.safetensors")
    (name,) = last.facts["held_out"]
    with pytest.raises(BadInput, match=rf"all.safetensors: was trained on {name}, which --held-out keeps"):
        train(replace(validating, parent=tmp_path / "all.safetensors", out=tmp_path / "run"))
    assert not (tmp_path / "run").exists()
    optimization, _ = _initial(replace(validating, parent=tmp_path / "same.safetensors"), open_dataset(validating.data))
    assert optimization.facts["held_out"] == [name]


def test_training_goes_on_from_the_rates_of_a_checkpoint(run: Path, validating: MetaTraining, tmp_path: Path) -> None:
    trained = load(run / "last.safetensors").rates
    assert trained is not None
    config, dataset = replace(validating, parent=run / "last.safetensors"), open_dataset(validating.data)
    taken, _ = _initial(config, dataset)
    assert taken.rates is not None
    assert all(torch.equal(value, trained.learned[name]) for name, value in taken.rates.learned.items())
    for field, value in (("rate_level", "tensor"), ("rate_form", "linear")):
        other = replace(config, rates=replace(config.rates, **{field: value}))
        with pytest.raises(BadInput, match=r"last.safetensors: its learning rates are neuron, log, not .*" + value):
            _initial(other, dataset)
    with pytest.raises(BadInput, match=r"its model differs from the one configured in fpn_channels: 8, not 16"):
        _initial(replace(config, model=replace(config.model, fpn_channels=16)), dataset)


@pytest.mark.parametrize(("after", "warns"), [(0.5, False), (0.96, False), (0.98, True), (1.5, True)])
def test_a_warning_where_fine_tuning_no_longer_helps(after: float, warns: bool) -> None:
    rows: list[progress.Row] = [{"step": step, "loss_at_0": 1.0, "loss_at_T": after} for step in range(COLLAPSE_STEPS)]
    assert bool(collapse_warning(rows)) == warns
    assert collapse_warning(rows[1:]) == ""  # too few to tell
    if warns:
        assert f"changed the test loss by {100 * (after - 1):+.1f} %" in collapse_warning(rows)
