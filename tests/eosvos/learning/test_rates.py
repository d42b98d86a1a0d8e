"""Learning rates of every level, in both forms."""

from typing import Any

import pytest
import torch
from torch import nn

from eosvos.learning.config import RatesConfig
from eosvos.learning.rates import applied, gradient_of_values, initial_rates, level_counts
from eosvos.model.config import ModelConfig
from eosvos.model.mask_rcnn import MaskRCNN
from eosvos.model.normalization import to_group_norm

LEVELS: dict[str, int] = {"single": 1, "tensor": 4, "neuron": 5 + 5 + 2 + 2, "parameter": 5 * 3 * 4 + 5 + 5 * 2 * 4 + 2}
"""Number of rates of ``_layers``."""


def _layers() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(3, 5, 2), nn.ConvTranspose2d(5, 2, 2)).double()


@pytest.mark.parametrize("level", LEVELS)
def test_number_of_rates(level: Any) -> None:
    rates = initial_rates(_layers(), RatesConfig(rate_level=level))
    assert rates.count == LEVELS[level]
    assert str(rates) == f"{LEVELS[level]} ({level}, log)"


def test_number_of_rates_of_every_level() -> None:
    assert level_counts(_layers()) == LEVELS


def test_one_rate_per_neuron() -> None:
    layers = nn.ModuleDict(
        {
            "conv": nn.Conv2d(3, 5, (2, 4)),
            "linear": nn.Linear(3, 7),
            "norm": nn.GroupNorm(2, 6),
            "transposed": nn.ConvTranspose2d(3, 8, 2),
            "frozen": nn.BatchNorm2d(9),
        }
    )
    rates = initial_rates(layers, RatesConfig(initial_rate=0.1))
    assert {name: tuple(rate.shape) for name, rate in rates.learned.items()} == {
        "conv.weight": (5, 1, 1, 1),
        "conv.bias": (5,),
        "linear.weight": (7, 1),
        "linear.bias": (7,),
        "norm.weight": (6,),
        "norm.bias": (6,),
        "transposed.weight": (1, 8, 1, 1),
        "transposed.bias": (8,),
        "frozen.weight": (9,),
        "frozen.bias": (9,),
    }
    assert list(rates.learned) == [name for name, _ in layers.named_parameters()]


def test_number_of_rates_of_the_papers_model() -> None:
    with torch.device("meta"):
        model = MaskRCNN(ModelConfig())
        to_group_norm(model)
        rates = initial_rates(model, RatesConfig())
    assert len(rates.learned) == 201
    assert {rate.device.type for rate in rates.learned.values()} == {"meta"}  # where the parameters are
    assert rates.count == 90_998  # as in the authors' release


@pytest.mark.parametrize("form", ["log", "linear"])
def test_initial_rates_are_spread_about_the_configured_one(form: Any) -> None:
    config = RatesConfig(rate_level="parameter", rate_form=form, initial_rate=1e-3, rate_spread=0.5)
    one, same, other = (initial_rates(_layers(), config, seed).learned for seed in (1, 1, 2))
    rates = torch.cat([rate.flatten() for rate in applied(list(one.values()), form, 4)])
    assert 5e-4 <= float(rates.min()) < 6e-4
    assert 1.4e-3 < float(rates.max()) <= 1.5e-3
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not any(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("form", ["log", "linear"])
def test_gradient_is_that_of_automatic_differentiation(level: Any, form: Any) -> None:
    layers = _layers()
    config = RatesConfig(rate_level=level, rate_form=form, initial_rate=0.1, rate_spread=0.5)
    learned = [value.requires_grad_() for value in initial_rates(layers, config).learned.values()]
    start, steps = list(layers.parameters()), [torch.randn_like(value) for value in layers.parameters()]
    rates = applied(learned, form, len(start))
    moved = [value.detach() - rate * step for value, rate, step in zip(start, rates, steps, strict=True)]
    weights = [torch.randn_like(value) for value in moved]
    loss = torch.stack([(weight * value**3).sum() for weight, value in zip(weights, moved, strict=True)]).sum()
    expected = torch.autograd.grad(loss, learned)
    v = [3 * weight * value.detach() ** 2 for weight, value in zip(weights, moved, strict=True)]
    products = [-a * b for a, b in zip(v, steps, strict=True)]
    gradient = gradient_of_values([value.detach() for value in learned], form, products)
    assert [value.shape for value in gradient] == [value.shape for value in expected]
    for ours, theirs in zip(gradient, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("wrong", [{"initial_rate": 0.0}, {"initial_rate": float("nan")}, {"rate_spread": 1.0}])
def test_configurations_out_of_range_name_the_field(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=f"^{next(iter(wrong))}: must be"):
        RatesConfig(**wrong)  # type: ignore[arg-type]
