"""The outer loop's state and step: what is learned, as flat tensors, moved by RAdam."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor, nn

from eosvos.learning.config import Form, OuterConfig


class Learned:
    """The initialization and, in meta-training, the learning rates or their logarithms; and their optimizer.

    Attributes:
        initialization, rates: one flat parameter each, float; ``rates`` is empty for a parent.
        initialization_views, rates_views: the same memory, in the model's order and shapes.
    """

    def __init__(
        self, initialization: list[Tensor], rates: list[Tensor], config: OuterConfig, form: Form = "log"
    ) -> None:
        """``rates`` and ``form`` as in ``LearningRates``; both tensors are copied."""
        self.config, self.form = config, form
        self.initialization, self.initialization_views = _flat(initialization)
        # A parent's rates are nothing, but on the device and of the type of the rest.
        self.rates, views = _flat([initialization[0].new_zeros(0), *rates])
        self.rates_views = views[1:]
        self.optimizer = torch.optim.RAdam(
            [
                {"params": [self.initialization], "weight_decay": config.weight_decay},
                {"params": [self.rates], "weight_decay": 0.0},
            ],
            lr=config.learning_rate,
            betas=config.betas,
            decoupled_weight_decay=True,
        )

    def step(self, mean_gradient: "GradientSum", step: int) -> None:
        """One outer step on the mean gradient over the kept tasks of a meta-batch; ``step`` counts from 0."""
        factor = self.config.factor(step)
        rates = (self.config.learning_rate, self.config.rates_learning_rate)
        for group, rate in zip(self.optimizer.param_groups, rates, strict=True):
            group["lr"] = rate * factor
        self.initialization.grad = _scaled_down(mean_gradient.initialization, self.config.clip_norm)
        self.rates.grad = _scaled_down(mean_gradient.rates, self.config.rates_clip_norm)
        self.optimizer.step()
        if self.form == "linear":
            with torch.no_grad():
                self.rates.clamp_(min=0)  # its gradient does not vanish there: it can grow again
        self.optimizer.zero_grad()

    def mean_rate(self) -> float:
        """Mean of the learning rates, each counted once."""
        rates = self.rates.detach()
        return float((rates.exp() if self.form == "log" else rates).mean())

    def optimizer_tensors(self) -> dict[str, Tensor]:
        """The optimizer's state, by name, for a checkpoint."""
        return {
            f"optimizer.{index}.{name}": value
            for index, parameter in self.optimizer.state_dict()["state"].items()
            for name, value in parameter.items()
        }

    def load_optimizer_tensors(self, tensors: dict[str, Tensor]) -> None:
        """Restores what ``optimizer_tensors`` gave."""
        state: dict[int, dict[str, Tensor]] = {}
        for key, value in tensors.items():
            if key.startswith("optimizer."):
                _, index, name = key.split(".")
                state.setdefault(int(index), {})[name] = value
        self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": state})


class Losses(NamedTuple):
    """Test losses of a task: before fine-tuning and after it. A parent's loss is both."""

    at_0: float
    at_T: float


@dataclass(frozen=True)
class TaskGradient:
    """What one task adds to an outer step.

    Attributes:
        initialization: gradient with respect to the initialization, one tensor per trainable parameter.
        rates: the same with respect to what is learned of the learning rates, in its shapes; none for a parent.
        losses: of the task.
        statistics: of live batch normalization, mean and variance of each layer.
    """

    initialization: list[Tensor]
    rates: list[Tensor]
    losses: Losses
    statistics: list[Tensor] = field(default_factory=list)

    @property
    def finite(self) -> bool:
        """False where a loss or a gradient is not finite: such a task must not count."""
        return math.isfinite(sum(self.losses)) and all(
            bool(torch.isfinite(g).all()) for g in (*self.initialization, *self.rates)
        )


class GradientSum:
    """Gradients of tasks added up in one flat buffer, which travels in a single all-reduce.

    Attributes:
        buffer: (P + R + S + 3 M,) float: initialization, learning rates, statistics of live batch norm, then for each
            of the M slots of a meta-batch 1 where its task was kept, its test loss at 0, and its test loss at T.
        statistics: what of it are statistics, like those that were given.
    """

    def __init__(self, like: Learned, statistics: Sequence[Tensor] = ()) -> None:
        width = sum(value.numel() for value in statistics)
        sizes = [like.initialization.numel(), like.rates.numel(), width, 3 * like.config.meta_batch]
        self.buffer = torch.zeros(sum(sizes), dtype=like.initialization.dtype, device=like.initialization.device)
        self.initialization, self.rates, self._statistics, slots = torch.split(self.buffer, sizes)
        self.statistics = _views(self._statistics, list(statistics))
        self._slots = slots.view(-1, 3)
        self._initialization_views = _views(self.initialization, like.initialization_views)
        self._rates_views = _views(self.rates, like.rates_views)

    def add(self, slot: int, gradient: TaskGradient) -> None:
        """Adds the task in a slot of the meta-batch, unless its losses or gradients are not finite."""
        if not gradient.finite:
            return
        torch._foreach_add_(self._initialization_views, gradient.initialization)
        if gradient.rates:
            torch._foreach_add_(self._rates_views, gradient.rates)
        if gradient.statistics:
            torch._foreach_add_(self.statistics, gradient.statistics)
        self._slots[slot] = self._slots.new_tensor([1.0, *gradient.losses])

    def mean(self) -> list[Losses | None]:
        """Turns the sums of gradients and statistics into means over the kept tasks; with none kept they stay 0.

        Returns:
            per slot of the meta-batch its losses, or None where the task does not count.
        """
        slots = self._slots.tolist()
        kept = sum(is_kept > 0 for is_kept, _, _ in slots)
        if kept:
            self.initialization /= kept
            self.rates /= kept
            self._statistics /= kept
        return [Losses(at_0, at_T) if is_kept > 0 else None for is_kept, at_0, at_T in slots]

    def clear(self) -> None:
        """Back to an empty sum."""
        self.buffer.zero_()


def _scaled_down(gradient: Tensor, limit: float) -> Tensor:
    """A copy with a norm of at most ``limit``; nothing but zeros is left where the norm is beyond the type's range."""
    if math.isinf(limit):  # divided by a norm beyond range it would be no number
        return gradient.clone()
    scale: Tensor = limit / gradient.norm()
    return gradient * scale.clamp(max=1)


def _flat(tensors: Sequence[Tensor]) -> tuple[nn.Parameter, list[Tensor]]:
    parameter = nn.Parameter(torch.cat([tensor.detach().flatten() for tensor in tensors]))
    return parameter, _views(parameter.data, tensors)


def _views(flat: Tensor, like: Sequence[Tensor]) -> list[Tensor]:
    parts = torch.split(flat, [tensor.numel() for tensor in like]) if like else ()
    return [part.view(tensor.shape) for part, tensor in zip(parts, like, strict=True)]
