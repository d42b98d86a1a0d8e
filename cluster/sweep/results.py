"""What a sweep found: a row for each setting, the front, the recommended one; as tables, figures and a file."""

import json
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

from cluster.sweep.config import Sweep
from cluster.sweep.space import Setting
from cluster.sweep.space import settings as settings_of
from cluster.sweep.trial import SharedByTrials, Status, seconds_per_frame
from eosvos.config import to_dict
from eosvos.figures import style
from eosvos.figures.accuracy_speed import accuracy_and_speed_over_steps
from eosvos.figures.pareto_front import pareto_front
from eosvos.figures.published import DAVIS_2016, published_on
from eosvos.files import write_whole
from eosvos.metrics.pareto import front, recommend
from eosvos.metrics.table import SPEEDS, SummaryRow, object_rows, per_second, percent, summarize
from eosvos.tables import Column, markdown, terminal_text, write_table

log = logging.getLogger(__name__)

RECOMMENDED, FIGURES = "recommended.json", "figures"
MOST_CURVES = 5
"""Curves over T that can be told apart in one figure."""


class SweepRow(SummaryRow):
    """One setting: its name, its T and the values of the fields that the space varies, means over objects.

    ``sequences`` says on how many; ``front`` is never true of what is only partly evaluated.
    """

    name: str
    status: Status
    sequences: int
    seconds_per_frame: float
    front: bool


@dataclass(frozen=True)
class SweepResults:
    """What a sweep found.

    Attributes:
        rows: one for each setting.
        recommended: the row that the targets ask for; None where no setting is complete.
        settings: by name.
        datasets: names of the datasets that the sequences are of.
        asked_steps: fine-tuning steps of all first frames, had every setting taken all of them itself.
        computed_steps: those that were computed; the others came from the cache.
    """

    rows: list[SweepRow]
    recommended: SweepRow | None
    settings: Mapping[str, Setting]
    datasets: frozenset[str]
    asked_steps: int
    computed_steps: int

    @property
    def front(self) -> list[SweepRow]:
        """The fastest first."""
        return sorted((row for row in self.rows if row["front"]), key=lambda row: row["seconds_per_frame"])

    @property
    def counts(self) -> dict[str, float]:
        """For MLflow."""
        stopped = sum(row["status"] is Status.STOPPED for row in self.rows)
        return {
            "settings": len(self.rows),
            "settings_stopped": stopped,
            "first_frame_steps_asked": self.asked_steps,
            "first_frame_steps_computed": self.computed_steps,
        }


def results_of(shared: SharedByTrials, tried: Iterable[Setting], failed: Iterable[Setting]) -> SweepResults:
    """Reads the journals of all settings that were tried."""
    sweep, failures = shared.sweep, set(failed)
    varied = [name for name, values in sweep.space.values.items() if len(values) > 1 and name != "T"]
    names = [shared.dataset.sequences[index].name for index in shared.order]
    rows: list[SweepRow] = []
    datasets: set[str] = set()
    asked = computed = 0
    in_order = {setting: number for number, setting in enumerate(settings_of(sweep.space))}
    settings = {setting.name: setting for setting in sorted(tried, key=lambda setting: in_order[setting])}
    for name, setting in settings.items():
        found = shared.journal(setting).entries()
        results = [result for sequence in names if sequence in found for result in found[sequence].results]
        if not results:
            continue
        objects = [row for result in results for row in object_rows(result.objects)]
        (summary,) = summarize(objects)
        datasets |= {row["dataset"] for row in objects}
        asked += setting.T * len(objects)
        computed += sum(result.computed_steps for result in results)
        complete = len(results) == len(names)
        tried_values = {field: getattr(setting.segmentation, field) for field in varied}
        status = Status.COMPLETE if complete else Status.FAILED if setting in failures else Status.STOPPED
        values = {
            **{"name": name, "T": setting.T},
            **tried_values,
            **{"status": status, "sequences": len(results)},
            **summary,
            **{"seconds_per_frame": seconds_per_frame(summary), "front": False},
        }
        rows.append(cast(SweepRow, values))
    complete_rows = [row for row in rows if row["status"] is Status.COMPLETE]
    for row in front(complete_rows):
        row["front"] = True
    score = None if sweep.target_score is None else sweep.target_score / 100
    best = recommend(complete_rows, sweep.target_fps, score) if complete_rows else None
    return SweepResults(rows, best, settings, frozenset(datasets), asked, computed)


