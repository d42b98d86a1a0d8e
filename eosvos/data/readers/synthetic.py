"""Synthetic videos of textured blobs that move, turn, deform, cover each other and look alike.

All objects of a sequence are equally salient, so that only the mask of the first frame says which one is meant:
without fine-tuning the task is ambiguous, with it the object's own colours and texture give the answer.
"""

import io
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from eosvos.data.palette import encode_mask
from eosvos.data.readers.textures import KINDS, Floats, draw_look_alikes, draw_texture
from eosvos.data.sequence import EncodedFrame, Sequence
from eosvos.errors import BadInput

GENERATOR_VERSION = 1  # raise it with every change that alters a pixel: it is part of a dataset's specification
SPLITS = {"train": 0, "held": 1}  # part of every seed, so that no held sequence is one of train

_HARMONICS = (2, 3, 4, 5)  # of an object's contour; the first would only move it
_MIN_FIRST_AREA = 0.015  # of the frame, visible in the first frame, for up to three objects
_MIN_VISIBLE = 0.3  # of what the object covers where nothing hides it, in every later frame
_ATTEMPTS = 40  # most sequences pass the two checks within three


@dataclass(frozen=True)
class SyntheticSettings:
    """What a synthetic sequence looks like."""

    size: int = 128
    """Height and width of the frames in pixels, 32 to 1024."""
    frames: int = 8
    """Frames per sequence, 1 to 500."""
    objects: int = 3
    """Objects per sequence, 3 to 8; more than three are drawn smaller."""

    def __post_init__(self) -> None:
        for name, low, high in (("size", 32, 1024), ("frames", 1, 500), ("objects", 3, 8)):
            if not low <= getattr(self, name) <= high:
                raise ValueError(f"{name} {getattr(self, name)}: must be between {low} and {high}")


@dataclass(frozen=True)
class _Render:
    """Position -> encoded frame. The first call renders the whole sequence; a few sequences stay in memory."""

    split: str
    index: int
    settings: SyntheticSettings
    seed: int

    def __call__(self, position: int) -> EncodedFrame:
        return _encode(self)[position]


def synthetic(split: str, sequences: int, settings: SyntheticSettings | None = None, seed: int = 0) -> list[Sequence]:
    """Deterministic sequences ``<split>-00000`` and on; a sequence does not depend on how many are asked for.

    Args:
        split: ``train`` or ``held``; the two share no sequence whatever the seed.
        sequences: how many, at least 1.
        settings: size, frames and objects; the defaults of ``SyntheticSettings`` when None.
        seed: another seed gives other videos, at least 0.

    Returns:
        Sequences of dataset ``synthetic`` with ids 1 to ``settings.objects``, each mask a palette PNG.

    Raises:
        BadInput: an unknown split, no sequences, or a negative seed.
    """
    if split not in SPLITS:
        raise BadInput(f"split {split}: no such synthetic split; choose one of {', '.join(SPLITS)}")
    if sequences < 1:
        raise BadInput(f"sequences {sequences}: ask for at least 1")
    if seed < 0:
        raise BadInput(f"seed {seed}: must be 0 or above")
    settings = settings or SyntheticSettings()
    names = tuple(f"{position:05d}" for position in range(settings.frames))
    return [
        Sequence("synthetic", f"{split}-{index:05d}", names, False, _Render(split, index, settings, seed))
        for index in range(sequences)
    ]


def complete_synthetic(split: str, sequences: int = 400, seed: int = 0, **settings: int) -> dict[str, Any]:
    """All that a synthetic dataset is made from: the flags, with their defaults, and the version of the generator.

    Raises BadInput for one of ``settings``, the fields of ``SyntheticSettings``, that is out of range.
    """
    try:
        complete = asdict(SyntheticSettings(**settings))
    except ValueError as error:
        raise BadInput(f"--{error}") from error
    return {"split": split, "sequences": sequences, "seed": seed, "generator": GENERATOR_VERSION} | complete


def read_synthetic(split: str, sequences: int, seed: int, generator: int, **settings: int) -> list[Sequence]:
    """The sequences of what ``complete_synthetic`` gave. Raises BadInput as ``synthetic`` does."""
    if generator != GENERATOR_VERSION:
        raise BadInput(f"generator {generator}: this program has version {GENERATOR_VERSION}; encode the dataset anew")
    return synthetic(split, sequences, SyntheticSettings(**settings), seed)


