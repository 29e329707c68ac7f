"""Fitting found objects to their pictures: size, EXIF orientation, edges.

Annotation tools show pictures upright and nearly all of them write boxes for what they show. Where the
declared size is that of the stored pixels and not of the upright picture, the boxes lie on the
stored pixels and are turned with them. Where it is neither, nobody can say where the boxes
belong: they are not used, and the image counts as not labelled.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import orjson
import pandas as pd

from ymir_nb.backend import boxes
from ymir_nb.backend.formats.annotated import Annotated, FoundObject
from ymir_nb.backend.images import ImageInfo

_TOLERANCE_PX = 1e-3
"""A box beyond the picture by less is cut without a word: COCO's x + width rounds."""
_CORNERS = ["x1", "y1", "x2", "y2"]


@dataclass(frozen=True)
class Fitted:
    """Objects on upright pictures.

    Parameters
    ----------
    objects : DataFrame
        Columns of `FoundObject`, boxes within their pictures.
    unlabelled : set of str
        Files that an annotation speaks of, and that still count as not labelled.
    """

    objects: pd.DataFrame
    unlabelled: set[str]


def fit(found: Annotated, pictures: Mapping[str, ImageInfo]) -> Fitted:
    """Move every object to its upright picture and cut it there; what does not fit is reported in `found`.

    Parameters
    ----------
    found : Annotated
        From a format's reader.
    pictures : mapping of str to ImageInfo
        The images that were accepted, by file name.

    Returns
    -------
    Fitted
        Objects on accepted images, and the images whose annotations could not be used.
    """
    frame = pd.DataFrame(found.objects, columns=list(FoundObject._fields))
    frame = frame[frame["file"].isin(pictures.keys())].reset_index(drop=True)
    misfits = _misfits(found, pictures, frame)
    frame = _turned(frame[~frame["file"].isin(misfits)].reset_index(drop=True), found, pictures)
    frame = _cut(frame, found, pictures)
    return Fitted(frame, misfits | _emptied(frame, found, pictures, misfits))


def _misfits(found: Annotated, pictures: Mapping[str, ImageInfo], frame: pd.DataFrame) -> set[str]:
    """Find images whose annotations were made for another size."""
    misfits = set()
    counts = Counter(frame["file"])
    for file, info in pictures.items():
        said = found.images.get(file)
        if said is None or not said.width or not said.height or (said.width, said.height) in _sizes(info):
            continue
        misfits.add(file)
        found.report(
            file,
            "unlabelled",
            f"{said.annotation_file} was made for {said.width} x {said.height} pixels, the picture has "
            f"{info.width} x {info.height}; its {counts[file]} objects are not used",
            "export the annotations again, or correct the size there",
        )
    return misfits


def _sizes(info: ImageInfo) -> tuple[tuple[int, int], tuple[int, int]]:
    """Give the upright and the stored size of a picture."""
    upright = (info.width, info.height)
    return upright, (upright[::-1] if info.orientation >= 5 else upright)


def _turned(frame: pd.DataFrame, found: Annotated, pictures: Mapping[str, ImageInfo]) -> pd.DataFrame:
    """Turn the objects that were drawn on the stored pixels of a picture."""
    turned = frame.copy()
    places = frame.groupby("file").indices
    for file, info in pictures.items():
        said = found.images.get(file)
        upright, stored = _sizes(info)
        if said is None or (said.width, said.height) != stored or upright == stored:
            continue
        rows = places.get(file, [])
        place = {"orientation": info.orientation, "width": info.width, "height": info.height}
        turned.loc[rows, _CORNERS] = boxes.orient(turned.loc[rows, _CORNERS].to_numpy(), **place)
        masks = [_turned_polygons(text, **place) for text in turned.loc[rows, "segmentation"]]
        turned.loc[rows, "segmentation"] = masks
        found.report(
            file, "note", "its boxes were drawn on the stored pixels; they were turned with the picture", "look at it"
        )
        n_lost = sum(
            bool(before) and not after for before, after in zip(frame.loc[rows, "segmentation"], masks, strict=True)
        )
        if n_lost:
            found.report(
                file, "note", "masks of a turned picture are not kept, their boxes are", "turn it first", n_lost
            )
    return turned


def _turned_polygons(text: str, *, orientation: int, width: int, height: int) -> str:
    """Turn polygons like boxes; a mask, which would have to be decoded, is given up."""
    rings = orjson.loads(text) if text else []
    if not isinstance(rings, list) or not rings:
        return ""
    turned = []
    for ring in rings:
        points = np.asarray(ring, dtype=np.float64).reshape(-1, 2)
        # A point is a box without extent.
        corners = boxes.orient(np.hstack([points, points]), orientation=orientation, width=width, height=height)
        turned.append(corners[:, :2].ravel().tolist())
    return orjson.dumps(turned).decode()


def _cut(frame: pd.DataFrame, found: Annotated, pictures: Mapping[str, ImageInfo]) -> pd.DataFrame:
    """Cut boxes to their pictures; those that lie outside are rejected."""
    if frame.empty:
        return frame
    raw = frame[_CORNERS].to_numpy(dtype=np.float64)
    sizes = np.array([(pictures[file].width, pictures[file].height) for file in frame["file"]], dtype=np.float64)
    cut = np.clip(raw, 0.0, np.hstack([sizes, sizes]))
    outside = (cut[:, 2] <= cut[:, 0]) | (cut[:, 3] <= cut[:, 1])
    for row in frame[outside].itertuples(index=False):
        found.reject(
            row.file,
            f"{found.images[row.file].annotation_file}, object {row.number}",
            f"{row.label!r} lies outside of the picture ({row.x1:g}, {row.y1:g}, {row.x2:g}, {row.y2:g})",
        )
    clipped = ~outside & (np.abs(cut - raw) > _TOLERANCE_PX).any(axis=1)
    for file, n in sorted(Counter(frame["file"][clipped]).items()):
        info = pictures[file]
        found.report(
            file,
            "clipped",
            f"{n} boxes reached out of the {info.width} x {info.height} picture and were cut to it",
            "nothing to do, if they look right",
            n,
        )
    kept = frame.assign(**dict(zip(_CORNERS, cut.T, strict=True)))[~outside]
    return kept.reset_index(drop=True)


def _emptied(frame: pd.DataFrame, found: Annotated, pictures: Mapping[str, ImageInfo], misfits: set[str]) -> set[str]:
    """Find images that lost all their objects: they are no negatives, since something was drawn there."""
    kept = set(frame["file"])
    emptied = {file for file in found.losses if file in pictures and file not in kept and file not in misfits}
    for file in sorted(emptied):
        found.report(
            file,
            "unlabelled",
            f"all of its {found.losses[file]} objects were rejected",
            "repair them; until then the image counts as not labelled",
        )
    return emptied
