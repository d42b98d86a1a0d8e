"""How tasks are drawn and augmented, as data."""

from dataclasses import dataclass
from math import inf
from typing import Literal

Targets = Literal["one", "merged", "instances"]
"""Which objects of a frame are to be found: the task's alone, all as one, or all, each by itself."""


@dataclass(frozen=True)
class PlanConfig:
    """How tasks are drawn."""

    frames: Literal["two", "one"] = "two"
    """Train and test on different frames of a sequence, or on one frame augmented anew; pasted objects always come from
    different frames."""
    draw: Literal["object", "image"] = "object"
    """What a pass over a dataset takes once: each object, or each image or video with one of its objects."""
    max_distance: int = 0
    """Largest distance between a frame to fine-tune on and one to do well on, counted in encoded frames; 0: any."""
    hidden: float = 0.0
    """Share of the frames to do well on that are drawn from those in which the object is not seen, as far as there are
    such frames with a mask."""
    train_frames: int = 1
    """Frames to fine-tune on in each task."""
    test_frames: int = 1
    """Frames to do well on in each task: each costs as much as an inner step, and makes the meta-gradient calmer."""
    paste: float = 0.0
    """Share of the tasks into which an object of another sequence is pasted; half of the time it is the target."""

    def __post_init__(self) -> None:
        for name in ("paste", "hidden"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name}: must be within 0 and 1, got {getattr(self, name)}")
        if self.max_distance < 0:
            raise ValueError(f"max_distance: must be at least 0, got {self.max_distance}")
        for name in ("train_frames", "test_frames"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: must be at least 1, got {getattr(self, name)}")


@dataclass(frozen=True)
class ViewConfig:
    """The window around an object that the model looks at.

    Attributes:
        extent: times the object's box, at least 1; 0: the whole frame.
        least: share of the frame's height that it has at least, within 0 and 1.
        shape: that of the frame, or a square of the model's shorter side, which is cheaper.
    """

    extent: float = 0.0
    least: float = 0.25
    shape: Literal["frame", "square"] = "frame"

    def __post_init__(self) -> None:
        if not (self.extent == 0 or 1 <= self.extent < inf):
            raise ValueError(f"view: must be 0, or at least 1, got {self.extent}")
        if not 0 < self.least <= 1:
            raise ValueError(f"view_least: must be above 0 and at most 1, got {self.least}")


@dataclass(frozen=True)
class TaskViewsConfig:
    """The windows around its object that a task's frames are cut to, as test time looks at a video."""

    task_view: tuple[float, float] = (0.0, 0.0)
    """Range of the windows' extent, times the object's box; a task draws one. 0 0: the whole frame."""
    task_view_least: float = 0.25
    """Share of the frame's height that a window has at least."""
    task_view_shape: Literal["frame", "square"] = "frame"
    """The frame's shape, or a square of the model's shorter side, which is cheaper."""
    task_view_zoom: tuple[float, float] = (0.85, 1.18)
    """Range of the factor of the extent that each frame draws for itself."""
    task_view_shift: float = 0.2
    """Each frame's window is off its object's centre by up to this share of the box, in each direction."""
    task_view_whole: float = 0.15
    """Share of the tasks that have the whole frame all the same."""

    def __post_init__(self) -> None:
        least, most = self.task_view
        if self.task_view != (0, 0) and not 1 <= least <= most < inf:
            raise ValueError(f"task_view: needs two rising values of at least 1, or 0 0, got {self.task_view}")
        if not 0 < self.task_view_zoom[0] <= self.task_view_zoom[1] < inf:
            raise ValueError(f"task_view_zoom: needs two rising values above 0, got {self.task_view_zoom}")
        if not 0 < self.task_view_least <= 1:
            raise ValueError(f"task_view_least: must be above 0 and at most 1, got {self.task_view_least}")
        if not 0 <= self.task_view_shift < inf:
            raise ValueError(f"task_view_shift: must be at least 0, got {self.task_view_shift}")
        if not 0 <= self.task_view_whole <= 1:
            raise ValueError(f"task_view_whole: must be within 0 and 1, got {self.task_view_whole}")


@dataclass(frozen=True)
class StillsConfig:
    """How far apart the frames of a task are drawn that are all the same one: a photograph's, or ``--frames one``.
    Each frame draws its own."""

    apart: float = 0.0
    """Largest shift of the object against its background, as a share of the frame's sides; it turns and zooms, too."""
    elastic: float = 0.0
    """Largest shift by a smooth warp, as a share of the frame's shorter side."""
    motion_blur: float = 0.0
    """Longest motion blur, as a share of the frame's shorter side."""
    jpeg: float = 0.0
    """Probability of JPEG noise."""

    def __post_init__(self) -> None:
        for name in ("apart", "elastic", "motion_blur", "jpeg"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name}: must be within 0 and 1, got {getattr(self, name)}")


@dataclass(frozen=True)
class AugmentationConfig:
    """Ranges of the random transformations; colour and flip are shared by a task's frames.

    The defaults are those of the authors' release (``custom_transforms.py``).
    """

    flip: float = 0.5
    """Probability of a horizontal flip."""
    rotation: float = 30.0
    """Largest rotation about the centre, in degrees, either way; each frame draws its own."""
    scale: tuple[float, float] = (0.75, 1.25)
    """Range of the zoom; each frame draws its own."""
    translation: float = 0.0
    """Largest shift as a share of the frame's side, either way; each frame draws its own."""
    brightness: float = 0.2
    """Brightness is multiplied by 1 plus or minus up to this."""
    contrast: float = 0.2
    """As brightness, for contrast."""
    saturation: float = 0.2
    """As brightness, for saturation."""
    hue: float = 0.1
    """Hue is turned by up to this share of the circle, either way."""
    channel_permutation: float = 0.0
    """Probability of a random order of the colour channels."""
    views: StillsConfig = StillsConfig()
    windows: TaskViewsConfig = TaskViewsConfig()

    def __post_init__(self) -> None:
        for name in ("flip", "translation", "brightness", "contrast", "saturation", "channel_permutation"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name}: must be within 0 and 1, got {getattr(self, name)}")
        if not 0 <= self.hue <= 0.5:
            raise ValueError(f"hue: must be within 0 and 0.5, got {self.hue}")
        if not 0 < self.scale[0] <= self.scale[1]:
            raise ValueError(f"scale: needs two rising values above 0, got {self.scale}")


SPATIAL = AugmentationConfig(
    flip=0.5,
    rotation=30.0,
    scale=(0.75, 1.25),
    translation=0.15,
    brightness=0.0,
    contrast=0.0,
    saturation=0.0,
    hue=0.0,
)
"""The random transforms of a given frame: those of the authors' release (``eval_e-osvos*.yaml``), and a shift, which
raises J&F."""
