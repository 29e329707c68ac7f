"""Where an import reads from: a folder or a zip archive, behind one small interface.

Nothing is extracted to disk, and no name leads out of the source. What cannot be opened safely is
not opened; it stands in `Source.refused` with the reason. An archive is read through once before
anything of it is used, so a damaged one is refused as a whole.
"""

from __future__ import annotations

import lzma
import os
import re
import stat
import struct
import unicodedata
import zipfile
import zlib
from abc import ABC, abstractmethod
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from ymir_nb.backend.errors import ImportRefused
from ymir_nb.backend.reports import ReportRow, visible

MAX_ENTRIES = 1_000_000
MAX_TOTAL_BYTES = 1 << 40
MAX_RATIO = 200
"""An archive may unpack to this many times its size; photographs stay below 2, annotations below 50."""
_RATIO_FLOOR_BYTES = 256 << 20
_CHUNK = 1 << 20
_JUNK = {"__macosx", "thumbs.db", "desktop.ini", "@eadir", "$recycle.bin"}
_ZIP_FAULTS = (
    *(zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error),
    *(EOFError, NotImplementedError, RuntimeError, OSError, ValueError),
)


class EntryUnreadable(ImportRefused):
    """One file of a source could not be read, though it was listed."""


class Source(ABC):
    """A folder or archive to import from; a context manager."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.refused: list[ReportRow] = []
        self._sizes: dict[str, int] = {}

    def names(self) -> list[str]:
        """Names of all readable files, sorted, relative, `/` as separator; hidden ones are left out."""
        return sorted(self._sizes)

    def size(self, name: str) -> int:
        """Size of a file in bytes, without reading it."""
        return self._sizes[name]

    def read(self, name: str) -> bytes:
        """Give a file's bytes.

        Raises
        ------
        EntryUnreadable
            It cannot be read (any more).
        """
        return self.peek(name, n_bytes=-1)

    @abstractmethod
    def peek(self, name: str, *, n_bytes: int) -> bytes:
        """Give the first `n_bytes` of a file; all of it for -1."""

    def close(self) -> None:  # noqa: B027  a folder holds nothing open
        """Let go of what is open."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _refuse(self, name: str, reason: str, remedy: str, *, kind: str = "refused") -> None:
        # A name that is no Unicode text can be shown, not stored.
        self.refused.append(ReportRow(name.encode("utf-8", "backslashreplace").decode(), kind, reason, remedy))

    def _report_twins(self) -> None:
        """Report names that differ in case or Unicode form only; both stay, as other systems mix them up."""
        seen: dict[str, str] = {}
        for name in self.names():
            first = seen.setdefault(unicodedata.normalize("NFC", name).casefold(), name)
            if first != name:
                self._refuse(
                    name,
                    f"differs from {visible(first)!r} only in case or Unicode form; both are kept",
                    "rename one, if they are to be used on other systems",
                    kind="note",
                )


