"""ObjectLab's scores of labels: how strongly a model's predictions speak against each box.

Every score lies in [0, 1], low is suspicious. With ``similarity = 0.9 IoU + 0.1 exp(-d / 10)``, d being the
distance of the boxes' centres in pixels, and `floor` the lowest similarity on any image (0.01 at most):

- *overlooked*, for a prediction with a score of `sure` or more that touches no labelled box: its highest
  similarity to a box of its label on the image; without such a box, floor times (1 - its score).
- *badly_placed*, for a labelled box: its highest similarity to a prediction of its label that touches it
  and has a score above `likely`; 1 where there is none.
- *swapped*, for a labelled box: 1 - its highest similarity to a prediction of another label with a score
  above `sure`, no less than floor; floor where a labelled box of another label lies on it with an IoU of
  0.95 or more; 1 where there is no such prediction.

Source: ObjectLab (Tkachenko, Thyagarajan, Mueller, 2023). The numbers equal those of cleanlab 2.9, which goes
through pairs of boxes one by one (minutes for what takes seconds here) and brings scikit-learn and SciPy along.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ymir_nb.backend.pairing import Bools, Floats, Ints, Side, Sides, best, overlap, overlapping, pair_blocks

_IOU_SHARE = 0.9
_PIXELS = 10.0
_TEMPERATURE = 0.1
_CONFLICT = 0.95
_HIGHEST_FLOOR = 0.01  # ours: with a handful of boxes that all agree the lowest similarity would be 1, and hide all


@dataclass(frozen=True)
class Scores:
    """Each kind's scores, NaN where a box has none, and the other box that they come from, -1 without.

    `overlooked` has a place a prediction; `badly_placed`, `swapped` and `conflict` (the IoU with a box of another
    label in the same place) have one a labelled box. Partners are positions on the other side; a conflict's on its own.
    """

    overlooked: tuple[Floats, Ints]
    badly_placed: tuple[Floats, Ints]
    swapped: tuple[Floats, Ints]
    conflict: tuple[Floats, Ints]


def score(compared: Sides, *, sure: float, likely: float) -> Scores:
    """Compute the scores of all boxes that are compared; crowds have none.

    Parameters
    ----------
    compared : Sides
        Labelled boxes and predictions.
    sure, likely : float
        Thresholds in [0, 1] on the predictions' scores.
    """
    real, found = compared.truth, compared.found
    strong, probable = found.score > sure, found.score > likely
    touched = np.zeros(len(found), dtype=np.bool_)
    lowest = _HIGHEST_FLOOR
    placed, swaps, near = _Best(len(real)), _Best(len(real)), _Best(len(found))
    for every_one, every_other in pair_blocks(real, found):
        every_iou = overlap(real, found, every_one, every_other)
        touched[every_one[every_iou > 0]] = True
        single = ~real.crowd[every_other]
        one, other, iou = every_one[single], every_other[single], every_iou[single]
        similarity = _IOU_SHARE * iou + (1 - _IOU_SHARE) * np.exp(-_distance(real, found, one, other) / _PIXELS)
        lowest = min(lowest, similarity.min(initial=1.0, where=similarity > 0))
        same = found.label[one] == real.label[other]
        placed.see(other, one, similarity, same & probable[one] & (iou > 0))
        swaps.see(other, one, similarity, ~same & strong[one])
        near.see(one, other, similarity, same & (found.score[one] >= sure))
    overlooked = np.where(near.partner >= 0, near.highest, lowest * (1 - found.score))
    overlooked[touched | (found.score < sure)] = np.nan
    badly = np.where(placed.partner >= 0, placed.highest, 1.0)
    swapped = np.where(swaps.partner >= 0, np.maximum(lowest, 1 - swaps.highest), 1.0)
    conflict = _conflicts(real)
    swapped[conflict[1] >= 0] = lowest
    badly[real.crowd], swapped[real.crowd] = np.nan, np.nan
    return Scores((overlooked, near.partner), (badly, placed.partner), (swapped, swaps.partner), conflict)


class _Best:
    """The highest similarity of each box that was seen so far, and with whom."""

    def __init__(self, n: int) -> None:
        self.highest, self.partner = np.zeros(n), np.full(n, -1, dtype=np.int64)

    def see(self, of: Ints, other: Ints, similarity: Floats, chosen: Bools) -> None:
        """Look at some pairs of a block."""
        highest, partner = best(of[chosen], other[chosen], similarity[chosen], n=len(self.highest))
        better = (partner >= 0) & ((highest > self.highest) | (self.partner < 0))
        self.highest[better], self.partner[better] = highest[better], partner[better]


def _distance(real: Side, found: Side, one: Ints, other: Ints) -> Floats:
    """Distance of the boxes' centres in pixels."""
    across, down = (
        (found.corners[axis, one] + found.corners[axis + 2, one]) / 2
        - (real.corners[axis, other] + real.corners[axis + 2, other]) / 2
        for axis in (0, 1)
    )
    distance: Floats = np.hypot(across, down)
    return distance


def _conflicts(real: Side) -> tuple[Floats, Ints]:
    """Find for each labelled box another one of another label in its place."""
    rows = np.flatnonzero(~real.crowd)
    single = real.take(rows)
    pairs = overlapping(single, single, at_least=_CONFLICT)
    pairs = pairs.take(single.label[pairs.found] != single.label[pairs.truth])
    iou, partner = best(rows[pairs.found], rows[pairs.truth], pairs.iou, n=len(real))
    return iou, partner


def softmin(image: Ints, score: Floats, *, n: int) -> Floats:
    """Pool scores of each image, leaning to the lowest; 1 where nothing was scored."""
    there = ~np.isnan(score)
    image, score = image[there], score[there]
    lowest = np.ones(n)
    np.minimum.at(lowest, image, score)
    weight = np.exp((lowest[image] - score) / _TEMPERATURE)
    total = np.bincount(image, weights=weight, minlength=n)
    pooled: Floats = np.divide(
        np.bincount(image, weights=weight * score, minlength=n), total, out=np.ones(n), where=total > 0
    )
    return pooled
