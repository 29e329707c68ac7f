"""Where to set the score threshold of each label, and what it gives.

A threshold keeps the detections whose score is at or above it; only scores that occur are thresholds.
A label without truth has NaN everywhere.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from ymir_nb.backend.errors import InvalidTable
from ymir_nb.backend.metrics import Evaluation

Floats = npt.NDArray[np.float64]

PR_RANGE = (0.8, 0.95)
"""Precisions and recalls over which YMIR's diagnosis averages by default."""

_STEPS_A_UNIT = 100


def best_thresholds(evaluation: Evaluation, *, iou: float = 0.5) -> pd.DataFrame:
    """Find for each label the threshold of the highest F1, the harmonic mean of precision and recall.

    Parameters
    ----------
    evaluation : Evaluation
        From `metrics.evaluate`.
    iou : float
        One of 0.50, 0.55 ... 0.95.

    Returns
    -------
    DataFrame
        Columns label, threshold, f1, precision, recall; a row a label. Of thresholds that are
        alike, the highest; where no detection is right, threshold and precision are NaN, the rest 0.

    Raises
    ------
    InvalidTable
        `iou` was not evaluated.

    Examples
    --------
    >>> from ymir_nb.backend.dataset import Dataset
    >>> from ymir_nb.backend.metrics import evaluate
    >>> best_thresholds(evaluate(Dataset.of(labels=["dog"]), Dataset.of())).columns.tolist()
    ['label', 'threshold', 'f1', 'precision', 'recall']
    """
    rows = []
    for curve in _curves(evaluation, iou):
        f1 = 2 * curve.precision * curve.recall / np.maximum(curve.precision + curve.recall, np.spacing(1.0))
        rows.append(curve.point(f1, f1 > 0, f1=float(f1.max(initial=0.0)), recall=0.0))
    return pd.DataFrame(rows, columns=["label", "threshold", "f1", "precision", "recall"])


def at_precision(evaluation: Evaluation, precision: float, *, iou: float = 0.5) -> pd.DataFrame:
    """Find for each label the threshold that gives the highest recall at no less than a precision.

    Parameters
    ----------
    evaluation : Evaluation
        From `metrics.evaluate`.
    precision : float
        The least precision, in (0, 1].
    iou : float
        One of 0.50, 0.55 ... 0.95.

    Returns
    -------
    DataFrame
        Columns label, threshold, precision, recall, the last two as they are at the threshold.
        Where the precision is never reached, recall is 0, threshold and precision are NaN.

    Raises
    ------
    InvalidTable
        `precision` lies outside (0, 1], or `iou` was not evaluated.
    """
    _check_share(precision, "precision")
    rows = [curve.point(curve.recall, curve.precision >= precision, recall=0.0) for curve in _curves(evaluation, iou)]
    return pd.DataFrame(rows, columns=["label", "threshold", "precision", "recall"])


def at_recall(evaluation: Evaluation, recall: float, *, iou: float = 0.5) -> pd.DataFrame:
    """Find for each label the threshold that gives the highest precision at no less than a recall.

    Parameters
    ----------
    evaluation : Evaluation
        From `metrics.evaluate`.
    recall : float
        The least recall, in (0, 1].
    iou : float
        One of 0.50, 0.55 ... 0.95.

    Returns
    -------
    DataFrame
        Columns label, threshold, precision, recall, the last two as they are at the threshold.
        Where the recall is never reached, precision is 0, threshold and recall are NaN.

    Raises
    ------
    InvalidTable
        `recall` lies outside (0, 1], or `iou` was not evaluated.
    """
    _check_share(recall, "recall")
    rows = [curve.point(curve.precision, curve.recall >= recall, precision=0.0) for curve in _curves(evaluation, iou)]
    return pd.DataFrame(rows, columns=["label", "threshold", "precision", "recall"])


def over_range(
    evaluation: Evaluation, *, low: float = PR_RANGE[0], high: float = PR_RANGE[1], iou: float = 0.5
) -> pd.DataFrame:
    """Average recall over a range of precisions, and precision over the same range of recalls.

    Parameters
    ----------
    evaluation : Evaluation
        From `metrics.evaluate`.
    low, high : float
        Ends of the range, in (0, 1], both included; it is walked in steps of 0.01.
    iou : float
        One of 0.50, 0.55 ... 0.95.

    Returns
    -------
    DataFrame
        Columns label, recall_at_precision, precision_at_recall; what is never reached counts as 0.

    Raises
    ------
    InvalidTable
        The range lies outside (0, 1] or is empty, or `iou` was not evaluated.

    Source: YMIR 2.5.0, model diagnosis, whose range is 0.8 to 0.95.
    """
    _check_share(low, "low")
    _check_share(high, "high")
    if high < low:
        raise InvalidTable(f"the range ends at {high:g}, before it begins at {low:g}. Swap low and high.")
    levels = low + np.arange(round((high - low) * _STEPS_A_UNIT) + 1) / _STEPS_A_UNIT
    rows = [
        {
            "label": curve.label,
            "recall_at_precision": curve.highest(curve.recall, curve.precision, levels),
            "precision_at_recall": curve.highest(curve.precision, curve.recall, levels),
        }
        for curve in _curves(evaluation, iou)
    ]
    return pd.DataFrame(rows, columns=["label", "recall_at_precision", "precision_at_recall"])


@dataclass(frozen=True)
class _Curve:
    """Precision and recall of one label at each score that occurs, falling."""

    label: str
    has_truth: bool
    score: Floats
    precision: Floats
    recall: Floats

    def point(self, wanted: Floats, allowed: npt.NDArray[np.bool_], **otherwise: float) -> dict[str, object]:
        """Give the allowed point where `wanted` is highest, the surest among equals."""
        nothing = {"threshold": np.nan, "precision": np.nan, "recall": np.nan}
        if not self.has_truth:
            return {"label": self.label, **nothing, **dict.fromkeys(otherwise, np.nan)}
        places = np.flatnonzero(allowed)
        if not len(places):
            return {"label": self.label, **nothing, **otherwise}
        place = places[np.argmax(wanted[places])]
        read = {"threshold": self.score[place], "precision": self.precision[place], "recall": self.recall[place]}
        return {"label": self.label, **otherwise, **read}

    def highest(self, wanted: Floats, held: Floats, levels: Floats) -> float:
        """Average over the levels the highest `wanted` where `held` is no lower than the level."""
        if not self.has_truth:
            return np.nan
        reached = held[None, :] >= levels[:, None] - 1e-12
        return float(np.where(reached, wanted[None, :], 0.0).max(axis=1, initial=0.0).mean())


def _curves(evaluation: Evaluation, iou: float) -> list[_Curve]:
    """Read the curve of every label at the last detection of each score, for a threshold takes all of them."""
    curves = []
    for label, n_truth in zip(evaluation.per_label["label"], evaluation.per_label["n_truth"], strict=True):
        curve = evaluation.pr_curve(label, iou)
        score = curve["score"].to_numpy()
        last = np.append(score[1:] != score[:-1], True) if len(score) else np.empty(0, dtype=np.bool_)
        precision, recall = (curve[name].to_numpy()[last] for name in ("precision", "recall"))
        curves.append(_Curve(label, bool(n_truth > 0), score[last], precision, recall))
    return curves


def _check_share(value: float, name: str) -> None:
    if not 0 < value <= 1:
        raise InvalidTable(f"{name} is {value:g}; it lies in (0, 1], such as {name}=0.9.")
