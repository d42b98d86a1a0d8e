"""Our Mask R-CNN against torchvision's, with the same weights: losses, detections, pasted masks."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torchvision.models.detection import MaskRCNN as TorchvisionMaskRCNN
from torchvision.models.detection import roi_heads
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.models.detection.rpn import RPNHead
from torchvision.ops import MultiScaleRoIAlign, masks_to_boxes

from eosvos.draws import generator
from eosvos.model.backbones import build_backbone
from eosvos.model.config import ModelConfig
from eosvos.model.losses import IGNORED
from eosvos.model.mask_rcnn import MaskRCNN
from eosvos.model.roi_heads import paste_as_release
from eosvos.model.weights import initial_model

HEIGHT, WIDTH = 64, 84  # padded to 64x96


def _torchvision(config: ModelConfig) -> Any:
    """torchvision's own model with the parts of ``config``."""
    levels, width = ["0", "1", "2"], config.fpn_channels
    proposals_train, proposals_test = config.proposals_train, config.proposals_test
    return TorchvisionMaskRCNN(
        build_backbone(config),
        min_size=config.short_side,
        max_size=config.long_side,
        rpn_anchor_generator=AnchorGenerator(tuple((s,) for s in config.anchor_sizes), ((0.5, 1.0, 2.0),) * 4),
        rpn_head=RPNHead(width, 3),
        rpn_pre_nms_top_n_train=proposals_train,
        rpn_post_nms_top_n_train=proposals_train,
        rpn_pre_nms_top_n_test=proposals_test,
        rpn_post_nms_top_n_test=proposals_test,
        rpn_batch_size_per_image=config.rpn_samples,
        box_roi_pool=MultiScaleRoIAlign(levels, 7, 2),
        box_head=TwoMLPHead(width * 49, config.box_head_channels),
        box_predictor=FastRCNNPredictor(config.box_head_channels, 2),
        box_score_thresh=0.5,
        box_batch_size_per_image=config.roi_samples,
        mask_roi_pool=MultiScaleRoIAlign(levels, config.mask_roi_size, 2),
        mask_head=MaskRCNNHeads(width, config.mask_head_channels, 1),
        mask_predictor=MaskRCNNPredictor(config.mask_head_channels[-1], config.mask_head_channels[-1], 2),
    )


@pytest.fixture
def pair(micro: ModelConfig) -> tuple[MaskRCNN, Any]:
    """Ours and theirs with the same weights, taking every anchor and proposal as a sample, sure of many objects."""
    config = replace(micro, proposals_test=64, rpn_samples=8192, roi_samples=512, mask_loss="cross_entropy")
    config = replace(config, mask_targets="shifted")
    ours = initial_model(config, "none", seed=0)[0]
    with torch.no_grad():
        ours.roi_heads.box_predictor.cls_score.weight *= 30
        ours.roi_heads.box_predictor.bbox_pred.weight *= 3
        ours.rpn.head.cls_logits.weight *= 30
        ours.rpn.head.bbox_pred.weight *= 3
        ours.roi_heads.mask_predictor.mask_fcn_logits.weight *= 10
        ours.roi_heads.box_predictor.cls_score.bias += torch.tensor([-2.5, 2.5])
    theirs = _torchvision(config)
    theirs.load_state_dict(ours.state_dict())
    return ours, theirs


@pytest.fixture
def frames(scene: Callable[..., Any]) -> tuple[list[Tensor], list[Tensor]]:
    scenes = [scene(seed, HEIGHT, WIDTH) for seed in (1, 2)]
    return [image for image, _ in scenes], [mask for _, mask in scenes]


