"""What a network makes of images: a vector for each, one for each label found on it, and scores per label.

These are values. How they are read from an executor, cached and kept is the business of `embeddings`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from ymir_nb.backend.errors import InvalidTable

Floats = npt.NDArray[np.float64]
Vectors = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Features:
    """Vectors of images, and of what was found on them.

    Parameters
    ----------
    rows : DataFrame
        Columns image (content hash), label (empty: the whole image) and score (the best of this label on
        this image, in [0, 1]; 1 for the whole image); sorted by image and label, each pair once.
    vectors : ndarray of float32, shape (len(rows), d)
        Finite. The vector of a label is the mean over its boxes on the image, weighted by their scores.

    Examples
    --------
    >>> rows = pd.DataFrame({"image": ["a", "a"], "label": ["", "dog"], "score": [1.0, 0.5]})
    >>> Features.of(rows, np.eye(2)).images.tolist()
    ['a']
    """

    rows: pd.DataFrame
    vectors: Vectors

    @classmethod
    def of(cls, rows: pd.DataFrame, vectors: npt.ArrayLike) -> Features:
        """Make features from rows in any order, checked and sorted.

        Raises
        ------
        InvalidTable
            Rows and vectors differ in number, a number is not finite, a pair stands there twice, or a label
            stands there without its image.
        """
        matrix = np.asarray(vectors, dtype=np.float32)
        if matrix.ndim != 2 or len(matrix) != len(rows):
            raise InvalidTable(f"features: {len(rows)} rows need as many vectors, shape {matrix.shape} was given.")
        if not (np.isfinite(matrix).all() and rows["score"].between(0.0, 1.0).all()):
            raise InvalidTable("features: a vector is not finite, or a score is not in [0, 1]. Compute them again.")
        if rows.duplicated(["image", "label"]).any():
            twice = rows.loc[rows.duplicated(["image", "label"]), "image"]
            raise InvalidTable(f"features: image {twice.iloc[0]} has two vectors for one label. Keep one of them.")
        order = np.lexsort((rows["label"].to_numpy(dtype=object), rows["image"].to_numpy(dtype=object)))
        made = cls(rows[["image", "label", "score"]].iloc[order].reset_index(drop=True), matrix[order])
        stray = ~made.rows["image"].isin(made.images)
        if stray.any():
            raise InvalidTable(f"features: image {made.rows.loc[stray, 'image'].iloc[0]} has no vector of its own.")
        return made

    @property
    def images(self) -> pd.Series:
        """The images that have vectors, sorted."""
        return self.rows.loc[self.rows["label"] == "", "image"].reset_index(drop=True)

    def image_vectors(self, names: pd.Series) -> Vectors:
        """Give the vectors of whole images, shape (len(names), d).

        Raises
        ------
        InvalidTable
            An image has none.
        """
        own = (self.rows["label"] == "").to_numpy()
        place = pd.Index(self.rows["image"][own]).get_indexer(pd.Index(names))
        if (place < 0).any():
            raise InvalidTable(
                f"features: {int((place < 0).sum())} of {len(names)} images have no vector, the first is "
                f"{names.iloc[int(np.argmax(place < 0))]}. Predict on them with features: true."
            )
        found: Vectors = self.vectors[own][place]
        return found

    def objects(self, names: pd.Series) -> tuple[pd.DataFrame, Vectors]:
        """Give what was found on these images: a frame of place (in `names`), label, score, and the vectors."""
        place = pd.Index(names).get_indexer(pd.Index(self.rows["image"]))
        wanted = (place >= 0) & (self.rows["label"] != "").to_numpy()
        rows = self.rows.loc[wanted, ["label", "score"]].assign(place=place[wanted])
        return rows.reset_index(drop=True), self.vectors[wanted]

    def take(self, names: Iterable[str]) -> Features:
        """Keep these images; those without vectors are passed over."""
        wanted = self.rows["image"].isin(set(names)).to_numpy()
        return Features(self.rows[wanted].reset_index(drop=True), self.vectors[wanted])

    def to_bytes(self) -> bytes:
        """Write as Parquet, the vectors as float16; equal features give equal bytes."""
        return _write(self.rows, "vector", self.vectors)

    @classmethod
    def from_bytes(cls, data: bytes) -> Features:
        """Read what `to_bytes` wrote.

        Raises
        ------
        InvalidTable
            The bytes are something else.
        """
        rows, vectors, _ = _read(data, "vector")
        return cls.of(rows, vectors)


@dataclass(frozen=True, eq=False)
class ClassScores:
    """The score of every label at every box, where a detector gives more than the best one.

    Parameters
    ----------
    boxes : DataFrame
        Columns image, label and score: the boxes as they were predicted.
    labels : tuple of str
        The labels, in the order of the columns of `scores`.
    scores : ndarray of float32, shape (len(boxes), len(labels))
        In [0, 1]; the labels are judged each by itself and need not sum to 1.
    """

    boxes: pd.DataFrame
    labels: tuple[str, ...]
    scores: Vectors

    def take(self, names: Iterable[str]) -> ClassScores:
        """Keep the boxes on these images."""
        wanted = self.boxes["image"].isin(set(names)).to_numpy()
        return ClassScores(self.boxes[wanted].reset_index(drop=True), self.labels, self.scores[wanted])

    def to_bytes(self) -> bytes:
        """Write as Parquet, the scores as float16."""
        return _write(self.boxes, "scores", self.scores, self.labels)

    @classmethod
    def from_bytes(cls, data: bytes) -> ClassScores:
        """Read what `to_bytes` wrote.

        Raises
        ------
        InvalidTable
            The bytes are something else.
        """
        rows, scores, labels = _read(data, "scores")
        return cls(rows, labels, scores)


def _write(rows: pd.DataFrame, name: str, matrix: Vectors, labels: tuple[str, ...] = ()) -> bytes:
    """Write rows with a vector each."""
    flat = pa.array(np.ascontiguousarray(matrix, dtype=np.float16).ravel())
    table = pa.table(
        {
            "image": pa.array(rows["image"].tolist(), pa.string()),
            "label": pa.array(rows["label"].tolist(), pa.string()),
            "score": pa.array(rows["score"].to_numpy(dtype=np.float64)),
            name: pa.FixedSizeListArray.from_arrays(flat, matrix.shape[1]),
        }
    ).replace_schema_metadata({"labels": "\n".join(labels)})
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd")
    data: bytes = sink.getvalue().to_pybytes()
    return data


def _read(data: bytes, name: str) -> tuple[pd.DataFrame, Vectors, tuple[str, ...]]:
    """Read rows with a vector each."""
    try:
        table = pq.read_table(pa.BufferReader(data))
        column = table[name].combine_chunks()
        matrix = column.flatten().to_numpy(zero_copy_only=False).astype(np.float32)
        rows = table.select(["image", "label", "score"]).to_pandas()
    except (pa.ArrowException, OSError, KeyError, AttributeError) as error:
        raise InvalidTable(
            f"this is no readable table of {name}s ({error}). Restore it: dvc checkout --force"
        ) from error
    labels = (table.schema.metadata or {}).get(b"labels", b"").decode()
    return rows, matrix.reshape(len(rows), column.type.list_size), tuple(labels.split("\n")) if labels else ()
