"""Score masks on disk against ground truth on disk: J, F and J&F as the DAVIS evaluator defines them."""

import json
import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eosvos.cli import parse
from eosvos.errors import BadInput
from eosvos.metrics.config import Layout
from eosvos.paths import absolute_path

if TYPE_CHECKING:
    from eosvos.metrics.folders import FolderScores
    from eosvos.metrics.table import ObjectRow, Row, SummaryRow

log = logging.getLogger(__name__)

DESCRIPTION = """Score anybody's palette PNGs: predictions in DIR/SEQUENCE/FRAME.png, named as the ground truth.

Prints the table of sequences and the whole (means over objects, as DAVIS takes them), and writes scores.json (global,
sequences, objects, frames) and scores.csv (a row for each object; also as Parquet).

Examples:
    eosvos score --ground-truth DAVIS --predictions results --layout davis2017 --split val
    eosvos score --ground-truth truth --predictions runs/segment --layout frames    # truth/clip/*.png
"""


@dataclass(frozen=True)
class Score:
    """What to score against what."""

    ground_truth: Path
    """davis2016, davis2017: the folder that holds Annotations/480p; frames: one folder of masks for each sequence."""
    predictions: Path
    """Folder with a folder of PNGs for each sequence."""
    layout: Layout
    """davis2016: any value is the one object. davis2017: the ids of the first mask. Of both neither the first frame nor
    the last counts. frames: all ids, each after its first mask."""
    split: str = ""
    """davis2016, davis2017: name of a list in ImageSets; all sequences unless given."""
    out: Path | None = None
    """Folder of scores.json and scores.csv; that of the predictions by default."""
    processes: int = 0
    """Processes; 0: one for each core."""

    def __post_init__(self) -> None:
        if self.processes < 0:
            raise ValueError(f"processes: must be at least 0, got {self.processes}")


def main() -> None:
    """The command line's ``eosvos score``."""
    score = parse(Score, DESCRIPTION)
    # Late, so that --help is quick.
    from eosvos.metrics.folders import annotated_folders, check_predictions, score_folders
    from eosvos.metrics.table import ObjectResult, object_rows, summarize, summary_text
    from eosvos.tables import write_table

    truth, predictions = (
        absolute_path(path, flag)
        for path, flag in ((score.ground_truth, "--ground-truth"), (score.predictions, "--predictions"))
    )
    out = absolute_path(score.out or predictions, "--out")
    sequences = annotated_folders(truth, score.layout, score.split)
    check_predictions(sequences, predictions)
    scores = []
    for number, scored in enumerate(score_folders(sequences, predictions, score.processes or os.cpu_count() or 1), 1):
        means = ", ".join(f"{100 * one.j_and_f:.1f}" for one in scored.objects)
        log.info(f"{number}/{len(sequences)} {scored.name}: J&F {means}")
        scores.append(scored)
    rows = object_rows(
        ObjectResult(score.layout, scored.name, len(scored.frame_names), None, one)
        for scored in scores
        for one in scored.objects
    )
    if not rows:
        raise BadInput(f"{truth}: no object is annotated after its first mask; there is nothing to score")
    write_table(rows, out, "scores")
    by_sequence, overall = summarize(rows, by=("sequence",)), summarize(rows, by=("dataset",))
    (out / "scores.json").write_text(json.dumps(_report(scores, rows, by_sequence, overall[0]), indent=1))
    log.info(summary_text(by_sequence, "sequences"))
    log.info(summary_text(overall, f"{truth.name}, mean over objects"))
    log.info(f"scores.json, scores.csv: {out}")


def _report(
    scores: "list[FolderScores]", rows: "list[ObjectRow]", by_sequence: "list[SummaryRow]", overall: "SummaryRow"
) -> dict[str, Any]:
    from eosvos.metrics.table import MEASURES

    def measures(row: "Row") -> dict[str, float]:
        return {name: row[name] for name in MEASURES}

    return {
        "global": measures(overall) | {"objects": overall["objects"]},
        "sequences": {row["sequence"]: measures(row) for row in by_sequence},
        "objects": [{"sequence": row["sequence"], "object": row["object"]} | measures(row) for row in rows],
        "frames": {
            scored.name: {
                str(one.object_id): {
                    scored.frame_names[position]: {"j": j, "f": f}
                    for position, j, f in zip(one.positions, one.j, one.f, strict=True)
                }
                for one in scored.objects
            }
            for scored in scores
        },
    }
