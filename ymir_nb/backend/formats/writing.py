"""What all format writers share: file names, image files, and the empty folder they start with."""

from __future__ import annotations

import os
import re
import shutil
from collections import Counter
from pathlib import Path, PurePosixPath

import pandas as pd

from ymir_nb.backend.dataset import Dataset
from ymir_nb.backend.errors import StoreError
from ymir_nb.backend.images import EXTENSIONS

_MAX_STEM_BYTES = 200


def lay_out(dataset: Dataset, directory: str | Path, *, images: str, link: bool) -> tuple[Path, dict[str, str]]:
    """Begin an export: make its folder and put the pictures into it.

    Parameters
    ----------
    dataset : Dataset
        With its image files.
    directory : str or Path
        A new or empty folder.
    images : str
        Name of the folder for the pictures inside it.
    link : bool
        Link the pictures instead of copying them, where the file system can.

    Returns
    -------
    tuple of Path and dict
        The folder, and the file name of every image.

    Raises
    ------
    StoreError
        The folder is not empty or cannot be made.
    """
    folder = start_folder(directory)
    names = file_names(dataset.images)
    place_images(dataset, folder / images, names, link=link)
    return folder, names


def start_folder(directory: str | Path) -> Path:
    """Make the folder to write to.

    Raises
    ------
    StoreError
        There is something in it, or it cannot be made.
    """
    folder = Path(directory)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        filled = any(folder.iterdir())
    except OSError as error:
        raise StoreError(f"{folder} cannot be written to ({error.strerror}). Name another folder.") from error
    if filled:
        raise StoreError(f"{folder} is not empty. Name a new folder, or empty this one.")
    return folder


def file_names(images: pd.DataFrame) -> dict[str, str]:
    """Choose a flat file name for every image: its own where that is safe and unique.

    Parameters
    ----------
    images : DataFrame
        Columns of `tables.IMAGES`.

    Returns
    -------
    dict of str to str
        File name by image; no two main names are equal, even without case.
    """
    stems, suffixes = {}, {}
    for image, file, kind in zip(images["image"], images["file"], images["format"], strict=True):
        base = PurePosixPath(file).name
        suffix = PurePosixPath(base).suffix.lower()
        suffixes[image] = suffix if suffix in EXTENSIONS.get(kind, ()) else EXTENSIONS.get(kind, (".jpg",))[0]
        stems[image] = _safe(base[: len(base) - len(suffix)] if suffix == suffixes[image] else base)
    taken = Counter(stem.casefold() for stem in stems.values())
    return {
        image: (stem if stem and taken[stem.casefold()] == 1 else f"{stem[:80]}-{image}".lstrip("-")) + suffixes[image]
        for image, stem in stems.items()
    }


def place_images(dataset: Dataset, folder: Path, names: dict[str, str], *, link: bool) -> None:
    """Copy every image into a folder, or link it where the file system can."""
    folder.mkdir(parents=True)
    for image, name in names.items():
        place, target = dataset.media.path(image), folder / name
        if link:
            try:
                os.link(place, target)
            except OSError:
                # Another file system, or one without links: a copy serves as well.
                shutil.copyfile(place, target)
        else:
            shutil.copyfile(place, target)


def name_losses(dataset: Dataset, names: dict[str, str]) -> list[str]:
    """Say which names an export in one flat folder cannot keep."""
    files = dict(zip(dataset.images["image"], map(PurePosixPath, dataset.images["file"]), strict=True))
    renamed = sum(names[image] != file.name for image, file in files.items())
    folders = {file.parent for file in files.values()}
    more = int((dataset.images["other_files"] != "[]").sum())
    losses = []
    if renamed:
        losses.append(f"the names of {renamed} images, which are not unique or not safe")
    if len(folders) > 1:
        losses.append(f"which of {len(folders)} folders the images came from")
    if more:
        losses.append(f"the further names of {more} images")
    return losses


def unlisted_losses(dataset: Dataset, listed: pd.Series) -> list[str]:
    """Say what is lost with images that have no annotation file, and by those that have one all the same."""
    rest = dataset.images[~listed]
    carrying = int(((rest["keys"] != "{}") | rest["quality"].notna()).sum())
    predicted = int((listed & ~dataset.images["labelled"]).sum())
    losses = [f"keys and quality of {carrying} images that are not labelled"] if carrying else []
    return losses + ([f"that {predicted} images with predictions are not labelled"] if predicted else [])


def _safe(stem: str) -> str:
    """Make a main file name that every system and shell takes."""
    clean = re.sub(r"[^\w. ()+=@,-]", "_", stem).strip(". ").lstrip("-")
    return clean.encode()[:_MAX_STEM_BYTES].decode("utf-8", "ignore")
