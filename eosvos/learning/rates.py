"""Learning rates: one for all, or one per tensor, neuron or parameter; as they are, or as logarithms."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import get_args

import torch
from torch import Tensor, nn

from eosvos.learning.config import Form, Level, RatesConfig

ALL = "all"
"""Name of the one rate of level ``single``."""


@dataclass(frozen=True)
class LearningRates:
    """Learning rates of a model.

    Attributes:
        learned: by the parameter's name and in the model's order the rates or their logarithms, broadcastable to the
            parameter; level ``single`` has one scalar under the name ``all``.
        level, form: as in ``RatesConfig``.
    """

    learned: dict[str, Tensor]
    level: Level
    form: Form

    @property
    def count(self) -> int:
        """How many learning rates there are."""
        return sum(value.numel() for value in self.learned.values())

    def __str__(self) -> str:
        return f"{self.count:,} ({self.level}, {self.form})"


def initial_rates(model: nn.Module, config: RatesConfig, seed: int = 0, like: Tensor | None = None) -> LearningRates:
    """Learning rates to start from, of the parameters' type and on their device.

    Level ``neuron``: a weight (O, I, kh, kw) gets (O, 1, 1, 1), a bias (O,) gets (O,); affine parameters of
    normalization count one neuron per channel.

    Args:
        model: whose trainable parameters get rates.
        config: level, form and initial values.
        seed: of the random factors.
        like: a tensor of the rates' type and device; the model's first parameter by default.
    """
    like = next(model.parameters()) if like is None else like
    draws = torch.Generator().manual_seed(seed)
    values: dict[str, Tensor] = {}
    for name, shape in _shapes(model, config.rate_level).items():
        factor = 1 + config.rate_spread * (2 * torch.rand(shape, generator=draws, dtype=torch.float64) - 1)
        rate = (config.initial_rate * factor).to(like)
        values[name] = rate.log() if config.rate_form == "log" else rate
    return LearningRates(values, config.rate_level, config.rate_form)


def neuron_dimension(name: str, module: nn.Module) -> int:
    """The dimension of a weight that counts neurons: 0, but 1 (output channels) for a transposed convolution."""
    return 1 if isinstance(module, nn.ConvTranspose2d) and name.endswith("weight") else 0


def level_counts(model: nn.Module) -> dict[Level, int]:
    """How many learning rates the model would have at each level."""
    return {level: sum(map(prod, _shapes(model, level).values())) for level in get_args(Level)}


def _shapes(model: nn.Module, level: Level) -> dict[str, list[int]]:
    if level == "single":
        return {ALL: []}
    shapes: dict[str, list[int]] = {}
    for prefix, module in model.named_modules():
        for name, parameter in module.named_parameters(prefix=prefix, recurse=False):
            shape = list(parameter.shape) if level == "parameter" else [1] * parameter.dim()
            if level == "neuron":
                neurons = neuron_dimension(name, module)
                shape[neurons] = parameter.shape[neurons]
            shapes[name] = shape
    return {name: shapes[name] for name, _ in model.named_parameters()}


def applied(values: Sequence[Tensor], form: Form, parameters: int) -> list[Tensor]:
    """What is learned -> learning rates, one tensor for each of the model's ``parameters``, broadcastable to it."""
    rates = [value.exp() if form == "log" else value for value in values]
    return rates * parameters if len(rates) == 1 else rates


def gradient_of_values(values: Sequence[Tensor], form: Form, d_rates: Sequence[Tensor]) -> list[Tensor]:
    """The gradient of what is learned, in its shapes.

    For a rate it is the sum over the parameters that it moves; for its logarithm that, times the rate.

    Args:
        values, form: of ``LearningRates``.
        d_rates: the gradient as it would be if every single parameter had a rate of its own; in the parameters' shapes.
    """
    if len(values) == 1:  # one rate for all
        gradients = [torch.stack([gradient.sum() for gradient in d_rates]).sum()]
    else:
        gradients = [gradient.sum_to_size(value.shape) for gradient, value in zip(d_rates, values, strict=True)]
    if form == "log":
        gradients = [value.exp() * gradient for value, gradient in zip(values, gradients, strict=True)]
    return gradients
