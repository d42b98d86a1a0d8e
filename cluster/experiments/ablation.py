"""Ablations: every row of a table from runs of its own."""

import logging
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from cluster.evaluation.config import Evaluation, Subject
from cluster.evaluation.driver import evaluate
from cluster.experiments.ablation_rows import AblationRow
from cluster.experiments.ablation_table import AblationResult, instance_norm_note, markdown_text, terminal_table
from cluster.experiments.config import Ablation
from cluster.experiments.rate_choice import choose_rates
from cluster.run_folder import CONFIG_FILE
from cluster.tracking.logged_run import RunFacts, logged_run
from cluster.tracking.run import Tracker, check_answers, tracking_uri
from cluster.training import checkpoints, progress
from cluster.training.config import MetaTraining, ParentTraining, Training
from cluster.training.driver import COMPLETE, train
from eosvos.config import read_json, to_dict
from eosvos.errors import BadInput
from eosvos.files import write_whole
from eosvos.metrics.table import ObjectRow, over_seeds, paired_difference, summarize
from eosvos.tables import write_table

log = logging.getLogger(__name__)


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


def finished_seeds(rows: Sequence[AblationRow], folder: Path) -> list[int]:
    """The seeds with which all trainings of ``rows`` are done in ``folder``, which has a folder ``seed-N`` for each."""
    return [
        int(read_json(next(_training_folders(rows, of_seed)) / CONFIG_FILE)["seed"])
        for of_seed in sorted(folder.glob("seed-*"))
        if all((training / COMPLETE).is_file() for training in _training_folders(rows, of_seed))
    ]


def ablate(rows: Sequence[AblationRow], ablation: Ablation, folder: Path) -> list[AblationResult]:
    """Trains and evaluates every row, each training once for each seed.

    Written to ``folder``: all runs, ``ablation`` as Parquet and CSV, ``ablation.md``; to MLflow a run with a child for
    each row. What is there already is not done again. An object's values are averaged over the seeds first.

    Raises:
        BadInput: what ``train`` and ``evaluate`` refuse, or nothing held out to search rates on.
    """
    if any(row.meta is None and row.parent.held_out == 0 for row in rows):
        raise BadInput("--held-out: the parent's rate is searched for on held-out sequences; hold some out")
    uri = tracking_uri()
    check_answers(uri)
    folder.mkdir(parents=True, exist_ok=True)
    facts = RunFacts("ablation", folder.name, ablation, "", {"rows": str(len(rows))})
    results: list[AblationResult] = []
    if note := instance_norm_note(rows):
        log.warning("warning: %s", note)
    with logged_run(uri, folder, facts) as background:
        first: list[ObjectRow] = []
        previous: list[ObjectRow] = []
        for number, row in enumerate(rows, 1):
            log.info("row %d of %d: %s", number, len(rows), row)
            outcomes = [_outcome(rows, row, seed, ablation, folder) for seed in ablation.seeds]
            merged = over_seeds([one for outcome in outcomes for one in outcome.objects], by=())
            first, previous = first or merged, previous or merged
            differences = paired_difference(merged, first), paired_difference(merged, previous)
            results.append(_result(row, ablation.seeds, outcomes, *differences))
            previous = merged
            background.do(partial(_log_row, result=results[-1], folder=folder / "rows" / row.folder))
        write_table([result.values for result in results], folder, "ablation")
        file = write_whole(folder / "ablation.md", markdown_text(results).encode())
        for path in (file, folder / "ablation.csv"):
            background.do(partial(Tracker.artifact, path=path))
    log.info("%s", terminal_table(results))
    log.info("table: %s", file)
    return results


def _result(
    row: AblationRow,
    seeds: Sequence[int],
    outcomes: Sequence[_Outcome],
    to_first: tuple[float, float],
    to_previous: tuple[float, float],
) -> AblationResult:
    objects = [one for outcome in outcomes for one in outcome.objects]
    (scores,) = summarize(over_seeds(objects, by=()))
    return AblationResult(
        row,
        scores,
        tuple(rate for rate in dict.fromkeys(one["learning_rate"] for one in objects) if rate is not None),
        to_first,
        to_previous,
        statistics.mean(outcome.outer_steps for outcome in outcomes),
        statistics.mean(outcome.training_seconds for outcome in outcomes),
        {seed: outcome.j_and_f for seed, outcome in zip(seeds, outcomes, strict=True)},
    )


