"""The table of the fair comparison, for the terminal and as Markdown."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from cluster.experiments.fair_parent import Candidate
from cluster.experiments.pair import Pair
from eosvos.metrics.table import ObjectRow, SummaryRow, paired_difference, percent, signed_percent, summarize
from eosvos.tables import Column, markdown, terminal_text

META, FAIR = "meta-learned", "fair parent"


@dataclass(frozen=True)
class AtT:
    """Both methods at one number of steps.

    Attributes:
        T: fine-tuning steps.
        scores: of each method, means over objects.
        rates: the fair parent's, of each seed; none at T = 0, where no rate matters.
        to_fair: T of the fair parent -> J&F of the meta-learned minus the fair parent's there, and its paired standard
            error.
        objects: how many.
    """

    T: int
    scores: Mapping[str, SummaryRow]
    rates: tuple[float, ...]
    to_fair: Mapping[int, tuple[float, float]]
    objects: int


def at_each_T(rows: Sequence[ObjectRow], merged: Sequence[ObjectRow], steps: Sequence[int]) -> list[AtT]:  # noqa: N802
    """The lines of the table.

    Args:
        rows: one per object, method, T and seed.
        merged: the same with the seeds' mean for each object.
        steps: numbers of fine-tuning steps T.
    """

    def of(method: str, T: int, chosen: Sequence[ObjectRow] = merged) -> list[ObjectRow]:
        return [row for row in chosen if (row["method"], row["T"]) == (method, T)]

    lines = []
    for T in steps:
        scores = {method: summarize(of(method, T))[0] for method in (META, FAIR)}
        rates = {row["seed"]: row["learning_rate"] or 0.0 for row in of(FAIR, T, rows)} if T > 0 else {}
        to_fair = {other: paired_difference(of(META, T), of(FAIR, other)) for other in steps}
        lines.append(AtT(T, scores, tuple(dict.fromkeys(rates.values())), to_fair, len(of(META, T))))
    return lines


def _share(method: str, measure: str) -> Callable[[AtT], str]:
    return lambda line: percent(line.scores[method], measure)


def _seconds(method: str) -> Callable[[AtT], str]:
    def cell(line: AtT) -> str:
        scores = line.scores[method]
        return "-" if scores["seconds"] is None else f"{scores['seconds'] / scores['objects']:.1f}"

    return cell


_STEPS: Column[AtT] = Column("T", lambda line: str(line.T))
_RATE: Column[AtT] = Column("rate", lambda line: "/".join(f"{rate:g}" for rate in line.rates) or "-")
_DIFFERENCE: Column[AtT] = Column("difference", lambda line: signed_percent(line.to_fair[line.T]))
_MEASURES = (("J", "j_mean"), ("F", "f_mean"), ("J&F", "j_and_f"))
WIDE: tuple[Column[AtT], ...] = (
    _STEPS,
    *(
        column
        for method in (META, FAIR)
        for column in (
            *(Column(f"{method}, {heading}", _share(method, measure)) for heading, measure in _MEASURES),
            Column(f"{method}, s", _seconds(method)),
        )
    ),
    _RATE,
)
NARROW: tuple[Column[AtT], ...] = (
    _STEPS,
    *(Column(method, _share(method, "j_and_f")) for method in (META, FAIR)),
    _RATE,
    _DIFFERENCE,
)
"""What fits beside each other in 80 columns."""


def markdown_text(pairs: Sequence[Pair], lines: Sequence[AtT]) -> str:
    """The whole table, and one of all differences."""
    differences: list[Column[AtT]] = [Column("meta-learned at T", lambda line: str(line.T))]
    differences += [Column(f"{FAIR} at {line.T}", _difference_to(line.T)) for line in lines]
    return (
        f"{markdown(lines, WIDE)}\n\n{_notes(pairs, lines)} s: seconds per object, fine-tuning included.\n\n"
        "J&F of the meta-learned minus the fair parent's, with the paired standard error over objects:\n\n"
        f"{markdown(lines, differences)}\n\n{_candidates(pairs)}\n"
    )


def terminal_table(pairs: Sequence[Pair], lines: Sequence[AtT]) -> str:
    """J&F and its difference at each T."""
    title = "meta-learned and fair parent: J&F, and their difference"
    return terminal_text(lines, NARROW, title, _notes(pairs, lines))


def _difference_to(T: int) -> Callable[[AtT], str]:
    return lambda line: signed_percent(line.to_fair[T])


def _candidates(pairs: Sequence[Pair]) -> str:
    """A table of all parents that trained for as long, and which of them is the fair one."""
    rows = [(pair, candidate) for pair in pairs for candidate in pair.candidates]
    columns: list[Column[tuple[Pair, Candidate]]] = [
        Column("seed", lambda row: str(row[0].seed)),
        Column("targets", lambda row: row[1].targets, is_text=True),
        Column("outer rate", lambda row: f"{row[1].outer_rate:g}"),
        Column("J&F, mean over T", lambda row: f"{100 * row[1].choice.score:.1f}"),
        *(_at_T(T) for T in pairs[0].fair.choice.rates),
        Column("minutes", lambda row: f"{row[1].seconds / 60:.1f}"),
        Column("", lambda row: "the fair parent" if row[1] == row[0].fair else "", is_text=True),
    ]
    return (
        "The parents that the fair one was chosen from, J&F on the held-out sequences with the best rate at each T:\n\n"
        f"{markdown(rows, columns)}"
    )


def _at_T(T: int) -> Column[tuple[Pair, Candidate]]:  # noqa: N802
    def cell(row: tuple[Pair, Candidate]) -> str:
        choice = row[1].choice
        return f"{100 * choice.j_and_f[T]:.1f} ({choice.rates[T]:g})"

    return Column(f"T={T}", cell)


def _chosen(pair: Pair) -> str:
    """What the fair parent is, and what the others would have been: ``merged, outer rate 0.001: 61.2 (one 60.0)``."""
    fair = pair.fair
    others = [
        f"{other.targets}{'' if other.outer_rate == fair.outer_rate else f' {other.outer_rate:g}'} "
        f"{100 * other.choice.score:.1f}"
        for other in pair.candidates
        if other != fair
    ]
    return f"{fair.targets}, outer rate {fair.outer_rate:g}: {100 * fair.choice.score:.1f} ({', '.join(others)})"


def _notes(pairs: Sequence[Pair], lines: Sequence[AtT]) -> str:
    times = "; ".join(
        f"seed {pair.seed}: {pair.meta_seconds / 60:.1f} min of parent and meta-training, "
        f"{pair.fair.seconds / 60:.1f} min of fair parent"
        + (" (LESS: not a fair comparison)" if pair.fair.seconds < pair.meta_seconds else "")
        + f", {_chosen(pair)}"
        for pair in pairs
    )
    return (
        f"{lines[0].objects} objects, {len(pairs)} seed(s); percent, mean over objects and its standard error, each "
        "object's values averaged over the seeds first. Of each training the best checkpoint on the held-out sequences "
        f"counts; the fair parent has the highest J&F there, mean over T. {times}."
    )
