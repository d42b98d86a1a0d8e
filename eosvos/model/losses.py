"""Losses on mask logits: Lovász hinge and binary cross-entropy."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import roi_align

from eosvos.data.sequence import VOID

IGNORED = VOID
"""Value of mask pixels that no loss looks at."""


def lovasz_hinge(logits: Tensor, targets: Tensor) -> Tensor:
    """Lovász hinge, a convex surrogate of the Jaccard loss (Berman et al., CVPR 2018), one per mask.

    Args:
        logits: (N, P) float, one row per mask, one column per pixel.
        targets: (N, P) of the same type, in [0, 1], where soft ones count for their part as object and for the rest as
            background (as in the authors' release); pixels above 1 are ignored.

    Returns:
        (N,) losses, each at least 0. The weights of the sorted errors carry no gradient.
    """
    ignored = targets > 1
    targets = targets.masked_fill(ignored, 0)
    signs = 2 * targets - 1
    # An error below 0 counts for nothing, and comes behind all that count.
    errors, order = torch.sort((1 - logits * signs).masked_fill(ignored, -1), dim=1, descending=True)
    sorted_targets = targets.gather(1, order)
    total = sorted_targets.sum(dim=1, keepdim=True)
    intersection = total - sorted_targets.cumsum(dim=1)
    union = total + (1 - sorted_targets).cumsum(dim=1)
    jaccard = 1 - intersection / union
    weights = torch.cat((jaccard[:, :1], jaccard[:, 1:] - jaccard[:, :-1]), dim=1)
    return (F.relu(errors) * weights.detach()).sum(dim=1)


def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Binary cross-entropy, averaged over the pixels that are not ignored: as ``lovasz_hinge``."""
    counted = targets <= 1
    losses = F.binary_cross_entropy_with_logits(logits, targets.masked_fill(~counted, 0), reduction="none")
    return (losses * counted).sum(dim=1) / counted.sum(dim=1).clamp(min=1)


@dataclass(frozen=True)
class BoxLosses:
    """Smooth L1 on encoded boxes: quadratic below ``beta``, linear above, with slope 1; L1 where beta is 0.

    Attributes:
        rpn_beta: of the region proposal network.
        head_beta: of the box head.
    """

    rpn_beta: float
    head_beta: float


BOX_LOSSES = {"smooth": BoxLosses(1 / 9, 1 / 9), "release": BoxLosses(0.0, 1.0)}
"""By ``ModelConfig.box_regression``; torchvision changed from the second to the first in its pull request 2113."""
MASK_LOSSES = {"lovasz_hinge": lovasz_hinge, "cross_entropy": cross_entropy}


def mask_loss(
    kind: str,
    logits: Tensor,
    boxes: list[Tensor],
    masks: list[Tensor],
    soft_targets: bool = False,
    aligned: bool = True,
) -> Tensor:
    """Loss of the mask head over the positive proposals of a batch.

    Args:
        kind: a key of ``MASK_LOSSES``.
        logits: (N, M, M) float, for the proposals of all objects in order.
        boxes: per object of all images (N_i, 4) float, the proposals that it was matched with, pixels of the padded
            input.
        masks: per object (H, W), 0, 1 or ``IGNORED``.
        soft_targets: take the masks as they come out of RoIAlign, instead of 1 from one half on and else 0.
        aligned: take the targets where the boxes are. Without it RoIAlign takes them half a pixel down and right of
            there, so that a mask comes out half a pixel up and left.

    Returns:
        scalar: the mean over proposals; 0 with a gradient of 0 where there is none.
    """
    if logits.shape[0] == 0:
        return logits.sum() * 0
    side = logits.shape[-1]
    targets = torch.cat(
        [
            roi_align(mask[None, None].to(logits.dtype), [of_image.to(logits.dtype)], side, aligned=aligned)[:, 0]
            for mask, of_image in zip(masks, boxes, strict=True)
        ]
    )
    if not soft_targets:
        targets = torch.where(targets > 1, targets, (targets >= 0.5).to(logits.dtype))
    return MASK_LOSSES[kind](logits.flatten(1), targets.flatten(1)).mean()
