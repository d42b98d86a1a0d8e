"""The first-order meta-gradient in closed form: one extra buffer, no graph, memory flat in T."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from eosvos.learning.inner_loop import fine_tune, generator, gradient, load_parameters
from eosvos.learning.rates import Form, applied, gradient_of_values
from eosvos.model.mask_rcnn import Batch, MaskRCNN


@dataclass(frozen=True)
class MetaGradient:
    """Of one task.

    Attributes:
        initialization: gradient of the test loss after T steps with respect to the initialization, one tensor per
            trainable parameter.
        rates: the same with respect to what is learned of the learning rates, in its shapes.
        loss_at_0: test loss of the initialization itself.
        loss_at_T: test loss after T steps, the one that the gradients are of.
    """

    initialization: list[Tensor]
    rates: list[Tensor]
    loss_at_0: float
    loss_at_T: float

    @property
    def finite(self) -> bool:
        """False where a loss or a gradient is not finite: such a task must be dropped."""
        return math.isfinite(self.loss_at_T) and all(
            bool(torch.isfinite(g).all()) for g in (*self.initialization, *self.rates)
        )


def first_order(
    model: MaskRCNN,
    initialization: list[Tensor],
    rates: list[Tensor],
    form: Form,
    train: Batch,
    test: Batch,
    T: int,
    seed: tuple[int, ...],
) -> MetaGradient:
    """Fine-tune T steps on ``train``, then differentiate the loss on ``test``, to first order.

    With G the sum of the T step gradients and v the gradient of the test loss at the parameters after step T, the
    gradient is v for the initialization, and for a learning rate minus the sum of v * G over the parameters that it
    moves, times the rate itself for its logarithm. It equals automatic differentiation through the loop with the step
    gradients detached.

    Args:
        model: left holding the fine-tuned parameters.
        initialization: values to start from, one per trainable parameter in the model's order.
        rates, form: what is learned of the learning rates, as in ``LearningRates``.
        train: frame and mask to fine-tune on.
        test: frame and mask to do well on.
        T: number of inner steps, at least 0.
        seed: ids of the task; the draws of inner step t and of the test loss depend on nothing else.
    """
    load_parameters(model, initialization)
    with torch.no_grad():
        loss_at_0 = float(model.loss(test, generator(*seed, _TEST)))
    gradient_sum = [torch.zeros_like(value) for value in initialization]
    inner_rates = applied(rates, form, len(initialization))
    train_losses = fine_tune(model, train, inner_rates, range(T), (*seed, _TRAIN), gradient_sum)
    if not all(map(math.isfinite, train_losses)):
        return MetaGradient(gradient_sum, [torch.zeros_like(rate) for rate in rates], loss_at_0, math.nan)
    loss_at_T, v = gradient(model, test, generator(*seed, _TEST))
    return MetaGradient(v, gradient_of_values(rates, form, v, gradient_sum), loss_at_0, float(loss_at_T))


_TEST, _TRAIN = 0, 1  # ids that keep the draws of the test loss apart from those of the inner steps
