"""The one module that writes to MLflow."""

import logging
import os
import queue
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, RunTag
from mlflow.exceptions import MlflowException
from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

from cluster.session import is_submitted_job
from eosvos.errors import BadInput

logging.getLogger("mlflow.store.db.utils").setLevel(logging.WARNING)  # it reports each table of a new database

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


BEST_ALIAS = "best"
"""Of the version of a registered model with the highest score."""


class Tracker:
    """One MLflow run, continued by whoever works in the same run folder again."""

    def __init__(
        self, uri: str, experiment: str, name: str, folder: Path, params: Mapping[str, Any], *, resume: bool = True
    ) -> None:
        """Opens the run that ``folder`` remembers at ``uri``, or a new one; without ``resume`` always a new one.

        Raises:
            BadInput: no tracking server answers at ``uri``.
        """
        if uri.startswith("sqlite:///"):
            Path(uri.removeprefix("sqlite:///")).parent.mkdir(parents=True, exist_ok=True)
        try:
            self._client = MlflowClient(uri)
            self.run_id = (self._resumed(folder, uri) if resume else None) or self._new(uri, experiment, name, params)
        except MlflowException as error:
            raise BadInput(
                f"{uri}: MLflow cannot be used there ({error.message}); check MLFLOW_TRACKING_URI"
            ) from error
        folder.mkdir(parents=True, exist_ok=True)
        (folder / RUN_FILE).write_text(f"{uri} {self.run_id}\n")
        self._system: SystemMetricsMonitor | None = None
        self._uri = uri

    def watch_system(self) -> None:
        """Logs what this machine's processors, memory, disk and network do, every ten seconds until ``end``."""
        self._system = SystemMetricsMonitor(  # type: ignore[no-untyped-call]
            self.run_id, resume_logging=True, tracking_uri=self._uri
        )
        self._system.start()  # type: ignore[no-untyped-call]

    def _resumed(self, folder: Path, uri: str) -> str | None:
        remembered = folder / RUN_FILE
        if not remembered.is_file():
            return None
        known_uri, _, run_id = remembered.read_text().strip().rpartition(" ")
        if known_uri != uri:
            return None
        try:
            self._client.set_terminated(run_id, "RUNNING")
        except MlflowException:
            return None  # the server was emptied; start a new run
        return run_id

    def _new(self, uri: str, experiment: str, name: str, params: Mapping[str, Any]) -> str:
        known = self._client.get_experiment_by_name(experiment)
        if known is None:
            local = uri.startswith("sqlite:///")
            artifacts = Path(uri.removeprefix("sqlite:///")).parent / "mlflow_artifacts" / experiment if local else None
            experiment_id = self._client.create_experiment(experiment, artifacts.as_uri() if artifacts else None)
        else:
            experiment_id = known.experiment_id
        run_id: str = self._client.create_run(experiment_id, run_name=name).info.run_id
        self._client.log_batch(run_id, params=[Param(key, str(value)) for key, value in params.items()])
        return run_id

    def metrics(self, rows: Iterable[tuple[int, Mapping[str, float]]]) -> None:
        """Logs (step, name -> value) rows in one request; values that are not finite are left out by MLflow's rules."""
        now = int(time.time() * 1000)
        batch = [Metric(name, float(value), now, step) for step, row in rows for name, value in row.items()]
        for start in range(0, len(batch), 1000):  # MLflow's limit for one request
            self._client.log_batch(self.run_id, metrics=batch[start : start + 1000])

    def metrics_or_later(self, rows: list[tuple[int, Mapping[str, float]]]) -> list[tuple[int, Mapping[str, float]]]:
        """As ``metrics``, for long work that must go on without its tracking server; returns what is still to log."""
        try:
            self.metrics(rows)
        except MlflowException as error:
            print(f"MLflow does not answer; {len(rows)} rows of metrics wait ({' '.join(str(error).split())})")
            return rows
        return []

    def not_logged(self, rows: Iterable[tuple[int, Mapping[str, float]]]) -> list[tuple[int, Mapping[str, float]]]:
        """Of (step, name -> value) rows what the run does not have."""
        rows = list(rows)
        names = {name for _, row in rows for name in row}
        known = {(metric.step, name) for name in names for metric in self._client.get_metric_history(self.run_id, name)}
        left = [(step, {name: value for name, value in row.items() if (step, name) not in known}) for step, row in rows]
        return [(step, row) for step, row in left if row]

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
        # MLflow takes 36 characters of a digest.
        data = Dataset(name=uri.rstrip("/").rsplit("/", 1)[-1], digest=digest[:36], source_type="parquet", source=uri)
        self._client.log_inputs(self.run_id, [DatasetInput(data, [InputTag("mlflow.data.context", context)])])

    def register(self, model: str, artifact: str, score: float, data_hash: str) -> int:
        """Registers an artifact of the run as a new version of a model, and as its ``best`` where none is better.

        Args:
            model: name of the registered model.
            artifact: name of the file, which was uploaded.
            score: the higher the better; of versions with the same data the highest has the alias.
            data_hash: of the data that the score is of.

        Returns:
            the version; that of an earlier call where the run is registered already.
        """
        known = self._client.search_model_versions(f"run_id = '{self.run_id}'")
        if known:
            return int(known[0].version)
        try:
            self._client.create_registered_model(model)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        source = f"{self._client.get_run(self.run_id).info.artifact_uri}/{artifact}"
        tags = {"score": str(score), "data_hash": data_hash}
        version = self._client.create_model_version(model, source, self.run_id, tags)
        scores = {
            other.version: float(other.tags["score"])
            for other in self._client.search_model_versions(f"name = '{model}'")
            if other.tags.get("data_hash") == data_hash
        }
        best = max(scores, key=lambda number: (scores[number], int(number)))
        self._client.set_registered_model_alias(model, BEST_ALIAS, best)
        return int(version.version)

    def artifact(self, path: Path, folder: str | None = None) -> None:
        """Uploads a file or a folder."""
        if path.is_dir():
            self._client.log_artifacts(self.run_id, str(path), folder or path.name)
        else:
            self._client.log_artifact(self.run_id, str(path), folder)

    def end(self, *, failed: bool = False) -> None:
        """Marks the run as finished or failed."""
        if self._system is not None:
            self._system.finish()  # type: ignore[no-untyped-call]
            self._system = None
        self._client.set_terminated(self.run_id, "FAILED" if failed else "FINISHED")


