"""How good predictions are: COCO's average precision and recall, per label and overall.

The numbers are those of COCO's evaluation of boxes or masks, computed on columns (see `matching` and
`precision`). Where COCO writes -1 for "no such object in the truth", there is NaN here and null in JSON.
"""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from ymir_nb.backend.comparable import Kind, comparable
from ymir_nb.backend.dataset import Dataset
from ymir_nb.backend.errors import InvalidTable, LabelNotFound
from ymir_nb.backend.matching import MAX_DETECTIONS, SIZES, THRESHOLDS, Matches, finds, match
from ymir_nb.backend.overlaps import Floats
from ymir_nb.backend.precision import averages, curve, mean_there

_NUMBERS = {
    "ap": "average precision, mean over IoU 0.50 to 0.95",
    "ap50": "average precision at IoU 0.50",
    "ap75": "average precision at IoU 0.75",
    "ap_small": "ap of objects below 32 x 32 pixels",
    "ap_medium": "ap of objects between 32 x 32 and 96 x 96 pixels",
    "ap_large": "ap of objects above 96 x 96 pixels",
    "ar_1": "average recall, mean over IoU 0.50 to 0.95, one detection a label and image",
    "ar_10": "average recall, ten detections a label and image",
    "ar_100": "average recall, a hundred detections a label and image",
    "ar_small": "ar_100 of objects below 32 x 32 pixels",
    "ar_medium": "ar_100 of objects between 32 x 32 and 96 x 96 pixels",
    "ar_large": "ar_100 of objects above 96 x 96 pixels",
}


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What predictions are worth against the truth: COCO's twelve numbers, and each label's.

    Every number lies in [0, 1]; it is NaN where the truth holds no object that it speaks of.

    Parameters
    ----------
    ap, ap50, ap75 : float
        Average precision, mean over the labels: over IoU 0.50 to 0.95 in ten steps, at IoU 0.50
        and at IoU 0.75.
    ap_small, ap_medium, ap_large : float
        `ap` of objects up to 32 x 32 pixels, up to 96 x 96 pixels, and larger.
    ar_1, ar_10, ar_100 : float
        Average recall with at most 1, 10 and 100 detections of a label on one image.
    ar_small, ar_medium, ar_large : float
        `ar_100` by size.
    n_images : int
        Labelled images that were compared.
    per_label : DataFrame
        Columns label, ap, ap50, n_truth (crowds left out), n_predictions; a row a label, in the
        order of the truth's labels.
    """

    ap: float
    ap50: float
    ap75: float
    ap_small: float
    ap_medium: float
    ap_large: float
    ar_1: float
    ar_10: float
    ar_100: float
    ar_small: float
    ar_medium: float
    ar_large: float
    n_images: int
    per_label: pd.DataFrame = field(repr=False)
    _matches: Matches = field(repr=False)

    def pr_curve(self, label: str, iou: float = 0.5) -> pd.DataFrame:
        """Trace precision against recall while the score threshold falls.

        Parameters
        ----------
        label : str
            Main name of a label.
        iou : float
            One of the thresholds that were evaluated: 0.50, 0.55 ... 0.95.

        Returns
        -------
        DataFrame
            Columns score, recall, precision; a row a detection that counts, by falling score.
            Detections on crowds are left out. Recall is NaN for a label without truth.

        Raises
        ------
        LabelNotFound
            The label was not evaluated.
        InvalidTable
            `iou` was not evaluated.

        Examples
        --------
        >>> evaluate(Dataset.of(labels=["dog"]), Dataset.of()).pr_curve("dog").columns.tolist()
        ['score', 'recall', 'precision']
        """
        labels = self.per_label["label"].tolist()
        if label not in labels:
            known = ", ".join(map(repr, labels)) or "none"
            raise LabelNotFound(f"label {label!r} was not evaluated; evaluated were {known}. Choose one of these.")
        return curve(self._matches, labels.index(label), self._evaluated(iou))

    def finds(self, iou: float = 0.5) -> pd.DataFrame:
        """Tell what every detection found.

        Parameters
        ----------
        iou : float
            One of the thresholds that were evaluated.

        Returns
        -------
        DataFrame
            Columns row (of the predictions' annotations, rising), outcome (right, wrong, or ignored:
            on a crowd, or inverted), truth_row (of the truth's annotations; -1 where it found nothing), iou (with
            what it found, else NaN). A row a detection that counts: those on other images, of other
            labels, or too many of a label on one image are left out.

        Raises
        ------
        InvalidTable
            `iou` was not evaluated.

        Examples
        --------
        >>> evaluate(Dataset.of(labels=["dog"]), Dataset.of()).finds().columns.tolist()
        ['row', 'outcome', 'truth_row', 'iou']
        """
        return finds(self._matches, self._evaluated(iou))

    def to_frame(self) -> pd.DataFrame:
        """List the twelve numbers: columns metric, value, meaning."""
        return pd.DataFrame(
            {
                "metric": list(_NUMBERS),
                "value": [getattr(self, name) for name in _NUMBERS],
                "meaning": list(_NUMBERS.values()),
            }
        )

    def to_dict(self) -> dict[str, Any]:
        """Give what JSON can say: ap50, ap, and both for every label; null stands for NaN.

        Examples
        --------
        >>> evaluate(Dataset.of(labels=["dog"]), Dataset.of()).to_dict()
        {'ap50': None, 'ap': None, 'per_label': {'dog': {'ap50': None, 'ap': None}}}
        """
        per_label = zip(self.per_label["label"], self.per_label["ap50"], self.per_label["ap"], strict=True)
        return {
            "ap50": _or_none(self.ap50),
            "ap": _or_none(self.ap),
            "per_label": {label: {"ap50": _or_none(ap50), "ap": _or_none(ap)} for label, ap50, ap in per_label},
        }

    def _evaluated(self, iou: float) -> int:
        """Find a threshold among those that were evaluated."""
        step = _step(self._matches.thresholds, iou)
        if step is None:
            known = ", ".join(f"{value:g}" for value in self._matches.thresholds)
            raise InvalidTable(f"IoU {iou} was not evaluated; evaluated were {known}. Choose one of these: iou=...")
        return step

    def __repr__(self) -> str:
        """Say in one line what matters."""
        return (
            f"<Evaluation: AP50 {self.ap50:.3f}, AP {self.ap:.3f}, "
            f"{len(self.per_label)} labels, {self.n_images} images>"
        )

    def _repr_html_(self) -> str:
        """Show the headline and each label's numbers in a notebook."""
        table = self.per_label.to_html(index=False, escape=True, float_format="%.3f", na_rep="-", border=0)
        return f"<p>{html.escape(repr(self))}</p>{table}"


