"""Image files: what their header says, whether they are whole, and their upright pixels.

Six formats come in: JPEG, PNG, BMP, WEBP, TIFF and GIF. An image is described by its header; JPEG,
PNG and BMP are checked for completeness without being decoded, the others by decoding them once.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import PurePosixPath

import numpy as np
from PIL import (
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    ImageFile,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from ymir_nb.backend.imagefiles import CHECKS, MAX_METADATA_BYTES, BadImage, is_plain_bmp, sniff, too_much_metadata

__all__ = ["BadImage", "ImageInfo", "inspect", "is_plain", "open_upright", "thumbnail", "to_plain_png"]

MAX_PIXELS = 178_956_970
"""Twice the size at which Pillow begins to warn; larger pictures are refused by their header."""
MAX_FILE_BYTES = 1 << 30

# The classes themselves, not Image.open: no search for a format, and our own size limit instead of a warning.
_OPENERS: dict[str, Callable[[io.BytesIO], ImageFile.ImageFile]] = {
    "JPEG": JpegImagePlugin.JpegImageFile,
    "PNG": PngImagePlugin.PngImageFile,
    "BMP": BmpImagePlugin.BmpImageFile,
    "WEBP": WebPImagePlugin.WebPImageFile,
    "TIFF": TiffImagePlugin.TiffImageFile,
    "GIF": GifImagePlugin.GifImageFile,
}
EXTENSIONS = {
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "PNG": (".png",),
    "BMP": (".bmp", ".dib"),
    "WEBP": (".webp",),
    "TIFF": (".tif", ".tiff"),
    "GIF": (".gif",),
}
"""File name extensions of the formats; the first one is written."""
FOREIGN_EXTENSIONS = (".heic", ".heif", ".avif", ".jp2", ".jxl", ".psd", ".svg", ".dng", ".cr2", ".nef", ".arw", ".ppm")
"""Pictures that are not read, but should not be passed over in silence either."""
_FORMAT_OF = {extension: name for name, extensions in EXTENSIONS.items() for extension in extensions}
_GREY16 = ("I;16", "I;16L", "I;16B", "I;16N")
_MODES = {"1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", *_GREY16}
_TRANSPOSE = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_ORIENTATION = 0x0112
# What Pillow's readers raise on broken or hostile files; warnings where those are made errors.
_FAULTS = (
    *(OSError, ValueError, SyntaxError, EOFError, IndexError, KeyError, TypeError, struct.error, zlib.error),
    *(ArithmeticError, AttributeError, RuntimeError, MemoryError, Image.DecompressionBombError, Warning),
)


@dataclass(frozen=True)
class ImageInfo:
    """What the header of an image file says.

    Parameters
    ----------
    format, mode : str
        Pillow's names of the file format and the pixel layout.
    width, height : int
        Pixels, after the EXIF orientation is applied.
    orientation : int
        EXIF orientation of the stored pixels, 1-8.
    n_bytes : int
        Size of the file.
    """

    format: str
    mode: str
    width: int
    height: int
    orientation: int
    n_bytes: int


def inspect(data: bytes, name: str) -> ImageInfo:
    """Describe an image file by its header, and make sure that it is whole.

    Parameters
    ----------
    data : bytes
        The file.
    name : str
        Its name, whose extension must fit.

    Returns
    -------
    ImageInfo
        Format, mode, upright size, orientation.

    Raises
    ------
    BadImage
        Empty, truncated, damaged, no image, misnamed, animated, of several pages, too large, or of
        a pixel layout without a defined conversion.

    Examples
    --------
    >>> file = io.BytesIO()
    >>> Image.new("L", (4, 3)).save(file, "PNG")
    >>> inspect(file.getvalue(), "a.png").width
    4
    """
    kind = sniff(data)
    named = _FORMAT_OF.get(PurePosixPath(name).suffix.lower())
    if named and named != kind:
        right = PurePosixPath(name).with_suffix(EXTENSIONS[kind][0]).name
        raise BadImage(f"a {kind} file named as {named}", f"rename it to {right!r}")
    if kind in CHECKS:
        CHECKS[kind](data)
    image = _open(data, kind)
    mode = "I;16" if kind == "PNG" and image.mode == "I" else image.mode
    if mode not in _MODES:
        raise BadImage(f"pixels of the kind {mode}", "convert it to 8 or 16 bits in RGB or grey")
    if _has_more_frames(image):
        raise BadImage("animated, or of several pages", "save the frame or page that counts as a file of its own")
    width, height = image.size
    orientation = _orientation(image, data)
    if kind == "TIFF":
        # Pillow turns these upright by itself when they are decoded.
        width, height = _decoded(image).size
    elif orientation >= 5:
        width, height = height, width
    if kind in ("WEBP", "GIF") or (kind == "BMP" and not is_plain_bmp(data)):
        _decoded(image)
    return ImageInfo(kind, mode, width, height, orientation, len(data))


def open_upright(data: bytes) -> Image.Image:
    """Decode an image to 8-bit RGB, turned by its EXIF orientation.

    16-bit grey is scaled to 8 bits, transparency lies on white, CMYK, palettes and grey become RGB.

    Raises
    ------
    BadImage
        It cannot be decoded.

    Examples
    --------
    >>> file = io.BytesIO()
    >>> Image.new("L", (4, 3)).save(file, "PNG")
    >>> open_upright(file.getvalue()).mode
    'RGB'
    """
    kind = sniff(data)
    return _upright(_open(data, kind), data, kind)


def thumbnail(data: bytes, *, side_px: int) -> bytes:
    """Make a small upright JPEG of an image.

    Parameters
    ----------
    data : bytes
        The image file.
    side_px : int
        Longest side in pixels; a smaller image keeps its size. No side gets shorter than 1 pixel.

    Returns
    -------
    bytes
        A JPEG file.
    """
    kind = sniff(data)
    image = _open(data, kind)
    full = max(image.size)
    # A JPEG is decoded at a half, quarter or eighth where that is enough.
    image.draft("RGB", (side_px, side_px))
    upright = _upright(image, data, kind)
    scale = min(1.0, side_px / max(upright.size)) if full > side_px else 1.0
    size = (max(1, round(upright.width * scale)), max(1, round(upright.height * scale)))
    if size != upright.size:
        upright = upright.resize(size, Image.Resampling.BICUBIC, reducing_gap=2.0)
    return _saved(upright, "JPEG", quality=85)


def is_plain(info: ImageInfo) -> bool:
    """Tell whether every reader sees the same pixels: JPEG, PNG or BMP, upright, RGB or grey."""
    return info.format in ("JPEG", "PNG", "BMP") and info.orientation == 1 and info.mode in ("RGB", "L")


def to_plain_png(data: bytes) -> bytes:
    """Rewrite an image as an upright 8-bit RGB PNG that every reader sees the same way."""
    return _saved(open_upright(data), "PNG", compress_level=1)


def _open(data: bytes, kind: str) -> ImageFile.ImageFile:
    """Read an image's header, within the limits on pixels and metadata."""
    try:
        image = _OPENERS[kind](io.BytesIO(data))
    except _FAULTS as error:
        raise BadImage(f"its {kind} header cannot be read ({_said(error)})", "copy or download it again") from error
    width, height = image.size
    if width < 1 or height < 1:
        raise BadImage(f"its header says {width} x {height} pixels", "copy or download it again")
    if width * height > MAX_PIXELS:
        raise BadImage(
            f"{width} x {height} pixels, the limit is {MAX_PIXELS:,} in all", "scale it down or cut it into tiles"
        )
    if sum(len(value) for value in image.info.values() if isinstance(value, (bytes, str))) > MAX_METADATA_BYTES:
        raise too_much_metadata()
    return image


