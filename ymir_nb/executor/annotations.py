"""Index files and the three annotation formats, read to the same targets."""

from __future__ import annotations

import json
import logging
import math
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ymir_nb.executor.errors import CONFIG, DATASET, ExecutorFailure
from ymir_nb.executor.settings import comparable

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Sample:
    """One image with its objects.

    Parameters
    ----------
    path : str
        The image, as the index names it.
    boxes : ndarray of float64, shape (n, 4)
        x1 y1 x2 y2 in pixels, far edge exclusive, sorted.
    classes : ndarray of int64, shape (n,)
        Positions in class_names.
    """

    path: str
    boxes: np.ndarray
    classes: np.ndarray


Row = tuple[int, float, float, float, float]
"""Class, then x1 y1 x2 y2."""


def read_candidates(index: Path | None) -> list[str]:
    """List the images to score, sorted, each once.

    Raises
    ------
    ExecutorFailure
        The index is missing or empty, or two images share a file name, which is the key of a result.
    """
    paths = sorted({columns[0] for _, columns in _lines(index, "candidate_index_file")})
    owners: dict[str, str] = {}
    for path in paths:
        other = owners.setdefault(Path(path).name, path)
        if other != path:
            raise ExecutorFailure(
                f"{index}: {other} and {path} have the same file name, results could not be told apart", code=DATASET
            )
    return paths


def read_samples(index: Path | None, export_format: str, names: list[str], *, key: str) -> list[Sample]:
    r"""Read an index with the annotations that it names.

    Parameters
    ----------
    index : Path or None
        Lines of ``<image>\t<annotation>``.
    export_format : str
        ``ark:raw``, ``voc:raw`` or ``coco:raw``; YMIR's longer spellings are understood.
    names : list of str
        Classes in the order of their ids; objects of other classes are left out.
    key : str
        Name of the index in env.yaml, for messages.

    Returns
    -------
    list of Sample
        Sorted by path; the order of the lines has no say.

    Raises
    ------
    ExecutorFailure
        A file is missing or malformed, or the format is unknown.

    Source: YMIR's executor contract, protocol version 1.1.0, index files and export formats.
    """
    read = _reader(export_format, names)
    samples, n_flat = {}, 0
    for number, columns in _lines(index, key):
        if len(columns) < 2 or not columns[1]:
            raise ExecutorFailure(f"{index}: line {number} names no annotation file", code=DATASET)
        rows = sorted(read(Path(columns[1]), columns[0]))
        solid = [row for row in rows if row[3] > row[1] and row[4] > row[2]]
        n_flat += len(rows) - len(solid)
        values = np.array(solid, dtype=np.float64).reshape(-1, 5)
        samples[columns[0]] = Sample(columns[0], values[:, 1:], values[:, 0].astype(np.int64))
    if n_flat:
        log.info("%s: left out %d boxes without area", index, n_flat)
    return [samples[path] for path in sorted(samples)]


def _lines(index: Path | None, key: str) -> Iterator[tuple[int, list[str]]]:
    """Go through the lines that are not blank, split at tabs."""
    if index is None:
        raise ExecutorFailure(f"env.yaml: input.{key} is empty", code=CONFIG)
    try:
        text = index.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ExecutorFailure(f"{index} cannot be read: {error}", code=DATASET) from error
    if not text.strip():
        raise ExecutorFailure(f"{index} lists no image", code=DATASET)
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            yield number, [column.strip() for column in line.split("\t")]


def _reader(export_format: str, names: list[str]) -> Callable[[Path, str], list[Row]]:
    annotation, _, image = export_format.casefold().partition(":")
    readers: dict[str, Callable[[list[str]], Callable[[Path, str], list[Row]]]] = {
        "ark": _ark, "det-ark": _ark, "voc": _voc, "det-voc": _voc, "coco": _coco, "seg-coco": _coco,
    }  # fmt: skip
    if image != "raw" or annotation not in readers:
        raise ExecutorFailure(
            f"config.yaml: export_format is {export_format!r}, it must be ark:raw, voc:raw or coco:raw", code=CONFIG
        )
    return readers[annotation](names)


