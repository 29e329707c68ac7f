"""Where a drawn scene takes place: an open site, a wall with a scaffold, a hall; no objects yet."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

from ymir_nb.backend.sandbox.canvas import Brush, Canvas, Colour, Points, ellipse, limb, mix, rectangle, shade
from ymir_nb.backend.sandbox.heads import pick

Pixels = npt.NDArray[np.float32]

GROUNDS: tuple[Colour, ...] = ((150, 126, 96), (126, 112, 98), (142, 140, 134), (168, 146, 108), (112, 104, 92))
SKIES: tuple[tuple[Colour, Colour], ...] = (
    ((96, 150, 214), (206, 224, 238)),
    ((150, 166, 182), (214, 216, 214)),
    ((120, 166, 206), (240, 222, 190)),
    ((176, 184, 192), (226, 226, 222)),
)
WALLS: tuple[Colour, ...] = ((158, 84, 62), (176, 172, 164), (190, 158, 118), (122, 134, 142), (204, 198, 180))
POLES: tuple[Colour, ...] = ((150, 154, 158), (196, 160, 60), (110, 116, 122))


@dataclass(frozen=True)
class Stage:
    """A backdrop, and where on it a person can stand.

    Parameters
    ----------
    canvas : Canvas
        Painted, ready for figures.
    horizon : float
        Height in pixels at which a figure's size is 0.
    eye : float
        Height of the camera in heights of a person; a foot at ``horizon + eye * h`` carries one of `h` pixels.
    nearest_px, farthest_px : float
        Range of a person's height in pixels.
    decks : tuple of (float, float, float, float)
        Boards above the ground: left and right end, height on the canvas and a person's height there, pixels.
    """

    canvas: Canvas
    horizon: float
    eye: float
    nearest_px: float
    farthest_px: float
    decks: tuple[tuple[float, float, float, float], ...] = ()


def noise(rng: np.random.Generator, height: int, width: int, cells: tuple[int, int]) -> Pixels:
    """Smooth noise of mean 0 and about unit size, shape (height, width), from a grid of `cells`."""
    grid = Image.fromarray(rng.standard_normal(cells, dtype=np.float32))
    return np.asarray(grid.resize((width, height), Image.Resampling.BICUBIC))


def some_stage(rng: np.random.Generator, width: int, height: int) -> Stage:
    """Paint one of the three places, with its own camera, sun and colours."""
    place = (_open_site, _wall_site, _hall)[int(rng.choice(3, p=[0.48, 0.35, 0.17]))]
    return place(rng, width, height)


def _flat(height: int, width: int, colour: Colour) -> Pixels:
    return np.broadcast_to(np.array(colour, dtype=np.float32), (height, width, 3)).copy()


def _canvas(rng: np.random.Generator, pixels: Pixels) -> Canvas:
    picture = Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
    return Canvas(picture, sun=float(rng.choice([-1.0, 1.0])))


def _ground(rng: np.random.Generator, height: int, width: int, colour: Colour) -> Pixels:
    """Earth, gravel or concrete: coarser towards the viewer."""
    pixels = _flat(height, width, colour)
    depth = np.linspace(0.3, 1.0, height, dtype=np.float32)[:, None]
    grain = 13 * noise(rng, height, width, (6, 7)) + 9 * noise(rng, height, width, (24, 26))
    grain = grain + 9 * depth * rng.standard_normal((height, width), dtype=np.float32)
    return pixels + (grain * (0.6 + 0.4 * depth) - 14 * depth)[..., None]


def _wall(rng: np.random.Generator, height: int, width: int, colour: Colour) -> Pixels:
    """Bricks, panels, boards or corrugated sheet."""
    kind = int(rng.integers(4))
    brick = ((14, 6), (56, 40), (9, height), (5, height))[kind]
    rows = np.arange(height) // brick[1]
    shift = (rows % 2) * (brick[0] // 2) if kind == 0 else np.zeros_like(rows)
    along = np.arange(width)[None, :] + shift[:, None]
    columns = along // brick[0]
    tones = rng.normal(0, (14, 5, 9, 3)[kind], (rows.max() + 1, columns.max() + 1)).astype(np.float32)
    tone = tones[rows[:, None], columns]
    joint = (np.arange(height)[:, None] % brick[1] == 0) | (along % brick[0] == 0)
    tone = np.where(joint, tone + np.float32((30, -30, -36, -22)[kind]), tone)
    stains = 9 * noise(rng, height, width, (4, 5)) + 4 * noise(rng, height, width, (40, 50))
    pixels: Pixels = _flat(height, width, colour) + (tone + stains)[..., None]
    return pixels


def _sky(rng: np.random.Generator, height: int, width: int) -> Pixels:
    """A gradient with clouds."""
    top, bottom = SKIES[int(rng.integers(len(SKIES)))]
    t = np.linspace(0, 1, height, dtype=np.float32)[:, None, None]
    pixels: Pixels = np.array(top, np.float32) * (1 - t) + np.array(bottom, np.float32) * t
    cloud = np.clip(noise(rng, height, width, (4, 5)) + noise(rng, height, width, (9, 14)) / 2 - 0.3, 0, 1.4)
    share = np.float32(0.55) * cloud.astype(np.float32)[..., None]
    clouded: Pixels = pixels * (1 - share) + np.float32(240) * share
    return clouded


def _open_site(rng: np.random.Generator, width: int, height: int) -> Stage:
    """Sky, a city far off, cranes, a shell in concrete, tracks in the earth."""
    horizon = round(height * float(rng.uniform(0.26, 0.46)))
    ground = pick(rng, GROUNDS)
    pixels = np.vstack([_sky(rng, horizon, width), _ground(rng, height - horizon, width, ground)])
    canvas = _canvas(rng, pixels)
    _skyline(rng, canvas, horizon)
    for _ in range(int(rng.integers(0, 3))):
        _crane(rng, canvas, horizon)
    if rng.random() < 0.75:
        _shell(rng, canvas, horizon)
    for _ in range(int(rng.integers(0, 3))):
        _track(rng, canvas, horizon, shade(ground, 0.6))
    return Stage(canvas, horizon, float(rng.uniform(0.95, 1.7)), height, height * 0.33)


def _wall_site(rng: np.random.Generator, width: int, height: int) -> Stage:
    """A wall close by, often with openings and a scaffold that carries people."""
    base = round(height * float(rng.uniform(0.55, 0.75)))
    colour = pick(rng, WALLS)
    pixels = np.vstack([_wall(rng, base, width, colour), _ground(rng, height - base, width, pick(rng, GROUNDS))])
    canvas = _canvas(rng, pixels)
    person = height * float(rng.uniform(0.36, 0.54))
    eye = float(rng.uniform(1.0, 1.5))
    _openings(rng, canvas, base, person, colour)
    decks: tuple[tuple[float, float, float, float], ...] = ()
    if rng.random() < 0.6:
        decks = _scaffold(rng, canvas, base, person)
    canvas.paint(rectangle(0, base - 1, width, base + 3), (20, 18, 18), alpha=0.4)
    return Stage(canvas, base - eye * person, eye, height * 0.9, person * 1.05, decks)


def _hall(rng: np.random.Generator, width: int, height: int) -> Stage:
    """A shell from inside: ceiling with lamps, columns, a floor that runs to the back wall."""
    base, ceiling = round(height * float(rng.uniform(0.45, 0.6))), round(height * float(rng.uniform(0.1, 0.24)))
    grey = pick(rng, ((150, 148, 144), (132, 134, 138), (168, 160, 148)))
    parts = [
        _ground(rng, ceiling, width, shade(grey, 0.62)),
        _wall(rng, base - ceiling, width, shade(grey, 0.85)),
        _ground(rng, height - base, width, grey),
    ]
    canvas = _canvas(rng, np.vstack(parts))
    middle = width * float(rng.uniform(0.3, 0.7))
    for x in np.linspace(-1.5 * width, 2.5 * width, 15):
        near, far = np.array([x, float(height)]), np.array([middle + (x - middle) * 0.25, float(base)])
        canvas.paint(limb(far, near, 0.6, 1.4), shade(grey, 0.7), alpha=0.6)
    for y in np.linspace(2, ceiling - 3, 3):
        canvas.paint(rectangle(0, y, width, y + 3), shade(grey, 0.45))
    for x in rng.uniform(0, width, int(rng.integers(2, 5))):
        canvas.paint(ellipse(float(x), ceiling * 0.8, 5, 3), (250, 244, 214))
        canvas.paint(ellipse(float(x), ceiling * 0.8, 11, 7), (250, 244, 214), alpha=0.25)
    for x in rng.uniform(0, width, int(rng.integers(2, 5))):
        half, foot = float(rng.uniform(3, 8)), base + float(rng.uniform(0, 12))
        canvas.paint(rectangle(float(x) - half, 0, float(x) + half, foot), shade(grey, 0.95))
        canvas.paint(rectangle(float(x) - half, 0, float(x) - half * 0.2 * canvas.sun, foot), (10, 10, 16), alpha=0.3)
    person = height * float(rng.uniform(0.34, 0.46))
    eye = float(rng.uniform(1.0, 1.5))
    return Stage(canvas, base - eye * person, eye, height * 0.9, person * 1.1)


def _skyline(rng: np.random.Generator, canvas: Canvas, horizon: float) -> None:
    """Houses and trees far off, in the haze."""
    haze = pick(rng, ((168, 178, 190), (150, 164, 150), (182, 174, 170)))
    x = -10.0
    while x < canvas.width:
        wide, high = float(rng.uniform(8, 34)), float(rng.uniform(3, 26))
        tone = shade(haze, float(rng.uniform(0.8, 1.12)))
        if rng.random() < 0.3:
            canvas.paint(
                ellipse(x + wide / 2, horizon - high * 0.2, wide * 0.6, high * 0.6), mix(tone, (92, 118, 84), 0.5)
            )
        canvas.paint(rectangle(x, horizon - high, x + wide, horizon + 1), tone)
        x += wide * float(rng.uniform(0.6, 1.3))


def _crane(rng: np.random.Generator, canvas: Canvas, horizon: float) -> None:
    """A tower crane in lattice."""
    colour = mix(
        pick(rng, ((236, 184, 40), (206, 70, 50), (226, 226, 220))), (180, 190, 200), float(rng.uniform(0, 0.4))
    )
    x, high = float(rng.uniform(0.1, 0.9)) * canvas.width, horizon * float(rng.uniform(0.6, 0.92))
    brush = Brush(canvas, x, horizon, high, mirror=bool(rng.random() < 0.5))
    wide = 0.035
    for side in (-wide, wide):
        brush.fill(limb(np.array([side, -1.0]), np.array([side, 0.0]), 0.016), colour)
        brush.fill(limb(np.array([-0.4, -0.9 + side / 2]), np.array([1.1, -0.9 + side / 2]), 0.014), colour)
    steps = np.linspace(-1, 0, 14)
    for low, up in zip(steps[1:], steps[:-1], strict=True):
        brush.fill(limb(np.array([-wide, low]), np.array([wide, up]), 0.01), colour)
    for left in np.linspace(-0.4, 1.05, 18):
        brush.fill(limb(np.array([left, -0.885]), np.array([left + 0.05, -0.915]), 0.01), colour)
    brush.fill(limb(np.array([0.0, -1.0]), np.array([1.0, -0.915]), 0.008), colour)
    brush.fill(rectangle(-0.4, -0.89, -0.28, -0.79), shade(colour, 0.5))
    brush.fill(limb(np.array([0.8, -0.88]), np.array([0.8, -0.5]), 0.008), (50, 50, 54))


def _shell(rng: np.random.Generator, canvas: Canvas, horizon: float) -> None:
    """A concrete skeleton of floors and columns."""
    tone = mix(pick(rng, ((170, 166, 158), (148, 144, 140), (186, 176, 160))), (190, 198, 206), 0.25)
    x, wide = float(rng.uniform(-0.2, 0.8)) * canvas.width, canvas.width * float(rng.uniform(0.25, 0.6))
    floors, bays = int(rng.integers(2, 5)), int(rng.integers(3, 6))
    storey = horizon * float(rng.uniform(0.16, 0.24))
    foot = horizon + storey * 0.25
    canvas.paint(rectangle(x, foot - floors * storey, x + wide, foot), shade(tone, 0.5))
    for column in range(bays + 1):
        at = x + wide * column / bays
        canvas.paint(rectangle(at - 2, foot - floors * storey, at + 2, foot), shade(tone, 0.9))
        if rng.random() < 0.5:
            canvas.paint(rectangle(at + 2, foot - storey, at + wide / bays - 2, foot), pick(rng, WALLS))
    for floor in range(floors + 1):
        canvas.paint(rectangle(x - 3, foot - floor * storey - 2, x + wide + 3, foot - floor * storey + 2), tone)


def _track(rng: np.random.Generator, canvas: Canvas, horizon: float, colour: Colour) -> None:
    """Two ruts that run away from the viewer."""
    far, near = rng.uniform(0.2, 0.8) * canvas.width, rng.uniform(-0.3, 1.3) * canvas.width
    for side in (-1, 1):
        start = np.array([far + side * 1.5, horizon + 2.0])
        canvas.paint(limb(start, np.array([near + side * 26, canvas.height + 5.0]), 0.6, 9), colour, alpha=0.35)


def _openings(rng: np.random.Generator, canvas: Canvas, base: float, person: float, wall: Colour) -> None:
    """Windows and doors without frames."""
    gap = person * float(rng.uniform(0.8, 1.4))
    for x in np.arange(float(rng.uniform(-gap, 0)), canvas.width, gap * 1.5):
        is_door = rng.random() < 0.3
        top, bottom = base - person * 1.15, base - (0.0 if is_door else person * 0.5)
        for up in (0.0, person * 1.35):
            outline = rectangle(float(x), top - up, float(x) + gap * 0.6, min(bottom, base) - up)
            canvas.paint(outline, shade(wall, float(rng.uniform(0.25, 0.4))))
            canvas.paint(
                rectangle(float(x) - 2, bottom - up - 1, float(x) + gap * 0.6 + 2, bottom - up + 2), shade(wall, 1.2)
            )


def _scaffold(
    rng: np.random.Generator, canvas: Canvas, base: float, person: float
) -> tuple[tuple[float, float, float, float], ...]:
    """Poles, braces and boards before a wall; gives the boards."""
    colour = pick(rng, POLES)
    left, right = sorted(float(v) for v in rng.uniform(-0.2, 1.2, 2) * canvas.width)
    right = max(right, left + canvas.width * 0.5)
    bay, lift = person * float(rng.uniform(0.9, 1.3)), person * float(rng.uniform(1.15, 1.3))
    foot = base + 4
    for x in np.arange(left, right, bay):
        canvas.paint(rectangle(float(x) - 1, 0, float(x) + 1, foot), colour)
        if rng.random() < 0.4:
            canvas.paint(limb(np.array([x, foot - lift]), np.array([x + bay, foot]), 1.2), shade(colour, 0.8))
    decks = []
    for level in range(1, 4):
        y = foot - level * lift
        if y < person * 0.8:
            break
        canvas.paint(rectangle(left, y, right, y + 3), (156, 120, 78))
        canvas.paint(rectangle(left, y + 3, right, y + 4), (60, 46, 34))
        canvas.paint(rectangle(left, y - person * 0.5, right, y - person * 0.5 + 1.5), colour)
        decks.append((max(left, 0.0), min(right, float(canvas.width)), y, person))
    return tuple(decks)


def paint_front(rng: np.random.Generator, stage: Stage) -> None:
    """What is nearer to the camera than everybody: poles, a rope, a leaf, mostly nothing."""
    canvas = stage.canvas
    if rng.random() < 0.8:
        return
    colour = shade(pick(rng, POLES), float(rng.uniform(0.5, 0.9)))
    for x in rng.uniform(0, canvas.width, int(rng.integers(1, 3))):
        wide = float(rng.uniform(1.5, 4))
        foot: Points = np.array([float(x) + float(rng.normal(0, 12)), canvas.height + 4.0])
        canvas.paint(limb(np.array([float(x), -4.0]), foot, wide), colour)
        canvas.paint(
            limb(np.array([float(x) + wide * 0.2, -4.0]), foot + np.array([wide * 0.2, 0.0]), wide * 0.3),
            shade(colour, 1.4),
        )
    if rng.random() < 0.5:
        y = float(rng.uniform(0.3, 0.9)) * canvas.height
        canvas.paint(limb(np.array([-4.0, y]), np.array([canvas.width + 4.0, y + rng.normal(0, 8)]), 2.4), colour)
