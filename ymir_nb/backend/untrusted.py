"""Values and files that strangers wrote: looking at them without being harmed."""

from __future__ import annotations

import math
import os
import reprlib
import stat
from pathlib import Path


def is_safe_name(name: object) -> bool:
    """Tell whether a file name is relative, stays below its folder and has no odd characters."""
    if not isinstance(name, str) or not name or len(name) > 240 or not name.isprintable() or "\\" in name:
        return False
    parts = name.split("/")
    return all(part not in ("", ".", "..") for part in parts)


def show(value: object) -> str:
    """Show an untrusted value in bounded space; nested YAML aliases would fill the memory with `str`."""
    short = reprlib.Repr()
    short.maxlevel, short.maxstring, short.maxother, short.maxlong = 2, 80, 80, 40
    return short.repr(value)


def to_number(value: object) -> float | None:
    """Give a finite number as float, and None for everything else, text and true/false included."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def read_head(path: Path, *, limit: int) -> bytes:
    """Read at most `limit` bytes of a regular file; empty where there is none, or it is a link or a pipe."""
    descriptor = _open(path)
    if descriptor is None:
        return b""
    with os.fdopen(descriptor, "rb") as source:
        return source.read(limit)


def read_tail(path: Path, *, limit: int) -> bytes:
    """Read at most the last `limit` bytes of a regular file; empty where there is none, or it is a link or a pipe."""
    descriptor = _open(path)
    if descriptor is None:
        return b""
    with os.fdopen(descriptor, "rb") as source:
        source.seek(max(0, os.fstat(source.fileno()).st_size - limit))
        return source.read(limit)


def _open(path: Path) -> int | None:
    """Open a regular file without following a link or waiting for a pipe."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        return None
    return descriptor
