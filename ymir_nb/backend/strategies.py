"""Which images to label next: a strategy gives every image a score and a reason.

A strategy is a pure function of the images, what a model predicted on them, and a seed. The order
of the rows plays no part, and the same input gives the same scores. To add one, write the function
and its row in `STRATEGIES`.
"""

from __future__ import annotations

import hashlib
from typing import Protocol

import numpy as np
import numpy.typing as npt
import pandas as pd

from ymir_nb.backend.errors import InvalidTable

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

MIN_SCORE = 0.05
"""Boxes below this score are no detections: a model lists hundreds of them anywhere."""

TOP_BOXES = 3
"""Boxes of an image that count; a sum over all of them would favour crowds."""

EXPLORED = 0.1
"""Share of the images chosen that goes to those without detections."""


class Strategy(Protocol):
    """What a strategy looks like."""

    def __call__(self, images: pd.DataFrame, predictions: pd.DataFrame, *, seed: int) -> pd.DataFrame:
        """Score every image.

        Parameters
        ----------
        images : DataFrame
            The images to choose from, columns of `tables.IMAGES`.
        predictions : DataFrame
            Columns of `tables.ANNOTATIONS` with scores; rows on other images play no part.
        seed : int
            Decides what is left to chance.

        Returns
        -------
        DataFrame
            Columns image, score (finite, higher is chosen first), why (text for a person); one
            row for every given image, sorted by image.
        """
        ...


def random(images: pd.DataFrame, predictions: pd.DataFrame, *, seed: int) -> pd.DataFrame:  # noqa: ARG001
    """Give every image a number drawn from its name and the seed: the control of every comparison.

    Parameters
    ----------
    images : DataFrame
        The images to choose from, columns of `tables.IMAGES`.
    predictions : DataFrame
        Not looked at.
    seed : int
        Another seed draws other numbers.

    Returns
    -------
    DataFrame
        Columns image, score in [0, 1), why; sorted by image.

    Examples
    --------
    >>> random(pd.DataFrame({"image": ["a", "b"]}), pd.DataFrame(), seed=1)["why"].tolist()
    ['drawn at random', 'drawn at random']
    """
    names = _names(images)
    return _scored(names, _draw(names, seed=seed), "drawn at random")


def entropy(images: pd.DataFrame, predictions: pd.DataFrame, *, seed: int) -> pd.DataFrame:
    """Prefer images on which the model is unsure of its surest doubts: entropy of the top boxes.

    A box of score p has the binary entropy ``-p log2 p - (1 - p) log2 (1 - p)``, 1 bit at 0.5 and
    0 where the model is sure. An image scores the sum over its three most uncertain boxes of
    score 0.05 or more, in [0, 3] bits: the sum over all boxes, and so the crowd, counts for nothing.

    An image without detections has no uncertainty to speak of, yet may hold just what the model
    has not learnt to see. Some of them, drawn by the seed, take scores like those of the images
    with detections, so many that they fill about a tenth of any selection; the others score 0.
    Where nothing was detected in any image, all of them are drawn.

    Parameters
    ----------
    images : DataFrame
        The images to choose from, columns of `tables.IMAGES`.
    predictions : DataFrame
        Columns of `tables.ANNOTATIONS` with scores in [0, 1].
    seed : int
        Draws among the images without detections.

    Returns
    -------
    DataFrame
        Columns image, score in bits, why; sorted by image.

    Raises
    ------
    InvalidTable
        A prediction on these images has no score, or one outside [0, 1].

    Examples
    --------
    >>> found = pd.DataFrame({"image": ["a"], "label": ["dog"], "score": [0.5]})
    >>> entropy(pd.DataFrame({"image": ["a"]}), found, seed=0)["why"].item()
    '1 uncertain box: dog 0.50'

    Source: the binary form of YMIR's entropy; threshold and top boxes after PPAL (CVPR 2024).
    """
    names = _names(images)
    seen, bits, reasons = _uncertainty(names, predictions)
    score, why = np.zeros(len(names)), np.full(len(names), "no detections", dtype=object)
    score[seen], why[seen] = bits, reasons
    unseen = np.setdiff1d(np.arange(len(names)), seen)
    score[unseen] = _explore(names.iloc[unseen], bits, seed=seed)
    why[unseen[score[unseen] > 0]] = "no detections; drawn to explore"
    return _scored(names, score, why)


STRATEGIES: dict[str, Strategy] = {"random": random, "entropy": entropy}
"""Every strategy by the name that projects and commands know it by."""


