"""The whole system in one go, on synthetic video: encode, parent, meta-training, evaluation, a table, a picture."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image
from rich.console import Console
from rich.table import Table

from cluster.evaluation.config import Evaluation, Subject
from cluster.evaluation.driver import evaluate
from cluster.evaluation.journal import PREDICTIONS
from cluster.experiments.comparison import Comparison, compare, train_pair
from cluster.tracking.run import tracking_uri
from cluster.training.checkpoints import BEST
from cluster.training.driver import train
from cluster.training.presets import META, PARENT
from eosvos.cli import parse, run
from eosvos.data.demo_video import SEQUENCES, demo_video
from eosvos.data.parquet import open_dataset
from eosvos.evaluation.results import FineTuning
from eosvos.figures.contact_sheet import contact_sheet
from eosvos.figures.overlay import overlay
from eosvos.learning.optimization import load, save
from eosvos.metrics.table import Row, best_at_each_T, percent
from eosvos.paths import absolute_path

DESCRIPTION = """Meta-training on synthetic video, from nothing to a table. The same command again goes on where it was.

Examples:
    make demo
    make demo FAIR=1      # beside it a parent that trained as long as parent and meta-training together
"""
STEPS = (0, 1, 5, 10, 20)
PARENT_RATES = (0.002, 0.005, 0.01, 0.02)
"""The parent is reported at the best of these at each T."""
SHEET_T = 5


@dataclass(frozen=True)
class Demo:
    """Where the demo works."""

    out: Path = Path("runs/demo")
    """Folder of its data, runs and results."""
    fair: bool = False
    """Add the fair comparison."""
    package: Path | None = None
    """Also write the meta-learned checkpoint to this file in half precision: how the one in this package is made."""


def main() -> None:
    demo = parse(Demo, DESCRIPTION)
    out = absolute_path(demo.out, "--out")
    console = Console(soft_wrap=True, highlight=False)
    console.print(f"{', '.join(f'{count} {split}' for split, count in SEQUENCES.items())} synthetic sequences in {out}")
    data = {split: demo_video(out, split) for split in SEQUENCES}
    console.rule("parent")
    parent = train(replace(PARENT["demo"], data=str(data["train"])), out / "parent")
    console.rule("meta-training")
    train(replace(META["demo"], data=str(data["train"]), parent=parent), out / "meta")
    meta, segmentation = out / "meta" / BEST, META["demo"].segmentation
    console.rule("evaluation on unseen sequences")
    subjects = {
        "meta": Subject(meta, str(data["held"])),
        "parent": Subject(parent, str(data["held"]), learning_rate=PARENT_RATES),
    }
    summaries = {
        name: evaluate(Evaluation(subject, STEPS, segmentation), out / f"evaluation-{name}").summary
        for name, subject in subjects.items()
    }
    best = best_at_each_T(summaries["parent"])
    console.print(_table({row["T"]: row for row in summaries["meta"]}, best))
    sheet = out / "contact_sheet.png"
    _contact_sheet(out, data["held"], best[SHEET_T]["learning_rate"]).save(sheet)
    console.print(f"pictures: {sheet}")
    if demo.package is not None:
        save(load(meta), demo.package, half=True)
    if demo.fair:
        console.rule("fair comparison")
        train_data, held_data = str(data["train"]), str(data["held"])
        pair = train_pair(replace(PARENT["demo"], data=train_data), replace(META["demo"], data=train_data), out)
        comparison = Comparison(train_data, held_data, out / "comparison", STEPS, segmentation=segmentation)
        compare([pair], comparison, console)
    console.print(f"all runs: .venv/bin/mlflow ui --backend-store-uri {tracking_uri()}")


def _table(meta: Mapping[int, Row], parent: Mapping[int, Row]) -> Table:
    table = Table(title=f"J&F on {meta[0]['objects']} objects of unseen sequences, mean and standard error")
    for heading in ("T", "meta-learned", "FPS", "parent, best rate", "rate"):
        table.add_column(heading, justify="right")
    for T, row in meta.items():
        other = parent[T]
        rate = "-" if T == 0 else f"{other['learning_rate']:g}"
        table.add_row(str(T), percent(row, "j_and_f"), f"{row['fps']:.1f}", percent(other, "j_and_f"), rate)
    return table


def _contact_sheet(out: Path, data: Path, parent_rate: float | None) -> Image.Image:
    """Per sequence: the given mask, the last scored frame before and after fine-tuning, the parent's, the truth."""
    folders = [
        out / f"evaluation-{name}" / PREDICTIONS / fine_tuning.folder
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
        predicted = [np.array(Image.open(folder / file)) for folder in folders]
        rows.append(
            (sequence.name, [overlay(first, given), *(overlay(image, p) for p in predicted), overlay(image, truth)])
        )
    return contact_sheet(rows, ["given", "T=0", f"T={SHEET_T}", f"parent T={SHEET_T}", "truth"])


if __name__ == "__main__":
    run(main)
