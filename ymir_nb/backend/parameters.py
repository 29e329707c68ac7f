"""The parameters that an executor takes: their types, and those that every one takes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import pandas as pd

from ymir_nb.backend.errors import PreflightFailed
from ymir_nb.backend.manuals import RESERVED, Manual

COMMON: Mapping[str, tuple[Any, str]] = {
    "gpu_count": (0, "GPUs it gets for itself; 0 runs on the CPU"),
    "shm_size": ("", "shared memory, such as 16G; empty: 16G for every GPU"),
    "export_format": ("", "how it wants its annotations, such as ark:raw, voc:raw or seg-coco:raw"),
    "preprocess": ({}, "{longside_resize: {dest_size: 640}} gives it images of that size"),
    "strays": ("fail", "images that its result leaves out, repeats or invents: fail, or report and go on"),
}
"""Parameters that YMIR's own settings add to a template: taken whether or not the template lists them."""
LIVE_CODE: Mapping[str, str] = {
    "git_url": "its program, fetched when it starts",
    "git_branch": "branch, tag or commit of it",
    "code_config": "file of defaults in it",
}

_WANTED = {
    "number": "a number",
    "true/false": "true or false",
    "text": "text",
    "list": "a list",
    "mapping": "a mapping",
}
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)


def accepted(manual: Manual, kind: str) -> dict[str, tuple[Any, str]]:
    """Give every parameter of a function by name, with its default and help.

    Parameters
    ----------
    manual : Manual
        Of an executor that offers `kind`.
    kind : {'training', 'mining', 'infer'}
        The function.

    Returns
    -------
    dict of str to tuple
        First the template's own, in its order, then those of `COMMON`, and of `LIVE_CODE` where it has that.
    """
    helps = manual.helps.get(kind, {})
    own = {name: (default, helps.get(name, "")) for name, default in manual.templates[kind].items()}
    other = "strays" if kind == "training" else "export_format"
    common = {name: row for name, row in COMMON.items() if name != other}
    if manual.livecode:
        for name, words in LIVE_CODE.items():
            hint = f"; it suggests {manual.code[name]}" if name in manual.code else ""
            common[name] = ("", f"{words}{hint}")
    return own | {name: row for name, row in common.items() if name not in own}


def check(given: Mapping[str, Any], known: Mapping[str, tuple[Any, str]], *, whose: str) -> None:
    """Refuse parameters that cannot be set.

    Parameters
    ----------
    given : mapping
        What somebody wants.
    known : mapping
        Of `accepted`.
    whose : str
        Names executor and function in the message.

    Raises
    ------
    PreflightFailed
        One is filled in by ymir-nb itself, is not known, or is of another type than its default.
    """
    unknown = sorted(set(given) - set(known))
    if unknown:
        reserved = sorted(set(unknown) & RESERVED)
        words = f"{', '.join(reserved)} are set by ymir-nb itself" if reserved else "its template does not list them"
        raise PreflightFailed(
            f"{whose}: parameters {', '.join(unknown)} cannot be set ({words}). It takes {', '.join(sorted(known))}."
        )
    for name, value in given.items():
        default = known[name][0]
        wanted = _type_of(default)
        if wanted not in ("any", _type_of(value)) and not (wanted == "text" and value == ""):
            raise PreflightFailed(
                f"{whose}: {name} is {value!r}; it must be {_WANTED[wanted]}, such as its default {default!r}."
            )


def to_frame(known: Mapping[str, tuple[Any, str]]) -> pd.DataFrame:
    """List parameters: columns name, type, default, help."""
    return pd.DataFrame(
        {
            "name": list(known),
            "type": [_type_of(default) for default, _ in known.values()],
            "default": pd.Series([default for default, _ in known.values()], dtype=object),
            "help": [words for _, words in known.values()],
        }
    )


def gpu_count(config: Mapping[str, Any]) -> int:
    """Give how many GPUs a config asks for.

    Raises
    ------
    PreflightFailed
        It is no count.

    Examples
    --------
    >>> gpu_count({"gpu_count": 2})
    2
    """
    count = config.get("gpu_count") or 0
    if isinstance(count, bool) or not isinstance(count, int) or count < 0:
        raise PreflightFailed(f"gpu_count is {count!r}; it must be a whole number from 0 (0: on the CPU).")
    return count


def bytes_of(size: Any, *, what: str) -> int:
    """Read a size as Docker does: ``16G``, ``512m``, or bytes; nothing is 0.

    Raises
    ------
    PreflightFailed
        It is no size; `what` names it.

    Examples
    --------
    >>> bytes_of("1.5k", what="shm_size")
    1536
    """
    found = re.fullmatch(r"(\d{1,18}(?:\.\d{1,9})?)\s*([kmgt]?)i?b?", str(size or 0).strip().lower())
    if found is None:
        raise PreflightFailed(f"{what} is {size!r}; it must be a size such as 16G or 512m.")
    return int(float(found[1]) * 1024 ** " kmgt".index(found[2] or " "))


def _type_of(value: Any) -> str:
    """Name the type of a value; text that reads as a number, as YAML leaves ``1e-3``, is one."""
    if isinstance(value, bool):
        return "true/false"
    if isinstance(value, int | float) or (isinstance(value, str) and _NUMBER.fullmatch(value)):
        return "number"
    if isinstance(value, str) and value:
        return "text"
    return "list" if isinstance(value, list) else "mapping" if isinstance(value, dict) else "any"
