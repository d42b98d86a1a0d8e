"""The fair comparison: meta-learned against a parent that trained for as long, at its best rate for each T."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console
from rich.table import Table

from cluster.evaluation.config import Evaluation, Subject
from cluster.evaluation.driver import evaluate
from cluster.run_folder import CONFIG_FILE
from cluster.training import checkpoints, progress
from cluster.training.config import MetaTraining, ParentTraining
from cluster.training.driver import COMPLETE, train
from eosvos.config import read_json
from eosvos.errors import BadInput
from eosvos.learning.optimization import load
from eosvos.metrics.table import (
    ObjectRow,
    Row,
    SummaryRow,
    best_at_each_T,
    over_seeds,
    paired_difference,
    percent,
    signed_percent,
    summarize,
    with_keys,
)
from eosvos.segmentation.config import SegmentationConfig
from eosvos.tables import write_table

META, FAIR = "meta-learned", "fair parent"
FAIR_FOLDER = "fair_parent"
"""The fair parent's run folder, in that of its seed."""
MARGIN = 1.1
"""The fair parent gets this much of the time, as its pace is known only from the past."""
WIDENINGS = 6
"""How often a grid of rates is widened, at most."""
FACTOR = 3.0


@dataclass(frozen=True)
class Pair:
    """What one seed's trainings gave.

    Attributes:
        seed: of both.
        meta: the meta-learned checkpoint that did best on the held-out sequences.
        fair: the fair parent's last checkpoint.
        meta_seconds: in the outer steps of parent and meta-training together.
        fair_seconds: in the outer steps of the fair parent.
    """

    seed: int
    meta: Path
    fair: Path
    meta_seconds: float
    fair_seconds: float


@dataclass(frozen=True)
class Comparison:
    """What is compared, where."""

    train_data: str
    """Encoded dataset that both were trained on; the parent's rates are chosen on its held-out sequences."""
    data: str
    """Encoded dataset to report on."""
    out: Path
    """Folder of the evaluations and the table."""
    T: tuple[int, ...] = (0, 1, 5, 10, 30)
    """Numbers of fine-tuning steps."""
    rates: tuple[float, ...] = (0.0001, 0.0003, 0.001, 0.003, 0.01)
    """The parent's learning rates to choose from at each T, widened until the best is not at an edge."""
    segmentation: SegmentationConfig = SegmentationConfig()
    """Test time of both."""


def train_pair(parent: ParentTraining, meta: MetaTraining, folder: Path) -> Pair:
    """Trains parent, meta-training and fair parent in ``folder``, or goes on where they were.

    The fair parent has the parent's configuration and as many steps as fill the time of the other two; one that is
    there and took at least that time stays, as after another meta-training.

    Raises:
        BadInput: what ``train`` refuses, or no held-out sequences.
    """
    if meta.held_out == 0 or parent.held_out != meta.held_out:
        raise BadInput("--held-out: a comparison chooses on held-out sequences; give both trainings the same share")
    start = train(parent, folder / "parent")
    train(replace(meta, parent=start), folder / "meta")
    spent = _seconds(folder / "parent") + _seconds(folder / "meta")
    steps = fair_steps(progress.read(folder / "parent"), spent)
    if (folder / FAIR_FOLDER / COMPLETE).is_file() and _seconds(folder / FAIR_FOLDER) >= spent:
        steps = progress.read(folder / FAIR_FOLDER)[-1]["step"]
    fair = train(replace(parent, outer=replace(parent.outer, steps=steps)), folder / FAIR_FOLDER)
    return Pair(meta.seed, folder / "meta" / checkpoints.BEST, fair, spent, _seconds(folder / FAIR_FOLDER))


def finished_seeds(out: Path) -> list[int]:
    """The seeds whose trainings are done in ``out``, which has a folder ``seed-N`` for each."""
    folders = (path.parent.parent for path in out.glob(f"seed-*/{FAIR_FOLDER}/{COMPLETE}"))
    done = [path / "meta" for path in folders if (path / "meta" / COMPLETE).is_file()]
    return [int(read_json(path / CONFIG_FILE)["seed"]) for path in done]


def fair_steps(rows: Sequence[progress.StepRow], seconds: float) -> int:
    """Outer steps that fill ``seconds`` at the median pace of a training's progress, with a margin."""
    pace: float = statistics.median(row["seconds"] for row in rows)
    return math.ceil(MARGIN * seconds / pace)


