"""Meta-learned one-shot video object segmentation: the science, in plain PyTorch.

A clip and the mask of its first frame in, a mask of every frame out::

    from pathlib import Path

    from eosvos import OneShotSegmenter, load_checkpoint, open_clip, open_masks

    clip = open_clip(Path("clip.mp4"))
    masks = open_masks(Path("first.png"), clip)
    segmenter = OneShotSegmenter(load_checkpoint())  # or load_checkpoint(Path("best.safetensors")), device="cuda"
    images = (frame.image for frame in clip.read())
    for frame in segmenter.segment(images, masks, T=10):
        print(frame.mask.unique().tolist(), frame.scores)  # frame.mask: (H, W) uint8 object ids

These four names are the public API. They are imported when they are asked for, so that ``import eosvos`` is quick.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from eosvos.data.readers.clip import open_clip
    from eosvos.data.readers.masks import open_masks
    from eosvos.learning.optimization import load as load_checkpoint
    from eosvos.segmentation.one_shot import OneShotSegmenter

__version__ = "0.1.0"
__all__ = ["OneShotSegmenter", "load_checkpoint", "open_clip", "open_masks"]

_PLACES = {
    "OneShotSegmenter": ("eosvos.segmentation.one_shot", "OneShotSegmenter"),
    "load_checkpoint": ("eosvos.learning.optimization", "load"),
    "open_clip": ("eosvos.data.readers.clip", "open_clip"),
    "open_masks": ("eosvos.data.readers.masks", "open_masks"),
}


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, attribute = _PLACES[name]
    return getattr(import_module(module), attribute)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
