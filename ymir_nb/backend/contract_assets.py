"""Images as executors find them in ``/in/assets``: linked, and rewritten only where they have to be.

A hard link costs no space and hardly any time: a hundred thousand images take about a second.
"""

from __future__ import annotations

import io
from pathlib import Path

from PIL import Image

from ymir_nb.backend.contract_annotations import Asset
from ymir_nb.backend.dataset import Dataset
from ymir_nb.backend.images import is_plain, open_upright
from ymir_nb.backend.many_files import for_each, link, make_folders
from ymir_nb.backend.scaling import rescaled_size

SUFFIXES = {"JPEG": ".jpg", "PNG": ".png", "BMP": ".bmp"}
JPEG_QUALITY = 95


def export_images(directory: Path, dataset: Dataset, *, longside_px: int = 0) -> list[Asset]:
    """Put a dataset's images below ``assets`` and tell how they lie there.

    An image is linked to the cache, or copied where links are not to be had. One whose pixels an
    executor could misread (turned by EXIF, CMYK, palette, 16 bit, alpha, WEBP, TIFF, GIF) is written
    as an upright RGB PNG; a rescaled one as an upright RGB JPEG where it was a JPEG, else as PNG.

    Parameters
    ----------
    directory : Path
        ``assets``; made where it is not there.
    dataset : Dataset
        Whose media hold the images.
    longside_px : int, default 0
        Rescale the longer side of every image to so many pixels; 0 leaves them. An image that has
        that size is linked.

    Returns
    -------
    list of Asset
        In the order of the dataset.

    Raises
    ------
    ObjectMissing, ObjectDamaged
        An image is not in the cache, or is not what its name says.
    """
    linked: dict[str, Asset] = {}
    rewritten: dict[str, Asset] = {}
    assets = []
    for row in dataset.images.itertuples(index=False):
        size = rescaled_size(row.width, row.height, longside_px)
        is_kept = size == (row.width, row.height)
        is_linked = is_kept and is_plain(row)
        suffix = SUFFIXES[row.format] if is_linked else ".jpg" if row.format == "JPEG" and not is_kept else ".png"
        asset = Asset(
            image=row.image,
            name=f"{row.image[-2:]}/{row.image}{suffix}",
            width=size[0],
            height=size[1],
            depth=1 if is_linked and row.mode == "L" else 3,
            keys=row.keys,
            quality=row.quality,
        )
        assets.append(asset)
        (linked if is_linked else rewritten)[asset.name] = asset
    make_folders(directory, linked.keys() | rewritten.keys())
    files = dataset.media.files([asset.image for asset in linked.values()])
    sources = dict(zip(linked, files, strict=True))
    for_each(linked, lambda name: link(sources[name], f"{directory}/{name}"))
    for_each(rewritten, lambda name: _rewrite(dataset, rewritten[name], directory / name))
    return assets


def _rewrite(dataset: Dataset, asset: Asset, path: Path) -> None:
    """Write an image upright, in RGB, at its size."""
    picture = open_upright(dataset.media.read(asset.image))
    if picture.size != (asset.width, asset.height):
        picture = picture.resize((asset.width, asset.height), Image.Resampling.LANCZOS, reducing_gap=3.0)
    sink = io.BytesIO()
    if asset.name.endswith(".jpg"):
        picture.save(sink, "JPEG", quality=JPEG_QUALITY, subsampling=0)
    else:
        picture.save(sink, "PNG", compress_level=1)
    path.write_bytes(sink.getvalue())
