"""A log that a flood of output cannot make too large, and that who speaks in it cannot take away."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import threading
from pathlib import Path

TAIL_BYTES = 1 << 17


class CappedLog:
    """A log that keeps its first and its last bytes, however much is written; any thread may write.

    Parameters
    ----------
    path : Path
        Made anew: a file or link that stands there is removed first. The executor may write beside it,
        so that it is never looked up again while the log is written.
    limit : int
        Bytes to keep from the beginning; `TAIL_BYTES` more from the end.
    """

    def __init__(self, path: Path, *, limit: int) -> None:
        self.error = ""
        self._path = path
        self._limit = limit
        self._room = limit
        self._tail = bytearray()
        self._n_tail = 0
        self._lock = threading.Lock()
        self._is_open = True
        try:
            path.unlink(missing_ok=True)
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o644)
        except OSError as error:  # such as a folder of this name: it costs the log and not the job
            self._file = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
            self.error = f"the log could not be written: {error.strerror}"

    def restart(self) -> None:
        """Forget what was written: it comes again, from the beginning."""
        with self._lock:
            if not self.error:
                os.ftruncate(self._file, 0)
            self._room, self._n_tail = self._limit, 0
            self._tail.clear()

    def write(self, data: bytes) -> None:
        """Write what has room, and remember the end of the rest; after `close`, nothing."""
        with self._lock:
            if not self._is_open:
                return
            now, later = data[: self._room], data[self._room :]
            self._room -= len(now)
            self._put(now)
            self._n_tail += len(later)
            self._tail = (self._tail + later)[-TAIL_BYTES:]

    def close(self) -> None:
        """Write the remembered end, with a word on what is left out."""
        with self._lock:
            self._is_open = False
            left_out = self._n_tail - len(self._tail)
            if left_out:
                self._put(f"\n[... {left_out} bytes left out, the log keeps {self._limit} ...]\n".encode())
            self._put(bytes(self._tail))
            if not self.error:
                self._put_back()
            os.close(self._file)

    def _put(self, data: bytes) -> None:
        """Write all of it; a full disk costs the log and not the job."""
        try:
            while data:
                data = data[os.write(self._file, data) :]
        except OSError as error:
            self.error = f"the log is not complete: {error.strerror}"

    def _put_back(self) -> None:
        """Write the log once more where the executor removed it, or put something else in its place."""
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(self._path.lstat(), os.fstat(self._file)):
                return
        draft = ""
        try:
            copy, draft = tempfile.mkstemp(dir=self._path.parent)
            os.lseek(self._file, 0, os.SEEK_SET)
            with os.fdopen(copy, "wb") as target, os.fdopen(os.dup(self._file), "rb") as source:
                shutil.copyfileobj(source, target)
                os.fchmod(target.fileno(), 0o644)
            Path(draft).replace(self._path)
        except OSError as error:
            self.error = f"the executor took its log away: {error.strerror}"
            if draft:
                Path(draft).unlink(missing_ok=True)
