"""What a sweep found: a row for each setting, the front, the recommended one; as tables, figures and a file."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from cluster.sweep.config import Sweep
from cluster.sweep.space import Setting
from cluster.sweep.space import settings as settings_of
from cluster.sweep.trial import SharedByTrials
from eosvos.config import to_dict
from eosvos.figures import style
from eosvos.figures.accuracy_speed import accuracy_and_speed_over_steps
from eosvos.figures.pareto_front import pareto_front
from eosvos.figures.published import DAVIS_2016, published_on
from eosvos.files import write_whole
from eosvos.metrics.pareto import front, recommended
from eosvos.metrics.table import Row, object_rows, percent, summarize, write_table

RECOMMENDED, FIGURES = "recommended.json", "figures"
MOST_CURVES = 5
"""Curves over T that can be told apart in one figure."""


@dataclass(frozen=True)
class SweepResults:
    """What a sweep found.

    Attributes:
        rows: for each setting its ``name``, values, ``status`` (complete, stopped, failed), ``sequences``, means over
            objects, ``seconds_per_frame``, whether it is on the ``front``; what is only partly evaluated never is.
        recommended: the row that the targets ask for; None where no setting is complete.
        settings: by name.
        datasets: names of the datasets that the sequences are of.
        asked_steps: fine-tuning steps of all first frames, had every setting taken its own.
        computed_steps: those that were computed; the others came from the cache.
    """

    rows: list[Row]
    recommended: Row | None
    settings: Mapping[str, Setting]
    datasets: frozenset[str]
    asked_steps: int
    computed_steps: int

    @property
    def front(self) -> list[Row]:
        """The fastest first."""
        return sorted((row for row in self.rows if row["front"]), key=lambda row: float(row["seconds_per_frame"]))

    @property
    def counts(self) -> dict[str, float]:
        """For MLflow."""
        stopped = sum(row["status"] == "stopped" for row in self.rows)
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
    rows: list[Row] = []
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
        values = {field: getattr(setting.segmentation, field) for field in varied}
        status = "complete" if complete else "failed" if setting in failures else "stopped"
        rows.append(
            {"name": name, "T": setting.T}
            | values
            | {"status": status, "sequences": len(results)}
            | summary
            | {"seconds_per_frame": summary["seconds"] / summary["frames"], "front": False}
        )
    complete_rows = [row for row in rows if row["status"] == "complete"]
    for row in front(complete_rows):
        row["front"] = True
    score = None if sweep.target_score is None else sweep.target_score / 100
    best = recommended(complete_rows, sweep.target_fps, score) if complete_rows else None
    return SweepResults(rows, best, settings, frozenset(datasets), asked, computed)


def write_results(shared: SharedByTrials, results: SweepResults, console: Console) -> list[Path]:
    """Writes tables, figures and the recommended configuration into the sweep's folder, shows the front."""
    sweep = shared.sweep
    assert sweep.out is not None
    paths = [*write_table(results.rows, sweep.out, "sweep")]
    text = _markdown(sweep, results)
    paths.append(write_whole(sweep.out / "sweep.md", text.encode()))
    (sweep.out / FIGURES).mkdir(exist_ok=True)
    published = published_on(DAVIS_2016) if results.datasets == {"davis2016"} else ()
    paths += style.save(pareto_front(results.rows, published), sweep.out / FIGURES, "front")
    if curves := _curves(results):
        paths += style.save(accuracy_and_speed_over_steps(curves), sweep.out / FIGURES, "over_steps")
    if results.recommended is not None:
        config = json.dumps(_configuration(sweep, results.settings[results.recommended["name"]]), indent=2)
        paths.append(write_whole(sweep.out / RECOMMENDED, config.encode()))
    console.print(_terminal(results))
    console.print(_steps(results))
    console.print(_advice(sweep, results))
    return paths


def _configuration(sweep: Sweep, setting: Setting) -> dict[str, Any]:
    """What evaluate.py and segment.py take with ``--config``."""
    rate = {} if sweep.learning_rate is None else {"learning_rate": sweep.learning_rate}
    shared = {"checkpoint": str(sweep.checkpoint), "T": setting.T, "seed": sweep.seed}
    return shared | rate | {"segmentation": to_dict(setting.segmentation)}


def _curves(results: SweepResults) -> dict[str, list[Row]]:
    """Complete settings over T, a curve for each way to do the rest; none where that is too many, or none is one."""
    grouped: dict[str, list[Row]] = {}
    for row in sorted(results.rows, key=lambda row: int(row["T"])):
        if row["status"] == "complete":
            _, _, rest = row["name"].partition(",")
            grouped.setdefault(rest or "default", []).append(row)
    grouped = {name: rows for name, rows in grouped.items() if len(rows) > 1}
    return grouped if len(grouped) <= MOST_CURVES else {}


HEADINGS = ("setting", "J", "F", "J&F", "FPS", "s / frame")


def _lines(rows: Iterable[Row]) -> list[tuple[str, ...]]:
    measures = ("j_mean", "f_mean", "j_and_f")
    return [
        (
            row["name"],
            *(percent(row, name) for name in measures),
            f"{row['fps']:.2f}",
            f"{row['seconds_per_frame']:.3f}",
        )
        for row in rows
    ]


def _terminal(results: SweepResults) -> Table:
    table = Table(title="the front: no setting is better and not slower", caption=_caption(results))
    for heading in HEADINGS:
        table.add_column(heading, justify="left" if heading == "setting" else "right", overflow="fold")
    for line in _lines(results.front):
        table.add_row(*line)
    return table


def _caption(results: SweepResults) -> str:
    of = {status: sum(row["status"] == status for row in results.rows) for status in ("complete", "stopped", "failed")}
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
        missed = missed if row["fps"] < sweep.target_fps else ""
    elif sweep.target_score is not None:
        given = f"the fastest with a J&F of at least {sweep.target_score:g}"
        missed = f"; no setting reaches {sweep.target_score:g}, this is the most accurate"
        missed = missed if 100 * row["j_and_f"] < sweep.target_score else ""
    return f"recommended ({given}): {row['name']}{missed}\n    --config {sweep.out}/{RECOMMENDED}"


def _markdown(sweep: Sweep, results: SweepResults) -> str:
    lines = (HEADINGS, ("---", *["---:"] * (len(HEADINGS) - 1)), *_lines(results.front))
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    advice = _advice(sweep, results).splitlines()[0]
    caption = f"The front: no setting is better and not slower. {_caption(results)}.\n{_steps(results)}."
    return f"{table}\n\n{caption}\n\n{advice}\n"
