"""The plan of tasks: a pure function, fair to every object, the same for any number of workers."""

from collections import Counter
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eosvos.data.config import PlanConfig
from eosvos.data.parquet import encode, open_dataset
from eosvos.data.readers.synthetic import SyntheticSettings, synthetic
from eosvos.data.tasks import MIN_AREA, Task, Visible, held_out_sequences, learnable, plan, plan_epoch, worker_tasks
from eosvos.errors import BadInput

FRAMES = st.lists(st.integers(0, 30), min_size=1, max_size=6, unique=True).map(lambda f: tuple(sorted(f)))
VISIBLE = st.lists(st.dictionaries(st.integers(1, 9), FRAMES, min_size=1, max_size=3), min_size=2, max_size=5)
CONFIGS = st.builds(
    PlanConfig,
    frames=st.sampled_from(["one", "two"]),
    train_frames=st.integers(1, 3),
    test_frames=st.integers(1, 3),
    paste=st.sampled_from([0.0, 0.5, 1.0]),
)
SEEDS = st.integers(0, 1000)
MANY: list[Visible] = [{1: (0, 3, 5), 4: (2,)}, {1: tuple(range(9))}, {2: (1, 2), 3: (0, 1, 2, 3)}] * 20


def _steps(visible: list[Visible], config: PlanConfig, seed: int, meta_batch: int, first: int, last: int) -> list[Task]:
    return list(plan(visible, config, seed, meta_batch, first, last))


@given(VISIBLE, CONFIGS, SEEDS, st.integers(0, 5))
@settings(max_examples=50)
def test_an_epoch_has_every_object_once_and_frames_that_show_it(
    visible: list[Visible], config: PlanConfig, seed: int, epoch: int
) -> None:
    tasks = plan_epoch(visible, config, seed, epoch)
    everything = [(s, o) for s, ids in enumerate(visible) for o in ids]
    assert Counter((task.sequence, task.object_id) for task in tasks) == Counter(everything)
    assert [task.index for task in tasks] == list(range(len(tasks)))
    for task in tasks:
        frames = visible[task.sequence][task.object_id]
        count = config.train_frames + config.test_frames
        assert (len(task.frames), task.train_frames) == (count, config.train_frames)
        assert set(task.frames) <= set(frames)
        assert len(set(task.frames)) == (min(count, len(frames)) if config.frames == "two" else 1)
        assert task.epoch == epoch
        assert task.position == epoch * len(tasks) + task.index
        if task.donor is not None:
            assert config.paste > 0
            assert task.donor.sequence != task.sequence
            shown = visible[task.donor.sequence][task.donor.object_id]
            assert set(task.donor.frames) <= set(shown)
            assert (len(task.donor.frames), len(set(task.donor.frames))) == (count, min(count, len(shown)))
        else:
            assert config.paste < 1


@given(VISIBLE, CONFIGS, SEEDS, st.integers(1, 5), st.integers(0, 6), st.integers(0, 6))
@settings(max_examples=50)
def test_resuming_gives_the_tail(
    visible: list[Visible], config: PlanConfig, seed: int, meta_batch: int, first: int, more: int
) -> None:
    whole = _steps(visible, config, seed, meta_batch, 0, first + more)
    assert [task.position for task in whole] == list(range((first + more) * meta_batch))
    assert _steps(visible, config, seed, meta_batch, first, first + more) == whole[first * meta_batch :]


