"""Which label is taken for which: a matrix with background, and the boxes behind each cell."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from ymir_nb.backend.dataset import Dataset
from ymir_nb.backend.errors import InvalidTable, LabelNotFound
from ymir_nb.backend.pairing import Ints, assign, overlapping, sides

BACKGROUND = "(background)"
"""Stands for no object (a row) and for no prediction (a column)."""


@dataclass(frozen=True, eq=False)
class Confusion:
    """What was predicted for what was there.

    Parameters
    ----------
    matrix : ndarray of int, shape (n_labels + 1, n_labels + 1)
        Boxes by true label (rows) and predicted label (columns), in the order of `labels`, and
        background last. The last row counts predictions on nothing, the last column objects missed.
    labels : tuple of str
        Labels that were compared.
    pairs : DataFrame
        A row a counted box or pair: image, truth and predicted (labels, or `BACKGROUND`),
        truth_row and prediction_row (in the annotations of each side, -1 without), iou, score.
    iou, min_score : float
        The thresholds.
    """

    matrix: Ints
    labels: tuple[str, ...]
    pairs: pd.DataFrame = field(repr=False)
    iou: float
    min_score: float

    def cell(self, truth: str | None, predicted: str | None) -> pd.DataFrame:
        """Give the boxes of one cell, the surest prediction first.

        Parameters
        ----------
        truth, predicted : str or None
            Labels; None stands for background.

        Returns
        -------
        DataFrame
            The columns of `pairs`, as many rows as the cell counts.

        Raises
        ------
        LabelNotFound
            A label was not compared.
        """
        chosen = np.ones(len(self.pairs), dtype=bool)
        for name, label in (("truth", truth), ("predicted", predicted)):
            if label is None or (label == BACKGROUND and label not in self.labels):
                chosen &= (self.pairs["truth_row" if name == "truth" else "prediction_row"] < 0).to_numpy()
                continue
            if label not in self.labels:
                known = ", ".join(map(repr, self.labels)) or "none"
                raise LabelNotFound(f"label {label!r} was not compared; compared were {known}, and None: background.")
            chosen &= (self.pairs[name] == label).to_numpy()
        found = self.pairs[chosen]
        return found.sort_values("score", ascending=False, kind="stable", ignore_index=True)

    def mixed_up(self, n: int = 10) -> pd.DataFrame:
        """List the labels most often taken for another: columns truth, predicted, n."""
        wrong = self.matrix[:-1, :-1].copy()
        np.fill_diagonal(wrong, 0)
        names = np.array([*self.labels], dtype=object)
        order = np.argsort(-wrong, axis=None, kind="stable")[:n]
        row, column = np.unravel_index(order, wrong.shape) if wrong.size else (order, order)
        frame = pd.DataFrame({"truth": names[row], "predicted": names[column], "n": wrong[row, column]})
        return frame[frame["n"] > 0].reset_index(drop=True)

    def to_frame(self) -> pd.DataFrame:
        """Give the matrix with names: true labels as index, predicted ones as columns."""
        names = [*self.labels, BACKGROUND]
        return pd.DataFrame(self.matrix, index=pd.Index(names, name="truth"), columns=pd.Index(names, name="predicted"))

    def __repr__(self) -> str:
        """Say in one line how many agree."""
        right, shown = int(np.trace(self.matrix)), int(self.matrix.sum())
        return f"<Confusion at IoU {self.iou:g}, score {self.min_score:g}: {right} of {shown} on the diagonal>"

    def _repr_html_(self) -> str:
        """Show the matrix in a notebook."""
        return str(self.to_frame().to_html(escape=True, border=0))


def confuse(truth: Dataset, predictions: Dataset, *, iou: float = 0.5, min_score: float = 0.3) -> Confusion:
    """Count which label was predicted for which.

    Predictions choose on each image, the surest first and whatever their label, the free object
    that they overlap most; of equal overlaps, one of their own label. What takes nothing was
    predicted on background; what nobody took was missed. Crowds are no objects, and predictions
    that took nothing and lie on a crowd of their label are left out.

    Parameters
    ----------
    truth : Dataset
        Ground truth.
    predictions : Dataset
        Every row has a finite score.
    iou : float
        Overlap in (0, 1] from which a prediction takes an object.
    min_score : float
        Predictions below it are left out.

    Returns
    -------
    Confusion
        Its rows add up to the objects of each label, its columns to the predictions that count.

    Raises
    ------
    InvalidTable
        `iou` lies out of its range, or the tables cannot be compared, as in `metrics.evaluate`.

    Examples
    --------
    >>> image = dict(image="0" * 32, file="a.png", format="PNG", mode="RGB", width=9, height=9, n_bytes=1)
    >>> box = dict(image="0" * 32, label="dog", x1=0, y1=0, x2=4, y2=4)
    >>> truth = Dataset.of([image | {"labelled": True}], [box], labels=["dog", "cat"])
    >>> found = Dataset.of([image], [box | {"score": 0.9, "label": "cat"}], labels=["dog", "cat"])
    >>> confuse(truth, found).matrix.tolist()
    [[0, 1, 0], [0, 0, 0], [0, 0, 0]]
    """
    if not 0 < iou <= 1:
        raise InvalidTable(f"confusion needs an IoU in (0, 1], not {iou:g}. The usual one is iou=0.5.")
    compared = sides(truth, predictions)
    real, found = compared.truth, compared.found.take(compared.found.score >= min_score)
    pairs = overlapping(real, found, at_least=iou)
    crowd = real.crowd[pairs.truth]
    same = found.label[pairs.found] == real.label[pairs.truth]
    matched = assign(pairs.take(~crowd), standing=found.standing(), n_truth=len(real), preferred=same[~crowd])
    alone, missed = np.ones(len(found), dtype=bool), ~real.crowd
    alone[pairs.found[crowd & same]] = False
    alone[matched.found], missed[matched.truth] = False, False
    # Each counted thing as (object, prediction), -1 where there is none.
    other = np.concatenate([matched.truth, np.full(alone.sum(), -1), np.flatnonzero(missed)])
    one = np.concatenate([matched.found, np.flatnonzero(alone), np.full(missed.sum(), -1)])
    n = len(compared.labels)
    rows = np.where(other < 0, n, np.append(real.label, n)[other])
    columns = np.where(one < 0, n, np.append(found.label, n)[one])
    matrix = np.bincount(rows * (n + 1) + columns, minlength=(n + 1) ** 2).reshape(n + 1, n + 1)
    names = np.array([*compared.labels, BACKGROUND], dtype=object)
    image = np.where(one < 0, np.append(real.image, 0)[other], np.append(found.image, 0)[one])
    behind = pd.DataFrame(
        {
            "image": compared.images[image] if len(image) else np.empty(0, dtype=object),
            "truth": names[rows],
            "predicted": names[columns],
            "truth_row": np.append(real.row, -1)[other],
            "prediction_row": np.append(found.row, -1)[one],
            "iou": np.concatenate([matched.iou, np.zeros(len(one) - len(matched.iou))]),
            "score": np.append(found.score, np.nan)[one],
        }
    ).astype({"image": "str", "truth": "str", "predicted": "str"})
    order = ["image", "truth_row", "prediction_row"]
    behind = behind.sort_values(order, kind="stable", ignore_index=True)
    return Confusion(matrix.astype(np.int64), compared.labels, behind, iou=iou, min_score=min_score)
