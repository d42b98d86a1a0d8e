"""The meta-gradient in closed form, of first and of second order; no graph over several steps is ever held."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from eosvos.learning.inner_loop import fine_tune, generator, gradient, load_parameters
from eosvos.learning.rates import Form, applied, gradient_of_values
from eosvos.model.mask_rcnn import Batch, MaskRCNN, total

Order = Literal["first", "second", "second_in_heads"]
HEADS = "roi_heads."
"""First letters of the parameters that ``second_in_heads`` differentiates twice."""


@dataclass(frozen=True)
class MetaGradient:
    """Of one task.

    Attributes:
        initialization: gradient of the test loss after T steps with respect to the initialization, one tensor per
            trainable parameter.
        rates: the same with respect to what is learned of the learning rates, in its shapes.
        loss_at_0: test loss of the initialization itself.
        loss_at_T: test loss after T steps.
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


def meta_gradient(
    model: MaskRCNN,
    initialization: list[Tensor],
    rates: list[Tensor],
    form: Form,
    train: Batch,
    test: Batch,
    T: int,
    seed: tuple[int, ...],
    order: Order,
) -> MetaGradient:
    """Of the asked order; the other arguments as of ``first_order``."""
    arguments = (model, initialization, rates, form, train, test, T, seed)
    if order == "first":
        return first_order(*arguments)
    return second_order(*arguments, heads_only=order == "second_in_heads")


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
    gradients detached. One buffer, G, is all it takes: memory does not grow with T.

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
        return _diverged(initialization, rates, loss_at_0)
    loss_at_T, v = gradient(model, test, generator(*seed, _TEST))
    products = [-a * b for a, b in zip(v, gradient_sum, strict=True)]
    return MetaGradient(v, gradient_of_values(rates, form, products), loss_at_0, float(loss_at_T))


def second_order(
    model: MaskRCNN,
    initialization: list[Tensor],
    rates: list[Tensor],
    form: Form,
    train: Batch,
    test: Batch,
    T: int,
    seed: tuple[int, ...],
    heads_only: bool = False,
) -> MetaGradient:
    """As ``first_order``, differentiated through the step gradients too.

    The gradient v of the test loss is carried back from step T to 0 by v <- v - H_t (lambda * v). H_t is the Hessian of
    the training loss at the parameters before step t, with that step's proposals, matches and samples held fixed. Each
    step is computed once more for it, with the proposals of the first time, so that memory grows with T by the
    parameters and not by the activations.

    Args:
        heads_only: take the Hessian with respect to the RoI heads alone, as the authors' release can; the rest is of
            first order.
    """
    parameters = list(model.parameters())
    is_own = [not heads_only or name.startswith(HEADS) for name, _ in model.named_parameters()]
    load_parameters(model, initialization)
    with torch.no_grad():
        loss_at_0 = float(model.loss(test, generator(*seed, _TEST)))
    inner_rates = applied(rates, form, len(parameters))
    before: list[tuple[list[Tensor], list[Tensor]]] = []  # per step the parameters and the proposals
    gradient_sum = [torch.zeros_like(value) for value in initialization]
    for step in range(T):
        values = [value.detach().clone() for value in parameters]
        losses, proposals = model(train, generator(*seed, _TRAIN, step))
        before.append((values, proposals))
        gradients = torch.autograd.grad(total(losses), parameters, materialize_grads=True, allow_unused=True)
        with torch.no_grad():
            torch._foreach_addcmul_(parameters, gradients, inner_rates, value=-1)
            torch._foreach_add_(gradient_sum, gradients)
    loss_at_T, v = gradient(model, test, generator(*seed, _TEST))
    if not math.isfinite(loss_at_T):
        return _diverged(initialization, rates, loss_at_0)
    products = [torch.zeros_like(a) if own else -a * b for own, a, b in zip(is_own, v, gradient_sum, strict=True)]
    own = [index for index, is_one in enumerate(is_own) if is_one]
    for step, (values, proposals) in reversed(list(enumerate(before))):
        load_parameters(model, values)
        draws = generator(*seed, _TRAIN, step)
        step_gradients, hessian_products = _hessian_products(
            model, train, draws, proposals, own, [inner_rates[index] * v[index] for index in own]
        )
        for index, step_gradient, product in zip(own, step_gradients, hessian_products, strict=True):
            products[index] -= v[index] * step_gradient
            v[index] = v[index] - product
    return MetaGradient(v, gradient_of_values(rates, form, products), loss_at_0, float(loss_at_T))


def _hessian_products(
    model: MaskRCNN,
    batch: Batch,
    draws: torch.Generator,
    proposals: list[Tensor],
    own: Sequence[int],
    vectors: Sequence[Tensor],
) -> tuple[Sequence[Tensor], Sequence[Tensor]]:
    """Gradient of the loss, and Hessian times vector, over the parameters ``own`` (indices), with these proposals."""
    parameters = list(model.parameters())
    for index, parameter in enumerate(parameters):
        parameter.requires_grad_(index in own)  # what is not differentiated needs no graph
    try:
        inputs = [parameters[index] for index in own]
        losses, _ = model(batch, draws, proposals)
        gradients = torch.autograd.grad(total(losses), inputs, create_graph=True, allow_unused=True)
        reached = [
            (gradient, vector)
            for gradient, vector in zip(gradients, vectors, strict=True)
            if gradient is not None and gradient.requires_grad
        ]
        outputs, outer = zip(*reached, strict=True)
        products = torch.autograd.grad(outputs, inputs, outer, allow_unused=True, materialize_grads=True)
    finally:
        for parameter in parameters:
            parameter.requires_grad_(True)
    pairs = zip(gradients, inputs, strict=True)
    return [torch.zeros_like(value) if gradient is None else gradient.detach() for gradient, value in pairs], products


def _diverged(initialization: list[Tensor], rates: list[Tensor], loss_at_0: float) -> MetaGradient:
    """Of a task that is to be dropped."""
    zeros, no_rates = ([torch.zeros_like(value) for value in values] for values in (initialization, rates))
    return MetaGradient(zeros, no_rates, loss_at_0, math.nan)


_TEST, _TRAIN = 0, 1  # ids that keep the draws of the test loss apart from those of the inner steps
