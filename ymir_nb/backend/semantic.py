"""Semantic segmentation: which label each pixel has, and how often that is right.

A map holds a label's position at every pixel; 255 (`IGNORED`) where nothing is said. Pixels that
the truth leaves open count nowhere; where only the prediction does, nothing was found.

Source: aAcc, mAcc and mIoU as MMSegmentation defines them; YMIR 2.5.0, `sem_seg_eval_mm`.
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pandas as pd

from ymir_nb.backend.comparable import comparable_masks
from ymir_nb.backend.dataset import Dataset
from ymir_nb.backend.errors import InvalidTable
from ymir_nb.backend.overlaps import Boxes, Floats, Ints
from ymir_nb.backend.precision import mean_there
from ymir_nb.backend.segmentations import Runs

IGNORED = 255
"""Value of a pixel that the truth says nothing about."""

Map = npt.NDArray[np.integer]


@dataclass(frozen=True, eq=False)
class SemanticEvaluation:
    """How well labels were given to pixels.

    Every number lies in [0, 1]; NaN where there is no pixel that it speaks of.

    Parameters
    ----------
    a_acc : float
        Share of all pixels that have the right label.
    m_acc : float
        Mean of the labels' `acc`.
    m_iou : float
        Mean of the labels' `iou`.
    per_label : DataFrame
        Columns label, iou (pixels of both over pixels of either), acc (share of the label's true
        pixels that were found), n_truth_px, n_predicted_px; a row a label.
    confusion : DataFrame
        Pixels by true label (rows) and predicted label (columns; the last, empty, is no label).
    n_images : int
        Images that were compared.
    """

    a_acc: float
    m_acc: float
    m_iou: float
    per_label: pd.DataFrame = field(repr=False)
    confusion: pd.DataFrame = field(repr=False)
    n_images: int

    def __repr__(self) -> str:
        """Say in one line what matters."""
        return (
            f"<SemanticEvaluation: mIoU {self.m_iou:.3f}, mAcc {self.m_acc:.3f}, aAcc {self.a_acc:.3f}, "
            f"{len(self.per_label)} labels, {self.n_images} images>"
        )

    def _repr_html_(self) -> str:
        """Show the headline and each label's numbers in a notebook."""
        table = self.per_label.to_html(index=False, escape=True, float_format="%.3f", na_rep="-", border=0)
        return f"<p>{html.escape(repr(self))}</p>{table}"


def evaluate_maps(pairs: Iterable[tuple[Map, Map]], *, labels: Iterable[str]) -> SemanticEvaluation:
    """Compare label maps.

    Parameters
    ----------
    pairs : iterable of tuple of ndarray
        Truth and prediction of each image, both (height, width) of whole numbers: positions in
        `labels`. `IGNORED` in the truth leaves the pixel out; any other value than a label's, in a
        prediction, is no label. One pair is held at a time.
    labels : iterable of str
        At most 255.

    Returns
    -------
    SemanticEvaluation

    Raises
    ------
    InvalidTable
        Maps differ in shape, hold no whole numbers, or the truth has a label that is not there.

    Examples
    --------
    >>> evaluate_maps([(np.array([[0, 0], [1, 255]]), np.array([[0, 1], [1, 1]]))], labels=["sky", "road"])
    <SemanticEvaluation: mIoU 0.500, mAcc 0.750, aAcc 0.667, 2 labels, 1 images>
    """
    names = tuple(labels)
    if len(names) > IGNORED:
        raise InvalidTable(f"{len(names)} labels do not fit: {IGNORED} marks what is ignored. Give at most {IGNORED}.")
    total, n_images = np.zeros((len(names), len(names) + 1), dtype=np.int64), 0
    for truth, found in pairs:
        total += _counted(np.asarray(truth), np.asarray(found), names, n_images)
        n_images += 1
    both = total.diagonal()
    in_truth, predicted = total.sum(axis=1), total.sum(axis=0)[:-1]
    acc, iou = _share(both, in_truth), _share(both, in_truth + predicted - both)
    columns = {"iou": iou, "acc": acc, "n_truth_px": in_truth, "n_predicted_px": predicted}
    return SemanticEvaluation(
        a_acc=float(_share(both.sum(keepdims=True), in_truth.sum(keepdims=True))[0]),
        m_acc=mean_there(acc),
        m_iou=mean_there(iou),
        per_label=pd.DataFrame({"label": pd.Series(names, dtype="str")} | columns),
        confusion=pd.DataFrame(total, index=list(names), columns=[*names, ""]),
        n_images=n_images,
    )


