"""Operations on datasets: pure, deterministic, and blind to the order of rows."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from ymir_nb.backend.dataset import Dataset
from ymir_nb.backend.errors import InvalidTable, LabelNotFound, MergeConflict
from ymir_nb.backend.tables import SPLITS, annotations_frame, images_frame

CONFLICTS = ("stop", "first", "last")
STATES = ("labelled", "negative", "unlabelled")


def merge(datasets: Sequence[Dataset], *, conflicts: str = "stop") -> Dataset:
    """Put the images of several datasets together.

    An image that only one side has labelled takes that side's annotations. One that two sides have
    annotated differently is a conflict.

    Parameters
    ----------
    datasets : sequence of Dataset
        At least one; the first is the host, whose files serve the result.
    conflicts : {'stop', 'first', 'last'}
        Raise, or take the whole image from the first or the last dataset that has labelled it.

    Returns
    -------
    Dataset
        Every image once.

    Raises
    ------
    MergeConflict
        Under `stop`: names the images that are annotated in two ways.

    Examples
    --------
    >>> len(merge([Dataset.of(), Dataset.of()]))
    0
    """
    if conflicts not in CONFLICTS:
        raise InvalidTable(f"conflicts is {conflicts!r}; it is one of {', '.join(CONFLICTS)}.")
    if not datasets:
        raise InvalidTable("merge needs at least one dataset.")
    images = pd.concat([d.images.assign(_source=i) for i, d in enumerate(datasets)], ignore_index=True)
    annotations = pd.concat([d.annotations.assign(_source=i) for i, d in enumerate(datasets)], ignore_index=True)
    if conflicts == "stop":
        _refuse_conflicts(images, annotations, datasets)
    # Labelled sides go before unlabelled ones; among them the policy's side comes first.
    images["_rank"] = images["_source"] * (-1 if conflicts == "last" else 1)
    winners = images.sort_values(["image", "labelled", "_rank"], ascending=[True, False, True], kind="stable")
    winners = winners.drop_duplicates("image")
    kept = annotations.merge(winners[["image", "_source"]], on=["image", "_source"])
    return Dataset.of(
        winners.drop(columns=["_source", "_rank"]),
        kept.drop(columns="_source"),
        labels=_united(datasets),
        media=datasets[0].media,
    )


def filter(  # noqa: A001 (the user's word)
    dataset: Dataset,
    *,
    any_of: Collection[str] = (),
    none_of: Collection[str] = (),
    split: str | None = None,
    state: str | None = None,
) -> Dataset:
    """Keep the images that meet every condition given; their boxes stay as they are.

    Parameters
    ----------
    dataset : Dataset
        What to choose from.
    any_of : collection of str
        Keep images with an object of at least one of these labels.
    none_of : collection of str
        Leave out images with an object of any of these; negatives stay.
    split : {'train', 'val', 'test', ''}, optional
        Keep images of this split; the empty text means those that have none.
    state : {'labelled', 'negative', 'unlabelled'}, optional
        Keep images in this state; negatives are labelled too.

    Raises
    ------
    LabelNotFound
        The dataset has no such label.
    InvalidTable
        No such split or state.
    """
    for label in (*any_of, *none_of):
        if label not in dataset.labels:
            raise LabelNotFound(
                f"label {label!r} is not in this dataset; it has {', '.join(dataset.labels) or 'none'}."
            )
    if split is not None and split not in SPLITS:
        raise InvalidTable(f"split is {split!r}; it is one of train, val, test, or '' for those without.")
    if state is not None and state not in STATES:
        raise InvalidTable(f"state is {state!r}; it is one of {', '.join(STATES)}.")
    images, annotations = dataset.images, dataset.annotations
    keep = np.ones(len(images), dtype=bool)
    if any_of:
        keep &= images["image"].isin(annotations.loc[annotations["label"].isin(any_of), "image"]).to_numpy()
    if none_of:
        keep &= ~images["image"].isin(annotations.loc[annotations["label"].isin(none_of), "image"]).to_numpy()
    if split is not None:
        keep &= (images["split"] == split).to_numpy()
    if state is not None:
        keep &= images["labelled"].to_numpy() == (state != "unlabelled")
    if state == "negative":
        keep &= ~images["image"].isin(annotations["image"]).to_numpy()
    return take(dataset, images.loc[keep, "image"])


def take(dataset: Dataset, images: Iterable[str]) -> Dataset:
    """Keep these images, by hash; those that the dataset does not have are left aside."""
    wanted = list(images)
    return replace(
        dataset,
        images=dataset.images[dataset.images["image"].isin(wanted)].reset_index(drop=True),
        annotations=dataset.annotations[dataset.annotations["image"].isin(wanted)].reset_index(drop=True),
        ref="",
    )


def exclude(dataset: Dataset, *others: Dataset) -> Dataset:
    """Leave out every image that one of the other datasets has, known by its content."""
    gone = pd.concat([other.images["image"] for other in others]) if others else pd.Series([], dtype="str")
    return take(dataset, dataset.images.loc[~dataset.images["image"].isin(gone), "image"])


def sample(dataset: Dataset, *, n: int | None = None, rate: float | None = None, seed: int = 0) -> Dataset:
    """Draw images at random, the same ones for the same seed whatever the order of rows.

    Parameters
    ----------
    dataset : Dataset
        What to draw from.
    n : int, optional
        How many images; all of them where there are fewer.
    rate : float, optional
        Share of the images in [0, 1], rounded down. Exactly one of `n` and `rate` is given.
    seed : int
        Of the draw. A larger `n` with the same seed draws a superset.

    Raises
    ------
    InvalidTable
        Both or neither of `n` and `rate`, or one out of range.
    """
    if (n is None) == (rate is None):
        raise InvalidTable("sample needs either n (a number of images) or rate (a share in [0, 1]).")
    if (n is not None and n < 0) or (rate is not None and not 0 <= rate <= 1):
        raise InvalidTable(f"sample: n must not be negative and rate lies in [0, 1]; got n={n}, rate={rate}.")
    count = n if n is not None else int(len(dataset) * float(rate or 0.0))
    return take(dataset, shuffled(dataset.images["image"], seed=seed)[:count])


def split(dataset: Dataset, shares: Mapping[str, float], *, seed: int = 0) -> Dataset:
    """Fill the split column at random, by share.

    Parameters
    ----------
    dataset : Dataset
        Whose images to divide.
    shares : mapping of str to float
        Share of each of ``train``, ``val``, ``test``; together 1.
    seed : int
        Of the draw.

    Raises
    ------
    InvalidTable
        An unknown split, or shares that are negative or do not add up to 1.

    Examples
    --------
    >>> len(split(Dataset.of(), {"train": 0.8, "val": 0.2}))
    0
    """
    if (
        set(shares) - {"train", "val", "test"}
        or min(shares.values(), default=-1) < 0
        or abs(sum(shares.values()) - 1) > 1e-9
    ):
        raise InvalidTable(f"split: shares of train, val and test that add up to 1 are needed, got {dict(shares)}.")
    order = shuffled(dataset.images["image"], seed=seed)
    ends = np.round(np.cumsum(list(shares.values())) * len(order)).astype(int)
    names = {image: name for name, part in zip(shares, np.split(order, ends[:-1]), strict=True) for image in part}
    return replace(
        dataset, images=dataset.images.assign(split=dataset.images["image"].map(names).astype("str")), ref=""
    )


def unlabel(dataset: Dataset) -> Dataset:
    """Take all annotations away: every image becomes one that nobody has labelled yet."""
    return replace(
        dataset, images=images_frame(dataset.images.assign(labelled=False)), annotations=annotations_frame(), ref=""
    )


def label_from(dataset: Dataset, truth: Dataset, *, labels: Collection[str] | None = None) -> Dataset:
    """Give a dataset's images the annotations that another dataset has for them.

    Parameters
    ----------
    dataset : Dataset
        Images to label; what they carry already is replaced.
    truth : Dataset
        Where the annotations come from, matched by the image's content.
    labels : collection of str, optional
        Only these labels are taken over; by default all of `truth`.

    Returns
    -------
    Dataset
        Images that `truth` has not labelled stay unlabelled.
    """
    wanted = [label for label in truth.labels if labels is None or label in labels]
    known = truth.images.loc[truth.images["labelled"], "image"]
    found = dataset.images["image"].isin(known)
    objects = truth.annotations
    objects = objects[objects["image"].isin(dataset.images.loc[found, "image"]) & objects["label"].isin(wanted)]
    return Dataset.of(dataset.images.assign(labelled=found), objects, labels=wanted, media=dataset.media)


def shuffled(images: Iterable[str], *, seed: int) -> np.ndarray[tuple[int], np.dtype[np.object_]]:
    """Order images at random by a hash of seed and image, so that the input's order does not matter."""
    names = pd.Series(sorted(images), dtype="object")
    keys = pd.util.hash_array(names.to_numpy(), hash_key=f"{seed % 10**16:016d}")
    order: np.ndarray[tuple[int], np.dtype[np.object_]] = names.to_numpy()[np.argsort(keys, kind="stable")]
    return order


