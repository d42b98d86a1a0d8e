"""Evaluation: one Ray task per sequence, longest first; scores, predictions, pictures and an MLflow run."""

import logging
from collections.abc import Mapping
from collections.abc import Sequence as SequenceOf
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from cluster import run_folder
from cluster.evaluation.config import Evaluation
from cluster.evaluation.journal import PREDICTIONS, Entry
from cluster.evaluation.report import REPORT, Segmentations, evaluation_pictures
from cluster.evaluation.setup import PLACEMENT, Setup, prepare
from cluster.evaluation.tasks import evaluate_sequences, settings_of, tasks_at_once
from cluster.failures import failure
from cluster.tracking.background import SILENCE, BackgroundTracker
from cluster.tracking.logged_run import RunFacts, logged_run
from cluster.tracking.provenance import run_of, run_tags
from cluster.tracking.run import Tracker, check_answers, tracking_uri
from eosvos.data.sequence import Sequence
from eosvos.errors import BadInput
from eosvos.evaluation.results import SequenceResult
from eosvos.evaluation.sequence import Masks
from eosvos.metrics.table import (
    MEASURES,
    SPEEDS,
    ObjectRow,
    Row,
    SummaryRow,
    best_at_each_T,
    object_rows,
    summarize,
    summary_text,
)
from eosvos.paths import absolute_path
from eosvos.tables import write_table

log = logging.getLogger(__name__)

SHORT_SILENCE = 3.0
"""Seconds that a dataset waits for MLflow at its end, where an earlier one has waited in vain."""


@dataclass(frozen=True)
class EvaluationResult:
    """What an evaluation found.

    Attributes:
        rows: one per object, learning rate and T, of ``object_rows``.
        summary: one per learning rate and T, means over objects.
    """

    rows: list[ObjectRow]
    summary: list[SummaryRow]


@dataclass(frozen=True)
class _Outcome:
    """Of one evaluation: what it found, what failed (sequence -> what it raised), and whether all of it is logged."""

    result: EvaluationResult
    failed: Mapping[str, Exception]
    logged: bool


def evaluate_all(evaluations: SequenceOf[tuple[Evaluation, Path]]) -> None:
    """Evaluates on one or several datasets, one after another, as ``evaluate`` does; then says one table of all.

    A dataset without scores is no error here: its predictions are what is wanted.

    Args:
        evaluations: each with its folder.

    Raises:
        BadInput: what ``evaluate`` refuses, of all of them before the first begins; two datasets of one name; a
            tracking server that does not answer.
        PartsFailed: some sequences have no result; the other sequences and datasets are evaluated all the same.
    """
    data_of: dict[Path, str] = {}
    for evaluation, folder in evaluations:
        data, place = evaluation.subject.data, absolute_path(folder, "--out")
        if place in data_of:
            raise BadInput(f"--data {data}: {data_of[place]} has the same name; evaluate it with another --out")
        data_of[place] = data
    uri = tracking_uri()
    check_answers(uri)
    setups = [prepare(evaluation, folder) for evaluation, folder in evaluations]
    rows: list[Row] = []
    failed: dict[str, Exception] = {}
    silence = SILENCE
    for setup in setups:
        data, name = setup.evaluation.subject.data, Path(setup.evaluation.subject.data).name
        try:
            outcome = _evaluate(setup, uri, silence)
        except BadInput as error:  # such as another evaluation that has begun in its folder
            failed[data] = error
            if len(setups) > 1:
                log.info("%s: %s", name, error)
            continue
        if not outcome.logged:
            silence = SHORT_SILENCE
        if outcome.failed:
            failed[data] = failure(outcome.failed, len(setup.names), "sequences")
            name += f" ({len(setup.names) - len(outcome.failed)} of {len(setup.names)} sequences)"
        rows += [{"data": name, **row} for row in outcome.result.rows]
    if len(setups) > 1 and rows:
        log.info("%s", summary_text(summarize(rows, by=("data", "learning_rate", "T")), "all datasets"))
    if failed:
        raise next(iter(failed.values())) if len(setups) == 1 else failure(failed, len(setups), "datasets")


def evaluate(evaluation: Evaluation, folder: Path) -> EvaluationResult:
    """Evaluates a checkpoint, or what is missing of it in the evaluation's folder, and returns the scores.

    Written to ``folder`` as each sequence ends: ``predictions/SETTING/SEQUENCE/FRAME.png`` and an entry of the journal;
    at the end ``objects``, ``sequences`` and ``summary`` as Parquet and CSV, ``overview.png``, ``figures`` and
    ``report.html``; the same to MLflow, which nothing waits for.

    Raises:
        BadInput: a checkpoint, dataset or cluster that cannot be used, data of which nothing can or has scores, or
            another evaluation at work in the folder.
        PartsFailed: some sequences have no result.
    """
    uri, setup = tracking_uri(), prepare(evaluation, folder)
    outcome = _evaluate(setup, uri)
    if outcome.failed:
        raise failure(outcome.failed, len(setup.names), "sequences")
    if not outcome.result.rows:
        raise BadInput(
            f"{evaluation.subject.data}: no mask to score against beside those that are given; name other data"
        )
    return outcome.result


