"""The loop of a training worker, alone in this process and without Ray: what it does with tasks that go wrong."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import ray.train
import torch

from cluster.training import checkpoints, progress
from cluster.training import worker as train_worker
from cluster.training.config import MetaTraining, ParentTraining, Training
from cluster.training.stream import StreamConfig, stream_config
from eosvos.data.augment import TaskFrames, task_frames
from eosvos.data.mixture import Mixture, open_mixture
from eosvos.data.parquet import encode, open_dataset
from eosvos.data.tasks import Task, plan
from eosvos.learning import learner
from eosvos.learning.meta_gradient import meta_gradient
from eosvos.learning.optimization import Optimization, load, read_safetensors
from eosvos.learning.outer_loop import Losses, TaskGradient
from eosvos.learning.rates import initial_rates
from eosvos.model.weights import initial_model


class _Alone:
    """Ray Train's context of the only worker."""

    def get_world_rank(self) -> int:
        return 0

    def get_world_size(self) -> int:
        return 1


class _Rows(list[dict[str, Any]]):
    put = list.append


def _direct_stream(
    dataset: Mixture, config: StreamConfig, worker: int, workers: int, first: int, last: int, cpus: float
) -> Iterator[list[tuple[Task, TaskFrames]]]:
    for step in range(first, last):
        tasks = plan(dataset.sources(config.plan), config.plan, config.seed, config.meta_batch, step, step + 1)
        yield [
            (task, task_frames(dataset.sequences, task, config.augmentation, config.seed, 64, 128)) for task in tasks
        ]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


