"""Browse a dataset: pages of pictures with their boxes, picked by click or key."""

from __future__ import annotations

import html

import pandas as pd

from ymir_nb.backend.dataset import Dataset
from ymir_nb.widgets.gallery import MOST_STATIC, Gallery
from ymir_nb.widgets.panel import static_text
from ymir_nb.widgets.picture import Card, Look, figure_html, swatches_html, tally_html


class DatasetBrowser(Gallery):
    """Show a dataset as pages of pictures.

    Ground truth is drawn with full lines, predictions dashed; a label has one colour everywhere. Click a
    picture (or Space on it) to select it. Keys: arrows, Home, End, PageUp, PageDown.

    Parameters
    ----------
    dataset : Dataset
        What to show.
    predictions : Dataset or DataFrame, optional
        Boxes with scores to draw over it: a predictions dataset, or a frame with the columns of
        `tables.ANNOTATIONS`.
    page_size : int
        Pictures a page, from 1 to 500.

    Attributes
    ----------
    selection : list of str
        The selected images, by their content hash; settable.
    page : int
        Page that is shown, from 0.
    show_truth, show_predictions : bool
        What is drawn.
    min_score : float
        Predictions under it are not drawn, in [0, 1].

    Examples
    --------
    >>> DatasetBrowser(Dataset.of(labels=["dog"])).selection
    []
    """

    _esm = static_text("panel.js", "picture.js", "gallery.js", "dataset_browser.js")
    _css = static_text("panel.css", "picture.css", "gallery.css", "dataset_browser.css")

    def __init__(
        self, dataset: Dataset, *, predictions: Dataset | pd.DataFrame | None = None, page_size: int = 24
    ) -> None:
        super().__init__(
            dataset,
            dataset.images[["image"]],
            predictions=predictions,
            page_size=page_size,
            title=_headline(dataset),
        )

    def __repr__(self) -> str:
        """Say in one line what it shows."""
        return f"<DatasetBrowser {self.title}, {len(self.picked)} selected>"

    def to_html(self) -> str:
        """Write the static form: the header and the page that is shown."""
        first = self.page * self.page_size
        cards = self.cards(first, min(self.page_size, MOST_STATIC))
        span = f" &middot; pictures {first + 1} to {first + len(cards)}" if len(cards) < self.n_rows else ""
        figures = "".join(figure_html(each, _caption(each, self.look), look=self.look) for each in cards)
        return (
            '<div style="font-family:system-ui,sans-serif;font-size:13px">'
            f'<div style="padding:4px 0"><strong>{html.escape(self.title)}</strong>{span}</div>'
            f'<div style="padding:0 0 6px">{swatches_html(self._dataset.counts())}</div>'
            f'<div style="display:flex;flex-wrap:wrap;gap:8px">{figures}</div></div>'
        )


def _headline(dataset: Dataset) -> str:
    """Name and counts of a dataset."""
    return (
        f"{dataset.ref or 'Dataset'}: {len(dataset):,} images, {dataset.n_boxes:,} boxes, "
        f"{dataset.n_negatives:,} negatives, {dataset.n_unlabelled:,} unlabelled"
    )


def _caption(card: Card, look: Look) -> str:
    """File name, state and boxes of a picture."""
    said = {"labelled": "", "negative": "nothing in it", "unlabelled": "not labelled yet"}[card.state]
    parts = [tally_html(look.of(card.marks)), html.escape(said)]
    return f"{html.escape(card.file)}<br>" + " &middot; ".join(part for part in parts if part)
