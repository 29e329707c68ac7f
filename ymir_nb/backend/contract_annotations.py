"""Annotation files as executors read them: ark, VOC and COCO, exactly as YMIR 2.5 writes them.

These are the executor contract's own dialects (quality and rotation columns, absolute file names,
categories counted from 0); what people import and export is the business of `formats`.

Source: YMIR 2.5.0, executor contract, export formats.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import numpy as np
import pandas as pd

from ymir_nb.backend.errors import PreflightFailed
from ymir_nb.backend.many_files import write_files

DEFAULT_FORMAT = "voc:raw"
COCO_FILE = "coco-annotations.json"
# The real system writes the time of its export here; a constant keeps equal inputs equal.
CAPTURED = "1970-01-01 00:00:00"

_SYNONYMS = {"voc": "voc", "det-voc": "voc", "ark": "ark", "det-ark": "ark", "coco": "coco", "seg-coco": "coco"}
_COCO_COLUMNS = ("crowd", "x1", "y1", "x2", "y2", "score", "area_px", "segmentation")
_NO_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_NO_XML_NAME = re.compile(r"[^A-Za-z0-9_.-]|^(?=[^A-Za-z_])")


@dataclass(frozen=True)
class Asset:
    """An image as it lies in ``/in/assets``.

    Parameters
    ----------
    image : str
        Its id, the main name of its file.
    name : str
        ``<last 2 characters>/<image>.<jpg|png|bmp>``, relative to ``assets``.
    width, height : int
        Pixels of the exported file.
    depth : int
        Channels of the exported file: 1 or 3.
    keys : str
        JSON object of the image's own key:value pairs.
    quality : float
        In [0, 1]; NaN where unknown.
    """

    image: str
    name: str
    width: int
    height: int
    depth: int
    keys: str = "{}"
    quality: float = math.nan


@dataclass(frozen=True)
class Place:
    """Where annotation files go.

    Parameters
    ----------
    directory : Path
        The folder to write to.
    root : str
        The same folder as the executor sees it.
    assets_root : str
        The folder of the images as the executor sees it.
    """

    directory: Path
    root: str
    assets_root: str


Writer = Callable[[Place, Sequence[Asset], pd.DataFrame, Sequence[str]], dict[str, str]]
"""Writes the objects of the named classes and gives, for each image, the path of its annotation file."""


def annotation_format(config: Mapping[str, Any]) -> str:
    """Give the annotation form that a config's ``export_format`` asks for.

    Parameters
    ----------
    config : mapping
        An executor's config; a missing or empty ``export_format`` means ``voc:raw``.

    Returns
    -------
    str
        ``ark``, ``voc`` or ``coco``.

    Raises
    ------
    PreflightFailed
        Anything else. YMIR 2.5 takes some of these for "none" and trains on empty lists.

    Examples
    --------
    >>> annotation_format({"export_format": "det-ark:raw"})
    'ark'
    """
    asked = str(config.get("export_format") or DEFAULT_FORMAT)
    annotations, _, images = asked.partition(":")
    form = _SYNONYMS.get(annotations.strip().lower())
    if form is None or images.strip().lower() != "raw":
        raise PreflightFailed(
            f"export_format {asked!r} is not supported: it must be ANNOTATION:raw with ANNOTATION one of "
            f"{', '.join(sorted(_SYNONYMS))}. Set export_format in the executor's template or parameters."
        )
    return form


def write_ark(place: Place, assets: Sequence[Asset], boxes: pd.DataFrame, names: Sequence[str]) -> dict[str, str]:
    """Write a text file an image: ``class_id, xmin, ymin, xmax, ymax, quality, angle`` a line, far pixel inclusive."""
    objects = _Objects(boxes, assets, names)
    columns = (*objects.pixels(), objects.column("quality"), objects.column("rotation"))
    lines = [
        f"{number}, {x1}, {y1}, {x2}, {y2}, {_known(quality)}, {rotation}\n"
        for number, x1, y1, x2, y2, quality, rotation in zip(objects.class_ids, *columns, strict=True)
    ]
    return _write(place, assets, ".txt", objects.of_each(lines))


def write_voc(place: Place, assets: Sequence[Asset], boxes: pd.DataFrame, names: Sequence[str]) -> dict[str, str]:
    """Write an XML file an image, without a declaration, on one line."""
    objects = _Objects(boxes, assets, names)
    shown = [_text(name) for name in names]
    columns = (*objects.pixels(), *map(objects.column, ("rotation", "tags", "quality", "score")))
    texts = [
        f"<object><name>{shown[number]}</name><pose>unknown</pose><truncated>unknown</truncated><occluded>0</occluded>"
        f"<bndbox><xmin>{x1}</xmin><ymin>{y1}</ymin><xmax>{x2}</xmax><ymax>{y2}</ymax>"
        f"<rotate_angle>{rotation:.4f}</rotate_angle></bndbox><difficult>0</difficult>"
        f"{_pairs('tags', tags)}<box_quality>{_known(quality):.4f}</box_quality>"
        f"<confidence>{_known(score):.4f}</confidence></object>"
        for number, x1, y1, x2, y2, rotation, tags, quality, score in zip(objects.class_ids, *columns, strict=True)
    ]
    root = _text(place.assets_root)
    whole = (
        f"<annotation><folder>folder</folder><filename>{root}/{_text(asset.name)}</filename>"
        "<source><annotation>unknown</annotation><image>unknown</image></source>"
        f"<size><width>{asset.width}</width><height>{asset.height}</height><depth>{asset.depth}</depth></size>"
        f"<segmented>0</segmented>{_pairs('cks', asset.keys)}"
        f"<image_quality>{_known(asset.quality):.4f}</image_quality>{text}</annotation>"
        for asset, text in zip(assets, objects.of_each(texts), strict=True)
    )
    return _write(place, assets, ".xml", whole)


def write_coco(place: Place, assets: Sequence[Asset], boxes: pd.DataFrame, names: Sequence[str]) -> dict[str, str]:
    """Write one JSON for all images; image ids count from 1 by sorted image, category ids from 0."""
    ordered = sorted(assets, key=lambda asset: asset.image)
    objects = _Objects(boxes, ordered, names)
    images = [
        {
            "id": number,
            "file_name": asset.name.rpartition("/")[2],
            "width": asset.width,
            "height": asset.height,
            "date_captured": CAPTURED,
            "license": 1,
            "coco_url": "",
            "flickr_url": "",
        }
        for number, asset in enumerate(ordered, start=1)
    ]
    columns = map(objects.column, _COCO_COLUMNS)
    annotations = [
        {"id": number, "image_id": place_of_image + 1, "category_id": class_id} | _coco_object(values)
        for number, (place_of_image, class_id, *values) in enumerate(
            zip(objects.places, objects.class_ids, *columns, strict=True), start=1
        )
    ]
    document = {
        "images": images,
        "licenses": [{"id": 1, "name": "", "url": ""}],
        "categories": [{"id": i, "name": name, "supercategory": "object"} for i, name in enumerate(names)],
        "annotations": annotations,
    }
    place.directory.mkdir(parents=True, exist_ok=True)
    (place.directory / COCO_FILE).write_text(json.dumps(document, ensure_ascii=False), encoding="utf-8")
    return dict.fromkeys((asset.image for asset in assets), f"{place.root}/{COCO_FILE}")


WRITERS: dict[str, Writer] = {"ark": write_ark, "voc": write_voc, "coco": write_coco}


class _Objects:
    """The objects of the asked classes in the order of their images; those of other classes are left out.

    Columns are plain lists, in which an image's objects stand together.
    """

    def __init__(self, boxes: pd.DataFrame, assets: Sequence[Asset], names: Sequence[str]) -> None:
        places = pd.Index([asset.image for asset in assets]).get_indexer(boxes["image"])
        class_ids = pd.Index(list(names)).get_indexer(boxes["label"])
        asked = np.flatnonzero((places >= 0) & (class_ids >= 0))
        order = asked[np.argsort(places[asked], kind="stable")]
        self._boxes = boxes.iloc[order]
        self._places = places[order]
        self._starts = np.searchsorted(self._places, np.arange(len(assets) + 1)).tolist()
        sizes = np.array([(asset.width, asset.height) for asset in assets], dtype=float).reshape(-1, 2)
        self._last = sizes[self._places] - 1
        self.places: list[int] = self._places.tolist()
        self.class_ids: list[int] = class_ids[order].tolist()

    def column(self, name: str) -> list[Any]:
        """Give a column."""
        return list(self._boxes[name].tolist())

    def pixels(self) -> list[list[int]]:
        """Round to whole pixels, far pixel inclusive, inside the image, at least one pixel wide and high."""
        corners = self._boxes[["x1", "y1", "x2", "y2"]].to_numpy(dtype=float)
        near = np.clip(np.floor(corners[:, :2] + 0.5), 0, self._last)
        far = np.clip(np.floor(corners[:, 2:] - 1 + 0.5), near, self._last)
        return [column.tolist() for column in np.hstack([near, far]).astype(int).T]

    def of_each(self, texts: Sequence[str]) -> list[str]:
        """Join the texts of the objects of each image."""
        return ["".join(texts[start:end]) for start, end in pairwise(self._starts)]


def _write(place: Place, assets: Sequence[Asset], suffix: str, texts: Iterable[str]) -> dict[str, str]:
    """Write the annotation file of each image and give its path as the executor sees it."""
    files = {asset.name.rpartition(".")[0] + suffix: text.encode() for asset, text in zip(assets, texts, strict=True)}
    write_files(place.directory, files)
    return {asset.image: f"{place.root}/{name}" for asset, name in zip(assets, files, strict=True)}


def _coco_object(values: Sequence[Any]) -> dict[str, Any]:
    """Write what stands in the columns `_COCO_COLUMNS` of one object."""
    crowd, x1, y1, x2, y2, score, area_px, segmentation = values
    width, height = x2 - x1, y2 - y1
    shape = json.loads(segmentation) if segmentation else {}
    unknown_area = width * height if shape else 0
    return {
        "iscrowd": int(crowd),
        "bbox": [_number(x1), _number(y1), _number(width), _number(height)],
        "confidence": _known(score),
        "area": _number(unknown_area if math.isnan(area_px) else area_px),
        "segmentation": shape,
    }


def _known(value: float) -> float:
    """YMIR's -1.0 stands for a quality or score that nobody gave."""
    return -1.0 if math.isnan(value) else float(value)


def _number(value: float) -> int | float:
    """Whole numbers are written as such, like YMIR's."""
    return int(value) if float(value).is_integer() else float(value)


def _text(value: str) -> str:
    """Text of an XML element; characters that XML cannot hold become question marks."""
    return escape(_NO_XML.sub("?", value))


def _pairs(element: str, pairs: str) -> str:
    """Write a JSON object's key:value pairs as elements; what no element name may hold becomes `_`."""
    if pairs == "{}":
        return ""
    inner = ""
    for key, value in sorted(json.loads(pairs).items()):
        name = _NO_XML_NAME.sub("_", key) or "_"
        inner += f"<{name}>{_text(str(value))}</{name}>"
    return f"<{element}>{inner}</{element}>" if inner else ""
