"""Fine-tuning: T plain gradient steps with one learning rate per neuron, in place."""

from collections.abc import Callable, Iterable
from functools import partial

import numpy as np
import torch
from torch import Tensor

from eosvos.draws import generator
from eosvos.model.mask_rcnn import Batch, MaskRCNN


def load_parameters(model: MaskRCNN, values: list[Tensor]) -> None:
    """Copies ``values``, one per trainable parameter in the model's order, into the model."""
    with torch.no_grad():
        torch._foreach_copy_(list(model.parameters()), values)


def gradient(model: MaskRCNN, batch: Batch, draws: torch.Generator) -> tuple[Tensor, list[Tensor]]:
    """Loss and its gradient: a detached scalar, and one tensor per trainable parameter in the model's order."""
    return _gradient(model, model.loss(batch, draws))


def _gradient(model: MaskRCNN, loss: Tensor) -> tuple[Tensor, list[Tensor]]:
    gradients = torch.autograd.grad(loss, list(model.parameters()), materialize_grads=True, allow_unused=True)
    return loss.detach(), list(gradients)


def fine_tune(
    model: MaskRCNN,
    batch: Batch,
    rates: list[Tensor],
    steps: Iterable[int],
    seed: tuple[int, ...],
    gradient_sum: list[Tensor] | None = None,
) -> list[float]:
    """Inner steps theta <- theta - lambda * g on the loss of a batch, as ``descend`` takes them."""
    return descend(model, partial(model.loss, batch), rates, steps, seed, gradient_sum)


def descend(
    model: MaskRCNN,
    loss: Callable[[torch.Generator], Tensor],
    rates: list[Tensor],
    steps: Iterable[int],
    seed: tuple[int, ...],
    gradient_sum: list[Tensor] | None = None,
) -> list[float]:
    """Inner steps theta <- theta - lambda * g, on the model's own parameters.

    Args:
        model: its parameters are changed in place.
        loss: of the model as it is; a scalar, with the samples that the generator draws.
        rates: learning rates, broadcastable to the model's parameters, in their order.
        steps: indices of the steps to take, such as ``range(5)``; the samples drawn in step t depend on ``seed`` and t.
        seed: ids (each at least 0) of what this fine-tuning belongs to.
        gradient_sum: where given, the gradients of all steps are added to it.

    Returns:
        the training loss before each step. It stops at the first that is not finite, without taking that step.
    """
    parameters = list(model.parameters())
    losses: list[float] = []
    for step in steps:
        value, gradients = _gradient(model, loss(generator(*seed, step)))
        losses.append(float(value))
        if not np.isfinite(losses[-1]):
            break
        with torch.no_grad():
            torch._foreach_addcmul_(parameters, gradients, rates, value=-1)
            if gradient_sum is not None:
                torch._foreach_add_(gradient_sum, gradients)
    return losses
