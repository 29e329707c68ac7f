"""From numbers to a frame of scores and reasons, and the little that is left to chance."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import numpy as np
import pandas as pd

from ymir_nb.backend.strategies.evidence import Boxes, Evidence
from ymir_nb.backend.strategies.features import Floats, Ints

EXPLORED = 0.1
"""Share of the images chosen that is left to chance or to images without detections."""

REASONED = 5_000
"""Reasons are written for so many of the best images, or four times those wanted; nobody reads the rest."""

UNSEEN, EXPLORING = "no detections", "no detections; drawn to explore"

Reason = Callable[[Ints], list[str]]
"""From places to a reason for each."""


def scored(names: pd.Series, score: Floats, why: object) -> pd.DataFrame:
    """Make the frame that a strategy returns: columns image, score, why."""
    return pd.DataFrame({"image": names, "score": score, "why": pd.Series(why, index=names.index, dtype="str")})


def reasons(evidence: Evidence, score: Floats, reason: Reason, *, rest: str) -> list[str]:
    """Write the reasons of the best images, and `rest` for those that nobody will look at.

    Parameters
    ----------
    evidence : Evidence
        Says how many are wanted.
    score : ndarray of float64, shape (n,)
        Of each image.
    reason : callable
        Gives the reasons at some places.
    rest : str
        For all others.
    """
    most = max(REASONED, 4 * evidence.k)
    n = len(score)
    best = np.arange(n) if n <= most else np.sort(np.argpartition(-score, most)[:most])
    texts = [rest] * n
    for place, text in zip(best, reason(best), strict=True):
        texts[place] = text
    return texts


def draw(names: pd.Series, *, seed: int) -> Floats:
    """Draw a number in [0, 1) for each name: 53 bits of a hash of seed and name."""
    key = f"{seed}:".encode()
    digests = b"".join(hashlib.blake2b(key + name.encode(), digest_size=8).digest() for name in names)
    drawn: Floats = (np.frombuffer(digests, dtype="<u8") >> np.uint64(11)).astype(np.float64) * 2.0**-53
    return drawn


def explore(names: pd.Series, others: Floats, *, seed: int) -> Floats:
    """Score images without detections, so that they make up about `EXPLORED` of any top of the list.

    Each draws a ticket. As many as make that share are admitted, and an admitted one gets the
    score that stands at its ticket's place among the scores of the images with detections.

    Parameters
    ----------
    names : Series of str
        The images without detections.
    others : ndarray of float64
        Scores of those with detections; where there are none, the ticket is the score.
    seed : int
        Decides the tickets.

    Returns
    -------
    ndarray of float64, shape (len(names),)
        The lowest of `others`, or 0 where that is less, for an image that is not admitted.
    """
    ticket = draw(names, seed=seed)
    if not len(others):
        return ticket
    wanted = len(others) * EXPLORED / (1.0 - EXPLORED)
    chance = min(1.0, wanted / max(len(names), 1))
    admitted = ticket < chance
    place = np.minimum(ticket / chance * len(others), len(others) - 1).astype(np.int64)
    score: Floats = np.where(admitted, np.sort(others)[place], min(0.0, float(others.min())))
    return score


def with_unseen(evidence: Evidence, boxes: Boxes, values: Floats, reason: Reason) -> pd.DataFrame:
    """Score the images that have boxes by `values`, and let the others take their part by `explore`.

    Parameters
    ----------
    evidence : Evidence
        Names and seed.
    boxes : Boxes
        Whose `seen` images have values.
    values : ndarray of float64, shape (len(boxes.seen),)
        Their scores.
    reason : callable
        Gives the reasons at some of the seen places.
    """
    n = len(evidence.names)
    score = np.zeros(n)
    unseen = np.setdiff1d(np.arange(n), boxes.seen, assume_unique=True)
    score[boxes.seen] = values
    score[unseen] = explore(evidence.names.iloc[unseen], values, seed=evidence.seed)
    lowest = min(0.0, float(values.min())) if len(values) else 0.0
    is_seen = np.zeros(n, dtype=bool)
    is_seen[boxes.seen] = True

    def why(places: Ints) -> list[str]:
        told = dict(zip(seen := places[is_seen[places]], reason(seen), strict=True))
        drawn = {place: EXPLORING if score[place] > lowest else UNSEEN for place in places[~is_seen[places]]}
        return [(told | drawn)[place] for place in places] if len(places) else []

    return scored(evidence.names, score, reasons(evidence, score, why, rest="less than those above"))


def batch(chosen: Ints, rest: Floats) -> Floats:
    """Turn an order of selection into scores: the chosen from 2 down to above 1, the others in [0, 1).

    Parameters
    ----------
    chosen : ndarray of int64
        Places, first chosen first.
    rest : ndarray of float64, shape (n,)
        From 0 on; orders those that were not chosen.
    """
    score: Floats = rest / (1.0 + rest)
    score[chosen] = 2.0 - np.arange(len(chosen)) / max(len(chosen), 1)
    return score


def top_sum(values: Floats, starts: Ints, top: int) -> Floats:
    """Sum the `top` largest values of each run; missing ones count 0.

    Parameters
    ----------
    values : ndarray of float64, shape (m,)
        From 0 on.
    starts : ndarray of int64
        Where each run begins.
    top : int
        How many of each run.

    Examples
    --------
    >>> top_sum(np.array([1.0, 3.0, 2.0, 5.0]), np.array([0, 3]), 2).tolist()
    [5.0, 5.0]
    """
    total = np.zeros(len(starts))
    if not len(starts):
        return total
    left = values.copy()
    run = np.repeat(np.arange(len(starts)), np.diff(np.r_[starts, len(values)]))
    for _ in range(top):
        best = np.maximum.reduceat(left, starts)
        total += np.maximum(best, 0.0)
        # The first of equals alone goes, so that the others count in the next pass.
        at = np.flatnonzero(left == best[run])
        left[at[np.unique(run[at], return_index=True)[1]]] = -np.inf
    return total
