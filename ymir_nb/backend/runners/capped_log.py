"""A log that a flood of output cannot make too large."""

from __future__ import annotations

import os
from pathlib import Path

TAIL_BYTES = 1 << 17


class CappedLog:
    """A log that keeps its first and its last bytes, however much is written.

    Parameters
    ----------
    path : Path
        Opened once, and never through a link, since the executor may write beside it.
    limit : int
        Bytes to keep from the beginning; `TAIL_BYTES` more from the end.
    """

    def __init__(self, path: Path, *, limit: int) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
        self._limit = limit
        self._room = limit
        self._tail = bytearray()
        self._n_tail = 0
        self.error = ""

    def restart(self) -> None:
        """Forget what was written: it comes again, from the beginning."""
        os.ftruncate(self._file, 0)
        self._room, self._n_tail = self._limit, 0
        self._tail.clear()

    def write(self, data: bytes) -> None:
        """Write what has room, and remember the end of the rest."""
        now, later = data[: self._room], data[self._room :]
        self._room -= len(now)
        self._put(now)
        self._n_tail += len(later)
        self._tail = (self._tail + later)[-TAIL_BYTES:]

    def close(self) -> None:
        """Write the remembered end, with a word on what is left out."""
        left_out = self._n_tail - len(self._tail)
        if left_out:
            self._put(f"\n[... {left_out} bytes left out, the log keeps {self._limit} ...]\n".encode())
        self._put(bytes(self._tail))
        os.close(self._file)

    def _put(self, data: bytes) -> None:
        """Write all of it; a full disk costs the log and not the job."""
        try:
            while data:
                data = data[os.write(self._file, data) :]
        except OSError as error:
            self.error = f"the log is not complete: {error.strerror}"
