"""What a training begins with, where its data are several datasets: what was held out of each, and who has seen it."""

from dataclasses import replace
from pathlib import Path

import pytest

from cluster.training.config import MetaTraining
from cluster.training.start import initial_state
from eosvos.data.mixture import open_mixture
from eosvos.data.parquet import encode
from eosvos.data.readers.synthetic import SyntheticSettings, synthetic
from eosvos.errors import BadInput
from eosvos.learning.optimization import save


@pytest.fixture
def other(tmp_path: Path) -> str:
    """A second dataset, of other videos."""
    encode(synthetic("held", 3, SyntheticSettings(size=64, frames=3)), tmp_path / "other", {"made": "for tests"})
    return str(tmp_path / "other")


def test_what_is_held_out_of_each_dataset(training: MetaTraining, other: str) -> None:
    one, both = (*training.data,), (*training.data, other)
    facts = initial_state(replace(training, held_out=0.2), open_mixture(one)).facts
    assert "held_out_by_dataset" not in facts  # as in checkpoints of before
    (name,) = facts["held_out"]
    mixture = open_mixture(both)
    facts = initial_state(replace(training, data=both, held_out=0.2), mixture).facts
    assert facts["data_hash"] == mixture.hash
    first, second = (facts["held_out_by_dataset"][dataset.hash] for dataset in mixture.datasets)
    assert first == [name]
    assert facts["held_out"] == [f"synthetic/{name}", *(f"synthetic/{held}" for held in second)]
    assert len(second) == 1


@pytest.mark.parametrize("of_parent", ["one", "both"])
@pytest.mark.parametrize("of_training", ["one", "both"])
def test_a_parent_has_not_seen_what_is_held_out_of_a_dataset_that_both_have(
    training: MetaTraining, other: str, tmp_path: Path, of_parent: str, of_training: str
) -> None:
    data = {"one": training.data, "both": (*training.data, other)}
    own = replace(training, data=data[of_training], held_out=0.2, parent=tmp_path / "parent.safetensors")

    def start_from_parent_with(held_out: float) -> None:
        parent = replace(training, data=data[of_parent], held_out=held_out)
        save(replace(initial_state(parent, open_mixture(parent.data)), rates=None), tmp_path / "parent.safetensors")
        initial_state(own, open_mixture(own.data))

    start_from_parent_with(held_out=0.2)
    with pytest.raises(BadInput, match=r"parent.safetensors: was trained on .*train-\d+, which --held-out keeps"):
        start_from_parent_with(held_out=0.0)