def _seconds(folder: Path) -> float:
    return float(sum(row["seconds"] for row in progress.read(folder)))


def compare(pairs: Sequence[Pair], comparison: Comparison, console: Console) -> list[ObjectRow]:
    """Evaluates both of each pair and returns one row per object, method, T and seed.

    Written to ``out``: ``objects`` and ``comparison`` as Parquet and CSV, ``comparison.md``. What is evaluated already,
    with the same checkpoint and data, is not evaluated again.

    Raises:
        BadInput: what ``evaluate`` refuses, such as a folder with the evaluations of other data.
    """
    rows: list[ObjectRow] = []
    for pair in pairs:
        folder = comparison.out / f"seed-{pair.seed}"
        learned = Evaluation(Subject(pair.meta, comparison.data), comparison.T, comparison.segmentation)
        rows += [_of(META, pair, row) for row in evaluate(learned, folder / "meta").rows]
        at_T = chosen_rates(
            pair.fair,
            comparison.train_data,
            comparison.T,
            comparison.rates,
            folder / "choice",
            console,
            comparison.segmentation,
        )
        for rate, steps in at_T.items():
            single = replace(learned, subject=Subject(pair.fair, comparison.data, learning_rate=(rate,)), T=steps)
            rows += [_of(FAIR, pair, row) for row in evaluate(single, folder / f"fair-{rate:g}").rows]
    merged = over_seeds(rows, by=("method", "T"))
    text = _markdown(pairs, rows, merged, comparison.T)
    write_table(rows, comparison.out, "objects")
    write_table(summarize(merged, by=("method", "T")), comparison.out, "comparison")
    (comparison.out / "comparison.md").write_text(text)
    console.print(_terminal(pairs, rows, merged, comparison.T))
    console.print(f"table: {comparison.out / 'comparison.md'}")
    return rows


def _of(method: str, pair: Pair, row: ObjectRow) -> ObjectRow:
    return with_keys(row, {"method": method, "seed": pair.seed})


def chosen_rates(
    parent: Path,
    train_data: str,
    steps: Sequence[int],
    rates: Sequence[float],
    folder: Path,
    console: Console,
    segmentation: SegmentationConfig,
) -> dict[float, tuple[int, ...]]:
    """Rate -> the T at which it is the parent's best on the sequences that it was not trained on.

    Args:
        parent: its checkpoint.
        train_data: encoded dataset that it was trained on, all but the held-out sequences.
        steps: numbers of fine-tuning steps T; T = 0, where no rate matters, goes with the first.
        rates: to choose from, widened until the best is not at an edge.
        folder: of the evaluations.
        console: says what was chosen.
        segmentation: as in the evaluation that the rates are for.
    """
    names = tuple(load(parent).facts["held_out"])
    positive = tuple(T for T in steps if T > 0)

    def scores(rates: tuple[float, ...]) -> list[SummaryRow]:
        label = "_".join(f"{rate:g}" for rate in rates)
        subject = Subject(parent, train_data, names, learning_rate=rates)
        return evaluate(Evaluation(subject, positive, segmentation), folder / label).summary

    rows = scores(tuple(sorted(rates)))
    for _ in range(WIDENINGS):
        if wider := wider_rates(rows):
            rows += scores(wider)
    if wider_rates(rows):
        console.print(f"warning: after {WIDENINGS} widenings the parent's best rate is still at the grid's edge")
    best = {T: row["learning_rate"] or 0.0 for T, row in best_at_each_T(rows).items()}
    for T, rate in best.items():
        console.print(f"{parent.parent}: best rate at T={T} on {', '.join(names)}: {rate:g}")
    groups = {rate: tuple(T for T in positive if best[T] == rate) for rate in dict.fromkeys(best.values())}
    first = next(iter(groups))
    return groups | {first: (0, *groups[first])} if 0 in steps else groups


def wider_rates(rows: Sequence[Row]) -> tuple[float, ...]:
    """The rates by which to widen a grid whose best at some T is at its edge; none where it is wide enough.

    Args:
        rows: with ``T``, ``learning_rate`` and ``j_and_f``.
    """
    rates = sorted({row["learning_rate"] for row in rows})
    best = {row["learning_rate"] for row in best_at_each_T(list(rows)).values()}
    beyond = {rates[0]: rates[0] / FACTOR, rates[-1]: rates[-1] * FACTOR}
    return tuple(float(f"{value:.1g}") for edge, value in beyond.items() if edge in best)


