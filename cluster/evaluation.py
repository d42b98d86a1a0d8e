"""Evaluation: one Ray task per sequence, longest first; scores, predictions, pictures and an MLflow run."""

from collections.abc import Mapping
from collections.abc import Sequence as SequenceOf
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from rich.console import Console

from cluster import run_folder
from cluster.config import Evaluation
from cluster.evaluation_pictures import REPORT, Segmentations, evaluation_pictures
from cluster.evaluation_tasks import Masks, evaluate_sequences, last_line, sequence_of
from cluster.journal import Entry, Journal, SequenceResult, digest
from cluster.provenance import run_of, run_tags
from cluster.run_folder import absolute_address, absolute_path
from cluster.session import connect, largest
from cluster.tracking import BackgroundTracker, Tracker, tracking_uri
from eosvos.cli import flattened, to_dict
from eosvos.data.parquet import EncodedDataset, open_dataset
from eosvos.data.sequence import Sequence
from eosvos.errors import BadInput
from eosvos.learning.optimization import Optimization, load
from eosvos.metrics.table import MEASURES, Row, best_at_each_T, object_rows, summarize, terminal_table, write_table

PLACEMENT = ("out",)
"""Fields that say where an evaluation is; what it runs on is part of its speed."""


class SequencesFailedError(Exception):
    """Some sequences could not be evaluated; the results of the others are written. The message names them."""


@dataclass(frozen=True)
class EvaluationResult:
    """What an evaluation found.

    Attributes:
        rows: one per object, learning rate and T, of ``object_rows``.
        summary: one per learning rate and T, means over objects.
    """

    rows: list[Row]
    summary: list[Row]


def evaluate_all(evaluations: SequenceOf[Evaluation], console: Console) -> None:
    """Evaluates on one or several datasets, one after another, each as ``evaluate``; then one table of all.

    Raises:
        BadInput: what ``evaluate`` refuses, of all of them before the first begins; two datasets of one name.
        SequencesFailedError: some sequences have no result; the other datasets are evaluated all the same.
    """
    evaluations = [resolved(evaluation) for evaluation in evaluations]
    by_folder: dict[Path | None, Evaluation] = {}
    for evaluation in evaluations:
        other = by_folder.setdefault(evaluation.out, evaluation)
        if other is not evaluation:
            raise BadInput(f"--data {evaluation.data}: {other.data} has the same name; evaluate it with another --out")
    for evaluation in evaluations[1:]:  # the first one is checked by its own evaluation, before anything is done
        dataset = open_dataset(evaluation.data)
        chosen(dataset, evaluation)
        checkpoint_and_journal(evaluation, dataset)
    rows: list[Row] = []
    failures: dict[str, SequencesFailedError] = {}
    for evaluation in evaluations:
        try:
            found = evaluate(evaluation, console).rows
        except SequencesFailedError as error:
            failures[evaluation.data] = error
        else:
            rows += [{"data": Path(evaluation.data).name} | row for row in found]
    if len(evaluations) > 1 and rows:
        console.print(terminal_table(summarize(rows, by=("data", "learning_rate", "T")), "all datasets"))
    if failures:
        raise SequencesFailedError("; ".join(f"{data}: {error}" for data, error in failures.items()))


