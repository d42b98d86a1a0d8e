"""The region proposal network: torchvision's, with samples from our generator, and proposals that can be replayed."""

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.rpn import RegionProposalNetwork, RPNHead

from eosvos.model.config import ModelConfig
from eosvos.model.losses import BOX_LOSSES
from eosvos.model.sampling import SeededSampler


class ReplayableRPN(RegionProposalNetwork):  # type: ignore[misc]
    """torchvision's network, which can be told to propose what was proposed before.

    Attributes:
        replayed: per image the proposals (P_i, 4) of an earlier call; None: what it proposes itself.
        beta: of the smooth L1 loss of boxes.
    """

    replayed: list[Tensor] | None = None
    beta: float = 1 / 9

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
        """As torchvision's, with our ``beta``, and in the precision of what is predicted.

        Args:
            objectness: (A, 1) float, logits of the anchors of all images.
            deltas: (A, 4) float, predicted encoded boxes.
            labels: per image (A_i,) float, 1 for an object, 0 for background, -1 for neither.
            targets: per image (A_i, 4) float, encoded boxes to predict.

        Returns:
            binary cross-entropy of the sampled anchors, and the loss of the boxes of the positive ones; both are means
            over all that are sampled.
        """
        positive, negative = (torch.where(torch.cat(sampled))[0] for sampled in self.fg_bg_sampler(labels))
        sampled = torch.cat((positive, negative))
        wanted = torch.cat(labels)[sampled].to(objectness.dtype)
        classification = F.binary_cross_entropy_with_logits(objectness.flatten()[sampled], wanted)
        boxes = F.smooth_l1_loss(deltas[positive], torch.cat(targets)[positive], beta=self.beta, reduction="sum")
        return classification, boxes / len(sampled)


def build_rpn(config: ModelConfig) -> ReplayableRPN:
    """The network, randomly initialized from torch's global generator, with the thresholds of torchvision."""
    anchors = AnchorGenerator(
        tuple((size,) for size in config.anchor_sizes), ((0.5, 1.0, 2.0),) * len(config.anchor_sizes)
    )
    rpn = ReplayableRPN(
        anchors,
        RPNHead(config.fpn_channels, anchors.num_anchors_per_location()[0]),
        fg_iou_thresh=0.7,
        bg_iou_thresh=0.3,
        batch_size_per_image=config.rpn_samples,
        positive_fraction=0.5,
        pre_nms_top_n={"training": config.proposals_train, "testing": config.proposals_test},
        post_nms_top_n={"training": config.proposals_train, "testing": config.proposals_test},
        nms_thresh=0.7,
    )
    rpn.fg_bg_sampler = SeededSampler(config.rpn_samples, 0.5)
    rpn.beta = BOX_LOSSES[config.box_regression].rpn_beta
    return rpn