def _cells(merged: Sequence[ObjectRow], method: str, T: int) -> Row:
    (row,) = summarize([row for row in merged if (row["method"], row["T"]) == (method, T)])
    return row


def _rates(rows: Sequence[ObjectRow], T: int) -> str:
    rates = {row["seed"]: row["learning_rate"] for row in rows if (row["method"], row["T"]) == (FAIR, T)}
    return "-" if T == 0 else "/".join(dict.fromkeys(f"{rate:g}" for rate in rates.values()))


HEADINGS = ("T", *(f"{method}, {name}" for method in (META, FAIR) for name in ("J", "F", "J&F", "s")), "rate")
TERMINAL = ("T", f"{META}, J&F", f"{FAIR}, J&F", "rate")


def _lines(rows: Sequence[ObjectRow], merged: Sequence[ObjectRow], steps: Sequence[int]) -> list[tuple[str, ...]]:
    lines = []
    for T in steps:
        cells = [str(T)]
        for method in (META, FAIR):
            row = _cells(merged, method, T)
            cells += [percent(row, name) for name in ("j_mean", "f_mean", "j_and_f")]
            cells.append(f"{row['seconds'] / row['objects']:.1f}")
        lines.append((*cells, _rates(rows, T)))
    return lines


def _differences(merged: Sequence[ObjectRow], steps: Sequence[int]) -> list[tuple[str, ...]]:
    """J&F of the meta-learned at T (rows) minus the fair parent's at T (columns), with the paired standard error."""
    of = {
        (method, T): [row for row in merged if (row["method"], row["T"]) == (method, T)]
        for method in (META, FAIR)
        for T in steps
    }
    lines = []
    for T in steps:
        differences = (paired_difference(of[META, T], of[FAIR, other]) for other in steps)
        lines.append((str(T), *map(signed_percent, differences)))
    return lines


def _notes(pairs: Sequence[Pair], merged: Sequence[ObjectRow]) -> str:
    objects = len({(row["dataset"], row["sequence"], row["object"]) for row in merged})
    times = "; ".join(
        f"seed {pair.seed}: {pair.meta_seconds / 60:.1f} min of parent and meta-training, "
        f"{pair.fair_seconds / 60:.1f} min of fair parent"
        + (" (LESS: not a fair comparison)" if pair.fair_seconds < pair.meta_seconds else "")
        for pair in pairs
    )
    return (
        f"{objects} objects, {len(pairs)} seed(s); percent, mean over objects and its standard error, each object's "
        "values averaged over the seeds first. Of the meta-training the best checkpoint on the held-out sequences, of "
        f"the fair parent the last one. {times}."
    )


def _markdown(
    pairs: Sequence[Pair], rows: Sequence[ObjectRow], merged: Sequence[ObjectRow], steps: Sequence[int]
) -> str:
    def table(headings: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
        return "\n".join(f"| {' | '.join(line)} |" for line in (headings, ["---"] * len(headings), *lines))

    columns = ("meta-learned at T", *(f"fair parent at {T}" for T in steps))
    return (
        f"{table(HEADINGS, _lines(rows, merged, steps))}\n\n{_notes(pairs, merged)} s: seconds "
        "per object, fine-tuning included.\n\n"
        "J&F of the meta-learned minus the fair parent's, with the paired standard error over objects:\n\n"
        f"{table(columns, _differences(merged, steps))}\n"
    )


def _terminal(
    pairs: Sequence[Pair], rows: Sequence[ObjectRow], merged: Sequence[ObjectRow], steps: Sequence[int]
) -> Table:
    """What fits beside each other in 80 columns."""
    table = Table(title="meta-learned and fair parent: J&F, and their difference", caption=_notes(pairs, merged))
    for heading in (*TERMINAL, "difference"):
        table.add_column(heading.removesuffix(", J&F"), justify="right", overflow="fold")
    lines, differences = _lines(rows, merged, steps), _differences(merged, steps)
    for at, (line, difference) in enumerate(zip(lines, differences, strict=True)):
        shown = (cell for heading, cell in zip(HEADINGS, line, strict=True) if heading in TERMINAL)
        table.add_row(*shown, difference[1 + at])
    return table
