"""Settings of test time, as data."""

from dataclasses import dataclass, field
from math import inf, isfinite
from typing import Literal

from eosvos.config import OLDER
from eosvos.data.config import ViewConfig


@dataclass(frozen=True)
class SegmentationConfig:
    """Test time (the authors' release: ``util/evaluate.py``), but for the number of fine-tuning steps T."""

    rate_scale: float = 1.0
    """Factor of the learning rates."""
    input_scale: float = 1.0
    """Size of the frames that the model sees, in each direction, relative to that of training."""
    transforms: int = 3
    """Copies of the first frame in the batch of each fine-tuning step, every one flipped, turned, zoomed and shifted
    anew; 0: the frame as it is."""
    view: float = 0.0
    """Look at a window around the object, this many times its box, in the first frame and around its last box in each
    later one, wider for every frame in which it is not seen. 0: at the whole frame."""
    view_least: float = 0.25
    """Share of the frame's height that such a window has at least."""
    view_shape: Literal["frame", "square"] = "frame"
    """Its shape: the frame's, or a square of the model's shorter side, which is cheaper."""
    continuity: float = 0.0
    """What the overlap of a detection with the last box counts, as intersection over union times this beside its score,
    in the choice of the best. 0: the score alone."""
    follow_threshold: float = 0.5
    """Score from which on an object that was seen in the frame before is taken for seen; elsewhere it is one half."""
    tell_apart: float = 0.0
    """Two objects that are found in boxes which overlap by this, as intersection over union, or more, are found in one
    place: the one that is surer of it keeps it, and the other takes its next best that is elsewhere, if it has one. 0:
    objects know nothing of each other but where their masks overlap."""
    merging: Literal["probability", "score"] = "probability"
    """To which of several objects a pixel goes: by the probability of the pixel, or by that times the detection's score
    (from one half on it is an object's in both)."""
    self_check: float = 0.0
    """After fine-tuning an object has to be found in the given frame itself, with at least this overlap with the given
    mask, as intersection over union. Where it is not, up to ten steps more are taken until it is; if that does not
    help, the state before with the largest overlap counts. 0: no check; nor is there one with a time budget."""
    box_propagation: bool = True
    """Add jittered copies of the object's last box to the proposals; they replace the lower-ranked half."""
    pasting: Literal["exact", "release"] = field(default="exact", metadata={OLDER: "release"})
    """How a box's mask comes into the frame: where the object is, or as the authors' release does it, by boxes of whole
    pixels, and half a pixel up and left."""
    online_interval: int = 0
    """Frames between online adaptations: the model goes back to its state after the first frame and learns from that
    frame and from what it segmented lately. 0: never."""
    online_steps: int = 2
    """Steps of each online adaptation; the paper takes 10, which does worse here."""
    online_frames: int = 2
    """Frames that were segmented lately in the batch of an online adaptation."""
    online_choice: Literal["latest", "release"] = "latest"
    """Which: the last ones, or those that the authors' release takes, near the start of the interval; the release also
    takes its steps, on the first frame alone, where the object is in none of them."""
    online_reset: Literal["first_frame", "none", "initialization"] = "first_frame"
    """State that an online adaptation starts from: after the first frame, as the last one left it, or before any."""
    online_threshold: float = 0.5
    """A pixel is taken for the object in those frames where its probability is at least this; a frame without any is
    left out."""
    online_path: float = 0.0
    """A frame is learned from where the object's box overlaps the last one by this, as intersection over union, or
    more: what jumps may be another object. 0: any."""
    online_void: float | None = None
    """In those frames no loss looks at a pixel whose probability is at least this and below online_threshold: only what
    is clearly object or clearly background is learned from (after OnAVOS, Voigtlaender and Leibe, BMVC 2017). None:
    what is not object is background."""
    online_first_weight: float = 1.0
    """What the loss of the first frame weighs in an online adaptation, against 1 for each of those frames (OnAVOS leans
    on the first frame, too)."""

    @property
    def window(self) -> ViewConfig:
        """The window around an object that the model looks at."""
        return ViewConfig(self.view, self.view_least, self.view_shape)

    def __post_init__(self) -> None:
        _ = self.window  # raises for what it cannot be
        if not (0 <= self.continuity < inf):
            raise ValueError(f"continuity: must be at least 0, got {self.continuity}")
        for name in ("tell_apart", "self_check", "online_path"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name}: must be within 0 and 1, got {getattr(self, name)}")
        if not 0 < self.follow_threshold <= 0.5:
            raise ValueError(f"follow_threshold: must be above 0 and at most 0.5, got {self.follow_threshold}")
        if not (self.rate_scale > 0 and isfinite(self.rate_scale)):
            raise ValueError(f"rate_scale: must be above 0, got {self.rate_scale}")
        if not 0.25 <= self.input_scale <= 4:
            raise ValueError(f"input_scale: must be within 0.25 and 4, got {self.input_scale}")
        for name in ("transforms", "online_interval"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name}: must be at least 0, got {getattr(self, name)}")
        for name in ("online_steps", "online_frames"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: must be at least 1, got {getattr(self, name)}")
        if 0 < self.online_interval < self.online_frames + (self.online_choice == "release"):
            raise ValueError(
                f"online_frames: an interval of {self.online_interval} frames does not hold {self.online_frames}"
                + (" besides the first one, which the release never takes" if self.online_choice == "release" else "")
            )
        if not 0 < self.online_threshold < 1:
            raise ValueError(f"online_threshold: must be above 0 and below 1, got {self.online_threshold}")
        if self.online_void is not None and not 0 < self.online_void < self.online_threshold:
            raise ValueError(
                f"online_void: must be above 0 and below online_threshold, {self.online_threshold}, "
                f"got {self.online_void}"
            )
        if not (self.online_first_weight > 0 and isfinite(self.online_first_weight)):
            raise ValueError(f"online_first_weight: must be above 0, got {self.online_first_weight}")


LOOKING = ("input_scale", "view", "view_least", "view_shape")
"""What decides on how the model looks at a frame."""
FINE_TUNING = ("rate_scale", "transforms", *LOOKING)
"""What fine-tuning depends on; the other fields are of what follows it."""

DEFAULTS = SegmentationConfig()
"""As the paper looks at a video: at the whole of it."""
FOLLOWING = SegmentationConfig(
    view=2.5, view_shape="square", continuity=0.5, follow_threshold=0.3, tell_apart=0.7, merging="score", self_check=0.5
)
"""At a window around each object, following it: what real video takes, and what the checkpoint real-small has seen."""
