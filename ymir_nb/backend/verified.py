"""Which objects of a cache were hashed before: unchanged files need not be read again.

An object is taken as unchanged while its size, its time of change to the nanosecond, and its inode
are what they were when its bytes were last held against its name, as git and DVC take it too.
Whatever differs is hashed again; losing the record costs time and nothing else.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

COARSEST_CLOCK_NS = 2_000_000_000
"""FAT's clock: a file this young could change once more without its time showing it."""


class Stamp(NamedTuple):
    """What a file looks like from outside.

    Parameters
    ----------
    n_bytes : int
        Its size.
    mtime_ns : int
        When its bytes last changed, in nanoseconds since 1970.
    inode : int
        Its number on the file system.
    """

    n_bytes: int
    mtime_ns: int
    inode: int

    @classmethod
    def of(cls, path: str | Path) -> Stamp:
        """Look at a file, or at what a link leads to.

        Raises
        ------
        FileNotFoundError
            There is none.
        """
        status = os.stat(path)  # noqa: PTH116 (a hundred thousand at a time)
        return cls(status.st_size, status.st_mtime_ns, status.st_ino)


class Verified:
    """The record beside a cache: a line an object with its name, size, time and inode.

    Lines are only ever added, the last one of an object counts, and one that a crash cut short is
    passed over; so any number of processes may write to it.

    Parameters
    ----------
    path : Path
        The file; made when the first line is.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> dict[str, Stamp]:
        """Give the stamp of every object that was hashed."""
        try:
            lines = self.path.read_text(encoding="ascii", errors="replace").splitlines()
        except FileNotFoundError:
            return {}
        found = {}
        for line in lines:
            fields = line.split()
            if len(fields) == 4 and all(map(str.isdecimal, fields[1:])):
                found[fields[0]] = Stamp(int(fields[1]), int(fields[2]), int(fields[3]))
        return found

    def add(self, stamps: Mapping[str, Stamp]) -> None:
        """Note objects whose bytes were just held against their names."""
        if not stamps:
            return
        text = "".join(f"{name} {s.n_bytes} {s.mtime_ns} {s.inode}\n" for name, s in stamps.items())
        # A cache that this user may only read is hashed every time.
        with contextlib.suppress(PermissionError), self.path.open("a", encoding="ascii") as file:
            file.write(text)
