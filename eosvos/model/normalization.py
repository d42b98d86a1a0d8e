"""Normalization that fine-tuning on one image can live with: group, or batch with frozen statistics."""

import math
from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class FrozenBatchNorm(nn.BatchNorm2d):
    """Batch normalization that uses its running statistics in every mode; its affine parameters are trained.

    Attributes:
        live: use the statistics of each batch instead, and keep them in ``seen``: how a parent that starts from nothing
            is trained. The running statistics stay as they are until ``update_statistics``.
        seen: mean and variance (C,) of the last batch.
    """

    live = False
    seen: tuple[Tensor, Tensor] | None = None

    def forward(self, input: Tensor) -> Tensor:
        """(N, C, H, W) -> the same shape."""
        if self.live and self.training:
            variance, mean = torch.var_mean(input.detach(), dim=(0, 2, 3), unbiased=False)
            self.seen = (mean, variance)
            return F.batch_norm(input, None, None, self.weight, self.bias, True, 0.0, self.eps)
        return F.batch_norm(input, self.running_mean, self.running_var, self.weight, self.bias, False, 0.0, self.eps)


class FoldedSequential(nn.Sequential):
    """A sequence in which each convolution without bias runs as one with the frozen batch normalization behind it.

    Same parameters, names and function, to rounding; two passes fewer over the largest activations, and in the backward
    pass the affine parameters' gradients come from the small weights.
    """

    def forward(self, input: Tensor) -> Tensor:
        """As ``nn.Sequential``."""
        modules = list(self)
        while modules:
            module, norm = modules.pop(0), modules[0] if modules else None
            if (
                isinstance(module, nn.Conv2d)
                and module.bias is None
                and isinstance(norm, FrozenBatchNorm)
                and not norm.live
            ):
                input = _convolve_and_normalize(input, module, norm)
                del modules[0]
            else:
                input = module(input)
        return input


def _convolve_and_normalize(input: Tensor, convolution: nn.Conv2d, norm: FrozenBatchNorm) -> Tensor:
    """Both as one convolution."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
    return F.conv2d(
        input,
        convolution.weight * scale[:, None, None, None],
        norm.bias - norm.running_mean * scale,
        convolution.stride,
        convolution.padding,
        convolution.dilation,
        convolution.groups,
    )


def fold_batch_norm(module: nn.Module) -> None:
    """Makes, in place, a ``FoldedSequential`` of every sequence below ``module`` that holds frozen batch norms."""
    for name, child in module.named_children():
        fold_batch_norm(child)
        if isinstance(child, nn.Sequential) and any(isinstance(part, FrozenBatchNorm) for part in child):
            setattr(module, name, FoldedSequential(*child))


def frozen_batch_norms(model: nn.Module) -> list[FrozenBatchNorm]:
    """All that the model has, in its order."""
    return [module for module in model.modules() if isinstance(module, FrozenBatchNorm)]


def seen_statistics(norms: Sequence[FrozenBatchNorm]) -> list[Tensor]:
    """Mean and variance of each one's last batch; none where they are not live."""
    return [value for norm in norms if norm.seen is not None for value in norm.seen]


def running_statistics(norms: Sequence[FrozenBatchNorm]) -> list[Tensor]:
    """Mean and variance of each one that are used when it is not live."""
    both = [value for norm in norms for value in (norm.running_mean, norm.running_var)]
    return [value for value in both if value is not None]  # a frozen one always has both


def update_statistics(norms: Sequence[FrozenBatchNorm], seen: Sequence[Tensor]) -> None:
    """Moves the running statistics a tenth of the way (torch's default) to ``seen``, in the order of the above."""
    for running, value in zip(running_statistics(norms), seen, strict=True):
        running.lerp_(value, 0.1)


def has_initial_statistics(state: Mapping[str, Tensor]) -> bool:
    """Whether a model's state dict has batch normalization whose running statistics nobody has found yet."""
    means, variances = (
        [value for name, value in state.items() if name.endswith(ending)] for ending in ("running_mean", "running_var")
    )
    return bool(means) and not any(mean.any() for mean in means) and all(bool((v == 1).all()) for v in variances)


def group_norm(channels: int) -> nn.GroupNorm:
    """Group normalization with the paper's 32 groups, or the most that divide both 32 and a narrow layer."""
    return nn.GroupNorm(math.gcd(32, channels), channels, eps=1e-5)


def to_group_norm(module: nn.Module) -> None:
    """Replaces, in place, every batch normalization below ``module`` by group normalization.

    The affine parameters stay, the running statistics go (the authors' release: ``replace_batch_with_group_norms``).
    """
    for name, child in module.named_children():
        if isinstance(child, nn.BatchNorm2d):
            replacement = group_norm(child.num_features)
            replacement.load_state_dict({"weight": child.weight, "bias": child.bias})
            setattr(module, name, replacement)
        else:
            to_group_norm(child)
