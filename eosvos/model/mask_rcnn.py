"""Mask R-CNN for one object: torchvision's parts, with our samplers, mask loss and single best detection."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.generalized_rcnn import GeneralizedRCNN
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.models.detection.roi_heads import RoIHeads, fastrcnn_loss, paste_masks_in_image
from torchvision.models.detection.rpn import RegionProposalNetwork, RPNHead
from torchvision.models.detection.transform import GeneralizedRCNNTransform, resize_boxes
from torchvision.ops import clip_boxes_to_image

from eosvos.model.backbones import build_backbone
from eosvos.model.config import BACKBONE_LEVELS, ModelConfig
from eosvos.model.losses import IGNORED, mask_loss
from eosvos.model.roi_align import PyramidRoIAlign
from eosvos.model.sampling import SeededSampler

IMAGE_MEAN, IMAGE_STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
OBJECT = 1
"""The one class beside the background."""


@dataclass(frozen=True)
class Batch:
    """Frames of one size, ready for the model, with one object each.

    Attributes:
        images: normalized and padded frames, (N, 3, H', W') float, with the N sizes before padding.
        targets: per frame ``boxes`` (1, 4) float, ``labels`` (1,) int64, ``masks`` (1, H', W') uint8.
    """

    images: ImageList
    targets: list[dict[str, Tensor]]


@dataclass(frozen=True)
class Detection:
    """The best detection of the object in one frame.

    Attributes:
        box: (4,) float, x0 y0 x1 y1 in pixels of the model's input.
        score: probability of the class "object", in (0.5, 1] by default.
        logits: (M, M) float, mask logits inside the box.
    """

    box: Tensor
    score: float
    logits: Tensor


class ReplayableRPN(RegionProposalNetwork):  # type: ignore[misc]
    """torchvision's network, which can be told to propose what was proposed before."""

    replayed: list[Tensor] | None = None

    def filter_proposals(
        self, proposals: Tensor, objectness: Tensor, image_shapes: list[tuple[int, int]], num_anchors: list[int]
    ) -> tuple[list[Tensor], list[Tensor]]:
        """As torchvision's: per image the proposals (P_i, 4) and their scores, which nobody asks for when replayed."""
        if self.replayed is not None:
            return self.replayed, []
        return super().filter_proposals(proposals, objectness, image_shapes, num_anchors)  # type: ignore[no-any-return]

    def compute_loss(
        self, objectness: Tensor, deltas: Tensor, labels: list[Tensor], targets: list[Tensor]
    ) -> tuple[Tensor, Tensor]:
        """As torchvision's, whose labels are single precision and make its loss so."""
        precise = [label.to(objectness.dtype) for label in labels]
        return super().compute_loss(objectness, deltas, precise, targets)  # type: ignore[no-any-return]