@pytest.mark.parametrize("objects", [1, 3])
def test_losses_are_torchvisions(
    pair: tuple[MaskRCNN, Any],
    frames: tuple[list[Tensor], list[Tensor]],
    monkeypatch: pytest.MonkeyPatch,
    objects: int,
) -> None:
    ours, theirs = pair
    images, masks = frames
    for number, mask in zip(range(2, objects + 1), masks * 2, strict=False):
        mask[10 * number : 10 * number + 20, 12 * number : 12 * number + 30] = number
    soft = roi_heads.project_masks_on_boxes  # ours are the same, made binary
    monkeypatch.setattr(roi_heads, "project_masks_on_boxes", lambda *given: (soft(*given) >= 0.5).float())
    targets = []
    for mask in masks:
        shown = torch.stack([mask == number for number in range(1, objects + 1) if (mask == number).any()])
        targets.append({"boxes": masks_to_boxes(shown), "labels": torch.ones(len(shown)).long(), "masks": shown})
        targets[-1]["boxes"][:, 2:] += 1
    expected = theirs.train()([image / 255 for image in images], targets)
    losses, _ = ours(ours.batch(images, masks), generator(0))
    assert losses.keys() == expected.keys()
    assert len(losses) == 5
    for name, value in losses.items():
        assert value.item() > 0
        assert value.item() == pytest.approx(expected[name].item(), rel=1e-5), name
    assert ours.loss(ours.batch(images, masks), generator(0)).item() == pytest.approx(
        sum(value.item() for value in expected.values()), rel=1e-5
    )
    gradients, theirs_gradients = (
        torch.autograd.grad(sum(values.values(), torch.zeros(())), list(model.parameters()))
        for values, model in ((losses, ours), (expected, theirs))
    )
    for (name, _), a, b in zip(ours.named_parameters(), gradients, theirs_gradients, strict=True):
        assert float((a - b).abs().max()) <= 1e-4 * float(b.abs().max()), name


@pytest.mark.parametrize("frame", [0, 1])
def test_detection_is_the_first_of_torchvisions(
    pair: tuple[MaskRCNN, Any], frames: tuple[list[Tensor], list[Tensor]], frame: int
) -> None:
    ours, theirs = pair
    image = frames[0][frame]
    with torch.no_grad():
        (expected,) = theirs.eval()([image / 255])
    assert len(expected["scores"]) > 1
    assert len(expected["scores"].unique()) > 1
    (detection,) = ours.detect(image)
    assert detection.score == pytest.approx(expected["scores"][0].item(), rel=1e-6)
    torch.testing.assert_close(detection.box, expected["boxes"][0])
    pasted = paste_as_release(detection, (HEIGHT, WIDTH), (HEIGHT, WIDTH))
    assert pasted.dtype == torch.float32
    assert bool((pasted > 0.5).any())
    torch.testing.assert_close(pasted, expected["masks"][0, 0])
    torch.testing.assert_close(detection.mask_box, detection.box + 0.5)  # where such a model has learned it
    aligned = MaskRCNN(replace(ours.config, mask_targets="aligned"))
    aligned.load_state_dict(ours.state_dict())
    (seen,) = aligned.detect(image)
    assert torch.equal(seen.mask_box, seen.box)


@pytest.mark.parametrize("size", [(128, 168), (37, 45), (200, 50)])
def test_mask_at_the_size_of_the_video(
    pair: tuple[MaskRCNN, Any], frames: tuple[list[Tensor], list[Tensor]], size: tuple[int, int]
) -> None:
    ours, theirs = pair
    image = frames[0][0]
    with torch.no_grad():
        images, _ = theirs.eval().transform([image / 255])
        features = theirs.backbone(images.tensors)
        proposals, _ = theirs.rpn(images, features)
        found, _ = theirs.roi_heads(features, proposals, images.image_sizes)
        (expected,) = theirs.transform.postprocess(found, images.image_sizes, [size])
    (detection,) = ours.detect(image)
    torch.testing.assert_close(paste_as_release(detection, (HEIGHT, WIDTH), size), expected["masks"][0, 0])


def test_nothing_proposed(pair: tuple[MaskRCNN, Any], frames: tuple[list[Tensor], list[Tensor]]) -> None:
    """As by a proposal network that diverged: every box is degenerate, or not a number."""
    ours, _ = pair
    assert ours.detect(frames[0][0])
    with torch.no_grad():
        ours.rpn.head.bbox_pred.bias.fill_(float("nan"))
    assert ours.detect(frames[0][0]) == []


def test_nothing_above_half(pair: tuple[MaskRCNN, Any], frames: tuple[list[Tensor], list[Tensor]]) -> None:
    ours, _ = pair
    with torch.no_grad():
        ours.roi_heads.box_predictor.cls_score.bias += torch.tensor([1000.0, 0.0])
    assert ours.detect(frames[0][0]) == []


