"""What configurations of the model give, and which are refused."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch

from eosvos.draws import generator
from eosvos.model.backbones import count_parameters
from eosvos.model.config import MOBILENET_240P, TINY, ModelConfig
from eosvos.model.mask_rcnn import MaskRCNN
from eosvos.model.normalization import to_group_norm
from eosvos.model.weights import initial_model


@pytest.fixture
def without_numbers() -> Iterator[None]:
    """Models built inside have shapes and no values, which is quick."""
    with torch.device("meta"):
        yield


@pytest.mark.usefixtures("without_numbers")
def test_sizes() -> None:
    paper = MaskRCNN(ModelConfig())
    to_group_norm(paper)
    parameters = list(paper.parameters())
    assert (len(parameters), count_parameters(paper)) == (201, 43_975_515)  # the release's count
    assert all(parameter.requires_grad for parameter in parameters)
    assert 3_600_000 < count_parameters(MaskRCNN(MOBILENET_240P)) < 3_900_000
    assert 500_000 < count_parameters(MaskRCNN(TINY)) < 700_000


@pytest.mark.parametrize("backbone", ["resnet18", "resnet50", "mobilenet_v2"])
def test_published_backbones_learn_and_detect(backbone: Any, micro: ModelConfig, scene: Callable[..., Any]) -> None:
    config = replace(micro, backbone=backbone, anchor_sizes=(16, 24, 32, 48, 64))
    model = initial_model(config, "none", seed=0)[0]
    image, mask = scene(0)
    model.loss(model.batch([image], [mask]), generator(0)).backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    assert bool(next(iter(model.parameters())).grad.any())  # the first layer learns too
    model.detect(image)


def test_levels_without_an_anchor_size_propose_nothing(micro: ModelConfig, scene: Callable[..., Any]) -> None:
    model = initial_model(replace(micro, anchor_sizes=micro.anchor_sizes[2:]), "none", seed=0)[0]
    strides: list[list[int]] = []
    model.rpn.head.register_forward_hook(lambda _, inputs, __: strides.append([64 // f.shape[-1] for f in inputs[0]]))
    pooled: list[int] = []
    model.roi_heads.box_roi_pool.register_forward_hook(lambda _, inputs, __: pooled.append(len(inputs[0])))
    image, mask = scene(0)
    model.loss(model.batch([image], [mask]), generator(0))
    model.detect(image)
    assert strides == [[16, 32]] * 2  # and not 4 and 8
    assert pooled == [4, 4]  # while boxes are pooled from all


def test_weights_of_the_losses(micro: ModelConfig, scene: Callable[..., Any]) -> None:
    image, mask = scene(0)
    sums = {"rpn": 0.0, "box": 0.0, "mask": 0.0}
    kinds = {"loss_objectness": "rpn", "loss_rpn_box_reg": "rpn", "loss_classifier": "box", "loss_box_reg": "box"}
    plain = initial_model(micro, "none", seed=0)[0]
    for name, value in plain(plain.batch([image], [mask]), generator(0))[0].items():
        sums[kinds.get(name, "mask")] += float(value.detach())
    weights = {"rpn_loss_weight": 0.5, "box_loss_weight": 2.0, "mask_loss_weight": 0.0}
    weighted = initial_model(replace(micro, **weights), "none", seed=0)[0]  # type: ignore[arg-type]
    loss = weighted.loss(weighted.batch([image], [mask]), generator(0))
    assert loss.item() == pytest.approx(0.5 * sums["rpn"] + 2 * sums["box"], rel=1e-6)


BAD_CONFIGS: dict[str, dict[str, Any]] = {
    "backbone 'vgg'": {"backbone": "vgg"},
    "anchor_sizes: resnet50 needs 1 to 5 values, got 6": {"anchor_sizes": (1, 2, 3, 4, 5, 6)},
    "widths: backbone tiny needs three": {"backbone": "tiny", "anchor_sizes": (1, 2, 3, 4), "widths": (8, 8)},
    "fpn_channels: must be at least 1, got 0": {"fpn_channels": 0},
    "mask_loss_weight: must be at least 0, got -1": {"mask_loss_weight": -1},
    "long_side: must be at least short_side": {"short_side": 10, "long_side": 9},
    "mask_head_channels: needs at least one": {"mask_head_channels": ()},
}


@pytest.mark.parametrize("message", BAD_CONFIGS)
def test_configurations_out_of_range_name_the_field(message: str) -> None:
    with pytest.raises(ValueError, match="^" + message):
        ModelConfig(**BAD_CONFIGS[message])
