"""The rows of the ablations: the paper's Table 1, and the choices of meta-training."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from cluster.training.config import MetaTraining, ParentTraining
from eosvos.learning.config import Level
from eosvos.model.config import ModelConfig
from eosvos.segmentation.config import SegmentationConfig

PUBLISHED_T = 10
"""Fine-tuning steps of the paper's rows."""


@dataclass(frozen=True)
class AblationRow:
    """One row.

    Attributes:
        name: what it is, or what it adds to the row before.
        published: J&F of the paper's row on DAVIS 2017 val, percent; None where it has no such row.
        T: fine-tuning steps.
        parent: training that the row's fine-tuning or its meta-training starts from.
        meta: meta-training, or None for a single rate that is searched for on held-out training sequences.
        segmentation: test time.
        same_time: meta-train for as long as the first row that meta-trains did, not for as many outer steps.
    """

    name: str
    published: float | None
    T: int
    parent: ParentTraining
    meta: MetaTraining | None
    segmentation: SegmentationConfig
    same_time: bool = False

    @property
    def folder(self) -> str:
        """Name of a folder, another one for each row of a table."""
        return str(self).replace(" ", "_").replace("+_", "")

    def __str__(self) -> str:
        return f"{self.name}, T={self.T}"


def table_1(parent: ParentTraining, meta: MetaTraining, T: int, more_T: Sequence[int]) -> list[AblationRow]:
    """The paper's rows, from the least to the whole method.

    The parent that is evaluated learns all objects as one, as the paper's does; meta-training starts from ``parent``.

    Args:
        parent, meta: the whole method's trainings.
        T: fine-tuning steps of the rows that are compared.
        more_T: further numbers of steps, of the first row and of the last.
    """
    whole = replace(parent.model, normalization="group", mask_loss="lovasz_hinge")
    grouped = replace(whole, mask_loss="cross_entropy")
    plain = replace(grouped, normalization="frozen_batch")
    merged = replace(parent, model=plain, parent_targets="merged")
    bare = SegmentationConfig(transforms=0, box_propagation=False)
    boxes = replace(bare, box_propagation=True)
    online = replace(boxes, online_interval=5, online_steps=10, online_choice="release")

    def learned(
        name: str,
        published: float | None,
        model: ModelConfig,
        level: Level = "neuron",
        segmentation: SegmentationConfig = bare,
        T: int = T,
    ) -> AblationRow:
        rates = replace(meta.rates, rate_level=level)
        trainings = replace(parent, model=model), replace(meta, model=model, rates=rates)
        return AblationRow(name, published, T, *trainings, segmentation)

    def at_published(figure: float) -> float | None:
        return figure if T == PUBLISHED_T else None

    searched = {10: 33.6, 50: 39.7, 100: 41.6, 1000: 42.7}
    propagated = {10: 71.2, 50: 71.3, 100: 71.2}
    adapted = {50: 73.7, 100: 74.8}
    return [
        *(AblationRow("parent, one searched rate", searched.get(t), t, merged, None, bare) for t in (T, *more_T)),
        learned("learned initialization, one learned rate", at_published(64.4), plain, "single"),
        learned("+ a rate for each neuron", at_published(67.2), plain),
        learned("+ group normalization", at_published(69.4), grouped),
        learned("+ Lovász hinge", at_published(69.9), whole),
        *(learned("+ box propagation", propagated.get(t), whole, segmentation=boxes, T=t) for t in (T, *more_T)),
        *(learned("+ online adaptation", adapted.get(t), whole, segmentation=online, T=t) for t in (T, *more_T)),
    ]


def choices(parent: ParentTraining, meta: MetaTraining, T: int) -> list[AblationRow]:
    """The preset's meta-training beside others that differ in one thing, for as many outer steps and for as long.

    Args:
        parent, meta: the preset's trainings.
        T: fine-tuning steps at test time.
    """

    def row(name: str, changed: MetaTraining, same_time: bool = False) -> AblationRow:
        return AblationRow(name, None, T, parent, changed, meta.segmentation, same_time)

    single = replace(meta, rates=replace(meta.rates, rate_level="single"))
    second, multi = replace(meta, order="second"), replace(meta, multi_step=0.5)
    return [
        row("the preset", meta),
        row("one learned rate", single),
        row("multi-step loss, as many steps", multi),
        row("multi-step loss, as long", multi, same_time=True),
        row("second order, as many steps", second),
        row("second order, as long", second, same_time=True),
    ]
