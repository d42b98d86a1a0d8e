"""A sweep over a few settings of a barely trained checkpoint, on real Ray Tune: results, resuming, failures, MLflow."""

import json
import shutil
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mlflow import MlflowClient
from ray.tune.search import ConcurrencyLimiter
from rich.console import Console

from cluster.evaluation.config import Evaluation
from cluster.evaluation.driver import evaluate
from cluster.sweep.config import Sweep
from cluster.sweep.driver import _searcher, sweep
from cluster.sweep.presets import SWEEP
from cluster.sweep.progress import SUGGESTED, suggested
from cluster.sweep.results import RECOMMENDED, SweepResults
from cluster.sweep.space import Space, setting_of, settings
from cluster.sweep.trial import CACHE, SETTING, TRIALS, evaluation_of
from cluster.tracking.run import RUN_FILE
from eosvos.cli import parse_preset
from eosvos.config import read_json
from eosvos.errors import BadInput, PartsFailed
from eosvos.metrics.pareto import clearly_better
from jobs.segment import Segment

QUIET = Console(quiet=True)
OBJECTS, SEQUENCES, RUNG = 3, 4, 2


@pytest.fixture(scope="module")
def config(trained: Path, encoded: Path, ray_here: None) -> Sweep:
    """Five settings on four sequences, compared after two."""
    space = Space(T=(0, 1, 3), transforms=(0, 2))
    return Sweep(trained / "meta.safetensors", str(encoded), trained / "sweep", space, rungs=(RUNG,))


@pytest.fixture(scope="module")
def swept(config: Sweep) -> SweepResults:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", "0.1")
        return sweep(config, QUIET)


def _journals(out: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in out.glob(f"{TRIALS}/*/journal/*.json")}


def test_a_row_for_each_setting(config: Sweep, swept: SweepResults) -> None:
    found = settings(config.space)
    assert [row["name"] for row in swept.rows] == [setting.name for setting in found]
    for row in swept.rows:
        assert (row["status"], row["sequences"]) in {("complete", SEQUENCES), ("stopped", RUNG)}
        assert row["objects"] == OBJECTS * row["sequences"]
        assert not (row["front"] and row["status"] != "complete")
    assert swept.front
    assert config.out is not None
    for file in ("sweep.csv", "sweep.parquet", "sweep.md", "figures/front.svg", "figures/over_steps.png"):
        assert (config.out / file).stat().st_size > 0
    assert not (config.out / CACHE).exists()


def test_the_scores_are_those_of_an_evaluation_without_the_cache(
    config: Sweep, swept: SweepResults, tmp_path: Path
) -> None:
    (row,) = (row for row in swept.rows if row["name"] == "T=3,transforms=2")
    done = [path.stem for path in _journals(config.out or Path()) if path.parts[-3] == row["name"]]
    plain = replace(evaluation_of(config, swept.settings[row["name"]]), out=tmp_path / "out", sequences=tuple(done))
    (summary,) = evaluate(plain, QUIET).summary
    assert summary["j_and_f"] == pytest.approx(row["j_and_f"], abs=1e-12)  # summed up in another order


def test_a_setting_is_stopped_where_another_beats_it_at_the_rung(config: Sweep, swept: SweepResults) -> None:
    scores: dict[str, list[float]] = defaultdict(list)
    seconds: dict[str, float] = defaultdict(float)
    assert config.out is not None
    for setting in swept.settings.values():
        entries = [json.loads(path.read_text()) for path in _journals(config.out) if path.parts[-3] == setting.name]
        entries.sort(key=lambda entry: int(entry["time"]))
        for entry in entries[:RUNG]:
            for own in entry["results"][0]["objects"]:
                scores[setting.name] += [(np.mean(own["scores"]["j"]) + np.mean(own["scores"]["f"])) / 2]
                seconds[setting.name] += own["seconds"]
    for row in swept.rows:
        beaten = any(
            seconds[other] <= seconds[row["name"]] and clearly_better(scores[other], scores[row["name"]])
            for other in scores
        )
        assert (row["status"] == "stopped") == beaten


