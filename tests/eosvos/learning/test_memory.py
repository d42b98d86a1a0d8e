"""A task's peak memory, counted at the allocator: flat in T to first order; to second it grows by the parameters.

That of automatic differentiation through the loop grows by parameters and activations.
"""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.func import functional_call
from torch.profiler import ProfilerActivity, profile

from eosvos.draws import generator
from eosvos.learning.config import Order, OuterConfig, RatesConfig
from eosvos.learning.meta_gradient import last_only, meta_gradient
from eosvos.learning.outer_loop import Learned
from eosvos.learning.rates import initial_rates
from eosvos.model.backbones import count_parameters
from eosvos.model.config import ModelConfig
from eosvos.model.mask_rcnn import Batch, MaskRCNN
from eosvos.model.weights import initial_model

CONFIG = ModelConfig(
    backbone="tiny",
    short_side=64,
    long_side=64,
    anchor_sizes=(16, 24, 32, 48),
    rpn_samples=32,
    proposals_train=64,
    roi_samples=16,
    box_head_channels=256,
    mask_head_channels=(32,),
    mask_roi_size=7,
)
"""Most of its parameters are in the box head, so that activations are small beside them."""
ACTIVE = replace(CONFIG, short_side=128, long_side=128, fpn_channels=64, box_head_channels=64)
"""Its activations are large beside its parameters."""
CONFIGS: dict[Order, ModelConfig] = {"first": CONFIG, "second": ACTIVE}
SHORT, LONG = 2, 8


def _closed_form(order: Order, model: MaskRCNN, log_rates: list[Tensor], batch: Batch, T: int) -> None:
    learned = Learned([parameter.detach() for parameter in model.parameters()], log_rates, OuterConfig())
    meta_gradient(model, learned, batch, batch, last_only(T), (0,), order)


def _autograd(order: Order, model: MaskRCNN, log_rates: list[Tensor], batch: Batch, T: int) -> None:
    """The same gradients through the unrolled loop, to first order with the step gradients detached."""
    names = [name for name, _ in model.named_parameters()]
    start = [parameter.detach().clone().requires_grad_() for parameter in model.parameters()]
    rho = [rate.clone().requires_grad_() for rate in log_rates]
    theta = start
    for step in range(T):
        here = theta if order == "second" else [value.detach().requires_grad_() for value in theta]
        losses, _ = functional_call(model, dict(zip(names, here, strict=True)), (batch, generator(step)))
        gradients = torch.autograd.grad(
            sum(losses.values()), here, allow_unused=True, materialize_grads=True, create_graph=order == "second"
        )
        theta = [value - r.exp() * g for value, r, g in zip(theta, rho, gradients, strict=True)]
    losses, _ = functional_call(model, dict(zip(names, theta, strict=True)), (batch, generator(T)))
    torch.autograd.grad(sum(losses.values()), [*start, *rho], allow_unused=True)


def _peak(work: Callable[[], object], trace: Path) -> int:
    """The most bytes of tensors that were there at a time during ``work``, beside those that were there before."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        work()
    profiled.export_chrome_trace(str(trace))
    events = [event["args"] for event in json.loads(trace.read_text())["traceEvents"] if event["name"] == "[memory]"]
    before = events[0]["Total Allocated"] - events[0]["Bytes"]
    return int(max(event["Total Allocated"] for event in events) - before)


def _growth(way: Callable[..., None], order: Order, trace: Path) -> float:
    """Peak memory with LONG inner steps less that with SHORT ones: per step, in bytes of the parameters."""
    model, _ = initial_model(CONFIGS[order], "none", 0)
    side = model.config.short_side
    mask = torch.zeros((side, side), dtype=torch.uint8)
    mask[side // 4 : 3 * side // 4, side // 3 : 3 * side // 4] = 1
    batch = model.batch([torch.arange(side, dtype=torch.uint8).expand(3, side, side)], [mask])
    log_rates = list(initial_rates(model, RatesConfig(initial_rate=1e-4)).learned.values())
    short, long = (_peak(lambda T=T: way(order, model, log_rates, batch, T), trace) for T in (SHORT, LONG))
    return (long - short) / (LONG - SHORT) / (4 * count_parameters(model))


@pytest.mark.parametrize(
    ("order", "closed_form", "autograd"),
    [
        ("first", (-0.1 / 15, 0.1 / 15), 0.9),
        ("second", (0.9, 1.1), 4.0),  # the values before each step are kept, and none of its activations
    ],
)
def test_memory_of_an_inner_step(
    tmp_path: Path, order: Order, closed_form: tuple[float, float], autograd: float
) -> None:
    low, high = closed_form
    assert low <= _growth(_closed_form, order, tmp_path / "trace.json") <= high
    assert _growth(_autograd, order, tmp_path / "trace.json") >= autograd
