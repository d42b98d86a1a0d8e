"""What would run, said without running it."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from cluster.training import checkpoints, dry_run
from cluster.training.config import MetaTraining, ParentTraining
from cluster.training.dry_run import what_would_run
from cluster.training.presets import META
from eosvos.errors import BadInput
from eosvos.learning import learner
from eosvos.learning.optimization import Optimization
from eosvos.learning.rates import initial_rates
from eosvos.model.weights import initial_model

NOWHERE = Path("no such run")


def _number(pattern: str, text: str) -> float:
    found = re.search(pattern, text)
    assert found, text
    return float(found[1].replace(",", ""))


def test_meta_training(training: MetaTraining, tmp_path: Path) -> None:
    config = replace(training, workers=2, held_out=0.5)
    text = what_would_run(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()
    model, _ = initial_model(training.model, "none", 0)
    assert f"{sum(value.numel() for value in model.parameters()):,} parameters, frames 64x64" in text
    assert f"learning rates: {initial_rates(model, training.rates).count:,} (neuron, log)" in text
    assert re.search(r"2 sequences with 6 objects to learn from\nheld out: 2: train-0000\d, train-0000\d", text)
    assert "2 outer steps of 4 tasks, 2 for each of 2 worker(s)" in text
    assert 0.2 < _number(r"memory: ([\d.]+) GB per worker", text) < 8


def test_time_is_that_of_the_steps_that_are_left(
    training: MetaTraining, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dry_run, "_measured", lambda *_: (2.0, 1.5))
    outer = replace(training.outer, steps=36_000)
    config = replace(training, outer=outer, workers=2, threads_per_worker=3)
    model, _ = initial_model(training.model, "none", 0)
    start = Optimization(training.model, model.state_dict(), initial_rates(model, training.rates))
    checkpoints.save(tmp_path, 18_000, start, checkpoints.learned_state(start, outer))
    text = what_would_run(config, tmp_path)
    assert "one task: 2.00 s on this CPU, 3 thread(s)\nmemory: 1.5 GB" in text
    assert "done: 18,000 outer steps" in text
    assert "time: about 20.0 hours on workers like this machine, 120.0 core hours in all" in text


def test_what_is_measured_is_a_task_of_the_training(training: MetaTraining, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[Any, ...]] = []
    monkeypatch.setattr(learner, "meta_gradient", lambda *arguments: seen.append(arguments))
    plan = replace(training.plan, train_frames=2, test_frames=3)
    what_would_run(replace(training, plan=plan, order="second", T=4), NOWHERE)
    assert len(seen) == 2
    _, learned, train, test, weights, _, order = seen[0]
    assert (learned.form, order, weights) == ("log", "second", (0, 0, 0, 0, 1))
    assert [len(batch.targets) for batch in (train, test)] == [2, 3]


def test_steps_from_a_range_are_measured_in_their_middle(
    training: MetaTraining, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[Any, ...]] = []
    monkeypatch.setattr(learner, "meta_gradient", lambda *arguments: seen.append(arguments))
    what_would_run(replace(training, min_T=2, T=6), NOWHERE)
    assert seen[0][4] == (0, 0, 0, 0, 1)


def test_parent_without_data(training: MetaTraining) -> None:
    plain = ParentTraining(model=training.model, outer=replace(training.outer, steps=10))
    text = what_would_run(plain, NOWHERE)
    assert "data: none named" in text
    assert "learning rates" not in text
    assert "10 outer steps of 4 tasks, 4 for each of 1 worker(s)" in text


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_a_gpu_that_is_not_there(training: MetaTraining) -> None:
    with pytest.raises(BadInput, match="--gpu: this machine has no GPU"):
        what_would_run(replace(training, gpu=True), NOWHERE)


def test_the_papers_preset_is_the_releases() -> None:
    paper = META["paper"]
    assert (paper.T, paper.outer.meta_batch, paper.outer.learning_rate, paper.outer.rates_learning_rate) == (
        5,
        4,
        1e-5,
        1e-5,
    )
    assert (paper.rates.rate_level, paper.rates.rate_form, paper.rates.initial_rate, paper.rates.rate_spread) == (
        "neuron",
        "linear",
        1e-3,
        0.5,
    )
    assert (paper.model.backbone, paper.model.normalization, paper.backbone_weights) == ("resnet50", "group", "coco")
    assert (paper.outer.betas, paper.outer.weight_decay) == ((0.9, 0.999), 1e-3)
    assert (paper.outer.clip_norm, paper.outer.rates_clip_norm) == (float("inf"), float("inf"))
    assert (paper.plan.frames, paper.plan.paste, paper.model.soft_mask_targets) == ("two", 0, True)
    assert [paper.outer.factor(step) for step in (0, paper.outer.steps - 1)] == [1, 1]


def test_steps_with_and_without_the_multi_step_loss_are_measured_by_their_shares(
    training: MetaTraining, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights: list[tuple[float, ...]] = []
    monkeypatch.setattr(learner, "meta_gradient", lambda *arguments: weights.append(arguments[4]))
    monkeypatch.setattr(
        dry_run, "seconds_of", lambda task, _: task() or (10.0 if sum(map(bool, weights[-1])) > 1 else 2.0)
    )
    multi = replace(training, multi_step=0.25, T=3, outer=replace(training.outer, steps=8))
    assert "one task: 4.00 s" in what_would_run(multi, NOWHERE)
    assert weights == [(0, 0, 0, 1), pytest.approx((0, 1 / 3, 1 / 3, 1 / 3))]
