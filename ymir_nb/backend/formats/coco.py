"""COCO: one JSON file for many images, with boxes, polygons, masks and crowds.

An image that the file lists is labelled, even if it has no object. Boxes are ``x y width height``
with plain edges. The split is taken from the file's name (`instances_train2017.json`), or its folder.

Source: COCO data format, object detection section; YMIR 2.5.0, COCO export (confidence).
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson

from ymir_nb.backend import boxes
from ymir_nb.backend.dataset import Dataset
from ymir_nb.backend.errors import ImportRefused
from ymir_nb.backend.formats.annotated import (
    NAN,
    Annotated,
    FoundImage,
    FoundObject,
    box_fault,
    decode,
    number,
    share,
    split_of,
    split_of_path,
    texts,
    without_predictions,
)
from ymir_nb.backend.formats.matching import ImageIndex
from ymir_nb.backend.formats.writing import lay_out, name_losses, unlisted_losses
from ymir_nb.backend.sources import EntryUnreadable, Source

MAX_JSON_BYTES = 2 << 30
"""A larger file does not fit into the memory of a common machine once it is parsed."""
_HEAD_BYTES = 1 << 16
_FIRST_KEY = re.compile(rb'\s*\{\s*"(info|licenses|images|annotations|categories|type)"')
_USED_KEYS = {
    *("id", "image_id", "category_id", "bbox", "area", "segmentation", "iscrowd", "attributes"),
    *("score", "confidence", "box_quality", "rotate_angle"),
}


def recognise(source: Source) -> str:
    """Say how many JSON files begin as COCO does."""
    files = [name for name in _json_names(source) if _looks_right(source, name)]
    return f"{len(files)} COCO .json files" if files else ""


def read(source: Source, image_names: list[str]) -> Annotated:
    """Read the COCO files of a source for the images of these names.

    Parameters
    ----------
    source : Source
        Where the files lie. Where there are `instances_*.json`, other files are passed over.
    image_names : list of str
        Images to find annotations for.

    Returns
    -------
    Annotated
        Images that a file lists are labelled.

    Raises
    ------
    ImportRefused
        A file is larger than `MAX_JSON_BYTES`.
    """
    found = Annotated()
    index = ImageIndex(image_names)
    declared: list[set[str]] = []
    for name in _chosen(source, found):
        data = _load(source, name, found)
        if data is not None:
            document = _Document(name, data, found)
            document.read_categories()
            document.read_images(index)
            document.read_annotations()
            document.report_unused()
            declared.append({label for label in document.labels.values() if label})
    found.declared = tuple(sorted(set.intersection(*declared))) if declared else ()
    return found


def _json_names(source: Source) -> list[str]:
    return [name for name in source.names() if name.lower().endswith(".json")]


def _looks_right(source: Source, name: str) -> bool:
    head = source.peek(name, n_bytes=_HEAD_BYTES).lstrip(b"\xef\xbb\xbf\xff\xfe").replace(b"\0", b"")
    return bool(_FIRST_KEY.match(head))


def _chosen(source: Source, found: Annotated) -> list[str]:
    """Choose the files to read: COCO's object files, else whatever looks like COCO, else all JSON files."""
    files = without_predictions(_json_names(source), found)
    likely = [name for name in files if _looks_right(source, name)]
    instances = [name for name in likely if name.rsplit("/", 1)[-1].startswith("instances")]
    chosen = instances or likely or files
    for name in likely:
        if name not in chosen:
            found.report(name, "note", "not read, as there are instances_*.json", "rename it to instances_*.json")
    return chosen


def _load(source: Source, name: str, found: Annotated) -> dict[str, Any] | None:
    """Parse one file; what is wrong with it is a row of the report."""
    remedy = "repair the file; until then its images count as not labelled"
    if source.size(name) > MAX_JSON_BYTES:
        raise ImportRefused(
            f"{name} has {source.size(name):,} bytes, the limit is {MAX_JSON_BYTES:,}. Split it into several files."
        )
    try:
        data = _parse(source.read(name))
    except json.JSONDecodeError as error:
        reason = f"no well-formed JSON at line {error.lineno}, column {error.colno} ({error.msg})"
        found.report(name, "unreadable", reason, remedy)
    except (UnicodeDecodeError, RecursionError, EntryUnreadable, orjson.JSONEncodeError) as error:
        found.report(name, "unreadable", f"it cannot be read ({error})", remedy)
    else:
        if isinstance(data, dict) and isinstance(data.get("images"), list):
            return data
        found.report(name, "unreadable", "it has no list `images`, so it is not COCO", remedy)
    return None