def select(scored: pd.DataFrame, k: int) -> pd.DataFrame:
    """Choose the k images of highest score.

    Parameters
    ----------
    scored : DataFrame
        Columns image, score, why, as a strategy gives them.
    k : int
        How many; with fewer images than that, all are chosen.

    Returns
    -------
    DataFrame
        The leaderboard: columns rank (from 1), image, score, why. Equal scores rank by image.

    Raises
    ------
    InvalidTable
        A column is missing, a score is not finite, an image stands there twice, or k is negative.

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


def _names(images: pd.DataFrame) -> pd.Series:
    """The images' names, sorted."""
    return images["image"].astype("str").sort_values(ignore_index=True)


def _scored(names: pd.Series, score: Floats, why: object) -> pd.DataFrame:
    return pd.DataFrame({"image": names, "score": score, "why": pd.Series(why, index=names.index, dtype="str")})


def _draw(names: pd.Series, *, seed: int) -> Floats:
    """Draw a number in [0, 1) for each name: 53 bits of a hash of seed and name."""
    key = f"{seed}:".encode()
    digests = b"".join(hashlib.blake2b(key + name.encode(), digest_size=8).digest() for name in names)
    drawn: Floats = (np.frombuffer(digests, dtype="<u8") >> np.uint64(11)).astype(np.float64) * 2.0**-53
    return drawn


def _uncertainty(names: pd.Series, predictions: pd.DataFrame) -> tuple[Ints, Floats, list[str]]:
    """Give the places of the images that have detections, the bits of their top boxes, and the reasons."""
    top = _most_uncertain(_boxes_of(names, predictions))
    if not len(top):
        return np.zeros(0, dtype=np.int64), np.zeros(0), []
    seen, first = np.unique(top["place"].to_numpy(), return_index=True)
    texts = [f"{label} {score:.2f}" for label, score in zip(top["label"], top["score"], strict=True)]
    ends = [*first[1:], len(texts)]
    reasons = [
        f"{end - start} uncertain {'box' if end - start == 1 else 'boxes'}: {', '.join(texts[start:end])}"
        for start, end in zip(first, ends, strict=True)
    ]
    return seen, np.add.reduceat(top["bits"].to_numpy(), first), reasons


def _boxes_of(names: pd.Series, predictions: pd.DataFrame) -> pd.DataFrame:
    """Pick the predictions on these images: columns place (of the image), label, score."""
    if not len(predictions):
        return pd.DataFrame({"place": np.zeros(0, dtype=np.int64), "label": [], "score": np.zeros(0)})
    place = pd.Index(names).get_indexer(predictions["image"])
    boxes = predictions.assign(place=place).loc[place >= 0, ["place", "label", "score"]]
    wrong = boxes[~boxes["score"].between(0.0, 1.0)]
    if len(wrong):
        raise InvalidTable(
            f"predictions: {len(wrong)} boxes have no score in [0, 1], the first is {wrong['score'].iloc[0]} on "
            f"image {names[wrong['place'].iloc[0]]}. Repair or remove them."
        )
    return boxes


def _most_uncertain(boxes: pd.DataFrame) -> pd.DataFrame:
    """Keep the top boxes of each image, with a column bits; by image, the most uncertain first."""
    boxes = boxes[boxes["score"] >= MIN_SCORE]
    p = boxes["score"].to_numpy()
    rest = 1.0 - p
    bits = -p * np.log2(p) - rest * np.log2(np.where(rest > 0, rest, 1.0))
    boxes = boxes.assign(bits=bits)
    boxes = boxes.sort_values(["place", "bits", "score", "label"], ascending=[True, False, False, True])
    return boxes[boxes.groupby("place").cumcount() < TOP_BOXES]


def _explore(names: pd.Series, others: Floats, *, seed: int) -> Floats:
    """Score images without detections, so that they make up about `EXPLORED` of any top of the list.

    Each draws a ticket. As many as make that share are admitted, and an admitted one gets the
    score that stands at its ticket's place among the scores of the images with detections.
    """
    ticket = _draw(names, seed=seed)
    if not len(others):
        return ticket
    wanted = len(others) * EXPLORED / (1.0 - EXPLORED)
    chance = min(1.0, wanted / max(len(names), 1))
    admitted = ticket < chance
    place = np.minimum(ticket / chance * len(others), len(others) - 1).astype(np.int64)
    score: Floats = np.where(admitted, np.sort(others)[place], 0.0)
    return score
