"""The command: exit codes, one line on stderr, and a second run that finds the work done."""

import json
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from eosvos.data.parquet import open_dataset
from eosvos.data.readers.synthetic import SyntheticSettings, synthetic

JOB = Path(__file__).parents[2] / "jobs" / "encode_dataset.py"


@pytest.fixture
def davis_root(tmp_path: Path) -> Path:
    root = tmp_path / "davis"
    lines = []
    for folder in ("JPEGImages/480p/bear", "Annotations/480p/bear", "ImageSets/480p"):
        (root / folder).mkdir(parents=True)
    for frame in range(3):
        image, mask = f"/JPEGImages/480p/bear/{frame:05d}.jpg", f"/Annotations/480p/bear/{frame:05d}.png"
        Image.fromarray(np.full((20, 30, 3), 80 * frame, np.uint8)).save(root / image[1:])
        Image.fromarray(np.eye(20, 30, dtype=np.uint8) * 255).save(root / mask[1:])
        lines.append(f"{image} {mask}")
    (root / "ImageSets/480p/train.txt").write_text("\n".join(lines))
    return root


@pytest.fixture(autouse=True)
def one_ray(ray_here: None) -> None:
    """For the commands that run in this process."""


def _here(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    """The same without a new process; its exit code."""
    monkeypatch.setattr(sys, "argv", [str(JOB), *map(str, arguments)])
    try:
        runpy.run_path(str(JOB), run_name="__main__")
    except SystemExit as left:
        return int(left.code or 0)
    return 0


def test_encode_once_and_again(
    tmp_path: Path, davis_root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ("--layout", "davis2016", "--root", davis_root, "--split", "train", "--out", tmp_path / "out")
    assert _here(monkeypatch, *arguments, "--verify") == 0
    said = capsys.readouterr()
    assert said.err == ""
    dataset = open_dataset(tmp_path / "out")
    for line in ("sequences 1", "frames 3", "objects 1", f"hash {dataset.hash}", f"where {tmp_path / 'out'}"):
        assert line in [" ".join(printed.split()) for printed in said.out.splitlines()]
    assert "verified: all frames" in said.out
    assert _here(monkeypatch, *arguments) == 0
    assert "already encoded" in capsys.readouterr().out


def test_a_truncated_image(
    tmp_path: Path, davis_root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = davis_root / "JPEGImages/480p/bear/00001.jpg"
    path.write_bytes(path.read_bytes()[:300])
    arguments = ("--layout", "davis2016", "--root", davis_root, "--split", "train", "--out", tmp_path / "out")
    assert _here(monkeypatch, *arguments) == 2
    stderr = capsys.readouterr().err
    assert stderr.startswith(f"error: {path}: not a readable image")
    assert stderr.count("\n") == 1
    assert [folder.name for folder in tmp_path.iterdir()] == ["davis"]


def test_what_is_bad_is_left_out_on_demand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.default_rng(0)
    for name in ("images", "masks"):
        (tmp_path / name).mkdir()
    for number in range(3):
        Image.fromarray(rng.integers(0, 255, (8, 9, 3), np.uint8)).save(tmp_path / f"images/{number}.jpg")
        Image.fromarray(np.eye(8, 9, dtype=np.uint8)).save(tmp_path / f"masks/{number}.png")
    (tmp_path / "masks/1.png").write_bytes(b"no mask")
    arguments = ("--layout", "images", "--root", tmp_path, "--out", tmp_path / "out")
    assert _here(monkeypatch, *arguments) == 2
    assert f"{tmp_path}/masks/1.png: not a readable mask" in capsys.readouterr().err
    assert _here(monkeypatch, *arguments, "--skip-bad") == 0
    said = capsys.readouterr().out
    assert "1 sequences, named in _skipped.txt" in said
    assert "skipped: images/1" in said
    assert len(open_dataset(tmp_path / "out").sequences) == 2


def test_synthetic(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = ("--layout", "synthetic", "--frames", 2, "--size", 48, "--objects", 4, "--out", tmp_path / "out")
    assert _here(monkeypatch, *small, "--split", "held", "--sequences", 2, "--seed", 5) == 0
    dataset = open_dataset(tmp_path / "out")
    expected = synthetic("held", 2, SyntheticSettings(size=48, frames=2, objects=4), seed=5)
    assert [s.read(1).image for s in dataset.sequences] == [s.read(1).image for s in expected]
    assert dataset.spec == {
        "layout": "synthetic",
        "split": "held",
        "sequences": 2,
        "seed": 5,
        "generator": 1,
        "size": 48,
        "frames": 2,
        "objects": 4,
    }


def test_named_sequences_are_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = ("--layout", "synthetic", "--split", "held", "--frames", 2, "--size", 48, "--sequences", 3)
    out = ("--out", tmp_path / "out")
    assert _here(monkeypatch, *made, *out, "--without", "held-00001") == 0
    dataset = open_dataset(tmp_path / "out")
    assert [sequence.name for sequence in dataset.sequences] == ["held-00000", "held-00002"]
    assert dataset.spec["without"] == ["held-00001"]
    assert _here(monkeypatch, *made, *out) == 2  # another dataset


BAD = {
    "--layout synthetic --split held --without held-99999": "--without held-99999: no sequence of that name",
    "--layout synthetic --split held --sequences 1 --without held-00000": "--without: leaves no sequence to encode",
    "--layout synthetic --split val": "split val: no such synthetic split",
    "--layout synthetic --split train --sequences 0": "sequences 0",
    "--layout synthetic --split train --objects 2": "--objects 2: must be between 3 and 8",
    "--layout synthetic --split train --root .": "--root: goes with --layout davis2016, davis2017",
    "--layout davis2016 --split train": "--root: missing",
    "--layout davis2017 --root .": "--split: missing; --layout davis2017 needs it",
    "--layout frames --root . --split train": "--split: goes with --layout davis2016, davis2017, youtube-vos",
    "--layout davis2016 --root . --split train --resolution 480p": "--resolution: goes with --layout davis2017 only",
    "--layout davis2016 --split train --root missing": "missing: no such folder",
    "--layout davis2016 --split train --root . --frames 3": "--frames: goes with --layout synthetic only",
    "--layout coco --root .": "--annotations: missing; --layout coco needs it",
    "--layout frames --root . --masks . --annotations a.json": "--annotations: goes with --layout coco only",
    "--layout coco --root DAVIS --annotations DAVIS/a.json": "a.json: cannot be read (No such file or directory)",
    "--layout davis2016 --split val --root DAVIS": "val.txt: no such list; splits that exist here: train",
}


@pytest.mark.parametrize("arguments", BAD)
def test_bad_input_is_one_line(
    tmp_path: Path,
    davis_root: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: str,
) -> None:
    given = arguments.replace("DAVIS", str(davis_root)).split()
    assert _here(monkeypatch, *given, "--out", tmp_path / "out") == 2
    stderr = capsys.readouterr().err
    assert BAD[arguments] in stderr
    assert stderr.startswith("error: ")
    assert stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_submitted_job_needs_absolute_paths(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}")
    assert _here(monkeypatch, "--layout", "synthetic", "--split", "train", "--out", "data") == 2
    assert "--out data: a submitted job runs in a throw-away copy" in capsys.readouterr().err


def test_another_dataset_in_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny = ("--layout", "synthetic", "--split", "train", "--frames", 1, "--size", 32, "--out", tmp_path / "out")
    assert _here(monkeypatch, *tiny, "--sequences", 1) == 0
    assert _here(monkeypatch, *tiny, "--sequences", 2) == 2
    assert "out: holds a dataset that differs in sequences (1 there, 2 now)" in capsys.readouterr().err


def test_frames_and_masks_of_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("frames/clip", "masks/clip"):
        (tmp_path / name).mkdir(parents=True)
    for frame in range(3):
        Image.fromarray(np.full((20, 30, 3), 80 * frame, np.uint8)).save(tmp_path / f"frames/clip/{frame}.jpg")
    Image.fromarray(np.eye(20, 30, dtype=np.uint8)).save(tmp_path / "masks/clip/1.png")
    folders = ("--root", tmp_path / "frames", "--masks", tmp_path / "masks")
    assert _here(monkeypatch, "--layout", "frames", *folders, "--out", tmp_path / "out") == 0
    dataset = open_dataset(tmp_path / "out")
    assert dataset.visible(0) == {1: (1,)}
    assert dataset.spec["masks"] == str(tmp_path / "masks")


def test_coco(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "images").mkdir()
    names = ("one.jpg", "none.jpg")
    for name in names:
        Image.fromarray(np.full((20, 30, 3), 80, np.uint8)).save(tmp_path / "images" / name)
    corners = [3, 3, 9, 3, 9, 9, 3, 9]
    content = {
        "images": [{"id": n, "file_name": name, "height": 20, "width": 30} for n, name in enumerate(names)],
        "annotations": [{"id": 1, "image_id": 0, "category_id": 4, "iscrowd": 0, "segmentation": [corners]}],
        "categories": [{"id": 4, "name": "box"}],
    }
    (tmp_path / "instances.json").write_text(json.dumps(content))
    files = ("--root", tmp_path / "images", "--annotations", tmp_path / "instances.json")
    assert _here(monkeypatch, "--layout", "coco", *files, "--out", tmp_path / "out") == 0
    assert "1 of 2 images have no object and are left out" in capsys.readouterr().out
    dataset = open_dataset(tmp_path / "out")
    assert (dataset.sequences[0].name, dataset.sequences[0].categories) == ("one", {1: "box"})
    assert dataset.areas(0) == {1: (36,)}
    assert dataset.spec["annotations"] == str(tmp_path / "instances.json")
