"""The picture of learned rates takes those of any level."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from eosvos.figures.learned_rates import _section, learned_rates


@pytest.mark.parametrize("lowest", [0.0, 1e-5])
def test_rates_of_many_tensors_and_of_one(tmp_path: Path, lowest: float) -> None:
    draws = np.random.default_rng(0)
    names = ("backbone.body.0.weight", "backbone.fpn.0.bias", "rpn.head.conv.weight", "roi_heads.mask_head.0.bias")
    many = {name: draws.uniform(lowest, 1, (5, 1, 1, 1) if "weight" in name else (5,)) for name in names}
    many["backbone.body.0.weight"][:] = lowest
    for rates, start in ((many, 0.001), ({"all": np.array(0.01)}, None)):
        path = learned_rates(rates, start, tmp_path / "rates.png")
        with Image.open(path) as image:
            assert (image.format, image.size) == ("PNG", (1350, 540))
            assert len(image.convert("RGB").getcolors(1 << 24) or []) > 20


def test_without_rates(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no learning rates"):
        learned_rates({}, 0.001, tmp_path / "rates.png")
    assert not list(tmp_path.iterdir())


def test_sections_are_those_of_the_model() -> None:
    assert [_section(name) for name in ("backbone.fpn.x", "roi_heads.box_head.fc6.bias", "rpn.a", "all")] == [
        "pyramid",
        "box head",
        "proposals",
        "",
    ]
