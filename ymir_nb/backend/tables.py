"""The columns of every table, documented once, and their way to Arrow and back.

Three tables carry all data: `IMAGES` (a row an image), `ANNOTATIONS` (a row an object) and, for
predictions, the same two with scores. Frames are pandas; on disk they are Parquet whose bytes
depend on the content alone, so that equal tables have equal hashes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from ymir_nb.backend.errors import InvalidTable

SPLITS = ("train", "val", "test", "")


@dataclass(frozen=True)
class Column:
    """One column of a table.

    Parameters
    ----------
    kind : pyarrow.DataType
        Type on disk.
    doc : str
        Meaning, with its unit.
    default : object
        Value of a row that does not say; `None` marks a column that every row must give.
    """

    kind: pa.DataType
    doc: str
    default: Any = None


Schema = Mapping[str, Column]

IMAGES: Schema = {
    "image": Column(pa.string(), "content hash (md5, 32 hex digits), as DVC names the object"),
    "file": Column(pa.string(), "name it came with, relative to its source, `/` as separator"),
    "other_files": Column(pa.string(), "JSON list: further names of the same bytes, sorted", "[]"),
    "format": Column(pa.string(), "Pillow's name of the file format: JPEG, PNG, BMP, WEBP, TIFF, GIF"),
    "mode": Column(pa.string(), "Pillow's name of the pixel layout: RGB, L, CMYK ..."),
    "width": Column(pa.int32(), "pixels, after the EXIF orientation is applied"),
    "height": Column(pa.int32(), "pixels, after the EXIF orientation is applied"),
    "orientation": Column(pa.int8(), "EXIF orientation 1-8 of the stored bytes; 1 is upright", 1),
    "n_bytes": Column(pa.int64(), "size of the stored file in bytes"),
    "split": Column(pa.string(), "train, val, test, or empty where nobody said", ""),
    "labelled": Column(
        pa.bool_(),
        "true: its objects are all annotated, and none means a negative; false: not labelled yet",
        False,
    ),
    "keys": Column(pa.string(), "JSON object: the image's own key:value pairs (YMIR's cks)", "{}"),
    "quality": Column(pa.float32(), "image quality in [0, 1]; NaN where unknown", float("nan")),
}
"""A row an image, sorted by `image`, each image once."""

ANNOTATIONS: Schema = {
    "image": Column(pa.string(), "content hash of the image it lies on"),
    "label": Column(pa.string(), "main name of its label"),
    "x1": Column(pa.float64(), "left edge, pixels from the upright image's left"),
    "y1": Column(pa.float64(), "top edge, pixels from the upright image's top"),
    "x2": Column(pa.float64(), "right edge, pixels, exclusive"),
    "y2": Column(pa.float64(), "bottom edge, pixels, exclusive"),
    "score": Column(pa.float64(), "confidence in [0, 1]; NaN for ground truth", float("nan")),
    "segmentation": Column(
        pa.string(),
        'JSON: [[x, y, ...], ...] polygons or {"size": [h, w], "counts": ...} RLE; empty for a box alone',
        "",
    ),
    "area_px": Column(pa.float64(), "area in square pixels as given; NaN: the box's", float("nan")),
    "crowd": Column(pa.bool_(), "one region around many objects (COCO's iscrowd)", False),
    "quality": Column(pa.float32(), "annotation quality in [0, 1]; NaN where unknown", float("nan")),
    "rotation": Column(pa.float32(), "rotation about the box's centre, radians, clockwise", 0.0),
    "tags": Column(pa.string(), "JSON object: the object's own key:value pairs, text values", "{}"),
}
"""A row an object, sorted by image, label, place and score, then by all else."""

_NUMPY: dict[pa.DataType, np.dtype[Any]] = {
    pa.int8(): np.dtype(np.int8),
    pa.int32(): np.dtype(np.int32),
    pa.int64(): np.dtype(np.int64),
    pa.bool_(): np.dtype(np.bool_),
    pa.float32(): np.dtype(np.float32),
    pa.float64(): np.dtype(np.float64),
}
_IMAGE_ORDER = ["image"]
_ANNOTATION_ORDER = ["image", "label", "x1", "y1", "x2", "y2", "score", "segmentation", "tags"]
# Every column takes part, or rows that differ only in the rest would keep the order they came in.
_ANNOTATION_ORDER += [name for name in ANNOTATIONS if name not in _ANNOTATION_ORDER]


def images_frame(rows: Iterable[Mapping[str, Any]] | pd.DataFrame = ()) -> pd.DataFrame:
    """Make an images table: all columns of `IMAGES`, typed, sorted by image.

    Parameters
    ----------
    rows : iterable of mappings or DataFrame
        One mapping an image. Columns that have a default may be left out.

    Returns
    -------
    DataFrame
        With the columns of `IMAGES`.

    Raises
    ------
    InvalidTable
        A column is missing or unknown, a value does not fit, or an image stands there twice.

    Examples
    --------
    >>> images_frame().columns[0]
    'image'
    """
    frame = _conform(rows, IMAGES, "images").sort_values(_IMAGE_ORDER, kind="stable", ignore_index=True)
    twice = frame["image"][frame["image"].duplicated()]
    if len(twice):
        raise InvalidTable(
            f"images table: {twice.nunique()} images stand there more than once, the first is "
            f"{twice.iloc[0]}. Keep one row each: frame.drop_duplicates('image')"
        )
    return frame


def annotations_frame(rows: Iterable[Mapping[str, Any]] | pd.DataFrame = ()) -> pd.DataFrame:
    """Make an annotations table: all columns of `ANNOTATIONS`, typed, in canonical order.

    Parameters
    ----------
    rows : iterable of mappings or DataFrame
        One mapping an object. Columns that have a default may be left out.

    Returns
    -------
    DataFrame
        With the columns of `ANNOTATIONS`.

    Raises
    ------
    InvalidTable
        A column is missing or unknown, a value does not fit, or a coordinate is not finite.

    Examples
    --------
    >>> row = {"image": "0" * 32, "label": "dog", "x1": 0, "y1": 0, "x2": 4, "y2": 3}
    >>> annotations_frame([row])["crowd"].tolist()
    [False]
    """
    frame = _conform(rows, ANNOTATIONS, "annotations")
    corners = frame[["x1", "y1", "x2", "y2"]].to_numpy()
    if not np.isfinite(corners).all():
        bad = frame.loc[~np.isfinite(corners).all(axis=1), "image"]
        raise InvalidTable(
            f"annotations table: {len(bad)} boxes have a coordinate that is not a finite number, the "
            f"first on image {bad.iloc[0]}. Remove or repair those rows."
        )
    return frame.sort_values(_ANNOTATION_ORDER, kind="stable", ignore_index=True)


def to_parquet_bytes(frame: pd.DataFrame, schema: Schema) -> bytes:
    """Write a frame as Parquet; equal frames give equal bytes.

    Parameters
    ----------
    frame : DataFrame
        With the columns of `schema`.
    schema : Schema
        `IMAGES` or `ANNOTATIONS`.

    Returns
    -------
    bytes
        A Parquet file.
    """
    arrow = pa.Table.from_arrays(
        [pa.array(frame[name].to_numpy(), type=column.kind, from_pandas=False) for name, column in schema.items()],
        names=list(schema),
    )
    sink = pa.BufferOutputStream()
    pq.write_table(arrow, sink, compression="zstd")
    data: bytes = sink.getvalue().to_pybytes()
    return data


def from_parquet_bytes(data: bytes, schema: Schema) -> pd.DataFrame:
    """Read a frame that `to_parquet_bytes` wrote.

    Columns that came into the schema later get their default; columns that it does not know are
    an error, since dropping them silently would lose data.

    Parameters
    ----------
    data : bytes
        A Parquet file.
    schema : Schema
        `IMAGES` or `ANNOTATIONS`.

    Returns
    -------
    DataFrame
        With the columns of `schema`, in the stored order.

    Raises
    ------
    InvalidTable
        The bytes are no Parquet, or their columns or values do not fit the schema.
    """
    try:
        frame = pq.read_table(pa.BufferReader(data)).to_pandas()
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise InvalidTable(
            f"this is not a readable Parquet table ({error}). Restore the file: dvc checkout --force"
        ) from error
    return _conform(frame, schema, "stored")


def _conform(rows: Iterable[Mapping[str, Any]] | pd.DataFrame, schema: Schema, name: str) -> pd.DataFrame:
    """Give a frame exactly the columns, order and types of a schema."""
    frame = rows if isinstance(rows, pd.DataFrame) else pd.DataFrame(list(rows), dtype=object)
    if frame.empty and not len(frame.columns):
        frame = pd.DataFrame(columns=list(schema))
    twice = frame.columns[frame.columns.duplicated()]
    if len(twice):
        raise InvalidTable(f"{name} table: columns {', '.join(map(str, twice))} stand there twice. Keep one of each.")
    unknown = sorted(map(str, set(frame.columns) - set(schema)))
    missing = [c for c, column in schema.items() if column.default is None and c not in frame.columns]
    if unknown or missing:
        raise InvalidTable(
            f"{name} table: "
            + "; ".join(
                part
                for part in (
                    f"missing columns {', '.join(missing)}" if missing else "",
                    f"unknown columns {', '.join(unknown)}" if unknown else "",
                )
                if part
            )
            + f". The columns are {', '.join(schema)} (see ymir_nb.backend.tables)."
        )
    columns = {}
    for column_name, column in schema.items():
        if column_name in frame.columns:
            values = frame[column_name]
            if column.default is not None and column.default == column.default:
                values = values.where(values.notna(), column.default)
        else:
            values = pd.Series([column.default] * len(frame), index=frame.index)
        try:
            columns[column_name] = _typed(values, column.kind)
        except (TypeError, ValueError) as error:
            raise InvalidTable(
                f"{name} table: column {column_name} ({column.doc}) has a value that is no {column.kind}: {error}"
            ) from error
    return pd.DataFrame(columns).reset_index(drop=True)


def _typed(values: pd.Series, kind: pa.DataType) -> pd.Series:
    """Give a column its type; a value that the type would bend (3.5 as a whole number) is refused."""
    if kind == pa.string():
        if values.isna().any():
            raise ValueError(f"{int(values.isna().sum())} rows have none")
        return values.astype("str")
    dtype = _NUMPY[kind]
    if values.dtype == dtype and dtype.kind != "f":
        return values
    numbers = values.to_numpy(dtype=np.float64, na_value=np.nan)
    if dtype.kind == "f":
        # One zero and one NaN: -0.0 equals 0.0 and has other bytes.
        numbers = np.where(np.isnan(numbers), np.nan, numbers + 0.0)
        return pd.Series(numbers.astype(dtype), index=values.index)
    low, high = (0, 1) if dtype.kind == "b" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
    bent = ~((numbers >= low) & (numbers <= high) & (numbers == np.floor(numbers)))
    if bent.any():
        raise ValueError(f"{values[bent].iloc[0]!r}")
    return values.astype(np.float64).astype(dtype) if dtype.kind == "b" else values.astype(dtype)
