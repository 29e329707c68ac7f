"""What stands on a drawn building site: people and cones, which are boxed, and things that resemble them.

A figure is painted by a `Brush` whose unit is a person's height, foot at the origin. A worn helmet
makes a head a `helmet`; hair, a cap, a beanie or a hood leave it a `head`; a helmet that nobody
wears is clutter.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ymir_nb.backend.sandbox.canvas import Brush, Colour, Points, ellipse, limb, rectangle, shade
from ymir_nb.backend.sandbox.heads import (
    CLOTHES,
    HEADWEAR,
    HELMETS,
    SKINS,
    Head,
    paint_head,
    paint_helmet,
    pick,
)

TROUSERS: tuple[Colour, ...] = ((48, 58, 84), (70, 72, 78), (104, 90, 68), (38, 38, 44), (86, 98, 112))
HI_VIS: tuple[Colour, ...] = ((206, 232, 46), (248, 126, 30), (236, 214, 52))
CONES: tuple[Colour, ...] = ((244, 98, 28), (232, 70, 34), (250, 128, 40))
SILVER: Colour = (222, 226, 224)
POSES = ("stand", "walk", "reach", "hips", "carry", "point", "bend", "crouch")


@dataclass(frozen=True)
class Person:
    """How one person looks and stands; lengths in heights of a person, angles in degrees.

    Parameters
    ----------
    helmet : bool
        Whether a helmet is worn.
    wear : str
        What the head shows without one, of `HEADWEAR`.
    pose : str
        One of `POSES`.
    turn : float
        Where the person looks: 0 at the viewer, 1 to the side.
    is_back : bool
        Whether the back is seen.
    seed : int
        Decides colours and small angles.
    """

    helmet: bool
    wear: str
    pose: str
    turn: float
    is_back: bool
    seed: int


def some_person(rng: np.random.Generator, *, helmet_share: float) -> Person:
    """Make up a person who wears a helmet with probability `helmet_share`."""
    return Person(
        helmet=bool(rng.random() < helmet_share),
        wear=str(rng.choice(HEADWEAR, p=[0.38, 0.12, 0.1, 0.14, 0.17, 0.09])),
        pose=str(rng.choice(POSES, p=[0.3, 0.22, 0.1, 0.1, 0.1, 0.08, 0.05, 0.05])),
        turn=float(rng.random() ** 2),
        is_back=bool(rng.random() < 0.2),
        seed=int(rng.integers(2**31)),
    )


def paint_person(brush: Brush, person: Person) -> None:
    """Paint a person; the head is the object, the body only covers what is behind it."""
    rng = np.random.default_rng(person.seed)
    lean, thighs, shins, arms = _pose(person, rng)
    skin, cloth, trousers = pick(rng, SKINS), pick(rng, CLOTHES), pick(rng, TROUSERS)
    has_vest = rng.random() < (0.75 if person.helmet else 0.55)
    vest = pick(rng, HI_VIS)
    boots = shade((70, 52, 38), float(rng.uniform(0.6, 1.1)))

    hips = [np.array([side * 0.05 * (1 - 0.6 * person.turn), 0.0]) for side in (-1, 1)]
    knees = [hip + _reach(0.235, angle) for hip, angle in zip(hips, thighs, strict=True)]
    feet = [knee + _reach(0.235, angle) for knee, angle in zip(knees, shins, strict=True)]
    ground = max(foot[1] for foot in feet) + 0.03
    body = brush.at(0.0, -ground)
    _shadow(brush)
    for side in (0, 1):
        tone = 0.82 if side == 0 else 1.0
        body.fill(limb(knees[side], feet[side], 0.085, 0.062), shade(trousers, tone))
        body.fill(limb(hips[side], knees[side], 0.115, 0.088), shade(trousers, tone))
        toe = feet[side] + np.array([0.045 if person.turn > 0.4 else 0.014 * (2 * side - 1), 0.018])
        body.fill(limb(feet[side], toe, 0.06, 0.05), shade(boots, tone))
        if has_vest:
            shin = body.at(*(float(v) for v in knees[side]), angle=-shins[side])
            shin.fill(rectangle(-0.037, 0.11, 0.037, 0.14), shade(SILVER, 0.86 * tone))

    spine = -_reach(0.33, lean)
    half = 0.12 - 0.045 * person.turn
    across = np.array([np.cos(np.radians(lean)), np.sin(np.radians(lean))])
    shoulders = [spine - across * half, spine + across * half]
    _arm(body, shoulders[0], arms[0], shade(cloth, 0.8), skin)
    _torso(body, spine, half, lean, vest if has_vest else cloth, has_vest=has_vest)
    neck = spine - _reach(0.035, lean * 0.7)
    body.fill(limb(spine * 0.97, neck, 0.075, 0.06), shade(skin, 0.8))
    centre = spine - _reach(0.105, lean * 0.6)
    tilt = -lean * 0.5 + float(rng.normal(0, 5))
    head = Head(person.helmet, person.wear, person.turn, person.is_back, skin, cloth)
    paint_head(body.at(float(centre[0]), float(centre[1]), scale=0.094, angle=tilt), head, rng)
    hand = _arm(body, shoulders[1], arms[1], cloth, skin)
    _tool(body, hand, person, rng)


def _reach(length: float, angle: float) -> Points:
    """A step of `length` that hangs down at 0 degrees and points right at 90."""
    turn = np.radians(angle)
    return np.array([length * np.sin(turn), length * np.cos(turn)])


def _pose(
    person: Person, rng: np.random.Generator
) -> tuple[float, list[float], list[float], list[tuple[float, float]]]:
    """Lean of the trunk, angles of both thighs and shins, and of both upper and lower arms."""
    a = float(rng.uniform(0.7, 1.3))
    wide = 7 * a * (1 - person.turn)
    legs: tuple[list[float], list[float]] = ([-wide, wide], [-wide * 0.5, wide * 0.5])
    arms = [(-12 * a, -4 * a), (12 * a, 6 * a)]
    lean = float(rng.normal(0, 2.5))
    if person.pose == "walk":
        legs = ([-18 * a, 22 * a], [-30 * a, 8 * a])
        arms = [(18 * a, 34 * a), (-20 * a, 2)]
    elif person.pose == "reach":
        arms[1] = (150 * a**0.3, 168 * a**0.3)
    elif person.pose == "hips":
        arms = [(-40 * a, 34), (40 * a, -34)]
    elif person.pose == "carry":
        arms = [(-8, 62 * a), (10, 74 * a)]
    elif person.pose == "point":
        arms[1] = (76 * a, 88 * a)
    elif person.pose == "bend":
        lean = 48 * a
        arms = [(10, 4), (22, 12)]
    elif person.pose == "crouch":
        lean = 16 * a
        legs = ([62 * a, 78 * a], [-34, -52])
        arms = [(20, 60), (34, 66 * a)]
    return lean, *legs, arms


def _shadow(brush: Brush) -> None:
    """What the figure keeps from the sun, on the ground beside it."""
    brush.fill(ellipse(-0.12 * brush.canvas.sun, 0.0, 0.26, 0.035), (10, 12, 20), alpha=0.32)


def _torso(body: Brush, spine: Points, half: float, lean: float, colour: Colour, *, has_vest: bool) -> None:
    """Chest and belly, with a lit side and, on a vest, its reflecting bands."""
    trunk = body.at(float(spine[0]), float(spine[1]), angle=lean)
    outline = np.array(
        [[-half * 0.55, -0.02], [half * 0.55, -0.02], [half * 1.12, 0.03], [half * 0.95, 0.2], [half * 0.92, 0.37],
         [-half * 0.92, 0.37], [-half * 0.95, 0.2], [-half * 1.12, 0.03]]
    )  # fmt: skip
    trunk.fill(outline, colour)
    if has_vest:
        for x in (-0.52, 0.52):
            trunk.fill(rectangle(half * x - 0.014, 0.0, half * x + 0.014, 0.2), SILVER)
        for y in (0.2, 0.28):
            trunk.fill(rectangle(-half * 0.94, y, half * 0.94, y + 0.028), SILVER)
        trunk.fill(rectangle(-0.004, 0.0, 0.004, 0.37), shade(colour, 0.6))
    else:
        trunk.fill(rectangle(-half * 0.93, 0.335, half * 0.93, 0.36), shade(colour, 0.45))
    dark = outline.copy()
    dark[:, 0] = np.where(dark[:, 0] * body.canvas.sun > 0, 0.25 * dark[:, 0], dark[:, 0])
    trunk.fill(dark, (12, 14, 30), alpha=0.22)


def _arm(body: Brush, shoulder: Points, angles: tuple[float, float], colour: Colour, skin: Colour) -> Points:
    """Sleeve, forearm and hand; gives the place of the hand."""
    elbow = shoulder + np.array([0.0, 0.02]) + _reach(0.155, angles[0])
    hand: Points = elbow + _reach(0.145, angles[1])
    body.fill(limb(elbow, hand, 0.06, 0.046), shade(colour, 0.92))
    body.fill(limb(shoulder + np.array([0.0, 0.02]), elbow, 0.08, 0.062), colour)
    body.fill(ellipse(hand[0], hand[1], 0.028, 0.03), skin)
    return hand


def _tool(body: Brush, hand: Points, person: Person, rng: np.random.Generator) -> None:
    """What the right hand holds: a plank, a board, a shovel, a helmet that is not worn, mostly nothing."""
    chance = rng.random()
    if person.pose == "carry" and chance < 0.6:
        board = pick(rng, ((150, 112, 70), (196, 188, 172), (176, 60, 46)))
        body.fill(rectangle(hand[0] - 0.1, hand[1] - 0.12, hand[0] + 0.09, hand[1] + 0.03), board)
        body.fill(rectangle(hand[0] - 0.1, hand[1] - 0.12, hand[0] + 0.09, hand[1] - 0.09), shade(board, 1.25))
    elif person.pose in ("stand", "reach", "walk") and chance < 0.12:
        body.fill(limb(hand + np.array([-0.16, -0.5]), hand + np.array([0.1, 0.26]), 0.022), (128, 96, 60))
        body.fill(ellipse(hand[0] + 0.11, hand[1] + 0.31, 0.045, 0.07), (112, 116, 122))
    elif not person.helmet and chance < 0.3:
        paint_helmet(body.at(float(hand[0]), float(hand[1]) + 0.07, scale=0.08, angle=20), pick(rng, HELMETS), turn=0.4)


def paint_cone(brush: Brush, rng: np.random.Generator) -> None:
    """A traffic cone, upright or fallen, in units of a person's height; it is an object."""
    colour = pick(rng, CONES)
    height, foot = float(rng.uniform(0.42, 0.56)), float(rng.uniform(0.11, 0.15))
    n_bands = int(rng.choice([0, 1, 2], p=[0.05, 0.45, 0.5]))
    is_down = rng.random() < 0.1
    brush.fill(ellipse(-0.05 * brush.canvas.sun, 0.0, 0.2, 0.03), (10, 12, 20), alpha=0.3)
    cone = brush.at(0.0, -1.5 * foot if is_down else 0.0, angle=float(rng.choice([-84, 84])) if is_down else 0.0)
    brush.canvas.begin("cone")

    def slice_of(low: float, high: float, share: float = 1.0) -> Points:
        wide, narrow = (foot * (1 - 0.84 * t) * share for t in (low, high))
        return np.array(
            [[-wide, -low * height], [wide, -low * height], [narrow, -high * height], [-narrow, -high * height]]
        )

    base = shade(colour, 0.7) if rng.random() < 0.6 else (44, 42, 44)
    cone.fill(rectangle(-foot * 1.5, -0.035, foot * 1.5, 0.0), base)
    cone.fill(slice_of(0.06, 1.0), colour)
    for band in range(n_bands):
        low = 0.34 + 0.28 * band
        cone.fill(slice_of(low, low + 0.17), (236, 234, 228))
    dark = slice_of(0.06, 1.0)
    dark[:, 0] = np.where(dark[:, 0] * brush.canvas.sun > 0, 0.1 * dark[:, 0], dark[:, 0])
    cone.fill(dark, (40, 10, 10), alpha=0.22)
    brush.canvas.end()
