"""What a dataset holds, in numbers: counts, histograms, and hints on what it lacks.

Source: YMIR 2.5.0, dataset analysis: the same histograms with the same buckets, and its three hints.
"""

from __future__ import annotations

import html
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from ymir_nb.backend.dataset import Dataset

Floats = npt.NDArray[np.float64]

_TENTHS = tuple(i / 10 for i in range(11))
_RATIOS = tuple(i / 10 for i in range(16))
_COUNTS = (0, 1, 2, 3, 4, 5, 10, 15, 20, 30, 40, 50, 100)
_AREAS = (0, 1, 50, 500, 2500, 5000, 1e4, 5e4, 1e5, 2e5)

BUCKETS: dict[str, tuple[float, ...]] = {
    "image_quality": _TENTHS,
    "image_megabytes": tuple(i / 2 for i in range(11)),
    "image_area": (0, 1e5, 5e5, 1e6, 2e6, 4e6, 6e6, 8e6),
    "image_hw_ratio": _RATIOS,
    "objects_per_image": _COUNTS,
    "labels_per_image": _COUNTS,
    "box_quality": _TENTHS,
    "box_area": _AREAS,
    "box_area_ratio": _TENTHS,
    "box_hw_ratio": _RATIOS,
    "mask_area": _AREAS,
}
"""Histograms and the lower ends of their buckets; the last one has no upper end.

Areas are square pixels, hw_ratio is height / width, box_area_ratio the share of the image, a megabyte 2**20 bytes.
"""

DENSITIES = {"1 to 3": (1, 3), "4 to 10": (4, 10), "more than 10": (11, np.inf)}
"""Boxes on an image, by bucket."""

FEW_OBJECTS = 500
"""A label with fewer objects is hinted at."""

RARE = 0.1
"""A label, or a density, that has less than this share of the largest is hinted at."""

_MEGABYTE = 2**20


@dataclass(frozen=True, eq=False)
class Analysis:
    """The numbers of a dataset.

    Parameters
    ----------
    totals : dict
        n_images, n_labelled, n_positives (labelled, with objects), n_negatives (labelled, without),
        n_unlabelled, n_boxes, n_crowds, n_masks, n_labels, megabytes.
    per_label : DataFrame
        A row a label in the dataset's order: label, n_objects, n_images, share (of the objects),
        area_px (of all its objects together), median_box_area_px (NaN without objects).
    histograms : DataFrame
        A row a bucket: chart (a name of `BUCKETS`), low, high (exclusive; infinite in the last), n.
        Unknown qualities are in no bucket. Counts on images are those of labelled images, or of all
        images where the dataset holds predictions.
    densities : DataFrame
        Columns boxes (names of `DENSITIES`), n_images.
    """

    totals: dict[str, Any]
    per_label: pd.DataFrame = field(repr=False)
    histograms: pd.DataFrame = field(repr=False)
    densities: pd.DataFrame = field(repr=False)

    def histogram(self, chart: str) -> pd.DataFrame:
        """Give one histogram: columns low, high, n.

        Examples
        --------
        >>> analyse(Dataset.of()).histogram("box_quality")["low"].tolist()[:3]
        [0.0, 0.1, 0.2]
        """
        rows = self.histograms[self.histograms["chart"] == chart]
        return rows.drop(columns="chart").reset_index(drop=True)

    def hints(self) -> list[str]:
        """Say in sentences what the dataset lacks; empty where nothing stands out.

        A label with fewer than 500 objects; one with less than a tenth of the objects of the largest
        label; a density of boxes on an image (1 to 3, 4 to 10, more than 10) with less than a tenth of
        the images of the commonest.
        """
        counts = dict(zip(self.per_label["label"], self.per_label["n_objects"], strict=True))
        densities = dict(zip(self.densities["boxes"], self.densities["n_images"], strict=True))
        hints = []
        few = {label: n for label, n in counts.items() if n < FEW_OBJECTS}
        if few:
            hints.append(f"Fewer than {FEW_OBJECTS} objects: {_listed(few)}. Label more of them.")
        rare, most = _rare(counts)
        if rare:
            hints.append(
                f"Less than a tenth of the {counts[most]:,} objects of {most!r}: {_listed(rare)}. "
                "Choose images that hold them next."
            )
        thin, common = _rare(densities)
        if thin:
            named = ", ".join(f"{boxes} boxes ({n:,} images)" for boxes, n in thin.items())
            hints.append(
                f"Less than a tenth of the {densities[common]:,} images with {common} boxes: {named}. "
                "Add images that are as crowded as those that the model will see."
            )
        return hints

    def to_dict(self) -> dict[str, Any]:
        """Give what JSON can say: totals, per_label, histograms (lists of low and n), densities, hints."""
        charts = {
            chart: [{"low": float(low), "n": int(n)} for low, n in zip(rows["low"], rows["n"], strict=True)]
            for chart, rows in self.histograms.groupby("chart", sort=False)
        }
        per_label = self.per_label.astype(object).where(self.per_label.notna(), None)
        return {
            "totals": self.totals,
            "per_label": per_label.to_dict("records"),
            "histograms": charts,
            "densities": dict(zip(self.densities["boxes"], self.densities["n_images"].tolist(), strict=True)),
            "hints": self.hints(),
        }

    def to_frame(self) -> pd.DataFrame:
        """Give a copy of `per_label`."""
        return self.per_label.copy()

    def __repr__(self) -> str:
        """Say in one line how much there is."""
        n = self.totals
        return f"<Analysis: {n['n_images']} images, {n['n_boxes']} boxes, {len(self.hints())} hints>"

    def _repr_html_(self) -> str:
        """Show labels and hints in a notebook."""
        table = self.per_label.to_html(index=False, escape=True, border=0, float_format="%.3g", na_rep="-")
        hints = "".join(f"<li>{html.escape(hint)}</li>" for hint in self.hints())
        return f"<p>{html.escape(repr(self))}</p>{table}<ul>{hints}</ul>"


