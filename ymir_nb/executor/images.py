"""Images as the network sees them: upright RGB, scaled to fit the input, in its top left corner."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image, ImageOps

from ymir_nb.executor.errors import DATASET, IMAGE_FORMAT, ExecutorFailure

PAD = 114
"""Grey level around an image; `normalised` maps it to zero."""
SPREAD = 58.0
MAX_PIXELS = 200_000_000


class InputSize(NamedTuple):
    """Size of the network's input, in pixels."""

    width: int
    height: int


@dataclass(frozen=True, eq=False)
class Picture:
    """A decoded image.

    Parameters
    ----------
    pixels : Tensor of uint8, shape (3, height, width)
        At the network's input size.
    width, height : int
        Size of the upright original, pixels.
    scale : tuple of float
        Input pixels for an original pixel, in x and y.
    """

    pixels: torch.Tensor
    width: int
    height: int
    scale: tuple[float, float]


def load_picture(path: str, size: InputSize) -> Picture:
    """Decode an image, turn it upright, scale it to fit.

    Parameters
    ----------
    path : str
        Image file in any format that Pillow opens.
    size : InputSize
        What to fit it into.

    Raises
    ------
    ExecutorFailure
        The file is missing (300002), or no image, cut short or larger than 200 megapixels (300003).
    """
    try:
        with Image.open(path) as image:
            if image.width * image.height > MAX_PIXELS:
                raise ExecutorFailure(f"{path} has {image.width} x {image.height} pixels: too large", code=IMAGE_FORMAT)
            width, height = image.size
            if image.getexif().get(0x0112, 1) in (5, 6, 7, 8):
                width, height = height, width
            ratio = min(size.width / width, size.height / height)
            fitted = max(1, round(width * ratio)), max(1, round(height * ratio))
            side = max(fitted)
            image.draft("RGB", (side, side))  # JPEG only: decodes at 1/2, 1/4 or 1/8 where that still is larger
            upright = ImageOps.exif_transpose(image).convert("RGB").resize(fitted, Image.Resampling.BILINEAR)
    except FileNotFoundError as error:
        raise ExecutorFailure(f"{path} is listed in the index and does not exist", code=DATASET) from error
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise ExecutorFailure(f"{path} cannot be decoded: {error}", code=IMAGE_FORMAT) from error
    canvas = np.full((size.height, size.width, 3), PAD, dtype=np.uint8)
    canvas[: fitted[1], : fitted[0]] = np.asarray(upright)
    pixels = torch.from_numpy(np.ascontiguousarray(canvas.transpose(2, 0, 1)))
    return Picture(pixels, width, height, (fitted[0] / width, fitted[1] / height))


def fitted_size(picture: Picture) -> tuple[int, int]:
    """Give the columns and rows of the input that show the image; the rest is padding."""
    _, height, width = picture.pixels.shape
    columns, rows = round(picture.width * picture.scale[0]), round(picture.height * picture.scale[1])
    return min(max(columns, 1), width), min(max(rows, 1), height)


def normalised(pixels: torch.Tensor) -> torch.Tensor:
    """Turn uint8 pixels into floats around zero."""
    return (pixels.float() - PAD) / SPREAD


class PictureSource:
    """Pictures of a list of paths, decoded once and kept while they fit into `cache_mb`.

    Parameters
    ----------
    paths : sequence of str
        The images.
    size : InputSize
        The network's input.
    cache_mb : int
        Memory for decoded images, in MiB; 0 keeps none.
    """

    def __init__(self, paths: Sequence[str], size: InputSize, *, cache_mb: int) -> None:
        self.paths = paths
        self.size = size
        self._room = cache_mb * 2**20 // (3 * size.width * size.height)
        self._kept: dict[int, Picture] = {}

    def __len__(self) -> int:
        """Count the images."""
        return len(self.paths)

    def get(self, position: int) -> Picture:
        """Give a picture by its position in `paths`; several threads may ask at a time."""
        kept = self._kept.get(position)
        if kept is not None:
            return kept
        picture = load_picture(self.paths[position], self.size)
        if len(self._kept) < self._room:
            self._kept[position] = picture
        return picture
