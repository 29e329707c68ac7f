"""A model's card as HTML: no script, nothing fetched, and every word from outside escaped."""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd

_INK = "color:var(--jp-ui-font-color1,CanvasText)"
_SOFT = "color:var(--jp-ui-font-color2,GrayText)"
_LINE = "var(--jp-border-color2,GrayText)"
_CARD = (
    f"{_INK};background:var(--jp-layout-color1,Canvas);border:1px solid {_LINE};border-radius:6px;"
    "font-family:var(--jp-ui-font-family,system-ui,sans-serif);font-size:var(--jp-ui-font-size1,13px);line-height:1.5;"
    "max-width:760px;overflow-wrap:anywhere;padding:10px 14px"
)
_LABEL = f"border:1px solid {_LINE};border-radius:9px;display:inline-block;margin:0 4px 4px 0;padding:0 8px"
_LINK = "color:var(--jp-content-link-color,LinkText);font-weight:600"
_CELL = f"border-bottom:1px solid {_LINE};padding:2px 12px 2px 0;text-align:left;{_INK};background:transparent"
MOST_LABELS = 60


def model_card(
    *,
    title: str,
    headline: str,
    labels: Iterable[str],
    facts: Mapping[str, str],
    stages: pd.DataFrame,
    link: tuple[str, str] | None = None,
) -> str:
    """Write the card of a model.

    Parameters
    ----------
    title, headline : str
        Its reference, and how good it is.
    labels : iterable of str
        What it detects.
    facts : mapping of str to str
        Name and value of all else worth knowing; empty values are left out.
    stages : DataFrame
        A row a stage, any columns.
    link : tuple of str, optional
        Address of its package, relative to the notebook, and the words of the link.

    Returns
    -------
    str
        A ``<div>`` in the colours of JupyterLab's theme, or the page's own.

    Examples
    --------
    >>> "<b>" in model_card(title="<b>", headline="", labels=[], facts={}, stages=pd.DataFrame())
    False
    """
    names = list(labels)
    more = [f"and {len(names) - MOST_LABELS} more"] if len(names) > MOST_LABELS else []
    chips = "".join(f'<span style="{_LABEL}">{html.escape(name)}</span>' for name in [*names[:MOST_LABELS], *more])
    rows = "".join(
        f'<tr><th style="{_CELL};font-weight:normal;{_SOFT}">{html.escape(name)}</th>'
        f'<td style="{_CELL}">{html.escape(value)}</td></tr>'
        for name, value in facts.items()
        if value
    )
    download = ""
    if link is not None:
        address, words = (html.escape(part, quote=True) for part in link)
        # With `download`, JupyterLab leaves the click to the browser; without, it would open the file as a text.
        download = f'<div style="margin-top:8px"><a style="{_LINK}" href="{address}" download>{words}</a></div>'
    return (
        f'<div class="ymir-model-card" style="{_CARD}"><div style="font-size:1.25em;font-weight:600">'
        f'{html.escape(title)}</div><div style="{_SOFT};margin-bottom:6px">{html.escape(headline)}</div>'
        f'<div>{chips}</div>{_table(stages)}<table style="border-collapse:collapse;margin:8px 0 0">{rows}</table>'
        f"{download}</div>"
    )


def _table(frame: pd.DataFrame) -> str:
    """Write a frame as a table, numbers with three decimals."""
    if frame.empty:
        return ""
    head = "".join(f'<th style="{_CELL};font-weight:600">{html.escape(str(column))}</th>' for column in frame.columns)
    body = ""
    for row in frame.astype(object).itertuples(index=False, name=None):
        cells = "".join(f'<td style="{_CELL}">{html.escape(_text(value))}</td>' for value in row)
        body += f"<tr>{cells}</tr>"
    return f'<table style="border-collapse:collapse;margin:6px 0 0"><tr>{head}</tr>{body}</table>'


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else ""
    if isinstance(value, float):
        return "" if pd.isna(value) else f"{value:.3f}"
    return str(value)
