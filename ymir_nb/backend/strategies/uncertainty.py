"""Uncertainty: images on whose boxes the model doubts, by entropy, margin or least confidence.

A box's doubt is 1 at its most and 0 where the model is sure. A detector says one score p of a box, the
chance of its label against background; where it gives the scores of all labels, every one is looked at.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import pandas as pd

from ymir_nb.backend.errors import InvalidTable
from ymir_nb.backend.strategies.evidence import Boxes, Evidence
from ymir_nb.backend.strategies.features import Floats, Ints
from ymir_nb.backend.strategies.ranking import top_sum, with_unseen

TOP_BOXES = 3
"""Boxes of an image that count; a sum over all of them would favour crowds."""

AGGREGATIONS = ("top", "sum", "mean", "max")

Doubt = Callable[[Boxes], Floats]


def entropy(evidence: Evidence, *, aggregation: str = "top", top: int = TOP_BOXES) -> pd.DataFrame:
    """Prefer images on whose boxes the model is unsure: binary entropy of the scores, in bits.

    A box of score p has ``-p log2 p - (1 - p) log2 (1 - p)``, 1 bit at 0.5 and 0 where the model is sure;
    with the scores of all labels, the sum over the labels. By default an image scores the sum over its
    three most uncertain boxes of score 0.05 or more: the crowd counts for nothing.

    An image without detections has no uncertainty to speak of, yet may hold just what the model has not
    learnt to see. Some of them, drawn by the seed, take scores like those of the images with detections,
    so many that they fill about a tenth of any selection; the others score 0. Where nothing was detected
    in any image, all of them are drawn.

    Parameters
    ----------
    evidence : Evidence
        Of which `predictions` (or `class_scores`) and `seed` are looked at.
    aggregation : {'top', 'sum', 'mean', 'max'}
        How the boxes of an image make its score: the `top` largest summed, all summed (favours crowds),
        their mean (one faint box in a crowd counts little), or the largest.
    top : int
        Boxes that count for 'top'.

    Returns
    -------
    DataFrame
        Columns image, score in bits, why; sorted by image.

    Raises
    ------
    InvalidTable
        A prediction on these images has no score, or one outside [0, 1]; an unknown aggregation.

    Examples
    --------
    >>> found = pd.DataFrame({"image": ["a"], "label": ["dog"], "score": [0.5]})
    >>> entropy(Evidence(pd.DataFrame({"image": ["a"]}), found))["why"].item()
    '1 uncertain box: dog 0.50'

    Source: the binary form of YMIR's entropy; threshold and top boxes after PPAL (CVPR 2024).
    """
    return _by_doubt(evidence, entropy_bits, aggregation, top)


def margin(evidence: Evidence, *, aggregation: str = "top", top: int = TOP_BOXES) -> pd.DataFrame:
    """Prefer images on whose boxes the two likeliest answers are close: 1 - (first - second).

    The answers are the labels, where all their scores are known, and background, whose chance is 1 - p.
    With one score a box this is ``1 - |2p - 1|``.

    Parameters
    ----------
    evidence, aggregation, top
        As `entropy`.

    Returns
    -------
    DataFrame
        Columns image, score, why; sorted by image.

    Examples
    --------
    >>> found = pd.DataFrame({"image": ["a"], "label": ["dog"], "score": [0.75]})
    >>> margin(Evidence(pd.DataFrame({"image": ["a"]}), found))["score"].item()
    0.5

    Source: 1-vs-2 margin of Brust et al., Active Learning for Deep Object Detection, 2019.
    """
    return _by_doubt(evidence, margin_doubt, aggregation, top)


def least_confidence(evidence: Evidence, *, aggregation: str = "top", top: int = TOP_BOXES) -> pd.DataFrame:
    """Prefer images on whose boxes the likeliest answer is not likely: 1 less its share of all answers.

    The answers are the labels and background, as in `margin`, their chances scaled to sum 1, and the doubt
    so that an even choice between two is 1. With one score a box it ranks boxes as `margin` does: a box of
    score 0.05 is most surely background, and no object that the model was not confident of.

    Parameters
    ----------
    evidence, aggregation, top
        As `entropy`.

    Returns
    -------
    DataFrame
        Columns image, score, why; sorted by image.

    Examples
    --------
    >>> found = pd.DataFrame({"image": ["a"], "label": ["dog"], "score": [0.75]})
    >>> least_confidence(Evidence(pd.DataFrame({"image": ["a"]}), found))["score"].item()
    0.5
    """
    return _by_doubt(evidence, confidence_doubt, aggregation, top)


def entropy_bits(boxes: Boxes) -> Floats:
    """Give the entropy of each box, in bits, summed over the labels where all their scores are known."""
    if boxes.chances is None:
        return bits(boxes.score)
    total: Floats = bits(boxes.chances.astype(np.float64)).sum(axis=1)
    return total


def bits(p: Floats) -> Floats:
    """Binary entropy in bits of chances p; 0 at 0 and at 1."""
    rest = 1.0 - p
    value: Floats = -p * np.log2(np.where(p > 0, p, 1.0)) - rest * np.log2(np.where(rest > 0, rest, 1.0))
    return np.abs(value)


def margin_doubt(boxes: Boxes) -> Floats:
    """Give 1 less the distance of the two likeliest answers, for each box."""
    if boxes.chances is None:
        return 1.0 - np.abs(2.0 * boxes.score - 1.0)
    two = np.sort(_answers(boxes), axis=1)[:, -2:]
    doubt: Floats = 1.0 - (two[:, 1] - two[:, 0])
    return doubt


def confidence_doubt(boxes: Boxes) -> Floats:
    """Give twice what the likeliest answer lacks to certainty, for each box."""
    if boxes.chances is None:
        return 2.0 * (1.0 - np.maximum(boxes.score, 1.0 - boxes.score))
    answers = _answers(boxes)
    doubt: Floats = 2.0 * (1.0 - answers.max(axis=1) / answers.sum(axis=1))
    return doubt


def aggregate(values: Floats, starts: Ints, aggregation: str, top: int = TOP_BOXES) -> Floats:
    """Make one number of the values of each run; see `entropy`."""
    if aggregation not in AGGREGATIONS:
        raise InvalidTable(f"there is no aggregation {aggregation!r}; there is {', '.join(AGGREGATIONS)}.")
    if aggregation == "top" or not len(starts):
        return top_sum(values, starts, top)
    if aggregation == "max":
        largest: Floats = np.maximum.reduceat(values, starts)
        return largest
    total: Floats = np.add.reduceat(values, starts)
    return total if aggregation == "sum" else total / np.diff(np.r_[starts, len(values)])


def name_boxes(boxes: Boxes, doubt: Floats, places: Ints, *, top: int = TOP_BOXES) -> list[list[str]]:
    """Name the most doubtful boxes of some images, such as ``dog 0.52``, the most doubtful first."""
    rows = np.flatnonzero(np.isin(boxes.place, places))
    order = rows[np.lexsort((boxes.label[rows], -boxes.score[rows], -doubt[rows], boxes.place[rows]))]
    first = np.flatnonzero(np.r_[True, np.diff(boxes.place[order]) > 0]) if len(order) else order
    nth = np.arange(len(order)) - np.repeat(first, np.diff(np.r_[first, len(order)]))
    told = order[nth < top]
    named: dict[int, list[str]] = {}
    columns = (each[told].tolist() for each in (boxes.place, boxes.label, boxes.score))
    for place, label, score in zip(*columns, strict=True):
        named.setdefault(place, []).append(f"{boxes.labels[label]} {score:.2f}")
    return [named[place] for place in places.tolist()]


def say_boxes(texts: list[str]) -> str:
    """Say which boxes are uncertain."""
    return f"{len(texts)} uncertain {'box' if len(texts) == 1 else 'boxes'}: {', '.join(texts)}"


def _by_doubt(evidence: Evidence, measure: Doubt, aggregation: str, top: int) -> pd.DataFrame:
    boxes = evidence.boxes
    doubt = measure(boxes)
    n_boxes = np.diff(np.r_[boxes.starts, len(boxes.place)])
    told = top if aggregation == "top" else 1 if aggregation == "max" else TOP_BOXES
    lead = {"top": "", "max": "the "}.get(aggregation, f"{aggregation} of ")

    def why(places: Ints) -> list[str]:
        texts = [say_boxes(text) for text in name_boxes(boxes, doubt, places, top=told)]
        if aggregation in ("top", "max"):
            return texts
        counts = n_boxes[np.searchsorted(boxes.seen, places)]
        return [f"{lead}{count} boxes, {text}" for count, text in zip(counts, texts, strict=True)]

    return with_unseen(evidence, boxes, aggregate(doubt, boxes.starts, aggregation, top), why)


def _answers(boxes: Boxes) -> Floats:
    """Give the chances of all labels and, last, of background: shape (n, labels + 1)."""
    chances = np.zeros((len(boxes.place), 0)) if boxes.chances is None else boxes.chances.astype(np.float64)
    return np.concatenate([chances, 1.0 - chances.max(axis=1, initial=0.0)[:, None]], axis=1)


entropy_sum, entropy_mean, entropy_max = (partial(entropy, aggregation=each) for each in ("sum", "mean", "max"))
margin_sum, margin_mean, margin_max = (partial(margin, aggregation=each) for each in ("sum", "mean", "max"))
least_confidence_sum, least_confidence_mean, least_confidence_max = (
    partial(least_confidence, aggregation=each) for each in ("sum", "mean", "max")
)
