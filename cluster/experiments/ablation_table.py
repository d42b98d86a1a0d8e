"""The table of an ablation, for the terminal, as Markdown and as rows of a file."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from cluster.experiments.ablation_rows import AblationRow
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
        to_first: J&F minus the first row's, and its paired standard error.
        outer_steps, training_seconds: of its meta-training, or of its parent where it has none; means over the seeds.
        j_and_f: of each seed, mean over objects.
    """

    row: AblationRow
    scores: SummaryRow
    learning_rates: tuple[float, ...]
    to_first: tuple[float, float]
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
        difference, error = self.to_first
        return {
            **{"row": self.row.name, "T": self.row.T, "published_j_and_f": self.row.published},
            **self.scores,
            **{"learning_rates": self.rates, "to_first": difference, "to_first_se": error},
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


def _difference(results: Sequence[AblationResult]) -> Column[AblationResult]:
    def cell(result: AblationResult) -> str:
        return "" if result is results[0] else signed_percent(result.to_first)

    return Column("to the first", cell)


def markdown_text(results: Sequence[AblationResult]) -> str:
    """The whole table, and what its columns are."""
    published = any(result.row.published is not None for result in results)
    columns = [
        *(_ROW, _STEPS, *_SHARES, _difference(results)),
        Column("each seed", _each_seed),
        Column("outer steps", lambda result: f"{result.outer_steps:.0f}"),
        Column("minutes", lambda result: f"{result.training_seconds / 60:.1f}"),
        _PUBLISHED,
    ]
    return (
        f"{markdown(results, columns)}\n\n"
        f"{results[0].scores['objects']} objects, {len(results[0].j_and_f)} seed(s), percent, ± one standard error "
        "over objects, averaged over the seeds first; J&F minus the first row's with the paired standard error, and "
        "J&F with each seed. Steps and minutes are those of the meta-training's outer steps (of the parent's where "
        "there is no meta-training), means over the seeds."
        + (
            " The paper's figures are of DAVIS 2017 val (Table 1), with another model and other data: compare the "
            "differences between rows."
            if published
            else ""
        )
        + "\n"
    )


def terminal_table(results: Sequence[AblationResult]) -> str:
    """What fits beside each other in 80 columns."""
    columns = [_ROW, _STEPS, _SHARES[-1], _difference(results), _PUBLISHED]
    return terminal_text(results, columns, "ablation")