def test_first_steps_are_computed_once(config: Sweep, swept: SweepResults) -> None:
    """Those of T = 1 are the first of T = 3, with as many transforms on the same sequence."""
    most: dict[tuple[int, str], int] = defaultdict(int)
    asked = 0
    for path in _journals(config.out or Path()):
        setting = swept.settings[path.parts[-3]]
        key = (setting.segmentation.transforms, path.stem)
        most[key] = max(most[key], setting.T)
        asked += OBJECTS * setting.T
    assert (swept.asked_steps, swept.computed_steps) == (asked, OBJECTS * sum(most.values()))


def test_the_same_command_computes_nothing_again(config: Sweep, swept: SweepResults, tracking: str) -> None:
    assert config.out is not None
    before, runs = _journals(config.out), _runs(tracking, config.out)
    again = sweep(replace(config, target_fps=1e9), QUIET)
    assert _journals(config.out) == before
    assert [{**row} for row in again.rows] == swept.rows
    assert again.recommended == swept.front[0]  # none is so fast; this is the fastest
    assert _runs(tracking, config.out) == runs


def test_a_sweep_goes_on_after_a_failure(config: Sweep, swept: SweepResults, tmp_path: Path) -> None:
    """Without one setting's results, which cannot be written at first, and without one sequence of another setting."""
    assert config.out is not None
    out = tmp_path / "again"
    (out / TRIALS).mkdir(parents=True)
    for name in swept.settings:
        for folder in ("journal", "predictions"):
            shutil.copytree(config.out / TRIALS / name / folder, out / TRIALS / name / folder)
    text = (config.out / "config.json").read_text()
    (out / "config.json").write_text(text.replace(str(config.out), str(out)))
    blocked, part = out / TRIALS / "T=3,transforms=0", out / TRIALS / "T=0"
    shutil.rmtree(blocked)
    blocked.write_text("a file where a folder is to be")
    next((part / "journal").glob("*.json")).unlink()
    kept = _journals(out)
    again = replace(config, out=out, stop_early=config.stop_early)
    with pytest.raises(PartsFailed, match=r"^1 of 5 settings failed: T=3,transforms=0 \(.*exists"):
        sweep(again, QUIET)
    assert '"T=0"' in (out / "sweep.csv").read_text()
    blocked.unlink()
    found = sweep(again, QUIET)
    assert {path: time for path, time in _journals(out).items() if path in kept} == kept
    scores = {row["name"]: (row["sequences"], row["j_and_f"]) for row in swept.rows}
    assert [row["name"] for row in found.rows] == list(scores)
    for row in found.rows:  # what is measured anew may be stopped where it was not, and the other way round
        if (row["sequences"], row["j_and_f"]) != scores[row["name"]]:
            assert row["sequences"] != scores[row["name"]][0]


def test_the_recommended_setting_is_a_configuration_of_evaluate_and_segment(config: Sweep, swept: SweepResults) -> None:
    assert config.out is not None
    file = ["--config", str(config.out / RECOMMENDED)]
    evaluation, _ = parse_preset(Evaluation, {"default": Evaluation()}, "", file)
    segment, _ = parse_preset(Segment, {"fast": Segment()}, "", file)
    chosen = read_json(config.out / RECOMMENDED)["T"]  # another target may have chosen another one since
    assert (*evaluation.T, segment.T) == (chosen, chosen)
    assert evaluation.checkpoint == segment.checkpoint == config.checkpoint
    assert evaluation.segmentation == segment.segmentation
    assert segment.segmentation in {own.segmentation for own in settings(config.space)}


def _runs(tracking: str, out: Path) -> dict[str, tuple[str, str, dict[str, float], dict[str, str]]]:
    """Id of the sweep's run and of its children -> name, status, metrics but the machine's load, parameters."""
    client = MlflowClient(tracking)
    parent = (out / RUN_FILE).read_text().split()[1]
    experiment = client.get_run(parent).info.experiment_id
    children = client.search_runs([experiment], f"tags.`mlflow.parentRunId` = '{parent}'")
    return {
        run.info.run_id: (
            run.info.run_name,
            run.info.status,
            {name: value for name, value in run.data.metrics.items() if not name.startswith("system/")},
            run.data.params,
        )
        for run in (client.get_run(parent), *children)
    }


