"""What of truth and predictions can be held against each other: as columns, with how to measure overlap."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from ymir_nb.backend.dataset import Dataset
from ymir_nb.backend.errors import InvalidTable
from ymir_nb.backend.overlaps import Boxes, Ints, Overlap, Places, box_overlap
from ymir_nb.backend.segmentations import MaskOverlap, Runs, read

Kind = Literal["boxes", "masks"]
"""What is compared."""


@dataclass(frozen=True)
class Comparable:
    """Both sides of an evaluation.

    Parameters
    ----------
    labels : tuple of str
        Labels of the truth.
    n_images : int
        Labelled images of the truth.
    objects, detections : Boxes
        What lies on these images and has one of these labels, in the order of the tables.
    overlap : Overlap
        Measures their IoU.
    """

    labels: tuple[str, ...]
    n_images: int
    objects: Boxes
    detections: Boxes
    overlap: Overlap


def comparable(truth: Dataset, predictions: Dataset, *, kind: Kind = "boxes") -> Comparable:
    """Pick what can be compared: on the truth's labelled images, of the truth's labels.

    Parameters
    ----------
    truth : Dataset
        Ground truth: no row has a score.
    predictions : Dataset
        Every row has a finite score. Its `labelled` column plays no part.
    kind : str
        ``boxes`` or ``masks``. A detection's size is then its mask's; an object's is its
        `area_px`, or its box's where that is NaN.

    Returns
    -------
    Comparable

    Raises
    ------
    InvalidTable
        The truth holds scores, a prediction has none, the predictions were made on none of the
        labelled images, or a mask is asked for and cannot be read.
    """
    if kind not in get_args(Kind):
        raise InvalidTable(f"kind {kind!r} cannot be compared. Choose one of {', '.join(map(repr, get_args(Kind)))}.")
    if kind == "masks":
        return comparable_masks(truth, predictions)[0]
    images = _labelled(truth)["image"]
    _check(truth, predictions, images)
    objects = to_boxes(truth.annotations, images=images, labels=truth.labels, weight="crowd")
    detections = to_boxes(predictions.annotations, images=images, labels=truth.labels, weight="score")
    return Comparable(truth.labels, len(images), objects, detections, box_overlap)


def comparable_masks(truth: Dataset, predictions: Dataset) -> tuple[Comparable, Runs, Runs]:
    """Pick what can be compared, with the masks of objects and detections, in the same order.

    Raises
    ------
    InvalidTable
        As `comparable`.
    """
    sides = comparable(truth, predictions)
    size = {name: _labelled(truth)[name].to_numpy().astype(np.int64) for name in ("width", "height")}
    real = _masks("truth", truth.annotations, sides.objects, **size)
    found = _masks("predictions", predictions.annotations, sides.detections, **size)
    at = (_places(sides.objects.source, truth.n_boxes), _places(sides.detections.source, predictions.n_boxes))
    detections = replace(sides.detections, area=found.area_px.astype(np.float64))
    return replace(sides, detections=detections, overlap=MaskOverlap(real, found, *at)), real, found


def to_boxes(annotations: pd.DataFrame, *, images: pd.Series, labels: tuple[str, ...], weight: str) -> Boxes:
    """Pick the rows on given images and labels, as columns in the order of the table.

    Parameters
    ----------
    annotations : DataFrame
        Columns of `tables.ANNOTATIONS`.
    images : Series of str
        Images that count, each once.
    labels : tuple of str
        Labels that count, each once.
    weight : str
        Column to carry along: ``score`` or ``crowd``.

    Returns
    -------
    Boxes
        Rows in the order of the table; size follows ``area_px`` for true objects where given.
    """
    image = places(annotations["image"], images)
    label = places(annotations["label"], pd.Series(labels, dtype="str"))
    # Without a copy where the frame has its columns as they are.
    x1, y1, x2, y2 = (annotations[name].to_numpy() for name in ("x1", "y1", "x2", "y2"))
    area = (x2 - x1) * (y2 - y1)
    if weight == "crowd":
        given = annotations["area_px"].to_numpy()
        area = np.where(np.isnan(given), area, given)
    boxes = Boxes(
        label=label,
        image=image,
        x1=x1,
        y1=y1,
        x2=x2,
        y2=y2,
        area=area,
        weight=annotations[weight].to_numpy().astype(np.float64, copy=False),
        source=np.arange(len(image), dtype=np.int32),
    )
    kept = (image >= 0) & (label >= 0)
    return boxes if kept.all() else boxes.take(kept)


def places(values: pd.Series, known: pd.Series) -> Places:
    """Find each value's position among the known ones; -1 where it is none of them."""
    texts = pa.array(values, type=pa.large_string(), from_pandas=True)
    found = pc.index_in(texts, value_set=pa.array(known, type=pa.large_string()))
    return np.asarray(found.fill_null(-1) if found.null_count else found)


def _labelled(truth: Dataset) -> pd.DataFrame:
    """Give the images that count, sorted."""
    return truth.images[truth.images["labelled"]].sort_values("image")


def _masks(name: str, annotations: pd.DataFrame, boxes: Boxes, *, width: Ints, height: Ints) -> Runs:
    """Read the masks of the rows that were picked."""
    texts = annotations["segmentation"].iloc[boxes.source].tolist()
    return read(texts, width=width[boxes.image], height=height[boxes.image], name=name, rows=boxes.source)


def _places(source: Places, n: int) -> Ints:
    """Tell for each row of a table which of the picked ones it is; -1 where it is none."""
    at = np.full(n, -1, dtype=np.int64)
    at[source] = np.arange(len(source))
    return at


def _check(truth: Dataset, predictions: Dataset, images: pd.Series) -> None:
    """Refuse what would give numbers that mean nothing."""
    scored = int(truth.annotations["score"].notna().sum())
    if scored:
        raise InvalidTable(
            f"truth: {scored} of its {truth.n_boxes} objects have a score, so they are predictions. Give ground "
            "truth first: evaluate(truth, predictions)"
        )
    unscored = np.flatnonzero(~np.isfinite(predictions.annotations["score"].to_numpy()))
    if len(unscored):
        first = predictions.annotations.iloc[unscored[0]]
        raise InvalidTable(
            f"predictions: {len(unscored)} of their {predictions.n_boxes} objects have no finite score, the first is "
            f"row {unscored[0]} ({first['label']!r} on image {first['image']}, score {first['score']}). Give what a "
            "model predicted second: evaluate(truth, predictions)"
        )
    if len(images) and len(predictions) and not (places(predictions.images["image"], images) >= 0).any():
        raise InvalidTable(
            f"predictions: none of their {len(predictions)} images is among the {len(images)} labelled images of the "
            "truth. Infer on the images that are to be evaluated."
        )
