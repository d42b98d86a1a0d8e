"""Score masks on disk against ground truth on disk: J, F and J&F as the DAVIS evaluator defines them."""

import json
import logging
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eosvos.cli import parse
from eosvos.errors import BadInput
from eosvos.files import write_whole
from eosvos.metrics.config import TruthLayout
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
    eosvos score --ground-truth YouTube-VOS --predictions results --layout youtube-vos --split valid \\
        --seen YouTube-VOS/train/meta.json
    eosvos score --ground-truth truth --predictions runs/segment --layout frames    # truth/clip/*.png
"""


@dataclass(frozen=True)
class Score:
    """What to score against what."""

    ground_truth: Path
    """davis2016, davis2017: the folder that holds Annotations/480p; youtube-vos: the one that holds SPLIT/Annotations;
    frames: one folder of masks for each sequence."""
    predictions: Path
    """Folder with a folder of PNGs for each sequence."""
    layout: TruthLayout
    """davis2016: any value is the one object. davis2017: the ids of the first mask. Of both neither the first frame nor
    the last counts. youtube-vos, frames: all ids, each after its first mask."""
    split: str = ""
    """davis2016, davis2017: name of a list in ImageSets; all sequences unless given. youtube-vos: folder of the ground
    truth and its meta.json."""
    seen: Path | None = None
    """youtube-vos: meta.json of the train split, whose categories are the seen ones."""
    out: Path | None = None
    """Folder of scores.json and scores.csv; that of the predictions by default."""
    processes: int = 0
    """Processes; 0: one for each core."""

    def __post_init__(self) -> None:
        if self.processes < 0:
            raise ValueError(f"processes: must be at least 0, got {self.processes}")
        if self.layout == "youtube-vos" and self.seen is None:
            raise ValueError("seen: name meta.json of the train split, which says what categories are seen")
        if self.layout != "youtube-vos" and self.seen is not None:
            raise ValueError("seen: goes with --layout youtube-vos only; leave it out")


def main() -> None:
    """The command line's ``eosvos score``."""
    score = parse(Score, DESCRIPTION)
    # Late, so that --help is quick.
    from eosvos.data.readers.youtube_vos import read_categories
    from eosvos.metrics.categories import categories_of, seen_and_unseen, seen_and_unseen_text
    from eosvos.metrics.folders import check_predictions, score_folders
    from eosvos.metrics.ground_truth import annotated_folders
    from eosvos.metrics.table import ObjectResult, object_rows, summarize, summary_text
    from eosvos.tables import write_table

    truth, predictions = (
        absolute_path(path, flag)
        for path, flag in ((score.ground_truth, "--ground-truth"), (score.predictions, "--predictions"))
    )
    out = absolute_path(score.out or predictions, "--out")
    seen = None if score.seen is None else read_categories(absolute_path(score.seen, "--seen"))
    sequences = annotated_folders(truth, score.layout, score.split)
    check_predictions(sequences, predictions)
    scores = []
    for number, scored in enumerate(score_folders(sequences, predictions, score.processes or os.cpu_count() or 1), 1):
        means = ", ".join(f"{100 * one.j_and_f:.1f}" for one in scored.objects)
        log.info(f"{number}/{len(sequences)} {scored.name}: " + (f"J&F {means}" if means else "nothing to score"))
        scores.append(scored)
    rows = object_rows(
        ObjectResult(score.layout, scored.name, len(scored.frame_names), None, one)
        for scored in scores
        for one in scored.objects
    )
    if not rows:
        raise BadInput(f"{truth}: no object is annotated after its first mask; there is nothing to score")
    by_category = None if seen is None else seen_and_unseen(rows, categories_of(sequences), seen)
    write_table(rows, out, "scores")
    by_sequence, overall = summarize(rows, by=("sequence",)), summarize(rows, by=("dataset",))
    report = _report(scores, rows, by_sequence, overall[0])
    if by_category is not None:
        report["categories"] = asdict(by_category) | {"overall": by_category.overall}
    write_whole(out / "scores.json", json.dumps(report, indent=1).encode())
    log.info(summary_text(by_sequence, "sequences"))
    log.info(summary_text(overall, f"{truth.name}, mean over objects"))
    if by_category is not None:
        log.info(seen_and_unseen_text(by_category, "seen and unseen categories"))
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
