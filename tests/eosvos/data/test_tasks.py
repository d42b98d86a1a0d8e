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
from eosvos.data.tasks import MIN_AREA, Source, Task, Visible, hidden, learnable, plan, worker_tasks
from eosvos.errors import BadInput

FRAMES = st.lists(st.integers(0, 30), min_size=1, max_size=6, unique=True).map(lambda f: tuple(sorted(f)))
VISIBLE = st.lists(st.dictionaries(st.integers(1, 9), FRAMES, min_size=1, max_size=3), min_size=2, max_size=5)
CONFIGS = st.builds(
    PlanConfig,
    frames=st.sampled_from(["one", "two"]),
    train_frames=st.integers(1, 3),
    test_frames=st.integers(1, 3),
    max_distance=st.sampled_from([0, 0, 2, 10]),
    paste=st.sampled_from([0.0, 0.5, 1.0]),
)
SEEDS = st.integers(0, 1000)
MANY: list[Visible] = [{1: (0, 3, 5), 4: (2,)}, {1: tuple(range(9))}, {2: (1, 2), 3: (0, 1, 2, 3)}] * 20


def _steps(visible: list[Visible], config: PlanConfig, seed: int, meta_batch: int, first: int, last: int) -> list[Task]:
    return list(plan([Source(visible)], config, seed, meta_batch, first, last))


def _epoch(visible: list[Visible], config: PlanConfig, seed: int, epoch: int) -> list[Task]:
    """One pass over all objects."""
    objects = sum(len(frames) > 0 for ids in visible for frames in ids.values())
    return _steps(visible, config, seed, objects, epoch, epoch + 1)


@given(VISIBLE, CONFIGS, SEEDS, st.integers(0, 5))
@settings(max_examples=50)
def test_an_epoch_has_every_object_once_and_frames_that_show_it(
    visible: list[Visible], config: PlanConfig, seed: int, epoch: int
) -> None:
    tasks = _epoch(visible, config, seed, epoch)
    everything = [(s, o) for s, ids in enumerate(visible) for o in ids]
    assert Counter((task.sequence, task.object_id) for task in tasks) == Counter(everything)
    assert [task.index for task in tasks] == list(range(len(tasks)))
    for task in tasks:
        frames = visible[task.sequence][task.object_id]
        count = config.train_frames + config.test_frames
        assert (len(task.frames), task.train_frames) == (count, config.train_frames)
        assert set(task.frames) <= set(frames)
        if config.max_distance and config.frames == "two":
            assert max(task.frames) - min(task.frames) <= config.max_distance
        else:
            assert len(set(task.frames)) == (min(count, len(frames)) if config.frames == "two" else 1)
        assert task.epoch == epoch
        assert task.position == epoch * len(tasks) + task.index
        if task.donor is not None:
            assert config.paste > 0
            assert task.donor.sequence != task.sequence
            shown = visible[task.donor.sequence][task.donor.object_id]
            assert set(task.donor.frames) <= set(shown)
            assert len(task.donor.frames) == count
            assert config.max_distance or len(set(task.donor.frames)) == min(count, len(shown))
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
    a, b = (_epoch(MANY, config, 0, epoch) for epoch in (0, 1))
    assert [(t.sequence, t.object_id) for t in a] != [(t.sequence, t.object_id) for t in b]


def test_two_frames_in_either_order_and_one_frame_twice() -> None:
    two = [t for e in range(20) for t in _epoch([{1: (3, 8, 9)}], PlanConfig(), 0, e)]
    assert {t.frames for t in two} == {(a, b) for a in (3, 8, 9) for b in (3, 8, 9) if a != b}
    one = [t for e in range(20) for t in _epoch([{1: (3, 8, 9)}], PlanConfig(frames="one"), 0, e)]
    assert {t.frames for t in one} == {(3, 3), (8, 8), (9, 9)}


