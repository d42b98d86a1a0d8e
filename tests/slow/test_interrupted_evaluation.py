"""SIGKILL of an evaluation's driver and of a task's process, MLflow's server gone: no result is lost or made twice."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from cluster.tracking.run import RUN_FILE
from cluster.training.config import MetaTraining
from eosvos.data.parquet import encode
from eosvos.data.readers.synthetic import SyntheticSettings, synthetic
from eosvos.learning.config import RatesConfig
from eosvos.learning.optimization import Optimization, save
from eosvos.learning.rates import initial_rates
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


@dataclass(frozen=True)
class Whole:
    """An evaluation that nothing interrupts: as a command, what it found, where it logged."""

    command: list[str]
    out: Path
    rows: list[Row]
    tracking: str


def _environment(uri: str) -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"} | {"MLFLOW_TRACKING_URI": uri}


def _rows(out: Path) -> list[Row]:
    rows: list[Row] = pq.read_table(out / "objects.parquet").to_pylist()
    return rows


def _run(command: list[str], out: Path, uri: str) -> str:
    """What the command prints."""
    done = subprocess.run(
        [*command, "--out", str(out)], env=_environment(uri), capture_output=True, text=True, check=False, timeout=400
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def whole(folder: Path, tracking: str) -> Whole:
    command = [sys.executable, str(JOB), "--checkpoint", str(folder / "meta.safetensors"), "--data"]
    command += [str(folder / "held"), "-T", "0", "10"]
    _run(command, folder / "whole", tracking)
    return Whole(command, folder / "whole", _rows(folder / "whole"), tracking)


def _scores(rows: list[Row]) -> list[tuple[object, ...]]:
    return [tuple(row[name] for name in MEASURES) for row in rows]


def _entries(out: Path) -> dict[str, int]:
    """Sequence -> when its entry was written."""
    return {path.stem: path.stat().st_mtime_ns for path in (out / "journal").glob("*.json")}


def _when(condition: Callable[[], bool], then: Callable[[], object] = lambda: None) -> threading.Thread:
    def watch() -> None:
        deadline = time.monotonic() + 120
        while not condition() and time.monotonic() < deadline:
            time.sleep(0.02)
        then()

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    return thread


def _logged(uri: str, out: Path) -> list[tuple[str, int, float]]:
    """Every metric as often as it is there, speeds without their value."""
    client, run_id = MlflowClient(uri), (out / RUN_FILE).read_text().split()[1]
    names = sorted(name for name in client.get_run(run_id).data.metrics if not name.startswith("system/"))
    history = [m for name in names for m in client.get_metric_history(run_id, name)]
    return sorted((m.key, m.step, 0.0 if m.key.endswith("fps") else m.value) for m in history)


def test_the_driver_is_killed(whole: Whole, folder: Path) -> None:
    out = folder / "driver"
    process = subprocess.Popen(
        [*whole.command, "--out", str(out)],
        env=_environment(whole.tracking),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    _when(lambda: len(_entries(out)) >= 2, lambda: os.kill(process.pid, signal.SIGKILL)).join()
    assert process.wait() == -signal.SIGKILL
    before = _entries(out)
    assert 2 <= len(before) < SEQUENCES
    _run(whole.command, out, whole.tracking)
    assert {name: written for name, written in _entries(out).items() if name in before} == before
    assert _scores(_rows(out)) == _scores(whole.rows)
    assert _logged(whole.tracking, out) == _logged(whole.tracking, whole.out)


def test_a_tasks_process_is_killed(whole: Whole, folder: Path) -> None:
    """The sequence in flight is tried again, and said to be; nothing else is."""
    out, killed = folder / "worker", list[int]()
    process = subprocess.Popen(
        [*whole.command, "--out", str(out)], env=_environment(whole.tracking), stdout=subprocess.PIPE, text=True
    )

    def kill() -> bool:
        """Whether there was one: between two tasks its process has another name."""
        for path in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):  # it has just ended
                if (path / "cmdline").read_bytes().startswith(b"ray::evaluate_sequence") and _descends(
                    path, process.pid
                ):
                    os.kill(int(path.name), signal.SIGKILL)
                    killed.append(int(path.name))
                    return True
        return False

    _when(lambda: len(_entries(out)) >= 2 and kill())
    printed, _ = process.communicate(timeout=400)
    assert process.returncode == 0
    assert len(killed) == 1
    assert printed.count("failed, and is tried again") == 1
    assert len(_entries(out)) == SEQUENCES
    assert _scores(_rows(out)) == _scores(whole.rows)


def _descends(path: Path, ancestor: int) -> bool:
    """Whether the process at ``path`` in /proc was started by ``ancestor``, or by one that it started."""
    while (pid := int(path.name)) > 1:
        if pid == ancestor:
            return True
        path = path.with_name((path / "stat").read_text().rsplit(")", 1)[1].split()[1])
    return False


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
        deadline = time.monotonic() + 300
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
    whole: Whole, server: tuple[str, Callable[[], None], Callable[[], None]], folder: Path
) -> None:
    uri, start, kill = server
    out = folder / "mlflow"
    watch = _when(lambda: len(_entries(out)) >= 3, kill)
    printed = _run(whole.command, out, uri)
    watch.join()
    assert f"MLflow does not answer at {uri}: not all is logged; the same command again logs the rest" in printed
    assert _scores(_rows(out)) == _scores(whole.rows)
    start()
    entries = _entries(out)
    _run(whole.command, out, uri)
    assert _entries(out) == entries
    assert _logged(uri, out) == _logged(whole.tracking, whole.out)
    run = MlflowClient(uri).get_run((out / RUN_FILE).read_text().split()[1])
    assert run.info.status == "FINISHED"
    assert {file.path for file in MlflowClient(uri).list_artifacts(run.info.run_id)} >= {"objects.csv", "report.html"}
