"""The one module that writes to MLflow."""

import json
import logging
import os
import re
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, RunTag
from mlflow.exceptions import MlflowException
from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

from cluster.tracking.registry import register
from eosvos.errors import BadInput
from eosvos.files import write_whole
from eosvos.paths import is_submitted_job

for _name in ("mlflow.store.db.utils", "mlflow.system_metrics"):  # each table of a new database; that there is no GPU
    logging.getLogger(_name).setLevel(logging.WARNING)

# Without these a request to a server that is gone takes minutes. MLflow knows them by the environment alone.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")

RUN_FILE = "mlflow_run"
"""In a run's folder: the address of the tracking server and the id of its MLflow run."""


def tracking_uri() -> str:
    """Where MLflow's data goes: ``MLFLOW_TRACKING_URI``, else a SQLite file below ``runs``.

    Raises:
        BadInput: a submitted job, whose working directory is thrown away, with no address or a relative one.
    """
    uri = os.environ.get("MLFLOW_TRACKING_URI", "")
    is_absolute = uri.startswith("sqlite:////") or ("://" in uri and not uri.startswith("sqlite:"))
    if is_submitted_job() and not is_absolute:
        raise BadInput(
            f"MLFLOW_TRACKING_URI={uri}: a submitted job runs in a throw-away copy of the code; set an absolute "
            "address, such as http://HOST:5000 or sqlite:////shared/mlflow.db, in its runtime environment's env_vars"
        )
    return uri or f"sqlite:///{_local_folder() / 'mlflow.db'}"


def _local_folder() -> Path:
    return Path("runs").resolve()


def check_answers(uri: str) -> None:
    """Finds a wrong address before the work begins that later goes on without one.

    Raises:
        BadInput: no tracking server answers at ``uri``.
    """
    with _bad_address(uri):
        _client(uri).search_experiments(max_results=1)


def _client(uri: str) -> MlflowClient:
    """Of a server, or of a database file, whose folder is made."""
    if uri.startswith("sqlite:///"):
        Path(uri.removeprefix("sqlite:///")).parent.mkdir(parents=True, exist_ok=True)
    return MlflowClient(uri)


@contextmanager
def _bad_address(uri: str) -> Iterator[None]:
    """Raises BadInput in place of MLflow's errors."""
    try:
        yield
    except MlflowException as error:
        raise BadInput(f"{uri}: MLflow cannot be used there ({error.message}); check MLFLOW_TRACKING_URI") from error


GONE = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")
"""MLflow's codes for a run that is not there, or is deleted."""


