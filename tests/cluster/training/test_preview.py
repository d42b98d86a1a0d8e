"""The sheet of a training's first tasks."""

from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cluster.training.config import MetaTraining, ParentTraining, Training
from cluster.training.preview import draw_preview
from eosvos.data.config import PlanConfig, Targets
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


def test_a_parent_shows_what_it_learns_from(training: MetaTraining, tmp_path: Path) -> None:
    shared = {field.name: getattr(training, field.name) for field in fields(Training)}
    kinds: tuple[Targets, ...] = ("one", "merged", "instances")
    sheets = {
        draw_preview(ParentTraining(**shared, parent_targets=kind), tmp_path / f"{kind}.png").read_bytes()
        for kind in kinds
    }
    assert len(sheets) == 3
    assert draw_preview(training, tmp_path / "meta.png").read_bytes() in sheets


def test_it_is_a_png(training: MetaTraining, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"sheet.jpg: is written as PNG; name a file that ends in .png"):
        draw_preview(training, tmp_path / "sheet.jpg")
