"""Inference results: ``infer-result.json`` of an executor, checked and turned into predictions.

Source: YMIR 2.5.0, executor contract, infer-result.json for detection and for segmentation.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from ymir_nb.backend.errors import InvalidTable
from ymir_nb.backend.outbox import Faults, Limits, Outbox
from ymir_nb.backend.scaling import rescale, rescaled_size
from ymir_nb.backend.tables import annotations_frame
from ymir_nb.backend.untrusted import show, to_number

RESULT_FILE = "infer-result.json"


@dataclass(frozen=True)
class Detections:
    """What a model sees.

    Parameters
    ----------
    annotations : DataFrame
        Columns of `tables.ANNOTATIONS`, scores in [0, 1], boxes inside their images.
    notes : tuple of str
        Boxes that were clipped or dropped, counted.
    """

    annotations: pd.DataFrame
    notes: tuple[str, ...] = ()


def image_of(name: str) -> str:
    """Give the image id in a path or file name that an executor wrote: the main name of its last part."""
    last = name.rpartition("/")[2]
    return last.rpartition(".")[0] or last


def read_infer(
    out_dir: Path,
    images: pd.DataFrame,
    class_names: Sequence[str],
    *,
    strays: Literal["fail", "report"] = "fail",
    limits: Limits | None = None,
    longside_px: int = 0,
) -> Detections:
    """Read and check ``infer-result.json``, in its detection or its segmentation form.

    A box that reaches over its image's edge is clipped; one that lies outside, or has no area, is
    dropped; both are counted in `notes`. Where a box has the further key ``xyxy`` (four numbers:
    left, top, right, bottom in pixels, far edge exclusive), it is preferred to the whole-pixel ``box``.

    Parameters
    ----------
    out_dir : Path
        ``out`` of a job.
    images : DataFrame
        The candidates, columns of `tables.IMAGES`.
    class_names : sequence of str
        Classes that may occur.
    strays : {"fail", "report"}, default "fail"
        Images that are no candidates, and candidates that are not named, are faults, or are noted
        (YMIR takes the second for images without objects).
    limits : Limits, optional
        How much may lie in ``/out``.
    longside_px : int, default 0
        What the images were rescaled to for the executor, see `contract.longside_px`; what it found is
        carried back to the images' own sizes. 0: they were not.

    Returns
    -------
    Detections

    Raises
    ------
    ProtocolViolated
        With every fault: the file is missing or no JSON; an unknown class; a score that is not a
        number in [0, 1]; a box without four finite numbers; an image named twice; and what
        `strays` names.
    """
    outbox, faults = Outbox(out_dir, limits or Limits()), Faults("inference result")
    outbox.check_size(faults)
    document = outbox.read_json(RESULT_FILE, faults)
    notes: list[str] = []
    stray = faults.add if strays == "fail" else notes.append
    reader = _Reader(images, class_names, faults, stray, longside_px)
    if document is not None:
        if isinstance(document.get("detection"), dict):
            reader.read_detection(document["detection"])
        elif isinstance(document.get("images"), list) and isinstance(document.get("annotations"), list):
            reader.read_coco(document)
        else:
            faults.add(f"{RESULT_FILE} has neither a mapping `detection` nor lists `images` and `annotations`")
        reader.check_missing()
    faults.end()
    try:
        found = rescale(annotations_frame(reader.rows), images, longside_px, back=True)
    except InvalidTable as error:
        faults.add(str(error))
        faults.end()
    counted = [f"{count} boxes {what}" for what, count in sorted(reader.counts.items())]
    return Detections(found, (*notes, *counted))


@dataclass
class _Reader:
    """Turns entries into rows, noting faults on the way."""

    images: pd.DataFrame
    class_names: Sequence[str]
    faults: Faults
    stray: Callable[[str], None]
    longside_px: int = 0
    rows: list[dict[str, Any]] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    seen: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        columns = (self.images[name].tolist() for name in ("image", "width", "height"))
        self.sizes = {i: rescaled_size(w, h, self.longside_px) for i, w, h in zip(*columns, strict=True)}
        self.known = frozenset(self.class_names)

    def read_detection(self, entries: Mapping[str, Any]) -> None:
        """Read ``{file name: {boxes: [...]}}``; the key ``annotations`` is as good as ``boxes``."""
        for name, entry in entries.items():
            image = self._image(name)
            boxes = entry.get("boxes", entry.get("annotations")) if isinstance(entry, dict) else None
            if not isinstance(boxes, list):
                self.faults.add(f"the entry of {show(name)} has no list `boxes`, it reads {show(entry)}")
                continue
            for box in boxes if image else ():
                corners = _corners(box) if isinstance(box, dict) else None
                if corners is None:
                    self.faults.add(f"image {image}: box {show(box)} has no four finite numbers x, y, w, h")
                else:
                    self._row(image, box.get("class_name"), box.get("score"), corners)

    def read_coco(self, document: Mapping[str, Any]) -> None:
        """Read the COCO form that segmentation uses; an object without `confidence` has 1.0."""
        names = {
            _key(row, "id"): self._image(row.get("file_name")) for row in document["images"] if isinstance(row, dict)
        }
        categories = document.get("categories")
        labels = {_key(row, "id"): row.get("name") for row in categories or () if isinstance(row, dict)}
        for entry in document["annotations"]:
            if not isinstance(entry, dict) or _key(entry, "image_id") not in names:
                self.faults.add(f"annotation {show(entry)} belongs to no image")
                continue
            image = names[_key(entry, "image_id")]
            corners = _from_xywh(entry.get("bbox"))
            if corners is None:
                self.faults.add(f"image {image}: bbox {show(entry.get('bbox'))} is not four finite numbers")
            elif image:
                extra = {
                    "segmentation": _segmentation(entry.get("segmentation")),
                    "area_px": to_number(entry.get("area")) or float("nan"),
                    "crowd": bool(entry.get("iscrowd")),
                }
                label = labels.get(_key(entry, "category_id"))
                self._row(image, label, entry.get("confidence", 1.0), corners, extra)

    def check_missing(self) -> None:
        """Note the candidates that are not named at all."""
        missing = sorted(self.sizes.keys() - self.seen)
        if missing:
            self.stray(f"{len(missing)} of {len(self.sizes)} candidates are not named, the first is {missing[0]}")

    def _image(self, name: object) -> str:
        """Find the candidate of a file name; empty where there is none."""
        image = image_of(name) if isinstance(name, str) else ""
        if image not in self.sizes:
            self.stray(f"{show(name)} is no candidate")
            return ""
        if image in self.seen:
            self.faults.add(f"image {image} is named more than once, the last time as {show(name)}")
        self.seen.add(image)
        return image

    def _row(
        self,
        image: str,
        label: object,
        score: object,
        corners: tuple[float, float, float, float],
        extra: Mapping[str, Any] | None = None,
    ) -> None:
        """Check class and score, cut the box to its image, and keep it."""
        number = to_number(score)
        if not isinstance(label, str) or label not in self.known:
            self.faults.add(f"image {image}: class {show(label)} is none of the model's")
            return
        if number is None or not 0.0 <= number <= 1.0:
            self.faults.add(f"image {image}: score {show(score)} of a {label!r} is not in [0, 1]")
            return
        width, height = self.sizes[image]
        x1, y1, x2, y2 = corners
        inside = (max(x1, 0.0), max(y1, 0.0), min(x2, float(width)), min(y2, float(height)))
        if x2 <= x1 or y2 <= y1:
            self.counts["without area were dropped"] += 1
        elif inside[2] <= inside[0] or inside[3] <= inside[1]:
            self.counts["outside their image were dropped"] += 1
        else:
            if inside != corners:
                self.counts["were clipped to their image"] += 1
            box = dict(zip(("x1", "y1", "x2", "y2"), inside, strict=True))
            self.rows.append({"image": image, "label": label, "score": number, **box, **(extra or {})})


def _corners(box: Mapping[str, Any]) -> tuple[float, float, float, float] | None:
    """Read a box as left, top, right, bottom; None where it is malformed."""
    if "xyxy" in box:
        return _four(box["xyxy"])
    place = box.get("box")
    return _from_xywh([place.get(key) for key in ("x", "y", "w", "h")]) if isinstance(place, dict) else None


def _from_xywh(values: object) -> tuple[float, float, float, float] | None:
    four = _four(values)
    return None if four is None else (four[0], four[1], four[0] + four[2], four[1] + four[3])


def _four(values: object) -> tuple[float, float, float, float] | None:
    if not isinstance(values, list) or len(values) != 4:
        return None
    numbers = [number for number in map(to_number, values) if number is not None and abs(number) < 1e9]
    return (numbers[0], numbers[1], numbers[2], numbers[3]) if len(numbers) == 4 else None


def _key(row: Mapping[str, Any], name: str) -> str:
    """Comparable form of an id, which may be anything."""
    return show(row.get(name))


def _segmentation(value: object) -> str:
    return json.dumps(value) if isinstance(value, dict | list) and value else ""