@pytest.mark.parametrize("paste", [0.0, 0.3, 0.75, 1.0])
def test_share_of_tasks_with_a_pasted_object(paste: float) -> None:
    tasks = [task for epoch in range(30) for task in _epoch(MANY, PlanConfig(paste=paste), 0, epoch)]
    donors = [task.donor for task in tasks if task.donor is not None]
    assert len(tasks) == 3000
    assert len(donors) / len(tasks) == pytest.approx(paste, abs=0.05)
    if donors:
        assert sum(donor.is_target for donor in donors) / len(donors) == pytest.approx(0.5, abs=0.1)
        assert len({donor.sequence for donor in donors}) == len(MANY)


def test_objects_that_are_never_visible_are_left_out() -> None:
    visible: list[Visible] = [{1: (), 2: (4,)}, {}, {5: (0,)}]
    assert {(t.sequence, t.object_id) for t in _epoch(visible, PlanConfig(paste=1), 0, 0)} == {(0, 2), (2, 5)}


BAD: dict[str, tuple[Any, float]] = {
    "no frame with a visible object": ([{}, {1: ()}], 0),
    "needs objects of at least two sequences; add data or set --paste 0": ([{1: (0,), 2: (0,)}, {1: ()}], 0.1),
}


@pytest.mark.parametrize("message", BAD)
def test_data_that_has_no_tasks(message: str) -> None:
    visible, paste = BAD[message]
    with pytest.raises(BadInput, match=message):
        next(plan([Source(visible)], PlanConfig(paste=paste), 0, 4, 0, 1))


def test_long_plans_are_made_as_they_are_read() -> None:
    assert len(list(islice(plan([Source(MANY)], PlanConfig(), 0, 4, 0, 10**9), 7))) == 7


@pytest.mark.parametrize("name", ["paste", "hidden"])
@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan")])
def test_share_out_of_range(name: str, share: float) -> None:
    with pytest.raises(ValueError, match=rf"^{name}: must be within 0 and 1"):
        PlanConfig(**{name: share})  # type: ignore[arg-type]


def test_frames_that_are_near_to_each_other_are_drawn_alike() -> None:
    tasks = [t for e in range(300) for t in _epoch([{1: tuple(range(20))}], PlanConfig(max_distance=3), 0, e)]
    assert {t.frames[1] - t.frames[0] for t in tasks} == {-3, -2, -1, 1, 2, 3}
    assert {t.frames[0] for t in tasks} == set(range(20))


def test_a_pass_by_images_takes_each_once_with_any_of_its_objects() -> None:
    visible: list[Visible] = [{1: (0,), 2: (0,), 7: (0,)}, {}, {5: (0,)}, {3: (), 4: (1,)}]
    config = PlanConfig(draw="image")
    tasks = [list(plan([Source(visible)], config, 0, 3, epoch, epoch + 1)) for epoch in range(60)]
    assert all(sorted(task.sequence for task in epoch) == [0, 2, 3] for epoch in tasks)
    found = Counter((task.sequence, task.object_id) for epoch in tasks for task in epoch)
    assert set(found) == {(0, 1), (0, 2), (0, 7), (2, 5), (3, 4)}
    assert all(10 < found[0, number] < 30 for number in (1, 2, 7))


def test_frames_to_do_well_on_without_the_object() -> None:
    config = PlanConfig(hidden=0.3, train_frames=2, test_frames=2)
    source = Source([{1: (2, 3, 4, 9), 2: (0, 1)}], [{1: (0, 1, 12), 2: ()}])
    tasks = list(plan([source], config, 0, 2, 0, 500))
    shares = Counter(len(task.hidden) for task in tasks if task.object_id == 1)
    assert [shares[count] / 500 for count in range(3)] == pytest.approx([0.49, 0.42, 0.09], abs=0.06)
    for task in tasks:
        expected = {1: (0, 1, 12), 2: ()}[task.object_id]
        assert [place for place, frame in enumerate(task.frames) if frame in expected] == list(task.hidden)
        assert all(place >= 2 for place in task.hidden)
    near = list(plan([source], replace(config, max_distance=3), 0, 2, 0, 500))
    assert any(task.hidden for task in near)
    for task in near:
        assert all(abs(seen - frame) <= 3 for seen in task.frames[:2] for frame in task.frames[2:])


