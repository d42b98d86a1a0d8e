"""The command's refusals: exit code 2 and one line that names the file or the flag, before any work."""

from collections.abc import Callable
from pathlib import Path

import pytest

from cluster.training.config import MetaTraining
from eosvos.learning.optimization import Optimization, save
from eosvos.learning.rates import initial_rates
from eosvos.model.weights import initial_model

Refused = Callable[..., str]


@pytest.fixture
def checkpoint(training: MetaTraining, tmp_path: Path) -> Path:
    """A good one."""
    model, _ = initial_model(training.model, "none", 0)
    save(
        Optimization(training.model, model.state_dict(), initial_rates(model, training.rates)),
        tmp_path / "c.safetensors",
    )
    return tmp_path / "c.safetensors"


REFUSALS = {
    "--checkpoint TMP/missing": "TMP/missing: no such checkpoint",
    "--checkpoint ENCODED/_index.parquet": "ENCODED/_index.parquet: not a checkpoint of ours",
    "--data TMP/missing": "TMP/missing: no such folder; encode a dataset with jobs/encode_dataset.py",
    "--data TMP": "TMP/_index.parquet: missing, so the folder is no encoded dataset",
    "-T 5 5": "T: needs different values of at least 0, got (5, 5)",
    "-T -1": "T: needs different values of at least 0, got (-1,)",
    "--learning-rate 0": "learning_rate: needs different values above 0, got (0.0,)",
    "--threads-per-task 0": "threads_per_task: must be at least 1, got 0",
    "--out TMP": "TMP: exists and is no run's folder; give another --out",
}


@pytest.mark.parametrize("arguments", REFUSALS)
def test_bad_input_is_one_line(
    refused: Refused, checkpoint: Path, encoded: Path, tmp_path: Path, arguments: str
) -> None:
    def filled(text: str) -> str:
        return text.replace("TMP", str(tmp_path)).replace("ENCODED", str(encoded))

    good = ["--checkpoint", checkpoint, "--data", encoded, "--out", tmp_path / "out"]
    line = refused("evaluate", *good, *filled(arguments).split(" "))
    assert filled(REFUSALS[arguments]) in line
    assert not (tmp_path / "out").exists()
