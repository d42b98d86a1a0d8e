"""SIGKILL in the middle of a training on two workers; the same command then gives the bits of an uninterrupted run."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from mlflow import MlflowClient

from cluster.tracking.run import RUN_FILE
from cluster.training.config import MetaTraining
from eosvos.config import to_dict

pytestmark = pytest.mark.slow

JOB = Path(__file__).parents[2] / "jobs" / "meta_train.py"
STEPS, CHECKPOINT_EVERY, KILL_AT = 30, 5, 12


@pytest.fixture
def whole(training: MetaTraining) -> MetaTraining:
    """The configuration of a run that is not interrupted."""
    outer = replace(training.outer, steps=STEPS, clip_norm=10.0, rates_clip_norm=0.3, average=0.8)
    return replace(training, workers=2, checkpoint_every=CHECKPOINT_EVERY, outer=outer)


@pytest.fixture
def command(whole: MetaTraining, tmp_path: Path) -> list[str]:
    config = tmp_path / "config.json"
    config.write_text(json.dumps(to_dict(whole)))
    return [sys.executable, str(JOB), "--config", str(config), "--out"]


def _environment(tmp_path: Path) -> dict[str, str]:
    own = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    return own | {"MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path / 'mlflow.db'}"}


def _finish(command: list[str], tmp_path: Path) -> str:
    done = subprocess.run(command, capture_output=True, text=True, env=_environment(tmp_path), check=False, timeout=400)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def _kill_at(step: int, command: list[str], folder: Path, tmp_path: Path) -> None:
    """Starts the command, kills its process (and nothing else) after ``step``, and waits for all that it started.

    The workers, which end some time after their driver, are stopped: a fast machine would be through with all steps.
    """
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=_environment(tmp_path)
    )
    try:
        deadline = time.monotonic() + 300
        while len(_losses(folder)) < step:
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.02)
        started = set(_descendants(process.pid))
        workers = {pid for pid, name in started if "RayTrainWorker" in name}
        for pid in workers:
            os.kill(pid, signal.SIGSTOP)
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    assert workers
    while alive := {pid for pid, _ in started if Path(f"/proc/{pid}").exists()}:
        assert time.monotonic() < deadline, f"still alive: {alive}"
        if alive <= workers:
            for pid in alive:
                with contextlib.suppress(ProcessLookupError):  # it has just ended
                    os.kill(pid, signal.SIGCONT)
        time.sleep(0.1)


def _descendants(pid: int) -> Iterator[tuple[int, str]]:
    children: dict[int, list[tuple[int, str]]] = {}
    for path in Path("/proc").glob("[0-9]*"):
        try:
            name, rest = (path / "stat").read_text().rsplit(")", 1)
            command = (path / "cmdline").read_text().replace("\0", " ")
        except OSError:  # it has just ended
            continue
        children.setdefault(int(rest.split()[1]), []).append((int(path.name), f"{name} {command}"))
    waiting = [pid]
    while waiting:
        own = children.get(waiting.pop(), [])
        yield from own
        waiting += [child for child, _ in own]


def _losses(folder: Path) -> dict[int, tuple[float, float, float]]:
    """Step -> what was computed there, without the time that it took; whole lines only."""
    path = folder / "progress.jsonl"
    lines = path.read_text().split("\n")[:-1] if path.is_file() else []
    return {row["step"]: (row["loss_at_0"], row["loss_at_T"], row["mean_rate"]) for row in map(json.loads, lines)}


def test_a_killed_run_goes_on_bit_for_bit(command: list[str], tmp_path: Path) -> None:
    killed = tmp_path / "killed"
    _kill_at(KILL_AT, [*command, str(killed)], killed, tmp_path)
    before = _losses(killed)
    assert KILL_AT <= max(before) < STEPS
    run = (killed / RUN_FILE).read_text()

    printed = _finish([*command, str(killed)], tmp_path)
    resumed_at = int(printed.split("resuming at outer step ")[1].split(",")[0])
    assert CHECKPOINT_EVERY <= resumed_at <= max(before)
    assert resumed_at % CHECKPOINT_EVERY == 0
    reference = tmp_path / "whole"
    _finish([*command, str(reference)], tmp_path)

    losses, expected = _losses(killed), _losses(reference)
    assert sorted(losses) == sorted(expected) == list(range(1, STEPS + 1))
    assert losses == expected
    assert {step: expected[step] for step in before} == before
    state = [f"checkpoints/step-{STEPS:06d}{kind}.safetensors" for kind in ("", ".optimizer", ".average")]
    for name in ("last.safetensors", *state):
        assert (killed / name).read_bytes() == (reference / name).read_bytes()
    assert sorted(path.name for path in killed.rglob("*")) == sorted(path.name for path in reference.rglob("*"))

    assert (killed / RUN_FILE).read_text() == run
    uri, run_id = run.split()
    client = MlflowClient(uri)
    assert client.get_run(run_id).info.status == "FINISHED"
    logged = sorted((metric.step, metric.value) for metric in client.get_metric_history(run_id, "loss_at_T"))
    assert logged == [(step, loss_at_T) for step, (_, loss_at_T, _) in sorted(expected.items())]  # each step once