def evaluate(evaluation: Evaluation, console: Console) -> EvaluationResult:
    """Evaluates a checkpoint, or what is missing of it in the evaluation's folder.

    Written to ``out`` as each sequence ends: ``predictions/SETTING/SEQUENCE/FRAME.png`` and an entry of the journal; at
    the end ``objects``, ``sequences`` and ``summary`` as Parquet and CSV, ``overview.png``, ``figures`` and
    ``report.html``; the same to MLflow, which nothing waits for.

    Raises:
        BadInput: a checkpoint, dataset, cluster or tracking address that cannot be used, data of which nothing can, or
            another evaluation at work in the folder.
        SequencesFailedError: some sequences have no result.
    """
    evaluation = resolved(evaluation)
    uri = tracking_uri()
    dataset = open_dataset(evaluation.data)
    names = {index: dataset.sequences[index].name for index in chosen(dataset, evaluation)}
    optimization, journal = checkpoint_and_journal(evaluation, dataset)
    folder = journal.out
    run_folder.check(folder, evaluation, free=PLACEMENT)
    entries = journal.entries()
    missing = [index for index, name in names.items() if name not in entries]
    if missing:
        connect_for(evaluation)
    run_folder.claim(folder, evaluation)
    with run_folder.alone(folder):
        if entries:
            console.print(f"{folder}: {len(entries)} of {len(names)} sequences are evaluated already", highlight=False)
        parameters = flattened(to_dict(evaluation))
        tracker = Tracker(uri, "evaluate", folder.name, folder, parameters, resume=journal.same_as_before())
        background = BackgroundTracker(tracker)
        if missing or not entries:
            facts = {
                "checkpoint_step": str(optimization.facts.get("step")),
                "checkpoint_run": run_of(evaluation.checkpoint),
            }
            tags = run_tags(dataset.hash, **facts)
            background.do(lambda tracker: tracker.tags(tags))
            background.do(lambda tracker: tracker.dataset(evaluation.data, dataset.hash, "evaluation"))
            background.do(Tracker.watch_system)
        for entry in entries.values():
            _log_sequence(background, entry)
        failed: dict[str, Exception] = {}
        complete = False

        def land(sequence: Sequence, own: list[SequenceResult], masks: Masks) -> None:
            entries[sequence.name] = entry = journal.add(own, masks, sequence.frame_names)
            _log_sequence(background, entry)

        try:
            if missing:
                failed = evaluate_sequences(evaluation, optimization, dataset, missing, land, console)
            if failed and not entries:
                raise _failure(failed, len(names))
            shown = {name: sequence_of(dataset, index, evaluation) for index, name in names.items() if name in entries}
            result = _finish(evaluation, journal, {name: entries[name] for name in shown}, shown, background, console)
            complete = not failed
        finally:
            close(background, complete, uri, console)
        console.print(f"report: {folder / REPORT}\nMLflow: {uri}, run {tracker.run_id}")
    if failed:
        raise _failure(failed, len(names))
    return result


def checkpoint_and_journal(evaluation: Evaluation, dataset: EncodedDataset) -> tuple[Optimization, Journal]:
    """The checkpoint, and the journal of what it gives on the data. Raises BadInput for one that cannot be used."""
    inputs = digest(evaluation.checkpoint, dataset.hash) if evaluation.checkpoint.is_file() else ""
    optimization = load(evaluation.checkpoint)
    if optimization.rates is None and not evaluation.learning_rate and max(evaluation.T) > 0:
        raise BadInput(
            f"{evaluation.checkpoint}: a parent has no learning rates of its own; give some with --learning-rate"
        )
    if digest(evaluation.checkpoint, dataset.hash) != inputs:
        raise BadInput(f"{evaluation.checkpoint}: changes while it is read; evaluate a copy, or a step's own file")
    assert evaluation.out is not None
    return optimization, Journal(evaluation.out, inputs)


def _log_sequence(background: BackgroundTracker, entry: Entry) -> None:
    rows = _metrics(_by_sequence(entry.results))
    background.do(lambda tracker: tracker.metrics(rows, entry.time))


def _finish(
    evaluation: Evaluation,
    journal: Journal,
    entries: Mapping[str, Entry],
    sequences: Mapping[str, Sequence],
    background: BackgroundTracker,
    console: Console,
) -> EvaluationResult:
    """Tables, pictures, report; all of it to MLflow."""
    results = [result for entry in entries.values() for result in entry.results]
    rows = _rows(results)
    summary = summarize(rows, by=("learning_rate", "T"))
    tables = {"summary": summary, "sequences": _by_sequence(results), "objects": rows}
    written = [path for name, table in tables.items() for path in write_table(table, journal.out, name)]
    console.print(terminal_table(summary, f"{evaluation.checkpoint.parent.name} on {Path(evaluation.data).name}"))
    # As old as the newest sequence: the same again is the same time, and more sequences are a newer one.
    time = max(entry.time for entry in entries.values())
    metrics = [
        *_metrics(summary),
        *_metrics([row | {"learning_rate": None} for row in best_at_each_T(summary).values()]),
    ]
    background.do(lambda tracker: tracker.metrics(metrics, time))
    segmented = Segmentations(journal, {name: entry.results for name, entry in entries.items()}, sequences)
    for path in (*written, *evaluation_pictures(evaluation, segmented, rows, summary)):
        place = None if path.parent == journal.out else path.parent.name
        background.do(partial(Tracker.artifact, path=path, folder=place))
    return EvaluationResult(rows, summary)


