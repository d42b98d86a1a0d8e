"""Every number of the public DAVIS 2017 evaluator on predictions made by rule from annotations."""

import functools
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from eosvos.metrics.sequence_scores import score_sequence

SHARED = Path(__file__).resolve().parents[4] / "shared"
REFERENCE = SHARED / "metrics_reference" / "official_scores.json"
LOOPED = "rhino_looped_400_quarter"

pytestmark = pytest.mark.skipif(not REFERENCE.exists(), reason=f"no {REFERENCE}: the evaluator's numbers are not here")


@functools.cache
def reference() -> dict[str, Any]:
    return json.loads(REFERENCE.read_text())


@functools.lru_cache(maxsize=1)  # the cases of one sequence follow each other
def annotations(sequence: str) -> list[np.ndarray]:
    if sequence == LOOPED:
        quarter = [mask[::4, ::4] for mask in annotations("rhino")]
        return [quarter[i % len(quarter)] for i in range(400)]
    if sequence == "schoolgirls":
        folder = SHARED / "data" / "multi_object" / "davis2017" / sequence / "masks"
    else:
        folder = SHARED / "data" / "davis2016_train" / "Annotations" / "480p" / sequence
    if not folder.exists():
        pytest.skip(f"no {folder}: the annotations that the numbers were made from are not here")
    masks = []
    for path in sorted(folder.glob("*.png")):
        with Image.open(path) as image:
            values = np.array(image)
        values = values[..., 0] if values.ndim == 3 else values
        masks.append(values if sequence == "schoolgirls" else (values > 0).astype(np.uint8))
    return masks


def shifted(mask: np.ndarray) -> np.ndarray:
    result = np.zeros_like(mask)
    result[3:, :-5] = mask[:-3, 5:]
    return result


def faded(mask: np.ndarray, i: int, n: int) -> np.ndarray:
    result = mask.copy()
    result[:, np.arange(mask.shape[1]) >= mask.shape[1] * (1 - i / n)] = 0
    return result


def predictions(rule: str, truths: list[np.ndarray]) -> list[np.ndarray]:
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


@pytest.mark.parametrize("case", sorted(reference()) if REFERENCE.exists() else [])
def test_as_the_official_evaluator(case: str) -> None:
    sequence, rule = case.split("/")
    expected, truths = reference()[case], annotations(sequence)
    assert (len(truths), *truths[0].shape) == (expected["frames"], expected["height"], expected["width"])
    ids = [wanted["object"] for wanted in expected["objects"]]
    results = score_sequence(predictions(rule, truths), truths, ids, case)
    assert [scores.object_id for scores in results] == ids
    for scores, wanted in zip(results, expected["objects"], strict=True):
        for name, values, stats in (("J", scores.j, scores.j_statistics), ("F", scores.f, scores.f_statistics)):
            np.testing.assert_allclose(values, wanted[name], rtol=0, atol=1e-6)
            mean, recall, decay = wanted[f"{name}_stats"]
            if sequence == LOOPED:  # the evaluator's bin edges wrap at 256 there: its decay is wrong
                assert abs(decay - plain_decay(wanted[name])) > 1e-3
                decay = plain_decay(wanted[name])
            np.testing.assert_allclose(
                [stats.mean, stats.recall, stats.decay], [mean, recall, decay], rtol=0, atol=1e-6
            )
