"""The paper's numbers, copied right."""

import pytest

from eosvos.figures.published import (
    DAVIS_2016,
    DAVIS_2017,
    DAVIS_2017_TEST,
    PUBLISHED,
    YOUTUBE_VOS,
    PublishedResult,
    at_davis_2016_speed,
    published_on,
)


def test_every_table_has_its_rows() -> None:
    counts = {DAVIS_2016: 12, DAVIS_2017: 11, DAVIS_2017_TEST: 8, YOUTUBE_VOS: 5}
    assert {dataset: len(published_on(dataset)) for dataset in counts} == counts
    assert sum(counts.values()) == len(PUBLISHED) == len({(row.name, row.dataset) for row in PUBLISHED})
    with pytest.raises(ValueError, match="no published results on 'DAVIS'; there are some on DAVIS 2016 val"):
        published_on("DAVIS")


def test_j_and_f_is_the_mean_of_j_and_f() -> None:
    for row in PUBLISHED:
        if row.dataset != YOUTUBE_VOS:
            assert row.j is not None
            assert row.f is not None
            assert abs(row.j_and_f - (row.j + row.f) / 2) < 0.1001  # what rounding of all three to 0.1 can do


def test_some_rows() -> None:
    rows = {(row.name, row.dataset): row for row in PUBLISHED}
    ours = rows["e-OSVOS-100-OnA", DAVIS_2017]
    assert (ours.j, ours.f, ours.j_and_f, ours.fps, ours.ensemble) == (74.4, 80.0, 77.2, None, False)
    slow = rows["PReMVOS", DAVIS_2016]
    assert (slow.j, slow.f, slow.j_and_f, slow.fps, slow.ensemble) == (84.9, 88.6, 86.75, 0.01, True)
    # "Overall" is the mean of four columns, checked where the paper's five agree.
    assert rows["STM", YOUTUBE_VOS].j_and_f == pytest.approx((79.7 + 84.2 + 72.8 + 80.9) / 4, abs=0.05)
    assert rows["e-OSVOS-50-OnA", YOUTUBE_VOS].j_and_f == pytest.approx((71.7 + 66.0 + 74.3 + 73.8) / 4, abs=0.06)
    assert {row.name for row in PUBLISHED if row.ensemble} == {"CINM", "OSVOS-S", "PReMVOS"}


def test_speed_is_that_of_davis_2016() -> None:
    assert all(row.fps is not None for row in published_on(DAVIS_2016))
    assert all(row.fps is None for row in PUBLISHED if row.dataset != DAVIS_2016)
    timed = {row.name: row for row in at_davis_2016_speed(published_on(DAVIS_2017))}
    assert len(timed) == 11
    assert (timed["e-OSVOS-10"].fps, timed["e-OSVOS-10"].j_and_f, timed["e-OSVOS-10"].dataset) == (
        5.3,
        71.9,
        DAVIS_2017,
    )
    unknown = PublishedResult("another", DAVIS_2017, 50.0)
    assert at_davis_2016_speed((unknown,)) == ()


@pytest.mark.parametrize(("field", "value"), [("j_and_f", 100.1), ("j", -1.0), ("fps", 0.0)])
def test_ranges(field: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"^{field}: "):
        PublishedResult(**{"name": "a", "dataset": "b", "j_and_f": 50.0, field: value})
