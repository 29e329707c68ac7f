"""TensorBoard event files: the scalars that an executor logs, read while it trains.

The files come from an executor and are hostile until checked: links are not followed, a record whose
checksum is wrong is passed over, and sizes are capped. A record that is still being written is left
for the next reading.

The reader is our own, with `event_records`: scalars need a dozen fields of the format, and the
`tensorboard` package belongs to the executor's extra and may be absent here. Its loader takes 0.3 s
to import, keeps no offset for a caller, and is no faster: 100,000 scalars take 0.8 s by its raw
loader, 2.7 s by the one that TensorBoard itself uses, and 0.8 s here (one core, tensorboard 2.20).

Source: TensorFlow's record format: length, masked CRC-32C of the length, data, masked CRC-32C of the data.
"""

from __future__ import annotations

import os
import stat
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import pandas as pd

from ymir_nb.backend.event_records import masked_crc, scalars

MARK = "tfevents"
COLUMNS = ("run", "tag", "step", "wall_time", "value")
MAX_RECORD_BYTES = 1 << 16
MAX_DEPTH = 8
MAX_NOTES = 50

_HEADER = struct.Struct("<QI")
_CHECKSUM = struct.Struct("<I")

Row = tuple[str, str, int, float, float]


@dataclass(frozen=True)
class EventLimits:
    """How much is read of what an executor logged.

    Parameters
    ----------
    n_entries : int
        Files and folders that are looked at.
    n_rows : int
        Scalars in all.
    n_bytes, bytes_a_read : int
        Bytes of records in all, and in one reading, so that who watches a job never waits for long.
    """

    n_entries: int = 1_000
    n_rows: int = 1_000_000
    n_bytes: int = 1 << 28
    bytes_a_read: int = 1 << 24


@dataclass
class _Place:
    """How far a file is read."""

    identity: tuple[int, int]
    offset: int = 0


@dataclass
class EventReader:
    """Reads the scalars below a folder, each once, as they come.

    Parameters
    ----------
    directory : Path
        ``out/tensorboard`` of a job; it need not be there yet.
    limits : EventLimits
        How much is read.

    Attributes
    ----------
    behind : bool
        Whether the last reading stopped before the end because of `EventLimits.bytes_a_read`.
    notes : tuple of str
        What was passed over, and why.

    Examples
    --------
    >>> reader = EventReader(Path("no/such/folder"))
    >>> reader.read().columns.tolist()
    ['run', 'tag', 'step', 'wall_time', 'value']
    """

    directory: Path
    limits: EventLimits = field(default_factory=EventLimits)
    behind: bool = field(default=False, init=False)
    _places: dict[str, _Place] = field(default_factory=dict, init=False, repr=False)
    _notes: dict[str, str] = field(default_factory=dict, init=False, repr=False)
    _n_rows: int = field(default=0, init=False, repr=False)
    _n_bytes: int = field(default=0, init=False, repr=False)

    @property
    def notes(self) -> tuple[str, ...]:
        """What was passed over, and why; sorted, at most `MAX_NOTES`."""
        return tuple(sorted(self._notes.values())[:MAX_NOTES])

    def read(self) -> pd.DataFrame:
        """Give the scalars that were not read before.

        Returns
        -------
        DataFrame
            Columns run (folder below `directory`, ``.`` for itself), tag, step, wall_time (seconds
            since 1970) and value (may be NaN or infinite, as it was logged); sorted in this order.
        """
        rows: list[Row] = []
        self.behind = False
        stop = min(self._n_bytes + self.limits.bytes_a_read, self.limits.n_bytes)
        for name, source in _event_files(self.directory, self.limits.n_entries):
            with source:
                self._read_file(name, source, rows, stop)
        rows.sort(key=lambda row: row[:4])
        frame = pd.DataFrame(rows, columns=list(COLUMNS))
        return frame.astype({"run": "str", "tag": "str", "step": "int64", "wall_time": "float64", "value": "float64"})

    def _read_file(self, name: str, source: BinaryIO, rows: list[Row], stop: int) -> None:
        """Read the new records of one file up to the first that is not whole."""
        status = os.fstat(source.fileno())
        place = self._places.setdefault(name, _Place((status.st_dev, status.st_ino)))
        if place.identity != (status.st_dev, status.st_ino) or status.st_size < place.offset:
            place = self._places[name] = _Place((status.st_dev, status.st_ino))  # written anew
        run = name.rpartition("/")[0] or "."
        source.seek(place.offset)
        while place.offset < status.st_size:
            if self._n_bytes >= stop or self._n_rows >= self.limits.n_rows:
                self._pause()
                return
            record = self._record(name, source, place, status.st_size)
            if record is None:
                return
            self._n_bytes += len(record)
            try:
                found = [(run, *scalar) for scalar in scalars(record)]
            except ValueError as error:
                self._note(name, place.offset, f"holds no event ({error})")
            else:
                rows += found
                self._n_rows += len(found)

    def _record(self, name: str, source: BinaryIO, place: _Place, size: int) -> bytes | None:
        """Give a record's data, empty where it is of no use, and step over it; None where none is whole."""
        head = source.read(_HEADER.size)
        if len(head) < _HEADER.size:
            return None
        length, checksum = _HEADER.unpack(head)
        if masked_crc(head[:8]) != checksum:  # nothing tells where the next record begins; asked again next time
            self._note(name, place.offset, "has a wrong checksum; nothing after it was read")
            return None
        end = place.offset + _HEADER.size + length + _CHECKSUM.size
        if end > size:
            return None
        begin, place.offset = place.offset, end
        if length > MAX_RECORD_BYTES:  # a picture or histogram, not worth its checksum
            source.seek(end)
            return b""
        body = source.read(length + _CHECKSUM.size)
        data = body[:length]
        if len(body) < length + _CHECKSUM.size or masked_crc(data) != _CHECKSUM.unpack(body[length:])[0]:
            self._note(name, begin, "has a wrong checksum and was left out")
            return b""
        return data

    def _pause(self) -> None:
        """Tell why a file was not read to its end."""
        if self._n_rows >= self.limits.n_rows or self._n_bytes >= self.limits.n_bytes:
            limits = f"{self.limits.n_rows} scalars or {self.limits.n_bytes} bytes"
            self._notes["limits"] = f"more than {limits} were logged; the rest was not read"
        else:
            self.behind = True

    def _note(self, name: str, offset: int, what: str) -> None:
        """Keep what is odd in a file: the first of each kind."""
        if len(self._notes) < MAX_NOTES:
            self._notes.setdefault(f"{name}\0{what[:20]}", f"{name!r}: the record at byte {offset} {what}")


