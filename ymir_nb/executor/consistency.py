"""CALD: whether the boxes of an image stand up to changes of the image."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from torch.nn import functional

from ymir_nb.executor.detection import Detections, Finder, iou_matrix
from ymir_nb.executor.images import PAD, Picture, fitted_size

MIN_SCORE = 0.05
"""Boxes below are not looked at: the least consistent box counts, and among hundreds of faint ones one always is."""

MIDDLE = 1.3
"""The most informative consistency: below it a box is plainly wrong, above it plainly right."""

SMALLER = 0.75
CUT = 1 / 6
"""Side of each square that is cut out, as a share of the image's; there are four."""


def consistencies(finder: Finder, pictures: list[Picture]) -> list[float]:
    """Say how near the least consistent box of each image comes to the most informative consistency.

    For a box and a changed image, c = IoU + (1 - JS(p, p')) (max p + max p') / 2 with the box found there that
    overlaps it most: 0 where there is none, up to 2. An image has the smallest |c - 1.3| of its boxes, averaged
    over the changes (flipped, three quarters of its size, four squares cut out), and the sign turned.

    Parameters
    ----------
    finder : Finder
        With `look`.
    pictures : list of Picture
        The images.

    Returns
    -------
    list of float
        In [-1.3, 0], the most informative highest; -1.3 for an image without boxes of score 0.05 or more.

    Source: W. Yu et al., Consistency-based Active Learning for Object Detection, CVPR Workshops 2022. The paper
    also turns images and draws its cut-outs at random; here they are fixed, so that no result depends on chance.
    """
    reference = finder(pictures)
    distance = np.zeros(len(pictures))
    for change, back in CHANGES:
        changed = finder([change(picture) for picture in pictures])
        for i, (picture, before, after) in enumerate(zip(pictures, reference, changed, strict=True)):
            distance[i] += _distance(before, replace(after, boxes=back(after.boxes, picture)))
    return (-distance / len(CHANGES)).tolist()


def flipped(picture: Picture) -> Picture:
    """Mirror the image, not its padding."""
    columns, _ = fitted_size(picture)
    pixels = picture.pixels.clone()
    pixels[:, :, :columns] = picture.pixels[:, :, :columns].flip(2)
    return replace(picture, pixels=pixels)


def smaller(picture: Picture) -> Picture:
    """Shrink the image into the top left corner."""
    columns, rows = fitted_size(picture)
    size = max(1, round(rows * SMALLER)), max(1, round(columns * SMALLER))
    shown = picture.pixels[None, :, :rows, :columns].float()
    pixels = torch.full_like(picture.pixels, PAD)
    shrunk = functional.interpolate(shown, size=size, mode="bilinear", align_corners=False, antialias=True)
    pixels[:, : size[0], : size[1]] = shrunk[0].round().clamp(0, 255).to(torch.uint8)
    return replace(picture, pixels=pixels, scale=(size[1] / picture.width, size[0] / picture.height))


def cut(picture: Picture) -> Picture:
    """Cut squares out around the middles of the image's quarters."""
    columns, rows = fitted_size(picture)
    pixels = picture.pixels.clone()
    for x in (0.25, 0.75):
        for y in (0.25, 0.75):
            left, top = round((x - CUT / 2) * columns), round((y - CUT / 2) * rows)
            pixels[:, top : top + round(CUT * rows), left : left + round(CUT * columns)] = PAD
    return replace(picture, pixels=pixels)


def _mirrored(boxes: np.ndarray, picture: Picture) -> np.ndarray:
    """Bring boxes of the flipped image back."""
    x1, y1, x2, y2 = boxes.T
    return np.stack([picture.width - x2, y1, picture.width - x1, y2], axis=1)


def _same(boxes: np.ndarray, _picture: Picture) -> np.ndarray:
    return boxes


Change = Callable[[Picture], Picture]
CHANGES: tuple[tuple[Change, Callable[[np.ndarray, Picture], np.ndarray]], ...] = (
    (flipped, _mirrored),
    (smaller, _same),
    (cut, _same),
)
"""Each change with the way of its boxes back."""


def _distance(before: Detections, after: Detections) -> float:
    """Give the smallest |c - 1.3| of the boxes before."""
    rows = np.flatnonzero(before.scores >= MIN_SCORE)
    if not len(rows) or not len(after.scores):
        return MIDDLE
    overlap = iou_matrix(before.boxes[rows], after.boxes)
    match = overlap.argmax(axis=1)
    p, q = _chances(before)[rows], _chances(after)[match]
    sure = (p[:, :-1].max(axis=1) + q[:, :-1].max(axis=1)) / 2
    consistency = np.where(
        overlap.max(axis=1) > 0, overlap.max(axis=1) + (1 - divergence(_shares(p), _shares(q))) * sure, 0.0
    )
    return float(np.abs(consistency - MIDDLE).min())


def _chances(found: Detections) -> np.ndarray:
    """Give the chances of all classes and, last, of background: shape (n, classes + 1)."""
    if found.look is None:
        raise ValueError("consistency needs the scores of all classes: Finder(look=True)")
    chances = found.look.chances.astype(np.float64)
    return np.concatenate([chances, 1 - chances.max(axis=1, keepdims=True)], axis=1)


def _shares(chances: np.ndarray) -> np.ndarray:
    shares: np.ndarray = chances / chances.sum(axis=1, keepdims=True)
    return shares


def divergence(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    """Jensen-Shannon divergence of distributions, row by row, in bits: from 0 to 1.

    Examples
    --------
    >>> divergence(np.array([[1.0, 0.0]]), np.array([[0.0, 1.0]])).tolist()
    [1.0]
    """
    middle = (p + q) / 2

    def information(x: np.ndarray) -> np.ndarray:
        ratio = np.where(x > 0, x / np.where(middle > 0, middle, 1.0), 1.0)
        total: np.ndarray = (x * np.log2(ratio)).sum(axis=1)
        return total

    return np.clip((information(p) + information(q)) / 2, 0.0, 1.0)
