"""Sweeps as a user runs them: killed and resumed, and with trials stopped early against all of them in full."""

import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from cluster import run_folder
from cluster.evaluation.config import Subject
from cluster.evaluation.journal import Journal, digest
from cluster.sweep.config import Sweep
from cluster.sweep.driver import sweep
from cluster.sweep.presets import SWEEP
from cluster.sweep.space import Space
from cluster.sweep.trial import TRIALS, Status
from eosvos.data.demo_video import demo_video
from eosvos.data.parquet import encode, open_dataset
from eosvos.data.readers.synthetic import SyntheticSettings, synthetic
from eosvos.metrics.pareto import clearly_better
from eosvos.metrics.table import Row
from eosvos.packaged import CHECKPOINTS

SYNTHETIC = CHECKPOINTS["synthetic"]

pytestmark = pytest.mark.slow

JOB = Path(__file__).parents[2] / "jobs" / "sweep.py"
SEQUENCES = 8
SCORES = ("name", "status", "sequences", "j_mean", "f_mean", "j_and_f")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight short sequences."""
    folder = tmp_path_factory.mktemp("sweep") / "held"
    encode(synthetic("held", SEQUENCES, SyntheticSettings(frames=4)), folder, {"made": "for tests"})
    return folder


def _journals(out: Path) -> dict[Path, int]:
    return {path.relative_to(out): path.stat().st_mtime_ns for path in out.glob(f"{TRIALS}/*/journal/*.json")}


def _rows(out: Path) -> list[Row]:
    rows: list[Row] = pq.read_table(out / "sweep.parquet").to_pylist()
    return rows


def test_a_sweep_that_was_killed_resumes(data: Path, tracking: str, tmp_path: Path) -> None:
    """SIGKILL when a third of its trials are through: none of these is computed again, and the scores are the same."""
    few = [f"held-0000{number}" for number in range(3)]
    command = [
        sys.executable,
        str(JOB),
        "--checkpoint",
        "synthetic",
        "--data",
        str(data),
        "--sequences",
        *few,
        "--no-stop-early",
    ]
    command += ["-T", "0", "1", "2", "--transforms", "0", "1", "--rate-scale", "1", "--out"]
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    process = subprocess.Popen([*command, str(killed)], env=environment, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 300
    while len(_journals(killed)) < 2 * len(few) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    before = _journals(killed)
    assert 2 * len(few) <= len(before) < 5 * len(few)
    for out in (killed, whole):
        subprocess.run([*command, str(out)], env=environment, check=True, stdout=subprocess.DEVNULL, timeout=600)
    assert {path: time for path, time in _journals(killed).items() if path in before} == before
    assert [[row[name] for name in SCORES] for row in _rows(killed)] == [
        [row[name] for name in SCORES] for row in _rows(whole)
    ]


def test_the_front_is_that_of_the_exhaustive_grid(data: Path, ray_here: None, tmp_path: Path) -> None:
    """Trials that were stopped early are finished in a copy; what that adds to the front has its like among the others.

    Its like: a setting that was not stopped, of no more steps and not clearly worse.

    With SWEEP_DEMO=1 of the whole demo, which takes ten minutes.
    """
    # Rates of a thousandth learn nothing: with them T = 20 is far slower than T = 1 and far worse, on any machine.
    space = Space(T=(0, 1, 2, 20), transforms=(0, 1), rate_scale=(0.001, 1.0))
    config = Sweep(Subject(SYNTHETIC, str(data)), space, rungs=(4,))
    if os.environ.get("SWEEP_DEMO"):
        config = replace(SWEEP["demo"], subject=Subject(SYNTHETIC, str(demo_video(tmp_path, "held"))))
    began = time.monotonic()
    early = sweep(config, tmp_path / "early")
    seconds = time.monotonic() - began
    statuses = [row["status"] for row in early.rows]
    print(f"{len(statuses)} settings, {statuses.count(Status.STOPPED)} stopped, {seconds:.0f} s")
    assert len(statuses) >= 12
    assert Status.STOPPED in statuses
    if os.environ.get("SWEEP_DEMO"):
        assert seconds < 600
    shutil.copytree(tmp_path / "early" / TRIALS, tmp_path / "all" / TRIALS)
    everything = replace(config, stop_early=False)
    run_folder.claim(tmp_path / "all", everything)
    exhaustive = sweep(everything, tmp_path / "all")
    assert {row["status"] for row in exhaustive.rows} == {Status.COMPLETE}
    # What a front holds depends on measured times, which two runs never share; the steps T are the cost that they do.
    finished = {row["name"]: row for row in early.rows if row["status"] == Status.COMPLETE}
    for row in exhaustive.front:
        scores = _scores(config, tmp_path / "all", row["name"])
        assert row["name"] in finished or any(
            other["T"] <= row["T"] and not clearly_better(scores, _scores(config, tmp_path / "all", name))
            for name, other in finished.items()
        )


def _scores(config: Sweep, folder: Path, name: str) -> list[float]:
    """J&F of every object of a setting, in the order of the sequences' names."""
    inputs = digest(config.subject.checkpoint, open_dataset(config.subject.data).hash)
    entries = Journal(folder / TRIALS / name, inputs).entries()
    return [one.scores.j_and_f for key in sorted(entries) for one in entries[key].results[0].objects]
