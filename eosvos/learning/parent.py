"""The parent: Mask R-CNN trained as a plain segmenter of the targets, without fine-tuning in mind."""

from torch import Tensor

from eosvos.draws import generator
from eosvos.learning.inner_loop import gradient, load_parameters
from eosvos.model.mask_rcnn import Batch, MaskRCNN


def parent_gradient(
    model: MaskRCNN, initialization: list[Tensor], batch: Batch, seed: tuple[int, ...]
) -> tuple[float, list[Tensor]]:
    """Loss and gradient of one task's frames, all learned from alike (the baseline of the paper's Table 1, row 1).

    Args:
        model: left holding ``initialization``.
        initialization: one tensor per trainable parameter.
        batch: all frames of the task.
        seed: ids of the task.
    """
    load_parameters(model, initialization)
    loss, gradients = gradient(model, batch, generator(*seed))
    return float(loss), gradients
