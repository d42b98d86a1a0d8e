"""Mask R-CNN for one class: backbone, proposals and heads put together, frames in, losses or a detection out."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torchvision.models.detection.generalized_rcnn import GeneralizedRCNN
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.transform import GeneralizedRCNNTransform

from eosvos.data.sequence import object_ids
from eosvos.data.views import tight_box
from eosvos.model.backbones import build_backbone
from eosvos.model.config import ModelConfig
from eosvos.model.losses import IGNORED
from eosvos.model.proposals import build_rpn
from eosvos.model.roi_heads import OBJECT, Detection, Following, build_roi_heads

IMAGE_MEAN, IMAGE_STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


@dataclass(frozen=True)
class Batch:
    """Frames of one size, ready for the model, with the K objects of each: one, none where it is hidden, or several.

    Attributes:
        images: normalized and padded frames, (N, 3, H', W') float, with the N sizes before padding.
        targets: per frame ``boxes`` (K, 4) float, ``labels`` (K,) int64, ``masks`` (K, H', W') uint8: 0, 1 or
            ``IGNORED``.
    """

    images: ImageList
    targets: list[dict[str, Tensor]]


class MaskRCNN(GeneralizedRCNN):  # type: ignore[misc]
    """Mask R-CNN with two classes, background and object (the authors' release: ``networks/mask_rcnn.py``).

    Parameters are named as torchvision's ``MaskRCNN`` names them, so that its checkpoints fit by name and shape.
    """

    def __init__(self, config: ModelConfig) -> None:
        backbone = build_backbone(config)
        rpn, heads = build_rpn(config), build_roi_heads(config)
        transform = GeneralizedRCNNTransform(config.short_side, config.long_side, IMAGE_MEAN, IMAGE_STD)
        super().__init__(backbone, rpn, heads, transform)
        self.config = config

    def image_list(self, images: list[Tensor]) -> ImageList:
        """Frames (3, H, W) uint8, already at the model's input size -> normalized, padded to a multiple of 32."""
        like = next(self.parameters())
        scaled = [self.transform.normalize(image.to(like.device, like.dtype) / 255) for image in images]
        return ImageList(self.transform.batch_images(scaled), [tuple(image.shape[-2:]) for image in images])

    def batch(self, images: list[Tensor], masks: list[Tensor], may_be_hidden: bool = False) -> Batch:
        """Frames (3, H, W) uint8 and their masks (H, W) uint8 -> a batch to learn from.

        Masks have a value of its own on each object, 0 elsewhere, and ``IGNORED`` where the mask loss is not to look.

        Args:
            images, masks: of the frames.
            may_be_hidden: a frame without an object is one in which all is background, instead of an error.

        Raises:
            ValueError: a mask without an object.
        """
        image_list = self.image_list(images)
        like = image_list.tensors
        targets = []
        for mask in masks:
            objects = [mask == value for value in object_ids(mask) if value != IGNORED]
            if not objects and not may_be_hidden:
                raise ValueError(f"a frame to learn from needs a mask with an object (above 0; {IGNORED} is ignored)")
            boxes = like.new_zeros((len(objects), 4))
            padded = torch.zeros((len(objects), *like.shape[-2:]), dtype=torch.uint8, device=like.device)
            for place, shown in enumerate(objects):
                boxes[place] = tight_box(shown)
                padded[place, : mask.shape[0], : mask.shape[1]] = torch.where(mask == IGNORED, IGNORED, shown)
            labels = torch.full((len(objects),), OBJECT, device=like.device)
            targets.append({"boxes": boxes, "labels": labels, "masks": padded})
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
    def detect(
        self,
        image: Tensor,
        extra_proposals: Tensor | None = None,
        following: Following | None = None,
        count: int = 1,
    ) -> list[Detection]:
        """The best detections in one frame, best first; none where no score exceeds 0.5.

        Args:
            image: (3, H, W) uint8 at the model's input size.
            extra_proposals: (K, 4) float, pixels of ``image``; they take the place of the K lowest-ranked proposals
                (box propagation).
            following: where the object was seen last, in pixels of ``image``; without it the highest score counts.
            count: of detections at most; several do not overlap each other by half or more.
        """
        if self.training:
            self.eval()
        self.roi_heads.following, self.roi_heads.count = following, count
        self.rpn.replayed = None
        images = self.image_list([image])
        features = self.backbone(images.tensors)
        proposals, _ = self.rpn(images, self._proposing(features))
        if extra_proposals is not None:
            extra = extra_proposals.to(proposals[0])
            room = max(self.config.proposals_test - len(extra), 0)
            proposals = [torch.cat((proposals[0][:room], extra))]
        detections, _ = self.roi_heads(features, proposals, images.image_sizes)
        return detections[0]  # type: ignore[no-any-return]


def total(losses: dict[str, Tensor]) -> Tensor:
    """The sum of the losses: a scalar."""
    return torch.stack(list(losses.values())).sum()
