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

    def by_labels(self, order: Ints, n_labels: int) -> tuple[Ints, Outcome]:
        """Let them compete.

        Parameters
        ----------
        order : ndarray, shape (n,)
            The detections by label and falling score.
        n_labels : int
            How many labels there are.

        Returns
        -------
        ndarray, Outcome
            `order` without those that are too many of a label on one image, and what they found.
        """
        kept: list[Ints] = []
        parts: list[Outcome] = []
        for objects, rows in self._blocks(order, n_labels):
            n = sum(map(len, kept))
            left, part = self._compete(order[rows], objects)
            kept.append(left)
            parts.append(replace(part, row=part.row + n, pair_row=part.pair_row + n))
        columns = {name: np.concatenate([getattr(part, name) for part in parts]) for name in vars(parts[0])}
        return np.concatenate(kept), Outcome(**columns)

    def _blocks(self, order: Ints, n_labels: int) -> Iterator[tuple[slice, slice]]:
        """Cut objects and sorted detections between labels, with few detections to a block; one at least."""
        label = np.arange(n_labels + 1)
        first, objects = (np.searchsorted(side, label) for side in (self.detections.label[order], self.truth.label))
        begin = 0
        while begin < n_labels or not begin:
            end = int(np.searchsorted(first, first[begin] + _DETECTIONS_AT_ONCE, side="right")) - 1
            end = min(max(end, begin + 1), n_labels)
            yield slice(objects[begin], objects[end]), slice(first[begin], first[end])
            begin = max(end, 1)

    def _compete(self, order: Ints, objects: slice) -> tuple[Ints, Outcome]:
        """Let the detections of some labels compete for the objects of these labels."""
        truth = self.truth.take(objects)
        image = self.detections.image[order]
        truth_cell, cell = cells((truth.label, truth.image), (self.detections.label[order], image), self.n_images)
        row, rank, dropped = _contenders(truth_cell, cell, image, self.limit)
        n_objects = np.bincount(truth_cell, minlength=int(cell.max(initial=0)) + 1)
        first = np.cumsum(n_objects) - n_objects
        cell = cell[row]
        span = Span(order[row], first[cell], n_objects[cell])
        pairs = overlapping(truth, self.detections, span, self.overlap, least=float(self.thresholds[0]))
        if len(dropped):
            left = np.ones(len(order), dtype=np.bool_)
            left[dropped] = False
            row, order = (np.cumsum(left) - 1)[row], order[left]
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
        return order, Outcome(
            row=row[result.detection][by_row],
            rank=rank[result.detection][by_row],
            found=result.found[by_row],
            excused=result.excused[by_row],
            pair_row=row[result.pair_detection],
            pair_object=result.pair_object + objects.start,
            pair_iou=result.pair_iou,
            pair_bits=result.pair_bits,
        )


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
