"""Boxes: x0, y0, x1, y1 in pixels, the last two one beyond what they hold."""

import torch
from torch import Tensor
from torchvision.ops import clip_boxes_to_image


def scale_box(box: Tensor, size: tuple[int, int], to: tuple[int, int]) -> Tensor:
    """A box (4,) in pixels of a frame of ``size`` (H, W), in pixels of one of size ``to``."""
    return box * box.new_tensor([to[1] / size[1], to[0] / size[0]] * 2)


def jittered_boxes(box: Tensor, count: int, size: tuple[int, int], draws: torch.Generator) -> Tensor:
    """Copies of a box with each side moved outwards by up to a tenth of the box's extent, as the release does.

    Args:
        box: (4,) float, x0 y0 x1 y1, on the CPU.
        count: number of copies.
        size: (H, W) to clamp to.
        draws: CPU generator.

    Returns:
        (count, 4) float.
    """
    amounts = torch.rand((count, 4), generator=draws) * 0.1
    width, height = box[2] - box[0], box[3] - box[1]
    outwards = torch.stack((-width, -height, width, height))
    return clip_boxes_to_image(box + amounts * outwards, size)  # type: ignore[no-any-return]
