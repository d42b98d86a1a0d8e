"""States of fine-tuned objects on disk, so that evaluations which share their first steps compute them once."""

import hashlib
import json
import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from eosvos.errors import BadInput
from eosvos.evaluation.sequence import SequenceSettings
from eosvos.files import locked
from eosvos.learning.inner_loop import load_parameters
from eosvos.learning.optimization import read_safetensors, write_safetensors
from eosvos.segmentation.adaptation import AdaptedObject, fine_tune_object
from eosvos.segmentation.config import FINE_TUNING, SegmentationConfig

ENDING = ".safetensors"


@dataclass(frozen=True)
class FineTuningCache:
    """A ``FineTuner`` of one sequence that takes over the steps that were computed before.

    What a state costs stands beside it, so that an object's time is that of all its steps, wherever they were computed.

    Attributes:
        root: folder of all states, which all nodes see.
        key: of all that the states depend on beside the object and the number of steps, as ``key_of`` gives it.
        stops: numbers of steps whose states are stored.
        limit: bytes; beyond it the states that were not used for longest go.
    """

    root: Path
    key: str
    stops: tuple[int, ...]
    limit: int

    def __call__(
        self,
        adapted: AdaptedObject,
        rates: list[Tensor],
        T: int,
        config: SegmentationConfig,
        seed: int,
        time_budget: float,
        on_step: Callable[[int], None],
    ) -> None:
        """As ``fine_tune_object``; corrections and time budgets are not for a cache, so they go past it."""
        if len(adapted.given) > 1 or math.isfinite(time_budget):
            fine_tune_object(adapted, rates, T, config, seed, time_budget, on_step)
            return
        folder = self.root / self.key / f"object-{adapted.id}"
        folder.mkdir(parents=True, exist_ok=True)
        with locked(folder, wait=True):  # somebody may be at the same steps right now
            for stop in sorted(stop for stop in {*self.stops, T} if adapted.steps < stop <= T):
                path = folder / f"{stop}{ENDING}"
                if not _take_over(path, adapted):
                    fine_tune_object(adapted, rates, stop, config, seed)
                    _store(path, adapted)
            fine_tune_object(adapted, rates, T, config, seed)  # no step is left; it keeps what online adaptation needs
        _shrink(self.root, self.limit)


def key_of(inputs: str, sequence: str, settings: SequenceSettings) -> str:
    """Of a sequence's fine-tuning: everything that its states depend on, but for the object and the steps.

    Args:
        inputs: ``digest`` of checkpoint and data.
        sequence: its name.
        settings: with a single learning rate at most.
    """
    fine_tuning = [getattr(settings.segmentation, name) for name in FINE_TUNING]
    # Threads and the device round differently.
    where = [settings.threads, settings.device, torch.__version__]
    parts = [inputs, sequence, settings.learning_rates, settings.seed, settings.frames, *fine_tuning, *where]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]


def _store(path: Path, adapted: AdaptedObject) -> None:
    facts = {"seconds": adapted.fine_tuning_seconds, "steps": adapted.steps, "diverged": adapted.diverged}
    tensors = {str(number): parameter for number, parameter in enumerate(adapted.model.parameters())}
    write_safetensors(tensors, {"eosvos": json.dumps(facts)}, path)


def _take_over(path: Path, adapted: AdaptedObject) -> bool:
    """The state in the file instead of the steps to it, where there is one."""
    try:
        tensors, facts = read_safetensors(path)
        os.utime(path)
    except (BadInput, OSError):  # none, or somebody made room
        return False
    load_parameters(adapted.model, [tensors[str(number)] for number in range(len(tensors))])
    adapted.steps = adapted.state = facts["steps"]
    adapted.diverged = facts["diverged"]
    adapted.fine_tuning_seconds = facts["seconds"]
    adapted.fine_tuned, adapted.unchecked = [], []
    return True


def _shrink(root: Path, limit: int) -> None:
    states = []
    for path in root.glob(f"*/*/*{ENDING}"):
        try:
            facts = path.stat()
        except FileNotFoundError:  # somebody else makes room too
            continue
        states.append((facts.st_mtime, facts.st_size, path))
    total = sum(size for _, size, _ in states)
    for _, size, path in sorted(states):
        if total <= limit:
            return
        path.unlink(missing_ok=True)
        total -= size
