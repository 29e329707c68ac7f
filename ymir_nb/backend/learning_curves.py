"""Learning curves of strategies: means with bands, the area under them, and labels needed for the same AP.

All functions take the long frame of runs: a row for each strategy, seed, round and label, columns
strategy, seed, round, n_images, n_boxes, label (empty for the mean of all), ap50, ap, label_images
and label_boxes (labelled images and boxes that have the label). Arms that have not come to the last
round of the frame are left out. Two strategies are compared on the seeds that both have, pair by
pair, since these begin with the same images and the same model.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from ymir_nb.backend.errors import InvalidTable

Floats = npt.NDArray[np.float64]

CONTROL = "random"
CONFIDENCE = 0.95
N_RESAMPLES = 2000
VALUES = ("ap50", "ap")
BUDGETS = ("n_images", "n_boxes")
COLUMNS = ("strategy", "seed", "round", *BUDGETS, "label", *VALUES, "label_images", "label_boxes")


def finished(runs: pd.DataFrame) -> pd.DataFrame:
    """Keep the arms that came to the last round, and the labels that the test images have.

    Raises
    ------
    InvalidTable
        A column is missing.
    """
    missing = [column for column in COLUMNS if column not in runs.columns]
    if missing:
        raise InvalidTable(f"runs: missing columns {', '.join(missing)}. Give the frame of `Runs.to_frame`.")
    if not len(runs):
        return runs
    ends = runs.groupby(["strategy", "seed"])["round"].transform("max")
    kept = runs[(ends == runs["round"].max()) & runs["ap50"].notna()]
    return kept.reset_index(drop=True)


def curves(runs: pd.DataFrame, *, value: str = "ap50") -> pd.DataFrame:
    """Average the arms of each strategy, round by round.

    Parameters
    ----------
    runs : DataFrame
        As the module says.
    value : {'ap50', 'ap'}
        What is averaged.

    Returns
    -------
    DataFrame
        Columns label, strategy, round, n_images, n_boxes, mean, low, high (least and largest seed),
        label_images, label_boxes (means), n_seeds; sorted by label, strategy and round.

    Examples
    --------
    >>> row = dict(strategy="random", seed=1, round=0, n_images=40, n_boxes=90, label="", ap50=0.4, ap=0.2)
    >>> curves(pd.DataFrame([row | {"label_images": 40, "label_boxes": 90}]))["mean"].tolist()
    [0.4]
    """
    _check(value, "n_images")
    groups = finished(runs).groupby(["label", "strategy", "round"], sort=True)
    return groups.agg(
        n_images=("n_images", "mean"),
        n_boxes=("n_boxes", "mean"),
        mean=(value, "mean"),
        low=(value, "min"),
        high=(value, "max"),
        label_images=("label_images", "mean"),
        label_boxes=("label_boxes", "mean"),
        n_seeds=("seed", "nunique"),
    ).reset_index()


def area(x: npt.ArrayLike, y: npt.ArrayLike, until: npt.ArrayLike = np.inf) -> Floats:
    """Area under curves as a share of their width: the mean height of the lines through the points.

    Parameters
    ----------
    x, y : array_like, shape (..., n_rounds)
        Labels spent, ascending, and what was reached with them.
    until : array_like, shape (...)
        Where the curves are cut off; above the first point.

    Returns
    -------
    ndarray, shape (...)
        Between the least and the largest y; y itself where there is a single point.

    Examples
    --------
    >>> float(area([0, 10, 20], [0.0, 1.0, 1.0]))
    0.75
    """
    across, up = np.broadcast_arrays(np.asarray(x, float), np.asarray(y, float))
    run, rise = np.diff(across), np.diff(up)
    kept = np.clip(np.asarray(until, float)[..., None] - across[..., :-1], 0.0, run)
    # A piece that is cut off counts with the height in the middle of what is left of it.
    height = up[..., :-1] + rise * kept / np.where(run > 0, 2 * run, 1.0)
    width = kept.sum(-1)
    mean: Floats = np.where(width > 0, (kept * height).sum(-1) / np.where(width > 0, width, 1.0), up[..., -1])
    return mean


def needed(x: npt.ArrayLike, y: npt.ArrayLike, level: npt.ArrayLike) -> Floats:
    """Labels beyond the first point at which curves first reach a level, on the lines through the points.

    Parameters
    ----------
    x, y : array_like, shape (..., n_rounds)
        Labels spent, ascending, and what was reached with them.
    level : array_like, shape (...)
        What is to be reached.

    Returns
    -------
    ndarray, shape (...)
        0 where the first point reaches it, infinity where no point does.

    Examples
    --------
    >>> needed([40, 80, 120], [0.2, 0.4, 0.8], [0.1, 0.3, 0.9]).tolist()
    [0.0, 20.0, inf]
    """
    aim = np.asarray(level, float)
    across, up, _ = np.broadcast_arrays(np.asarray(x, float), np.asarray(y, float), aim[..., None])
    is_there = up >= aim[..., None]
    at = is_there.argmax(-1)[..., None]
    before = np.maximum(at - 1, 0)
    x0, x1 = (np.take_along_axis(across, place, -1)[..., 0] for place in (before, at))
    y0, y1 = (np.take_along_axis(up, place, -1)[..., 0] for place in (before, at))
    rise = np.where(y1 > y0, y1 - y0, 1.0)
    share = np.where(at[..., 0] > 0, (aim - y0) / rise, 0.0)
    found: Floats = np.where(is_there.any(-1), x0 + share * (x1 - x0) - across[..., 0], np.inf)
    return found


def compare(
    runs: pd.DataFrame,
    *,
    value: str = "ap50",
    against: str = "n_images",
    share: float = 1.0,
    control: str = CONTROL,
    seed: int = 0,
) -> pd.DataFrame:
    """Hold every strategy against the control: area under the curve, and labels needed for the same AP.

    ``r`` is the number of new labels after which a strategy's mean curve reaches a level, divided by
    the number that the control's needs for it. The level is the control's first value plus `share` of
    what it has gained by its last round. Below 1 the strategy saves labels; 0.25 saves three of four.

    Areas of a pair are taken as far as both curves go. Intervals are of 95 %, by resampling the seeds with
    replacement, the same seeds for both sides.

    Parameters
    ----------
    runs : DataFrame
        As the module says.
    value : {'ap50', 'ap'}
        What is compared.
    against : {'n_images', 'n_boxes'}
        What a label costs: an image, or a box.
    share : float
        In (0, 1].
    control : str
        The strategy to hold the others against.
    seed : int
        Of the resampling.

    Returns
    -------
    DataFrame
        A row a label (empty: the mean) and strategy: label, strategy, n_seeds; area, area_low,
        area_high; gain, gain_low, gain_high (area less the control's, by pairs); verdict (``better`` or
        ``worse`` where the interval of the gain leaves 0 out, else ``within noise``; ``control`` for the
        control, empty for a single seed); overlap (whether the intervals of the two areas do); level, r,
        r_low, r_high; at_least (a bound of r where the level is never reached and r is infinite; else NaN);
        last (mean value of the last round); label_images, label_boxes (mean positives by then). ``r`` is NaN
        where the control gained nothing.

    Raises
    ------
    InvalidTable
        There is no finished arm of the control, or a name or number is out of its range.

    Source: percentile bootstrap, Efron 1979; r as in CALD's and PPAL's comparisons at equal AP.
    """
    _check(value, against)
    if not 0 < share <= 1:
        raise InvalidTable(f"share is {share}; it lies in (0, 1].")
    kept = finished(runs)
    if control not in set(kept["strategy"]):
        raise InvalidTable(f"no arm of {control!r} has come to the last round; there is nothing to compare with.")
    rows = [
        {"label": label, "strategy": strategy}
        | _compared(own, other, share, np.random.default_rng(seed))
        | ({"verdict": "control"} if strategy == control else {})
        for label, strategy, own, other in _pairs(kept, value, against, control)
    ]
    return pd.DataFrame(rows)


@dataclass(frozen=True)
class _Arms:
    """The arms of one strategy: labels spent and values, shape (n_seeds, n_rounds), and positives at the end."""

    x: Floats
    y: Floats
    images: float
    boxes: float

    def at(self, seeds: npt.NDArray[np.int64]) -> tuple[Floats, Floats]:
        """Give the mean curve of each resample, shape (n_resamples, n_rounds)."""
        return self.x[seeds].mean(1), self.y[seeds].mean(1)


def _pairs(runs: pd.DataFrame, value: str, against: str, control: str) -> Iterator[tuple[str, str, _Arms, _Arms]]:
    """Give each label and strategy with its arms and the control's, of the seeds that both have."""
    for label, of_label in runs.groupby("label", sort=True):
        seeds = {name: set(arms["seed"]) for name, arms in of_label.groupby("strategy", sort=True)}
        for strategy in sorted(seeds, key=lambda name: (name != control, name)):
            common = seeds[strategy] & seeds.get(control, set())
            if common:
                both = of_label[of_label["seed"].isin(common)]
                own, other = (_arms(both, name, value, against) for name in (strategy, control))
                yield str(label), str(strategy), own, other


