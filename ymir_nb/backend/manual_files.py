"""The files of an executor's ``/img-man``, from a folder or out of the tar that an engine sends."""

from __future__ import annotations

import io
import posixpath
import tarfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from ymir_nb.backend.errors import PreflightFailed
from ymir_nb.backend.manuals import MANUAL_FILES
from ymir_nb.backend.untrusted import show

MAX_FILE_BYTES = 64 << 10
MAX_FILES = 1000
MAX_ARCHIVE_BYTES = 64 << 20


def read_folder(directory: Path) -> dict[str, bytes]:
    """Read the files of a local copy of an ``/img-man``.

    Raises
    ------
    PreflightFailed
        There is no such folder, or a file of it cannot be read or is too large for what it should be.
    """
    if not directory.is_dir():
        raise PreflightFailed(f"{directory} is no folder. Name the one that holds the executor's templates.")
    files = {}
    for name in MANUAL_FILES:
        path = directory / name
        if path.is_file():
            try:
                with path.open("rb") as source:
                    files[name] = source.read(MAX_FILE_BYTES + 1)
            except OSError as error:
                raise PreflightFailed(f"{path} cannot be read: {error.strerror}.") from error
            _check_size(len(files[name]), str(path))
    return files


def read_archive(chunks: Iterable[bytes], *, where: str) -> dict[str, bytes]:
    """Read the files of an ``/img-man`` out of the tar that an engine sends.

    Parameters
    ----------
    chunks : iterable of bytes
        The tar, of which at most 64 MiB are looked at.
    where : str
        What to call its place in messages.

    Raises
    ------
    PreflightFailed
        It is damaged, too large, or a template in it is a link to somewhere else.
    """
    held: dict[str, bytes] = {}
    links: dict[str, str] = {}
    try:
        with tarfile.open(fileobj=io.BufferedReader(_Bounded(chunks, where)), mode="r|") as archive:
            for n_seen, member in enumerate(archive):
                if n_seen > MAX_FILES:
                    raise PreflightFailed(f"{where} holds over {MAX_FILES} files; that is no manual of an executor.")
                name = posixpath.normpath(member.name)
                if member.issym():
                    links[name] = posixpath.normpath(posixpath.join(posixpath.dirname(name), member.linkname))
                elif member.islnk():
                    links[name] = posixpath.normpath(member.linkname)
                elif member.isreg() and (member.size <= MAX_FILE_BYTES or name in MANUAL_FILES):
                    _check_size(member.size, f"{where}, {name}")
                    source = archive.extractfile(member)
                    held[name] = source.read() if source else b""
    except (tarfile.TarError, EOFError, ValueError, OverflowError) as error:
        raise PreflightFailed(f"{where} cannot be read: {error}.") from error
    files = {}
    for name in MANUAL_FILES:
        target = links.get(name, name)
        if target in held:
            files[name] = held[target]
        elif name in links:
            raise PreflightFailed(f"{where}, {name} is a link to {show(links[name])}. Put the file itself there.")
    return files


class _Bounded(io.RawIOBase):
    """A stream made of chunks, refused once there are too many."""

    def __init__(self, chunks: Iterable[bytes], where: str) -> None:
        self._chunks: Iterator[bytes] = iter(chunks)
        self._where = where
        self._rest = b""
        self._n_read = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._rest:
            chunk = next(self._chunks, None)
            if chunk is None:
                return 0
            self._rest = chunk
        n = min(len(buffer), len(self._rest))
        buffer[:n], self._rest = self._rest[:n], self._rest[n:]
        self._n_read += n
        if self._n_read > MAX_ARCHIVE_BYTES:
            raise PreflightFailed(f"{self._where} is over {MAX_ARCHIVE_BYTES >> 20} MiB; that is no manual.")
        return n


def _check_size(n_bytes: int, what: str) -> None:
    if n_bytes > MAX_FILE_BYTES:
        raise PreflightFailed(f"{what} is over {MAX_FILE_BYTES >> 10} KiB; that is no template or manifest.")
