"""What an import did: one row for everything that was not taken exactly as it came."""

from __future__ import annotations

import html
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

import pandas as pd

KINDS = {
    "quarantined": "an image that was left out",
    "refused": "an entry of the source that was not opened",
    "unreadable": "an annotation file that could not be read; its images count as not labelled",
    "unmatched": "an annotation without its image, or the other way round",
    "unlabelled": "annotations that do not fit their picture; the image counts as not labelled",
    "rejected": "an object that was left out",
    "conflict": "two sources say different things about one image",
    "ignored": "objects whose label is not in labels.yaml",
    "clipped": "objects cut to their picture",
    "oriented": "pictures turned upright by their EXIF orientation",
    "added": "a label that was added to labels.yaml",
    "folded": "an alias or other spelling that became the main name",
    "duplicate": "a further name of the same bytes",
    "note": "worth knowing; nothing was lost",
}
"""Kinds of rows, the gravest first."""

_OF_LABELS = ("ignored", "added", "folded")
_SHOWN = 200
_ORDER = {kind: position for position, kind in enumerate(KINDS)}


class ReportRow(NamedTuple):
    """One thing that an import has to say.

    Parameters
    ----------
    file : str
        Name in the source; empty where it concerns the whole import.
    kind : str
        One of `KINDS`.
    reason : str
        What was found.
    remedy : str
        What the user can do about it.
    n : int
        How many images, objects or entries the row stands for.
    """

    file: str
    kind: str
    reason: str
    remedy: str
    n: int = 1


@dataclass(frozen=True)
class ImportReport:
    """The result of an import in numbers, and a row for everything that needs a look.

    Parameters
    ----------
    rows : tuple of ReportRow
        Sorted by kind (the gravest first) and file.
    format : str
        Annotation format that was read.
    n_images, n_boxes : int
        Images and objects that were accepted.
    n_negatives, n_unlabelled : int
        Images that are labelled and empty, and images that nobody has labelled yet.

    Examples
    --------
    >>> ImportReport.of([ReportRow("a.jpg", "quarantined", "empty file", "copy it again")]).n_quarantined
    1
    """

    rows: tuple[ReportRow, ...] = ()
    format: str = ""
    n_images: int = 0
    n_boxes: int = 0
    n_negatives: int = 0
    n_unlabelled: int = 0

    @classmethod
    def of(cls, rows: Iterable[ReportRow], **counts: Any) -> ImportReport:
        """Make a report with its rows in order; `counts` are the fields."""
        ordered = sorted(rows, key=lambda row: (_ORDER[row.kind], row.file, row.reason, row.n))
        return cls(tuple(ordered), **counts)

    def count(self, kind: str) -> int:
        """Count what the rows of a kind stand for."""
        return sum(row.n for row in self.rows if row.kind == kind)

    @property
    def n_quarantined(self) -> int:
        """Number of images left out."""
        return self.count("quarantined")

    @property
    def n_rejected(self) -> int:
        """Number of objects left out for their box or label text."""
        return self.count("rejected")

    @property
    def n_clipped(self) -> int:
        """Number of objects cut to their picture."""
        return self.count("clipped")

    @property
    def n_duplicates(self) -> int:
        """Number of files whose bytes came under another name already."""
        return self.count("duplicate")

    def to_frame(self) -> pd.DataFrame:
        """List the rows: columns file, kind, reason, remedy, n."""
        return pd.DataFrame(self.rows, columns=list(ReportRow._fields))

    def summary(self) -> dict[str, Any]:
        """Give the numbers and rows as plain values, ready for JSON."""
        return {
            "format": self.format,
            "n_images": self.n_images,
            "n_boxes": self.n_boxes,
            "n_negatives": self.n_negatives,
            "n_unlabelled": self.n_unlabelled,
            "n_quarantined": self.n_quarantined,
            "n_rejected": self.n_rejected,
            "n_clipped": self.n_clipped,
            "n_duplicates": self.n_duplicates,
            "report": [row._asdict() for row in self.rows],
        }

    def to_text(self, *, limit: int = 20) -> str:
        """Write the report for a terminal, one line a row, control characters made visible."""
        lines = [repr(self)]
        lines += [
            f"  {row.kind:<11} {visible(row.file) or '(all)'}: {visible(row.reason)}; {visible(row.remedy)}"
            for row in self.rows[:limit]
        ]
        if len(self.rows) > limit:
            lines.append(f"  ... and {len(self.rows) - limit} more rows: report.to_frame()")
        return "\n".join(lines)

    def __repr__(self) -> str:
        """Say in one line what came of the import."""
        extras = [
            f"{len(rows)} labels {kind}" if kind in _OF_LABELS else f"{sum(row.n for row in rows)} {kind}"
            for kind in KINDS
            if kind != "note" and (rows := [row for row in self.rows if row.kind == kind])
        ]
        return (
            f"<ImportReport: {self.n_images} images, {self.n_boxes} boxes, {self.n_negatives} negatives, "
            f"{self.n_unlabelled} unlabelled{''.join(', ' + extra for extra in extras)}>"
        )

    def _repr_html_(self) -> str:
        """Show the report as a table in a notebook; every text is escaped."""
        head = f"<p>{_escaped(repr(self)[1:-1])}</p>"
        if not self.rows:
            return head
        cells = "".join(
            "<tr>" + "".join(f"<td>{_escaped(str(value))}</td>" for value in row) + "</tr>"
            for row in self.rows[:_SHOWN]
        )
        more = len(self.rows) - _SHOWN
        foot = f"<p>... and {more} more rows: <code>report.to_frame()</code></p>" if more > 0 else ""
        titles = "".join(f"<th>{name}</th>" for name in ReportRow._fields)
        return f"{head}<table><thead><tr>{titles}</tr></thead><tbody>{cells}</tbody></table>{foot}"


def visible(text: str) -> str:
    r"""Replace characters that a terminal would obey by their escapes, such as ``\n`` or ``\x1b``."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def _escaped(text: str) -> str:
    return html.escape(visible(text))
