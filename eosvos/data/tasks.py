"""Tasks: a sequence, an object, frames to fine-tune on and frames to do well on; the seeded plan of them."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from eosvos.data.config import PlanConfig
from eosvos.data.parquet import EncodedDataset
from eosvos.data.turns import turns
from eosvos.draws import Stream
from eosvos.errors import BadInput

MIN_AREA = 1 / 1000
"""An object is learned from where it covers at least this share of the frame."""

Visible = Mapping[int, Sequence[int]]
"""Per object id of a sequence the positions of the frames in which it is visible."""


@dataclass(frozen=True)
class Source:
    """What a plan knows of one dataset.

    Attributes:
        visible: per sequence where its objects are visible; those without objects give no task.
        hidden: per sequence where its objects are not seen, in frames that have a mask; needed to draw such frames.
        weight: its share of the tasks, a whole number beside those of the other sources; 0: as many as one pass over it
            has.
    """

    visible: Sequence[Visible]
    hidden: Sequence[Visible] = ()
    weight: int = 0


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
        epoch, index: which pass over the objects of a source, and the place within it; every draw of the task depends
            on them. The passes of several sources are counted in turn: pass e of source s of S is e * S + s.
        position: place in the whole training; of a single source ``epoch * objects + index``.
        sequence: index of the sequence, counted over all sources.
        object_id: the object that is the target, or that shares the frame with a pasted target.
        frames: positions in the sequence, ``train_frames`` to fine-tune on, then those to do well on.
        train_frames: how many of them to fine-tune on.
        donor: the object to paste in, or None.
        hidden: places in ``frames`` at which the object is not seen.
    """

    epoch: int
    index: int
    position: int
    sequence: int
    object_id: int
    frames: tuple[int, ...]
    train_frames: int
    donor: Donor | None
    hidden: tuple[int, ...] = ()

    @property
    def is_still(self) -> bool:
        """Whether all frames are the same one: that of a photograph, say."""
        return len(set(self.frames)) == 1

    @property
    def target(self) -> tuple[int, int, tuple[int, ...]]:
        """Sequence, object id and frames of what is to be segmented: the donor's where it is the target."""
        shown = self.donor if self.donor is not None and self.donor.is_target else self
        return shown.sequence, shown.object_id, shown.frames


def learnable(dataset: EncodedDataset, without: Collection[int] = ()) -> list[Visible]:
    """Per sequence: object id -> positions of the frames in which it covers at least ``MIN_AREA``.

    The sequences ``without`` (indices) have no objects, so that no task uses them.
    """
    least = MIN_AREA * dataset.index["height"].to_numpy() * dataset.index["width"].to_numpy()
    result: list[Visible] = []
    for index in range(len(dataset.sequences)):
        first, last = dataset.rows(index)
        enough: list[float] = least[first:last].tolist()
        areas = {} if index in without else dataset.areas(index)
        visible = dataset.visible(index)
        result.append(
            {
                object_id: tuple(p for p, area in zip(visible[object_id], sizes, strict=True) if area >= enough[p])
                for object_id, sizes in areas.items()
            }
        )
    return result


def hidden(dataset: EncodedDataset) -> list[Visible]:
    """Per sequence: object id -> positions of the frames that have a mask without it."""
    annotated = dataset.annotated
    return [
        {object_id: tuple(sorted({*annotated[index]} - {*seen})) for object_id, seen in dataset.visible(index).items()}
        for index in range(len(dataset.sequences))
    ]


def plan(
    sources: Sequence[Source], config: PlanConfig, seed: int, meta_batch: int, first_step: int, last_step: int
) -> Iterator[Task]:
    """The tasks of outer steps ``first_step`` up to but without ``last_step``, in order.

    Step s takes positions ``s * meta_batch`` to ``(s + 1) * meta_batch - 1``. The sources take turns by their weights;
    each goes over all its objects, or over its sequences, again and again without a gap. A pure function of its
    arguments.

    Args:
        sources: what to draw from.
        config: how to draw.
        seed: of the training.
        meta_batch: tasks of an outer step.
        first_step, last_step: outer steps.

    Raises:
        BadInput: a source without a visible object, or but one sequence to paste from.
    """
    draws = _Draws(sources, config, seed)
    weights = [source.weight or len(choices) for source, choices in zip(sources, draws.choices, strict=True)]
    period = turns(weights)
    shares = [0] * len(sources)
    earlier = []  # turns of the same source before each of the period
    for number in period:
        earlier.append(shares[number])
        shares[number] += 1
    orders: dict[int, tuple[int, np.ndarray]] = {}
    for position in range(first_step * meta_batch, last_step * meta_batch):
        periods, place = divmod(position, len(period))
        number = period[place]
        passes, index = divmod(periods * shares[number] + earlier[place], len(draws.choices[number]))
        epoch = passes * len(sources) + number
        if orders.get(number, (-1,))[0] != epoch:
            orders[number] = epoch, Stream.PLAN_ORDER.numpy(seed, epoch).permutation(len(draws.choices[number]))
        task = draws.task(draws.choices[number][int(orders[number][1][index])], epoch, index)
        yield replace(task, position=position)


