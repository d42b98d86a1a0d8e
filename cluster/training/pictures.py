"""Pictures and a table of a training: what a person looks at when it is done."""

import math
import statistics
from pathlib import Path

from cluster.training import progress
from eosvos.figures import style
from eosvos.figures.learned_rates import learned_rates
from eosvos.figures.training_curve import training_curve
from eosvos.learning.optimization import Optimization
from eosvos.learning.rates import LearningRates, applied
from eosvos.tables import write_table

CURVE, RATES = "training_curve", "learned_rates"


def training_pictures(optimization: Optimization, folder: Path, steps: str) -> tuple[Path, ...]:
    """Writes them into the run's folder; of a training that learns no rates the curve alone.

    Args:
        optimization: whose rates are drawn.
        folder: of the run.
        steps: fine-tuning steps, as a person reads them.

    Returns:
        their paths.
    """
    curve = _curve(folder, steps)
    if optimization.rates is None:
        return curve
    return *_objects(folder), *_rates(optimization.rates, optimization.facts.get("initial_rate"), folder), *curve


def _objects(folder: Path) -> tuple[Path, Path]:
    """Per object the mean test losses at 0 and at T over the last half of the steps, and what fine-tuning gained; the
    two files of the table."""
    rows = progress.read(folder)
    losses: dict[tuple[str, int], list[tuple[float, float]]] = {}
    for row in rows[len(rows) // 2 :]:
        for task in row["tasks"]:
            at_0, at_T = task["loss_at_0"], task["loss_at_T"]
            if at_0 is not None and at_T is not None:
                pairs = losses.setdefault((task["sequence"], task["object"]), [])
                pairs.append((at_0, at_T))
    table = [
        {"sequence": sequence, "object": number, "tasks": len(pairs)}
        | {"loss_at_0": at_0, "loss_at_T": at_T, "gain": at_0 - at_T}
        for (sequence, number), pairs in sorted(losses.items())
        for at_0, at_T in [(statistics.mean(pair[i] for pair in pairs) for i in (0, 1))]
    ]
    return write_table(table, folder, "objects")


def _rates(rates: LearningRates, initial: float | None, folder: Path) -> tuple[Path, ...]:
    values = applied(list(rates.learned.values()), rates.form, len(rates.learned))
    named = {name: value.numpy() for name, value in zip(rates.learned, values, strict=True)}
    return style.save(learned_rates(named, initial), folder, RATES)


def _curve(folder: Path, steps: str) -> tuple[Path, ...]:
    """Of ``progress.jsonl``."""
    rows = progress.read(folder)
    at_T = [row.get("loss_at_T", math.nan) for row in rows]
    at_0 = [row.get("loss_at_0", math.nan) for row in rows] if steps else []
    rates = [row.get("mean_rate", math.nan) for row in rows] if steps else []
    validated = [
        (row["step"], row["validation_j_and_f_at_0"], row["validation_j_and_f_at_T"])
        for row in progress.read_validations(folder)
    ]
    numbers = [row["step"] for row in rows]
    return style.save(training_curve(numbers, at_0, at_T, rates, steps, validated), folder, CURVE)