class SingleObjectRoIHeads(RoIHeads):  # type: ignore[misc]
    """RoI heads with a configurable mask loss in training and one best detection in segmentation."""

    config: ModelConfig

    def forward(
        self,
        features: dict[str, Tensor],
        proposals: list[Tensor],
        image_shapes: list[tuple[int, int]],
        targets: list[dict[str, Tensor]] | None = None,
    ) -> tuple[list[Detection | None], dict[str, Tensor]]:
        """torchvision's contract, with ``Detection | None`` per image as results.

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
        proposals, _, labels, regression_targets = self.select_training_samples(proposals, targets)
        pooled = self.box_roi_pool(features, proposals, image_shapes)
        class_logits, box_regression = self.box_predictor(self.box_head(pooled))
        classification, box = fastrcnn_loss(class_logits, box_regression, labels, regression_targets)
        positive = [boxes[label > 0] for boxes, label in zip(proposals, labels, strict=True)]
        logits = self._mask_logits(features, positive, image_shapes)
        masks = [target["masks"][0] for target in targets]
        mask = mask_loss(self.config.mask_loss, logits, positive, masks, self.config.soft_mask_targets)
        return {"loss_classifier": classification, "loss_box_reg": box, "loss_mask": mask}

    def _mask_logits(
        self, features: dict[str, Tensor], boxes: list[Tensor], image_shapes: list[tuple[int, int]]
    ) -> Tensor:
        pooled = self.mask_roi_pool(features, boxes, image_shapes)
        return self.mask_predictor(self.mask_head(pooled))[:, OBJECT]  # type: ignore[no-any-return]

    def _best_detections(
        self, features: dict[str, Tensor], proposals: list[Tensor], image_shapes: list[tuple[int, int]]
    ) -> list[Detection | None]:
        pooled = self.box_roi_pool(features, proposals, image_shapes)
        class_logits, box_regression = self.box_predictor(self.box_head(pooled))
        counts = [len(boxes) for boxes in proposals]
        all_scores = class_logits.softmax(dim=-1)[:, OBJECT].split(counts)
        all_boxes = self.box_coder.decode(box_regression, proposals)[:, OBJECT].split(counts)
        best: list[tuple[Tensor, float] | None] = []
        for scores, boxes, shape in zip(all_scores, all_boxes, image_shapes, strict=True):
            clipped = clip_boxes_to_image(boxes, shape)
            # The highest score is what non-maximum suppression keeps first, so one detection needs no suppression.
            usable = ((clipped[:, 2:] - clipped[:, :2]).amin(dim=1) >= 1) & (scores > self.score_thresh)
            if not usable.any():
                best.append(None)
                continue
            index = int(torch.where(usable, scores, -1.0).argmax())
            best.append((clipped[index], float(scores[index])))
        boxes = [clipped_box[0][None] if clipped_box else proposals[0].new_zeros((0, 4)) for clipped_box in best]
        if not any(best):
            return [None] * len(best)
        logits = iter(self._mask_logits(features, boxes, image_shapes))
        return [Detection(found[0], found[1], next(logits)) if found else None for found in best]


class MaskRCNN(GeneralizedRCNN):  # type: ignore[misc]
    """Mask R-CNN with two classes, background and object (the authors' release: ``networks/mask_rcnn.py``).

    Parameters are named as torchvision's ``MaskRCNN`` names them, so that its checkpoints fit by name and shape.
    """

    def __init__(self, config: ModelConfig) -> None:
        backbone = build_backbone(config)
        channels = config.fpn_channels
        anchors = AnchorGenerator(
            tuple((size,) for size in config.anchor_sizes), ((0.5, 1.0, 2.0),) * len(config.anchor_sizes)
        )
        rpn = ReplayableRPN(
            anchors,
            RPNHead(channels, anchors.num_anchors_per_location()[0]),
            fg_iou_thresh=0.7,
            bg_iou_thresh=0.3,
            batch_size_per_image=config.rpn_samples,
            positive_fraction=0.5,
            pre_nms_top_n={"training": config.proposals_train, "testing": config.proposals_test},
            post_nms_top_n={"training": config.proposals_train, "testing": config.proposals_test},
            nms_thresh=0.7,
        )
        rpn.fg_bg_sampler = SeededSampler(config.rpn_samples, 0.5)
        levels = [str(level) for level in range(BACKBONE_LEVELS[config.backbone])]
        hidden = config.mask_head_channels[-1]
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
        transform = GeneralizedRCNNTransform(config.short_side, config.long_side, IMAGE_MEAN, IMAGE_STD)
        super().__init__(backbone, rpn, heads, transform)
        self.config = config

    def image_list(self, images: list[Tensor]) -> ImageList:
        """Frames (3, H, W) uint8, already at the model's input size -> normalized, padded to a multiple of 32."""
        like = next(self.parameters())
        scaled = [self.transform.normalize(image.to(like.device, like.dtype) / 255) for image in images]
        return ImageList(self.transform.batch_images(scaled), [tuple(image.shape[-2:]) for image in images])

    def batch(self, images: list[Tensor], masks: list[Tensor]) -> Batch:
        """Frames (3, H, W) uint8 and the object's masks (H, W) -> a batch to learn from.

        Masks are above 0 on the object, and ``IGNORED`` where the mask loss is not to look.

        Raises:
            ValueError: a mask without an object.
        """
        image_list = self.image_list(images)
        like = image_list.tensors
        targets = []
        for mask in masks:
            ys, xs = torch.where((mask > 0) & (mask != IGNORED))
            if len(ys) == 0:
                raise ValueError(f"a frame to learn from needs a mask with an object (above 0; {IGNORED} is ignored)")
            box = [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]  # ends one beyond the object
            padded = torch.zeros(like.shape[-2:], dtype=torch.uint8, device=like.device)
            values = torch.where(mask == IGNORED, mask, (mask > 0).to(mask.dtype))
            padded[: mask.shape[0], : mask.shape[1]] = values.to(like.device)
            targets.append(
                {
                    "boxes": torch.tensor([[float(side) for side in box]], dtype=like.dtype, device=like.device),
                    "labels": torch.tensor([OBJECT], device=like.device),
                    "masks": padded[None],
                }
            )
        return Batch(image_list, targets)

    def forward(
        self, batch: Batch, generator: torch.Generator, proposals: list[Tensor] | None = None
    ) -> tuple[dict[str, Tensor], list[Tensor]]:
        """The five losses on a batch, scalars, each times its weight, and the proposals that they are of.

        Args:
            batch: frames and targets.
            generator: CPU generator for the samples of anchors and proposals.
            proposals: per image (P_i, 4) float, those of an earlier call, in place of what the model now proposes. With
                them and a generator as it was then, the losses are a function of the parameters that is smooth almost
                everywhere: matches and samples follow from the two.
        """
        if not self.training:
            self.train()
        self.rpn.fg_bg_sampler.generator = self.roi_heads.fg_bg_sampler.generator = generator
        self.rpn.replayed = proposals
        features = self.backbone(batch.images.tensors)
        proposals, rpn_losses = self.rpn(batch.images, self._proposing(features), batch.targets)
        _, head_losses = self.roi_heads(features, proposals, batch.images.image_sizes, batch.targets)
        weights = {
            "loss_objectness": self.config.rpn_loss_weight,
            "loss_rpn_box_reg": self.config.rpn_loss_weight,
            "loss_classifier": self.config.box_loss_weight,
            "loss_box_reg": self.config.box_loss_weight,
            "loss_mask": self.config.mask_loss_weight,
        }
        return {name: weights[name] * value for name, value in (rpn_losses | head_losses).items()}, proposals

    def _proposing(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
        """The pyramid levels that have anchors: the coarsest."""
        return dict(list(features.items())[-len(self.config.anchor_sizes) :])

    def loss(self, batch: Batch, generator: torch.Generator) -> Tensor:
        """The sum of the five losses: a scalar."""
        losses, _ = self(batch, generator)
        return total(losses)

    @torch.no_grad()
    def detect(self, image: Tensor, extra_proposals: Tensor | None = None) -> Detection | None:
        """The best detection in one frame, or None where no score exceeds 0.5.

        Args:
            image: (3, H, W) uint8 at the model's input size.
            extra_proposals: (K, 4) float, pixels of ``image``; they take the place of the K lowest-ranked proposals
                (box propagation).
        """
        if self.training:
            self.eval()
        self.rpn.replayed = None
        images = self.image_list([image])
        features = self.backbone(images.tensors)
        proposals, _ = self.rpn(images, self._proposing(features))
        if extra_proposals is not None:
            extra = extra_proposals.to(proposals[0])
            kept = max(self.config.proposals_test - len(extra), 0)
            proposals = [torch.cat((proposals[0][:kept], extra))]
        detections, _ = self.roi_heads(features, proposals, images.image_sizes)
        return detections[0]  # type: ignore[no-any-return]


def total(losses: dict[str, Tensor]) -> Tensor:
    """The sum of the losses: a scalar."""
    return torch.stack(list(losses.values())).sum()


def paste(detection: Detection, input_size: tuple[int, int], size: tuple[int, int]) -> Tensor:
    """A detection's mask probabilities in the whole frame.

    Args:
        detection: boxes in pixels of the model's input.
        input_size: (H, W) of the model's input.
        size: (H, W) of the result, the video's own.

    Returns:
        (H, W) float32 in [0, 1]; 0 outside the box.
    """
    probabilities = detection.logits.sigmoid()[None, None]
    boxes = resize_boxes(detection.box[None], list(input_size), list(size))
    return paste_masks_in_image(probabilities, boxes, size)[0, 0].float()  # type: ignore[no-any-return]
