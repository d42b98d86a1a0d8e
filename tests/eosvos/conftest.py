"""A Mask R-CNN small enough for double precision, and scenes of one bright object, for all tests of the science."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, settings
from torch import Tensor

from eosvos.model.config import ModelConfig

torch.set_num_threads(1)
# How long an example takes says nothing on a machine that others use too.
settings.register_profile("shared machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("shared machine")

Scene = tuple[Tensor, Tensor]


@pytest.fixture(scope="session")
def micro() -> ModelConfig:
    """About 17 thousand parameters, for frames of 64x64; a step takes milliseconds."""
    return ModelConfig(
        backbone="tiny",
        short_side=64,
        long_side=128,
        widths=(4, 8, 8),
        fpn_channels=8,
        anchor_sizes=(16, 24, 32, 48),
        rpn_samples=32,
        proposals_train=32,
        proposals_test=16,
        roi_samples=16,
        box_head_channels=16,
        mask_head_channels=(8,),
        mask_roi_size=7,
    )


@pytest.fixture(scope="session")
def micro_mobilenet() -> ModelConfig:
    """MobileNetV2 with frozen batch normalization under the smallest heads, for frames of 64x64."""
    return ModelConfig(
        backbone="mobilenet_v2",
        normalization="frozen_batch",
        short_side=64,
        long_side=128,
        fpn_channels=8,
        anchor_sizes=(16, 24, 32, 48, 64),
        rpn_samples=32,
        proposals_train=32,
        proposals_test=16,
        roi_samples=16,
        box_head_channels=16,
        mask_head_channels=(8,),
        mask_roi_size=7,
    )


@pytest.fixture(scope="session")
def scene() -> Callable[..., Scene]:
    """(seed, height, width) -> a noisy frame (3, H, W) uint8 and the mask (H, W) uint8 of the bright ellipse in it."""

    def draw(seed: int, height: int = 64, width: int = 64) -> Scene:
        rng = np.random.default_rng(seed)
        y, x = np.mgrid[:height, :width]
        centre, radii = rng.uniform(0.35, 0.65, 2), rng.uniform(0.15, 0.3, 2)
        mask = ((y / height - centre[0]) / radii[0]) ** 2 + ((x / width - centre[1]) / radii[1]) ** 2 < 1
        image = rng.integers(0, 90, (3, height, width)) + mask * rng.integers(60, 160, (3, 1, 1))
        return torch.from_numpy(image.astype(np.uint8)), torch.from_numpy(mask.astype(np.uint8))

    return draw
