"""What is wrong with a model's predictions, and where: everything on top of the numbers, in one value."""

from __future__ import annotations

import html
import json
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from ymir_nb.backend.calibration import Calibration, calibrate
from ymir_nb.backend.confusion import Confusion, confuse
from ymir_nb.backend.dataset import Dataset
from ymir_nb.backend.marks import PREDICTION_CAUSES, Marks, mark
from ymir_nb.backend.metrics import Evaluation, evaluate
from ymir_nb.backend.operating_points import best_thresholds, over_range


@dataclass(frozen=True, eq=False)
class Diagnosis:
    """A model's predictions, looked at from all sides.

    Parameters
    ----------
    evaluation : Evaluation
        AP and AR.
    marks : Marks
        Every box with its mark.
    confusion : Confusion
        Labels taken for each other, with background.
    calibration : Calibration
        Scores against the share that is right.
    thresholds : DataFrame
        The best threshold of each label, see `operating_points.best_thresholds`.
    ranges : DataFrame
        Recall at precisions and precision at recalls of 0.80 to 0.95, see `operating_points.over_range`.
    """

    evaluation: Evaluation
    marks: Marks
    confusion: Confusion
    calibration: Calibration
    thresholds: pd.DataFrame = field(repr=False)
    ranges: pd.DataFrame = field(repr=False)

    def to_frame(self) -> pd.DataFrame:
        """Put each label's numbers side by side.

        Returns
        -------
        DataFrame
            Columns label, ap, ap50, n_truth, found, missed, true_positive, false_positive and its
            causes (of `marks`), threshold, f1 (the best), ece.
        """
        frame = self.evaluation.per_label[["label", "ap", "ap50"]]
        counts = self.marks.counts().drop(columns="n_predictions")
        for other in (
            counts,
            self.thresholds[["label", "threshold", "f1"]],
            self.calibration.per_label[["label", "ece"]],
        ):
            frame = frame.merge(other, on="label", how="left", validate="one_to_one")
        return frame

    def findings(self) -> list[str]:
        """Say in sentences what costs most: causes of false positives, labels mixed up, scores that mislead."""
        counts = self.marks.counts()
        said = []
        n_wrong, n_missed = int(counts["false_positive"].sum()), int(counts["missed"].sum())
        if n_missed:
            said.append(f"{n_missed:,} of {int(counts['n_truth'].sum()):,} objects are missed.")
        if n_wrong:
            causes = counts[list(PREDICTION_CAUSES)].sum().sort_values(ascending=False, kind="stable")
            named = ", ".join(f"{n:,} {cause.replace('_', ' ')}" for cause, n in causes.items() if n)
            said.append(f"{n_wrong:,} of {int(counts['n_predictions'].sum()):,} predictions are wrong: {named}.")
        mixed = self.confusion.mixed_up(3)
        if len(mixed):
            rows = ", ".join(f"{row.truth!r} for {row.predicted!r} ({row.n:,})" for row in mixed.itertuples())
            said.append(f"Labels taken for another, most often: {rows} (truth first).")
        whole = self.calibration.to_frame()
        off = float((whole["gap"] * whole["n"]).sum() / max(whole["n"].sum(), 1))
        if self.calibration.ece >= 0.1:
            way = "too high" if off > 0 else "too low"
            said.append(f"Scores are {way} by {self.calibration.ece:.2f} on average: read them as ranks.")
        return said

    def to_dict(self) -> dict[str, Any]:
        """Give what JSON can say: the evaluation, each label's numbers, findings, thresholds of the marks."""
        return {
            **self.evaluation.to_dict(),
            "iou": self.marks.iou,
            "min_score": self.marks.min_score,
            "ece": None if pd.isna(self.calibration.ece) else self.calibration.ece,
            "labels": json.loads(self.to_frame().to_json(orient="records")),
            "confusion": {
                "labels": list(self.confusion.labels),
                "matrix": self.confusion.matrix.tolist(),
            },
            "findings": self.findings(),
        }

    def __repr__(self) -> str:
        """Say in one line how it stands."""
        return f"<Diagnosis: AP50 {self.evaluation.ap50:.3f}, {self.marks!r}, ECE {self.calibration.ece:.3f}>"

    def _repr_html_(self) -> str:
        """Show findings and each label's numbers in a notebook."""
        said = "".join(f"<li>{html.escape(sentence)}</li>" for sentence in self.findings())
        table = self.to_frame().to_html(index=False, escape=True, border=0, float_format="%.3f", na_rep="-")
        return f"<p>{html.escape(repr(self))}</p><ul>{said}</ul>{table}"


def diagnose(truth: Dataset, predictions: Dataset, *, iou: float = 0.5, min_score: float = 0.3) -> Diagnosis:
    """Look at predictions from all sides.

    Intervals (`resampling.intervals`), slices (`slices.slice_by`), the sweep over IoU (`iou_sweep.sweep`)
    and label review (`label_review.review`) are asked for on their own.

    Parameters
    ----------
    truth : Dataset
        Ground truth.
    predictions : Dataset
        Scores in [0, 1].
    iou : float
        Overlap from which a prediction is right: 0.50, 0.55 ... 0.95.
    min_score : float
        Predictions below it play no part in marks and confusion. YMIR's diagnosis begins at 0.3.

    Returns
    -------
    Diagnosis

    Raises
    ------
    InvalidTable
        A threshold does not fit, a score lies outside [0, 1], or the tables cannot be compared.

    Examples
    --------
    >>> image = dict(image="0" * 32, file="a.png", format="PNG", mode="RGB", width=9, height=9, n_bytes=1)
    >>> box = dict(image="0" * 32, label="dog", x1=0, y1=0, x2=4, y2=4)
    >>> truth = Dataset.of([image | {"labelled": True}], [box], labels=["dog"])
    >>> diagnose(truth, Dataset.of([image], labels=["dog"])).findings()
    ['1 of 1 objects are missed.']
    """
    evaluation = evaluate(truth, predictions)
    return Diagnosis(
        evaluation=evaluation,
        marks=mark(truth, predictions, iou=iou, min_score=min_score, background=min(0.1, iou)),
        confusion=confuse(truth, predictions, iou=iou, min_score=min_score),
        calibration=calibrate(truth, predictions, iou=iou),
        thresholds=best_thresholds(evaluation, iou=iou),
        ranges=over_range(evaluation, iou=iou),
    )
