"""Evaluation: one Ray task per sequence, longest first; scores, predictions, pictures and an MLflow run."""

import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import ray
import torch
import tyro
from rich.console import Console

from cluster import run_folder
from cluster.run_folder import absolute_address, absolute_path
from cluster.session import bad_input_in, connect, total
from cluster.tracking import Tracker, tracking_uri
from eosvos.cli import flattened, to_dict
from eosvos.data.palette import encode_mask
from eosvos.data.parquet import EncodedDataset, open_dataset
from eosvos.data.sequence import Sequence, decode_mask
from eosvos.errors import BadInput
from eosvos.figures.contact_sheet import contact_sheet
from eosvos.figures.overlay import overlay
from eosvos.learning.optimization import Optimization, load
from eosvos.metrics.sequence_scores import score_sequence
from eosvos.metrics.table import ObjectResult, Row, object_rows, summarize, terminal_table, write_table
from eosvos.packaged import CHECKPOINT
from eosvos.segmentation.adaptation import AdaptedObject
from eosvos.segmentation.config import SegmentationConfig
from eosvos.segmentation.one_shot import OneShotSegmenter

PLACEMENT = ("out", "threads_per_task", "gpu")
"""Fields that say where and how an evaluation runs; the same command with others goes to the same folder."""
SHEET_ROWS = 12
"""Sequences on the contact sheet, at most: the first ones by name."""


@dataclass(frozen=True)
class Evaluation:
    """What to evaluate on what, and how."""

    checkpoint: Path = CHECKPOINT
    """Checkpoint of jobs/meta_train.py, or of jobs/parent_train.py with --learning-rate; by default the small one of
    this package."""
    data: str = ""
    """Encoded dataset to evaluate on."""
    out: Path | None = None
    """Folder of the results; runs/evaluate/JOB-RUN-on-DATA by default, after the checkpoint's folder."""
    T: Annotated[tuple[int, ...], tyro.conf.arg(aliases=["-T"])] = (0, 1, 5, 10)
    """Numbers of fine-tuning steps to evaluate."""
    learning_rate: tuple[float, ...] = ()
    """One learning rate for every neuron instead of learned ones; several make a grid."""
    sequences: tuple[str, ...] = ()
    """Names of the sequences to evaluate on; all of the dataset's unless given."""
    frames: int = 0
    """Frames of each sequence, at most, evenly spaced; 0 for all."""
    segmentation: SegmentationConfig = SegmentationConfig()
    seed: int = 0
    """Of everything random at test time."""
    threads_per_task: int = 1
    """Threads, and CPUs, of each sequence's task."""
    gpu: bool = False
    """Give each sequence's task a GPU."""

    def __post_init__(self) -> None:
        if not self.T or min(self.T) < 0 or len(set(self.T)) < len(self.T):
            raise ValueError(f"T: needs different values of at least 0, got {self.T}")
        if any(not rate > 0 for rate in self.learning_rate) or len(set(self.learning_rate)) < len(self.learning_rate):
            raise ValueError(f"learning_rate: needs different values above 0, got {self.learning_rate}")
        if self.threads_per_task < 1:
            raise ValueError(f"threads_per_task: must be at least 1, got {self.threads_per_task}")
        if self.frames != 0 and self.frames < 3:
            raise ValueError(f"frames: must be at least 3, or 0 for all, got {self.frames}")


@dataclass(frozen=True)
class SequenceResult:
    """One sequence at one learning rate and T.

    Attributes:
        index: of the sequence in its dataset.
        learning_rate: the single rate, or None for learned ones.
        T: fine-tuning steps.
        objects: scores and times.
        masks: per frame the predicted ids as palette PNG; the first is the given mask.
        diverged: fine-tuning of an object diverged, so that its masks are empty.
    """

    index: int
    learning_rate: float | None
    T: int
    objects: tuple[ObjectResult, ...]
    masks: tuple[bytes, ...]
    diverged: bool


