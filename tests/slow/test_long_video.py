"""A long video takes no more memory than a short one: peak of fresh processes, the real command."""

import os
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from eosvos.data.palette import encode_mask
from eosvos.data.readers.synthetic import SyntheticSettings, synthetic
from eosvos.learning.config import RatesConfig
from eosvos.learning.optimization import Optimization, save
from eosvos.learning.rates import initial_rates
from eosvos.model.config import TINY
from eosvos.model.weights import initial_model

pytestmark = pytest.mark.slow

SIZE = tuple(map(int, os.environ.get("LONG_VIDEO_SIZE", "240x426").split("x")))
FRAMES = tuple(map(int, os.environ.get("LONG_VIDEO_FRAMES", "60,600").split(",")))
"""benchmarks/2026-11-speed.md has what 480x854 and 200,2000 gave, which takes ten minutes."""
JOB = Path(__file__).parents[2] / "jobs" / "segment.py"


def _looped(path: Path, frames: int) -> None:
    """A short synthetic video again and again."""
    (sequence,) = synthetic("train", 1, SyntheticSettings(size=SIZE[1], frames=4))
    pictures = [sequence.frame(k)[0][:, : SIZE[0]].permute(1, 2, 0).numpy() for k in range(4)]
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=Fraction(24), options={"preset": "ultrafast"})
        stream.height, stream.width = SIZE
        for k in range(frames):
            picture = np.ascontiguousarray(pictures[k % 4])
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())


def _peak(folder: Path, frames: int) -> int:
    """Bytes of the whole command's process at its largest."""
    _looped(folder / f"{frames}.mp4", frames)
    command = [sys.executable, str(JOB), "--video", str(folder / f"{frames}.mp4"), "--mask", str(folder / "mask.png")]
    command += ["--checkpoint", str(folder / "c.safetensors"), "-T", "1", "--out", str(folder / f"out-{frames}")]
    process = subprocess.Popen([*command, "--threads", "1"], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = status
    assert status == 0
    assert len(list((folder / f"out-{frames}" / "masks").iterdir())) == frames
    return usage.ru_maxrss * 1024


def test_memory_does_not_grow_with_the_video(tmp_path: Path) -> None:
    model, _ = initial_model(TINY, "none", 0)
    rates = initial_rates(model, RatesConfig(initial_rate=0.01))
    save(Optimization(TINY, model.state_dict(), rates), tmp_path / "c.safetensors")
    mask = np.zeros(SIZE, dtype=np.uint8)
    mask[SIZE[0] // 4 : SIZE[0] // 2, SIZE[1] // 4 : SIZE[1] // 2] = 1
    (tmp_path / "mask.png").write_bytes(encode_mask(mask))
    short, long = (_peak(tmp_path, frames) for frames in FRAMES)
    print(f"peak {short / 2**20:.0f} MiB at {FRAMES[0]} frames, {long / 2**20:.0f} MiB at {FRAMES[1]}")
    assert long <= 1.1 * short
