"""Evaluation: one Ray task per sequence, longest first; scores, predictions, pictures and an MLflow run."""

from collections.abc import Mapping
from collections.abc import Sequence as SequenceOf
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from rich.console import Console

from cluster import run_folder
from cluster.evaluation.config import Evaluation
from cluster.evaluation.journal import Entry, SequenceResult
from cluster.evaluation.report import REPORT, Segmentations, evaluation_pictures
from cluster.evaluation.setup import PLACEMENT, Prepared, prepared, resolved
from cluster.evaluation.tasks import Masks, evaluate_sequences, sequence_of, tasks_at_once
from cluster.failures import failure
from cluster.tracking.background import SILENCE, BackgroundTracker
from cluster.tracking.logged_run import RunFacts, logged_run
from cluster.tracking.provenance import run_of, run_tags
from cluster.tracking.run import Tracker, check_answers, tracking_uri
from eosvos.data.sequence import Sequence
from eosvos.errors import BadInput
from eosvos.metrics.table import MEASURES, Row, best_at_each_T, object_rows, summarize, terminal_table, write_table

SHORT_SILENCE = 3.0
"""Seconds that a dataset waits for MLflow at its end, where an earlier one has waited in vain."""


@dataclass(frozen=True)
class EvaluationResult:
    """What an evaluation found.

    Attributes:
        rows: one per object, learning rate and T, of ``object_rows``.
        summary: one per learning rate and T, means over objects.
    """

    rows: list[Row]
    summary: list[Row]


@dataclass(frozen=True)
class _Outcome:
    """Of one evaluation: what it found, what failed (sequence -> what it raised), and whether all of it is logged."""

    result: EvaluationResult
    failed: Mapping[str, Exception]
    logged: bool


def evaluate_all(evaluations: SequenceOf[Evaluation], console: Console) -> None:
    """Evaluates on one or several datasets, one after another, each as ``evaluate``; then one table of all.

    Raises:
        BadInput: what ``evaluate`` refuses, of all of them before the first begins; two datasets of one name; a
            tracking server that does not answer.
        PartsFailed: some sequences have no result; the other sequences and datasets are evaluated all the same.
    """
    evaluations = [resolved(evaluation) for evaluation in evaluations]
    by_folder: dict[Path | None, Evaluation] = {}
    for evaluation in evaluations:
        other = by_folder.setdefault(evaluation.out, evaluation)
        if other is not evaluation:
            raise BadInput(f"--data {evaluation.data}: {other.data} has the same name; evaluate it with another --out")
    uri = tracking_uri()
    check_answers(uri)
    all_of_them = [prepared(evaluation) for evaluation in evaluations]
    rows: list[Row] = []
    failed: dict[str, Exception] = {}
    silence = SILENCE
    for ready in all_of_them:
        data, name = ready.evaluation.data, Path(ready.evaluation.data).name
        try:
            outcome = _evaluate(ready, uri, console, silence)
        except BadInput as error:  # such as another evaluation that has begun in its folder
            failed[data] = error
            if len(all_of_them) > 1:
                console.print(f"{name}: {error}")
            continue
        if not outcome.logged:
            silence = SHORT_SILENCE
        if outcome.failed:
            failed[data] = failure(outcome.failed, len(ready.names), "sequences")
            name += f" ({len(ready.names) - len(outcome.failed)} of {len(ready.names)} sequences)"
        rows += [{"data": name} | row for row in outcome.result.rows]
    if len(all_of_them) > 1 and rows:
        console.print(terminal_table(summarize(rows, by=("data", "learning_rate", "T")), "all datasets"))
    if failed:
        raise next(iter(failed.values())) if len(all_of_them) == 1 else failure(failed, len(all_of_them), "datasets")


def evaluate(evaluation: Evaluation, console: Console) -> EvaluationResult:
    """Evaluates a checkpoint, or what is missing of it in the evaluation's folder.

    Written to ``out`` as each sequence ends: ``predictions/SETTING/SEQUENCE/FRAME.png`` and an entry of the journal; at
    the end ``objects``, ``sequences`` and ``summary`` as Parquet and CSV, ``overview.png``, ``figures`` and
    ``report.html``; the same to MLflow, which nothing waits for.

    Raises:
        BadInput: a checkpoint, dataset or cluster that cannot be used, data of which nothing can, or another
            evaluation at work in the folder.
        PartsFailed: some sequences have no result.
    """
    uri, ready = tracking_uri(), prepared(evaluation)
    outcome = _evaluate(ready, uri, console)
    if outcome.failed:
        raise failure(outcome.failed, len(ready.names), "sequences")
    return outcome.result


