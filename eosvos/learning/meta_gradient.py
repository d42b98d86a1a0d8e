"""The meta-gradient in closed form, of first and of second order; no graph over several steps is ever held."""

import math
from collections.abc import Mapping, Sequence
from functools import partial

import torch
from torch import Tensor

from eosvos.draws import Stream, generator
from eosvos.learning.config import Order
from eosvos.learning.inner_loop import fine_tune, gradient, load_parameters
from eosvos.learning.outer_loop import Learned, Losses, TaskGradient
from eosvos.learning.rates import applied, gradient_of_values
from eosvos.model.mask_rcnn import Batch, MaskRCNN, total

HEADS = "roi_heads."
"""First letters of the names of the RoI heads' parameters."""


def meta_gradient(
    model: MaskRCNN,
    learned: Learned,
    train: Batch,
    test: Batch,
    weights: Sequence[float],
    seed: tuple[int, ...],
    order: Order,
) -> TaskGradient:
    """Fine-tune on ``train``, then differentiate the loss on ``test``.

    Args:
        model: is left holding other parameters.
        learned: the initialization to start from, and the learning rates.
        train: frames and masks to fine-tune on.
        test: frames and masks to do well on.
        weights: of the test loss after 0 to T inner steps, T + 1 values; ``last_only`` or ``multi_step``.
        seed: ids of the task; the draws of inner step t and of the test loss depend on nothing else.
        order: ``first`` takes the step gradients as constants, ``second`` differentiates them too. Of the RoI heads'
            step gradients alone ``second_of_heads`` does so, with respect to all parameters, as the authors' release
            can, and ``second_in_heads`` with respect to the heads.
    """
    initialization, rates, form = learned.initialization_views, learned.rates_views, learned.form
    load_parameters(model, initialization)
    with torch.no_grad():
        loss_at_0 = float(model.loss(test, Stream.TEST_LOSS.torch(*seed)))
    inner_rates = applied(rates, form, len(initialization))
    differentiate = first_order if order == "first" else partial(second_order, order=order)
    result = differentiate(model, inner_rates, train, test, weights, seed)
    if result is None:
        zeros, no_rates = ([torch.zeros_like(value) for value in values] for values in (initialization, rates))
        return TaskGradient(zeros, no_rates, Losses(loss_at_0, math.nan))
    d_initialization, d_rates, loss_at_T = result
    return TaskGradient(d_initialization, gradient_of_values(rates, form, d_rates), Losses(loss_at_0, loss_at_T))


def last_only(T: int) -> tuple[float, ...]:
    """Weights of the test losses after 0 to T steps: of the last alone."""
    return (0.0,) * T + (1.0,)


def multi_step(T: int, share: float) -> tuple[float, ...]:
    """Weights of the test losses after 0 to T steps, annealed (MAML++, Antoniou et al., ICLR 2019).

    Args:
        T: inner steps, at least 1.
        share: of the annealing that is over: at 0 the losses after 1 to T steps count alike, at 1 only the last.
    """
    others = (1 - share) / T
    return (0.0, *(others,) * (T - 1), 1 - (T - 1) * others)


def first_order(
    model: MaskRCNN,
    rates: list[Tensor],
    train: Batch,
    test: Batch,
    weights: Sequence[float],
    seed: tuple[int, ...],
) -> tuple[list[Tensor], list[Tensor], float] | None:
    """Fine-tunes the model in place and differentiates to first order.

    With G_t the sum of the first t step gradients, v_t the gradient of the test loss after t steps and w_t its weight,
    the gradient is sum w_t v_t for the initialization, and for the learning rate of a parameter -sum w_t v_t G_t. It
    equals automatic differentiation through the loop with the step gradients detached. A few buffers are all it takes:
    memory does not grow with T.

    Args:
        rates: learning rates, one tensor for each of the model's parameters.

    Returns:
        gradients for the initialization and for a learning rate of each single parameter, and the test loss after the
        last step; None where a training loss is not finite.
    """
    gradient_sum = [torch.zeros_like(value) for value in model.parameters()]
    d_initialization: list[Tensor] = []
    d_rates: list[Tensor] = []
    loss = math.nan
    for step, weight in enumerate(weights):
        if step > 0:
            (train_loss,) = fine_tune(model, train, rates, [step - 1], Stream.INNER_STEP.ids(*seed), gradient_sum)
            if not math.isfinite(train_loss):
                return None
        if weight > 0:
            loss, v = _test_gradient(model, test, weight, seed)
            d_initialization = _added(d_initialization, v)
            d_rates = _added(d_rates, [-a * b for a, b in zip(v, gradient_sum, strict=True)])
    return d_initialization, d_rates, loss