def test_mlflow_has_a_child_for_each_setting(config: Sweep, swept: SweepResults, tracking: str) -> None:
    assert config.out is not None
    client = MlflowClient(tracking)
    runs = _runs(tracking, config.out)
    by_name = {name: (key, metrics, params) for key, (name, _, metrics, params) in runs.items()}
    assert set(by_name) == {"sweep", *swept.settings}
    assert {status for _, status, _, _ in runs.values()} == {"FINISHED"}
    assert by_name["sweep"][1]["first_frame_steps_computed"] == swept.computed_steps
    run = client.get_run(by_name["sweep"][0])
    assert run.data.tags["world_size"] == "2"
    assert "system/cpu_utilization_percentage" in run.data.metrics
    assert [own.dataset.name for own in run.inputs.dataset_inputs] == ["train"]
    for row in swept.rows:
        key, metrics, params = by_name[row["name"]]
        assert metrics["j_and_f"] == row["j_and_f"]
        assert metrics["fps"] == pytest.approx(row["fps"])
        assert params["T"] == str(row["T"])
        assert params["transforms"] == str(swept.settings[row["name"]].segmentation.transforms)
        history = client.get_metric_history(key, "j_and_f")
        assert [metric.step for metric in history] == list(range(1, row["sequences"] + 1))
        assert client.get_run(key).data.tags["status"] == row["status"]


def test_optuna_goes_on_with_what_it_suggested(config: Sweep, tmp_path: Path) -> None:
    search = replace(config, out=tmp_path / "out", search="optuna", samples=3, sequences=("train-00000",))
    found = sweep(search, QUIET)
    assert search.out is not None
    tried = suggested(search.out)
    assert len(tried) == 3
    assert set(found.settings.values()) == {setting_of(values) for values in tried}
    before = _journals(search.out)
    again = sweep(search, QUIET)
    assert (suggested(search.out), _journals(search.out), again.rows) == (tried, before, found.rows)


def test_optuna_begins_with_what_it_suggested_and_then_suggests_something_else(tmp_path: Path) -> None:
    """Fewer than it draws at random before it learns; no Ray is needed to ask it."""
    config = replace(SWEEP["schedule"], out=tmp_path)

    def suggestions(count: int) -> list[dict[str, Any]]:
        limited, _ = _searcher(config, [])
        assert isinstance(limited, ConcurrencyLimiter)
        drawn = [limited.searcher.suggest(str(number)) for number in range(count)]
        return [own[SETTING] for own in drawn if own is not None]

    first = suggestions(4)
    assert suggestions(4) == first
    (tmp_path / SUGGESTED).write_text("".join(f"{json.dumps(own)}\n" for own in first))
    second = suggestions(8)
    assert second[:4] == first
    assert not any(own in first for own in second[4:])


def test_optuna_may_draw_no_contradiction(config: Sweep, tmp_path: Path) -> None:
    space = Space(online_interval=(1, 3), online_frames=(1, 3))
    search = replace(config, out=tmp_path / "out", search="optuna", space=space)
    with pytest.raises(BadInput, match=r"an interval of 1 frames does not hold 3.*; --search optuna draws each value"):
        sweep(search, QUIET)
    assert not (tmp_path / "out").exists()


def test_one_objective(config: Sweep, tmp_path: Path) -> None:
    """A random part of the space, by ASHA: it stops the worse half at the rung, whoever gets there first."""
    three = tuple(f"train-0000{number}" for number in range(3))
    one = replace(config, out=tmp_path / "out", search="random", samples=3, objective="score", sequences=three)
    found = sweep(one, QUIET)
    assert [row["status"] == "complete" for row in found.rows] == [row["sequences"] == 3 for row in found.rows]
    assert {row["sequences"] for row in found.rows} <= {RUNG, 3}
    through = [row for row in found.rows if row["status"] == "complete"]
    assert found.recommended == max(through, key=lambda row: float(row["j_and_f"]))


def test_another_sweep_in_the_same_folder_is_refused(config: Sweep, swept: SweepResults) -> None:
    with pytest.raises(BadInput, match=r"differs in space\.T .*; give another --out"):
        sweep(replace(config, space=Space(T=(0, 5))), QUIET)


def test_a_parent_needs_a_rate(config: Sweep, trained: Path, tmp_path: Path) -> None:
    parent = replace(config, checkpoint=trained / "parent.safetensors", out=tmp_path / "out")
    with pytest.raises(BadInput, match="a parent has no learning rates of its own; give some with --learning-rate"):
        sweep(parent, QUIET)
    assert not (tmp_path / "out").exists()
