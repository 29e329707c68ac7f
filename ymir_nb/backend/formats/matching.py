"""Finding the image that an annotation speaks of, by its name and its place in the source."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from pathlib import PurePosixPath

from ymir_nb.backend.formats.annotated import split_of, split_of_path


class ImageIndex:
    """The images of a source by file name, with and without extension.

    Parameters
    ----------
    names : iterable of str
        Names of the images in the source.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self._by_key: dict[str, list[str]] = {}
        for name in names:
            base = name.rsplit("/", 1)[-1]
            stem = _stem(base)
            # A set: the four keys of a plain name are two.
            for key in {f"b{base}", f"s{stem}", f"B{_fold(base)}", f"S{_fold(stem)}"}:
                self._by_key.setdefault(key, []).append(name)

    def by_base(self, path: str, *, near: str) -> tuple[str, str]:
        """Find an image by its file name, such as COCO's `file_name`.

        Parameters
        ----------
        path : str
            The name, possibly with folders.
        near : str
            The annotation file; of several images of one name, that which lies nearest counts.

        Returns
        -------
        tuple of str
            The image's name and an empty text, or an empty text and the reason why there is none.
        """
        path = path.replace("\\", "/")
        base = path.rsplit("/", 1)[-1]
        found = self._by_key.get(f"b{base}") or self._by_key.get(f"B{_fold(base)}") or []
        return _nearest(found, path, near)

    def by_stem(self, stem: str, *, near: str, file_name: str = "") -> tuple[str, str]:
        """Find an image by its main name, then by the whole name that the annotation gives (VOC's way)."""
        file_name = file_name.replace("\\", "/")
        found = self._by_key.get(f"s{stem}") or self._by_key.get(f"S{_fold(stem)}") or []
        if not found and file_name:
            return self.by_base(file_name, near=near)
        exact = [name for name in found if name.rsplit("/", 1)[-1] == file_name.rsplit("/", 1)[-1]]
        return _nearest(exact or found, file_name, near)


def _nearest(found: list[str], path: str, near: str) -> tuple[str, str]:
    """Choose among images of one name: by their folders' names, their split, then their distance."""
    if not found:
        return "", "its image is not in the source"
    if len(found) == 1:
        return found[0], ""
    wanted = split_of(near.rsplit("/", 1)[-1])
    ranked = sorted(((_closeness(name, path, near, wanted), name) for name in found), reverse=True)
    if ranked[0][0] == ranked[1][0]:
        return "", f"its image may be {ranked[1][1]!r} or {ranked[0][1]!r}"
    return ranked[0][1], ""


def _closeness(name: str, path: str, near: str, wanted: str) -> tuple[int, int, int]:
    parts, tail = PurePosixPath(name).parts, PurePosixPath(path).parts
    folders, home = parts[:-1], PurePosixPath(near).parts[:-1]
    return (
        _n_equal(reversed(parts[:-1]), reversed(tail[:-1])),
        int(bool(wanted) and split_of_path(name) == wanted),
        _n_equal(folders, home),
    )


def _n_equal(first: Iterable[str], second: Iterable[str]) -> int:
    """Count the equal parts at the beginning of two paths."""
    count = 0
    for a, b in zip(first, second, strict=False):
        if a != b:
            break
        count += 1
    return count


def _stem(base: str) -> str:
    stem, dot, _ = base.rpartition(".")
    return stem if dot and stem else base


def _fold(text: str) -> str:
    return unicodedata.normalize("NFC", text).casefold()
