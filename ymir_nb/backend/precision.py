"""From matches to numbers: precision against recall, and their averages."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pandas as pd

from ymir_nb.backend.matching import SIZES, Matches, bits
from ymir_nb.backend.overlaps import Bools, Floats, Ints

RECALLS: Floats = np.linspace(0.0, 1.0, 101)
"""Recalls at which precision is read off the curve."""

_ROWS_AT_ONCE = 50_000


def averages(matches: Matches) -> tuple[Floats, Floats, Floats]:
    """Average what the matches give over all recalls.

    Parameters
    ----------
    matches : Matches
        From `matching.match`.

    Returns
    -------
    precision, recall : ndarray, shape (4, n_thresholds, n_labels)
        Average precision, and the highest recall, by size, threshold and label, with at most as
        many detections of a label on an image as the last limit says; NaN where the truth holds
        nothing.
    recall_few : ndarray, shape (2, n_thresholds, n_labels)
        The highest recall of all sizes with as many detections as the first two limits say.

    Source: `accumulate` of `pycocotools.cocoeval` 2.0.
    """
    shape = (len(SIZES), len(matches.thresholds), matches.n_truth.shape[1])
    precision, recall, recall_few = np.zeros(shape), np.zeros(shape), np.zeros((2, *shape[1:]))
    for labels, part in _blocks(matches):
        n_seen = seen(matches, labels, part)
        for size in range(len(SIZES)):
            n_truth = np.maximum(matches.n_truth[size, labels], 1)
            group, exact, rank = hits(matches, size, labels, part, n_seen[size])
            total = np.bincount(group, minlength=shape[1] * len(n_truth)).reshape(shape[1], -1)
            precision[size, :, labels] = _read(total, exact, n_truth)
            recall[size, :, labels] = total / n_truth
            for i, limit in enumerate(matches.limits[:-1] if size == 0 else ()):
                few = np.bincount(group[rank < limit], minlength=total.size).reshape(total.shape)
                recall_few[i, :, labels] = few / n_truth
    absent = matches.n_truth == 0
    for table in (precision, recall):
        table[np.broadcast_to(absent[:, None], shape)] = np.nan
    recall_few[:, :, absent[0]] = np.nan
    return precision, recall, recall_few


def curve(matches: Matches, label: int, step: int) -> pd.DataFrame:
    """Trace precision and recall of one label at one threshold, for objects of all sizes.

    Parameters
    ----------
    matches : Matches
        From `matching.match`.
    label, step : int
        Positions of the label, and of the threshold in `matches.thresholds`.

    Returns
    -------
    DataFrame
        Columns score, recall, precision; a row a detection that counts, by falling score.
    """
    first, end = matches.start[label], matches.start[label + 1]
    part = slice(*np.searchsorted(matches.row, [first, end]))
    hit, excused = np.zeros(end - first, dtype=np.bool_), np.zeros(end - first, dtype=np.bool_)
    row = matches.row[part] - first
    n_thresholds = len(matches.thresholds)
    hit[row] = bits(matches.found[part], n_thresholds=n_thresholds)[0, step]
    excused[row] = bits(matches.excused[part], n_thresholds=n_thresholds)[0, step]
    counts = hit | (matches.inside[0, first:end] & ~excused)
    n_hits = np.cumsum(hit[counts])
    n_truth = int(matches.n_truth[0, label])
    return pd.DataFrame(
        {
            "score": matches.score[first:end][counts],
            "recall": n_hits / n_truth if n_truth else np.full(len(n_hits), np.nan),
            "precision": n_hits / np.arange(1, len(n_hits) + 1),
        }
    )


def mean_there(values: Floats) -> float:
    """Mean of what is there; NaN where nothing is."""
    there = values[~np.isnan(values)]
    return float(there.mean()) if len(there) else float("nan")


def seen(matches: Matches, labels: slice, part: slice) -> Ints:
    """Count the detections of its label and each size up to every candidate, itself too.

    Parameters
    ----------
    matches : Matches
        From `matching.match`.
    labels, part : slice
        Labels, and all candidates of these labels.

    Returns
    -------
    ndarray, shape (4, c)
    """
    start = matches.start[labels.start : labels.stop + 1] - matches.start[labels.start]
    inside = matches.inside[:, matches.start[labels.start] : matches.start[labels.stop]]
    n_seen = np.zeros((len(SIZES), inside.shape[1] + 1), dtype=np.int32)
    np.cumsum(inside, axis=1, out=n_seen[:, 1:])
    row = matches.row[part] - matches.start[labels.start]
    up_to: Ints = n_seen[:, row + 1] - n_seen[:, start[np.searchsorted(start, row, side="right") - 1]]
    return up_to


def hits(matches: Matches, size: int, labels: slice, part: slice, n_seen: Ints) -> tuple[Ints, Floats, Ints]:
    """List what was found of one size, by threshold, label and falling score.

    Parameters
    ----------
    matches : Matches
        From `matching.match`.
    size : int
        Position of the size.
    labels, part : slice
        Labels, and all candidates of these labels.
    n_seen : ndarray, shape (c,)
        What `seen` gives for this size and these candidates.

    Returns
    -------
    tuple of ndarray
        For every hit its group ``n_labels * threshold + label``, the precision there, and the
        rank of its detection.
    """
    n_thresholds = len(matches.thresholds)
    found, excused = (
        ((outcome[part] >> (n_thresholds * size)) & ((1 << n_thresholds) - 1)).astype(np.uint16)
        for outcome in (matches.found, matches.excused)
    )
    # Of the detections inside a size, those that found anything are no false alarms.
    spared = found | np.where(matches.inside[size, matches.row[part]], excused, 0)
    rows = np.flatnonzero(spared)
    row, found = matches.row[part][rows], found[rows]
    n_spared = np.zeros((n_thresholds, len(rows) + 1), dtype=np.int32)
    np.cumsum(_spread(np.where(matches.inside[size, row], spared[rows], 0), n_thresholds), axis=1, out=n_spared[:, 1:])
    step, column = np.nonzero(_spread(found, n_thresholds))
    bounds = np.searchsorted(row, matches.start[labels.start : labels.stop + 1])
    n_labels = len(bounds) - 1
    label = np.repeat(np.arange(n_labels), np.diff(bounds))[column]
    group = step * n_labels + label
    n_in_group = np.bincount(group, minlength=n_thresholds * n_labels)
    n_hits = np.arange(1, len(step) + 1) - (np.cumsum(n_in_group) - n_in_group)[group]
    n_false = n_seen[rows[column]] - (n_spared[step, column + 1] - n_spared[step, bounds[label]])
    return group, n_hits / (n_false + n_hits + np.spacing(1)), matches.rank[part][rows[column]]


def _blocks(matches: Matches) -> Iterator[tuple[slice, slice]]:
    """Cut the labels into ranges that have few candidates together; give labels and candidates."""
    bounds = np.searchsorted(matches.row, matches.start)
    first, n_labels = 0, len(bounds) - 1
    while first < n_labels:
        end = int(np.searchsorted(bounds, bounds[first] + _ROWS_AT_ONCE, side="right")) - 1
        end = max(end, first + 1)
        yield slice(first, end), slice(bounds[first], bounds[end])
        first = end


def _read(total: Ints, precision: Floats, n_truth: Ints) -> Floats:
    """Mean of the highest precision at or beyond each of the 101 recalls.

    Precision can only be highest where a detection hits, so hits are all that is looked at.
    `total` hits by threshold and label, `precision` at every hit in that order, `n_truth` by label.
    """
    needed = np.maximum(np.ceil(RECALLS * n_truth[:, None]) - 1, 0)
    for _ in range(2):  # the product is rounded; the quotient decides, as it does in pycocotools
        needed += needed / n_truth[:, None] < RECALLS
    reached = (needed <= total[:, :, None]) & (total[:, :, None] > 0)
    first = (np.cumsum(total) - total.ravel()).reshape(total.shape)
    read = np.zeros(reached.shape)
    places = (first[:, :, None] + np.maximum(needed, 1).astype(np.int64) - 1)[reached]
    if len(places):
        # From each recall to the next; the last one's reach ends where the next curve begins.
        read[reached] = np.maximum.reduceat(precision, places)
    average: Floats = np.maximum.accumulate(read[:, :, ::-1], axis=2)[:, :, ::-1].mean(axis=2)
    return average


def _spread(outcomes: npt.NDArray[np.uint16], n_thresholds: int) -> Bools:
    """Spread the bits of one size, shape (n_thresholds, n)."""
    flags: Bools = (outcomes[None, :] & (1 << np.arange(n_thresholds)).astype(outcomes.dtype)[:, None]) != 0
    return flags
