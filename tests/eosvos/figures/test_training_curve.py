"""A training curve is a picture of known size for any history, and its smoothing is a mean."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from eosvos.figures.training_curve import _running_mean, training_curve

NAN = float("nan")


@pytest.mark.parametrize(
    ("before", "rates"),
    [
        ([2.0], [0.01]),
        ([2.0, NAN, 1.5], [0.01, 0.02, 0.9]),
        ([NAN, NAN], [0.0, 0.0]),
        (np.linspace(3, 1, 200).tolist(), np.geomspace(1e-3, 1, 200).tolist()),
    ],
)
def test_any_history_gives_a_picture(tmp_path: Path, before: list[float], rates: list[float]) -> None:
    after = [value / 2 for value in before]
    path = training_curve(range(len(before)), before, after, rates, inner_steps=5, path=tmp_path / "curve.png")
    with Image.open(path) as image:
        assert (image.format, image.size) == ("PNG", (1200, 825))
        assert len(image.convert("RGB").getcolors(1 << 24) or []) > 20


def test_lists_must_agree(tmp_path: Path) -> None:
    for before in ([1.0], [1.0, 2.0, 3.0]):
        with pytest.raises(ValueError, match="one length"):
            training_curve([0, 1], before, [1.0, 2.0], [0.1, 0.1], 5, tmp_path / "curve.png")
    with pytest.raises(ValueError, match="not empty"):
        training_curve([], [], [], [], 5, tmp_path / "curve.png")
    assert list(tmp_path.iterdir()) == []


def test_the_running_mean_leaves_out_what_is_not_finite() -> None:
    assert _running_mean([1.0, 2.0, 6.0, NAN, 4.0], 3) == pytest.approx([1.5, 3.0, 4.0, 5.0, 4.0])
    assert np.isnan(_running_mean([NAN, NAN, NAN, 1.0], 3)[:2]).all()
    values = [3.0, NAN, 1.0]
    np.testing.assert_array_equal(_running_mean(values, 1), values)


def test_validations_add_a_part(tmp_path: Path) -> None:
    sizes = []
    for name, validations in (("without", ()), ("with", ((2, 0.1, 0.5), (4, 0.15, 0.6)))):
        path = training_curve([1, 2, 3, 4], [2.0] * 4, [1.0] * 4, [0.01] * 4, 5, tmp_path / f"{name}.png", validations)
        with Image.open(path) as image:
            sizes.append(image.height)
    assert sizes[1] > 1.2 * sizes[0]
