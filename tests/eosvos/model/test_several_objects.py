"""A frame with several objects: boxes and masks of each, and the loss of each proposal by the right one."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torchvision.ops import box_iou

from eosvos.data.augment import TaskFrames, task_frames
from eosvos.data.config import AugmentationConfig, Targets
from eosvos.data.palette import encode_mask
from eosvos.data.readers.synthetic import SyntheticSettings, synthetic
from eosvos.data.sequence import EncodedFrame
from eosvos.data.tasks import Task
from eosvos.data.views import tight_box
from eosvos.draws import generator
from eosvos.learning.config import OuterConfig
from eosvos.learning.learner import ParentLearner
from eosvos.learning.outer_loop import Learned, TaskGradient
from eosvos.model.config import ModelConfig
from eosvos.model.losses import IGNORED, mask_loss
from eosvos.model.weights import initial_model


def test_each_value_is_an_object_with_a_box_and_a_mask(micro: ModelConfig) -> None:
    mask = torch.zeros((64, 84), dtype=torch.uint8)
    mask[5:9, 20:33], mask[30:40, 2:12], mask[50:60, 60:80] = 4, 1, 9
    mask[60:, :] = IGNORED
    model = initial_model(micro, "none", seed=0)[0]
    (target,) = model.batch([torch.zeros((3, 64, 84), dtype=torch.uint8)], [mask]).targets
    assert target["boxes"].tolist() == [[2, 30, 12, 40], [20, 5, 33, 9], [60, 50, 80, 60]]
    assert target["labels"].tolist() == [1, 1, 1]
    assert target["masks"].shape == (3, 64, 96)
    assert target["masks"].dtype == torch.uint8
    assert not target["masks"][:, :, 84:].any()
    for value, own in zip((1, 4, 9), target["masks"][:, :, :84], strict=True):
        assert torch.equal(own == 1, mask == value)
        assert torch.equal(own == IGNORED, mask == IGNORED)


def _task_frames(targets: Targets, objects: int, seed: int) -> TaskFrames:
    """Of a synthetic video with as many of its three objects."""
    (sequence,) = synthetic("train", 1, SyntheticSettings(size=64, frames=2))

    def read(position: int) -> EncodedFrame:
        ids = sequence.mask(position)
        assert ids is not None
        mask = encode_mask(torch.where(ids <= objects, ids, 0).numpy())
        return replace(sequence.read(position), mask=mask)

    task = Task(0, seed, seed, 0, 1, (0, 1), 1, None)
    return task_frames((replace(sequence, read=read),), task, AugmentationConfig(), 0, 64, 128, targets)


@pytest.mark.parametrize("soft", [True, False])
@pytest.mark.parametrize("seed", range(4))
def test_the_mask_loss_of_a_proposal_is_by_the_instance_that_it_overlaps_most(
    micro: ModelConfig, seed: int, soft: bool
) -> None:
    """Two frames, the second without an object; each proposal's own loss, found by hand, averaged."""
    config = replace(micro, roi_samples=128, soft_mask_targets=soft)
    model = initial_model(config, "none", seed)[0]
    with torch.no_grad():
        model.roi_heads.mask_predictor.mask_fcn_logits.weight *= 30
    frames = _task_frames("instances", 3, seed)
    image, mask = frames.train_images[0], frames.train_masks[0]
    batch = model.batch([image, image], [mask, mask * 0], may_be_hidden=True)
    objects = [mask == value for value in mask.unique().tolist() if value > 0]
    boxes = torch.stack([box for box in map(tight_box, objects) if box is not None])
    jitter = torch.rand((20, *boxes.shape), generator=torch.Generator().manual_seed(seed)) * 8 - 4
    proposals = (boxes + jitter).flatten(0, 1)
    proposals = proposals[(proposals[:, 2:] > proposals[:, :2] + 1).all(dim=1)]
    seen: dict[str, Any] = {}
    model.roi_heads.mask_roi_pool.register_forward_hook(lambda _, given, __: seen.update(boxes=given[1]))
    model.roi_heads.mask_predictor.register_forward_hook(lambda _, __, made: seen.update(logits=made[:, 1]))
    losses, _ = model(batch, generator(seed), [proposals, proposals])
    of_first, of_second = seen["boxes"]
    assert len(of_second) == 0
    best = box_iou(of_first, boxes).argmax(dim=1).tolist()
    assert len(set(best)) == len(boxes) > 1
    single: list[Tensor] = [
        mask_loss(config.mask_loss, logits[None], [box[None]], [objects[place].to(torch.uint8)], soft)
        for box, place, logits in zip(of_first, best, seen["logits"], strict=True)
    ]
    assert losses["loss_mask"].item() == pytest.approx(torch.stack(single).mean().item(), rel=1e-5)


def _gradient(config: ModelConfig, frames: TaskFrames) -> TaskGradient:
    model, _ = initial_model(config, "none", 0)
    learned = Learned([parameter.detach().clone() for parameter in model.parameters()], [], OuterConfig())
    task = Task(2, 3, 0, 0, 1, (0, 1), 1, None)
    return ParentLearner(7, learns_statistics=False).gradient(model, learned, frames, task, 0)


def test_one_object_has_the_same_gradients_whatever_the_kind(micro: ModelConfig) -> None:
    one, merged, instances = (_gradient(micro, _task_frames(kind, 1, 0)) for kind in ("one", "merged", "instances"))
    for other in (merged, instances):
        assert other.losses == one.losses
        assert all(map(torch.equal, other.initialization, one.initialization))
    of_three = [_gradient(micro, _task_frames(kind, 3, 0)) for kind in ("one", "merged", "instances")]
    assert len({gradient.losses for gradient in of_three}) == 3
    assert all(gradient.finite for gradient in of_three)
