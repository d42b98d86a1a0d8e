"""Frames and masks at the model's input size."""

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from eosvos.data.resizing import input_size, resize, resize_mask
from eosvos.data.sequence import VOID

BoolArray = np.ndarray[Any, np.dtype[np.bool_]]
SIZES = [
    ((480, 854), 240, 480, (240, 427)),
    ((854, 480), 240, 480, (427, 240)),
    ((480, 854), 800, 1333, (749, 1333)),
    ((128, 128), 128, 256, (128, 128)),
    ((10, 1000), 240, 480, (5, 480)),
    ((1, 5000), 240, 480, (1, 480)),
]


@pytest.mark.parametrize(("size", "short", "long", "expected"), SIZES)
def test_input_size(size: tuple[int, int], short: int, long: int, expected: tuple[int, int]) -> None:
    assert input_size(size, short, long) == expected
    image, mask = torch.zeros((3, *size), dtype=torch.uint8), torch.zeros(size, dtype=torch.uint8)
    assert resize(image, expected).shape == (3, *expected)
    assert resize_mask(mask, expected).shape == expected


def test_resizing_keeps_image_and_mask_aligned() -> None:
    mask = torch.zeros((96, 160), dtype=torch.uint8)
    mask[30:70, 50:110] = 1
    image = (mask * 200)[None].repeat(3, 1, 1)
    for size in ((48, 80), (61, 102), (192, 320)):
        small_image, small_mask = resize(image, size), resize_mask(mask, size)
        assert float((small_image[0] / 200 - small_mask).abs().mean()) < 0.03
    assert torch.equal(resize(image, (96, 160)), image)
    assert torch.equal(resize_mask(mask, (96, 160)), mask)
    assert torch.equal(resize_mask(mask, (192, 320)), mask.repeat_interleave(2, 0).repeat_interleave(2, 1))


def test_a_thin_object_is_still_there_at_a_smaller_size() -> None:
    bar = torch.zeros((480, 854), dtype=torch.uint8)
    bar[202, 100:240] = 1  # covers a quarter of a row of 128
    small = resize_mask(bar, (128, 228))
    assert small.unique().tolist() == [0, 1]
    ys, xs = torch.where(small > 0)
    assert set(ys.tolist()) == {53, 54}
    assert (int(xs.min()), int(xs.max())) == (26, 64)
    assert not resize_mask(torch.zeros_like(bar), (128, 228)).any()


@given(st.integers(0, 2**32 - 1), st.integers(1, 8), st.integers(1, 8), st.integers(1, 9))
def test_a_pixel_is_the_objects_where_half_of_it_is_covered(seed: int, height: int, width: int, short: int) -> None:
    """In fractions, pixel by pixel; void is what is not the object's and might be."""
    mask = np.random.default_rng(seed).choice([0, 1, VOID], (height, width), p=[0.5, 0.4, 0.1]).astype(np.uint8)
    size = input_size((height, width), short, 1000)

    def overlap(pixel: int, count: int, part: int, parts: int) -> Fraction:
        """Of a pixel of ``count`` along an axis with a part of ``parts``, as a share of the pixel."""
        start, end = Fraction(pixel, count), Fraction(pixel + 1, count)
        return max(min(end, Fraction(part + 1, parts)) - max(start, Fraction(part, parts)), Fraction(0)) * count

    def covered(of: BoolArray) -> list[list[Fraction]]:
        return [
            [
                sum(
                    (overlap(y, size[0], i, height) * overlap(x, size[1], j, width) for i, j in np.argwhere(of)),
                    Fraction(0),
                )
                for x in range(size[1])
            ]
            for y in range(size[0])
        ]

    def expected(of: BoolArray) -> BoolArray:
        shares = np.array(covered(of), dtype=object)
        half = shares >= Fraction(1, 2)
        return (half if half.any() else shares > 0).astype(bool)

    shown, possible = expected(mask == 1), expected(mask > 0)
    values = np.where(shown, 1, np.where(possible, VOID, 0))
    assert np.array_equal(resize_mask(torch.from_numpy(mask), size).numpy(), values)
