"""Box and mask heads for one object: torchvision's, with our samples, mask loss and single best detection."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.models.detection.roi_heads import RoIHeads, paste_masks_in_image
from torchvision.ops import box_iou, clip_boxes_to_image, nms

from eosvos.model.boxes import scale_box
from eosvos.model.config import BACKBONE_LEVELS, ModelConfig
from eosvos.model.losses import BOX_LOSSES, mask_loss
from eosvos.model.roi_align import PyramidRoIAlign
from eosvos.model.sampling import SeededSampler

OBJECT = 1
"""The one class beside the background."""
MASK_SHIFT = {"aligned": 0.0, "shifted": 0.5}
"""By ``ModelConfig.mask_targets``: pixels that a mask is to be moved down and right to be where the object is."""


@dataclass(frozen=True)
class Detection:
    """A detection of the object in one frame.

    Attributes:
        box: (4,) float, x0 y0 x1 y1 in pixels of the model's input.
        score: probability of the class "object", in (0.5, 1] by default.
        rank: score, and what continuity adds to it.
        logits: (M, M) float, mask logits.
        mask_box: (4,) float, as ``box``: what the logits fill, which is the box, or half a pixel off it.
    """

    box: Tensor
    score: float
    rank: float
    logits: Tensor
    mask_box: Tensor


@dataclass(frozen=True)
class Following:
    """What is known of where the object is.

    Attributes:
        box: (4,) float, as in ``Detection``: where it was seen last.
        weight: what the overlap with it counts beside the score, at least 0.
        threshold: of the score.
    """

    box: Tensor
    weight: float
    threshold: float


class SingleObjectRoIHeads(RoIHeads):  # type: ignore[misc]
    """RoI heads with a configurable mask loss in training and the best detections in segmentation.

    Attributes:
        config: of the model.
        following: where the object was seen last; without it the highest score counts.
        count: how many detections are wanted.
    """

    config: ModelConfig
    following: Following | None = None
    count: int = 1

    def forward(
        self,
        features: dict[str, Tensor],
        proposals: list[Tensor],
        image_shapes: list[tuple[int, int]],
        targets: list[dict[str, Tensor]] | None = None,
    ) -> tuple[list[list[Detection]], dict[str, Tensor]]:
        """torchvision's contract, with the best detections per image, best first, as results.

        Args:
            features: pyramid levels, each (N, C, H_l, W_l) float.
            proposals: per image (P_i, 4) float, pixels of the padded input.
            image_shapes: per image (H, W) before padding.
            targets: as in ``Batch``; needed in training mode.

        Returns:
            detections (empty in training) and losses (empty in evaluation): ``loss_classifier``, ``loss_box_reg``,
            ``loss_mask``, scalars.
        """
        if targets is not None:
            return [], self._losses(features, proposals, image_shapes, targets)
        return self._best_detections(features, proposals, image_shapes), {}

    def _losses(
        self,
        features: dict[str, Tensor],
        proposals: list[Tensor],
        image_shapes: list[tuple[int, int]],
        targets: list[dict[str, Tensor]],
    ) -> dict[str, Tensor]:
        proposals, matches, labels, regression_targets = self.select_training_samples(proposals, targets)
        pooled = self.box_roi_pool(features, proposals, image_shapes)
        class_logits, box_regression = self.box_predictor(self.box_head(pooled))
        classification = F.cross_entropy(class_logits, torch.cat(labels))
        box = self._box_loss(box_regression, torch.cat(labels), torch.cat(regression_targets))
        of_objects = [
            [boxes[(label > 0) & (match == place)] for place in range(len(target["masks"]))]
            for boxes, label, match, target in zip(proposals, labels, matches, targets, strict=True)
        ]
        positive = [torch.cat([boxes[:0], *own]) for boxes, own in zip(proposals, of_objects, strict=True)]
        logits = self._mask_logits(features, positive, image_shapes)
        masks = [mask for target in targets for mask in target["masks"]]
        own_boxes = [boxes for own in of_objects for boxes in own]
        aligned = self.config.mask_targets == "aligned"
        mask = mask_loss(self.config.mask_loss, logits, own_boxes, masks, self.config.soft_mask_targets, aligned)
        return {"loss_classifier": classification, "loss_box_reg": box, "loss_mask": mask}

    def _box_loss(self, predicted: Tensor, labels: Tensor, targets: Tensor) -> Tensor:
        """Smooth L1 on the encoded boxes of the positive proposals, over the number of all.

        Args:
            predicted: (P, 8) float, encoded boxes of background and object.
            labels: (P,) int64.
            targets: (P, 4) float.
        """
        positive = torch.where(labels > 0)[0]
        of_object = predicted.reshape(len(labels), -1, 4)[positive, labels[positive]]
        beta = BOX_LOSSES[self.config.box_regression].head_beta
        return F.smooth_l1_loss(of_object, targets[positive], beta=beta, reduction="sum") / labels.numel()

    def _mask_logits(
        self, features: dict[str, Tensor], boxes: list[Tensor], image_shapes: list[tuple[int, int]]
    ) -> Tensor:
        pooled = self.mask_roi_pool(features, boxes, image_shapes)
        return self.mask_predictor(self.mask_head(pooled))[:, OBJECT]  # type: ignore[no-any-return]

    def _best_detections(
        self, features: dict[str, Tensor], proposals: list[Tensor], image_shapes: list[tuple[int, int]]
    ) -> list[list[Detection]]:
        pooled = self.box_roi_pool(features, proposals, image_shapes)
        class_logits, box_regression = self.box_predictor(self.box_head(pooled))
        counts = [len(boxes) for boxes in proposals]
        all_scores = class_logits.softmax(dim=-1)[:, OBJECT].split(counts)
        # torchvision's decoder leaves the coordinates of all classes in one dimension where nothing is proposed.
        decoded = self.box_coder.decode(box_regression, proposals).reshape(*class_logits.shape, 4)
        all_boxes = decoded[:, OBJECT].split(counts)
        best = [
            self._ranked(scores, clip_boxes_to_image(boxes, shape))
            for scores, boxes, shape in zip(all_scores, all_boxes, image_shapes, strict=True)
        ]
        if not any(best):
            return [[] for _ in best]
        boxes = [torch.stack([box for box, *_ in found]) if found else proposals[0][:0] for found in best]
        logits = iter(self._mask_logits(features, boxes, image_shapes))
        shift = MASK_SHIFT[self.config.mask_targets]
        return [
            [Detection(box, score, rank, next(logits), box + shift) for box, score, rank in found] for found in best
        ]

    def _ranked(self, scores: Tensor, boxes: Tensor) -> list[tuple[Tensor, float, float]]:
        """Boxes, scores and ranks of the best of all proposals (P,), (P, 4) in one image, best first."""
        following = self.following
        threshold = self.score_thresh if following is None else following.threshold
        usable = ((boxes[:, 2:] - boxes[:, :2]).amin(dim=1) >= 1) & (scores > threshold)
        if not usable.any():
            return []
        ranks = scores
        if following is not None and following.weight > 0:
            ranks = scores + following.weight * box_iou(boxes, following.box[None].to(boxes))[:, 0]
        if self.count == 1:  # what non-maximum suppression keeps first
            chosen = torch.where(usable, ranks, -1.0).argmax()[None]
        else:
            places = torch.where(usable)[0]
            chosen = places[nms(boxes[places], ranks[places], self.nms_thresh)][: self.count]
        return [(boxes[place], float(scores[place]), float(ranks[place])) for place in chosen]


def build_roi_heads(config: ModelConfig) -> SingleObjectRoIHeads:
    """The heads, randomly initialized from torch's global generator, with the thresholds of torchvision."""
    channels, hidden = config.fpn_channels, config.mask_head_channels[-1]
    levels = [str(level) for level in range(BACKBONE_LEVELS[config.backbone])]
    heads = SingleObjectRoIHeads(
        PyramidRoIAlign(levels, 7, 2),
        TwoMLPHead(channels * 7 * 7, config.box_head_channels),
        FastRCNNPredictor(config.box_head_channels, num_classes=2),
        fg_iou_thresh=0.5,
        bg_iou_thresh=0.5,
        batch_size_per_image=config.roi_samples,
        positive_fraction=0.25,
        bbox_reg_weights=None,
        score_thresh=0.5,
        nms_thresh=0.5,
        detections_per_img=1,
        mask_roi_pool=PyramidRoIAlign(levels, config.mask_roi_size, 2),
        mask_head=MaskRCNNHeads(channels, config.mask_head_channels, dilation=1),
        mask_predictor=MaskRCNNPredictor(hidden, hidden, num_classes=2),
    )
    heads.fg_bg_sampler = SeededSampler(config.roi_samples, 0.25)
    heads.config = config
    return heads


