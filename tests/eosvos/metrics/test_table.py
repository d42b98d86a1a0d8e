"""Scoring a sequence, and the way from objects to rows, means and the DAVIS table."""

import pickle
from typing import Any

import numpy as np
import pytest
import torch

from eosvos.errors import BadInput
from eosvos.metrics.sequence_scores import ObjectScores, score_sequence
from eosvos.metrics.table import (
    MEASURES,
    ObjectResult,
    object_rows,
    over_seeds,
    paired_difference,
    summarize,
    summary_columns,
)
from eosvos.tables import terminal_text


def result(sequence: str, object_id: int, j: float, f: float, seconds: float | None = 2.0) -> ObjectResult:
    scores = ObjectScores(object_id, (1, 2, 3), (j, j, j), (f, f, f))
    loading, video = (None, None) if seconds is None else (0.5, 6.0)
    return ObjectResult("davis2017", sequence, 5, seconds, scores, loading, video)


RESULTS = [result("a", 1, 0.9, 0.7), result("a", 2, 0.6, 0.6), result("b", 1, 0.3, 0.2)]


def id_map(*objects: int) -> np.ndarray:
    ids = np.zeros((20, 30), dtype=np.uint8)
    for object_id in objects:
        ids[4 * object_id : 4 * object_id + 3, 5:25] = object_id
    return ids


def test_a_sequence_is_scored_between_first_and_last() -> None:
    truths = [id_map(1, 2), id_map(1, 2), None, id_map(1), id_map(1, 2)]
    predictions = [None, torch.from_numpy(id_map(1, 3)), None, id_map(1, 2), id_map()]
    one, two = score_sequence(predictions, truths, (1, 2), "video")
    assert one == ObjectScores(1, (1, 3), (1.0, 1.0), (1.0, 1.0))  # an unknown id 3 harms nobody
    assert two == ObjectScores(2, (1, 3), (0.0, 0.0), (0.0, 0.0))
    assert one.j_and_f == 1.0
    assert pickle.loads(pickle.dumps(one)) == one