def _parse(data: bytes) -> Any:
    if data[:1] in (b"\xef", b"\xff", b"\xfe", b"\0") or data[1:2] == b"\0":
        data = decode(data).encode()
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError:
        # Python's own writer puts NaN and Infinity into JSON; as texts they reach the boxes, where they are rejected.
        if b"NaN" in data or b"Infinity" in data:
            return orjson.loads(orjson.dumps(json.loads(data, parse_constant=str)))
        raise


class _Document:
    """One COCO file on its way into `found`."""

    def __init__(self, name: str, data: dict[str, Any], found: Annotated) -> None:
        self.name = name
        self.data = data
        self.found = found
        self.labels: dict[Any, str] = {}
        self.images: dict[Any, str] = {}
        self.missing: dict[Any, tuple[str, str]] = {}
        self.unused: Counter[Any] = Counter()

    def rows(self, key: str) -> Iterator[dict[str, Any]]:
        """Give the objects of a list; anything else in it is reported."""
        values = self.data.get(key, [])
        if not isinstance(values, list):
            self.found.report(self.name, "unreadable", f"`{key}` is no list", "export the file again")
            return
        for position, value in enumerate(values):
            if isinstance(value, dict):
                yield value
            else:
                self.found.report(self.name, "unreadable", f"{key}[{position}] is no object", "export the file again")

    def read_categories(self) -> None:
        """Read the label texts by id; an id with two names means neither (an empty text)."""
        for row in self.rows("categories"):
            key, label = _id(row.get("id")), row.get("name")
            if key is None or not isinstance(label, str) or not label.strip():
                self.found.report(self.name, "unreadable", f"category {row.get('id')!r} has no id or name", "name it")
            elif self.labels.setdefault(key, label) != label:
                self.found.report(
                    self.name,
                    "conflict",
                    f"category id {key} stands for {self.labels[key]!r} and {label!r}; its objects are left out",
                    "give each category its own id",
                )
                self.labels[key] = ""

    def read_images(self, index: ImageIndex) -> None:
        """Find the listed images in the source; an id that stands for two files is used for neither."""
        split = split_of(self.name.rsplit("/", 1)[-1]) or split_of_path(self.name)
        doubtful = self._doubtful_ids()
        for row in self.rows("images"):
            key, file_name = _id(row.get("id")), row.get("file_name")
            if key is None or not isinstance(file_name, str) or key in doubtful or key in self.images:
                if key not in self.images and key not in doubtful:
                    self.found.report(self.name, "unreadable", f"image {row.get('id')!r} has no id or name", "add it")
                continue
            image, fault = index.by_base(file_name, near=self.name)
            if not image:
                self.missing[key] = (file_name, fault)
                continue
            known = self.found.images.get(image)
            if known is not None:
                self.found.report(
                    image,
                    "conflict",
                    f"{self.name} lists it (id {key}), {known.annotation_file} did before; the first counts",
                    "list each image once",
                )
                continue
            self.images[key] = image
            self.found.images[image] = FoundImage(
                file=image,
                annotation_file=self.name,
                width=_side(row.get("width")),
                height=_side(row.get("height")),
                split=split,
                keys=texts(row["keys"]) if isinstance(row.get("keys"), dict) else "{}",
                quality=share(row.get("image_quality")),
                labelled=True,
            )

    def _doubtful_ids(self) -> set[Any]:
        names: dict[Any, Any] = {}
        doubtful = set()
        for row in self.rows("images"):
            key = _id(row.get("id"))
            if key is not None and names.setdefault(key, row.get("file_name")) != row.get("file_name"):
                self.found.report(
                    self.name,
                    "conflict",
                    f"image id {key} stands for {names[key]!r} and {row.get('file_name')!r}; none of them is labelled",
                    "give each image its own id",
                )
                doubtful.add(key)
        return doubtful

    def read_annotations(self) -> None:
        """Read the objects; equal rows of one id count once."""
        seen: dict[Any, dict[str, Any]] = {}
        extra: Counter[str] = Counter()
        for row in self.rows("annotations"):
            key = _id(row.get("id"))
            if key is not None and key in seen:
                again = seen[key] == row
                verdict = "the rows are equal, one counts" if again else "both count"
                reason = f"annotation id {key} stands there twice; {verdict}"
                self.found.report(self.name, "note", reason, "give each annotation its own id")
                if again:
                    continue
            seen[key] = row
            if not row.keys() <= _USED_KEYS:
                extra.update(row.keys() - _USED_KEYS)
            image = self.images.get(_id(row.get("image_id")), "")
            if image:
                self._read_object(row, image)
            else:
                self.unused[_id(row.get("image_id"))] += 1
        for word, n in sorted(extra.items()):
            self.found.report(self.name, "note", f"annotations carry {word!r}, which is not kept", "nothing to do", n)

    def report_unused(self) -> None:
        """Report listed images that are not there, and objects of images that are not used."""
        for key, (file_name, fault) in self.missing.items():
            lost = f"; its {self.unused[key]} objects are left out" if self.unused[key] else ""
            self.found.report(file_name, "unmatched", f"{self.name}: {fault}{lost}", "add it, if it is needed")
        for key, n in self.unused.items():
            if key not in self.missing:
                reason = f"{n} objects belong to image_id {key!r}, which is not listed or not used"
                self.found.report(self.name, "rejected", reason, "list the image once, with an id of its own", n)

    def _read_object(self, row: dict[str, Any], image: str) -> None:
        where = f"{self.name}, annotation {row.get('id')!r}"
        label = self.labels.get(_id(row.get("category_id")), "")
        if not label:
            self.found.reject(image, where, f"category_id {row.get('category_id')!r} has no (one) name")
            return
        box = row.get("bbox")
        if not isinstance(box, list) or len(box) != 4:
            self.found.reject(image, where, f"{label!r} has no bbox of four numbers")
            return
        x, y, width, height = (number(value) for value in box)
        x2 = x + width if x is not None and width is not None else None
        y2 = y + height if y is not None and height is not None else None
        fault = box_fault(x, y, x2, y2)
        if fault or x is None or y is None or x2 is None or y2 is None:
            self.found.reject(image, where, f"{label!r} has {fault}")
            return
        segmentation, spoilt = _segmentation(row.get("segmentation"))
        if spoilt:
            self.found.report(image, "note", f"{where}: {spoilt}; its box is kept", "repair it and import again")
        self._check_score(row, image, where)
        angle = number(row.get("rotate_angle"))
        attributes = row.get("attributes")
        self.found.objects.append(
            FoundObject(
                *(image, _id(row.get("id")) or "?", label, x, y, x2, y2),
                score=share(row.get("score", row.get("confidence"))),
                segmentation=segmentation,
                area_px=_area(row.get("area"), (x2 - x) * (y2 - y)),
                crowd=row.get("iscrowd") in (1, True, "1"),
                quality=share(row.get("box_quality")),
                rotation=angle if angle is not None and math.isfinite(angle) else 0.0,
                tags=texts(attributes) if isinstance(attributes, dict) else "{}",
            )
        )

    def _check_score(self, row: dict[str, Any], image: str, where: str) -> None:
        value = row.get("score", row.get("confidence"))
        if value is not None and number(value) != -1 and math.isnan(share(value)):
            self.found.report(image, "note", f"{where}: score {value!r} is not in [0, 1]", "scale the scores")


