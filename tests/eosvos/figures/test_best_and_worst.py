"""The right sequences, and only the frames that are shown."""

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from eosvos.figures.best_and_worst import Segmented, SequenceScore, best_and_worst, sheet_of_sequences
from eosvos.figures.contact_sheet import GAP, MARGIN
from eosvos.metrics.sequence_scores import ObjectScores
from eosvos.metrics.table import ObjectResult, object_rows


def rows(T: int, scores: dict[str, tuple[float, ...]], rate: float | None = None) -> list[dict[str, Any]]:
    results = [
        ObjectResult("davis", name, 4, 1.0, ObjectScores(number, (1, 2), (value,) * 2, (value,) * 2))
        for name, values in scores.items()
        for number, value in enumerate(values, 1)
    ]
    return object_rows(results, {"learning_rate": rate, "T": T})


AT_10 = {"middling": (0.5,), "mixed": (0.0, 1.0, 0.8), "good": (0.9,), "bad": (0.1, 0.3), "poor": (0.3,)}
TABLE = rows(0, {name: (0.99 - values[0],) for name, values in AT_10.items()}) + rows(10, AT_10)


def names(scores: tuple[SequenceScore, ...]) -> list[str]:
    return [score.sequence for score in scores]


def test_by_the_mean_over_objects_at_that_number_of_steps() -> None:
    best, worst = best_and_worst(TABLE, 10, 2)
    assert [(score.sequence, round(score.j_and_f, 9)) for score in best] == [("good", 0.9), ("mixed", 0.6)]
    assert [(score.sequence, round(score.j_and_f, 9)) for score in worst] == [("bad", 0.2), ("poor", 0.3)]
    assert best[0].dataset == "davis"
    assert names(best_and_worst(TABLE, 0, 1)[0]) == ["mixed"]


@pytest.mark.parametrize(
    ("count", "best", "worst"),
    [
        (1, ["good"], ["bad"]),
        (3, ["good", "mixed", "middling"], ["bad", "poor"]),
        (99, ["good", "mixed", "middling"], ["bad", "poor"]),
    ],
)
def test_no_sequence_is_in_both(count: int, best: list[str], worst: list[str]) -> None:
    found = best_and_worst(TABLE, 10, count)
    assert (names(found[0]), names(found[1])) == (best, worst)


def test_one_sequence_and_equal_ones() -> None:
    assert best_and_worst(rows(5, {"only": (0.5,)}), 5, 3) == ((SequenceScore("davis", "only", 0.5),), ())
    best, worst = best_and_worst(rows(5, dict.fromkeys("dbca", (0.5,))), 5, 2)
    assert (names(best), names(worst)) == (["a", "b"], ["d", "c"])  # by name, so that it is always the same


def test_what_cannot_be_ranked() -> None:
    with pytest.raises(ValueError, match="no row with T = 7"):
        best_and_worst(TABLE, 7, 1)
    with pytest.raises(ValueError, match="several rows with T = 10: pass those of one evaluation and learning rate"):
        best_and_worst(TABLE + rows(10, {"good": (0.2,)}, rate=0.1), 10, 1)
    with pytest.raises(ValueError, match=r"^count: "):
        best_and_worst(TABLE, 10, 0)


def video(label: str, length: int, asked: list[int]) -> Segmented:
    """Frame i is plain, i gray levels bright, with no object."""

    def frame(position: int) -> tuple[torch.Tensor, np.ndarray]:
        asked.append(position)
        return torch.full((3, 60, 100), position, dtype=torch.uint8), np.zeros((60, 100), np.uint8)

    return Segmented(label, length, frame)


def test_evenly_spaced_frames_and_no_others() -> None:
    long, short = [], []
    sheet = sheet_of_sequences([video("", 101, long), video("", 2, short)], frames=5)
    assert long == [0, 25, 50, 75, 100]
    assert short == [0, 1]
    assert sheet.size == (2 * MARGIN + 5 * 100 + 4 * GAP, 2 * MARGIN + 2 * 60 + GAP)
    for row, positions in enumerate((long, short)):
        for column, position in enumerate(positions):
            x, y = MARGIN + column * (100 + GAP) + 50, MARGIN + row * (60 + GAP) + 30
            assert sheet.getpixel((x, y)) == (position, position, position, 255)


def test_objects_are_painted_and_the_paper_is_not() -> None:
    mask = np.zeros((60, 100), np.uint8)
    mask[10:50, 20:80] = 1
    sheet = sheet_of_sequences([Segmented("a name", 1, lambda _: (torch.zeros(3, 60, 100, dtype=torch.uint8), mask))])
    assert isinstance(sheet, Image.Image)
    assert sheet.mode == "RGBA"
    pixels = np.asarray(sheet)
    frame = pixels[MARGIN : MARGIN + 60, -MARGIN - 100 : -MARGIN]
    assert (frame[..., 3] == 255).all()
    assert frame[30, 50, 0] > 60 > frame[30, 50, 1]  # red inside
    assert not frame[5, 5, :3].any()
    assert not pixels[:MARGIN, :, 3].any()
    letters = pixels[:, : -MARGIN - 100]
    assert (letters[..., 3] > 200).any()
    assert len(np.unique(letters[..., :3].reshape(-1, 3), axis=0)) == 1  # no rim of another colour


def test_refusals() -> None:
    with pytest.raises(ValueError, match=r"^frames: "):
        sheet_of_sequences([video("a", 3, [])], frames=1)
    with pytest.raises(ValueError, match=r"^length: "):
        video("a", 0, [])
    with pytest.raises(ValueError, match="no images"):
        sheet_of_sequences([])
