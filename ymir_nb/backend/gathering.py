"""Gathering a source into tables: annotations first, then every image once, then the two together.

Nothing is stored before the labels are known to be acceptable. Images are read by header and known
by the hash of their bytes; whatever cannot be taken as it came is a row of the report.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson
import pandas as pd

from ymir_nb.backend.errors import FormatNotRecognised, ImportRefused, UnknownLabels
from ymir_nb.backend.fitting import fit
from ymir_nb.backend.formats import find_format, guess_format
from ymir_nb.backend.formats.annotated import Annotated, FoundImage, split_of_path
from ymir_nb.backend.images import EXTENSIONS, FOREIGN_EXTENSIONS, MAX_FILE_BYTES, BadImage, ImageInfo, inspect
from ymir_nb.backend.labels import Labels
from ymir_nb.backend.reports import ImportReport, ReportRow, visible
from ymir_nb.backend.sources import EntryUnreadable, Source
from ymir_nb.backend.tables import annotations_frame, images_frame

POLICIES = ("stop", "ignore", "add")
_SUFFIXES = tuple(suffix for suffixes in EXTENSIONS.values() for suffix in suffixes)


@dataclass(frozen=True)
class Gathered:
    """What an import takes from a source.

    Parameters
    ----------
    images, annotations : DataFrame
        Columns of `tables.IMAGES` and `tables.ANNOTATIONS`.
    labels : Labels
        The labels given, and those that were added.
    dataset_labels : tuple of str
        Main names that the source is annotated for, in the order of `labels`.
    report : ImportReport
        Everything that was not taken just as it came.
    """

    images: pd.DataFrame
    annotations: pd.DataFrame
    labels: Labels
    dataset_labels: tuple[str, ...]
    report: ImportReport


def hash_only(data: bytes) -> str:
    """Give what `put` returns, the md5 of an image's bytes in hex, without storing them."""
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


def gather(
    source: Source,
    *,
    labels: Labels,
    put: Callable[[bytes], str],
    format: str | None = None,  # noqa: A002  the user's word
    unknown_labels: str = "stop",
) -> Gathered:
    """Read images and annotations from a source.

    Parameters
    ----------
    source : Source
        From `sources.open_source`.
    labels : Labels
        The labels of the workspace; aliases fold to main names.
    put : callable
        Takes the bytes of an image, stores them once, and returns their md5 in hex.
    format : str, optional
        A name in `formats.FORMATS`; left out, it is guessed where that is plain.
    unknown_labels : {'stop', 'ignore', 'add'}
        What to do with labels that `labels` does not know: raise, drop their objects, or append
        them in alphabetical order.

    Returns
    -------
    Gathered
        Tables, labels and the report. There may be no image in it, if all were quarantined.

    Raises
    ------
    UnknownLabels
        Under `stop`, with every unknown label and its count; nothing was put then.
    FormatNotRecognised
        No format was given and none is plain to see, or nothing of the given one is there.
    ImportRefused
        There is no image file, or the policy is not known.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from PIL import Image
    >>> from ymir_nb.backend.sources import open_source
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     Image.new("RGB", (4, 3)).save(Path(folder, "a.png"))
    ...     with open_source(folder) as source:
    ...         gather(source, labels=Labels(), put=hash_only).report
    <ImportReport: 1 images, 0 boxes, 0 negatives, 1 unlabelled>
    """
    if unknown_labels not in POLICIES:
        raise ImportRefused(f"unknown_labels must be one of {', '.join(POLICIES)}; it is {unknown_labels!r}.")
    names = [name for name in source.names() if name.lower().endswith(_SUFFIXES)]
    if not names:
        raise ImportRefused(
            f"{source.path} has no image ({', '.join(_SUFFIXES)}) among its {len(source.names())} files. "
            "Name the folder or archive that holds them."
        )
    chosen = format or guess_format(source)
    found = _read_annotations(source, names, chosen)
    known, main_names = _settle_labels(found, labels, unknown_labels)
    hashes, pictures = _read_images(source, names, found, put)
    fitted = fit(found, pictures)
    objects = fitted.objects.assign(label=fitted.objects["label"].map(main_names)).dropna(subset="label")
    rows = _unite(hashes, pictures, objects, found, unlabelled=fitted.unlabelled)
    images = images_frame(row.table_row for row in rows)
    owners = {row.annotated_as: row.image for row in rows}
    annotations = objects.assign(image=objects["file"].map(owners)).dropna(subset="image")
    annotations = annotations_frame(annotations.drop(columns=["file", "number"]))
    used = {*annotations["label"], *(main_names[text] for text in found.declared if text in main_names)}
    return Gathered(
        images=images,
        annotations=annotations,
        labels=known,
        dataset_labels=tuple(name for name in known.names if name in used),
        report=_report(images, annotations, [*source.refused, *found.rows], chosen),
    )


