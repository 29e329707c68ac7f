"""Strategies whose numbers only the executor can compute: it has the maps, and can predict on changed images."""

from __future__ import annotations

import numpy as np
import pandas as pd

from ymir_nb.backend.errors import InvalidTable
from ymir_nb.backend.strategies.balance import presence
from ymir_nb.backend.strategies.evidence import Boxes, Evidence
from ymir_nb.backend.strategies.features import Floats, Ints
from ymir_nb.backend.strategies.ranking import batch, reasons, scored, with_unseen

ALGORITHMS = {"aldd": "aldd", "cald": "cald"}
"""What the executor is asked for under `mining_algorithm`, by strategy."""

CALD_POOL = 1.2
"""CALD chooses its balanced batch among so many times its size."""


def aldd(evidence: Evidence) -> pd.DataFrame:
    """Prefer images whose score maps disagree with their own neighbourhood.

    The executor computes it from the detector's maps, one for each label: at every cell the entropy of the
    mean of the 9 x 9 cells around, less the mean of their entropies; the largest in each 32 x 32 cells, the
    mean of these over the image, the sum over the labels. Images without detections are scored like all others.

    Parameters
    ----------
    evidence : Evidence
        Of which `executor_scores` is looked at.

    Returns
    -------
    DataFrame
        Columns image, score, why; sorted by image.

    Raises
    ------
    ProjectError
        There are no scores of the executor.
    InvalidTable
        An image has none.

    Source: Aghdam et al., Active Learning for Deep Detection Neural Networks, ICCV 2019. There the network is
    trained with score maps at several scales, and video frames near one another are not chosen together.
    """
    score = _scores(evidence)

    def why(places: Ints) -> list[str]:
        return [f"score maps disagree with their neighbourhood: {score[place]:.3f}" for place in places.tolist()]

    return scored(evidence.names, score, reasons(evidence, score, why, rest="score maps disagree less"))


def cald(evidence: Evidence) -> pd.DataFrame:
    """Prefer images on which the boxes change when the image is flipped, cut or made smaller.

    The executor gives the consistency of each image: the higher its score, the less its least consistent box
    stands up to the changes. Among the best 1.2 times the batch, images are then taken one by one whose
    predicted labels differ most (Jensen-Shannon) from those labelled and taken so far. Images without
    detections take part as in `entropy`, whatever the executor says of them.

    Parameters
    ----------
    evidence : Evidence
        Of which `executor_scores`, `predictions`, `labelled_counts`, `k` and `seed` are looked at.

    Returns
    -------
    DataFrame
        Columns image, score, why; sorted by image.

    Raises
    ------
    ProjectError
        There are no scores of the executor.
    InvalidTable
        An image has none.

    Source: Yu et al., Consistency-based Active Learning for Object Detection, CVPR Workshops 2022. An image's
    labels are counted by the chance that they are there, and not by their softmax sums.
    """
    names, boxes = evidence.names, evidence.boxes
    consistency = _scores(evidence)
    # From 0 on, so that images without detections can be placed among them.
    lowest = consistency[boxes.seen].min() if len(boxes.seen) else 0.0
    first = with_unseen(evidence, boxes, consistency[boxes.seen] - lowest, lambda places: [""] * len(places))
    value = first["score"].to_numpy()
    k = min(evidence.k, len(names))
    best = np.lexsort((np.arange(len(names)), -value))[: int(np.ceil(CALD_POOL * k))]
    picked = _balanced(_label_shares(boxes, best), _labelled_shares(evidence, boxes), k)
    score = batch(best[picked], value)
    chosen, told = set(best[picked].tolist()), first["why"].to_numpy()

    def why(places: Ints) -> list[str]:
        return [
            told[place]
            or f"boxes do not stand up to changes of the image: {consistency[place]:.3f}"
            + ("; labels unlike those labelled" if place in chosen else "")
            for place in places.tolist()
        ]

    return scored(names, score, reasons(evidence, score, why, rest="boxes stand up to changes of the image"))


def _scores(evidence: Evidence) -> Floats:
    """Give the executor's score of each image."""
    frame = evidence.need("executor_scores", lambda e: e.executor_scores)
    found = frame.set_index("image")["score"].reindex(evidence.names)
    if found.isna().any():
        raise InvalidTable(
            f"executor scores: {int(found.isna().sum())} images have none, the first is {found.index[found.isna()][0]}."
        )
    values: Floats = found.to_numpy(dtype=np.float64)
    return values


def _label_shares(boxes: Boxes, places: Ints) -> Floats:
    """Give the chance of each label on each image: shape (len(places), labels)."""
    starts, chance = presence(boxes)
    row = {place: i for i, place in enumerate(places.tolist())}
    table = np.zeros((len(places), len(boxes.labels)))
    for at, value in zip(starts.tolist(), chance.tolist(), strict=True):
        if (i := row.get(int(boxes.place[at]), -1)) >= 0:
            table[i, boxes.label[at]] = value
    return table


def _labelled_shares(evidence: Evidence, boxes: Boxes) -> Floats:
    counts = evidence.labelled_counts or {}
    return np.array([counts.get(label, 0) for label in boxes.labels], dtype=np.float64)


def _balanced(shares: Floats, sofar: Floats, k: int) -> Ints:
    """Pick k rows one by one, each the most unlike, in its labels, all that is there; of equals the first."""
    left = np.ones(len(shares), dtype=bool)
    picked = np.zeros(k, dtype=np.int64)
    for i in range(k):
        gap = np.where(left, _js(shares, sofar), -1.0)
        picked[i] = int(np.argmax(np.round(gap, 9)))
        left[picked[i]] = False
        sofar = sofar + shares[picked[i]]
    return picked


def _js(rows: Floats, other: Floats) -> Floats:
    """Jensen-Shannon divergence in bits of each row from another distribution; 0 for an empty one."""
    if not rows.shape[1] or not other.sum():
        return np.zeros(len(rows))
    sums = rows.sum(axis=1, keepdims=True)
    p, q = rows / np.where(sums > 0, sums, 1.0), other / other.sum()
    middle = (p + q) / 2

    def information(x: Floats) -> Floats:
        ratio = np.where(x > 0, x / np.where(middle > 0, middle, 1.0), 1.0)
        total: Floats = (x * np.log2(ratio)).sum(axis=1)
        return total

    value: Floats = np.where(sums[:, 0] > 0, (information(p) + information(np.broadcast_to(q, p.shape))) / 2, 0.0)
    return value
