"""Many small files at once, as ``<folder>/<file>`` below a directory: written or linked in seconds."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby
from pathlib import Path


def write_files(directory: Path, files: Mapping[str, bytes]) -> None:
    """Write many small new files; the empty ones of a folder are links to one.

    A new file costs ten times what a link does, and an executor only reads them.

    Parameters
    ----------
    directory : Path
        Made where it is not there.
    files : mapping of str to bytes
        Name ``<folder>/<file>`` to content.
    """
    make_folders(directory, files)
    empty: dict[str, str] = {}

    def write(name: str) -> None:
        path = f"{directory}/{name}"
        if files[name]:
            _write(path, files[name])
            return
        first = empty.setdefault(_folder(name), path)
        _write(path, b"") if first == path else link(first, path)

    for_each(files, write)


def make_folders(directory: Path, names: Iterable[str]) -> None:
    """Make the folder of every ``<folder>/<file>``."""
    for folder in sorted(set(map(_folder, names))):
        (directory / folder).mkdir(parents=True, exist_ok=True)


def for_each(names: Iterable[str], work: Callable[[str], None]) -> None:
    """Do something with every ``<folder>/<file>``, folder by folder, several folders at a time."""

    def all_of(folder: list[str]) -> None:
        for name in folder:
            work(name)

    folders = [list(group) for _, group in groupby(sorted(names, key=_folder), key=_folder)]
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        list(pool.map(all_of, folders))


def link(source: str, path: str) -> None:
    """Hard-link a file, or copy it where links are not to be had.

    Raises
    ------
    OSError
        There is no such file, there is one under the new name, or the disk refuses.
    """
    try:
        os.link(source, path)
    except (FileNotFoundError, FileExistsError):
        raise
    except OSError:  # another file system, one without links, or too many links to one file
        shutil.copyfile(source, path)


def _folder(name: str) -> str:
    return name.partition("/")[0]


def _write(path: str, data: bytes) -> None:
    with open(path, "xb") as file:  # noqa: PTH123 (a hundred thousand at a time)
        file.write(data)
