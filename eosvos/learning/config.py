"""What is learned and how the outer loop moves it, as data."""

from dataclasses import dataclass
from typing import Literal

Level = Literal["single", "tensor", "neuron", "parameter"]
Form = Literal["log", "linear"]
Order = Literal["first", "second", "second_of_heads", "second_in_heads"]


@dataclass(frozen=True)
class RatesConfig:
    """Which learning rates are learned, and where they start."""

    rate_level: Level = "neuron"
    """What has a rate of its own: the whole model, each tensor, each neuron's weights and its bias, or each scalar."""
    rate_form: Form = "log"
    """log: the logarithm is learned, so that a rate moves by factors; linear: the rate itself, kept at 0 or above (the
    paper's; with --rates-learning-rate 1e-5)."""
    initial_rate: float = 1e-3
    """Every learning rate at the start ..."""
    rate_spread: float = 0.0
    """... times a random factor of up to 1 plus or minus this; the paper's is 0.5."""

    def __post_init__(self) -> None:
        if not self.initial_rate > 0:
            raise ValueError(f"initial_rate: must be above 0, got {self.initial_rate}")
        if not 0 <= self.rate_spread < 1:
            raise ValueError(f"rate_spread: must be at least 0 and below 1, got {self.rate_spread}")


@dataclass(frozen=True)
class OuterConfig:
    """The outer loop: RAdam, as in the authors' release, on the initialization and the learning rates."""

    steps: int = 100_000
    """Outer steps in all."""
    meta_batch: int = 4
    """Tasks per outer step, over all workers."""
    learning_rate: float = 1e-5
    """Outer learning rate of the initialization."""
    rates_learning_rate: float = 0.05
    """Outer learning rate of the logarithms of the rates, or of the rates themselves (linear), which need a far smaller
    one: the paper's is 1e-5. A parent has none."""
    betas: tuple[float, float] = (0.9, 0.99)
    """RAdam's decay rates of the first and second moment."""
    weight_decay: float = 1e-3
    """Decoupled weight decay of the initialization; learning rates have none."""
    clip_norm: float = 10.0
    """The initialization's gradient is scaled down to this norm."""
    rates_clip_norm: float = 0.3
    """So is that of the logarithms of the rates, or of the rates themselves (linear), whose norm is far larger: without
    a limit one task on which fine-tuning diverges leaves second moments beside which later gradients are nothing."""
    anneal: float = 0.4
    """Over this last share of the steps both outer learning rates fall linearly to zero."""
    average: float = 0.0
    """Decay of an exponential moving average of initialization and rates, such as 0.95, over about 1 / (1 - decay)
    outer steps: what is validated and kept is the average then. 0: the newest state."""

    def __post_init__(self) -> None:
        for name in ("steps", "meta_batch"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: must be at least 1, got {getattr(self, name)}")
        for name in ("learning_rate", "rates_learning_rate", "weight_decay"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name}: must be at least 0, got {getattr(self, name)}")
        for name in ("clip_norm", "rates_clip_norm"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name}: must be above 0, got {getattr(self, name)}")
        if not 0 <= self.anneal <= 1:
            raise ValueError(f"anneal: must be within 0 and 1, got {self.anneal}")
        if not 0 <= self.average < 1:
            raise ValueError(f"average: must be at least 0 and below 1, got {self.average}")

    def factor(self, step: int) -> float:
        """What the outer learning rates are multiplied by at ``step``, in (0, 1]."""
        return min(1.0, (self.steps - step) / max(self.anneal * self.steps, 1))