def _evaluate(ready: Prepared, uri: str, console: Console, silence: float = SILENCE) -> _Outcome:
    """Evaluates what is missing. Raises BadInput where another evaluation is, or has been, at work in the folder."""
    evaluation = ready.evaluation
    with run_folder.claimed(ready.out, evaluation, free=PLACEMENT):
        entries = ready.journal.entries()
        missing = ready.missing(entries)
        if entries:
            done = len(ready.names) - len(missing)
            console.print(f"{ready.out}: {done} of {len(ready.names)} sequences are evaluated already", highlight=False)
        tags = _tags(ready) if missing else None
        data = ((evaluation.data, ready.dataset.hash, "evaluation"),)
        facts = RunFacts("evaluate", ready.out.name, evaluation, ready.journal.inputs, tags, data)
        with logged_run(uri, ready.out, facts, silence) as background:
            for entry in entries.values():
                _log_sequence(background, entry)

            def land(sequence: Sequence, own: list[SequenceResult], masks: Masks) -> None:
                entries[sequence.name] = entry = ready.journal.add(own, masks, sequence.frame_names)
                _log_sequence(background, entry)

            failed: dict[str, Exception] = {}
            if missing:
                background.do(Tracker.watch_system)
                failed = evaluate_sequences(evaluation, ready.optimization, ready.dataset, missing, land, console)
            background.failed = bool(failed)
            found = {name: entries[name] for name in ready.names.values() if name in entries}
            result = _finish(ready, found, background, console) if found else EvaluationResult([], [])
        if found:
            console.print(f"report: {ready.out / REPORT}", highlight=False)
    return _Outcome(result, failed, background.all_logged)


def _tags(ready: Prepared) -> dict[str, str]:
    return run_tags(
        ready.dataset.hash,
        world_size=str(tasks_at_once(ready.evaluation)),
        checkpoint_step=str(ready.optimization.facts.get("step")),
        checkpoint_run=run_of(ready.evaluation.checkpoint),
    )


def _log_sequence(background: BackgroundTracker, entry: Entry) -> None:
    rows = _metrics(_by_sequence(entry.results))
    background.do(lambda tracker: tracker.metrics(rows, entry.time))


def _finish(
    ready: Prepared, entries: Mapping[str, Entry], background: BackgroundTracker, console: Console
) -> EvaluationResult:
    """Tables, pictures, report; all of it to MLflow, what may go wrong the last: files after numbers, then pictures."""
    evaluation, journal = ready.evaluation, ready.journal
    results = [result for entry in entries.values() for result in entry.results]
    rows = _rows(results)
    summary = summarize(rows, by=("learning_rate", "T"))
    tables = {"summary": summary, "sequences": _by_sequence(results), "objects": rows}
    files = [path for name, table in tables.items() for path in write_table(table, journal.out, name)]
    console.print(terminal_table(summary, f"{evaluation.checkpoint.parent.name} on {Path(evaluation.data).name}"))
    if len(entries) == len(ready.names):  # MLflow keeps every value: one of a part would stay beside that of the whole
        # As old as the newest sequence: the same again is the same time.
        time = max(entry.time for entry in entries.values())
        best = [row | {"learning_rate": None} for row in best_at_each_T(summary).values()]
        metrics = [*_metrics(summary), *_metrics(best)]
        background.do(lambda tracker: tracker.metrics(metrics, time))
    for path in files:
        background.do(partial(Tracker.artifact, path=path))
    sequences = {
        name: sequence_of(ready.dataset, index, evaluation) for index, name in ready.names.items() if name in entries
    }
    segmented = Segmentations(journal, {name: entry.results for name, entry in entries.items()}, sequences)
    for path in evaluation_pictures(evaluation, segmented, rows, summary):
        place = None if path.parent == journal.out else path.parent.name
        background.do(partial(Tracker.artifact, path=path, folder=place))
    return EvaluationResult(rows, summary)


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
