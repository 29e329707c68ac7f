"""A drawn dataset on disk: a Pascal VOC folder, byte for byte the same for the same arguments."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from ymir_nb.backend.errors import InvalidTable, StoreError
from ymir_nb.backend.sandbox.scene import RARE_SHARE, Scene, draw_scene
from ymir_nb.backend.tables import SPLITS


def draw_sandbox(
    directory: Path | str,
    *,
    n_images: int,
    seed: int = 0,
    rare_share: float = RARE_SHARE,
    first: int = 0,
    splits: Mapping[str, int] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Draw a labelled detection dataset of building-site scenes.

    Scene `i` depends on `seed`, `i` and `rare_share` alone: sets that do not share indices share no
    scene, and a larger set begins with the smaller one.

    Parameters
    ----------
    directory : Path or str
        Folder to make; it may exist if it is empty.
    n_images : int
        Number of scenes, at least 1.
    seed : int
        Which world is drawn, at least 0.
    rare_share : float
        Share of the scenes, in [0, 1], that have cones in them.
    first : int
        Index of the first scene, at least 0.
    splits : mapping of str to int
        How many scenes, in order, belong to ``train``, ``val`` and ``test``; they add up to `n_images`.
    progress : callable
        Called after each scene with the number of scenes drawn and `n_images`.

    Returns
    -------
    Path
        `directory`, with ``JPEGImages/scene_<seed>_<index>.jpg``, ``Annotations/*.xml`` and, for
        `splits`, ``ImageSets/Main/<split>.txt``. ``xmin ymin xmax ymax`` are whole pixels from 0,
        the far edge exclusive; the light stands among an image's key:value pairs (``cks``).

    Raises
    ------
    InvalidTable
        A number is out of its range, or the splits do not fit.
    StoreError
        The folder has something in it.

    Examples
    --------
    >>> folder = draw_sandbox(tmp / "site", n_images=2, splits={"train": 1, "val": 1})
    >>> sorted(path.name for path in (folder / "JPEGImages").iterdir())
    ['scene_0_000000.jpg', 'scene_0_000001.jpg']

    Source: Pascal VOC's folders and annotation form; `cks` is YMIR's addition to it.
    """
    counts = dict(splits or {})
    _check(n_images, seed, rare_share, first, counts)
    target = Path(directory)
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise StoreError(f"{target} has something in it. Name a new or an empty folder for the drawn scenes.")
    target.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        names = []
        for folder in ("JPEGImages", "Annotations"):
            (work / folder).mkdir()
        for index in range(first, first + n_images):
            scene = draw_scene(scene_seed(seed, index), rare_share=rare_share)
            names.append(f"scene_{seed}_{index:06d}")
            (work / "JPEGImages" / f"{names[-1]}.jpg").write_bytes(scene.to_jpeg())
            (work / "Annotations" / f"{names[-1]}.xml").write_text(_to_voc(scene, names[-1]), encoding="utf-8")
            if progress is not None:
                progress(len(names), n_images)
        _write_splits(work, names, counts)
        work.chmod(0o755)
        work.replace(target)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return target


def scene_seed(seed: int, index: int) -> int:
    """Seed of scene `index` in the world `seed`, for `draw_scene`.

    Examples
    --------
    >>> scene_seed(0, 1) == scene_seed(1, 0)
    False
    """
    return int(np.random.SeedSequence((seed, index)).generate_state(1, np.uint64)[0])


def _check(n_images: int, seed: int, rare_share: float, first: int, counts: Mapping[str, int]) -> None:
    """Refuse numbers out of their range before anything is drawn."""
    if n_images < 1 or seed < 0 or first < 0 or not 0 <= rare_share <= 1:
        raise InvalidTable(
            "the sandbox needs n_images of 1 or more, seed and first of 0 or more and rare_share in [0, 1]; "
            f"got n_images={n_images}, seed={seed}, first={first}, rare_share={rare_share}."
        )
    known = [split for split in SPLITS if split]
    if counts and (set(counts) - set(known) or min(counts.values()) < 0 or sum(counts.values()) != n_images):
        raise InvalidTable(f"splits: counts of {', '.join(known)} that add up to {n_images} are needed, got {counts}.")


def _write_splits(folder: Path, names: list[str], counts: Mapping[str, int]) -> None:
    """Write a list of names for each split, in the order in which the splits are given."""
    start = 0
    for split, count in counts.items():
        path = folder / "ImageSets" / "Main" / f"{split}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(f"{name}\n" for name in names[start : start + count]), encoding="utf-8")
        start += count


def _to_voc(scene: Scene, name: str) -> str:
    """Turn a scene's truth into Pascal VOC's XML."""
    width, height = scene.image.size
    lines = [
        "<annotation>",
        f"  <folder>JPEGImages</folder>\n  <filename>{name}.jpg</filename>",
        "  <source><database>ymir-nb sandbox</database></source>",
        f"  <size><width>{width}</width><height>{height}</height><depth>3</depth></size>",
        f"  <segmented>0</segmented>\n  <cks><light>{scene.light}</light></cks>",
    ]
    for label, x1, y1, x2, y2 in scene.boxes:
        is_cut = x1 == 0 or y1 == 0 or x2 == width or y2 == height
        lines += [
            f"  <object>\n    <name>{label}</name>\n    <pose>Unspecified</pose>",
            f"    <truncated>{int(is_cut)}</truncated>\n    <difficult>0</difficult>",
            f"    <bndbox><xmin>{x1}</xmin><ymin>{y1}</ymin><xmax>{x2}</xmax><ymax>{y2}</ymax></bndbox>\n  </object>",
        ]
    return "\n".join([*lines, "</annotation>", ""])
