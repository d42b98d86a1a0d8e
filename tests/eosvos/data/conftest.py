"""A small folder in the official DAVIS 2016 layout, to be damaged by each test in its own way."""

import io
import itertools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from eosvos.data.palette import encode_mask
from eosvos.data.parquet import encode, open_dataset
from eosvos.data.sequence import VOID, EncodedFrame, Sequence


@pytest.fixture
def davis_root(tmp_path: Path) -> Path:
    """Sequences bear (4 frames) and surf (3 frames, the last mask empty) of 20x30 pixels; lists train and fit."""
    root = tmp_path / "davis"
    rng = np.random.default_rng(0)
    lines = []
    for name, count in (("bear", 4), ("surf", 3)):
        for kind in ("JPEGImages", "Annotations"):
            (root / kind / "480p" / name).mkdir(parents=True)
        for frame in range(count):
            image, mask = f"/JPEGImages/480p/{name}/{frame:05d}.jpg", f"/Annotations/480p/{name}/{frame:05d}.png"
            Image.fromarray(rng.integers(0, 256, (20, 30, 3), dtype=np.uint8)).save(root / image[1:])
            values = np.zeros((20, 30), np.uint8)
            if (name, frame) != ("surf", 2):
                values[3 : 8 + frame, 5:11] = 255
            Image.fromarray(values).save(root / mask[1:])
            lines.append(f"{image} {mask}")
    lists = root / "ImageSets" / "480p"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text(" \n".join(lines) + " \n\n")
    (lists / "fit.txt").write_text("\n".join(lines[::2]))
    return root


@pytest.fixture(scope="session")
def make_sequence() -> Callable[..., Sequence]:
    """Masks, one per frame, each an (H, W) uint8 array or None -> a sequence of noise with these masks."""

    def make(name: str, masks: list[np.ndarray | None], dataset: str = "made", merge: bool = False) -> Sequence:
        rng = np.random.default_rng(len(name))
        shape = next((mask.shape for mask in masks if mask is not None), (9, 7))
        frames = []
        for position, mask in enumerate(masks):
            image_bytes = io.BytesIO()
            Image.fromarray(rng.integers(0, 256, (*shape, 3), dtype=np.uint8)).save(image_bytes, "JPEG")
            mask_bytes = None if mask is None else encode_mask(mask)
            source = f"{name}/{position}"
            frames.append(EncodedFrame(image_bytes.getvalue(), mask_bytes, f"{source}.jpg", f"{source}.png"))
        return Sequence(dataset, name, tuple(f"{p:05d}" for p in range(len(masks))), merge, frames.__getitem__)

    return make


@pytest.fixture(scope="session")
def watched() -> Callable[..., list[Sequence]]:
    """(sequences, hook) -> the same; ``hook`` is called with the number of each read, from 1, before it."""

    def watch(sequences: list[Sequence], hook: Callable[[int], object]) -> list[Sequence]:
        reads = itertools.count(1)

        def watched_one(sequence: Sequence) -> Sequence:
            def read(position: int) -> EncodedFrame:
                hook(next(reads))
                return sequence.read(position)

            return replace(sequence, read=read)

        return [watched_one(sequence) for sequence in sequences]

    return watch


@pytest.fixture(scope="session")
def comes_back() -> Callable[[list[Sequence], Path], None]:
    """Encodes sequences to a folder and compares all that is read from there with them."""

    def check(sequences: list[Sequence], out: Path) -> None:
        encode(sequences, out, {"made": "for tests"})
        dataset = open_dataset(out)
        expected = sorted(sequences, key=lambda one: (one.dataset, one.name))
        assert len(dataset.sequences) == len(expected)
        for index, (back, one) in enumerate(zip(dataset.sequences, expected, strict=True)):
            assert (back.dataset, back.name, back.frame_names) == (one.dataset, one.name, one.frame_names)
            seen: set[int] = set()
            for position in range(len(one)):
                given, stored = one.read(position), back.read(position)
                assert (stored.image, stored.mask) == (given.image, given.mask)
                values, again = one.mask(position), back.mask(position)
                assert (values is None and again is None) or torch.equal(values, again)
                seen |= set() if values is None else set(values.unique().tolist()) - {0, VOID}
            assert set(dataset.visible(index)) == seen  # void is no object
            assert back.categories == {number: name for number, name in one.categories.items() if number in seen}

    return check
