"""From a network's output to boxes: peaks of the heatmaps, then non-maximum suppression."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch.nn import functional

from ymir_nb.executor.disagreement import disagreement
from ymir_nb.executor.images import Picture, PictureSource, fitted_size, normalised
from ymir_nb.executor.network import STRIDE, Detector


@dataclass(frozen=True, eq=False)
class Look:
    """What the network saw on one image, beside boxes.

    Parameters
    ----------
    whole : ndarray of float32, shape (d,)
        Mean of the features over the image.
    vectors : ndarray of float32, shape (n, d)
        Features around the centre of each box, 3 x 3 cells.
    chances : ndarray of float32, shape (n, classes)
        Scores of all classes at the centre of each box.
    disagreement : float
        ALDD's number, see `disagreement.disagreement`.
    """

    whole: np.ndarray
    vectors: np.ndarray
    chances: np.ndarray
    disagreement: float


@dataclass(frozen=True, eq=False)
class Detections:
    """What was found on one image, best first.

    Parameters
    ----------
    boxes : ndarray of float64, shape (n, 4)
        x1 y1 x2 y2 in pixels of the upright original, inside it.
    scores : ndarray of float64, shape (n,)
        In [0, 1].
    classes : ndarray of int64, shape (n,)
        Positions in class_names.
    peaks : ndarray of float64
        Scores of the best peaks of all heatmaps, before any threshold or suppression.
    look : Look, optional
        What else was seen on the image, where it was asked for.
    """

    boxes: np.ndarray
    scores: np.ndarray
    classes: np.ndarray
    peaks: np.ndarray
    look: Look | None = None


@dataclass(frozen=True)
class Finder:
    """A detector in its form for inference, with the thresholds of a run.

    Parameters
    ----------
    model : Detector
        From `network.for_inference`.
    conf_threshold, nms_iou : float
        Detections below the score are dropped; so is the worse of two of a class that overlap more.
    max_boxes : int
        Most detections an image.
    look : bool
        Give each image's `Look` too.
    """

    model: Detector
    conf_threshold: float
    nms_iou: float
    max_boxes: int
    look: bool = False

    @torch.inference_mode()
    def __call__(self, pictures: list[Picture]) -> list[Detections]:
        """Find the objects on a batch of pictures."""
        stem = self.model.stem.conv.weight
        images = normalised(torch.stack([picture.pixels for picture in pictures]).to(stem.device))
        features = self.model.features(images.to(stem.dtype)) if self.look else None
        logits, distances = self.model(images.to(stem.dtype)) if features is None else self.model.answers(features)
        n, _, rows, columns = logits.shape
        peaks = torch.where(logits == functional.max_pool2d(logits, 3, 1, 1), logits, -torch.inf)
        values, places = peaks.flatten(1).topk(min(3 * self.max_boxes, peaks[0].numel()), dim=1)
        scores, cells = torch.sigmoid(values), places % (rows * columns)
        sides = distances.flatten(2).gather(2, cells[:, None].expand(n, 4, -1)).double()
        x, y = (cells % columns + 0.5) * STRIDE, (cells // columns + 0.5) * STRIDE
        boxes = torch.stack([x - sides[:, 0], y - sides[:, 1], x + sides[:, 2], y + sides[:, 3]], dim=2)
        arrays = [
            tensor.cpu().numpy()
            for tensor in (boxes, scores.double(), torch.div(places, rows * columns, rounding_mode="floor"))
        ]
        looks: list[Look] | list[None] = [None] * n
        if features is not None:
            looks = [_look(*each, cells[i]) for i, each in enumerate(zip(pictures, features, logits, strict=True))]
        return [self._tidy(picture, looks[i], *(array[i] for array in arrays)) for i, picture in enumerate(pictures)]

    def _tidy(
        self, picture: Picture, look: Look | None, boxes: np.ndarray, scores: np.ndarray, classes: np.ndarray
    ) -> Detections:
        """Bring one image's boxes to its own pixels, cut them to it, and suppress doubles."""
        boxes = boxes / np.tile(picture.scale, 2)
        boxes = np.clip(boxes, 0, [picture.width, picture.height, picture.width, picture.height])
        solid = ((boxes[:, 2:] - boxes[:, :2]) >= 0.5).all(1) & (scores >= self.conf_threshold)
        order = np.flatnonzero(solid)
        order = order[np.argsort(-scores[order], kind="stable")]
        kept = order[suppress(boxes[order], classes[order], self.nms_iou)][: self.max_boxes]
        if look is not None:
            look = replace(look, vectors=look.vectors[kept], chances=look.chances[kept])
        return Detections(boxes[kept], scores[kept], classes[kept], scores, look)


def _look(picture: Picture, features: torch.Tensor, logits: torch.Tensor, cells: torch.Tensor) -> Look:
    """Pool the features of one image, at some cells and as a whole; the padding plays no part."""
    columns, rows = (-(-side // STRIDE) for side in fitted_size(picture))
    seen, chances = features.float()[:, :rows, :columns], torch.sigmoid(logits)
    around = functional.avg_pool2d(features.float(), 3, 1, 1, count_include_pad=False)
    return Look(
        seen.mean((1, 2)).cpu().numpy(),
        around.flatten(1)[:, cells].T.cpu().numpy(),
        chances.flatten(1)[:, cells].T.cpu().numpy(),
        disagreement(chances[:, :rows, :columns]),
    )


def find_all(finder: Finder, source: PictureSource, batch_size: int, pool: ThreadPoolExecutor) -> Iterator[Detections]:
    """Find the objects on all pictures of a source, in its order, several batches at a time."""

    def batch(start: int) -> list[Detections]:
        return finder([source.get(position) for position in range(start, min(start + batch_size, len(source)))])

    for found in pool.map(batch, range(0, len(source), batch_size)):
        yield from found


def iou_matrix(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Intersection over union of every box of `a` with every box of `b`: shape (len(a), len(b)).

    Examples
    --------
    >>> iou_matrix(np.array([[0, 0, 2, 2]]), np.array([[0, 0, 2, 1], [2, 2, 3, 3]])).tolist()
    [[0.5, 0.0]]
    """
    wide, high = (
        np.maximum(np.minimum.outer(a[:, k + 2], b[:, k + 2]) - np.maximum.outer(a[:, k], b[:, k]), 0) for k in (0, 1)
    )
    area_a, area_b = ((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]) for boxes in (a, b))
    shared = wide * high
    overlap: np.ndarray = shared / np.maximum(np.add.outer(area_a, area_b) - shared, 1e-9)
    return overlap


def suppress(boxes: np.ndarray, classes: np.ndarray, iou: float) -> np.ndarray:
    """Give the positions of the boxes to keep: of two of a class that overlap more than `iou`, the first."""
    rivals = (iou_matrix(boxes, boxes) > iou) & (classes[:, None] == classes[None])
    keep = np.ones(len(boxes), dtype=bool)
    for i in np.flatnonzero(np.triu(rivals, 1).any(1)):
        if keep[i]:
            keep[i + 1 :] &= ~rivals[i, i + 1 :]
    return np.flatnonzero(keep)
