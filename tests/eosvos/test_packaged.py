"""The checkpoints in the package: small, in half precision, with a card where one is needed, no trace of a machine."""

import hashlib
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from eosvos.errors import BadInput
from eosvos.learning.optimization import load
from eosvos.model.config import TINY
from eosvos.packaged import CARD, CHECKPOINTS, DEFAULT, checkpoint_file


@pytest.mark.parametrize(("name", "limit"), [("synthetic", 3_000_000), ("real-small", 16_000_000)])
def test_they_are_small_and_know_nothing_of_a_machine(name: str, limit: int) -> None:
    file = CHECKPOINTS[name]
    assert file.stat().st_size < limit
    optimization = load(Path(name))
    assert optimization.rates is not None
    assert optimization.rates.level == "neuron"
    with safe_open(file, framework="pt") as content:
        kinds = {content.get_tensor(one).dtype for one in content.keys()}  # noqa: SIM118 - not a dict
        assert "/" not in content.metadata()["eosvos"].replace("davis2016/", "").replace("davis2017/", "")
    assert {kind for kind in kinds if kind.is_floating_point} == {torch.float16}


def test_the_synthetic_one() -> None:
    optimization = load(CHECKPOINTS["synthetic"])
    assert optimization.config == TINY
    assert (optimization.facts["T"], optimization.facts["parent"]) == (5, 350)
    assert all(name.startswith("train-") for name in optimization.facts["held_out"])


def test_the_card_is_of_this_checkpoint() -> None:
    card = CARD.read_text()
    assert hashlib.sha256(CHECKPOINTS[DEFAULT].read_bytes()).hexdigest() in card
    for text in ("research and evaluation, not for commercial use", "jobs/recipe.py", "DAVIS", "cannot"):
        assert text in card


def test_a_name_or_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert checkpoint_file(None) == CHECKPOINTS[DEFAULT]
    assert checkpoint_file(Path("synthetic")) == CHECKPOINTS["synthetic"]
    assert checkpoint_file(Path("best.safetensors")) == Path("best.safetensors")
    Path("synthetic").mkdir()
    with pytest.raises(BadInput, match="--checkpoint synthetic: is a checkpoint of this package, and a file here"):
        checkpoint_file(Path("synthetic"))
    assert checkpoint_file(tmp_path / "synthetic") == tmp_path / "synthetic"
