"""The front against its definition, the paired comparison against scipy's t statistic, recommendations by hand."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import ttest_rel

from eosvos.metrics.pareto import clearly_better, front, recommend

Row = dict[str, Any]
FEW = st.integers(0, 6)  # so that equal values occur


def _rows(values: list[tuple[int, int]]) -> list[Row]:
    return [
        {"name": k, "j_and_f": score / 10, "seconds_per_frame": seconds / 10 + 0.1}
        for k, (score, seconds) in enumerate(values)
    ]


@given(st.lists(st.tuples(FEW, FEW), max_size=12))
def test_the_front_is_what_nothing_beats(values: list[tuple[int, int]]) -> None:
    rows = _rows(values)
    best = front(rows)
    assert [row["seconds_per_frame"] for row in best] == sorted(row["seconds_per_frame"] for row in best)
    names = {row["name"] for row in best}
    for k, (score, seconds) in enumerate(values):
        beaten = any(s >= score and t <= seconds and (s, t) != (score, seconds) for s, t in values)
        assert (k in names) == (not beaten)


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=2, max_size=20))
def test_clearly_better_is_two_paired_standard_errors(pairs: list[tuple[float, float]]) -> None:
    one, two = np.array(pairs).T
    if np.ptp(one - two) < 1e-9:  # the statistic divides by the spread
        return
    statistic = float(ttest_rel(one, two).statistic)
    if abs(abs(statistic) - 2) > 1e-6:
        assert clearly_better(one, two) == (statistic > 2)
        assert clearly_better(two, one) == (statistic < -2)


def test_comparisons_without_a_spread() -> None:
    assert clearly_better([0.5, 0.6], [0.4, 0.5])  # the same difference everywhere
    assert not clearly_better([0.5, 0.6], [0.5, 0.6])
    assert not clearly_better([1.0], [0.0])  # one object has no standard error
    with pytest.raises(ValueError, match="2 objects and 1 objects cannot be paired"):
        clearly_better([0.5, 0.6], [0.4])


def test_recommendations() -> None:
    rows = [
        {"name": name, "j_and_f": score, "seconds_per_frame": seconds}
        for name, score, seconds in (("fast", 0.5, 0.1), ("middle", 0.7, 0.5), ("beaten", 0.6, 0.6), ("best", 0.8, 2.0))
    ]
    wanted = {"best": {}, "middle": {"target_fps": 1.0}, "fast": {"target_fps": 100.0}}
    for name, target in wanted.items():
        assert recommend(rows, **target)["name"] == name
    assert recommend(rows, target_score=0.6)["name"] == "middle"
    assert recommend(rows, target_score=0.4)["name"] == "fast"
    assert recommend(rows, target_score=0.95)["name"] == "best"
