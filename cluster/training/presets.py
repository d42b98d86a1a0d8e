"""Named configurations of trainings."""

import math
from dataclasses import fields, replace
from typing import Any

from cluster.training.config import MetaTraining, ParentTraining, Training
from eosvos.data.config import AugmentationConfig, PlanConfig
from eosvos.learning.config import OuterConfig, RatesConfig
from eosvos.model.config import MOBILENET_240P, TINY, ModelConfig
from eosvos.segmentation.config import SegmentationConfig

_DAVIS_AUGMENTATION = AugmentationConfig(
    rotation=25.0, translation=0.15, saturation=0.0, hue=0.0, channel_permutation=0.3
)
_DAVIS_PLAN = PlanConfig(paste=0.75)

PARENT: dict[str, ParentTraining] = {
    "demo": ParentTraining(
        backbone_weights="none",
        workers=2,
        checkpoint_every=50,
        held_out=0.03,
        model=TINY,
        augmentation=AugmentationConfig(rotation=0.0, scale=(1.0, 1.0), hue=0.0, channel_permutation=1.0),
        outer=OuterConfig(steps=350, meta_batch=4, learning_rate=1e-3),
    ),
    "davis2016-small": ParentTraining(
        backbone_weights="imagenet",
        workers=2,
        held_out=0.16,
        model=MOBILENET_240P,
        plan=_DAVIS_PLAN,
        augmentation=_DAVIS_AUGMENTATION,
        outer=OuterConfig(steps=1100, meta_batch=2, learning_rate=4e-4),
    ),
}
"""Of jobs/parent_train.py."""


def _shared(parent: ParentTraining) -> dict[str, Any]:
    """What every training has, as the parent has it."""
    return {field.name: getattr(parent, field.name) for field in fields(Training)}


META: dict[str, MetaTraining] = {
    "demo": MetaTraining(
        **{
            **_shared(PARENT["demo"]),
            "outer": OuterConfig(steps=140, learning_rate=3e-4, rates_learning_rate=0.2),
            "checkpoint_every": 25,
        },
        rates=RatesConfig(initial_rate=0.01),
        validate_every=140,
        segmentation=SegmentationConfig(transforms=0),  # synthetic objects are not turned or zoomed so far
    ),
    "davis2016-small": MetaTraining(
        **{
            **_shared(PARENT["davis2016-small"]),
            "outer": OuterConfig(steps=300, learning_rate=3e-4, rates_learning_rate=0.2),
            "checkpoint_every": 10,
        },
        rates=RatesConfig(initial_rate=0.002),
        validate_every=100,
    ),
    # As cfgs/meta.yaml of the authors' release, which trains without an end; here the best checkpoint is chosen on
    # held-out training sequences and not on the validation set.
    "paper": MetaTraining(
        workers=4,
        gpu=True,
        checkpoint_every=100,
        held_out=0.01,
        model=ModelConfig(soft_mask_targets=True, box_regression="release"),
        outer=OuterConfig(
            learning_rate=1e-5,
            rates_learning_rate=1e-5,
            betas=(0.9, 0.999),
            weight_decay=1e-3,
            clip_norm=math.inf,
            rates_clip_norm=math.inf,
            anneal=0.0,
        ),
        rates=RatesConfig(rate_form="linear", rate_spread=0.5),
        validate_every=1000,
    ),
}
"""Of jobs/meta_train.py."""


def trainings(preset: str, data: str, backbone_weights: str = "") -> tuple[ParentTraining, MetaTraining]:
    """Parent and meta-training of a preset on encoded data, from other initial weights where some are named."""
    weights = backbone_weights or PARENT[preset].backbone_weights
    return (
        replace(PARENT[preset], data=(data,), backbone_weights=weights),
        replace(META[preset], data=(data,), backbone_weights=weights),
    )
