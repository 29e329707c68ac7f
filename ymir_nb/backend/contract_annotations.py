"""Annotation files as executors read them: ark, VOC and COCO, exactly as YMIR 2.5 writes them.

These are the executor contract's own dialects (quality and rotation columns, absolute file names,
categories counted from 0); what people import and export is the business of `formats`.

Source: YMIR 2.5.0, executor contract, export formats.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import pandas as pd

from ymir_nb.backend.errors import PreflightFailed

DEFAULT_FORMAT = "voc:raw"
COCO_FILE = "coco-annotations.json"
# The real system writes the time of its export here; a constant keeps equal inputs equal.
CAPTURED = "1970-01-01 00:00:00"

_SYNONYMS = {"voc": "voc", "det-voc": "voc", "ark": "ark", "det-ark": "ark", "coco": "coco", "seg-coco": "coco"}
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
    index = {name: position for position, name in enumerate(names)}
    rows = _rows(boxes, index)
    paths = {}
    for asset in assets:
        lines = []
        for row in rows.get(asset.image, ()):
            corners = ", ".join(map(str, _pixels(row, asset)))
            lines.append(f"{index[row.label]}, {corners}, {_known(row.quality)}, {float(row.rotation)}\n")
        paths[asset.image] = _write(place, asset, ".txt", "".join(lines))
    return paths


def write_voc(place: Place, assets: Sequence[Asset], boxes: pd.DataFrame, names: Sequence[str]) -> dict[str, str]:
    """Write an XML file an image, without a declaration, on one line."""
    rows = _rows(boxes, set(names))
    paths = {}
    for asset in assets:
        objects = "".join(_voc_object(row, asset) for row in rows.get(asset.image, ()))
        keys = json.loads(asset.keys)
        text = (
            f"<annotation><folder>folder</folder><filename>{_text(f'{place.assets_root}/{asset.name}')}</filename>"
            "<source><annotation>unknown</annotation><image>unknown</image></source>"
            f"<size><width>{asset.width}</width><height>{asset.height}</height><depth>{asset.depth}</depth></size>"
            f"<segmented>0</segmented>{_pairs('cks', keys)}"
            f"<image_quality>{_known(asset.quality):.4f}</image_quality>{objects}</annotation>"
        )
        paths[asset.image] = _write(place, asset, ".xml", text)
    return paths


def write_coco(place: Place, assets: Sequence[Asset], boxes: pd.DataFrame, names: Sequence[str]) -> dict[str, str]:
    """Write one JSON for all images; image ids count from 1 by sorted image, category ids from 0."""
    index = {name: position for position, name in enumerate(names)}
    rows = _rows(boxes, index)
    ordered = sorted(assets, key=lambda asset: asset.image)
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number, asset in enumerate(ordered, start=1):
        images.append(
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
        )
        for row in rows.get(asset.image, ()):
            entry = {"id": len(annotations) + 1, "image_id": number, "category_id": index[row.label]}
            annotations.append(entry | _coco_object(row))
    document = {
        "images": images,
        "licenses": [{"id": 1, "name": "", "url": ""}],
        "categories": [{"id": i, "name": name, "supercategory": "object"} for name, i in index.items()],
        "annotations": annotations,
    }
    place.directory.mkdir(parents=True, exist_ok=True)
    (place.directory / COCO_FILE).write_text(json.dumps(document, ensure_ascii=False), encoding="utf-8")
    return dict.fromkeys((asset.image for asset in assets), f"{place.root}/{COCO_FILE}")


WRITERS: dict[str, Writer] = {"ark": write_ark, "voc": write_voc, "coco": write_coco}


def _rows(boxes: pd.DataFrame, names: Any) -> dict[str, list[Any]]:
    """Group the objects of the asked classes by image; objects of other classes are left out."""
    groups: dict[str, list[Any]] = {}
    for row in boxes.itertuples(index=False):
        if row.label in names:
            groups.setdefault(str(row.image), []).append(row)
    return groups


def _write(place: Place, asset: Asset, suffix: str, text: str) -> str:
    """Write the annotation file of one image and give its path as the executor sees it."""
    name = str(Path(asset.name).with_suffix(suffix))
    path = place.directory / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return f"{place.root}/{name}"


def _pixels(row: Any, asset: Asset) -> tuple[int, int, int, int]:
    """Round to whole pixels, far pixel inclusive, inside the image, at least one pixel wide and high."""
    x1 = min(max(math.floor(row.x1 + 0.5), 0), asset.width - 1)
    y1 = min(max(math.floor(row.y1 + 0.5), 0), asset.height - 1)
    x2 = min(max(math.floor(row.x2 - 1 + 0.5), x1), asset.width - 1)
    y2 = min(max(math.floor(row.y2 - 1 + 0.5), y1), asset.height - 1)
    return x1, y1, x2, y2


def _voc_object(row: Any, asset: Asset) -> str:
    xmin, ymin, xmax, ymax = _pixels(row, asset)
    return (
        f"<object><name>{_text(row.label)}</name><pose>unknown</pose><truncated>unknown</truncated>"
        f"<occluded>0</occluded><bndbox><xmin>{xmin}</xmin><ymin>{ymin}</ymin><xmax>{xmax}</xmax><ymax>{ymax}</ymax>"
        f"<rotate_angle>{row.rotation:.4f}</rotate_angle></bndbox><difficult>0</difficult>"
        f"{_pairs('tags', json.loads(row.tags))}<box_quality>{_known(row.quality):.4f}</box_quality>"
        f"<confidence>{_known(row.score):.4f}</confidence></object>"
    )


def _coco_object(row: Any) -> dict[str, Any]:
    width, height = row.x2 - row.x1, row.y2 - row.y1
    segmentation = json.loads(row.segmentation) if row.segmentation else {}
    unknown_area = width * height if segmentation else 0
    return {
        "iscrowd": int(row.crowd),
        "bbox": [_number(value) for value in (row.x1, row.y1, width, height)],
        "confidence": _known(row.score),
        "area": _number(unknown_area if math.isnan(row.area_px) else row.area_px),
        "segmentation": segmentation,
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


def _pairs(element: str, pairs: Mapping[str, Any]) -> str:
    """Write key:value pairs as elements; what no element name may hold becomes `_`."""
    if not pairs:
        return ""
    inner = ""
    for key, value in sorted(pairs.items()):
        name = _NO_XML_NAME.sub("_", key) or "_"
        inner += f"<{name}>{_text(str(value))}</{name}>"
    return f"<{element}>{inner}</{element}>"
