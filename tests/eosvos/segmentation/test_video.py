"""From a clip and masks to a folder, with a detector that sees the truth."""

import json
import shutil
from collections.abc import Iterator, Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from eosvos.data.palette import DAVIS_PALETTE, encode_mask
from eosvos.data.readers.clip import Clip, ClipFrame, open_clip
from eosvos.data.readers.masks import open_masks, read_mask
from eosvos.data.readers.synthetic import SyntheticSettings, synthetic
from eosvos.data.sequence import object_ids
from eosvos.errors import BadInput
from eosvos.figures.overlay import overlay
from eosvos.files import locked
from eosvos.learning.config import RatesConfig
from eosvos.learning.optimization import Optimization
from eosvos.learning.rates import initial_rates
from eosvos.model.config import ModelConfig
from eosvos.model.weights import initial_model
from eosvos.segmentation import video
from eosvos.segmentation.adaptation import AdaptedObject
from eosvos.segmentation.following import Found
from eosvos.segmentation.merging import Prediction
from eosvos.segmentation.one_shot import Frame, OneShotSegmenter
from eosvos.segmentation.video import WRITTEN, Reporting, check_out, segment_clip
from tests.eosvos.segmentation.objects import Given

REAL = Path(__file__).parents[4] / "shared" / "data" / "multi_object"


class Perfect(OneShotSegmenter):
    """Its detector sees the truth where a frame has one, and nothing elsewhere."""

    def __init__(self, optimization: Optimization, truths: Mapping[int, Tensor]) -> None:
        super().__init__(optimization)
        self.truths = truths
        self.seen: list[tuple[int, int]] = []

    def find(self, adapted: AdaptedObject, frame: Frame, position: int) -> Found:
        self.seen.append((position, adapted.id))
        seen = self.truths.get(position, torch.zeros(frame.whole.frame)) == adapted.id
        box = torch.tensor([0.0, 0.0, 1.0, 1.0]) if seen.any() else None
        return Given(frame.whole, Prediction(seen.float(), box, 0.75))


@pytest.fixture(scope="module")
def optimization(micro: ModelConfig) -> Optimization:
    model, _ = initial_model(micro, "none", seed=0)
    return Optimization(micro, model.state_dict(), initial_rates(model, RatesConfig()))


@pytest.fixture(scope="module")
def truths() -> dict[int, Tensor]:
    """Five frames of three objects, of which 2 enters in the third frame; the others are called 7 and 255."""
    (sequence,) = synthetic("held", 1, SyntheticSettings(size=67, frames=5))
    result = {}
    for position in range(5):
        mask = sequence.mask(position)
        assert mask is not None
        mask = torch.where(mask == 1, 7, torch.where(mask == 3, 255, mask)).to(torch.uint8)
        result[position] = mask * (mask != 2) if position < 2 else mask
    return result


@pytest.fixture(scope="module")
def clip() -> Clip:
    """Odd sides, uneven times, names that do not start at 0."""
    (sequence,) = synthetic("held", 1, SyntheticSettings(size=67, frames=5))
    names, times = tuple(f"shot_{k}" for k in range(98, 103)), [Fraction(k, 10) for k in (0, 1, 5, 6, 12)]

    def read() -> Iterator[ClipFrame]:
        for position, (name, time) in enumerate(zip(names, times, strict=True)):
            yield ClipFrame(name, sequence.frame(position)[0], time)

    return Clip(Path("synthetic"), (67, 67), 5, names, read)


def _first_masks(truths: Mapping[int, Tensor]) -> dict[int, Tensor]:
    masks, seen = {}, set[int]()
    for position, mask in sorted(truths.items()):
        if new := set(object_ids(mask)) - seen:
            masks[position] = mask * torch.isin(mask, torch.tensor(list(new), dtype=torch.uint8))
            seen |= new
    return masks


