"""Masks against YouTube-VOS's ground truth: seen and unseen categories, by a count of our own."""

import itertools
import json
import math
import runpy
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from eosvos.data.palette import encode_mask

JOB = Path(__file__).parents[2] / "jobs" / "score.py"
SIZE = (40, 64)
FRAMES = ("00000", "00005", "00010", "00015", "00020")
VIDEOS: dict[str, dict[int, tuple[str, int]]] = {
    "a": {1: ("ape", 0), 2: ("zebra", 10), 4: ("zebra", 20)},
    "b": {1: ("zebra", 0), 3: ("ape", 5)},
    "c": {5: ("cat", 0)},
}
"""Video -> object id -> category, and the number of the frame with its first mask; object 4 of a is never scored."""
TRUTH = "YouTube-VOS/valid/Annotations"
SEEN = ("ape", "cat", "dog")


def _masks(name: str, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Boxes that jump about; some are hidden now and then."""
    masks = {}
    for frame in FRAMES:
        mask = np.zeros(SIZE, np.uint8)
        for number, (_, first) in VIDEOS[name].items():
            top, left = rng.integers(0, 20), rng.integers(0, 40)
            if int(frame) == first or (int(frame) > first and rng.random() < 0.7):
                mask[top : top + 15, left : left + 15][rng.random((15, 15)) < 0.9] = number
        masks[frame] = mask
    return masks


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Ground truth in ``YouTube-VOS/valid``, of every fifth frame, and predictions of more frames than that."""
    rng = np.random.default_rng(0)
    for name in VIDEOS:
        for place, more in ((TRUTH, {}), ("predictions", {"00001": np.zeros(SIZE, "uint8")})):
            (tmp_path / place / name).mkdir(parents=True)
            for frame, mask in (_masks(name, rng) | more).items():
                (tmp_path / place / name / f"{frame}.png").write_bytes(encode_mask(mask))
    objects = {
        name: {"objects": {str(number): {"category": category, "frames": []} for number, (category, _) in own.items()}}
        for name, own in VIDEOS.items()
    }
    (tmp_path / "YouTube-VOS/valid/meta.json").write_text(json.dumps({"videos": objects}))
    seen = {str(number): {"category": category, "frames": []} for number, category in enumerate(SEEN, 1)}
    (tmp_path / "train.json").write_text(json.dumps({"videos": {"x": {"objects": seen}}}))
    return tmp_path


def _flags(folder: Path) -> dict[str, object]:
    return {
        "--ground-truth": folder / "YouTube-VOS",
        "--predictions": folder / "predictions",
        "--layout": "youtube-vos",
        "--split": "valid",
        "--seen": folder / "train.json",
        "--out": folder / "out",
    }


def _arguments(flags: dict[str, object]) -> list[str]:
    return [str(part) for pair in flags.items() for part in pair]


def _plain_j(one: np.ndarray, other: np.ndarray) -> float:
    points = [set(map(tuple, np.argwhere(mask).tolist())) for mask in (one, other)]
    union = len(points[0] | points[1])
    return len(points[0] & points[1]) / union if union else 1.0


def _plain_f(one: np.ndarray, other: np.ndarray) -> float:
    radius = math.ceil(0.008 * math.hypot(*SIZE))
    edges = [_edge(mask) for mask in (one, other)]
    if not edges[0] or not edges[1]:
        return float(len(edges[0]) == len(edges[1]))
    precision, recall = (
        sum(any(math.dist(point, near) <= radius for near in others) for point in own) / len(own)
        for own, others in (edges, edges[::-1])
    )
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def _edge(mask: np.ndarray) -> list[tuple[int, int]]:
    """Pixels that differ from their east, south or south-east neighbour, where they have one."""
    height, width = mask.shape
    return [
        (y, x)
        for y, x in itertools.product(range(height), range(width))
        if any(
            y + dy < height and x + dx < width and mask[y + dy, x + dx] != mask[y, x]
            for dy, dx in ((0, 1), (1, 0), (1, 1))
        )
    ]


def _expected(folder: Path) -> dict[str, float]:
    means: dict[tuple[str, bool], list[float]] = {}
    for name, objects in VIDEOS.items():
        for number, (category, first) in objects.items():
            pairs = []
            for frame in FRAMES:
                if int(frame) <= first:
                    continue
                files = (folder / place / name / f"{frame}.png" for place in ("predictions", TRUTH))
                pairs.append([np.array(Image.open(file)) == number for file in files])
            if pairs:
                for measure, plain in (("j", _plain_j), ("f", _plain_f)):
                    mean = sum(plain(*pair) for pair in pairs) / len(pairs)
                    means.setdefault((measure, category in SEEN), []).append(mean)
    found = {
        f"{measure}_{'seen' if seen else 'unseen'}": sum(values) / len(values)
        for (measure, seen), values in means.items()
    }
    return found | {"overall": sum(found.values()) / 4}


def test_seen_and_unseen_categories(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["score", *_arguments(_flags(folder))])
    runpy.run_path(str(JOB), run_name="__main__")
    scores: dict[str, Any] = json.loads((folder / "out" / "scores.json").read_text())
    assert scores["categories"] == pytest.approx(_expected(folder))
    assert [(one["sequence"], one["object"]) for one in scores["objects"]] == [
        ("a", 1), ("a", 2), ("b", 1), ("b", 3), ("c", 5),
    ]  # fmt: skip
    assert list(scores["frames"]["a"]["2"]) == ["00015", "00020"]
    assert "J unseen" in capsys.readouterr().out


def test_no_unseen_category(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = folder / "YouTube-VOS/valid/meta.json"
    monkeypatch.setattr(sys, "argv", ["score", *_arguments(_flags(folder) | {"--seen": own})])
    runpy.run_path(str(JOB), run_name="__main__")
    scores = json.loads((folder / "out" / "scores.json").read_text())["categories"]
    assert (scores["j_unseen"], scores["f_unseen"], scores["overall"]) == (None, None, None)
    assert scores["j_seen"] > 0


def _first_mask_alone(folder: Path) -> None:
    """As the annotations of valid are public."""
    for frame in FRAMES[1:]:
        (folder / TRUTH / "c" / f"{frame}.png").unlink()


REFUSALS: dict[str, tuple[Callable[[Path], object], dict[str, object], str]] = {
    "no seen": (lambda folder: None, {"--seen": None}, "seen: name meta.json of the train split"),
    "seen missing": (lambda folder: (folder / "train.json").unlink(), {}, "TMP/train.json: missing"),
    "seen of another layout": (lambda folder: None, {"--layout": "davis2017"}, "seen: goes with --layout youtube-vos"),
    "no split": (lambda folder: None, {"--split": ""}, "--split: missing; --layout youtube-vos needs"),
    "no such split": (lambda folder: None, {"--split": "test"}, "YouTube-VOS/test/Annotations: no such folder"),
    "no meta": (
        lambda folder: (folder / "YouTube-VOS/valid/meta.json").unlink(),
        {},
        "YouTube-VOS/valid/meta.json: missing",
    ),
    "no category": (
        lambda folder: _edit(folder, "a", lambda objects: objects.pop("2")),
        {},
        "a: meta.json gives object 2 no category",
    ),
    "no masks": (
        lambda folder: _edit(folder, "d", lambda objects: objects.update({"1": {"category": "ape"}})),
        {},
        "YouTube-VOS/valid/Annotations/d: 0 masks; a sequence needs at least 2",
    ),
    "valid as it is public": (_first_mask_alone, {}, "valid/Annotations/c: 1 masks; a sequence needs at least 2"),
}


def _edit(folder: Path, video: str, change: Callable[[dict[str, Any]], object]) -> None:
    path = folder / "YouTube-VOS/valid/meta.json"
    meta = json.loads(path.read_text())
    change(meta["videos"].setdefault(video, {"objects": {}})["objects"])
    path.write_text(json.dumps(meta))


@pytest.mark.parametrize("what", REFUSALS)
def test_bad_input_is_one_line(refused: Callable[..., str], folder: Path, what: str) -> None:
    spoil, changes, message = REFUSALS[what]
    spoil(folder)
    flags = {flag: value for flag, value in (_flags(folder) | changes).items() if value is not None}
    assert message.replace("TMP", str(folder)) in refused("score", *_arguments(flags))
    assert not (folder / "out").exists()
