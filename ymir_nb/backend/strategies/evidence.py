"""What a strategy may look at, in one value; what was not given is None, and says how to get it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

import numpy as np
import pandas as pd

from ymir_nb.backend.errors import InvalidTable, ProjectError
from ymir_nb.backend.strategies.features import ClassScores, Features, Floats, Ints, Vectors

MIN_SCORE = 0.05
"""Boxes below this score are no detections: a model lists hundreds of them anywhere.

Source: PPAL (Yang et al., CVPR 2024), which scores boxes from 0.05 on.
"""

REMEDIES = {
    "labelled_counts": "Name the labelled dataset: mine(..., train='train').",
    "features": "Use an executor whose infer template has `features`, such as tiny, or install a pretrained "
    "backbone: pip install 'ymir-nb[embeddings]'.",
    "executor_scores": "It is computed by the executor: use one whose mining template has `mining_algorithm` with "
    "this name, such as tiny.",
    "committee": "It compares the models of several rounds: mine with random or hybrid first, and from round 2 on "
    "the predictions of earlier rounds are there; or name some: mine(..., committee=['pool.helmets@v1']).",
}

_T = TypeVar("_T")


@dataclass(frozen=True, eq=False)
class Boxes:
    """The detections on the images, in an order that depends on their content alone.

    Parameters
    ----------
    place : ndarray of int64, shape (n,)
        Position of the image among the sorted names; ascending.
    label : ndarray of int64, shape (n,)
        Position in `labels`.
    score : ndarray of float64, shape (n,)
        In [`MIN_SCORE`, 1].
    labels : tuple of str
        Sorted.
    chances : ndarray of float32, shape (n, len(labels)), or None
        Scores of all labels at each box, where they are known.
    corners : ndarray of float64, shape (n, 4), or None
        x1 y1 x2 y2, where they were asked for.
    """

    place: Ints
    label: Ints
    score: Floats
    labels: tuple[str, ...]
    chances: Vectors | None = None
    corners: Floats | None = None

    @cached_property
    def seen(self) -> Ints:
        """The places of images that have boxes, ascending."""
        return self.place[self.starts]

    @cached_property
    def starts(self) -> Ints:
        """Where each of these images' boxes begin."""
        if not len(self.place):
            return np.zeros(0, dtype=np.int64)
        return np.flatnonzero(np.r_[True, self.place[1:] != self.place[:-1]])


@dataclass(frozen=True, eq=False)
class Evidence:
    """All that a strategy may look at.

    Parameters
    ----------
    images : DataFrame
        The images to choose from, columns of `tables.IMAGES`.
    predictions : DataFrame
        Columns of `tables.ANNOTATIONS` with scores; rows on other images play no part.
    labelled_counts : mapping of str to int, optional
        Labelled boxes of each label so far.
    features, labelled_features : Features, optional
        Vectors of these images, and of those that are labelled already; by one network.
    class_scores : ClassScores, optional
        Scores of all labels at each box, where the detector gives them.
    executor_scores : DataFrame, optional
        Columns image and score: what the executor's own mining computed.
    committee : sequence of DataFrame, optional
        Predictions of earlier models, like `predictions`.
    k : int, default 100
        How many images are wanted: strategies that choose a batch as a whole need to know.
    seed : int, default 0
        Decides what is left to chance.

    Examples
    --------
    >>> Evidence(pd.DataFrame({"image": ["b", "a"]}), pd.DataFrame()).names.tolist()
    ['a', 'b']
    """

    images: pd.DataFrame
    predictions: pd.DataFrame
    labelled_counts: Mapping[str, int] | None = None
    features: Features | None = None
    labelled_features: Features | None = None
    class_scores: ClassScores | None = None
    executor_scores: pd.DataFrame | None = None
    committee: Sequence[pd.DataFrame] | None = None
    k: int = 100
    seed: int = 0

    @cached_property
    def names(self) -> pd.Series:
        """The images' names, sorted."""
        names = self.images["image"].astype("str")
        ordered = names.is_monotonic_increasing
        return names.reset_index(drop=True) if ordered else names.sort_values(ignore_index=True)

    @cached_property
    def boxes(self) -> Boxes:
        """The detections on these images.

        Raises
        ------
        InvalidTable
            A prediction on these images has no score, or one outside [0, 1].
        """
        if self.class_scores is None:
            return boxes_on(self.names, self.predictions)
        scores = self.class_scores
        return boxes_on(self.names, scores.boxes, chances=scores.scores, labels=scores.labels)

    @cached_property
    def placed_boxes(self) -> Boxes:
        """The detections with their corners."""
        return boxes_on(self.names, self.predictions, corners=True)

    def need(self, name: str, of: Callable[[Evidence], _T | None]) -> _T:
        """Give what is there, or say how to get it.

        Parameters
        ----------
        name : str
            A key of `REMEDIES`.
        of : callable
            Reads it from this value.

        Raises
        ------
        ProjectError
            It was not given.
        """
        value = of(self)
        if value is None:
            raise ProjectError(f"this strategy needs {name.replace('_', ' ')}, and there are none. {REMEDIES[name]}")
        return value

    def label_weights(self, labels: Sequence[str]) -> Floats:
        """Weigh labels by how rare they are among the labels so far: 1 / sqrt(count + 1), the largest 1.

        Without counts all weigh 1.
        """
        counts = self.labelled_counts
        if counts is None or not len(labels):
            return np.ones(len(labels))
        weights = 1.0 / np.sqrt(np.array([counts.get(label, 0) for label in labels], dtype=np.float64) + 1.0)
        scaled: Floats = weights / weights.max()
        return scaled


