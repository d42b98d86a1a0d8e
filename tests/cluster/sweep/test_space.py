"""Combinations of test-time settings: all, each once, none that contradicts itself."""

from dataclasses import asdict
from itertools import product

import pytest

from cluster.sweep.presets import SWEEP
from cluster.sweep.space import Setting, Space, setting_of, settings
from eosvos.errors import BadInput
from eosvos.segmentation.config import DEFAULTS, SegmentationConfig


def test_every_combination_once() -> None:
    found = settings(Space(T=(1, 5), transforms=(0, 3), rate_scale=(0.5, 1.0)))
    assert [(one.T, one.segmentation.rate_scale, one.segmentation.transforms) for one in found] == list(
        product((1, 5), (0.5, 1.0), (0, 3))
    )


def test_what_changes_nothing_makes_no_difference() -> None:
    """Without online adaptation its fields do not matter, without any steps neither do those of fine-tuning."""
    found = settings(Space(T=(0, 5), rate_scale=(0.5, 1.0), online_interval=(0, 4), online_steps=(2, 7)))
    without = [one for one in found if one.segmentation.online_interval == 0]
    assert without == [
        Setting(0, SegmentationConfig()),
        Setting(5, SegmentationConfig(rate_scale=0.5)),
        Setting(5, SegmentationConfig()),
    ]
    assert len(found) == 3 + 2 * 2 * 2
    confident = Space(online_interval=(0, 4), online_void=(None, 0.2, 0.6), online_first_weight=(1.0, 3.0))
    pairs = {(one.segmentation.online_void, one.segmentation.online_first_weight) for one in settings(confident)}
    assert pairs == set(product((None, 0.2), (1.0, 3.0)))  # 0.6 is above the threshold
    assert len(settings(confident)) == 1 + 4


def test_what_contradicts_itself_is_left_out() -> None:
    found = settings(Space(online_interval=(1, 3), online_frames=(1, 3)))
    pairs = {(one.segmentation.online_interval, one.segmentation.online_frames) for one in found}
    assert pairs == {(1, 1), (3, 1), (3, 3)}
    with pytest.raises(BadInput, match="an interval of 1 frames does not hold 3"):
        settings(Space(online_interval=(1,), online_frames=(3,)))
    with pytest.raises(BadInput, match="transforms: must be at least 0, got -1"):
        settings(Space(transforms=(-1,)))


@pytest.mark.parametrize(
    ("values", "message"),
    [({"T": ()}, "T: needs different values"), ({"T": (1, 1)}, "T: needs different"), ({"T": (-1,)}, "at least 0")],
)
def test_values_that_are_refused(values: dict[str, tuple[int, ...]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Space(**values)


def test_names_tell_settings_apart_and_are_the_defaults_in_short() -> None:
    assert Setting(10, DEFAULTS).name == "T=10"
    without = Setting(10, SegmentationConfig(box_propagation=False, transforms=0))
    assert (without.name, without.differences) == (
        "T=10,transforms=0,box_propagation=False",
        "transforms=0,box_propagation=False",
    )
    for preset in SWEEP.values():
        found = settings(preset.space)
        assert len({one.name for one in found}) == len(found)
        assert max(len(one.name) for one in found) < 200  # a folder's name


def test_a_setting_is_found_again_by_its_values() -> None:
    for one in settings(SWEEP["demo"].space):
        values = {name: one.T if name == "T" else asdict(one.segmentation)[name] for name in SWEEP["demo"].space.values}
        assert setting_of(values) == one