def _ark(names: list[str]) -> Callable[[Path, str], list[Row]]:
    """Lines of ``class_id, xmin, ymin, xmax, ymax, quality, angle``; xmax and ymax are the last pixels inside."""

    def read(path: Path, _image: str) -> list[Row]:
        rows = []
        for number, line in enumerate(_text(path).splitlines(), start=1):
            if not line.strip():
                continue
            cells = line.split(",")
            if len(cells) < 5:
                raise ExecutorFailure(f"{path}: line {number} has {len(cells)} columns, 5 are needed", code=DATASET)
            class_id, *corners = (_number(cell, f"{path}: line {number}") for cell in cells[:5])
            if class_id != int(class_id) or not 0 <= class_id < len(names):
                raise ExecutorFailure(
                    f"{path}: line {number} has class id {cells[0].strip()}, class_names has 0 to {len(names) - 1}",
                    code=DATASET,
                )
            rows.append((int(class_id), corners[0], corners[1], corners[2] + 1, corners[3] + 1))
        return rows

    return read


def _voc(names: list[str]) -> Callable[[Path, str], list[Row]]:
    """VOC's `object` elements, in YMIR's pixel count: xmax and ymax are the last pixels inside."""
    ids = {comparable(name): position for position, name in enumerate(names)}

    def read(path: Path, _image: str) -> list[Row]:
        text = _text(path)
        if "<!DOCTYPE" in text or "<!ENTITY" in text:
            raise ExecutorFailure(f"{path} declares a document type, which annotations never need", code=DATASET)
        try:
            root = ET.fromstring(text)  # noqa: S314 - without declarations there are no entities to expand
        except ET.ParseError as error:
            raise ExecutorFailure(f"{path} is no XML: {error}", code=DATASET) from error
        rows = []
        for item in root.iter("object"):
            class_id = ids.get(comparable(item.findtext("name") or ""))
            if class_id is not None:
                corners = [
                    _number(item.findtext(f"bndbox/{side}"), f"{path}: {side}")
                    for side in ("xmin", "ymin", "xmax", "ymax")
                ]
                rows.append((class_id, corners[0], corners[1], corners[2] + 1, corners[3] + 1))
        return rows

    return read


def _coco(names: list[str]) -> Callable[[Path, str], list[Row]]:
    """One JSON for all images; classes are told by category name, regions around crowds are left out."""
    ids = {comparable(name): position for position, name in enumerate(names)}
    files: dict[Path, dict[str, list[Row]]] = {}

    def read(path: Path, image: str) -> list[Row]:
        if path not in files:
            files[path] = _coco_rows(path, ids)
        if Path(image).name not in files[path]:
            raise ExecutorFailure(f"{path} does not list the image {Path(image).name}", code=DATASET)
        return files[path][Path(image).name]

    return read


def _coco_rows(path: Path, ids: dict[str, int]) -> dict[str, list[Row]]:
    try:
        data = json.loads(_text(path))
        categories = {item["id"]: ids.get(comparable(item["name"])) for item in data["categories"]}
        files = {item["id"]: Path(item["file_name"]).name for item in data["images"]}
        rows: dict[str, list[Row]] = {name: [] for name in files.values()}
        for item in data["annotations"]:
            class_id = categories[item["category_id"]]
            if class_id is None or item.get("iscrowd"):
                continue
            x, y, w, h = (_number(value, f"{path}: bbox of annotation {item.get('id')}") for value in item["bbox"])
            rows[files[item["image_id"]]].append((class_id, x, y, x + w, y + h))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise ExecutorFailure(f"{path} is no COCO annotation file ({reason})", code=DATASET) from error
    return rows


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ExecutorFailure(f"{path} cannot be read: {error}", code=DATASET) from error


def _number(value: Any, where: str) -> float:
    """Read a finite number."""
    try:
        number = float(value)
    except (TypeError, ValueError) as error:
        raise ExecutorFailure(f"{where}: {value!r} is no number", code=DATASET) from error
    if not math.isfinite(number):
        raise ExecutorFailure(f"{where}: {value!r} is not finite", code=DATASET)
    return number
