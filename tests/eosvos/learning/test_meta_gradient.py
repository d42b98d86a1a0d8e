"""The closed form against automatic differentiation through the unrolled loop, in double precision."""

import inspect
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.func import functional_call
from torchvision.ops.roi_align import _roi_align

from eosvos.draws import generator
from eosvos.learning.config import Form, OuterConfig, RatesConfig
from eosvos.learning.inner_loop import load_parameters
from eosvos.learning.meta_gradient import last_only, meta_gradient, multi_step
from eosvos.learning.outer_loop import GradientSum, Learned, TaskGradient
from eosvos.learning.rates import applied, initial_rates
from eosvos.model import roi_align as roi_align_module
from eosvos.model.config import ModelConfig
from eosvos.model.mask_rcnn import Batch, MaskRCNN, total
from eosvos.model.weights import initial_model

SEED = (3, 1, 4)
LEVELS = ("single", "tensor", "neuron", "parameter")
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


def _none(name: str) -> bool:
    return False


def _all(name: str) -> bool:
    return True


def _heads(name: str) -> bool:
    return name.startswith("roi_heads.")


ORDERS = {
    "first": (_none, _none),
    "second": (_all, _all),
    "second_of_heads": (_heads, _all),
    "second_in_heads": (_heads, _heads),
}
"""Of which parameters the step gradients are differentiated, and with respect to which."""


def _unrolled(
    model: MaskRCNN,
    learned: list[Tensor],
    train: Batch,
    test: Batch,
    T: int,
    form: Form = "log",
    order: str = "first",
    weights: tuple[float, ...] | None = None,
) -> tuple[Tensor, list[Tensor], list[Tensor], list[dict[str, Tensor]]]:
    """Test loss after T steps, its gradients by autograd through the loop, and all losses.

    Step gradients are detached, but for those that ``ORDERS`` says, and so are the parameters that they are taken at.
    """
    of, respect = ORDERS[order]
    names = [name for name, _ in model.named_parameters()]
    start = [parameter.detach().clone().requires_grad_() for parameter in model.parameters()]
    values = [value.clone().requires_grad_() for value in learned]
    theta, seen, loss = start, [], torch.zeros((), dtype=start[0].dtype)
    for step in range(T + 1):
        if weight := (weights or last_only(T))[step]:
            losses, _ = functional_call(model, dict(zip(names, theta, strict=True)), (test, generator(*SEED, TEST)))
            loss = loss + weight * total(losses)
            seen.append(losses)
        if step == T:
            break
        here = [t if respect(name) else t.detach().requires_grad_() for t, name in zip(theta, names, strict=True)]
        losses, _ = functional_call(
            model,
            dict(zip(names, here, strict=True)),
            (train, generator(*SEED, TRAIN, step)),
            strict=False,
        )
        seen.append(losses)
        gradients = torch.autograd.grad(
            sum(losses.values()), here, create_graph=any(map(of, names)), allow_unused=True, materialize_grads=True
        )
        gradients = tuple(g if of(name) else g.detach() for g, name in zip(gradients, names, strict=True))
        rates = applied(values, form, len(theta))
        theta = [value - rate * g for value, rate, g in zip(theta, rates, gradients, strict=True)]
    both = torch.autograd.grad(loss, [*start, *values], allow_unused=True, materialize_grads=True)
    return loss, list(both[: len(start)]), list(both[len(start) :]), seen


def _learned(initialization: list[Tensor], rates: list[Tensor], form: Form = "log") -> Learned:
    return Learned(initialization, rates, OuterConfig(), form)


def _first_order(
    model: MaskRCNN, initialization: list[Tensor], log_rates: list[Tensor], train: Batch, test: Batch, T: int
) -> TaskGradient:
    return meta_gradient(model, _learned(initialization, log_rates), train, test, last_only(T), SEED, "first")


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
    meta = _first_order(model, initialization, log_rates, train, test, T)
    assert meta.finite
    assert meta.losses.at_T == pytest.approx(loss.item(), rel=1e-9)
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


