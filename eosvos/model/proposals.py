"""The region proposal network: torchvision's, with samples from our generator, and proposals that can be replayed."""

from torch import Tensor
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.rpn import RegionProposalNetwork, RPNHead

from eosvos.model.config import ModelConfig
from eosvos.model.sampling import SeededSampler


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
    return rpn
