"""Masks on disk against ground truth on disk: the numbers are those of the library, what is wrong is named."""

import csv
import json
import runpy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from eosvos.data.palette import encode_mask
from eosvos.metrics.sequence_scores import score_sequence

JOB = Path(__file__).parents[2] / "jobs" / "score.py"
OFFICIAL = Path(__file__).parents[1] / "assets" / "official"
Masks = list[np.ndarray[Any, np.dtype[np.uint8]]]


def _masks(frames: int, enters: int = 0) -> Masks:
    """Object 1 moves right; object 2, below, is there from frame ``enters`` on; a pixel of void in each."""
    masks = []
    for k in range(frames):
        mask = np.zeros((40, 50), dtype=np.uint8)
        mask[5:15, 5 + k : 20 + k] = 1
        if k >= enters:
            mask[25:35, 10:30] = 2
        mask[0, 0] = 255
        masks.append(mask)
    return masks


def _write(folder: Path, masks: Masks) -> None:
    folder.mkdir(parents=True)
    for k, mask in enumerate(masks):
        (folder / f"{k:05d}.png").write_bytes(encode_mask(mask))


def _lagging(masks: Masks) -> Masks:
    return [np.where(mask == 255, 0, mask).astype(np.uint8) for mask in [masks[0], *masks[:-1]]]


@pytest.fixture
def davis(tmp_path: Path) -> Path:
    """``truth`` in DAVIS 2017's layout with sequences a, b and a split of a alone; ``predictions``, one frame late."""
    for name, frames in (("a", 5), ("b", 3)):
        _write(tmp_path / "truth" / "Annotations" / "480p" / name, _masks(frames))
        _write(tmp_path / "predictions" / name, _lagging(_masks(frames)))
    lists = tmp_path / "truth" / "ImageSets"
    for folder, line in (("2017", "a"), ("480p", "/JPEGImages/480p/a/00000.jpg /Annotations/480p/a/00000.png ")):
        (lists / folder).mkdir(parents=True)
        (lists / folder / "val.txt").write_text(f"{line}\n\n")
    return tmp_path


def _score(
    monkeypatch: pytest.MonkeyPatch, folder: Path, layout: str, *more: str, truth: str = "truth"
) -> dict[str, Any]:
    flags = ["--ground-truth", str(folder / truth), "--predictions", str(folder / "predictions")]
    monkeypatch.setattr(sys, "argv", ["score", *flags, "--layout", layout, "--out", str(folder / "out"), *more])
    runpy.run_path(str(JOB), run_name="__main__")
    result: dict[str, Any] = json.loads((folder / "out" / "scores.json").read_text())
    return result


