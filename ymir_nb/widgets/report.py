"""A report as one HTML page: no script, nothing fetched, light and dark."""

from __future__ import annotations

import html
from collections.abc import Mapping
from importlib import resources

import pandas as pd

from ymir_nb.backend.errors import InvalidTable
from ymir_nb.widgets.iteration_chart import rounds_table
from ymir_nb.widgets.learning_curve import Curve, svg
from ymir_nb.widgets.mining_leaderboard import MiningLeaderboard
from ymir_nb.widgets.picture import label_colour

TARGETS = {"map50": "mAP50", "rounds": "rounds", "n_images": "labelled images"}
"""Targets that a project can have, by the name shown."""

VERSION_COLUMNS = ("name", "version", "operation", "parents", "images", "boxes")
"""Columns of the table of versions."""

N_TOP = 12
"""Pictures of the leaderboard that the page shows."""


def report_page(
    *,
    title: str,
    rounds: pd.DataFrame,
    targets: Mapping[str, float] | None = None,
    per_label: pd.DataFrame | None = None,
    leaderboard: MiningLeaderboard | None = None,
    label_counts: Mapping[str, int] | None = None,
    versions: pd.DataFrame | None = None,
) -> str:
    """Write what an active-learning project came to as one self-contained page.

    Parameters
    ----------
    title : str
        Heading, such as the project's name.
    rounds : DataFrame
        A row a round: round, n_images, n_boxes, ap50, ap, and any further columns.
    targets : mapping of str to float, optional
        What was aimed at: any of ``map50`` in [0, 1], ``rounds``, ``n_images``.
    per_label : DataFrame, optional
        Long frame of AP50 per label: round, label, ap50.
    leaderboard : MiningLeaderboard, optional
        The last round's; its best images are shown with the proposals.
    label_counts : mapping of str to int, optional
        Objects of each label in the training set.
    versions : DataFrame, optional
        A row a version: name, version, operation, parents, images, boxes.

    Returns
    -------
    str
        An HTML document; all text that came from outside is escaped.

    Raises
    ------
    InvalidTable
        A frame lacks a column, a value lies out of its range, or a target is not known.

    Examples
    --------
    >>> frame = pd.DataFrame({"round": [0], "n_images": [20], "n_boxes": [31], "ap50": [0.4], "ap": [0.2]})
    >>> report_page(title="helmets", rounds=frame).startswith("<!doctype html>")
    True
    """
    goals = dict(targets or {})
    unknown = sorted(set(goals) - set(TARGETS))
    if unknown:
        raise InvalidTable(f"report: unknown targets {', '.join(unknown)}. Known are {', '.join(TARGETS)}.")
    curve = Curve.of(rounds, per_label=per_label, target_map50=goals.get("map50"))
    sections = [
        _tiles(curve.rounds, goals),
        _section("Precision over the rounds", f'<div class="chart">{svg(curve)}</div>'),
        _section("Rounds", f'<div class="wide">{rounds_table(curve.rounds)}</div>'),
    ]
    if leaderboard is not None:
        sections.append(_section("What was mined last, with the model's proposals", _top_images(leaderboard)))
    if label_counts is not None:
        sections.append(_section("Labels in the training set", _bars(label_counts)))
    if versions is not None:
        sections.append(_section("Versions", f'<div class="wide">{_versions_table(versions)}</div>'))
    style = (resources.files("ymir_nb.widgets") / "static" / "report.css").read_text(encoding="utf-8")
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        # Nothing may run or be fetched, whatever a label or file name says.
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; img-src data:; '
        "style-src 'unsafe-inline'\">\n"
        f"<title>{html.escape(title)}</title>\n<style>\n{style}</style>\n</head>\n<body>\n<main>\n"
        f"<h1>{html.escape(title)}</h1>\n" + "\n".join(sections) + "\n</main>\n</body>\n</html>\n"
    )


def _section(heading: str, body: str) -> str:
    return f"<section>\n<h2>{html.escape(heading)}</h2>\n{body}\n</section>"


def _tiles(rounds: pd.DataFrame, goals: Mapping[str, float]) -> str:
    """Write the last round's numbers, how far they came, and the targets."""
    if rounds.empty:
        return '<p class="soft">No round is finished yet.</p>'
    first, last = rounds.iloc[0], rounds.iloc[-1]
    reached = {"map50": float(last["ap50"]), "rounds": float(last["round"]), "n_images": float(last["n_images"])}
    tiles = [
        _tile("mAP50", f"{last['ap50']:.3f}", _gain(first["ap50"], last["ap50"]), _goal("map50", goals, reached)),
        _tile("mAP50:95", f"{last['ap']:.3f}", _gain(first["ap"], last["ap"]), ""),
        _tile("rounds", f"{int(last['round'])}", "after the first model", _goal("rounds", goals, reached)),
        _tile(
            "labelled images",
            f"{int(last['n_images']):,}",
            f"{int(last['n_boxes']):,} boxes",
            _goal("n_images", goals, reached),
        ),
    ]
    return f'<div class="tiles">{"".join(tiles)}</div>'


def _tile(name: str, value: str, note: str, goal: str) -> str:
    return (
        f'<div class="tile"><div class="soft">{name}</div><div class="value">{value}</div>'
        f'<div class="soft">{note}</div>{goal}</div>'
    )


def _gain(first: float, last: float) -> str:
    """Say how far a value came since the first model."""
    return f"{last - first:+.3f} since the first model"


def _goal(name: str, goals: Mapping[str, float], reached: Mapping[str, float]) -> str:
    """Draw how much of a target is reached; nothing where none was set."""
    if name not in goals:
        return ""
    share = min(1.0, reached[name] / goals[name]) if goals[name] > 0 else 1.0
    return (
        f'<div class="track"><i style="width:{100 * share:.0f}%"></i></div>'
        f'<div class="soft">target {goals[name]:g}{", reached" if share >= 1 else ""}</div>'
    )


def _top_images(leaderboard: MiningLeaderboard) -> str:
    """Show the best images of a leaderboard."""
    more = f'<p class="soft">The first {N_TOP} of {len(leaderboard):,}.</p>' if len(leaderboard) > N_TOP else ""
    return f'<div class="pictures">{leaderboard.figures_html(N_TOP, side_px=240)}</div>{more}'


def _bars(counts: Mapping[str, int]) -> str:
    """Draw how often each label stands in the training set."""
    most = max([1, *counts.values()])
    rows = "".join(
        f'<div class="name">{html.escape(label)}</div><div class="track"><i style="width:{100 * n / most:.1f}%;'
        f'background:{label_colour(label)}"></i></div><div class="count">{n:,}</div>'
        for label, n in counts.items()
    )
    return f'<div class="bars">{rows}</div>'


def _versions_table(versions: pd.DataFrame) -> str:
    """Write the table of versions."""
    missing = [column for column in VERSION_COLUMNS if column not in versions.columns]
    if missing:
        raise InvalidTable(
            f"versions frame: missing columns {', '.join(missing)}. It needs {', '.join(VERSION_COLUMNS)}."
        )
    return rounds_table(versions[list(VERSION_COLUMNS)])
