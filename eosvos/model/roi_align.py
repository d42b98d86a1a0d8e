"""RoIAlign (He et al., "Mask R-CNN", ICCV 2017), quick on small feature maps and differentiable any number of times."""

from typing import Any

import torch
from torch import Tensor
from torchvision.ops import MultiScaleRoIAlign
from torchvision.ops.poolers import _convert_to_roi_format, initLevelMapper

SMALL = 8192
"""Feature maps of at most so many pixels take the backward pass by matrix products, whose cost grows with the map."""

FINEST = 2
"""Logarithm of the finest level's stride, 4."""


class _RoIAlign(torch.autograd.Function):
    """torchvision's forward operator; it is linear in the features, so its backward is its transpose."""

    @staticmethod
    def forward(ctx: Any, features: Tensor, rois: Tensor, scale: float, side: int, sampling: int) -> Tensor:
        ctx.save_for_backward(rois)
        ctx.shape, ctx.arguments = features.shape, (scale, side, sampling)
        pooled: Tensor = torch.ops.torchvision.roi_align(features, rois, scale, side, side, sampling, False)
        return pooled

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None, None]:
        (rois,) = ctx.saved_tensors
        scale, side, sampling = ctx.arguments
        if ctx.shape[2] * ctx.shape[3] <= SMALL:
            return _features_gradient(gradient, rois, scale, sampling, ctx.shape), None, None, None, None
        return _RoIAlignTransposed.apply(gradient, rois, scale, side, sampling, ctx.shape), None, None, None, None


class _RoIAlignTransposed(torch.autograd.Function):
    """torchvision's backward operator; the transpose of a transpose is the forward operator again."""

    @staticmethod
    def forward(
        ctx: Any, gradient: Tensor, rois: Tensor, scale: float, side: int, sampling: int, shape: tuple[int, ...]
    ) -> Tensor:
        ctx.save_for_backward(rois)
        ctx.arguments = (scale, side, sampling)
        result: Tensor = torch.ops.torchvision._roi_align_backward(
            gradient, rois, scale, side, side, *shape, sampling, False
        )
        return result

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None, None, None]:
        (rois,) = ctx.saved_tensors
        return roi_align(gradient, rois, *ctx.arguments), None, None, None, None, None


def _features_gradient(gradient: Tensor, rois: Tensor, scale: float, sampling: int, shape: tuple[int, ...]) -> Tensor:
    """Gradient of the features, of ``shape`` (N, C, H, W), from that of the pooled ones, (K, C, P, P).

    Bilinear interpolation and the mean over a bin's samples are products of one part for rows and one for columns, so
    pooling is Y F X^T with Y (P, H) and X (P, W) of each box, and its transpose Y^T G X.
    """
    (n, channels, height, width), (count, _, side, _) = shape, gradient.shape
    x, y = (_weights(rois[:, i], rois[:, i + 2], scale, side, sampling, size) for i, size in ((1, width), (2, height)))
    rows = gradient.permute(0, 2, 1, 3).reshape(count, side * channels, side) @ x
    rows = rows.view(count, side, channels * width)
    images = []
    for image in range(n):
        of_image = rois[:, 0] == image
        image_rows, image_y = (rows, y) if n == 1 else (rows[of_image], y[of_image])
        product = image_y.reshape(-1, height).T @ image_rows.reshape(-1, channels * width)
        images.append(product.view(height, channels, width).transpose(0, 1))
    return torch.stack(images)


def _weights(start: Tensor, end: Tensor, scale: float, side: int, sampling: int, size: int) -> Tensor:
    """What each of ``size`` pixels along an axis counts in each of ``side`` bins: (K,), (K,) -> (K, side, size).

    The rules are those of torchvision's operator: a box is at least one pixel wide, a sample more than one pixel
    outside is 0, and one less far outside is moved to the border.
    """
    start, end = start * scale, end * scale
    bins = (end - start).clamp(min=1) / side
    offsets = (torch.arange(side * sampling, device=start.device, dtype=start.dtype) + 0.5) / sampling
    samples = start[:, None] + offsets * bins[:, None]
    inside = (samples >= -1) & (samples <= size)
    samples = samples.clamp(0, size - 1)
    pixels = torch.arange(size, device=start.device, dtype=start.dtype)
    weights = (1 - (samples[:, :, None] - pixels).abs()).clamp(min=0) * inside[:, :, None]
    return weights.view(-1, side, sampling, size).mean(dim=2)


def roi_align(features: Tensor, rois: Tensor, scale: float, side: int, sampling: int) -> Tensor:
    """Pools each box to ``side`` x ``side`` bins of ``sampling`` x ``sampling`` bilinear samples each.

    Args:
        features: (N, C, H, W) float.
        rois: (K, 5) float: index of the image, then x0 y0 x1 y1 in pixels of the input. They get no gradient.
        scale: pixels of the feature map to one of the input.
        side: bins along each axis.
        sampling: samples along each axis of a bin, at least 1.

    Returns:
        (K, C, side, side), to the bit what ``torchvision.ops.roi_align`` gives.
    """
    pooled: Tensor = _RoIAlign.apply(features, rois, scale, side, sampling)
    return pooled


class PyramidRoIAlign(MultiScaleRoIAlign):  # type: ignore[misc]
    """torchvision's pooling from the pyramid level that fits each box, by ``roi_align`` above.

    The levels have strides 4, 8, 16, ...: torchvision's guesses them from the sizes of features and frames, wrongly
    where a small frame was padded a lot.
    """

    def __init__(self, levels: list[str], side: int, sampling: int, canonical_scale: int = 224) -> None:
        super().__init__(levels, side, sampling, canonical_scale=canonical_scale)
        self.scales = [2.0**-level for level in range(FINEST, FINEST + len(levels))]
        self.map_levels = initLevelMapper(FINEST, FINEST + len(levels) - 1, self.canonical_scale, self.canonical_level)

    def forward(self, x: dict[str, Tensor], boxes: list[Tensor], image_shapes: list[tuple[int, int]]) -> Tensor:
        """As torchvision's: levels (N, C, H_l, W_l), per image (K_i, 4) -> (sum of K_i, C, side, side)."""
        levels = [x[name] for name in self.featmap_names]
        rois = _convert_to_roi_format(boxes)
        side = self.output_size[0]
        level_of = self.map_levels(boxes)
        pooled = levels[0].new_zeros((len(rois), levels[0].shape[1], side, side))
        for level, (features, scale) in enumerate(zip(levels, self.scales, strict=True)):
            places = torch.where(level_of == level)[0]
            if len(places) > 0:
                on_level = roi_align(features, rois[places], scale, side, self.sampling_ratio)
                pooled = pooled.index_copy(0, places, on_level)
        return pooled
