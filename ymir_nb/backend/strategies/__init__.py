"""Which images to label next: a strategy gives every image a score and a reason.

A strategy is a pure function of one value, `Evidence`: the images, what a model predicted on them, and, where
it needs them, vectors, earlier models' predictions and counts of labels. The order of the rows plays no part,
and the same input gives the same scores. To add one, write the function, its row in `STRATEGIES` and, where it
needs more than predictions, its row in `NEEDS`.
"""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd

from ymir_nb.backend.strategies.balance import class_balance
from ymir_nb.backend.strategies.by_executor import ALGORITHMS, aldd, cald
from ymir_nb.backend.strategies.chance import random
from ymir_nb.backend.strategies.comparison import Comparison, compare_strategies
from ymir_nb.backend.strategies.coverage import kcenter, typicality
from ymir_nb.backend.strategies.disagreement import committee, missed_objects
from ymir_nb.backend.strategies.duplicates import group_duplicates
from ymir_nb.backend.strategies.evidence import MIN_SCORE, Evidence
from ymir_nb.backend.strategies.features import ClassScores, Features
from ymir_nb.backend.strategies.hybrid import hybrid, hybrid_pool
from ymir_nb.backend.strategies.pools import POOLS, left_out
from ymir_nb.backend.strategies.ranking import EXPLORED
from ymir_nb.backend.strategies.selection import BUDGETS, affordable, expected_boxes, select
from ymir_nb.backend.strategies.uncertainty import (
    entropy,
    entropy_max,
    entropy_mean,
    entropy_sum,
    least_confidence,
    least_confidence_max,
    least_confidence_mean,
    least_confidence_sum,
    margin,
    margin_max,
    margin_mean,
    margin_sum,
)

__all__ = [
    "ALGORITHMS",
    "BUDGETS",
    "DEFAULT",
    "EXPLORED",
    "MIN_SCORE",
    "NEEDS",
    "POOLS",
    "STRATEGIES",
    "ClassScores",
    "Comparison",
    "Evidence",
    "Features",
    "Strategy",
    "affordable",
    "compare_strategies",
    "expected_boxes",
    "group_duplicates",
    "hybrid_pool",
    "left_out",
    "select",
]

Strategy = Callable[[Evidence], pd.DataFrame]
"""From evidence to columns image, score (finite, higher is chosen first) and why (text for a person); one row for
every image, sorted by image. Strategies that choose a batch as a whole score its images by the order of choosing."""

STRATEGIES: dict[str, Strategy] = {
    "hybrid": hybrid,
    "random": random,
    "entropy": entropy,
    "entropy_sum": entropy_sum,
    "entropy_mean": entropy_mean,
    "entropy_max": entropy_max,
    "margin": margin,
    "margin_sum": margin_sum,
    "margin_mean": margin_mean,
    "margin_max": margin_max,
    "least_confidence": least_confidence,
    "least_confidence_sum": least_confidence_sum,
    "least_confidence_mean": least_confidence_mean,
    "least_confidence_max": least_confidence_max,
    "cald": cald,
    "aldd": aldd,
    "kcenter": kcenter,
    "typicality": typicality,
    "class_balance": class_balance,
    "missed_objects": missed_objects,
    "committee": committee,
}
"""Every strategy by the name that projects and commands know it by."""

DEFAULT = "hybrid"

NEEDS: dict[str, frozenset[str]] = {
    "hybrid": frozenset({"features", "labelled_counts"}),
    "cald": frozenset({"executor_scores", "labelled_counts"}),
    "aldd": frozenset({"executor_scores"}),
    "kcenter": frozenset({"features"}),
    "typicality": frozenset({"features"}),
    "class_balance": frozenset({"labelled_counts"}),
    "committee": frozenset({"committee"}),
}
"""What a strategy looks at beside predictions: fields of `Evidence`, to be fetched before it is asked."""
