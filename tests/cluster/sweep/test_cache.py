"""The cache of fine-tuned states: same results, fewer steps, an object's full time, a bounded size."""

import threading
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from cluster.sweep.cache import FineTuningCache, key_of
from eosvos.data.parquet import EncodedDataset, open_dataset
from eosvos.evaluation.results import SequenceResult
from eosvos.evaluation.sequence import SequenceSettings, evaluate_sequence
from eosvos.learning.inner_loop import fine_tune
from eosvos.learning.optimization import Optimization, load, read_safetensors
from eosvos.segmentation import adaptation
from eosvos.segmentation.adaptation import AdaptedObject
from eosvos.segmentation.config import FINE_TUNING, SegmentationConfig
from eosvos.segmentation.one_shot import OneShotSegmenter

STOPS = (1, 3, 4)
OBJECTS = 3


@pytest.fixture(scope="module")
def optimization(trained: Path) -> Optimization:
    return load(trained / "meta.safetensors")


@pytest.fixture(scope="module")
def dataset(trained: Path) -> EncodedDataset:
    return open_dataset(trained / "held")


def _evaluated(
    optimization: Optimization, dataset: EncodedDataset, T: int, cache: FineTuningCache | None, online: bool = False
) -> tuple[SequenceResult, list[bytes]]:
    segmentation = SegmentationConfig(online_interval=2, online_frames=1) if online else SegmentationConfig()
    settings = SequenceSettings((T,), segmentation=segmentation)
    extra = {} if cache is None else {"fine_tuner": cache}
    (result,), (masks,) = evaluate_sequence(optimization, dataset.sequences[0], settings, **extra)
    return result, masks


@pytest.mark.parametrize("order", [(1, 3, 4), (4, 1, 3)])
@pytest.mark.parametrize("online", [False, True])
def test_the_same_masks_with_fewer_steps(
    optimization: Optimization, dataset: EncodedDataset, tmp_path: Path, order: tuple[int, ...], online: bool
) -> None:
    cache = FineTuningCache(tmp_path, "key", STOPS, 2**30)
    known = computed = 0
    for T in order:
        plain, plain_masks = _evaluated(optimization, dataset, T, None, online)
        cached, cached_masks = _evaluated(optimization, dataset, T, cache, online)
        assert cached_masks == plain_masks
        assert [one.scores for one in cached.objects] == [one.scores for one in plain.objects]
        assert plain.computed_steps == OBJECTS * T
        computed += cached.computed_steps
        known = max(known, T)
        assert computed == OBJECTS * known