class _Draws:
    """Draws tasks.

    Attributes:
        choices: per source what one pass goes over: a sequence, counted over all sources, and ids of its objects, one
            of which the task takes.
    """

    def __init__(self, sources: Sequence[Source], config: PlanConfig, seed: int) -> None:
        self._config, self._seed = config, seed
        self._visible = [visible for source in sources for visible in source.visible]
        self._hidden = [objects for source in sources for objects in source.hidden or [{}] * len(source.visible)]
        self.choices: list[list[tuple[int, tuple[int, ...]]]] = []
        first = 0
        for source in sources:
            seen = [
                (sequence, tuple(sorted(object_id for object_id, frames in objects.items() if len(frames) > 0)))
                for sequence, objects in enumerate(source.visible, first)
            ]
            seen = [(sequence, ids) for sequence, ids in seen if ids]
            if not seen:
                raise BadInput("the data has no frame with a visible object; encode a split that has annotations")
            if config.draw == "object":
                seen = [(sequence, (object_id,)) for sequence, ids in seen for object_id in ids]
            self.choices.append(seen)
            first += len(source.visible)
        self._objects = [(sequence, o) for choices in self.choices for sequence, ids in choices for o in ids]
        if config.paste > 0 and len({sequence for sequence, _ in self._objects}) < 2:
            raise BadInput("pasting needs objects of at least two sequences; add data or set --paste 0")

    def task(self, choice: tuple[int, tuple[int, ...]], epoch: int, index: int) -> Task:
        """Every draw depends on seed, epoch and index alone; the position is left at 0."""
        rng, config = Stream.TASK.numpy(self._seed, epoch, index), self._config
        sequence, ids = choice
        object_id = ids[0] if len(ids) == 1 else ids[int(rng.integers(len(ids)))]
        count = config.train_frames + config.test_frames
        frames = _draw_frames(rng, self._visible[sequence][object_id], count, config)
        donor = None
        if rng.random() < config.paste:
            other, other_id = self._objects[rng.integers(len(self._objects))]
            while other == sequence:  # at least two sequences have objects, so this ends
                other, other_id = self._objects[rng.integers(len(self._objects))]
            donor_frames = _draw_frames(rng, self._visible[other][other_id], count, replace(config, frames="two"))
            donor = Donor(other, other_id, donor_frames, bool(rng.random() < 0.5))
        places: tuple[int, ...] = ()
        if config.hidden > 0:
            frames, places = self._hide(rng, frames, self._hidden[sequence].get(object_id, ()))
        return Task(epoch, index, 0, sequence, object_id, frames, config.train_frames, donor, places)

    def _hide(
        self, rng: np.random.Generator, frames: tuple[int, ...], without: Sequence[int]
    ) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """The frames, of which a share of those to do well on is now ``without`` the object, and their places."""
        config, chosen = self._config, list(frames)
        places = []
        for place in range(config.train_frames, len(frames)):
            near = [frame for frame in without if _within(config.max_distance, (*frames[: config.train_frames], frame))]
            if rng.random() < config.hidden and near:
                chosen[place] = near[int(rng.integers(len(near)))]
                places.append(place)
        return tuple(chosen), tuple(places)


def worker_tasks(tasks: Iterator[Task], meta_batch: int, worker: int, workers: int) -> Iterator[Task]:
    """The tasks of one worker of ``workers``: those in slots s of each meta-batch with ``s % workers == worker``."""
    return (task for task in tasks if task.position % meta_batch % workers == worker)


def _draw_frames(rng: np.random.Generator, frames: Sequence[int], count: int, config: PlanConfig) -> tuple[int, ...]:
    """``count`` of the frames: all the same one, or different ones as far as there are enough, near to each other."""
    if config.frames == "one" or len(frames) == 1:
        return (frames[int(rng.integers(len(frames)))],) * count
    if config.max_distance:
        first = frames[int(rng.integers(len(frames)))] - int(rng.integers(config.max_distance + 1))
        first = max(min(first, frames[-1] - config.max_distance), frames[0])
        frames = [frame for frame in frames if first <= frame <= first + config.max_distance]
    chosen = rng.choice(len(frames), size=min(count, len(frames)), replace=False).tolist()
    return tuple(frames[chosen[i % len(chosen)]] for i in range(count))


def _within(distance: int, frames: Sequence[int]) -> bool:
    return distance == 0 or max(frames) - min(frames) <= distance
