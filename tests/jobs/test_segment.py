"""The command as a person runs it: a video and a mask in, a folder out, without Ray; and what it refuses."""

import json
import subprocess
import sys
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from textwrap import dedent

import av
import numpy as np
import pytest
from PIL import Image

import eosvos
from cluster.training.config import MetaTraining
from eosvos.data.palette import encode_mask
from eosvos.data.readers.clip import open_clip
from eosvos.data.readers.synthetic import SyntheticSettings, synthetic
from eosvos.learning.config import RatesConfig
from eosvos.learning.optimization import Optimization, save
from eosvos.learning.rates import initial_rates
from eosvos.model.weights import initial_model

JOB = Path(__file__).parents[2] / "jobs" / "segment.py"


@pytest.fixture(scope="module")
def folder(training: MetaTraining, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``clip.mp4``, ``frames/``, ``mask.png``, ``meta.safetensors``, ``parent.safetensors``, and what is wrong."""
    folder = tmp_path_factory.mktemp("segment")
    model, _ = initial_model(training.model, "none", 0)
    parent = Optimization(training.model, model.state_dict(), None)
    save(parent, folder / "parent.safetensors")
    meta = Optimization(training.model, model.state_dict(), initial_rates(model, RatesConfig(initial_rate=0.01)))
    save(meta, folder / "meta.safetensors")
    (sequence,) = synthetic("train", 1, SyntheticSettings(size=64, frames=6))
    (folder / "frames").mkdir()
    with av.open(str(folder / "clip.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=Fraction(10))
        stream.width = stream.height = 64
        for position in range(6):
            pixels = np.ascontiguousarray(sequence.frame(position)[0].permute(1, 2, 0).numpy())
            Image.fromarray(pixels).save(folder / "frames" / f"{position}.png")
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())
    mask = sequence.mask(0)
    assert mask is not None
    (folder / "mask.png").write_bytes(encode_mask(mask))
    (folder / "nothing.png").write_bytes(encode_mask(mask * 0))
    (folder / "small.png").write_bytes(encode_mask(mask[:32].contiguous()))
    many = Image.fromarray(np.arange(64 * 64, dtype=np.uint16).reshape(64, 64))
    many.save(folder / "many.png")
    (folder / "text.mp4").write_text("no video")
    (folder / "result").mkdir()
    (folder / "result" / "segmentation.json").write_text("{}")
    return folder


def _run(*arguments: object) -> str:
    """What it prints; nothing of the extra [cluster] is imported on the way."""
    command = [sys.executable, "-X", "importtime", str(JOB), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    imported = {line.rpartition("|")[2].strip().partition(".")[0] for line in done.stderr.splitlines()}
    assert "torch" in imported
    assert not imported & {"ray", "mlflow", "optuna", "matplotlib"}
    return done.stdout


def test_a_video_and_a_mask(folder: Path, tmp_path: Path) -> None:
    """Then again over it, from the frames, and with other settings."""
    out = tmp_path / "out"
    printed = _run("--video", folder / "clip.mp4", "--mask", folder / "mask.png", "--out", out, "-T", 2)
    assert "checkpoint: real-small of this package; for research and evaluation, not for commercial use" in printed
    assert "64x64, 6 frames; objects: 1, 2, 3" in printed
    assert "fine-tuning object 3" in printed
    assert f"result: {out}" in printed
    assert open_clip(out / "overlay.mp4").count == 6
    assert sorted(path.name for path in (out / "masks").iterdir()) == [f"{k:05d}.png" for k in range(6)]
    first = json.loads((out / "segmentation.json").read_text())
    assert first["device"] in ("cpu", "cuda", "mps")
    assert (first["quality"], first["config"]["T"], first["objects"]["1"]["steps"]) == ("fast", 2, 2)
    assert len(first["frames"]) == 6
    best = ["--quality", "best", "-T", 1, "--online-steps", 1, "--time-budget", 1000, "--overwrite"]
    own = ["--checkpoint", folder / "meta.safetensors"]
    printed = _run("--video", folder / "frames", "--mask", folder / "mask.png", "--out", out, *own, *best)
    assert "checkpoint:" not in printed
    second = json.loads((out / "segmentation.json").read_text())
    assert second["config"]["segmentation"]["online_interval"] == 5
    assert (second["config"]["T"], second["objects"]["1"]["steps"]) == (1, 1)
    assert sorted(path.name for path in (out / "masks").iterdir()) == [f"{k}.png" for k in range(6)]
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


REFUSALS = {
    "--video TMP/missing.mp4": "TMP/missing.mp4: no such video",
    "--video TMP/text.mp4": "TMP/text.mp4: not a readable video",
    "--video s3://bucket/clip.mp4": "a URI cannot be used here",
    "--mask TMP/missing.png": "TMP/missing.png: no such mask",
    "--mask TMP/small.png": "TMP/small.png: the mask has 64x32 pixels, TMP/clip.mp4 has 64x64",
    "--mask TMP/nothing.png": "TMP/nothing.png: a mask with no object",
    "--mask TMP/many.png": "TMP/many.png: holds the value 4095; there can be at most 255 objects",
    "--checkpoint TMP/parent.safetensors": "a parent has no learning rates of its own; give one with --learning-rate",
    "--checkpoint TMP/mask.png": "TMP/mask.png: not a checkpoint of ours",
    "--out TMP": "TMP/clip.mp4: is in TMP, which the result goes to",
    "--out TMP/frames": "TMP/frames: exists and holds other files than a result of ours",
    "--out TMP/result": "TMP/result: holds the result of another run; give another --out, or --overwrite",
    "--quality worst": "--quality worst: no such preset; choose one of fast, balanced, best",
    "--time-budget 0": "time_budget: must be above 0, got 0.0",
    "--online-interval 1": "online_frames: an interval of 1 frames does not hold 2",
    "--device cuda": "--device cuda: this machine has none; choose one of auto, cpu",
    "--device tpu": "--device",
    "-T -1": "T: must be at least 0, got -1",
}


@pytest.mark.parametrize("arguments", REFUSALS)
def test_bad_input_is_one_line(
    refused: Callable[..., str], folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: str
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: False)
    given = {"--video": folder / "clip.mp4", "--mask": folder / "mask.png", "--out": tmp_path / "out"}
    given |= {"--checkpoint": folder / "meta.safetensors"}
    flag, value = arguments.replace("TMP", str(folder)).split(" ")
    line = refused("segment", *(part for pair in (given | {flag: value}).items() for part in pair))
    assert REFUSALS[arguments].replace("TMP", str(folder)) in line
    assert not list(tmp_path.iterdir())


README = (JOB.parents[1] / "README.md").read_text().split("```python\n")[1].split("```")[0]
DOCSTRING = dedent((eosvos.__doc__ or "").split("::\n")[1].split("\n\nThese")[0])


@pytest.mark.parametrize("example", [README, DOCSTRING], ids=["README", "docstring"])
def test_the_example(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], example: str
) -> None:
    """As it is printed there, in a folder with a clip and a mask of these names."""
    (tmp_path / "clip.mp4").symlink_to(folder / "clip.mp4")
    (tmp_path / "first.png").symlink_to(folder / "mask.png")
    monkeypatch.chdir(tmp_path)
    exec(example, {})
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 6
    assert lines[0] == "[0, 1, 2, 3] {}"


def test_fine_tuning_that_diverges_is_one_line(refused: Callable[..., str], folder: Path, tmp_path: Path) -> None:
    line = refused(
        "segment",
        *("--video", folder / "clip.mp4", "--mask", folder / "mask.png", "--out", tmp_path / "out"),
        *("--checkpoint", folder / "meta.safetensors", "--rate-scale", "1e30"),
    )
    assert line.startswith("object 1: fine-tuning on frame 0 diverged within 10 steps")
    assert "--rate-scale" in line


def test_video_and_mask_are_needed(refused: Callable[..., str]) -> None:
    assert refused("segment") == "--video, --mask: missing, but needed; --help lists all flags"
    assert refused("segment", "--video", "a.mp4").startswith("--mask: missing")
