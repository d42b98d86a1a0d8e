"""Meta-learned one-shot video object segmentation: the science, in plain PyTorch.

The public API, imported when it is asked for, so that ``import eosvos`` alone is quick:

- ``load_checkpoint(path)``: an ``Optimization`` from a file; without a path the small one of this package.
- ``open_clip(path)``, ``open_masks(path, clip)``: a video and the masks that are given for it.
- ``OneShotSegmenter(optimization, settings)``: ``segment(frames, masks, T)`` yields the mask of each frame.
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
