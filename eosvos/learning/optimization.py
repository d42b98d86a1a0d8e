"""An Optimization: an initialization of Mask R-CNN plus its learning rates, and its file."""

import dataclasses
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any, get_args

import torch
import torchvision
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

import eosvos
from eosvos.config import merged, older, to_dict
from eosvos.errors import BadInput
from eosvos.learning.config import Form, Level, RatesConfig
from eosvos.learning.rates import ALL, LearningRates, applied, initial_rates
from eosvos.model.config import ModelConfig
from eosvos.model.mask_rcnn import MaskRCNN
from eosvos.model.normalization import to_group_norm
from eosvos.packaged import checkpoint_file

FORMAT_VERSION = 1


@dataclass(frozen=True)
class Optimization:
    """What meta-training learns and fine-tuning uses (e-OSVOS, Meinhardt and Leal-Taixé 2020).

    Attributes:
        config: the model that the initialization is of.
        initialization: the model's state dict: parameters, and statistics of frozen batch normalization.
        rates: learned learning rates; None for a parent, which has none of its own.
        facts: where it came from (T, order, outer step, data hash, versions), JSON-ready; goes into the file's header.
    """

    config: ModelConfig
    initialization: dict[str, Tensor]
    rates: LearningRates | None
    facts: Mapping[str, Any] = field(default_factory=dict)

    def model(self) -> MaskRCNN:
        """A new model holding a copy of the initialization."""
        with torch.random.fork_rng(devices=[]):  # the random initialization is overwritten; leave no trace of its draws
            model = MaskRCNN(self.config)
        if self.config.normalization == "group":
            to_group_norm(model)
        model.load_state_dict(self.initialization)
        return model

    def parameter_names(self) -> list[str]:
        """Of the trainable parameters, in the model's order."""
        return [name for name, _ in skeleton(self.config).named_parameters()]

    def fine_tuning_rates(self) -> list[Tensor]:
        """Learning rates, one tensor per trainable parameter, broadcastable to it, in the model's order.

        Raises:
            BadInput: there are none.
        """
        if self.rates is None:
            raise BadInput("this checkpoint is a parent and has no learning rates; give one with --learning-rate")
        return applied(list(self.rates.learned.values()), self.rates.form, len(self.parameter_names()))

    def with_single_rate(self, rate: float) -> "Optimization":
        """The same initialization with ``rate`` for everything.

        Raises:
            ValueError: a rate that is not above 0.
        """
        config = RatesConfig(rate_level="single", rate_form="linear", initial_rate=rate)
        like = self.initialization[self.parameter_names()[0]]
        return replace(self, rates=initial_rates(skeleton(self.config), config, like=like))


@cache
def skeleton(config: ModelConfig) -> MaskRCNN:
    """A model without memory or values, for its names and shapes; made once for each configuration."""
    with torch.device("meta"):
        model = MaskRCNN(config)
        if config.normalization == "group":
            to_group_norm(model)
    return model


def save(optimization: Optimization, path: Path, half: bool = False) -> None:
    """Writes one safetensors file: ``initialization.*``, ``rates.*`` and a JSON header.

    Args:
        optimization: what to write.
        path: of the file, which is whole or absent.
        half: in half precision, for half the size.
    """
    tensors = {f"initialization.{name}": value for name, value in optimization.initialization.items()}
    rates = optimization.rates
    tensors |= {f"rates.{name}": value for name, value in rates.learned.items()} if rates else {}
    if half:
        tensors = {name: value.half() if value.is_floating_point() else value for name, value in tensors.items()}
    header = {
        "format_version": FORMAT_VERSION,
        "kind": "parent" if rates is None else "optimization",
        "model": to_dict(optimization.config),
        "rates": None if rates is None else {"level": rates.level, "form": rates.form},
        "versions": {"eosvos": eosvos.__version__, "torch": torch.__version__, "torchvision": torchvision.__version__},
        **optimization.facts,
    }
    write_safetensors(tensors, {"eosvos": json.dumps(header)}, path)


