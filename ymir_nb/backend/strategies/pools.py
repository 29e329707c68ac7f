"""What of a pool is left out before mining, by the way it is worked through."""

from __future__ import annotations

from collections.abc import Sequence

POOLS = ("dedup", "whole", "chunk", "custom")
"""Ways to work through a pool:

- ``dedup``: without what was chosen before; the default;
- ``whole``: all of it, what was chosen before too, unless it is labelled by now;
- ``chunk``: without what was ever looked at: for a pool that grows by new images;
- ``custom``: without what is named.
"""


def left_out(
    pool: str,
    *,
    train: str,
    val: str,
    inputs: Sequence[str] = (),
    outputs: Sequence[str] = (),
    named: Sequence[str] = (),
) -> list[str]:
    """Say which datasets are excluded from a pool; train and val always are.

    Parameters
    ----------
    pool : str
        One of `POOLS`.
    train, val : str
        References of the present training and validation sets.
    inputs, outputs : sequence of str
        What earlier rounds looked at, and what they chose.
    named : sequence of str
        What to leave out for ``custom``.

    Returns
    -------
    list of str
        References, each once.

    Examples
    --------
    >>> left_out("chunk", train="train@v2", val="val@v1", inputs=["pool@v1"], outputs=["mined@v1"])
    ['train@v2', 'val@v1', 'pool@v1', 'mined@v1']

    Source: YMIR 2.5's mining strategies of an iteration: chunk, dedup and custom.
    """
    more = {"dedup": outputs, "whole": (), "chunk": (*inputs, *outputs), "custom": named}[pool]
    return list(dict.fromkeys((train, val, *more)))
