"""SIGKILL of an evaluation's driver and of a task's process, MLflow's server gone: no result is lost or made twice."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from rich.console import Console

from cluster.config import Evaluation, MetaTraining
from cluster.evaluation import evaluate
from cluster.tracking import RUN_FILE
from eosvos.data.parquet import encode
from eosvos.data.readers.synthetic import SyntheticSettings, synthetic
from eosvos.learning.optimization import Optimization, save
from eosvos.learning.rates import RatesConfig, initial_rates
from eosvos.metrics.table import Row
from eosvos.model.weights import initial_model

pytestmark = pytest.mark.slow

JOB = Path(__file__).parents[2] / "jobs" / "evaluate.py"
SEQUENCES = 8
MEASURES = ("sequence", "object", "T", "j_mean", "f_mean", "j_decay")


@pytest.fixture(scope="module")
def folder(training: MetaTraining, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``held``, eight sequences that take a second or so each; ``meta.safetensors``."""
    folder = tmp_path_factory.mktemp("interrupted")
    encode(synthetic("held", SEQUENCES, SyntheticSettings(size=64, frames=12)), folder / "held", {"made": "for tests"})
    model, _ = initial_model(training.model, "none", 3)
    rates = initial_rates(model, RatesConfig(initial_rate=0.01))
    save(Optimization(training.model, model.state_dict(), rates), folder / "meta.safetensors")
    return folder


@pytest.fixture(scope="module")
def whole(folder: Path, ray_here: None) -> tuple[Evaluation, list[Row], float]:
    """An evaluation that nothing interrupts, what it found, and the seconds that it took."""
    evaluation = Evaluation(folder / "meta.safetensors", str(folder / "held"), folder / "whole", T=(0, 10))
    start = time.monotonic()
    rows = evaluate(evaluation, Console(quiet=True)).rows
    return evaluation, rows, time.monotonic() - start


def _scores(rows: list[Row]) -> list[tuple[object, ...]]:
    return [tuple(row[name] for name in MEASURES) for row in rows]


def _entries(out: Path) -> dict[str, int]:
    """Sequence -> when its entry was written."""
    return {path.stem: path.stat().st_mtime_ns for path in (out / "journal").glob("*.json")}


def _when(condition: Callable[[], bool], then: Callable[[], object]) -> threading.Thread:
    def watch() -> None:
        deadline = time.monotonic() + 120
        while not condition() and time.monotonic() < deadline:
            time.sleep(0.02)
        then()

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    return thread


def _logged(uri: str, out: Path) -> list[tuple[str, int, float]]:
    client, run_id = MlflowClient(uri), (out / RUN_FILE).read_text().split()[1]
    names = sorted(name for name in client.get_run(run_id).data.metrics if not name.startswith("system/"))
    return sorted((m.key, m.step, m.value) for name in names for m in client.get_metric_history(run_id, name))


def _without_times(logged: list[tuple[str, int, float]]) -> list[tuple[str, int, float]]:
    return [entry for entry in logged if not entry[0].endswith("fps")]


def test_the_driver_is_killed(whole: tuple[Evaluation, list[Row], float], tracking: str, folder: Path) -> None:
    evaluation, expected, _ = whole
    out = folder / "driver"
    command = [sys.executable, str(JOB), "--checkpoint", str(evaluation.checkpoint), "--data", evaluation.data]
    command += ["--out", str(out), "-T", "0", "10"]
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _when(lambda: len(_entries(out)) >= 2, lambda: os.kill(process.pid, signal.SIGKILL)).join()
    assert process.wait() == -signal.SIGKILL
    before = _entries(out)
    assert 2 <= len(before) < SEQUENCES
    rows = evaluate(replace(evaluation, out=out), Console(quiet=True)).rows
    assert {name: written for name, written in _entries(out).items() if name in before} == before
    assert _scores(rows) == _scores(expected)
    assert evaluation.out is not None
    assert _without_times(_logged(tracking, out)) == _without_times(_logged(tracking, evaluation.out))
    assert len(_logged(tracking, out)) == len(_logged(tracking, evaluation.out))


def test_a_tasks_process_is_killed(whole: tuple[Evaluation, list[Row], float], folder: Path) -> None:
    """Ray runs the sequence in flight again; nothing else is."""
    evaluation, expected, _ = whole
    out, killed = folder / "worker", list[int]()

    def kill() -> None:
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            if path.read_bytes().startswith(b"ray::evaluate_sequence"):
                killed.append(int(path.parent.name))
                os.kill(killed[0], signal.SIGKILL)
                return

    watch = _when(lambda: len(_entries(out)) >= 2, kill)
    rows = evaluate(replace(evaluation, out=out), Console(quiet=True)).rows
    watch.join()
    assert len(killed) == 1
    assert len(_entries(out)) == SEQUENCES
    assert _scores(rows) == _scores(expected)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[str, Callable[[], None], Callable[[], None]]]:
    """MLflow's server: its address, and how to start and to kill it."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    uri = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "mlflow", "server", "--port", str(port), "--workers", "1"]
    command += [
        "--backend-store-uri",
        f"sqlite:///{tmp_path / 'server.db'}",
        "--artifacts-destination",
        str(tmp_path / "a"),
    ]
    running: list[subprocess.Popen[bytes]] = []

    def start() -> None:
        with (tmp_path / "server.log").open("ab") as log:
            running.append(subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True))
        deadline = time.monotonic() + 120
        while True:
            try:
                MlflowClient(uri).search_experiments()
                return
            except MlflowException:
                assert time.monotonic() < deadline, (tmp_path / "server.log").read_text()
                time.sleep(0.5)

    def kill() -> None:
        for process in running:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        running.clear()

    start()
    yield uri, start, kill
    kill()


def test_mlflow_dies_in_the_middle(
    whole: tuple[Evaluation, list[Row], float],
    server: tuple[str, Callable[[], None], Callable[[], None]],
    tracking: str,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    evaluation, expected, seconds = whole
    uri, start, kill = server
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    out = folder / "mlflow"
    watch = _when(lambda: len(_entries(out)) >= 3, kill)
    began = time.monotonic()
    rows = evaluate(replace(evaluation, out=out), Console(soft_wrap=True)).rows
    took = time.monotonic() - began
    watch.join()
    printed = capsys.readouterr().out
    assert f"MLflow does not answer at {uri}: not all is logged; the same command again logs the rest" in printed
    assert _scores(rows) == _scores(expected)
    print(f"{seconds:.1f} s without a death, {took:.1f} s with one")
    assert took <= seconds + 30
    start()
    entries = _entries(out)
    assert _scores(evaluate(replace(evaluation, out=out), Console(quiet=True)).rows) == _scores(expected)
    assert _entries(out) == entries
    assert evaluation.out is not None
    monkeypatch.setenv("MLFLOW_TRACKING_URI", tracking)
    assert _without_times(_logged(uri, out)) == _without_times(_logged(tracking, evaluation.out))
    assert len(_logged(uri, out)) == len(_logged(tracking, evaluation.out))
    run = MlflowClient(uri).get_run((out / RUN_FILE).read_text().split()[1])
    assert run.info.status == "FINISHED"
    assert {file.path for file in MlflowClient(uri).list_artifacts(run.info.run_id)} >= {"objects.csv", "overview.png"}