def read_scalars(directory: Path, *, limits: EventLimits | None = None) -> pd.DataFrame:
    """Read every scalar below a folder.

    Parameters
    ----------
    directory : Path
        ``out/tensorboard`` of a job, running or ended; it need not be there.
    limits : EventLimits, optional
        How much is read at most.

    Returns
    -------
    DataFrame
        As `EventReader.read`.

    Examples
    --------
    >>> len(read_scalars(Path("no/such/folder")))
    0
    """
    reader = EventReader(directory, limits or EventLimits())
    frames = [reader.read()]
    while reader.behind:
        frames.append(reader.read())
    if len(frames) == 1:
        return frames[0]
    return pd.concat(frames).sort_values(list(COLUMNS[:4]), kind="stable", ignore_index=True)


def _event_files(directory: Path, n_entries: int) -> Iterator[tuple[str, BinaryIO]]:
    """Open the event files below a folder, sorted; folders are held open, so no link can slip in between."""
    try:
        top = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return
    left = [n_entries]
    yield from _in_folder(top, "", 0, left)


def _in_folder(folder: int, prefix: str, depth: int, left: list[int]) -> Iterator[tuple[str, BinaryIO]]:
    """Go through one open folder and those in it; closes it."""
    try:
        with os.scandir(folder) as entries:
            names = sorted(entry.name for entry, _ in zip(entries, range(left[0]), strict=False))
        left[0] -= len(names)
        for name in names:
            opened = _open_in(folder, name)
            if opened is None:
                continue
            if stat.S_ISDIR(os.fstat(opened).st_mode):
                if depth < MAX_DEPTH:
                    yield from _in_folder(opened, f"{prefix}{name}/", depth + 1, left)
                else:
                    os.close(opened)
            else:
                yield f"{prefix}{name}", os.fdopen(opened, "rb")
    finally:
        os.close(folder)


def _open_in(folder: int, name: str) -> int | None:
    """Open a folder, or a regular file that is called as event files are; None for all else."""
    try:
        mode = os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode
        if not (stat.S_ISDIR(mode) or (stat.S_ISREG(mode) and MARK in name)) or not name.isprintable():
            return None
        opened = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
    except OSError:
        return None
    mode = os.fstat(opened).st_mode
    if stat.S_ISDIR(mode) or stat.S_ISREG(mode):
        return opened
    os.close(opened)
    return None
