"""What an evaluation needs before it begins, all of it checked: folders, checkpoint, data, cluster."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, TypeVar

from cluster import run_folder
from cluster.evaluation.config import Evaluation
from cluster.evaluation.journal import Entry, Journal, digest
from cluster.session import connect, largest
from cluster.tracking.provenance import folder_of
from eosvos.data.parquet import EncodedDataset, open_dataset
from eosvos.errors import BadInput
from eosvos.learning.optimization import Optimization, load
from eosvos.paths import absolute_address, absolute_path

PLACEMENT = ("out",)
"""Fields that say where an evaluation is; what it runs on is part of its speed."""


class _Placed(Protocol):
    """A configuration that says where its checkpoint, its data and its results are."""

    @property
    def checkpoint(self) -> Path: ...
    @property
    def data(self) -> str: ...
    @property
    def out(self) -> Path | None: ...


Config = TypeVar("Config", bound=_Placed)


@dataclass(frozen=True)
class Prepared:
    """An evaluation that can begin.

    Attributes:
        evaluation: with absolute paths.
        dataset: to evaluate on.
        names: index of each of its sequences that is evaluated -> name.
        optimization: the checkpoint.
        journal: what is found already.
    """

    evaluation: Evaluation
    dataset: EncodedDataset
    names: Mapping[int, str]
    optimization: Optimization
    journal: Journal

    @property
    def out(self) -> Path:
        return self.journal.out

    def missing(self, entries: Mapping[str, Entry]) -> list[int]:
        """Indices of the sequences that have no entry."""
        return [index for index, name in self.names.items() if name not in entries]


def prepared(evaluation: Evaluation) -> Prepared:
    """Checks all that can be checked before any work, and connects to Ray where there is some to do.

    Raises:
        BadInput: a checkpoint, dataset, folder or cluster that cannot be used.
    """
    evaluation = resolved(evaluation)
    dataset = open_dataset(evaluation.data)
    names = {index: dataset.sequences[index].name for index in chosen(dataset, evaluation)}
    optimization, journal = checkpoint_and_journal(evaluation, dataset)
    run_folder.check(journal.out, evaluation, free=PLACEMENT)
    ready = Prepared(evaluation, dataset, names, optimization, journal)
    if ready.missing(journal.entries()):
        connect_for(evaluation)
    return ready


def resolved(config: Config) -> Config:
    """With absolute paths. Raises BadInput for relative ones in a submitted job, and for no data or folder."""
    if not config.data:
        raise BadInput("--data: name an encoded dataset; make one with jobs/encode_dataset.py")
    if config.out is None:
        raise BadInput("--out: name the folder of the results")
    values: Any = config  # a frozen dataclass, which the protocol cannot say
    changed: Config = replace(
        values,
        checkpoint=absolute_path(config.checkpoint, "--checkpoint"),
        data=absolute_address(config.data, "--data"),
        out=absolute_path(config.out, "--out"),
    )
    return changed


def default_folder(evaluation: Evaluation, preset: str) -> Path:
    """``JOB-RUN-FILE-on-DATA-PRESET-T5``, after the checkpoint: a name that the same command gives again."""
    run, data = folder_of(evaluation.checkpoint), Path(evaluation.data).name
    kind = "" if preset == "default" else f"-{preset}"
    steps = "-".join(map(str, evaluation.T))
    return Path("runs/evaluate") / f"{run.parent.name}-{run.name}-{evaluation.checkpoint.stem}-on-{data}{kind}-T{steps}"


def chosen(dataset: EncodedDataset, evaluation: Evaluation) -> list[int]:
    """Indices of the sequences to evaluate on. Raises BadInput for a name that the dataset does not have."""
    indices = {sequence.name: index for index, sequence in enumerate(dataset.sequences)}
    for name in evaluation.sequences:
        if name not in indices:
            raise BadInput(f"--sequences {name}: {dataset.uri} has no such sequence; it has {', '.join(indices)}")
    return sorted(indices[name] for name in evaluation.sequences) or list(range(len(dataset.sequences)))


def checkpoint_and_journal(evaluation: Evaluation, dataset: EncodedDataset) -> tuple[Optimization, Journal]:
    """The checkpoint, and the journal of what it gives on the data. Raises BadInput for one that cannot be used."""
    inputs = digest(evaluation.checkpoint, dataset.hash) if evaluation.checkpoint.is_file() else ""
    optimization = load(evaluation.checkpoint)
    steps = max(evaluation.T) > 0 or evaluation.segmentation.online_interval > 0
    if optimization.rates is None and not evaluation.learning_rate and steps:
        raise BadInput(
            f"{evaluation.checkpoint}: a parent has no learning rates of its own; give some with --learning-rate"
        )
    if digest(evaluation.checkpoint, dataset.hash) != inputs:
        raise BadInput(f"{evaluation.checkpoint}: changes while it is read; evaluate a copy, or a step's own file")
    assert evaluation.out is not None
    return optimization, Journal(evaluation.out, inputs)


def connect_for(evaluation: Evaluation) -> None:
    """Connects to Ray. Raises BadInput for a cluster that cannot run a task."""
    connect()
    for flag, asked, resource in (
        ("--gpus-per-task", evaluation.gpus_per_task, "GPU"),
        ("--threads-per-task", evaluation.threads_per_task, "CPU"),
    ):
        if asked > (there := largest(resource)):
            raise BadInput(f"{flag} {asked:g}: the cluster's largest node has {there:g} {resource}s; ask for fewer")
