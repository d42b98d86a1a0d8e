"""The MLflow run of a training, an evaluation, a sweep or an ablation: one way to begin it, one way to end it."""

import json
import logging
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cluster.tracking.background import SILENCE, BackgroundTracker
from cluster.tracking.run import RUN_FILE, Tracker
from eosvos.config import flattened, to_dict
from eosvos.files import write_whole

log = logging.getLogger(__name__)

INPUTS, TAGS = "mlflow_inputs", "mlflow_tags.json"
"""In a run's folder: what its results depend on, and where they come from."""
CHILDREN = "mlflow"
"""In a run's folder: the MLflow runs below its own, a folder for each."""


@dataclass(frozen=True)
class RunFacts:
    """What MLflow is told of a run when it is opened.

    Attributes:
        experiment: its name.
        name: of the run.
        config: a frozen dataclass; its fields are the run's parameters.
        inputs: what the results depend on beside the configuration; with other inputs it is another run.
        tags: where the results come from; None where nothing is computed, so that those of before hold.
        data: address, hash and purpose (``training``, ``evaluation``) of each dataset.
    """

    experiment: str
    name: str
    config: Any
    inputs: str
    tags: Mapping[str, str] | None
    data: tuple[tuple[str, str, str], ...] = ()


@contextmanager
def logged_run(uri: str, folder: Path, facts: RunFacts, silence: float = SILENCE) -> Iterator[BackgroundTracker]:
    """Logs in the background while the block works, and waits at its end until all is logged, or MLflow is silent.

    The run is that of before where the folder's results are of the same inputs. It ends as failed where the block
    raises or says so.

    Args:
        uri: of the tracking server.
        folder: of the run, in which nobody else works.
        facts: what is logged at once.
        silence: seconds without an answer after which the end does not wait.
    """
    _forget_run_of_other(facts.inputs, folder)
    tags = facts.tags
    if tags is not None:
        write_whole(folder / TAGS, json.dumps(dict(tags)).encode())
    elif (folder / TAGS).is_file():
        tags = json.loads((folder / TAGS).read_text())
    known = dict(tags or {})
    parameters = flattened(to_dict(facts.config))

    def open_run() -> Tracker:
        tracker = Tracker(uri, facts.experiment, facts.name, folder, parameters)
        log.info("MLflow: %s, run %s", uri, tracker.run_id)
        return tracker

    background = BackgroundTracker(open_run)
    background.do(lambda tracker: tracker.tags(known))
    for address, digest, purpose in facts.data:
        background.do(lambda tracker, one=(address, digest, purpose): tracker.dataset(*one))  # type: ignore[misc]
    try:
        yield background
    except BaseException:
        background.failed = True
        raise
    finally:
        if not background.close(silence):
            log.warning("MLflow does not answer at %s: not all is logged; the same command again logs the rest", uri)
        for refused in background.refused:
            log.warning("MLflow at %s does not take something: %s", uri, refused)


def _forget_run_of_other(inputs: str, folder: Path) -> None:
    """The run first, then its inputs, so that a kill in between leaves no run with the results of others.

    A run without inputs is older than these files, and stays.
    """
    path = folder / INPUTS
    if path.is_file() and path.read_text() == inputs:
        return
    if not path.is_file() and (folder / RUN_FILE).is_file():
        write_whole(path, inputs.encode())
        return
    (folder / RUN_FILE).unlink(missing_ok=True)
    if (folder / CHILDREN).is_dir():
        shutil.rmtree(folder / CHILDREN)
    write_whole(path, inputs.encode())
