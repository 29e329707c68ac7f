"""The images that mining ranked: with the model's proposals, the score and the reason."""

from __future__ import annotations

import html
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from ymir_nb.backend.dataset import Dataset
from ymir_nb.backend.errors import InvalidTable
from ymir_nb.widgets.gallery import MOST_STATIC, Gallery
from ymir_nb.widgets.panel import static_text
from ymir_nb.widgets.picture import STATIC_PX, Card, figure_html, tally_html

COLUMNS = ("rank", "image", "score", "why")
"""Columns that a leaderboard has; more may follow."""


class MiningLeaderboard(Gallery):
    """A leaderboard when displayed, a frame when used.

    Everything is ticked to begin with; untick what shall not be labelled. `board["image"]`, `len(board)`
    and iteration go to the frame.

    Parameters
    ----------
    board : DataFrame
        Columns rank (from 1), image (content hash), score, why (text); a row an image, in rank order.
    dataset : Dataset
        The pool the images are from.
    predictions : Dataset or DataFrame, optional
        The model's proposals on them, with scores.
    page_size : int
        Pictures a page, from 1 to 500.

    Attributes
    ----------
    frame : DataFrame
        The board as it was given.
    selection : list of str
        The ticked images in rank order; settable.

    Raises
    ------
    InvalidTable
        A column is missing, or an image is not in the dataset or stands there twice.

    Examples
    --------
    >>> board = pd.DataFrame({"rank": [], "image": [], "score": [], "why": []})
    >>> len(MiningLeaderboard(board, Dataset.of()))
    0
    """

    _esm = static_text("panel.js", "picture.js", "gallery.js", "mining_leaderboard.js")
    _css = static_text("panel.css", "picture.css", "gallery.css", "mining_leaderboard.css")

    def __init__(
        self,
        board: pd.DataFrame,
        dataset: Dataset,
        predictions: Dataset | pd.DataFrame | None = None,
        *,
        page_size: int = 24,
    ) -> None:
        _check(board, dataset)
        self._scores = pd.to_numeric(board["score"]).to_numpy(dtype=float)
        super().__init__(
            dataset,
            board,
            predictions=predictions,
            page_size=page_size,
            title=f"Mining leaderboard: {len(board):,} images of {dataset.ref or 'the pool'}",
            picked=range(len(board)),
        )
        self.show_truth = False  # where a pool has labels held back, a leaderboard does not give them away

    @property
    def frame(self) -> pd.DataFrame:
        """The board as a frame: rank, image, score, why."""
        return self._rows

    def __len__(self) -> int:
        """Count the ranked images."""
        return len(self._rows)

    def __bool__(self) -> bool:
        """Be true even when nothing was mined: a widget is there."""
        return True

    def __getitem__(self, key: Any) -> Any:
        """Give a column, or what a frame gives for the key."""
        return self._rows[key]

    def __iter__(self) -> Iterator[Any]:
        """Go through the rows as named tuples, best first."""
        return iter(self._rows.itertuples(index=False, name="Ranked"))

    def __repr__(self) -> str:
        """Say in one line what it shows."""
        return f"<MiningLeaderboard {len(self)} images, {len(self.picked)} ticked for labelling>"

    def to_html(self) -> str:
        """Write the static form: the header and the best images, a page of them."""
        n = min(self.page_size, MOST_STATIC)
        span = f" &middot; the first {n} are shown" if n < len(self) else ""
        return (
            '<div style="font-family:system-ui,sans-serif;font-size:13px">'
            f'<div style="padding:4px 0 6px"><strong>{html.escape(self.title)}</strong> &middot; '
            f"{len(self.picked)} ticked for labelling{span}</div>"
            f'<div style="display:flex;flex-wrap:wrap;gap:8px">{self.figures_html(n)}</div></div>'
        )

    def figures_html(self, n: int, *, side_px: int = STATIC_PX) -> str:
        """Write the best `n` images as static figures, `side_px` pixels wide, one after the other."""
        ticked = set(self.picked)
        return "".join(
            figure_html(
                each,
                self._caption(place, each, ticked=place in ticked),
                look=self.look,
                side_px=side_px,
            )
            for place, each in enumerate(self.cards(0, n))
        )

    def _caption(self, place: int, card: Card, *, ticked: bool) -> str:
        """Rank, score, reason and proposals of a picture."""
        notes = self._notes(place)
        tick = "&#9745;" if ticked else "&#9744;"
        why = f"<br>{html.escape(notes['why'])}" if notes["why"] else ""
        return (
            f"{tick} <strong>#{notes['rank']}</strong> {notes['score']}{why}<br>{tally_html(self.look.of(card.marks))}"
        )

    def _notes(self, place: int) -> dict[str, Any]:
        """Rank, score and reason of a row, and the score's share of the range."""
        row = self._rows.iloc[place]
        score = self._scores[place]
        low, high = np.nanmin([0.0, *self._scores]), np.nanmax([0.0, *self._scores])
        known = bool(np.isfinite(score))
        return {
            "rank": int(row["rank"]),
            "score": f"{score:.3f}" if known else "no score",
            "why": str(row["why"]),
            "share": float((score - low) / (high - low)) if known and high > low else 0.0,
        }


def _check(board: pd.DataFrame, dataset: Dataset) -> None:
    """Refuse a board that does not fit its dataset."""
    missing = [name for name in COLUMNS if name not in board.columns]
    if missing:
        raise InvalidTable(f"leaderboard: missing columns {', '.join(missing)}. It needs {', '.join(COLUMNS)}.")
    strangers = board.loc[~board["image"].isin(dataset.images["image"]), "image"]
    if len(strangers):
        raise InvalidTable(
            f"leaderboard: {len(strangers)} images are not in {dataset.ref or 'the dataset'}, the first is "
            f"{strangers.iloc[0]}. Give the pool that was mined."
        )
    twice = board.loc[board["image"].duplicated(), "image"]
    if len(twice):
        raise InvalidTable(f"leaderboard: image {twice.iloc[0]} is ranked twice. Keep one row an image.")