def _evaluate(setup: Setup, uri: str, silence: float = SILENCE) -> _Outcome:
    """Evaluates what is missing. Raises BadInput where another evaluation is, or has been, at work in the folder."""
    evaluation, folder = setup.evaluation, setup.folder
    with run_folder.claimed(folder, evaluation, free=PLACEMENT):
        entries = setup.journal.entries()
        missing = setup.missing(entries)
        if entries:
            done = len(setup.names) - len(missing)
            log.info("%s: %d of %d sequences are evaluated already", folder, done, len(setup.names))
        tags = _tags(setup) if missing else None
        data = ((evaluation.subject.data, setup.dataset.hash, "evaluation"),)
        facts = RunFacts("evaluate", folder.name, evaluation, setup.journal.inputs, tags, data)
        with logged_run(uri, folder, facts, silence) as background:
            for entry in entries.values():
                _log_sequence(background, entry)

            def save(sequence: Sequence, results: list[SequenceResult], masks: Masks) -> None:
                entries[sequence.name] = entry = setup.journal.add(results, masks, sequence.frame_names)
                _log_sequence(background, entry)

            failed: dict[str, Exception] = {}
            if missing:
                background.do(Tracker.watch_system)
                failed = evaluate_sequences(evaluation, setup.optimization, setup.dataset, missing, save)
            background.failed = bool(failed)
            found = {name: entries[name] for name in setup.names.values() if name in entries}
            result = _finish(setup, found, background) if found else EvaluationResult([], [])
        if result.rows:
            log.info("report: %s", folder / REPORT)
    return _Outcome(result, failed, background.all_logged)


def _tags(setup: Setup) -> dict[str, str]:
    subject = setup.evaluation.subject
    return run_tags(
        setup.dataset.hash,
        world_size=str(tasks_at_once(subject)),
        checkpoint_step=str(setup.optimization.facts.get("step")),
        checkpoint_run=run_of(subject.checkpoint),
    )


def _log_sequence(background: BackgroundTracker, entry: Entry) -> None:
    rows = _metrics(_by_sequence(entry.results))
    background.do(lambda tracker: tracker.metrics(rows, entry.time))


def _finish(setup: Setup, entries: Mapping[str, Entry], background: BackgroundTracker) -> EvaluationResult:
    """Tables, pictures, report; all of it to MLflow, what may go wrong the last: files after numbers, then pictures."""
    folder = setup.folder
    scored = {name: entry for name, entry in entries.items() if entry.results[0].objects}
    if unscored := entries.keys() - scored.keys():
        log.info(
            "%s: no scores of %d of %d sequences, which have no mask to score against; predictions are in %s",
            setup.title,
            len(unscored),
            len(entries),
            folder / PREDICTIONS,
        )
    if not scored:
        return EvaluationResult([], [])
    results = [result for entry in scored.values() for result in entry.results]
    rows = _rows(results)
    summary = summarize(rows, by=("learning_rate", "T"))
    tables: dict[str, SequenceOf[Row]] = {"summary": summary, "sequences": _by_sequence(results), "objects": rows}
    files = [path for name, table in tables.items() for path in write_table(table, folder, name)]
    log.info("%s", summary_text(summary, setup.title))
    if len(entries) == len(setup.names):  # MLflow keeps every value: one of a part would stay beside that of the whole
        # As old as the newest sequence: the same again is the same time.
        time = max(entry.time for entry in entries.values())
        best = [{**row, "learning_rate": None} for row in best_at_each_T(summary).values()]
        metrics = [*_metrics(summary), *_metrics(best)]
        background.do(lambda tracker: tracker.metrics(metrics, time))
    for path in files:
        background.do(partial(Tracker.artifact, path=path))
    settings, sequences = settings_of(setup.evaluation), setup.dataset.sequences
    segmented = Segmentations(
        setup.journal,
        {name: entry.results for name, entry in scored.items()},
        {name: settings.frames_of(sequences[index]) for index, name in setup.names.items() if name in scored},
    )
    for path in evaluation_pictures(setup, segmented, rows, summary):
        place = None if path.parent == folder else path.parent.name
        background.do(partial(Tracker.artifact, path=path, folder=place))
    return EvaluationResult(rows, summary)


def _rows(results: list[SequenceResult]) -> list[ObjectRow]:
    """Of ``object_rows``, by learning rate and T, then in the order of ``results``."""
    ordered = sorted(results, key=lambda result: (result.fine_tuning.learning_rate or 0.0, result.T))
    return [
        row
        for result in ordered
        for row in object_rows(result.objects, {"learning_rate": result.fine_tuning.learning_rate, "T": result.T})
    ]


def _by_sequence(results: list[SequenceResult]) -> list[SummaryRow]:
    """One row per learning rate, T and sequence."""
    return summarize(_rows(results), by=("learning_rate", "T", "sequence"))


def _metrics(summary: SequenceOf[Row]) -> list[tuple[int, Mapping[str, float]]]:
    """Of a summary's rows, by T, under names that tell learning rates and sequences apart."""
    logged: list[tuple[int, Mapping[str, float]]] = []
    names = (*MEASURES, *SPEEDS.values())
    for row in summary:
        rate = "" if row["learning_rate"] is None else f"rate_{row['learning_rate']:g}/"
        prefix = rate + (f"sequences/{row['sequence']}/" if "sequence" in row else "")
        logged.append((row["T"], {prefix + name: row[name] for name in names if row[name] is not None}))
    return logged
