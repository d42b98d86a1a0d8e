"""Normalization that fine-tuning on one image can live with: group, or batch with frozen statistics."""

import math

import torch.nn.functional as F
from torch import Tensor, nn


class FrozenBatchNorm(nn.BatchNorm2d):
    """Batch normalization that uses its running statistics in every mode; its affine parameters are trained."""

    def forward(self, input: Tensor) -> Tensor:
        """(N, C, H, W) -> the same shape; the statistics stay as they are."""
        return F.batch_norm(input, self.running_mean, self.running_var, self.weight, self.bias, False, 0.0, self.eps)


def group_norm(channels: int) -> nn.GroupNorm:
    """Group normalization with the paper's 32 groups, or the most that divide both 32 and a narrow layer."""
    return nn.GroupNorm(math.gcd(32, channels), channels, eps=1e-5)


def to_group_norm(module: nn.Module) -> None:
    """Replaces, in place, every batch normalization below ``module`` by group normalization.

    The affine parameters are kept and the running statistics thrown away (facts: ``replace_batch_with_group_norms``).
    """
    for name, child in module.named_children():
        if isinstance(child, nn.BatchNorm2d):
            replacement = group_norm(child.num_features)
            replacement.load_state_dict({"weight": child.weight, "bias": child.bias})
            setattr(module, name, replacement)
        else:
            to_group_norm(child)
