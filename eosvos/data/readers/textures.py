"""Procedural textures: patterns of two colours, and sets of them that look alike."""

import colorsys
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

KINDS = ("noise", "stripes", "checks")


@dataclass(frozen=True)
class Texture:
    """Two colours mixed by a pattern.

    Attributes:
        kind: ``noise``, ``stripes`` or ``checks``.
        waves: (waves, 3) angular frequencies along u and v, and phase.
        pair: (2, 3) float32 RGB, 0 to 1.
    """

    kind: str
    waves: Floats
    pair: Floats

    def colours(self, u: Floats, v: Floats) -> Floats:
        """Colours (..., 3), 0 to 1, at places ``u`` and ``v`` of shape (...)."""
        first, second, third = (np.sin(wave[0] * u + wave[1] * v + wave[2]) for wave in self.waves)
        if self.kind == "noise":
            value = 0.6 * (first + second + third)
        elif self.kind == "stripes":
            value = 3 * first + 0.5 * third
        else:
            value = 4 * first * second + 0.5 * third
        mix = (0.5 + 0.5 * np.clip(value, -1, 1))[..., None]
        colours: Floats = self.pair[0] + mix * (self.pair[1] - self.pair[0])
        return colours


def draw_texture(
    rng: np.random.Generator, kind: str, wavelength: float, pair: list[tuple[float, float, float]]
) -> Texture:
    """A texture with about this wavelength, in the units of u and v; ``pair`` is in HSV."""
    angle = rng.uniform(0, 2 * np.pi)
    if kind == "noise":
        angles = rng.uniform(0, 2 * np.pi, 3)
    else:
        angles = angle + np.array([0, np.pi / 2, rng.uniform(0, np.pi)])
    stretch = rng.uniform(0.7, 1.3, 3) if kind == "noise" else np.array([1, 1, 2.5])
    frequency = 2 * np.pi / (wavelength * stretch)
    waves = np.stack([frequency * np.sin(angles), frequency * np.cos(angles), rng.uniform(0, 2 * np.pi, 3)], axis=1)
    return Texture(
        kind, waves.astype(np.float32), np.array([colorsys.hsv_to_rgb(*colour) for colour in pair], np.float32)
    )


def draw_look_alikes(rng: np.random.Generator, count: int) -> list[Texture]:
    """One texture per object, in one of three degrees of likeness.

    siblings share the kind of pattern and the second colour, and their first colours are near in hue; cousins share
    the kind only; twins share both colours, or nearly, and differ in pattern and wavelength.
    """
    likeness = rng.choice(["siblings", "cousins", "twins"], p=[0.5, 0.3, 0.2])
    hue, other_hue = rng.uniform(0, 1, 2)
    step = {"siblings": 0.11, "cousins": 1 / count, "twins": 0.03}[likeness]
    value, other_value = rng.permutation([rng.uniform(0.65, 1.0), rng.uniform(0.15, 0.6)])
    kinds = list(rng.permutation(KINDS))
    textures = []
    for number in range(count):
        hues = (hue + step * (number + rng.uniform(-0.15, 0.15))) % 1, (other_hue + rng.uniform(-0.03, 0.03)) % 1
        if likeness == "cousins":
            hues = hues[0], rng.uniform(0, 1)
        pair = [(hues[0], rng.uniform(0.6, 1.0), value), (hues[1], rng.uniform(0.3, 0.9), other_value)]
        kind = kinds[number % 3] if likeness == "twins" else kinds[0]
        wavelength = rng.uniform(0.45, 0.95) if likeness != "twins" else (0.4, 0.65, 0.9)[number // 3 % 3]
        textures.append(draw_texture(rng, kind, wavelength, pair))
    return textures