@lru_cache(maxsize=4)
def _encode(which: _Render) -> tuple[EncodedFrame, ...]:
    images, masks = render(which.split, which.index, which.settings, which.seed)
    source = f"synthetic {which.split}-{which.index:05d} (seed {which.seed})"
    encoded = []
    for position, (image, mask) in enumerate(zip(images, masks, strict=True)):
        data = io.BytesIO()
        Image.fromarray(image).save(data, format="JPEG", quality=90)
        name = f"{source}, frame {position:05d}"
        encoded.append(EncodedFrame(data.getvalue(), encode_mask(mask), name, f"{name}, mask"))
    return tuple(encoded)


def render(
    split: str, index: int, settings: SyntheticSettings, seed: int = 0
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """One sequence in pixels.

    Returns:
        images: (frames, size, size, 3) uint8, RGB.
        masks: (frames, size, size) uint8, object ids 1 to ``settings.objects``, 0 for the background.
    """
    for attempt in range(_ATTEMPTS):
        rng = np.random.default_rng((seed, SPLITS[split], index, attempt))
        blobs = _draw_blobs(rng, settings)
        masks, whole_areas = _stack(blobs, settings)
        if _shows_all(masks, whole_areas, settings):
            break
    images = _background(rng, settings)
    for blob, texture in zip(blobs, draw_look_alikes(rng, settings.objects), strict=True):
        alpha = blob.alpha[..., None]
        colours = texture.colours(blob.u, blob.v)
        for frame, (top, left) in enumerate(blob.corners):
            window = images[frame, top : top + alpha.shape[1], left : left + alpha.shape[2]]
            window += alpha[frame] * (colours[frame] - window)
    # The light changes slowly over the video.
    light = 1 + 0.1 * np.sin(rng.uniform(0, 2 * np.pi) + 0.3 * np.arange(settings.frames, dtype=np.float32))
    images *= light.astype(np.float32)[:, None, None, None]
    return (255 * images).clip(0, 255).astype(np.uint8), masks


@dataclass(frozen=True)
class _Blob:
    """One object over all frames, within a window of W x W pixels that follows it.

    Attributes:
        number: its object id.
        corners: (frames, 2) int, top and left of the window.
        alpha: (frames, W, W) how much of the pixel the object covers, 0 to 1.
        u, v: (frames, W, W) place on the object, in units of its radius: the texture sticks to it.
    """

    number: int
    corners: NDArray[np.int64]
    alpha: Floats
    u: Floats
    v: Floats


def _draw_blobs(rng: np.random.Generator, settings: SyntheticSettings) -> list[_Blob]:
    """The objects from the bottom to the top of the pile, their ids in any order."""
    size, count = settings.size, settings.objects
    time = np.arange(settings.frames)
    radii = rng.uniform(0.115, 0.185, count) * size * min(1.0, 3 / count) ** 0.5
    starts = _draw_places(rng, radii, size)
    blobs = []
    for number, radius, start in zip(rng.permutation(count) + 1, radii, starts, strict=True):
        direction = rng.uniform(0, 2 * np.pi)
        speed = rng.uniform(0.01, 0.035) * size
        sway = rng.uniform(0, 0.02, 2) * size * np.sin(time[:, None] * rng.uniform(0.3, 0.9, 2))
        path = start + speed * time[:, None] * np.array([np.sin(direction), np.cos(direction)]) + sway
        low, high = 0.9 * radius, size - 0.9 * radius
        path = low + (high - low) * np.abs((((path - low) / (high - low) + 1) % 2) - 1)  # reflected at the border
        angle = rng.uniform(0, 2 * np.pi) + rng.uniform(-0.12, 0.12) * time
        scale = radius * (1 + rng.uniform(0.02, 0.12) * np.sin(rng.uniform(0, 6) + rng.uniform(0.1, 0.4) * time))
        order = np.array(_HARMONICS)
        amplitude = rng.uniform(0.03, 0.3, order.size) / order**0.6
        wobble = 1 + 0.5 * np.sin(rng.uniform(0, 6, order.size) + rng.uniform(0.2, 0.6, order.size) * time[:, None])
        phase = rng.uniform(0, 2 * np.pi, order.size) + rng.uniform(-0.12, 0.12, order.size) * time[:, None]
        waves = amplitude * wobble * np.exp(1j * phase)
        blobs.append(_rasterize(int(number), path, angle, scale, waves, size))
    return blobs


def _draw_places(rng: np.random.Generator, radii: NDArray[np.float64], size: int) -> NDArray[np.float64]:
    """Starting places (objects, 2) as y, x: each the best of a few draws by its gap to the earlier ones."""
    places: list[NDArray[np.float64]] = []
    for radius in radii:
        draws = rng.uniform(radius, size - radius, (8, 2))
        if not places:
            places.append(draws[0])
            continue
        distance = np.linalg.norm(draws[:, None] - np.stack(places), axis=2)
        gaps = (distance / (radius + radii[: len(places)])).min(axis=1)
        # The first draw that hardly overlaps will do: the farthest one would always sit in a corner.
        places.append(draws[int(np.argmax(np.minimum(gaps, 0.9)))])
    return np.stack(places)


def _rasterize(
    number: int,
    path: NDArray[np.float64],
    angle: NDArray[np.floating[Any]],
    scale: NDArray[np.float64],
    waves: NDArray[np.complex128],
    size: int,
) -> _Blob:
    """A star-shaped blob with radius ``scale * (1 + sum_k Re(conj(wave_k) * e^(i k phi)))`` at angle phi."""
    reach = float((scale * (1 + np.abs(waves).sum(axis=1))).max())
    window = min(size, int(np.ceil(2 * reach)) + 3)
    corners = np.clip(np.floor(path - window / 2).astype(np.int64), 0, size - window)
    grid = np.arange(window) + 0.5
    offsets = (corners[:, :, None] + grid - path[:, :, None]) / scale[:, None, None]  # (frames, 2, W)
    place = offsets[:, 1, None, :] + 1j * offsets[:, 0, :, None]
    place = (place * np.exp(-1j * angle)[:, None, None]).astype(np.complex64)
    distance = np.abs(place)
    unit = place / np.maximum(distance, 1e-6)
    radius = np.ones_like(distance)
    power = unit
    for column in range(len(_HARMONICS)):
        power = power * unit  # e^(i k phi) with k = 2, 3, ...: a product is cheaper than an angle and its cosine
        radius += (power * waves[:, column, None, None].conj().astype(np.complex64)).real
    alpha = np.clip((np.maximum(radius, 0.25) - distance) * scale[:, None, None].astype(np.float32) + 0.5, 0, 1)
    return _Blob(number, corners, alpha, np.ascontiguousarray(place.real), np.ascontiguousarray(place.imag))


def _stack(blobs: list[_Blob], settings: SyntheticSettings) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Masks (frames, size, size) uint8, later blobs on top, and areas (frames, objects) of the whole objects by id."""
    masks = np.zeros((settings.frames, settings.size, settings.size), np.uint8)
    areas = np.zeros((settings.frames, settings.objects), np.int64)
    for blob in blobs:
        inside = blob.alpha > 0.5
        areas[:, blob.number - 1] = inside.sum(axis=(1, 2))
        for frame, (top, left) in enumerate(blob.corners):
            masks[frame, top : top + inside.shape[1], left : left + inside.shape[2]][inside[frame]] = blob.number
    return masks, areas


def _shows_all(masks: NDArray[np.uint8], whole_areas: NDArray[np.int64], settings: SyntheticSettings) -> bool:
    """Whether the first frame shows enough of every object to learn it, and no later frame hides one."""
    objects = whole_areas.shape[1]
    visible = np.stack([(masks == number).sum(axis=(1, 2)) for number in range(1, objects + 1)], axis=1)
    enough = _MIN_FIRST_AREA * settings.size**2 * min(1.0, 3 / objects)
    return bool((visible[0] >= enough).all() and (visible >= _MIN_VISIBLE * whole_areas).all())


def _background(rng: np.random.Generator, settings: SyntheticSettings) -> Floats:
    """A textured plane that moves: (frames, size, size, 3), 0 to 1."""
    pair = [(rng.uniform(0, 1), rng.uniform(0.1, 0.7), rng.uniform(0.2, 0.9)) for _ in range(2)]
    texture = draw_texture(rng, str(rng.choice(KINDS)), rng.uniform(0.15, 0.5), pair)
    time = np.arange(settings.frames, dtype=np.float32)[:, None, None]
    velocity = rng.uniform(-0.012, 0.012, 2).astype(np.float32)
    place = (np.arange(settings.size, dtype=np.float32) + 0.5) / settings.size
    shape = (settings.frames, settings.size, settings.size)
    u = np.broadcast_to(place[None, None, :] + velocity[0] * time, shape)
    v = np.broadcast_to(place[None, :, None] + velocity[1] * time, shape)
    return texture.colours(u, v)