class FolderSource(Source):
    """A folder on disk; links are followed only where they stay inside it."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._root = os.path.realpath(path)
        folders = [""]
        while folders:
            folders += self._list(folders.pop())
        self._report_twins()

    def _list(self, folder: str) -> list[str]:
        """Take in one folder; give its subfolders."""
        try:
            with os.scandir(os.path.join(self._root, folder)) as entries:  # noqa: PTH118  str paths: 10,000 files
                found = sorted(entries, key=lambda entry: entry.name)
        except OSError as error:
            if not folder:
                raise ImportRefused(f"{self.path} cannot be read ({error.strerror}). Check its permissions.") from error
            self._refuse(folder, f"the folder cannot be read ({error.strerror})", "check its permissions")
            return []
        subfolders = []
        for entry in found:
            name = f"{folder}/{entry.name}" if folder else entry.name
            if _is_junk(entry.name):
                continue
            fault = _name_fault(name)
            if fault:
                self._refuse(name, fault, "rename it")
                continue
            try:
                if entry.is_dir(follow_symlinks=False):
                    subfolders.append(name)
                else:
                    self._take(name, entry)
            except OSError as error:
                self._refuse(name, f"cannot be read ({error.strerror})", "remove it, or repair what it points to")
        return subfolders

    def _take(self, name: str, entry: os.DirEntry[str]) -> None:
        """Take in one entry that is not a plain folder."""
        status = entry.stat()
        if entry.is_symlink():
            target = os.path.realpath(entry.path)
            if os.path.commonpath([target, self._root]) != self._root:
                self._refuse(
                    name, "a link that leaves the source", "put the file itself there, or import where it lies"
                )
                return
            if stat.S_ISDIR(status.st_mode):
                self._refuse(name, "a link to another folder of the source; read there", "nothing to do", kind="note")
                return
        if not stat.S_ISREG(status.st_mode):
            self._refuse(name, "neither a file nor a folder (a pipe, socket or device)", "remove it")
        elif not os.access(entry.path, os.R_OK, effective_ids=os.access in os.supports_effective_ids):
            self._refuse(name, "cannot be read (permission denied)", "check its permissions")
        else:
            self._sizes[name] = status.st_size

    def peek(self, name: str, *, n_bytes: int) -> bytes:
        """Give the first `n_bytes` of a file; all of it for -1."""
        try:
            # Non-blocking, and checked once open: what was listed as a file may be a pipe by now.
            handle = os.open(os.path.join(self._root, name), os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))  # noqa: PTH118
            with open(handle, "rb", buffering=0) as stream:  # noqa: PTH123
                if not stat.S_ISREG(os.fstat(handle).st_mode):
                    raise EntryUnreadable(f"{visible(name)} is no file any more. Import again.")
                return stream.read(n_bytes)
        except OSError as error:
            raise EntryUnreadable(f"{visible(name)} cannot be read ({error.strerror}). Import again.") from error


class ZipSource(Source):
    """A zip archive, checked in full when it is opened."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        _check_directory_size(path)
        try:
            self._archive = zipfile.ZipFile(path)
        except _ZIP_FAULTS as error:
            raise ImportRefused(
                f"{path} is no complete zip archive ({error}). Copy or download it again; for another kind of "
                "archive, unpack it and import the folder."
            ) from error
        try:
            self._entries = self._choose()
            self._check_volume()
            self._read_through()
        except BaseException:
            self._archive.close()
            raise
        self._sizes = {name: info.file_size for name, info in self._entries.items()}
        self._report_twins()

    def _choose(self) -> dict[str, zipfile.ZipInfo]:
        """Sort the archive's entries into usable and refused ones; of one name the last counts."""
        chosen: dict[str, zipfile.ZipInfo] = {}
        for info in self._archive.infolist():
            # ZipInfo.filename is cut at a NUL and has the separators of this system; this one is as stored.
            name = info.orig_filename
            kind = stat.S_IFMT(info.external_attr >> 16)
            if any(_is_junk(part) for part in name.split("/")):
                continue
            fault = _name_fault(name.removesuffix("/"))
            if fault:
                self._refuse(name, fault, "pack it again with relative names and `/` as separator")
            elif name.endswith("/"):
                continue
            elif kind not in (0, stat.S_IFREG):
                self._refuse(name, "a link, pipe or device in an archive", "pack the file itself")
            elif name in chosen:
                self._refuse(name, "stands in the archive more than once; the last one counts", "pack it again")
                chosen[name] = info
            else:
                chosen[name] = info
        return chosen

    def _check_volume(self) -> None:
        total = sum(info.file_size for info in self._entries.values())
        packed = self.path.stat().st_size
        if total > MAX_TOTAL_BYTES:
            raise ImportRefused(
                f"{self.path} unpacks to {total:,} bytes; the limit is {MAX_TOTAL_BYTES:,}. Split it into parts."
            )
        if total > max(_RATIO_FLOOR_BYTES, MAX_RATIO * packed):
            raise ImportRefused(
                f"{self.path} has {packed:,} bytes and unpacks to {total:,}: more than {MAX_RATIO} times its size, "
                "as zip bombs do. If you trust it, unpack it yourself and import the folder."
            )

    def _read_through(self) -> None:
        """Read every entry once, so that a damaged archive is refused before anything is stored."""
        for name, info in self._entries.items():
            try:
                with self._archive.open(info) as stream:
                    while stream.read(_CHUNK):
                        pass
            except _ZIP_FAULTS as error:
                why = "it is encrypted" if info.flag_bits & 1 else str(error) or type(error).__name__
                cure = "Unpack it with its password" if info.flag_bits & 1 else "Copy or download the archive again"
                raise ImportRefused(
                    f"{self.path}: entry {visible(name)!r} cannot be read: {why}. {cure}; nothing was imported."
                ) from error

    def peek(self, name: str, *, n_bytes: int) -> bytes:
        """Give the first `n_bytes` of a file; all of it for -1."""
        try:
            with self._archive.open(self._entries[name]) as stream:
                return stream.read(n_bytes)
        except _ZIP_FAULTS as error:
            raise EntryUnreadable(f"{visible(name)} cannot be read ({error}). Import again.") from error

    def close(self) -> None:
        """Close the archive."""
        self._archive.close()


