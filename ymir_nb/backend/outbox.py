"""What an executor left in ``/out``, taken as hostile: sizes, links and paths are checked before use.

Nothing here follows a link, blocks on a pipe or reads more than it was told to.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import stat
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from ymir_nb.backend.errors import ProtocolViolated
from ymir_nb.backend.untrusted import is_safe_name, read_head, show

MAX_FAULTS = 100


@dataclass(frozen=True)
class Limits:
    """How much an executor may leave behind.

    Parameters
    ----------
    n_files : int
        Files and folders in all of ``/out``.
    file_bytes, total_bytes : int
        Size of one listed file and of all of ``/out``; a sparse file counts with its full length.
    yaml_bytes, table_bytes : int
        Size of result.yaml, and of result.tsv and infer-result.json.
    """

    n_files: int = 100_000
    file_bytes: int = 16 << 30
    total_bytes: int = 64 << 30
    yaml_bytes: int = 1 << 18
    table_bytes: int = 1 << 30


def measure(directory: Path, *, most_files: int, most_bytes: int) -> tuple[int, int]:
    """Count what lies in a folder, no further than to what is too much.

    Parameters
    ----------
    directory : Path
        Links in it are counted and not followed; what vanishes meanwhile is passed over.
    most_files, most_bytes : int
        Where to stop.

    Returns
    -------
    tuple of int
        Files and folders; their bytes, of a sparse file its full length. What is hidden from its own
        owner, by its rights or by its depth, counts as too many files.
    """
    n_files = n_bytes = 0
    folders = [directory]
    while folders:
        folder = folders.pop()
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    n_files += 1
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(Path(entry.path))
                    else:
                        with contextlib.suppress(FileNotFoundError):
                            n_bytes += entry.stat(follow_symlinks=False).st_size
                    if n_files > most_files or n_bytes > most_bytes:
                        return n_files, n_bytes
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError:
            if _is_hidden(folder):
                return most_files + 1, n_bytes
    return n_files, n_bytes


def _is_hidden(folder: Path) -> bool:
    """Tell whether a folder that cannot be read lies too deep to have a path, or is closed by this very user."""
    try:
        return folder.lstat().st_uid == os.getuid()
    except FileNotFoundError:
        return False
    except OSError:
        return True


def clear_away(directory: Path) -> None:
    """Remove a folder and all in it, however deep it is and whatever rights its folders were given.

    Every folder is lifted up to the top before it is emptied, so that no path becomes too long.
    """
    waiting = [directory]
    while waiting:
        folder = waiting.pop()
        folder.chmod(0o700)
        with os.scandir(folder) as entries:
            for entry in entries:
                path = Path(entry.path)
                if not entry.is_dir(follow_symlinks=False):
                    path.unlink()
                elif folder == directory:
                    waiting.append(path)
                else:
                    path.chmod(0o700)  # a folder that may not be written may not be moved
                    waiting.append(path.replace(directory / f".lifted-{secrets.token_hex(8)}"))
        if folder != directory:
            folder.rmdir()
    directory.rmdir()


@dataclass
class Faults:
    """Collects every breach of the contract, so that they are reported together.

    Parameters
    ----------
    what : str
        What is being read, for the message.
    """

    what: str
    found: list[str] = field(default_factory=list)
    n_more: int = 0

    def add(self, sentence: str) -> None:
        """Note a fault; past `MAX_FAULTS` they are only counted."""
        if len(self.found) < MAX_FAULTS:
            self.found.append(sentence)
        else:
            self.n_more += 1

    def end(self) -> None:
        """Raise ProtocolViolated when there was any fault."""
        if not self.found:
            return
        listed = [*self.found, *([f"and {self.n_more} more"] if self.n_more else [])]
        shown = "; ".join(listed[:5]) + ("" if len(listed) <= 5 else f"; ... ({len(self.found) + self.n_more} faults)")
        raise ProtocolViolated(
            f"the executor ended well, but its {self.what} breaks the contract, and nothing of it was used: {shown}. "
            "Mend the executor, or use another.",
            listed,
        )


@dataclass(frozen=True)
class Outbox:
    """The ``out`` folder of a job.

    Parameters
    ----------
    directory : Path
        The folder.
    limits : Limits
        What it may hold.
    """

    directory: Path
    limits: Limits = field(default_factory=Limits)

    def check_size(self, faults: Faults) -> None:
        """Fault a folder with too many files or too many bytes; links are neither followed nor minded."""
        limits = self.limits
        n_files, n_bytes = measure(self.directory, most_files=limits.n_files, most_bytes=limits.total_bytes)
        if n_files > limits.n_files or n_bytes > limits.total_bytes:
            faults.add(f"/out holds more than {limits.n_files} files or {limits.total_bytes} bytes")

    def find(self, relative: str, *, limit: int | None = None) -> tuple[Path | None, str]:
        """Find a regular file by its name below ``/out``.

        Parameters
        ----------
        relative : str
            With ``/`` as separator; as an executor wrote it.
        limit : int, optional
            Largest size in bytes; the limit of a listed file when left out.

        Returns
        -------
        path : Path or None
            None when it may not be used.
        reason : str
            Then why, such as ``is a link``.
        """
        if not is_safe_name(relative):
            return None, "is not a plain relative name"
        path = self.directory
        for part in relative.split("/"):
            path = path / part
            try:
                status = path.lstat()
            except OSError:
                return None, "does not exist"
            if stat.S_ISLNK(status.st_mode):
                return None, "is a link"
        if not stat.S_ISREG(status.st_mode):
            return None, "is not a regular file"
        most = self.limits.file_bytes if limit is None else limit
        if status.st_size > most:
            return None, f"is {status.st_size} bytes long, more than {most}"
        return path, ""

    def read_text(self, relative: str, faults: Faults, *, limit: int) -> str | None:
        """Read a UTF-8 file of limited size; None, and a fault, where that cannot be done."""
        path, reason = self.find(relative, limit=limit)
        if path is None:
            faults.add(f"/out/{relative} {reason}")
            return None
        try:
            return read_head(path, limit=limit).decode("utf-8-sig")
        except UnicodeDecodeError as error:
            faults.add(f"/out/{relative} is no UTF-8 text: {error.reason} at byte {error.start}")
            return None

    def read_yaml(self, relative: str, faults: Faults) -> dict[str, Any] | None:
        """Read a YAML mapping of plain values; tags that build objects are faults."""
        text = self.read_text(relative, faults, limit=self.limits.yaml_bytes)
        if text is None:
            return None
        try:
            # The loader in Python on purpose: 256 KiB of "[" make libyaml's end the process (PyYAML 6.0.3).
            document = yaml.safe_load(text)
        except (yaml.YAMLError, ValueError, RecursionError) as error:
            faults.add(f"/out/{relative} is no plain YAML: {' '.join(str(error).split())[:300]}")
            return None
        if not isinstance(document, dict):
            faults.add(f"/out/{relative} is no mapping" if document is not None else f"/out/{relative} is empty")
            return None
        return document

    def read_json(self, relative: str, faults: Faults) -> dict[str, Any] | None:
        """Read a JSON object; a key that stands twice is a fault, since one of the two would be lost."""
        text = self.read_text(relative, faults, limit=self.limits.table_bytes)
        if text is None:
            return None

        def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
            made = dict(pairs)
            if len(made) != len(pairs):
                for key, count in Counter(key for key, _ in pairs).items():
                    if count > 1:
                        faults.add(f"/out/{relative} has the key {show(key)} {count} times")
            return made

        try:
            document = json.loads(text, object_pairs_hook=unique)
        except (ValueError, RecursionError) as error:
            faults.add(f"/out/{relative} is no JSON: {str(error)[:300]}")
            return None
        if not isinstance(document, dict):
            faults.add(f"/out/{relative} is no JSON object")
            return None
        return document
