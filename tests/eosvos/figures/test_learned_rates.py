"""The picture of learned rates takes those of any level."""

import numpy as np
import pytest

from eosvos.figures.learned_rates import _section, learned_rates


@pytest.mark.parametrize("lowest", [0.0, 1e-5])
def test_rates_of_many_tensors_and_of_one(lowest: float) -> None:
    draws = np.random.default_rng(0)
    names = ("backbone.body.0.weight", "backbone.fpn.0.bias", "rpn.head.conv.weight", "roi_heads.mask_head.0.bias")
    many = {name: draws.uniform(lowest, 1, (5, 1, 1, 1) if "weight" in name else (5,)) for name in names}
    many["backbone.body.0.weight"][:] = lowest
    for rates, start in ((many, 0.001), ({"all": np.array(0.01)}, None)):
        (axes,) = learned_rates(rates, start).axes
        dots = [line for line in axes.lines if line.get_marker() == "."]
        drawn = {float(x): float(y) for line in dots for x, y in zip(*line.get_data(), strict=True)}
        assert [drawn[place] for place in sorted(drawn)] == [float(np.median(values)) for values in rates.values()]
        assert axes.get_yscale() == ("log" if min(values.min() for values in rates.values()) > 0 else "symlog")


def test_without_rates() -> None:
    with pytest.raises(ValueError, match="no learning rates"):
        learned_rates({}, 0.001)


def test_sections_are_those_of_the_model() -> None:
    assert [_section(name) for name in ("backbone.fpn.x", "roi_heads.box_head.fc6.bias", "rpn.a", "all")] == [
        "pyramid",
        "box head",
        "proposals",
        "",
    ]