def _log_row(parent: Tracker, result: AblationResult, folder: Path) -> None:
    child = parent.child(str(result.row), folder, _parameters(result.row))
    child.metrics([(0, result.measured)])
    child.end()


def _training_folders(rows: Sequence[AblationRow], out: Path) -> Iterator[Path]:
    """Of all trainings with one seed, in its folder ``out``."""
    for row in rows:
        yield _parent_folder(row, out)
        if row.meta is not None:
            folder = _meta_folder(row.meta, out)
            yield _same_time_folder(folder) if row.same_time else folder


def _outcome(rows: Sequence[AblationRow], row: AblationRow, seed: int, ablation: Ablation, folder: Path) -> _Outcome:
    """Trains and evaluates the row with one seed."""
    out = folder / f"seed-{seed}"
    parent = train(replace(row.parent, seed=seed), _parent_folder(row, out))
    single: tuple[float, ...] = ()
    if row.meta is None:
        searched = tuple(other.T for other in rows if other.meta is None)
        search = out / f"search-{_parent(row.parent)}"
        (data,) = row.parent.data
        checkpoint = checkpoints.counted(parent)
        chosen = choose_rates(checkpoint, data, searched, ablation.rates, search, row.segmentation)
        single = (chosen.rates[row.T],)
    else:
        training, run = replace(row.meta, seed=seed, parent=parent), _meta_folder(row.meta, out)
        if row.same_time:
            first = next(other.meta for other in rows if other.meta is not None)
            reference = replace(first, seed=seed, parent=parent), _meta_folder(first, out)
            steps = _steps_of_same_time((training, run), reference)
            training = replace(training, outer=replace(training.outer, steps=steps))
            run = _same_time_folder(run)
        checkpoint = checkpoints.counted(train(training, run))
    # One evaluation for all T of a checkpoint, as later steps go on from earlier ones; a searched rate has its own.
    alike = [other.T for other in rows if replace(other, name=row.name, published=row.published, T=row.T) == row]
    evaluated = (row.T,) if single else tuple(sorted(alike))
    boxes = "-boxes" if row.segmentation.box_propagation else ""
    online = "-online" if row.segmentation.online_interval else ""
    place = out / f"evaluation-{checkpoint.parent.name}{boxes}{online}-T={','.join(map(str, evaluated))}"
    subject = Subject(checkpoint, ablation.data, learning_rate=single)
    result = evaluate(Evaluation(subject, evaluated, row.segmentation), place)
    objects = [one for one in result.rows if one["T"] == row.T]
    taken = progress.read(checkpoint.parent)
    return _Outcome(objects, len(taken), float(sum(one["seconds"] for one in taken)))


def _parameters(row: AblationRow) -> dict[str, object]:
    """What tells the rows apart, for MLflow."""
    model = row.parent.model
    parameters: dict[str, object] = {"T": row.T, "normalization": model.normalization, "mask_loss": model.mask_loss}
    parameters |= {"parent_targets": row.parent.parent_targets}
    if row.meta is not None:
        meta = row.meta
        parameters |= {"rate_level": meta.rates.rate_level, "order": meta.order, "multi_step": meta.multi_step}
        parameters |= {"same_time": row.same_time}
    return parameters | to_dict(row.segmentation)


def _model(training: Training) -> str:
    return f"{training.model.normalization}-{training.model.mask_loss}"


def _parent(parent: ParentTraining) -> str:
    targets = "" if parent.parent_targets == "one" else f"-{parent.parent_targets}"
    return f"{_model(parent)}{targets}"


def _parent_folder(row: AblationRow, out: Path) -> Path:
    return out / f"parent-{_parent(row.parent)}"


def _meta_folder(meta: MetaTraining, out: Path) -> Path:
    order = "" if meta.order == "first" else f"-{meta.order}"
    multi = "-multi" if meta.multi_step else ""
    return out / f"meta-{_model(meta)}-{meta.rates.rate_level}{order}{multi}"


def _same_time_folder(run: Path) -> Path:
    return run.with_name(f"{run.name}-same-time")


def _steps_of_same_time(training: tuple[Training, Path], reference: tuple[Training, Path]) -> int:
    """Outer steps of ``training`` that take as long as all of ``reference``; both have run for the pace to be known."""
    rows, others = (progress.read(train(*one).parent) for one in (training, reference))
    return steps_of_same_time(rows, others)


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
