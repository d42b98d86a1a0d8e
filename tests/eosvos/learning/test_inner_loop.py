"""Fine-tuning against torch's own SGD; draws that depend on the step alone."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from eosvos.draws import generator
from eosvos.learning.config import RatesConfig
from eosvos.learning.inner_loop import fine_tune, gradient, load_parameters
from eosvos.learning.rates import initial_rates
from eosvos.model.config import ModelConfig
from eosvos.model.mask_rcnn import Batch, MaskRCNN
from eosvos.model.weights import initial_model

SEED = (0, 2)


@pytest.fixture
def case(micro: ModelConfig, scene: Callable[..., Any]) -> tuple[MaskRCNN, Batch, list[Tensor]]:
    model, _ = initial_model(micro, "none", seed=0)
    image, mask = scene(0)
    return (
        model,
        model.batch([image], [mask]),
        list(initial_rates(model, RatesConfig(rate_form="linear", initial_rate=0.02)).learned.values()),
    )


def _parameters(model: MaskRCNN) -> list[Tensor]:
    return [parameter.detach().clone() for parameter in model.parameters()]


def _equal(a: list[Tensor], b: list[Tensor]) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def test_steps_are_torchs_sgd(case: tuple[MaskRCNN, Batch, list[Tensor]], micro: ModelConfig) -> None:
    model, batch, rates = case
    rates = [rate * (1 + index % 5) for index, rate in enumerate(rates)]  # constant within a parameter
    reference = initial_model(micro, "none", seed=0)[0]
    groups = [
        {"params": [parameter], "lr": rate.flatten()[0].item()}
        for parameter, rate in zip(reference.parameters(), rates, strict=True)
    ]
    optimizer, expected, total = torch.optim.SGD(groups), [], [torch.zeros_like(p) for p in model.parameters()]
    sums = [torch.zeros_like(p) for p in model.parameters()]
    for step in range(3):
        optimizer.zero_grad()
        loss = reference.loss(batch, generator(*SEED, step))
        loss.backward()
        expected.append(loss.item())
        sums = [a + parameter.grad for a, parameter in zip(sums, reference.parameters(), strict=True)]
        optimizer.step()
    losses = fine_tune(model, batch, rates, range(3), SEED, total)
    assert losses == pytest.approx(expected, rel=1e-6)
    for a, b in zip((*model.parameters(), *total), (*reference.parameters(), *sums), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-7)


def test_fine_tuning_lowers_the_loss(case: tuple[MaskRCNN, Batch, list[Tensor]]) -> None:
    model, batch, rates = case
    before = model.loss(batch, generator(9)).item()
    fine_tune(model, batch, rates, range(20), SEED)
    assert model.loss(batch, generator(9)).item() < 0.9 * before


def test_each_neuron_moves_by_its_own_rate(case: tuple[MaskRCNN, Batch, list[Tensor]]) -> None:
    model, batch, rates = case
    draws = torch.Generator().manual_seed(0)
    rates = [torch.rand(rate.shape, generator=draws) for rate in rates]
    before = _parameters(model)
    _, gradients = gradient(model, batch, generator(*SEED, 0))
    fine_tune(model, batch, rates, range(1), SEED)
    for old, new, g, rate in zip(before, model.parameters(), gradients, rates, strict=True):
        torch.testing.assert_close(new.detach(), old - rate.expand_as(old) * g)


def test_steps_do_not_depend_on_how_many_follow(case: tuple[MaskRCNN, Batch, list[Tensor]]) -> None:
    model, batch, rates = case
    start = _parameters(model)
    at_once = fine_tune(model, batch, rates, range(6), SEED)
    expected = _parameters(model)
    load_parameters(model, start)
    torch.manual_seed(5)  # and not on the global generator
    in_parts = fine_tune(model, batch, rates, range(3), SEED) + fine_tune(model, batch, rates, range(3, 6), SEED)
    assert in_parts == at_once
    assert _equal(_parameters(model), expected)
    load_parameters(model, start)
    assert fine_tune(model, batch, rates, range(6), (*SEED[:-1], 3)) != at_once


def test_it_stops_at_a_loss_that_is_not_finite(case: tuple[MaskRCNN, Batch, list[Tensor]]) -> None:
    model, batch, rates = case
    total = [torch.zeros_like(parameter) for parameter in model.parameters()]
    losses = fine_tune(model, batch, [rate * torch.inf for rate in rates], range(9), SEED, total)
    assert len(losses) == 2
    assert losses[0] < float("inf")
    assert not losses[1] < float("inf")
    assert all(bool(part.isfinite().all()) for part in total)  # of the first step only


def test_generators_depend_on_all_ids() -> None:
    ids = [(0,), (1,), (0, 1), (1, 0, 2), (0, 1, 2), (0, 1, 2, 0, 1), (0, 1, 2, 1, 0), (2**40,)]
    drawn = [tuple(torch.randint(0, 2**62, (2,), generator=generator(*one)).tolist()) for one in ids]
    assert len(set(drawn)) == len(ids)
    assert drawn == [tuple(torch.randint(0, 2**62, (2,), generator=generator(*one)).tolist()) for one in ids]
