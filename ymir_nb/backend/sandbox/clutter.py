"""What lies about on a drawn building site and is never boxed, though it resembles what is.

Gas bottles, bollards and lamps are round and bright as helmets, barrels and barriers striped as
cones, jackets on a post clothed as people. The unit is a person's height, foot at the origin.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from ymir_nb.backend.sandbox.canvas import Brush, Colour, Points, ellipse, limb, rectangle, shade
from ymir_nb.backend.sandbox.figures import CONES, HI_VIS, SILVER
from ymir_nb.backend.sandbox.heads import HAIRS, HELMETS, PAINTS, SKINS, paint_helmet, pick

WOOD: Colour = (158, 122, 78)
STEEL: Colour = (118, 124, 132)
WHITE: Colour = (232, 230, 224)
ORANGE: tuple[Colour, ...] = ((240, 104, 34), (226, 78, 40))


class Clutter(NamedTuple):
    """A kind of thing: how to paint it, and half its width and its height for finding a place."""

    paint: Callable[[Brush, np.random.Generator], None]
    half_width: float
    height: float


def _shadow(brush: Brush, half_width: float) -> None:
    brush.fill(ellipse(-0.06 * brush.canvas.sun, 0.0, half_width * 1.3, 0.035), (10, 12, 20), alpha=0.32)


def _dark_side(brush: Brush, points: Points) -> None:
    """Shade the half of an upright shape that looks away from the sun."""
    dark = points.copy()
    dark[:, 0] = np.where(dark[:, 0] * brush.canvas.sun > 0, 0.15 * dark[:, 0], dark[:, 0])
    brush.fill(dark, (12, 10, 26), alpha=0.24)


def barrel(brush: Brush, rng: np.random.Generator) -> None:
    """An oil drum, plain or banded in orange and white as a cone is."""
    is_banded = rng.random() < 0.35
    colour = pick(rng, ORANGE if is_banded else PAINTS)
    _shadow(brush, 0.17)
    side = np.vstack([rectangle(-0.16, -0.46, 0.16, -0.02)[:2], ellipse(0, -0.02, 0.16, 0.04, start=0, stop=180)])
    brush.fill(side, colour)
    for y in (-0.38, -0.2):
        band = WHITE if is_banded else shade(colour, 0.8)
        brush.fill(rectangle(-0.16, y, 0.16, y + (0.1 if is_banded else 0.025)), band)
    _dark_side(brush, side)
    brush.fill(ellipse(0, -0.46, 0.16, 0.045), shade(colour, 1.2))
    brush.fill(ellipse(0, -0.46, 0.13, 0.032), shade(colour, 0.75))


def gas_bottle(brush: Brush, rng: np.random.Generator) -> None:
    """A gas bottle: a bright dome on a body, as a helmet on a person."""
    colour, top = pick(rng, PAINTS), pick(rng, PAINTS + HELMETS)
    height = float(rng.uniform(0.5, 0.85))
    _shadow(brush, 0.1)
    brush.fill(rectangle(-0.1, -height, 0.1, 0.0), colour)
    brush.fill(ellipse(0, -height, 0.1, 0.11, start=180, stop=360), top)
    brush.fill(rectangle(-0.035, -height - 0.17, 0.035, -height - 0.09), STEEL)
    _dark_side(brush, np.vstack([rectangle(-0.1, -height, 0.1, 0.0), ellipse(0, -height, 0.1, 0.11, start=180)]))
    brush.fill(rectangle(0.03, -height, 0.05, -0.02), shade(colour, 1.4), alpha=0.7)


def bollard(brush: Brush, rng: np.random.Generator) -> None:
    """A post with a round cap, banded."""
    colour, cap = pick(rng, PAINTS), pick(rng, HELMETS + SKINS + HAIRS)
    height = float(rng.uniform(0.45, 0.9))
    _shadow(brush, 0.08)
    brush.fill(rectangle(-0.055, -height, 0.055, 0.0), colour)
    for y in (0.25, 0.55):
        brush.fill(rectangle(-0.055, -height * (y + 0.18), 0.055, -height * y), WHITE)
    brush.fill(ellipse(0, -height, 0.08, 0.085), cap)
    brush.fill(ellipse(0.02 * brush.canvas.sun, -height - 0.03, 0.02, 0.02), shade(cap, 1.6))
    _dark_side(brush, rectangle(-0.055, -height, 0.055, 0.0))


def lamp(brush: Brush, rng: np.random.Generator) -> None:
    """A round warning lamp or a floodlight on a tripod."""
    colour = pick(rng, ((250, 226, 150), (250, 186, 60), (240, 240, 230)))
    _shadow(brush, 0.16)
    for x in (-0.16, 0.02, 0.15):
        brush.fill(limb(np.array([0.0, -0.55]), np.array([x, 0.0]), 0.024), shade(STEEL, 0.7))
    brush.fill(limb(np.array([0.0, -0.95]), np.array([0.0, -0.5]), 0.03), STEEL)
    if rng.random() < 0.5:
        brush.fill(ellipse(0, -1.0, 0.1, 0.1), shade(STEEL, 0.6))
        brush.fill(ellipse(0, -1.0, 0.078, 0.078), colour)
    else:
        brush.fill(rectangle(-0.15, -1.1, 0.15, -0.92), shade(STEEL, 0.6))
        brush.fill(rectangle(-0.13, -1.08, 0.13, -0.94), colour)


def sign(brush: Brush, rng: np.random.Generator) -> None:
    """A road sign on a pole: round, or a triangle."""
    _shadow(brush, 0.07)
    brush.fill(rectangle(-0.015, -1.0, 0.015, 0.0), STEEL)
    rim = pick(rng, ((204, 40, 36), (240, 110, 30), (40, 90, 170)))
    inner = pick(rng, (WHITE, (246, 204, 40), (244, 190, 150)))
    for share, colour in ((1.0, rim), (0.72, inner)):
        if rim[0] < 120 or rng.random() < 0.6:
            brush.fill(ellipse(0, -1.0, 0.14 * share, 0.14 * share), colour)
        else:
            r = 0.17 * share
            brush.fill(np.array([[0.0, -1.0 - r], [r * 0.9, -1.0 + r * 0.6], [-r * 0.9, -1.0 + r * 0.6]]), colour)


def barrier(brush: Brush, rng: np.random.Generator) -> None:
    """A striped barrier board on two feet."""
    colour = pick(rng, ((206, 44, 38), (242, 108, 34), (246, 198, 36)))
    other = WHITE if colour[2] > 20 else (40, 40, 42)
    half = float(rng.uniform(0.35, 0.6))
    for x in (-half * 0.85, half * 0.85):
        brush.fill(limb(np.array([x, -0.5]), np.array([x, 0.0]), 0.03), shade(STEEL, 0.8))
        brush.fill(rectangle(x - 0.08, -0.025, x + 0.08, 0.0), (52, 50, 50))
    for top in (-0.52, -0.28):
        brush.fill(rectangle(-half, top, half, top + 0.13), colour)
        for x in np.arange(-half, half - 0.12, 0.2):
            stripe = np.array([[x + 0.07, top], [x + 0.15, top], [x + 0.08, top + 0.13], [x, top + 0.13]])
            brush.fill(stripe, other)


def pipes(brush: Brush, rng: np.random.Generator) -> None:
    """A stack of pipes, seen on their round ends."""
    colour = pick(rng, (STEEL, (150, 96, 62), (226, 120, 44), (230, 198, 80), (90, 94, 100)))
    radius = float(rng.uniform(0.07, 0.12))
    n_low = int(rng.integers(3, 5))
    _shadow(brush, radius * n_low)
    for row in range(n_low - 1):
        for column in range(n_low - row):
            x = (column - (n_low - row - 1) / 2) * 2 * radius
            y = -radius - row * radius * 1.75
            brush.fill(ellipse(x, y, radius, radius), shade(colour, float(rng.uniform(0.85, 1.15))))
            brush.fill(ellipse(x, y, radius * 0.72, radius * 0.72), (28, 26, 28))


def pallet(brush: Brush, rng: np.random.Generator) -> None:
    """Bricks, bags or boxes on a pallet; at times somebody's helmet on top."""
    half, height = float(rng.uniform(0.22, 0.36)), float(rng.uniform(0.2, 0.5))
    colour = pick(rng, ((168, 82, 60), (198, 176, 140), (176, 178, 178), (120, 96, 72)))
    _shadow(brush, half)
    for x in (-half * 0.9, 0.0, half * 0.9):
        brush.fill(rectangle(x - 0.03, -0.06, x + 0.03, 0.0), shade(WOOD, 0.7))
    brush.fill(rectangle(-half, -0.08, half, -0.05), WOOD)
    rows, columns = max(2, round(height / 0.09)), max(3, round(half / 0.07))
    for row in range(rows):
        for column in range(columns):
            x = -half + 2 * half * column / columns
            y = -0.08 - height * (row + 1) / rows
            tone = shade(colour, float(rng.uniform(0.8, 1.15)))
            brush.fill(rectangle(x + 0.006, y + 0.008, x + 2 * half / columns - 0.004, y + height / rows), tone)
    _dark_side(brush, rectangle(-half, -0.08 - height, half, -0.08))
    if rng.random() < 0.4:
        place = brush.at(
            float(rng.uniform(-half, half) * 0.6), -0.1 - height, scale=0.085, angle=float(rng.normal(0, 8))
        )
        paint_helmet(place, pick(rng, HELMETS), turn=float(rng.uniform(-1, 1)))


