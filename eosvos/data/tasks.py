"""Tasks: a sequence, an object, frames to fine-tune on and frames to do well on; the seeded plan of them."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from eosvos.data.config import PlanConfig
from eosvos.data.parquet import EncodedDataset
from eosvos.draws import Stream
from eosvos.errors import BadInput

MIN_AREA = 1 / 1000
"""An object is learned from where it covers at least this share of the frame."""

Visible = Mapping[int, Sequence[int]]
"""Per object id of a sequence the positions of the frames in which it is visible."""


@dataclass(frozen=True)
class Donor:
    """An object of another sequence, to be pasted into a task's frames, one of ``frames`` (positions) into each."""

    sequence: int
    object_id: int
    frames: tuple[int, ...]
    is_target: bool


@dataclass(frozen=True)
class Task:
    """One meta-learning task, named by numbers alone.

    Attributes:
        epoch, index: which pass over all objects, and the place within it; every draw of the task depends on them.
        position: place in the whole training, ``epoch * objects + index``.
        sequence: index of the sequence in its dataset.
        object_id: the object that is the target, or that shares the frame with a pasted target.
        frames: positions in the sequence, ``train_frames`` to fine-tune on, then those to do well on.
        train_frames: how many of them to fine-tune on.
        donor: the object to paste in, or None.
    """

    epoch: int
    index: int
    position: int
    sequence: int
    object_id: int
    frames: tuple[int, ...]
    train_frames: int
    donor: Donor | None

    @property
    def target(self) -> tuple[int, int, tuple[int, ...]]:
        """Sequence, object id and frames of what is to be segmented: the donor's where it is the target."""
        shown = self.donor if self.donor is not None and self.donor.is_target else self
        return shown.sequence, shown.object_id, shown.frames


def held_out_sequences(sequences: int, share: float, seed: int) -> tuple[int, ...]:
    """The sequences that no task uses, for validation; drawn by ``seed`` alone.

    Args:
        sequences: how many there are.
        share: of them to hold out, in [0, 1); above 0 it is at least one sequence.
        seed: of the training.

    Returns:
        their indices, rising.

    Raises:
        BadInput: nothing would be left to train on.
    """
    count = max(round(share * sequences), 1) if share > 0 else 0
    if sequences <= count:
        raise BadInput(f"--held-out {share:g}: leaves none of {sequences} sequences to train on; add data or lower it")
    chosen = Stream.HELD_OUT.numpy(seed).choice(sequences, size=count, replace=False)
    return tuple(sorted(chosen.tolist()))


def learnable(dataset: EncodedDataset, without: Collection[int] = ()) -> list[Visible]:
    """Per sequence: object id -> positions of the frames in which it covers at least ``MIN_AREA``.

    The sequences ``without`` (indices) have no objects, so that no task uses them.
    """
    pixels = dataset.index["height"].to_numpy() * dataset.index["width"].to_numpy()
    result: list[Visible] = []
    first = 0
    for index, sequence in enumerate(dataset.sequences):
        areas = dataset.areas(index)
        result.append(
            {}
            if index in without
            else {
                object_id: tuple(
                    position
                    for position, area in zip(positions, areas[object_id], strict=True)
                    if area >= MIN_AREA * pixels[first + position]
                )
                for object_id, positions in dataset.visible(index).items()
            }
        )
        first += len(sequence)
    return result


def plan_epoch(visible: Sequence[Visible], config: PlanConfig, seed: int, epoch: int) -> list[Task]:
    """One pass over all objects of all sequences, in an order and with frames that (seed, epoch) decide.

    Args:
        visible: per sequence, where its objects are visible.
        config: how to draw.
        seed: of the training.
        epoch: number of the pass, from 0.

    Raises:
        BadInput: no object is visible in any frame, or there is but one sequence to paste from.
    """
    objects = [(s, o) for s, ids in enumerate(visible) for o, frames in sorted(ids.items()) if len(frames) > 0]
    if not objects:
        raise BadInput("the data has no frame with a visible object; encode a split that has annotations")
    if config.paste > 0 and len({s for s, _ in objects}) < 2:
        raise BadInput("pasting needs objects of at least two sequences; add data or set --paste 0")
    order = Stream.PLAN_ORDER.numpy(seed, epoch).permutation(len(objects))
    tasks = []
    for index, place in enumerate(order):
        rng = Stream.TASK.numpy(seed, epoch, index)
        sequence, object_id = objects[int(place)]
        count = config.train_frames + config.test_frames
        frames = _draw_frames(rng, visible[sequence][object_id], count, config.frames)
        donor = None
        if rng.random() < config.paste:
            other, other_id = objects[rng.integers(len(objects))]
            while other == sequence:  # at least two sequences have objects, so this ends
                other, other_id = objects[rng.integers(len(objects))]
            donor_frames = _draw_frames(rng, visible[other][other_id], count, "two")
            donor = Donor(other, other_id, donor_frames, bool(rng.random() < 0.5))
        position = epoch * len(objects) + index
        tasks.append(Task(epoch, index, position, sequence, object_id, frames, config.train_frames, donor))
    return tasks


def plan(
    visible: Sequence[Visible], config: PlanConfig, seed: int, meta_batch: int, first_step: int, last_step: int
) -> Iterator[Task]:
    """The tasks of outer steps ``first_step`` up to but without ``last_step``, in order.

    Step s takes positions ``s * meta_batch`` to ``(s + 1) * meta_batch - 1``; epochs follow one another without a gap,
    so that every object is seen equally often. A pure function of its arguments.
    """
    first, last = first_step * meta_batch, last_step * meta_batch
    per_epoch = len(plan_epoch(visible, config, seed, 0))
    for epoch in range(first // per_epoch, (last + per_epoch - 1) // per_epoch):
        for task in plan_epoch(visible, config, seed, epoch):
            if first <= task.position < last:
                yield task


def worker_tasks(tasks: Iterator[Task], meta_batch: int, worker: int, workers: int) -> Iterator[Task]:
    """The tasks of one worker of ``workers``: those in slots s of each meta-batch with ``s % workers == worker``."""
    return (task for task in tasks if task.position % meta_batch % workers == worker)


def _draw_frames(rng: np.random.Generator, frames: Sequence[int], count: int, kind: str) -> tuple[int, ...]:
    """``count`` of the frames: all the same one, or different ones as far as there are enough."""
    if kind == "one" or len(frames) == 1:
        return (frames[int(rng.integers(len(frames)))],) * count
    chosen = rng.choice(len(frames), size=min(count, len(frames)), replace=False).tolist()
    return tuple(frames[chosen[i % len(chosen)]] for i in range(count))
