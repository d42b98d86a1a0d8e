"""Named configurations of trainings."""

import math
from dataclasses import replace

from cluster.training.config import MetaTraining, ParentTraining, shared
from eosvos.data.config import AugmentationConfig, PlanConfig, TaskViewsConfig
from eosvos.learning.config import OuterConfig, RatesConfig
from eosvos.model.config import MOBILENET_240P, TINY, ModelConfig
from eosvos.segmentation.config import FOLLOWING, SegmentationConfig

_DAVIS_AUGMENTATION = AugmentationConfig(
    rotation=25.0, translation=0.15, saturation=0.0, hue=0.0, channel_permutation=0.3
)
_DAVIS_PLAN = PlanConfig(paste=0.75)
_REAL_VIEWS = TaskViewsConfig(task_view=(1.7, 3.5), task_view_shape="square")

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
        validate_every=550,
        model=MOBILENET_240P,
        plan=_DAVIS_PLAN,
        augmentation=_DAVIS_AUGMENTATION,
        outer=OuterConfig(steps=1100, meta_batch=2, learning_rate=4e-4),
    ),
    "real-small": ParentTraining(
        backbone_weights="imagenet",
        workers=2,
        held_out=0.16,
        model=replace(MOBILENET_240P, mask_roi_size=20),
        plan=replace(_DAVIS_PLAN, draw="image"),
        augmentation=replace(_DAVIS_AUGMENTATION, windows=_REAL_VIEWS),
        outer=OuterConfig(steps=2400, meta_batch=2, learning_rate=4e-4),
        segmentation=FOLLOWING,
    ),
}
"""Of jobs/parent_train.py."""

META: dict[str, MetaTraining] = {
    "demo": MetaTraining(
        **{
            **shared(PARENT["demo"]),
            "outer": OuterConfig(steps=140, learning_rate=3e-4, rates_learning_rate=0.2),
            "checkpoint_every": 25,
            "validate_every": 140,
            "segmentation": SegmentationConfig(transforms=0),  # synthetic objects are not turned or zoomed so far
        },
        rates=RatesConfig(initial_rate=0.01),
    ),
    "davis2016-small": MetaTraining(
        **{
            **shared(PARENT["davis2016-small"]),
            "outer": OuterConfig(steps=300, learning_rate=3e-4, rates_learning_rate=0.2),
            "checkpoint_every": 10,
            "validate_every": 100,
        },
        rates=RatesConfig(initial_rate=0.002),
    ),
    "real-small": MetaTraining(
        **{
            **shared(PARENT["real-small"]),
            "outer": OuterConfig(steps=300, meta_batch=2, learning_rate=3e-4, rates_learning_rate=0.15, anneal=0.6),
            "checkpoint_every": 10,
            "validate_every": 100,
        },
        T=10,
        min_T=1,
        rates=RatesConfig(initial_rate=0.002),
    ),
    # As cfgs/meta.yaml of the authors' release, which trains without an end; here the best checkpoint is chosen on
    # held-out training sequences and not on the validation set.
    "paper": MetaTraining(
        workers=4,
        gpu=True,
        checkpoint_every=100,
        held_out=0.01,
        model=ModelConfig(soft_mask_targets=True, mask_targets="shifted", box_regression="release"),
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
        segmentation=SegmentationConfig(pasting="release"),
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
