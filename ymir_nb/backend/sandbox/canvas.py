"""A canvas that knows what it shows: polygons at a multiple of the size, and whose pixels they are.

Everything that is painted between `begin` and `end` belongs to one object. What is painted later
takes its pixels away, so that a box is always the extent of what can be seen.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

Points = npt.NDArray[np.float64]
Colour = tuple[int, int, int]
Box = tuple[int, int, int, int]

FINE = 2
"""Samples per pixel and direction: shapes are painted this much larger and averaged down."""


def mix(colour: Colour, other: Colour, share: float) -> Colour:
    """Blend two colours; `share` in [0, 1] belongs to the second."""
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(colour, other, strict=True))
    return red, green, blue


def shade(colour: Colour, factor: float) -> Colour:
    """Darken (`factor` below 1) or lighten (above 1) a colour."""
    return mix(colour, (0, 0, 0), 1.0 - factor) if factor < 1.0 else mix(colour, (255, 255, 255), factor - 1.0)


def ellipse(x: float, y: float, rx: float, ry: float, *, start: float = 0.0, stop: float = 360.0) -> Points:
    """Points on an ellipse or on its arc between two angles in degrees, clockwise from the right."""
    angles = np.radians(np.linspace(start, stop, max(6, int(abs(stop - start) / 18))))
    return np.column_stack([x + rx * np.cos(angles), y + ry * np.sin(angles)])


def rectangle(x1: float, y1: float, x2: float, y2: float) -> Points:
    """Corners of an upright rectangle."""
    return np.array([[x1, y1], [x2, y1], [x2, y2], [x1, y2]])


def limb(start: Points, end: Points, width: float, end_width: float | None = None) -> Points:
    """Outline of a rounded bar from `start` to `end`, `width` thick there and `end_width` here."""
    along = end - start
    angle = float(np.degrees(np.arctan2(along[1], along[0])))
    first, last = width / 2, (width if end_width is None else end_width) / 2
    return np.vstack(
        [
            ellipse(start[0], start[1], first, first, start=angle + 90, stop=angle + 270),
            ellipse(end[0], end[1], last, last, start=angle - 90, stop=angle + 90),
        ]
    )


@dataclass
class Canvas:
    """A picture in the making.

    Parameters
    ----------
    picture : PIL.Image.Image
        RGB backdrop at its final size; it is not changed.
    sun : float
        Side the light comes from: -1 left, 1 right.
    """

    picture: Image.Image
    sun: float = 1.0

    def __post_init__(self) -> None:
        """Enlarge the backdrop and lay the map of objects over it."""
        self.width, self.height = self.picture.size
        size = (self.width * FINE, self.height * FINE)
        self.picture = self.picture.resize(size, Image.Resampling.BILINEAR)
        self.owners = Image.new("L", size)
        self.labels: list[str] = []
        self.haze: tuple[Colour, float] = ((0, 0, 0), 0.0)
        self._pen = ImageDraw.Draw(self.picture, "RGBA")
        self._owner_pen = ImageDraw.Draw(self.owners)
        self._owner = 0
        self._areas: list[int] = []

    def begin(self, label: str) -> None:
        """Open an object: what is painted from here on is it."""
        self.labels.append(label)
        self._owner = len(self.labels)

    def end(self) -> None:
        """Close the object, and note how much of it there is before anything covers it."""
        self._areas.append(self.owners.histogram()[self._owner])
        self._owner = 0

    def paint(self, points: Points, colour: Colour, *, alpha: float = 1.0) -> None:
        """Fill a polygon, (n, 2) in pixels; a see-through one (`alpha` < 1) takes no pixels from an object."""
        flat = (points * FINE).ravel().tolist()
        if alpha < 1.0:
            self._pen.polygon(flat, fill=(*colour, round(alpha * 255)))
            return
        self._pen.polygon(flat, fill=(*mix(colour, *self.haze), 255))
        self._owner_pen.polygon(flat, fill=self._owner)

    def finish(self) -> Image.Image:
        """Average the picture down to its final size."""
        return self.picture.reduce(FINE)

    def boxes(self, *, min_visible: float = 0.3, min_side: int = 4) -> list[tuple[str, Box]]:
        """Measure the objects that can be seen.

        Parameters
        ----------
        min_visible : float
            Share of an object's pixels, in [0, 1], that must be left for it to count.
        min_side : int
            Length in pixels that both its sides must have.

        Returns
        -------
        list of (str, (int, int, int, int))
            Label and ``x1 y1 x2 y2``, in the order of painting: the smallest box of whole pixels
            around every pixel that the object touches.
        """
        owners = np.asarray(self.owners)
        found = []
        for number, (label, area) in enumerate(zip(self.labels, self._areas, strict=True), start=1):
            ys, xs = np.nonzero(owners == number)
            if len(xs) <= min_visible * area or not len(xs):
                continue
            x1, y1, x2, y2 = (int(v) for v in (xs.min() // FINE, ys.min() // FINE, xs.max() // FINE, ys.max() // FINE))
            if min(x2 + 1 - x1, y2 + 1 - y1) >= min_side:
                found.append((label, (x1, y1, x2 + 1, y2 + 1)))
        return found


@dataclass(frozen=True)
class Brush:
    """Paints in a figure's own coordinates: origin at its foot, y downwards, 1 for `scale` pixels.

    Parameters
    ----------
    canvas : Canvas
        What to paint on.
    x, y : float
        Where the figure's origin lies, pixels.
    scale : float
        Pixels per unit.
    angle : float
        Rotation in degrees, clockwise.
    mirror : bool
        Whether left and right change places.
    """

    canvas: Canvas
    x: float
    y: float
    scale: float
    angle: float = 0.0
    mirror: bool = False

    def fill(self, points: Points, colour: Colour, *, alpha: float = 1.0) -> None:
        """Fill a polygon given in the figure's coordinates, (n, 2)."""
        self.canvas.paint(self.on_canvas(points), colour, alpha=alpha)

    def on_canvas(self, points: Points) -> Points:
        """Turn points of the figure, (n, 2), into pixels."""
        turn = np.radians(self.angle)
        cos, sin = float(np.cos(turn)), float(np.sin(turn))
        x = -points[:, 0] if self.mirror else points[:, 0]
        y = points[:, 1]
        return np.column_stack([self.x + self.scale * (x * cos - y * sin), self.y + self.scale * (x * sin + y * cos)])

    def at(self, x: float, y: float, *, scale: float = 1.0, angle: float = 0.0) -> Brush:
        """Give a brush for a part of the figure, placed in the figure's coordinates."""
        ((px, py),) = self.on_canvas(np.array([[x, y]]))
        turn = self.angle + (-angle if self.mirror else angle)
        return replace(self, x=float(px), y=float(py), scale=self.scale * scale, angle=turn)
