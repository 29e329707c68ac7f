"""AP of parts of a dataset: by any key of images, or any tag of objects."""

from __future__ import annotations

import json
from typing import Literal

import numpy as np
import pandas as pd

from ymir_nb.backend.dataset import Dataset
from ymir_nb.backend.errors import InvalidTable
from ymir_nb.backend.outcomes import METRICS, Outcomes, by_label
from ymir_nb.backend.tables import IMAGES

MOST_SLICES = 200
"""More values than that are no slices; a key of that kind names images one by one."""

_COLUMNS = ["slice", "n_images", "n_boxes", "n_predictions", *METRICS]
_OWN_COLUMNS = ("split", "format", "mode", "width", "height", "orientation")


def keys(dataset: Dataset) -> dict[str, list[str]]:
    """List what a dataset can be sliced by.

    Returns
    -------
    dict
        ``image``: the columns of images that say what kind they are, and every key of `keys`;
        ``box``: every key of the objects' `tags`. Both sorted.

    Examples
    --------
    >>> keys(Dataset.of())["box"]
    []
    """
    own, tags = (_read(frame, name) for frame, name in ((dataset.images, "keys"), (dataset.annotations, "tags")))
    found = [sorted({key for values in table for key in values}) for table in (own, tags)]
    return {"image": sorted({*_OWN_COLUMNS, *found[0]}), "box": found[1]}


def slice_by(truth: Dataset, predictions: Dataset, key: str, *, of: Literal["image", "box"] = "image") -> pd.DataFrame:
    """Measure AP on each part of a dataset.

    Parameters
    ----------
    truth, predictions : Dataset
        As for `metrics.evaluate`.
    key : str
        Of images: a key of their `keys`, such as ``camera``, or one of the columns split, format,
        mode, width, height, orientation. Of boxes: a key of their `tags`, such as ``occluded``.
    of : {'image', 'box'}
        Whose key. A slice of images holds those images alone. A slice of boxes holds the objects
        with that tag on all images; who finds another object is neither right nor wrong there, and
        a detection that finds nothing is wrong in every slice, since no tag tells where it belongs.

    Returns
    -------
    DataFrame
        A row a value, sorted, the empty text last for what has no such key: slice, n_images (with
        such a box, for boxes), n_boxes (crowds left out), n_predictions, ap, ap50, ap75 (means of
        the labels that have objects there).

    Raises
    ------
    InvalidTable
        Nothing has the key, it has more than `MOST_SLICES` values, or the tables cannot be compared.

    Examples
    --------
    >>> image = dict(image="0" * 32, file="a.png", format="PNG", mode="RGB", width=9, height=9, n_bytes=1)
    >>> box = dict(image="0" * 32, label="dog", x1=0, y1=0, x2=4, y2=4)
    >>> truth = Dataset.of([image | {"labelled": True, "keys": '{"site": "north"}'}], [box], labels=["dog"])
    >>> slice_by(truth, Dataset.of([image], [box | {"score": 0.9}], labels=["dog"]), "site")[["slice", "ap50"]]
       slice  ap50
    0  north   1.0

    Source: YMIR 2.5.0, evaluation with `main_ck` (the key) and `sub_cks` (its values).
    """
    return _of_images(truth, predictions, key) if of == "image" else _of_boxes(truth, predictions, key)


def _of_images(truth: Dataset, predictions: Dataset, key: str) -> pd.DataFrame:
    images = truth.images[truth.images["labelled"]].sort_values("image")
    values = _values(images, "keys", key, "images", keys(truth)["image"])
    outcomes = Outcomes.of(truth, predictions)
    names = _names(values, key)
    weights = np.stack([(values == name).to_numpy() for name in names]).astype(np.float64)
    place = pd.Index(outcomes.images).get_indexer(predictions.annotations["image"].to_numpy(dtype=object))
    counted = (place >= 0) & predictions.annotations["label"].isin(outcomes.labels).to_numpy()
    n_predictions = np.bincount(place[counted], minlength=len(images))
    ap = outcomes.ap(weights)
    return pd.DataFrame(
        {
            "slice": pd.Series(names, dtype="str"),
            "n_images": weights.sum(axis=1).astype(np.int64),
            "n_boxes": outcomes.n_truth(weights).sum(axis=1).astype(np.int64),
            "n_predictions": (weights @ n_predictions).astype(np.int64),
            **{metric: by_label(ap, metric)[:, 0] for metric in METRICS},
        }
    )


def _of_boxes(truth: Dataset, predictions: Dataset, key: str) -> pd.DataFrame:
    objects = truth.annotations
    values = _values(objects, "tags", key, "boxes", keys(truth)["box"])
    counted = predictions.annotations["label"].isin(truth.labels) & predictions.annotations["image"].isin(
        truth.images.loc[truth.images["labelled"], "image"]
    )
    rows = []
    for name in _names(values, key):
        inside = (values == name).to_numpy()
        outcomes = Outcomes.of(truth, predictions, ignored=~inside)
        everything = np.ones((1, len(outcomes.images)))
        ap = outcomes.ap(everything)
        counts = {
            "slice": name,
            "n_images": objects.loc[inside, "image"].nunique(),
            "n_boxes": int(outcomes.n_truth(everything).sum()),
            "n_predictions": int(counted.sum()),
        }
        rows.append(counts | {metric: by_label(ap, metric)[0, 0] for metric in METRICS})
    return pd.DataFrame(rows, columns=_COLUMNS).astype({"slice": "str"})


def _values(frame: pd.DataFrame, column: str, key: str, whose: str, known: list[str]) -> pd.Series:
    """Read the value of a key in each row, as text; empty where there is none."""
    if column == "keys" and key in _OWN_COLUMNS and key in IMAGES:
        return frame[key].astype("str")
    values = pd.Series([entry.get(key, "") for entry in _read(frame, column)], index=frame.index, dtype="str")
    if not (values != "").any():
        raise InvalidTable(
            f"no {whose} of the truth have a key {key!r}; they have {', '.join(map(repr, known)) or 'none'}. "
            f"Choose one of these{', or slice by a key of images' if whose == 'boxes' else ''}."
        )
    return values


def _names(values: pd.Series, key: str) -> list[str]:
    """List the values, sorted, the missing one last."""
    names = sorted(values.unique(), key=lambda name: (name == "", name))
    if len(names) > MOST_SLICES:
        raise InvalidTable(
            f"key {key!r} has {len(names)} values, more than the {MOST_SLICES} that are slices. Group them first."
        )
    return names


def _read(frame: pd.DataFrame, column: str) -> list[dict[str, str]]:
    """Read the JSON objects of a column; equal texts are read once."""
    codes, texts = pd.factorize(frame[column])
    read = [_texts(text) for text in texts]
    return [read[code] for code in codes]


def _texts(text: str) -> dict[str, str]:
    entry = json.loads(text or "{}")
    if not isinstance(entry, dict):
        raise InvalidTable(f'keys and tags are JSON objects such as {{"camera": "north"}}, not {text[:60]!r}.')
    return {str(key): value if isinstance(value, str) else json.dumps(value) for key, value in entry.items()}
