"""Several encoded datasets, from which one plan draws its tasks."""

import hashlib
from bisect import bisect_right
from collections.abc import Collection
from collections.abc import Sequence as SequenceOf
from dataclasses import dataclass
from functools import cached_property

from eosvos.data.config import PlanConfig
from eosvos.data.parquet import EncodedDataset, open_dataset
from eosvos.data.sequence import Sequence
from eosvos.data.tasks import Source, hidden, learnable
from eosvos.data.windows import windows
from eosvos.draws import Stream
from eosvos.errors import BadInput

MIN_SCORED = 3
"""A sequence can be validated on where it has so many frames with a mask; the first and the last do not count."""


@dataclass(frozen=True, eq=False)
class Mixture:
    """One or several encoded datasets, whose sequences are counted through.

    It pickles to the datasets' addresses and hashes.

    Attributes:
        datasets: at least one.
        weights: tasks that each gives for so many of the others; empty: as many as one pass over it has.
    """

    datasets: tuple[EncodedDataset, ...]
    weights: tuple[int, ...] = ()

    def __reduce__(self) -> tuple[object, ...]:
        return Mixture, (self.datasets, self.weights)

    @cached_property
    def sequences(self) -> tuple[Sequence, ...]:
        """Of all datasets, one after another; a task's number of a sequence is its place here."""
        return tuple(sequence for dataset in self.datasets for sequence in dataset.sequences)

    @property
    def hash(self) -> str:
        """Of the content: that of a single dataset, or SHA-256, in hex, over those of several."""
        hashes = [dataset.hash for dataset in self.datasets]
        return hashes[0] if len(hashes) == 1 else hashlib.sha256(" ".join(hashes).encode()).hexdigest()

    def sources(self, config: PlanConfig, without: Collection[int] = ()) -> list[Source]:
        """For a plan by ``config``, which draws nothing from the sequences ``without`` (places in ``sequences``).

        Raises BadInput where a dataset has nothing to draw from.
        """
        sources = []
        weights = self.weights or (0,) * len(self.datasets)
        for dataset, first, weight in zip(self.datasets, self._starts, weights, strict=True):
            visible = learnable(dataset, {place - first for place in without})
            if not any(frames for objects in visible for frames in objects.values()):
                raise BadInput(
                    f"{dataset.uri}: has no frame with a visible object to learn from; encode a split that has "
                    "annotations, or leave it out"
                )
            sources.append(Source(visible, hidden(dataset) if config.hidden else (), weight))
        return sources

    def held_out(self, share: float, seed: int) -> tuple[int, ...]:
        """The sequences to validate on; drawn by ``seed`` alone, from each dataset its share.

        They are videos that can be scored: with an object in the first frame, and in ``MIN_SCORED`` in all. Of a
        dataset without such, or of a single sequence, none is held out.

        Args:
            share: of such sequences to hold out, in [0, 1); above 0 it is at least one of each dataset that has some.
            seed: of the training.

        Returns:
            places in ``sequences``, rising.

        Raises:
            BadInput: none can be held out, or none of a dataset would be left to train on.
        """
        chosen: list[int] = []
        for dataset, first in zip(self.datasets, self._starts, strict=True):
            there = len(dataset.sequences)
            videos = [index for index in range(there) if share > 0 and there > 1 and _can_be_scored(dataset, index)]
            if not videos:
                continue
            count = max(round(share * len(videos)), 1)
            if count == there:
                raise BadInput(
                    f"--held-out {share:g}: leaves none of {there} sequences of {dataset.uri} to train on; add data or "
                    "lower it"
                )
            # Not of what else is in the mixture, so that a parent of other data holds out the same.
            drawn = Stream.HELD_OUT.numpy(seed).choice(len(videos), size=count, replace=False)
            chosen += sorted(first + videos[place] for place in drawn.tolist())
        if share > 0 and not chosen:
            raise BadInput(
                f"--held-out {share:g}: {', '.join(dataset.uri for dataset in self.datasets)}: none has two sequences, "
                f"one a video with an object in its first frame and in {MIN_SCORED} frames in all; add videos, or set "
                "--held-out 0"
            )
        return tuple(chosen)

    def without(self, held_out: Collection[int]) -> tuple[int, ...]:
        """The sequences that no task uses: those held out, and those of the same name in other datasets.

        DAVIS 2016 and 2017 share videos.
        """
        names = {self.sequences[place].name for place in held_out}
        return tuple(place for place, sequence in enumerate(self.sequences) if sequence.name in names)

    def windows(self, place: int, frames: int, count: int) -> list[Sequence]:
        """Parts of the sequence at a place of ``sequences``, to validate on; arguments as of ``windows``."""
        number = bisect_right(self._starts, place) - 1
        dataset, index = self.datasets[number], place - self._starts[number]
        chosen = windows(dataset.annotated[index], tuple(dataset.visible(index).values()), frames, count)
        return [self.sequences[place].take(positions) for positions in chosen]

    def names_by_dataset(self, places: Collection[int]) -> dict[str, list[str]]:
        """Hash of a dataset -> names of its sequences among those at ``places``."""
        ends = [*self._starts[1:], len(self.sequences)]
        return {
            dataset.hash: [self.sequences[place].name for place in places if first <= place < end]
            for dataset, first, end in zip(self.datasets, self._starts, ends, strict=True)
        }

    def names(self, places: Collection[int]) -> list[str]:
        """Of sequences, by their places; where there are several datasets, with the dataset's before it."""
        sequences = [self.sequences[place] for place in places]
        if len(self.datasets) == 1:
            return [sequence.name for sequence in sequences]
        return [f"{sequence.dataset}/{sequence.name}" for sequence in sequences]

    @cached_property
    def _starts(self) -> list[int]:
        """The place of each dataset's first sequence."""
        sizes = [len(dataset.sequences) for dataset in self.datasets]
        return [sum(sizes[:number]) for number in range(len(sizes))]


def open_mixture(addresses: SequenceOf[str], weights: SequenceOf[int] = ()) -> Mixture:
    """Opens encoded datasets, as ``open_dataset``.

    Raises:
        BadInput: what ``open_dataset`` refuses, none, one that is given twice, or not a weight for each.
    """
    if not addresses:
        raise BadInput("--data: name an encoded dataset; make one with jobs/encode_dataset.py")
    if weights and len(weights) != len(addresses):
        raise BadInput(f"--data-weights: {len(weights)} for {len(addresses)} datasets; give one for each of --data")
    datasets = [open_dataset(address) for address in addresses]
    known: dict[str, EncodedDataset] = {}
    for dataset in datasets:
        if (same := known.setdefault(dataset.hash, dataset)) is not dataset:
            raise BadInput(f"--data {dataset.uri}: is the same as {same.uri}; leave one out, and weigh it instead")
    return Mixture(tuple(datasets), tuple(weights))


def _can_be_scored(dataset: EncodedDataset, index: int) -> bool:
    """Known from the index; at least one of its objects stays in sight for a scored frame."""
    positions = {position for frames in dataset.visible(index).values() for position in frames}
    return 0 in positions and len(positions) >= MIN_SCORED
