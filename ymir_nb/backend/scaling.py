"""Images at one long side: the sizes they get, and objects carried there and back.

Source: YMIR 2.5.0, ``preprocess.longside_resize``: every image, smaller ones too, is rescaled so that
its longer side has ``dest_size`` pixels, and its objects with it.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pandas as pd

from ymir_nb.backend import masks
from ymir_nb.backend.errors import InvalidTable


def rescaled_size(width: int, height: int, longside_px: int) -> tuple[int, int]:
    """Give an image's size once its longer side has `longside_px` pixels; 0 leaves it as it is.

    Parameters
    ----------
    width, height : int
        Pixels of the upright image.
    longside_px : int
        Wanted length of the longer side in pixels, or 0.

    Returns
    -------
    tuple of int
        Width and height, each at least 1.

    Examples
    --------
    >>> rescaled_size(640, 480, 320)
    (320, 240)
    """
    if not longside_px:
        return width, height
    longer = max(width, height)
    return tuple(max(1, (2 * side * longside_px + longer) // (2 * longer)) for side in (width, height))  # type: ignore[return-value]


def rescale(annotations: pd.DataFrame, images: pd.DataFrame, longside_px: int, *, back: bool = False) -> pd.DataFrame:
    """Carry objects to the sizes of `rescaled_size`, or back to the images' own.

    Boxes, polygons, masks and areas follow the factor of each axis.

    Parameters
    ----------
    annotations : DataFrame
        Columns of `tables.ANNOTATIONS`; objects on images that `images` does not name are left out.
    images : DataFrame
        Columns of `tables.IMAGES`, with the images' own sizes.
    longside_px : int
        As in `rescaled_size`; 0 gives `annotations` itself.
    back : bool, default False
        From the rescaled images to their own sizes.

    Returns
    -------
    DataFrame
        Columns of `tables.ANNOTATIONS`, in the same order of rows.

    Raises
    ------
    InvalidTable
        A mask cannot be read.
    """
    if not longside_px:
        return annotations
    own = images[["width", "height"]].to_numpy(dtype=int)
    other = np.array([rescaled_size(w, h, longside_px) for w, h in own.tolist()], dtype=int).reshape(-1, 2)
    before, after = (other, own) if back else (own, other)
    place = pd.Index(images["image"]).get_indexer(annotations["image"])
    kept, place = annotations[place >= 0], place[place >= 0]
    after, before = after[place], before[place]
    moved = {  # multiplied before it is divided: the edge of an image stays its edge to the last bit
        name: kept[name].to_numpy() * after[:, axis] / before[:, axis]
        for name, axis in (("x1", 0), ("y1", 1), ("x2", 0), ("y2", 1))
    }
    factors = after / before
    moved["area_px"] = kept["area_px"].to_numpy() * factors.prod(axis=1)
    moved["segmentation"] = pd.array(
        [
            _moved(text, factor, size) if text else ""
            for text, factor, size in zip(kept["segmentation"], factors.tolist(), after.tolist(), strict=True)
        ],
        dtype=kept["segmentation"].dtype,
    )
    return kept.assign(**moved)


def _moved(text: str, factor: list[float], size: list[int]) -> str:
    """Carry one segmentation: polygons by factor, a mask to a size."""
    shape: Any = json.loads(text)
    if isinstance(shape, dict):
        return json.dumps(masks.resized(shape, width=size[0], height=size[1]))
    try:
        return json.dumps([[value * factor[place % 2] for place, value in enumerate(ring)] for ring in shape])
    except TypeError as error:
        raise InvalidTable(
            f"a segmentation is neither polygons nor a mask: {text[:80]!r}. Repair or remove it."
        ) from error
