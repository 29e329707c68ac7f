"""A widget of pictures, page by page: what the dataset browser and the leaderboard have in common."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import pandas as pd
import traitlets

from ymir_nb.backend.dataset import Dataset
from ymir_nb.widgets.panel import Panel
from ymir_nb.widgets.picture import MOST_MARKS, Card, Look, Overlay, card, label_colour

MOST_STATIC = 100
"""Pictures in a static form; the header says how many there are in all."""


class Gallery(Panel):
    """Pages of images with their boxes; rows are picked by click or key.

    A subclass gives `_notes`, what stands under each picture.

    Parameters
    ----------
    dataset : Dataset
        Gives pictures and ground truth.
    rows : DataFrame
        The images to show, in order: a column `image`, each once, all of them in the dataset.
    predictions : Dataset or DataFrame, optional
        Boxes with scores to draw over them.
    page_size : int
        Pictures a page, from 1 to 500.
    """

    page = traitlets.Int(0).tag(sync=True)
    page_size = traitlets.Int(24, min=1, max=500).tag(sync=True)
    n_rows = traitlets.Int(0).tag(sync=True)
    title = traitlets.Unicode("").tag(sync=True)
    labels = traitlets.List().tag(sync=True)
    has_truth = traitlets.Bool(default_value=False).tag(sync=True)
    has_predictions = traitlets.Bool(default_value=False).tag(sync=True)
    show_truth = traitlets.Bool(default_value=True).tag(sync=True)
    show_predictions = traitlets.Bool(default_value=True).tag(sync=True)
    min_score = traitlets.Float(0.0, min=0.0, max=1.0).tag(sync=True)
    picked = traitlets.List(traitlets.Int()).tag(sync=True)

    def __init__(
        self,
        dataset: Dataset,
        rows: pd.DataFrame,
        *,
        predictions: Dataset | pd.DataFrame | None,
        page_size: int,
        title: str,
        picked: Sequence[int] = (),
    ) -> None:
        self._dataset = dataset
        self._rows = rows
        self._overlay = Overlay(dataset, predictions)
        self._images = dataset.images
        self._places = pd.Index(dataset.images["image"])
        super().__init__(
            n_rows=len(rows),
            page_size=page_size,
            title=title,
            picked=list(picked),
            labels=[[label, label_colour(label)] for label in self._overlay.labels],
            has_truth=self._overlay.has_truth,
            has_predictions=self._overlay.has_predictions,
        )

    @property
    def n_pages(self) -> int:
        """Number of pages; an empty gallery has one."""
        return max(1, math.ceil(self.n_rows / self.page_size))

    @property
    def selection(self) -> list[str]:
        """Images that are picked, by their content hash, in the order of the rows."""
        return [str(image) for image in self._rows["image"].iloc[self.picked]]

    @selection.setter
    def selection(self, images: Iterable[str]) -> None:
        wanted = list(images)
        known = pd.Index(self._rows["image"])
        missing = [image for image in wanted if image not in known]
        if missing:
            raise ValueError(
                f"{len(missing)} of {len(wanted)} images are not shown here, the first is {missing[0]}. "
                "Select from the images of this widget."
            )
        self.picked = [int(place) for place in known.get_indexer(wanted)]

    @traitlets.validate("page")
    def _keep_page_inside(self, proposal: Any) -> int:
        return int(min(max(0, proposal["value"]), self.n_pages - 1))

    @traitlets.validate("picked")
    def _keep_picked_inside(self, proposal: Any) -> list[int]:
        return sorted({place for place in proposal["value"] if 0 <= place < len(self._rows)})

    @traitlets.observe("picked")
    def _picked_changed(self, _change: object) -> None:
        self._tell(self.selection)

    @property
    def look(self) -> Look:
        """Which boxes are shown."""
        return Look(self.show_truth, self.show_predictions, self.min_score)

    def cards(self, first: int, n: int) -> list[Card]:
        """Make the cards of `n` rows from the row `first` on, pictures included."""
        images = self._rows["image"].iloc[first : first + n]
        rows = self._images.take(self._places.get_indexer(images))
        return [card(self._dataset, self._overlay, row) for row in rows.itertuples(index=False)]

    def _notes(self, place: int) -> dict[str, Any]:  # noqa: ARG002
        """Give what the front end shows of a row beside its picture."""
        return {}

    def _answer(self, kind: str, content: dict[str, Any]) -> tuple[dict[str, Any], Sequence[bytes]]:
        """Answer a request for a page: its cards as one message, its pictures as buffers."""
        if kind != "page":
            return super()._answer(kind, content)
        page = min(max(0, int(content["page"])), self.n_pages - 1)
        first = page * self.page_size
        cards = self.cards(first, self.page_size)
        numbers = {label: k for k, label in enumerate(self._overlay.labels)}
        return {
            "kind": "page",
            "page": page,
            "cards": [
                {
                    "place": first + k,
                    "file": each.file,
                    "width": each.width,
                    "height": each.height,
                    "state": each.state,
                    "n_marks": len(each.marks),
                    "marks": [
                        [numbers[mark.label], *map(float, mark[1:5]), mark.score] for mark in each.marks[:MOST_MARKS]
                    ],
                    "problem": each.problem,
                    **self._notes(first + k),
                }
                for k, each in enumerate(cards)
            ],
        }, [each.jpeg for each in cards]
