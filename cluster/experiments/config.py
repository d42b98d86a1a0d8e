"""Configuration of experiments, which train and evaluate."""

from dataclasses import dataclass

from eosvos.segmentation.config import SegmentationConfig


@dataclass(frozen=True)
class Comparison:
    """What is compared."""

    train_data: str
    """Encoded dataset that both were trained on; the parent's rates are chosen on its held-out sequences."""
    data: str
    """Encoded dataset to report on."""
    T: tuple[int, ...] = (0, 1, 5, 10, 30)
    """Numbers of fine-tuning steps."""
    rates: tuple[float, ...] = (0.0001, 0.0003, 0.001, 0.003, 0.01)
    """The parent's learning rates to choose from at each T, widened until the best is not at an edge."""
    outer_factors: tuple[float, ...] = (0.33, 3.0)
    """The fair parent's outer learning rates to choose from beside its preset's, as multiples of that; widened, at most
    twice, while the best is at an edge."""
    segmentation: SegmentationConfig = SegmentationConfig()
    """Test time of both."""


@dataclass(frozen=True)
class Ablation:
    """What an ablation's rows have in common.

    Attributes:
        data: encoded dataset to report on.
        rates: for the parent's search, widened until the best is not at an edge.
        seeds: everything is trained once with each.
    """

    data: str
    rates: tuple[float, ...]
    seeds: tuple[int, ...] = (0,)
