"""The MLflow run of an evaluation or a sweep: what both log of themselves, and how both end."""

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console

from cluster.tracking.background import SILENCE, BackgroundTracker
from cluster.tracking.run import RUN_FILE, Tracker
from eosvos.config import flattened, to_dict
from eosvos.data.parquet import EncodedDataset
from eosvos.files import write_whole

INPUTS, TAGS = "mlflow_inputs", "mlflow_tags.json"
"""In a run's folder: what its results depend on, and where they come from."""
CHILDREN = "mlflow"
"""In a run's folder: which of MLflow's runs is whose, of those below its own."""


@contextmanager
def logged_run(
    uri: str,
    experiment: str,
    config: Any,
    dataset: EncodedDataset,
    inputs: str,
    tags: Mapping[str, str] | None,
    console: Console,
    silence: float = SILENCE,
) -> Iterator[BackgroundTracker]:
    """Logs in the background while the block works, and waits at its end until all is logged, or MLflow is silent.

    The run is that of before where the folder's results are of the same ``inputs``. It ends as failed where the block
    raises or says so.

    Args:
        uri: of the tracking server.
        experiment: its name.
        config: with ``out``, a folder in which nobody else works.
        dataset: of the configuration's ``data``.
        inputs: what the results depend on beside the configuration.
        tags: where the results come from; None where nothing is computed, so that those of before hold.
        console: is told what is not logged.
        silence: seconds without an answer after which the end does not wait.
    """
    folder: Path = config.out
    _forget_run_of_other(inputs, folder)
    if tags is not None:
        write_whole(folder / TAGS, json.dumps(tags).encode())
    elif (folder / TAGS).is_file():
        tags = json.loads((folder / TAGS).read_text())
    known = dict(tags or {})
    parameters = flattened(to_dict(config))
    background = BackgroundTracker(partial(Tracker, uri, experiment, folder.name, folder, parameters))
    background.do(lambda tracker: tracker.tags(known))
    background.do(lambda tracker: tracker.dataset(config.data, dataset.hash, "evaluation"))
    try:
        yield background
    except BaseException:
        background.failed = True
        raise
    finally:
        if not background.close(silence):
            console.print(f"MLflow does not answer at {uri}: not all is logged; the same command again logs the rest")
        for refused in background.refused:
            console.print(f"MLflow at {uri} does not take something: {refused}")
        if background.run_id is not None:
            console.print(f"MLflow: {uri}, run {background.run_id}")


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
