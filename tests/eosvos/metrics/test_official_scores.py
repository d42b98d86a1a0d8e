"""Every number of the public DAVIS 2017 evaluator, on predictions of a segmenter and on some made by rule.

Those of synthetic video are committed. With a checkout of github.com/davisvideochallenge/davis2017-evaluation on
PYTHONPATH, and what it needs installed, ``python tests/eosvos/metrics/test_official_scores.py --renew`` makes them
anew.
"""

import functools
import json
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from eosvos.metrics.sequence_scores import score_sequence

OFFICIAL = Path(__file__).parents[2] / "assets" / "official"
SCORES = OFFICIAL / "scores.json"
SHARED = Path(__file__).resolve().parents[4] / "shared"
SHARED_SCORES = SHARED / "metrics_reference" / "official_scores.json"
COMMITTED = {
    "single": ("segmented", "identity", "previous", "shift_3_-5", "first", "empty", "full"),
    "several": ("segmented", "identity", "previous", "lag5", "missing_id_1", "fading"),
    "single_looped_400_quarter": ("fading",),
}
"""Sequence -> rules: the cases of the committed numbers."""


def reference() -> dict[str, Any]:
    """All cases: those of synthetic video, and those of DAVIS where it is beside the checkout."""
    return json.loads(SCORES.read_text()) | (json.loads(SHARED_SCORES.read_text()) if SHARED_SCORES.exists() else {})


def read(folder: Path) -> list[np.ndarray]:
    if not folder.exists():
        pytest.skip(f"no {folder}: the annotations that the numbers were made from are not here")
    masks = []
    for path in sorted(folder.glob("*.png")):
        with Image.open(path) as image:
            values = np.array(image)
        masks.append(values[..., 0] if values.ndim == 3 else values)
    return masks


@functools.lru_cache(maxsize=1)  # the cases of one sequence follow each other
def annotations(sequence: str) -> list[np.ndarray]:
    """Ids of the objects; void, 255, is background."""
    if "_looped_" in sequence:
        name, _, count, _ = sequence.split("_")
        quarter = [mask[::4, ::4] for mask in annotations(name)]
        return [quarter[i % len(quarter)] for i in range(int(count))]
    if sequence in COMMITTED:
        return [np.where(mask == 255, 0, mask) for mask in read(OFFICIAL / "annotations" / sequence)]
    if sequence == "schoolgirls":
        return read(SHARED / "data" / "multi_object" / "davis2017" / sequence / "masks")
    masks = read(SHARED / "data" / "davis2016_train" / "Annotations" / "480p" / sequence)
    return [(mask > 0).astype(np.uint8) for mask in masks]


def shifted(mask: np.ndarray) -> np.ndarray:
    result = np.zeros_like(mask)
    result[3:, :-5] = mask[:-3, 5:]
    return result


def faded(mask: np.ndarray, i: int, n: int) -> np.ndarray:
    result = mask.copy()
    result[:, np.arange(mask.shape[1]) >= mask.shape[1] * (1 - i / n)] = 0
    return result


def predictions(sequence: str, rule: str) -> list[np.ndarray]:
    truths = annotations(sequence)
    if rule == "segmented":
        return read(OFFICIAL / "predictions" / sequence)
    n = len(truths)
    rules = {
        "identity": lambda i: truths[i],
        "previous": lambda i: truths[max(i - 1, 0)],
        "lag5": lambda i: truths[max(i - 5, 0)],
        "first": lambda i: truths[0],
        "shift_3_-5": lambda i: shifted(truths[i]),
        "empty": lambda i: np.zeros_like(truths[i]),
        "full": lambda i: np.ones_like(truths[i]),
        "missing_id_1": lambda i: np.where(truths[i] == 1, 0, truths[i]),
        "fading": lambda i: faded(truths[i], i, n),
    }
    return [rules[rule](i) for i in range(n)]


def plain_decay(values: list[float]) -> float:
    """Mean of the first quarter minus mean of the last, borders rounded half up, shared and inclusive."""
    n = len(values)
    borders = [math.floor(1 + i * (n - 1) / 4 + 0.5 + 1e-9) - 1 for i in range(5)]
    first, last = values[: borders[1] + 1], values[borders[3] :]
    return sum(first) / len(first) - sum(last) / len(last)


@pytest.mark.parametrize("case", sorted(reference()))
def test_as_the_official_evaluator(case: str) -> None:
    sequence, rule = case.split("/")
    expected, truths = reference()[case], annotations(sequence)
    assert (len(truths), *truths[0].shape) == (expected["frames"], expected["height"], expected["width"])
    ids = [wanted["object"] for wanted in expected["objects"]]
    results = score_sequence(predictions(sequence, rule), truths, ids, case)
    assert [scores.object_id for scores in results] == ids
    for scores, wanted in zip(results, expected["objects"], strict=True):
        for name, values, stats in (("J", scores.j, scores.j_statistics), ("F", scores.f, scores.f_statistics)):
            np.testing.assert_allclose(values, wanted[name], rtol=0, atol=1e-6)
            mean, recall, decay = wanted[f"{name}_stats"]
            if "_looped_" in sequence:  # the evaluator's bin edges wrap at 256 there: its decay is wrong
                assert abs(decay - plain_decay(wanted[name])) > 1e-3
                decay = plain_decay(wanted[name])
            np.testing.assert_allclose(
                [stats.mean, stats.recall, stats.decay], [mean, recall, decay], rtol=0, atol=1e-6
            )


def test_the_committed_cases_are_all_there() -> None:
    cases = [f"{sequence}/{rule}" for sequence, rules in COMMITTED.items() for rule in rules]
    assert sorted(json.loads(SCORES.read_text())) == sorted(cases)


def official(sequence: str, rule: str) -> dict[str, Any]:
    """What the public evaluator says of a case: its own functions on what it reads from the annotations."""
    from davis2017.metrics import db_eval_boundary, db_eval_iou  # type: ignore[import-not-found]
    from davis2017.utils import db_statistics  # type: ignore[import-not-found]

    truths, results = np.stack(annotations(sequence)), np.stack(predictions(sequence, rule))
    objects = []
    for object_id in range(1, int(truths[0].max()) + 1):
        truth, result = truths[1:-1] == object_id, results[1:-1] == object_id
        own: dict[str, Any] = {"object": object_id}
        for name, measure in (("J", db_eval_iou), ("F", db_eval_boundary)):
            values = measure(truth, result)
            own[name] = [round(float(value), 8) for value in values]
            own[f"{name}_stats"] = [round(float(value), 8) for value in db_statistics(values)]
        objects.append(own)
    return {"frames": len(truths), "height": truths.shape[1], "width": truths.shape[2], "objects": objects}


if __name__ == "__main__" and sys.argv[1:] == ["--renew"]:
    found = {f"{name}/{rule}": official(name, rule) for name, rules in COMMITTED.items() for rule in rules}
    lines = [f"{json.dumps(case)}: {json.dumps(numbers)}" for case, numbers in found.items()]
    SCORES.write_text("{\n" + ",\n".join(lines) + "\n}\n")
