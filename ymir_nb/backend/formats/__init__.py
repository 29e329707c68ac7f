"""Annotation formats: one small module each, and one row in `FORMATS`.

To add one: write a module with `recognise`, `read` and `write` (see `annotated.Format`), add its row
here, a sample to the tests, and a line to the README.
"""

from __future__ import annotations

from ymir_nb.backend.errors import FormatNotRecognised
from ymir_nb.backend.formats import coco, images_only, voc
from ymir_nb.backend.formats.annotated import Format
from ymir_nb.backend.sources import Source

FORMATS: dict[str, Format] = {
    "voc": voc,  # Pascal VOC: one XML an image
    "coco": coco,  # COCO: one JSON for many images, with polygons and masks
    "images": images_only,  # images alone
}


def find_format(name: str) -> Format:
    """Give a format by its name.

    Raises
    ------
    FormatNotRecognised
        There is none of this name.
    """
    if name not in FORMATS:
        raise FormatNotRecognised(f"format {name!r} is not known. Choose one of {', '.join(FORMATS)}.")
    return FORMATS[name]


def guess_format(source: Source) -> str:
    """Tell which format lies in a source, where that is plain.

    Raises
    ------
    FormatNotRecognised
        No format fits, or more than one does; the message says what was seen.

    Examples
    --------
    >>> sorted(FORMATS)
    ['coco', 'images', 'voc']
    """
    seen = {name: what for name, form in FORMATS.items() if (what := form.recognise(source))}
    if len(seen) == 1:
        return next(iter(seen))
    if seen:
        raise FormatNotRecognised(
            f"{source.path} holds more than one format: {'; '.join(seen.values())}. "
            f"Say which: {' or '.join(f'format={name!r}' for name in seen)}."
        )
    raise FormatNotRecognised(
        f"{source.path} holds no format that is plain to see; it has {_kinds_of_files(source)}. Say which it is: "
        f"{' or '.join(f'format={name!r}' for name in FORMATS)} (images takes the pictures alone)."
    )


def _kinds_of_files(source: Source) -> str:
    """Count the files of a source by extension, the most frequent first."""
    counts: dict[str, int] = {}
    for name in source.names():
        base, dot, suffix = name.rsplit("/", 1)[-1].rpartition(".")
        kind = f".{suffix.lower()}" if base and dot and suffix.isalnum() else "other"
        counts[kind] = counts.get(kind, 0) + 1
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{n} {kind} files" for kind, n in ranked[:6]) or "no files"
