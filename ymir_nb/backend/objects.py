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
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from ymir_nb.backend.errors import ObjectDamaged, ObjectMissing, StoreError
from ymir_nb.backend.verified import COARSEST_CLOCK_NS, Stamp, Verified

READ_ONLY = 0o444
VERIFIED_FILE = "verified.txt"
SMALL_BYTES = 1 << 16
"""Below this mean size, threads that hash spend more time waiting for each other than they save."""


class Objects:
    """The object cache of one workspace.

    Parameters
    ----------
    directory : Path
        DVC's ``files/md5`` folder.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._verified = Verified(directory.with_name(VERIFIED_FILE))
        self._put: dict[str, Stamp] = {}

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
        self._put[md5] = Stamp.of(target)
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
            raise _missing(md5, path) from error
        _hold_against(md5, _md5(data), path)
        return data

    def verify(self, md5s: Sequence[str]) -> list[str]:
        """Hold many objects against their names; those that did not change since are not read again.

        Parameters
        ----------
        md5s : sequence of str
            Names of objects.

        Returns
        -------
        list of str
            The path of each.

        Raises
        ------
        ObjectMissing, ObjectDamaged
            As `read`.
        """
        begin_ns = time.time_ns()
        known = self._verified.read() | self._put
        paths = [f"{self.directory}/{md5[:2]}/{md5[2:]}" for md5 in md5s]
        unsure: dict[str, tuple[str, Stamp]] = {}
        for md5, path in zip(md5s, paths, strict=True):
            try:
                stamp = Stamp.of(path)
            except FileNotFoundError as error:
                raise _missing(md5, Path(path)) from error
            if known.get(md5) != stamp:
                unsure[md5] = (path, stamp)
        n_bytes = sum(stamp.n_bytes for _, stamp in unsure.values())
        hashes = _md5s_of_files([path for path, _ in unsure.values()], n_bytes=n_bytes)
        for (md5, (path, _)), actual in zip(unsure.items(), hashes, strict=True):
            _hold_against(md5, actual, Path(path))
        settled = {md5: s for md5, (_, s) in unsure.items() if s.mtime_ns < begin_ns - COARSEST_CLOCK_NS}
        self._verified.add(self._put | settled)
        self._put.clear()
        return paths

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
        self._verified.add(self._put)
        self._put.clear()
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


def _md5s_of_files(paths: Sequence[str], *, n_bytes: int) -> list[str]:
    """Hash files, with threads where they are large."""
    if n_bytes < SMALL_BYTES * len(paths):
        return [_md5_of_file(path) for path in paths]
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        return list(pool.map(_md5_of_file, paths))


def _md5_of_file(path: str) -> str:
    with open(path, "rb") as file:  # noqa: PTH123 (a hundred thousand at a time)
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def _missing(md5: str, path: Path) -> ObjectMissing:
    return ObjectMissing(
        f"object {md5} is not in the cache ({path}). Get it from the remote: ymir-nb pull --all "
        "(dvc fetch --all-commits)."
    )


def _hold_against(md5: str, actual: str, path: Path) -> None:
    if actual != md5.removesuffix(".dir"):
        raise ObjectDamaged(
            f"object {md5} was changed on disk: its bytes now hash to {actual} ({path}). "
            "Remove that file and get it from the remote again: dvc fetch"
        )