class BackgroundTracker:
    """Logs in a thread, in order, so that work never waits for a server that does not answer.

    What is logged twice, after an answer that was lost or by the same command again, is there once.
    """

    def __init__(self, tracker: Tracker, retry_every: float = 2.0) -> None:
        """Retries what fails every so many seconds."""
        self._tracker, self._retry_every = tracker, retry_every
        self._waiting: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="mlflow", daemon=True)
        self._thread.start()

    def metrics(self, rows: Iterable[tuple[int, Mapping[str, float]]]) -> None:
        """As ``Tracker.metrics``, for what is not logged yet."""
        kept = list(rows)
        self._add(lambda: self._tracker.metrics(self._tracker.not_logged(kept)))

    def artifact(self, path: Path, folder: str | None = None) -> None:
        """As ``Tracker.artifact``; the file must stay until it is logged."""
        self._add(lambda: self._tracker.artifact(path, folder))

    def close(self, *, failed: bool = False, timeout: float = 20.0) -> bool:
        """Ends the run when all is logged, and waits for it.

        Returns:
            False where that took longer than ``timeout`` seconds: then the rest is not logged.
        """
        self._add(lambda: self._tracker.end(failed=failed))
        self._waiting.put(None)
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def _add(self, log: Callable[[], None]) -> None:
        self._waiting.put(log)

    def _work(self) -> None:
        answered = True
        while (log := self._waiting.get()) is not None:
            while True:
                try:
                    log()
                except (MlflowException, OSError) as error:  # requests' own are of the second kind
                    if answered:
                        print(f"MLflow does not answer, the work goes on ({' '.join(str(error).split())[:200]})")
                    answered = False
                    time.sleep(self._retry_every)
                else:
                    if not answered:
                        print("MLflow answers again")
                    answered = True
                    break
