"""Validation beside a training, on real Ray: which sequences and scores, what is kept, what a kill leaves."""

import json
import os
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from mlflow import MlflowClient

from cluster.tracking.background import BackgroundTracker
from cluster.tracking.run import RUN_FILE, Tracker
from cluster.training import checkpoints, progress
from cluster.training import validation as validation_module
from cluster.training.config import MetaTraining, Training
from cluster.training.driver import COMPLETE, train
from cluster.training.follower import COLLAPSE_STEPS, collapse_warning, finish
from cluster.training.pictures import CURVE
from cluster.training.start import initial_state
from cluster.training.validation import Validation
from eosvos.data.mixture import Mixture, open_mixture
from eosvos.data.parquet import encode
from eosvos.data.readers.synthetic import SyntheticSettings, synthetic
from eosvos.errors import BadInput
from eosvos.evaluation.sequence import SequenceSettings, evaluate_sequence
from eosvos.learning.optimization import load, save
from eosvos.metrics.table import ObjectResult

pytestmark = pytest.mark.usefixtures("ray_here")
AT_0, AT_T = "validation_j_and_f_at_0", "validation_j_and_f_at_T"
SCORES = (AT_0, AT_T)


def test_the_held_out_sequence_is_never_trained_on(meta_run: Path) -> None:
    (name,) = load(meta_run / "last.safetensors").facts["held_out"]
    assert name in {
        sequence.name for sequence in open_mixture(json.loads((meta_run / "config.json").read_text())["data"]).sequences
    }
    trained = {task["sequence"] for row in progress.read(meta_run) for task in row["tasks"]}
    assert trained
    assert name not in trained


def _validation(training: Training, folder: Path, dataset: Mixture, first_step: int) -> Validation:
    assert training.validation is not None
    return Validation(training, training.validation, folder, dataset, first_step)


def _ended(validation: Validation) -> list[progress.ValidationRow]:
    """The rows of all candidates that wait."""
    while validation.waiting():
        validation.poll(timeout=20)
        assert validation.failed == {}
    return validation.rows()


def _score(objects: tuple[ObjectResult, ...]) -> float:
    return sum(own.scores.j_and_f for own in objects) / len(objects)


def test_scores_are_those_of_an_evaluation(meta_run: Path, meta_training: MetaTraining) -> None:
    rows = progress.read_validations(meta_run)
    assert [row["step"] for row in rows] == [1, 2]
    dataset = open_mixture(meta_training.data)
    optimization = load(meta_run / "last.safetensors")
    names = [sequence.name for sequence in dataset.sequences]
    sequence = dataset.sequences[names.index(optimization.facts["held_out"][0])]
    results, _ = evaluate_sequence(optimization, sequence, SequenceSettings((0, meta_training.T)))
    expected = [_score(result.objects) for result in results]
    assert [rows[1][name] for name in SCORES] == pytest.approx(expected)


