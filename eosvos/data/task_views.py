"""The views of a task's frames: around its object, drawn as test time may come upon them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from eosvos.data.config import TaskViewsConfig, ViewConfig
from eosvos.data.views import View, around, whole


@dataclass(frozen=True)
class TaskViews:
    """What the views of a task share.

    Attributes:
        extent: times the object's box; 0: the whole frame.
        sides: shorter and longer side of the model's input.
        config: how each differs.
    """

    extent: float
    sides: tuple[int, int]
    config: TaskViewsConfig

    @staticmethod
    def draw(config: TaskViewsConfig, sides: tuple[int, int], rng: np.random.Generator) -> "TaskViews":
        """An extent, or whole frames, by the shares of ``config``."""
        extent, is_whole = float(rng.uniform(*config.task_view)), rng.random() < config.task_view_whole
        return TaskViews(0.0 if is_whole else extent, sides, config)

    def of(
        self, frames: Sequence[tuple[int, int]], boxes: Sequence[Tensor | None], rng: np.random.Generator
    ) -> list[View]:
        """A view of each frame, all of one size of input where the frames are.

        Args:
            frames: (H, W) of each.
            boxes: (4,) around the object in each; where it is None, it is not seen, and another frame's counts.
            rng: of the differences between the views.
        """
        known = next((box for box in boxes if box is not None), None)
        all_of_them = [whole(frame, self.sides) for frame in frames]
        if self.extent == 0 or known is None:
            return all_of_them
        views = [self._one(frame, known if box is None else box, rng) for frame, box in zip(frames, boxes, strict=True)]
        # A square is not of the size of a whole frame, in whose place it is where the object is too large for it.
        return all_of_them if any(view.is_whole for view in views) else views

    def _one(self, frame: tuple[int, int], box: Tensor, rng: np.random.Generator) -> View:
        config = self.config
        zoom = float(rng.uniform(*config.task_view_zoom))
        shift = rng.uniform(-config.task_view_shift, config.task_view_shift, size=2)
        extent = box[2:] - box[:2]
        moved = box + (extent * box.new_tensor(shift)).repeat(2)
        wanted = ViewConfig(max(self.extent * zoom, 1.0), config.task_view_least, config.task_view_shape)
        return around(moved, frame, self.sides, wanted)
