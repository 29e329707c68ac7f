"""Pascal VOC: one XML file an image, in VOCdevkit's, YMIR's or a flat layout.

Numbers are read as they stand: x1 = xmin, y1 = ymin, x2 = xmax, y2 = ymax. The format's first tools
counted pixels from 1 with the last one included, most later ones write plain edges; a file does not
say which, and the two differ by one pixel. Read so, the same truth in VOC and in COCO is the same
here, and writing and reading again changes nothing.

Source: PASCAL VOC 2012 development kit, section 3; YMIR 2.5.0, VOC export (tags, cks, box_quality,
rotate_angle, confidence).
"""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element, ParseError, SubElement, indent, tostring

import orjson
from defusedxml import DefusedXmlException
from defusedxml.ElementTree import fromstring

from ymir_nb.backend.dataset import Dataset
from ymir_nb.backend.errors import ImportRefused
from ymir_nb.backend.formats.annotated import (
    Annotated,
    FoundImage,
    FoundObject,
    box_fault,
    decode,
    number,
    share,
    texts,
    without_predictions,
)
from ymir_nb.backend.formats.matching import ImageIndex
from ymir_nb.backend.formats.writing import lay_out, name_losses, unlisted_losses
from ymir_nb.backend.sources import Source

MAX_XML_BYTES = 64 << 20
_FLAGS = ("pose", "truncated", "difficult", "occluded")
_SAYS_NOTHING = {"", "0", "unspecified", "unknown"}
_LISTS = {"train": "train", "val": "val", "test": "test", "trainval": "train"}
_XML_NAME = re.compile(r"[A-Za-z_][\w.-]*", re.ASCII)
_NO_XML = re.compile("[^\t\n\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def recognise(source: Source) -> str:
    """Say how many XML files there are, if one of the first is Pascal VOC."""
    files = _xml_names(source)
    for name in files[:20]:
        head = source.peek(name, n_bytes=4096).replace(b"\0", b"")
        if re.search(rb"<annotation[\s>/]", head):
            return f"{len(files)} Pascal VOC .xml files"
    return ""


def read(source: Source, image_names: list[str]) -> Annotated:
    """Read every XML file and split list for the images of these names.

    Parameters
    ----------
    source : Source
        Where the files lie.
    image_names : list of str
        Images to find annotations for.

    Returns
    -------
    Annotated
        An image with a readable XML file is labelled, even if it has no object.
    """
    found = Annotated()
    index = ImageIndex(image_names)
    for name in without_predictions(_xml_names(source), found):
        _read_file(source, name, index, found)
    _read_splits(source, index, found)
    return found


def _xml_names(source: Source) -> list[str]:
    return [name for name in source.names() if name.lower().endswith(".xml")]


def _read_file(source: Source, name: str, index: ImageIndex, found: Annotated) -> None:
    """Read one XML file into `found`."""
    root = _parse(source, name, found)
    if root is None:
        return
    stem = name.rsplit("/", 1)[-1][: -len(".xml")]
    image, fault = index.by_stem(stem, near=name, file_name=_text(root, "filename"))
    objects = root.findall("object")
    if not image:
        found.report(
            name, "unmatched", fault, "put the image beside it, under the same main name", max(1, len(objects))
        )
        return
    if image in found.images:
        found.report(
            name,
            "conflict",
            f"{image!r} is annotated in {found.images[image].annotation_file!r} already; this file was not read",
            "keep one of the two",
        )
        return
    size = root.find("size")
    found.images[image] = FoundImage(
        file=image,
        annotation_file=name,
        width=_pixels(size, "width"),
        height=_pixels(size, "height"),
        keys=texts({child.tag: child.text or "" for parent in root.findall("cks") for child in parent}),
        quality=share(_text(root, "image_quality")),
        labelled=True,
    )
    for position, element in enumerate(objects, start=1):
        _read_object(element, image, position, f"{name}, object {position}", found)


def _parse(source: Source, name: str, found: Annotated) -> Element | None:
    """Parse one file; what is wrong with it is a row of the report."""
    remedy = "repair the file; until then its image counts as not labelled"
    if source.size(name) > MAX_XML_BYTES:
        found.report(name, "unreadable", f"larger than {MAX_XML_BYTES >> 20} MiB", remedy)
        return None
    try:
        root: Element = fromstring(decode(source.read(name)), forbid_dtd=True)
    except ParseError as error:
        line, column = error.position
        found.report(
            name, "unreadable", f"no well-formed XML at line {line}, column {column + 1} ({error.msg})", remedy
        )
    except DefusedXmlException:
        found.report(name, "unreadable", "it declares a document type or entities, which are never expanded", remedy)
    except (ValueError, LookupError) as error:
        reason = str(error) if isinstance(error, ImportRefused) else f"its text cannot be decoded ({error})"
        found.report(name, "unreadable", reason, remedy)
    else:
        if root.tag == "annotation":
            return root
        found.report(name, "unreadable", f"its root is <{root.tag}>, Pascal VOC has <annotation>", remedy)
    return None


def _read_object(element: Element, image: str, position: int, where: str, found: Annotated) -> None:
    label = _text(element, "name")
    box = element.find("bndbox")
    if not label or box is None:
        found.reject(image, where, "it has no <name>" if not label else f"{label!r} has no <bndbox>")
        return
    x1, y1, x2, y2 = (number(_text(box, key)) for key in ("xmin", "ymin", "xmax", "ymax"))
    fault = box_fault(x1, y1, x2, y2)
    if fault or x1 is None or y1 is None or x2 is None or y2 is None:
        found.reject(image, where, f"{label!r} has {fault}")
        return
    tags: dict[str, Any] = {child.tag: child.text or "" for parent in element.findall("tags") for child in parent}
    tags |= {key: text for key in _FLAGS if (text := _text(element, key)).lower() not in _SAYS_NOTHING}
    angle = number(_text(box, "rotate_angle"))
    found.objects.append(
        FoundObject(
            *(image, position, label, x1, y1, x2, y2),
            score=share(_text(element, "confidence")),
            quality=share(_text(element, "box_quality")),
            rotation=angle if angle is not None and math.isfinite(angle) else 0.0,
            tags=texts(tags),
        )
    )


def _read_splits(source: Source, index: ImageIndex, found: Annotated) -> None:
    """Read ImageSets/Main/{train,val,test,trainval}.txt; trainval counts where the others are silent."""
    files = [name for name in source.names() if re.search(r"(^|/)ImageSets/Main/(train|val|test|trainval)\.txt$", name)]
    for name in sorted(files, key=lambda name: (name.endswith("trainval.txt"), name)):
        word = name.rsplit("/", 1)[-1][: -len(".txt")]
        missing = 0
        try:
            lines = decode(source.read(name)).splitlines()
        except ValueError as error:
            found.report(name, "unreadable", f"it cannot be read as text ({error})", "save it as UTF-8")
            continue
        for line in lines:
            stem = line.strip()
            if not stem:
                continue
            image = index.by_stem(stem, near=name)[0] or index.by_stem(stem.split()[0], near=name)[0]
            if not image:
                missing += 1
                continue
            known = found.images.get(image, FoundImage(image))
            if not known.split:
                found.images[image] = known._replace(split=_LISTS[word])
            elif known.split != _LISTS[word] and word != "trainval":
                found.report(
                    image, "conflict", f"{name} says {word}, another list {known.split}", "list it in one split only"
                )
        if missing:
            found.report(name, "unmatched", f"{missing} listed images are not in the source", "add them", missing)


def _text(parent: Element, tag: str) -> str:
    return (parent.findtext(tag) or "").strip()


def _pixels(size: Element | None, tag: str) -> int:
    """Read a declared side; 0 where it is absent or senseless, as many tools write it."""
    read = number(_text(size, tag)) if size is not None else None
    return int(read) if read is not None and math.isfinite(read) and read > 0 else 0


def write(dataset: Dataset, directory: str | Path, *, link: bool = False) -> list[str]:
    """Write a dataset in VOCdevkit's layout: JPEGImages, Annotations, ImageSets/Main.

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
        What the format cannot carry.

    Raises
    ------
    StoreError
        The folder is not empty or cannot be written.
    """
    folder, names = lay_out(dataset, directory, images="JPEGImages", link=link)
    (folder / "Annotations").mkdir()
    groups = dict(iter(dataset.annotations.groupby("image", sort=False)))
    dropped = 0
    for row in dataset.images.itertuples(index=False):
        objects = groups.get(row.image)
        if not row.labelled and objects is None:
            continue
        root, n = _image_element(row, names[row.image])
        dropped += n
        for item in objects.itertuples(index=False) if objects is not None else ():
            dropped += _add_object(root, item)
        indent(root)
        stem = names[row.image].rpartition(".")[0]
        (folder / "Annotations" / f"{stem}.xml").write_bytes(tostring(root, encoding="utf-8"))
    _write_splits(dataset, folder, names)
    listed = dataset.images["labelled"] | dataset.images["image"].isin(dataset.annotations["image"])
    return [*name_losses(dataset, names), *unlisted_losses(dataset, listed), *_losses(dataset, dropped)]


def _image_element(row: Any, name: str) -> tuple[Element, int]:
    """Make the XML of one image without objects; also give the number of keys that XML cannot carry."""
    root = Element("annotation")
    _add(root, "folder", "JPEGImages")
    _add(root, "filename", name)
    size = SubElement(root, "size")
    for tag, value in (("width", row.width), ("height", row.height), ("depth", 1 if row.mode == "L" else 3)):
        _add(size, tag, value)
    _add(root, "segmented", 0)
    dropped = _add_pairs(root, "cks", row.keys)
    if not math.isnan(row.quality):
        _add(root, "image_quality", float(row.quality))
    return root, dropped


def _add_object(root: Element, item: Any) -> int:
    """Append one object; give the number of tags that XML cannot carry."""
    tags = _pairs(item.tags)
    element = SubElement(root, "object")
    _add(element, "name", item.label)
    flags = {flag: tags.pop(flag) for flag in _FLAGS if _is_flag(tags.get(flag, ""))}
    # Every VOC reader expects these three.
    flags = {"pose": "Unspecified", "truncated": "0", "difficult": "0", **flags}
    for flag in sorted(flags):
        _add(element, flag, flags[flag])
    box = SubElement(element, "bndbox")
    for tag, edge in (("xmin", item.x1), ("ymin", item.y1), ("xmax", item.x2), ("ymax", item.y2)):
        _add(box, tag, edge)
    if item.rotation:
        _add(box, "rotate_angle", float(item.rotation))
    dropped = _add_pairs(element, "tags", tags)
    for tag, value in (("box_quality", item.quality), ("confidence", item.score)):
        if not math.isnan(value):
            _add(element, tag, float(value))
    return dropped


def _is_flag(value: str) -> bool:
    """Tell whether a flag's text comes back as it went: some texts are read as saying nothing."""
    return value == value.strip() and value.lower() not in _SAYS_NOTHING and not _NO_XML.search(value)


def _pairs(text: str) -> dict[str, str]:
    pairs: dict[str, str] = orjson.loads(text)
    return pairs


def _add_pairs(parent: Element, tag: str, pairs: str | dict[str, str]) -> int:
    """Append key:value pairs as elements; give the number that XML has no names or characters for."""
    known = _pairs(pairs) if isinstance(pairs, str) else pairs
    fit = {key: value for key, value in known.items() if _XML_NAME.fullmatch(key) and not _NO_XML.search(value)}
    if fit:
        group = SubElement(parent, tag)
        for key in sorted(fit):
            _add(group, key, fit[key])
    return len(known) - len(fit)


def _add(parent: Element, tag: str, value: str | float) -> None:
    whole = isinstance(value, float) and value.is_integer()
    SubElement(parent, tag).text = value if isinstance(value, str) else repr(int(value) if whole else value)


def _write_splits(dataset: Dataset, folder: Path, names: dict[str, str]) -> None:
    lists = folder / "ImageSets" / "Main"
    for split, group in dataset.images.groupby("split"):
        if split:
            lists.mkdir(parents=True, exist_ok=True)
            stems = sorted(names[image].rpartition(".")[0] for image in group["image"])
            (lists / f"{split}.txt").write_text("".join(f"{stem}\n" for stem in stems), encoding="utf-8")


def _losses(dataset: Dataset, dropped: int) -> list[str]:
    boxes = dataset.annotations
    counts = {
        "polygons or masks of {} objects": int((boxes["segmentation"] != "").sum()),
        "the given area of {} objects": int(boxes["area_px"].notna().sum()),
        "the crowd mark of {} objects": int(boxes["crowd"].sum()),
        "{} tags or keys whose names or characters XML does not have": dropped,
    }
    return [text.format(n) for text, n in counts.items() if n]
