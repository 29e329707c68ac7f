"""Objects by content: DVC's cache on disk, read and written in DVC's own form.

An object lies at ``files/md5/<first 2>/<rest>``, read-only, under the md5 of its bytes. A directory
is an object too: the JSON list of its files, named ``<md5>.dir``.

Source: DVC 3 cache layout (`dvc_data.hashfile`), against which the tests hold every byte.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

from ymir_nb.backend.errors import ObjectDamaged, ObjectMissing, StoreError

READ_ONLY = 0o444


class Objects:
    """The object cache of one workspace.

    Parameters
    ----------
    directory : Path
        DVC's ``files/md5`` folder.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def path(self, md5: str) -> Path:
        """Give the place of an object, whether it is there or not."""
        return self.directory / md5[:2] / md5[2:]

    def has(self, md5: str) -> bool:
        """Tell whether an object is in the cache."""
        return self.path(md5).exists()

    def put(self, data: bytes, *, suffix: str = "") -> str:
        """Store bytes once and give their name; a crash leaves no half-written object.

        Parameters
        ----------
        data : bytes
            What to store.
        suffix : str
            ``.dir`` for a directory listing.

        Returns
        -------
        str
            The md5 of `data`, with the suffix.
        """
        md5 = _md5(data) + suffix
        target = self.path(md5)
        if target.exists() and target.stat().st_size == len(data):
            return md5
        write_atomically(target, data, mode=READ_ONLY, flush=False)
        return md5

    def read(self, md5: str) -> bytes:
        """Read an object and hold its bytes against its name.

        Raises
        ------
        ObjectMissing
            It is not in the cache.
        ObjectDamaged
            Its bytes have another hash.
        """
        path = self.path(md5)
        try:
            data = path.read_bytes()
        except FileNotFoundError as error:
            raise ObjectMissing(
                f"object {md5} is not in the cache ({path}). Get it from the remote: ymir-nb pull --all "
                "(dvc fetch --all-commits)."
            ) from error
        actual = _md5(data)
        if actual != md5.removesuffix(".dir"):
            raise ObjectDamaged(
                f"object {md5} was changed on disk: its bytes now hash to {actual} ({path}). "
                "Remove that file and get it from the remote again: dvc fetch"
            )
        return data

    def put_listing(self, files: Mapping[str, str]) -> str:
        """Store a directory listing.

        Parameters
        ----------
        files : mapping of str to str
            Relative POSIX path to md5.

        Returns
        -------
        str
            ``<md5>.dir``.
        """
        rows = [{"md5": files[relpath], "relpath": relpath} for relpath in sorted(files)]
        return self.put(json.dumps(rows, sort_keys=True).encode(), suffix=".dir")

    def read_listing(self, md5: str) -> dict[str, str]:
        """Read a directory listing: relative POSIX path to md5.

        Raises
        ------
        ObjectMissing, ObjectDamaged
            As `read`.
        """
        return {row["relpath"]: row["md5"] for row in json.loads(self.read(md5))}

    def link(self, md5: str, target: Path) -> None:
        """Make a file of an object: a hard link where the disk allows it, a read-only copy elsewhere."""
        target.parent.mkdir(parents=True, exist_ok=True)
        source = self.path(md5)
        try:
            os.link(source, target)
        except FileNotFoundError as error:
            raise ObjectMissing(
                f"object {md5} is not in the cache ({source}). Get it: dvc fetch --all-commits"
            ) from error
        except OSError:
            shutil.copyfile(source, target)
            target.chmod(READ_ONLY)

    def is_same(self, md5: str, file: Path) -> bool:
        """Tell whether a file holds an object's bytes; a hard link is known without reading."""
        source = self.path(md5)
        if not md5 or file.is_symlink() or not file.is_file():
            return False
        if source.exists() and source.samefile(file):
            return True
        return _md5(file.read_bytes()) == md5

    def holds(self, file: Path) -> bool:
        """Tell whether a file's bytes are in the cache, under whatever name."""
        return self.has(_md5(file.read_bytes()))


def write_atomically(path: Path, data: bytes | str, *, mode: int = 0o644, flush: bool = True) -> None:
    """Write a file under a temporary name, then rename it into place.

    Parameters
    ----------
    path : Path
        Where it belongs; missing folders are made.
    data : bytes or str
        Its content; text is written as UTF-8.
    mode : int
        Permission bits.
    flush : bool
        Wait until the bytes are on the disk. Objects do without: a power cut that truncates one is
        found by its hash, and ten thousand waits are long.

    Raises
    ------
    StoreError
        The disk is full, read-only, or refuses; nothing is left behind.
    """
    raw = data.encode() if isinstance(data, str) else data
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=".tmp-")
        with os.fdopen(descriptor, "wb") as file:
            file.write(raw)
            if flush:
                file.flush()
                os.fsync(file.fileno())
        os.chmod(temporary, mode)  # noqa: PTH101 (a plain name from mkstemp)
        os.replace(temporary, path)  # noqa: PTH105
    except OSError as error:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)
        raise StoreError(
            f"cannot write {path}: {error.strerror or error}. Free space or mend the permissions."
        ) from error


def _md5(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()
