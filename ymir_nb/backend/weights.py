"""Weights from elsewhere: the files that make up a model, found and never opened."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path

from ymir_nb.backend.errors import ImportRefused
from ymir_nb.backend.packages import MAX_BYTES, MAX_MEMBERS
from ymir_nb.backend.untrusted import is_safe_name


def find_weights(files: str | Path | Iterable[str | Path]) -> dict[str, Path]:
    """List the files of a model by the names that they will have in its package.

    Parameters
    ----------
    files : str, Path or iterable of them
        Files, which keep their last name, and folders, of which everything is taken under its
        relative name but what begins with a dot. A file that is named itself may be a link; one
        inside a folder may not, since it could lead anywhere.

    Returns
    -------
    dict of str to Path
        Sorted by name.

    Raises
    ------
    ImportRefused
        There is none, one is no regular file, two have the same name, a name cannot be a member of
        a package, or they are more than a package can hold.

    Examples
    --------
    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> _ = (folder / "best.pt").write_bytes(b"weights")
    >>> list(find_weights(folder))
    ['best.pt']
    """
    found: dict[str, Path] = {}
    n_bytes = 0
    for given in [files] if isinstance(files, str | Path) else files:
        for name, path in _files_at(Path(given).expanduser()):
            if not is_safe_name(name):
                raise ImportRefused(f"{path}: {name!r} cannot be a name in a model package. Rename the file.")
            if name in found:
                raise ImportRefused(f"{found[name]} and {path} would have the same name in the package: {name}.")
            found[name] = path
            n_bytes += path.stat().st_size
            if len(found) > MAX_MEMBERS or n_bytes > MAX_BYTES:
                raise ImportRefused(f"{given}: a model package holds at most {MAX_MEMBERS} files, {MAX_BYTES} bytes.")
    if not found:
        raise ImportRefused(f"there is no file in {files}. Name the files of the model, or their folder.")
    return dict(sorted(found.items()))


def _files_at(path: Path) -> Iterator[tuple[str, Path]]:
    """Give the name and place of a file, or of every file in a folder."""
    try:
        mode = path.stat().st_mode
    except OSError as error:
        raise ImportRefused(f"{path} cannot be read: {error.strerror}. Name the files of a model.") from error
    if stat.S_ISREG(mode):
        yield path.name, path
    elif stat.S_ISDIR(mode):
        yield from _files_below(path)
    else:
        raise ImportRefused(f"{path} is no regular file. Name the files of a model.")


def _files_below(folder: Path) -> Iterator[tuple[str, Path]]:
    """Go through a folder, sorted; links and devices in it are refused."""

    def refuse(error: OSError) -> None:
        raise ImportRefused(f"{error.filename} cannot be read: {error.strerror}.") from error

    for directory, folders, names in os.walk(folder, onerror=refuse):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in [*folders, *sorted(names)]:
            path = Path(directory, name)
            mode = path.lstat().st_mode
            if name.startswith(".") or stat.S_ISDIR(mode):
                continue
            if not stat.S_ISREG(mode):
                raise ImportRefused(f"{path} is a link or no regular file. Name the files themselves, or copy them.")
            yield path.relative_to(folder).as_posix(), path