def test_extra_proposals_take_the_place_of_the_lowest_ranked(
    pair: tuple[MaskRCNN, Any], frames: tuple[list[Tensor], list[Tensor]], monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, _ = pair
    seen: list[Tensor] = []
    heads = ours.roi_heads.forward

    def recorded(features: Any, proposals: list[Tensor], sizes: Any) -> Any:
        seen.append(proposals[0])
        return heads(features, proposals, sizes)

    monkeypatch.setattr(ours.roi_heads, "forward", recorded)
    ours.detect(frames[0][0])
    extra = torch.tensor([[3.0, 4.0, 40.0, 50.0], [10.0, 10.0, 30.0, 20.0], [0.0, 0.0, 84.0, 64.0]])
    ours.detect(frames[0][0], extra)
    plain, extended = seen
    assert len(plain) == len(extended) == ours.config.proposals_test
    assert torch.equal(extended, torch.cat((plain[:-3], extra)))


def test_boxes_end_at_the_border(pair: tuple[MaskRCNN, Any], frames: tuple[list[Tensor], list[Tensor]]) -> None:
    ours, theirs = pair
    for model in pair:
        with torch.no_grad():
            model.roi_heads.box_predictor.bbox_pred.bias[6:8] += 8  # e^(8/5) times as large
    with torch.no_grad():
        (expected,) = theirs.eval()([frames[0][0] / 255])
    (detection,) = ours.detect(frames[0][0])
    assert detection.box[3].item() == HEIGHT
    torch.testing.assert_close(detection.box, expected["boxes"][0])


def test_no_gradient_is_left_and_modes_are_set(
    pair: tuple[MaskRCNN, Any], frames: tuple[list[Tensor], list[Tensor]]
) -> None:
    ours, _ = pair
    batch = ours.batch(*frames)
    first = ours.loss(batch, generator(1))
    (detection,) = ours.detect(frames[0][0])
    assert not detection.logits.requires_grad
    assert torch.equal(ours.eval().loss(batch, generator(1)), first)  # whatever mode the model was left in
    (again,) = ours.train().detect(frames[0][0])
    assert torch.equal(again.logits, detection.logits)


def test_batch(pair: tuple[MaskRCNN, Any], frames: tuple[list[Tensor], list[Tensor]]) -> None:
    ours, theirs = pair
    mask = torch.zeros((HEIGHT, WIDTH), dtype=torch.uint8)
    mask[5:9, 20:33] = 1
    mask[HEIGHT - 1, WIDTH - 1] = 1
    batch = ours.batch([frames[0][0]], [mask])
    assert batch.targets[0]["boxes"].tolist() == [[20, 5, WIDTH, HEIGHT]]
    assert batch.targets[0]["labels"].tolist() == [1]
    assert batch.targets[0]["masks"].shape == (1, 64, 96)
    assert torch.equal(batch.targets[0]["masks"][0, :, :WIDTH], (mask > 0).to(torch.uint8))
    assert not batch.targets[0]["masks"][0, :, WIDTH:].any()
    expected, _ = theirs.transform([frames[0][0] / 255])
    torch.testing.assert_close(batch.images.tensors, expected.tensors)
    assert batch.images.image_sizes == expected.image_sizes == [(HEIGHT, WIDTH)]
    with pytest.raises(ValueError, match="needs a mask with an object"):
        ours.batch([frames[0][0]], [mask * 0])


def test_samples_depend_on_the_generator_alone(micro: ModelConfig, frames: tuple[list[Tensor], list[Tensor]]) -> None:
    model = initial_model(replace(micro, rpn_samples=8, roi_samples=4), "none", seed=0)[0]
    batch = model.batch(*frames)

    def losses(draws: int, global_seed: int) -> list[float]:
        torch.manual_seed(global_seed)
        return [value.item() for value in model(batch, generator(draws))[0].values()]

    assert losses(0, 1) == losses(0, 2)
    assert losses(0, 1) != losses(1, 1)


def test_names_and_shapes_are_torchvisions(pair: tuple[MaskRCNN, Any]) -> None:
    ours, theirs = pair
    assert {name: value.shape for name, value in ours.state_dict().items()} == {
        name: value.shape for name, value in theirs.state_dict().items()
    }


def test_ignored_pixels_are_no_part_of_the_object(micro: ModelConfig, scene: Callable[..., Any]) -> None:
    image, mask = scene(0)
    model = initial_model(micro, "none", seed=0)[0]
    (plain,) = model.batch([image], [mask]).targets
    mask[0, 0] = IGNORED
    (target,) = model.batch([image], [mask]).targets
    assert torch.equal(target["boxes"], plain["boxes"])
    assert target["masks"][0, 0, 0] == IGNORED
    assert torch.equal(target["masks"][0, 1:], plain["masks"][0, 1:])
