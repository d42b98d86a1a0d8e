"""Trainings on real workers: two are as good as one, and what they leave behind."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from mlflow import MlflowClient
from torch import Tensor

from cluster.tracking.logged_run import INPUTS, TAGS
from cluster.tracking.run import RUN_FILE
from cluster.training.config import MetaTraining
from cluster.training.driver import train
from eosvos.data.augment import task_frames
from eosvos.data.mixture import open_mixture
from eosvos.data.tasks import plan
from eosvos.errors import BadInput
from eosvos.files import locked
from eosvos.learning.meta_gradient import last_only, meta_gradient
from eosvos.learning.optimization import load, read_safetensors
from eosvos.learning.outer_loop import Learned
from eosvos.learning.rates import initial_rates
from eosvos.model.weights import initial_model


@pytest.fixture(scope="module")
def by_workers(
    meta_run: Path, meta_training: MetaTraining, tmp_path_factory: pytest.TempPathFactory
) -> dict[int, Path]:
    """The run folders of the same two outer steps by one worker and by two."""
    return {1: train(replace(meta_training, workers=1), tmp_path_factory.mktemp("runs") / "by-1").parent, 2: meta_run}


def _rows(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "progress.jsonl").read_text().splitlines()]


def _gradient(folder: Path) -> list[Tensor]:
    """The all-reduced meta-gradient of the first outer step: RAdam's first moment is then (1 - 0.9) times it."""
    state = read_safetensors(folder / "checkpoints" / "step-000001.optimizer.safetensors")[0]
    return [state[f"optimizer.{group}.exp_avg"] / (1 - 0.9) for group in (0, 1)]


def _assert_close(values: list[Tensor], references: list[Tensor]) -> None:
    """To 1e-5 relative in norm, in float32: the initialization's part, the rates' part, and both together."""
    for value, reference in [*zip(values, references, strict=True), (torch.cat(values), torch.cat(references))]:
        assert value.dtype == reference.dtype == torch.float32
        assert reference.norm() > 0
        assert (value - reference).norm() <= 1e-5 * reference.norm()


def test_two_workers_have_the_meta_gradient_of_one(by_workers: dict[int, Path]) -> None:
    _assert_close(_gradient(by_workers[2]), _gradient(by_workers[1]))


def test_the_meta_gradient_is_the_mean_over_the_planned_tasks(
    by_workers: dict[int, Path], meta_training: MetaTraining
) -> None:
    model, _ = initial_model(meta_training.model, "none", meta_training.seed)
    start = [parameter.detach().clone() for parameter in model.parameters()]
    learned = Learned(start, list(initial_rates(model, meta_training.rates).learned.values()), meta_training.outer)
    dataset = open_mixture(meta_training.data)
    sums = [torch.zeros_like(part) for part in _gradient(by_workers[1])]
    sources = dataset.sources(meta_training.plan, dataset.held_out(meta_training.held_out, meta_training.seed))
    for task in plan(sources, meta_training.plan, meta_training.seed, 4, 0, 1):
        frames = task_frames(dataset.sequences, task, meta_training.augmentation, meta_training.seed, 64, 128)
        train = model.batch(list(frames.train_images), list(frames.train_masks))
        test = model.batch(list(frames.test_images), list(frames.test_masks))
        seed = (meta_training.seed, task.epoch, task.index)
        meta = meta_gradient(model, learned, train, test, last_only(meta_training.T), seed, "first")
        for total, parts in zip(sums, (meta.initialization, meta.rates), strict=True):
            total += torch.cat([part.flatten() for part in parts])
    _assert_close(_gradient(by_workers[1]), [total / 4 for total in sums])


def test_two_workers_report_the_losses_of_one(by_workers: dict[int, Path]) -> None:
    one, two = _rows(by_workers[1]), _rows(by_workers[2])
    assert [row["step"] for row in one] == [row["step"] for row in two] == [1, 2]
    assert [row["kept"] for row in one] == [row["kept"] for row in two] == [4, 4]
    for name in ("loss_at_0", "loss_at_T", "mean_rate"):
        assert [row[name] for row in two] == pytest.approx([row[name] for row in one], rel=1e-4)


