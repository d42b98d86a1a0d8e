"""Registered models: a version for each run's best checkpoint, and the alias of the best of them."""

import logging
from collections.abc import Mapping

from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

log = logging.getLogger(__name__)

BEST_ALIAS = "best"
"""Of the version of a registered model with the highest score."""


def register(
    client: MlflowClient, run_id: str, model: str, artifact: str, score: float, scored_on: Mapping[str, str]
) -> int:
    """Registers an artifact of a run as a new version of a model.

    The alias ``best`` is with the best of the versions that were scored on the same. Where it is with one that was
    scored on something else, it stays, as the scores cannot be compared; that is said.

    Args:
        client: of the tracking server.
        run_id: of the run.
        model: name of the registered model.
        artifact: name of the file, which was uploaded.
        score: the higher the better.
        scored_on: tags that say what the score is of.

    Returns:
        the version; that of an earlier call where the run is registered already.
    """
    known = client.search_model_versions(f"run_id = '{run_id}'")
    version = known[0] if known else _new_version(client, run_id, model, artifact, {"score": str(score), **scored_on})
    comparable = {
        str(other.version): float(other.tags["score"])
        for other in client.search_model_versions(f"name = '{model}'")
        if scored_on.items() <= other.tags.items()
    }
    holder = client.get_registered_model(model).aliases.get(BEST_ALIAS)
    if holder is None or str(holder) in comparable:
        best = max(comparable, key=lambda number: (comparable[number], -int(number)))
        client.set_registered_model_alias(model, BEST_ALIAS, best)
    else:
        log.info(
            "%s: the alias %s stays with version %s, which was scored on something else", model, BEST_ALIAS, holder
        )
    return int(version.version)


def _new_version(client: MlflowClient, run_id: str, model: str, artifact: str, tags: Mapping[str, str]) -> ModelVersion:
    try:
        client.create_registered_model(model)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    source = f"{client.get_run(run_id).info.artifact_uri}/{artifact}"
    return client.create_model_version(model, source, run_id, dict(tags))
