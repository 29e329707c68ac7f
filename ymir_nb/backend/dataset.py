"""The `Dataset` value: images, annotations, labels, and how to get at an image's bytes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import pandas as pd

from ymir_nb.backend.errors import InvalidTable, ObjectMissing
from ymir_nb.backend.tables import annotations_frame, images_frame


class Media(Protocol):
    """Where the bytes of images are: the store's object cache, or nothing at all."""

    def path(self, image: str) -> Path:
        """Give the file that holds an image, named by its content hash."""
        ...

    def read(self, image: str) -> bytes:
        """Read an image and hold its bytes against its hash."""
        ...

    def files(self, images: Sequence[str]) -> list[str]:
        """Give the files of many images, each held against its hash."""
        ...

    def thumbnail(self, image: str, *, side_px: int) -> bytes:
        """Give an upright JPEG of the image, its longer side at most `side_px` pixels."""
        ...


class NoMedia:
    """The null object of `Media`: a dataset of tables alone."""

    def path(self, image: str) -> Path:
        """Refuse: there are no files."""
        raise _no_files(image)

    def read(self, image: str) -> bytes:
        """Refuse: there are no files."""
        raise _no_files(image)

    def files(self, images: Sequence[str]) -> list[str]:
        """Refuse, unless none is asked for: there are no files."""
        for image in images:
            raise _no_files(image)
        return []

    def thumbnail(self, image: str, *, side_px: int) -> bytes:  # noqa: ARG002
        """Refuse: there are no files."""
        raise _no_files(image)


@dataclass(frozen=True, eq=False)
class Dataset:
    """Images with their annotations: an immutable value that operations turn into new ones.

    Parameters
    ----------
    images : DataFrame
        Columns of `tables.IMAGES`, a row an image, sorted by image.
    annotations : DataFrame
        Columns of `tables.ANNOTATIONS`, a row an object. With finite scores these are predictions.
    labels : tuple of str
        Main names of the labels that the dataset is annotated for, in the order of labels.yaml.
        An image that is `labelled` and has no object of a label here has none of it.
    media : Media
        Gives an image's file by its hash.
    ref : str
        What it was read as, such as ``train@v3``; empty for a value made in memory.

    Examples
    --------
    >>> len(Dataset.of())
    0
    """

    images: pd.DataFrame
    annotations: pd.DataFrame
    labels: tuple[str, ...] = ()
    media: Media = field(default_factory=NoMedia, repr=False)
    ref: str = ""

    @classmethod
    def of(
        cls,
        images: Iterable[Mapping[str, Any]] | pd.DataFrame = (),
        annotations: Iterable[Mapping[str, Any]] | pd.DataFrame = (),
        *,
        labels: Iterable[str] = (),
        media: Media | None = None,
        ref: str = "",
    ) -> Dataset:
        """Make a dataset from rows or frames, checked and in canonical order.

        Raises
        ------
        InvalidTable
            Columns or values do not fit, a label is declared twice, an object lies on an image that
            is not there or that is not labelled (predictions excepted), or carries a label that is
            not among `labels`.
        """
        dataset = cls(
            images=images_frame(images),
            annotations=annotations_frame(annotations),
            labels=tuple(labels),
            media=media or NoMedia(),
            ref=ref,
        )
        dataset._check()
        return dataset

    def _check(self) -> None:
        if len(set(self.labels)) < len(self.labels):
            twice = sorted({label for label in self.labels if self.labels.count(label) > 1})
            raise InvalidTable(f"labels {', '.join(map(repr, twice))} are declared twice. Name each label once.")
        stray = ~self.annotations["image"].isin(self.images["image"])
        if stray.any():
            raise InvalidTable(
                f"annotations table: {int(stray.sum())} objects lie on images that are not in the images "
                f"table, the first on {self.annotations.loc[stray, 'image'].iloc[0]}. Add the images or drop the rows."
            )
        strange = sorted(set(self.annotations["label"]) - set(self.labels))
        if strange:
            raise InvalidTable(
                f"annotations table: labels {', '.join(map(repr, strange))} are not among the dataset's labels "
                f"({', '.join(map(repr, self.labels)) or 'none'}). Name them in `labels`."
            )
        truth = self.annotations.loc[self.annotations["score"].isna(), "image"]
        open_images = self.images.loc[~self.images["labelled"], "image"]
        conflicted = truth[truth.isin(open_images)]
        if len(conflicted):
            raise InvalidTable(
                f"images table: {conflicted.nunique()} images carry ground truth and say labelled=False, "
                f"the first is {conflicted.iloc[0]}. Set labelled=True, or drop their objects."
            )

    def __eq__(self, other: object) -> bool:
        """Compare tables and labels; where it was read, and from what files, plays no part."""
        if not isinstance(other, Dataset):
            return NotImplemented
        return bool(
            self.labels == other.labels
            and self.images.equals(other.images)
            and self.annotations.equals(other.annotations)
        )

    def __len__(self) -> int:
        """Count the images."""
        return len(self.images)

    def __repr__(self) -> str:
        """Say in one line what it holds."""
        name = self.ref or "Dataset"
        return (
            f"<{name}: {len(self)} images, {self.n_boxes} boxes, "
            f"{self.n_negatives} negatives, {self.n_unlabelled} unlabelled>"
        )

    @property
    def n_boxes(self) -> int:
        """Number of objects."""
        return len(self.annotations)

    @property
    def n_unlabelled(self) -> int:
        """Number of images that nobody has labelled yet."""
        return int((~self.images["labelled"]).sum())

    @property
    def n_negatives(self) -> int:
        """Number of images that are labelled and have nothing in them."""
        return int((self.images["labelled"] & ~self.images["image"].isin(self.annotations["image"])).sum())

    def counts(self) -> dict[str, int]:
        """Count the objects of each label, in the order of `labels`.

        Examples
        --------
        >>> Dataset.of(labels=["dog"]).counts()
        {'dog': 0}
        """
        counted = self.annotations["label"].value_counts()
        return {label: int(counted.get(label, 0)) for label in self.labels}


def _no_files(image: str) -> ObjectMissing:
    return ObjectMissing(f"image {image}: this dataset lives in memory and has no files. Save it to a workspace first.")