def test_weights_of_the_losses_after_each_step() -> None:
    assert last_only(3) == (0, 0, 0, 1)
    assert last_only(0) == (1,)
    assert multi_step(4, 0) == pytest.approx((0, 0.25, 0.25, 0.25, 0.25))
    assert multi_step(4, 0.5) == pytest.approx((0, 0.125, 0.125, 0.125, 0.625))
    assert multi_step(4, 1) == (0, 0, 0, 0, 1)
    assert multi_step(1, 0) == (0, 1)


def test_no_steps(micro: ModelConfig, scene: Callable[..., Any]) -> None:
    model, log_rates, (train, test, _) = _case(micro, scene, torch.float64)
    initialization = [parameter.detach().clone() for parameter in model.parameters()]
    meta = _first_order(model, initialization, log_rates, train, test, 0)
    loss, d_initialization, _, _ = _unrolled(model, log_rates, train, test, 0)
    assert meta.losses.at_0 == meta.losses.at_T == pytest.approx(loss.item(), rel=1e-9)
    assert _relative(meta.initialization, d_initialization) < 1e-9
    assert not any(bool(rate.any()) for rate in meta.rates)


def test_what_was_in_the_model_does_not_matter(micro: ModelConfig, scene: Callable[..., Any]) -> None:
    model, log_rates, (train, test, _) = _case(micro, scene, torch.float32)
    initialization = [parameter.detach().clone() for parameter in model.parameters()]
    metas = [_first_order(model, initialization, log_rates, train, test, 2) for _ in range(2)]
    for a, b in zip(
        (*metas[0].initialization, *metas[0].rates), (*metas[1].initialization, *metas[1].rates), strict=True
    ):
        assert torch.equal(a, b)
    assert metas[0].losses.at_0 == metas[1].losses.at_0 != metas[1].losses.at_T


@pytest.mark.parametrize("T", [1, 3])
@pytest.mark.parametrize("order", ["first", "second", "second_of_heads", "second_in_heads"])
@pytest.mark.parametrize(
    ("level", "form", "weights"),
    [
        *((level, "log", last_only) for level in LEVELS),
        ("neuron", "linear", last_only),
        ("neuron", "log", partial(multi_step, share=0.25)),
    ],
)
def test_every_gradient_path_is_autograd_through_the_loop(
    micro: ModelConfig,
    scene: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    level: Any,
    form: Any,
    weights: Callable[[int], tuple[float, ...]],
    order: Any,
    T: int,
) -> None:
    """With torchvision's RoIAlign in plain Python as the reference, which differentiates it any number of times."""
    model, _, (train, _, test) = _case(micro, scene, torch.float64)
    config = RatesConfig(rate_level=level, rate_form=form, initial_rate=0.01, rate_spread=0.5)
    learned = list(initial_rates(model, config).learned.values())
    start = [parameter.detach().clone() for parameter in model.parameters()]

    meta = meta_gradient(model, _learned(start, learned, form), train, test, weights(T), SEED, order)
    load_parameters(model, start)
    monkeypatch.setattr(roi_align_module, "roi_align", _roi_align_in_python)
    loss, d_initialization, d_learned, _ = _unrolled(model, learned, train, test, T, form, order, weights(T))
    if weights is last_only:
        assert meta.losses.at_T == pytest.approx(loss.item(), rel=1e-9)
    assert _relative(meta.initialization, d_initialization) < 1e-9
    assert _relative(meta.rates, d_learned) < 1e-9


