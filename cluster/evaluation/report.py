"""The pictures of an evaluation and its report: what a person looks at first."""

from collections.abc import Mapping
from collections.abc import Sequence as ManyRows
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from cluster.evaluation.journal import Journal
from cluster.evaluation.setup import Setup
from eosvos.config import flattened, to_dict
from eosvos.data.sequence import Sequence, decode_mask
from eosvos.evaluation.results import FineTuning, SequenceResult
from eosvos.figures import style
from eosvos.figures.accuracy_speed import accuracy_and_speed_over_steps, accuracy_speed, curves
from eosvos.figures.best_and_worst import Segmented, SequenceScore, best_and_worst, sheet_of_sequences
from eosvos.figures.contact_sheet import contact_sheet
from eosvos.figures.overlay import overlay
from eosvos.figures.per_frame import by_sequence, per_frame
from eosvos.figures.published import DAVIS_2016, PublishedResult, published_on
from eosvos.figures.report import Picture, Report, write_report
from eosvos.metrics.table import Row, best_at_each_T

OVERVIEW, FIGURES, REPORT = "overview.png", "figures", "report.html"
SHEET_ROWS = 12
"""Sequences on the overview, at most: the first ones by name; and of those that are drawn frame by frame."""
EXTREMES = 3
"""Sequences on each of the sheets of the best and of the worst, at most."""


@dataclass(frozen=True)
class Segmentations:
    """What was segmented.

    Attributes:
        journal: where the predictions are.
        results: of each sequence by name, one for each learning rate and T.
        sequences: by name.
    """

    journal: Journal
    results: Mapping[str, list[SequenceResult]]
    sequences: Mapping[str, Sequence]

    def at(self, name: str, row: Row) -> SequenceResult:
        """The result of the sequence ``name`` with the learning rate and the T of a row."""
        fine_tuning = FineTuning(row["learning_rate"], row["T"])
        return next(result for result in self.results[name] if result.fine_tuning == fine_tuning)

    def predicted(self, result: SequenceResult, position: int) -> tuple[Tensor, Tensor]:
        """Image and predicted mask of a frame."""
        sequence = self.sequences[result.sequence]
        file = self.journal.predictions(result) / f"{sequence.frame_names[position]}.png"
        return sequence.frame(position)[0], decode_mask(file.read_bytes(), str(file), merge_objects=False)


def evaluation_pictures(
    setup: Setup, segmented: Segmentations, rows: ManyRows[Row], summary: ManyRows[Row]
) -> list[Path]:
    """Writes overview, figures (SVG and PNG), sheets of the best and worst sequences (PNG) and report.

    Args:
        setup: what was evaluated.
        segmented: what came out.
        rows: one per object, learning rate and T.
        summary: one per learning rate and T.

    Returns:
        their paths, in the evaluation's folder.
    """
    folder = setup.folder
    best = best_at_each_T(summary)
    overview = _overview(segmented, best)
    overview.save(folder / OVERVIEW)
    (folder / FIGURES).mkdir(exist_ok=True)
    pictures, paths = [], [folder / OVERVIEW]
    for name, caption, figure in _figures(segmented, rows, summary, best):
        paths += style.save(figure, folder / FIGURES, name)
        pictures.append(Picture(caption, caption, style.svg_text(figure)))
    for title, scores in zip(("best", "worst"), _extremes(rows, best), strict=True):
        if scores:
            sheet = _sheet(segmented, scores, best)
            paths.append(folder / FIGURES / f"{title}.png")
            sheet.save(paths[-1])
            caption = f"the {title} sequences at T = {_best_T(best)}"
            pictures.append(Picture(caption, f"frames of the {title} sequences", sheet))
    pictures.append(Picture("the given mask, the last scored frame at each T, the truth", "overview", overview))
    report = Report(setup.title, flattened(to_dict(setup.evaluation)), summary, rows, pictures)
    return [*paths, write_report(report, folder / REPORT)]


def _figures(
    segmented: Segmentations, rows: ManyRows[Row], summary: ManyRows[Row], best: Mapping[int, Row]
) -> list[tuple[str, str, Figure]]:
    """Name, caption and figure."""
    these = curves(summary, "this evaluation")
    published = _published(rows)
    beside = f"; published results are on {DAVIS_2016}, of full-size models on other hardware" if published else ""
    drawn = list(segmented.results)
    if len(drawn) > SHEET_ROWS:
        high, low = best_and_worst(_at_best(rows, best), max(best), SHEET_ROWS // 2)
        drawn = [score.sequence for score in (*low, *high)]
    scores = {
        T: by_sequence(one for name in drawn for one in segmented.at(name, row).objects) for T, row in best.items()
    }
    return [
        (
            "accuracy_speed",
            f"J&F against speed, frames of one object per second{beside}",
            accuracy_speed(these, published),
        ),
        ("over_steps", "J&F and speed against T, the fine-tuning steps", accuracy_and_speed_over_steps(these)),
        ("per_frame", "J of each object frame by frame", per_frame(scores)),
    ]


def _published(rows: ManyRows[Row]) -> tuple[PublishedResult, ...]:
    return published_on(DAVIS_2016) if {row["dataset"] for row in rows} == {"davis2016"} else ()


def _at_best(rows: ManyRows[Row], best: Mapping[int, Row]) -> list[Row]:
    """The rows of the best learning rate at each T."""
    return [row for row in rows if row["learning_rate"] == best[row["T"]]["learning_rate"]]


def _extremes(
    rows: ManyRows[Row], best: Mapping[int, Row]
) -> tuple[tuple[SequenceScore, ...], tuple[SequenceScore, ...]]:
    return best_and_worst(_at_best(rows, best), _best_T(best), EXTREMES)


def _best_T(best: Mapping[int, Row]) -> int:  # noqa: N802 - T is the field's name
    return max(best, key=lambda T: (best[T]["j_and_f"], -T))


def _sheet(segmented: Segmentations, scores: tuple[SequenceScore, ...], best: Mapping[int, Row]) -> Image.Image:
    T = _best_T(best)
    shown = []
    for score in scores:
        result = segmented.at(score.sequence, best[T])
        label = f"{score.sequence}\nJ&F {100 * score.j_and_f:.1f}"
        length = len(segmented.sequences[score.sequence])
        shown.append(Segmented(label, length, partial(segmented.predicted, result)))
    return sheet_of_sequences(shown)


def _overview(segmented: Segmentations, best: Mapping[int, Row]) -> Image.Image:
    """A contact sheet: per sequence the given mask, its last scored frame at each T with the best rate, the truth."""
    rows, columns = [], []
    for name, sequence in list(segmented.sequences.items())[:SHEET_ROWS]:
        results = [segmented.at(name, row) for row in best.values()]
        columns = [str(result.fine_tuning) for result in results]
        position = results[0].objects[0].scores.positions[-1]
        image, truth = sequence.frame(position)
        assert truth is not None
        shown = [overlay(*segmented.predicted(result, position)) for result in results]
        rows.append((name, [_first_given(sequence), *shown, overlay(image, truth)]))
    return contact_sheet(rows, ["given", *columns, "truth"])


def _first_given(sequence: Sequence) -> Tensor:
    """The first mask with an object, over its frame: objects may all enter late."""
    masks = map(sequence.mask, range(len(sequence)))
    start = next(position for position, mask in enumerate(masks) if mask is not None and mask.any())
    image, given = sequence.frame(start)
    assert given is not None
    return overlay(image, given)
