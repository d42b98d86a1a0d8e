"""Several datasets as one: what is held out, what is left out, and what says which content it is."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from eosvos.data.config import PlanConfig
from eosvos.data.mixture import Mixture, open_mixture
from eosvos.data.parquet import encode, open_dataset
from eosvos.data.readers.synthetic import SyntheticSettings, synthetic
from eosvos.data.tasks import plan
from eosvos.draws import Stream
from eosvos.errors import BadInput


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> str:
    """60 videos of three frames."""
    folder = tmp_path_factory.mktemp("data") / "videos"
    encode(synthetic("train", 60, SyntheticSettings(size=32, frames=3)), folder, {})
    return str(folder)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Five videos of one frame."""
    folder = tmp_path_factory.mktemp("data") / "images"
    encode(synthetic("held", 5, SyntheticSettings(size=32, frames=1)), folder, {})
    return str(folder)


@given(share=st.floats(0, 0.99), seed=st.integers(0, 1000))
@settings(max_examples=30)
def test_a_share_of_the_videos_is_held_out(videos: str, images: str, share: float, seed: int) -> None:
    count = max(round(share * 60), 1) if share > 0 else 0
    alone = open_mixture([videos])
    held = alone.held_out(share, seed)
    assert (len(set(held)), sorted(held)) == (count, list(held))
    drawn = Stream.HELD_OUT.numpy(seed).choice(60, size=count, replace=False)
    assert held == tuple(sorted(drawn.tolist()))  # published figures depend on it
    assert open_mixture([videos, images]).held_out(share, seed) == held  # none of the images
    behind = open_mixture([images, videos], (3, 1)).held_out(share, seed)
    assert behind == tuple(5 + place for place in held)


def test_the_seed_decides_what_is_held_out(videos: str) -> None:
    assert len({open_mixture([videos]).held_out(0.2, seed) for seed in range(10)}) > 5


def test_what_cannot_be_held_out(videos: str, images: str) -> None:
    with pytest.raises(BadInput, match=r"--held-out 0.995: leaves none of 60 sequences of .*videos to train on"):
        open_mixture([images, videos]).held_out(0.995, 0)
    with pytest.raises(BadInput, match=r"--held-out 0.2: .*images: none has two sequences, one a video with"):
        open_mixture([images]).held_out(0.2, 0)


def test_only_videos_that_can_be_scored_are_held_out(tmp_path: Path, make_sequence: Any) -> None:
    one, none = np.ones((9, 7), np.uint8), np.zeros((9, 7), np.uint8)
    masks = {"late": [none, one, one, one], "short": [one, one], "sparse": [one, None, None, one], "good": [one] * 3}
    encode([make_sequence(name, frames) for name, frames in masks.items()], tmp_path / "data", {})
    mixture = open_mixture([str(tmp_path / "data")])
    assert mixture.names(mixture.held_out(0.9, 0)) == ["good"]


def test_windows_are_parts_of_the_right_sequence(tmp_path: Path, make_sequence: Any) -> None:
    one = np.ones((9, 7), np.uint8)
    for name, masks in {"0": [one, None, one], "1": [None, *[one] * 3, None, *[one] * 3, None]}.items():
        encode([make_sequence("few", masks)], tmp_path / name, {})
    mixture = open_mixture([str(tmp_path / "0"), str(tmp_path / "1")])
    for place, expected in enumerate([[(0, 1, 2)], [(1, 2, 3), (5, 6, 7)]]):
        whole = mixture.sequences[place]
        for window, positions in zip(mixture.windows(place, 3, 2), expected, strict=True):
            assert window.frame_names == tuple(whole.frame_names[position] for position in positions)
            for number, position in enumerate(positions):
                assert torch.equal(window.frame(number)[0], whole.frame(position)[0])


def test_a_held_out_video_is_not_trained_on_by_the_same_name_elsewhere(tmp_path: Path, make_sequence: Any) -> None:
    one = np.ones((9, 7), np.uint8)
    for number, names in enumerate((("bear", "boat"), ("bear", "cows"))):
        encode([make_sequence(name, [one * (number + 1)] * 3) for name in names], tmp_path / str(number), {})
    mixture = open_mixture([str(tmp_path / "0"), str(tmp_path / "1")])
    assert mixture.names([0, 1, 2, 3]) == ["made/bear", "made/boat", "made/bear", "made/cows"]
    assert mixture.without([0]) == (0, 2)
    assert mixture.without([3]) == (3,)
    sources = mixture.sources(PlanConfig(), mixture.without([0]))
    assert {task.sequence for task in plan(sources, PlanConfig(), 0, 1, 0, 20)} == {1, 3}
    by_dataset = mixture.names_by_dataset([0, 3])
    assert by_dataset == {mixture.datasets[0].hash: ["bear"], mixture.datasets[1].hash: ["cows"]}


def test_a_tasks_sequence_is_the_one_whose_objects_the_plan_knows(videos: str, images: str) -> None:
    mixture = open_mixture([images, videos], (1, 2))
    for task in plan(mixture.sources(PlanConfig()), PlanConfig(), 0, 4, 0, 10):
        mask = mixture.sequences[task.sequence].mask(task.frames[0])
        assert mask is not None
        assert task.object_id in mask
    owners = [
        mixture.sequences[t.sequence].name[:4] for t in plan(mixture.sources(PlanConfig()), PlanConfig(), 0, 3, 0, 4)
    ]
    assert owners.count("held") == 4


def test_a_mixture_is_known_by_its_content(videos: str, images: str) -> None:
    one, both = open_mixture([videos]), open_mixture([videos, images])
    assert one.hash == open_dataset(videos).hash
    assert len({one.hash, both.hash, open_mixture([images, videos]).hash, open_mixture([images]).hash}) == 4
    assert len(both.sequences) == 65  # so that what is made of the index is there
    assert len(pickle.dumps(both)) < 1000
    again: Mixture = pickle.loads(pickle.dumps(both))
    assert (again.hash, len(again.sequences)) == (both.hash, 65)


BAD: dict[str, tuple[list[str], tuple[int, ...]]] = {
    r"--data: name an encoded dataset": ([], ()),
    r"--data-weights: 1 for 2 datasets; give one for each": (["videos", "images"], (3,)),
    r"--data .*videos: is the same as .*videos; leave one out": (["videos", "videos"], ()),
    r"elsewhere: no such folder": (["videos", "elsewhere"], ()),
}


@pytest.mark.parametrize("message", BAD)
def test_what_cannot_be_mixed(message: str, videos: str, images: str) -> None:
    names, weights = BAD[message]
    with pytest.raises(BadInput, match=message):
        open_mixture([{"videos": videos, "images": images}.get(name, name) for name in names], weights)
