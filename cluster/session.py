"""Connecting to Ray, or starting it; which resources a training takes."""

import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
import yaml

from eosvos.errors import BadInput
from eosvos.paths import is_submitted_job

log = logging.getLogger(__name__)

DATA_TASK_CPUS = 0.25
"""What one task of the stream asks for; it decodes and augments, in bursts."""


@dataclass(frozen=True)
class WorkerResources:
    """Of one training worker.

    Attributes:
        worker: as Ray Train takes them.
        stream_cpus: what its stream of tasks may use.
    """

    worker: dict[str, float]
    stream_cpus: float


def connect() -> None:
    """Connects to the cluster that ``RAY_ADDRESS`` names (``ray job submit`` sets it), else starts Ray on this machine.

    Does nothing where this process is connected already.

    Raises:
        BadInput: no cluster answers at ``RAY_ADDRESS``.
    """
    if ray.is_initialized():
        return
    address = os.environ.get("RAY_ADDRESS", "local")
    runtime_env = own_cluster() if address == "local" else None
    try:
        context = ray.init(address=address, runtime_env=runtime_env, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, ValueError) as error:
        raise BadInput(
            f"RAY_ADDRESS={address}: no Ray cluster answers there ({error}); start one with `ray start --head`, or "
            "unset RAY_ADDRESS to run on this machine"
        ) from error
    log.info("Ray: %s, %g CPUs, %g GPUs", context.dashboard_url or address, total("CPU"), total("GPU"))


def own_cluster() -> dict[str, Any]:
    """The runtime environment of a Ray that this process starts: ``RAY_ADDRESS`` names it in its workers.

    Without an address Ray's state API asks the cluster that the last ``ray start`` made on this machine, be it another
    one. Ray Train's PlacementGroupCleaner does so: it would not find its training there, and end the workers.
    """

    def name_this_cluster() -> None:  # not of the module, which a new worker cannot import yet
        os.environ["RAY_ADDRESS"] = ray.get_runtime_context().gcs_address

    return {"worker_process_setup_hook": name_this_cluster}


def total(resource: str) -> float:
    """How much of ``CPU`` or ``GPU`` the cluster has in all, or will have when its autoscaler is asked for it."""
    resources: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    return max(resources.get(resource, 0.0), sum(count * each for count, each in _node_types(resource)))


def largest(resource: str) -> float:
    """How much of ``CPU`` or ``GPU`` one node has at most, or may have; a task runs on one node."""
    nodes: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
    here = [float(node["Resources"].get(resource, 0)) for node in nodes if node["Alive"]]
    return max([*here, *(each for count, each in _node_types(resource) if count > 0)])


def _node_types(resource: str) -> list[tuple[int, float]]:
    """(how many nodes at most, what each has) of every kind of node of a cluster by ``ray up``.

    Its jobs run on the head, where it leaves this file; elsewhere nothing is known of nodes to come.
    """
    path = Path("~/ray_bootstrap_config.yaml").expanduser()
    if not is_submitted_job() or not path.is_file():
        return []
    config = yaml.safe_load(path.read_text())
    return [
        (
            1 if name == config["head_node_type"] else kind.get("max_workers", config["max_workers"]),
            float(kind.get("resources", {}).get(resource, 0)),
        )
        for name, kind in config.get("available_node_types", {}).items()
    ]


def worker_resources(workers: int, gpu: bool) -> WorkerResources:
    """What each of ``workers`` training workers gets of the cluster, with a share left for its stream.

    Raises:
        BadInput: the cluster is too small.
    """
    cpus = total("CPU")
    worker_cpus = min(1.0, cpus / (2 * workers))
    if worker_cpus < DATA_TASK_CPUS:
        raise BadInput(f"--workers {workers}: the cluster has {cpus:g} CPUs, which is too few; ask for fewer workers")
    if gpu and total("GPU") < workers:
        raise BadInput(
            f"--workers {workers} --gpu: the cluster has {total('GPU'):g} GPUs; ask for fewer workers, or --no-gpu"
        )
    resources = {"CPU": worker_cpus} | ({"GPU": 1.0} if gpu else {})
    return WorkerResources(resources, max(cpus / workers - worker_cpus, DATA_TASK_CPUS))


def bad_input_in(error: BaseException | None) -> BadInput | None:
    """The bad input that an error was raised from, if any; Ray wraps what a task raises in errors of its own."""
    while error is not None:
        inner = getattr(error, "cause", None) or error.__cause__
        if isinstance(error, BadInput) and not isinstance(inner, BadInput):
            return BadInput(str(error).splitlines()[0])  # Ray Data adds lines of advice
        error = inner
    return None