def _arms(runs: pd.DataFrame, strategy: str, value: str, against: str) -> _Arms:
    own = runs[runs["strategy"] == strategy]
    x, y = (own.pivot_table(index="seed", columns="round", values=name).to_numpy(float) for name in (against, value))
    last = own[own["round"] == own["round"].max()]
    return _Arms(x, y, float(last["label_images"].mean()), float(last["label_boxes"].mean()))


def _compared(own: _Arms, control: _Arms, share: float, rng: np.random.Generator) -> dict[str, object]:
    """Compare the arms of a strategy with the control's."""
    n_seeds = len(own.x)
    everyone = np.arange(n_seeds)[None, :]
    resamples = rng.integers(0, n_seeds, (N_RESAMPLES, n_seeds))
    until = np.minimum(own.x[:, -1], control.x[:, -1])  # in boxes one of the two goes further
    areas, others = area(own.x, own.y, until), area(control.x, control.y, until)
    low, high = _interval(areas[resamples].mean(1))
    gain_low, gain_high = _interval((areas - others)[resamples].mean(1))
    control_low, control_high = _interval(others[resamples].mean(1))
    level, spent, r = _ratio(own, control, share, everyone)
    r_low, r_high = _interval(_ratio(own, control, share, resamples)[2])
    width = float((own.x[:, -1] - own.x[:, 0]).mean())
    noise = "worse" if gain_high < 0 else "better" if gain_low > 0 else "within noise"
    return {
        "n_seeds": n_seeds,
        "area": float(areas.mean()),
        "area_low": low,
        "area_high": high,
        "gain": float((areas - others).mean()),
        "gain_low": gain_low,
        "gain_high": gain_high,
        "verdict": noise if n_seeds > 1 else "",
        "overlap": bool(low <= control_high and control_low <= high),
        "level": float(level[0]),
        "r": float(r[0]),
        "r_low": r_low,
        "r_high": r_high,
        "at_least": width / float(spent[0]) if np.isinf(r[0]) else np.nan,
        "last": float(own.y[:, -1].mean()),
        "label_images": own.images,
        "label_boxes": own.boxes,
    }


def _ratio(own: _Arms, control: _Arms, share: float, seeds: npt.NDArray[np.int64]) -> tuple[Floats, Floats, Floats]:
    """Give the level, what the control needs for it, and r, for each resample."""
    x, y = control.at(seeds)
    level = (1 - share) * y[:, 0] + share * y[:, -1]  # exactly the last value where share is 1
    spent = needed(x, y, level)
    gained = (y[:, -1] > y[:, 0]) & (spent > 0)
    r: Floats = np.where(gained, needed(*own.at(seeds), level) / np.where(gained, spent, 1.0), np.nan)
    return level, spent, r


def _interval(values: Floats) -> tuple[float, float]:
    """Give the interval that holds `CONFIDENCE` of the resamples; no value is made up between two."""
    known = values[~np.isnan(values)]
    if not len(known):
        return np.nan, np.nan
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(known, [tail, 1 - tail], method="inverted_cdf")
    return float(low), float(high)


def _check(value: str, against: str) -> None:
    if value not in VALUES or against not in BUDGETS:
        raise InvalidTable(
            f"{value!r} against {against!r} cannot be drawn; there is {', '.join(VALUES)} against {', '.join(BUDGETS)}."
        )
