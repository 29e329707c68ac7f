"""One drawn scene: who stands where, in front of what, in which light."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image

from ymir_nb.backend.sandbox.backdrops import Stage, paint_front, some_stage
from ymir_nb.backend.sandbox.canvas import Brush
from ymir_nb.backend.sandbox.clutter import KINDS
from ymir_nb.backend.sandbox.figures import paint_cone, paint_person, some_person
from ymir_nb.backend.sandbox.light import expose, some_light

LABELS = ("helmet", "head", "cone")
"""Labels of the sandbox: a head under a worn helmet, a head without one, a traffic cone."""

NEGATIVE_SHARE = 0.1
HELMET_SHARE = 0.58
RARE_SHARE = 0.1
HIDDEN_LIMIT = 0.4
"""Largest share of a head or cone that a nearer figure may cover; more is not asked of anybody."""

Extent = tuple[float, float, float, float]


@dataclass(frozen=True)
class Scene:
    """A drawn photograph with its truth.

    Parameters
    ----------
    image : PIL.Image.Image
        RGB, before compression.
    boxes : tuple of (str, int, int, int, int)
        Label and ``x1 y1 x2 y2`` of each object that can be seen, whole pixels, far edge exclusive.
    quality : int
        JPEG quality that the camera stores it with.
    light : str
        ``day``, ``overcast``, ``dusk``, ``night``, ``rain`` or ``fog``.
    """

    image: Image.Image
    boxes: tuple[tuple[str, int, int, int, int], ...]
    quality: int
    light: str

    def to_jpeg(self) -> bytes:
        """Compress the image as the camera does; equal scenes give equal bytes."""
        stream = io.BytesIO()
        self.image.save(stream, "JPEG", quality=self.quality)
        return stream.getvalue()


@dataclass(frozen=True)
class _Figure:
    """Something to paint: its distance, the place it takes, and the part that must stay visible."""

    size_px: float
    extent: Extent
    key: Extent | None
    paint: Callable[[], None]


def draw_scene(seed: int, *, rare_share: float = RARE_SHARE, width: int = 256, height: int = 192) -> Scene:
    """Draw a building-site scene.

    Parameters
    ----------
    seed : int
        Decides everything; the same seed and arguments give the same scene. At least 0.
    rare_share : float
        Probability in [0, 1] that cones stand in the scene. The rest of it does not depend on this.
    width, height : int
        Size in pixels.

    Returns
    -------
    Scene
        Image and boxes.

    Examples
    --------
    >>> scene = draw_scene(7)
    >>> scene.image.size
    (256, 192)
    >>> {box[0] for box in scene.boxes} <= set(LABELS)
    True
    """
    rng, rare, camera = (np.random.default_rng([seed, stream]) for stream in range(3))
    stage = some_stage(rng, width, height)
    figures: list[_Figure] = []
    for make in _cast(rng):
        _place(figures, make, rng, stage)
    if rare.random() < rare_share:
        for _ in range(int(rare.choice([1, 2, 3], p=[0.55, 0.3, 0.15]))):
            _place(figures, _cone, rare, stage, n_tries=40)
    haze = float(rng.choice([0.0, 0.35]))
    for figure in sorted(figures, key=lambda f: f.size_px):
        distance = 1 - min(figure.size_px / stage.nearest_px, 1)
        stage.canvas.haze = ((190, 196, 204), haze * distance)
        figure.paint()
    paint_front(rng, stage)
    light = some_light(camera)
    boxes = tuple((label, *box) for label, box in stage.canvas.boxes())
    quality = int(camera.integers(45, 93))
    return Scene(expose(stage.canvas.finish(), camera, light), boxes, quality, light)


Maker = Callable[[np.random.Generator, Stage], _Figure]


def _cast(rng: np.random.Generator) -> list[Maker]:
    """Who and what appears: clutter always, people in most scenes."""
    cast: list[Maker] = [_clutter] * int(rng.integers(2, 6))
    if rng.random() >= NEGATIVE_SHARE:
        cast += [_person] * int(rng.choice([1, 2, 3, 4, 5, 7], p=[0.2, 0.26, 0.24, 0.16, 0.1, 0.04]))
    return cast


def _place(figures: list[_Figure], make: Maker, rng: np.random.Generator, stage: Stage, *, n_tries: int = 12) -> None:
    """Add a figure where it hides nothing that counts and is not hidden; leave it out if there is no room."""
    for _ in range(n_tries):
        figure = make(rng, stage)
        if all(_agree(figure, other) for other in figures):
            figures.append(figure)
            return


def _agree(one: _Figure, other: _Figure) -> bool:
    near, far = (one, other) if one.size_px > other.size_px else (other, one)
    if near.key and far.key and _covered(near.key, far.key) > 0.35:
        return False
    return far.key is None or _covered(near.extent, far.key) <= HIDDEN_LIMIT


def _covered(cover: Extent, box: Extent) -> float:
    """Share of `box` that lies in `cover`."""
    wide = min(cover[2], box[2]) - max(cover[0], box[0])
    high = min(cover[3], box[3]) - max(cover[1], box[1])
    return max(wide, 0.0) * max(high, 0.0) / ((box[2] - box[0]) * (box[3] - box[1]))


def _foot(rng: np.random.Generator, stage: Stage, *, nearest_px: float) -> tuple[float, float, float]:
    """Choose where something stands: x and y of its foot, and a person's height there, pixels."""
    low, high = np.log(stage.farthest_px), np.log(max(nearest_px, stage.farthest_px * 1.05))
    size_px = float(np.exp(low + (high - low) * rng.random() ** 1.35))
    return float(rng.uniform(0.02, 0.98)) * stage.canvas.width, stage.horizon + stage.eye * size_px, size_px


