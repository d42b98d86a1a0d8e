"""A model that sees an object wherever it looks, and a video of two objects."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from eosvos.learning.config import RatesConfig
from eosvos.learning.optimization import Optimization
from eosvos.learning.rates import initial_rates
from eosvos.model.config import ModelConfig
from eosvos.model.weights import initial_model
from tests.eosvos.segmentation.objects import IDS, SIZE


@pytest.fixture(scope="module")
def optimization(micro: ModelConfig) -> Optimization:
    """A random model that is sure to see an object wherever it looks, with rates that fine-tune gently."""
    model, _ = initial_model(micro, "none", seed=0)
    with torch.no_grad():
        model.roi_heads.box_predictor.cls_score.weight *= 10
        model.roi_heads.box_predictor.cls_score.bias += torch.tensor([-2.0, 2.0])
        model.roi_heads.mask_predictor.mask_fcn_logits.weight *= 10
    return Optimization(micro, model.state_dict(), initial_rates(model, RatesConfig()))


@pytest.fixture(scope="module")
def video(scene: Callable[..., Any]) -> tuple[list[Tensor], Tensor]:
    """Four frames with a bright ellipse, and a first mask that calls its left part 3 and its right part 7."""
    image, mask = scene(3, *SIZE)
    frames = [image.roll(3 * k, dims=2) for k in range(4)]
    xs = torch.where(mask > 0)[1]
    first = mask * IDS[0]
    first[:, int(xs.double().mean()) :] = first[:, int(xs.double().mean()) :] // IDS[0] * IDS[1]
    return frames, first
