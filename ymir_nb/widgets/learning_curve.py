"""mAP over the rounds as a picture: what the iteration chart and the report draw.

One frame in; out comes a matplotlib picture (PNG for notebooks, SVG for the report) or a Bokeh figure.
"""

from __future__ import annotations

import io
import math
import re
from dataclasses import dataclass
from typing import Any

import pandas as pd

from ymir_nb.backend.errors import InvalidTable
from ymir_nb.widgets.picture import label_colour

COLUMNS = ("round", "n_images", "n_boxes", "ap50", "ap")
"""Columns that the rounds frame needs, a row a round; round 0 is the first model. Further ones show in the hover."""

LABEL_COLUMNS = ("round", "label", "ap50")
"""Columns of the long frame of per-label AP50."""

AXES = {"n_images": "labelled images", "n_boxes": "labelled boxes", "round": "round"}
"""What a curve can be drawn against."""

NAMES = {"n_images": "labelled images", "n_boxes": "labelled boxes", "ap50": "mAP50", "ap": "mAP50:95"}
"""What the columns are called where people read them."""

AP50_COLOUR, AP_COLOUR, TARGET_COLOUR = "#0b7fd6", "#c2571a", "#17863f"
INK = "#808080"  # reads on white and on dark grey: a static picture does not know the theme
_SENTINEL = "#010203"  # matplotlib knows no currentColor


@dataclass(frozen=True)
class Curve:
    """The numbers of a chart, checked.

    Parameters
    ----------
    rounds : DataFrame
        Columns of `COLUMNS` and any further ones, sorted by round. AP values lie in [0, 1] or are NaN.
    per_label : DataFrame
        Columns of `LABEL_COLUMNS`; may be empty.
    target_map50 : float or None
        Drawn as a line, in [0, 1].
    """

    rounds: pd.DataFrame
    per_label: pd.DataFrame
    target_map50: float | None = None

    @classmethod
    def of(
        cls, rounds: pd.DataFrame, *, per_label: pd.DataFrame | None = None, target_map50: float | None = None
    ) -> Curve:
        """Check the frames and put them into order.

        Raises
        ------
        InvalidTable
            A column is missing, a value lies outside [0, 1], a round stands there twice, or a label's round
            is not among the rounds.
        """
        labels = pd.DataFrame(columns=list(LABEL_COLUMNS)) if per_label is None else per_label
        for frame, columns, name in ((rounds, COLUMNS, "rounds"), (labels, LABEL_COLUMNS, "per-label")):
            missing = [column for column in columns if column not in frame.columns]
            if missing:
                raise InvalidTable(
                    f"{name} frame: missing columns {', '.join(missing)}. It needs {', '.join(columns)}."
                )
            for column in {"ap50", "ap"} & set(columns):
                values = pd.to_numeric(frame[column])
                if ((values < 0) | (values > 1)).any():
                    raise InvalidTable(f"{name} frame: column {column} must lie in [0, 1], it has {values.max():g}.")
        if rounds["round"].duplicated().any():
            raise InvalidTable("rounds frame: a round stands there twice. Give one row a round.")
        strangers = sorted(set(labels["round"]) - set(rounds["round"]))
        if strangers:
            raise InvalidTable(f"per-label frame: rounds {strangers} are not in the rounds frame.")
        if target_map50 is not None and not 0 <= target_map50 <= 1:
            raise InvalidTable(f"target_map50 must lie in [0, 1], it is {target_map50:g}.")
        return cls(
            rounds.sort_values("round", kind="stable", ignore_index=True),
            labels.sort_values(["label", "round"], kind="stable", ignore_index=True),
            target_map50,
        )

    def by_label(self, against: str) -> dict[str, pd.DataFrame]:
        """Give each label's points: columns x and ap50."""
        places = self.rounds.set_index("round", drop=False)[against]
        placed = self.per_label.assign(x=self.per_label["round"].map(places))
        return {str(label): points[["x", "ap50"]] for label, points in placed.groupby("label", sort=True)}


def png(curve: Curve, *, against: str = "n_images") -> bytes:
    """Draw the curve as a PNG of about 700 by 330 pixels that reads in both themes."""
    out = io.BytesIO()
    _figure(curve, against, ink=INK).savefig(out, format="png", dpi=110, transparent=True)
    return out.getvalue()


def svg(curve: Curve, *, against: str = "n_images") -> str:
    """Draw the curve as an `<svg>` element whose ink is the colour of the text around it."""
    import matplotlib as mpl

    out = io.StringIO()
    # The salt makes the element ids, and so the text, the same for the same numbers.
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "ymir-nb"}):
        _figure(curve, against, ink=_SENTINEL).savefig(out, format="svg", transparent=True, metadata={"Date": None})
    text = out.getvalue()
    text = re.sub(r"<metadata>.*?</metadata>", "", text[text.index("<svg") :], flags=re.DOTALL)
    return text.replace(_SENTINEL, "currentColor")


