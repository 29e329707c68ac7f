"""Near-duplicates: images so alike that one label would do, grouped before a budget is spent on them."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt
import pandas as pd

from ymir_nb.backend.strategies.coverage import centred
from ymir_nb.backend.strategies.features import Features, Ints
from ymir_nb.backend.strategies.spreading import BLOCK

ALIKE = 0.995
"""Cosine, of vectors less the pool's mean, from which images are near-duplicates: of the 20,000 pairs of 200 drawn
scenes, all different, seven reach 0.98 by a barely trained detector, and none 0.99."""


MOST_BITS = 4
"""Bits in which the perceptual hashes of near-duplicates may differ, of 64."""


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
        Perceptual hashes of images, 64 bits each, used where there are no features; alike where at most four
        bits differ, as they do when a picture is saved again or scaled.
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
        leader[: len(looked)] = _by_hashes(hashes, looked)
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
    """Give, for each image, the place of the one that leads its group; images without vectors stand alone."""
    known = features.images
    vectors, _ = centred(features.image_vectors(known), None)
    place = pd.Index(known).get_indexer(pd.Index(images))
    held = np.flatnonzero(place >= 0)
    vectors = vectors[place[held]]
    return _leaders(len(images), held, lambda rows, until: vectors[rows] @ vectors[:until].T >= alike)


def _by_hashes(hashes: Mapping[str, int], images: pd.Series) -> Ints:
    """Give the same by perceptual hashes; images without one stand alone."""
    held = np.flatnonzero(images.isin(list(hashes)).to_numpy())
    known = np.array([hashes[images.iloc[i]] for i in held], dtype=np.uint64)
    return _leaders(
        len(images), held, lambda rows, until: np.bitwise_count(known[rows, None] ^ known[None, :until]) <= MOST_BITS
    )


def _leaders(n: int, held: Ints, similar: Callable[[Ints, int], npt.NDArray[np.bool_]]) -> Ints:
    """Go down the images that can be compared; each joins the first leader that it is similar to, or leads."""
    leader = np.arange(n)
    block = max(1, BLOCK // max(len(held), 1))
    for start in range(0, len(held), block):
        rows = np.arange(start, min(start + block, len(held)))
        for own, row in zip(rows, similar(rows, int(rows[-1]) + 1), strict=True):
            earlier = held[np.flatnonzero(row[:own])]
            leads = earlier[leader[earlier] == earlier]
            if len(leads):
                leader[held[own]] = leads[0]
    return leader
