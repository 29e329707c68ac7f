"""The masks of a whole table as runs of pixels: read at once, their areas, and how they overlap.

An image is read column by column; a run is a range of such places. Polygons and COCO's run-length
form become the same columns, so that an intersection is a search among sorted numbers.

Source: the COCO API's mask format; IoU as in `pycocotools.mask` 2.0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import orjson

from ymir_nb.backend import polygons, run_lengths
from ymir_nb.backend.errors import InvalidTable
from ymir_nb.backend.overlaps import Boxes, Floats, Ints, Places

_RUNS_AT_ONCE = 2_000_000


@dataclass(frozen=True)
class Runs:
    """Masks as runs of pixels.

    Parameters
    ----------
    start : ndarray, shape (n + 1,)
        The runs of mask i are rows ``start[i]:start[i + 1]``, rising and apart.
    begin, end : ndarray, shape (r,)
        Places ``column * height + row``, the end exclusive.
    height : ndarray, shape (n,)
        Of the image that each mask lies on, pixels.
    """

    start: Ints
    begin: Ints
    end: Ints
    height: Ints

    @cached_property
    def before(self) -> Ints:
        """Count the pixels before each run, in all masks together, shape (r + 1,)."""
        return np.concatenate([[0], np.cumsum(self.end - self.begin)])

    @cached_property
    def area_px(self) -> Ints:
        """Count the pixels of each mask, shape (n,)."""
        area: Ints = np.diff(self.before[self.start])
        return area

    @cached_property
    def mask(self) -> Ints:
        """Tell which mask each run belongs to, shape (r,)."""
        return np.repeat(np.arange(len(self.height)), np.diff(self.start))

    @cached_property
    def bounds(self) -> Ints:
        """Give left, top, right and bottom of each mask, the far edges exclusive, shape (4, n); empty: all 0."""
        height = self.height[self.mask]
        left, right = self.begin // height, (self.end - 1) // height
        within = left == right
        edges = (
            (np.minimum, left),
            (np.minimum, np.where(within, self.begin - left * height, 0)),
            (np.maximum, right + 1),
            (np.maximum, np.where(within, self.end - right * height, height)),
        )
        bounds = np.zeros((4, len(self.height)), dtype=np.int64)
        full = np.flatnonzero(np.diff(self.start))
        if len(full):
            for i, (extreme, values) in enumerate(edges):
                bounds[i, full] = extreme.reduceat(values, self.start[full])
        return bounds


def read(texts: Sequence[str], *, width: Ints, height: Ints, name: str, rows: Places | Ints) -> Runs:
    """Read segmentations.

    Parameters
    ----------
    texts : sequence of str
        JSON: ``[[x, y, ...], ...]`` polygons in pixels, together one mask, or ``{"size": [height,
        width], "counts": ...}`` with runs as a list or as COCO's text.
    width, height : ndarray, shape (n,)
        Of the image that each lies on, pixels.
    name : str
        What the table is called in an error.
    rows : ndarray, shape (n,)
        Rows of that table, for the same.

    Returns
    -------
    Runs
        A mask a text.

    Raises
    ------
    InvalidTable
        A segmentation is missing, of another size than its image, or cannot be read; the message
        names its row.

    Examples
    --------
    >>> sizes = {"width": np.array([4]), "height": np.array([4])}
    >>> read(["[[1, 1, 3, 1, 3, 3, 1, 3]]"], **sizes, name="truth", rows=np.array([0])).area_px.tolist()
    [4]
    """
    rings: list[Floats] = []
    ring_mask: list[int] = []
    counted: list[tuple[int, list[int]]] = []
    written: list[tuple[int, str]] = []
    for i, text in enumerate(texts):
        try:
            value = orjson.loads(text)
            if isinstance(value, list) and value:
                rings.extend(_ring(ring) for ring in value)
                ring_mask.extend([i] * len(value))
            else:
                _check_size(value["size"], int(width[i]), int(height[i]))
                counts = value["counts"]
                (written if isinstance(counts, str) else counted).append((i, counts))
        except (ValueError, TypeError, KeyError) as error:
            raise _bad(name, rows[i], str(error) if text else "there is none") from error
    owner = np.array(ring_mask, dtype=np.int64)
    first = np.concatenate([[0], np.cumsum([len(ring) for ring in rings], dtype=np.int64)]).astype(np.int64)
    corners = np.concatenate([np.zeros((0, 2)), *rings])
    ring, begin, end = polygons.to_runs(corners, first, width=width[owner], height=height[owner])
    drawn = _joined(owner[ring], begin, end, int((width * height).max(initial=0)) + 1)
    try:
        packed = run_lengths.to_runs(counted, written, n_pixels=width * height)
    except run_lengths.Unreadable as error:
        raise _bad(name, rows[error.place], error.what) from error
    mask, begin, end = (np.concatenate([one, other]) for one, other in zip(drawn, packed, strict=True))
    order = np.argsort(mask, kind="stable")
    start = np.concatenate([[0], np.cumsum(np.bincount(mask, minlength=len(texts)))])
    return Runs(start, begin[order], end[order], height)


def intersections(one: Runs, other: Runs, left: Ints, right: Ints) -> Ints:
    """Count the pixels that pairs of masks share.

    Parameters
    ----------
    one, other : Runs
        Masks; those of a pair lie on the same image.
    left, right : ndarray, shape (p,)
        The pairs: positions in `one` and in `other`.

    Returns
    -------
    ndarray, shape (p,)
    """
    n_runs = np.diff(other.start)[right]
    block = np.cumsum(n_runs) // _RUNS_AT_ONCE
    span = int(max(one.end.max(initial=0), other.end.max(initial=0))) + 1
    keys = one.mask * span + one.begin
    shared = np.zeros(len(left), dtype=np.int64)
    for pairs in np.split(np.arange(len(left)), np.flatnonzero(np.diff(block)) + 1):
        sizes = n_runs[pairs]
        pair = np.repeat(pairs, sizes)
        first = np.cumsum(sizes) - sizes
        run = np.arange(len(pair)) + np.repeat(other.start[right[pairs]] - first, sizes)
        mask = left[pair]
        upto_begin, upto_end = (
            _pixels_before(one, keys, mask, place, span=span) for place in (other.begin[run], other.end[run])
        )
        shared += np.bincount(pair, weights=upto_end - upto_begin, minlength=len(left)).astype(np.int64)
    return shared


@dataclass(frozen=True)
class MaskOverlap:
    """IoU of masks, as `matching.match` asks for it: see `overlaps.Overlap`.

    Parameters
    ----------
    truth, found : Runs
        Masks of the objects and of the detections.
    truth_at, found_at : ndarray
        Which mask belongs to each row of the two tables.
    """

    truth: Runs
    found: Runs
    truth_at: Ints
    found_at: Ints

    def __call__(self, truth: Boxes, detections: Boxes, one: Ints, other: Ints, least: float) -> tuple[Ints, Floats]:
        """Give the positions of the pairs of at least this IoU, and their IoU."""
        left, right = self.found_at[detections.source[one]], self.truth_at[truth.source[other]]
        a, b = self.found.bounds[:, left], self.truth.bounds[:, right]
        near = np.flatnonzero((np.maximum(a[:2], b[:2]) < np.minimum(a[2:], b[2:])).all(axis=0))
        left, right = left[near], right[near]
        shared = intersections(self.found, self.truth, left, right)
        own = self.found.area_px[left]
        whole = np.where(truth.weight[other[near]] > 0, own, own + self.truth.area_px[right] - shared)
        iou = np.divide(shared, whole, out=np.zeros(len(near)), where=shared > 0)
        enough = np.flatnonzero((iou >= least) & (shared > 0))
        return near[enough], iou[enough]


def _pixels_before(runs: Runs, keys: Ints, mask: Ints, place: Ints, *, span: int) -> Ints:
    """Count the pixels of masks before places; `keys` are ``mask * span + begin`` of all runs."""
    run = np.searchsorted(keys, mask * span + place, side="right") - 1
    first = runs.start[mask]
    at = np.maximum(run, 0)
    count = runs.before[at] - runs.before[first] + np.minimum(place, runs.end[at]) - runs.begin[at]
    return np.where(run >= first, count, 0)


def _ring(value: Any) -> Floats:
    """Check the corners of a polygon, shape (n, 2)."""
    numbers = np.asarray(value, dtype=np.float64)
    if numbers.ndim != 1 or len(numbers) < 6 or len(numbers) % 2 or not np.isfinite(numbers).all():
        raise ValueError("a polygon must be a list of three or more pairs of finite numbers")
    return numbers.reshape(-1, 2)


def _check_size(size: Any, width: int, height: int) -> None:
    if list(size) != [height, width]:
        raise ValueError(f"its size is {size}, that of its image is [{height}, {width}] (height, width)")


def _joined(mask: Ints, begin: Ints, end: Ints, span: int) -> tuple[Ints, Ints, Ints]:
    """Join the runs of all rings of a mask: what lies in any of them lies in the mask."""
    edge = np.concatenate([mask * span + begin, mask * span + end])
    change = np.repeat([1, -1], len(begin))
    order = np.lexsort((-change, edge))  # at one place a run begins before another ends: they become one
    depth = np.cumsum(change[order])
    opens = np.flatnonzero((depth == 1) & (change[order] == 1))
    closes = np.flatnonzero(depth == 0)
    first, last = edge[order[opens]], edge[order[closes]]
    return first // span, first % span, last - first // span * span


def _bad(name: str, row: int, what: str) -> InvalidTable:
    return InvalidTable(
        f"{name}: the segmentation in row {row} cannot be read: {what}. Repair or remove it, or compare boxes: "
        'kind="boxes"'
    )
