"""RoIAlign against torchvision's own operator, forward and backward; its derivatives against finite differences."""

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torchvision.ops import MultiScaleRoIAlign
from torchvision.ops import roi_align as reference

from eosvos.model import roi_align as module
from eosvos.model.roi_align import PyramidRoIAlign, roi_align

# Beyond the frame on all sides, thinner than a pixel, and without extent.
SIDES = st.floats(-20, 90, width=32)
BOXES = st.lists(st.tuples(st.integers(0, 1), SIDES, SIDES, SIDES, SIDES), min_size=0, max_size=5)


def _rois(boxes: list[tuple[float, ...]], dtype: torch.dtype) -> Tensor:
    rois = torch.tensor(boxes, dtype=dtype).reshape(-1, 5)
    return torch.cat(
        (rois[:, :1], torch.minimum(rois[:, 1:3], rois[:, 3:]), torch.maximum(rois[:, 1:3], rois[:, 3:])), 1
    )


def _features(dtype: torch.dtype, height: int = 9, width: int = 13) -> Tensor:
    draws = torch.Generator().manual_seed(0)
    return torch.randn((2, 3, height, width), generator=draws, dtype=torch.float64).to(dtype).requires_grad_()


@given(BOXES, st.sampled_from([0.25, 0.125]), st.sampled_from([1, 2]), st.sampled_from([2, 7]))
@settings(max_examples=60)
@pytest.mark.parametrize("small", [True, False])
def test_equals_torchvision(
    small: bool, boxes: list[tuple[float, ...]], scale: float, sampling: int, side: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        if not small:
            patch.setattr(module, "SMALL", 0)
        for dtype in (torch.float32, torch.float64):
            features, rois = _features(dtype), _rois(boxes, dtype)
            ours = roi_align(features, rois, scale, side, sampling)
            theirs = reference(features, rois, (side, side), scale, sampling)
            assert torch.equal(ours, theirs)
            outer = torch.randn(ours.shape, generator=torch.Generator().manual_seed(1), dtype=dtype)
            (ours_back,), (theirs_back,) = (torch.autograd.grad(value, features, outer) for value in (ours, theirs))
            torch.testing.assert_close(ours_back, theirs_back, rtol=1e-4, atol=1e-5)


@pytest.fixture
def pyramid() -> Callable[[], tuple[dict[str, Tensor], list[Tensor], list[tuple[int, int]]]]:
    """Three levels at strides 4, 8 and 16 of two frames of 96x128, and boxes for each of the levels."""

    def make() -> tuple[dict[str, Tensor], list[Tensor], list[tuple[int, int]]]:
        levels = {str(k): _features(torch.float32, 96 // s, 128 // s) for k, s in enumerate((4, 8, 16))}
        small, large = [3.0, 5.0, 40.0, 50.0], [0.0, 0.0, 128.0, 96.0]
        return levels, [torch.tensor([small, large]), torch.tensor([large])], [(96, 128), (96, 128)]

    return make


def test_the_pyramid_equals_torchvisions(
    pyramid: Callable[[], tuple[dict[str, Tensor], list[Tensor], list[tuple[int, int]]]],
) -> None:
    results = []
    for kind in (PyramidRoIAlign, MultiScaleRoIAlign):
        levels, boxes, shapes = pyramid()
        pooled = kind(list(levels), 7, 2, canonical_scale=80)(levels, boxes, shapes)
        gradients = torch.autograd.grad(pooled.square().sum(), list(levels.values()), materialize_grads=True)
        results.append((pooled, *gradients))
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
    assert torch.equal(results[0][0], results[1][0])
    assert sum(bool(gradient.any()) for gradient in results[0][1:]) >= 2  # boxes went to different levels


def test_small_frames_that_were_padded_a_lot_have_the_same_strides() -> None:
    """40 rows, padded to 64: torchvision would take the finest level's stride for 2."""
    levels = {str(k): _features(torch.float32, 64 // s, 96 // s) for k, s in enumerate((4, 8, 16))}
    box = [4.0, 4.0, 20.0, 28.0]
    pooled = PyramidRoIAlign(list(levels), 7, 2)(levels, [torch.tensor([box])], [(40, 68)])
    expected = reference(levels["0"], [torch.tensor([box])], 7, 0.25, 2)
    torch.testing.assert_close(pooled, expected)


@pytest.mark.parametrize("small", [True, False])
@pytest.mark.parametrize("stride", [4, 8, 16, 32])
def test_derivatives_by_finite_differences(small: bool, stride: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second derivative is of a nonlinear function of what is pooled, as RoIAlign itself is linear."""
    if not small:
        monkeypatch.setattr(module, "SMALL", 0)
    features = _features(torch.float64, 96 // stride, 64 // stride)
    rois = _rois([(0, 1, 2, 37, 45), (1, -3, 4, 70, 92)], torch.float64)

    def squared(f: Tensor) -> Tensor:
        return roi_align(f, rois, 1 / stride, 2, 2) ** 2

    assert torch.autograd.gradcheck(lambda f: roi_align(f, rois, 1 / stride, 2, 2), (features,), fast_mode=True)
    assert torch.autograd.gradgradcheck(squared, (features,), fast_mode=True)
