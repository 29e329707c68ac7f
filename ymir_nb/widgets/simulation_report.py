"""A simulation as a picture and as one HTML page: curves with bands, labels needed, positives."""

from __future__ import annotations

import html
import io
import re
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any

import pandas as pd

from ymir_nb.backend.learning_curves import BUDGETS, CONTROL, compare, curves, finished

AXES = {"n_images": "labelled images", "n_boxes": "labelled boxes"}
NAMES = {"ap50": "AP50", "ap": "AP50:95"}
CONTROL_COLOUR = "#808080"
COLOURS = ("#0b7fd6", "#c2571a", "#17863f", "#8a4fc9", "#b8860b", "#c43d6b", "#2a9d9d", "#6b7f2a")
"""Of the strategies beside the control, by name; they come again where there are more."""
_SENTINEL = "#010203"  # matplotlib knows no currentColor
MEAN = "mean of the labels"


def curves_png(runs: pd.DataFrame, *, value: str = "ap50", against: str = "n_images") -> bytes:
    """Draw the mean curve and the band of the seeds, a panel a label, as a PNG that reads in both themes.

    Parameters
    ----------
    runs : DataFrame
        As `learning_curves` takes it.
    value : {'ap50', 'ap'}
        What is drawn.
    against : {'n_images', 'n_boxes'}
        What it is drawn against.
    """
    out = io.BytesIO()
    _figure(runs, value, against, ink=CONTROL_COLOUR).savefig(out, format="png", dpi=110, transparent=True)
    return out.getvalue()


def curves_svg(runs: pd.DataFrame, *, value: str = "ap50", against: str = "n_images") -> str:
    """Draw the same as an `<svg>` element whose ink is the colour of the text around it."""
    import matplotlib as mpl

    out = io.StringIO()
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": f"ymir-nb-{value}-{against}"}):
        figure = _figure(runs, value, against, ink=_SENTINEL)
        figure.savefig(out, format="svg", transparent=True, metadata={"Date": None})
    text = out.getvalue()
    text = re.sub(r"<metadata>.*?</metadata>", "", text[text.index("<svg") :], flags=re.DOTALL)
    return text.replace(_SENTINEL, "currentColor")


def comparison(
    runs: pd.DataFrame, *, value: str = "ap50", against: str = "n_images", control: str = CONTROL
) -> pd.DataFrame:
    """Put the comparison with the control into words, for people.

    Parameters
    ----------
    runs, value, against, control
        As `learning_curves.compare` takes them.

    Returns
    -------
    DataFrame
        Columns label, strategy, seeds, r, r (95 %), area, gain over the control (95 %), verdict, at the end,
        positives. A level that was never reached reads ``> 1.2 (not reached)``.
    """
    found = compare(runs, value=value, against=against, control=control)
    return pd.DataFrame(
        {
            "label": found["label"].replace("", MEAN),
            "strategy": found["strategy"],
            "seeds": found["n_seeds"],
            "r": [_ratio(row) for row in found.to_dict("records")],
            "r (95 %)": _ranges(found, "r_low", "r_high", "{:.2f}"),
            "area": found["area"].map("{:.3f}".format),
            f"gain over {control} (95 %)": [
                f"{gain:+.3f} ({between})"
                for gain, between in zip(found["gain"], _ranges(found, "gain_low", "gain_high", "{:+.3f}"), strict=True)
            ],
            "verdict": found["verdict"],
            "at the end": found["last"].map("{:.3f}".format),
            "positives": [
                f"{images:.1f} images, {boxes:.1f} boxes"
                for images, boxes in zip(found["label_images"], found["label_boxes"], strict=True)
            ],
        }
    )


def simulation_page(
    *, title: str, runs: pd.DataFrame, plan: Mapping[str, Any] | None = None, value: str = "ap50"
) -> str:
    """Write what a simulation came to as one self-contained page.

    Parameters
    ----------
    title : str
        Heading.
    runs : DataFrame
        As `learning_curves` takes it.
    plan : mapping, optional
        What was replayed; shown as it stands.
    value : {'ap50', 'ap'}
        What is compared.

    Returns
    -------
    str
        An HTML document; all text that came from outside is escaped.

    Raises
    ------
    InvalidTable
        A column is missing.
    """
    kept = finished(runs)
    sections = [f'<p class="soft">{html.escape(_headline(runs, kept))}</p>']
    sections += [
        _section(f"{NAMES[value]} by {AXES[against]}", _panel(runs, kept, value, against)) for against in BUDGETS
    ]
    if plan:
        sections.append(_section("What was replayed", _table(pd.DataFrame(_flat(plan), columns=["name", "value"]))))
    style = (resources.files("ymir_nb.widgets") / "static" / "report.css").read_text(encoding="utf-8")
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; img-src data:; '
        "style-src 'unsafe-inline'\">\n"
        f"<title>{html.escape(title)}</title>\n<style>\n{style}</style>\n</head>\n<body>\n<main>\n"
        f"<h1>{html.escape(title)}</h1>\n" + "\n".join(sections) + "\n</main>\n</body>\n</html>\n"
    )


