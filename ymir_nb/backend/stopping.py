"""When to stop labelling: what the next batch will likely bring, read off the learning curve so far."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from ymir_nb.backend.errors import InvalidTable, ProjectError

Floats = npt.NDArray[np.float64]

TARGETS = ("map50", "rounds", "n_images")
LEAST_ROUNDS = 3
"""A curve of three unknowns needs as many points."""

NOISE = 0.01
"""Least standard deviation of a measured AP50: the same training with another seed moves it about so much."""

LITTLE = 0.005
"""A batch that will most likely bring less is not worth its labels."""

EXPONENTS = np.linspace(0.1, 2.0, 39)
N_RESAMPLES = 500
CONFIDENCE = 0.8


@dataclass(frozen=True)
class Advice:
    """Whether to label another batch.

    Parameters
    ----------
    stop : bool
        True when a target is reached, or the next batch will most likely bring next to nothing.
    sentence : str
        For a person.
    reached : tuple of str
        Targets that are reached: of map50, rounds, n_images.
    gain, gain_low, gain_high : float or None
        Expected gain in AP50 of the next batch, and the bounds of its 80 % interval; None before the third round.
    ceiling : float or None
        AP50 that the curve tends to.
    n_needed : int or None
        Labelled images at which the target map50 is expected; None where there is no such target, it is reached,
        or the curve does not get there.
    """

    stop: bool
    sentence: str
    reached: tuple[str, ...] = ()
    gain: float | None = None
    gain_low: float | None = None
    gain_high: float | None = None
    ceiling: float | None = None
    n_needed: int | None = None

    def to_dict(self) -> dict[str, object]:
        """Give it as plain values."""
        return asdict(self) | {"reached": list(self.reached)}


@dataclass(frozen=True)
class Curve:
    """Learning curves 1 - AP50 = floor + scale x n ** -exponent; one, or many resampled ones.

    Parameters
    ----------
    floor, scale, exponent : ndarray of float64, shape (m,)
        From 0 on; of each curve.
    """

    floor: Floats
    scale: Floats
    exponent: Floats

    def at(self, n: float) -> Floats:
        """Give AP50 at n labelled images."""
        value: Floats = 1.0 - self.floor - self.scale * n**-self.exponent
        return value


def advise(rounds: pd.DataFrame, targets: Mapping[str, float] | None = None, *, k: int | None = None) -> Advice:
    """Say whether to label another batch.

    The error 1 - AP50 is taken for a power law of the number of labelled images, down to a floor. Its
    uncertainty is that of refits to curves with noise added: that of the fit's residuals, and 0.01 at least.

    Parameters
    ----------
    rounds : DataFrame
        Columns round, n_images and ap50, a row a trained round, as `Project.to_frame` gives them; rounds
        without an AP50 are passed over.
    targets : mapping of str to number, optional
        Any of map50 (AP50 in (0, 1]), rounds (mined ones) and n_images (labelled).
    k : int, optional
        Images in the next batch; by default as many as in the last.

    Returns
    -------
    Advice

    Raises
    ------
    InvalidTable
        A column is missing.
    ProjectError
        An unknown target, or k below 1.

    Examples
    --------
    >>> curve = pd.DataFrame({"round": [0, 1, 2], "n_images": [40, 80, 120], "ap50": [0.4, 0.6, 0.68]})
    >>> advise(curve, {"map50": 0.65}).sentence
    'AP50 is 0.680, and the target of 0.65 is reached.'

    Source: power laws of learning curves: Hestness et al., Deep Learning Scaling is Predictable, 2017.
    """
    known, goals = _checked(rounds, targets or {}, k)
    if not len(known):
        return Advice(stop=False, sentence="No round is trained yet. Label a first batch and train.")
    n, ap50 = known["n_images"].to_numpy(dtype=np.float64), known["ap50"].to_numpy(dtype=np.float64)
    now = {"map50": float(ap50[-1]), "rounds": int(known["round"].iloc[-1]), "n_images": int(n[-1])}
    reached = tuple(name for name in TARGETS if name in goals and now[name] >= goals[name])
    lead = f"AP50 is {ap50[-1]:.3f}"
    if len(known) < LEAST_ROUNDS or len(np.unique(n)) < LEAST_ROUNDS:
        words = _told(lead, reached, goals, f"what the next batch brings can be told from {LEAST_ROUNDS} rounds on")
        return Advice(stop=bool(reached), sentence=words, reached=reached)
    step = float(k or max(1.0, n[-1] - n[-2]))
    best = fit(n, ap50[None])
    rng = np.random.default_rng(0)
    spread = max(NOISE, _residual(n, ap50, best))
    many = fit(n, ap50 + spread * rng.standard_normal((N_RESAMPLES, len(n))))
    gains = many.at(n[-1] + step) - many.at(n[-1])
    low, high = np.quantile(gains, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    gain = float((best.at(n[-1] + step) - best.at(n[-1]))[0])
    needed = None if "map50" in reached else _needed(best, goals.get("map50"), n[-1])
    words = f"the next {step:.0f} images will likely bring {gain:+.3f} (80 %: {low:+.3f} to {high:+.3f})"
    if "map50" in goals and "map50" not in reached:
        words += f"; the target of {goals['map50']:g} is expected " + (
            f"at about {needed:,} images" if needed else "from no number of images: look at the labels, or the model"
        )
    exhausted = bool(high < LITTLE)
    if exhausted and not reached:
        words += ". Stop, or change something else than the number of labels"
    return Advice(
        bool(reached) or exhausted,
        _told(lead, reached, goals, words),
        reached,
        round(gain, 6),
        round(float(low), 6),
        round(float(high), 6),
        round(float(1.0 - best.floor[0]), 6),
        needed,
    )


def fit(n: Floats, ap50: Floats) -> Curve:
    """Fit a power law with a floor to each of several learning curves, by least squares.

    Parameters
    ----------
    n : ndarray of float64, shape (r,)
        Labelled images, from 1 on.
    ap50 : ndarray of float64, shape (m, r)
        Measured at each, for each curve.

    Returns
    -------
    Curve
        The best over `EXPONENTS`, its floor and scale not negative.
    """
    error = 1.0 - ap50
    best = [np.full(len(error), np.inf), *(np.zeros(len(error)) for _ in range(3))]
    for exponent in EXPONENTS:
        x = n**-exponent
        x_mean, y_mean = x.mean(), error.mean(axis=1)
        scale = ((error - y_mean[:, None]) @ (x - x_mean)) / ((x - x_mean) @ (x - x_mean))
        floor = y_mean - scale * x_mean
        scale = np.where(floor < 0, error @ x / (x @ x), scale)
        floor = np.where(scale < 0, y_mean, np.maximum(floor, 0.0))
        scale = np.maximum(scale, 0.0)
        misfit = ((error - floor[:, None] - scale[:, None] * x) ** 2).sum(axis=1)
        better = misfit < best[0]
        for kept, new in zip(best, (misfit, floor, scale, np.full(len(error), exponent)), strict=True):
            kept[better] = new[better]
    return Curve(*best[1:])


def _residual(n: Floats, ap50: Floats, curve: Curve) -> float:
    """Give the standard deviation about the fit, for the three unknowns that were fitted."""
    errors = np.array([curve.at(each)[0] for each in n]) - ap50
    return float(np.sqrt((errors**2).sum() / max(1, len(n) - LEAST_ROUNDS)))


def _needed(curve: Curve, target: float | None, n: float) -> int | None:
    """Say how many images the curve needs to the target; None where it never gets there, or in a hundredfold."""
    room = math.nan if target is None else 1.0 - target - float(curve.floor[0])
    if not room > 0 or not curve.scale[0] > 0:
        return None
    needed = (float(curve.scale[0]) / room) ** (1.0 / float(curve.exponent[0]))
    return math.ceil(needed) if n < needed <= 100 * n else None


def _told(lead: str, reached: tuple[str, ...], goals: Mapping[str, float], rest: str) -> str:
    """Say it in a sentence."""
    if not reached:
        return f"{lead}; {rest}."
    said = {"map50": "the target of {:g}", "rounds": "the target of {:g} rounds", "n_images": "that of {:g} images"}
    names = " and ".join(said[name].format(goals[name]) for name in reached)
    return f"{lead}, and {names} {'is' if len(reached) == 1 else 'are'} reached."


def _checked(
    rounds: pd.DataFrame, targets: Mapping[str, float], k: int | None
) -> tuple[pd.DataFrame, dict[str, float]]:
    missing = [name for name in ("round", "n_images", "ap50") if name not in rounds.columns]
    if missing:
        raise InvalidTable(f"rounds: missing columns {', '.join(missing)}. Give the frame of Project.to_frame().")
    unknown = sorted(set(targets) - set(TARGETS))
    if unknown:
        raise ProjectError(f"there is no target {', '.join(unknown)}; there is {', '.join(TARGETS)}.")
    if k is not None and k < 1:
        raise ProjectError(f"k is {k}; it must be a whole number from 1.")
    known = rounds[rounds["ap50"].notna() & (rounds["n_images"] > 0)].sort_values("round", ignore_index=True)
    return known, {name: float(goal) for name, goal in targets.items() if goal is not None}
