"""The checkpoint in the package: small, in half precision, of synthetic video alone, and with no trace of a machine."""

from safetensors import safe_open

from eosvos.learning.optimization import load
from eosvos.model.config import TINY
from eosvos.packaged import CHECKPOINT


def test_the_packaged_checkpoint() -> None:
    assert CHECKPOINT.stat().st_size < 3_000_000
    optimization = load(CHECKPOINT)
    assert optimization.config == TINY
    assert optimization.rates is not None
    assert (optimization.rates.level, optimization.facts["T"], optimization.facts["parent"]) == ("neuron", 5, 350)
    assert all(name.startswith("train-") for name in optimization.facts["held_out"])
    with safe_open(CHECKPOINT, framework="pt") as file:
        kinds = {str(file.get_tensor(name).dtype) for name in file.keys()}  # noqa: SIM118 - not a dict
        assert "/" not in file.metadata()["eosvos"]
    assert kinds == {"torch.float16"}