def _headline(runs: pd.DataFrame, kept: pd.DataFrame) -> str:
    """Say how many arms there are, and how many of them are finished."""
    n_all, n_kept = (len(frame.groupby(["strategy", "seed"])) for frame in (runs, kept))
    return (
        f"{n_kept} of {n_all} arms (a strategy with a seed) have come to the last round; the others are left out. "
        f"r: labels needed beyond the first model to reach what {CONTROL} reaches at its end, as a share of what "
        f"{CONTROL} needs; below 1 saves labels. Intervals: 95 %, seeds resampled."
    )


def _panel(runs: pd.DataFrame, kept: pd.DataFrame, value: str, against: str) -> str:
    """Write the curves against one budget, and the comparison where there is a control."""
    if not len(kept):
        return '<p class="soft">No arm is finished yet.</p>'
    drawn = (
        f'<div class="chart">{curves_svg(runs, value=value, against=against)}</div>'
        '<p class="soft">Line: mean of the seeds. Band: least and largest seed.</p>'
    )
    is_compared = CONTROL in set(kept["strategy"])
    compared = _table(comparison(runs, value=value, against=against)) if is_compared else ""
    return f'{drawn}<div class="wide">{compared}</div>'


def _section(heading: str, body: str) -> str:
    return f"<section>\n<h2>{html.escape(heading)}</h2>\n{body}\n</section>"


def _table(frame: pd.DataFrame) -> str:
    """Write a frame, every cell escaped."""
    head = "".join(f"<th>{html.escape(str(column))}</th>" for column in frame.columns)
    rows = "".join(
        f"<tr>{''.join(f'<td>{html.escape(str(value))}</td>' for value in row)}</tr>"
        for row in frame.itertuples(index=False)
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"


def _flat(plan: Mapping[str, Any], above: str = "") -> list[tuple[str, str]]:
    """List the plain values of a plan."""
    rows: list[tuple[str, str]] = []
    for name, value in plan.items():
        rows += _flat(value, f"{above}{name}.") if isinstance(value, Mapping) else [(f"{above}{name}", str(value))]
    return rows


def _ratio(row: Mapping[Any, Any]) -> str:
    if row["r"] == float("inf"):
        return f"> {row['at_least']:.2f} (not reached)"
    return "-" if pd.isna(row["r"]) else f"{row['r']:.2f}"


def _ranges(frame: pd.DataFrame, low: str, high: str, form: str) -> list[str]:
    """Write intervals."""
    pairs = zip(frame[low], frame[high], strict=True)
    return ["-" if pd.isna(a) else f"{form.format(a)} to {form.format(b)}".replace("inf", "never") for a, b in pairs]


def _figure(runs: pd.DataFrame, value: str, against: str, *, ink: str) -> Any:
    """Draw with matplotlib, without pyplot's global state: a panel for the mean and one for each label."""
    from matplotlib.figure import Figure

    drawn = curves(runs, value=value)
    labels = sorted(set(drawn["label"]))
    n_columns = min(2, max(1, len(labels)))
    n_rows = -(-max(1, len(labels)) // n_columns)
    figure = Figure(figsize=(4.6 * n_columns, 3.2 * n_rows), layout="constrained")
    panels = figure.subplots(n_rows, n_columns, squeeze=False).ravel().tolist()
    colours = _colours(sorted(set(drawn["strategy"])))
    for label, axes in zip(labels, panels, strict=False):
        for strategy, colour in colours.items():
            one = drawn[(drawn["label"] == label) & (drawn["strategy"] == strategy)]
            axes.fill_between(one[against], one["low"], one["high"], color=colour, alpha=0.15, lw=0)
            axes.plot(one[against], one["mean"], "o-", color=colour, lw=2, ms=4, label=_plain(strategy))
        _dress(axes, _plain(label) or MEAN, AXES[against], NAMES[value], ink=ink)
    for axes in panels[len(labels) :]:
        axes.remove()
    if labels:
        handles, names = panels[0].get_legend_handles_labels()
        figure.legend(handles, names, loc="outside right upper", frameon=False, labelcolor=ink, fontsize=9)
    return figure


def _colours(strategies: Sequence[str]) -> dict[str, str]:
    """Give each strategy its colour; the control is grey."""
    others = [name for name in strategies if name != CONTROL]
    colours = {name: COLOURS[i % len(COLOURS)] for i, name in enumerate(others)}
    return ({CONTROL: CONTROL_COLOUR} if CONTROL in strategies else {}) | colours


def _dress(axes: Any, title: str, x: str, y: str, *, ink: str) -> None:
    """Give a panel its scale, texts and colours."""
    axes.set_ylim(0, 1.02)
    axes.set_title(title, color=ink, fontsize=10)
    axes.set_xlabel(x, color=ink, fontsize=9)
    axes.set_ylabel(y, color=ink, fontsize=9)
    axes.tick_params(colors=ink, labelsize=8)
    axes.grid(color=ink, alpha=0.25, lw=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(ink)


def _plain(text: str) -> str:
    """Keep a label from being read as mathtext, or as hidden because of a leading underscore."""
    return ("\u200b" + text if text.startswith("_") else text).replace("$", r"\$")
