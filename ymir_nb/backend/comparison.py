"""Two models on the same images: which is better, by how much, whether that is luck, and where."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import pandas as pd

from ymir_nb.backend.dataset import Dataset
from ymir_nb.backend.errors import InvalidTable
from ymir_nb.backend.marks import mark
from ymir_nb.backend.outcomes import METRICS, Outcomes, by_label
from ymir_nb.backend.pairing import Floats
from ymir_nb.backend.resampling import check_draws, draws, interval


@dataclass(frozen=True, eq=False)
class Comparison:
    """How a second model's predictions differ from a first one's.

    Parameters
    ----------
    per_label : DataFrame
        Columns label (empty for the mean of labels), metric (ap, ap50, ap75), first, second,
        difference (second - first), low, high (its interval), p_better (share of draws in which the
        second is better, equal ones half). NaN for a label without truth.
    images : DataFrame
        A row an image, the ones on which the second gains most first: image, first_missed,
        first_false, second_missed, second_false (objects missed and predictions that are wrong at
        the thresholds), first_right, second_right (nothing missed, nothing wrong), better
        (``first``, ``second`` or ``same``, by the sum of what is missed and wrong).
    labels : tuple of str
        Labels that were compared.
    left_out : tuple of str
        Labels of the truth that one of the two cannot predict.
    level, iou, min_score : float
        Share of draws inside the intervals; thresholds of `images`.
    """

    per_label: pd.DataFrame = field(repr=False)
    images: pd.DataFrame = field(repr=False)
    labels: tuple[str, ...]
    left_out: tuple[str, ...]
    level: float
    iou: float
    min_score: float

    @property
    def overall(self) -> pd.DataFrame:
        """The rows of `per_label` that are means of the labels, one a metric."""
        return self.per_label[self.per_label["label"] == ""].drop(columns="label").reset_index(drop=True)

    def verdict(self) -> str:
        """Say in a sentence which model is better by AP, if the images can tell."""
        row = self.overall.set_index("metric").loc["ap"]
        if np.isnan(row["difference"]):
            return "The truth holds no object of a label that both models know: nothing can be said."
        amount = f"AP {row['first']:.3f} and {row['second']:.3f}, {self.level:.0%} interval of the difference "
        amount += f"{row['low']:+.3f} to {row['high']:+.3f}"
        if row["low"] > 0 or row["high"] < 0:
            return f"The {'second' if row['low'] > 0 else 'first'} is better: {amount}."
        return f"These images cannot tell which is better: {amount}."

    def where(
        self, *, first: Literal["right", "wrong", ""] = "", second: Literal["right", "wrong", ""] = ""
    ) -> list[str]:
        """Give the images that each model gets right or wrong, such as ``where(first="right", second="wrong")``."""
        chosen = np.ones(len(self.images), dtype=bool)
        for name, wanted in (("first", first), ("second", second)):
            if wanted not in ("", "right", "wrong"):
                raise InvalidTable(f"{name} is {wanted!r}; it is right, wrong, or empty for either.")
            if wanted:
                chosen &= self.images[f"{name}_right"].to_numpy() == (wanted == "right")
        return sorted(self.images.loc[chosen, "image"])

    def to_frame(self) -> pd.DataFrame:
        """Give a copy of `per_label`."""
        return self.per_label.copy()

    def __repr__(self) -> str:
        """Say in one line who is better."""
        return f"<Comparison on {len(self.images)} images: {self.verdict()}>"


def compare(
    truth: Dataset,
    first: Dataset,
    second: Dataset,
    *,
    n: int = 1000,
    level: float = 0.95,
    seed: int = 0,
    iou: float = 0.5,
    min_score: float = 0.3,
) -> Comparison:
    """Hold two models' predictions on the same images against each other.

    Images are drawn with replacement, the same ones for both models, so that what makes an image
    hard for both cancels out (paired bootstrap). The labels compared are those that the truth has
    and both models know.

    Parameters
    ----------
    truth : Dataset
        Ground truth.
    first, second : Dataset
        Predictions that list the same labelled images; their `labels` are what the models know.
    n : int
        Draws, at least 1.
    level : float
        Share of draws inside the intervals, in (0, 1).
    seed : int
        Of the draws.
    iou, min_score : float
        Thresholds of what is right and wrong on an image, as in `marks.mark`.

    Returns
    -------
    Comparison

    Raises
    ------
    InvalidTable
        The two were not made on the same labelled images, know no label in common, or a table or
        number does not fit.

    Examples
    --------
    >>> image = dict(image="0" * 32, file="a.png", format="PNG", mode="RGB", width=9, height=9, n_bytes=1)
    >>> box = dict(image="0" * 32, label="dog", x1=0, y1=0, x2=4, y2=4)
    >>> truth = Dataset.of([image | {"labelled": True}], [box], labels=["dog"])
    >>> nothing = Dataset.of([image], labels=["dog"])
    >>> compare(truth, nothing, Dataset.of([image], [box | {"score": 0.9}], labels=["dog"]), n=10).verdict()
    'The second is better: AP 0.000 and 1.000, 95% interval of the difference +1.000 to +1.000.'
    """
    check_draws(n, level)
    _check_images(truth, first, second)
    known = set(first.labels) & set(second.labels)
    labels = tuple(label for label in truth.labels if label in known)
    if truth.labels and not labels:
        raise InvalidTable(
            f"the truth has {', '.join(map(repr, truth.labels))}, and the two models know none of these in common "
            f"({', '.join(map(repr, first.labels)) or 'none'}; {', '.join(map(repr, second.labels)) or 'none'}). "
            "Compare models of the same labels."
        )
    one, other = (Outcomes.of(truth, predictions, labels=labels) for predictions in (first, second))
    everything = np.ones((1, len(one.images)))
    measured = [side.ap(everything) for side in (one, other)]
    drawn = [other.ap(weights) - one.ap(weights) for weights in draws(len(one.images), n=n, seed=seed)]
    tables = []
    for metric in METRICS:
        a, b = (by_label(ap, metric)[0] for ap in measured)
        many = np.concatenate([by_label(part, metric) for part in drawn])
        low, high = (edge.clip(-1.0, 1.0) for edge in interval(b - a, many, level))
        tables.append(
            pd.DataFrame(
                {
                    "label": ["", *labels],
                    "metric": metric,
                    "first": a,
                    "second": b,
                    "difference": b - a,
                    "low": low,
                    "high": high,
                    "p_better": _share_above(many),
                }
            )
        )
    place = np.tile(np.arange(len(labels) + 1), len(METRICS))
    per_label = pd.concat(tables).iloc[np.argsort(place, kind="stable")].reset_index(drop=True)
    return Comparison(
        per_label=per_label.astype({"label": "str", "metric": "str"}),
        images=_by_image(truth, first, second, labels, iou=iou, min_score=min_score),
        labels=labels,
        left_out=tuple(label for label in truth.labels if label not in known),
        level=level,
        iou=iou,
        min_score=min_score,
    )


def _check_images(truth: Dataset, first: Dataset, second: Dataset) -> None:
    """Refuse predictions on different images: the easier ones would win."""
    labelled = truth.images.loc[truth.images["labelled"], "image"]
    seen = [set(labelled[labelled.isin(predictions.images["image"])]) for predictions in (first, second)]
    if seen[0] != seen[1]:
        raise InvalidTable(
            f"the two were not made on the same labelled images: {len(seen[0] & seen[1])} are shared, "
            f"{len(seen[0] - seen[1])} only in the first, {len(seen[1] - seen[0])} only in the second. Infer with both "
            "models on one dataset, or keep the shared images: both = set(first.images['image']) & "
            "set(second.images['image']), then ops.take(..., both) of the truth, the first and the second."
        )


def _by_image(
    truth: Dataset, first: Dataset, second: Dataset, labels: tuple[str, ...], *, iou: float, min_score: float
) -> pd.DataFrame:
    """Count what each model misses and gets wrong on each image."""
    images = sorted(truth.images.loc[truth.images["labelled"], "image"])
    frame = pd.DataFrame({"image": pd.Series(images, dtype="str")})
    for name, predictions in (("first", first), ("second", second)):
        marks = mark(truth, predictions, iou=iou, min_score=min_score, background=min(0.1, iou)).frame
        marks = marks[marks["label"].isin(labels)]
        for column, wrong in (("missed", "missed"), ("false", "false_positive")):
            counts = marks.loc[marks["mark"] == wrong, "image"].value_counts()
            frame[f"{name}_{column}"] = frame["image"].map(counts).fillna(0).astype(np.int64)
    n_wrong = {name: frame[f"{name}_missed"] + frame[f"{name}_false"] for name in ("first", "second")}
    for name, n in n_wrong.items():
        frame[f"{name}_right"] = n == 0
    gain = (n_wrong["first"] - n_wrong["second"]).to_numpy()
    frame["better"] = pd.Series(np.select([gain > 0, gain < 0], ["second", "first"], "same"), dtype="str")
    return frame.iloc[np.argsort(-gain, kind="stable")].reset_index(drop=True)


def _share_above(values: Floats) -> Floats:
    """Share of each column above 0, equal ones half; NaN where a column has nothing."""
    there = ~np.isnan(values)
    n = there.sum(axis=0)
    above = (values > 0).sum(axis=0) + 0.5 * (values == 0).sum(axis=0)
    share: Floats = np.divide(above, n, out=np.full(values.shape[1], np.nan), where=n > 0)
    return share
