"""Evaluation: one Ray task per sequence, longest first; scores, predictions, pictures and an MLflow run."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console

from cluster import run_folder
from cluster.config import Evaluation
from cluster.evaluation_pictures import REPORT, Segmentations, evaluation_pictures
from cluster.evaluation_tasks import Masks, evaluate_sequences, last_line, sequence_of
from cluster.journal import Journal, SequenceResult, digest
from cluster.provenance import run_of, run_tags
from cluster.run_folder import absolute_address, absolute_path
from cluster.session import connect, total
from cluster.tracking import BackgroundTracker, Tracker, tracking_uri
from eosvos.cli import flattened, to_dict
from eosvos.data.parquet import EncodedDataset, open_dataset
from eosvos.data.sequence import Sequence
from eosvos.errors import BadInput
from eosvos.learning.optimization import load
from eosvos.metrics.table import Row, object_rows, summarize, terminal_table, write_table

PLACEMENT = ("out", "threads_per_task", "gpus_per_task")
"""Fields that say where and how an evaluation runs; the same command with others goes to the same folder."""


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


def evaluate(evaluation: Evaluation, console: Console) -> EvaluationResult:
    """Evaluates a checkpoint, or what is missing of it in the evaluation's folder.

    Written to ``out`` as each sequence ends: ``predictions/SETTING/SEQUENCE/FRAME.png`` and an entry of the journal; at
    the end ``objects`` and ``summary`` as Parquet and CSV, ``overview.png``, ``figures`` and ``report.html``; the same
    to MLflow, which nothing waits for.

    Raises:
        BadInput: a checkpoint, dataset, cluster or tracking address that cannot be used, or data of which nothing can.
        SequencesFailedError: some sequences have no result.
    """
    evaluation = resolved(evaluation)
    uri = tracking_uri()
    optimization = load(evaluation.checkpoint)
    if optimization.rates is None and not evaluation.learning_rate and max(evaluation.T) > 0:
        raise BadInput(
            f"{evaluation.checkpoint}: a parent has no learning rates of its own; give some with --learning-rate"
        )
    dataset = open_dataset(evaluation.data)
    names = {index: dataset.sequences[index].name for index in _chosen(dataset, evaluation)}
    folder = evaluation.out
    assert folder is not None
    run_folder.check(folder, evaluation, free=PLACEMENT)
    journal = Journal(folder, digest(evaluation.checkpoint, dataset.hash))
    done = journal.done()
    missing = [index for index, name in names.items() if name not in done]
    if missing:
        _connect(evaluation)
    if done:
        console.print(f"{folder}: {len(done)} of {len(names)} sequences are evaluated already", highlight=False)
    run_folder.claim(folder, evaluation)
    tracker = Tracker(uri, "evaluate", folder.name, folder, flattened(to_dict(evaluation)), resume=bool(done))
    step, source = str(optimization.facts.get("step")), run_of(evaluation.checkpoint)
    tracker.tags(run_tags(dataset.hash, checkpoint_step=step, checkpoint_run=source))
    tracker.dataset(evaluation.data, dataset.hash, "evaluation")
    tracker.watch_system()
    background = BackgroundTracker(tracker)
    background.metrics(_metrics(_by_sequence([result for own in done.values() for result in own])))
    failed: dict[str, Exception] = {}
    complete = False

    def land(sequence: Sequence, own: list[SequenceResult], masks: Masks) -> None:
        journal.add(own, masks, sequence.frame_names)
        done[sequence.name] = own
        background.metrics(_metrics(_by_sequence(own)))

    try:
        if missing:
            failed = evaluate_sequences(evaluation, optimization, dataset, missing, land, console)
        if failed and not done:
            raise _failure(failed, len(names))
        rows = _rows([result for name in names.values() for result in done.get(name, [])])
        summary = summarize(rows, by=("learning_rate", "T"))
        write_table(summary, folder, "summary")
        write_table(rows, folder, "objects")
        shown = {name: sequence_of(dataset, index, evaluation) for index, name in names.items() if name in done}
        background.metrics(_metrics(summary))
        pictures = evaluation_pictures(evaluation, Segmentations(journal, done, shown), rows, summary)
        for file in ("objects.csv", "objects.parquet", "summary.csv"):
            background.artifact(folder / file)
        for path in pictures:
            background.artifact(path, None if path.parent == folder else path.parent.name)
        complete = not failed
    finally:
        if not background.close(failed=not complete):
            console.print(f"MLflow does not answer at {uri}: not all is logged; the same command again logs the rest")
    console.print(terminal_table(summary, f"{evaluation.checkpoint.parent.name} on {Path(evaluation.data).name}"))
    console.print(f"report: {folder / REPORT}\nMLflow: {uri}, run {tracker.run_id}")
    if failed:
        raise _failure(failed, len(names))
    return EvaluationResult(rows, summary)


def _failure(failed: Mapping[str, Exception], sequences: int) -> Exception:
    """What to raise for the sequences that failed: bad input where that is what all of them are."""
    if len(failed) == sequences and all(isinstance(error, BadInput) for error in failed.values()):
        return next(iter(failed.values()))
    named = "; ".join(f"{name} ({last_line(error)})" for name, error in sorted(failed.items()))
    return SequencesFailedError(
        f"{len(failed)} of {sequences} sequences failed: {named}. The same command again tries them again"
    )


def _connect(evaluation: Evaluation) -> None:
    """Raises BadInput for a cluster that cannot run a task."""
    connect()
    if evaluation.gpus_per_task > total("GPU"):
        raise BadInput(
            f"--gpus-per-task {evaluation.gpus_per_task:g}: the cluster has {total('GPU'):g} GPUs; ask for fewer, or 0"
        )
    if total("CPU") < evaluation.threads_per_task:
        raise BadInput(
            f"--threads-per-task {evaluation.threads_per_task}: the cluster has {total('CPU'):g} CPUs; ask for fewer"
        )


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


def _chosen(dataset: EncodedDataset, evaluation: Evaluation) -> list[int]:
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
        logged.append((row["T"], {prefix + name: row[name] for name in ("j_mean", "f_mean", "j_and_f", "fps")}))
    return logged