@pytest.mark.parametrize(
    ("predictions", "truths", "message"),
    [
        ([id_map()] * 3, [id_map(1), None, id_map(1)], "video: no annotated frame between"),
        ([], [], "video: no annotated frame between"),
        ([id_map()] * 2, [id_map(1)] * 3, "video: 2 predictions for 3 frames"),
        ([id_map(), None, id_map()], [id_map(1)] * 3, "video, frame 1: no prediction"),
        ([id_map().T] * 3, [id_map(1)] * 3, "video, frame 1: the prediction has shape"),
    ],
)
def test_input_that_cannot_be_scored(predictions: list, truths: list, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        score_sequence(predictions, truths, (1,), "video")


def test_one_row_per_object() -> None:
    rows = object_rows(RESULTS, keys={"label": "meta", "T": 10})
    assert [(row["sequence"], row["object"]) for row in rows] == [("a", 1), ("a", 2), ("b", 1)]
    assert list(rows[0])[:7] == ["label", "T", "dataset", "sequence", "object", "frames", "scored_frames"]
    assert rows[0]["j_and_f"] == pytest.approx(0.8)
    assert (rows[0]["frames"], rows[0]["scored_frames"], rows[0]["fps"]) == (5, 3, 2.0)


def test_means_are_over_objects() -> None:
    (summary,) = summarize(object_rows(RESULTS))
    assert summary["objects"] == 3
    assert summary["j_mean"] == pytest.approx(0.6)  # over sequences it would be 0.525
    assert summary["j_mean_se"] == pytest.approx(0.3 / 3**0.5)
    assert summary["j_recall"] == pytest.approx(2 / 3)
    assert (summary["seconds"], summary["loading_seconds"]) == (6.0, 1.5)
    assert summary["fps"] == pytest.approx(15 / 7.5)
    assert {f"{name}_se" for name in MEASURES} <= set(summary)


def test_comparison_across_steps_and_labels() -> None:
    rows = [
        row
        for label, gain in (("meta", 0.0), ("parent", -0.1))
        for steps in (0, 10)
        for row in object_rows([result("a", 1, 0.5 + gain + steps / 100, 0.5)], {"label": label, "T": steps})
    ]
    summary = summarize(rows, by=("label", "T"))
    assert [(row["label"], row["T"]) for row in summary] == [("meta", 0), ("meta", 10), ("parent", 0), ("parent", 10)]
    assert [row["j_mean"] for row in summary] == pytest.approx([0.5, 0.6, 0.4, 0.5])
    assert summary[0]["j_mean_se"] is None


def test_a_time_that_nobody_took_is_no_time() -> None:
    (summary,) = summarize(object_rows([*RESULTS, result("c", 1, 0.5, 0.5, seconds=None)]))
    assert {summary[name] for name in ("seconds", "loading_seconds", "video_seconds", "fps", "video_fps")} == {None}


def _printed(summary: list[Any], title: str, width: int) -> list[str]:
    return terminal_text(summary, summary_columns(summary), title, width=width).splitlines()


def test_summary_as_a_table() -> None:
    """DAVIS's columns: mean, recall and decay of J and of F."""
    rows = object_rows(RESULTS, {"label": "meta", "T": 10}) + object_rows(RESULTS[:1], {"label": "parent", "T": 0})
    title, headings, _, *lines = _printed(summarize(rows, by=("label", "T")), "DAVIS 2017", 100)
    assert title.strip() == "DAVIS 2017"
    measured = ["J", "recall", "decay", "F", "recall", "decay", "J&F"]
    assert headings.split() == ["label", "T", *measured, "FPS", "video", "FPS", "objects"]
    assert [line.split() for line in lines if line.strip()] == [
        ["meta", "10", "60.0", "66.7", "0.0", "50.0", "66.7", "0.0", "55.0", "±", "16.1", "2.00", "0.83", "3"],
        ["parent", "0", "90.0", "100.0", "0.0", "70.0", "100.0", "0.0", "80.0", "2.00", "0.83", "1"],
    ]


def test_numbers_are_whole_on_a_small_terminal() -> None:
    rows = object_rows(RESULTS, {"learning_rate": 0.001, "T": 10})
    _, *lines = _printed(summarize(rows, by=("learning_rate", "T")), "DAVIS 2017", 80)
    *_, last = (line for line in lines if line.strip())
    assert " ".join(last.split()) == "0.001 10 60.0 66.7 0.0 50.0 66.7 0.0 55.0 ± 16.1 2.00 0.83 3"


def test_summary_without_what_nobody_took() -> None:
    """Masks from a file have no speed, learned rates no single one; a long name fits a small terminal."""
    untimed = [result("paragliding-launch", 1, 0.5, 0.5, seconds=None)]
    summary = summarize(object_rows(untimed, {"learning_rate": None}), by=("learning_rate", "sequence"))
    _, headings, _, *lines = _printed(summary, "sequences", 80)
    assert headings.split() == ["sequence", "J", "recall", "decay", "F", "recall", "decay", "J&F", "objects"]
    assert [line.split()[0] for line in lines if line.strip()] == ["paragliding-launch"]


def test_seeds_are_averaged_object_by_object() -> None:
    other = [result("a", 1, 0.5, 0.7, 4.0), result("a", 2, 0.6, 0.6), result("b", 1, 0.5, 0.4)]
    rows = [{"seed": seed} | row for seed, part in enumerate((RESULTS, other)) for row in object_rows(part, {"T": 5})]
    merged = over_seeds(rows, by=("T",))
    assert [(row["sequence"], row["object"]) for row in merged] == [("a", 1), ("a", 2), ("b", 1)]
    assert [row["j_mean"] for row in merged] == pytest.approx([0.7, 0.6, 0.4])
    assert [row["seconds"] for row in merged] == [3.0, 2.0, 2.0]
    assert [row["fps"] for row in merged] == pytest.approx([5 / 3.5, 2.0, 2.0])
    (summary,) = summarize(merged)
    assert summary["objects"] == 3  # and not six: an object counts once in the standard error


def test_paired_difference() -> None:
    """Two methods that differ by the same on each object have no error, however far the objects are apart."""
    lower = [result("a", 1, 0.8, 0.6), result("a", 2, 0.5, 0.5), result("b", 1, 0.2, 0.1)]
    rows, others = object_rows(RESULTS), object_rows(reversed(lower))
    assert paired_difference(rows, others) == pytest.approx((0.1, 0.0))
    values = np.array([0.9 - 0.2, 0.0, 0.3 - 0.8])
    swapped = [row | {"j_mean": other} for row, other in zip(object_rows(RESULTS), (0.2, 0.6, 0.8), strict=True)]
    mean, error = paired_difference(rows, swapped, "j_mean")
    assert (mean, error) == pytest.approx((values.mean(), values.std(ddof=1) / 3**0.5))
    with pytest.raises(ValueError, match="3 objects and 2 objects cannot be paired"):
        paired_difference(rows, others[:2])
