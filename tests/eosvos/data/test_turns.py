"""Turns by weights: every beginning has the shares."""

from hypothesis import given
from hypothesis import strategies as st

from eosvos.data.turns import turns


@given(st.lists(st.integers(1, 40), min_size=1, max_size=6))
def test_every_beginning_has_each_share_within_one(weights: list[int]) -> None:
    period, total = turns(weights), sum(weights)
    for count in range(1, len(period) + 1):
        for number, weight in enumerate(weights):
            assert abs(period[:count].count(number) - weight * count / total) < 1
    # At its end nothing is owed, so that it can begin again.
    assert all(period.count(number) * total == weight * len(period) for number, weight in enumerate(weights))


def test_common_divisors_are_left_out() -> None:
    assert turns([7]) == [0]
    assert turns([50, 30, 20]) == turns([5, 3, 2]) == [0, 1, 0, 2, 0, 1, 0, 2, 1, 0]
