"""Telling image files apart by their bytes, and whether they are whole, without decoding them."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable

from ymir_nb.backend.errors import YmirError

MAX_METADATA_BYTES = 8 << 20


class BadImage(YmirError, ValueError):
    """An image file that cannot be used.

    Parameters
    ----------
    reason : str
        What is wrong with it.
    remedy : str
        What to do about it.
    """

    def __init__(self, reason: str, remedy: str) -> None:
        super().__init__(f"{reason}; {remedy}")
        self.reason = reason
        self.remedy = remedy


def sniff(data: bytes) -> str:
    """Tell the file format by the first bytes, in Pillow's words.

    Raises
    ------
    BadImage
        Empty, or none of the six formats.

    Examples
    --------
    >>> sniff(b"GIF89a")
    'GIF'
    """
    if not data:
        raise BadImage("an empty file", "copy or download it again")
    if data.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    if data.startswith(b"BM"):
        return "BMP"
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return "WEBP"
    if data.startswith((b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")):
        return "TIFF"
    if data.startswith((b"GIF87a", b"GIF89a")):
        return "GIF"
    if data[:512].lstrip(b"\xef\xbb\xbf \t\r\n").lower().startswith((b"<!doctype html", b"<html", b"<head", b"<body")):
        raise BadImage("a web page, not an image", "download the image itself again")
    if not data.strip(b"\0"):
        raise BadImage("nothing but zero bytes", "copy or download it again")
    raise BadImage("not an image of a known format", "convert it to JPEG or PNG")


def _check_jpeg(data: bytes) -> None:
    """Hold a JPEG to its end marker and to the limit on metadata.

    Source: ITU-T T.81, annex B. Some cameras append a second picture or zeros, so the end marker is
    looked for behind the start of the scan, not at the end of the file.
    """
    at = 2
    while True:
        at = data.find(b"\xff", at)
        if at < 0 or at + 4 > len(data):
            raise _truncated()
        marker = data[at + 1]
        if marker == 0xDA:
            break
        if marker == 0xFF:
            at += 1
        elif marker in (0x00, 0x01) or 0xD0 <= marker <= 0xD8:
            at += 2
        else:
            at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    if at > MAX_METADATA_BYTES:
        raise too_much_metadata()
    if data.rfind(b"\xff\xd9", at) < 0:
        raise _truncated()


def _check_png(data: bytes) -> None:
    """Walk a PNG's chunks to its end, checking sums and the amount of metadata.

    Source: W3C PNG (Third Edition), section 5.
    """
    view = memoryview(data)
    at, metadata = 8, 0
    while at + 12 <= len(data):
        kind = data[at + 4 : at + 8]
        end = at + 12 + int.from_bytes(data[at : at + 4], "big")
        if end > len(data):
            raise _truncated()
        if kind[0] & 0x20:
            metadata += end - at
            if metadata > MAX_METADATA_BYTES:
                raise too_much_metadata()
        elif zlib.crc32(view[at + 4 : end - 4]) != int.from_bytes(data[end - 4 : end], "big"):
            raise BadImage(f"damaged (checksum of a {kind.decode('latin-1')} chunk)", "copy or download it again")
        if kind == b"IEND":
            return
        at = end
    raise _truncated()


def _check_bmp(data: bytes) -> None:
    """Hold an uncompressed BMP to the size that its header promises."""
    if len(data) < 26:
        raise _truncated()
    if not is_plain_bmp(data):
        return
    offset, header = struct.unpack_from("<II", data, 10)
    if header == 12:
        width, height, _, bits = struct.unpack_from("<HHHH", data, 18)
    else:
        width, height, _, bits = struct.unpack_from("<iiHH", data, 18)
    if offset + (abs(width) * bits + 31) // 32 * 4 * abs(height) > len(data):
        raise _truncated()


def is_plain_bmp(data: bytes) -> bool:
    """Tell whether a BMP's pixels are uncompressed (plain or with bit masks)."""
    if data[14:18] == b"\x0c\0\0\0":
        return True
    return len(data) >= 34 and struct.unpack_from("<I", data, 30)[0] in (0, 3, 6)


CHECKS: dict[str, Callable[[bytes], None]] = {"JPEG": _check_jpeg, "PNG": _check_png, "BMP": _check_bmp}


def _truncated() -> BadImage:
    return BadImage("truncated", "copy or download it again")


def too_much_metadata() -> BadImage:
    """Make the error for an image with more than `MAX_METADATA_BYTES` beside its pixels."""
    return BadImage(
        f"more than {MAX_METADATA_BYTES >> 20} MiB of metadata (profiles, texts)", "save it again without metadata"
    )