def heap(brush: Brush, rng: np.random.Generator) -> None:
    """A heap of sand, gravel or earth, or a small tarpaulin drawn over something."""
    colour = pick(rng, ((176, 140, 92), (128, 104, 80), (144, 142, 138), (226, 108, 44), (54, 96, 158)))
    half, height = float(rng.uniform(0.25, 0.7)), float(rng.uniform(0.2, 0.45))
    x = np.linspace(-half, half, 14)
    y = -height * np.clip(1 - np.abs(x / half) ** 1.3, 0, 1) + rng.normal(0, 0.012, 14)
    outline = np.column_stack([x, np.minimum(y, 0.0)])
    _shadow(brush, half)
    brush.fill(outline, colour)
    _dark_side(brush, outline)
    for _ in range(14):
        px = float(rng.uniform(-0.8, 0.8)) * half
        py = -height * (1 - abs(px / half) ** 1.3) * float(rng.random())
        brush.fill(ellipse(px, py, 0.02, 0.012), shade(colour, float(rng.uniform(0.6, 1.4))))


def bucket(brush: Brush, rng: np.random.Generator) -> None:
    """A bucket, upright or upside down; orange ones are shaped as the foot of a cone."""
    colour = pick(rng, PAINTS + ORANGE)
    top, foot = (0.1, 0.075) if rng.random() < 0.5 else (0.07, 0.1)
    _shadow(brush, 0.1)
    outline = np.array([[-top, -0.2], [top, -0.2], [foot, 0.0], [-foot, 0.0]])
    brush.fill(outline, colour)
    _dark_side(brush, outline)
    brush.fill(ellipse(0, -0.2, top, 0.025), shade(colour, 0.55 if top > foot else 1.2))


