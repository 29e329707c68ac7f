"""Polygons as pixels: which runs of an image, read column by column, lie inside.

A closed outline crosses each column an even number of times; between the first and the second
crossing, the third and the fourth and so on lies the object. Corners are rounded to fifths of a pixel.

Source: the pixels are those of `pycocotools.mask.frPyObjects` 2.0, to the last one.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np

from ymir_nb.backend.overlaps import Floats, Ints

_SCALE = 5.0  # an outline lives on a grid five times as fine as the pixels
_STEP = 5
_BEFORE = 2  # between this fifth of a column and the next its middle is crossed
_CROSSINGS_AT_ONCE = 2_000_000
_FARTHEST = 2.0**31 - 1


def to_runs(corners: Floats, first: Ints, *, width: Ints, height: Ints) -> tuple[Ints, Ints, Ints]:
    """Fill rings.

    Parameters
    ----------
    corners : ndarray, shape (n, 2)
        x, y in pixels of all rings, one after the other; finite.
    first : ndarray, shape (r + 1,)
        Ring i has the corners ``first[i]:first[i + 1]``, and is closed.
    width, height : ndarray, shape (r,)
        Of the image that each ring lies on, pixels.

    Returns
    -------
    tuple of ndarray
        Ring, begin and end of every run of pixels, by ring and place; a place is
        ``column * height + row``, the end exclusive.

    Examples
    --------
    >>> square = np.array([[1.0, 1.0], [3.0, 1.0], [3.0, 3.0], [1.0, 3.0]])
    >>> [part.tolist() for part in to_runs(square, np.array([0, 4]), width=np.array([4]), height=np.array([4]))]
    [[0, 0], [5, 9], [7, 11]]
    """
    n_corners = np.diff(first)
    grid = np.trunc(np.clip(_SCALE * corners + 0.5, -_FARTHEST, _FARTHEST))
    follower = np.arange(1, len(grid) + 1)
    follower[first[1:][n_corners > 0] - 1] = first[:-1][n_corners > 0]
    ring = np.repeat(np.arange(len(n_corners)), n_corners)
    edges = np.hstack([grid, grid[follower]]) if len(grid) else np.zeros((0, 4))
    parts = [_crossings(edges[rows], ring[rows], width, height) for rows in _blocks(edges, width[ring])]
    ring = np.concatenate([np.zeros(0, np.int64), *(part[0] for part in parts)])
    place = np.concatenate([np.zeros(0, np.int64), *(part[1] for part in parts)])
    order = np.lexsort((place, ring))
    ring, place = ring[order], place[order]
    # Two crossings at one place are none.
    fresh = np.flatnonzero((np.diff(ring, prepend=-1) != 0) | (np.diff(place, prepend=-1) != 0))
    odd = fresh[np.diff(np.append(fresh, len(ring))) % 2 == 1]
    return ring[odd][::2], place[odd][::2], place[odd][1::2]


def _blocks(edges: Floats, width: Ints) -> Iterator[slice]:
    """Cut the edges into ranges that cross few columns together."""
    columns = np.minimum(np.abs(edges[:, 2] - edges[:, 0]) / _SCALE + 1, width)
    block = np.cumsum(columns) // _CROSSINGS_AT_ONCE
    bounds = [0, *(np.flatnonzero(np.diff(block)) + 1).tolist(), len(edges)]
    yield from (slice(low, high) for low, high in pairwise(bounds))


def _crossings(edges: Floats, ring: Ints, width: Ints, height: Ints) -> tuple[Ints, Ints]:
    """Find where edges (x, y, x, y on the fine grid) cross the middle of a column: ring and place."""
    flat = np.abs(edges[:, 2] - edges[:, 0]) >= np.abs(edges[:, 3] - edges[:, 1])
    # An edge is walked from its lower end: on x if it is flat, on y if it is steep.
    back = np.where(flat, edges[:, 0] > edges[:, 2], edges[:, 1] > edges[:, 3])
    x0, y0, x1, y1 = np.where(back[:, None], edges[:, [2, 3, 0, 1]], edges).T
    low, high = np.minimum(x0, x1), np.maximum(x0, x1)
    first = np.maximum(np.ceil((low - _BEFORE) / _STEP), 0).astype(np.int64)
    last = np.minimum(np.floor((high - _BEFORE - 1) / _STEP), width[ring] - 1).astype(np.int64)
    n_columns = np.maximum(last - first + 1, 0)
    edge = np.repeat(np.arange(len(ring)), n_columns)
    column = np.arange(len(edge)) + np.repeat(first - (np.cumsum(n_columns) - n_columns), n_columns)
    x = _STEP * column + _BEFORE
    y = np.where(flat[edge], _flat_y(x, x0[edge], y0[edge], x1[edge], y1[edge]), 0)
    steep = np.flatnonzero(~flat[edge])
    y[steep] = _steep_y(x[steep], *(value[edge[steep]] for value in (x0, y0, x1, y1)))
    high_px = height[ring[edge]]
    row = np.ceil(np.clip((y + 0.5) / _SCALE - 0.5, 0, high_px)).astype(np.int64)
    return ring[edge], column * high_px + row


def _flat_y(x: Ints, x0: Floats, y0: Floats, x1: Floats, y1: Floats) -> Floats:
    """Height at which a flat edge passes from x to x + 1: the lower of both."""
    slope = np.divide(y1 - y0, x1 - x0, out=np.zeros(len(x)), where=x1 != x0)
    return np.minimum(np.trunc(y0 + slope * (x - x0) + 0.5), np.trunc(y0 + slope * (x + 1 - x0) + 0.5))


def _steep_y(x: Ints, x0: Floats, y0: Floats, x1: Floats, y1: Floats) -> Floats:
    """Height at which a steep edge passes from x to x + 1, or from x + 1 to x: the last before it does."""
    slope = (x1 - x0) / (y1 - y0)
    step = np.floor((x + 0.5 - x0) / slope)
    for _ in range(3):  # the quotient is rounded: the walk itself decides
        before = np.where(
            slope > 0, np.trunc(x0 + slope * (step + 1) + 0.5) <= x, np.trunc(x0 + slope * (step + 1) + 0.5) > x
        )
        after = np.where(slope > 0, np.trunc(x0 + slope * step + 0.5) > x, np.trunc(x0 + slope * step + 0.5) <= x)
        step = step + before - after
    return y0 + step
