"""What a fresh training starts from, with all that can be checked before it begins."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cluster.training.config import Training
from cluster.training.stream import planned, stream_config
from eosvos.data.mixture import Mixture
from eosvos.errors import BadInput
from eosvos.learning.optimization import Optimization, differing_fields, load, skeleton
from eosvos.learning.rates import level_counts
from eosvos.model.normalization import has_initial_statistics
from eosvos.model.weights import initial_model

log = logging.getLogger(__name__)


def initial_state(training: Training, data: Mixture) -> Optimization:
    """The initialization, and for meta-training the learning rates, before the first outer step.

    Raises:
        BadInput: weights or a checkpoint that cannot be started from, or held-out sequences that cannot be scored.
    """
    held_out = data.held_out(training.held_out, training.seed)
    next(planned(data, stream_config(training, data), 0, 1))  # there are tasks
    facts: dict[str, Any] = {"data_hash": data.hash, "held_out": data.names(held_out)}
    if len(data.datasets) > 1:
        facts["held_out_by_dataset"] = data.names_by_dataset(held_out)
    if training.start is not None:
        parent = load(training.start)
        _check_unseen(training.start, parent, facts)
        if different := differing_fields(parent.config, training.model):
            raise BadInput(f"{training.start}: its model differs from the one configured in {different}")
        log.info("initialization: %s", training.start)
        facts["parent"] = parent.facts.get("step", 0)
        given = Optimization(training.model, parent.initialization, parent.rates, facts)
    else:
        model, loaded = initial_model(training.model, training.backbone_weights, training.seed)
        log.info("initial weights: %s", loaded)
        given = Optimization(training.model, model.state_dict(), None, facts)
    optimization = training.learner().start(given, str(training.start))
    if optimization.rates is not None:
        if has_initial_statistics(optimization.initialization):
            raise BadInput(
                "--normalization frozen_batch: a model that starts from nothing has no statistics to freeze; train a "
                "parent, which finds them, and give it with --parent"
            )
        counts = ", ".join(f"{level} {count:,}" for level, count in level_counts(skeleton(training.model)).items())
        log.info("learning rates: %s; by level %s", optimization.rates, counts)
    return optimization


def check_weights(training: Training) -> None:
    """Finds initial weights that cannot be used before anything is written. Raises BadInput for such."""
    initial_model(training.model, training.backbone_weights, training.seed)


def _check_unseen(parent: Path, start: Optimization, facts: Mapping[str, Any]) -> None:
    """Raises BadInput where a parent has learned from what is to be held out of the same data."""
    before, now = _held_out_by_dataset(start.facts), _held_out_by_dataset(facts)
    seen = {name for dataset in before.keys() & now.keys() for name in {*now[dataset]} - {*before[dataset]}}
    if seen:
        raise BadInput(
            f"{parent}: was trained on {', '.join(sorted(seen))}, which --held-out keeps for validation; train the "
            "parent with the same --held-out and --seed, or set --held-out 0"
        )


def _held_out_by_dataset(facts: Mapping[str, Any]) -> Mapping[str, list[str]]:
    """Hash of each dataset that a checkpoint's training drew from -> names of what it held out."""
    return facts.get("held_out_by_dataset") or {facts.get("data_hash", ""): facts.get("held_out", [])}
