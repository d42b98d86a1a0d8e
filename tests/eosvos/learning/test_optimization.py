"""The Optimization and its file: what comes back, in which order, and what is refused."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

from eosvos.errors import BadInput
from eosvos.learning import optimization as module
from eosvos.learning.config import RatesConfig
from eosvos.learning.optimization import Optimization, differing_fields, load, save
from eosvos.learning.rates import initial_rates
from eosvos.model.config import ModelConfig
from eosvos.model.weights import initial_model

FACTS = {"T": 5, "order": "first", "step": 7, "data_hash": "abc", "learned": {"rates": [1, 2]}}


@pytest.fixture
def optimization(micro: ModelConfig) -> Optimization:
    """Every rate differs from every other."""
    model, _ = initial_model(micro, "none", seed=0)
    draws = torch.Generator().manual_seed(0)
    rates = initial_rates(model, RatesConfig())
    learned = {name: torch.randn(value.shape, generator=draws) - 5 for name, value in rates.learned.items()}
    return Optimization(micro, model.state_dict(), replace(rates, learned=learned), FACTS)


@pytest.fixture
def parent(optimization: Optimization) -> Optimization:
    return replace(optimization, rates=None)


def test_round_trip(optimization: Optimization, tmp_path: Path) -> None:
    path = tmp_path / "new" / "one.safetensors"
    save(optimization, path)
    loaded = load(path)
    assert loaded.config == optimization.config
    assert loaded.facts == FACTS
    assert loaded.initialization.keys() == optimization.initialization.keys()
    for name, value in optimization.initialization.items():
        assert torch.equal(loaded.initialization[name], value), name
    assert loaded.rates is not None
    assert optimization.rates is not None
    assert (loaded.rates.level, loaded.rates.form) == ("neuron", "log")
    # The inner loop pairs rates with parameters by their order.
    assert list(loaded.rates.learned) == [name for name, _ in loaded.model().named_parameters()]
    for name, rate in optimization.rates.learned.items():
        assert torch.equal(loaded.rates.learned[name], rate), name
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_a_file_without_the_field_has_learned_shifted_masks(optimization: Optimization, tmp_path: Path) -> None:
    save(optimization, tmp_path / "new")
    with safe_open(tmp_path / "new", framework="pt") as file:
        header = json.loads(file.metadata()["eosvos"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
    assert header["model"].pop("mask_targets") == "aligned"
    save_file(tensors, tmp_path / "old", {"eosvos": json.dumps(header)})
    new, old = load(tmp_path / "new").config, load(tmp_path / "old").config
    assert old == replace(new, mask_targets="shifted")


def test_half_precision_is_for_storage_alone(optimization: Optimization, tmp_path: Path) -> None:
    save(optimization, tmp_path / "whole")
    save(optimization, tmp_path / "half", half=True)
    tensors = (tmp_path / "half").stat().st_size - 5000, (tmp_path / "whole").stat().st_size - 5000
    assert tensors[0] < 0.6 * tensors[1]
    loaded = load(tmp_path / "half")
    assert loaded.rates is not None
    assert optimization.rates is not None
    pairs = [(loaded.initialization[name], value) for name, value in optimization.initialization.items()]
    pairs += [(loaded.rates.learned[name], value) for name, value in optimization.rates.learned.items()]
    for value, before in pairs:
        assert value.dtype == before.dtype
        assert torch.equal(value, before.half().to(before.dtype))


def test_round_trip_of_a_parent_with_statistics(
    micro_mobilenet: ModelConfig, scene: Callable[..., Any], tmp_path: Path
) -> None:
    model, _ = initial_model(micro_mobilenet, "none", seed=0)
    for name, value in model.state_dict().items():
        if name.endswith("running_var"):
            value.uniform_(0.5, 2)
    save(Optimization(micro_mobilenet, model.state_dict(), None), tmp_path / "parent")
    loaded = load(tmp_path / "parent")
    assert loaded.rates is None
    for name, value in loaded.model().state_dict().items():
        assert torch.equal(value, model.state_dict()[name]), name


def test_a_model_with_group_normalization_comes_back(micro_mobilenet: ModelConfig, tmp_path: Path) -> None:
    model, _ = initial_model(replace(micro_mobilenet, normalization="group"), "none", seed=0)
    save(Optimization(model.config, model.state_dict(), None), tmp_path / "grouped")
    again = load(tmp_path / "grouped").model()
    assert any(isinstance(part, nn.GroupNorm) for part in again.modules())
    assert again.state_dict().keys() == model.state_dict().keys()


def test_header(optimization: Optimization, parent: Optimization, tmp_path: Path) -> None:
    headers = []
    for one in (optimization, parent):
        save(one, tmp_path / "file")
        with safe_open(tmp_path / "file", framework="pt") as file:
            headers.append(json.loads(file.metadata()["eosvos"]))
    assert [header["kind"] for header in headers] == ["optimization", "parent"]
    assert headers[0]["rates"] == {"level": "neuron", "form": "log"}
    assert headers[1]["rates"] is None
    for header in headers:
        assert header["format_version"] == 1
        assert header["model"]["backbone"] == "tiny"
        assert set(header["versions"]) == {"eosvos", "torch", "torchvision"}
        assert header.items() >= FACTS.items()


def test_views_of_one_buffer_can_be_written(optimization: Optimization, tmp_path: Path) -> None:
    shapes = {name: value.shape for name, value in optimization.initialization.items()}
    flat = torch.arange(float(sum(shape.numel() for shape in shapes.values())))
    parts = flat.split([shape.numel() for shape in shapes.values()])
    views = {name: part.view(shape) for (name, shape), part in zip(shapes.items(), parts, strict=True)}
    save(replace(optimization, initialization=views), tmp_path / "file")
    loaded = load(tmp_path / "file").initialization
    assert all(torch.equal(loaded[name], view) for name, view in views.items())


def test_model_is_a_copy_and_leaves_the_global_generator(optimization: Optimization) -> None:
    before = torch.get_rng_state()
    model = optimization.model()
    assert torch.equal(torch.get_rng_state(), before)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 1
    assert all(
        torch.equal(value, optimization.initialization[name])
        for name, value in optimization.model().state_dict().items()
    )


def test_a_parent_gets_one_rate(optimization: Optimization, parent: Optimization) -> None:
    with pytest.raises(BadInput, match="is a parent and has no learning rates; give one with --learning-rate"):
        parent.fine_tuning_rates()
    rates = parent.with_single_rate(0.02).fine_tuning_rates()
    assert len(rates) == len(list(parent.model().parameters()))
    assert {float(rate) for rate in rates} == {float(torch.tensor(0.02))}
    for wrong in (0.0, -1.0, float("nan")):
        with pytest.raises(ValueError, match="initial_rate: must be above 0"):
            parent.with_single_rate(wrong)


def test_rates_of_every_level_and_form_come_back(micro: ModelConfig, tmp_path: Path) -> None:
    model, _ = initial_model(micro, "none", seed=0)
    for level in ("single", "tensor", "neuron", "parameter"):
        for form in ("log", "linear"):
            config = RatesConfig(rate_level=level, rate_form=form, rate_spread=0.5)  # type: ignore[arg-type]
            rates = initial_rates(model, config, seed=3)
            save(Optimization(micro, model.state_dict(), rates), tmp_path / "one")
            loaded = load(tmp_path / "one").rates
            assert loaded is not None
            assert (loaded.level, loaded.form) == (level, form)
            assert list(loaded.learned) == list(rates.learned)
            assert all(torch.equal(loaded.learned[name], value) for name, value in rates.learned.items())


def _refused(path: Path) -> str:
    with pytest.raises(BadInput) as raised:
        load(path)
    assert str(raised.value).startswith(f"{path}: ")
    assert "\n" not in str(raised.value)
    return str(raised.value)


def test_files_that_are_no_checkpoint(optimization: Optimization, tmp_path: Path) -> None:
    missing, text, empty, foreign, cut = (tmp_path / name for name in ("missing", "text", "empty", "foreign", "cut"))
    assert "no such checkpoint; train one with" in _refused(missing)
    assert "no such checkpoint" in _refused(tmp_path)
    text.write_text("a text")
    empty.write_bytes(b"")
    save_file({"a": torch.zeros(2)}, foreign)
    save(optimization, cut)
    cut.write_bytes(cut.read_bytes()[:-100])
    for path in (text, empty, foreign, cut):
        assert "not a checkpoint of ours" in _refused(path)


def _rewritten(
    optimization: Optimization, path: Path, change: Callable[[dict[str, Any], dict[str, Any]], None]
) -> Path:
    save(optimization, path)
    with safe_open(path, framework="pt") as file:
        header = json.loads(file.metadata()["eosvos"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
    change(header, tensors)
    save_file(tensors, path, {"eosvos": json.dumps(header)})
    return path


REFUSED: dict[str, Callable[[dict[str, Any], dict[str, Any]], Any]] = {
    "format version 2, this program reads 1": lambda header, tensors: header.update(format_version=2),
    "holds no initialization but an optimizer": lambda header, tensors: header.update(kind="optimizer"),
    "unknown field 'depth'": lambda header, tensors: header["model"].update(depth=3),
    "fpn_channels: must be at least 1": lambda header, tensors: header["model"].update(fpn_channels=0),
    "its tensors do not fit its own model": lambda header, tensors: header["model"].update(fpn_channels=16),
    "tensors do not fit": lambda header, tensors: tensors.pop("initialization.rpn.head.conv.0.0.bias"),
    "its header does not say what its learning rates are (None)": lambda header, tensors: header.update(rates=None),
    "does not say what its learning rates are": lambda header, tensors: header["rates"].update(form="cubic"),
    "has learning rates for": lambda header, tensors: tensors.pop("rates.rpn.head.conv.0.0.bias"),
}


@pytest.mark.parametrize("message", REFUSED)
def test_checkpoints_that_do_not_fit(optimization: Optimization, tmp_path: Path, message: str) -> None:
    assert message in _refused(_rewritten(optimization, tmp_path / "file", REFUSED[message]))


def test_a_write_that_fails_leaves_the_old_file_alone(
    optimization: Optimization, parent: Optimization, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    save(optimization, path)
    before = path.read_bytes()

    def full(tensors: Any, file: Path, metadata: Any) -> None:
        Path(file).write_bytes(b"half of it")
        raise OSError("no space left on device")

    monkeypatch.setattr(module, "save_file", full)
    with pytest.raises(OSError, match="no space"):
        save(parent, path)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["file"]


def test_differing_fields(micro: ModelConfig) -> None:
    assert differing_fields(micro, micro) == ""
    other = replace(micro, fpn_channels=16, mask_loss="cross_entropy")
    assert differing_fields(micro, other) == "fpn_channels: 8, not 16, mask_loss: lovasz_hinge, not cross_entropy"
