"""Images without annotations: nothing is labelled yet."""

from __future__ import annotations

from pathlib import Path

from ymir_nb.backend.dataset import Dataset
from ymir_nb.backend.formats.annotated import Annotated
from ymir_nb.backend.formats.writing import lay_out, name_losses
from ymir_nb.backend.images import EXTENSIONS
from ymir_nb.backend.sources import Source

_SUFFIXES = tuple(suffix for suffixes in EXTENSIONS.values() for suffix in suffixes)
_ANNOTATION_SUFFIXES = (".xml", ".json", ".csv", ".tsv", ".txt", ".jsonl")


def recognise(source: Source) -> str:
    """Say how many images there are, if nothing lies beside them that could be annotations."""
    stems = set()
    others = []
    for name in source.names():
        stem, _, suffix = name.rsplit("/", 1)[-1].rpartition(".")
        if f".{suffix.lower()}" in _SUFFIXES:
            stems.add(stem)
        elif f".{suffix.lower()}" in _ANNOTATION_SUFFIXES:
            others.append((stem, suffix.lower()))
    # A licence or a list in a .txt says nothing about an image; one named like an image does.
    doubtful = any(suffix != "txt" or stem in stems for stem, suffix in others)
    return f"{len(stems)} images" if stems and not doubtful else ""


def read(source: Source, image_names: list[str]) -> Annotated:  # noqa: ARG001  the signature of every format
    """Read nothing: images alone carry no annotations."""
    return Annotated()


def write(dataset: Dataset, directory: str | Path, *, link: bool = False) -> list[str]:
    """Write the image files into one folder.

    Returns
    -------
    list of str
        What is lost: annotations, splits and keys.

    Raises
    ------
    StoreError
        The folder is not empty or cannot be written.
    """
    _folder, names = lay_out(dataset, directory, images="images", link=link)
    losses = name_losses(dataset, names)
    if dataset.n_boxes:
        losses.append(f"{dataset.n_boxes} objects")
    if dataset.images["labelled"].any():
        losses.append(f"that {int(dataset.images['labelled'].sum())} images are labelled")
    if (dataset.images["split"] != "").any():
        losses.append("the splits")
    if (dataset.images["keys"] != "{}").any() or dataset.images["quality"].notna().any():
        losses.append("keys and quality of images")
    return losses