def test_the_truth_comes_out_as_it_went_in(
    optimization: Optimization, clip: Clip, truths: dict[int, Tensor], tmp_path: Path
) -> None:
    segmenter = Perfect(optimization, truths)
    steps: list[tuple[int, int]] = []
    frames: list[int] = []
    report = segment_clip(
        segmenter,
        clip,
        _first_masks(truths),
        tmp_path / "out",
        2,
        reporting=Reporting({"who": "a test"}, lambda *step: steps.append(step), frames.append),
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out"]
    assert sorted(path.name for path in (tmp_path / "out" / "masks").iterdir()) == sorted(
        f"{name}.png" for name in clip.frame_names or ()
    )
    for position, name in enumerate(clip.frame_names or ()):
        with Image.open(tmp_path / "out" / "masks" / f"{name}.png") as image:
            assert image.mode == "P"
            assert np.array_equal(np.reshape(image.getpalette(), (-1, 3)), DAVIS_PALETTE)
            assert np.array_equal(np.asarray(image), truths[position].numpy())
    assert sorted(segmenter.seen) == [
        (1, 7), (1, 255), (2, 7), (2, 255), (3, 2), (3, 7), (3, 255), (4, 2), (4, 7), (4, 255),
    ]  # fmt: skip
    assert steps == [(7, 1), (7, 2), (255, 1), (255, 2), (2, 1), (2, 2)]
    assert frames == [1, 2, 3, 4, 5]
    written = json.loads((tmp_path / "out" / "segmentation.json").read_text())
    assert written == json.loads(json.dumps(report))
    assert written["who"] == "a test"
    assert set(written["objects"]) == {"2", "7", "255"}
    assert written["frames"][0] == {"name": "shot_98", "boxes": {}, "scores": {}}
    assert written["frames"][3]["scores"] == {"2": 0.75, "7": 0.75, "255": 0.75}
    seconds = written["seconds"]
    assert seconds["fine_tuning"] == pytest.approx(
        sum(target["fine_tuning_seconds"] for target in written["objects"].values())
    )
    assert sum(value for name, value in seconds.items() if name != "total") <= seconds["total"]
    own = seconds["fine_tuning"] + seconds["adaptation"] + seconds["inference"]
    assert written["fps"] == pytest.approx(3 * 5 / (own + 3 * seconds["input"]))
    assert own + seconds["input"] < 5 / written["video_fps"] < seconds["total"] - seconds["output"]


def test_the_overlay_video_keeps_sizes_times_and_colours(
    optimization: Optimization, clip: Clip, truths: dict[int, Tensor], tmp_path: Path
) -> None:
    segment_clip(Perfect(optimization, truths), clip, _first_masks(truths), tmp_path / "out", 0)
    video = open_clip(tmp_path / "out" / "overlay.mp4")
    assert (video.size, video.count) == ((68, 68), 5)  # even, as players need it
    for position, (shown, frame) in enumerate(zip(video.read(), clip.read(), strict=True)):
        assert float(shown.time) == pytest.approx(float(frame.time), abs=1e-3)
        painted = overlay(frame.image, truths[position]).float()
        assert float((shown.image[:, :67, :67].float() - painted).abs().mean()) < 12
    with Image.open(tmp_path / "out" / "contact_sheet.png") as sheet:
        assert sheet.width > 200


def test_what_fails_leaves_the_result_that_was_there(
    optimization: Optimization, clip: Clip, truths: dict[int, Tensor], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    late = {0: truths[0], 7: truths[0]}
    with pytest.raises(BadInput, match="mask of frame 7 is beyond the video"):
        segment_clip(Perfect(optimization, truths), clip, late, out, 0)
    assert [path.name for path in tmp_path.iterdir()] == ["out.partial"]  # what was done so far
    assert len(list((tmp_path / "out.partial" / "masks").iterdir())) == 5
    assert not (tmp_path / "out.partial" / "segmentation.json").exists()
    segment_clip(Perfect(optimization, truths), clip, {0: truths[0]}, out, 0)
    before = (out / "segmentation.json").read_bytes()
    with pytest.raises(BadInput, match="mask of frame 7"):
        segment_clip(Perfect(optimization, truths), clip, late, out, 0)
    assert (out / "segmentation.json").read_bytes() == before
    with locked(tmp_path / "out.partial"), pytest.raises(BadInput, match=r"out.partial: another run is writing there"):
        segment_clip(Perfect(optimization, {}), clip, {0: truths[0]}, out, 0)
    segment_clip(Perfect(optimization, {}), clip, {0: truths[0]}, out, 0)
    assert not read_mask(out / "masks" / "shot_99.png").any()
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_where_a_result_may_go(tmp_path: Path) -> None:
    check_out(tmp_path / "new", False)
    check_out(tmp_path, False)
    (tmp_path / "segmentation.json").write_text("{}")
    check_out(tmp_path, True)
    with pytest.raises(BadInput, match="holds the result of another run; give another --out, or --overwrite"):
        check_out(tmp_path, False)
    partial = tmp_path.with_name(f"{tmp_path.name}.partial")
    for folder in (tmp_path, partial):
        with pytest.raises(BadInput, match=r"masks: is in .*, which the result goes to"):
            check_out(tmp_path, True, [folder / "masks"])
    (tmp_path / ".DS_Store").touch()
    check_out(tmp_path, True)
    for change in (lambda: (tmp_path / "thesis.txt").touch(), (tmp_path / "segmentation.json").unlink):
        change()
        with pytest.raises(BadInput, match="holds other files than a result of ours"):
            check_out(tmp_path, True)
    (tmp_path / "file").touch()
    with pytest.raises(BadInput, match=r"file/out.partial: cannot be made"):
        segment_clip(None, None, {}, tmp_path / "file" / "out", 0)  # type: ignore[arg-type]


def test_a_folder_that_only_looks_like_ours_stays(tmp_path: Path) -> None:
    (tmp_path / "out.partial").mkdir()
    (tmp_path / "out.partial" / "thesis.txt").touch()
    with pytest.raises(BadInput, match=r"out\.partial: exists and holds other files than a result of ours"):
        check_out(tmp_path / "out", True)
    (tmp_path / "clip").mkdir()
    (tmp_path / "clip" / "masks").mkdir()
    with pytest.raises(BadInput, match="clip: exists and holds other files than a result of ours"):
        check_out(tmp_path / "clip", True)


@pytest.mark.parametrize("moved", [0, 1, 2])
def test_a_kill_while_the_result_is_replaced(
    optimization: Optimization,
    clip: Clip,
    truths: dict[int, Tensor],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    moved: int,
) -> None:
    """What is left is ours to overwrite, and is no whole result until then."""
    out, move, moves = tmp_path / "out", shutil.move, list[Path]()

    def killed(source: Path, target: Path) -> None:
        if len(moves) == moved:
            raise KeyboardInterrupt
        moves.append(target)
        move(source, target)

    segment_clip(Perfect(optimization, truths), clip, {0: truths[0]}, out, 0)
    monkeypatch.setattr(shutil, "move", killed)
    with pytest.raises(KeyboardInterrupt):
        segment_clip(Perfect(optimization, truths), clip, {0: truths[0]}, out, 0)
    monkeypatch.undo()
    assert not (out / "segmentation.json").exists()
    check_out(out, True)
    if moved:
        with pytest.raises(BadInput, match="holds the result of another run"):
            check_out(out, False)
    segment_clip(Perfect(optimization, {}), clip, {0: truths[0]}, out, 0)
    assert sorted(path.name for path in out.iterdir()) == sorted(WRITTEN)
    assert not read_mask(out / "masks" / "shot_99.png").any()
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_kill_before_the_result_is_replaced(
    optimization: Optimization,
    clip: Clip,
    truths: dict[int, Tensor],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The old result stays whole, also when the next run fails."""
    out = tmp_path / "out"
    segment_clip(Perfect(optimization, truths), clip, {0: truths[0]}, out, 0)
    before = {path: path.read_bytes() for path in out.rglob("*.*")}

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(video, "_replace", killed)
    with pytest.raises(KeyboardInterrupt):
        segment_clip(Perfect(optimization, truths), clip, {0: truths[0]}, out, 0)
    monkeypatch.undo()
    check_out(out, True)
    with pytest.raises(BadInput, match="mask of frame 7"):
        segment_clip(Perfect(optimization, truths), clip, {0: truths[0], 7: truths[0]}, out, 0)
    assert {path: path.read_bytes() for path in out.rglob("*.*")} == before


def test_an_empty_folder_may_be_a_mount_point(
    optimization: Optimization, clip: Clip, truths: dict[int, Tensor], tmp_path: Path
) -> None:
    (tmp_path / "out").mkdir()
    before = (tmp_path / "out").stat().st_ino
    segment_clip(Perfect(optimization, truths), clip, {0: truths[0]}, tmp_path / "out", 0)
    assert (tmp_path / "out").stat().st_ino == before
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(WRITTEN)


@pytest.mark.slow
@pytest.mark.skipif(not REAL.is_dir(), reason="the multi-object clips are not beside the checkout (shared/data)")
@pytest.mark.parametrize("name", ["davis2017/schoolgirls", "pumavos/caps", "pumavos/chair", "pumavos/chair/chair.mp4"])
def test_the_truth_of_real_clips(optimization: Optimization, tmp_path: Path, name: str) -> None:
    """Late entry (caps), seven objects (schoolgirls), frames and video file (chair)."""
    folder = REAL / name if (REAL / name).is_dir() else (REAL / name).parent
    clip = open_clip(folder / "frames" if folder == REAL / name else REAL / name)
    given = open_masks(folder / "masks", clip, corrections=False)
    truths = {position: read_mask(file) for position, file in given.files.items()}
    segment_clip(Perfect(optimization, truths), clip, given, tmp_path / "out", 0)
    names = [frame.name for frame in clip.read()]
    entered = given.objects
    for position, truth in truths.items():
        mask = torch.from_numpy(np.array(Image.open(tmp_path / "out" / "masks" / f"{names[position]}.png")))
        assert torch.equal(mask, truth)
        assert all(entered[object_id] <= position for object_id in object_ids(mask))
    assert len(list((tmp_path / "out" / "masks").iterdir())) == len(names)


def test_a_mask_file_as_we_write_it_is_read_as_it_was(tmp_path: Path, truths: dict[int, Tensor]) -> None:
    ids: Any = truths[4] * (truths[4] != 255)
    (tmp_path / "a.png").write_bytes(encode_mask(ids))
    assert torch.equal(read_mask(tmp_path / "a.png"), ids)
