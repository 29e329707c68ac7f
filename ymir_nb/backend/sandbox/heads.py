"""Heads and what people wear on them: the part of a figure that is boxed, and its colours."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ymir_nb.backend.sandbox.canvas import Brush, Colour, ellipse, limb, rectangle, shade

SKINS: tuple[Colour, ...] = ((238, 200, 170), (222, 172, 136), (190, 138, 100), (140, 94, 66), (96, 64, 48))
HAIRS: tuple[Colour, ...] = ((40, 32, 28), (72, 50, 36), (120, 84, 48), (196, 164, 96), (150, 146, 142), (24, 22, 24))
HELMETS: tuple[Colour, ...] = (
    (244, 200, 24), (250, 214, 60), (236, 236, 232), (206, 44, 36), (36, 92, 178), (238, 122, 28), (52, 140, 84),
)  # fmt: skip
CLOTHES: tuple[Colour, ...] = (
    (58, 74, 106), (92, 96, 100), (132, 62, 54), (56, 92, 74), (170, 162, 148), (44, 46, 54), (196, 178, 72),
)  # fmt: skip
PAINTS: tuple[Colour, ...] = (
    (240, 196, 30), (214, 52, 40), (238, 120, 30), (44, 98, 176), (64, 136, 88), (222, 222, 216), (120, 122, 126),
)  # fmt: skip
HEADWEAR = ("hair", "long", "bald", "beanie", "cap", "hood")
LOOK = 0.32
"""How far the face moves aside when a head is turned, in half heights of a head."""


def pick(rng: np.random.Generator, options: tuple[Colour, ...]) -> Colour:
    """Choose a colour and vary it a little, as wear and dirt do."""
    colour = options[int(rng.integers(len(options)))]
    wear = int(rng.integers(-14, 15)) + rng.integers(-5, 6, 3)
    red, green, blue = (int(np.clip(c + d, 0, 255)) for c, d in zip(colour, wear, strict=True))
    return red, green, blue


@dataclass(frozen=True)
class Head:
    """How one head looks.

    Parameters
    ----------
    helmet : bool
        Whether a helmet is worn.
    wear : str
        What it shows without one, of `HEADWEAR`.
    turn : float
        Where it looks: 0 at the viewer, 1 to the side.
    is_back : bool
        Whether it is seen from behind.
    skin, cloth : (int, int, int)
        Colours of the face and of a hood.
    """

    helmet: bool
    wear: str
    turn: float
    is_back: bool
    skin: Colour
    cloth: Colour


def paint_head(brush: Brush, head: Head, rng: np.random.Generator) -> None:
    """Paint a head with what is worn on it, in units of half its height; it is an object."""
    hair = pick(rng, HAIRS)
    look, skin, cloth = LOOK * head.turn, head.skin, head.cloth
    brush.canvas.begin("helmet" if head.helmet else "head")
    wear = "hair" if head.helmet and head.wear != "long" else head.wear
    if wear == "long":
        brush.fill(ellipse(-look * 0.6, 0.22, 0.98, 1.12), shade(hair, 0.9))
    elif wear == "hood":
        brush.fill(ellipse(-look * 0.4, -0.06, 1.04, 1.16), cloth)
    brush.fill(ellipse(0, 0, 0.78, 1.0), skin)
    for side in (-1, 1):
        brush.fill(ellipse(side * 0.76 - look, 0.05, 0.13, 0.2), shade(skin, 0.88))
    if head.is_back:
        nape = {"bald": skin, "hood": cloth}.get(wear, shade(hair, 0.95))
        brush.fill(ellipse(0, -0.02, 0.8, 1.0), nape)
    else:
        _face(brush, look, head.skin, rng)
    if head.helmet:
        paint_helmet(brush.at(0, -0.22), pick(rng, HELMETS), turn=-head.turn if head.is_back else head.turn)
        if rng.random() < 0.15:
            brush.fill(ellipse(-0.82 * (1 - head.turn), 0.1, 0.24, 0.34), pick(rng, PAINTS[:3]))
    else:
        _top(brush, head, hair, rng)
    brush.fill(ellipse(-0.3 * brush.canvas.sun, 0.1, 0.5, 0.85), (20, 14, 24), alpha=0.14)
    brush.canvas.end()


def _face(brush: Brush, look: float, skin: Colour, rng: np.random.Generator) -> None:
    """Eyes, nose, mouth and sometimes a beard."""
    if rng.random() < 0.25:
        brush.fill(ellipse(look, 0.5, 0.6, 0.48), pick(rng, HAIRS))
    for side in (-1, 1):
        brush.fill(ellipse(look * 1.4 + side * 0.3, -0.02, 0.11, 0.09), (36, 26, 26))
    brush.fill(limb(np.array([look * 1.7, 0.02]), np.array([look * 1.9, 0.26]), 0.1), shade(skin, 0.84))
    brush.fill(rectangle(look * 1.4 - 0.2, 0.5, look * 1.4 + 0.2, 0.58), shade((168, 84, 76), 0.9))


def _top(brush: Brush, head: Head, hair: Colour, rng: np.random.Generator) -> None:
    """Hair, beanie, cap or hood over a head without a helmet."""
    wear, look = head.wear, LOOK * head.turn
    if wear in ("hair", "long"):
        brush.fill(ellipse(-look * 0.5, -0.3, 0.84, 0.78, start=172, stop=368), hair)
    elif wear == "beanie":
        wool = pick(rng, CLOTHES + PAINTS)
        brush.fill(ellipse(0, -0.28, 0.86, 0.9, start=178, stop=362), wool)
        brush.fill(rectangle(-0.87, -0.42, 0.87, -0.18), shade(wool, 0.75))
    elif wear == "cap":
        cap = pick(rng, CLOTHES + PAINTS)
        brush.fill(ellipse(0, -0.34, 0.84, 0.72, start=178, stop=362), cap)
        if not head.is_back:
            brush.fill(ellipse(look * 2.6, -0.34, 0.62, 0.15), shade(cap, 0.7))
    elif wear == "hood":
        brush.fill(ellipse(-look * 0.4, -0.5, 0.98, 0.72, start=175, stop=365), shade(head.cloth, 0.92))


def paint_helmet(brush: Brush, colour: Colour, *, turn: float) -> None:
    """A safety helmet, brim at the origin: dome, ridge, gloss and a brim that juts out where it looks."""
    brush.fill(ellipse(0, 0, 0.98, 1.0, start=178, stop=362), colour)
    brush.fill(ellipse(-0.45 * brush.canvas.sun, -0.05, 0.5, 0.8, start=180, stop=360), shade(colour, 0.8))
    brush.fill(ellipse(turn * 0.15, -0.1, 0.15, 0.95, start=180, stop=360), shade(colour, 1.3))
    brush.fill(ellipse(0.4 * brush.canvas.sun, -0.55, 0.18, 0.22), shade(colour, 1.6))
    brush.fill(ellipse(turn * 0.4, 0.0, 1.12 - 0.05 * abs(turn), 0.17), shade(colour, 0.72))
    brush.fill(ellipse(turn * 0.4, -0.06, 1.1 - 0.05 * abs(turn), 0.13), shade(colour, 1.08))
