"""From scores to a leaderboard: the best images that a budget pays for."""

from __future__ import annotations

import numpy as np
import pandas as pd

from ymir_nb.backend.errors import InvalidTable
from ymir_nb.backend.strategies.evidence import boxes_on

BUDGETS = ("images", "boxes")


def select(scored: pd.DataFrame, k: int, *, budget: str = "images", n_boxes: pd.Series | None = None) -> pd.DataFrame:
    """Choose the images of highest score that a budget pays for.

    Parameters
    ----------
    scored : DataFrame
        Columns image, score, why, as a strategy gives them.
    k : int
        The budget; with fewer images than that, all are chosen.
    budget : {'images', 'boxes'}
        What k counts: images, or the boxes that somebody will have to draw.
    n_boxes : Series of float, indexed by image
        With 'boxes': how many are expected on each, see `expected_boxes`. Images are taken in the order of
        their scores up to the first that exceeds the budget; the first image is always taken.

    Returns
    -------
    DataFrame
        The leaderboard: columns rank (from 1), image, score, why. Equal scores rank by image.

    Raises
    ------
    InvalidTable
        A column is missing, a score is not finite, an image stands there twice, k is negative, or the
        boxes of an image are not told.

    Examples
    --------
    >>> scored = pd.DataFrame({"image": ["b", "a", "c"], "score": [0.5, 0.5, 0.1], "why": ""})
    >>> select(scored, 2)["image"].tolist()
    ['a', 'b']
    """
    missing = [name for name in ("image", "score", "why") if name not in scored.columns]
    if missing:
        raise InvalidTable(f"scores: missing columns {', '.join(missing)}. Give the frame that a strategy returns.")
    if k < 0:
        raise InvalidTable(f"k is {k}, and must be 0 or more. Say how many images to choose, such as k=100.")
    score = scored["score"].to_numpy(dtype=np.float64)
    if not np.isfinite(score).all():
        bad = scored.loc[~np.isfinite(score), "image"]
        raise InvalidTable(f"scores: {len(bad)} are no finite numbers, the first is of image {bad.iloc[0]}.")
    twice = scored.loc[scored["image"].duplicated(), "image"]
    if len(twice):
        raise InvalidTable(f"scores: {len(twice)} images stand there twice, the first is {twice.iloc[0]}.")
    top = scored
    if budget != "images":
        ordered = scored.sort_values(["score", "image"], ascending=[False, True], ignore_index=True)
        k = affordable(ordered["image"], k, budget=budget, n_boxes=n_boxes)
    if 0 < k < len(scored):
        # Only what reaches the k-th score is sorted: a million images cost 0.1 s, not 2 s.
        top = scored[score >= np.partition(score, len(score) - k)[len(score) - k]]
    top = top.sort_values(["score", "image"], ascending=[False, True], ignore_index=True).head(k)
    return pd.DataFrame(
        {
            "rank": np.arange(1, len(top) + 1),
            "image": top["image"].astype("str"),
            "score": top["score"].astype(np.float64),
            "why": top["why"].astype("str"),
        }
    )


def expected_boxes(images: pd.DataFrame, predictions: pd.DataFrame) -> pd.Series:
    """Say how many boxes somebody will have to draw on each image: the sum of the scores, at least 1.

    Parameters
    ----------
    images : DataFrame
        Columns of `tables.IMAGES`.
    predictions : DataFrame
        Columns of `tables.ANNOTATIONS` with scores; boxes below 0.05 do not count.

    Returns
    -------
    Series of float
        Indexed by image, sorted. An image without detections has to be looked at all the same, and counts 1.

    Examples
    --------
    >>> found = pd.DataFrame({"image": ["a"] * 3, "label": "dog", "score": 0.5})
    >>> expected_boxes(pd.DataFrame({"image": ["a", "b"]}), found).tolist()
    [1.5, 1.0]
    """
    names = images["image"].astype("str").sort_values(ignore_index=True)
    boxes = boxes_on(names, predictions)
    total = np.bincount(boxes.place, weights=boxes.score, minlength=len(names))
    return pd.Series(np.maximum(total, 1.0), index=pd.Index(names))


def affordable(images: pd.Series, k: int, *, budget: str = "images", n_boxes: pd.Series | None = None) -> int:
    """Say how many images, in their order, a budget pays for.

    Parameters
    ----------
    images : Series of str
        Best first.
    k, budget, n_boxes
        As `select`.

    Raises
    ------
    InvalidTable
        An unknown budget, or the boxes of an image are not told.
    """
    if budget == "images":
        return min(k, len(images))
    if budget not in BUDGETS:
        raise InvalidTable(f"there is no budget in {budget!r}; there is one in {' or in '.join(BUDGETS)}.")
    if n_boxes is None:
        raise InvalidTable("a budget in boxes needs n_boxes, see expected_boxes(images, predictions).")
    cost = n_boxes.reindex(images).to_numpy(dtype=np.float64)
    if np.isnan(cost).any():
        raise InvalidTable(f"n_boxes: image {images.iloc[int(np.isnan(cost).argmax())]} has no number of boxes.")
    n = int(np.searchsorted(np.cumsum(cost), k, side="right"))
    return min(len(images), max(n, 1)) if k else 0