class Tracker:
    """One MLflow run, continued by whoever works in the same run folder again."""

    def __init__(self, uri: str, experiment: str, name: str, folder: Path, params: Mapping[str, Any]) -> None:
        """Opens the run that ``folder`` remembers at ``uri``, or a new one.

        Raises:
            BadInput: no tracking server answers at ``uri``.
        """
        if uri.startswith("sqlite:///"):
            uri = f"sqlite:///{Path(uri.removeprefix('sqlite:///')).resolve()}"
        folder.mkdir(parents=True, exist_ok=True)
        with _bad_address(uri):
            self._client = _client(uri)
            self.run_id = self._resumed(folder, uri) or self._new(uri, experiment, name, folder)
            if not self._client.get_run(self.run_id).data.params:
                parameters = [Param(key, str(value)) for key, value in params.items()]
                self._client.log_batch(self.run_id, params=parameters)
        self._system: SystemMetricsMonitor | None = None
        self._uri, self._experiment_name = uri, experiment

    def child(self, name: str, folder: Path, params: Mapping[str, Any]) -> "Tracker":
        """A run below this one, as MLflow's UI shows it; continued as this one is, by what ``folder`` remembers."""
        child = Tracker(self._uri, self._experiment_name, name, folder, params)
        child.tags({"mlflow.parentRunId": self.run_id})
        return child

    def watch_system(self) -> None:
        """Logs what this machine's processors, memory, disk and network do, every ten seconds until ``end``."""
        self._system = SystemMetricsMonitor(  # type: ignore[no-untyped-call]
            self.run_id, resume_logging=True, tracking_uri=self._uri
        )
        self._system.start()  # type: ignore[no-untyped-call]

    def stop_watching(self) -> None:
        """Ends what ``watch_system`` began."""
        if self._system is not None:
            self._system.finish()  # type: ignore[no-untyped-call]
            self._system = None

    def _resumed(self, folder: Path, uri: str) -> str | None:
        remembered = folder / RUN_FILE
        if not remembered.is_file():
            return None
        known_uri, _, run_id = remembered.read_text().strip().rpartition(" ")
        if known_uri != uri:
            return None
        try:
            self._client.set_terminated(run_id, "RUNNING")
        except MlflowException as error:
            if error.error_code not in GONE:
                raise
            return None  # the server was emptied, or the run deleted there; start a new one
        return run_id

    def _new(self, uri: str, experiment: str, name: str, folder: Path) -> str:
        """Remembered at once, so that it is continued where the server goes away before the next request."""
        experiment_id = self._experiment(uri, experiment)
        run_id: str = self._client.create_run(experiment_id, run_name=name).info.run_id
        write_whole(folder / RUN_FILE, f"{uri} {run_id}\n".encode())
        return run_id

    def _experiment(self, uri: str, name: str) -> str:
        known = self._client.get_experiment_by_name(name)
        if known is not None:
            return str(known.experiment_id)
        local = uri.startswith("sqlite:///")
        artifacts = Path(uri.removeprefix("sqlite:///")).parent / "mlflow_artifacts" / name if local else None
        try:
            return str(self._client.create_experiment(name, artifacts.as_uri() if artifacts else None))
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
            return self._experiment(uri, name)  # somebody made it just now

    def metrics(self, rows: Iterable[tuple[int, Mapping[str, float]]], timestamp: int | None = None) -> None:
        """Logs (step, name -> value) rows.

        Args:
            rows: values that are not finite are left out by MLflow's rules; characters that it does not take in a name
                become ``_``.
            timestamp: milliseconds since 1970, the time of the call by default. MLflow keeps what is logged again with
                the same one, step and value only once.
        """
        now = int(time.time() * 1000) if timestamp is None else timestamp
        batch = [
            Metric(re.sub(r"[^\w\-. /:]", "_", name), float(value), now, step)
            for step, row in rows
            for name, value in row.items()
        ]
        for start in range(0, len(batch), 1000):  # MLflow's limit for one request
            self._client.log_batch(self.run_id, metrics=batch[start : start + 1000])

    def last_step(self, name: str) -> int:
        """The newest step at which the metric ``name`` is logged, 0 where it is not."""
        return max((metric.step for metric in self._client.get_metric_history(self.run_id, name)), default=0)

    def tags(self, tags: Mapping[str, str]) -> None:
        """Sets tags."""
        self._client.log_batch(self.run_id, tags=[RunTag(key, value) for key, value in tags.items()])

    def dataset(self, uri: str, digest: str, context: str) -> None:
        """Says which data the run works on.

        Args:
            uri: of the encoded dataset.
            digest: its hash.
            context: what for, such as ``training``.
        """
        scheme, has_scheme, _ = uri.partition("://")
        data = Dataset(
            name=uri.rstrip("/").rsplit("/", 1)[-1],
            digest=digest[:36],  # MLflow takes no more
            # As mlflow.data reads it back.
            source_type=scheme if has_scheme and scheme != "file" else "local",
            source=json.dumps({"uri": uri}),
        )
        self._client.log_inputs(self.run_id, [DatasetInput(data, [InputTag("mlflow.data.context", context)])])

    def register(self, model: str, artifact: str, score: float, scored_on: Mapping[str, str]) -> int:
        """As ``registry.register``, of this run."""
        return register(self._client, self.run_id, model, artifact, score, scored_on)

    def artifact(self, path: Path, folder: str | None = None) -> None:
        """Uploads a file, into a folder of the run's artifacts where one is named."""
        self._client.log_artifact(self.run_id, str(path), folder)

    def end(self, *, failed: bool = False) -> None:
        """Marks the run as finished or failed."""
        self.stop_watching()
        self._client.set_terminated(self.run_id, "FAILED" if failed else "FINISHED")


def one_line(error: Exception) -> str:
    """What an error says, in at most 200 characters."""
    return " ".join(str(error).split())[:200]
