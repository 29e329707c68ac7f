"""AP at any number of IoU thresholds."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from ymir_nb.backend.comparable import Kind, comparable
from ymir_nb.backend.dataset import Dataset
from ymir_nb.backend.matching import MAX_DETECTIONS, MOST_THRESHOLDS, match
from ymir_nb.backend.overlaps import Floats
from ymir_nb.backend.precision import averages, mean_there


def sweep(
    truth: Dataset,
    predictions: Dataset,
    *,
    ious: Sequence[float] | Floats,
    kind: Kind = "boxes",
    max_detections: int = MAX_DETECTIONS[-1],
) -> pd.DataFrame:
    """Give AP and recall at any number of IoU thresholds: how fast they fall tells how well objects are placed.

    Parameters
    ----------
    truth, predictions, kind, max_detections
        As for `evaluate`.
    ious : sequence of float
        In (0, 1], in any order.

    Returns
    -------
    DataFrame
        Columns label (empty for the mean of the labels), iou, ap, recall (the highest); by label, then by IoU.

    Raises
    ------
    InvalidTable
        As `evaluate`.

    Examples
    --------
    >>> sweep(Dataset.of(labels=["dog"]), Dataset.of(), ious=[0.3, 0.7])["iou"].tolist()
    [0.3, 0.7, 0.3, 0.7]
    """
    steps = np.unique(np.asarray(ious, dtype=np.float64))
    sides = comparable(truth, predictions, kind=kind)
    parts = []
    for part in np.split(steps, range(MOST_THRESHOLDS, len(steps), MOST_THRESHOLDS)):
        matches = match(
            sides.objects,
            sides.detections,
            n_images=sides.n_images,
            n_labels=len(sides.labels),
            thresholds=part,
            limits=(*MAX_DETECTIONS[:2], max_detections),
            overlap=sides.overlap,
        )
        parts.append(np.stack([table[0] for table in averages(matches)[:2]]))
    ap, recall = np.concatenate(parts, axis=1)
    columns = {"ap": ap, "recall": recall}
    return pd.DataFrame(
        {
            "label": pd.Series(np.repeat(["", *sides.labels], len(steps)), dtype="str"),
            "iou": np.tile(steps, len(sides.labels) + 1),
        }
        | {
            name: np.concatenate([[mean_there(row) for row in table], table.T.ravel()])
            for name, table in columns.items()
        }
    )
