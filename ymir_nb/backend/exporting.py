"""Exporting a dataset into a folder that other tools read."""

from __future__ import annotations

from pathlib import Path

from ymir_nb.backend.dataset import Dataset
from ymir_nb.backend.formats import find_format


def export_dataset(dataset: Dataset, directory: str | Path, *, format: str = "voc") -> list[str]:  # noqa: A002
    """Write images and annotations into a new folder.

    The images keep their bytes, so that what is labelled there is recognised when it comes back.

    Parameters
    ----------
    dataset : Dataset
        What to write.
    directory : str or Path
        Folder to make; it may exist if it is empty.
    format : {'voc', 'coco'}
        Form of the annotations.

    Returns
    -------
    list of str
        What the format could not carry; empty where nothing was lost.

    Raises
    ------
    FormatNotRecognised
        There is no such format.
    StoreError
        The folder has something in it, or cannot be written.
    """
    return list(find_format(format).write(dataset, Path(directory)))