def evaluate(evaluation: Evaluation, console: Console) -> list[Row]:
    """Evaluates a checkpoint and returns the summary: one row per learning rate and T, means over objects.

    Written to ``out``: ``objects`` and ``summary`` as Parquet and CSV, ``predictions/SETTING/SEQUENCE/FRAME.png``,
    ``overview.png``; the same to MLflow.

    Raises:
        BadInput: a checkpoint, dataset, cluster or tracking address that cannot be used.
    """
    evaluation = resolved(evaluation)
    uri = tracking_uri()
    optimization = load(evaluation.checkpoint)
    if optimization.rates is None and not evaluation.learning_rate and max(evaluation.T) > 0:
        raise BadInput(
            f"{evaluation.checkpoint}: a parent has no learning rates of its own; give some with --learning-rate"
        )
    dataset = open_dataset(evaluation.data)
    _chosen(dataset, evaluation)
    folder = evaluation.out
    assert folder is not None
    run_folder.check(folder, evaluation, free=PLACEMENT)
    connect()
    if evaluation.gpu and total("GPU") < 1:
        raise BadInput("--gpu True: the cluster has no GPU; leave the flag out")
    if total("CPU") < evaluation.threads_per_task:
        raise BadInput(
            f"--threads-per-task {evaluation.threads_per_task}: the cluster has {total('CPU'):g} CPUs; ask for fewer"
        )
    run_folder.claim(folder, evaluation)
    tracker = Tracker(uri, "evaluate", folder.name, folder, flattened(to_dict(evaluation)), resume=False)
    tracker.tags({"data_hash": dataset.hash, "checkpoint_step": str(optimization.facts.get("step"))})
    try:
        results = _run(evaluation, optimization, dataset, console)
        rows = _rows(results)
        summary = summarize(rows, by=("learning_rate", "T"))
        write_table(summary, folder, "summary")
        sequences = {index: _sequence(dataset, index, evaluation) for index in _chosen(dataset, evaluation)}
        _write_predictions(results, sequences, folder / "predictions")
        _overview(results, sequences, best_at_each_T(summary), folder / "overview.png")
        write_table(rows, folder, "objects")  # the last, so that it means a whole evaluation
        _log(tracker, folder, rows, summary)
    except BaseException:
        tracker.end(failed=True)
        raise
    tracker.end()
    console.print(terminal_table(summary, f"{evaluation.checkpoint.parent.name} on {Path(evaluation.data).name}"))
    console.print(f"tables, predictions and overview.png: {folder}\nMLflow: {uri}, run {tracker.run_id}")
    return summary


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


def best_at_each_T(summary: list[Row]) -> dict[int, Row]:  # noqa: N802 - T is the field's name
    """Of a summary's rows at each T the one whose learning rate has the highest J&F."""
    rows: dict[int, Row] = {}
    for row in summary:
        if row["T"] not in rows or row["j_and_f"] > rows[row["T"]]["j_and_f"]:
            rows[row["T"]] = row
    return rows


def default_folder(evaluation: Evaluation) -> Path:
    """A name that the same command gives again."""
    run = evaluation.checkpoint.resolve().parent
    return Path("runs/evaluate") / f"{run.parent.name}-{run.name}-on-{Path(evaluation.data).name}"


def evaluate_sequence(
    optimization: Optimization, dataset: EncodedDataset, index: int, evaluation: Evaluation
) -> list[SequenceResult]:
    """Fine-tunes on the first frame, segments and scores the rest, for each learning rate and T.

    A larger T goes on from the next smaller one: the draws of a step depend on its number alone.

    Raises:
        BadInput: a first frame without a mask or an object, or frames that cannot be decoded.
    """
    torch.set_num_threads(evaluation.threads_per_task)
    sequence = _sequence(dataset, index, evaluation)
    decoded = [sequence.frame(position) for position in range(len(sequence))]
    images, truths = [image for image, _ in decoded], [mask for _, mask in decoded]
    first_mask = truths[0]
    if first_mask is None or not first_mask.any():
        raise BadInput(f"{dataset.uri}, {sequence.name}: its first frame has no object, so there is nothing to follow")
    results: list[SequenceResult] = []
    for rate in evaluation.learning_rate or (None,):
        at_rate = optimization if rate is None else optimization.with_single_rate(rate)
        device = "cuda" if evaluation.gpu else "cpu"
        segmenter = OneShotSegmenter(at_rate, evaluation.segmentation, evaluation.seed, device)
        adapted: dict[int, AdaptedObject] = {}
        for T in sorted(evaluation.T):
            if T == 0 and results:  # the rate does not matter before the first step
                results.append(replace(results[0], learning_rate=rate))
                continue
            frames = segmenter.segment(images, {0: first_mask}, T, adapted=adapted, keep_going=True)
            masks = [frame.mask for frame in frames]
            diverged = any(own.diverged for own in adapted.values())
            scores = score_sequence(masks, truths, list(adapted), sequence.name)
            scored = tuple(
                ObjectResult(sequence.dataset, sequence.name, len(sequence), own.seconds, score)
                for own, score in zip(adapted.values(), scores, strict=True)
            )
            encoded = tuple(encode_mask(mask) for mask in masks)
            results.append(SequenceResult(index, rate, T, scored, encoded, diverged))
    return results


def _chosen(dataset: EncodedDataset, evaluation: Evaluation) -> list[int]:
    """Indices of the sequences to evaluate on. Raises BadInput for a name that the dataset does not have."""
    indices = {sequence.name: index for index, sequence in enumerate(dataset.sequences)}
    for name in evaluation.sequences:
        if name not in indices:
            raise BadInput(f"--sequences {name}: {dataset.uri} has no such sequence; it has {', '.join(indices)}")
    return sorted(indices[name] for name in evaluation.sequences) or list(range(len(dataset.sequences)))