def boxes_on(
    names: pd.Series,
    predictions: pd.DataFrame,
    *,
    chances: Vectors | None = None,
    labels: tuple[str, ...] = (),
    corners: bool = False,
) -> Boxes:
    """Pick the detections on the images.

    Parameters
    ----------
    names : Series of str
        The images, sorted.
    predictions : DataFrame
        Columns image, label, score, and x1 y1 x2 y2 where `corners` are wanted.
    chances : ndarray, shape (len(predictions), len(labels)), optional
        Scores of all labels at each box.
    labels : tuple of str
        Their order.
    corners : bool
        Give the corners too.

    Returns
    -------
    Boxes

    Raises
    ------
    InvalidTable
        A box on these images has no score, or one outside [0, 1].
    """
    if not len(predictions):
        none = np.zeros(0, dtype=np.int64)
        return Boxes(none, none, np.zeros(0), (), None, np.zeros((0, 4)) if corners else None)
    place = _places(names, predictions["image"])
    score = predictions["score"].to_numpy(dtype=np.float64)
    on = place >= 0
    wrong = on & ~((score >= 0.0) & (score <= 1.0))
    if wrong.any():
        first = int(np.argmax(wrong))
        raise InvalidTable(
            f"predictions: {int(wrong.sum())} boxes have no score in [0, 1], the first is {score[first]} on "
            f"image {names.iloc[place[first]]}. Repair or remove them."
        )
    rows = np.flatnonzero(on & (score >= MIN_SCORE))
    names_here = predictions["label"].iloc[rows]
    found = tuple(sorted(labels)) if labels else tuple(sorted(names_here.unique()))
    codes = pd.Index(found).get_indexer(pd.Index(names_here)).astype(np.int64)
    sides = [predictions[side].to_numpy(dtype=np.float64)[rows] for side in ("x1", "y1", "x2", "y2")] if corners else []
    order = np.lexsort((*sides[::-1], -score[rows], codes, place[rows]))
    kept = rows[order]
    return Boxes(
        place[kept],
        codes[order],
        score[kept],
        found,
        None if chances is None else chances[kept][:, np.argsort(np.array(labels, dtype=object))],
        np.stack(sides, axis=1)[order] if corners else None,
    )


def _places(names: pd.Series, images: pd.Series) -> Ints:
    """Find each image among the names, -1 where it is not there; each name is looked up once."""
    codes, uniques = pd.factorize(images)
    found = pd.Index(names).get_indexer(pd.Index(uniques)).astype(np.int64)
    place: Ints = np.where(codes >= 0, found[codes], -1) if len(found) else np.full(len(images), -1, dtype=np.int64)
    return place
