"""A meta-step's peak memory does not grow with T; that of automatic differentiation through the loop does.

Each measurement is a fresh process, this file run as a script.
"""

import resource
import statistics
import subprocess
import sys

import pytest
import torch
from torch.func import functional_call

from eosvos.learning.inner_loop import generator
from eosvos.learning.meta_gradient import last_only, meta_gradient
from eosvos.learning.rates import RatesConfig, initial_rates
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
SEED = (0,)


def _closed_form(model: MaskRCNN, log_rates: list[torch.Tensor], batch: Batch, T: int) -> None:
    start = [parameter.detach().clone() for parameter in model.parameters()]
    meta_gradient(model, start, log_rates, "log", batch, batch, last_only(T), SEED, "first")


def _autograd(model: MaskRCNN, log_rates: list[torch.Tensor], batch: Batch, T: int) -> None:
    """The same gradients through the unrolled loop, with the step gradients detached."""
    names = [name for name, _ in model.named_parameters()]
    start = [parameter.detach().clone().requires_grad_() for parameter in model.parameters()]
    rho = [rate.clone().requires_grad_() for rate in log_rates]
    theta = start
    for step in range(T):
        here = [value.detach().requires_grad_() for value in theta]
        losses, _ = functional_call(model, dict(zip(names, here, strict=True)), (batch, generator(step)))
        gradients = torch.autograd.grad(sum(losses.values()), here, allow_unused=True, materialize_grads=True)
        theta = [value - r.exp() * g for value, r, g in zip(theta, rho, gradients, strict=True)]
    losses, _ = functional_call(model, dict(zip(names, theta, strict=True)), (batch, generator(T)))
    torch.autograd.grad(sum(losses.values()), [*start, *rho], allow_unused=True)


def _measure(kind: str) -> None:
    """Prints by how many bytes a meta-step with T=20 raises this process's peak resident memory over one with T=5."""
    torch.set_num_threads(1)
    model, _ = initial_model(CONFIG, "none", 0)
    mask = torch.zeros((64, 64), dtype=torch.uint8)
    mask[16:48, 20:50] = 1
    batch = model.batch([torch.arange(64, dtype=torch.uint8).expand(3, 64, 64)], [mask])
    log_rates = list(initial_rates(model, RatesConfig(initial_rate=1e-4)).learned.values())
    peaks = []
    for T in (5, 20):
        {"closed form": _closed_form, "autograd": _autograd}[kind](model, log_rates, batch, T)
        peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
    print(peaks[1] - peaks[0])


def _growth(kind: str) -> int:
    command = [sys.executable, __file__, kind]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300)
    return int(done.stdout)


def test_memory_is_flat_in_T() -> None:  # noqa: N802 - T is the field's name
    parameters = count_parameters(initial_model(CONFIG, "none", 0)[0])
    assert parameters >= 10_000_000
    kinds = ("closed form", "autograd")
    growth = {kind: statistics.median(_growth(kind) for _ in range(3)) / (4 * parameters) for kind in kinds}
    print(f"{parameters:,} parameters; growth of peak memory from T=5 to T=20 in their bytes: {growth}")
    assert growth["closed form"] <= 0.1
    assert growth["autograd"] >= 10


if __name__ == "__main__":
    _measure(sys.argv[1])
