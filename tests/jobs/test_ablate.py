"""The command's refusals: exit code 2 and one line that names the flag, before any work."""

from collections.abc import Callable
from pathlib import Path

import pytest

REFUSALS = {
    "--data ": "--data: name an encoded dataset",
    "--train-data TMP/missing": "TMP/missing: no such folder; encode a dataset with jobs/encode_dataset.py",
    "-T 0 --more-T": "T, more_T: needs different values above 0, got (0,)",
    "-T 5 --more-T 5": "T, more_T: needs different values above 0, got (5, 5)",
    "--rates 0": "rates: needs different values above 0, got (0.0,)",
    "--preset paper": "--preset paper: no such preset; choose one of demo, davis2016-small",
}


@pytest.mark.parametrize("arguments", REFUSALS)
def test_bad_input_is_one_line(refused: Callable[..., str], encoded: Path, tmp_path: Path, arguments: str) -> None:
    given = arguments.replace("TMP", str(tmp_path)).split(" ")
    good = ["--train-data", encoded, "--data", encoded, "--out", tmp_path / "out"]
    assert REFUSALS[arguments].replace("TMP", str(tmp_path)) in refused("ablate", *good, *given)
    assert not (tmp_path / "out").exists()
