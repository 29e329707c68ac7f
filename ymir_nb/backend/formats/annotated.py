"""What a format's reader gives back, and the rules that all readers share.

A reader turns files into `Annotated`: rows that name images as the source does, label texts as they
stand, boxes as float ``x1 y1 x2 y2``. Folding labels, fitting boxes to pictures and hashing are the
business of `gathering`, the same for every format.
"""

from __future__ import annotations

import codecs
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple, Protocol

import orjson

from ymir_nb.backend.dataset import Dataset
from ymir_nb.backend.reports import ReportRow
from ymir_nb.backend.sources import Source

NAN = float("nan")
_PREDICTIONS = {"pred", "preds", "predictions"}
_SPLIT_WORDS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}


class FoundObject(NamedTuple):
    """One object as an annotation file has it; the columns are those of `tables.ANNOTATIONS`.

    `file` names the image in the source, `number` the object in its annotation file (from 1, or COCO's id).
    """

    file: str
    number: int | str
    label: str
    x1: float
    y1: float
    x2: float
    y2: float
    score: float = NAN
    segmentation: str = ""
    area_px: float = NAN
    crowd: bool = False
    quality: float = NAN
    rotation: float = 0.0
    tags: str = "{}"


class FoundImage(NamedTuple):
    """What annotation files say about one image.

    `width` and `height` are the size that the boxes were drawn for, 0 where nobody said.
    """

    file: str
    annotation_file: str = ""
    width: int = 0
    height: int = 0
    split: str = ""
    keys: str = "{}"
    quality: float = NAN
    labelled: bool = False


@dataclass
class Annotated:
    """Everything that a reader found.

    Parameters
    ----------
    objects : list of FoundObject
        Objects whose box is a box.
    images : dict of str to FoundImage
        Images that an annotation file or a split list speaks of.
    rows : list of ReportRow
        What could not be taken.
    declared : tuple of str
        Label texts that the format lists, used or not.
    losses : dict of str to int
        Number of rejected objects by image.
    """

    objects: list[FoundObject] = field(default_factory=list)
    images: dict[str, FoundImage] = field(default_factory=dict)
    rows: list[ReportRow] = field(default_factory=list)
    declared: tuple[str, ...] = ()
    losses: dict[str, int] = field(default_factory=dict)

    def reject(self, image: str, where: str, reason: str, remedy: str = "repair it there and import again") -> None:
        """Report an object that is left out; `where` is its place in an annotation file."""
        self.losses[image] = self.losses.get(image, 0) + 1
        self.rows.append(ReportRow(image, "rejected", f"{where}: {reason}", remedy))

    def report(self, file: str, kind: str, reason: str, remedy: str, n: int = 1) -> None:
        """Add a row to the report."""
        self.rows.append(ReportRow(file, kind, reason, remedy, n))


class Format(Protocol):
    """An annotation format: one module with these three functions, and a row in `FORMATS`."""

    def recognise(self, source: Source) -> str:
        """Say what of this format lies in the source; empty if nothing does."""
        ...

    def read(self, source: Source, image_names: list[str]) -> Annotated:
        """Read all annotations for the images of these names."""
        ...

    def write(self, dataset: Dataset, directory: str | Path, *, link: bool = False) -> list[str]:
        """Write a dataset; give a sentence for everything that the format cannot carry."""
        ...


def box_fault(x1: float | None, y1: float | None, x2: float | None, y2: float | None) -> str:
    """Say why four numbers are no box; empty if they are one. Fitting to the picture comes later."""
    if x1 is None or y1 is None or x2 is None or y2 is None:
        return "a coordinate is missing or no number"
    if not math.isfinite(x1 + y1 + x2 + y2):
        return "a coordinate is not finite"
    if x2 < x1 or y2 < y1:
        return f"an inverted box ({x1:g}, {y1:g}, {x2:g}, {y2:g})"
    if x2 == x1 or y2 == y1:
        return f"a box without area ({x1:g}, {y1:g}, {x2:g}, {y2:g})"
    return ""


def number(value: Any) -> float | None:
    """Read a number, or the text of one; `None` if it is neither."""
    # Exact types: this is called for every coordinate, and True is no number.
    if type(value) in (int, float):
        try:
            return float(value)
        except OverflowError:
            return math.inf
    if isinstance(value, str) and "_" not in value:
        try:
            return float(value)
        except ValueError:
            return None
    return None


def share(value: Any) -> float:
    """Read a score or quality in [0, 1]; NaN where it is absent, -1 (YMIR's unknown) or out of range."""
    read = number(value)
    return read if read is not None and 0.0 <= read <= 1.0 else NAN


def texts(pairs: Mapping[str, Any]) -> str:
    """Write key:value pairs as a JSON object of texts, keys sorted."""
    if not pairs:
        return "{}"
    plain = {
        str(key): value if isinstance(value, str) else orjson.dumps(value).decode() for key, value in pairs.items()
    }
    return orjson.dumps(plain, option=orjson.OPT_SORT_KEYS).decode()


def decode(data: bytes) -> str:
    """Decode XML or JSON text: by its byte order mark, its zero bytes, its declaration, or as UTF-8.

    Raises
    ------
    UnicodeDecodeError
        The bytes are not of that encoding.
    LookupError
        The declaration names an encoding that does not exist.

    Source: XML 1.0, appendix F; RFC 4627, section 3.
    """
    for mark, encoding in (
        (codecs.BOM_UTF8, "utf-8-sig"),
        (codecs.BOM_UTF32_LE, "utf-32"),
        (codecs.BOM_UTF32_BE, "utf-32"),
        (codecs.BOM_UTF16_LE, "utf-16"),
        (codecs.BOM_UTF16_BE, "utf-16"),
    ):
        if data.startswith(mark):
            return data.decode(encoding)
    if data[1:2] == b"\0":
        return data.decode("utf-16-le")
    if data[:1] == b"\0":
        return data.decode("utf-16-be")
    declared = re.match(rb"<\?xml[^>]{0,100}?encoding\s*=\s*[\"']([A-Za-z0-9._-]{1,40})[\"']", data)
    return data.decode(declared[1].decode("ascii") if declared else "utf-8")


def without_predictions(names: list[str], found: Annotated) -> list[str]:
    """Leave out files in YMIR's folders of predictions, which are no ground truth; `found` reports them."""
    truth = [name for name in names if not _PREDICTIONS & set(name.lower().split("/")[:-1])]
    n = len(names) - len(truth)
    if n:
        found.report(
            "",
            "note",
            f"{n} annotation files lie in a folder of predictions and were not read as ground truth",
            "import that folder on its own, if it is ground truth",
            n,
        )
    return truth


def split_of(name: str) -> str:
    """Tell the split from the words of one file or folder name: `instances_train2017.json` is train."""
    found = {_SPLIT_WORDS[word] for word in re.findall(r"[a-z]+", name.lower()) if word in _SPLIT_WORDS}
    return found.pop() if len(found) == 1 else ""


def split_of_path(name: str) -> str:
    """Tell the split from the folders that a file lies in, the innermost first."""
    for part in reversed(PurePosixPath(name).parts[:-1]):
        if re.fullmatch(r"[a-z]+[0-9]*", part.lower()) and split_of(part):
            return split_of(part)
    return ""