def evaluate_semantic(truth: Dataset, predictions: Dataset, *, background: str = "") -> SemanticEvaluation:
    """Compare the pixels that segmentations cover.

    Every object is painted over the image: of the truth the large ones first, so that what lies on
    them is seen; of the predictions the least sure first, so that the surest counts. Among equals
    the one that stands last in the table is on top. Crowds are painted like all others. Images and
    labels are chosen as in `metrics.evaluate`.

    Parameters
    ----------
    truth : Dataset
        Ground truth; every row has a segmentation.
    predictions : Dataset
        Every row has a finite score and a segmentation.
    background : str
        Pixels that no object of the truth covers are left out, as YMIR does it; then false alarms
        on them cost nothing. With a name here they, and such pixels of the predictions, are one
        more label of this name.

    Returns
    -------
    SemanticEvaluation

    Raises
    ------
    InvalidTable
        As `metrics.evaluate` for masks, or `background` is a label already.

    Examples
    --------
    >>> evaluate_semantic(Dataset.of(labels=["dog"]), Dataset.of()).n_images
    0
    """
    if background in truth.labels:
        raise InvalidTable(f"{background!r} is a label of the truth. Give the background another name.")
    sides, real, found = comparable_masks(truth, predictions)
    empty = len(sides.labels) if background else IGNORED
    listed = truth.images[truth.images["labelled"]].sort_values("image")
    n_pixels = (listed["width"].to_numpy().astype(np.int64) * listed["height"].to_numpy()).tolist()
    large_first = np.lexsort((-real.area_px, sides.objects.image))
    sure_last = np.lexsort((sides.detections.weight, sides.detections.image))
    maps = zip(
        _painted(sides.objects, real, large_first, n_pixels, empty),
        _painted(sides.detections, found, sure_last, n_pixels, empty),
        strict=True,
    )
    return evaluate_maps(maps, labels=[*sides.labels, *([background] if background else [])])


def _painted(boxes: Boxes, runs: Runs, order: Ints, n_pixels: list[int], empty: int) -> Iterator[Map]:
    """Paint image by image, the objects of each in this order; pixels stand column by column."""
    bounds = np.searchsorted(boxes.image[order], np.arange(len(n_pixels) + 1))
    for (first, end), n in zip(pairwise(bounds), n_pixels, strict=True):
        pixels = np.full(n, empty, dtype=np.int64)
        for row in order[first:end]:
            part = slice(runs.start[row], runs.start[row + 1])
            sizes = runs.end[part] - runs.begin[part]
            shift = np.repeat(runs.begin[part] - (np.cumsum(sizes) - sizes), sizes)
            pixels[np.arange(len(shift)) + shift] = boxes.label[row]
        yield pixels


def _counted(truth: Map, found: Map, labels: tuple[str, ...], place: int) -> Ints:
    """Count the pixels of one image by true and predicted label."""
    n = len(labels)
    if truth.shape != found.shape or truth.dtype.kind not in "iu" or found.dtype.kind not in "iu":
        raise InvalidTable(
            f"maps of image {place}: the truth is {truth.dtype} {truth.shape}, the prediction {found.dtype} "
            f"{found.shape}. Give whole numbers of equal shape (height, width)."
        )
    said = truth != IGNORED
    real, guess = truth[said].astype(np.int64), found[said].astype(np.int64)
    if len(real) and not 0 <= int(real.min()) <= int(real.max()) < n:
        raise InvalidTable(
            f"map of image {place}: the truth has the value {int(real.max() if real.max() >= n else real.min())}, and "
            f"there are {n} labels, from 0. Set what shall not count to {IGNORED}."
        )
    guess = np.where((guess >= 0) & (guess < n), guess, n)
    return np.bincount(real * (n + 1) + guess, minlength=n * (n + 1)).reshape(n, n + 1)


def _share(part: Ints, whole: Ints) -> Floats:
    """Divide; NaN where there is nothing to divide by."""
    share: Floats = np.divide(part, whole, out=np.full(len(whole), np.nan), where=whole > 0)
    return share
