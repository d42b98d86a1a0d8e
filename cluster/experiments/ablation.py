"""Ablations: every row of a table from runs of its own."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import pyarrow.parquet as pq
from rich.console import Console
from rich.table import Table

from cluster.evaluation.config import Evaluation, Subject
from cluster.evaluation.driver import evaluate
from cluster.experiments.ablation_rows import AblationRow
from cluster.experiments.comparison import chosen_rates
from cluster.tracking.logged_run import RunFacts, logged_run
from cluster.tracking.run import Tracker, check_answers, tracking_uri
from cluster.training import checkpoints, progress
from cluster.training.config import MetaTraining, Training
from cluster.training.driver import train
from eosvos.config import to_dict
from eosvos.errors import BadInput
from eosvos.metrics.table import ObjectRow, Row, over_seeds, paired_difference, percent, signed_percent, summarize
from eosvos.tables import write_table

MEASURES = ("j_mean", "f_mean", "j_and_f")
SEED = "j_and_f_seed_"
LOGGED = (*MEASURES, "published_j_and_f", "outer_steps", "training_seconds")


@dataclass(frozen=True)
class Ablation:
    """Where an ablation works.

    Attributes:
        data: encoded dataset to report on.
        out: folder of all runs and the table.
        rates: for the parent's search, widened until the best is not at an edge.
        seeds: everything is trained once with each.
    """

    data: str
    out: Path
    rates: tuple[float, ...]
    seeds: tuple[int, ...] = (0,)


def seeds_in_table(out: Path) -> list[int]:
    """The seeds of the table that is in ``out``, none where there is no table yet."""
    path = out / "ablation.parquet"
    names = pq.read_schema(path).names if path.is_file() else []
    return [int(name.removeprefix(SEED)) for name in names if name.startswith(SEED)]


def ablate(rows: Sequence[AblationRow], ablation: Ablation, console: Console) -> list[Row]:
    """Trains and evaluates every row, each training once for each seed, and returns a summary row for each.

    Written to ``out``: ``ablation`` as Parquet and CSV, ``ablation.md``; to MLflow a run with a child for each row.
    What is there already is not done again. An object's values are averaged over the seeds first.

    Raises:
        BadInput: what ``train`` and ``evaluate`` refuse, or nothing held out to search rates on.
    """
    if any(row.meta is None and row.parent.held_out == 0 for row in rows):
        raise BadInput("--held-out: the parent's rate is searched for on held-out sequences; hold some out")
    uri = tracking_uri()
    check_answers(uri)
    ablation.out.mkdir(parents=True, exist_ok=True)
    facts = RunFacts("ablation", ablation.out.name, ablation, "", {"rows": str(len(rows))})
    summary: list[Row] = []
    with logged_run(uri, ablation.out, facts) as background:
        first: list[ObjectRow] = []
        for number, row in enumerate(rows, 1):
            console.rule(f"row {number} of {len(rows)}: {row.name}, T={row.T}")
            outcomes = [_outcome(rows, row, seed, ablation, console) for seed in ablation.seeds]
            objects = [one for outcome in outcomes for one in outcome.objects]
            merged = over_seeds(objects, by=())
            first = first or merged
            (scores,) = summarize(merged)
            difference, error = paired_difference(merged, first)
            used = [rate for rate in dict.fromkeys(one["learning_rate"] for one in objects) if rate is not None]
            summary.append(
                {"row": row.name, "T": row.T, "published_j_and_f": row.published}
                | dict(scores)
                | {"learning_rates": "/".join(f"{rate:g}" for rate in used)}
                | {"to_first": difference, "to_first_se": error}
                | {"outer_steps": statistics.mean(outcome.outer_steps for outcome in outcomes)}
                | {"training_seconds": statistics.mean(outcome.training_seconds for outcome in outcomes)}
                | {f"{SEED}{seed}": own.j_and_f for seed, own in zip(ablation.seeds, outcomes, strict=True)}
            )
            name = f"{row.name}, T={row.T}"
            folder = ablation.out / "rows" / name.replace(" ", "_").replace("+_", "")
            logged = {key: value for key, value in summary[-1].items() if key in LOGGED and value is not None}
            background.do(partial(_log_row, name=name, folder=folder, parameters=_parameters(row), values=logged))
        write_table(summary, ablation.out, "ablation")
        (ablation.out / "ablation.md").write_text(_markdown(summary, ablation.seeds))
        for name in ("ablation.md", "ablation.csv"):
            background.do(partial(Tracker.artifact, path=ablation.out / name))
    console.print(_terminal(summary))
    console.print(f"table: {ablation.out / 'ablation.md'}")
    return summary


def _log_row(parent: Tracker, name: str, folder: Path, parameters: dict[str, object], values: dict[str, float]) -> None:
    child = parent.child(name, folder, parameters)
    child.metrics([(0, values)])
    child.end()


@dataclass(frozen=True)
class _Outcome:
    """Of one row with one seed.

    Attributes:
        objects: a row for each.
        outer_steps, training_seconds: of its meta-training, or of its parent where it has none; seconds of the steps.
    """

    objects: list[ObjectRow]
    outer_steps: int
    training_seconds: float

    @property
    def j_and_f(self) -> float:
        """Mean over the objects."""
        return float(statistics.mean(row["j_and_f"] for row in self.objects))


def _outcome(
    rows: Sequence[AblationRow], row: AblationRow, seed: int, ablation: Ablation, console: Console
) -> _Outcome:
    """Trains and evaluates the row with one seed."""
    out = ablation.out / f"seed-{seed}"
    parent = train(*_parent(row, seed, out))
    single: tuple[float, ...] = ()
    if row.meta is None:
        searched = tuple(other.T for other in rows if other.meta is None)
        folder = out / f"search-{_model(row.parent)}"
        chosen = chosen_rates(parent, row.parent.data, searched, ablation.rates, folder, console, row.segmentation)
        checkpoint, single = parent, tuple(rate for rate, steps in chosen.items() if row.T in steps)
    else:
        training, run = _meta(row.meta, parent, seed, out)
        if row.same_time:
            reference = next(other.meta for other in rows if other.meta is not None)
            steps = _steps_of_same_time((training, run), _meta(reference, parent, seed, out))
            training = replace(training, outer=replace(training.outer, steps=steps))
            run = run.with_name(f"{run.name}-same-time")
        last = train(training, run)
        checkpoint = last.with_name(checkpoints.BEST) if row.meta.held_out > 0 else last
    # One evaluation for all T of a checkpoint, as later steps go on from earlier ones; a searched rate has its own.
    alike = [other.T for other in rows if replace(other, name=row.name, published=row.published, T=row.T) == row]
    evaluated = (row.T,) if single else tuple(sorted(alike))
    boxes = "-boxes" if row.segmentation.box_propagation else ""
    online = "-online" if row.segmentation.online_interval else ""
    folder = out / f"evaluation-{checkpoint.parent.name}{boxes}{online}-T={','.join(map(str, evaluated))}"
    subject = Subject(checkpoint, ablation.data, learning_rate=single)
    result = evaluate(Evaluation(subject, evaluated, row.segmentation), folder)
    objects = [one for one in result.rows if one["T"] == row.T]
    taken = progress.read(checkpoint.parent)
    return _Outcome(objects, len(taken), float(sum(one["seconds"] for one in taken)))


def _parameters(row: AblationRow) -> dict[str, object]:
    """What tells the rows apart, for MLflow."""
    model = row.parent.model
    parameters: dict[str, object] = {"T": row.T, "normalization": model.normalization, "mask_loss": model.mask_loss}
    if row.meta is not None:
        meta = row.meta
        parameters |= {"rate_level": meta.rates.rate_level, "order": meta.order, "multi_step": meta.multi_step}
        parameters |= {"same_time": row.same_time}
    return parameters | to_dict(row.segmentation)


def _model(training: Training) -> str:
    return f"{training.model.normalization}-{training.model.mask_loss}"


def _parent(row: AblationRow, seed: int, out: Path) -> tuple[Training, Path]:
    return replace(row.parent, seed=seed), out / f"parent-{_model(row.parent)}"


def _meta(meta: MetaTraining, parent: Path, seed: int, out: Path) -> tuple[MetaTraining, Path]:
    order = "" if meta.order == "first" else f"-{meta.order}"
    multi = "-multi" if meta.multi_step else ""
    folder = out / f"meta-{_model(meta)}-{meta.rates.rate_level}{order}{multi}"
    return replace(meta, seed=seed, parent=parent), folder


def _steps_of_same_time(training: tuple[Training, Path], reference: tuple[Training, Path]) -> int:
    """Outer steps of ``training`` that take as long as all of ``reference``; both have run for the pace to be known."""
    own, other = (progress.read(train(*one).parent) for one in (training, reference))
    return steps_of_same_time(own, other)


def steps_of_same_time(rows: Sequence[progress.StepRow], reference: Sequence[progress.StepRow]) -> int:
    """Outer steps at the pace of one training's progress in the time of all of another's at its own."""
    return max(round(len(reference) * _pace(reference) / _pace(rows)), 1)


def _pace(rows: Sequence[progress.StepRow]) -> float:
    """Seconds of an outer step: the interquartile mean, as a few steps are held up by other work.

    Not the median, as the first half of a training with a multi-step loss has slower steps than the second. The first
    step does not count where there are others: it has the start of the workers in it.
    """
    seconds = sorted(row["seconds"] for row in rows[1:] or rows)
    outer = len(seconds) // 4
    return float(statistics.mean(seconds[outer : len(seconds) - outer]))


HEADINGS = ("row", "T", "J", "F", "J&F", "to the first", "each seed", "outer steps", "minutes", "paper's J&F")
TERMINAL = ("row", "T", "J&F", "to the first", "paper's J&F")


def _lines(summary: Sequence[Row]) -> list[tuple[str, ...]]:
    lines = []
    for row in summary:
        rate = f" ({row['learning_rates']})" if row["learning_rates"] else ""
        ours = (percent(row, measure) for measure in MEASURES)
        published = "" if row["published_j_and_f"] is None else f"{row['published_j_and_f']:.1f}"
        difference = "" if row is summary[0] else signed_percent((row["to_first"], row["to_first_se"]))
        seeds = ", ".join(f"{100 * value:.1f}" for name, value in row.items() if name.startswith(SEED))
        cost = f"{row['outer_steps']:.0f}", f"{row['training_seconds'] / 60:.1f}"
        lines.append((f"{row['row']}{rate}", str(row["T"]), *ours, difference, seeds, *cost, published))
    return lines


def _markdown(summary: Sequence[Row], seeds: Sequence[int]) -> str:
    lines = (HEADINGS, ("---",) * len(HEADINGS), *_lines(summary))
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    published = any(row["published_j_and_f"] is not None for row in summary)
    return (
        f"{table}\n\n{summary[0]['objects']} objects, {len(seeds)} seed(s), percent, ± one standard error over "
        "objects, averaged over the seeds first; J&F minus the first row's with the paired standard error, and J&F "
        "with each seed. Steps and minutes are those of the meta-training's outer steps (of the parent's where there "
        "is no meta-training), means over the seeds."
        + (
            " The paper's figures are of DAVIS 2017 val (Table 1), with another model and other data: compare the "
            "differences between rows."
            if published
            else ""
        )
        + "\n"
    )


def _terminal(summary: Sequence[Row]) -> Table:
    """What fits beside each other in 80 columns."""
    table = Table(title="ablation")
    for heading in TERMINAL:
        table.add_column(heading, justify="left" if heading == "row" else "right", overflow="fold")
    for line in _lines(summary):
        table.add_row(*(cell for heading, cell in zip(HEADINGS, line, strict=True) if heading in TERMINAL))
    return table