def test_davis_2017(davis: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    scores = _score(monkeypatch, davis, "davis2017")
    truths = [np.where(mask == 255, 0, mask) for mask in _masks(5)]
    expected = score_sequence(_lagging(_masks(5)), truths, (1, 2), "a")
    for own, wanted in zip(scores["objects"][:2], expected, strict=True):
        assert (own["sequence"], own["object"]) == ("a", wanted.object_id)
        assert own["j_mean"] == pytest.approx(wanted.j_statistics.mean)
        assert own["f_decay"] == pytest.approx(wanted.f_statistics.decay)
    assert scores["frames"]["a"]["1"]["00002"] == {"j": expected[0].j[1], "f": expected[0].f[1]}
    assert list(scores["frames"]["a"]["1"]) == ["00001", "00002", "00003"]
    assert scores["global"]["objects"] == 4
    assert scores["global"]["j_and_f"] == pytest.approx(np.mean([own["j_and_f"] for own in scores["objects"]]))
    with (davis / "out" / "scores.csv").open() as file:
        assert [(row["sequence"], row["object"]) for row in csv.DictReader(file)] == [
            ("a", "1"), ("a", "2"), ("b", "1"), ("b", "2"),
        ]  # fmt: skip
    printed = capsys.readouterr().out
    assert "1/2 a: J&F" in printed
    assert "FPS" not in printed
    assert "recall" in printed
    assert "truth, mean over objects" in printed


def test_nothing_of_the_cluster_is_imported(davis: Path) -> None:
    flags = ["--ground-truth", davis / "truth", "--predictions", davis / "predictions", "--layout", "davis2017"]
    command = [sys.executable, "-X", "importtime", str(JOB), *map(str, flags), "--processes", "1"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    imported = {line.rpartition("|")[2].strip().partition(".")[0] for line in done.stderr.splitlines()}
    assert "pyarrow" in imported
    assert not imported & {"ray", "mlflow", "optuna", "matplotlib"}


@pytest.mark.parametrize("layout", ["davis2016", "davis2017"])
def test_a_split(davis: Path, monkeypatch: pytest.MonkeyPatch, layout: str) -> None:
    scores = _score(monkeypatch, davis, layout, "--split", "val")
    assert list(scores["sequences"]) == ["a"]
    assert scores["global"]["objects"] == (1 if layout == "davis2016" else 2)


def test_frames_with_an_object_that_enters(davis: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some frames are annotated; each object counts after its first mask, to the last."""
    truth = davis / "masks"
    _write(truth / "a", _masks(5, enters=2))
    (truth / "a" / "00001.png").unlink()
    scores = _score(monkeypatch, davis, "frames", truth="masks")
    frames = {object_id: list(own) for object_id, own in scores["frames"]["a"].items()}
    assert frames == {"1": ["00002", "00003", "00004"], "2": ["00003", "00004"]}
    assert scores["objects"][1]["j_mean"] == 1


def test_what_segment_wrote_and_names_without_zeros(davis: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Frames are in the order of their numbers; masks may be black and white."""
    for folder in (davis / "truth-of-it" / "clip", davis / "results" / "clip" / "masks"):
        folder.mkdir(parents=True)
        for k in range(12):
            mask = np.zeros((40, 50), dtype=np.uint8)
            mask[5:15, 5 : 20 + k] = 255
            Image.fromarray(mask * (k >= 8)).save(folder / f"{k}.png")
    (davis / "predictions").rename(davis / "other")
    (davis / "results").rename(davis / "predictions")
    scores = _score(monkeypatch, davis, "frames", truth="truth-of-it")
    assert list(scores["frames"]["clip"]["1"]) == ["9", "10", "11"]
    assert scores["global"]["j_mean"] == 1


def _gray(folder: Path, masks: Masks) -> None:
    folder.mkdir(parents=True)
    for k, mask in enumerate(masks):
        Image.fromarray(mask).save(folder / f"{k:05d}.png")


@pytest.mark.parametrize("write", [_write, _gray])
def test_void_is_no_object(davis: Path, monkeypatch: pytest.MonkeyPatch, write: Callable[[Path, Masks], None]) -> None:
    """Also in a frame that holds nothing else, as before the objects enter: all masks of a sequence mean the same."""
    truth = _masks(5, enters=2)
    truth[0] = np.where(truth[0] == 255, 255, 0).astype(np.uint8)
    write(davis / "masks" / "a", truth)
    (davis / "predictions").rename(davis / "other")
    write(davis / "predictions" / "a", [np.where(mask == 255, 0, mask).astype(np.uint8) for mask in truth])
    scores = _score(monkeypatch, davis, "frames", truth="masks")
    assert {(own["object"], own["j_mean"]) for own in scores["objects"]} == {(1, 1.0), (2, 1.0)}
    assert list(scores["frames"]["a"]["1"]) == ["00002", "00003", "00004"]


@pytest.mark.parametrize("edge", [0, 60, 200])
def test_black_and_white_with_and_without_soft_edges(davis: Path, monkeypatch: pytest.MonkeyPatch, edge: int) -> None:
    """In black and white one object, whose edges have been smoothed; a frame without it is no other kind of mask."""
    white = [((mask == 1) * 255).astype(np.uint8) for mask in _masks(5)]
    smoothed = [np.maximum(mask, (np.roll(mask, 1, axis=1) > 0) * np.uint8(edge)) for mask in white]
    smoothed[0] = smoothed[0] * 0
    smoothed[-1][0, 0] = 254 if edge else 255
    _gray(davis / "masks" / "a", smoothed)
    (davis / "predictions").rename(davis / "other")
    _write(davis / "predictions" / "a", [(mask > 0).astype(np.uint8) for mask in smoothed])
    scores = _score(monkeypatch, davis, "frames", truth="masks")
    assert [(own["object"], own["j_mean"]) for own in scores["objects"]] == [(1, 1.0)]


def test_a_gray_prediction_of_several_objects_has_no_void(
    refused: Callable[..., str], davis: Path, tmp_path: Path
) -> None:
    _write(davis / "masks" / "a", _masks(5))
    (davis / "predictions").rename(davis / "other")
    _gray(davis / "predictions" / "a", _masks(5))
    flags = ["--ground-truth", davis / "masks", "--predictions", davis / "predictions", "--layout", "frames"]
    assert "predictions/a/00001.png: holds object 255, the ground truth has 1, 2" in refused("score", *flags)


WRONG: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing frame": (lambda p: (p / "a" / "00003.png").unlink(), "predictions/a/00003.png: no such prediction"),
    "missing sequence": (lambda p: (p / "b").rename(p / "c"), "predictions/b: no predictions for this sequence"),
    "more ids": (
        lambda p: (p / "a" / "00002.png").write_bytes(encode_mask(np.full((40, 50), 3, dtype=np.uint8))),
        "predictions/a/00002.png: holds object 3, the ground truth has 1, 2",
    ),
    "void": (
        lambda p: (p / "a" / "00002.png").write_bytes(encode_mask(np.full((40, 50), 255, dtype=np.uint8))),
        "predictions/a/00002.png: holds object 255, the ground truth has 1, 2",
    ),
    "size": (
        lambda p: (p / "b" / "00001.png").write_bytes(encode_mask(np.zeros((50, 40), dtype=np.uint8))),
        "predictions/b/00001.png: has 40x50 pixels, the ground truth 50x40",
    ),
    "no image": (lambda p: (p / "a" / "00001.png").write_text("x"), "predictions/a/00001.png: not a readable mask"),
    "colours": (
        lambda p: Image.new("RGB", (50, 40), (9, 0, 0)).save(p / "a" / "00001.png"),
        "predictions/a/00001.png: a mask of mode RGB has no object ids",
    ),
}


@pytest.mark.parametrize("what", WRONG)
def test_predictions_that_cannot_be_scored(refused: Callable[..., str], davis: Path, what: str) -> None:
    spoil, message = WRONG[what]
    spoil(davis / "predictions")
    flags = ["--ground-truth", davis / "truth", "--predictions", davis / "predictions", "--layout", "davis2017"]
    assert message in refused("score", *flags, "--out", davis / "out")
    assert not (davis / "out").exists()


def test_frames_that_do_not_count_need_no_prediction(davis: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("00000.png", "00004.png"):
        (davis / "predictions" / "a" / name).unlink()
    assert _score(monkeypatch, davis, "davis2017")["global"]["objects"] == 4


TRUTHS = {
    "--ground-truth TMP/nothing": "TMP/nothing/Annotations/480p: no such folder",
    "--predictions TMP/nothing": "TMP/nothing: no such folder; --predictions names the folder",
    "--split train": "TMP/truth/ImageSets/2017/train.txt: no such list; splits that exist here: val",
    "--processes -1": "processes: must be at least 0, got -1",
}


@pytest.mark.parametrize("arguments", TRUTHS)
def test_bad_input_is_one_line(refused: Callable[..., str], davis: Path, arguments: str) -> None:
    flags = {"--ground-truth": davis / "truth", "--predictions": davis / "predictions", "--layout": "davis2017"}
    flag, value = arguments.replace("TMP", str(davis)).split(" ")
    line = refused("score", *(part for pair in (flags | {flag: value}).items() for part in pair))
    assert TRUTHS[arguments].replace("TMP", str(davis)) in line


def test_a_list_with_folders_and_one_that_is_no_text(
    davis: Path, refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = davis / "truth" / "ImageSets" / "2017" / "val.txt"
    names = path.read_text().split()
    expected = _score(monkeypatch, davis, "davis2017", "--split", "val")["global"]
    path.write_text("".join(f"{name}/\n" for name in names))
    assert _score(monkeypatch, davis, "davis2017", "--split", "val")["global"] == expected
    flags = ["--ground-truth", davis / "truth", "--predictions", davis / "predictions", "--layout", "davis2017"]
    for content, message in (
        (b"\xff\xfe", ": not a readable list"),
        (b"# no name\n", ": the split is empty"),
        (b"a\n../b\n", ", line 2: '../b' names no sequence"),
    ):
        path.write_bytes(content)
        assert f"{path}{message}" in refused("score", *flags, "--split", "val")


def test_sequences_too_short_and_empty_truth(refused: Callable[..., str], tmp_path: Path) -> None:
    flags = ["--predictions", tmp_path / "p", "--layout", "frames"]
    _write(tmp_path / "short" / "a", _masks(1))
    assert "short/a: 1 masks; a sequence needs at least 2" in refused(
        "score", *flags, "--ground-truth", tmp_path / "short"
    )
    for folder in ("empty", "p"):
        _write(tmp_path / folder / "a", [mask * 0 for mask in _masks(3)])
    assert "empty/a: no object in the ground truth" in refused("score", *flags, "--ground-truth", tmp_path / "empty")


@pytest.mark.parametrize(("sequence", "layout"), [("single", "davis2016"), ("several", "davis2017")])
def test_the_official_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sequence: str, layout: str) -> None:
    """Of the public evaluator, on masks as they are on disk: one object, five objects, void."""
    (tmp_path / "truth" / "Annotations" / "480p").mkdir(parents=True)
    (tmp_path / "truth" / "Annotations" / "480p" / sequence).symlink_to(OFFICIAL / "annotations" / sequence)
    (tmp_path / "predictions").mkdir()
    (tmp_path / "predictions" / sequence).symlink_to(OFFICIAL / "predictions" / sequence)
    scores = _score(monkeypatch, tmp_path, layout)
    official = json.loads((OFFICIAL / "scores.json").read_text())[f"{sequence}/segmented"]["objects"]
    assert [own["object"] for own in scores["objects"]] == [wanted["object"] for wanted in official]
    for own, wanted in zip(scores["objects"], official, strict=True):
        frames = scores["frames"][sequence][str(own["object"])].values()
        for measure in ("j", "f"):
            assert [frame[measure] for frame in frames] == pytest.approx(wanted[measure.upper()], abs=1e-6)
            mine = [own[f"{measure}_{name}"] for name in ("mean", "recall", "decay")]
            assert mine == pytest.approx(wanted[f"{measure.upper()}_stats"], abs=1e-6)
