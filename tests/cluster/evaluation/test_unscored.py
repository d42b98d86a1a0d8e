"""Data whose ground truth is kept back: predictions are written; what has masks to score against has scores."""

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from cluster.evaluation.config import Evaluation
from cluster.evaluation.driver import evaluate, evaluate_all
from eosvos.data.palette import encode_mask
from eosvos.data.parquet import encode, open_dataset
from eosvos.data.sequence import EncodedFrame, Sequence, decode_mask
from eosvos.errors import BadInput

Change = Callable[[int, np.ndarray], np.ndarray | None]


def _changed(sequence: Sequence, dataset: str, name: str, change: Change) -> Sequence:
    """The sequence with other masks: ``change`` takes a position and the mask there."""

    def read(position: int) -> EncodedFrame:
        mask = sequence.mask(position)
        assert mask is not None
        changed = change(position, mask.numpy())
        encoded = None if changed is None else encode_mask(changed.astype(np.uint8))
        return replace(sequence.read(position), mask=encoded)

    return replace(sequence, dataset=dataset, name=name, read=read)


def _late(position: int, mask: np.ndarray) -> np.ndarray:
    """The first frame is empty; object 1 enters in the second, the others in the third."""
    return mask * ((mask == 1) * (position > 0) | (position > 1))


def _first_masks(position: int, mask: np.ndarray) -> np.ndarray | None:
    """As ``_late``, but the third frame says nothing of object 1, and the others have no mask."""
    kept = {1: mask * (mask == 1), 2: mask * (mask != 1)}
    return kept.get(position)


@pytest.fixture
def evaluated(
    learned: Evaluation, ray_here: None, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> Callable[..., Path]:
    """(dataset, name -> masks) -> the folder of an evaluation on such sequences."""
    caplog.set_level(logging.INFO)

    def run(dataset: str, **changes: Change) -> Path:
        (source, _) = open_dataset(learned.subject.data).sequences
        sequences = [_changed(source, dataset, name, change) for name, change in changes.items()]
        encode(sequences, tmp_path / "data", {"made": "for tests"})
        subject = replace(learned.subject, data=str(tmp_path / "data"))
        evaluate_all([(replace(learned, subject=subject, T=(0,)), tmp_path / "out")])
        return tmp_path / "out"

    return run


def _ids(folder: Path, name: str) -> list[set[int]]:
    files = sorted((folder / "predictions" / "T=0" / name).iterdir())
    return [set(decode_mask(file.read_bytes(), str(file), False).unique().tolist()) - {0} for file in files]


def test_what_has_masks_is_scored_and_all_is_predicted(
    evaluated: Callable[..., Path], caplog: pytest.LogCaptureFixture
) -> None:
    folder = evaluated("youtube_vos", dense=_late, hidden=_first_masks)
    rows = pq.read_table(folder / "objects.parquet").to_pylist()
    assert [(row["sequence"], row["object"], row["scored_frames"]) for row in rows] == [
        ("dense", 1, 2), ("dense", 2, 1), ("dense", 3, 1),
    ]  # fmt: skip
    for name in ("dense", "hidden"):
        ids = _ids(folder, name)
        assert ids[:2] == [set(), {1}]
        assert {2, 3} <= ids[2]
    assert "no scores of 1 of 2 sequences" in caplog.text
    assert (folder / "report.html").is_file()


def test_first_masks_alone(
    learned: Evaluation, evaluated: Callable[..., Path], caplog: pytest.LogCaptureFixture
) -> None:
    """As of DAVIS's test-dev: the same command again says the same."""
    for _ in range(2):
        caplog.clear()
        folder = evaluated("davis2017", one=lambda position, mask: None if position else mask)
        assert "no scores of 1 of 1 sequences, which have no mask to score against" in caplog.text
    assert _ids(folder, "one")[0] == {1, 2, 3}
    assert not (folder / "objects.parquet").exists()
    subject = replace(learned.subject, data=str(folder.parent / "data"))
    with pytest.raises(BadInput, match="data: no mask to score against"):  # who computes with scores needs some
        evaluate(replace(learned, subject=subject, T=(0,)), folder)
