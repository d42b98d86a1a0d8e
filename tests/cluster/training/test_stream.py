"""The stream on real Ray Data: the same tasks and pixels for any number of workers, and from any step on."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import ray
import torch

from cluster.session import bad_input_in
from cluster.training import stream
from cluster.training.stream import StreamConfig, task_stream
from eosvos.data.augment import TaskFrames, task_frames
from eosvos.data.config import AugmentationConfig, PlanConfig, Targets
from eosvos.data.mixture import Mixture, open_mixture
from eosvos.data.parquet import encode
from eosvos.data.readers.synthetic import SyntheticSettings, synthetic
from eosvos.data.tasks import Task, plan

pytestmark = pytest.mark.usefixtures("ray_here")

Steps = list[list[tuple[Task, TaskFrames]]]
CONFIG = StreamConfig(PlanConfig(paste=0.5), AugmentationConfig(), meta_batch=3, seed=5, short_side=48, long_side=96)
STEPS = 5
"""Past the first epoch, which is four meta-batches of three tasks."""


@pytest.fixture(scope="module")
def dataset(encoded: Path) -> Mixture:
    return open_mixture([str(encoded)])


@pytest.fixture(scope="module")
def of_one(ray_here: None, dataset: Mixture) -> Steps:
    return list(task_stream(dataset, CONFIG, 0, 1, 0, STEPS, cpus=1.0))


def _same(left: Steps, right: Steps) -> bool:
    """The same tasks and the same pixels in the same order."""
    pairs = [pair for one, other in zip(left, right, strict=True) for pair in zip(one, other, strict=True)]
    return all(
        a == b and all(torch.equal(frame, vars(seen)[name]) for name, frame in vars(made).items())
        for (a, made), (b, seen) in pairs
    )


def _direct(dataset: Mixture, targets: Targets = "one", steps: int = STEPS) -> Steps:
    """What the stream has to give, without Ray."""
    tasks = list(plan(dataset.sources(CONFIG.plan), CONFIG.plan, CONFIG.seed, CONFIG.meta_batch, 0, steps))
    made = [
        (task, task_frames(dataset.sequences, task, CONFIG.augmentation, CONFIG.seed, 48, 96, targets))
        for task in tasks
    ]
    return [made[start : start + CONFIG.meta_batch] for start in range(0, len(made), CONFIG.meta_batch)]


def test_one_worker_sees_the_plan(of_one: Steps, dataset: Mixture) -> None:
    assert [len(tasks) for tasks in of_one] == [3] * STEPS
    assert {task.epoch for tasks in of_one for task, _ in tasks} == {0, 1}
    assert any(task.donor for tasks in of_one for task, _ in tasks)
    assert _same(of_one, _direct(dataset))


def test_all_objects_where_a_parent_learns_from_all(dataset: Mixture) -> None:
    of_all = list(task_stream(dataset, replace(CONFIG, targets="instances"), 0, 1, 0, 1, cpus=1.0))
    assert _same(of_all, _direct(dataset, "instances", 1))
    assert any(int(frames.train_masks.max()) > 1 for tasks in of_all for _, frames in tasks)


def test_two_workers_share_a_mixture_from_a_later_step_on(encoded: Path, tmp_path: Path) -> None:
    """Slots 0 and 2 of each meta-batch go to worker 0, slot 1 to worker 1; read at the same time, as in training."""
    encode(synthetic("held", 3, SyntheticSettings(size=48, frames=1)), tmp_path / "images", {})
    mixture = open_mixture([str(encoded), str(tmp_path / "images")], (2, 1))
    whole = _direct(mixture)
    names = mixture.names([task.sequence for step in whole for task, _ in step])
    assert [name.split("-")[0] for name in names].count("synthetic/held") == STEPS
    both = [task_stream(mixture, CONFIG, worker, 2, 2, STEPS, cpus=0.5) for worker in (0, 1)]
    steps = list(zip(*both, strict=True))
    assert [(len(first), len(second)) for first, second in steps] == [(2, 1)] * (STEPS - 2)
    assert _same([[first[0], second[0], first[1]] for first, second in steps], whole[2:])


def test_from_a_later_step_on(of_one: Steps, dataset: Mixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "SEGMENT_STEPS", 2)  # a second pipeline goes on where the first one ends
    assert _same(list(task_stream(dataset, CONFIG, 0, 1, 2, STEPS, cpus=1.0)), of_one[2:])


class _Worker:
    """An actor, as training workers are: a task would lend its CPUs to what it waits for."""

    def steps(self, dataset: Mixture) -> int:
        return len(list(task_stream(dataset, CONFIG, 0, 1, 0, STEPS, cpus=0.5)))


def test_a_stream_takes_no_more_than_its_share(dataset: Mixture) -> None:
    """A task of Ray's that asks for a whole CPU would wait until the stream of the worker beside this one has ended."""
    worker = ray.remote(num_cpus=1.5)(_Worker).remote()
    assert ray.get(worker.steps.remote(dataset), timeout=120) == STEPS


def test_a_worker_without_tasks_takes_part_in_every_step(dataset: Mixture) -> None:
    assert list(task_stream(dataset, CONFIG, 3, 4, 1, STEPS, cpus=0.5)) == [[]] * (STEPS - 1)


def test_a_data_file_that_goes_after_opening_is_bad_input(encoded: Path, tmp_path: Path) -> None:
    shutil.copytree(encoded, tmp_path / "damaged")
    damaged = open_mixture([str(tmp_path / "damaged")])
    assert len(damaged.sequences) == 4
    path = tmp_path / "damaged" / "data-00000.parquet"
    path.unlink()
    with pytest.raises(Exception, match=r"data-00000\.parquet") as caught:
        next(task_stream(damaged, CONFIG, 0, 1, 0, 2, cpus=1.0))
    bad = bad_input_in(caught.value)
    assert bad is not None
    assert str(bad).startswith(f"{path}")
    assert "\n" not in str(bad)
