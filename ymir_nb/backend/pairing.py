"""Which detections lie on which true objects, whatever their labels, and who takes whom.

`matching` answers what COCO's numbers need and forgets who found whom. Here the pairs themselves
are kept, with the rows of the two tables they stand for; marks, confusion and label review read them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from ymir_nb.backend.dataset import Dataset
from ymir_nb.backend.errors import InvalidTable

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
Names = npt.NDArray[np.object_]

_PAIRS_AT_ONCE = 1_000_000


@dataclass(frozen=True)
class Side:
    """The boxes of one side that are compared, in the order of their table.

    Parameters
    ----------
    row : ndarray, shape (n,)
        Their rows in the side's annotations.
    image, label : ndarray, shape (n,)
        Positions in the images and labels that are compared.
    corners : ndarray, shape (4, n)
        x1, y1, x2, y2 in pixels.
    area : ndarray, shape (n,)
        Of the box, square pixels.
    score : ndarray, shape (n,)
        Of detections; NaN for true objects.
    crowd : ndarray, shape (n,)
        True where one true box stands for many objects.
    """

    row: Ints
    image: Ints
    label: Ints
    corners: Floats
    area: Floats
    score: Floats
    crowd: Bools

    def __len__(self) -> int:
        """Count the boxes."""
        return len(self.row)

    def take(self, chosen: Ints | Bools) -> Side:
        """Give a part of the boxes."""
        return Side(
            self.row[chosen],
            self.image[chosen],
            self.label[chosen],
            self.corners[:, chosen],
            self.area[chosen],
            self.score[chosen],
            self.crowd[chosen],
        )

    def standing(self) -> Ints:
        """Place of each detection in falling score; equal scores keep the order of the table."""
        order = np.lexsort((np.arange(len(self)), -self.score))
        standing = np.empty_like(order)
        standing[order] = np.arange(len(order))
        return standing


@dataclass(frozen=True)
class Sides:
    """Truth and predictions on the images and labels on which they can be held against each other.

    Parameters
    ----------
    images : ndarray of str
        Labelled images of the truth, sorted.
    labels : tuple of str
        Labels that are compared.
    truth, found : Side
        Their boxes.
    """

    images: Names
    labels: tuple[str, ...]
    truth: Side
    found: Side


@dataclass(frozen=True)
class Pairs:
    """Boxes that overlap: `found` and `truth` are positions in the two sides, `iou` lies in (0, 1].

    For a crowd, `iou` is the share of the detection that lies on it, as COCO has it.
    """

    found: Ints
    truth: Ints
    iou: Floats

    def take(self, chosen: Ints | Bools) -> Pairs:
        """Give a part of the pairs."""
        return Pairs(self.found[chosen], self.truth[chosen], self.iou[chosen])


def sides(truth: Dataset, predictions: Dataset, *, labels: Sequence[str] | None = None) -> Sides:
    """Pick what can be compared: boxes on the truth's labelled images, of the truth's labels.

    As in COCO's evaluation, an inverted box, whose area comes out negative, counts on neither side.

    Parameters
    ----------
    truth : Dataset
        Ground truth: no row has a score.
    predictions : Dataset
        Every row has a finite score.
    labels : sequence of str, optional
        Labels to compare on; by default all of the truth.

    Returns
    -------
    Sides

    Raises
    ------
    InvalidTable
        The truth holds scores, a prediction has none, or the predictions were made on none of the
        labelled images.
    """
    images = np.sort(truth.images.loc[truth.images["labelled"], "image"].to_numpy(dtype=object))
    _check(truth, predictions, images)
    kept = truth.labels if labels is None else tuple(labels)
    return Sides(
        images=images,
        labels=kept,
        truth=_side(truth.annotations, images, kept),
        found=_side(predictions.annotations, images, kept),
    )


def overlapping(truth: Side, found: Side, *, at_least: float) -> Pairs:
    """List the pairs on the same image that overlap, of equal and of different labels.

    Parameters
    ----------
    truth, found : Side
        Boxes.
    at_least : float
        IoU in [0, 1] from which a pair is listed; pairs that do not touch never are.

    Returns
    -------
    Pairs
        By detection, then by object, in the order of the tables.
    """
    parts = []
    for one, other in pair_blocks(truth, found):
        iou = overlap(truth, found, one, other)
        near = (iou > 0) & (iou >= at_least)
        parts.append(Pairs(one[near], other[near], iou[near]))
    pairs = Pairs(
        np.concatenate([np.empty(0, dtype=np.int64), *(part.found for part in parts)]),
        np.concatenate([np.empty(0, dtype=np.int64), *(part.truth for part in parts)]),
        np.concatenate([np.empty(0), *(part.iou for part in parts)]),
    )
    return pairs.take(np.lexsort((pairs.truth, pairs.found)))


def pair_blocks(truth: Side, found: Side) -> Iterator[tuple[Ints, Ints]]:
    """Go through every pair of a detection and an object on the same image, a block at a time.

    Yields
    ------
    tuple of ndarray
        Positions of detections and of objects, equally long. A detection's objects follow each
        other, and a detection lies in one block only.
    """
    by_image = np.argsort(truth.image, kind="stable")
    image = truth.image[by_image]
    first = np.searchsorted(image, found.image, side="left")
    n_pairs = np.searchsorted(image, found.image, side="right") - first
    busy = np.flatnonzero(n_pairs)
    block = np.cumsum(n_pairs[busy]) // _PAIRS_AT_ONCE
    for rows in np.split(busy, np.flatnonzero(np.diff(block)) + 1):
        sizes = n_pairs[rows]
        within = np.arange(sizes.sum()) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        yield np.repeat(rows, sizes), by_image[np.repeat(first[rows], sizes) + within]


def overlap(truth: Side, found: Side, one: Ints, other: Ints) -> Floats:
    """Give the IoU of detections with objects; 0 where they do not touch, and their own share on a crowd.

    The sums are those of `matching`, in its order, so that a pair at a threshold falls on the same side of it.
    """
    inter = np.ones(len(one))
    for axis in (0, 1):
        near = np.maximum(found.corners[axis, one], truth.corners[axis, other])
        side = np.minimum(found.corners[axis + 2, one], truth.corners[axis + 2, other]) - near
        inter *= np.maximum(side, 0.0)
    own = found.area[one]
    whole = np.where(truth.crowd[other], own, own + truth.area[other] - inter)
    iou: Floats = np.divide(inter, whole, out=np.zeros_like(inter), where=inter > 0)
    return iou


def assign(pairs: Pairs, *, standing: Ints, n_truth: int, preferred: Bools | None = None) -> Pairs:
    """Let detections take objects, the surest first: each the free object that it overlaps most.

    Parameters
    ----------
    pairs : Pairs
        Who may take what.
    standing : ndarray, shape (n_found,)
        Place of each detection, from 0 for the surest; see `Side.standing`.
    n_truth : int
        Number of objects; each is taken once.
    preferred : ndarray of bool, optional
        Pairs to prefer among equal overlaps. After that the object that stands last in the table is
        preferred, as in COCO.

    Returns
    -------
    Pairs
        A detection and an object each at most once, by detection.
    """
    later = np.zeros(len(pairs.found), dtype=np.bool_) if preferred is None else ~preferred
    order = np.lexsort((-pairs.truth, later, -pairs.iou, standing[pairs.found]))
    taken, kept, served = bytearray(n_truth), [], -1
    for place, one, other in zip(order.tolist(), pairs.found[order].tolist(), pairs.truth[order].tolist(), strict=True):
        if one != served and not taken[other]:
            taken[other], served = 1, one
            kept.append(place)
    chosen = pairs.take(np.array(kept, dtype=np.int64))
    return chosen.take(np.argsort(chosen.found))


def best(of: Ints, other: Ints, value: Floats, *, n: int) -> tuple[Floats, Ints]:
    """Find for each of `n` boxes the highest value and its partner, the last of equals; 0 and -1 where none is."""
    order = np.lexsort((-other, -value, of))
    whose, place = np.unique(of[order], return_index=True)
    highest, partner = np.zeros(n), np.full(n, -1, dtype=np.int64)
    highest[whose], partner[whose] = value[order][place], other[order][place]
    return highest, partner


def _side(annotations: pd.DataFrame, images: Names, labels: tuple[str, ...]) -> Side:
    image = pd.Index(images, dtype="object").get_indexer(annotations["image"].to_numpy(dtype=object))
    label = pd.Index(labels, dtype="object").get_indexer(annotations["label"].to_numpy(dtype=object))
    x1, y1, x2, y2 = (annotations[name].to_numpy() for name in ("x1", "y1", "x2", "y2"))
    row = np.flatnonzero((image >= 0) & (label >= 0) & ((x2 - x1) * (y2 - y1) >= 0))
    x1, y1, x2, y2 = (edge[row] for edge in (x1, y1, x2, y2))
    width, height = x2 - x1, y2 - y1
    return Side(
        row=row,
        image=image[row].astype(np.int64),
        label=label[row].astype(np.int64),
        corners=np.stack([x1, y1, width + x1, height + y1]),
        area=width * height,
        score=annotations["score"].to_numpy()[row],
        crowd=annotations["crowd"].to_numpy()[row],
    )


def _check(truth: Dataset, predictions: Dataset, images: Names) -> None:
    """Refuse what would give numbers that mean nothing."""
    scored = int(truth.annotations["score"].notna().sum())
    if scored:
        raise InvalidTable(
            f"truth: {scored} of its {truth.n_boxes} objects have a score, so they are predictions. Give ground "
            "truth first and predictions second."
        )
    unscored = int((~np.isfinite(predictions.annotations["score"].to_numpy())).sum())
    if unscored:
        raise InvalidTable(
            f"predictions: {unscored} of their {predictions.n_boxes} objects have no finite score. Give ground truth "
            "first, and second what a model predicted."
        )
    if len(images) and len(predictions) and not predictions.images["image"].isin(images).any():
        raise InvalidTable(
            f"predictions: none of their {len(predictions)} images is among the {len(images)} labelled images of the "
            "truth. Infer on the images that are to be looked at."
        )