def second_order(
    model: MaskRCNN,
    rates: list[Tensor],
    train: Batch,
    test: Batch,
    weights: Sequence[float],
    seed: tuple[int, ...],
    order: Order,
) -> tuple[list[Tensor], list[Tensor], float] | None:
    """As ``first_order``, differentiated through the step gradients too.

    The gradient v of the test losses is carried back from step T to 0 by v <- v - H_t (lambda * v) + w_t v_t. H_t is
    the Hessian of the training loss at the parameters before step t, with that step's proposals, matches and samples
    held fixed; of it the columns of the heads alone, or their rows and columns, where ``order`` says so. Each step is
    computed once more for it, with the proposals of the first time, so that memory grows with T by the parameters and
    not by the activations.
    """
    parameters = list(model.parameters())
    heads = {i for i, (name, _) in enumerate(model.named_parameters()) if name.startswith(HEADS)}
    indices = sorted(heads) if order == "second_in_heads" else list(range(len(parameters)))
    columns = set(indices) if order == "second" else heads
    others = sorted(set(range(len(parameters))) - set(indices))
    before: list[tuple[list[Tensor], list[Tensor]]] = []  # per step the parameters and the proposals
    test_gradients: list[list[Tensor] | None] = []
    gradient_sum = [torch.zeros_like(value) for value in parameters]
    d_rates = [torch.zeros_like(value) for value in parameters]
    loss = math.nan
    for step, weight in enumerate(weights):
        if step > 0:
            values = [value.detach().clone() for value in parameters]
            losses, proposals = model(train, generator(*Stream.INNER_STEP.ids(*seed), step - 1))
            gradients = torch.autograd.grad(total(losses), parameters, materialize_grads=True, allow_unused=True)
            before.append((values, proposals))
            with torch.no_grad():
                torch._foreach_addcmul_(parameters, gradients, rates, value=-1)
                if others:
                    torch._foreach_add_(gradient_sum, gradients)
        v: list[Tensor] | None = None
        if weight > 0:
            loss, v = _test_gradient(model, test, weight, seed)
            for i in others:  # what stays of first order
                d_rates[i] -= v[i] * gradient_sum[i]
        test_gradients.append(v)
    if not math.isfinite(loss):
        return None
    carried = [torch.zeros_like(value) for value in parameters]
    for step in reversed(range(len(weights))):
        if step < len(before):
            values, proposals = before.pop()
            load_parameters(model, values)
            outer = {i: rates[i] * carried[i] for i in columns}
            draws = generator(*Stream.INNER_STEP.ids(*seed), step)
            step_gradients, products = _hessian_products(model, train, draws, proposals, indices, outer)
            for i, step_gradient, product in zip(indices, step_gradients, products, strict=True):
                d_rates[i] -= carried[i] * step_gradient
                carried[i] -= product
        if (v := test_gradients[step]) is not None:
            torch._foreach_add_(carried, v)
    return carried, d_rates, loss


def _test_gradient(model: MaskRCNN, test: Batch, weight: float, seed: tuple[int, ...]) -> tuple[float, list[Tensor]]:
    """The test loss, and ``weight`` times its gradient."""
    loss, v = gradient(model, test, Stream.TEST_LOSS.torch(*seed))
    if weight != 1:
        torch._foreach_mul_(v, weight)
    return float(loss), v


def _added(total: list[Tensor], values: list[Tensor]) -> list[Tensor]:
    """``total`` with ``values`` added in place, or ``values`` where there is none yet."""
    if not total:
        return values
    torch._foreach_add_(total, values)
    return total


def _hessian_products(
    model: MaskRCNN,
    batch: Batch,
    draws: torch.Generator,
    proposals: list[Tensor],
    indices: Sequence[int],
    vectors: Mapping[int, Tensor],
) -> tuple[Sequence[Tensor], Sequence[Tensor]]:
    """Gradient of the loss, and Hessian times vector, over the parameters ``indices``, with these proposals.

    The vector is 0 where ``vectors`` has none for a parameter, and outside of ``indices``.
    """
    parameters = list(model.parameters())
    for index, parameter in enumerate(parameters):
        parameter.requires_grad_(index in indices)  # what is not differentiated needs no graph
    try:
        inputs = [parameters[index] for index in indices]
        losses, _ = model(batch, draws, proposals)
        gradients = torch.autograd.grad(total(losses), inputs, create_graph=True, allow_unused=True)
        reached = [
            (gradient, vectors[index])
            for index, gradient in zip(indices, gradients, strict=True)
            if index in vectors and gradient is not None and gradient.requires_grad
        ]
        outputs, outer = zip(*reached, strict=True)
        products = torch.autograd.grad(outputs, inputs, outer, allow_unused=True, materialize_grads=True)
    finally:
        for parameter in parameters:
            parameter.requires_grad_(True)
    pairs = zip(gradients, inputs, strict=True)
    return [torch.zeros_like(value) if gradient is None else gradient.detach() for gradient, value in pairs], products
