"""The ablation: the rows of the paper's Table 1, each from runs of its own, beside the figures that are published."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console
from rich.table import Table

from cluster import checkpoints
from cluster.comparison import chosen_rates, objects_of
from cluster.config import MetaTraining, Training
from cluster.evaluation import Evaluation
from cluster.tracking import Tracker, tracking_uri
from cluster.training import train
from eosvos.cli import to_dict
from eosvos.errors import BadInput
from eosvos.learning.rates import Level
from eosvos.metrics.table import Row, percent, summarize, write_table
from eosvos.model.config import ModelConfig
from eosvos.segmentation.config import SegmentationConfig

MEASURES = ("j_mean", "f_mean", "j_and_f")
PUBLISHED_T = 10
"""Fine-tuning steps of the paper's rows."""


@dataclass(frozen=True)
class AblationRow:
    """One row.

    Attributes:
        name: what it adds to the row before.
        published: J&F of the paper's row on DAVIS 2017 val, percent; None where it has no such row.
        T: fine-tuning steps.
        parent: training that the row's fine-tuning or its meta-training starts from.
        meta: meta-training, or None for a single rate that is searched for on held-out training sequences.
        segmentation: test time.
    """

    name: str
    published: float | None
    T: int
    parent: Training
    meta: MetaTraining | None
    segmentation: SegmentationConfig


@dataclass(frozen=True)
class Ablation:
    """Where an ablation works.

    Attributes:
        data: encoded dataset to report on.
        out: folder of all runs and the table.
        rates: for the parent's search, widened until the best is not at an edge.
    """

    data: str
    out: Path
    rates: tuple[float, ...]


def table_1(parent: Training, meta: MetaTraining, T: int, more_T: Sequence[int]) -> list[AblationRow]:
    """The paper's rows, from the least to the whole method.

    Args:
        parent, meta: the whole method's trainings.
        T: fine-tuning steps of the rows that are compared.
        more_T: further numbers of steps, of the first row and of the last.
    """
    whole = replace(parent.model, normalization="group", mask_loss="lovasz_hinge")
    grouped = replace(whole, mask_loss="cross_entropy")
    plain = replace(grouped, normalization="frozen_batch")
    bare = SegmentationConfig(transforms=0, box_propagation=False)
    boxes = replace(bare, box_propagation=True)
    online = replace(boxes, online_interval=5)

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
        *(
            AblationRow("parent, one searched rate", searched.get(t), t, replace(parent, model=plain), None, bare)
            for t in (T, *more_T)
        ),
        learned("learned initialization, one learned rate", at_published(64.4), plain, "single"),
        learned("+ a rate for each neuron", at_published(67.2), plain),
        learned("+ group normalization", at_published(69.4), grouped),
        learned("+ Lovász hinge", at_published(69.9), whole),
        *(learned("+ box propagation", propagated.get(t), whole, segmentation=boxes, T=t) for t in (T, *more_T)),
        *(learned("+ online adaptation", adapted.get(t), whole, segmentation=online, T=t) for t in (T, *more_T)),
    ]


