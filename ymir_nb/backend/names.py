"""Names of datasets, predictions, models, projects and executors, and references to their versions."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any

from ymir_nb.backend.errors import InvalidName

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,99}")
_NUMBER = re.compile(r"v([1-9][0-9]*)")


def check_name(name: str, *, what: str = "dataset") -> str:
    """Give a name back if it can be a file on every system and a part of a git revision.

    Parameters
    ----------
    name : str
        1-100 of the characters ``A-Z a-z 0-9 . _ -``, not beginning with ``.`` or ``-``.
    what : str
        What the name is for, as the message shall say it.

    Raises
    ------
    InvalidName
        It holds something else; a path never passes.

    Examples
    --------
    >>> check_name("site-photos.2026")
    'site-photos.2026'
    """
    if not _NAME.fullmatch(name) or ".." in name or name.endswith((".dvc", ".lock", ".")):
        raise InvalidName(
            f"{name!r} cannot be the name of a {what}: use 1-100 of A-Z a-z 0-9 . _ -, beginning with a letter, "
            "digit or underscore, such as 'site-photos'."
        )
    return name


def parse_ref(ref: str) -> tuple[str, int | None, str | None]:
    """Split a reference into name, version number and git revision; at most one of the latter is given.

    Parameters
    ----------
    ref : str
        ``train``, ``train@v3`` or ``train@REVISION``.

    Raises
    ------
    InvalidName
        The name is none, or nothing follows the ``@``.

    Examples
    --------
    >>> parse_ref("train@v3")
    ('train', 3, None)
    >>> parse_ref("train@main")
    ('train', None, 'main')
    """
    name, at, version = ref.partition("@")
    check_name(name)
    if not at:
        return name, None, None
    if not version or version.startswith("-"):
        raise InvalidName(f"{ref!r}: after the @ comes a version (v3) or a git revision, such as {name}@v3.")
    numbered = _NUMBER.fullmatch(version)
    return (name, int(numbered[1]), None) if numbered else (name, None, version)


def work_id(stem: str, *inputs: Mapping[str, Any]) -> str:
    """Name a piece of work by what goes into it, so that the same work has the same name.

    Parameters
    ----------
    stem : str
        What a person calls it, such as ``train-helmets``.
    *inputs : mapping
        Plain values that decide its result.

    Returns
    -------
    str
        The stem, cut to 80 characters, and eight hex digits.

    Examples
    --------
    >>> work_id("train-helmets", {"seed": 0})
    'train-helmets-f7e1fb53'
    """
    summed = hashlib.sha256(json.dumps(inputs, sort_keys=True, default=str).encode()).hexdigest()
    return f"{stem[:80]}-{summed[:8]}"