SOURCES = st.lists(st.tuples(VISIBLE, st.integers(1, 9)), min_size=1, max_size=4)


@given(SOURCES, CONFIGS, SEEDS, st.integers(0, 40))
@settings(max_examples=50)
def test_several_sources_take_turns_by_their_weights(
    drawn: list[tuple[list[Visible], int]], config: PlanConfig, seed: int, resumed: int
) -> None:
    sources = [Source(visible, weight=weight) for visible, weight in drawn]
    tasks = list(plan(sources, config, seed, 1, 0, 120))
    assert list(plan(sources, config, seed, 1, resumed, 120)) == tasks[resumed:]
    starts = np.cumsum([0, *(len(source.visible) for source in sources)])
    flat = [objects for source in sources for objects in source.visible]
    owners = [int(np.searchsorted(starts, task.sequence, side="right")) - 1 for task in tasks]
    total = sum(source.weight for source in sources)
    for count in range(1, len(tasks) + 1):
        for number, source in enumerate(sources):
            assert abs(owners[:count].count(number) - source.weight * count / total) < 1
    for number, source in enumerate(sources):
        own = [task for task, owner in zip(tasks, owners, strict=True) if owner == number]
        objects = sum(map(len, source.visible))
        first = [(task.sequence, task.object_id) for task in own[:objects]]
        assert len(set(first)) == len(first)  # each object once before any twice
        assert {task.epoch % len(sources) for task in own} <= {number}
    assert len({(task.epoch, task.index) for task in tasks}) == len(tasks)  # no two draw the same
    for task in tasks:
        assert set(task.frames) <= set(flat[task.sequence][task.object_id])
        assert task.donor is None or set(task.donor.frames) <= set(flat[task.donor.sequence][task.donor.object_id])


def test_donors_come_from_all_sources() -> None:
    tasks = list(plan([Source(MANY[:3], weight=1), Source(MANY[:2], weight=1)], PlanConfig(paste=1.0), 0, 1, 0, 400))
    assert {task.donor.sequence for task in tasks if task.donor and task.sequence == 0} == {1, 2, 3, 4}


def test_sources_without_weights_give_every_object_equally_often() -> None:
    tasks = list(plan([Source(MANY[:3]), Source(MANY[3:5])], PlanConfig(), 0, 8, 0, 10))
    assert set(Counter((task.sequence, task.object_id) for task in tasks).values()) == {10}


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


def test_hidden_frames_have_a_mask_without_the_object(tmp_path: Path, make_sequence: Any) -> None:
    one, two = np.ones((9, 7), np.uint8), np.full((9, 7), 2, np.uint8)
    first = make_sequence("first", [one, None, two, np.zeros((9, 7), np.uint8)])
    encode([first, make_sequence("second", [two, two])], tmp_path / "out", {})
    assert hidden(open_dataset(tmp_path / "out")) == [{1: (2, 3), 2: (0, 3)}, {2: ()}]


def test_sequences_that_are_left_out_are_in_no_task(tmp_path: Path) -> None:
    encode(synthetic("train", 4, SyntheticSettings(size=48, frames=2)), tmp_path / "data", {})
    dataset = open_dataset(tmp_path / "data")
    visible = learnable(dataset, without=(1, 3))
    assert [bool(ids) for ids in visible] == [True, False, True, False]
    tasks = _epoch(visible, PlanConfig(paste=1.0), 0, 0)
    assert {task.sequence for task in tasks} == {task.donor.sequence for task in tasks if task.donor} == {0, 2}
    targets = [task.target for task in tasks]
    for task, (sequence, object_id, frames) in zip(tasks, targets, strict=True):
        target = task.donor if task.donor and task.donor.is_target else task
        assert (sequence, object_id, frames) == (target.sequence, target.object_id, target.frames)
    assert any(task.donor and task.donor.is_target for task in tasks)
    assert not all(task.donor and task.donor.is_target for task in tasks)
