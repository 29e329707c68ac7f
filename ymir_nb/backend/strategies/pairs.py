"""Boxes of one image that may be the same object: every pair, and its overlap."""

from __future__ import annotations

import numpy as np

from ymir_nb.backend.strategies.evidence import Boxes
from ymir_nb.backend.strategies.features import Floats, Ints

MOST_PAIRS = 1 << 22
"""Pairs that are held at a time."""


def best_overlap(boxes: Boxes, others: Boxes, *, same_label: bool) -> tuple[Ints, Floats]:
    """Find, for each box, the box of `others` on the same image that overlaps it most.

    Parameters
    ----------
    boxes, others : Boxes
        With corners; over the same names and labels.
    same_label : bool
        Only boxes of the same label count.

    Returns
    -------
    row : ndarray of int64, shape (n,)
        In `others`; -1 where none overlaps. Of equal overlaps the better score wins.
    iou : ndarray of float64, shape (n,)
        In [0, 1].
    """
    row, iou = np.full(len(boxes.place), -1, dtype=np.int64), np.zeros(len(boxes.place))
    first = np.searchsorted(others.place, boxes.place, side="left")
    n_others = np.searchsorted(others.place, boxes.place, side="right") - first
    ends = np.cumsum(n_others)
    start = 0
    while start < len(row):
        before = ends[start - 1] if start else 0
        stop = max(start + 1, int(np.searchsorted(ends, before + MOST_PAIRS, side="right")))
        part = np.arange(start, stop)
        a = np.repeat(part, n_others[part])
        b = np.arange(len(a)) - np.repeat(ends[part] - n_others[part] - before, n_others[part]) + first[a]
        if same_label:
            same = boxes.label[a] == others.label[b]
            a, b = a[same], b[same]
        overlap = _iou(boxes, a, others, b)
        order = np.lexsort((b, -others.score[b], -overlap, a))
        order = order[overlap[order] > 0]
        owner, at = np.unique(a[order], return_index=True)
        row[owner], iou[owner] = b[order][at], overlap[order][at]
        start = stop
    return row, iou


def _iou(boxes: Boxes, a: Ints, others: Boxes, b: Ints) -> Floats:
    """Intersection over union of the pairs."""
    if boxes.corners is None or others.corners is None:
        raise ValueError("these boxes have no corners")
    p, q = boxes.corners[a], others.corners[b]
    sides = np.maximum(np.minimum(p[:, 2:], q[:, 2:]) - np.maximum(p[:, :2], q[:, :2]), 0.0)
    shared = sides.prod(axis=1)
    union = (p[:, 2:] - p[:, :2]).prod(axis=1) + (q[:, 2:] - q[:, :2]).prod(axis=1) - shared
    overlap: Floats = np.where(union > 0, shared / np.where(union > 0, union, 1.0), 0.0)
    return overlap
