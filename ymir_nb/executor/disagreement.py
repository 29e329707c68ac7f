"""ALDD: how far the score maps of an image disagree with their own neighbourhood."""

from __future__ import annotations

import torch
from torch.nn import functional

AROUND = 9
POOLED = 32


def disagreement(chances: torch.Tensor) -> float:
    """Sum over the classes of the pooled disagreement of the map, in bits.

    At every cell it is the entropy of the mean score of the 9 x 9 cells around, less the mean of their
    entropies, from 0 to 1: high where the map is torn between yes and no, and 0 where it is even, at whatever
    score. Of each 32 x 32 cells the largest counts, and of these the mean.

    Parameters
    ----------
    chances : Tensor, shape (classes, rows, columns)
        Score maps in [0, 1], without padding.

    Source: H. H. Aghdam et al., Active Learning for Deep Detection Neural Networks, ICCV 2019. Here the maps are
    the centre heatmaps at stride 4 alone, where the paper has maps of several scales.

    Examples
    --------
    >>> disagreement(torch.full((2, 40, 40), 0.5))
    0.0
    """
    maps = chances.double()[None]
    mean, entropies = (
        functional.avg_pool2d(each, AROUND, 1, AROUND // 2, count_include_pad=False) for each in (maps, _bits(maps))
    )
    torn = (_bits(mean) - entropies).clamp(min=0)
    size = min(POOLED, torn.shape[2]), min(POOLED, torn.shape[3])
    pooled = functional.max_pool2d(torn, size, size, ceil_mode=True)
    return round(float(pooled.mean((2, 3)).sum()), 9)


def _bits(p: torch.Tensor) -> torch.Tensor:
    """Binary entropy; 0 at 0 and at 1."""
    return -(torch.special.xlogy(p, p) + torch.special.xlogy(1 - p, 1 - p)) / torch.log(torch.tensor(2.0).double())
