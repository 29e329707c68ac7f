"""Chance: the control of every comparison."""

from __future__ import annotations

import pandas as pd

from ymir_nb.backend.strategies.evidence import Evidence
from ymir_nb.backend.strategies.ranking import draw, scored


def random(evidence: Evidence) -> pd.DataFrame:
    """Give every image a number drawn from its name and the seed.

    Parameters
    ----------
    evidence : Evidence
        Of which `images` and `seed` are looked at; another seed draws other numbers.

    Returns
    -------
    DataFrame
        Columns image, score in [0, 1), why; sorted by image.

    Examples
    --------
    >>> random(Evidence(pd.DataFrame({"image": ["a", "b"]}), pd.DataFrame(), seed=1))["why"].tolist()
    ['drawn at random', 'drawn at random']
    """
    return scored(evidence.names, draw(evidence.names, seed=evidence.seed), "drawn at random")