@pytest.fixture
def start(training: MetaTraining, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MetaTraining:
    """A run folder at outer step 0."""
    monkeypatch.setattr(ray.train, "get_context", _Alone)
    monkeypatch.setattr(train_worker, "broadcast_from_rank_zero", lambda value: value)
    monkeypatch.setattr(train_worker, "task_stream", _direct_stream)
    model, _ = initial_model(training.model, "none", training.seed)
    optimization = Optimization(training.model, model.state_dict(), initial_rates(model, training.rates))
    checkpoints.save(tmp_path, 0, optimization, checkpoints.learned_state(optimization, training.outer))
    return training


def _run(training: Training, folder: Path) -> list[Any]:
    queue = _Rows()
    train_worker.train_worker({"work": train_worker.Work(training, folder, 1.0, queue)})  # type: ignore[arg-type]
    assert [json.loads(json.dumps(row, allow_nan=False)) for row in queue] == queue
    return queue


def _spoil(monkeypatch: pytest.MonkeyPatch, indices: set[int], **values: Any) -> list[TaskGradient]:
    """Puts ``values`` into the meta-gradients of the first epoch's tasks ``indices``; returns those left alone."""
    sound: list[TaskGradient] = []

    def spoiled(*arguments: Any) -> TaskGradient:
        meta = meta_gradient(*arguments)
        _, epoch, index = arguments[-2]
        if epoch == 0 and index in indices:
            return replace(meta, **values)
        sound.append(meta)
        return meta

    monkeypatch.setattr(learner, "meta_gradient", spoiled)
    return sound


WRONG: dict[str, dict[str, Any]] = {
    "loss_at_0": {"losses": Losses(float("nan"), 1.0)},
    "loss_at_T": {"losses": Losses(1.0, float("nan"))},
    "initialization": {"initialization": [torch.tensor(float("inf"))]},
    "rates": {"rates": [torch.tensor(float("inf"))]},
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_task_that_is_not_finite_is_dropped_counted_and_named(
    start: MetaTraining, folder: Path, monkeypatch: pytest.MonkeyPatch, wrong: str
) -> None:
    sound = _spoil(monkeypatch, {1}, **WRONG[wrong])
    first, second = _run(start, folder)
    tasks = list(plan(open_mixture(start.data).sources(start.plan), start.plan, start.seed, 4, 0, 1))
    assert (first["kept"], second["kept"]) == (3, 4)
    losses = [(meta.losses.at_0, meta.losses.at_T) for meta in sound[:3]]
    losses.insert(1, (None, None))
    for row, task, (at_0, at_T) in zip(first["tasks"], tasks, losses, strict=True):
        sequence, object_id, frames = task.target
        assert (row["sequence"], row["object"], row["frames"]) == (f"train-{sequence:05d}", object_id, list(frames))
        assert (row["loss_at_0"], row["loss_at_T"]) == (pytest.approx(at_0), pytest.approx(at_T))
    assert first["loss_at_T"] == pytest.approx(sum(meta.losses.at_T for meta in sound[:3]) / 3)
    assert first["gain"] == pytest.approx(first["loss_at_0"] - first["loss_at_T"])
    assert first["helped"] == pytest.approx(sum(meta.losses.at_T < meta.losses.at_0 for meta in sound[:3]) / 3)
    state = read_safetensors(folder / "checkpoints" / "step-000001.optimizer.safetensors")[0]
    mean = torch.stack([torch.cat([part.flatten() for part in meta.initialization]) for meta in sound[:3]]).mean(dim=0)
    torch.testing.assert_close(state["optimizer.0.exp_avg"], 0.1 * mean, rtol=1e-4, atol=1e-7)


def test_a_step_without_a_task_is_skipped(start: MetaTraining, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _spoil(monkeypatch, {0, 1, 2, 3}, losses=Losses(1.0, float("inf")))
    first, second = _run(start, folder)
    assert sorted(first) == ["kept", "mean_rate", "seconds", "step", "tasks"]
    assert (first["kept"], second["kept"]) == (0, 4)
    assert [task["loss_at_T"] for task in first["tasks"]] == [None] * 4
    state = read_safetensors(folder / "checkpoints" / "step-000001.optimizer.safetensors")[0]
    assert state == {}


def test_rates_can_be_frozen(start: MetaTraining, folder: Path) -> None:
    before = load(folder / "checkpoints" / "step-000000.safetensors")
    _run(replace(start, outer=replace(start.outer, rates_learning_rate=0)), folder)
    after = load(folder / "last.safetensors")
    assert before.rates is not None
    assert after.rates is not None
    assert all(torch.equal(after.rates.learned[name], value) for name, value in before.rates.learned.items())
    assert not all(torch.equal(after.initialization[name], value) for name, value in before.initialization.items())


def test_a_parent_from_nothing_finds_the_statistics_of_batch_norm(start: MetaTraining, tmp_path: Path) -> None:
    """They move to the mean over the tasks of each step, whoever has them; where something was loaded they stay."""
    config = replace(start.model, normalization="frozen_batch")
    parent = ParentTraining(data=start.data, model=config, plan=start.plan, outer=start.outer, checkpoint_every=1)
    model, _ = initial_model(config, "none", 0)
    optimization = Optimization(config, model.state_dict(), None)
    after = {}
    for weights in ("none", "imagenet"):
        folder = tmp_path / weights
        checkpoints.save(folder, 0, optimization, checkpoints.learned_state(optimization, parent.outer))
        _run(replace(parent, backbone_weights=weights), folder)
        after[weights] = load(folder / "checkpoints" / "step-000001.safetensors").initialization
    dataset = open_mixture(start.data)
    (tasks,) = _direct_stream(dataset, stream_config(parent, dataset), 0, 1, 0, 1, 1.0)
    convolution, means = model.backbone.body["stem"][0], []
    for _, frames in tasks:
        seen = convolution(model.image_list([*frames.train_images, *frames.test_images]).tensors)
        means.append(seen.mean(dim=(0, 2, 3)))
    name = "backbone.body.stem.1.running_mean"
    torch.testing.assert_close(after["none"][name], 0.1 * torch.stack(means).mean(dim=0), rtol=1e-4, atol=1e-5)
    assert not after["imagenet"][name].any()
    changed = {name for name, value in after["none"].items() if not torch.equal(value, after["imagenet"][name])}
    assert sum(name.endswith(("running_mean", "running_var")) for name in changed) == 2 * 10


def test_weights_of_the_losses_and_numbers_of_steps(training: MetaTraining) -> None:
    meta = replace(training, T=4, multi_step=0.5, outer=replace(training.outer, steps=8))
    config = meta.learner()
    assert [config.loss_weights(step, 2) for step in (0, 2, 4, 7)] == [(0, 0.5, 0.5), (0, 0.25, 0.75), *[(0, 0, 1)] * 2]
    assert {config.inner_steps(0, index) for index in range(20)} == {4}
    some = replace(meta, min_T=2).learner()
    drawn = [some.inner_steps(0, index) for index in range(60)]
    assert set(drawn) == {2, 3, 4}
    assert drawn == [some.inner_steps(0, index) for index in range(60)]
    assert drawn != [some.inner_steps(1, index) for index in range(60)]
    for wrong in ({"min_T": 5}, {"min_T": -1}, {"multi_step": 1.5}):
        with pytest.raises(ValueError, match=f"^{next(iter(wrong))}: must be"):
            replace(meta, **wrong)  # type: ignore[arg-type]


def test_a_run_that_goes_on_has_the_bits_of_one_that_never_stopped(start: MetaTraining, folder: Path) -> None:
    whole = _run(start, folder)
    expected = {path.name: path.read_bytes() for path in (folder / "checkpoints").glob("step-000002*")}
    for name in expected:
        (folder / "checkpoints" / name).unlink()
    resumed = _run(start, folder)
    assert _without_time(progress.read(folder)) == _without_time(whole)
    assert _without_time(resumed) == _without_time(whole[1:])
    assert {path.name: path.read_bytes() for path in (folder / "checkpoints").glob("step-000002*")} == expected


class _States(_Rows):
    """Keeps, with each row, the state as its checkpoint has it, in double precision."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder, self.states = folder, list[dict[str, torch.Tensor]]()

    def put(self, row: dict[str, Any]) -> None:  # type: ignore[override]
        self.states.append(_doubles(self.folder / "checkpoints" / f"step-{row['step']:06d}.safetensors"))


def _doubles(file: Path) -> dict[str, torch.Tensor]:
    return {name: value.double() for name, value in read_safetensors(file)[0].items()}


@pytest.fixture
def averaging(start: MetaTraining) -> MetaTraining:
    """Five outer steps, candidates for validation after the last two."""
    outer = replace(start.outer, steps=5, learning_rate=0.01, rates_learning_rate=0.5, average=0.7)
    return replace(start, outer=outer, held_out=0.25, validate_every=4)


def test_what_is_kept_is_the_average_over_the_steps(averaging: MetaTraining, folder: Path) -> None:
    """Against its definition, on the states that were saved; the states are those of a run without it."""
    queue, at_0 = _States(folder), _bytes(folder, "step-000000")
    train_worker.train_worker({"work": train_worker.Work(averaging, folder, 1.0, queue)})  # type: ignore[arg-type]
    for steps, file in ((4, checkpoints.candidate(folder, 4)), (5, folder / checkpoints.LAST)):
        weights = [0.7 ** (steps - k) for k in range(1, steps + 1)]
        for name, value in _doubles(file).items():
            parts = [weight * state[name] for weight, state in zip(weights, queue.states, strict=False)]
            expected = torch.stack(parts).sum(dim=0) / sum(weights)
            torch.testing.assert_close(value, expected, rtol=1e-5, atol=1e-7)
    assert (checkpoints.candidate(folder, 5)).read_bytes() == (folder / checkpoints.LAST).read_bytes()
    names = [name for name in queue.states[0] if name.startswith("rates.")]
    last = _doubles(folder / checkpoints.LAST)
    assert any(not torch.allclose(last[name], queue.states[-1][name]) for name in names)
    assert load(folder / checkpoints.LAST).facts == {"step": 5, "average": 0.7}

    states = [_bytes(folder, f"step-00000{step}") for step in (4, 5)]
    for file in (folder / "checkpoints").iterdir():
        file.unlink()
    for name, content in at_0.items():
        (folder / "checkpoints" / name).write_bytes(content)
    _run(replace(averaging, outer=replace(averaging.outer, average=0.0)), folder)
    for step, files in zip((4, 5), states, strict=True):
        average = files.pop(f"step-00000{step}.average.safetensors")
        assert average
        assert _bytes(folder, f"step-00000{step}") == files


def test_an_average_goes_on_with_the_same_bits(averaging: MetaTraining, folder: Path) -> None:
    _run(averaging, folder)
    expected = _bytes(folder, "step-000005")
    assert len(expected) == 3
    for name in expected:
        (folder / "checkpoints" / name).unlink()
    _run(averaging, folder)
    assert _bytes(folder, "step-000005") == expected
    assert (folder / checkpoints.LAST).read_bytes() == expected["step-000005.average.safetensors"]
    assert len(list((folder / "checkpoints").glob("step-*"))) == 3 * checkpoints.KEEP


def test_the_average_of_a_parent_has_the_statistics_too(start: MetaTraining, tmp_path: Path) -> None:
    config = replace(start.model, normalization="frozen_batch")
    outer = replace(start.outer, average=0.5)
    parent = ParentTraining(start.data, backbone_weights="none", model=config, outer=outer, checkpoint_every=1)
    model, _ = initial_model(config, "none", 0)
    optimization, folder = Optimization(config, model.state_dict(), None), tmp_path / "parent"
    checkpoints.save(folder, 0, optimization, checkpoints.learned_state(optimization, outer))
    _run(parent, folder)
    first, second = (_doubles(folder / "checkpoints" / f"step-00000{step}.safetensors") for step in (1, 2))
    name = "initialization.backbone.body.stem.1.running_mean"
    assert not torch.equal(first[name], second[name])
    for name, value in _doubles(folder / checkpoints.LAST).items():
        torch.testing.assert_close(value, (0.5 * first[name] + second[name]) / 1.5, rtol=1e-5, atol=1e-7)


def _bytes(folder: Path, start: str) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (folder / "checkpoints").glob(f"{start}*")}


def _without_time(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{name: value for name, value in row.items() if name != "seconds"} for row in rows]


def test_equal_names_of_two_datasets_are_told_apart(start: MetaTraining, folder: Path, tmp_path: Path) -> None:
    (encoded,) = start.data
    same = [replace(sequence, dataset="other") for sequence in open_dataset(encoded).sequences]
    encode(same, tmp_path / "other", {"made": "for tests"})
    mixture = replace(start, data=(encoded, str(tmp_path / "other")), data_weights=(1, 1))
    names = [task["sequence"].split("/") for row in _run(mixture, folder) for task in row["tasks"]]
    assert {dataset for dataset, _ in names} == {"synthetic", "other"}
    assert {name for _, name in names} <= {sequence.name for sequence in same}
