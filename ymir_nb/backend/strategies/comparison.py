"""Two strategies side by side, on the same evidence."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from ymir_nb.backend.strategies.evidence import Evidence

if TYPE_CHECKING:
    from ymir_nb.backend.strategies import Strategy


@dataclass(frozen=True, eq=False)
class Comparison:
    """How strategies rank the same images.

    Parameters
    ----------
    ranks : DataFrame
        Column image, then for each strategy its rank (from 1) and, under ``why_<strategy>``, its reason;
        sorted by the rank of the first strategy.
    overlap : DataFrame
        Strategies by strategies: the share of the best k that both choose, in [0, 1].
    correlation : DataFrame
        Strategies by strategies: Spearman's rank correlation over all images, in [-1, 1].
    k : int
        The size of the batch.
    """

    ranks: pd.DataFrame
    overlap: pd.DataFrame
    correlation: pd.DataFrame
    k: int

    def to_frame(self) -> pd.DataFrame:
        """List the pairs: columns a, b, overlap (of the best k) and correlation."""
        names = list(self.overlap)
        rows = [
            (a, b, self.overlap.loc[a, b], self.correlation.loc[a, b])
            for i, a in enumerate(names)
            for b in names[i + 1 :]
        ]
        return pd.DataFrame(rows, columns=["a", "b", "overlap", "correlation"])


def compare_strategies(evidence: Evidence, strategies: Mapping[str, Strategy]) -> Comparison:
    """Ask several strategies about the same predictions.

    Parameters
    ----------
    evidence : Evidence
        What they look at; `k` is the size of the batch.
    strategies : mapping of str to strategy
        By name, such as ``{name: STRATEGIES[name] for name in ("hybrid", "random")}``.

    Returns
    -------
    Comparison

    Examples
    --------
    >>> from ymir_nb.backend.strategies import STRATEGIES
    >>> evidence = Evidence(pd.DataFrame({"image": ["a", "b"]}), pd.DataFrame(), k=2)
    >>> compare_strategies(evidence, {"random": STRATEGIES["random"]}).overlap.loc["random", "random"]
    np.float64(1.0)
    """
    names, n = evidence.names, len(evidence.names)
    k = min(evidence.k, n)
    ranks, columns = {}, {"image": names}
    for name, strategy in strategies.items():
        answer = strategy(evidence)
        order = np.lexsort((np.arange(n), -answer["score"].to_numpy(dtype=np.float64)))
        rank = np.empty(n, dtype=np.int64)
        rank[order] = np.arange(1, n + 1)
        ranks[name] = rank
        columns |= {name: pd.Series(rank), f"why_{name}": answer["why"].reset_index(drop=True)}
    known = list(ranks)
    shared = [[np.mean((ranks[a] <= k) & (ranks[b] <= k)) * n / k if k else 1.0 for b in known] for a in known]
    alike = np.corrcoef(np.array([ranks[name] for name in known])) if n > 1 else np.ones((len(known), len(known)))
    frame = pd.DataFrame(columns)
    return Comparison(
        frame.sort_values(known[0], ignore_index=True) if known else frame,
        pd.DataFrame(shared, index=known, columns=known, dtype=np.float64),
        pd.DataFrame(np.atleast_2d(alike), index=known, columns=known),
        k,
    )