def jacket(brush: Brush, rng: np.random.Generator) -> None:
    """A vest that hangs on a post; a knob or a helmet may crown the post, but nobody is in it."""
    colour = pick(rng, HI_VIS)
    brush.fill(rectangle(-0.02, -0.98, 0.02, 0.0), WOOD)
    brush.fill(
        np.array([[-0.05, -0.84], [0.05, -0.84], [0.14, -0.78], [0.11, -0.42], [-0.11, -0.42], [-0.14, -0.78]]), colour
    )
    for y in (-0.64, -0.55):
        brush.fill(rectangle(-0.115, y, 0.115, y + 0.03), SILVER)
    chance = rng.random()
    if chance < 0.3:
        brush.fill(ellipse(0, -0.97, 0.065, 0.08), pick(rng, SKINS + HAIRS + PAINTS))
    elif chance < 0.65:
        paint_helmet(brush.at(0, -0.96, scale=0.085, angle=float(rng.normal(0, 10))), pick(rng, HELMETS), turn=0.3)


def post(brush: Brush, rng: np.random.Generator) -> None:
    """A marker post or a folded tarpaulin in a cone's colours, straight or narrow at the top."""
    colour = pick(rng, CONES)
    height, foot = float(rng.uniform(0.35, 0.7)), float(rng.uniform(0.05, 0.14))
    top = foot * float(rng.uniform(0.85, 1.0))
    _shadow(brush, foot)
    outline = np.array([[-top, -height], [top, -height], [foot, 0.0], [-foot, 0.0]])
    brush.fill(outline, colour)
    for y in (0.35, 0.65)[: int(rng.integers(0, 3))]:
        half = foot + (top - foot) * y
        brush.fill(rectangle(-half, -height * (y + 0.15), half, -height * y), WHITE)
    _dark_side(brush, outline)
    brush.fill(ellipse(0, -height, top, top * 0.3), shade(colour, 0.7))


