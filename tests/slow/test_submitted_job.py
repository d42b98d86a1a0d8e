"""`ray job submit` against a cluster of two nodes on this machine: it resumes, also after the code was edited."""

import contextlib
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from mlflow import MlflowClient
from PIL import Image

from cluster.tracking.run import RUN_FILE
from cluster.training import checkpoints
from cluster.training.config import MetaTraining
from eosvos.config import to_dict
from eosvos.data.palette import encode_mask
from eosvos.data.readers.synthetic import SyntheticSettings, synthetic

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
STEPS, CHECKPOINT_EVERY, HELD_AT = 12, 4, 6
"""The first job is held after so many steps, so that however fast the machine is, some are left for the second."""


@pytest.fixture
def code(tmp_path: Path) -> Path:
    """A copy of the code, to be edited."""
    for name in ("eosvos", "cluster", "jobs"):
        shutil.copytree(ROOT / name, tmp_path / "code" / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("runtime_env.yaml", "pyproject.toml", ".gitignore"):
        shutil.copyfile(ROOT / name, tmp_path / "code" / name)
    return tmp_path / "code"


@pytest.fixture
def ray_command(code: Path) -> Iterator[Callable[..., subprocess.CompletedProcess[str]]]:
    """Runs ``ray job ARGUMENTS`` in ``code``, against two nodes with a CPU each and with token authentication."""
    temporary = Path(tempfile.mkdtemp(prefix="ray-", dir="/tmp"))  # the paths of sockets must be short
    head, dashboard = _free_port(), _free_port()
    own = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "MLFLOW_", "PYTHONPATH"))}
    own |= {"PATH": f"{BIN}:{own['PATH']}", "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    start = ["ray", "start", "--block", "--num-cpus=1", "--disable-usage-stats", "--dashboard-agent-listen-port=0"]
    node_0 = [*start, "--head", f"--port={head}", f"--dashboard-port={dashboard}", f"--temp-dir={temporary}/0"]
    # A folder of its own, as on a machine of its own: else it replaces the head's copy of the code by its own.
    node_1 = [*start, f"--address=127.0.0.1:{head}", f"--temp-dir={temporary}/1"]
    nodes: list[subprocess.Popen[bytes]] = []
    try:
        with (temporary / "start.log").open("wb") as log:
            for command, port in ((node_0, dashboard), (node_1, None)):
                nodes.append(subprocess.Popen(command, env=own, stdout=log, stderr=log, start_new_session=True))
                _wait(lambda port=port: port is None or _answers(port), 300, "the dashboard answers")

        def run(*arguments: object) -> subprocess.CompletedProcess[str]:
            command = ["ray", "job", arguments[0], "--address", f"http://127.0.0.1:{dashboard}", *arguments[1:]]
            return subprocess.run(
                list(map(str, command)), cwd=code, env=own, capture_output=True, text=True, check=False, timeout=300
            )

        yield run
    finally:
        for node in nodes:  # each a session of its own, so that no other Ray on this machine is hit
            os.killpg(node.pid, signal.SIGKILL)
            node.wait()
        sessions = {node.pid for node in nodes}
        _wait(lambda: not sessions & _sessions(), 60, "all processes of the cluster have ended")
        shutil.rmtree(temporary, ignore_errors=True)


def _sessions() -> set[int]:
    """The session of every process on this machine."""
    found = set()
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it has just ended
            found.add(int(path.read_text().rpartition(")")[2].split()[3]))
    return found


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def _answers(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


def _wait(condition: Callable[[], bool], seconds: float, what: str) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"in vain until {what}"
        time.sleep(0.05)


def _edit(path: Path, before: str, after: str) -> None:
    text = path.read_text()
    assert text.count(before) == 1
    path.write_text(text.replace(before, after))


def test_a_submitted_job_resumes_with_edited_code(
    ray_command: Callable[..., subprocess.CompletedProcess[str]], code: Path, training: MetaTraining, tmp_path: Path
) -> None:
    out, progress = tmp_path / "run", tmp_path / "run" / "progress.jsonl"
    outer = replace(training.outer, steps=STEPS)
    config = replace(training, workers=2, checkpoint_every=CHECKPOINT_EVERY, outer=outer)
    (tmp_path / "config.json").write_text(json.dumps(to_dict(config)))
    working_dir = ("--working-dir", ".", "--runtime-env", "runtime_env.yaml")
    train = ("--", "python", "jobs/meta_train.py", "--config", tmp_path / "config.json", "--out", out)

    # As it comes, runtime_env.yaml has no tracking address.
    refused = ray_command("submit", *working_dir, *train)
    assert refused.returncode != 0
    assert "error: MLFLOW_TRACKING_URI=: a submitted job runs in a throw-away copy of the code" in refused.stdout
    assert not out.exists()

    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    _edit(code / "runtime_env.yaml", 'MLFLOW_TRACKING_URI: ""', f"MLFLOW_TRACKING_URI: {uri}")
    worker, hold = code / "cluster" / "training" / "worker.py", "        total.clear()\n"
    _edit(worker, hold, f"        while done > {HELD_AT}:\n            time.sleep(0.1)\n{hold}")
    submitted = ray_command("submit", "--no-wait", "--submission-id", "first", *working_dir, *train)
    assert submitted.returncode == 0, submitted.stdout + submitted.stderr
    _wait(lambda: progress.is_file() and progress.read_text().count("\n") == HELD_AT, 200, "the first job is held")
    stopped = ray_command("stop", "first")
    assert stopped.returncode == 0, stopped.stdout + stopped.stderr
    checkpoint = checkpoints.latest(out)
    assert checkpoint == CHECKPOINT_EVERY
    run = (out / RUN_FILE).read_text()

    _edit(
        code / "cluster/training/driver.py", "    connect()\n", '    connect()\n    log.info("edited on the driver")\n'
    )
    _edit(worker, f"while done > {HELD_AT}:", "while False:")
    _edit(worker, '{"step": done,', '{"edited": 1.0, "step": done,')
    again = ray_command("submit", "--submission-id", "second", *working_dir, *train)
    assert again.returncode == 0, again.stdout + again.stderr
    assert "edited on the driver" in again.stdout
    assert f"resuming at outer step {checkpoint}, in {out}" in again.stdout
    assert f"step {STEPS}/{STEPS}" in again.stdout
    assert f"last checkpoint: {out / 'last.safetensors'}" in again.stdout

    rows = [json.loads(line) for line in progress.read_text().splitlines()]
    assert [row["step"] for row in rows] == list(range(1, STEPS + 1))
    assert ["edited" in row for row in rows] == [step > checkpoint for step in range(1, STEPS + 1)]
    assert (out / RUN_FILE).read_text() == run
    logged = MlflowClient(uri).get_metric_history(run.split()[1], "loss_at_T")
    assert {metric.step for metric in logged} == set(range(1, STEPS + 1))

    # What was trained segments a video, also in a job.
    (sequence,) = synthetic("held", 1, SyntheticSettings(size=64, frames=3))
    (tmp_path / "clip").mkdir()
    for position, name in enumerate(sequence.frame_names):
        image, mask = sequence.frame(position)
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(tmp_path / "clip" / f"{name}.png")
        if position == 0 and mask is not None:
            (tmp_path / "first.png").write_bytes(encode_mask(mask))
    segment = ("--", "python", "jobs/segment.py", "--checkpoint", out / "last.safetensors", "-T", 1, "--video")
    segment = (*segment, tmp_path / "clip", "--mask", tmp_path / "first.png", "--out", tmp_path / "segmented")
    segmented = ray_command("submit", *working_dir, *segment)
    assert segmented.returncode == 0, segmented.stdout + segmented.stderr
    assert len(list((tmp_path / "segmented" / "masks").iterdir())) == 3