@given(VISIBLE, CONFIGS, SEEDS, st.integers(1, 6), st.integers(1, 4))
@settings(max_examples=50)
def test_workers_share_the_tasks_of_one(
    visible: list[Visible], config: PlanConfig, seed: int, meta_batch: int, workers: int
) -> None:
    whole = _steps(visible, config, seed, meta_batch, 2, 7)
    shares = [list(worker_tasks(iter(whole), meta_batch, worker, workers)) for worker in range(workers)]
    for worker, tasks in enumerate(shares):
        assert [task.position for task in tasks] == sorted(task.position for task in tasks)
        for step in range(2, 7):
            slots = [task.position % meta_batch for task in tasks if task.position // meta_batch == step]
            assert slots == [slot for slot in range(meta_batch) if slot % workers == worker]
    assert sorted((task for tasks in shares for task in tasks), key=lambda task: task.position) == whole


def test_the_plan_is_a_pure_function_of_its_arguments() -> None:
    config = PlanConfig(paste=0.5)
    np.random.seed(1)  # noqa: NPY002 - to show that the global state does not matter
    first = _steps(MANY, config, 0, 4, 0, 40)
    np.random.seed(2)  # noqa: NPY002
    assert _steps(MANY, config, 0, 4, 0, 40) == first
    assert _steps(MANY, config, 1, 4, 0, 40) != first
    unordered = [dict(reversed(list(ids.items()))) for ids in MANY]
    assert _steps(unordered, config, 0, 4, 0, 40) == first
    a, b = (plan_epoch(MANY, config, 0, epoch) for epoch in (0, 1))
    assert [(t.sequence, t.object_id) for t in a] != [(t.sequence, t.object_id) for t in b]


def test_two_frames_in_either_order_and_one_frame_twice() -> None:
    two = [t for e in range(20) for t in plan_epoch([{1: (3, 8, 9)}], PlanConfig(), 0, e)]
    assert {t.frames for t in two} == {(a, b) for a in (3, 8, 9) for b in (3, 8, 9) if a != b}
    one = [t for e in range(20) for t in plan_epoch([{1: (3, 8, 9)}], PlanConfig(frames="one"), 0, e)]
    assert {t.frames for t in one} == {(3, 3), (8, 8), (9, 9)}


@pytest.mark.parametrize("paste", [0.0, 0.3, 0.75, 1.0])
def test_share_of_tasks_with_a_pasted_object(paste: float) -> None:
    tasks = [task for epoch in range(30) for task in plan_epoch(MANY, PlanConfig(paste=paste), 0, epoch)]
    donors = [task.donor for task in tasks if task.donor is not None]
    assert len(tasks) == 3000
    assert len(donors) / len(tasks) == pytest.approx(paste, abs=0.05)
    if donors:
        assert sum(donor.is_target for donor in donors) / len(donors) == pytest.approx(0.5, abs=0.1)
        assert len({donor.sequence for donor in donors}) == len(MANY)


def test_objects_that_are_never_visible_are_left_out() -> None:
    visible: list[Visible] = [{1: (), 2: (4,)}, {}, {5: (0,)}]
    assert {(t.sequence, t.object_id) for t in plan_epoch(visible, PlanConfig(paste=1), 0, 0)} == {(0, 2), (2, 5)}


BAD: dict[str, tuple[Any, float]] = {
    "no frame with a visible object": ([{}, {1: ()}], 0),
    "needs objects of at least two sequences; add data or set --paste 0": ([{1: (0,), 2: (0,)}, {1: ()}], 0.1),
}


@pytest.mark.parametrize("message", BAD)
def test_data_that_has_no_tasks(message: str) -> None:
    visible, paste = BAD[message]
    with pytest.raises(BadInput, match=message):
        next(plan(visible, PlanConfig(paste=paste), 0, 4, 0, 1))


def test_long_plans_are_made_as_they_are_read() -> None:
    assert len(list(islice(plan(MANY, PlanConfig(), 0, 4, 0, 10**9), 7))) == 7


@pytest.mark.parametrize("paste", [-0.1, 1.1, float("nan")])
def test_share_out_of_range(paste: float) -> None:
    with pytest.raises(ValueError, match=r"^paste: must be within 0 and 1"):
        PlanConfig(paste=paste)


def test_learnable_frames_show_enough_of_the_object(tmp_path: Path, make_sequence: Any) -> None:
    def mask(*areas: int) -> np.ndarray:
        values = np.zeros((50, 40), np.uint8)  # MIN_AREA of it are two pixels
        for number, area in enumerate(areas, start=1):
            values[10 * number].flat[:area] = number
        return values

    assert MIN_AREA * 50 * 40 == 2
    small = replace(make_sequence("small", [np.ones((9, 7), np.uint8), None]))
    sequence = make_sequence("sequence", [mask(1, 5), mask(2, 0), None, mask(3, 1)])
    encode([sequence, small], tmp_path / "out", {})
    dataset = open_dataset(tmp_path / "out")
    found = dict(zip((s.name for s in dataset.sequences), learnable(dataset), strict=True))
    assert found == {"sequence": {1: (1, 3), 2: (0,)}, "small": {1: (0,)}}


@given(st.integers(1, 60), st.floats(0, 0.99), SEEDS)
def test_held_out_sequences(sequences: int, share_of_them: float, seed: int) -> None:
    expected = max(round(share_of_them * sequences), 1) if share_of_them > 0 else 0
    if expected >= sequences:
        with pytest.raises(BadInput, match="leaves none of"):
            held_out_sequences(sequences, share_of_them, seed)
        return
    indices = held_out_sequences(sequences, share_of_them, seed)
    assert len(set(indices)) == expected
    assert sorted(indices) == list(indices)
    assert set(indices) <= set(range(sequences))
    assert held_out_sequences(sequences, share_of_them, seed) == indices


def test_held_out_sequences_depend_on_the_seed() -> None:
    assert len({held_out_sequences(20, 0.2, seed) for seed in range(10)}) > 5


def test_sequences_that_are_left_out_are_in_no_task(tmp_path: Path) -> None:
    encode(synthetic("train", 4, SyntheticSettings(size=48, frames=2)), tmp_path / "data", {})
    dataset = open_dataset(tmp_path / "data")
    visible = learnable(dataset, without=(1, 3))
    assert [bool(ids) for ids in visible] == [True, False, True, False]
    tasks = plan_epoch(visible, PlanConfig(paste=1.0), 0, 0)
    assert {task.sequence for task in tasks} == {task.donor.sequence for task in tasks if task.donor} == {0, 2}
    targets = [task.target for task in tasks]
    for task, (sequence, object_id, frames) in zip(tasks, targets, strict=True):
        target = task.donor if task.donor and task.donor.is_target else task
        assert (sequence, object_id, frames) == (target.sequence, target.object_id, target.frames)
    assert any(task.donor and task.donor.is_target for task in tasks)
    assert not all(task.donor and task.donor.is_target for task in tasks)