def _person(rng: np.random.Generator, stage: Stage) -> _Figure:
    """A person on the ground or on a board of the scaffold, perhaps cut by the edge of the picture."""
    # The head's top must lie in the picture: horizon + (eye - 1) * size < 0.8 * height.
    room = (0.8 * stage.canvas.height - stage.horizon) / max(stage.eye - 1, 0.05)
    x, y, size_px = _foot(rng, stage, nearest_px=min(stage.nearest_px, room))
    if stage.decks and rng.random() < 0.5:
        left, right, y, size_px = stage.decks[int(rng.integers(len(stage.decks)))]
        x = float(rng.uniform(left, right))
    size_px *= float(rng.uniform(0.93, 1.07))
    person = some_person(rng, helmet_share=HELMET_SHARE)
    brush = Brush(stage.canvas, x, y, size_px, mirror=bool(rng.random() < 0.5))
    top = {"crouch": 0.77, "bend": 0.9}.get(person.pose, 1.05)
    extent = (x - 0.17 * size_px, y - top * size_px, x + 0.17 * size_px, y)
    key = (x - 0.105 * size_px, y - top * size_px, x + 0.105 * size_px, y - (top - 0.22) * size_px)
    return _Figure(size_px, extent, key, lambda: paint_person(brush, person))


def _clutter(rng: np.random.Generator, stage: Stage) -> _Figure:
    """A thing on the ground."""
    x, y, size_px = _foot(rng, stage, nearest_px=stage.nearest_px * 0.8)
    kind = KINDS[str(rng.choice(list(KINDS)))]
    look = int(rng.integers(2**31))
    brush = Brush(stage.canvas, x, y, size_px, mirror=bool(rng.random() < 0.5))
    half = kind.half_width * size_px
    extent = (x - half, y - kind.height * size_px, x + half, y)
    return _Figure(size_px, extent, None, lambda: kind.paint(brush, np.random.default_rng(look)))


def _cone(rng: np.random.Generator, stage: Stage) -> _Figure:
    """A cone on the ground, wholly in the picture."""
    high = min(stage.nearest_px, (stage.canvas.height - 1 - stage.horizon) / stage.eye)
    x, y, size_px = _foot(rng, stage, nearest_px=high)
    y = min(y, stage.canvas.height - 1.0)
    look = int(rng.integers(2**31))
    brush = Brush(stage.canvas, x, y, size_px)
    half = 0.22 * size_px
    extent = (x - half, y - 0.5 * size_px, x + half, y)
    return _Figure(size_px, extent, extent, lambda: paint_cone(brush, np.random.default_rng(look)))
