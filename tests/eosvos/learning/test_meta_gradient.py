"""The closed form against automatic differentiation through the unrolled loop, in double precision."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.func import functional_call

from eosvos.learning.inner_loop import generator
from eosvos.learning.meta_gradient import first_order
from eosvos.learning.outer_loop import GradientSum, Learned, OuterConfig
from eosvos.learning.rates import RatesConfig, initial_rates
from eosvos.model.config import ModelConfig
from eosvos.model.mask_rcnn import Batch, MaskRCNN
from eosvos.model.weights import initial_model

SEED = (3, 1, 4)
TEST, TRAIN = 0, 1  # what `first_order` appends to a task's ids for the draws of the test loss and of the inner steps


def _case(config: ModelConfig, scene: Callable[..., Any], dtype: torch.dtype) -> tuple[MaskRCNN, list[Tensor], Any]:
    """A model, log rates that differ between neurons, and three batches: of one frame, of another, and of both."""
    model = initial_model(config, "none", seed=5)[0].to(dtype)
    draws = torch.Generator().manual_seed(0)
    log_rates = [
        rate + torch.randn(rate.shape, generator=draws, dtype=dtype) * 0.5
        for rate in initial_rates(model, RatesConfig(initial_rate=0.01)).learned.values()
    ]
    scenes = [scene(seed) for seed in (1, 2)]
    one, other = (model.batch([image], [mask]) for image, mask in scenes)
    return model, log_rates, (one, other, model.batch(*map(list, zip(*scenes, strict=True))))


def _unrolled(
    model: MaskRCNN, log_rates: list[Tensor], train: Batch, test: Batch, T: int
) -> tuple[Tensor, list[Tensor], list[Tensor], list[dict[str, Tensor]]]:
    """Test loss after T steps, its gradients by autograd through the loop with detached step gradients, all losses."""
    names = [name for name, _ in model.named_parameters()]
    start = [parameter.detach().clone().requires_grad_() for parameter in model.parameters()]
    rho = [rate.clone().requires_grad_() for rate in log_rates]
    theta, seen = start, []
    for step in range(T):
        here = [value.detach().requires_grad_() for value in theta]
        losses = functional_call(
            model, dict(zip(names, here, strict=True)), (train, generator(*SEED, TRAIN, step)), strict=False
        )
        seen.append(losses)
        gradients = torch.autograd.grad(sum(losses.values()), here)
        theta = [value - r.exp() * g.detach() for value, r, g in zip(theta, rho, gradients, strict=True)]
    losses = functional_call(model, dict(zip(names, theta, strict=True)), (test, generator(*SEED, TEST)))
    loss = sum(losses.values(), torch.zeros((), dtype=start[0].dtype))
    both = torch.autograd.grad(loss, [*start, *rho], allow_unused=True, materialize_grads=True)
    return loss, list(both[: len(start)]), list(both[len(start) :]), [*seen, losses]


def _relative(ours: list[Tensor], expected: list[Tensor]) -> float:
    """Largest difference over the largest expected value."""
    assert [value.shape for value in ours] == [value.shape for value in expected]
    difference = max(float((a - b).abs().max()) for a, b in zip(ours, expected, strict=True))
    return difference / max(float(value.abs().max()) for value in expected)


def _assert_equal_to_autograd(model: MaskRCNN, log_rates: list[Tensor], train: Batch, test: Batch, T: int) -> None:
    initialization = [parameter.detach().clone() for parameter in model.parameters()]
    loss, d_initialization, d_log_rates, seen = _unrolled(model, log_rates, train, test, T)
    for losses in seen:
        assert len(losses) == 5
        assert all(bool(value > 0) for value in losses.values()), losses
    meta = first_order(model, initialization, log_rates, "log", train, test, T, SEED)
    assert meta.finite
    assert meta.loss_at_T == pytest.approx(loss.item(), rel=1e-9)
    assert sum(bool(rate.any()) for rate in d_log_rates) >= 0.9 * len(d_log_rates)
    assert _relative(meta.initialization, d_initialization) < 1e-9
    assert _relative(meta.rates, d_log_rates) < 1e-9


@pytest.mark.parametrize("mask_loss", ["lovasz_hinge", "cross_entropy"])
@pytest.mark.parametrize("T", [1, 3, 5])
def test_closed_form_is_autograd_through_the_loop(
    micro: ModelConfig, scene: Callable[..., Any], T: int, mask_loss: Any
) -> None:
    model, log_rates, (train, _, test) = _case(replace(micro, mask_loss=mask_loss), scene, torch.float64)
    _assert_equal_to_autograd(model, log_rates, train, test, T)


def test_closed_form_with_two_frames_to_fine_tune_on(micro: ModelConfig, scene: Callable[..., Any]) -> None:
    model, log_rates, (train, _, both) = _case(micro, scene, torch.float64)
    _assert_equal_to_autograd(model, log_rates, both, train, 2)


def test_closed_form_with_frozen_batch_normalization(micro_mobilenet: ModelConfig, scene: Callable[..., Any]) -> None:
    model, log_rates, (train, test, _) = _case(micro_mobilenet, scene, torch.float64)
    _assert_equal_to_autograd(model, log_rates, train, test, 1)


def test_no_steps(micro: ModelConfig, scene: Callable[..., Any]) -> None:
    model, log_rates, (train, test, _) = _case(micro, scene, torch.float64)
    initialization = [parameter.detach().clone() for parameter in model.parameters()]
    meta = first_order(model, initialization, log_rates, "log", train, test, 0, SEED)
    loss, d_initialization, _, _ = _unrolled(model, log_rates, train, test, 0)
    assert meta.loss_at_0 == meta.loss_at_T == pytest.approx(loss.item(), rel=1e-9)
    assert _relative(meta.initialization, d_initialization) < 1e-9
    assert not any(bool(rate.any()) for rate in meta.rates)


def test_what_was_in_the_model_does_not_matter(micro: ModelConfig, scene: Callable[..., Any]) -> None:
    model, log_rates, (train, test, _) = _case(micro, scene, torch.float32)
    initialization = [parameter.detach().clone() for parameter in model.parameters()]
    metas = [first_order(model, initialization, log_rates, "log", train, test, 2, SEED) for _ in range(2)]
    for a, b in zip(
        (*metas[0].initialization, *metas[0].rates), (*metas[1].initialization, *metas[1].rates), strict=True
    ):
        assert torch.equal(a, b)
    assert metas[0].loss_at_0 == metas[1].loss_at_0 != metas[1].loss_at_T


@pytest.mark.parametrize("T", [1, 3])
def test_rates_that_are_too_high_are_noticed(micro: ModelConfig, scene: Callable[..., Any], T: int) -> None:
    model, log_rates, (train, test, _) = _case(micro, scene, torch.float32)
    initialization = [parameter.detach().clone() for parameter in model.parameters()]
    infinite = [torch.full_like(rate, torch.inf) for rate in log_rates]
    assert not first_order(model, initialization, infinite, "log", train, test, T, SEED).finite
    assert first_order(model, initialization, log_rates, "log", train, test, T, SEED).finite


def test_sum_over_tasks_of_two_workers_is_that_of_one(micro: ModelConfig, scene: Callable[..., Any]) -> None:
    model, log_rates, (train, test, _) = _case(micro, scene, torch.float32)
    learned = Learned([parameter.detach().clone() for parameter in model.parameters()], log_rates, OuterConfig())

    def total(tasks: list[int]) -> GradientSum:
        added = GradientSum(learned)
        for task in tasks:
            meta = first_order(
                model, learned.initialization_views, learned.rates_views, learned.form, train, test, 2, (*SEED, task)
            )
            added.add(task, meta.initialization, meta.rates, meta.loss_at_0, meta.loss_at_T)
        return added

    one, first, second = total([0, 1, 2, 3]), total([0, 2]), total([1, 3])
    first.buffer += second.buffer  # what the all-reduce does
    for ours, expected in ((first.initialization, one.initialization), (first.rates, one.rates)):
        assert float((ours - expected).norm()) < 1e-5 * float(expected.norm())
    assert float((second.rates - total([0, 2]).rates).norm()) > 1e-3 * float(second.rates.norm())
    losses = first.mean()
    assert losses == one.mean()
    assert None not in losses