@pytest.mark.parametrize("T", [1, 3])
def test_second_order_is_the_slope_of_the_meta_loss(micro: ModelConfig, scene: Callable[..., Any], T: int) -> None:
    """Along random directions, with the proposals of the unmoved run, and so its matches and samples."""
    model, log_rates, (train, _, test) = _case(micro, scene, torch.float64)
    draws = torch.Generator().manual_seed(4)
    # Biases start at 0, which leaves whole features at 0: at the kink of the rectifier, where there is no slope.
    start = [
        parameter.detach() + 0.01 * torch.randn(parameter.shape, generator=draws, dtype=parameter.dtype)
        for parameter in model.parameters()
    ]
    meta = meta_gradient(model, _learned(start, log_rates), train, test, last_only(T), SEED, "second")
    proposals: list[list[Tensor]] = []

    def meta_loss(initialization: list[Tensor], learned: list[Tensor]) -> float:
        load_parameters(model, initialization)
        replayed = iter(proposals[:])
        for step in range(T):
            losses, seen = model(train, generator(*SEED, TRAIN, step), next(replayed, None))
            gradients = torch.autograd.grad(sum(losses.values()), list(model.parameters()))
            load_parameters(
                model, [p - r.exp() * g for p, r, g in zip(model.parameters(), learned, gradients, strict=True)]
            )
            proposals.append(seen)
        losses, seen = model(test, generator(*SEED, TEST), next(replayed, None))
        proposals.append(seen)
        del proposals[T + 1 :]
        return float(sum(losses.values()).detach())

    assert meta_loss(start, log_rates) == pytest.approx(meta.losses.at_T, rel=1e-12)
    for _ in range(3):
        both = [*start, *log_rates]
        direction = [torch.randn(value.shape, generator=draws, dtype=value.dtype) for value in both]
        slope = sum(float((d * g).sum()) for d, g in zip(direction, (*meta.initialization, *meta.rates), strict=True))
        h = 1e-8
        ahead, behind = (
            meta_loss(moved[: len(start)], moved[len(start) :])
            for moved in ([value + sign * h * d for value, d in zip(both, direction, strict=True)] for sign in (1, -1))
        )
        assert (ahead - behind) / (2 * h) == pytest.approx(slope, rel=1e-6)


def _roi_align_in_python(features: Tensor, rois: Tensor, scale: float, side: int, sampling: int) -> Tensor:
    pooled: Tensor = inspect.unwrap(_roi_align)(features, rois, scale, side, side, sampling, False)  # not compiled
    return pooled


@pytest.mark.parametrize("T", [1, 3])
@pytest.mark.parametrize("order", ["first", "second", "second_of_heads", "second_in_heads"])
def test_rates_that_are_too_high_are_noticed(micro: ModelConfig, scene: Callable[..., Any], order: Any, T: int) -> None:
    model, log_rates, (train, test, _) = _case(micro, scene, torch.float32)
    initialization = [parameter.detach().clone() for parameter in model.parameters()]
    infinite = [torch.full_like(rate, torch.inf) for rate in log_rates]
    for rates, finite in ((infinite, False), (log_rates, True)):
        meta = meta_gradient(model, _learned(initialization, rates), train, test, last_only(T), SEED, order)
        assert meta.finite == finite


def test_sum_over_tasks_of_two_workers_is_that_of_one(micro: ModelConfig, scene: Callable[..., Any]) -> None:
    model, log_rates, (train, test, _) = _case(micro, scene, torch.float32)
    learned = Learned([parameter.detach().clone() for parameter in model.parameters()], log_rates, OuterConfig())

    def summed(tasks: list[int]) -> GradientSum:
        added = GradientSum(learned)
        for task in tasks:
            meta = meta_gradient(model, learned, train, test, last_only(2), (*SEED, task), "first")
            added.add(task, meta)
        return added

    one, first, second = summed([0, 1, 2, 3]), summed([0, 2]), summed([1, 3])
    first.buffer += second.buffer  # what the all-reduce does
    for ours, expected in ((first.initialization, one.initialization), (first.rates, one.rates)):
        assert float((ours - expected).norm()) < 1e-5 * float(expected.norm())
    assert float((second.rates - summed([0, 2]).rates).norm()) > 1e-3 * float(second.rates.norm())
    losses = first.mean()
    assert losses == one.mean()
    assert None not in losses
