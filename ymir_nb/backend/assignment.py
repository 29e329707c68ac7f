"""Who takes what: detections choose among the objects that they overlap, the best score first.

Each outcome is a bit: of ``n_thresholds * size + threshold``. So one pass over the pairs serves all
thresholds and sizes, and the cost follows the objects found, not the detections made.

Source: `evaluateImg` of `pycocotools.cocoeval` 2.0.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from ymir_nb.backend.ordering import first_of_run, stable_order
from ymir_nb.backend.overlaps import Floats, Ints

_STEPS_TOGETHER = 4  # the few detections with more candidates than that walk through theirs alone


@dataclass(frozen=True)
class Assignment:
    """What became of the detections that overlap any object enough.

    Parameters
    ----------
    detection : ndarray, shape (c,)
        Their rows, rising.
    found, excused : ndarray, shape (c,)
        Bits at which each found an object that counts, and one that is ignored.
    pair_detection, pair_object : ndarray, shape (p,)
        Rows of every detection (rising), and of every object that it took at any bit.
    pair_iou : ndarray, shape (p,)
        Their IoU.
    pair_bits : ndarray, shape (p,)
        The bits at which it was taken.
    """

    detection: Ints
    found: Ints
    excused: Ints
    pair_detection: Ints
    pair_object: Ints
    pair_iou: Floats
    pair_bits: Ints


def assign(
    pairs: tuple[Ints, Ints, Floats], cell: Ints, *, counted: Ints, reusable: Ints, passed_at: Ints, thresholds: Floats
) -> Assignment:
    """Let detections choose: in every cell the best score first, then the second.

    Parameters
    ----------
    pairs : tuple of ndarray
        Rows of detections (rising), rows of objects (rising for each), IoU.
    cell : ndarray, shape (n_detections,)
        A cell is one label on one image; its detections stand together, by falling score.
    counted : ndarray, shape (n_objects,)
        Bits at which an object counts; at all others it is ignored.
    reusable : ndarray, shape (n_objects,)
        All bits set for a crowd, which is never used up, else 0.
    passed_at : ndarray, shape (n_thresholds + 1,)
        Bits that a pair passes whose IoU reaches so many thresholds.
    thresholds : ndarray, shape (n_thresholds,)
        IoU, rising.

    Returns
    -------
    Assignment
    """
    one, other, iou = _by_preference(*pairs)
    fresh = np.ones(len(one), dtype=np.bool_)
    fresh[1:] = one[1:] != one[:-1]
    first = np.flatnonzero(fresh)
    detection = one[first]
    choice = _Choice(
        first=first,
        last=np.append(first, len(one))[1:],
        other=other,
        passed=passed_at[np.searchsorted(thresholds, iou, side="right")],
        reusable=reusable,
        taken=np.zeros(len(counted), dtype=np.int64),
        done=np.zeros(len(detection), dtype=np.int64),
        got=np.zeros(len(one), dtype=np.int64),
    )
    found, excused = np.zeros_like(choice.done), np.zeros_like(choice.done)
    for group in _turns(cell[detection]):
        # An ignored object is only for the bits at which no counted one was to be had.
        choice.make(group, counted, found)
        choice.make(group, ~counted, excused)
    took = np.flatnonzero(choice.got)
    return Assignment(detection, found, excused, one[took], other[took], iou[took], choice.got[took])


def _turns(cell: Ints) -> list[Ints]:
    """Group detections so that no two of a group share a cell: the best of every cell, then the second."""
    turn = np.arange(len(cell)) - first_of_run(cell)
    in_turns = stable_order(turn)
    return np.split(in_turns, np.flatnonzero(np.diff(turn[in_turns])) + 1)


def _by_preference(one: Ints, other: Ints, iou: Floats) -> tuple[Ints, Ints, Floats]:
    """Sort each detection's pairs: the highest overlap first, among equals the object that stands last."""
    same = one[1:] == one[:-1]
    several = np.flatnonzero(np.append(same, False) | np.insert(same, 0, False)) if len(one) else one
    order = np.lexsort((-other[several], -iou[several], one[several]))
    other, iou = other.copy(), iou.copy()
    other[several], iou[several] = other[several[order]], iou[several[order]]
    return one, other, iou


@dataclass(frozen=True)
class _Choice:
    """Which object each detection takes, bit by bit; `taken` (objects), `done` (detections) and `got` (pairs) fill up.

    Detection i chooses among the objects ``other[first[i]:last[i]]``, the most wanted first, at
    the bits that the pair has `passed`. A reusable object, a crowd, is never used up.
    """

    first: Ints
    last: Ints
    other: Ints
    passed: Ints
    reusable: Ints
    taken: Ints
    done: Ints
    got: Ints = field(repr=False)

    def make(self, group: Ints, wanted: Ints, result: Ints) -> None:
        """Let a group of detections, no two of one cell, take objects at the bits at which they are wanted."""
        alive, pair = group, self.first[group]
        for _ in range(_STEPS_TOGETHER):
            chosen, free = self._free(alive, pair, wanted)
            self._take(alive, pair, chosen, free, result)
            going = np.flatnonzero(pair + 1 < self.last[alive])
            if not len(going):
                return
            alive, pair = alive[going], pair[going] + 1
            going = np.flatnonzero(self.passed[pair] & ~self.done[alive])
            alive, pair = alive[going], pair[going]
        for one, start in zip(alive.tolist(), pair.tolist(), strict=True):
            pairs = slice(start, self.last[one])
            chosen, free = self._free(one, pairs, wanted)
            free[1:] &= ~np.bitwise_or.accumulate(free)[:-1]  # each bit is for the first that is free
            self._take(one, pairs, chosen, free, result)

    def _free(self, who: Ints | int, pairs: Ints | slice, wanted: Ints) -> tuple[Ints, Ints]:
        """Give the objects of pairs, and the bits at which they are to be had."""
        chosen = self.other[pairs]
        left = ~self.taken[chosen] | self.reusable[chosen]
        return chosen, self.passed[pairs] & wanted[chosen] & left & ~self.done[who]

    def _take(self, who: Ints | int, pairs: Ints | slice, chosen: Ints, free: Ints, result: Ints) -> None:
        """Write down who took what."""
        self.taken[chosen] |= free
        self.got[pairs] |= free
        bits = free if isinstance(who, np.ndarray) else np.bitwise_or.reduce(free)
        self.done[who] |= bits
        result[who] |= bits
