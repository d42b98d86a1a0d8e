"""What would run, said without running it."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from cluster import checkpoints
from cluster.config import MetaTraining, Training
from cluster.dry_run import what_would_run
from cluster.presets import META
from eosvos.errors import BadInput
from eosvos.learning.optimization import Optimization
from eosvos.learning.rates import initial_rates
from eosvos.model.weights import initial_model


def _number(pattern: str, text: str) -> float:
    found = re.search(pattern, text)
    assert found, text
    return float(found[1].replace(",", ""))


def test_meta_training(training: MetaTraining, tmp_path: Path) -> None:
    config = replace(training, out=tmp_path / "run", workers=2, held_out=0.5)
    text = what_would_run(config)
    assert not config.out.exists()  # type: ignore[union-attr]
    model, _ = initial_model(training.model, "none", 0)
    assert f"{sum(value.numel() for value in model.parameters()):,} parameters, frames 64x64" in text
    assert f"learning rates: {initial_rates(model, training.rates).count:,} (neuron, log)" in text
    assert re.search(r"2 sequences with 6 objects to learn from, 2 held out: train-0000\d, train-0000\d", text)
    steps, batch = training.outer.steps, training.outer.meta_batch
    assert f"{steps} outer steps of {batch} tasks of {training.T} inner steps, {batch // 2} for each of 2" in text
    assert 0.2 < _number(r"; ([\d.]+) GB per worker", text) < 8


def test_time_is_that_of_the_steps_that_are_left(training: MetaTraining, tmp_path: Path) -> None:
    outer = replace(training.outer, steps=36_000)
    config = replace(training, out=tmp_path, outer=outer, workers=2)
    model, _ = initial_model(training.model, "none", 0)
    start = Optimization(training.model, model.state_dict(), initial_rates(model, training.rates))
    checkpoints.save(tmp_path, 18_000, start, checkpoints.learned_state(start, outer))
    text = what_would_run(config)
    assert "done: 18,000 outer steps" in text
    step = _number(r"one inner step: ([\d.]+) s", text)
    hours = _number(r"([\d.,]+) core hours", text)
    expected = 18_000 * 4 * (training.T + 1 + 1 / 3) / 3600
    assert expected * (step - 0.006) - 0.1 <= hours <= expected * (step + 0.006) + 0.1  # the step is printed in 10 ms


def test_parent_without_data(training: MetaTraining) -> None:
    plain = Training(model=training.model, outer=replace(training.outer, steps=10))
    text = what_would_run(plain)
    assert "data: none named" in text
    assert "learning rates" not in text
    assert "10 outer steps of 4 tasks of two frames, 4 for each of 1 worker(s)" in text


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_a_gpu_that_is_not_there(training: MetaTraining) -> None:
    with pytest.raises(BadInput, match="--gpu True: this machine has no GPU"):
        what_would_run(replace(training, gpu=True))


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
    assert [paper.outer.factor(step) for step in (0, paper.outer.steps - 1)] == [1, 1]
