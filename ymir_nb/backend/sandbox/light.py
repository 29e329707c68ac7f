"""Time of day, weather and camera: what happens to a painted picture before it is stored.

Nothing here moves a pixel, so that boxes stay exact.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageFilter

from ymir_nb.backend.sandbox.backdrops import Pixels, noise


def expose(picture: Image.Image, rng: np.random.Generator, light: str) -> Image.Image:
    """Photograph a painted picture.

    Parameters
    ----------
    picture : PIL.Image.Image
        RGB, as painted.
    rng : Generator
        Decides strength, colour cast, blur and noise.
    light : str
        One of `LIGHTS`.

    Returns
    -------
    PIL.Image.Image
        RGB of the same size.
    """
    blur = float(rng.choice([0.0, 0.45, 0.8], p=[0.6, 0.3, 0.1]))
    if blur:
        picture = picture.filter(ImageFilter.GaussianBlur(blur))
    pixels: Pixels = np.asarray(picture, dtype=np.float32) / np.float32(255)
    height, width = pixels.shape[:2]
    pixels = pixels * (1 + np.float32(0.06) * noise(rng, height, width, (3, 4)))[..., None]
    pixels = LIGHTS[light].cast(rng, pixels)
    grain = np.float32(rng.uniform(0.004, 0.02) * LIGHTS[light].grain)
    speckle = rng.standard_normal((height, width, 1), dtype=np.float32)
    speckle = speckle + np.float32(0.7) * rng.standard_normal((height, width, 3), dtype=np.float32)
    pixels = pixels * rng.uniform(0.95, 1.05, 3).astype(np.float32) + grain * speckle
    return Image.fromarray((np.clip(pixels, 0, 1) * 255).astype(np.uint8))


def some_light(rng: np.random.Generator) -> str:
    """Choose one of `LIGHTS` by its share."""
    return str(rng.choice(list(LIGHTS), p=[light.share for light in LIGHTS.values()]))


def _grey(pixels: Pixels, share: float) -> Pixels:
    """Take away a share of the colour."""
    grey: Pixels = pixels.mean(axis=2, keepdims=True)
    return pixels * np.float32(1 - share) + grey * np.float32(share)


def _day(rng: np.random.Generator, pixels: Pixels) -> Pixels:
    """Sun: a little more or less contrast and brightness."""
    return (pixels - np.float32(0.5)) * _some(rng, 1.0, 1.2) + np.float32(0.5) + _some(rng, -0.06, 0.06)


def _overcast(rng: np.random.Generator, pixels: Pixels) -> Pixels:
    """No sun: paler, a little blue."""
    return _grey(pixels, 0.35) * _some(rng, 0.75, 0.95) * np.array([0.97, 1.0, 1.04], np.float32)


def _dusk(rng: np.random.Generator, pixels: Pixels) -> Pixels:
    """Red from above, blue from below."""
    warm = np.linspace(1.0, 0.6, len(pixels), dtype=np.float32)[:, None, None]
    sky, ground = np.array([1.15, 0.88, 0.8], np.float32), np.array([0.7, 0.75, 1.1], np.float32)
    return pixels * _some(rng, 0.6, 0.85) * (warm * sky + (1 - warm) * ground)


def _night(rng: np.random.Generator, pixels: Pixels) -> Pixels:
    """Only what floodlights reach."""
    return _grey(pixels, 0.3) * _lamps(rng, *pixels.shape[:2])


def _fog(rng: np.random.Generator, pixels: Pixels) -> Pixels:
    """A pale veil, thicker far off."""
    veil = np.linspace(0.6, 0.2, len(pixels), dtype=np.float32)[:, None, None] * _some(rng, 0.8, 1.1)
    veiled: Pixels = pixels * (1 - veil) + veil * np.array([0.78, 0.79, 0.8], np.float32)
    return veiled


def _some(rng: np.random.Generator, low: float, high: float) -> np.float32:
    """A number between two, in the pixels' own type."""
    return np.float32(rng.uniform(low, high))


def _lamps(rng: np.random.Generator, height: int, width: int) -> Pixels:
    """Light of floodlights at night, (height, width, 3)."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    light = np.full((height, width, 3), rng.uniform(0.26, 0.42), np.float32) * np.array([0.8, 0.9, 1.25], np.float32)
    for _ in range(int(rng.integers(1, 4))):
        px, py = rng.uniform(0, width), rng.uniform(0.3, 0.9) * height
        reach = np.float32(rng.uniform(0.25, 0.5) * width)
        glow = np.exp(-(((x - np.float32(px)) / reach) ** 2) - ((y - np.float32(py)) / (0.6 * reach)) ** 2)
        warmth = np.array([1.1, 0.95, 0.7] if rng.random() < 0.6 else [0.9, 1.0, 1.1], np.float32)
        light += np.float32(rng.uniform(0.35, 0.75)) * glow[..., None] * warmth
    return np.minimum(light, np.float32(1.25))


def _rain(rng: np.random.Generator, pixels: Pixels) -> Pixels:
    """Slanting streaks over a pale, dim picture."""
    pixels = _grey(pixels, 0.4) * _some(rng, 0.55, 0.8)
    height, width = pixels.shape[:2]
    drops = (rng.random((height, width), dtype=np.float32) > 0.988).astype(np.float32)
    streak, slant = np.zeros_like(drops), int(rng.integers(-1, 2))
    for step in range(7):
        streak += np.roll(drops, (step, slant * (step // 3)), axis=(0, 1))
    pale: Pixels = np.float32(0.9) * pixels + np.float32(0.07)
    pale += np.minimum(streak, 1)[..., None] * _some(rng, 0.08, 0.2)
    return pale


class Light(NamedTuple):
    """A light: what it does to pixels, the share of scenes it falls on, and its noise relative to day."""

    cast: Callable[[np.random.Generator, Pixels], Pixels]
    share: float
    grain: float


LIGHTS: Mapping[str, Light] = MappingProxyType(
    {
        "day": Light(_day, 0.52, 1.0),
        "overcast": Light(_overcast, 0.16, 1.0),
        "dusk": Light(_dusk, 0.1, 1.2),
        "night": Light(_night, 0.09, 1.5),
        "rain": Light(_rain, 0.08, 1.0),
        "fog": Light(_fog, 0.05, 1.0),
    }
)
"""Every light by its name."""
