"""Mask losses against their definitions, written out in loops."""

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from eosvos.model.losses import IGNORED, cross_entropy, lovasz_hinge, mask_loss


def _jaccard_loss(wrong: set[int], targets: np.ndarray) -> float:
    """1 - IoU where just the pixels ``wrong`` are; a soft target is in part object, in part background."""
    intersection = sum(t for i, t in enumerate(targets) if i not in wrong)
    union = sum(targets) + sum(1 - targets[i] for i in wrong)
    return 1 - intersection / union if union else 0.0


def _hinge_by_definition(logits: np.ndarray, targets: np.ndarray) -> float:
    """Lovász extension of the Jaccard loss at the hinge errors: sorted errors times the rise that each pixel brings."""
    logits, targets = logits[targets <= 1], targets[targets <= 1]
    errors = [1 - z * (2 * t - 1) for z, t in zip(logits, targets, strict=True)]
    wrong: set[int] = set()
    loss = before = 0.0
    for pixel in sorted(range(len(errors)), key=lambda i: -errors[i]):
        wrong.add(pixel)
        after = _jaccard_loss(wrong, targets)
        loss += max(errors[pixel], 0.0) * (after - before)
        before = after
    return loss


def _numbers(
    seed: int, masks: int, pixels: int, share: float, soft: bool = False, ignored: float = 0.0
) -> tuple[Tensor, Tensor]:
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 2, (masks, pixels))  # without ties
    targets = (rng.random((masks, pixels)) < share) * 1.0
    if soft:
        targets = np.clip(targets + rng.normal(0, 0.3, targets.shape), 0, 1)
    targets[rng.random(targets.shape) < ignored] = IGNORED
    return torch.from_numpy(logits).requires_grad_(), torch.from_numpy(targets)


KINDS: dict[str, Any] = {"soft": st.booleans(), "ignored": st.sampled_from([0.0, 0.3, 1.0])}
CASES: dict[str, Any] = {
    "seed": st.integers(0, 2**32 - 1),
    "masks": st.integers(1, 3),
    "pixels": st.integers(1, 30),
    "share": st.sampled_from([0.0, 0.1, 0.5, 0.9, 1.0]),
}


@given(**CASES, **KINDS)
@settings(max_examples=100)
def test_lovasz_hinge_by_definition(
    seed: int, masks: int, pixels: int, share: float, soft: bool, ignored: float
) -> None:
    logits, targets = _numbers(seed, masks, pixels, share, soft, ignored)
    losses = lovasz_hinge(logits, targets)
    assert losses.shape == (masks,)
    values, binary = logits.detach().numpy(), targets.numpy()
    expected = [_hinge_by_definition(z, t) for z, t in zip(values, binary, strict=True)]
    np.testing.assert_allclose(losses.detach().numpy(), expected, rtol=1e-12, atol=1e-12)


@given(**CASES, **KINDS)
@settings(max_examples=20)
def test_gradient_of_lovasz_hinge_is_a_finite_difference(
    seed: int, masks: int, pixels: int, share: float, soft: bool, ignored: float
) -> None:
    logits, targets = _numbers(seed, masks, pixels, share, soft, ignored)
    (gradient,) = torch.autograd.grad(lovasz_hinge(logits, targets).sum(), logits)
    values, binary, step = logits.detach().numpy(), targets.numpy(), 1e-7
    for mask in range(masks):
        for pixel in range(pixels):
            shift = step * (np.arange(pixels) == pixel)
            up, down = (_hinge_by_definition(values[mask] + s, binary[mask]) for s in (shift, -shift))
            assert gradient[mask, pixel].item() == pytest.approx((up - down) / (2 * step), abs=1e-6)


