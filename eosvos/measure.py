"""Measuring on this machine what work would cost, on frames of noise."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from eosvos.draws import generator
from eosvos.model.mask_rcnn import Batch, MaskRCNN

TYPICAL_SIZE = (480, 854)
"""(H, W) of a frame, where no dataset is named."""


def seconds_of(task: Callable[[], object], gpu: bool) -> float:
    """What the second of two runs takes."""
    for _ in range(2):
        started = time.perf_counter()
        task()
        if gpu:
            torch.cuda.synchronize()
        seconds = time.perf_counter() - started
    return seconds


@contextmanager
def threads(count: int) -> Iterator[None]:
    """With so many threads of the arithmetic."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def noise(size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """A frame (3, H, W) uint8 of noise, and the mask (H, W) uint8 of an object of half its height and width."""
    height, width = size
    mask = torch.zeros(size, dtype=torch.uint8)
    mask[height // 4 : 3 * height // 4, width // 4 : 3 * width // 4] = 1
    return torch.randint(0, 256, (3, *size), generator=generator(0), dtype=torch.uint8), mask


def batch_of_noise(model: MaskRCNN, size: tuple[int, int], count: int) -> Batch:
    """``count`` frames of ``noise`` of ``size`` (H, W)."""
    image, mask = noise(size)
    return model.batch([image] * count, [mask] * count)
