"""The noun that all widgets share: a picture with labelled boxes over it.

The live widgets draw boxes as SVG over a thumbnail. The static forms draw them into the JPEG
itself, because JupyterLab's sanitizer (and that of code-hosting pages) removes SVG from the
output of a notebook that is not trusted, and keeps an `<img>`.
"""

from __future__ import annotations

import base64
import hashlib
import html
import io
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from PIL import Image, ImageDraw

from ymir_nb.backend.dataset import Dataset
from ymir_nb.backend.errors import YmirError

THUMBNAIL_PX = 256
"""Longer side of the thumbnails that a live widget shows; sharp at 160 px on a double-density screen."""

STATIC_PX = 160
"""Longer side in a static form: 100 photographs stay under 1 MB of a notebook."""

MOST_MARKS = 200
"""Boxes drawn on one picture; of more, those with the highest scores, and the caption counts them all."""

PALETTE = (
    "#ef4c4b", "#d86b07", "#b88a06", "#869006", "#17a433", "#029c82", "#0598a5", "#0599d4", "#4a87fe", "#9070fc",
    "#c15cd7", "#e14c9e", "#ba2e01", "#786900", "#027e47", "#03758e", "#0267c7", "#594fd7", "#853dc2", "#a82795",
)  # fmt: skip
"""Twelve bright and eight deep hues; each has a contrast of 3:1 or more on white and on JupyterLab's dark grey."""

HALO = "#20202099"
"""Dark line under a box, so that it shows on any background."""

FULL, HOLLOW = "&#9632;", "&#9633;"

_SALT = "1455:"  # with it no two labels of the usual small vocabularies (helmet, person ...) look alike


def label_colour(name: str) -> str:
    """Give the colour of a label: the same in every widget, dataset, notebook and report.

    Parameters
    ----------
    name : str
        Main name of the label; case and outer blanks do not matter.

    Returns
    -------
    str
        `#rrggbb`, one of `PALETTE`.

    Examples
    --------
    >>> label_colour("helmet") == label_colour(" Helmet ")
    True
    """
    digest = hashlib.md5((_SALT + name.strip().casefold()).encode(), usedforsecurity=False).digest()
    return PALETTE[int.from_bytes(digest[:4], "big") % len(PALETTE)]


class Mark(NamedTuple):
    """One box on a picture, in the pixels of the upright image; a `score` of None marks ground truth."""

    label: str
    x1: float
    y1: float
    x2: float
    y2: float
    score: float | None


class Look(NamedTuple):
    """What of an image's boxes is shown: ground truth, predictions, and those from which score on."""

    truth: bool = True
    predictions: bool = True
    min_score: float = 0.0

    def of(self, marks: Iterable[Mark]) -> list[Mark]:
        """Keep the marks that are shown."""
        return [
            mark
            for mark in marks
            if (self.truth if mark.score is None else self.predictions and mark.score >= self.min_score)
        ]


EVERYTHING = Look()


class Overlay:
    """The boxes of a dataset, and of predictions over it, found by image.

    Parameters
    ----------
    dataset : Dataset
        Its annotations; those with a score count as predictions.
    predictions : Dataset or DataFrame, optional
        Further boxes: a dataset, or a frame with the columns of `tables.ANNOTATIONS`.

    Examples
    --------
    >>> Overlay(Dataset.of()).of("0" * 32)
    []
    """

    def __init__(self, dataset: Dataset, predictions: Dataset | pd.DataFrame | None = None) -> None:
        frames = [dataset.annotations]
        names = list(dataset.labels)
        if predictions is not None:
            frames.append(predictions.annotations if isinstance(predictions, Dataset) else predictions)
        columns = ["image", *Mark._fields]
        boxes = pd.concat([frame[columns] for frame in frames], ignore_index=True) if len(frames) > 1 else frames[0]
        codes, images = pd.factorize(boxes["image"])
        order = np.argsort(codes, kind="stable")
        self._boxes = boxes.loc[:, list(Mark._fields)].take(order)
        self._starts = np.searchsorted(codes[order], np.arange(len(images) + 1))
        self._places = pd.Index(images)
        self.has_truth = bool(boxes["score"].isna().any())
        self.has_predictions = bool(boxes["score"].notna().any())
        self.labels: tuple[str, ...] = tuple(dict.fromkeys([*names, *sorted(set(boxes["label"]))]))

    def of(self, image: str) -> list[Mark]:
        """List the boxes on an image: ground truth first, then predictions from the highest score down."""
        if image not in self._places:
            return []
        place = self._places.get_loc(image)
        rows = self._boxes.iloc[self._starts[place] : self._starts[place + 1]]
        marks = [
            Mark(label, x1, y1, x2, y2, None if math.isnan(score) else score)
            for label, x1, y1, x2, y2, score in rows.itertuples(index=False, name=None)
        ]
        return sorted(marks, key=lambda mark: (mark.score is not None, -(mark.score or 0.0)))


class Card(NamedTuple):
    """What a widget knows of one image: its row, its boxes, and its thumbnail or why there is none."""

    image: str
    file: str
    width: int
    height: int
    state: str
    marks: list[Mark]
    jpeg: bytes
    problem: str


def card(dataset: Dataset, overlay: Overlay, row: Any) -> Card:
    """Make the card of one image.

    Parameters
    ----------
    dataset : Dataset
        Gives the thumbnail through its `media`.
    overlay : Overlay
        Gives the boxes.
    row : namedtuple
        A row of the dataset's images table, as `itertuples` gives it.

    Returns
    -------
    Card
        With `problem` filled, and no JPEG, where the file cannot be had.
    """
    jpeg, problem = b"", ""
    try:
        jpeg = dataset.media.thumbnail(row.image, side_px=THUMBNAIL_PX)
    except (YmirError, OSError) as error:
        problem = str(error)
    marks = overlay.of(row.image)
    state = "unlabelled" if not row.labelled else "labelled"
    if row.labelled and all(mark.score is not None for mark in marks):
        state = "negative"
    return Card(row.image, row.file, int(row.width), int(row.height), state, marks, jpeg, problem)


