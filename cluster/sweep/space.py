"""What a sweep tries: test-time settings, as values for each field."""

import itertools
from dataclasses import dataclass, fields, replace
from typing import Annotated, Any, Literal

import tyro

from eosvos.errors import BadInput
from eosvos.segmentation.config import DEFAULTS, FINE_TUNING, LOOKING, SegmentationConfig

Reset = Literal["first_frame", "none", "initialization"]
Shape = Literal["frame", "square"]
Merging = Literal["probability", "score"]


@dataclass(frozen=True)
class Setting:
    """One way to segment.

    Attributes:
        T: fine-tuning steps.
        segmentation: the rest of test time.
    """

    T: int
    segmentation: SegmentationConfig

    @property
    def differences(self) -> str:
        """What differs from the defaults, but for T; empty where nothing does."""
        return ",".join(
            f"{field.name}={getattr(self.segmentation, field.name)}"
            for field in fields(self.segmentation)
            if getattr(self.segmentation, field.name) != getattr(DEFAULTS, field.name)
        )

    @property
    def name(self) -> str:
        """T, and what differs from the defaults; a folder's name, another one for every setting."""
        return f"T={self.T},{self.differences}" if self.differences else f"T={self.T}"


@dataclass(frozen=True)
class Space:
    """Values to try; a field with one value is left at it."""

    T: Annotated[tuple[int, ...], tyro.conf.arg(aliases=["-T"])] = (10,)
    """Numbers of fine-tuning steps."""
    rate_scale: tuple[float, ...] = (DEFAULTS.rate_scale,)
    """Factors of the learning rates."""
    input_scale: tuple[float, ...] = (DEFAULTS.input_scale,)
    """Sizes of the frames that the model sees, relative to those of training."""
    transforms: tuple[int, ...] = (DEFAULTS.transforms,)
    """Numbers of transforms of the first frame in a fine-tuning batch; 0: the frame as it is."""
    view: tuple[float, ...] = (DEFAULTS.view,)
    """Extents of the window around the object that the model looks at, in times its box; 0: the whole frame."""
    view_least: tuple[float, ...] = (DEFAULTS.view_least,)
    """Shares of the frame's height that such a window has at least."""
    view_shape: tuple[Shape, ...] = (DEFAULTS.view_shape,)
    """Its shapes."""
    continuity: tuple[float, ...] = (DEFAULTS.continuity,)
    """What the overlap of a detection with the last box counts beside its score."""
    follow_threshold: tuple[float, ...] = (DEFAULTS.follow_threshold,)
    """Scores from which on an object that was seen in the frame before is taken for seen."""
    tell_apart: tuple[float, ...] = (DEFAULTS.tell_apart,)
    """Overlaps of two objects' boxes from which on they are in one place, and one looks elsewhere; 0: never."""
    merging: tuple[Merging, ...] = (DEFAULTS.merging,)
    """What decides to which of several objects a pixel goes."""
    box_propagation: tuple[bool, ...] = (DEFAULTS.box_propagation,)
    """With and without jittered copies of the last box among the proposals."""
    online_interval: tuple[int, ...] = (DEFAULTS.online_interval,)
    """Frames between online adaptations; 0: none."""
    online_steps: tuple[int, ...] = (DEFAULTS.online_steps,)
    """Steps of each online adaptation."""
    online_frames: tuple[int, ...] = (DEFAULTS.online_frames,)
    """Lately segmented frames to learn from in an online adaptation."""
    online_reset: tuple[Reset, ...] = (DEFAULTS.online_reset,)
    """States that an online adaptation starts from."""
    online_void: tuple[float | None, ...] = (DEFAULTS.online_void,)
    """Probabilities from which on pixels below the threshold are ignored in those frames; None: in none."""
    online_first_weight: tuple[float, ...] = (DEFAULTS.online_first_weight,)
    """What the loss of the first frame weighs in an online adaptation."""

    def __post_init__(self) -> None:
        for field in fields(self):
            values = getattr(self, field.name)
            if not values or len(set(values)) < len(values):
                raise ValueError(f"{field.name}: needs different values, got {values}")
        if min(self.T) < 0:
            raise ValueError(f"T: needs values of at least 0, got {self.T}")

    @property
    def values(self) -> dict[str, tuple[Any, ...]]:
        """Field -> values."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


def settings(space: Space, draws_each_value: bool = False) -> list[Setting]:
    """All different combinations, T rising slowest; those that contradict themselves are left out.

    Args:
        space: the values.
        draws_each_value: by itself, as Optuna does, so that none may contradict itself.

    Raises:
        BadInput: every combination contradicts itself, or a value that can never be right, or one that Optuna may draw.
    """
    found: dict[Setting, None] = {}
    refused = ""
    for values in itertools.product(*space.values.values()):
        try:
            found[setting_of(dict(zip(space.values, values, strict=True)))] = None
        except ValueError as error:
            refused = str(error)
    if not found:
        raise BadInput(refused)
    if refused and draws_each_value:
        raise BadInput(f"{refused}; --search optuna draws each value by itself, so leave out one or the other")
    return list(found)


def setting_of(values: dict[str, Any]) -> Setting:
    """One combination: fields that change nothing in it have their defaults, so that equal settings are equal.

    Raises:
        ValueError: it contradicts itself.
    """
    T, rest = values["T"], {name: value for name, value in values.items() if name != "T"}
    segmentation = SegmentationConfig(**rest)
    if segmentation.view == 0:
        segmentation = replace(segmentation, view_least=DEFAULTS.view_least, view_shape=DEFAULTS.view_shape)
    if segmentation.online_interval == 0:
        online = (field.name for field in fields(segmentation) if field.name.startswith("online_"))
        segmentation = replace(segmentation, **{name: getattr(DEFAULTS, name) for name in online})
        if T == 0:  # nothing is learned, so that only how it looks matters of what fine-tuning depends on
            idle = (name for name in FINE_TUNING if name not in LOOKING)
            segmentation = replace(segmentation, **{name: getattr(DEFAULTS, name) for name in idle})
    return Setting(T, segmentation)