def _decoded(image: ImageFile.ImageFile) -> ImageFile.ImageFile:
    try:
        image.load()
    except _FAULTS as error:
        raise BadImage(f"truncated or damaged ({_said(error)})", "copy or download it again") from error
    return image


def _upright(image: ImageFile.ImageFile, data: bytes, kind: str) -> Image.Image:
    orientation = _orientation(image, data)
    decoded: Image.Image = _decoded(image)
    if kind != "TIFF" and orientation != 1:
        decoded = decoded.transpose(_TRANSPOSE[orientation])
    return _to_rgb(decoded)


def _to_rgb(image: Image.Image) -> Image.Image:
    """Convert any accepted pixel layout to 8-bit RGB."""
    if image.mode == "RGB":
        return image
    if image.mode in _GREY16 or image.mode == "I":
        grey = np.asarray(image).astype(np.uint32)
        return Image.fromarray(((grey * 255 + 32767) // 65535).astype(np.uint8)).convert("RGB")
    if image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or (image.mode == "P" and "transparency" in image.info):
        # Premultiplied layouts convert to RGBA only through their plain form.
        plain = image.convert({"La": "LA", "RGBa": "RGBA"}.get(image.mode, image.mode)).convert("RGBA")
        paper = Image.new("RGBA", plain.size, "white")
        return Image.alpha_composite(paper, plain).convert("RGB")
    return image.convert("RGB")


def _orientation(image: ImageFile.ImageFile, data: bytes) -> int:
    """Read the EXIF orientation; 1 where there is none, or a broken one, as viewers have it."""
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        value = image.tag_v2.get(_ORIENTATION, 1)
    else:
        raw = image.info.get("exif")
        if raw is None and isinstance(image, PngImagePlugin.PngImageFile):
            raw = _late_exif(data)
        if not raw:
            return 1
        exif = Image.Exif()
        try:
            exif.load(raw)
            value = exif.get(_ORIENTATION, 1)
        except _FAULTS:
            return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _late_exif(data: bytes) -> bytes | None:
    """Find a PNG's eXIf chunk behind its pixels, which Pillow reads only when it decodes them."""
    at = data.rfind(b"eXIf")
    if at < 4:
        return None
    return data[at + 4 : at + 4 + int.from_bytes(data[at - 4 : at], "big")]


def _has_more_frames(image: ImageFile.ImageFile) -> bool:
    if isinstance(image, (JpegImagePlugin.JpegImageFile, BmpImagePlugin.BmpImageFile)):
        return False
    try:
        return bool(getattr(image, "is_animated", False))
    except _FAULTS as error:
        raise BadImage(f"truncated or damaged ({_said(error)})", "copy or download it again") from error


def _saved(image: Image.Image, kind: str, **options: int) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def _said(error: BaseException) -> str:
    return str(error) or type(error).__name__
