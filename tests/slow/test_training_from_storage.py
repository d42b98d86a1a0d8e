"""A training whose data is in object storage is the one whose data is on disk."""

from dataclasses import replace
from pathlib import Path

import pytest

from cluster.training.config import MetaTraining
from cluster.training.driver import train
from eosvos.data.parquet import encode, open_dataset
from eosvos.data.readers.synthetic import SyntheticSettings, synthetic

pytestmark = pytest.mark.slow


def test_from_s3_and_from_disk_bit_for_bit(
    meta_run: Path, meta_training: MetaTraining, s3: str, tmp_path: Path
) -> None:
    address = f"{s3}/train"
    encode(synthetic("train", 4, SyntheticSettings(size=64, frames=3)), address, {"made": "for tests"})
    assert open_dataset(address).hash == open_dataset(*meta_training.data).hash
    last = train(replace(meta_training, data=(address,)), tmp_path / "run")
    for name in ("last.safetensors", "best.safetensors"):
        assert last.with_name(name).read_bytes() == (meta_run / name).read_bytes()
