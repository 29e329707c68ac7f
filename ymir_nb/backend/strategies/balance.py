"""Balance: images on which there may be labels that few boxes have so far."""

from __future__ import annotations

import numpy as np
import pandas as pd

from ymir_nb.backend.strategies.evidence import Boxes, Evidence
from ymir_nb.backend.strategies.features import Floats, Ints
from ymir_nb.backend.strategies.ranking import with_unseen


def class_balance(evidence: Evidence) -> pd.DataFrame:
    """Prefer images that likely show labels of which few boxes are labelled.

    A label with n labelled boxes weighs 1 / sqrt(n + 1). An image scores, summed over the labels, the weight
    times the chance that at least one box of it is right, 1 - prod(1 - p): a second box of the same label
    adds little, and a crowd nothing. Images without detections take part as in `entropy`.

    Parameters
    ----------
    evidence : Evidence
        Of which `predictions`, `labelled_counts` and `seed` are looked at.

    Returns
    -------
    DataFrame
        Columns image, score, why; sorted by image.

    Raises
    ------
    ProjectError
        There are no counts of labelled boxes.
    """
    counts = evidence.need("labelled_counts", lambda e: e.labelled_counts)
    boxes = evidence.boxes
    starts, chance = presence(boxes)
    label, place = boxes.label[starts], boxes.place[starts]
    value = chance * evidence.label_weights(boxes.labels)[label]
    image_starts = np.flatnonzero(np.r_[True, np.diff(place) > 0]) if len(place) else starts
    total = np.add.reduceat(value, image_starts) if len(place) else np.zeros(0)
    # Within an image the label that adds most comes first.
    best = np.lexsort((label, -value, place))[image_starts] if len(place) else starts

    def why(places: Ints) -> list[str]:
        at = best[np.searchsorted(boxes.seen, places)]
        names = [boxes.labels[label[i]] for i in at]
        return [
            f"likely {name} ({chance[i]:.2f}), {counts.get(name, 0)} labelled so far"
            for i, name in zip(at, names, strict=True)
        ]

    return with_unseen(evidence, boxes, total, why)


def presence(boxes: Boxes) -> tuple[Ints, Floats]:
    """Give, for each label on each image, where its boxes begin, and the chance that one of them is right."""
    if not len(boxes.place):
        return boxes.starts, np.zeros(0)
    starts = np.flatnonzero(np.r_[True, (np.diff(boxes.place) > 0) | (np.diff(boxes.label) != 0)])
    with np.errstate(divide="ignore"):
        log_none = np.add.reduceat(np.log1p(-np.minimum(boxes.score, 1.0 - 1e-12)), starts)
    chance: Floats = -np.expm1(log_none)
    return starts, chance
