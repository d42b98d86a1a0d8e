"""What tests share: the one Ray of a run, MLflow's database, tiny videos, and one meta-training.

Two processes run the tests. One has all that needs Ray, whose start takes seconds and whose workers need the cores;
the other takes the rest.
"""

import os
import runpy
import socket
import subprocess
import sys
from collections.abc import Callable, Generator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from xdist.scheduler import LoadFileScheduling

from cluster.training.config import MetaTraining
from eosvos.data.config import PlanConfig
from eosvos.data.parquet import encode
from eosvos.data.readers.synthetic import SyntheticSettings, synthetic
from eosvos.learning.config import OuterConfig, RatesConfig
from eosvos.model.config import ModelConfig

torch.set_num_threads(1)  # Ray's workers and other processes need the cores as well


RAY = ("ray_here", "meta_run", "learned_folder", "grid_folder")
"""The fixtures that need Ray."""


class _OneRay(LoadFileScheduling):
    """Gives all files with tests that use Ray to one process, and the others, file by file, to whoever is free.

    By the names in a file, as pytest 9.2 lost the groups of pytest-xdist 3.8 (its issue 1386).
    """

    def _split_scope(self, nodeid: str) -> str:
        file = super()._split_scope(nodeid)
        text = (self.config.rootpath / file).read_text()
        return "ray" if any(name in text for name in RAY) else file


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> _OneRay:
    return _OneRay(config, log)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, None, None]:
    """Fails a test that starts a second Ray, for which two cores are too few."""
    before = _ray_runs()
    yield
    if _ray_runs() and not before:
        pytest.fail("this test starts Ray: it must use the fixture ray_here")


def _ray_runs() -> bool:
    ray = sys.modules.get("ray")
    return ray is not None and ray.is_initialized()


@pytest.fixture(scope="session")
def encoded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four sequences of three objects in three frames of 64x64; an epoch is three meta-batches of four tasks."""
    folder = tmp_path_factory.mktemp("data") / "train"
    encode(synthetic("train", 4, SyntheticSettings(size=64, frames=3)), folder, {"made": "for tests"})
    return folder


@pytest.fixture(scope="session")
def training(encoded: Path) -> MetaTraining:
    """Two outer steps on four tasks each, T = 2; the gradients are not clipped, so that they can be read off."""
    model = ModelConfig(
        backbone="tiny",
        short_side=64,
        long_side=128,
        widths=(8, 8, 8),
        fpn_channels=8,
        anchor_sizes=(16, 24, 32, 48),
        rpn_samples=32,
        proposals_train=32,
        proposals_test=16,
        roi_samples=16,
        box_head_channels=16,
        mask_head_channels=(8,),
        mask_roi_size=7,
    )
    return MetaTraining(
        data=(str(encoded),),
        backbone_weights="none",
        checkpoint_every=1,
        model=model,
        plan=PlanConfig(paste=0.5),
        outer=OuterConfig(steps=2, meta_batch=4, learning_rate=1e-3, clip_norm=1e9, rates_clip_norm=1e9),
        T=2,
        rates=RatesConfig(initial_rate=0.01),
    )


@pytest.fixture(scope="session")
def tracking(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """MLflow's address for all trainings and evaluations of the tests."""
    with pytest.MonkeyPatch.context() as patch:
        uri = f"sqlite:///{tmp_path_factory.mktemp('mlflow') / 'mlflow.db'}"
        patch.setenv("MLFLOW_TRACKING_URI", uri)
        yield uri


@pytest.fixture(scope="session")
def s3_port() -> Iterator[int]:
    """Where the server of ``s3`` listens; the environment says so, too, which Ray's workers get when Ray starts."""
    with socket.socket() as free, pytest.MonkeyPatch.context() as patch:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        patch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        patch.setenv("AWS_ACCESS_KEY_ID", "tests")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
        free.close()
        yield port


@pytest.fixture(scope="session")
def s3(s3_port: int) -> Iterator[str]:
    """The address of a bucket of a real S3 server on this machine; each test takes a folder of its own in it."""
    import boto3
    from moto.moto_server.threaded_moto_server import ThreadedMotoServer

    server = ThreadedMotoServer("127.0.0.1", s3_port, verbose=False)
    server.start()
    boto3.client("s3").create_bucket(Bucket="bucket")
    yield "s3://bucket"
    server.stop()


@pytest.fixture(scope="session")
def ray_here(tracking: str, s3_port: int) -> Iterator[None]:
    """Ray with two CPUs on this machine, for everything that runs in the tests' own process.

    With its dashboard: without, Ray gives out the address at which another Ray's may listen, and Ray Train's
    PlacementGroupCleaner, which asks there for its training and does not find it, ends the workers.
    """
    import ray

    from cluster.session import own_cluster

    if not ray.is_initialized():
        os.environ.pop("RAY_ADDRESS", None)
        ray.init(num_cpus=2, runtime_env=own_cluster(), log_to_driver=False, logging_level="ERROR")
    yield
    ray.shutdown()


@pytest.fixture(scope="session")
def meta_training(training: MetaTraining) -> MetaTraining:
    """``training`` by two workers, with a validation on one of the four sequences after each of the two steps."""
    validated = replace(training, workers=2, held_out=0.25, validate_every=1, validation_frames=3)
    return replace(validated, outer=replace(training.outer, learning_rate=0.01))


@pytest.fixture(scope="session")
def meta_run(meta_training: MetaTraining, ray_here: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of ``meta_training``, which is done; to be copied by whoever changes something there."""
    from cluster.training.driver import train

    return train(meta_training, tmp_path_factory.mktemp("trained") / "meta").parent


JOBS = Path(__file__).parents[1] / "jobs"


@pytest.fixture
def refused(tracking: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """(job, arguments) -> the line on stderr of a command that ends with exit code 2, run in this process."""

    def run(job: str, *arguments: object) -> str:
        monkeypatch.setattr(sys, "argv", [job, *map(str, arguments)])
        with pytest.raises(SystemExit) as left:
            runpy.run_path(str(JOBS / f"{job}.py"), run_name="__main__")
        assert left.value.code == 2
        return _one_line(capsys.readouterr().err)

    return run


@pytest.fixture
def refused_alone(tracking: str) -> Callable[..., str]:
    """As ``refused``, in a process of its own, with whatever Ray and MLflow may print there."""

    def run(job: str, *arguments: object) -> str:
        command = [sys.executable, str(JOBS / f"{job}.py"), *map(str, arguments)]
        environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
        done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False, timeout=300)
        assert done.returncode == 2, done.stderr
        return _one_line(done.stderr)

    return run


def _one_line(stderr: str) -> str:
    assert stderr.startswith("error: ")
    assert stderr.count("\n") == 1
    return stderr.removeprefix("error: ").rstrip("\n")
