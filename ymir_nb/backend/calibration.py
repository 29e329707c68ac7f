"""Whether scores mean what they say: of detections with a score of 0.8, eight in ten should be right."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from ymir_nb.backend.dataset import Dataset
from ymir_nb.backend.errors import InvalidTable
from ymir_nb.backend.marks import mark

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Calibration:
    """How far scores lie from the share of detections that are right.

    Parameters
    ----------
    ece : float
        Expected calibration error over all detections, in [0, 1]: the mean distance of a bin's mean
        score from its precision, weighted by its detections. NaN without detections.
    bins : DataFrame
        The reliability table: label (empty for all labels together), low, high (scores of the bin,
        the upper one exclusive but in the last), n, score (mean), precision (share that is right),
        gap (score - precision: above 0 the model is too sure); NaN in empty bins.
    per_label : DataFrame
        Columns label, n, precision, score (mean), ece, largest_gap.
    iou : float
        Overlap from which a detection is right.
    """

    ece: float
    bins: pd.DataFrame = field(repr=False)
    per_label: pd.DataFrame = field(repr=False)
    iou: float

    def to_frame(self) -> pd.DataFrame:
        """Give the reliability table of all labels together."""
        return self.bins[self.bins["label"] == ""].drop(columns="label").reset_index(drop=True)

    def __repr__(self) -> str:
        """Say in one line how far off the scores are."""
        return f"<Calibration at IoU {self.iou:g}: ECE {self.ece:.3f} over {int(self.per_label['n'].sum())} detections>"


def calibrate(truth: Dataset, predictions: Dataset, *, iou: float = 0.5, n_bins: int = 10) -> Calibration:
    """Hold the scores of detections against how often they are right.

    A detection is right where `marks.mark` calls it a true positive with no score threshold;
    ignored ones are left out.

    Parameters
    ----------
    truth : Dataset
        Ground truth.
    predictions : Dataset
        Scores in [0, 1].
    iou : float
        Overlap in (0, 1] from which a detection is right.
    n_bins : int
        Bins of equal width between 0 and 1, at least 1.

    Returns
    -------
    Calibration

    Raises
    ------
    InvalidTable
        A score lies outside [0, 1], there is no bin, or the tables cannot be compared.

    Examples
    --------
    >>> calibrate(Dataset.of(labels=["dog"]), Dataset.of()).per_label["n"].tolist()
    [0]

    Source: expected calibration error as in Guo et al., ICML 2017; precision in the place of accuracy.
    """
    if n_bins < 1:
        raise InvalidTable(f"n_bins is {n_bins}; at least one bin is needed, ten are usual.")
    marks = mark(truth, predictions, iou=iou, min_score=0.0, background=min(0.1, iou))
    given = predictions.annotations["score"].to_numpy()
    outside = int(((given < 0) | (given > 1)).sum())
    if outside:
        raise InvalidTable(
            f"predictions: {outside} scores lie outside [0, 1], so they are no probabilities that could be calibrated. "
            "Rescale them first."
        )
    counted = marks.where(side="prediction")
    counted = counted[counted["mark"] != "ignored"]
    score, right = counted["score"].to_numpy(), (counted["mark"] == "true_positive").to_numpy()
    label = pd.Index(marks.labels, dtype="object").get_indexer(counted["label"].to_numpy(dtype=object))
    place = np.minimum((score * n_bins).astype(np.int64), n_bins - 1)
    cell, size = label * n_bins + place, (len(marks.labels), n_bins)
    n = np.bincount(cell, minlength=size[0] * n_bins).reshape(size)
    n_right = np.bincount(cell, weights=right, minlength=size[0] * n_bins).reshape(size)
    total = np.bincount(cell, weights=score, minlength=size[0] * n_bins).reshape(size)
    sums = [np.vstack([table.sum(axis=0), table]) for table in (n, n_right, total)]
    bins = pd.concat(
        [_table(name, *(table[i] for table in sums)) for i, name in enumerate(("", *marks.labels))], ignore_index=True
    )
    per_label = pd.DataFrame(
        [_summary(name, *(table[i + 1] for table in sums)) for i, name in enumerate(marks.labels)],
        columns=["label", "n", "precision", "score", "ece", "largest_gap"],
    ).astype({"label": "str"})
    return Calibration(float(_summary("", *(table[0] for table in sums))["ece"]), bins, per_label, iou=iou)


def _table(label: str, n: Floats, n_right: Floats, total: Floats) -> pd.DataFrame:
    """Make one label's reliability table."""
    edges = np.arange(len(n) + 1) / len(n)
    score, precision = _over(total, n), _over(n_right, n)
    return pd.DataFrame(
        {
            "label": pd.Series([label] * len(n), dtype="str"),
            "low": edges[:-1],
            "high": edges[1:],
            "n": n.astype(np.int64),
            "score": score,
            "precision": precision,
            "gap": score - precision,
        }
    )


def _summary(label: str, n: Floats, n_right: Floats, total: Floats) -> dict[str, Any]:
    """Put one label's bins together."""
    gaps, whole = np.abs(_over(total, n) - _over(n_right, n)), n.sum()
    filled = n > 0
    return {
        "label": label,
        "n": int(whole),
        "precision": n_right.sum() / whole if whole else np.nan,
        "score": total.sum() / whole if whole else np.nan,
        "ece": float((gaps[filled] * n[filled]).sum() / whole) if whole else np.nan,
        "largest_gap": float(gaps[filled].max()) if whole else np.nan,
    }


def _over(values: Floats, n: Floats) -> Floats:
    """Divide, with NaN where there is nothing."""
    quotient: Floats = np.divide(values, n, out=np.full(len(n), np.nan), where=n > 0)
    return quotient