def write_results(shared: SharedByTrials, results: SweepResults) -> list[Path]:
    """Writes tables, figures and the recommended configuration into the sweep's folder, says the front."""
    sweep, folder = shared.sweep, shared.folder
    paths = [*write_table(results.rows, folder, "sweep")]
    paths.append(write_whole(folder / "sweep.md", _markdown(sweep, results).encode()))
    (folder / FIGURES).mkdir(exist_ok=True)
    published = published_on(DAVIS_2016) if results.datasets == {"davis2016"} else ()
    paths += style.save(pareto_front(results.rows, published), folder / FIGURES, "front")
    if curves := _curves(results):
        paths += style.save(accuracy_and_speed_over_steps(curves), folder / FIGURES, "over_steps")
    if results.recommended is not None:
        config = json.dumps(_configuration(sweep, results.settings[results.recommended["name"]]), indent=2)
        paths.append(write_whole(folder / RECOMMENDED, config.encode()))
    title = "the front: no setting is better and not slower"
    log.info("%s", terminal_text(results.front, COLUMNS, title, _caption(results)))
    log.info("%s", _steps(results))
    log.info("%s", _advice(sweep, results))
    if results.recommended is not None:
        log.info("    --config %s", folder / RECOMMENDED)
    return paths


def _configuration(sweep: Sweep, setting: Setting) -> dict[str, Any]:
    """What evaluate.py and segment.py take with ``--config``: fields by their flags' names."""
    subject = sweep.subject
    rate = {"learning_rate": subject.learning_rate[0]} if subject.learning_rate else {}
    shared = {"checkpoint": str(subject.checkpoint), "T": setting.T, "seed": subject.seed}
    return shared | rate | to_dict(setting.segmentation)


def _curves(results: SweepResults) -> dict[str, list[SweepRow]]:
    """Complete settings over T, a curve for each way to do the rest; none where that is too many, or none is one."""
    grouped: dict[str, list[SweepRow]] = {}
    for row in sorted(results.rows, key=lambda row: row["T"]):
        if row["status"] is Status.COMPLETE:
            name = results.settings[row["name"]].differences or "default"
            grouped.setdefault(name, []).append(row)
    grouped = {name: rows for name, rows in grouped.items() if len(rows) > 1}
    return grouped if len(grouped) <= MOST_CURVES else {}


COLUMNS: list[Column[SweepRow]] = [
    Column("setting", lambda row: row["name"], is_text=True),
    Column("J", lambda row: percent(row, "j_mean")),
    Column("F", lambda row: percent(row, "f_mean")),
    Column("J&F", lambda row: percent(row, "j_and_f")),
    *(Column(heading, partial(per_second, name=name)) for heading, name in SPEEDS.items()),
    Column("s / frame", lambda row: f"{row['seconds_per_frame']:.3f}"),
]


def _caption(results: SweepResults) -> str:
    of = {status: sum(row["status"] is status for row in results.rows) for status in Status}
    counted = ", ".join(f"{count} {status}" for status, count in of.items() if count)
    objects = max((row["objects"] for row in results.rows), default=0)
    return f"{len(results.rows)} settings, {counted}; {objects} objects; percent, ± one standard error"


def _steps(results: SweepResults) -> str:
    saved = 1 - results.computed_steps / results.asked_steps if results.asked_steps else 0.0
    return (
        f"fine-tuning steps on first frames: {results.asked_steps} asked, {results.computed_steps} computed "
        f"({100 * saved:.0f} % from the cache)"
    )


def _advice(sweep: Sweep, results: SweepResults) -> str:
    row = results.recommended
    if row is None:
        return "no setting is complete, so none is recommended"
    given = "the most accurate"
    missed = ""
    if sweep.target_fps is not None:
        given = f"the most accurate with at least {sweep.target_fps:g} FPS"
        missed = f"; no setting reaches {sweep.target_fps:g} FPS, this is the fastest"
        missed = missed if 1 / row["seconds_per_frame"] < sweep.target_fps else ""
    elif sweep.target_score is not None:
        given = f"the fastest with a J&F of at least {sweep.target_score:g}"
        missed = f"; no setting reaches {sweep.target_score:g}, this is the most accurate"
        missed = missed if 100 * row["j_and_f"] < sweep.target_score else ""
    return f"recommended ({given}): {row['name']}{missed}"


def _markdown(sweep: Sweep, results: SweepResults) -> str:
    caption = f"The front: no setting is better and not slower. {_caption(results)}.\n{_steps(results)}."
    return f"{markdown(results.front, COLUMNS)}\n\n{caption}\n\n{_advice(sweep, results)}\n"