def test_what_a_run_leaves_behind(by_workers: dict[int, Path], meta_training: MetaTraining, tracking: str) -> None:
    folder = by_workers[2]
    assert {path.name for path in folder.iterdir()} == {
        "best.safetensors",
        "checkpoints",
        "complete",
        "config.json",
        "last.safetensors",
        "learned_rates.png",
        "learned_rates.svg",
        INPUTS,
        RUN_FILE,
        TAGS,
        "objects.csv",
        "objects.parquet",
        "progress.jsonl",
        "training_curve.png",
        "training_curve.svg",
        "validation.jsonl",
    }
    assert sorted(path.name for path in (folder / "checkpoints").iterdir()) == [
        f"step-{step:06d}{kind}.safetensors" for step in (1, 2) for kind in (".optimizer", "")
    ]
    assert (folder / "last.safetensors").read_bytes() == (folder / "checkpoints/step-000002.safetensors").read_bytes()
    facts = load(folder / "last.safetensors").facts
    facts_expected = {
        "data_hash": open_mixture(meta_training.data).hash,
        "held_out": ["train-00002"],
        "T": 2,
        "order": "first",
        "initial_rate": 0.01,
        "step": 2,
    }
    assert facts == facts_expected


def test_mlflow_has_the_run(by_workers: dict[int, Path], tracking: str) -> None:
    uri, run_id = (by_workers[2] / RUN_FILE).read_text().split()
    assert uri == tracking
    client = MlflowClient(uri)
    run = client.get_run(run_id)
    assert run.info.status == "FINISHED"
    assert run.data.params["outer.steps"] == "2"
    assert run.data.tags["world_size"] == "2"
    assert run.data.tags["learning_rates"] == str(load(by_workers[2] / "last.safetensors").rates)
    for name in ("loss_at_0", "loss_at_T", "gain", "helped", "mean_rate", "kept"):
        logged = [(metric.step, metric.value) for metric in client.get_metric_history(run_id, name)]
        assert sorted(logged) == [(row["step"], row[name]) for row in _rows(by_workers[2])]
    pictures = {f"{name}.{kind}" for name in ("learned_rates", "training_curve") for kind in ("png", "svg")}
    artifacts = {"best.safetensors", "last.safetensors", "progress.jsonl", "objects.csv", "objects.parquet", *pictures}
    assert {file.path for file in client.list_artifacts(run_id)} == artifacts


def test_the_same_command_on_a_finished_run_does_nothing(
    by_workers: dict[int, Path], meta_training: MetaTraining, caplog: pytest.LogCaptureFixture
) -> None:
    before = {path: path.stat().st_mtime_ns for path in by_workers[1].rglob("*")}
    train(replace(meta_training, workers=1), by_workers[1])
    assert "all 2 outer steps are done already" in caplog.text
    assert {path: path.stat().st_mtime_ns for path in by_workers[1].rglob("*")} == before


def test_what_a_kill_just_before_the_end_leaves(
    by_workers: dict[int, Path], meta_training: MetaTraining, tracking: str, tmp_path: Path
) -> None:
    """The last step's checkpoint is there, its copy and its metrics are not: the same command makes up for both."""
    folder = tmp_path / "run"
    shutil.copytree(by_workers[1], folder)
    for name in ("complete", "last.safetensors", RUN_FILE):
        (folder / name).unlink()
    train(meta_training, folder)
    assert (folder / "last.safetensors").read_bytes() == (by_workers[1] / "last.safetensors").read_bytes()
    shutil.copy(folder / "checkpoints/step-000001.safetensors", folder / "last.safetensors")
    (folder / "complete").unlink()
    assert load(train(meta_training, folder)).facts["step"] == 2
    uri, run_id = (folder / RUN_FILE).read_text().split()
    logged = [(own.step, own.value) for own in MlflowClient(uri).get_metric_history(run_id, "loss_at_T")]
    assert logged == [(row["step"], row["loss_at_T"]) for row in _rows(folder)]


def test_another_configuration_on_the_same_folder_is_refused_by_its_fields(
    by_workers: dict[int, Path], meta_training: MetaTraining
) -> None:
    other = replace(meta_training, T=3, outer=replace(meta_training.outer, steps=9), workers=2)
    with pytest.raises(BadInput, match=r"differs in T \(2 there, 3 now\), outer\.steps \(2 there, 9 now\); give"):
        train(other, by_workers[1])


def test_more_workers_than_cpus_is_refused_before_anything_is_written(
    ray_here: None, meta_training: MetaTraining, tmp_path: Path
) -> None:
    with pytest.raises(BadInput, match=r"--workers 1000: the cluster has [0-9]+ CPUs, which is too few"):
        train(replace(meta_training, workers=1000), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_two_trainings_in_one_folder_are_refused(ray_here: None, meta_training: MetaTraining, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    with locked(tmp_path / "run"), pytest.raises(BadInput, match="/run: another run is at work there; wait for it"):
        train(meta_training, tmp_path / "run")
    assert [path.name for path in (tmp_path / "run").iterdir()] == []
