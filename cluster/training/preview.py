"""The first tasks of a training as a picture: what its data and settings make of them."""

import io
from itertools import islice
from pathlib import Path

import torch
from torch import Tensor

from cluster.training.config import Training
from cluster.training.stream import planned, stream_config
from eosvos.data.augment import task_frames
from eosvos.data.mixture import open_mixture
from eosvos.data.sequence import VOID
from eosvos.errors import BadInput
from eosvos.figures.contact_sheet import contact_sheet
from eosvos.figures.overlay import overlay
from eosvos.files import write_result

TASKS = 20
PER_ROW = 2


def draw_preview(training: Training, file: Path) -> Path:
    """Writes a sheet of the first ``TASKS`` tasks: their frames to fine-tune on and to do well on, with their masks.

    Raises:
        BadInput: data that cannot be used, a file that is not to be a PNG, or one that cannot be written.
    """
    if file.suffix.lower() != ".png":
        raise BadInput(f"--preview {file}: is written as PNG; name a file that ends in .png")
    training = training.with_absolute_paths()
    data = open_mixture(training.data, training.data_weights)
    config = stream_config(training, data)
    shown = []
    for task in islice(planned(data, config, 0, TASKS), TASKS):
        sides = config.short_side, config.long_side
        frames = task_frames(data.sequences, task, config.augmentation, config.seed, *sides, config.targets)
        sequence, object_id, positions = task.target
        name = f"{data.names([sequence])[0]}, object {object_id}, frames {', '.join(map(str, positions))}"
        images = torch.cat((frames.train_images, frames.test_images))
        masks = torch.cat((frames.train_masks, frames.test_masks))
        shown.append((name, [overlay(image, _known(mask)) for image, mask in zip(images, masks, strict=True)]))
    rows = [
        ("\n".join(name for name, _ in row), [image for _, images in row for image in images])
        for row in (shown[first : first + PER_ROW] for first in range(0, TASKS, PER_ROW))
    ]
    plan = training.plan
    headings = ["train"] * plan.train_frames + ["test"] * plan.test_frames
    sheet = io.BytesIO()
    contact_sheet(rows, headings * PER_ROW).save(sheet, "PNG")
    return write_result(file, sheet.getvalue())


def _known(mask: Tensor) -> Tensor:
    return torch.where(mask == VOID, 0, mask)
