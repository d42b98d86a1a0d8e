"""Frames and masks at the model's input size."""

import pytest
import torch

from eosvos.data.augment import input_size, resize

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
    assert resize(image, short, long).shape == (3, *expected)
    assert resize(mask, short, long).shape == expected


def test_resizing_keeps_image_and_mask_aligned() -> None:
    mask = torch.zeros((96, 160), dtype=torch.uint8)
    mask[30:70, 50:110] = 2
    mask[40:60, 60:80] = 1
    image = (mask * 100)[None].repeat(3, 1, 1)
    for short in (48, 61, 192):
        small_image, small_mask = resize(image, short, 1000), resize(mask, short, 1000)
        assert set(small_mask.unique().tolist()) == {0, 1, 2}
        assert float((small_image[0] / 100 - small_mask).abs().mean()) < 0.03
    assert torch.equal(resize(image, 96, 1000), image)
    assert torch.equal(resize(mask, 96, 1000), mask)
    assert torch.equal(resize(mask, 192, 1000), mask.repeat_interleave(2, 0).repeat_interleave(2, 1))


def test_a_thin_object_is_still_there_at_a_smaller_size() -> None:
    bar = torch.zeros((480, 854), dtype=torch.uint8)
    bar[201:204, 100:240] = 1  # in none of the rows that the nearest pixels of 128 rows are in
    small = resize(bar, 128, 256)
    assert small.unique().tolist() == [0, 1]
    ys, xs = torch.where(small > 0)
    assert set(ys.tolist()) <= {53, 54}
    assert (int(xs.min()), int(xs.max())) == (26, 64)
    assert not resize(torch.zeros_like(bar), 128, 256).any()
