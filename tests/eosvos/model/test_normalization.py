"""Normalization that stays what it was while fine-tuning."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torchvision.models import mobilenet_v2

from eosvos.learning.config import RatesConfig
from eosvos.learning.inner_loop import fine_tune
from eosvos.learning.rates import initial_rates
from eosvos.model.config import ModelConfig
from eosvos.model.normalization import FoldedSequential, FrozenBatchNorm, fold_batch_norm, group_norm, to_group_norm
from eosvos.model.weights import initial_model


@pytest.mark.parametrize(("channels", "groups"), [(24, 8), (32, 32), (48, 16), (96, 32), (256, 32), (7, 1), (4, 4)])
def test_groups_divide_the_channels(channels: int, groups: int) -> None:
    assert group_norm(channels).num_groups == groups


def test_conversion_keeps_the_affine_parameters() -> None:
    model = nn.Sequential(nn.Conv2d(3, 48, 1), FrozenBatchNorm(48), nn.Sequential(nn.BatchNorm2d(7), nn.ReLU()))
    norms = [model[1], model[2][0]]
    for norm in norms:
        nn.init.normal_(norm.weight)
        nn.init.normal_(norm.bias)
        norm.running_mean.fill_(9.0)
    to_group_norm(model)
    for old, new in zip(norms, (model[1], model[2][0]), strict=True):
        assert isinstance(new, nn.GroupNorm)
        assert torch.equal(new.weight, old.weight)
        assert torch.equal(new.bias, old.bias)
        assert new.weight.requires_grad
        assert new.weight is not old.weight


def test_frozen_statistics_are_used_in_training_too() -> None:
    norm = FrozenBatchNorm(3)
    norm.running_mean.copy_(torch.tensor([1.0, 2.0, 3.0]))
    norm.running_var.copy_(torch.tensor([1.0, 4.0, 9.0]))
    x = torch.randn(4, 3, 5, 5)
    expected = (x - norm.running_mean[:, None, None]) / (norm.running_var[:, None, None] + norm.eps).sqrt()
    torch.testing.assert_close(norm(x), expected)  # a new module is in training mode
    torch.testing.assert_close(norm.eval()(x), expected)
    torch.testing.assert_close(norm.train()(x), expected)
    assert norm.running_mean.tolist() == [1, 2, 3]


def test_folding_changes_no_name_output_or_gradient() -> None:
    torch.manual_seed(0)

    def body(folded: bool) -> nn.Module:
        body = mobilenet_v2(norm_layer=FrozenBatchNorm).features[:4].double()
        if folded:
            fold_batch_norm(body)
        return body

    plain, folded = body(False), body(True)
    for norm in (module for module in plain.modules() if isinstance(module, FrozenBatchNorm)):
        for values in (norm.running_mean, norm.running_var, norm.weight, norm.bias):
            nn.init.uniform_(values, 0.5, 1.5)
    folded.load_state_dict(plain.state_dict())
    x = torch.randn(2, 3, 32, 32, dtype=torch.float64)
    outputs, gradients = [], []
    for model in (plain, folded):
        outputs.append(model(x))
        gradients.append(torch.autograd.grad(outputs[-1].square().sum(), list(model.parameters())))
    assert [name for name, _ in plain.named_parameters()] == [name for name, _ in folded.named_parameters()]
    assert sum(isinstance(module, FoldedSequential) for module in folded.modules()) == 9
    torch.testing.assert_close(*outputs, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(*gradients, rtol=1e-9, atol=1e-9)


def test_a_convolution_with_a_bias_is_left_alone() -> None:
    body = nn.Sequential(nn.Sequential(nn.Conv2d(3, 4, 1), FrozenBatchNorm(4)))
    x = torch.randn(1, 3, 5, 5)
    expected = body(x)
    fold_batch_norm(body)
    assert isinstance(body[0], FoldedSequential)
    assert torch.equal(body(x), expected)


def test_fine_tuning_moves_the_affine_parameters_and_no_statistics(
    micro_mobilenet: ModelConfig, scene: Callable[..., Any]
) -> None:
    model = initial_model(micro_mobilenet, "none", seed=0)[0]
    norms = [module for module in model.modules() if isinstance(module, FrozenBatchNorm)]
    assert len(norms) == 51
    for norm in norms:
        norm.running_mean.uniform_(-0.1, 0.1)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    image, mask = scene(0)
    rates = list(initial_rates(model, RatesConfig(rate_form="linear", initial_rate=0.01)).learned.values())
    fine_tune(model, model.batch([image], [mask]), rates, range(2), (0,))
    after, affine = model.state_dict(), {name for name, _ in model.named_parameters()}
    for name, value in before.items():
        if name not in affine:
            assert torch.equal(after[name], value), name
    assert all(not torch.equal(after[name], before[name]) for name in affine if name.startswith("backbone.body.1."))
