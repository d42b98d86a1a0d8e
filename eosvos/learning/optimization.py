"""An Optimization: an initialization of Mask R-CNN plus one learning rate per neuron, and its file."""

import dataclasses
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
import torchvision
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

import eosvos
from eosvos.cli import merged, to_dict
from eosvos.errors import BadInput
from eosvos.model.config import ModelConfig
from eosvos.model.mask_rcnn import MaskRCNN
from eosvos.model.normalization import to_group_norm

FORMAT_VERSION = 1


@dataclass(frozen=True)
class Optimization:
    """What meta-training learns and fine-tuning uses (e-OSVOS, Meinhardt and Leal-Taixé 2020).

    Attributes:
        config: the model that the initialization is of.
        initialization: the model's state dict: parameters, and statistics of frozen batch normalization.
        log_rates: per trainable parameter the logarithm of its learning rates, one per neuron, broadcastable to the
            parameter, in the model's order; None for a parent, which has no rates of its own.
        facts: where it came from (T, order, outer step, data hash, versions), JSON-ready; goes into the file's header.
    """

    config: ModelConfig
    initialization: dict[str, Tensor]
    log_rates: dict[str, Tensor] | None
    facts: Mapping[str, Any] = field(default_factory=dict)

    def model(self) -> MaskRCNN:
        """A new model holding a copy of the initialization."""
        with torch.random.fork_rng(devices=[]):  # the random initialization is overwritten; leave no trace of its draws
            model = MaskRCNN(self.config)
        if self.config.normalization == "group":
            to_group_norm(model)
        model.load_state_dict(self.initialization)
        return model

    def rates(self) -> dict[str, Tensor]:
        """Learning rates, all above 0, in the shapes of ``log_rates``.

        Raises:
            BadInput: there are none.
        """
        if self.log_rates is None:
            raise BadInput("this checkpoint is a parent and has no learning rates; give one with --learning-rate")
        return {name: value.exp() for name, value in self.log_rates.items()}

    def with_single_rate(self, rate: float) -> "Optimization":
        """The same initialization with ``rate`` for every neuron."""
        return replace(self, log_rates=initial_log_rates(self.model(), rate))


def neuron_dimension(name: str, module: nn.Module) -> int:
    """The dimension of a weight that counts neurons: 0, but 1 (output channels) for a transposed convolution."""
    return 1 if isinstance(module, nn.ConvTranspose2d) and name.endswith("weight") else 0


def initial_log_rates(model: nn.Module, rate: float) -> dict[str, Tensor]:
    """One log learning rate per neuron and parameter: a weight (O, I, kh, kw) gets (O, 1, 1, 1), a bias (O,) gets (O,).

    Affine parameters of normalization count one neuron per channel.

    Raises:
        ValueError: a rate that is not above 0.
    """
    if not rate > 0:
        raise ValueError(f"learning rate: must be above 0, got {rate}")
    rates: dict[str, Tensor] = {}
    for prefix, module in model.named_modules():
        for name, parameter in module.named_parameters(prefix=prefix, recurse=False):
            shape = [1] * parameter.dim()
            neurons = neuron_dimension(name, module)
            shape[neurons] = parameter.shape[neurons]
            rates[name] = torch.full(shape, rate, dtype=parameter.dtype).log()
    return {name: rates[name] for name, _ in model.named_parameters()}


def save(optimization: Optimization, path: Path) -> None:
    """Writes one safetensors file: ``initialization.*``, ``rates.*`` and a JSON header."""
    tensors = {f"initialization.{name}": value for name, value in optimization.initialization.items()}
    tensors |= {f"rates.{name}": value for name, value in (optimization.log_rates or {}).items()}
    header = {
        "format_version": FORMAT_VERSION,
        "kind": "parent" if optimization.log_rates is None else "optimization",
        "model": to_dict(optimization.config),
        "rates": None if optimization.log_rates is None else {"level": "neuron", "form": "log"},
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
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
        header = json.loads(metadata["eosvos"])
    except (SafetensorError, OSError, KeyError, json.JSONDecodeError) as error:
        raise BadInput(
            f"{path}: not a checkpoint of ours ({type(error).__name__}: {error}); name one that "
            "jobs/parent_train.py or jobs/meta_train.py wrote"
        ) from error
    return tensors, header


def load(path: Path) -> Optimization:
    """Reads what ``save`` wrote.

    Raises:
        BadInput: not a checkpoint, of another format version, or one whose tensors do not fit its own model.
    """
    tensors, header = read_safetensors(path)
    if header.get("format_version") != FORMAT_VERSION:
        raise BadInput(f"{path}: format version {header.get('format_version')}, this program reads {FORMAT_VERSION}")
    if header.get("kind") not in ("parent", "optimization"):
        raise BadInput(f"{path}: holds a {header.get('kind')}, not an initialization; name the file beside it")
    config = merged(ModelConfig, None, header.get("model", {}), str(path))
    initialization = {
        n.removeprefix("initialization."): t for n, t in tensors.items() if n.startswith("initialization.")
    }
    rates = {n.removeprefix("rates."): t for n, t in tensors.items() if n.startswith("rates.")}
    own = {"format_version", "kind", "model", "rates", "versions"}
    optimization = Optimization(
        config, initialization, rates or None, {key: value for key, value in header.items() if key not in own}
    )
    try:
        parameters = dict(optimization.model().named_parameters())
    except RuntimeError as error:
        raise BadInput(f"{path}: its tensors do not fit its own model ({str(error).splitlines()[0]})") from error
    if rates and rates.keys() != parameters.keys():
        raise BadInput(f"{path}: has learning rates for {len(rates)} parameters, its model has {len(parameters)}")
    # The file sorts its tensors; everybody else goes by the model's order.
    ordered = {name: rates[name] for name in parameters} if rates else None
    return replace(optimization, log_rates=ordered)


def differing_fields(one: ModelConfig, other: ModelConfig) -> str:
    """``name: a, not b`` for every field in which two model configurations differ; empty where they are the same."""
    a, b = dataclasses.asdict(one), dataclasses.asdict(other)
    return ", ".join(f"{name}: {a[name]}, not {b[name]}" for name in a if a[name] != b[name])
