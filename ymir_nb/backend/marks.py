"""Every box marked: found rightly, found wrongly and why, or missed and why.

The marks are those of one IoU threshold and one score threshold. A prediction is, in this order:

===================== ============================================================================
ignored               ``not_compared``: its image is not labelled, its label not annotated, or it is
                      inverted; ``low_score``; or it takes none and lies by `iou` on a ``crowd``
true_positive         it takes an object: predictions of a label choose on each image, the surest
                      first, the free object of that label that they overlap most, from `iou` on
false_positive        it takes none; its cause is the first that holds:
  duplicate           it overlaps an object of its label by `iou` or more, which a surer one took
  wrong_label         it overlaps an object of another label by `iou` or more
  poorly_placed       it overlaps an object of its label by `background` or more
  wrong_label_and_place  it overlaps an object of another label by `background` or more
  background          none of these
===================== ============================================================================

A true object is ignored where it is a crowd or inverted, found where a prediction took it, and else missed:
``merged`` (a prediction of its label overlaps it by `iou` or more, and took another object),
``wrong_label``, ``poorly_placed``, ``wrong_label_and_place`` as above, or ``unseen``.

YMIR's marks are the same by other names: TP, FP, MTP (found), FN (missed) and IGNORED.

Source: the six errors of TIDE (Bolya et al., ECCV 2020) with its thresholds 0.5 and 0.1; its "both" is
``wrong_label_and_place``. Where several hold TIDE names a poor place before a wrong label, and both
before a duplicate; here the larger overlap is named first.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from ymir_nb.backend.dataset import Dataset
from ymir_nb.backend.errors import InvalidTable, LabelNotFound
from ymir_nb.backend.pairing import Bools, Floats, Ints, Pairs, Sides, assign, best, overlapping, sides

MARKS = ("true_positive", "false_positive", "found", "missed", "ignored")
"""What a box can be."""

PREDICTION_CAUSES = ("duplicate", "wrong_label", "poorly_placed", "wrong_label_and_place", "background")
"""Why a prediction is a false positive, in the order in which they are tried."""

TRUTH_CAUSES = ("merged", "wrong_label", "poorly_placed", "wrong_label_and_place", "unseen")
"""Why an object is missed, in the order in which they are tried."""

IGNORED_CAUSES = ("not_compared", "low_score", "crowd")
"""Why a box is neither right nor wrong."""

_CAUSES = ("", *dict.fromkeys((*PREDICTION_CAUSES, *TRUTH_CAUSES, *IGNORED_CAUSES)))
_SIDES = ("prediction", "truth")


@dataclass(frozen=True, eq=False)
class Marks:
    """The marks of all boxes of a truth and of predictions.

    Parameters
    ----------
    frame : DataFrame
        A row a box, predictions first, each side in the order of its annotations: side
        (``prediction`` or ``truth``), row (in that side's annotations), image, label, score (NaN
        for truth), mark, cause (empty where it needs none), iou (with its partner, 0 without),
        partner (row in the other side's annotations, -1 without).
    labels : tuple of str
        Labels that were compared.
    iou, background, min_score : float
        The thresholds.
    """

    frame: pd.DataFrame = field(repr=False)
    labels: tuple[str, ...]
    iou: float
    background: float
    min_score: float

    def where(self, *, mark: str = "", cause: str = "", label: str = "", side: str = "") -> pd.DataFrame:
        """Give the rows that meet every condition; an empty text asks for nothing.

        Raises
        ------
        InvalidTable
            There is no such mark, cause or side.
        LabelNotFound
            The label was not compared.
        """
        rows = np.ones(len(self.frame), dtype=bool)
        for name, value, known in (("mark", mark, MARKS), ("cause", cause, _CAUSES), ("side", side, _SIDES)):
            if value not in ("", *known):
                raise InvalidTable(f"{name} is {value!r}; it is one of {', '.join(filter(None, known))}.")
            if value:
                rows &= (self.frame[name] == value).to_numpy()
        if label and label not in self.labels:
            raise LabelNotFound(
                f"label {label!r} was not compared; compared were {', '.join(self.labels) or 'none'}. Choose one."
            )
        if label:
            rows &= (self.frame["label"] == label).to_numpy()
        return self.frame[rows].reset_index(drop=True)

    def images(self, *, mark: str = "", cause: str = "", label: str = "", side: str = "") -> list[str]:
        """Give the images that have such a box, sorted: ``ops.take(dataset, marks.images(mark="missed"))``."""
        return sorted(self.where(mark=mark, cause=cause, label=label, side=side)["image"].unique())

    def counts(self) -> pd.DataFrame:
        """Count the marks of each label.

        Returns
        -------
        DataFrame
            A row a label that was compared: label, n_truth (crowds left out) = found + missed,
            n_predictions (ignored ones left out) = true_positive + false_positive, and every cause
            of a false positive; the causes add up to false_positive.
        """
        frame = self.frame[self.frame["mark"] != "ignored"]
        marks = pd.crosstab(frame["label"], frame["mark"]).reindex(index=self.labels, columns=MARKS[:4], fill_value=0)
        wrong = frame[frame["mark"] == "false_positive"]
        causes = pd.crosstab(wrong["label"], wrong["cause"])
        causes = causes.reindex(index=self.labels, columns=PREDICTION_CAUSES, fill_value=0)
        n_truth, n_predictions = marks["found"] + marks["missed"], marks["true_positive"] + marks["false_positive"]
        columns: dict[str, Any] = {"label": pd.Series(self.labels, dtype="str")}
        columns |= {"n_truth": n_truth.to_numpy(), "n_predictions": n_predictions.to_numpy()}
        columns |= {name: table[name].to_numpy() for table in (marks, causes) for name in table}
        return pd.DataFrame(columns)

    def to_frame(self) -> pd.DataFrame:
        """Give a copy of `frame`."""
        return self.frame.copy()

    def __repr__(self) -> str:
        """Say in one line what was right and wrong."""
        n = self.frame["mark"].value_counts()
        return (
            f"<Marks at IoU {self.iou:g}, score {self.min_score:g}: {n.get('true_positive', 0)} true positives, "
            f"{n.get('false_positive', 0)} false positives, {n.get('missed', 0)} missed>"
        )


def mark(
    truth: Dataset, predictions: Dataset, *, iou: float = 0.5, min_score: float = 0.3, background: float = 0.1
) -> Marks:
    """Mark every box of a truth and of predictions; the module says how.

    Parameters
    ----------
    truth : Dataset
        Ground truth.
    predictions : Dataset
        Every row has a finite score.
    iou : float
        Overlap in (0, 1] from which a prediction finds an object.
    min_score : float
        Predictions below it are ignored.
    background : float
        Overlap in (0, iou] under which a prediction lies on background.

    Returns
    -------
    Marks
        Where no label has more than a hundred predictions on an image, the true positives are
        those of COCO's evaluation; COCO forgets the others, here they are marked too.

    Raises
    ------
    InvalidTable
        A threshold lies out of its range, or the tables cannot be compared, as in `metrics.evaluate`.

    Examples
    --------
    >>> image = dict(image="0" * 32, file="a.png", format="PNG", mode="RGB", width=9, height=9, n_bytes=1)
    >>> box = dict(image="0" * 32, label="dog", x1=0, y1=0, x2=4, y2=4)
    >>> truth = Dataset.of([image | {"labelled": True}], [box], labels=["dog"])
    >>> found = Dataset.of([image], [box | {"score": 0.9}, box | {"score": 0.8}], labels=["dog"])
    >>> mark(truth, found).frame[["side", "mark", "cause"]].values.tolist()
    [['prediction', 'false_positive', 'duplicate'], ['prediction', 'true_positive', ''], ['truth', 'found', '']]
    """
    if not 0 < background <= iou <= 1:
        raise InvalidTable(
            f"marks need 0 < background <= iou <= 1, not background={background:g} and iou={iou:g}. "
            "The usual ones are background=0.1, iou=0.5."
        )
    whole = sides(truth, predictions)
    sure = whole.found.score >= min_score
    compared = Sides(whole.images, whole.labels, whole.truth, whole.found.take(sure))
    pairs = overlapping(compared.truth, compared.found, at_least=background)
    same = compared.found.label[pairs.found] == compared.truth.label[pairs.truth]
    crowd = compared.truth.crowd[pairs.truth]
    matched = assign(
        pairs.take(same & ~crowd & (pairs.iou >= iou)),
        standing=compared.found.standing(),
        n_truth=len(compared.truth),
    )
    on_crowd = np.zeros(len(compared.found), dtype=np.bool_)
    on_crowd[pairs.found[same & crowd & (pairs.iou >= iou)]] = True
    objects = pairs.take(~crowd)
    same = same[~crowd]
    predicted = _Marked.blank(predictions.annotations, "prediction")
    predicted.put(whole.found.row[~sure], "ignored", "low_score")
    predicted.settle(compared, matched, objects, same, iou=iou, excused=on_crowd)
    real = _Marked.blank(truth.annotations, "truth")
    real.settle(compared, matched, objects, same, iou=iou, excused=compared.truth.crowd)
    frame = pd.concat([predicted.to_frame(), real.to_frame()], ignore_index=True)
    return Marks(frame, whole.labels, iou=iou, background=background, min_score=min_score)


@dataclass(frozen=True)
class _Marked:
    """The marks of one side, being written."""

    annotations: pd.DataFrame
    side: str
    mark: Ints
    cause: Ints
    iou: Floats
    partner: Ints

    @classmethod
    def blank(cls, annotations: pd.DataFrame, side: str) -> _Marked:
        """Begin with boxes of which none is compared."""
        n = len(annotations)
        mark, cause = np.full(n, MARKS.index("ignored")), np.full(n, _CAUSES.index("not_compared"))
        return cls(annotations, side, mark, cause, iou=np.zeros(n), partner=np.full(n, -1))

    def put(self, rows: Ints, mark: str, cause: str = "") -> None:
        """Mark some rows."""
        self.mark[rows] = MARKS.index(mark)
        self.cause[rows] = _CAUSES.index(cause)

    def settle(self, compared: Sides, matched: Pairs, near: Pairs, same: Bools, *, iou: float, excused: Bools) -> None:
        """Mark what was compared: what found its like, what is excused, and why the rest is wrong."""
        predicted = self.side == "prediction"
        own, other = (compared.found, compared.truth) if predicted else (compared.truth, compared.found)
        right, wrong = ("true_positive", "false_positive") if predicted else ("found", "missed")
        causes = PREDICTION_CAUSES if predicted else TRUTH_CAUSES
        mine, theirs = (near.found, near.truth) if predicted else (near.truth, near.found)
        self.put(own.row, wrong, causes[-1])
        # From the weakest reason to the strongest, so that the first of `causes` stands at the end.
        reasons = (same & (near.iou >= iou), ~same & (near.iou >= iou), same, ~same)
        for cause, chosen in reversed(list(zip(causes, reasons, strict=False))):
            highest, partner = best(mine[chosen], theirs[chosen], near.iou[chosen], n=len(own))
            self._pair(own.row, other.row, partner, highest)
            self.put(own.row[partner >= 0], wrong, cause)
        self.put(own.row[excused], "ignored", "crowd")
        self.iou[own.row[excused]], self.partner[own.row[excused]] = 0.0, -1
        mine, theirs = (matched.found, matched.truth) if predicted else (matched.truth, matched.found)
        self.put(own.row[mine], right)
        self.iou[own.row[mine]], self.partner[own.row[mine]] = matched.iou, other.row[theirs]

    def _pair(self, rows: Ints, other_rows: Ints, partner: Ints, iou: Floats) -> None:
        """Write down whom boxes lie on, where there is someone."""
        there = partner >= 0
        self.iou[rows[there]], self.partner[rows[there]] = iou[there], other_rows[partner[there]]

    def to_frame(self) -> pd.DataFrame:
        """Give the columns of `Marks.frame`."""
        n = len(self.annotations)
        return pd.DataFrame(
            {
                "side": pd.Categorical.from_codes(np.full(n, _SIDES.index(self.side)), categories=_SIDES),
                "row": np.arange(n),
                "image": self.annotations["image"].to_numpy(),
                "label": self.annotations["label"].to_numpy(),
                "score": self.annotations["score"].to_numpy(),
                "mark": pd.Categorical.from_codes(self.mark, categories=MARKS),
                "cause": pd.Categorical.from_codes(self.cause, categories=_CAUSES),
                "iou": self.iou,
                "partner": self.partner,
            }
        )
