"""mAP over the rounds: Bokeh while a kernel runs, a picture where none does."""

from __future__ import annotations

import base64
import html
from collections.abc import Iterable, Sequence
from functools import cache
from importlib import resources
from typing import Any

import pandas as pd
import traitlets

from ymir_nb.widgets.learning_curve import AXES, NAMES, Curve, bokeh_item, png
from ymir_nb.widgets.panel import Panel, static_text


class IterationChart(Panel):
    """Show how a project's mAP grew, round by round.

    Hover a point for its numbers and versions, click it (Shift for more) to select the round, click the
    legend to hide a line. The drop-down says what the curve is drawn against.

    Parameters
    ----------
    frame : DataFrame
        A row a round: round, n_images, n_boxes, ap50, ap. Further columns (seconds, dataset, model ...)
        show in the hover and in the table of the static form.
    target_map50 : float, optional
        Target, drawn as a line, in [0, 1].
    per_label : DataFrame, optional
        Long frame of AP50 per label: round, label, ap50.

    Attributes
    ----------
    frame : DataFrame
        The rounds, sorted.
    selection : list of int
        Rounds that are selected; settable.
    against : str
        ``n_images``, ``n_boxes`` or ``round``.

    Raises
    ------
    InvalidTable
        A column is missing, or a precision lies outside [0, 1].

    Examples
    --------
    >>> rounds = pd.DataFrame({"round": [0], "n_images": [20], "n_boxes": [31], "ap50": [0.4], "ap": [0.2]})
    >>> IterationChart(rounds, target_map50=0.8)
    <IterationChart 1 round, mAP50 0.400, target 0.8>
    """

    _esm = static_text("panel.js", "iteration_chart.js")
    _css = static_text("panel.css", "iteration_chart.css")

    against = traitlets.Enum(list(AXES), default_value="n_images").tag(sync=True)
    axes = traitlets.Dict(AXES).tag(sync=True)
    picked = traitlets.List(traitlets.Int()).tag(sync=True)

    def __init__(
        self, frame: pd.DataFrame, *, target_map50: float | None = None, per_label: pd.DataFrame | None = None
    ) -> None:
        self._curve = Curve.of(frame, per_label=per_label, target_map50=target_map50)
        super().__init__()

    @property
    def frame(self) -> pd.DataFrame:
        """The rounds, sorted by round."""
        return self._curve.rounds

    @property
    def selection(self) -> list[int]:
        """Rounds whose points are selected."""
        return [int(number) for number in self.frame["round"].iloc[self.picked]]

    @selection.setter
    def selection(self, rounds: Iterable[int]) -> None:
        wanted = set(rounds)
        missing = wanted - set(self.frame["round"])
        if missing:
            raise ValueError(f"rounds {sorted(missing)} are not in the chart: it has {list(self.frame['round'])}.")
        self.picked = [k for k, number in enumerate(self.frame["round"]) if number in wanted]

    def __repr__(self) -> str:
        """Say in one line what it shows."""
        n = len(self.frame)
        target = self._curve.target_map50
        parts = [f"{n} round{'' if n == 1 else 's'}"]
        parts += [f"mAP50 {self.frame['ap50'].iloc[-1]:.3f}"] if n else []
        parts += [f"target {target:g}"] if target is not None else []
        return f"<IterationChart {', '.join(parts)}>"

    def to_html(self) -> str:
        """Write the static form: a picture and the table of rounds."""
        picture = base64.b64encode(png(self._curve, against=self.against)).decode()
        said = html.escape(repr(self))
        return (
            f'<div><img src="data:image/png;base64,{picture}" alt="{said}" title="{said}" '
            f'style="max-width:760px;width:100%">{rounds_table(self.frame)}</div>'
        )

    @traitlets.validate("picked")
    def _keep_picked_inside(self, proposal: Any) -> list[int]:
        return sorted({place for place in proposal["value"] if 0 <= place < len(self.frame)})

    @traitlets.observe("picked")
    def _picked_changed(self, _change: object) -> None:
        self._tell(self.selection)

    def _answer(self, kind: str, content: dict[str, Any]) -> tuple[dict[str, Any], Sequence[bytes]]:
        """Answer for the figure, and once a page for BokehJS itself: it is on no CDN and in no notebook."""
        if kind == "figure":
            from bokeh import __version__

            ink = str(content.get("ink", ""))
            chosen = {"ink": ink} if _is_colour(ink) else {}
            return {
                "kind": "figure",
                "against": self.against,
                "bokeh": __version__,
                "item": bokeh_item(self._curve, against=self.against, **chosen),
            }, []
        if kind == "bokehjs":
            return {"kind": "bokehjs"}, [_bokehjs()]
        return super()._answer(kind, content)


def rounds_table(frame: pd.DataFrame) -> str:
    """Write the rounds as an HTML table, every cell escaped."""
    shown = frame.copy()
    for column in shown.columns:
        if column in ("ap50", "ap"):
            shown[column] = [f"{value:.3f}" if pd.notna(value) else "" for value in shown[column]]
        elif column == "seconds":
            shown[column] = [f"{value:.0f}" if pd.notna(value) else "" for value in shown[column]]
    head = "".join(f"<th>{html.escape(NAMES.get(str(column), str(column)))}</th>" for column in shown.columns)
    rows = "".join(
        f"<tr>{''.join(f'<td>{html.escape(str(value))}</td>' for value in row)}</tr>"
        for row in shown.itertuples(index=False)
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"


def _is_colour(text: str) -> bool:
    return len(text) == 7 and text[0] == "#" and all(digit in "0123456789abcdef" for digit in text[1:].lower())


@cache
def _bokehjs() -> bytes:
    """Read BokehJS as the bokeh package ships it (1.3 MB)."""
    return (resources.files("bokeh") / "server" / "static" / "js" / "bokeh.min.js").read_bytes()
