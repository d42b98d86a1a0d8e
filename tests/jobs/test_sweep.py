"""The command's refusals: exit code 2 and one line that names the flag, before any work."""

from collections.abc import Callable
from pathlib import Path

import pytest

REFUSALS = {
    "--data TMP/missing": "TMP/missing: no such folder; encode a dataset with jobs/encode_dataset.py",
    "--checkpoint TMP/missing": "TMP/missing: no such checkpoint",
    "--preset figure3 --data ": "--data: name an encoded dataset",
    "--preset paper": "--preset paper: no such preset; choose one of demo, figure3, schedule",
    "-T 5 5": "T: needs different values, got (5, 5)",
    "--transforms -1": "transforms: must be at least 0, got -1",
    "--online-interval 1 --online-frames 3": "an interval of 1 frames does not hold 3",
    "--rungs 1 5": "rungs: needs rising numbers of at least 2, got (1, 5)",
    "--target-fps 2 --target-score 80": "target_score: give it or target_fps, not both",
    "--target-score 800": "target_score: must be above 0 and at most 100, got 800.0",
    "--frames 2": "frames: must be at least 3, or 0 for all, got 2",
    "--seed -1": "seed: must be at least 0, got -1",
    "--threads-per-task 0": "threads_per_task: must be at least 1, got 0",
    "--gpus-per-task 1.5": "gpus_per_task: must be a share of one, or a whole number, got 1.5",
    "--samples 0": "samples: must be at least 1, got 0",
    "--sequences bear": "has no such sequence; it has train-00000",
    "--out TMP": "TMP: exists and is no run's folder; give another --out",
}


@pytest.mark.parametrize("arguments", REFUSALS)
def test_bad_input_is_one_line(refused: Callable[..., str], encoded: Path, tmp_path: Path, arguments: str) -> None:
    (tmp_path / "a file").touch()
    given = arguments.replace("TMP", str(tmp_path)).split(" ")
    line = refused("sweep", "--data", encoded, "--out", tmp_path / "out", *given)
    assert REFUSALS[arguments].replace("TMP", str(tmp_path)) in line
    assert not (tmp_path / "out").exists()
