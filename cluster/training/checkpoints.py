"""Checkpoints of a training: an Optimization and the optimizer's state per kept outer step, in the run's folder."""

import json
import re
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from eosvos.learning import optimization as optimizations
from eosvos.learning.average import Average
from eosvos.learning.config import OuterConfig
from eosvos.learning.optimization import Optimization, read_safetensors, write_safetensors
from eosvos.learning.outer_loop import Learned

LAST = "last.safetensors"
"""A copy of the newest Optimization, or of the newest average of them, at a path that does not change."""
BEST = "best.safetensors"
"""The Optimization that did best on the held-out sequences."""
KEEP = 2


def learned_state(optimization: Optimization, config: OuterConfig) -> Learned:
    """The initialization and learning rates of an Optimization, ready for outer steps."""
    names = optimization.parameter_names()
    initialization, rates = [optimization.initialization[name] for name in names], optimization.rates
    if rates is None:
        return Learned(initialization, [], config)
    return Learned(initialization, list(rates.learned.values()), config, rates.form)


def latest(folder: Path) -> int | None:
    """The newest outer step with a whole checkpoint, or None."""
    return max(_steps(folder), default=None)


def save(folder: Path, step: int, optimization: Optimization, learned: Learned, average: Average | None = None) -> None:
    """Writes the state after ``step`` outer steps, then forgets all but the newest ``KEEP``.

    The Optimization is written after the optimizer's state and the average, so that its file means a whole checkpoint.

    Args:
        folder: of the run.
        step: outer steps taken.
        optimization: names, shapes, statistics and facts; its values are replaced by those of ``learned``.
        learned: current values.
        average: over the steps so far, where one is kept.
    """
    state = learned.optimizer_tensors()
    write_safetensors(
        state, {"eosvos": json.dumps({"format_version": 1, "kind": "optimizer"})}, _optimizer(folder, step)
    )
    if average is not None:
        optimizations.save(average.optimization, _average(folder, step))
    optimizations.save(current(optimization, learned, step), _file(folder, step))
    renew_last(folder, step)
    oldest = sorted(_steps(folder))[-KEEP:][0]
    for path in (folder / "checkpoints").iterdir():
        of_step = re.match(r"(?:step|\.step|\.candidate)-(\d+)\.", path.name)  # a dot: what a killed run was writing
        if of_step and int(of_step[1]) < oldest:
            path.unlink(missing_ok=True)


def renew_last(folder: Path, step: int) -> None:
    """Makes ``LAST`` the Optimization after ``step`` outer steps; a kill may have come between the two files."""
    temporary = folder / f".{LAST}"
    average = _average(folder, step)
    shutil.copyfile(average if average.is_file() else _file(folder, step), temporary)
    temporary.replace(folder / LAST)


def counted(last: Path) -> Path:
    """Of a training that is done, by its last checkpoint: the best one where it was validated, else the last."""
    best = last.with_name(BEST)
    return best if best.is_file() else last


def candidate(folder: Path, step: int) -> Path:
    """Where the Optimization after ``step`` outer steps, or their average, waits for its validation."""
    return folder / "checkpoints" / f"candidate-{step:06d}.safetensors"


def candidates(folder: Path) -> list[int]:
    """The outer steps whose Optimizations wait for their validation, rising."""
    files = (folder / "checkpoints").glob("candidate-*.safetensors")
    return sorted(int(path.stem.removeprefix("candidate-")) for path in files)


def load(folder: Path, step: int, device: torch.device) -> tuple[Optimization, dict[str, Tensor]]:
    """The Optimization and the optimizer's tensors after ``step`` outer steps, on ``device``."""
    optimization = optimizations.load(_file(folder, step))
    return on_device(optimization, device), read_safetensors(_optimizer(folder, step))[0]


def load_average(folder: Path, step: int, optimization: Optimization, config: OuterConfig) -> Average | None:
    """The average over the first ``step`` outer steps, where one is kept.

    Args:
        folder: of the run.
        step: outer steps taken.
        optimization: after these steps, on the device of the training.
        config: says whether an average is kept.

    Raises:
        BadInput: the average's file is gone.
    """
    if config.average == 0:
        return None
    if step == 0:
        return Average(optimization, config.average)
    device = next(iter(optimization.initialization.values())).device
    return Average(on_device(optimizations.load(_average(folder, step)), device), config.average)


def on_device(optimization: Optimization, device: torch.device) -> Optimization:
    """A copy whose tensors are on ``device``."""
    rates = optimization.rates
    return replace(
        optimization,
        initialization={name: value.to(device) for name, value in optimization.initialization.items()},
        rates=rates and replace(rates, learned={name: value.to(device) for name, value in rates.learned.items()}),
    )


def facts(folder: Path, step: int) -> Mapping[str, Any]:
    """Where the Optimization after ``step`` outer steps came from."""
    return optimizations.load(_file(folder, step)).facts


def current(optimization: Optimization, learned: Learned, step: int) -> Optimization:
    """``optimization`` with the values of ``learned``."""
    names = optimization.parameter_names()
    initialization = optimization.initialization | dict(zip(names, learned.initialization_views, strict=True))
    rates = optimization.rates
    if rates is not None:
        rates = replace(rates, learned=dict(zip(rates.learned, learned.rates_views, strict=True)))
    return replace(optimization, initialization=initialization, rates=rates, facts={**optimization.facts, "step": step})


def _steps(folder: Path) -> list[int]:
    matches = (re.fullmatch(r"step-(\d+)\.safetensors", path.name) for path in (folder / "checkpoints").glob("step-*"))
    return [step for match in matches if match and _optimizer(folder, step := int(match[1])).is_file()]


def _file(folder: Path, step: int) -> Path:
    return folder / "checkpoints" / f"step-{step:06d}.safetensors"


def _average(folder: Path, step: int) -> Path:
    return folder / "checkpoints" / f"step-{step:06d}.average.safetensors"


def _optimizer(folder: Path, step: int) -> Path:
    return folder / "checkpoints" / f"step-{step:06d}.optimizer.safetensors"