def _figure(curve: Curve, against: str, *, ink: str) -> Any:
    """Draw with matplotlib, without pyplot's global state."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 3.3), layout="constrained")
    axes = figure.add_subplot()
    for label, points in curve.by_label(against).items():
        axes.plot(points["x"], points["ap50"], color=label_colour(label), lw=1.2, label=_plain(f"{label} AP50"))
    x = curve.rounds[against]
    axes.plot(x, curve.rounds["ap"], "s-", color=AP_COLOUR, lw=2, ms=5, label="mAP50:95")
    axes.plot(x, curve.rounds["ap50"], "o-", color=AP50_COLOUR, lw=2.6, ms=7, label="mAP50")
    if curve.target_map50 is not None:
        axes.axhline(curve.target_map50, color=TARGET_COLOUR, ls="--", lw=1.5, label=f"target {curve.target_map50:g}")
    above: dict[str, Any] = {"textcoords": "offset points", "xytext": (0, 8), "ha": "center", "color": ink, "size": 9}
    for place, value in zip(x, curve.rounds["ap50"], strict=True):
        if pd.notna(value):
            axes.annotate(f"{value:.2f}", (place, value), **above)
    _dress_axes(axes, x, text=AXES[against], ink=ink)
    return figure


def _dress_axes(axes: Any, x: pd.Series, *, text: str, ink: str) -> None:
    """Give matplotlib's axes their scale, texts and colours."""
    from matplotlib.ticker import MaxNLocator

    axes.set_ylim(0, 1.08)
    axes.set_yticks([0, 0.2, 0.4, 0.6, 0.8, 1.0])
    axes.set_xlabel(text, color=ink)
    axes.set_ylabel("average precision", color=ink)
    if 0 < x.nunique() <= 8:
        axes.set_xticks(sorted(set(x)))
    else:
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.tick_params(colors=ink)
    axes.grid(color=ink, alpha=0.25, lw=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(ink)
    axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False, labelcolor=ink, fontsize=9, reverse=True)


def _plain(text: str) -> str:
    """Keep a label from being read as mathtext, or as hidden because of a leading underscore."""
    return ("\u200b" + text if text.startswith("_") else text).replace("$", r"\$")


def bokeh_item(curve: Curve, *, against: str = "n_images", ink: str = INK) -> dict[str, Any]:
    """Draw the curve with Bokeh, as the JSON document that BokehJS embeds.

    The source of the rounds is named ``rounds``; tapping a point selects it there.

    Parameters
    ----------
    curve : Curve
        The numbers.
    against : str
        A key of `AXES`.
    ink : str
        Colour of axes and text, `#rrggbb`.
    """
    from bokeh.embed import json_item
    from bokeh.plotting import figure

    plot: Any = figure(
        height=340,
        sizing_mode="stretch_width",
        y_range=(0, 1.05),
        tools="pan,xwheel_zoom,box_zoom,tap,reset,save",
        x_axis_label=AXES[against],
        y_axis_label="average precision",
    )
    for label, points in curve.by_label(against).items():
        plot.line(points["x"], points["ap50"], color=label_colour(label), line_width=1.5, legend_label=f"{label} AP50")
    _draw_rounds(plot, curve.rounds, against, ink=ink)
    if curve.target_map50 is not None:
        _draw_target(plot, curve.target_map50)
    _dress_plot(plot, ink=ink)
    item: dict[str, Any] = dict(json_item(plot))
    return item


def _draw_rounds(plot: Any, rounds: pd.DataFrame, against: str, *, ink: str) -> None:
    """Draw the overall lines, with points that tell all columns of their round."""
    from bokeh.models import ColumnDataSource, HoverTool

    # A column's name may be anything: in the source it goes by its number.
    at = {str(name): f"c{k}" for k, name in enumerate(rounds.columns)}
    values = {f"c{k}": _plain_values(rounds.iloc[:, k]) for k in range(len(at))}
    source = ColumnDataSource(values, name="rounds")
    points = []
    for column, colour, marker, text in (
        ("ap", AP_COLOUR, "square", "mAP50:95"),
        ("ap50", AP50_COLOUR, "circle", "mAP50"),
    ):
        where = {"x": at[against], "y": at[column], "source": source, "color": colour, "legend_label": text}
        plot.line(**where, line_width=3, nonselection_line_alpha=1)
        chosen = {"nonselection_fill_alpha": 0.45, "selection_line_color": ink, "selection_line_width": 3}
        points.append(plot.scatter(**where, marker=marker, size=11, **chosen))
    digits = {"ap50": "{0.000}", "ap": "{0.000}", "seconds": "{0}"}
    tips = [(NAMES.get(name, name), f"@{key}{digits.get(name, '')}") for name, key in at.items()]
    plot.add_tools(HoverTool(renderers=points, tooltips=tips))


def _draw_target(plot: Any, target: float) -> None:
    """Draw the target as a line over the whole width, with an entry in the legend."""
    from bokeh.models import Span

    look = {"line_color": TARGET_COLOUR, "line_dash": "dashed", "line_width": 2}
    plot.add_layout(Span(location=target, dimension="width", **look))
    # A span is in no legend: a line without a point stands there for it.
    plot.line([math.nan], [math.nan], **look, legend_label=f"target {target:g}")


def _dress_plot(plot: Any, *, ink: str) -> None:
    """Give a Bokeh plot the colours of the page around it."""
    plot.update(background_fill_color=None, border_fill_color=None, outline_line_color=None, min_border_right=12)
    plot.toolbar.logo = None
    legend = plot.legend[0]
    legend.update(click_policy="hide", background_fill_alpha=0, border_line_alpha=0, label_text_color=ink)
    legend.items = legend.items[::-1]
    plot.add_layout(legend, "right")
    for axis in plot.axis:
        axis.update(axis_label_text_color=ink, major_label_text_color=ink, axis_line_color=ink)
        axis.update(major_tick_line_color=ink, minor_tick_line_color=None, axis_label_text_font_style="normal")
    plot.grid.grid_line_color = ink
    plot.grid.grid_line_alpha = 0.25


def _plain_values(values: pd.Series) -> list[Any]:
    """Give a column as JSON can carry it: numbers stay, all else becomes text."""
    if pd.api.types.is_numeric_dtype(values):
        return [None if pd.isna(value) else float(value) for value in values]
    return [str(value) for value in values]