def test_what_is_taken_over_costs_what_it_cost(
    optimization: Optimization, dataset: EncodedDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a clock that a fine-tuning step moves by one second."""
    now = [0.0]

    def step(*arguments: Any) -> Any:
        now[0] += 1
        return fine_tune(*arguments)

    monkeypatch.setattr(adaptation, "fine_tune", step)
    monkeypatch.setattr(adaptation.time, "perf_counter", lambda: now[0])
    cache = FineTuningCache(tmp_path, "key", STOPS, 2**30)
    image, mask = dataset.sequences[0].frame(0)
    assert mask is not None
    seconds, computed = [], []
    for _ in range(2):
        adapted: dict[int, AdaptedObject] = {}
        segmenter = OneShotSegmenter(optimization, fine_tuner=cache)
        list(segmenter.segment([image], {0: mask}, 4, adapted=adapted))
        seconds.append([one.fine_tuning_seconds for one in adapted.values()])
        computed.append(sum(one.computed for one in adapted.values()))
    assert computed == [OBJECTS * 4, 0]
    assert seconds == [[4.0] * OBJECTS] * 2


def test_the_size_is_bounded_and_the_oldest_go_first(
    optimization: Optimization, dataset: EncodedDataset, tmp_path: Path
) -> None:
    unbounded = FineTuningCache(tmp_path / "all", "key", STOPS, 2**30)
    result, masks = _evaluated(optimization, dataset, 4, unbounded)
    files = sorted((tmp_path / "all").rglob("*.safetensors"))
    assert len(files) == OBJECTS * len(STOPS)
    limit = 4 * max(path.stat().st_size for path in files)
    bounded = FineTuningCache(tmp_path / "few", "key", STOPS, limit)
    for _ in range(2):
        other, other_masks = _evaluated(optimization, dataset, 4, bounded)
        assert (other_masks, [one.scores for one in other.objects]) == (masks, [one.scores for one in result.objects])
        left = list((tmp_path / "few").rglob("*.safetensors"))
        assert sum(path.stat().st_size for path in left) <= limit
        assert {path.parent.name for path in left} <= {"object-2", "object-3"}  # the first object's are the oldest
    nothing = FineTuningCache(tmp_path / "none", "key", STOPS, 0)
    assert _evaluated(optimization, dataset, 4, nothing)[1] == masks
    assert not list((tmp_path / "none").rglob("*.safetensors"))


def test_two_at_once_compute_what_one_would(
    optimization: Optimization, dataset: EncodedDataset, tmp_path: Path
) -> None:
    cache = FineTuningCache(tmp_path, "key", STOPS, 2**30)
    results: list[tuple[SequenceResult, list[bytes]]] = []
    threads = [
        threading.Thread(target=lambda: results.append(_evaluated(optimization, dataset, 4, cache))) for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(result.computed_steps for result, _ in results) == OBJECTS * 4
    assert results[0][1] == results[1][1]


def test_a_file_that_is_no_state_is_made_anew(
    optimization: Optimization, dataset: EncodedDataset, tmp_path: Path
) -> None:
    cache = FineTuningCache(tmp_path, "key", STOPS, 2**30)
    _, masks = _evaluated(optimization, dataset, 3, cache)
    for path in tmp_path.rglob("3.safetensors"):
        path.write_bytes(b"half")
    result, again = _evaluated(optimization, dataset, 3, cache)
    assert (again, result.computed_steps) == (masks, OBJECTS * 2)


def test_a_state_that_diverged_has_diverged(
    dataset: EncodedDataset, optimization: Optimization, tmp_path: Path
) -> None:
    hot = optimization.with_single_rate(1e9)
    cache = FineTuningCache(tmp_path, "key", STOPS, 2**30)
    first, masks = _evaluated(hot, dataset, 4, cache)
    again, masks_again = _evaluated(hot, dataset, 4, cache)
    assert first.diverged
    assert again.diverged
    assert masks == masks_again


def test_the_self_check_does_not_bring_back_a_state_of_fewer_steps(
    optimization: Optimization, dataset: EncodedDataset, tmp_path: Path
) -> None:
    """No overlap passes, so that after 2 steps each object is left in another state than that of its steps."""
    settings = SequenceSettings((2, 4), segmentation=SegmentationConfig(self_check=1.0))
    cache = FineTuningCache(tmp_path, "key", STOPS, 2**30)
    expected = evaluate_sequence(optimization, dataset.sequences[0], settings)[1]
    for _ in range(2):  # the second time all states are taken over
        assert evaluate_sequence(optimization, dataset.sequences[0], settings, cache)[1] == expected


OTHER = {
    "rate_scale": 2.0,
    "input_scale": 0.5,
    "transforms": 1,
    "view": 1.5,
    "view_least": 0.9,
    "view_shape": "square",
    "continuity": 0.5,
    "follow_threshold": 0.3,
    "tell_apart": 0.5,
    "merging": "score",
    "self_check": 1.0,
    "box_propagation": False,
    "online_interval": 2,
    "online_steps": 3,
    "online_frames": 1,
    "online_choice": "release",
    "online_reset": "none",
    "online_threshold": 0.7,
    "online_path": 0.5,
    "online_void": 0.2,
    "online_first_weight": 3.0,
    "pasting": "release",
}


@pytest.mark.parametrize("name", [field.name for field in fields(SegmentationConfig)])
def test_the_key_has_what_fine_tuning_depends_on_and_no_more(
    optimization: Optimization, dataset: EncodedDataset, tmp_path: Path, name: str
) -> None:
    """Two settings have one key just where their states are the same, to the bit."""
    one = SequenceSettings((2,), segmentation=SegmentationConfig(online_interval=3, view=1.0))
    two = replace(one, segmentation=replace(one.segmentation, **{name: OTHER[name], "online_frames": 1}))
    states = []
    for number, settings in enumerate((one, two)):
        cache = FineTuningCache(tmp_path / str(number), "key", (2,), 2**30)
        evaluate_sequence(optimization, dataset.sequences[0], settings, cache)
        path = tmp_path / str(number) / "key" / "object-1" / "2.safetensors"
        states.append(read_safetensors(path)[0])
    assert (key_of("i", "s", one) == key_of("i", "s", two)) == (name not in FINE_TUNING)
    same = all(torch.equal(tensor, states[1][key]) for key, tensor in states[0].items())
    assert same == (name not in FINE_TUNING or name == "view_shape")  # the frames are square here


def test_the_key_depends_on_everything_else() -> None:
    settings = SequenceSettings((5,))
    keys = {
        key_of("inputs", "bear", settings),
        key_of("other", "bear", settings),
        key_of("inputs", "goat", settings),
        key_of("inputs", "bear", replace(settings, seed=1)),
        key_of("inputs", "bear", replace(settings, frames=5)),
        key_of("inputs", "bear", replace(settings, learning_rates=(0.1,))),
        key_of("inputs", "bear", replace(settings, threads=2)),
        key_of("inputs", "bear", replace(settings, device="cuda")),
    }
    assert len(keys) == 8