def test_lovasz_hinge_known_values() -> None:
    logits = torch.tensor([[0.0, 0.0, 0.0, 0.0]])
    assert lovasz_hinge(logits, torch.tensor([[1.0, 1.0, 0.0, 0.0]])).item() == pytest.approx(1)  # all errors are 1
    assert lovasz_hinge(logits + 3, torch.ones(1, 4)).item() == 0  # right with a margin
    assert lovasz_hinge(logits - 3, torch.zeros(1, 4)).item() == 0
    assert lovasz_hinge(logits + 3, torch.zeros(1, 4)).item() == pytest.approx(4)  # no foreground: the largest error
    assert lovasz_hinge(logits - 3, torch.ones(1, 4)).item() == pytest.approx(4)  # every pixel of it, a quarter each


@given(**CASES, **KINDS)
@settings(max_examples=30)
def test_cross_entropy_is_torchs(seed: int, masks: int, pixels: int, share: float, soft: bool, ignored: float) -> None:
    logits, targets = _numbers(seed, masks, pixels, share, soft, ignored)
    expected = torch.stack(
        [
            F.binary_cross_entropy(z[t <= 1].sigmoid(), t[t <= 1]) if bool((t <= 1).any()) else z.sum() * 0
            for z, t in zip(logits, targets, strict=True)
        ]
    )
    torch.testing.assert_close(cross_entropy(logits, targets), expected, rtol=1e-9, atol=1e-12)
    ours, theirs = (torch.autograd.grad(loss.sum(), logits)[0] for loss in (cross_entropy(logits, targets), expected))
    torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("kind", ["lovasz_hinge", "cross_entropy"])
@pytest.mark.parametrize("aligned", [True, False])
def test_each_proposal_gets_its_part_of_its_own_mask(kind: str, aligned: bool) -> None:
    """Boxes of 8x8 pixels, logits of 4x4: RoIAlign reads 2x2 points, pixel centres or half a pixel off them.

    Their bilinear values average to weights 1, 1 (halves) or 1, 2, 1 (quarters) either way; from one half on it is 1.
    """
    rng = np.random.default_rng(0)
    masks = [torch.from_numpy(rng.integers(0, 2, (32, 32), dtype=np.uint8)) for _ in range(2)]
    corners = [[(0, 0), (5, 9)], [(20, 16)]]
    boxes = [torch.tensor([[x, y, x + 8, y + 8] for x, y in image], dtype=torch.float32) for image in corners]
    logits = torch.from_numpy(rng.normal(0, 1, (3, 4, 4)).astype(np.float32))
    weights = torch.tensor([1.0, 1.0]) / 2 if aligned else torch.tensor([1.0, 2.0, 1.0]) / 4
    end = 6 + len(weights)
    soft = torch.cat(
        [
            F.conv2d(mask[None, None, y : y + end, x : x + end].float(), weights.outer(weights)[None, None], stride=2)
            for mask, image in zip(masks, corners, strict=True)
            for x, y in image
        ]
    ).flatten(1)
    assert bool((soft == 0.5).any())
    function = {"lovasz_hinge": lovasz_hinge, "cross_entropy": cross_entropy}[kind]

    def loss(soft_targets: bool = False) -> float:
        return mask_loss(kind, logits, boxes, masks, soft_targets, aligned).item()

    assert loss() == pytest.approx(function(logits.flatten(1), (soft >= 0.5) * 1.0).mean().item(), rel=1e-6)
    assert loss(soft_targets=True) == pytest.approx(function(logits.flatten(1), soft).mean().item(), rel=1e-6)
    masks[0][:9, :5] = IGNORED  # the first box's columns 0 to 4: of each row of bins the first three have a part in it
    targets = (soft >= 0.5) * 1.0
    targets[0].view(4, 4)[:, :3] = IGNORED
    assert loss() == pytest.approx(function(logits.flatten(1), targets).mean().item(), rel=1e-6)


@pytest.mark.parametrize("kind", ["lovasz_hinge", "cross_entropy"])
def test_no_positive_proposal(kind: str) -> None:
    logits = torch.zeros((0, 4, 4), requires_grad=True)
    loss = mask_loss(kind, logits, [torch.zeros(0, 4)], [torch.ones(8, 8, dtype=torch.uint8)])
    assert loss.item() == 0
    loss.backward()
    assert logits.grad is not None