def ablate(rows: Sequence[AblationRow], ablation: Ablation, console: Console) -> list[Row]:
    """Trains and evaluates every row, each training once, and returns a summary row for each.

    Written to ``out``: ``ablation`` as Parquet and CSV, ``ablation.md``; to MLflow a run with a child for each row.
    What is there already is not done again.

    Raises:
        BadInput: what ``train`` and ``evaluate`` refuse, or nothing held out to search rates on.
    """
    if any(row.meta is None and row.parent.held_out == 0 for row in rows):
        raise BadInput("--held-out: the parent's rate is searched for on held-out sequences; hold some out")
    uri = tracking_uri()
    tracker = Tracker(uri, "ablation", ablation.out.name, ablation.out, {"data": ablation.data, "rows": len(rows)})
    summary: list[Row] = []
    searched = tuple(row.T for row in rows if row.meta is None)
    try:
        for number, row in enumerate(rows, 1):
            console.rule(f"row {number} of {len(rows)}: {row.name}, T={row.T}")
            scores = _scores(row, searched, ablation, console)
            summary.append({"row": row.name, "T": row.T, "published_j_and_f": row.published} | scores)
            name = f"{row.name}, T={row.T}"
            folder = ablation.out / "rows" / name.replace(" ", "_").replace("+_", "")
            child = Tracker(uri, "ablation", name, folder, {"T": row.T} | to_dict(row.segmentation))
            child.tags({"mlflow.parentRunId": tracker.run_id})
            child.metrics([(0, {measure: scores[measure] for measure in MEASURES})])
            child.end()
        write_table(summary, ablation.out, "ablation")
        (ablation.out / "ablation.md").write_text(_markdown(summary))
        for name in ("ablation.md", "ablation.csv"):
            tracker.artifact(ablation.out / name)
    except BaseException:
        tracker.end(failed=True)
        raise
    tracker.end()
    console.print(_terminal(summary))
    console.print(f"table: {ablation.out / 'ablation.md'}\nMLflow: {uri}, run {tracker.run_id}")
    return summary


def _scores(row: AblationRow, searched: tuple[int, ...], ablation: Ablation, console: Console) -> Row:
    """Trains and evaluates the row; ``searched`` are the T of all rows whose rate is searched for."""
    model = f"{row.parent.model.normalization}-{row.parent.model.mask_loss}"
    parent = train(replace(row.parent, out=ablation.out / f"parent-{model}"))
    single: tuple[float, ...] = ()
    if row.meta is None:
        folder = ablation.out / f"search-{model}"
        chosen = chosen_rates(parent, row.parent.data, searched, ablation.rates, folder, console, row.segmentation)
        checkpoint, single = parent, tuple(rate for rate, steps in chosen.items() if row.T in steps)
    else:
        folder = ablation.out / f"meta-{model}-{row.meta.rates.rate_level}"
        last = train(replace(row.meta, out=folder, parent=parent))
        checkpoint = last.with_name(checkpoints.BEST) if row.meta.held_out > 0 else last
    boxes = "-boxes" if row.segmentation.box_propagation else ""
    online = "-online" if row.segmentation.online_interval else ""
    evaluation = Evaluation(
        checkpoint,
        ablation.data,
        ablation.out / f"evaluation-{checkpoint.parent.name}{boxes}{online}-T={row.T}",
        T=(row.T,),
        learning_rate=single,
        segmentation=row.segmentation,
    )
    (scores,) = summarize(objects_of(evaluation, console))
    return scores | {"learning_rate": single[0] if single else None}


HEADINGS = ("row", "T", "J", "F", "J&F", "paper's J&F")


def _lines(summary: Sequence[Row]) -> list[tuple[str, ...]]:
    lines = []
    for row in summary:
        rate = "" if row["learning_rate"] is None else f" ({row['learning_rate']:g})"
        ours = (percent(row, measure) for measure in MEASURES)
        published = "" if row["published_j_and_f"] is None else f"{row['published_j_and_f']:.1f}"
        lines.append((f"{row['row']}{rate}", str(row["T"]), *ours, published))
    return lines


def _markdown(summary: Sequence[Row]) -> str:
    lines = (HEADINGS, ("---",) * len(HEADINGS), *_lines(summary))
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return (
        f"{table}\n\n{summary[0]['objects']} objects, percent, ± one standard error over objects. The paper's figures "
        "are of DAVIS 2017 val (Table 1), with another model and other data: compare the differences between rows.\n"
    )


def _terminal(summary: Sequence[Row]) -> Table:
    table = Table(title="ablation, the paper's Table 1")
    for heading in HEADINGS:
        table.add_column(heading, justify="left" if heading == "row" else "right")
    for line in _lines(summary):
        table.add_row(*line)
    return table
