"""What an evaluation needs before it begins, all of it checked: folders, checkpoint, data, cluster."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from cluster import run_folder
from cluster.evaluation.config import Evaluation, Subject
from cluster.evaluation.journal import Entry, Journal, digest
from cluster.session import connect, largest
from cluster.tracking.provenance import folder_of
from eosvos.data.parquet import EncodedDataset, open_dataset
from eosvos.errors import BadInput
from eosvos.learning.optimization import Optimization, load
from eosvos.packaged import checkpoint_file
from eosvos.paths import absolute_address, absolute_path

PLACEMENT = ("out",)
"""Where an evaluation is, which older configurations say; what it runs on is part of its speed."""


@dataclass(frozen=True)
class Setup:
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
    def folder(self) -> Path:
        """Of the results."""
        return self.journal.folder

    @property
    def title(self) -> str:
        """Names checkpoint and data for a person."""
        subject = self.evaluation.subject
        return f"{subject.checkpoint.parent.name} on {Path(subject.data).name}"

    def missing(self, entries: Mapping[str, Entry]) -> list[int]:
        """Indices of the sequences that have no entry."""
        return [index for index, name in self.names.items() if name not in entries]


def prepare(evaluation: Evaluation, folder: Path) -> Setup:
    """Checks all that can be checked before any work, and connects to Ray where there is some to do.

    Raises:
        BadInput: a checkpoint, dataset, folder or cluster that cannot be used.
    """
    folder = absolute_path(folder, "--out")
    evaluation = replace(evaluation, subject=resolve(evaluation.subject))
    dataset = open_dataset(evaluation.subject.data)
    names = {index: dataset.sequences[index].name for index in choose_sequences(dataset, evaluation.subject)}
    optimization, inputs = open_checkpoint(evaluation, dataset)
    run_folder.check(folder, evaluation, free=PLACEMENT)
    setup = Setup(evaluation, dataset, names, optimization, Journal(folder, inputs))
    if setup.missing(setup.journal.entries()):
        connect_for(evaluation.subject)
    return setup


def resolve(subject: Subject) -> Subject:
    """With absolute paths. Raises BadInput for relative ones in a submitted job, and for no data."""
    return replace(
        subject,
        data=absolute_address(subject.data, "--data"),
        checkpoint=absolute_path(checkpoint_file(subject.checkpoint), "--checkpoint"),
    )


def default_folder(evaluation: Evaluation, preset: str) -> Path:
    """``JOB-RUN-FILE-on-DATA-PRESET-T5``, after the checkpoint: a name that the same command gives again."""
    checkpoint = checkpoint_file(evaluation.subject.checkpoint)
    run, data = folder_of(checkpoint), Path(evaluation.subject.data).name
    kind = "" if preset == "default" else f"-{preset}"
    steps = "-".join(map(str, evaluation.T))
    return Path("runs/evaluate") / f"{run.parent.name}-{run.name}-{checkpoint.stem}-on-{data}{kind}-T{steps}"


def choose_sequences(dataset: EncodedDataset, subject: Subject) -> list[int]:
    """Indices of the sequences to evaluate on. Raises BadInput for a name that the dataset does not have."""
    indices = {sequence.name: index for index, sequence in enumerate(dataset.sequences)}
    for name in subject.sequences:
        if name not in indices:
            raise BadInput(f"--sequences {name}: {dataset.uri} has no such sequence; it has {', '.join(indices)}")
    return sorted(indices[name] for name in subject.sequences) or list(range(len(dataset.sequences)))


def open_checkpoint(evaluation: Evaluation, dataset: EncodedDataset) -> tuple[Optimization, str]:
    """The checkpoint, and the digest of it and the data. Raises BadInput for one that cannot be used."""
    subject = evaluation.subject
    inputs = digest(subject.checkpoint, dataset.hash) if subject.checkpoint.is_file() else ""
    optimization = load(subject.checkpoint)
    steps = max(evaluation.T) > 0 or evaluation.segmentation.online_interval > 0
    if optimization.rates is None and not subject.learning_rate and steps:
        raise BadInput(
            f"{subject.checkpoint}: a parent has no learning rates of its own; give some with --learning-rate"
        )
    if digest(subject.checkpoint, dataset.hash) != inputs:
        raise BadInput(f"{subject.checkpoint}: changes while it is read; evaluate a copy, or a step's own file")
    return optimization, inputs


def connect_for(subject: Subject) -> None:
    """Connects to Ray. Raises BadInput for a cluster that cannot run a task."""
    connect()
    for flag, asked, resource in (
        ("--gpus-per-task", subject.gpus_per_task, "GPU"),
        ("--threads-per-task", subject.threads_per_task, "CPU"),
    ):
        if asked > (there := largest(resource)):
            raise BadInput(f"{flag} {asked:g}: the cluster's largest node has {there:g} {resource}s; ask for fewer")
