"""Masks as runs: COCO's run-length form, to pixels and back, and to another size.

A mask is read column by column; its runs are lengths of background and object in turn, background
first. COCO writes them as a list, or as text: differences to the run before the last one, in groups
of five bits, least first, each a character from ``0`` on, with a sixth bit where more groups follow.

Source: the COCO API's mask format.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ymir_nb.backend.errors import InvalidTable

MAX_PIXELS = 1 << 28
"""Larger masks are refused before memory is asked for."""


def to_pixels(rle: Mapping[str, Any]) -> NDArray[np.bool_]:
    """Draw a mask.

    Parameters
    ----------
    rle : mapping
        ``size``: [height, width] in pixels; ``counts``: runs as a list or as COCO's text.

    Returns
    -------
    array of bool, shape (height, width)

    Raises
    ------
    InvalidTable
        It is no such mapping, or its runs do not fill its size.

    Examples
    --------
    >>> to_pixels({"size": [2, 2], "counts": [1, 2, 1]}).astype(int).tolist()
    [[0, 1], [1, 0]]
    """
    try:
        height, width = (int(side) for side in rle["size"])
        counts = rle["counts"]
        runs = _runs(counts) if isinstance(counts, str) else [int(run) for run in counts]
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise _bad(f"it must have size [height, width] and counts ({error!r})") from error
    n_pixels = height * width
    if height < 1 or width < 1 or n_pixels > MAX_PIXELS or min(runs, default=0) < 0 or sum(runs) != n_pixels:
        raise _bad(f"its runs add up to {sum(runs)} and its size is {height} x {width}")
    values = np.arange(len(runs)) % 2 == 1
    return np.repeat(values, runs).reshape((height, width), order="F")


def from_pixels(pixels: NDArray[np.bool_]) -> dict[str, Any]:
    """Write a mask as ``size`` and COCO's text ``counts``.

    Parameters
    ----------
    pixels : array of bool, shape (height, width)
        True on the object.

    Examples
    --------
    >>> from_pixels(np.array([[False, True], [True, False]]))
    {'size': [2, 2], 'counts': '121'}
    """
    flat = np.concatenate([[False], pixels.ravel(order="F")])
    changes = np.flatnonzero(np.diff(flat))
    edges = np.concatenate([[0], changes, [pixels.size]]).astype(int)
    return {"size": [int(side) for side in pixels.shape], "counts": _text(np.diff(edges).tolist())}


def resized(rle: Mapping[str, Any], *, width: int, height: int) -> dict[str, Any]:
    """Give a mask another size in pixels; each new pixel is the old one under its centre."""
    pixels = to_pixels(rle)
    rows = ((np.arange(height) + 0.5) * pixels.shape[0] / height).astype(int)
    columns = ((np.arange(width) + 0.5) * pixels.shape[1] / width).astype(int)
    return from_pixels(pixels[np.ix_(rows, columns)])


def _runs(text: str) -> list[int]:
    """Read COCO's text."""
    runs: list[int] = []
    at = 0
    while at < len(text):
        value = shift = 0
        while True:
            group = ord(text[at]) - 48
            if not 0 <= group < 64:
                raise ValueError(f"character {text[at]!r}")
            at += 1
            value |= (group & 31) << shift
            shift += 5
            if not group & 32:
                break
        if group & 16:
            value -= 1 << shift
        runs.append(value + runs[-2] if len(runs) > 2 else value)
    return runs


def _text(runs: Sequence[int]) -> str:
    """Write COCO's text."""
    characters = []
    for place, run in enumerate(runs):
        value = run - runs[place - 2] if place > 2 else run
        while True:
            group, value = value & 31, value >> 5
            done = value == (-1 if group & 16 else 0)
            characters.append(chr(48 + group + (0 if done else 32)))
            if done:
                break
    return "".join(characters)


def _bad(what: str) -> InvalidTable:
    return InvalidTable(f"a segmentation mask is no run-length mask of COCO: {what}. Repair or remove it.")
