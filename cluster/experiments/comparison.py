"""The fair comparison: meta-learned against the best parent that trained for as long, at its best rate for each T."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from cluster.evaluation.config import Evaluation, Subject
from cluster.evaluation.driver import evaluate
from cluster.experiments.comparison_table import FAIR, META, AtT, at_each_T, markdown_text, terminal_table
from cluster.experiments.config import Comparison
from cluster.experiments.pair import Pair
from eosvos.files import write_whole
from eosvos.metrics.table import ObjectRow, over_seeds, summarize, with_keys
from eosvos.tables import write_table

log = logging.getLogger(__name__)


def compare(pairs: Sequence[Pair], comparison: Comparison, folder: Path) -> list[ObjectRow]:
    """Evaluates both of each pair and returns one row per object, method, T and seed.

    Written to ``folder``: the evaluations, ``objects`` and ``comparison`` as Parquet and CSV, ``comparison.md``. What
    is evaluated already, with the same checkpoint and data, is not evaluated again.

    Raises:
        BadInput: what ``evaluate`` refuses, such as a folder with the evaluations of other data.
    """
    rows = [row for pair in pairs for row in _evaluated(pair, comparison, folder / f"seed-{pair.seed}")]
    merged = over_seeds(rows, by=("method", "T"))
    lines: list[AtT] = at_each_T(rows, merged, comparison.T)
    write_table(rows, folder, "objects")
    write_table(summarize(merged, by=("method", "T")), folder, "comparison")
    file = write_whole(folder / "comparison.md", markdown_text(pairs, lines).encode())
    log.info("%s", terminal_table(pairs, lines))
    log.info("table: %s", file)
    return rows


def _evaluated(pair: Pair, comparison: Comparison, folder: Path) -> list[ObjectRow]:
    """Rows of both of a pair on the data to report on."""
    learned = Evaluation(Subject(pair.meta, comparison.data), comparison.T, comparison.segmentation)
    rows = [_of(META, pair, row) for row in evaluate(learned, folder / "meta").rows]
    fair = pair.fair
    for rate, steps in fair.choice.by_rate(comparison.T).items():
        single = replace(learned, subject=Subject(fair.checkpoint, comparison.data, learning_rate=(rate,)), T=steps)
        rows += [_of(FAIR, pair, row) for row in evaluate(single, folder / f"{fair.name}-at-{rate:g}").rows]
    return rows


def _of(method: str, pair: Pair, row: ObjectRow) -> ObjectRow:
    return with_keys(row, {"method": method, "seed": pair.seed})
