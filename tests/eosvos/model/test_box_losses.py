"""The losses of boxes: torchvision's own to the last digit, and those of the release by their formulas."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torchvision.models.detection.roi_heads import fastrcnn_loss
from torchvision.models.detection.rpn import RegionProposalNetwork

from eosvos.draws import generator
from eosvos.model.config import ModelConfig
from eosvos.model.losses import BOX_LOSSES
from eosvos.model.proposals import build_rpn
from eosvos.model.weights import initial_model


def _drawn(*shape: int, scale: float = 2.0) -> Tensor:
    return scale * torch.randn(*shape, generator=generator(len(shape), *shape), dtype=torch.float64)


@pytest.mark.parametrize("kind", BOX_LOSSES)
def test_of_the_proposals(micro: ModelConfig, kind: Any) -> None:
    rpn = build_rpn(replace(micro, box_regression=kind))
    objectness, deltas = _drawn(60, 1), _drawn(60, 4)
    labels = [torch.tensor([1.0] * 5 + [0.0] * 20 + [-1.0] * 5)] * 2
    targets = [_drawn(30, 4, scale=1.0)] * 2
    arguments: tuple[Any, ...] = (objectness, deltas, labels, targets)
    rpn.fg_bg_sampler.generator = generator(1)
    classification, boxes = rpn.compute_loss(*arguments)
    rpn.fg_bg_sampler.generator = generator(1)
    precise = [label.double() for label in labels]
    theirs = RegionProposalNetwork.compute_loss(rpn, objectness, deltas, precise, targets)
    assert classification == theirs[0]
    if kind == "smooth":
        assert boxes == theirs[1]
        return
    rpn.fg_bg_sampler.generator = generator(1)
    positive, negative = rpn.fg_bg_sampler(labels)
    errors = [
        float((one - other).abs().sum())
        for image in range(2)
        for one, other, taken in zip(deltas.split(30)[image], targets[image], positive[image], strict=True)
        if taken
    ]
    count = sum(int(part.sum()) for part in (*positive, *negative))
    assert float(boxes) == pytest.approx(sum(errors) / count, rel=1e-12)


@pytest.mark.parametrize("kind", BOX_LOSSES)
def test_of_the_box_head(micro: ModelConfig, kind: Any) -> None:
    model, _ = initial_model(replace(micro, box_regression=kind), "none", 0)
    predicted, targets = _drawn(20, 8), _drawn(20, 4, scale=1.0)
    labels = torch.tensor([1, 0] * 10)
    ours = model.roi_heads._box_loss(predicted, labels, targets)
    if kind == "smooth":
        assert ours == fastrcnn_loss(_drawn(20, 2), predicted, [labels], [targets])[1]
        return
    errors = [
        abs(e) for p, t, label in zip(predicted, targets, labels, strict=True) if label for e in (p[4:] - t).tolist()
    ]
    expected = sum(0.5 * e * e if e < 1 else e - 0.5 for e in errors) / 20
    assert any(e < 1 for e in errors)
    assert any(e > 1 for e in errors)
    assert float(ours) == pytest.approx(expected, rel=1e-12)


def test_the_kinds_are_different_losses_of_a_batch(micro: ModelConfig, scene: Callable[..., Any]) -> None:
    image, mask = scene(1)
    losses = {}
    for kind in BOX_LOSSES:
        model, _ = initial_model(replace(micro, box_regression=kind), "none", 0)  # type: ignore[arg-type]
        losses[kind], _ = model(model.batch([image], [mask]), generator(0))
    for name in ("loss_rpn_box_reg", "loss_box_reg"):
        assert losses["smooth"][name] != losses["release"][name]
    for name in ("loss_objectness", "loss_classifier", "loss_mask"):
        assert losses["smooth"][name] == losses["release"][name]
