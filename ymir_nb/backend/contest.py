"""The matching of one evaluation, some labels at a time: what is at work fits a processor's cache."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from ymir_nb.backend.assignment import assign
from ymir_nb.backend.ordering import cells, first_of_run, stable_order
from ymir_nb.backend.overlaps import Bools, Boxes, Floats, Ints, Overlap, Places, Span, overlapping

_DETECTIONS_AT_ONCE = 500_000


@dataclass(frozen=True)
class Outcome:
    """What the candidates among sorted detections found; the columns are those of `matching.Matches`."""

    row: Ints
    rank: Ints
    found: Ints
    excused: Ints
    pair_row: Ints
    pair_object: Ints
    pair_iou: Floats
    pair_bits: Ints


@dataclass(frozen=True)
class Contest:
    """Detections that compete for objects.

    Parameters
    ----------
    truth : Boxes
        Objects, sorted by label and image.
    counted : ndarray, shape (n_sizes, n_objects)
        Which of them count, by size.
    detections : Boxes
        In any order.
    n_images : int
        How many images there are.
    thresholds : ndarray, shape (n_thresholds,)
        IoU, rising.
    limit : int
        Detections of a label that count on one image.
    overlap : Overlap
        What IoU is measured on.
    """

    truth: Boxes
    counted: Bools
    detections: Boxes
    n_images: int
    thresholds: Floats
    limit: int
    overlap: Overlap

    def by_labels(self, order: Ints, n_labels: int) -> tuple[Ints, Ints, Outcome]:
        """Let them compete.

        Parameters
        ----------
        order : ndarray, shape (n,)
            The detections by label and falling score.
        n_labels : int
            How many labels there are.

        Returns
        -------
        ndarray, ndarray, Outcome
            `order` without those that are too many of a label on one image, where each label begins
            in it, shape (n_labels + 1,), and what they found.
        """
        first = np.concatenate([[0], np.cumsum(np.bincount(self.detections.label, minlength=n_labels))])
        kept: list[Ints] = []
        parts: list[Outcome] = []
        n_kept = np.zeros(n_labels, dtype=np.int64)
        for low, high in _blocks(first):
            label = np.repeat(np.arange(low, high, dtype=np.int32), np.diff(first[low : high + 1]))
            objects = slice(*np.searchsorted(self.truth.label, [low, high]).tolist())
            left, part = self._compete(order[first[low] : first[high]], label, objects)
            n = int(n_kept.sum())
            n_kept += np.bincount(label[left], minlength=n_labels)
            kept.append(order[first[low] : first[high]][left])
            parts.append(replace(part, row=part.row + n, pair_row=part.pair_row + n))
        columns = {name: np.concatenate([getattr(part, name) for part in parts]) for name in vars(parts[0])}
        return np.concatenate(kept), np.concatenate([[0], np.cumsum(n_kept)]), Outcome(**columns)

    def _compete(self, order: Ints, label: Places, objects: slice) -> tuple[Bools, Outcome]:
        """Let the detections of some labels compete for the objects of these labels; tell which are not too many."""
        truth = self.truth.take(objects)
        image = self.detections.image[order]
        truth_cell, cell = cells((truth.label, truth.image), (label, image), self.n_images)
        row, rank, dropped = _contenders(truth_cell, cell, image, self.limit)
        n_objects = np.bincount(truth_cell, minlength=int(cell.max(initial=0)) + 1)
        first = np.cumsum(n_objects) - n_objects
        cell = cell[row]
        span = Span(order[row], first[cell], n_objects[cell])
        pairs = overlapping(truth, self.detections, span, self.overlap, least=float(self.thresholds[0]))
        left = np.ones(len(order), dtype=np.bool_)
        left[dropped] = False
        row = (np.cumsum(left) - 1)[row] if len(dropped) else row
        n_thresholds, n_sizes = len(self.thresholds), len(self.counted)
        size_bits = np.array([((1 << n_thresholds) - 1) << (n_thresholds * size) for size in range(n_sizes)])
        result = assign(
            pairs,
            cell,
            counted=size_bits @ self.counted[:, objects],
            reusable=np.where(truth.weight > 0, np.int64(-1), np.int64(0)),
            passed_at=((1 << np.arange(n_thresholds + 1)) - 1) * sum(1 << (n_thresholds * i) for i in range(n_sizes)),
            thresholds=self.thresholds,
        )
        by_row = np.argsort(row[result.detection])
        return left, Outcome(
            row=row[result.detection][by_row],
            rank=rank[result.detection][by_row],
            found=result.found[by_row],
            excused=result.excused[by_row],
            pair_row=row[result.pair_detection],
            pair_object=result.pair_object + objects.start,
            pair_iou=result.pair_iou,
            pair_bits=result.pair_bits,
        )


def _blocks(first: Ints) -> Iterator[tuple[int, int]]:
    """Cut labels, given where the detections of each begin, into ranges with few detections; one range at least."""
    n_labels, low = len(first) - 1, 0
    while low < n_labels or not low:
        high = int(np.searchsorted(first, first[low] + _DETECTIONS_AT_ONCE, side="right")) - 1
        high = min(max(high, low + 1), n_labels)
        yield low, high
        low = max(high, 1)


def _contenders(truth_cell: Ints, cell: Ints, image: Places, limit: int) -> tuple[Ints, Ints, Ints]:
    """Find the detections in cells with objects, and those that are too many in their cell.

    Parameters
    ----------
    truth_cell : ndarray, shape (m,)
        Cells of the objects.
    cell, image : ndarray, shape (n,)
        Of the detections, by falling score in every cell.
    limit : int
        Detections of a cell that count.

    Returns
    -------
    tuple of ndarray
        Rows of contenders, cell by cell and by falling score; their ranks; rows to be dropped.
    """
    n_cells = int(max(truth_cell.max(initial=0), cell.max(initial=0))) + 1
    busy = np.bincount(truth_cell, minlength=n_cells) > 0
    full = np.bincount(cell, minlength=n_cells) > limit
    rows = np.flatnonzero((busy | full)[cell])
    # All detections of a label stand together already: sorted by image, each cell does.
    rows = rows[stable_order(image[rows])]
    rank = np.arange(len(rows)) - first_of_run(cell[rows])
    kept = (rank < limit) & busy[cell[rows]]
    return rows[kept], rank[kept], rows[rank >= limit]