def paste_mask(detection: Detection, input_size: tuple[int, int], size: tuple[int, int]) -> Tensor:
    """A detection's mask probabilities in the whole frame, bilinear between those of the mask.

    Args:
        detection: its box in pixels of the model's input.
        input_size: (H, W) of the model's input.
        size: (H, W) of the video, and of the result.

    Returns:
        (H, W) float32 in [0, 1]; below one half outside the box, 0 from half a pixel of the mask on.
    """
    probabilities = detection.logits.sigmoid().float()
    x0, y0, x1, y1 = scale_box(detection.mask_box, input_size, size).float()
    side = len(probabilities)
    return _between(y0, y1, side, size[0]) @ probabilities @ _between(x0, x1, side, size[1]).T


def _between(start: Tensor, end: Tensor, side: int, size: int) -> Tensor:
    """What each of ``side`` values along a box, from ``start`` to ``end``, counts in each pixel: (size, side) float.

    Values and pixels are those of their centres; beside the box all is 0.
    """
    centres = torch.arange(size, device=start.device) + 0.5
    places = (centres - start) / (end - start) * side - 0.5
    return (1 - (places[:, None] - torch.arange(side, device=start.device)).abs()).clamp(min=0)


def paste_as_release(detection: Detection, input_size: tuple[int, int], size: tuple[int, int]) -> Tensor:
    """As ``paste_mask``, by torchvision's function: the box is cut down to whole pixels, and a pixel longer."""
    probabilities = detection.logits.sigmoid()[None, None]
    boxes = scale_box(detection.box, input_size, size)[None]
    return paste_masks_in_image(probabilities, boxes, size)[0, 0].float()  # type: ignore[no-any-return]


PASTINGS: dict[str, Callable[[Detection, tuple[int, int], tuple[int, int]], Tensor]] = {
    "exact": paste_mask,
    "release": paste_as_release,
}
"""By ``SegmentationConfig.pasting``."""