def write_safetensors(tensors: Mapping[str, Tensor], metadata: dict[str, str], path: Path) -> None:
    """A safetensors file that is either whole or absent."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        save_file({name: value.detach().cpu().contiguous() for name, value in tensors.items()}, temporary, metadata)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and our JSON header. Raises BadInput naming the file where it is not one of ours."""
    if not path.is_file():
        raise BadInput(f"{path}: no such checkpoint; train one with jobs/parent_train.py or jobs/meta_train.py")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: _single(file.get_tensor(name)) for name in file.keys()}  # noqa: SIM118 - not a dict
        header = json.loads(metadata["eosvos"])
    except (SafetensorError, OSError, KeyError, json.JSONDecodeError) as error:
        raise BadInput(
            f"{path}: not a checkpoint of ours ({type(error).__name__}: {error}); name one that "
            "jobs/parent_train.py or jobs/meta_train.py wrote"
        ) from error
    return tensors, header


def _single(tensor: Tensor) -> Tensor:
    """Half precision is for storage alone."""
    return tensor.float() if tensor.dtype == torch.float16 else tensor


def load(path: Path | None = None) -> Optimization:
    """Reads what ``save`` wrote; or a checkpoint of this package, by its name, without one the default.

    Raises:
        BadInput: not a checkpoint, of another format version, or one whose tensors do not fit its own model.
    """
    path = checkpoint_file(path)
    tensors, header = read_safetensors(path)
    if header.get("format_version") != FORMAT_VERSION:
        raise BadInput(f"{path}: format version {header.get('format_version')}, this program reads {FORMAT_VERSION}")
    if header.get("kind") not in ("parent", "optimization"):
        raise BadInput(f"{path}: holds no initialization but an {header.get('kind')}; name the file beside it")
    config = merged(ModelConfig, None, older(ModelConfig) | header.get("model", {}), str(path))
    initialization = {
        n.removeprefix("initialization."): t for n, t in tensors.items() if n.startswith("initialization.")
    }
    values = {n.removeprefix("rates."): t for n, t in tensors.items() if n.startswith("rates.")}
    reserved = {"format_version", "kind", "model", "rates", "versions"}
    optimization = Optimization(
        config, initialization, None, {key: value for key, value in header.items() if key not in reserved}
    )
    if misfit := _misfit(initialization, skeleton(config).state_dict()):
        raise BadInput(f"{path}: its tensors do not fit its own model ({misfit}); train it again")
    parameters = optimization.parameter_names()
    if not values:
        return optimization
    kind = header.get("rates")
    if not isinstance(kind, dict) or kind.get("level") not in get_args(Level) or kind.get("form") not in get_args(Form):
        raise BadInput(f"{path}: its header does not say what its learning rates are ({kind}); train it again")
    names = [ALL] if kind["level"] == "single" else list(parameters)
    if values.keys() != set(names):
        raise BadInput(f"{path}: has learning rates for {len(values)} parameters, its model has {len(parameters)}")
    # The file sorts its tensors; everybody else goes by the model's order.
    ordered = {name: values[name] for name in names}
    return replace(optimization, rates=LearningRates(ordered, kind["level"], kind["form"]))


def _misfit(tensors: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> str:
    """The first tensor that is missing, too much, or of another shape; empty where all fit."""
    for name in sorted({*tensors, *expected}):
        if name not in tensors:
            return f"{name} is missing"
        if name not in expected:
            return f"it has no {name}"
        if tensors[name].shape != expected[name].shape:
            return f"{name} is {tuple(tensors[name].shape)}, not {tuple(expected[name].shape)}"
    return ""


def differing_fields(one: ModelConfig, other: ModelConfig) -> str:
    """``name: a, not b`` for every field in which two model configurations differ; empty where they are the same."""
    a, b = dataclasses.asdict(one), dataclasses.asdict(other)
    return ", ".join(f"{name}: {a[name]}, not {b[name]}" for name in a if a[name] != b[name])