def evaluate(
    truth: Dataset,
    predictions: Dataset,
    *,
    kind: Kind = "boxes",
    ious: Sequence[float] | Floats = tuple(THRESHOLDS),
    max_detections: int = MAX_DETECTIONS[-1],
) -> Evaluation:
    """Compare predictions with the truth as COCO's evaluation of boxes or masks does.

    Images that nobody has labelled are left out, and so are predictions on them, on images that
    the truth does not list, and of labels that it is not annotated for. A labelled image without
    predictions counts as one on which nothing was found. Detections on a crowd are neither right
    nor wrong. An object's size is its `area_px`, or its box's area where that is NaN; a detection's
    is that of its box or mask. Equal scores keep the order of the table.

    Parameters
    ----------
    truth : Dataset
        Ground truth: no row has a score.
    predictions : Dataset
        Every row has a finite score. Its `labelled` column plays no part.
    kind : str
        ``boxes`` or ``masks``; for masks every row that counts has a segmentation.
    ious : sequence of float
        IoU from which a detection finds an object, rising, in (0, 1], at most 15; by default 0.50
        to 0.95 in ten steps. `ap` and `ar_...` are means over them; `ap50` and `ap75` are NaN where
        0.50 and 0.75 are not among them. See `iou_sweep` for more.
    max_detections : int
        Detections of a label that count on one image, for all numbers but `ar_1` and `ar_10`;
        `ar_100` is the recall with so many.

    Returns
    -------
    Evaluation
        A label without truth has NaN and stays out of the means.

    Raises
    ------
    InvalidTable
        The truth holds scores, a prediction has none, the predictions were made on none of the
        labelled images, a mask cannot be read, or an option cannot be.

    Examples
    --------
    >>> image = dict(image="0" * 32, file="a.png", format="PNG", mode="RGB", width=9, height=9, n_bytes=1)
    >>> box = dict(image="0" * 32, label="dog", x1=0, y1=0, x2=4, y2=4)
    >>> truth = Dataset.of([image | {"labelled": True}], [box], labels=["dog"])
    >>> evaluate(truth, Dataset.of([image], [box | {"score": 0.9}], labels=["dog"]))
    <Evaluation: AP50 1.000, AP 1.000, 1 labels, 1 images>

    Source: COCO's detection evaluation, `pycocotools.cocoeval` 2.0 (iouType ``bbox`` and ``segm``).
    """
    sides = comparable(truth, predictions, kind=kind)
    n_labels = len(sides.labels)
    matches = match(
        sides.objects,
        sides.detections,
        n_images=sides.n_images,
        n_labels=n_labels,
        thresholds=np.asarray(ious, dtype=np.float64),
        limits=(*MAX_DETECTIONS[:2], max_detections),
        overlap=sides.overlap,
    )
    precision, recall, recall_few = averages(matches)
    ap50, ap75 = (_at(precision[0], matches.thresholds, iou) for iou in (0.5, 0.75))
    per_label = pd.DataFrame(
        {
            "label": pd.Series(sides.labels, dtype="str"),
            "ap": precision[0].mean(axis=0),
            "ap50": ap50,
            "n_truth": matches.n_truth[0],
            "n_predictions": np.bincount(sides.detections.label, minlength=n_labels),
        }
    )
    sizes = list(SIZES)[1:]
    return Evaluation(
        ap=mean_there(precision[0]),
        ap50=mean_there(ap50),
        ap75=mean_there(ap75),
        **{f"ap_{size}": mean_there(precision[i]) for i, size in enumerate(sizes, start=1)},
        **{f"ar_{n}": mean_there(recall_few[i]) for i, n in enumerate(MAX_DETECTIONS[:-1])},
        ar_100=mean_there(recall[0]),
        **{f"ar_{size}": mean_there(recall[i]) for i, size in enumerate(sizes, start=1)},
        n_images=sides.n_images,
        per_label=per_label,
        _matches=matches,
    )


def _at(values: Floats, thresholds: Floats, iou: float) -> Floats:
    """Pick one threshold of values by threshold and label; NaN if it was not evaluated."""
    step = _step(thresholds, iou)
    return np.full(values.shape[1], np.nan) if step is None else values[step]


def _step(thresholds: Floats, iou: float) -> int | None:
    """Find a threshold."""
    step = int(np.argmin(np.abs(thresholds - iou)))
    return step if math.isclose(thresholds[step], iou, abs_tol=1e-6) else None


def _or_none(value: float) -> float | None:
    """JSON knows no NaN."""
    return None if math.isnan(value) else float(value)