def drawn(jpeg: bytes, marks: Sequence[Mark], *, width: int, height: int, side_px: int = STATIC_PX) -> bytes:
    """Draw boxes into a thumbnail: ground truth as full lines, predictions dashed.

    Parameters
    ----------
    jpeg : bytes
        The thumbnail.
    marks : sequence of Mark
        In the pixels of the full image; the first `MOST_MARKS` are drawn.
    width, height : int
        Of the full image, pixels.
    side_px : int
        Longer side of the result, if the thumbnail is larger.

    Returns
    -------
    bytes
        A JPEG.
    """
    with Image.open(io.BytesIO(jpeg)) as opened:
        picture = opened.convert("RGB")
    picture.thumbnail((side_px, side_px))
    pen = ImageDraw.Draw(picture, "RGBA")
    scale_x, scale_y = picture.width / width, picture.height / height
    for mark in reversed(marks[:MOST_MARKS]):
        corners = (mark.x1 * scale_x, mark.y1 * scale_y, mark.x2 * scale_x - 1, mark.y2 * scale_y - 1)
        _frame(pen, corners, colour=label_colour(mark.label), dashed=mark.score is not None)
    out = io.BytesIO()
    picture.save(out, "JPEG", quality=76, subsampling=0, optimize=True)  # full chroma keeps thin lines crisp
    return out.getvalue()


def figure_html(shown: Card, caption: str, *, look: Look = EVERYTHING, side_px: int = STATIC_PX) -> str:
    """Write one picture with its boxes and a caption as static HTML.

    Parameters
    ----------
    shown : Card
        The image; everything it says is escaped.
    caption : str
        HTML to stand under the picture; the caller escapes what came from outside.
    look : Look
        Which boxes are drawn.
    side_px : int
        Longer side of the picture, pixels.
    """
    marks = look.of(shown.marks)
    told = html.escape(f"{shown.file}: {tally_text(marks)}")
    if shown.jpeg:
        picture = drawn(shown.jpeg, marks, width=shown.width, height=shown.height, side_px=side_px)
        source = f"data:image/jpeg;base64,{base64.b64encode(picture).decode()}"
        body = (
            f'<img src="{source}" alt="{told}" title="{told}" '
            'style="display:block;max-width:100%;margin:0 auto;border-radius:4px">'
        )
    else:
        body = (
            f'<div title="{html.escape(shown.problem)}" style="box-sizing:border-box;height:90px;padding:8px;'
            'overflow:hidden;border:1px dashed #888;border-radius:4px;font-size:11px">'
            f"no picture: {html.escape(shown.problem[:90])}</div>"
        )
    return (
        f'<figure style="width:{side_px}px;margin:0;padding:0">{body}'
        f'<figcaption style="font-size:11px;line-height:1.35;padding:3px 1px;overflow:hidden">{caption}</figcaption>'
        "</figure>"
    )


def swatches_html(counts: Mapping[str, int], *, sign: str = FULL) -> str:
    """Write labels with their colours and counts as static HTML: `FULL` squares or `HOLLOW` ones."""
    return " ".join(
        f'<span style="white-space:nowrap"><span style="color:{label_colour(label)}">{sign}</span>&nbsp;'
        f"{html.escape(label)}&nbsp;{n:,}</span>"
        for label, n in counts.items()
    )


def tally_html(marks: Iterable[Mark]) -> str:
    """Count boxes by label as static HTML: ground truth with full squares, predictions with hollow ones."""
    truth, proposed = _tally(marks)
    return " ".join(part for part in (swatches_html(truth), swatches_html(proposed, sign=HOLLOW)) if part)


def tally_text(marks: Iterable[Mark]) -> str:
    """Count boxes in words: ``2 helmet, 1 head, predicted 3 helmet``, or ``no boxes``."""
    truth, proposed = _tally(marks)
    parts = [f"{n} {label}" for label, n in truth.items()] + [f"predicted {n} {label}" for label, n in proposed.items()]
    return ", ".join(parts) or "no boxes"


def _tally(marks: Iterable[Mark]) -> tuple[dict[str, int], dict[str, int]]:
    """Count ground truth and predictions by label, sorted by label."""
    counts = Counter((mark.score is None, mark.label) for mark in marks)
    truth, proposed = (
        {label: counts[kind, label] for found, label in sorted(counts) if found is kind} for kind in (True, False)
    )
    return truth, proposed


def _frame(pen: ImageDraw.ImageDraw, corners: tuple[float, float, float, float], *, colour: str, dashed: bool) -> None:
    """Draw a rectangle with a dark halo, so that it shows on any background."""
    x1, y1, x2, y2 = corners
    x2, y2 = max(x2, x1 + 1), max(y2, y1 + 1)
    pen.rectangle((x1 - 1, y1 - 1, x2 + 1, y2 + 1), outline=HALO, width=4)
    if not dashed:
        pen.rectangle((x1, y1, x2, y2), outline=colour, width=2)
        return
    for start, end in (((x1, y1), (x2, y1)), ((x2, y1), (x2, y2)), ((x2, y2), (x1, y2)), ((x1, y2), (x1, y1))):
        n_dashes = max(1, round(math.dist(start, end) / 9))
        for k in range(n_dashes):
            ends = [
                tuple(a + (b - a) * part / n_dashes for a, b in zip(start, end, strict=True)) for part in (k, k + 0.7)
            ]
            pen.line(ends, fill=colour, width=2)
