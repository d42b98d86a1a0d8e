"""Validation beside a parent's training, on real Ray: the best of a few single rates, and the best checkpoint."""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from mlflow import MlflowClient

from cluster.tracking.run import RUN_FILE
from cluster.training import checkpoints, progress
from cluster.training.config import MetaTraining, ParentTraining, shared
from cluster.training.driver import COMPLETE, train
from cluster.training.pictures import CURVE
from cluster.training.start import initial_state
from eosvos.data.mixture import open_mixture
from eosvos.evaluation.sequence import SequenceSettings, evaluate_sequence
from eosvos.learning.optimization import load
from eosvos.metrics.table import ObjectResult

pytestmark = pytest.mark.usefixtures("ray_here")
AT_0, AT_T = "validation_j_and_f_at_0", "validation_j_and_f_at_T"


def _score(objects: tuple[ObjectResult, ...]) -> float:
    return sum(own.scores.j_and_f for own in objects) / len(objects)


@pytest.fixture(scope="module")
def parent_training(meta_training: MetaTraining) -> ParentTraining:
    common = shared(replace(meta_training, workers=1))
    return ParentTraining(**common, validation_T=2, validation_rates=(0.001, 0.1, 0.01))


@pytest.fixture(scope="module")
def parent_run(parent_training: ParentTraining, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(parent_training, tmp_path_factory.mktemp("trained") / "parent").parent


def test_a_parent_is_validated_at_the_best_of_its_rates(parent_run: Path, parent_training: ParentTraining) -> None:
    rows = progress.read_validations(parent_run)
    assert [row["step"] for row in rows] == [1, 2]
    data, optimization = open_mixture(parent_training.data), load(parent_run / "last.safetensors")
    (window,) = data.windows(*data.held_out(parent_training.held_out, parent_training.seed), 3, 1)
    results, _ = evaluate_sequence(optimization, window, SequenceSettings((0, 2), parent_training.validation_rates))
    scores = {one.fine_tuning.learning_rate: _score(one.objects) for one in results if one.T == 2}
    best = max(scores, key=lambda rate: scores[rate])
    assert len({*scores.values()}) > 1
    assert (rows[1][AT_0], rows[1][AT_T]) == pytest.approx((_score(results[0].objects), scores[best]))
    assert rows[1]["validation_learning_rate"] == best


def test_what_a_validated_parent_leaves_behind(
    parent_run: Path, parent_training: ParentTraining, meta_training: MetaTraining, caplog: pytest.LogCaptureFixture
) -> None:
    """Its best checkpoint, which meta-training can start from; it is no version of a model that segments."""
    rows = progress.read_validations(parent_run)
    assert load(parent_run / checkpoints.BEST).facts["step"] == progress.best_validation(rows)["step"]
    uri, run_id = (parent_run / RUN_FILE).read_text().split()
    client = MlflowClient(uri)
    logged = {one.step: one.value for one in client.get_metric_history(run_id, "validation_learning_rate")}
    assert logged == {row["step"]: row["validation_learning_rate"] for row in rows}
    assert {file.path for file in client.list_artifacts(run_id)} == {
        *(checkpoints.BEST, checkpoints.LAST, progress.FILE),
        *(f"{CURVE}.{kind}" for kind in ("png", "svg")),
    }
    assert not client.search_model_versions(f"run_id = '{run_id}'")
    optimization = initial_state(
        replace(meta_training, parent=parent_run / checkpoints.BEST), open_mixture(meta_training.data)
    )
    assert optimization.rates is not None
    train(replace(parent_training, validate_every=2), parent_run)  # how often may change
    assert "are done already" in caplog.text


def test_a_parent_whose_last_validation_a_kill_cut_short(
    parent_run: Path, parent_training: ParentTraining, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(parent_run, folder)
    (folder / COMPLETE).unlink()
    shutil.copy(folder / "last.safetensors", checkpoints.candidate(folder, 2))
    rows = progress.read_validations(folder)
    progress.forget_after(folder, 1, progress.VALIDATION_FILE)
    train(parent_training, folder)
    assert re.search(r"validated step 2: J&F [\d.]+ at 0, [\d.]+ at 2 with rate 0.\d+ on the held-out", caplog.text)
    assert progress.read_validations(folder) == rows
    assert (folder / COMPLETE).is_file()


def test_a_parent_of_a_version_that_did_not_validate_them(
    parent_run: Path, parent_training: ParentTraining, tmp_path: Path
) -> None:
    """All its steps are taken, so no candidate comes any more; its configuration lacks the fields of validation."""
    folder = tmp_path / "run"
    shutil.copytree(parent_run, folder)
    for name in (COMPLETE, checkpoints.BEST, progress.VALIDATION_FILE):
        (folder / name).unlink()
    config = json.loads((folder / "config.json").read_text())
    old = {name: value for name, value in config.items() if not name.startswith("valid") and name != "segmentation"}
    (folder / "config.json").write_text(json.dumps(old))
    defaults = {name: getattr(ParentTraining(), name) for name in ("validation_T", "validation_rates")}
    assert train(replace(parent_training, **defaults, validation_frames=8), folder).is_file()
    assert (folder / COMPLETE).is_file()
    assert not (folder / checkpoints.BEST).exists()
