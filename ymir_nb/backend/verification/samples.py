"""The small dataset of a verification: drawn images that are awkward and legal.

Each class has its place, size and colour, so that even a hasty training can tell them apart. Between
the plain images stand a grey one, a PNG, a BMP, one that EXIF turns, one with alpha, one of odd and
one of tiny size, one without any object and one with a single object; a class name has a blank, and
another a letter outside ASCII.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image, ImageDraw

from ymir_nb.backend.dataset import Dataset
from ymir_nb.backend.errors import ObjectMissing
from ymir_nb.backend.images import inspect, thumbnail
from ymir_nb.backend.tables import annotations_frame

LABELS = ("vest", "hard hat", "cône")
"""In an order that is not the alphabet's."""
_TURNED = 6  # EXIF: shown upright after a quarter turn clockwise
_PLACES = {"vest": (48, 26, 84, 86), "hard hat": (8, 6, 42, 34), "cône": (92, 50, 122, 90)}
_COLOURS = {"vest": "#f2d21b", "hard hat": "#2c6fd1", "cône": "#e2571e"}


@dataclass(frozen=True)
class Sketch:
    """How one image is drawn.

    Parameters
    ----------
    format, mode : str
        Pillow's names.
    size : tuple of int
        Width and height in pixels, upright.
    labels : tuple of str
        What is on it.
    orientation : int
        EXIF orientation of the stored pixels.
    """

    format: str = "JPEG"
    mode: str = "RGB"
    size: tuple[int, int] = (128, 96)
    labels: tuple[str, ...] = LABELS
    orientation: int = 1


_PLAIN = Sketch()
TRAIN = (
    *(_PLAIN, _PLAIN, _PLAIN, _PLAIN),
    Sketch(mode="L"),
    Sketch("PNG"),
    Sketch("BMP"),
    Sketch(orientation=_TURNED),
    Sketch("PNG", "RGBA"),
    Sketch(size=(131, 97)),
    Sketch(size=(24, 18)),
    Sketch(labels=()),
    Sketch(labels=("hard hat",)),
)
VAL = (_PLAIN, _PLAIN, Sketch("PNG"), Sketch(labels=()))
CANDIDATES = (
    *(_PLAIN, _PLAIN, _PLAIN, _PLAIN, _PLAIN),
    Sketch("PNG", "L"),
    Sketch(orientation=_TURNED),
    Sketch(size=(96, 72)),
    Sketch(labels=()),
)


@dataclass(frozen=True)
class Samples:
    """What an executor is given.

    Parameters
    ----------
    train, val : Dataset
        Labelled.
    candidates : Dataset
        Not labelled.
    truth : DataFrame
        Columns of `tables.ANNOTATIONS`: what is on the candidates.
    """

    train: Dataset
    val: Dataset
    candidates: Dataset
    truth: pd.DataFrame = field(repr=False)


class Folder:
    """Images in a folder, named by their hash: the `Media` of the samples."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def path(self, image: str) -> Path:
        """Give the file of an image."""
        path = self._directory / image
        if not path.exists():
            raise ObjectMissing(f"image {image} is not in {self._directory}. Verify again in a new folder.")
        return path

    def read(self, image: str) -> bytes:
        """Read an image."""
        return self.path(image).read_bytes()

    def files(self, images: Sequence[str]) -> list[str]:
        """Give the files of many images."""
        return [str(self.path(image)) for image in images]

    def thumbnail(self, image: str, *, side_px: int) -> bytes:
        """Give an upright JPEG."""
        return thumbnail(self.read(image), side_px=side_px)


def draw_samples(directory: Path, *, segmented: bool = False) -> Samples:
    """Draw the dataset; the same every time.

    Parameters
    ----------
    directory : Path
        Gets the image files; made where it is not there.
    segmented : bool
        Give every object its outline as a polygon, for executors that segment.

    Returns
    -------
    Samples
    """
    directory.mkdir(parents=True, exist_ok=True)
    media = Folder(directory)
    drawn = []
    seed = 0
    for sketches in (TRAIN, VAL, CANDIDATES):
        images: list[dict[str, Any]] = []
        boxes: list[dict[str, Any]] = []
        for sketch in sketches:
            row, objects = _draw(directory, sketch, seed)
            images.append(row)
            boxes += [_outlined(box) if segmented else box for box in objects]
            seed += 1
        drawn.append((images, boxes))
    train, val = (Dataset.of(images, boxes, labels=LABELS, media=media) for images, boxes in drawn[:2])
    images, boxes = drawn[2]
    unlabelled = [row | {"labelled": False} for row in images]
    return Samples(train, val, Dataset.of(unlabelled, labels=LABELS, media=media), annotations_frame(boxes))


def _draw(directory: Path, sketch: Sketch, seed: int) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Draw one image into the folder and give its row and its boxes."""
    random = np.random.default_rng(seed)
    width, height = sketch.size
    noise = random.integers(90, 130, (height, width, 3), dtype=np.uint8)
    picture = Image.fromarray(noise)
    pen = ImageDraw.Draw(picture)
    corners = {}
    for label in sketch.labels:
        shift = random.integers(-2, 3, 2)
        x1, y1, x2, y2 = (
            int(np.clip(edge * full / base + by, 0, full))
            for edge, full, base, by in zip(
                _PLACES[label], (width, height) * 2, (128, 96) * 2, (*shift, *shift), strict=True
            )
        )
        corners[label] = (x1, y1, x2, y2)
        pen.rectangle((x1, y1, x2 - 1, y2 - 1), fill=_COLOURS[label])
    data = _encode(picture.convert(sketch.mode), sketch)
    image = hashlib.md5(data, usedforsecurity=False).hexdigest()
    (directory / image).write_bytes(data)
    info = inspect(data, "")
    row = vars(info) | {"image": image, "file": f"{seed:02}.{sketch.format.lower()}", "labelled": True}
    names = ("x1", "y1", "x2", "y2")
    return row, [{"image": image, "label": k} | dict(zip(names, v, strict=True)) for k, v in corners.items()]


def _encode(picture: Image.Image, sketch: Sketch) -> bytes:
    """Write the file, its pixels turned against what EXIF will say."""
    options: dict[str, Any] = {}
    if sketch.orientation == _TURNED:
        picture = picture.transpose(Image.Transpose.ROTATE_90)
        exif = Image.Exif()
        exif[0x0112] = _TURNED
        options["exif"] = exif
    sink = io.BytesIO()
    picture.save(sink, sketch.format, **options)
    return sink.getvalue()


def _outlined(box: dict[str, Any]) -> dict[str, Any]:
    x1, y1, x2, y2 = (box[name] for name in ("x1", "y1", "x2", "y2"))
    outline = [[x1, y1, x2, y1, x2, y2, x1, y2]]
    return box | {"segmentation": json.dumps(outline), "area_px": float((x2 - x1) * (y2 - y1))}