@pytest.fixture(scope="module")
def long_data(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Two sequences of nine frames; one is held out."""
    folder = tmp_path_factory.mktemp("long") / "data"
    encode(synthetic("held", 2, SyntheticSettings(size=64, frames=9)), folder, {})
    return str(folder)


def test_scores_are_means_over_windows_of_consecutive_frames(
    meta_run: Path, meta_training: MetaTraining, long_data: str, tmp_path: Path
) -> None:
    """Each window is evaluated as a sequence of its own; an object counts as much as another with more windows."""
    training = replace(meta_training, data=(long_data,), validation_frames=4, validation_windows=5)
    dataset, optimization = open_mixture([long_data]), load(meta_run / "last.safetensors")
    save(optimization, checkpoints.candidate(tmp_path, 2))
    (row,) = _ended(_validation(training, tmp_path, dataset, 2))
    (place,) = dataset.held_out(training.held_out, training.seed)
    sequence = dataset.sequences[place]
    results = [
        evaluate_sequence(optimization, sequence.take(window), SequenceSettings((0, training.T)))[0]
        for window in (range(4), range(5, 9))
    ]
    scores = [[_score(window[at].objects) for window in results] for at in (0, 1)]
    assert {len(window[0].objects) for window in results} == {3}
    at_0, at_T = (sum(own) / len(own) for own in scores)
    assert row == {"step": 2, AT_0: pytest.approx(at_0), AT_T: pytest.approx(at_T), "validation_windows": 2}


def test_what_is_waited_for_is_said_once(
    meta_run: Path,
    meta_training: MetaTraining,
    long_data: str,
    tmp_path: Path,
    tracking: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """However many windows end meanwhile."""
    training = replace(meta_training, data=(long_data,), validation_frames=3, validation_windows=3)
    save(load(meta_run / "last.safetensors"), checkpoints.candidate(tmp_path, 2))
    validation = _validation(training, tmp_path, open_mixture([long_data]), 2)
    background = BackgroundTracker(lambda: Tracker(tracking, "test", "test", tmp_path, {}))
    finish(validation, background)
    assert background.close()
    assert validation.rows()[0]["validation_windows"] == 3
    assert caplog.text.count("waiting for the validation of step 2") == 1


def test_a_row_of_an_older_version_counts_where_there_is_no_other() -> None:
    old: list[progress.ValidationRow] = [{"step": step, AT_0: 0.1, AT_T: 0.9} for step in (1, 2)]  # type: ignore[misc]
    new: list[progress.ValidationRow] = [{**old[0], "step": 3, AT_T: 0.2, "validation_windows": 2}]  # type: ignore[misc]
    assert progress.best_validation(old)["step"] == 2
    assert progress.best_validation([*new, *old])["step"] == 3


def test_the_best_is_kept_and_logged(meta_run: Path) -> None:
    rows = progress.read_validations(meta_run)
    best = max(rows, key=lambda row: (row[AT_T], row["step"]))
    assert load(meta_run / checkpoints.BEST).facts["step"] == best["step"]
    assert checkpoints.candidates(meta_run) == []
    uri, run_id = (meta_run / RUN_FILE).read_text().split()
    client = MlflowClient(uri)
    for name in SCORES:
        logged = {metric.step: metric.value for metric in client.get_metric_history(run_id, name)}
        assert logged == {row["step"]: row[name] for row in rows}
    assert checkpoints.BEST in {file.path for file in client.list_artifacts(run_id)}


def test_what_a_kill_leaves(meta_run: Path, meta_training: MetaTraining, tmp_path: Path) -> None:
    """Candidates: one that is validated already, one that is not, and one after the step that the run resumes from."""
    last = load(meta_run / "last.safetensors")
    rows = progress.read_validations(meta_run)
    for step in (1, 2, 3):
        save(replace(last, facts={**last.facts, "step": step}), checkpoints.candidate(tmp_path, step))
    progress.append(tmp_path, {"step": 1, AT_0: 0.0, AT_T: -1.0}, progress.VALIDATION_FILE)
    progress.append(tmp_path, {**rows[1], "step": 3}, progress.VALIDATION_FILE)
    validation = _validation(meta_training, tmp_path, open_mixture(meta_training.data), 2)
    assert validation.waiting() == [1, 2]
    assert validation.poll(timeout=120) == rows[1]  # candidates have the last step's values
    assert [row["step"] for row in validation.rows()] == [1, 2]
    assert checkpoints.candidates(tmp_path) == validation.waiting() == []
    assert validation.poll() is None
    assert load(tmp_path / checkpoints.BEST).facts["step"] == 2


def test_a_run_whose_last_validation_a_kill_cut_short(
    meta_run: Path, meta_training: MetaTraining, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It looks like the finished run without the last validation and what came after; the same command ends it."""
    shutil.copytree(meta_run, tmp_path / "run")
    folder = tmp_path / "run"
    for name in (f"{CURVE}.png", COMPLETE):
        (folder / name).unlink()
    shutil.copy(folder / "last.safetensors", checkpoints.candidate(folder, 2))
    rows = progress.read_validations(folder)
    progress.forget_after(folder, 1, progress.VALIDATION_FILE)
    best = load(folder / checkpoints.BEST).facts["step"]
    train(meta_training, folder)
    assert "validated step 2: J&F" in caplog.text
    assert progress.read_validations(folder) == rows
    assert load(folder / checkpoints.BEST).facts["step"] == best
    assert (folder / f"{CURVE}.png").is_file()
    assert checkpoints.candidates(folder) == []
    train(meta_training, folder)
    assert "are done already" in caplog.text


def test_a_validation_that_fails_is_said_and_raised_in_the_end(
    meta_run: Path, meta_training: MetaTraining, tmp_path: Path, tracking: str, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.copytree(*meta_training.data, tmp_path / "data")
    dataset = open_mixture([str(tmp_path / "data")])
    for path in (tmp_path / "data").glob("data-*.parquet"):
        path.write_bytes(b"\0" * path.stat().st_size)
    save(load(meta_run / "last.safetensors"), checkpoints.candidate(tmp_path, 2))
    training = replace(meta_training, data=(str(tmp_path / "data"),))
    validation = _validation(training, tmp_path, dataset, 3)
    background = BackgroundTracker(lambda: Tracker(tracking, "test", "test", tmp_path, {}))
    with pytest.raises(BadInput, match=rf"^{tmp_path}/data/data-00000.parquet, .*cannot be read"):
        finish(validation, background)
    assert background.close()
    assert "the validation of step 2 failed" in caplog.text
    assert checkpoints.candidates(tmp_path) == [2]  # to be tried again when the run goes on


def test_a_validation_whose_process_dies_is_tried_again(
    meta_run: Path,
    meta_training: MetaTraining,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    marker, results_of = tmp_path / "died", validation_module._results_of

    def dying_once(*arguments: Any) -> Any:
        if not marker.exists():
            marker.touch()
            os._exit(1)
        return results_of(*arguments)

    monkeypatch.setattr(validation_module, "_results_of", dying_once)
    save(load(meta_run / "last.safetensors"), checkpoints.candidate(tmp_path, 2))
    validation = _validation(meta_training, tmp_path, open_mixture(meta_training.data), 2)
    row = validation.poll(timeout=120)
    assert re.search(r"validation of step 2 on train-\d+, frames 0+ to 00002: failed, and is tried again", caplog.text)
    assert row == progress.read_validations(meta_run)[1]
    assert validation.failed == {}


def test_a_parent_that_has_seen_the_held_out_sequences_is_refused(
    meta_run: Path, meta_training: MetaTraining, tmp_path: Path
) -> None:
    last = load(meta_run / "last.safetensors")
    save(replace(last, rates=None), tmp_path / "same.safetensors")
    save(replace(last, rates=None, facts={**last.facts, "held_out": []}), tmp_path / "all.safetensors")
    (name,) = last.facts["held_out"]
    with pytest.raises(BadInput, match=rf"all.safetensors: was trained on {name}, which --held-out keeps"):
        train(replace(meta_training, parent=tmp_path / "all.safetensors"), tmp_path / "run")
    assert not (tmp_path / "run").exists()
    optimization = initial_state(
        replace(meta_training, parent=tmp_path / "same.safetensors"), open_mixture(meta_training.data)
    )
    assert optimization.facts["held_out"] == [name]


def test_training_goes_on_from_the_rates_of_a_checkpoint(
    meta_run: Path, meta_training: MetaTraining, tmp_path: Path
) -> None:
    trained = load(meta_run / "last.safetensors").rates
    assert trained is not None
    config, dataset = replace(meta_training, parent=meta_run / "last.safetensors"), open_mixture(meta_training.data)
    taken = initial_state(config, dataset)
    assert taken.rates is not None
    assert all(torch.equal(value, trained.learned[name]) for name, value in taken.rates.learned.items())
    for field, value in (("rate_level", "tensor"), ("rate_form", "linear")):
        other = replace(config, rates=replace(config.rates, **{field: value}))
        with pytest.raises(BadInput, match=r"last.safetensors: its learning rates are neuron, log, not .*" + value):
            initial_state(other, dataset)
    with pytest.raises(BadInput, match=r"its model differs from the one configured in fpn_channels: 8, not 16"):
        initial_state(replace(config, model=replace(config.model, fpn_channels=16)), dataset)


@pytest.mark.parametrize(("after", "warns"), [(0.5, False), (0.96, False), (0.98, True), (1.5, True)])
def test_a_warning_where_fine_tuning_no_longer_helps(after: float, warns: bool) -> None:
    rows: list[progress.StepRow] = [
        {"step": step, "loss_at_0": 1.0, "loss_at_T": after} for step in range(COLLAPSE_STEPS)
    ]
    assert bool(collapse_warning(rows)) == warns
    assert collapse_warning(rows[1:]) == ""  # too few to tell
    if warns:
        assert f"changed the test loss by {100 * (after - 1):+.1f} %" in collapse_warning(rows)
