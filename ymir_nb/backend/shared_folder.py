"""A folder of small JSON files that all users of a machine write to, none being able to harm another.

Every file belongs to whoever wrote it. The folder is open to all and has the sticky bit, as ``/tmp`` has,
so that others can read a file and neither change nor remove it. Files are written whole and then renamed, so
reading needs no lock; who decides by what he reads holds the folder's lock meanwhile.
"""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import stat
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from ymir_nb.backend.errors import JobError, PreflightFailed

LOCK_SECONDS = 120.0
MOST_BYTES = 1 << 16
OPEN_TO_ALL = 0o1777

_DRAFT = ".draft-"


@dataclass(frozen=True)
class Entry:
    """One file: where it is, the id of the user it belongs to, and the JSON object in it."""

    path: Path
    user_id: int
    value: dict[str, Any]


class SharedFolder:
    """Small JSON files of many users in one folder.

    Parameters
    ----------
    path : Path
        The folder; made, open to all, when first locked.
    fix : str
        What to do where the folder cannot be used, for messages.

    Examples
    --------
    >>> folder = SharedFolder(Path(tempfile.mkdtemp()), fix="Take another one.")
    >>> with folder.locked():
    ...     folder.write("note-1.json", {"text": "hello"})
    >>> [entry.value["text"] for entry in folder.read("note-")]
    ['hello']
    """

    def __init__(self, path: Path, *, fix: str) -> None:
        self.path = path
        self.fix = fix

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Be the only one who decides.

        Raises
        ------
        PreflightFailed
            The folder cannot be made, is a link, is not for this user, or lets others remove his files.
        JobError
            Somebody has held the lock for half a minute.
        """
        lock = self.path / "lock"
        try:
            self._prepare()
            held = FileLock(lock, timeout=LOCK_SECONDS, mode=0o666, poll_interval=0.005).acquire()
        except Timeout as error:
            raise JobError(
                f"{self.path} has been locked for {LOCK_SECONDS:g} s, by a process that is stopped or hangs. "
                f"End that process; fuser -v {lock} shows it."
            ) from error
        except OSError as error:
            raise self._unusable(f"{error.strerror} ({error.filename})") from error
        with held:
            # Drafts are written under the lock alone: one that lies here now was left by a killed process.
            for name in self.names(_DRAFT):
                self.remove(self.path / name)
            yield

    def names(self, prefix: str) -> list[str]:
        """Give the names of the files that begin so, sorted; none where there is no folder yet."""
        try:
            return sorted(name for name in os.listdir(self.path) if name.startswith(prefix))  # noqa: PTH208
        except FileNotFoundError:
            return []

    def read(self, prefix: str) -> list[Entry]:
        """Read the files whose names begin so; what is no JSON object in a regular file is passed over."""
        found = []
        for name in self.names(prefix):
            # Gone by now, a planted link or pipe, nothing for this user, no JSON: for the reader it is not there.
            with contextlib.suppress(OSError, ValueError, RecursionError):
                path = self.path / name
                with open(path, "rb", opener=_open_regular) as file:
                    value = json.loads(file.read(MOST_BYTES))
                    if isinstance(value, dict):
                        found.append(Entry(path, os.fstat(file.fileno()).st_uid, value))
        return found

    def write(self, name: str, value: object) -> None:
        """Write a file of one's own, under the lock.

        Raises
        ------
        PreflightFailed
            The disk is full, or a file of this name belongs to somebody else.
        """
        try:
            descriptor, draft = tempfile.mkstemp(prefix=_DRAFT, dir=self.path)
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                os.fchmod(descriptor, 0o644)
                json.dump(value, file)
            Path(draft).replace(self.path / name)
        except OSError as error:
            raise self._unusable(f"{error.strerror} ({error.filename})") from error

    def remove(self, path: Path) -> bool:
        """Remove a file; False where it is not this user's to remove."""
        try:
            path.unlink(missing_ok=True)
        except (PermissionError, IsADirectoryError):
            return False
        return True

    def _prepare(self) -> None:
        """Make the folder, or refuse one in which this user's files are not safe."""
        if not os.path.lexists(self.path):
            self._make()
        found = self.path.lstat()
        if not stat.S_ISDIR(found.st_mode):
            raise self._unusable(f"it is a link or a file, made by {user_name(found.st_uid)}")
        if found.st_mode & stat.S_IWOTH and not found.st_mode & stat.S_ISVTX:
            raise self._unusable(f"everybody may remove files in it (as its owner: chmod +t {self.path})")
        if not os.access(self.path, os.R_OK | os.W_OK | os.X_OK):
            raise self._unusable(f"it is {user_name(found.st_uid)}'s, and not open to others")

    def _make(self) -> None:
        """Make the folder under another name, so that nobody ever meets it without its mode."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(prefix=f".{self.path.name}-", dir=self.path.parent))
        try:
            draft.chmod(OPEN_TO_ALL)
            draft.rename(self.path)
        except OSError:
            draft.rmdir()
            if not os.path.lexists(self.path):  # else somebody else was first
                raise

    def _unusable(self, reason: str) -> PreflightFailed:
        return PreflightFailed(f"the shared folder {self.path} cannot be used: {reason}. {self.fix}")


def user_name(user_id: int) -> str:
    """Give a user's name, or the number where it has none.

    Examples
    --------
    >>> user_name(0)
    'root'
    """
    try:
        return pwd.getpwuid(user_id).pw_name
    except KeyError:
        return f"user {user_id}"


def _open_regular(path: str, flags: int) -> int:
    """Open without following a link or waiting for a pipe; what is no regular file is refused."""
    descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(f"{path} is no regular file")
    return descriptor
