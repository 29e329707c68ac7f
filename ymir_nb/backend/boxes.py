"""Box arithmetic on arrays: float ``x1 y1 x2 y2`` in pixels, far edge exclusive.

Every other convention is converted at the door of its format and nowhere else; `from_xywh` and
`to_xywh` serve COCO and the executor contract.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]


def from_xywh(boxes: npt.ArrayLike) -> Array:
    """Turn ``x y width height`` rows into ``x1 y1 x2 y2`` rows; both (n, 4), pixels."""
    xywh = np.asarray(boxes, dtype=np.float64).reshape(-1, 4)
    return np.hstack([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]])


def to_xywh(boxes: npt.ArrayLike) -> Array:
    """Turn ``x1 y1 x2 y2`` rows into ``x y width height`` rows; both (n, 4), pixels."""
    xyxy = np.asarray(boxes, dtype=np.float64).reshape(-1, 4)
    return np.hstack([xyxy[:, :2], xyxy[:, 2:] - xyxy[:, :2]])


def area(boxes: npt.ArrayLike) -> Array:
    """Areas in square pixels, shape (n,); an inverted box has area 0."""
    xyxy = np.asarray(boxes, dtype=np.float64).reshape(-1, 4)
    sides = np.clip(xyxy[:, 2:] - xyxy[:, :2], 0.0, None)
    product: Array = sides[:, 0] * sides[:, 1]
    return product


def clip(boxes: npt.ArrayLike, *, width: float, height: float) -> Array:
    """Cut boxes to an image of `width` x `height` pixels; a box outside becomes empty."""
    xyxy = np.asarray(boxes, dtype=np.float64).reshape(-1, 4)
    return np.clip(xyxy, 0.0, [width, height, width, height])


def iou(first: npt.ArrayLike, second: npt.ArrayLike) -> Array:
    """Intersection over union of every pair.

    Parameters
    ----------
    first : array_like, shape (n, 4)
        Boxes in pixels.
    second : array_like, shape (m, 4)
        Boxes in pixels.

    Returns
    -------
    ndarray, shape (n, m)
        In [0, 1]; 0 where both boxes are empty.

    Examples
    --------
    >>> iou([[0, 0, 2, 2]], [[0, 0, 2, 1]]).tolist()
    [[0.5]]
    """
    a = np.asarray(first, dtype=np.float64).reshape(-1, 4)
    b = np.asarray(second, dtype=np.float64).reshape(-1, 4)
    corner = np.maximum(a[:, None, :2], b[None, :, :2])
    far = np.minimum(a[:, None, 2:], b[None, :, 2:])
    sides = np.clip(far - corner, 0.0, None)
    inter = sides[..., 0] * sides[..., 1]
    union = area(a)[:, None] + area(b)[None, :] - inter
    result: Array = np.divide(inter, union, out=np.zeros_like(inter), where=union > 0)
    return result


def orient(boxes: npt.ArrayLike, *, orientation: int, width: float, height: float) -> Array:
    """Move boxes from the stored pixels of an image to its upright form.

    Parameters
    ----------
    boxes : array_like, shape (n, 4)
        Boxes on the pixels as they are stored.
    orientation : int
        EXIF orientation, 1-8.
    width, height : float
        Size of the *upright* image in pixels.

    Returns
    -------
    ndarray, shape (n, 4)
        Boxes on the upright image.

    Source: EXIF 2.32, tag 0x0112.
    """
    x1, y1, x2, y2 = np.asarray(boxes, dtype=np.float64).reshape(-1, 4).T
    if orientation in (5, 6, 7, 8):
        x1, y1, x2, y2 = y1, x1, y2, x2
    if orientation in (2, 3, 6, 7):
        x1, x2 = width - x2, width - x1
    if orientation in (3, 4, 7, 8):
        y1, y2 = height - y2, height - y1
    return np.stack([x1, y1, x2, y2], axis=1)
