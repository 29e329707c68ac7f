"""Which boxes lie on which: pairs of one label on one image, and their intersection over union.

Source: the rules are those of COCO's evaluation, `pycocotools.mask` 2.0: the IoU with a crowd is the
share of the detection that lies on it, and a box is known by its width and height.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Places = npt.NDArray[np.int32]
Bools = npt.NDArray[np.bool_]

_PAIRS_AT_ONCE = 200_000  # their columns fit a processor's cache


@dataclass(frozen=True)
class Boxes:
    """Boxes as columns, in the order of their table.

    Parameters
    ----------
    label, image : ndarray, shape (n,)
        Positions in the labels and images that are evaluated.
    x1, y1, x2, y2 : ndarray, shape (n,)
        Edges in pixels.
    area : ndarray, shape (n,)
        Of the object as its size counts; square pixels.
    weight : ndarray, shape (n,)
        Score of a detection; 1 for a crowd among the true objects, else 0.
    source : ndarray, shape (n,)
        Rows of the table that they came from.
    """

    label: Places
    image: Places
    x1: Floats
    y1: Floats
    x2: Floats
    y2: Floats
    area: Floats
    weight: Floats
    source: Places

    def take(self, rows: Ints | Bools | slice) -> Boxes:
        """Give a part of the rows, or all in another order."""
        return Boxes(*(getattr(self, name)[rows] for name in self.__dataclass_fields__))

    def __len__(self) -> int:
        """Count the boxes."""
        return len(self.label)


class Overlap(Protocol):
    """How much of each other two things cover: of boxes `box_overlap`, of masks `segmentations.MaskOverlap`."""

    def __call__(self, truth: Boxes, detections: Boxes, one: Ints, other: Ints, least: float) -> tuple[Ints, Floats]:
        """Give the positions of the pairs (row of a detection, of an object) of at least this IoU, and their IoU."""
        ...


def box_overlap(truth: Boxes, detections: Boxes, one: Ints, other: Ints, least: float) -> tuple[Ints, Floats]:
    """Give the IoU of boxes.

    Parameters
    ----------
    truth, detections : Boxes
        What the pairs are made of.
    one, other : ndarray, shape (n,)
        Rows of the detections, and of the objects.
    least : float
        Pairs below this IoU are left out, and so are all that do not touch.

    Returns
    -------
    tuple of ndarray
        Positions of the pairs that are left, rising, and their IoU.
    """
    kept, inter = np.arange(len(one)), np.ones(len(one))
    for near, far in (("x1", "x2"), ("y1", "y2")):
        low = np.maximum(getattr(detections, near)[one], getattr(truth, near)[other])
        side = np.minimum(_far(detections, near, far, one), _far(truth, near, far, other)) - low
        touching = np.flatnonzero(side > 0)
        one, other, kept, inter = one[touching], other[touching], kept[touching], inter[touching] * side[touching]
    own = _area(detections, one)
    iou = inter / np.where(truth.weight[other] > 0, own, own + _area(truth, other) - inter)
    enough = np.flatnonzero(iou >= least)
    return kept[enough], iou[enough]


class Span(NamedTuple):
    """Detections with what they may lie on: row i of `rows` on `n_objects[i]` objects from `first[i]` on."""

    rows: Ints
    first: Ints
    n_objects: Ints


def overlapping(
    truth: Boxes, detections: Boxes, span: Span, overlap: Overlap, *, least: float
) -> tuple[Ints, Ints, Floats]:
    """Give the pairs that overlap enough, in blocks of bounded memory.

    Parameters
    ----------
    truth, detections : Boxes
        What the pairs are made of.
    span : Span
        Which pairs there are.
    overlap : Overlap
        What to measure.
    least : float
        IoU from which a pair is given.

    Returns
    -------
    tuple of ndarray
        Positions in `span` (rising), rows of objects (rising for each), IoU.
    """
    parts = []
    for one, other in _all_pairs(span.first, span.n_objects):
        kept, iou = overlap(truth, detections, span.rows[one], other, least)
        parts.append((one[kept], other[kept], iou))
    if len(parts) == 1:
        return parts[0]
    one, other = (np.concatenate([part[i] for part in parts]) for i in (0, 1))
    return one, other, np.concatenate([part[2] for part in parts])


def _all_pairs(first: Ints, n_objects: Ints) -> Iterator[tuple[Ints, Ints]]:
    """List every pair, at most about `_PAIRS_AT_ONCE` at a time."""
    busy = np.flatnonzero(n_objects)
    block = np.cumsum(n_objects[busy]) // _PAIRS_AT_ONCE
    for rows in np.split(busy, np.flatnonzero(np.diff(block)) + 1):
        sizes = n_objects[rows]
        one = np.repeat(rows, sizes)
        yield one, np.arange(len(one)) + np.repeat(first[rows] - (np.cumsum(sizes) - sizes), sizes)


def _far(boxes: Boxes, near: str, far: str, rows: Ints) -> Floats:
    """Give the far edges as COCO has them: near edge plus width, to the last bit."""
    start: Floats = getattr(boxes, near)[rows]
    edge: Floats = (getattr(boxes, far)[rows] - start) + start
    return edge


def _area(boxes: Boxes, rows: Ints) -> Floats:
    """Give the areas of boxes."""
    area: Floats = (boxes.x2[rows] - boxes.x1[rows]) * (boxes.y2[rows] - boxes.y1[rows])
    return area
