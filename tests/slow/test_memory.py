"""A meta-step's peak memory: flat in T to first order, growing by the parameters alone to second order.

That of automatic differentiation through the loop grows by the activations.

Each measurement is a fresh process, this file run as a script.
"""

import statistics
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.func import functional_call

from eosvos.draws import generator
from eosvos.learning.config import Order, OuterConfig, RatesConfig
from eosvos.learning.meta_gradient import last_only, meta_gradient
from eosvos.learning.outer_loop import Learned
from eosvos.learning.rates import initial_rates
from eosvos.model.backbones import count_parameters
from eosvos.model.config import ModelConfig
from eosvos.model.mask_rcnn import Batch, MaskRCNN
from eosvos.model.weights import initial_model

pytestmark = pytest.mark.slow

CONFIG = ModelConfig(
    backbone="tiny",
    short_side=64,
    long_side=64,
    anchor_sizes=(16, 24, 32, 48),
    rpn_samples=32,
    proposals_train=64,
    roi_samples=16,
    box_head_channels=2048,
    mask_head_channels=(32,),
    mask_roi_size=7,
)
"""Most of its parameters are in the box head, so that activations are small beside them."""
ACTIVE = replace(CONFIG, short_side=128, long_side=128, fpn_channels=64, box_head_channels=64)
"""Its activations are large beside its parameters."""
SEED = (0,)
SHORT, LONG = 5, 20


def _closed_form(order: Order, model: MaskRCNN, log_rates: list[torch.Tensor], batch: Batch, T: int) -> None:
    learned = Learned([parameter.detach() for parameter in model.parameters()], log_rates, OuterConfig())
    meta_gradient(model, learned, batch, batch, last_only(T), SEED, order)


def _autograd(order: Order, model: MaskRCNN, log_rates: list[torch.Tensor], batch: Batch, T: int) -> None:
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


KINDS = {"closed form": _closed_form, "autograd": _autograd}
CONFIGS: dict[str, ModelConfig] = {"first": CONFIG, "second": ACTIVE}


def _measure(kind: str, order: Order, T: int) -> None:
    """Prints the peak resident memory of this process, in bytes, after a meta-step with T inner steps."""
    torch.set_num_threads(1)
    model, _ = initial_model(CONFIGS[order], "none", 0)
    side = model.config.short_side
    mask = torch.zeros((side, side), dtype=torch.uint8)
    mask[side // 4 : 3 * side // 4, side // 3 : 3 * side // 4] = 1
    batch = model.batch([torch.arange(side, dtype=torch.uint8).expand(3, side, side)], [mask])
    log_rates = list(initial_rates(model, RatesConfig(initial_rate=1e-4)).learned.values())
    KINDS[kind](order, model, log_rates, batch, T)
    # Not getrusage, whose peak begins with that of the process which started this one.
    status = Path("/proc/self/status").read_text()
    print(int(status.split("VmHWM:")[1].split()[0]) * 1024)


def _growth(kind: str, order: Order) -> float:
    """Peak memory with LONG steps less that with SHORT ones, medians of three processes, in bytes of the parameters."""
    parameters = count_parameters(initial_model(CONFIGS[order], "none", 0)[0])
    short, long = (
        statistics.median(
            int(subprocess.run(command, capture_output=True, text=True, check=True, timeout=300).stdout)
            for command in [[sys.executable, __file__, kind, order, str(T)]] * 3
        )
        for T in (SHORT, LONG)
    )
    growth = (long - short) / (4 * parameters)
    print(f"{order} order, {kind}: {parameters:,} parameters, peak memory grows by {growth:.2f} times their bytes")
    return growth


def test_memory_is_flat_in_T() -> None:  # noqa: N802 - T is the field's name
    assert count_parameters(initial_model(CONFIG, "none", 0)[0]) >= 10_000_000
    assert _growth("closed form", "first") <= 0.1
    assert _growth("autograd", "first") >= 10


def test_memory_of_second_order_grows_by_the_parameters() -> None:
    """The values before each step are kept, and none of its activations."""
    further = LONG - SHORT
    assert _growth("closed form", "second") <= 1.1 * further
    assert _growth("autograd", "second") >= 4 * further


if __name__ == "__main__":
    _measure(sys.argv[1], sys.argv[2], int(sys.argv[3]))  # type: ignore[arg-type]