def _sequence(dataset: EncodedDataset, index: int, evaluation: Evaluation) -> Sequence:
    sequence = dataset.sequences[index]
    return sequence.thinned(evaluation.frames) if evaluation.frames else sequence


def _run(
    evaluation: Evaluation, optimization: Optimization, dataset: EncodedDataset, console: Console
) -> list[SequenceResult]:
    work = {
        index: len(_sequence(dataset, index, evaluation)) * len(dataset.visible(index))
        for index in _chosen(dataset, evaluation)
    }
    longest_first = sorted(work, key=lambda index: -work[index])
    task = ray.remote(num_cpus=evaluation.threads_per_task, num_gpus=int(evaluation.gpu))(evaluate_sequence)
    shared = ray.put(optimization)
    pending = {task.remote(shared, dataset, index, evaluation): index for index in longest_first}
    results: list[SequenceResult] = []
    started, finished = time.monotonic(), 0
    while pending:
        (ready, *_), _ = ray.wait(list(pending), num_returns=1)
        finished += work[pending[ready]]
        name = dataset.sequences[pending.pop(ready)].name
        try:
            own: list[SequenceResult] = ray.get(ready)
        except Exception as error:
            if (bad := bad_input_in(error)) is not None:
                raise bad from error
            raise
        results += own
        left = round((time.monotonic() - started) * (sum(work.values()) - finished) / finished)
        scores = {T: max(_mean_j_and_f(result) for result in own if result.T == T) for T in evaluation.T}
        shown = ", ".join(f"{100 * score:.1f} at T={T}" for T, score in scores.items())
        if len(evaluation.learning_rate) > 1:
            shown += f" (best of {len(evaluation.learning_rate)} rates)"
        for result in own:
            if result.diverged:
                console.print(f"{name}: fine-tuning diverged at {_setting(result.learning_rate, result.T)}")
        done = len(work) - len(pending)
        console.print(f"{done}/{len(work)} {name}: J&F {shown}; {left // 60}:{left % 60:02d} left", highlight=False)
    return sorted(results, key=lambda result: (result.learning_rate or 0.0, result.T, result.index))


def _mean_j_and_f(result: SequenceResult) -> float:
    return sum(own.scores.j_and_f for own in result.objects) / len(result.objects)


def _setting(rate: float | None, T: int) -> str:
    return f"T={T}" if rate is None else f"T={T} rate={rate:g}"


def _rows(results: list[SequenceResult]) -> list[Row]:
    return [
        row
        for result in results
        for row in object_rows(result.objects, {"learning_rate": result.learning_rate, "T": result.T})
    ]


def _write_predictions(results: list[SequenceResult], sequences: Mapping[int, Sequence], folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    for result in results:
        sequence = sequences[result.index]
        own = folder / _setting(result.learning_rate, result.T).replace(" ", "_") / sequence.name
        own.mkdir(parents=True)
        for name, mask in zip(sequence.frame_names, result.masks, strict=True):
            (own / f"{name}.png").write_bytes(mask)


def _overview(
    results: list[SequenceResult], sequences: Mapping[int, Sequence], best: dict[int, Row], path: Path
) -> None:
    """A contact sheet: per sequence the given mask, its last scored frame at each T with the best rate, the truth."""
    settings = [(row["learning_rate"], T) for T, row in best.items()]
    rows = []
    for index, sequence in list(sequences.items())[:SHEET_ROWS]:
        own = {(result.learning_rate, result.T): result for result in results if result.index == index}
        position = own[settings[0]].objects[0].scores.positions[-1]
        image, truth = sequence.frame(position)
        first, given = sequence.frame(0)
        assert truth is not None
        assert given is not None
        shown = [overlay(image, _decoded(own[setting], position, sequence)) for setting in settings]
        rows.append((sequence.name, [overlay(first, given), *shown, overlay(image, truth)]))
    contact_sheet(rows, ["given", *(_setting(*setting) for setting in settings), "truth"]).save(path)


def _decoded(result: SequenceResult, position: int, sequence: Sequence) -> torch.Tensor:
    return decode_mask(result.masks[position], f"prediction of {sequence.name}", merge_objects=False)


def _log(tracker: Tracker, folder: Path, rows: list[Row], summary: list[Row]) -> None:
    per_sequence = summarize(rows, by=("learning_rate", "T", "sequence"))
    for row in [*summary, *per_sequence]:
        rate = "" if row["learning_rate"] is None else f"rate_{row['learning_rate']:g}/"
        prefix = rate + (f"sequences/{row['sequence']}/" if "sequence" in row else "")
        names = ("j_mean", "f_mean", "j_and_f", "fps")
        tracker.metrics([(row["T"], {prefix + name: row[name] for name in names})])
    for name in ("objects.csv", "objects.parquet", "summary.csv", "overview.png"):
        tracker.artifact(folder / name)
