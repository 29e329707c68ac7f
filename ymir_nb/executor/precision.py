"""Average precision at IoU 0.5, the metric of a training stage."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ymir_nb.executor.annotations import Sample
from ymir_nb.executor.detection import Detections, iou_matrix

IOU = 0.5


def mean_ap50(samples: Sequence[Sample], found: Sequence[Detections], n_classes: int) -> float:
    """Mean over the classes that occur of the area under the precision envelope at IoU 0.5.

    Parameters
    ----------
    samples : sequence of Sample
        The truth, image by image.
    found : sequence of Detections
        What was found on the same images.
    n_classes : int
        Length of class_names.

    Returns
    -------
    float
        In [0, 1]; 0 where no sample has an object.

    Source: M. Everingham et al., The PASCAL VOC Challenge, development kit 2010, section 3.4.
    """
    values = [_average_precision(samples, found, class_id) for class_id in range(n_classes)]
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else 0.0


def _average_precision(samples: Sequence[Sample], found: Sequence[Detections], class_id: int) -> float | None:
    n_truth, scores, hits = 0, [np.zeros(0)], [np.zeros(0, dtype=bool)]
    for sample, detections in zip(samples, found, strict=True):
        truth = sample.boxes[sample.classes == class_id]
        mine = detections.classes == class_id
        n_truth += len(truth)
        scores.append(detections.scores[mine])
        hits.append(_hits(truth, detections.boxes[mine]))
    if not n_truth:
        return None
    order = np.argsort(-np.concatenate(scores), kind="stable")
    true = np.cumsum(np.concatenate(hits)[order])
    precision = true / np.arange(1, len(true) + 1)
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    return float((np.diff(true, prepend=0) * envelope).sum() / n_truth)


def _hits(truth: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Match boxes, best first, to the truth that they overlap most and nobody took."""
    hits = np.zeros(len(boxes), dtype=bool)
    overlaps = iou_matrix(boxes, truth)
    for i in range(len(boxes) if len(truth) else 0):
        best = int(overlaps[i].argmax())
        if overlaps[i, best] >= IOU:
            hits[i] = True
            overlaps[:, best] = -1.0
    return hits
