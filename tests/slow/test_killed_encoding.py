"""The command is killed in the midst: given again it ends with the same files as one that nothing has disturbed."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from eosvos.data.parquet import open_dataset
from eosvos.data.parquet.verifying import verify

pytestmark = pytest.mark.slow
JOB = Path(__file__).parents[2] / "jobs" / "encode_dataset.py"


def _start(out: Path, sequences: int = 320) -> subprocess.Popen[str]:
    command = [sys.executable, str(JOB), "--layout", "synthetic", "--split", "train", "--out", str(out)]
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    return subprocess.Popen(
        [*command, "--sequences", str(sequences)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )


def test_killed_and_given_again(tmp_path: Path) -> None:
    out, partial = tmp_path / "out", tmp_path / "out.partial"
    first = _start(out)
    deadline = time.monotonic() + 200
    while not list(partial.glob("_part-*")):
        assert first.poll() is None, first.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    other = _start(out)
    assert "another process encodes there" in other.communicate()[1]
    assert other.returncode == 2
    first.send_signal(signal.SIGKILL)
    first.communicate()
    assert not out.exists()
    kept = {path.name: path.stat().st_mtime_ns for path in partial.glob("_part-*")}
    assert 1 <= len(kept) < 16
    another = _start(out, 300)
    assert "differs in" in another.communicate()[1]
    assert another.returncode == 2
    again = _start(out)
    assert again.communicate()[1] == ""
    assert again.returncode == 0
    undisturbed = _start(tmp_path / "whole")
    assert undisturbed.communicate()[1] == ""
    names = sorted(path.name for path in out.iterdir())
    assert names == sorted(path.name for path in (tmp_path / "whole").iterdir())
    for name in names:
        assert (out / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert len(open_dataset(out).sequences) == 320
    assert verify(out) == []
