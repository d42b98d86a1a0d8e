"""The table of an ablation, for the terminal, as Markdown and as rows of a file."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from torch import nn

from cluster.experiments.ablation_rows import AblationRow
from eosvos.learning.optimization import skeleton
from eosvos.metrics.table import Row, SummaryRow, percent, signed_percent
from eosvos.tables import Column, markdown, terminal_text

MEASURES = (("J", "j_mean"), ("F", "f_mean"), ("J&F", "j_and_f"))


@dataclass(frozen=True)
class AblationResult:
    """What a row gives.

    Attributes:
        row: what was trained and evaluated.
        scores: means over objects, whose values are averaged over the seeds first.
        learning_rates: those that were searched for, of each seed; none where they are learned.
        to_first, to_previous: J&F minus that of the first row and of the one before, and its paired standard error.
        outer_steps, training_seconds: of its meta-training, or of its parent where it has none; means over the seeds.
        j_and_f: of each seed, mean over objects.
    """

    row: AblationRow
    scores: SummaryRow
    learning_rates: tuple[float, ...]
    to_first: tuple[float, float]
    to_previous: tuple[float, float]
    outer_steps: float
    training_seconds: float
    j_and_f: Mapping[int, float]

    @property
    def rates(self) -> str:
        """The learning rates that were searched for: ``0.001/0.003``."""
        return "/".join(f"{rate:g}" for rate in self.learning_rates)

    @property
    def values(self) -> Row:
        """As a row of a file."""
        to_first, first_error = self.to_first
        to_previous, previous_error = self.to_previous
        return {
            **{"row": self.row.name, "T": self.row.T, "published_j_and_f": self.row.published},
            **self.scores,
            **{"learning_rates": self.rates, "to_first": to_first, "to_first_se": first_error},
            **{"to_previous": to_previous, "to_previous_se": previous_error},
            **{"outer_steps": self.outer_steps, "training_seconds": self.training_seconds},
            **{f"j_and_f_seed_{seed}": value for seed, value in self.j_and_f.items()},
        }

    @property
    def measured(self) -> dict[str, float]:
        """As metrics."""
        values: Row = self.scores
        measured = {name: float(values[name]) for _, name in MEASURES}
        measured |= {"outer_steps": self.outer_steps, "training_seconds": self.training_seconds}
        return measured if self.row.published is None else measured | {"published_j_and_f": self.row.published}


def _share(measure: str) -> Callable[[AblationResult], str]:
    return lambda result: percent(result.scores, measure)


def _published(result: AblationResult) -> str:
    return "" if result.row.published is None else f"{result.row.published:.1f}"


def _name(result: AblationResult) -> str:
    return f"{result.row.name} ({result.rates})" if result.rates else result.row.name


_ROW: Column[AblationResult] = Column("row", _name, is_text=True)
_STEPS: Column[AblationResult] = Column("T", lambda result: str(result.row.T))
_SHARES = tuple(Column(heading, _share(measure)) for heading, measure in MEASURES)
_PUBLISHED = Column("paper's J&F", _published)


def _each_seed(result: AblationResult) -> str:
    return ", ".join(f"{100 * value:.1f}" for value in result.j_and_f.values())


def _differences(results: Sequence[AblationResult]) -> list[Column[AblationResult]]:
    """None in the first row."""

    def difference(heading: str, of: Callable[[AblationResult], tuple[float, float]]) -> Column[AblationResult]:
        return Column(heading, lambda result: "" if result is results[0] else signed_percent(of(result)))

    return [
        difference("to the row before", lambda result: result.to_previous),
        difference("to the first", lambda result: result.to_first),
    ]


def instance_norm_note(rows: Sequence[AblationRow]) -> str:
    """Says where a row's group normalization has a group for each channel; empty where none has."""
    notes = []
    for model in dict.fromkeys(row.parent.model for row in rows):
        layers = [module for module in skeleton(model).modules() if isinstance(module, nn.GroupNorm)]
        single = [layer.num_channels for layer in layers if layer.num_groups == layer.num_channels]
        if single:
            notes.append(
                f"group normalization of {model.backbone} has a group for each channel in {len(single)} of "
                f"{len(layers)} layers (of {' and '.join(map(str, sorted({*single})))} channels), which is instance "
                "normalization: its rows say little about the paper's"
            )
    return "; ".join(dict.fromkeys(notes))


def markdown_text(results: Sequence[AblationResult]) -> str:
    """The whole table, and what its columns are."""
    published = any(result.row.published is not None for result in results)
    columns = [
        *(_ROW, _STEPS, *_SHARES, *_differences(results)),
        Column("each seed", _each_seed),
        Column("outer steps", lambda result: f"{result.outer_steps:.0f}"),
        Column("minutes", lambda result: f"{result.training_seconds / 60:.1f}"),
        _PUBLISHED,
    ]
    note = instance_norm_note([result.row for result in results])
    return (
        f"{markdown(results, columns)}\n\n"
        f"{results[0].scores['objects']} objects, {len(results[0].j_and_f)} seed(s), percent, ± one standard error "
        "over objects, averaged over the seeds first; J&F minus that of the row before and of the first row, with the "
        "paired standard error, and J&F with each seed. Steps and minutes are those of the meta-training's outer steps "
        "(of the parent's where there is no meta-training), means over the seeds."
        + (
            " The parent of the first rows learns all objects of a frame as one. The paper's figures are of DAVIS 2017 "
            "val (Table 1), with another model and other data: compare the differences between rows."
            if published
            else ""
        )
        + (f" Note: {note}." if note else "")
        + "\n"
    )


def terminal_table(results: Sequence[AblationResult]) -> str:
    """What fits beside each other in 80 columns."""
    columns = [_ROW, _STEPS, _SHARES[-1], *_differences(results), _PUBLISHED]
    return terminal_text(results, columns, "ablation")
