"""Run lengths as COCO writes them, of many masks at once: background and object in turn, column by column.

Source: the COCO API's mask format.
"""

from __future__ import annotations

import numpy as np

from ymir_nb.backend.overlaps import Ints

_CONTINUES, _SIGN, _GROUP = 32, 16, 5
_MOST_GROUPS = 7


class Unreadable(Exception):
    """The mask at a place cannot be read; who knows its table says so to the user."""

    def __init__(self, place: int, what: str) -> None:
        super().__init__(what)
        self.place, self.what = place, what


def to_runs(
    counted: list[tuple[int, list[int]]], written: list[tuple[int, str]], *, n_pixels: Ints
) -> tuple[Ints, Ints, Ints]:
    """Turn run lengths, background first, into runs of objects.

    Parameters
    ----------
    counted, written : list of tuple
        Place of a mask, and its lengths as a list or as COCO's text.
    n_pixels : ndarray, shape (n,)
        Of the image of each mask.

    Returns
    -------
    tuple of ndarray
        Place of the mask, begin and end of every run of its pixels; by list, then by text.

    Raises
    ------
    Unreadable
        Lengths that are none, or do not fill the image.

    Examples
    --------
    >>> [part.tolist() for part in to_runs([(0, [1, 2, 1])], [(1, "121")], n_pixels=np.array([4, 4]))]
    [[0, 1], [1, 1], [3, 3]]
    """
    owners, lengths = [np.zeros(0, dtype=np.int64)], [np.zeros(0, dtype=np.int64)]
    for i, counts in counted:
        try:
            values = np.asarray(counts)
            if values.ndim != 1 or (len(values) and values.dtype.kind not in "iu"):
                raise ValueError("its counts are no whole numbers")
            lengths.append(values.astype(np.int64))
        except (ValueError, OverflowError) as error:
            raise Unreadable(i, str(error)) from error
        owners.append(np.full(len(lengths[-1]), i))
    if written:
        text_owner, text_lengths = _decoded(written)
        owners.append(text_owner)
        lengths.append(text_lengths)
    owner, length = np.concatenate(owners), np.concatenate(lengths)
    fresh = np.flatnonzero(np.diff(owner, prepend=-1))
    sizes = np.diff(np.append(fresh, len(owner)))
    end = np.cumsum(length)
    end -= np.repeat(end[fresh] - length[fresh], sizes)
    total = end[fresh + sizes - 1]
    negative = np.bincount(owner[length < 0], minlength=len(n_pixels)) > 0
    wrong = owner[fresh][negative[owner[fresh]] | (total != n_pixels[owner[fresh]])]
    missing = [i for i, counts in (*counted, *written) if not len(counts) and n_pixels[i]]
    for i in sorted([*wrong.tolist(), *missing])[:1]:
        raise Unreadable(i, f"its runs do not fill the {n_pixels[i]} pixels of its image")
    turn = np.arange(len(owner)) - np.repeat(fresh, sizes)
    kept = (turn % 2 == 1) & (length > 0)
    return owner[kept], (end - length)[kept], end[kept]


def _decoded(written: list[tuple[int, str]]) -> tuple[Ints, Ints]:
    """Decode COCO's texts: owner and length of every run.

    A length is written as groups of five bits, the least first; from the fourth on it is the
    difference to the length before the last.
    """
    sizes = np.array([len(text) for _, text in written], dtype=np.int64)
    data = (
        np.frombuffer("".join(text for _, text in written).encode("utf-32-le"), dtype=np.uint32).astype(np.int64) - 48
    )
    text = np.repeat(np.arange(len(written)), sizes)
    more = (data & _CONTINUES) != 0
    last = np.cumsum(sizes)[sizes > 0] - 1
    first = np.flatnonzero(np.concatenate([[True], ~more[:-1]]))[: int((~more).sum())]
    n_groups = np.diff(np.append(first, len(data)))
    bad = (data < 0) | (data >= 2 * _CONTINUES)
    bad[last] |= more[last]
    bad[first] |= n_groups > _MOST_GROUPS
    if bad.any():
        raise Unreadable(written[int(text[bad][0])][0], "its counts are no run-length text of COCO")
    at = np.arange(len(data)) - np.repeat(first, n_groups)
    value = np.add.reduceat((data & (_CONTINUES - 1)) << (_GROUP * at), first) if len(first) else first
    close = data[first + n_groups - 1]
    value -= np.where(close & _SIGN, np.int64(1) << (_GROUP * n_groups), 0)
    owner = text[first]
    return np.array([i for i, _ in written], dtype=np.int64)[owner], _undone(owner, value)


def _undone(owner: Ints, value: Ints) -> Ints:
    """Add the differences up: from the fourth on to the length before the last, so odd and even apart."""
    fresh = np.flatnonzero(np.diff(owner, prepend=-1))
    turn = np.arange(len(owner)) - np.repeat(fresh, np.diff(np.append(fresh, len(owner))))
    chain = owner * 3 + np.where(turn == 0, 0, 1 + turn % 2)
    order = np.argsort(chain, kind="stable")
    total = np.cumsum(value[order])
    begin = np.flatnonzero(np.diff(chain[order], prepend=-1))
    total -= np.repeat(total[begin] - value[order][begin], np.diff(np.append(begin, len(order))))
    lengths = np.empty_like(value)
    lengths[order] = total
    return lengths
