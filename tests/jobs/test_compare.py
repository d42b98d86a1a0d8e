"""The command's refusals: exit code 2 and one line that names the flag, before any work."""

from collections.abc import Callable
from pathlib import Path

import pytest

REFUSALS = {
    "--train-data ": "--train-data: name an encoded dataset",
    "--data ": "--data: name an encoded dataset",
    "--data TMP/missing": "TMP/missing: no such folder; encode a dataset with jobs/encode_dataset.py",
    "--train-data TMP/missing": "TMP/missing: no such folder; encode a dataset with jobs/encode_dataset.py",
    "--seeds 1 1": "seeds: needs different values of at least 0, got (1, 1)",
    "--seeds -1": "seeds: needs different values of at least 0, got (-1,)",
    "-T 0": "T: needs a value above 0, got (0,)",
    "--rates 0": "rates: needs different values above 0, got (0.0,)",
    "--preset mine": "--preset mine: no such preset; choose one of davis2016-small, real-small, demo",
    "--backbone-weights TMP/missing": "TMP/missing: no such file",
}


@pytest.mark.parametrize("arguments", REFUSALS)
def test_bad_input_is_one_line(refused: Callable[..., str], encoded: Path, tmp_path: Path, arguments: str) -> None:
    given = arguments.replace("TMP", str(tmp_path)).split(" ")
    good = ["--train-data", encoded, "--data", encoded, "--out", tmp_path / "out"]
    assert REFUSALS[arguments].replace("TMP", str(tmp_path)) in refused("compare", *good, *given)
    assert not (tmp_path / "out").exists()
