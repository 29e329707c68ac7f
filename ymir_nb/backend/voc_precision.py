"""Average precision as Pascal VOC has it: one threshold, and the area under the curve or eleven points of it.

A detection goes to the object that it overlaps most, taken or not: a second one on the same object is
a false alarm, even where it reaches a free object too. COCO would give it that one (see `matching`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Literal, get_args

import numpy as np
import orjson
import pandas as pd

from ymir_nb.backend.comparable import comparable
from ymir_nb.backend.dataset import Dataset
from ymir_nb.backend.errors import InvalidTable
from ymir_nb.backend.ordering import by_label_and_score, cells, stable_order
from ymir_nb.backend.overlaps import Bools, Boxes, Floats, Ints, Span, box_overlap, overlapping
from ymir_nb.backend.precision import mean_there

Points = Literal["all", "eleven"]
"""Where the curve is read: at every recall it reaches (since 2010), or at 0, 0.1 ... 1 (before)."""


@dataclass(frozen=True, eq=False)
class VocEvaluation:
    """What predictions are worth as Pascal VOC has it.

    Parameters
    ----------
    mean_ap : float
        Mean over the labels that the truth has objects of; NaN where there is none.
    per_label : DataFrame
        Columns label, ap, n_truth (those that count), n_right, n_wrong; a row a label.
    """

    mean_ap: float
    per_label: pd.DataFrame


def evaluate_voc(
    truth: Dataset,
    predictions: Dataset,
    *,
    iou: float = 0.5,
    points: Points = "all",
    above: bool = False,
    extra_px: float = 0.0,
) -> VocEvaluation:
    """Compare predictions with the truth as Pascal VOC does.

    Objects tagged difficult, and crowds, do not count, and a detection that goes to one is neither
    right nor wrong. Images and labels are chosen as in `metrics.evaluate`.

    Boxes have exclusive far edges here, so their sides already are what VOC's last-pixel edges
    plus one give. YMIR adds that one again and asks for more than the threshold: its numbers are
    those of ``above=True, extra_px=1``.

    Parameters
    ----------
    truth, predictions : Dataset
        As for `metrics.evaluate`.
    iou : float
        From which a detection finds an object, in (0, 1].
    points : str
        ``all``: area under the highest precision at or beyond each recall; ``eleven``: its mean at
        recall 0, 0.1 ... 1.
    above : bool
        Ask for more than `iou`, not just as much.
    extra_px : float
        Added to every width and height, pixels.

    Returns
    -------
    VocEvaluation

    Raises
    ------
    InvalidTable
        As `metrics.evaluate`.

    Examples
    --------
    >>> float(evaluate_voc(Dataset.of(labels=["dog"]), Dataset.of()).per_label["n_truth"].sum())
    0.0

    Source: PASCAL VOC 2012 development kit, section 4.4 and `VOCevaldet`; YMIR 2.5.0, `det_eval_voc`.
    """
    if not 0 < iou <= 1 or points not in get_args(Points):
        raise InvalidTable(
            f"iou={iou!r}, points={points!r} cannot be evaluated. Give an iou in (0, 1], and one of "
            f"{', '.join(map(repr, get_args(Points)))} as points."
        )
    sides = comparable(truth, predictions)
    n_labels = len(sides.labels)
    objects, detections = (
        replace(side, x2=side.x2 + extra_px, y2=side.y2 + extra_px) for side in (sides.objects, sides.detections)
    )
    # A crowd is measured like any other box.
    objects = replace(objects, weight=np.zeros(len(objects))).take(
        stable_order(objects.label, stable_order(objects.image))
    )
    detections = detections.take(by_label_and_score(detections.label, detections.weight))
    counts = ~_ignored(truth.annotations)[objects.source]
    taken = _taken(objects, detections, sides.n_images, float(np.nextafter(iou, 2.0)) if above else iou)
    right, wrong = _judged(taken, counts)
    n_truth = np.bincount(objects.label[counts], minlength=n_labels)
    bounds = np.searchsorted(detections.label, np.arange(n_labels + 1))
    ap = [_ap(right[a:b], wrong[a:b], n, points) for (a, b), n in zip(pairwise(bounds), n_truth, strict=True)]
    per_label = pd.DataFrame(
        {
            "label": pd.Series(sides.labels, dtype="str"),
            "ap": np.array(ap, dtype=np.float64),
            "n_truth": n_truth,
            "n_right": np.bincount(detections.label[right], minlength=n_labels),
            "n_wrong": np.bincount(detections.label[wrong], minlength=n_labels),
        }
    )
    return VocEvaluation(mean_there(per_label["ap"].to_numpy()), per_label)


def _ignored(annotations: pd.DataFrame) -> Bools:
    """Tell which objects do not count: crowds, and those that VOC's files call difficult."""
    tags = annotations["tags"]
    difficult = [text != "{}" and str(orjson.loads(text).get("difficult", "0")) not in {"", "0"} for text in tags]
    ignored: Bools = annotations["crowd"].to_numpy() | np.array(difficult, dtype=np.bool_)
    return ignored


def _taken(objects: Boxes, detections: Boxes, n_images: int, least: float) -> Ints:
    """Find for each detection the object of its label and image that it overlaps most, the first of equals; or -1."""
    sides = ((objects.label, objects.image), (detections.label, detections.image))
    object_cell, cell = cells(*sides, n_images)
    n_objects = np.bincount(object_cell, minlength=int(cell.max(initial=0)) + 1)
    first = np.cumsum(n_objects) - n_objects
    span = Span(np.arange(len(detections)), first[cell], n_objects[cell])
    one, other, iou = overlapping(objects, detections, span, box_overlap, least=least)
    order = np.lexsort((other, -iou, one))
    who, best = np.unique(one[order], return_index=True)
    taken = np.full(len(detections), -1, dtype=np.int64)
    taken[who] = other[order][best]
    return taken


def _judged(taken: Ints, counts: Bools) -> tuple[Bools, Bools]:
    """Tell which detections, by falling score, are right and which are wrong: the first at an object that counts is."""
    reached = np.flatnonzero(taken >= 0)
    found = reached[np.unique(taken[reached], return_index=True)[1]]
    right = np.zeros(len(taken), dtype=np.bool_)
    right[found] = counts[taken[found]]
    wrong = ~right
    wrong[reached] &= counts[taken[reached]]
    return right, wrong


def _ap(right: Bools, wrong: Bools, n_truth: int, points: Points) -> float:
    """Average precision of one label; NaN without objects."""
    if not n_truth:
        return math.nan
    n_right = np.cumsum(right)
    recall: Floats = n_right / n_truth
    precision = n_right / np.maximum(n_right + np.cumsum(wrong), 1)
    highest = np.maximum.accumulate(precision[::-1])[::-1]
    if points == "all":
        return float((np.diff(recall, prepend=0.0) * highest).sum())
    read = np.searchsorted(recall, np.linspace(0.0, 1.0, 11))
    return float(np.append(highest, 0.0)[read].mean())
