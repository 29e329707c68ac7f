"""Near-duplicates: images so alike that one label would do, grouped before a budget is spent on them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from ymir_nb.backend.strategies.coverage import centred
from ymir_nb.backend.strategies.features import Features, Ints

ALIKE = 0.98
"""Cosine, of vectors less the pool's mean, from which images are near-duplicates."""


def group_duplicates(
    board: pd.DataFrame,
    *,
    features: Features | None = None,
    hashes: Mapping[str, int] | None = None,
    head: int | None = None,
    alike: float = ALIKE,
) -> pd.DataFrame:
    """Move near-duplicates of a better-ranked image to the end of a leaderboard, and say whose they are.

    Going down the board, an image joins the group of the best-ranked one that it is like, unless that has
    joined another itself: groups do not chain.

    Parameters
    ----------
    board : DataFrame
        Columns rank, image, score, why, best first.
    features : Features, optional
        Vectors of the images; alike from a cosine of `alike` on.
    hashes : mapping of str to int, optional
        Perceptual hashes of images, used where there are no features; alike where they are equal.
    head : int, optional
        Look at so many of the best only; by default at all. The time grows with its square.
    alike : float
        Cosine in (0, 1].

    Returns
    -------
    DataFrame
        The board in its new order, ranks from 1, with a column group: the image that it is a near-duplicate
        of, or empty; the why of such an image begins with that.

    Examples
    --------
    >>> board = pd.DataFrame({"rank": [1, 2, 3], "image": ["a", "b", "c"], "score": [3, 2, 1], "why": ""})
    >>> group_duplicates(board, hashes={"a": 7, "b": 7})["image"].tolist()
    ['a', 'c', 'b']
    """
    looked = board["image"].head(len(board) if head is None else head)
    leader = np.arange(len(board))
    if features is not None:
        leader[: len(looked)] = _by_vectors(features, looked, alike)
    elif hashes is not None:
        first: dict[int, int] = {}
        for i, image in enumerate(looked):
            if image in hashes:
                leader[i] = first.setdefault(hashes[image], i)
    joined = leader != np.arange(len(board))
    images = board["image"].to_numpy(dtype=object)
    group = np.where(joined, images[leader], "")
    why = [
        f"near-duplicate of {other[:8]}; {text}" if other else text
        for other, text in zip(group, board["why"], strict=True)
    ]
    grouped = board.assign(group=pd.Series(group, index=board.index, dtype="str"), why=pd.Series(why, dtype="str"))
    ordered = pd.concat([grouped[~joined], grouped[joined]], ignore_index=True)
    return ordered.assign(rank=np.arange(1, len(ordered) + 1))


def _by_vectors(features: Features, images: pd.Series, alike: float) -> Ints:
    """Give, for each image, the place of the one that leads its group."""
    vectors, _ = centred(features.image_vectors(features.images), None)
    place = pd.Index(features.images).get_indexer(pd.Index(images))
    vectors = vectors[place]
    leader = np.arange(len(images))
    block = max(1, (1 << 22) // max(len(images), 1))
    for start in range(0, len(images), block):
        rows = np.arange(start, min(start + block, len(images)))
        similar = vectors[rows] @ vectors[: rows[-1] + 1].T >= alike
        for i in range(len(rows)):
            own = int(rows[i])
            earlier = np.flatnonzero(similar[i, :own])
            leads = earlier[leader[earlier] == earlier]
            if len(leads):
                leader[own] = leads[0]
    return leader
