"""A training curve can be drawn of any history, and its smoothing is a median."""

import numpy as np
import pytest

from eosvos.figures import style
from eosvos.figures.training_curve import _running_median, training_curve

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
def test_any_history_gives_a_picture(before: list[float], rates: list[float]) -> None:
    after = [value / 2 for value in before]
    figure = training_curve(range(len(before)), before, after, rates, inner_steps="5")
    losses, learned = figure.axes
    assert [float(value) for value in learned.lines[0].get_ydata()] == rates
    assert [text.get_text() for text in losses.get_legend().get_texts()] == [
        "before fine-tuning (T = 0)",
        "after fine-tuning (T = 5)",
    ]
    assert style.svg_text(figure).startswith("<?xml")  # it can be drawn


def test_lists_must_agree() -> None:
    for before in ([1.0], [1.0, 2.0, 3.0]):
        with pytest.raises(ValueError, match="one length"):
            training_curve([0, 1], before, [1.0, 2.0], [0.1, 0.1], 5)
    with pytest.raises(ValueError, match="not empty"):
        training_curve([], [], [], [], 5)


def test_the_running_median_leaves_out_what_is_not_finite() -> None:
    assert _running_median([1.0, 2.0, 9.0, NAN, 4.0, 5.0], 3) == pytest.approx([1.5, 2.0, 5.5, 6.5, 4.5, 4.5])
    assert np.isnan(_running_median([NAN, NAN, NAN, 1.0], 3)[:2]).all()
    values = [3.0, NAN, 1.0]
    np.testing.assert_array_equal(_running_median(values, 1), values)


@pytest.mark.parametrize("worst", [3.0, 15.0, 2e28, NAN])
def test_a_task_that_diverges_does_not_press_the_others_flat(worst: float) -> None:
    after = [1.0, 2.0, *[1.5] * 36, worst]
    losses = training_curve(range(39), [2.0] * 39, after, [0.01] * 39, "5").axes[0]
    bottom, top = losses.get_ylim()
    assert 0 <= bottom < 1
    assert 2 < top <= 4


def test_validations_add_a_part() -> None:
    figure = training_curve([1, 2, 3, 4], [2.0] * 4, [1.0] * 4, [0.01] * 4, 5, ((2, 0.1, 0.5), (4, 0.15, 0.6)))
    _, scores, _ = figure.axes
    assert [list(map(float, line.get_ydata())) for line in scores.lines] == [[10.0, 15.0], [50.0, 60.0]]


def test_a_training_without_fine_tuning_has_no_rates() -> None:
    losses, scores = training_curve([1, 2], [], [2.0, 1.0], [], "", ((2, 0.1, 0.5),)).axes
    assert [text.get_text() for text in losses.get_legend().get_texts()] == ["loss"]
    assert [text.get_text() for text in scores.get_legend().get_texts()] == ["before fine-tuning", "after fine-tuning"]
    assert losses.get_ylabel() == "loss"
    assert scores.get_xlabel() == "outer step"
    (alone,) = training_curve([1], [], [NAN], [], "").axes
    assert alone.get_xlabel() == "outer step"