def _read_annotations(source: Source, names: list[str], chosen: str) -> Annotated:
    """Read the annotations, and leave out objects whose label text can be no label."""
    found = find_format(chosen).read(source, names)
    if chosen != "images" and not found.images and not found.rows:
        raise FormatNotRecognised(f"{source.path} has no annotations of the format {chosen!r}. Try format='images'.")
    kept = []
    for item in found.objects:
        if item.label.strip().isprintable() and item.label.strip():
            kept.append(item)
        else:
            where = f"{found.images[item.file].annotation_file}, object {item.number}"
            found.reject(item.file, where, f"label {item.label!r} is empty or holds control characters")
    found.objects = kept
    return found


def _settle_labels(found: Annotated, labels: Labels, policy: str) -> tuple[Labels, dict[str, str]]:
    """Give the labels after the import, and the main name of every label text that is to be kept."""
    owners = {_key(name): label.name for label in labels.items for name in (label.name, *label.aliases)}
    counts = Counter(item.label for item in found.objects)
    unknown = sorted((text for text in counts if _key(text) not in owners), key=lambda text: (_key(text), text.strip()))
    if unknown and policy == "stop":
        raise _unknown_labels(unknown, counts)
    for text in unknown:
        n = f"{counts[text]} objects"
        if policy == "ignore":
            remedy = f"labels.add({text.strip()!r}), or unknown_labels='add'"
            found.report("", "ignored", f"label {text!r} is not known; {n} were left out", remedy, counts[text])
        elif _key(text) not in owners:
            labels = labels.add(text)
            owners[_key(text)] = text.strip()
            found.report("", "added", f"label {text.strip()!r} was added for {n}", "nothing to do", counts[text])
    main_names = {text: owners[_key(text)] for text in (*counts, *found.declared) if _key(text) in owners}
    for text in sorted(counts):
        if main_names.get(text, text) != text:
            reason = f"label {text!r} became {main_names[text]!r} in {counts[text]} objects"
            found.report("", "folded", reason, "nothing to do", counts[text])
    return labels, main_names


def _unknown_labels(unknown: list[str], counts: Mapping[str, int]) -> UnknownLabels:
    listed = ", ".join(f"{text!r} ({counts[text]})" for text in unknown)
    return UnknownLabels(
        f"{len(unknown)} labels are not in labels.yaml, with their numbers of objects: {listed}. Add them: "
        f"labels.add({unknown[0].strip()!r}), as aliases: labels.alias({unknown[0].strip()!r}, of=...), or import "
        "with unknown_labels='add' or 'ignore' (--unknown-labels add). Nothing was imported.",
        {text: counts[text] for text in unknown},
    )


def _read_images(
    source: Source, names: list[str], found: Annotated, put: Callable[[bytes], str]
) -> tuple[dict[str, str], dict[str, ImageInfo]]:
    """Read every image once; give hash and header by name. Unusable ones are quarantined."""
    hashes, pictures = {}, {}
    counts = Counter(item.file for item in found.objects)
    for name in names:
        try:
            data = _bytes_of(source, name)
            pictures[name] = inspect(data, name)
        except BadImage as error:
            lost = f"; {counts[name]} objects on it are left out" if counts[name] else ""
            found.report(name, "quarantined", f"{error.reason}{lost}", error.remedy)
        else:
            hashes[name] = put(data)
    for name in source.names():
        if name.lower().endswith(FOREIGN_EXTENSIONS):
            found.report(name, "quarantined", "a picture format that is not read", "convert it to JPEG or PNG")
    n_turned = sum(info.orientation != 1 for info in pictures.values())
    if n_turned:
        reason = f"{n_turned} pictures are stored turned or mirrored; they are shown upright, as their EXIF data says"
        found.report("", "oriented", reason, "nothing to do", n_turned)
    return hashes, pictures


