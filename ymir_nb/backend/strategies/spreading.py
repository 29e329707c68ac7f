"""Choosing points that lie far from each other and from what is there: greedy, in bounded time and memory."""

from __future__ import annotations

import numpy as np

from ymir_nb.backend.strategies.features import Floats, Ints, Vectors

PART = 4_096
"""Points that one greedy pass looks at: each pick costs a product with all of them."""

BLOCK = 1 << 22
"""Cells of a similarity table that are held at a time."""


def unit(vectors: Vectors | Floats) -> Vectors:
    """Scale vectors to length 1; a vector of zeros stays."""
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    scaled: Vectors = (vectors / np.where(length > 0, length, 1.0)).astype(np.float32)
    return scaled


def nearest(vectors: Vectors, others: Vectors) -> Vectors:
    """Give each vector's cosine distance, in [0, 2], to the nearest of others; 2 where there are none.

    Parameters
    ----------
    vectors, others : ndarray of float32, shapes (n, d) and (m, d)
        Of length 1.
    """
    near = np.full(len(vectors), 2.0, dtype=np.float32)
    rows = max(1, BLOCK // max(len(others), 1))
    for start in range(0, len(vectors) if len(others) else 0, rows):
        near[start : start + rows] = 1.0 - (vectors[start : start + rows] @ others.T).max(axis=1)
    return near


def farthest_first(vectors: Vectors, near: Vectors, k: int) -> tuple[Ints, Floats]:
    """Pick, one by one, the point that is farthest from all that is there: k-center greedy.

    Of equally far points the first is picked. More than `PART` points are dealt into parts that are gone
    through one after the other, each knowing what was picked before: the time grows with n x k x d in
    matrix products instead of single passes.

    Parameters
    ----------
    vectors : ndarray of float32, shape (n, d)
        Of length 1.
    near : ndarray of float32, shape (n,)
        Distance of each to what is there already.
    k : int
        How many; at most n.

    Returns
    -------
    picked : ndarray of int64, shape (min(k, n),)
        In the order of picking.
    distance : ndarray of float64, same shape
        How far each was when picked.

    Examples
    --------
    >>> farthest_first(np.eye(2, dtype=np.float32), np.array([0.5, 0.9], dtype=np.float32), 1)[0].tolist()
    [1]

    Source: Sener and Savarese, Active Learning for Convolutional Neural Networks: A Core-Set Approach, 2018.
    """
    n, k = len(vectors), min(k, len(vectors))
    n_parts = max(1, -(-n // PART))
    picked, distance = np.zeros(0, dtype=np.int64), np.zeros(0)
    for part in range(n_parts):
        rows = np.arange(part, n, n_parts)
        share = k * (part + 1) // n_parts - k * part // n_parts
        start = np.minimum(near[rows], nearest(vectors[rows], vectors[picked]))
        found, far = _greedy(vectors[rows], start, share)
        picked, distance = np.r_[picked, rows[found]], np.r_[distance, far]
    return picked, distance


def _greedy(vectors: Vectors, near: Vectors, k: int) -> tuple[Ints, Floats]:
    near = near.copy()
    picked, distance = np.zeros(k, dtype=np.int64), np.zeros(k)
    for i in range(k):
        best = int(np.argmax(near))
        picked[i], distance[i] = best, max(0.0, float(near[best]))
        np.minimum(near, 1.0 - vectors @ vectors[best], out=near)
        near[picked[: i + 1]] = -np.inf
    return picked, distance
