"""Configuration of sweeps."""

from dataclasses import dataclass
from typing import Literal

from cluster.evaluation.config import Subject
from cluster.sweep.space import Space


@dataclass(frozen=True)
class Sweep:
    """Which settings of test time to try on what, and how."""

    subject: Subject = Subject()
    space: Space = Space()
    search: Literal["grid", "random", "optuna"] = "grid"
    """All settings of the space, a random part of them, or what Optuna suggests from the results so far."""
    samples: int = 40
    """Settings to try, of a random part and with Optuna."""
    objective: Literal["front", "score"] = "front"
    """J&F and speed, where a trial is stopped when another is clearly better at no more steps and no more time; or
    J&F alone, by ASHA."""
    stop_early: bool = True
    """Stop trials at the rungs; without it every setting sees every sequence."""
    rungs: tuple[int, ...] = (5, 10, 20, 40)
    """Numbers of sequences after which trials are compared; ASHA takes the first, its double, and so on."""
    target_fps: float | None = None
    """Recommend the most accurate setting with at least so many frames of an object per second ..."""
    target_score: float | None = None
    """... or the fastest with at least this J&F in percent; without either, the most accurate of all."""
    cache_gib: float = 4.0
    """Size of the cache of fine-tuned models, at most; it is removed at the end."""

    def __post_init__(self) -> None:
        if len(self.subject.learning_rate) > 1:
            raise ValueError(f"learning_rate: a sweep takes one, got {self.subject.learning_rate}")
        if self.samples < 1:
            raise ValueError(f"samples: must be at least 1, got {self.samples}")
        if not self.rungs or min(self.rungs) < 2 or list(self.rungs) != sorted(set(self.rungs)):
            raise ValueError(f"rungs: needs rising numbers of at least 2, got {self.rungs}")
        if self.target_fps is not None and self.target_score is not None:
            raise ValueError("target_score: give it or target_fps, not both")
        if self.target_fps is not None and not self.target_fps > 0:
            raise ValueError(f"target_fps: must be above 0, got {self.target_fps}")
        if self.target_score is not None and not 0 < self.target_score <= 100:
            raise ValueError(f"target_score: must be above 0 and at most 100, got {self.target_score}")
        if not self.cache_gib >= 0:
            raise ValueError(f"cache_gib: must be at least 0, got {self.cache_gib}")
