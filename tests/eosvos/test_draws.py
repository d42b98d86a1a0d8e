"""Random streams: apart from one another, and the same as in every earlier version."""

import itertools

import pytest

from eosvos.draws import Stream, generator

OWNERS = {"training": 1, "sweep": 1, "epoch": 2, "task": 3, "object": 2, "fine-tuning step": 3, "frame": 3}
"""How many ids the draws of a stream belong to."""


def test_streams_of_one_owner_have_ids_of_their_own() -> None:
    for one, other in itertools.combinations(Stream, 2):
        if one.value[0] == other.value[0]:
            owner = range(10, 10 + OWNERS[one.value[0]])
            assert one.ids(*owner) != other.ids(*owner)


@pytest.mark.parametrize(
    ("stream", "ids"),
    [
        (Stream.PLAN_ORDER, (1, 7, 8)),
        (Stream.TASK, (2, 7, 8, 9)),
        (Stream.AUGMENTATION, (3, 7, 8, 9)),
        (Stream.HELD_OUT, (4, 7)),
        (Stream.INNER_STEPS, (5, 7, 8, 9)),
        (Stream.TEST_LOSS, (7, 8, 9, 0)),
        (Stream.INNER_STEP, (7, 8, 9, 1)),
        (Stream.FINE_TUNING, (7, 8)),
        (Stream.TRANSFORMS, (7, 8, 9, 0)),
        (Stream.JITTER, (7, 8, 9, 1)),
        (Stream.ONLINE, (7, 8, 9, 2)),
        (Stream.STATE, (7, 8, 9, 3)),
        (Stream.SEQUENCE_ORDER, (7, 1)),
        (Stream.RANDOM_SEARCH, (7, 2)),
    ],
)
def test_published_figures_depend_on_these_ids(stream: Stream, ids: tuple[int, ...]) -> None:
    assert stream.ids(*range(7, 7 + OWNERS[stream.value[0]])) == ids


def test_the_first_numbers_of_both_generators() -> None:
    assert Stream.TASK.numpy(0, 0, 0).integers(1000, size=4).tolist() == [837, 261, 109, 298]
    assert generator(1, 2, 3).initial_seed() == 6498626229777268288
    assert Stream.JITTER.torch(1, 2, 3).initial_seed() == generator(1, 2, 3, 1).initial_seed()
