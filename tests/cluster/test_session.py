"""Which resources a training takes, which cluster it connects to, and bad input found in what Ray raises."""

import os

import pytest
import ray
from ray._private.runtime_env.constants import RAY_JOB_CONFIG_JSON_ENV_VAR
from ray.util.state import list_nodes

from cluster import session
from cluster.session import bad_input_in, connect, worker_resources
from eosvos.errors import BadInput
from eosvos.paths import is_submitted_job


@pytest.mark.parametrize(
    ("cpus", "workers", "worker", "stream"),
    [
        (2, 1, 1.0, 1.0),
        (2, 2, 0.5, 0.5),  # two cores are enough for two workers and their streams
        (2, 4, 0.25, 0.25),
        (16, 4, 1.0, 3.0),
    ],
)
def test_workers_leave_a_share_for_their_streams(
    monkeypatch: pytest.MonkeyPatch, cpus: float, workers: int, worker: float, stream: float
) -> None:
    monkeypatch.setattr(ray, "cluster_resources", lambda: {"CPU": cpus, "GPU": 4.0})
    resources = worker_resources(workers, gpu=False)
    assert (resources.worker, resources.stream_cpus) == ({"CPU": worker}, stream)
    assert workers * (worker + stream) <= cpus
    assert worker_resources(workers, gpu=True).worker == {"CPU": worker, "GPU": 1.0}


def test_a_cluster_that_is_too_small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray, "cluster_resources", lambda: {"CPU": 2.0})
    with pytest.raises(BadInput, match=r"--workers 5: the cluster has 2 CPUs, which is too few; ask for fewer workers"):
        worker_resources(5, gpu=False)
    with pytest.raises(BadInput, match=r"--workers 1 --gpu: the cluster has 0 GPUs"):
        worker_resources(1, gpu=True)


def test_no_cluster_at_the_address(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**options: object) -> None:
        raise ConnectionError("nobody there")

    monkeypatch.setattr(session.ray, "is_initialized", lambda: False)
    monkeypatch.setattr(session.ray, "init", refuse)
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    with pytest.raises(BadInput, match=r"RAY_ADDRESS=10\.0\.0\.1:6379: no Ray cluster answers there \(nobody there\)"):
        connect()


@pytest.mark.usefixtures("ray_here")
def test_workers_know_the_cluster_that_this_process_started() -> None:
    """Ray's own calls without an address, in its actors as well, never ask another cluster on this machine."""
    here = ray.get_runtime_context()
    named, nodes = ray.get(
        ray.remote(lambda: (os.environ["RAY_ADDRESS"], [each.node_id for each in list_nodes()])).remote()
    )
    assert named == here.gcs_address
    assert nodes == [here.get_node_id()]  # as its dashboard says, not one that listens where it would


def test_a_submitted_job_is_told_by_the_variable_that_ray_sets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(RAY_JOB_CONFIG_JSON_ENV_VAR, raising=False)
    assert not is_submitted_job()
    monkeypatch.setenv(RAY_JOB_CONFIG_JSON_ENV_VAR, "{}")
    assert is_submitted_job()


def _raise_bad_input() -> None:
    try:
        raise OSError("the disk")
    except OSError as error:
        raise BadInput("a.jpg: not readable; replace it") from error


def test_bad_input_in_a_task(ray_here: None) -> None:
    with pytest.raises(BadInput) as caught:
        ray.get(ray.remote(num_cpus=0)(_raise_bad_input).remote())
    assert "\n" in str(caught.value)  # as Ray tells it, with a traceback
    assert str(bad_input_in(caught.value)) == "a.jpg: not readable; replace it"


def test_bad_input_behind_other_errors() -> None:
    with pytest.raises(BadInput) as caught:
        _raise_bad_input()
    assert str(bad_input_in(caught.value)) == "a.jpg: not readable; replace it"
    wrapped = RuntimeError("the worker failed")
    wrapped.__cause__ = caught.value
    assert str(bad_input_in(wrapped)) == "a.jpg: not readable; replace it"
    assert bad_input_in(RuntimeError("a bug")) is None
    assert bad_input_in(None) is None
