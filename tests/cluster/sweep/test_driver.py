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

from cluster import run_folder
from cluster.evaluation import driver as evaluation_driver
from cluster.evaluation.config import Evaluation, Subject
from cluster.evaluation.driver import evaluate
from cluster.sweep import driver
from cluster.sweep.config import Sweep
from cluster.sweep.driver import _searcher, sweep
from cluster.sweep.presets import SWEEP
from cluster.sweep.progress import SUGGESTED, read_suggestions
from cluster.sweep.results import RECOMMENDED, SweepResults
from cluster.sweep.space import Space, setting_of, settings
from cluster.sweep.trial import CACHE, SETTING, TRIALS, Status, evaluation_of
from cluster.tracking.run import RUN_FILE
from eosvos.cli import parse_preset
from eosvos.commands.segment import QUALITY, Segment
from eosvos.errors import BadInput, PartsFailed
from eosvos.metrics.pareto import clearly_better

OBJECTS, SEQUENCES, RUNG = 3, 4, 2


@pytest.fixture(scope="module")
def config(trained: Path, encoded: Path, ray_here: None) -> Sweep:
    """Five settings on four sequences, compared after two."""
    space = Space(T=(0, 1, 3), transforms=(0, 2))
    return Sweep(Subject(trained / "meta.safetensors", str(encoded)), space, rungs=(RUNG,))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("sweep") / "sweep"


@pytest.fixture(scope="module")
def swept(config: Sweep, folder: Path) -> SweepResults:
    """What ``config`` found, with all its files in ``folder``."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", "0.1")
        return sweep(config, folder)


@pytest.fixture
def no_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leaves out tables and figures, which take seconds."""
    monkeypatch.setattr(driver, "write_results", lambda *_: [])


def _journals(out: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in out.glob(f"{TRIALS}/*/journal/*.json")}


def test_a_row_for_each_setting(config: Sweep, folder: Path, swept: SweepResults) -> None:
    found = settings(config.space)
    assert [row["name"] for row in swept.rows] == [setting.name for setting in found]
    for row in swept.rows:
        assert (row["status"], row["sequences"]) in {(Status.COMPLETE, SEQUENCES), (Status.STOPPED, RUNG)}
        assert row["objects"] == OBJECTS * row["sequences"]
        assert not (row["front"] and row["status"] is not Status.COMPLETE)
    assert swept.front
    for file in ("sweep.csv", "sweep.parquet", "sweep.md", "figures/front.svg", "figures/over_steps.png"):
        assert (folder / file).stat().st_size > 0
    assert not (folder / CACHE).exists()


def test_the_scores_are_those_of_an_evaluation_without_the_cache(
    config: Sweep, folder: Path, swept: SweepResults, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluation_driver, "evaluation_pictures", lambda *_: [])
    (row,) = (row for row in swept.rows if row["name"] == "T=3,transforms=2")
    done = tuple(path.stem for path in _journals(folder) if path.parts[-3] == row["name"])
    plain = evaluation_of(config, swept.settings[row["name"]])
    (summary,) = evaluate(replace(plain, subject=replace(plain.subject, sequences=done)), tmp_path / "out").summary
    assert summary["j_and_f"] == pytest.approx(row["j_and_f"], abs=1e-12)  # summed up in another order


def test_a_setting_is_stopped_where_another_beats_it_at_the_rung(folder: Path, swept: SweepResults) -> None:
    scores: dict[str, list[float]] = defaultdict(list)
    seconds: dict[str, float] = defaultdict(float)
    for setting in swept.settings.values():
        entries = [json.loads(path.read_text()) for path in _journals(folder) if path.parts[-3] == setting.name]
        entries.sort(key=lambda entry: int(entry["time"]))
        for entry in entries[:RUNG]:
            for one in entry["results"][0]["objects"]:
                scores[setting.name] += [(np.mean(one["scores"]["j"]) + np.mean(one["scores"]["f"])) / 2]
                seconds[setting.name] += one["seconds"] + one["loading_seconds"]
    for row in swept.rows:
        beaten = any(
            row["T"] >= swept.settings[other].T
            and seconds[other] <= seconds[row["name"]]
            and clearly_better(scores[other], scores[row["name"]])
            for other in scores
        )
        assert (row["status"] is Status.STOPPED) == beaten