def open_source(path: str | Path) -> Source:
    """Open a folder or a zip archive to import from.

    Parameters
    ----------
    path : str or Path
        A folder, or a file in zip form.

    Returns
    -------
    Source
        To be used in a `with` block.

    Raises
    ------
    ImportRefused
        It is not there, not readable, neither of the two, damaged, or too large.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder, open_source(folder) as source:
    ...     source.names()
    []
    """
    place = Path(path)
    try:
        mode = place.stat().st_mode
    except OSError as error:
        raise ImportRefused(f"{place} cannot be read ({error.strerror}). Name a folder or a zip archive.") from error
    if stat.S_ISDIR(mode):
        return FolderSource(place)
    if stat.S_ISREG(mode):
        return ZipSource(place)
    raise ImportRefused(f"{place} is a pipe, socket or device. Name a folder or a zip archive.")


def _is_junk(part: str) -> bool:
    """Tell whether a part of a name belongs to the system it came from, not to the data."""
    return (part.startswith(".") and part not in (".", "..")) or part.lower() in _JUNK


def _name_fault(name: str) -> str:
    """Say why a name is unsafe; empty if it is not."""
    if "\0" in name:
        return "a name with a NUL character"
    if not name.isascii():
        try:
            name.encode("utf-8")
        except UnicodeEncodeError:
            return "a name that is not UTF-8"
    if "\\" in name:
        return "a name with a backslash"
    if name.startswith("/") or re.match(r"[A-Za-z]:", name):
        return "an absolute path"
    if any(part in ("", ".", "..") for part in name.split("/")):
        return "a path with empty, `.` or `..` parts"
    return ""


def _check_directory_size(path: Path) -> None:
    """Refuse an archive with too many entries before its directory is loaded.

    Source: PKWARE APPNOTE 6.3.10, sections 4.3.14-4.3.16 (end of central directory, ZIP64).
    """
    with path.open("rb") as stream:
        end = stream.seek(0, os.SEEK_END)
        stream.seek(max(0, end - 22 - 0xFFFF))
        tail = stream.read()
        at = tail.rfind(b"PK\5\6")
        if at < 0 or at + 22 > len(tail):
            return
        n_bytes = int.from_bytes(tail[at + 12 : at + 16], "little")
        if n_bytes == 0xFFFFFFFF:
            n_bytes = _zip64_directory_bytes(stream, tail, at)
    # 46 bytes is the least that an entry takes, so this bounds the memory whatever count is written there.
    if n_bytes > MAX_ENTRIES * 46 * 4:
        raise ImportRefused(
            f"{path} lists more files than the {MAX_ENTRIES:,} that an import takes ({n_bytes:,} bytes of names). "
            "Split it into parts."
        )


def _zip64_directory_bytes(stream: IO[bytes], tail: bytes, at: int) -> int:
    locator = tail.rfind(b"PK\6\7", 0, at)
    if locator < 0:
        return 0
    stream.seek(int.from_bytes(tail[locator + 8 : locator + 16], "little"))
    record = stream.read(56)
    return int.from_bytes(record[40:48], "little")
