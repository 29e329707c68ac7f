"""What every detection found, kept so that the average precision of any mixture of images costs no new matching.

A mixture is a weight for every image: a draw of the bootstrap, a slice, or everything once, which gives the
AP of `metrics.evaluate`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ymir_nb.backend.dataset import Dataset
from ymir_nb.backend.pairing import Bools, Floats, Ints, Names, Pairs, Side, assign, overlapping, sides

IOUS: Floats = np.linspace(0.5, 0.95, 10)
"""IoU from which a detection finds an object, COCO's ten."""

METRICS = {"ap": slice(0, 10), "ap50": slice(0, 1), "ap75": slice(5, 6)}
"""Averages over `IOUS`, by name."""

_RECALLS: Floats = np.linspace(0.0, 1.0, 101)
_MOST_A_CELL = 100  # detections of one label on one image that COCO counts
_CELLS_AT_ONCE = 2_000_000


@dataclass(frozen=True, eq=False)
class Outcomes:
    """What every detection found at ten thresholds, sorted by label and falling score.

    Parameters
    ----------
    images : ndarray of str
        Images that are compared, sorted.
    labels : tuple of str
        Labels that are compared.
    image : ndarray, shape (n,)
        Of the detections, down to each label's last right one; what comes after it costs nothing.
    begin, label : ndarray, shape (c,)
        Detections that find anything at some threshold close a run each: its first row, its label.
    hits, excused : tuple of ndarray
        For each of `IOUS` the runs, rising, whose last detection found an object, or only one that
        is ignored.
    truth_image, truth_label : ndarray, shape (m,)
        Of the objects that count, sorted by label.
    """

    images: Names
    labels: tuple[str, ...]
    image: Ints
    begin: Ints
    label: Ints
    hits: tuple[Ints, ...]
    excused: tuple[Ints, ...]
    truth_image: Ints
    truth_label: Ints

    @classmethod
    def of(
        cls,
        truth: Dataset,
        predictions: Dataset,
        *,
        labels: Sequence[str] | None = None,
        ignored: Bools | None = None,
    ) -> Outcomes:
        """Match detections to objects as COCO does, at each threshold anew.

        Parameters
        ----------
        truth, predictions : Dataset
            As for `metrics.evaluate`.
        labels : sequence of str, optional
            Labels to compare on; by default all of the truth.
        ignored : ndarray of bool, optional
            Rows of the truth's annotations that shall not count: who finds them is neither right
            nor wrong. Crowds never count.

        Raises
        ------
        InvalidTable
            The tables cannot be compared, as in `metrics.evaluate`.
        """
        compared = sides(truth, predictions, labels=labels)
        real, found = compared.truth, _best_of_each_cell(compared.found)
        off = real.crowd if ignored is None else real.crowd | ignored[real.row]
        order = np.lexsort((found.standing(), found.label))
        place = np.empty_like(order)
        place[order] = np.arange(len(order))
        pairs = overlapping(real, found, at_least=float(IOUS[0]))
        pairs = pairs.take(found.label[pairs.found] == real.label[pairs.truth])
        both = [_find(pairs.take(pairs.iou >= iou), off, real, found) for iou in IOUS]
        hits, excused = ([np.sort(place[part[i]]) for part in both] for i in (0, 1))
        ends = _ends(found.label[order], hits, excused)
        counted = np.flatnonzero(~off)
        counted = counted[np.argsort(real.label[counted], kind="stable")]
        last = np.zeros(len(compared.labels), dtype=np.int64)
        last[found.label[order][ends]] = ends + 1
        kept = np.arange(len(order)) < last[found.label[order]]
        new = np.cumsum(kept) - 1
        return cls(
            images=compared.images,
            labels=compared.labels,
            image=found.image[order][kept],
            begin=np.append(0, new[ends] + 1)[:-1],
            label=found.label[order][ends],
            hits=tuple(np.searchsorted(ends, rows) for rows in hits),
            excused=tuple(np.searchsorted(ends, rows[np.isin(rows, ends)]) for rows in excused),
            truth_image=real.image[counted],
            truth_label=real.label[counted],
        )

    def n_truth(self, weights: Floats) -> Floats:
        """Count the objects of each label in mixtures of images, shape (b, n_labels)."""
        n = np.zeros((len(weights), len(self.labels)))
        first = np.flatnonzero(np.diff(self.truth_label, prepend=-1))
        if len(first):
            n[:, self.truth_label[first]] = np.add.reduceat(weights[:, self.truth_image], first, axis=1)
        return n

    def ap(self, weights: Floats) -> Floats:
        """Give the average precision of mixtures of images.

        Parameters
        ----------
        weights : ndarray, shape (b, n_images)
            How often each image is in each mixture, at least 0.

        Returns
        -------
        ndarray, shape (b, 10, n_labels)
            By threshold and label; NaN for a label without objects in the mixture.
        """
        step = max(1, _CELLS_AT_ONCE // max(1, len(self.image), weights.shape[1]))
        parts = [self._ap(weights[i : i + step]) for i in range(0, len(weights), step)]
        return np.concatenate([np.empty((0, len(IOUS), len(self.labels))), *parts])

    def _ap(self, weights: Floats) -> Floats:
        n_truth = self.n_truth(weights)
        ap = np.zeros((len(weights), len(IOUS), len(self.labels)))
        if not len(self.begin):
            return _without(ap, n_truth)
        weight = weights[:, self.image]
        seen = _running(np.add.reduceat(weight, self.begin, axis=1), self.label)
        last = weight[:, np.append(self.begin[1:], weight.shape[1]) - 1]
        for i, (hits, excused) in enumerate(zip(self.hits, self.excused, strict=True)):
            if not len(hits):
                continue
            label = self.label[hits]
            n_hits = _running(last[:, hits], label)
            n_counted = seen[:, hits] - self._excused_before(last, hits, excused)
            precision = n_hits / (n_counted + np.spacing(1.0))
            first = np.flatnonzero(np.diff(label, prepend=-1))
            recall = n_hits / np.maximum(n_truth[:, label], np.spacing(1.0))
            nearest = np.rint(np.minimum(recall, 1.0) * (len(_RECALLS) - 1)).astype(np.int64)
            reached = nearest + (_RECALLS[nearest] <= recall)
            gained = np.diff(reached, axis=1, prepend=0)
            gained[:, first] = reached[:, first]
            ap[:, i, label[first]] = np.add.reduceat(_envelope(precision, label) * gained, first, axis=1)
        return _without(ap / len(_RECALLS), n_truth)

    def _excused_before(self, last: Floats, hits: Ints, excused: Ints) -> Floats:
        """Count what was excused before each hit, within its label."""
        if not len(excused):
            return np.zeros((len(last), len(hits)))
        so_far = np.cumsum(np.hstack([np.zeros((len(last), 1)), last[:, excused]]), axis=1)
        begin = np.searchsorted(self.label, self.label[hits])
        between: Floats = so_far[:, np.searchsorted(excused, hits)] - so_far[:, np.searchsorted(excused, begin)]
        return between


def by_label(ap: Floats, metric: str) -> Floats:
    """Turn shape (b, 10, n_labels) into one metric, shape (b, 1 + n_labels), the mean of the labels first."""
    each: Floats = ap[:, METRICS[metric]].mean(axis=1)
    return np.column_stack([mean_there(each), each])


def mean_there(values: Floats) -> Floats:
    """Mean over the last axis of what is there; NaN where nothing is."""
    there = ~np.isnan(values)
    n = there.sum(axis=-1)
    mean: Floats = np.divide(np.where(there, values, 0.0).sum(axis=-1), n, out=np.full(n.shape, np.nan), where=n > 0)
    return mean


def _find(pairs: Pairs, off: Bools, real: Side, found: Side) -> tuple[Ints, Ints]:
    """Give the detections that find an object that counts, and those that find only what is ignored."""
    standing = found.standing()
    hit = assign(pairs.take(~off[pairs.truth]), standing=standing, n_truth=len(real)).found
    rest = pairs.take(off[pairs.truth] & ~np.isin(pairs.found, hit))
    on_crowd = np.unique(rest.found[real.crowd[rest.truth]])
    rest = rest.take(~np.isin(rest.found, on_crowd))
    once = assign(rest, standing=standing, n_truth=len(real)).found
    return hit, np.union1d(on_crowd, once)


def _best_of_each_cell(found: Side) -> Side:
    """Keep the detections that COCO counts: the best hundred of each label on each image."""
    cell = found.label * (found.image.max(initial=0) + 1) + found.image
    order = np.lexsort((found.standing(), cell))
    first = np.flatnonzero(np.diff(cell[order], prepend=-1))
    rank = np.arange(len(order)) - np.repeat(first, np.diff(np.append(first, len(order))))
    return found.take(np.sort(order[rank < _MOST_A_CELL]))


def _ends(label: Ints, hits: Sequence[Ints], excused: Sequence[Ints]) -> Ints:
    """List the rows that matter: what found anything, down to each label's last hit.

    Below that hit precision can only fall, and is not read.
    """
    right = np.unique(np.concatenate(hits))
    last = np.full(label.max(initial=0) + 1, -1)
    last[label[right]] = right
    spared = np.unique(np.concatenate(excused))
    return np.union1d(right, spared[spared <= last[label[spared]]])


def _without(ap: Floats, n_truth: Floats) -> Floats:
    """Put NaN where there is no object."""
    return np.where((n_truth == 0)[:, None], np.nan, ap)


def _running(weight: Floats, label: Ints) -> Floats:
    """Add up along the rows, anew for each label; shape (b, n)."""
    total = np.cumsum(weight, axis=1)
    first = np.flatnonzero(np.diff(label, prepend=-1))
    before = np.where(first > 0, total[:, first - 1], 0.0) if len(first) else total
    running: Floats = total - np.repeat(before, np.diff(np.append(first, len(label))), axis=1)
    return running


def _envelope(precision: Floats, label: Ints) -> Floats:
    """Highest precision at or after each row, within its label; shape (b, n)."""
    # Walked from the end; each label is lifted above all that were walked before it.
    lift = 2.0 * (label.max(initial=0) - label)
    envelope: Floats = np.maximum.accumulate((precision + lift)[:, ::-1], axis=1)[:, ::-1] - lift
    return envelope