def sack(brush: Brush, rng: np.random.Generator) -> None:
    """A tied sack: round as a head, on the ground or on a crate."""
    colour, box = pick(rng, SKINS + HAIRS[2:]), float(rng.uniform(0.0, 0.8))
    _shadow(brush, 0.14)
    if box > 0.2:
        brush.fill(rectangle(-0.13, -box, 0.13, 0.0), pick(rng, (WOOD, *HI_VIS, STEEL)))
        _dark_side(brush, rectangle(-0.13, -box, 0.13, 0.0))
    low = box if box > 0.2 else 0.0
    brush.fill(ellipse(0, -low - 0.085, 0.085, 0.09), colour)
    knot = np.array([[-0.03, -low - 0.2], [0.03, -low - 0.2], [0.015, -low - 0.16], [-0.015, -low - 0.16]])
    brush.fill(knot, shade(colour, 0.8))
    brush.fill(ellipse(-0.03 * brush.canvas.sun, -low - 0.08, 0.05, 0.07), (20, 14, 24), alpha=0.18)


def mixer(brush: Brush, rng: np.random.Generator) -> None:
    """A cement mixer with its tilted drum."""
    colour = pick(rng, PAINTS[:5])
    _shadow(brush, 0.3)
    for x in (-0.2, 0.2):
        brush.fill(limb(np.array([x * 0.5, -0.45]), np.array([x, 0.0]), 0.04), shade(STEEL, 0.6))
        brush.fill(ellipse(x, -0.06, 0.07, 0.07), (34, 34, 36))
    drum = brush.at(0, -0.52, angle=float(rng.uniform(-40, 40)))
    outline = np.array([[-0.13, -0.26], [0.13, -0.26], [0.24, -0.02], [0.16, 0.2], [-0.16, 0.2], [-0.24, -0.02]])
    drum.fill(outline, colour)
    drum.fill(rectangle(-0.24, -0.05, 0.24, 0.0), shade(colour, 0.75))
    drum.fill(
        np.array([[0.02, -0.26], [0.07, -0.26], [0.13, -0.02], [0.08, 0.2], [0.03, 0.2], [0.05, -0.02]]),
        shade(colour, 1.3),
    )
    _dark_side(drum, outline)
    drum.fill(ellipse(0, -0.26, 0.13, 0.05), (40, 38, 40))


def fence(brush: Brush, rng: np.random.Generator) -> None:
    """A wire fence on posts, or orange netting, that lets what is behind it be seen."""
    half = float(rng.uniform(0.6, 1.1))
    colour = pick(rng, (*ORANGE, STEEL, STEEL))
    step = 0.09
    for x in np.arange(-half, half + 0.01, step):
        brush.fill(limb(np.array([x, -0.62]), np.array([x, -0.04]), 0.014), colour)
    for y in np.arange(-0.62, 0.0, 0.145):
        brush.fill(limb(np.array([-half, y]), np.array([half, y]), 0.016), colour)
    for x in (-half, 0.0, half):
        brush.fill(rectangle(x - 0.022, -0.7, x + 0.022, 0.0), shade(STEEL, 0.7))


KINDS: Mapping[str, Clutter] = MappingProxyType(
    {
        "barrel": Clutter(barrel, 0.16, 0.5),
        "gas bottle": Clutter(gas_bottle, 0.1, 0.9),
        "bollard": Clutter(bollard, 0.08, 0.8),
        "lamp": Clutter(lamp, 0.16, 1.1),
        "sign": Clutter(sign, 0.15, 1.15),
        "barrier": Clutter(barrier, 0.5, 0.52),
        "pipes": Clutter(pipes, 0.4, 0.5),
        "pallet": Clutter(pallet, 0.32, 0.5),
        "heap": Clutter(heap, 0.5, 0.35),
        "bucket": Clutter(bucket, 0.1, 0.2),
        "jacket": Clutter(jacket, 0.14, 1.0),
        "post": Clutter(post, 0.14, 0.6),
        "sack": Clutter(sack, 0.13, 0.9),
        "mixer": Clutter(mixer, 0.25, 0.8),
        "fence": Clutter(fence, 0.8, 0.4),
    }
)
"""Every kind of clutter by its name; all are equally likely."""