def analyse(dataset: Dataset) -> Analysis:
    """Count what a dataset holds.

    Parameters
    ----------
    dataset : Dataset
        Ground truth or predictions.

    Returns
    -------
    Analysis

    Examples
    --------
    >>> analyse(Dataset.of(labels=["dog"])).hints()
    ["Fewer than 500 objects: 'dog' (0). Label more of them."]
    """
    images, objects = dataset.images, dataset.annotations
    predicted = bool(objects["score"].notna().any())
    seen = images["labelled"].to_numpy() | predicted
    at = pd.Index(images["image"]).get_indexer(objects["image"])
    n_objects = np.bincount(at, minlength=len(images))[seen]
    n_labels = np.bincount(at[~objects.duplicated(["image", "label"]).to_numpy()], minlength=len(images))[seen]
    width, height = (objects[far].to_numpy() - objects[near].to_numpy() for near, far in (("x1", "x2"), ("y1", "y2")))
    box_area = np.maximum(width, 0.0) * np.maximum(height, 0.0)
    image_area = images["width"].to_numpy(dtype=np.float64) * images["height"].to_numpy(dtype=np.float64)
    masked = (objects["segmentation"] != "").to_numpy()
    values = {
        "image_quality": images["quality"].to_numpy(dtype=np.float64),
        "image_megabytes": images["n_bytes"].to_numpy() / _MEGABYTE,
        "image_area": image_area,
        "image_hw_ratio": _over(images["height"].to_numpy(dtype=np.float64), images["width"].to_numpy()),
        "objects_per_image": n_objects,
        "labels_per_image": n_labels,
        "box_quality": objects["quality"].to_numpy(dtype=np.float64),
        "box_area": box_area,
        "box_area_ratio": _over(box_area, image_area[at]),
        "box_hw_ratio": _over(height, width),
        "mask_area": objects["area_px"].to_numpy()[masked],
    }
    totals = {
        "n_images": len(images),
        "n_labelled": int(images["labelled"].sum()),
        "n_positives": int((n_objects > 0).sum()),
        "n_negatives": int((n_objects == 0).sum()),
        "n_unlabelled": dataset.n_unlabelled,
        "n_boxes": len(objects),
        "n_crowds": int(objects["crowd"].sum()),
        "n_masks": int(masked.sum()),
        "n_labels": len(dataset.labels),
        "megabytes": round(float(images["n_bytes"].sum()) / _MEGABYTE, 3),
    }
    return Analysis(
        totals=totals,
        per_label=_per_label(dataset, box_area),
        histograms=pd.concat([_histogram(chart, values[chart]) for chart in BUCKETS], ignore_index=True),
        densities=pd.DataFrame(
            {
                "boxes": list(DENSITIES),
                "n_images": [int(((n_objects >= low) & (n_objects <= high)).sum()) for low, high in DENSITIES.values()],
            }
        ),
    )


def _per_label(dataset: Dataset, box_area: Floats) -> pd.DataFrame:
    """Count each label's objects."""
    given = dataset.annotations["area_px"].to_numpy()
    objects = pd.DataFrame(
        {
            "label": dataset.annotations["label"],
            "image": dataset.annotations["image"],
            "box_area": box_area,
            "area": np.where(np.isnan(given), box_area, given),
        }
    )
    groups = objects.groupby("label", sort=False)
    labels = list(dataset.labels)
    n = groups.size().reindex(labels, fill_value=0).to_numpy()
    return pd.DataFrame(
        {
            "label": pd.Series(labels, dtype="str"),
            "n_objects": n,
            "n_images": groups["image"].nunique().reindex(labels, fill_value=0).to_numpy(),
            "share": n / max(len(objects), 1),
            "area_px": groups["area"].sum().reindex(labels, fill_value=0.0).to_numpy(),
            "median_box_area_px": groups["box_area"].median().reindex(labels).to_numpy(),
        }
    )


def _histogram(chart: str, values: npt.NDArray[Any]) -> pd.DataFrame:
    """Count values in a chart's buckets; what is not known, or negative, is in none."""
    low = np.array(BUCKETS[chart], dtype=np.float64)
    place = np.searchsorted(low, values[~np.isnan(values)], side="right") - 1
    n = np.bincount(place[place >= 0], minlength=len(low))
    return pd.DataFrame({"chart": chart, "low": low, "high": np.append(low[1:], np.inf), "n": n})


def _over(values: Floats, by: npt.NDArray[Any]) -> Floats:
    """Divide; NaN where there is nothing to divide by."""
    quotient: Floats = np.divide(values, by, out=np.full(len(values), np.nan), where=by > 0)
    return quotient


def _rare(counts: dict[str, int]) -> tuple[dict[str, int], str]:
    """Find what has less than a tenth of the largest, and the largest."""
    if not counts:
        return {}, ""
    most = max(counts, key=lambda name: counts[name])
    return {name: n for name, n in counts.items() if n < RARE * counts[most]}, most


def _listed(counts: dict[str, int]) -> str:
    """Write names with counts, the rarest first."""
    return ", ".join(f"{name!r} ({n:,})" for name, n in sorted(counts.items(), key=lambda item: (item[1], item[0])))
