"""Labels that are probably wrong, ranked for an annotator: overlooked, badly placed, swapped.

A model's predictions are held against the labels, best those of a model that did not learn from these
images. `objectlab` has the scores of boxes. An image's score of each kind is the softmin of its boxes' scores
at temperature 0.1, and its score the geometric mean of the three. A box is an issue where its score is at
most a fifth of its label's AP: the better the model knows a label, the more it is believed.

Source: ObjectLab (Tkachenko, Thyagarajan, Mueller, 2023) as cleanlab 2.9 has it; AP is COCO's here, of
another matching there.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from ymir_nb.backend.dataset import Dataset
from ymir_nb.backend.errors import InvalidTable
from ymir_nb.backend.objectlab import Scores, score, softmin
from ymir_nb.backend.outcomes import Outcomes, by_label
from ymir_nb.backend.pairing import Floats, Ints, Side, Sides, overlap, sides

KINDS = ("overlooked", "badly_placed", "swapped")
"""What can be wrong with a label."""

_ISSUE_SHARE = 0.8 * 0.25
_TINY = 1e-100

_WHY = {
    "overlooked": "the model is sure of {!r} here (score {:.2f}), and no label touches it",
    "badly_placed": "the model puts this {!r} elsewhere (score {:.2f}, IoU {:.2f})",
    "swapped": "the model is sure that this is {!r} (score {:.2f}, IoU {:.2f})",
    "conflict": "a box labelled {!r} lies in the same place (IoU {:.2f})",
}


@dataclass(frozen=True, eq=False)
class Review:
    """Scores of all labels, and the queue of what to look at.

    Parameters
    ----------
    boxes : DataFrame
        A row a score, the most suspicious first: image, kind, score, issue, label (as it stands;
        empty for an overlooked object), x1, y1, x2, y2 (as it stands), suggestion (the label that the
        model gives, or the other one where two lie in one place), new_x1, new_y1, new_x2, new_y2 and
        confidence (the model's box and its score, NaN without), why, truth_row and prediction_row (in
        the annotations of each side, -1 without). Boxes with
        nothing against them are not listed.
    images : DataFrame
        A row an image, the most suspicious first: image, score, overlooked, badly_placed, swapped
        (1 where nothing speaks against it), n_issues.
    sure, likely : float
        The score thresholds.
    surest : float
        The highest score of a prediction; NaN without any.
    """

    boxes: pd.DataFrame = field(repr=False)
    images: pd.DataFrame = field(repr=False)
    sure: float
    likely: float
    surest: float

    def queue(self, n: int | None = None, *, kind: str = "", issues: bool = True) -> pd.DataFrame:
        """Give what an annotator should look at, the most suspicious first.

        Parameters
        ----------
        n : int, optional
            At most so many rows.
        kind : str
            One of `KINDS`; by default all.
        issues : bool
            Only boxes that are suspicious enough to be an issue, or all that have a score under 1.

        Returns
        -------
        DataFrame
            The columns of `boxes`.

        Raises
        ------
        InvalidTable
            There is no such kind.
        """
        if kind not in ("", *KINDS):
            raise InvalidTable(f"kind is {kind!r}; it is one of {', '.join(KINDS)}.")
        chosen = self.boxes["issue"] if issues else pd.Series(True, index=self.boxes.index)
        if kind:
            chosen = chosen & (self.boxes["kind"] == kind)
        return self.boxes[chosen].head(n if n is not None else len(self.boxes)).reset_index(drop=True)

    def to_frame(self) -> pd.DataFrame:
        """Give the queue of all issues."""
        return self.queue()

    def __repr__(self) -> str:
        """Say in one line what was found."""
        counts = self.queue()["kind"].value_counts()
        found = ", ".join(f"{counts.get(kind, 0)} {kind.replace('_', ' ')}" for kind in KINDS)
        hint = "" if self.surest >= self.sure else f"; no prediction reaches sure={self.sure:g}, the surest has "
        hint += f"{self.surest:.2f}: lower it" if hint else ""
        return f"<Review of {len(self.images)} images: {found}{hint}>"


def review(truth: Dataset, predictions: Dataset, *, sure: float = 0.95, likely: float = 0.5) -> Review:
    """Rank the labels of a dataset by how strongly a model's predictions speak against them.

    Parameters
    ----------
    truth : Dataset
        The labels to look through. Crowds are not reviewed; an object on one is not overlooked.
    predictions : Dataset
        Every row has a finite score. Images that they do not list are reviewed as if nothing was found.
    sure : float
        Score in [0, 1] from which a prediction speaks for an overlooked object and above which for a
        swapped label. A model that is seldom that sure needs a lower one.
    likely : float
        Score above which a prediction speaks for another place.

    Returns
    -------
    Review

    Raises
    ------
    InvalidTable
        A threshold lies outside [0, 1], or the tables cannot be compared, as in `metrics.evaluate`.

    Examples
    --------
    >>> image = dict(image="0" * 32, file="a.png", format="PNG", mode="RGB", width=9, height=9, n_bytes=1)
    >>> box = dict(image="0" * 32, x1=0, y1=0, x2=4, y2=4)
    >>> truth = Dataset.of([image | {"labelled": True}], [box | {"label": "dog"}], labels=["dog", "cat"])
    >>> found = Dataset.of([image], [box | {"label": "cat", "score": 0.99}], labels=["dog", "cat"])
    >>> review(truth, found).boxes[["kind", "label", "suggestion"]].values.tolist()
    [['swapped', 'dog', 'cat']]
    """
    if not (0 <= sure <= 1 and 0 <= likely <= 1):
        raise InvalidTable(f"sure and likely are scores in [0, 1], not {sure:g} and {likely:g}.")
    compared = sides(truth, predictions)
    scores = score(compared, sure=sure, likely=likely)
    outcomes = Outcomes.of(truth, predictions)
    ap = np.nan_to_num(by_label(outcomes.ap(np.ones((1, len(outcomes.images)))), "ap")[0, 1:])
    boxes = pd.concat([_rows(compared, scores, kind, ap) for kind in KINDS], ignore_index=True)
    order = ["score", "image", "truth_row", "prediction_row", "kind"]
    boxes = boxes.sort_values(order, kind="stable", ignore_index=True)
    surest = float(compared.found.score.max(initial=-np.inf)) if len(compared.found) else np.nan
    return Review(boxes, _images(compared, scores, boxes), sure=sure, likely=likely, surest=surest)


def _rows(compared: Sides, scores: Scores, kind: str, ap: Floats) -> pd.DataFrame:
    """Make the rows of one kind of `Review.boxes`."""
    real, found = compared.truth, compared.found
    values, partner = getattr(scores, kind)
    listed = np.flatnonzero(values < 1)
    if kind == "swapped":
        # A sure prediction far off takes a trifle from 1, and is nothing against the box.
        touched = _ious(compared, partner[listed], listed) > 0
        listed = listed[touched | (scores.conflict[1][listed] >= 0)]
    other = partner[listed]
    if kind == "overlooked":
        own, model, label = np.full(len(listed), -1), listed, found.label[listed]
    else:
        own, model, label = listed, other, real.label[listed]
    suggested = np.append(found.label, len(compared.labels))[model]
    if kind == "swapped":
        # Two labels in one place: the other label is the suggestion, whatever the model says.
        rival = scores.conflict[1][listed]
        model = np.where(rival >= 0, -1, model)
        suggested = np.where(rival >= 0, np.append(real.label, 0)[rival], suggested)
    names = np.array([*compared.labels, ""], dtype=object)
    images = (found if kind == "overlooked" else real).image[listed]
    frame = pd.DataFrame(
        {
            "image": compared.images[images] if len(listed) else np.empty(0, dtype=object),
            "kind": kind,
            "score": values[listed],
            "issue": values[listed] <= _ISSUE_SHARE * np.append(ap, 0.0)[label],
            "label": names[np.where(own < 0, len(compared.labels), label)],
            **_corners(real, own, ""),
            "suggestion": names[suggested],
            **_corners(found, model, "new_"),
            "confidence": np.append(found.score, np.nan)[model],
            "truth_row": np.append(real.row, -1)[own],
            "prediction_row": np.append(found.row, -1)[model],
        }
    )
    frame.insert(frame.columns.get_loc("truth_row"), "why", _reasons(compared, scores, kind, listed, frame))
    return frame.astype(dict.fromkeys(("image", "kind", "label", "suggestion", "why"), "str"))


def _corners(side: Side, rows: Ints, prefix: str) -> dict[str, Floats]:
    """Give corners as columns, NaN where the row is -1."""
    padded = np.hstack([side.corners, np.full((4, 1), np.nan)])
    return {f"{prefix}{name}": padded[axis, rows] for axis, name in enumerate(("x1", "y1", "x2", "y2"))}


def _ious(compared: Sides, found: Ints, truth: Ints) -> Floats:
    """Give the IoU of predictions, -1 for none, with labelled boxes."""
    there = found >= 0
    iou = np.zeros(len(truth))
    iou[there] = overlap(compared.truth, compared.found, found[there], truth[there])
    return iou


def _reasons(compared: Sides, scores: Scores, kind: str, listed: Ints, frame: pd.DataFrame) -> list[str]:
    """Say in words what speaks against each row."""
    if kind == "overlooked":
        pairs = zip(frame["suggestion"], frame["confidence"], strict=True)
        return [_WHY[kind].format(label, confidence) for label, confidence in pairs]
    iou = _ious(compared, getattr(scores, kind)[1][listed], listed)
    reasons = [_WHY[kind].format(*each) for each in zip(frame["suggestion"], frame["confidence"], iou, strict=True)]
    if kind == "swapped":
        shared, rival = (values[listed] for values in scores.conflict)
        for place in np.flatnonzero(rival >= 0):
            reasons[place] = _WHY["conflict"].format(frame["suggestion"].iloc[place], shared[place])
    return reasons


def _images(compared: Sides, scores: Scores, boxes: pd.DataFrame) -> pd.DataFrame:
    """Pool the scores of each image."""
    n = len(compared.images)
    pooled = {
        kind: softmin((compared.found if kind == "overlooked" else compared.truth).image, getattr(scores, kind)[0], n=n)
        for kind in KINDS
    }
    together = np.exp(np.mean([np.log(_TINY + values) for values in pooled.values()], axis=0)) if n else np.empty(0)
    frame = pd.DataFrame({"image": pd.Series(compared.images, dtype="str"), "score": together, **pooled})
    issues = boxes.loc[boxes["issue"], "image"].value_counts()
    frame["n_issues"] = frame["image"].map(issues).fillna(0).astype(np.int64)
    return frame.sort_values(["score", "image"], kind="stable", ignore_index=True)