def test_first_steps_are_computed_once(folder: Path, swept: SweepResults) -> None:
    """Those of T = 1 are the first of T = 3, with as many transforms on the same sequence."""
    most: dict[tuple[int, str], int] = defaultdict(int)
    asked = 0
    for path in _journals(folder):
        setting = swept.settings[path.parts[-3]]
        key = (setting.segmentation.transforms, path.stem)
        most[key] = max(most[key], setting.T)
        asked += OBJECTS * setting.T
    assert (swept.asked_steps, swept.computed_steps) == (asked, OBJECTS * sum(most.values()))


def test_the_same_command_computes_nothing_again(
    config: Sweep, folder: Path, swept: SweepResults, tracking: str, no_files: None
) -> None:
    before, runs = _journals(folder), _runs(tracking, folder)
    again = sweep(replace(config, target_fps=1e9), folder)
    assert _journals(folder) == before
    assert [{**row} for row in again.rows] == swept.rows
    assert again.recommended == swept.front[0]  # none is so fast; this is the fastest
    assert _runs(tracking, folder) == runs


def test_trials_that_an_older_version_pasted_in_another_way_are_not_taken_up(config: Sweep, tmp_path: Path) -> None:
    """Nothing is tried then; the sweep's own configuration does not say how masks were pasted."""
    setting = settings(config.space)[-1]
    trial = tmp_path / TRIALS / setting.name
    run_folder.claim(tmp_path, config)
    run_folder.claim(trial, evaluation_of(config, setting))
    values = json.loads((trial / "config.json").read_text())
    del values["segmentation"]["pasting"]
    (trial / "config.json").write_text(json.dumps(values))
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(BadInput, match=r"differs in segmentation\.pasting \(release there, exact now\)"):
        sweep(config, tmp_path)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_sweep_resumes_after_a_failure(
    config: Sweep, folder: Path, swept: SweepResults, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two settings, one whose results cannot be written at first, and one without one of its sequences."""
    two, out = replace(config, space=Space(T=(0, 3), transforms=(0,))), tmp_path / "again"
    for part in ("journal", "predictions"):
        shutil.copytree(folder / TRIALS / "T=0" / part, out / TRIALS / "T=0" / part)
    run_folder.claim(out, two)
    blocked = out / TRIALS / "T=3,transforms=0"
    blocked.write_text("a file where a folder is to be")
    next((out / TRIALS / "T=0" / "journal").glob("*.json")).unlink()
    known = _journals(out)
    monkeypatch.setattr(driver, "RETRIES", 0)  # each starts a process
    with pytest.raises(PartsFailed, match=r"^1 of 2 settings failed: T=3,transforms=0 \(.*exists"):
        sweep(two, out)
    assert '"T=0"' in (out / "sweep.csv").read_text()
    blocked.unlink()
    found = sweep(two, out)
    assert {path: time for path, time in _journals(out).items() if path in known} == known
    scores = {row["name"]: (row["sequences"], row["j_and_f"]) for row in swept.rows}
    assert [row["name"] for row in found.rows] == ["T=0", "T=3,transforms=0"]
    for row in found.rows:  # one may be stopped where it was not among five, and the other way round
        if (row["sequences"], row["j_and_f"]) != scores[row["name"]]:
            assert row["sequences"] != scores[row["name"]][0]


def test_the_recommended_setting_is_a_configuration_of_evaluate_and_segment(
    config: Sweep, folder: Path, swept: SweepResults
) -> None:
    file = ["--config", str(folder / RECOMMENDED)]
    evaluation, _ = parse_preset(Evaluation, {"default": Evaluation()}, "", file)
    segment, _ = parse_preset(Segment, QUALITY, "", [*file, "--video", "clip.mp4", "--mask", "first.png"])
    assert swept.recommended is not None
    assert (*evaluation.T, segment.T) == (swept.recommended["T"],) * 2
    assert evaluation.subject.checkpoint == segment.checkpoint == config.subject.checkpoint
    assert evaluation.segmentation == segment.segmentation
    assert segment.segmentation in {one.segmentation for one in settings(config.space)}


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


def test_mlflow_has_a_child_for_each_setting(folder: Path, swept: SweepResults, tracking: str) -> None:
    client = MlflowClient(tracking)
    runs = _runs(tracking, folder)
    by_name = {name: (key, metrics, params) for key, (name, _, metrics, params) in runs.items()}
    assert set(by_name) == {"sweep", *swept.settings}
    assert {status for _, status, _, _ in runs.values()} == {"FINISHED"}
    assert by_name["sweep"][1]["first_frame_steps_computed"] == swept.computed_steps
    run = client.get_run(by_name["sweep"][0])
    assert run.data.tags["world_size"] == "2"
    assert "system/cpu_utilization_percentage" in run.data.metrics
    assert [one.dataset.name for one in run.inputs.dataset_inputs] == ["train"]
    for row in swept.rows:
        key, metrics, params = by_name[row["name"]]
        assert metrics["j_and_f"] == row["j_and_f"]
        assert metrics["fps"] == pytest.approx(row["fps"])
        assert params["T"] == str(row["T"])
        assert params["transforms"] == str(swept.settings[row["name"]].segmentation.transforms)
        history = client.get_metric_history(key, "j_and_f")
        assert [metric.step for metric in history] == list(range(1, row["sequences"] + 1))
        assert client.get_run(key).data.tags["status"] == row["status"]


def test_optuna_resumes_with_what_it_suggested(config: Sweep, tmp_path: Path, no_files: None) -> None:
    subject = replace(config.subject, sequences=("train-00000",))
    search, out = replace(config, subject=subject, search="optuna", samples=2), tmp_path / "out"
    found = sweep(search, out)
    tried = read_suggestions(out)
    assert len(tried) == 2
    assert set(found.settings.values()) == {setting_of(values) for values in tried}
    before = _journals(out)
    again = sweep(search, out)
    assert (read_suggestions(out), _journals(out), again.rows) == (tried, before, found.rows)


def test_optuna_begins_with_what_it_suggested_and_then_suggests_something_else(tmp_path: Path) -> None:
    """Fewer than it draws at random before it learns; no Ray is needed to ask it."""
    config = SWEEP["schedule"]

    def suggestions(count: int) -> list[dict[str, Any]]:
        limited, _ = _searcher(config, tmp_path, [])
        assert isinstance(limited, ConcurrencyLimiter)
        drawn = [limited.searcher.suggest(str(number)) for number in range(count)]
        return [one[SETTING] for one in drawn if one is not None]

    first = suggestions(4)
    assert suggestions(4) == first
    (tmp_path / SUGGESTED).write_text("".join(f"{json.dumps(one)}\n" for one in first))
    second = suggestions(8)
    assert second[:4] == first
    assert not any(one in first for one in second[4:])


def test_optuna_may_draw_no_contradiction(config: Sweep, tmp_path: Path) -> None:
    space = Space(online_interval=(1, 3), online_frames=(1, 3))
    search = replace(config, search="optuna", space=space)
    with pytest.raises(BadInput, match=r"an interval of 1 frames does not hold 3.*; --search optuna draws each value"):
        sweep(search, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_one_objective(config: Sweep, tmp_path: Path, no_files: None) -> None:
    """A random part of the space, by ASHA: it stops the worse half at the rung, in any order."""
    subject = replace(config.subject, sequences=tuple(f"train-0000{number}" for number in range(3)))
    one = replace(config, subject=subject, search="random", samples=3, objective="score")
    found = sweep(one, tmp_path / "out")
    assert [row["status"] is Status.COMPLETE for row in found.rows] == [row["sequences"] == 3 for row in found.rows]
    assert {row["sequences"] for row in found.rows} <= {RUNG, 3}
    through = [row for row in found.rows if row["status"] is Status.COMPLETE]
    assert found.recommended == max(through, key=lambda row: float(row["j_and_f"]))


def test_another_sweep_in_the_same_folder_is_refused(config: Sweep, folder: Path, swept: SweepResults) -> None:
    with pytest.raises(BadInput, match=r"differs in space\.T .*; give another --out"):
        sweep(replace(config, space=Space(T=(0, 5))), folder)


def test_a_parent_needs_a_rate(config: Sweep, trained: Path, tmp_path: Path) -> None:
    parent = replace(config, subject=replace(config.subject, checkpoint=trained / "parent.safetensors"))
    with pytest.raises(BadInput, match="a parent has no learning rates of its own; give some with --learning-rate"):
        sweep(parent, tmp_path / "out")
    assert not (tmp_path / "out").exists()
