"""From matches to numbers: precision against recall, and their averages."""

from __future__ import annotations

import numpy as np
import pandas as pd

from ymir_nb.backend.matching import MAX_DETECTIONS, SIZES, THRESHOLDS, Bools, Floats, Ints, Matches, bits

RECALLS: Floats = np.linspace(0.0, 1.0, 101)
"""Recalls at which precision is read off the curve."""


def averages(matches: Matches) -> tuple[Floats, Floats, Floats]:
    """Average what the matches give over all recalls.

    Parameters
    ----------
    matches : Matches
        From `matching.match`.

    Returns
    -------
    precision, recall : ndarray, shape (4, 10, n_labels)
        Average precision, and the highest recall, by size, threshold and label, with at most 100
        detections of a label on an image; NaN where the truth holds nothing.
    recall_few : ndarray, shape (2, 10, n_labels)
        The highest recall of all sizes with at most 1 and 10 detections.

    Source: `accumulate` of `pycocotools.cocoeval` 2.0.
    """
    shape = (len(SIZES), len(THRESHOLDS), matches.n_truth.shape[1])
    precision, recall, recall_few = np.zeros(shape), np.zeros(shape), np.zeros((2, *shape[1:]))
    n_seen: Ints = np.cumsum(matches.inside, axis=1)
    bounds = np.searchsorted(matches.row, matches.start)
    for label in np.flatnonzero(np.diff(bounds)):
        part = slice(bounds[label], bounds[label + 1])
        row, n_truth = matches.row[part], matches.n_truth[:, label]
        first = matches.start[label]
        seen = n_seen[:, row] - (n_seen[:, first] - matches.inside[:, first])[:, None]
        hit = bits(matches.found[part])
        # Of the detections inside a size, those that found anything are no false alarms.
        spared = np.cumsum((hit | bits(matches.excused[part])) & matches.inside[:, None, row], axis=2)
        n_hits: Ints = np.cumsum(hit, axis=2)
        precision[:, :, label] = _average_precision(hit, n_hits, seen[:, None] - spared, n_truth)
        recall[:, :, label] = n_hits[:, :, -1] / np.maximum(n_truth, 1)[:, None]
        for i, limit in enumerate(MAX_DETECTIONS[:-1]):
            among = matches.rank[part] < limit
            recall_few[i, :, label] = (hit[0] & among).sum(axis=1) / max(n_truth[0], 1)
    absent = matches.n_truth == 0
    for table in (precision, recall):
        table[np.broadcast_to(absent[:, None], shape)] = np.nan
    recall_few[:, :, absent[0]] = np.nan
    return precision, recall, recall_few


def _average_precision(hit: Bools, n_hits: Ints, n_false: Ints, n_truth: Ints) -> Floats:
    """Mean of the highest precision at or beyond each of the 101 recalls.

    Precision can only be highest where a detection hits, so hits are all that is looked at.
    All of shape (4, 10, n) by size, threshold and falling score; `n_truth` of shape (4,).
    """
    precision = np.where(hit, n_hits / (n_false + n_hits + np.spacing(1)), 0.0)
    best = np.maximum.accumulate(precision[:, :, ::-1], axis=2)[:, :, ::-1][hit]
    total = n_hits[:, :, -1]
    start = (np.cumsum(total) - total.ravel()).reshape(total.shape)
    needed = np.stack([np.searchsorted(np.arange(n + 1) / max(n, 1), RECALLS) for n in n_truth])[:, None]
    reached = (needed <= total[:, :, None]) & (total[:, :, None] > 0)
    place = start[:, :, None] + np.maximum(needed, 1) - 1
    read = np.where(reached, np.append(best, 0.0)[np.where(reached, place, -1)], 0.0)
    average: Floats = read.mean(axis=2)
    return average


def curve(matches: Matches, label: int, step: int) -> pd.DataFrame:
    """Trace precision and recall of one label at one threshold, for objects of all sizes.

    Parameters
    ----------
    matches : Matches
        From `matching.match`.
    label, step : int
        Positions of the label, and of the threshold in `matching.THRESHOLDS`.

    Returns
    -------
    DataFrame
        Columns score, recall, precision; a row a detection that counts, by falling score.
    """
    first, end = matches.start[label], matches.start[label + 1]
    part = slice(*np.searchsorted(matches.row, [first, end]))
    hit, excused = np.zeros(end - first, dtype=np.bool_), np.zeros(end - first, dtype=np.bool_)
    row = matches.row[part] - first
    hit[row] = bits(matches.found[part])[0, step]
    excused[row] = bits(matches.excused[part])[0, step]
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
