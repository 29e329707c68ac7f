"""Coverage: batches that stand for the whole pool, by the images' vectors alone."""

from __future__ import annotations

import numpy as np
import pandas as pd

from ymir_nb.backend.strategies.evidence import Evidence
from ymir_nb.backend.strategies.features import Features, Floats, Ints, Vectors
from ymir_nb.backend.strategies.ranking import batch, draw, reasons, scored
from ymir_nb.backend.strategies.spreading import BLOCK, farthest_first, nearest, unit

NEIGHBOURS = 20
"""Nearest images that tell how typical one is (TypiClust's number)."""

MOST_GROUPS = 1_000
GROUP_STEPS = 8
SAMPLE = 2_000
"""Members of a group that are compared with one another."""


def kcenter(evidence: Evidence) -> pd.DataFrame:
    """Prefer images unlike anything labelled or chosen: k-center greedy on image vectors, by cosine.

    Where nothing is labelled, the first is the image nearest to the middle of all.

    Parameters
    ----------
    evidence : Evidence
        Of which `features`, `labelled_features` and `k` are looked at.

    Returns
    -------
    DataFrame
        Columns image, score, why; sorted by image. The chosen score from 2 down in their order, the others
        by their distance, below 1.

    Raises
    ------
    ProjectError
        There are no features.

    Source: Sener and Savarese, A Core-Set Approach, 2018, without its mixed-integer refinement.
    """
    features: Features = evidence.need("features", lambda e: e.features)
    names = evidence.names
    if not len(names):
        return scored(names, np.zeros(0), "")
    vectors, labelled = centred(features.image_vectors(names), evidence.labelled_features)
    near = nearest(vectors, labelled)
    if not len(labelled):
        near = near - (1.0 - vectors @ unit(vectors.mean(axis=0, keepdims=True))[0]) / 2.0
    picked, distance = farthest_first(vectors, near, evidence.k)
    left = np.minimum(near, nearest(vectors, vectors[picked]))
    score = batch(picked, np.maximum(left, 0.0).astype(np.float64))
    far = dict(zip(picked.tolist(), distance.tolist(), strict=True))

    def why(places: Ints) -> list[str]:
        return [
            f"unlike what is labelled or chosen: cosine distance {far[place]:.2f}"
            if place in far
            else f"like a chosen or labelled one: cosine distance {left[place]:.2f}"
            for place in places.tolist()
        ]

    return scored(names, score, reasons(evidence, score, why, rest="like a chosen or labelled one"))


def typicality(evidence: Evidence) -> pd.DataFrame:
    """Prefer the most typical image of each group that nothing labelled stands for.

    The images are put into as many groups as are wanted (at most 1,000), by k-means on their vectors; the
    groups without a labelled image come first, the larger the sooner. In each the image is taken whose mean
    distance to its 20 nearest neighbours is smallest, and then the next ones. Good for a first batch, when
    no model is worth asking.

    Parameters
    ----------
    evidence : Evidence
        Of which `features`, `labelled_features`, `k` and `seed` are looked at.

    Returns
    -------
    DataFrame
        Columns image, score, why; sorted by image.

    Raises
    ------
    ProjectError
        There are no features.

    Source: TypiClust of Hacohen et al., Active Learning on a Budget, ICML 2022. It groups into as many as
    are labelled and wanted together; here a group may hold several labelled images.
    """
    features: Features = evidence.need("features", lambda e: e.features)
    names = evidence.names
    if not len(names):
        return scored(names, np.zeros(0), "")
    vectors, labelled = centred(features.image_vectors(names), evidence.labelled_features)
    n_groups = max(1, min(evidence.k, MOST_GROUPS, len(names)))
    group, centres = _grouped(vectors, n_groups, draw(names, seed=evidence.seed))
    sizes = np.bincount(group, minlength=n_groups)
    covered = np.zeros(n_groups, dtype=bool)
    if len(labelled):
        covered[np.unique((labelled @ centres.T).argmax(axis=1))] = True
    typical = np.zeros(len(names))
    for each in range(n_groups):
        members = np.flatnonzero(group == each)
        typical[members] = _typical(vectors[members])
    # Within a group by typicality; over the groups in turn, the uncovered and large ones first.
    turn = np.empty(n_groups, dtype=np.int64)
    turn[np.lexsort((np.arange(n_groups), -sizes, covered))] = np.arange(n_groups)
    order = np.lexsort((np.arange(len(names)), -typical, group))
    starts = np.r_[0, np.cumsum(sizes)[:-1]]
    nth = np.empty(len(names), dtype=np.int64)
    nth[order] = np.arange(len(names)) - starts[group[order]]
    ordered = np.lexsort((turn[group], nth))
    score = batch(ordered[: evidence.k], _descending(ordered))

    def why(places: Ints) -> list[str]:
        return [
            f"number {nth[place] + 1} of the most typical in a group of {sizes[group[place]]} images"
            + (" that has labelled ones" if covered[group[place]] else "")
            for place in places
        ]

    return scored(names, score, reasons(evidence, score, why, rest="less typical of its group"))


def centred(vectors: Vectors, labelled: Features | None) -> tuple[Vectors, Vectors]:
    """Take the mean of the pool off its vectors and off those of labelled images, and scale them to length 1.

    A network's vectors share a large common part, beside which all cosines are near 1.
    """
    middle = vectors.mean(axis=0, keepdims=True)
    others = np.zeros((0, vectors.shape[1]), dtype=np.float32)
    if labelled is not None and len(labelled.rows):
        others = labelled.image_vectors(labelled.images)
    return unit(vectors - middle), unit(others - middle)


def _descending(ordered: Ints) -> Floats:
    """Give numbers that fall in this order, from 1 to above 0."""
    numbers = np.empty(len(ordered))
    numbers[ordered] = 1.0 - np.arange(len(ordered)) / max(len(ordered), 1)
    return numbers


def _grouped(vectors: Vectors, n_groups: int, tickets: Floats) -> tuple[Ints, Vectors]:
    """Group by spherical k-means, begun at the images of the lowest tickets."""
    centres = vectors[np.argsort(tickets, kind="stable")[:n_groups]].copy()
    group = _nearest_centre(vectors, centres)
    for _ in range(GROUP_STEPS):
        order = np.argsort(group, kind="stable")
        present, starts = np.unique(group[order], return_index=True)
        centres[present] = unit(np.add.reduceat(vectors[order], starts, axis=0))
        group = _nearest_centre(vectors, centres)
    return group, centres


def _nearest_centre(vectors: Vectors, centres: Vectors) -> Ints:
    group = np.empty(len(vectors), dtype=np.int64)
    rows = max(1, BLOCK // len(centres))
    for start in range(0, len(vectors), rows):
        group[start : start + rows] = (vectors[start : start + rows] @ centres.T).argmax(axis=1)
    return group


def _typical(vectors: Vectors) -> Floats:
    """Give the inverse mean cosine distance to the nearest neighbours, among a sample where there are many."""
    if len(vectors) < 2:
        return np.ones(len(vectors))
    others = vectors[:: -(-len(vectors) // SAMPLE)]
    n_near = min(NEIGHBOURS + 1, len(others))
    inverse = np.empty(len(vectors))
    rows = max(1, BLOCK // len(others))
    for start in range(0, len(vectors), rows):
        distance = np.sort(1.0 - vectors[start : start + rows] @ others.T, axis=1)[:, :n_near]
        inverse[start : start + rows] = 1.0 / (np.maximum(distance, 0.0).mean(axis=1) + 1e-3)
    return inverse
