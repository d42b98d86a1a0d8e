"""The sheet of a training's first tasks."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cluster.training.config import MetaTraining
from cluster.training.preview import draw_preview
from eosvos.data.config import PlanConfig
from eosvos.errors import BadInput


def test_a_sheet_of_twenty_tasks(training: MetaTraining, tmp_path: Path) -> None:
    config = replace(training, plan=PlanConfig(train_frames=1, test_frames=2))
    file = draw_preview(config, tmp_path / "new" / "sheet.png")
    sheet = np.array(Image.open(file).convert("RGB")).astype(int)
    # Ten rows of two tasks with three frames of 64 pixels each, and the labels to the left.
    assert sheet.shape[0] > 10 * 64
    assert sheet.shape[1] > 6 * 64
    frames = (sheet != 255).any(axis=2)
    columns = frames[40:].sum(axis=0) > 10 * 60
    assert int((np.diff(columns.astype(int)) == 1).sum()) == 6
    assert (draw_preview(replace(config, seed=1), tmp_path / "other.png").read_bytes()) != file.read_bytes()
    assert (draw_preview(config, tmp_path / "same.png").read_bytes()) == file.read_bytes()


def test_it_is_a_png(training: MetaTraining, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"sheet.jpg: is written as PNG; name a file that ends in .png"):
        draw_preview(training, tmp_path / "sheet.jpg")
