"""Checkpoints of a run: what a kill may leave behind does no harm."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from cluster.training import checkpoints
from cluster.training.config import MetaTraining
from eosvos.learning.optimization import Optimization, load
from eosvos.learning.outer_loop import GradientSum, Learned
from eosvos.learning.rates import initial_rates
from eosvos.model.weights import initial_model

CPU = torch.device("cpu")


@pytest.fixture
def learned(training: MetaTraining) -> tuple[Optimization, Learned]:
    model, _ = initial_model(training.model, "none", 0)
    optimization = Optimization(training.model, model.state_dict(), initial_rates(model, training.rates), {"T": 2})
    return optimization, checkpoints.learned_state(optimization, training.outer)


def _step(learned: Learned, seed: int) -> None:
    gradient = GradientSum(learned)
    gradient.buffer.normal_(generator=torch.Generator().manual_seed(seed))
    learned.step(gradient, seed)


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "checkpoints").iterdir())


def test_what_is_saved_comes_back(tmp_path: Path, learned: tuple[Optimization, Learned]) -> None:
    optimization, now = learned
    for seed in range(3):
        _step(now, seed)
    checkpoints.save(tmp_path, 3, optimization, now)
    loaded, tensors = checkpoints.load(tmp_path, 3, CPU)
    again = checkpoints.learned_state(loaded, now.config)
    again.load_optimizer_tensors(tensors)
    assert loaded.facts == {"T": 2, "step": 3}
    assert torch.equal(again.initialization, now.initialization)
    assert torch.equal(again.rates, now.rates)
    for either in (now, again):
        _step(either, 3)
    assert torch.equal(again.initialization, now.initialization)
    assert torch.equal(again.rates, now.rates)


def test_the_newest_two_are_kept_and_last_is_the_newest(tmp_path: Path, learned: tuple[Optimization, Learned]) -> None:
    for step in (0, 5, 10, 15):
        checkpoints.save(tmp_path, step, *learned)
    assert _names(tmp_path) == [
        "step-000010.optimizer.safetensors",
        "step-000010.safetensors",
        "step-000015.optimizer.safetensors",
        "step-000015.safetensors",
    ]
    assert checkpoints.latest(tmp_path) == 15
    assert load(tmp_path / checkpoints.LAST).facts["step"] == 15
    assert checkpoints.facts(tmp_path, 10)["step"] == 10


def test_nothing_is_no_checkpoint(tmp_path: Path) -> None:
    assert checkpoints.latest(tmp_path) is None
    assert checkpoints.latest(tmp_path / "missing") is None


@pytest.mark.parametrize(
    "left_behind",
    [
        [".step-000009.optimizer.safetensors.123"],  # killed while the optimizer's state was being written
        ["step-000009.optimizer.safetensors"],  # killed before the Optimization
        ["step-000009.optimizer.safetensors", ".step-000009.safetensors.123"],  # killed while it was being written
        ["step-000009.safetensors"],  # somebody removed the optimizer's state
    ],
)
def test_half_a_checkpoint_is_none(
    tmp_path: Path, learned: tuple[Optimization, Learned], left_behind: list[str]
) -> None:
    checkpoints.save(tmp_path, 5, *learned)
    for name in left_behind:
        (tmp_path / "checkpoints" / name).write_bytes(b"half of it")
    assert checkpoints.latest(tmp_path) == 5
    optimization, _ = checkpoints.load(tmp_path, 5, CPU)
    checkpoints.save(tmp_path, 9, replace(optimization, facts={}), learned[1])
    assert checkpoints.latest(tmp_path) == 9
    assert checkpoints.load(tmp_path, 9, CPU)[0].facts == {"step": 9}


def test_what_kills_left_behind_is_removed_in_time(tmp_path: Path, learned: tuple[Optimization, Learned]) -> None:
    checkpoints.save(tmp_path, 1, *learned)
    (tmp_path / "checkpoints" / "step-000001.safetensors").unlink()  # killed between the removal of the two files
    (tmp_path / "checkpoints" / ".step-000002.safetensors.123").write_bytes(b"half of it")
    for step in (2, 3, 4):
        checkpoints.save(tmp_path, step, *learned)
    assert _names(tmp_path) == [f"step-00000{step}{kind}.safetensors" for step in (3, 4) for kind in (".optimizer", "")]


def test_the_best_checkpoint_counts_where_there_is_one(tmp_path: Path) -> None:
    last, best = tmp_path / checkpoints.LAST, tmp_path / checkpoints.BEST
    assert checkpoints.counted(last) == last
    best.touch()
    assert checkpoints.counted(last) == best
