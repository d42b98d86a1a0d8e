"""What a Mask R-CNN of ours looks like, as data."""

from dataclasses import dataclass, field
from typing import Literal

from eosvos.config import OLDER

BACKBONE_LEVELS = {"tiny": 3, "mobilenet_v2": 4, "resnet18": 4, "resnet50": 4}
"""Feature levels that each backbone hands to the pyramid, which adds one pooled level on top."""


@dataclass(frozen=True)
class ModelConfig:
    """A two-class (background, object) Mask R-CNN. The defaults are those of the authors' release."""

    backbone: Literal["tiny", "mobilenet_v2", "resnet18", "resnet50"] = "resnet50"
    """Convolutional body under the feature pyramid."""
    normalization: Literal["group", "frozen_batch"] = "group"
    """Group normalization, or batch normalization with frozen statistics and trainable affine; where a model starts
    from nothing, its parent's training finds the statistics."""
    short_side: int = 800
    """Frames are resized so that their shorter side has this many pixels ..."""
    long_side: int = 1333
    """... or fewer, where the longer side would exceed this."""
    widths: tuple[int, ...] = (24, 48, 96)
    """Channels of the three stages of `tiny` (strides 4, 8, 16)."""
    fpn_channels: int = 256
    """Channels of every pyramid level."""
    anchor_sizes: tuple[int, ...] = (32, 64, 128, 256, 512)
    """Anchor size in pixels for each pyramid level, the pooled one last; aspect ratios are 0.5, 1 and 2. With fewer
    sizes than levels the finest levels propose nothing; objects are pooled from them all the same."""
    rpn_samples: int = 256
    """Anchors sampled per image for the RPN's losses."""
    proposals_train: int = 2000
    """Proposals kept (before per-level NMS: per level; after: in all) while training."""
    proposals_test: int = 1000
    """Proposals kept while segmenting."""
    roi_samples: int = 512
    """Proposals sampled per image for the box and mask losses, a quarter of them positive."""
    box_head_channels: int = 1024
    """Width of the two fully connected layers of the box head."""
    mask_head_channels: tuple[int, ...] = (256, 256, 256, 256)
    """Channels of the mask head's 3x3 convolutions; the transposed convolution behind them has the last one's."""
    mask_roi_size: int = 28
    """Side of the features pooled for the mask head; mask logits have twice this side."""
    mask_loss: Literal["lovasz_hinge", "cross_entropy"] = "lovasz_hinge"
    """Loss on the mask logits of positive proposals."""
    soft_mask_targets: bool = False
    """Take mask targets between 0 and 1 as they are, as the authors' release does, instead of making them binary."""
    mask_targets: Literal["aligned", "shifted"] = field(default="aligned", metadata={OLDER: "shifted"})
    """How masks are learned: where they are, or half a pixel of the input up and left, as by the authors' release and
    by older versions of this program. Test time knows, and puts masks where the object is either way."""
    box_regression: Literal["smooth", "release"] = "smooth"
    """Loss of boxes: smooth L1 that turns linear at 1/9, as torchvision now has it, or, as it was when the authors'
    release was written, L1 in the RPN and smooth L1 that turns linear at 1 in the box head."""
    rpn_loss_weight: float = 1.0
    """Of the two losses of the RPN ..."""
    box_loss_weight: float = 1.0
    """... of the classification and the box regression of proposals ..."""
    mask_loss_weight: float = 1.0
    """... and of the mask loss, in their sum."""

    def __post_init__(self) -> None:
        levels = BACKBONE_LEVELS.get(self.backbone)
        if levels is None:
            raise ValueError(f"backbone {self.backbone!r}: choose one of {', '.join(BACKBONE_LEVELS)}")
        if not 1 <= len(self.anchor_sizes) <= levels + 1:
            raise ValueError(
                f"anchor_sizes: {self.backbone} needs 1 to {levels + 1} values, got {len(self.anchor_sizes)}"
            )
        if self.backbone == "tiny" and len(self.widths) != 3:
            raise ValueError(f"widths: backbone tiny needs three, got {self.widths}")
        for name in (
            "short_side",
            "fpn_channels",
            "rpn_samples",
            "proposals_train",
            "proposals_test",
            "roi_samples",
            "box_head_channels",
            "mask_roi_size",
        ):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: must be at least 1, got {getattr(self, name)}")
        for name in ("rpn_loss_weight", "box_loss_weight", "mask_loss_weight"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name}: must be at least 0, got {getattr(self, name)}")
        if self.long_side < self.short_side:
            raise ValueError(f"long_side: must be at least short_side ({self.short_side}), got {self.long_side}")
        if not self.mask_head_channels or min(self.mask_head_channels) < 1:
            raise ValueError(f"mask_head_channels: needs at least one positive value, got {self.mask_head_channels}")


TINY = ModelConfig(
    backbone="tiny",
    short_side=128,
    long_side=256,
    fpn_channels=48,
    anchor_sizes=(20, 36, 56, 80),
    rpn_samples=64,
    proposals_train=128,
    proposals_test=64,
    roi_samples=32,
    box_head_channels=128,
    mask_head_channels=(48, 48),
    mask_roi_size=14,
)
"""About 0.6 million parameters, for 128x128 synthetic video on a CPU."""

MOBILENET_240P = ModelConfig(
    backbone="mobilenet_v2",
    normalization="frozen_batch",
    short_side=240,
    long_side=480,
    fpn_channels=96,
    anchor_sizes=(32, 64, 128, 224),
    rpn_samples=64,
    proposals_train=256,
    proposals_test=128,
    roi_samples=32,
    box_head_channels=256,
    mask_head_channels=(96, 96),
    mask_roi_size=14,
)
"""3.75 million parameters, for DAVIS on two CPU cores."""
