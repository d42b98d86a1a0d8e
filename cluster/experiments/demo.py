"""The whole system on synthetic video: parent, meta-training, evaluation, a table, a picture."""

import logging
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image

from cluster.evaluation.config import Evaluation, Subject
from cluster.evaluation.driver import evaluate
from cluster.evaluation.journal import PREDICTIONS
from cluster.experiments.comparison import compare
from cluster.experiments.config import Comparison
from cluster.experiments.pair import train_pair
from cluster.tracking.run import tracking_uri
from cluster.training.checkpoints import BEST
from cluster.training.driver import train
from cluster.training.presets import META, PARENT
from eosvos.data.demo_video import SEQUENCES, demo_video
from eosvos.data.parquet import open_dataset
from eosvos.evaluation.results import FineTuning
from eosvos.figures.contact_sheet import contact_sheet
from eosvos.figures.overlay import overlay
from eosvos.metrics.table import SummaryRow, best_at_each_T, percent
from eosvos.tables import Column, terminal_text

log = logging.getLogger(__name__)

STEPS = (0, 1, 5, 10, 20)
PARENT_RATES = (0.005, 0.01, 0.02, 0.04)
"""The parent is reported at the best of these at each T, which is never the first or the last."""
SHEET_T = 5
SHEET = "contact_sheet.png"


@dataclass(frozen=True)
class _Line:
    """Both methods at one number of steps."""

    T: int
    meta: SummaryRow
    parent: SummaryRow

    @property
    def rate(self) -> str:
        """The parent's; none at T = 0, where no rate matters."""
        return "-" if self.T == 0 else f"{self.parent['learning_rate']:g}"


_COLUMNS: list[Column[_Line]] = [
    Column("T", lambda line: str(line.T)),
    Column("meta-learned", lambda line: percent(line.meta, "j_and_f")),
    Column("FPS", lambda line: "-" if line.meta["fps"] is None else f"{line.meta['fps']:.1f}"),
    Column("parent, best rate", lambda line: percent(line.parent, "j_and_f")),
    Column("rate", lambda line: line.rate),
]


def demo(folder: Path, fair: bool = False) -> Path:
    """Trains and evaluates in ``folder``, or goes on where it was; says a table, and draws a contact sheet.

    Args:
        folder: of its data, runs and results.
        fair: whether the fair comparison is done, too.

    Returns:
        the meta-learned checkpoint.
    """
    log.info("%s synthetic sequences in %s", ", ".join(f"{n} {split}" for split, n in SEQUENCES.items()), folder)
    data = {split: str(demo_video(folder, split)) for split in SEQUENCES}
    parent_training = replace(PARENT["demo"], data=(data["train"],))
    meta_training = replace(META["demo"], data=(data["train"],))
    log.info("parent")
    parent = train(parent_training, folder / "parent")
    log.info("meta-training")
    train(replace(meta_training, parent=parent), folder / "meta")
    meta, held, segmentation = folder / "meta" / BEST, data["held"], meta_training.segmentation
    log.info("evaluation on unseen sequences")
    subjects = {"meta": Subject(meta, held), "parent": Subject(parent, held, learning_rate=PARENT_RATES)}
    summaries = {
        name: evaluate(Evaluation(subject, STEPS, segmentation), folder / f"evaluation-{name}").summary
        for name, subject in subjects.items()
    }
    best = best_at_each_T(summaries["parent"])
    lines = [_Line(row["T"], row, best[row["T"]]) for row in summaries["meta"]]
    title = f"J&F on {lines[0].meta['objects']} objects of unseen sequences, mean and standard error"
    log.info("%s", terminal_text(lines, _COLUMNS, title))
    _contact_sheet(folder, held, best[SHEET_T]["learning_rate"]).save(folder / SHEET)
    log.info("pictures: %s", folder / SHEET)
    if fair:
        log.info("fair comparison")
        comparison = Comparison(data["train"], held, STEPS, segmentation=segmentation)
        pair = train_pair(parent_training, meta_training, comparison, folder)
        compare([pair], comparison, folder / "comparison")
    log.info("all runs: .venv/bin/mlflow ui --backend-store-uri %s", tracking_uri())
    return meta


def _contact_sheet(folder: Path, data: str, parent_rate: float | None) -> Image.Image:
    """Per sequence: the given mask, the last scored frame before and after fine-tuning, the parent's, the truth."""
    folders = [
        folder / f"evaluation-{name}" / PREDICTIONS / fine_tuning.folder
        for name, fine_tuning in (
            ("meta", FineTuning(None, 0)),
            ("meta", FineTuning(None, SHEET_T)),
            ("parent", FineTuning(parent_rate, SHEET_T)),
        )
    ]
    rows = []
    for sequence in open_dataset(data).sequences:
        (first, given), (image, truth) = sequence.frame(0), sequence.frame(len(sequence) - 2)
        assert given is not None
        assert truth is not None
        file = f"{sequence.name}/{sequence.frame_names[len(sequence) - 2]}.png"
        predicted = [np.array(Image.open(place / file)) for place in folders]
        rows.append(
            (sequence.name, [overlay(first, given), *(overlay(image, p) for p in predicted), overlay(image, truth)])
        )
    return contact_sheet(rows, ["given", "T=0", f"T={SHEET_T}", f"parent T={SHEET_T}", "truth"])