def _bytes_of(source: Source, name: str) -> bytes:
    if source.size(name) > MAX_FILE_BYTES:
        raise BadImage(f"{source.size(name):,} bytes, the limit is {MAX_FILE_BYTES:,}", "scale it down")
    try:
        return source.read(name)
    except EntryUnreadable as error:
        raise BadImage(str(error), "check the file") from error


@dataclass(frozen=True)
class _Picture:
    """One image of the result: its row, and the file whose annotations it carries."""

    image: str
    annotated_as: str
    table_row: dict[str, Any] = field(repr=False)


def _unite(
    hashes: Mapping[str, str],
    pictures: Mapping[str, ImageInfo],
    objects: pd.DataFrame,
    found: Annotated,
    *,
    unlabelled: set[str],
) -> list[_Picture]:
    """Make one row of all files with the same bytes; the first that is labelled gives the annotations."""
    drawn = objects.drop(columns="number").groupby("file", sort=False)
    files: dict[str, list[str]] = {}
    for name in sorted(hashes):
        files.setdefault(hashes[name], []).append(name)
    united = []
    for image, names in files.items():
        said = {name: found.images.get(name, FoundImage(name)) for name in names}
        labelled = [name for name in names if said[name].labelled and name not in unlabelled]
        chosen = (labelled or names)[0]
        if len(names) > 1:
            _report_duplicates(names, labelled, drawn, found)
        info = pictures[names[0]]
        row = {
            "image": image,
            "file": names[0],
            "other_files": orjson.dumps(names[1:]).decode(),
            "format": info.format,
            "mode": info.mode,
            "width": info.width,
            "height": info.height,
            "orientation": info.orientation,
            "n_bytes": info.n_bytes,
            "split": _split(names, said, found),
            "labelled": bool(labelled),
            "keys": said[chosen].keys,
            "quality": said[chosen].quality,
        }
        united.append(_Picture(image, chosen, row))
    return united


def _report_duplicates(names: list[str], labelled: list[str], drawn: Any, found: Annotated) -> None:
    """Report further names of the same bytes, and annotations that differ between them."""
    for name in names[1:]:
        found.report(name, "duplicate", f"the same bytes as {visible(names[0])}", "nothing to do; both names are kept")
    forms = [_comparable(drawn, name) for name in labelled]
    for name, form in zip(labelled[1:], forms[1:], strict=True):
        if form != forms[0]:
            reason = f"the same bytes as {visible(labelled[0])}, but annotated differently; the first counts"
            found.report(name, "conflict", reason, "keep one of the two")


def _comparable(drawn: Any, name: str) -> list[str]:
    """Give the objects of a file, a frame grouped by file, in a form that compares."""
    if name not in drawn.indices:
        return []
    mine = drawn.get_group(name).drop(columns="file")
    return sorted(map(repr, mine.itertuples(index=False, name=None)))


def _split(names: list[str], said: Mapping[str, FoundImage], found: Annotated) -> str:
    """Choose the split: what a list or annotation file says, else the folder; the first name counts."""
    splits = {name: said[name].split or split_of_path(name) for name in names}
    first = next((split for split in splits.values() if split), "")
    for name, split in splits.items():
        if split and split != first:
            reason = f"the same bytes stand in {first} ({visible(names[0])}) and in {split}; the first counts"
            found.report(name, "conflict", reason, "keep it in one split")
    return first


def _report(images: pd.DataFrame, annotations: pd.DataFrame, rows: list[ReportRow], chosen: str) -> ImportReport:
    negatives = images["labelled"] & ~images["image"].isin(annotations["image"])
    return ImportReport.of(
        rows,
        format=chosen,
        n_images=len(images),
        n_boxes=len(annotations),
        n_negatives=int(negatives.sum()),
        n_unlabelled=int((~images["labelled"]).sum()),
    )


def _key(text: str) -> str:
    """Comparable form of a label text, as `labels` compares."""
    return text.strip().casefold()
