"""What goes wrong inside workers of a real training: tasks that are not finite, data that cannot be read."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from cluster.training.config import MetaTraining
from cluster.training.driver import train
from eosvos.config import to_dict
from eosvos.data.mixture import open_mixture
from eosvos.data.tasks import plan
from eosvos.learning.config import RatesConfig
from eosvos.learning.optimization import load

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("ray_here")]


def test_every_task_of_both_workers_dropped(
    training: MetaTraining, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Learning rates of 1e38 give losses that are not finite."""
    one_step = replace(training.outer, steps=1)
    rates = RatesConfig(initial_rate=1e38)
    folder = train(replace(training, workers=2, rates=rates, outer=one_step), tmp_path / "run").parent
    (line,) = (folder / "progress.jsonl").read_text().splitlines()
    row = json.loads(line)
    assert (row["step"], row["kept"], "loss_at_T" in row) == (1, 0, False)
    printed = caplog.text
    assert "step 1/1  skipped, as every task was dropped" in printed
    for task in plan(open_mixture(training.data).sources(training.plan), training.plan, training.seed, 4, 0, 1):
        sequence, object_id, (train_frame, test_frame) = task.target
        name = f"train-{sequence:05d} object {object_id} frames {train_frame}, {test_frame}"
        assert f"step 1: dropped a task whose loss is not finite: {name}" in printed
    assert printed.count("dropped a task") == 4
    before, after = (load(folder / "checkpoints" / f"step-{step:06d}.safetensors") for step in (0, 1))
    assert before.rates is not None
    assert after.rates is not None
    for old, new in ((before.initialization, after.initialization), (before.rates.learned, after.rates.learned)):
        assert all(torch.equal(value, new[name]) for name, value in old.items())


def test_a_data_file_that_a_worker_cannot_read_ends_the_job_with_one_line(
    refused: Callable[..., str], training: MetaTraining, tmp_path: Path
) -> None:
    broken = tmp_path / "broken"
    broken.mkdir()
    for path in Path(training.data[0]).iterdir():
        content = path.read_bytes()
        (broken / path.name).write_bytes(content if path.name.startswith("_") else b"\0" * len(content))
    (tmp_path / "config.json").write_text(json.dumps(to_dict(replace(training, data=(str(broken),)))))
    line = refused("meta_train", "--config", tmp_path / "config.json", "--out", tmp_path / "run")
    assert line.startswith(f"{broken}/data-00000.parquet, sequence train-0000")
    assert "cannot be read" in line
    assert not (tmp_path / "run" / ".ray_train").exists()
