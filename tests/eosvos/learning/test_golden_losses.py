"""The losses of ten outer steps of a tiny parent and a tiny meta-training are those of a committed file.

``python tests/eosvos/learning/test_golden_losses.py --renew`` writes them anew; the difference is then part of the
change that is reviewed.
"""

import io
import json
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from eosvos.data.augment import task_frames
from eosvos.data.config import AugmentationConfig, PlanConfig
from eosvos.data.palette import encode_mask
from eosvos.data.parquet import encode, open_dataset
from eosvos.data.sequence import EncodedFrame, Sequence
from eosvos.data.tasks import Source, learnable, plan
from eosvos.learning.config import OuterConfig, RatesConfig
from eosvos.learning.learner import Learner, Measures, MetaLearner, ParentLearner
from eosvos.learning.optimization import Optimization
from eosvos.learning.outer_loop import GradientSum, Learned
from eosvos.model.config import ModelConfig
from eosvos.model.normalization import running_statistics, update_statistics
from eosvos.model.weights import initial_model

GOLDEN = Path(__file__).parents[2] / "assets" / "golden_losses.json"
SEED, STEPS = 3, 10
TOLERANCE = 1e-5
"""Relative. Without vector instructions the figures differ by 5e-9, with other threads by 1e-15."""
OUTER = OuterConfig(steps=STEPS, meta_batch=4, learning_rate=1e-3)
RATES = RatesConfig(initial_rate=0.01, rate_spread=0.5)
LEARNERS: dict[str, tuple[str, Learner]] = {
    "parent": ("frozen_batch", ParentLearner(SEED, learns_statistics=True)),
    "meta": ("group", MetaLearner(3, 0, "first", 0.0, STEPS, RATES, SEED)),
    "meta_second_order": ("group", MetaLearner(3, 1, "second", 0.5, STEPS, RATES, SEED)),
}
"""Name -> normalization of the model, and what is learned."""


# Colours and flips are whole numbers on every machine; what turns or zooms a frame is not.
EXACT = AugmentationConfig(
    rotation=0.0, scale=(1.0, 1.0), brightness=0.0, contrast=0.0, saturation=0.0, hue=0.0, channel_permutation=0.5
)


def video(index: int) -> Sequence:
    """Two ellipses of their own colours that move over noise, in three frames of 64x64, as PNG."""
    rng = np.random.default_rng(index)
    centres, speeds = rng.integers(16, 48, (2, 2)), rng.integers(-6, 7, (2, 2))
    radii, colours = rng.integers(8, 16, (2, 2)), rng.integers(60, 256, (2, 3))
    y, x = np.mgrid[:64, :64]
    frames = []
    for position in range(3):
        image = rng.integers(0, 90, (64, 64, 3))
        mask = np.zeros((64, 64), np.uint8)
        for number, (centre, speed, (height, width), colour) in enumerate(
            zip(centres, speeds, radii, colours, strict=True), 1
        ):
            top, left = centre + position * speed
            inside = ((y - top) * width) ** 2 + ((x - left) * height) ** 2 < (height * width) ** 2
            image[inside], mask[inside] = image[inside] // 2 + colour // 2, number
        data = io.BytesIO()
        Image.fromarray(image.astype(np.uint8)).save(data, "PNG")
        frames.append(EncodedFrame(data.getvalue(), encode_mask(mask), f"{position}.png", f"{position}.png"))
    return Sequence("made", f"video-{index}", ("0", "1", "2"), False, frames.__getitem__)


def losses(name: str, folder: Path) -> list[Measures]:
    """What each outer step measures, in double precision."""
    normalization, learner = LEARNERS[name]
    if not (folder / "data").exists():
        encode([video(index) for index in range(4)], folder / "data", {"made": "for tests"})
    dataset = open_dataset(folder / "data")
    config = ModelConfig(
        backbone="tiny",
        normalization=normalization,
        short_side=64,
        long_side=128,
        widths=(4, 8, 8),
        fpn_channels=8,
        anchor_sizes=(16, 24, 32, 48),
        rpn_samples=32,
        proposals_train=32,
        proposals_test=16,
        roi_samples=16,
        box_head_channels=16,
        mask_head_channels=(8,),
        mask_roi_size=7,
    )
    model = initial_model(config, "none", SEED)[0].double()
    # Of torch's own draws the last bit depends on the machine, and one flipped choice grows to a per cent in ten steps.
    rng = np.random.default_rng(SEED)
    for parameter in model.parameters():
        if parameter.dim() > 1:
            parameter.data = torch.from_numpy(rng.standard_normal(parameter.shape)) * float(f"{parameter.std():.2g}")
    start = learner.start(Optimization(config, model.state_dict(), None), "test")
    initialization = [start.initialization[own] for own in start.parameter_names()]
    rates = list(start.rates.learned.values()) if start.rates else []
    learned = Learned(initialization, rates, OUTER)
    norms = learner.prepare(model)
    total = GradientSum(learned, running_statistics(norms))
    tasks = plan([Source(learnable(dataset))], PlanConfig(), SEED, OUTER.meta_batch, 0, STEPS)
    result = []
    for step in range(STEPS):
        total.clear()
        for slot in range(OUTER.meta_batch):
            task = next(tasks)
            frames = task_frames(dataset.sequences, task, EXACT, SEED, 64, 128)
            total.add(slot, learner.gradient(model, learned, frames, task, step))
        found = total.mean()
        learned.step(total, step)
        update_statistics(norms, total.statistics)
        result.append(learner.measures(found, learned))
    return result


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("golden")


@pytest.mark.parametrize("name", LEARNERS)
def test_losses_are_those_that_are_written_down(name: str, folder: Path) -> None:
    golden = json.loads(GOLDEN.read_text())[name]
    own = losses(name, folder)
    assert len(own) == len(golden) == STEPS
    for step, (mine, written) in enumerate(zip(own, golden, strict=True), 1):
        assert mine == pytest.approx(written, rel=TOLERANCE), f"outer step {step}"


if __name__ == "__main__" and sys.argv[1:] == ["--renew"]:
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as temporary:
        GOLDEN.write_text(json.dumps({name: losses(name, Path(temporary)) for name in LEARNERS}, indent=1) + "\n")