def _id(value: Any) -> int | str | None:
    """Give a usable id; anything else, which could not even be looked up, is none."""
    return value if isinstance(value, (int, str)) and not isinstance(value, bool) else None


def _side(value: Any) -> int:
    read = number(value)
    return int(read) if read is not None and math.isfinite(read) and read > 0 else 0


def _area(value: Any, box_area_px: float) -> float:
    """Read an area; NaN where it says no more than the box does."""
    read = number(value)
    if read is None or not math.isfinite(read) or read <= 0 or math.isclose(read, box_area_px, rel_tol=1e-9):
        return NAN
    return read


def _segmentation(value: Any) -> tuple[str, str]:
    """Check polygons or RLE and write them as JSON text; also give what is wrong with them."""
    if not value:
        return "", ""
    if isinstance(value, list):
        rings = [ring for ring in value if ring]
        for ring in rings:
            numbers = [number(item) for item in ring] if isinstance(ring, list) else [None]
            if any(item is None or not math.isfinite(item) for item in numbers):
                return "", "a polygon has something else than numbers"
            if len(numbers) < 6 or len(numbers) % 2:
                return "", f"a polygon has {len(numbers)} numbers instead of three or more pairs"
        return (orjson.dumps(rings).decode() if rings else ""), ""
    if isinstance(value, dict):
        size, counts = value.get("size"), value.get("counts")
        sized = isinstance(size, list) and len(size) == 2 and all(isinstance(n, int) and n > 0 for n in size)
        packed = isinstance(counts, str) and counts.isascii() and counts.isprintable()
        plain = isinstance(counts, list) and all(isinstance(n, int) and n >= 0 for n in counts)
        if sized and (packed or plain) and (not plain or sum(counts) == size[0] * size[1]):  # type: ignore[arg-type, index]
            return orjson.dumps({"size": size, "counts": counts}).decode(), ""
    return "", "its mask is no COCO RLE"