def close(background: BackgroundTracker, complete: bool, uri: str, console: Console) -> None:
    """Waits for all to be logged, and says what is not."""
    if not background.close(failed=not complete):
        console.print(f"MLflow does not answer at {uri}: not all is logged; the same command again logs the rest")
    for refused in background.refused:
        console.print(f"MLflow at {uri} does not take something: {refused}")


def _failure(failed: Mapping[str, Exception], sequences: int) -> Exception:
    """What to raise for the sequences that failed: bad input where that is what all of them are."""
    if len(failed) == sequences and all(isinstance(error, BadInput) for error in failed.values()):
        return next(iter(failed.values()))
    named = "; ".join(f"{name} ({last_line(error)})" for name, error in sorted(failed.items()))
    return SequencesFailedError(
        f"{len(failed)} of {sequences} sequences failed: {named}. The same command again tries them again"
    )


def connect_for(evaluation: Evaluation) -> None:
    """Connects to Ray. Raises BadInput for a cluster that cannot run a task."""
    connect()
    for flag, asked, resource in (
        ("--gpus-per-task", evaluation.gpus_per_task, "GPU"),
        ("--threads-per-task", evaluation.threads_per_task, "CPU"),
    ):
        if asked > (there := largest(resource)):
            raise BadInput(f"{flag} {asked:g}: the cluster's largest node has {there:g} {resource}s; ask for fewer")


def resolved(evaluation: Evaluation) -> Evaluation:
    """With absolute paths and its folder. Raises BadInput for relative ones in a submitted job, and for no data."""
    if not evaluation.data:
        raise BadInput("--data: name an encoded dataset; make one with jobs/encode_dataset.py")
    return replace(
        evaluation,
        checkpoint=absolute_path(evaluation.checkpoint, "--checkpoint"),
        data=absolute_address(evaluation.data, "--data"),
        out=absolute_path(evaluation.out or default_folder(evaluation), "--out"),
    )


def default_folder(evaluation: Evaluation) -> Path:
    """A name that the same command gives again."""
    run = evaluation.checkpoint.resolve().parent
    return Path("runs/evaluate") / f"{run.parent.name}-{run.name}-on-{Path(evaluation.data).name}"


def chosen(dataset: EncodedDataset, evaluation: Evaluation) -> list[int]:
    """Indices of the sequences to evaluate on. Raises BadInput for a name that the dataset does not have."""
    indices = {sequence.name: index for index, sequence in enumerate(dataset.sequences)}
    for name in evaluation.sequences:
        if name not in indices:
            raise BadInput(f"--sequences {name}: {dataset.uri} has no such sequence; it has {', '.join(indices)}")
    return sorted(indices[name] for name in evaluation.sequences) or list(range(len(dataset.sequences)))


def _rows(results: list[SequenceResult]) -> list[Row]:
    """Of ``object_rows``, by learning rate and T, then in the order of ``results``."""
    ordered = sorted(results, key=lambda result: (result.learning_rate or 0.0, result.T))
    return [
        row
        for result in ordered
        for row in object_rows(result.objects, {"learning_rate": result.learning_rate, "T": result.T})
    ]


def _by_sequence(results: list[SequenceResult]) -> list[Row]:
    """One row per learning rate, T and sequence."""
    return summarize(_rows(results), by=("learning_rate", "T", "sequence"))


def _metrics(summary: list[Row]) -> list[tuple[int, Mapping[str, float]]]:
    """Of a summary's rows, by T, under names that tell learning rates and sequences apart."""
    logged: list[tuple[int, Mapping[str, float]]] = []
    for row in summary:
        rate = "" if row["learning_rate"] is None else f"rate_{row['learning_rate']:g}/"
        prefix = rate + (f"sequences/{row['sequence']}/" if "sequence" in row else "")
        logged.append((row["T"], {prefix + name: row[name] for name in (*MEASURES, "fps") if row[name] is not None}))
    return logged