def _united(datasets: Sequence[Dataset]) -> tuple[str, ...]:
    """All labels, in the order in which they first appear."""
    return tuple(dict.fromkeys(label for dataset in datasets for label in dataset.labels))


def _refuse_conflicts(images: pd.DataFrame, annotations: pd.DataFrame, datasets: Sequence[Dataset]) -> None:
    """Raise where two labelled sides annotate one image differently."""
    labelled = images[images["labelled"]]
    shared = labelled["image"][labelled["image"].duplicated(keep=False)].unique()
    if not len(shared):
        return
    rows = annotations[annotations["image"].isin(shared)]
    content = [column for column in rows.columns if column not in ("image", "_source")]
    keys = pd.util.hash_pandas_object(rows[content].astype("str"), index=False).to_numpy()
    # A wrapping sum does not depend on the order of rows.
    sums = rows[["image", "_source"]].assign(_sum=keys).groupby(["image", "_source"])["_sum"].sum()
    sides = labelled.loc[labelled["image"].isin(shared), ["image", "_source"]]
    marks = sums.reindex(pd.MultiIndex.from_frame(sides), fill_value=0).reset_index()
    different = marks.groupby("image")["_sum"].nunique()
    bad = sorted(different.index[different > 1])
    if bad:
        files = labelled.drop_duplicates("image").set_index("image")["file"]
        shown = ", ".join(f"{files[image]} ({image[:8]})" for image in bad[:5])
        refs = " and ".join(d.ref or "a dataset" for d in datasets)
        raise MergeConflict(
            f"{len(bad)} images are annotated differently in {refs}: {shown}{' ...' if len(bad) > 5 else ''}. "
            "Choose a side: conflicts='first' or conflicts='last'."
        )
