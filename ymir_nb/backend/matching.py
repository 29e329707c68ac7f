"""Which detection finds which true object: COCO's greedy matching, on columns.

Every box is a row of plain arrays, sorted once by label and score and once by image. The overlap of
each pair is computed once and serves all thresholds and all size ranges: their outcomes are the bits
of one integer a detection (bit ``n_thresholds * size + threshold``).

Source: the rules are those of COCO's box evaluation, `pycocotools.cocoeval` 2.0.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from ymir_nb.backend.contest import Contest
from ymir_nb.backend.errors import InvalidTable
from ymir_nb.backend.ordering import by_label_and_score, stable_order
from ymir_nb.backend.overlaps import Bools, Boxes, Floats, Ints, Overlap, Places, box_overlap

THRESHOLDS: Floats = np.linspace(0.5, 0.95, 10)
"""IoU from which a detection finds an object, ten of them."""

SIZES = {"all": (0.0, 1e5**2), "small": (0.0, 32.0**2), "medium": (32.0**2, 96.0**2), "large": (96.0**2, 1e5**2)}
"""Ranges of object area in square pixels, both ends included."""

MAX_DETECTIONS = (1, 10, 100)
"""Detections of a label that count on one image: the best 1, 10 and 100."""

MOST_THRESHOLDS = 15
"""So many thresholds are matched at once: the bits of one integer, for four sizes."""

_ALMOST_ONE = 1 - 1e-10  # what pycocotools asks for at a threshold of 1


@dataclass(frozen=True)
class Matches:
    """The outcome for every detection, sorted by label and falling score.

    Parameters
    ----------
    start : ndarray, shape (n_labels + 1,)
        The detections of label i are rows ``start[i]:start[i + 1]``.
    score : ndarray, shape (n,)
        Scores.
    inside : ndarray, shape (4, n)
        Which sizes each detection has itself.
    row : ndarray, shape (c,)
        Rows of those detections that overlap a true object enough, rising. All others found none.
    rank : ndarray, shape (c,)
        Their places among the detections of their label on their image, from 0.
    found, excused : ndarray, shape (c,)
        Bits of size and threshold at which they found an object that counts, or one that is
        ignored (a crowd, or of another size).
    n_truth : ndarray, shape (4, n_labels)
        True objects that count, by size.
    thresholds : ndarray, shape (n_thresholds,)
        IoU from which a detection finds an object, rising.
    limits : tuple of int
        Detections of a label that count on one image, three of them.
    image : ndarray, shape (n,)
        Position of the image of each detection.
    source : ndarray, shape (n,)
        Row of each detection in the table of the predictions.
    truth : Boxes
        The true objects, sorted by label and image; `truth.source` are rows of their table.
    counted : ndarray, shape (4, m)
        Which of them count, by size.
    n_images : int
        How many images were compared.
    pair_row, pair_object : ndarray, shape (p,)
        Rows of every detection, and of the object in `truth` that it took at some bit.
    pair_iou : ndarray, shape (p,)
        Their IoU.
    pair_bits : ndarray, shape (p,)
        The bits at which it was taken.
    """

    start: Ints
    score: Floats
    inside: Bools
    row: Ints
    rank: Ints
    found: Ints
    excused: Ints
    n_truth: Ints
    thresholds: Floats
    limits: tuple[int, int, int]
    image: Places
    source: Places
    truth: Boxes = field(repr=False)
    counted: Bools
    n_images: int
    pair_row: Ints
    pair_object: Ints
    pair_iou: Floats
    pair_bits: Ints


def match(
    truth: Boxes,
    detections: Boxes,
    *,
    n_images: int,
    n_labels: int,
    thresholds: Floats = THRESHOLDS,
    limits: tuple[int, int, int] = MAX_DETECTIONS,
    overlap: Overlap = box_overlap,
) -> Matches:
    """Match detections to true objects, label by label and image by image.

    Parameters
    ----------
    truth, detections : Boxes
        Of the same images and labels, in the order of their tables.
    n_images, n_labels : int
        How many of them there are.
    thresholds : ndarray, shape (n_thresholds,)
        IoU in (0, 1], rising, at most `MOST_THRESHOLDS`.
    limits : tuple of int
        Detections of a label that count on one image, three of them, rising; more than the last
        are left out.
    overlap : Overlap
        What IoU is measured on.

    Returns
    -------
    Matches
        Equal scores keep the order of the table.

    Raises
    ------
    InvalidTable
        The thresholds or limits are none that can be matched.
    """
    thresholds = _checked(thresholds, limits)
    truth = truth.take(stable_order(truth.label, stable_order(truth.image)))
    counted = _inside(truth.area) & (truth.weight == 0)
    contest = Contest(truth, counted, detections, n_images, np.minimum(thresholds, _ALMOST_ONE), limits[-1], overlap)
    order, start, found = contest.by_labels(by_label_and_score(detections.label, detections.weight), n_labels)
    return Matches(
        start=start,
        score=detections.weight[order],
        inside=_inside(detections.area[order]),
        n_truth=np.stack([np.bincount(truth.label[size], minlength=n_labels) for size in counted]),
        thresholds=thresholds,
        limits=limits,
        image=detections.image[order],
        source=detections.source[order],
        truth=truth,
        counted=counted,
        n_images=n_images,
        row=found.row,
        rank=found.rank,
        found=found.found,
        excused=found.excused,
        pair_row=found.pair_row,
        pair_object=found.pair_object,
        pair_iou=found.pair_iou,
        pair_bits=found.pair_bits,
    )


def bits(outcomes: Ints, *, n_thresholds: int = len(THRESHOLDS)) -> Bools:
    """Spread bit masks over sizes and thresholds, shape (4, n_thresholds, n)."""
    at = np.arange(len(SIZES) * n_thresholds, dtype=np.int64)
    spread: Bools = (outcomes[None, :] >> at[:, None]) & 1 != 0
    return spread.reshape(len(SIZES), n_thresholds, len(outcomes))


def finds(matches: Matches, step: int) -> pd.DataFrame:
    """Tell what every detection found at one threshold, among objects of all sizes.

    Parameters
    ----------
    matches : Matches
        From `match`.
    step : int
        Position of the threshold in `matches.thresholds`.

    Returns
    -------
    DataFrame
        Columns row (of the predictions' annotations, rising), outcome (right, wrong, or ignored:
        on a crowd, or inverted), truth_row (of the truth's annotations; -1 where it found nothing), iou (with
        what it found, else NaN); a row a detection that counts.
    """
    took = np.flatnonzero((matches.pair_bits >> step) & 1)
    row, other = matches.pair_row[took], matches.pair_object[took]
    n = len(matches.source)
    truth_row, iou = np.full(n, -1, dtype=np.int64), np.full(n, np.nan)
    truth_row[row], iou[row] = matches.truth.source[other], matches.pair_iou[took]
    outcome = np.where(matches.inside[0], "wrong", "ignored")
    outcome[row] = np.where(matches.counted[0, other], "right", "ignored")
    order = np.argsort(matches.source)
    frame = pd.DataFrame({"row": matches.source, "truth_row": truth_row, "iou": iou}).iloc[order]
    frame.insert(1, "outcome", pd.Series(outcome[order], dtype="str", index=frame.index))
    return frame.reset_index(drop=True)


def _checked(thresholds: Floats, limits: tuple[int, int, int]) -> Floats:
    """Refuse what cannot be matched."""
    values = np.asarray(thresholds, dtype=np.float64).reshape(-1)
    rising = bool((np.diff(values) > 0).all())
    if not (0 < len(values) <= MOST_THRESHOLDS and rising and values[0] > 0 and values[-1] <= 1):
        raise InvalidTable(
            f"IoU thresholds {values.tolist()} cannot be evaluated. Give 1 to {MOST_THRESHOLDS} rising numbers above "
            "0 and up to 1, such as ious=[0.5, 0.75]; for more of them: sweep(truth, predictions, ious=[...])"
        )
    if limits[-1] < 1:
        raise InvalidTable(f"max_detections={limits[-1]}: at least 1 detection of a label must count on an image.")
    return values


def _inside(area: Floats) -> Bools:
    """Tell which sizes objects have, shape (4, n)."""
    return np.stack([(area >= low) & (area <= high) for low, high in SIZES.values()])