def write(dataset: Dataset, directory: str | Path, *, link: bool = False) -> list[str]:
    """Write a dataset as `images/` and `annotations/instances_<split>.json`, one file a split.

    Parameters
    ----------
    dataset : Dataset
        With its image files.
    directory : str or Path
        A new or empty folder.
    link : bool
        Link the images instead of copying them, where the file system can.

    Returns
    -------
    list of str
        What the format cannot carry. Quality, rotation and keys go into fields that other readers pass over.

    Raises
    ------
    StoreError
        The folder is not empty or cannot be written.
    """
    folder, names = lay_out(dataset, directory, images="images", link=link)
    (folder / "annotations").mkdir()
    listed = dataset.images["labelled"] | dataset.images["image"].isin(dataset.annotations["image"])
    for split, group in dataset.images[listed].groupby("split"):
        document = _document(dataset, group.assign(name=group["image"].map(names)).sort_values("name"))
        path = folder / "annotations" / f"instances_{split or 'default'}.json"
        path.write_bytes(orjson.dumps(document))
    losses = [*name_losses(dataset, names), *unlisted_losses(dataset, listed)]
    if (dataset.images.loc[~listed, "split"] != "").any():
        losses.append("the split of images that are not labelled")
    return losses


def _document(dataset: Dataset, images: Any) -> dict[str, Any]:
    """Make the JSON of one split."""
    ids = {image: position for position, image in enumerate(images["image"], start=1)}
    category = {label: position for position, label in enumerate(dataset.labels, start=1)}
    objects = dataset.annotations[dataset.annotations["image"].isin(ids)]
    objects = objects.assign(number=objects["image"].map(ids)).sort_values("number", kind="stable")
    return {
        "info": {"description": dataset.ref or "dataset"},
        "licenses": [],
        "images": [_image_row(row, ids[row.image]) for row in images.itertuples(index=False)],
        "annotations": [
            _object_row(row, position, category[row.label])
            for position, row in enumerate(objects.itertuples(index=False), start=1)
        ],
        "categories": [{"id": key, "name": label, "supercategory": ""} for label, key in category.items()],
    }


def _image_row(row: Any, key: int) -> dict[str, Any]:
    written = {"id": key, "file_name": row.name, "width": int(row.width), "height": int(row.height)}
    if row.keys != "{}":
        written["keys"] = orjson.loads(row.keys)
    if not math.isnan(row.quality):
        written["image_quality"] = float(row.quality)
    return written


def _object_row(row: Any, key: int, category: int) -> dict[str, Any]:
    xywh = boxes.to_xywh([row.x1, row.y1, row.x2, row.y2])[0].tolist()
    written = {
        "id": key,
        "image_id": int(row.number),
        "category_id": category,
        "bbox": xywh,
        "area": xywh[2] * xywh[3] if math.isnan(row.area_px) else row.area_px,
        "segmentation": orjson.loads(row.segmentation) if row.segmentation else [],
        "iscrowd": int(row.crowd),
    }
    values = {"score": row.score, "box_quality": float(row.quality)}
    written |= {name: value for name, value in values.items() if not math.isnan(value)}
    if row.rotation:
        written["rotate_angle"] = float(row.rotation)
    if row.tags != "{}":
        written["attributes"] = orjson.loads(row.tags)
    return written
