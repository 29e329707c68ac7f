"""The features of a run, written beside infer-result.json as plain arrays."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np

from ymir_nb.executor.contract import write_atomically
from ymir_nb.executor.detection import Detections, Look

FOLDER = "features"
MIN_SCORE = 0.05
"""Boxes below are no detections: they take no part in an image's features."""


def write_features(folder: Path, paths: list[str], found: list[Detections], names: list[str]) -> None:
    """Write what the network saw on each image.

    Parameters
    ----------
    folder : Path
        Gets ``index.json`` with `images` (file names) and `class_names`, and arrays that numpy reads without
        pickle: ``images.npy`` (n, d), a vector for each image; ``objects.npy`` (m, d), the mean vector of the
        boxes of one class on one image, weighted by their scores, with ``objects_index.npy`` (m, 2), the image
        and the class, and ``objects_score.npy`` (m,), the best score of them; ``boxes.npy`` (b, classes), the
        scores of all classes at each box of score 0.05 or more, with ``boxes_index.npy`` (b, 2) and
        ``boxes_score.npy`` (b,), the box's own. Vectors and scores are float16, indices int32.
    paths : list of str
        The images.
    found : list of Detections
        What was found on each, with looks.
    names : list of str
        The classes.
    """
    looks = [_seen(each) for each in found]
    objects = [row for image, each in enumerate(found) for row in _objects(image, each)]
    boxes = [(i, each) for i, each in enumerate(found) if len(each.scores)]
    kept = [(i, each.classes[k], each.scores[k], _seen(each).chances[k]) for i, each in boxes for k in _rows(each)]
    d = len(looks[0].whole)
    arrays = {
        "images": np.stack([look.whole for look in looks]).astype(np.float16),
        "objects": np.array([row[3] for row in objects], dtype=np.float16).reshape(-1, d),
        "objects_index": np.array([row[:2] for row in objects], dtype=np.int32).reshape(-1, 2),
        "objects_score": np.array([row[2] for row in objects], dtype=np.float16),
        "boxes": np.array([row[3] for row in kept], dtype=np.float16).reshape(-1, len(names)),
        "boxes_index": np.array([row[:2] for row in kept], dtype=np.int32).reshape(-1, 2),
        "boxes_score": np.array([row[2] for row in kept], dtype=np.float16),
    }
    for name, array in arrays.items():
        write_array(folder / f"{name}.npy", array)
    index = {"version": 1, "images": [Path(path).name for path in paths], "class_names": names}
    write_atomically(folder / "index.json", json.dumps(index, ensure_ascii=False))


def _objects(image: int, found: Detections) -> list[tuple[int, int, float, np.ndarray]]:
    """Pool the boxes of each class: image, class, best score, vector."""
    rows = _rows(found)
    pooled = []
    for number in np.unique(found.classes[rows]).tolist():
        mine = rows[found.classes[rows] == number]
        vector = np.average(_seen(found).vectors[mine], axis=0, weights=found.scores[mine])
        pooled.append((image, number, float(found.scores[mine].max()), vector))
    return pooled


def _rows(found: Detections) -> np.ndarray:
    return np.flatnonzero(found.scores >= MIN_SCORE)


def _seen(found: Detections) -> Look:
    if found.look is None:
        raise ValueError("features need looks: Finder(look=True)")
    return found.look


def write_array(path: Path, array: np.ndarray) -> None:
    """Write an array that numpy reads without pickle, under a temporary name first."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(path.name + ".part")
    sink = io.BytesIO()
    np.lib.format.write_array(sink, np.ascontiguousarray(array), allow_pickle=False)
    draft.write_bytes(sink.getvalue())
    draft.replace(path)
