"""Box evaluation beside pycocotools and faster-coco-eval: ``make bench-eval``.

Every measurement is a process of its own, one after the other, on the same drawn boxes. The peers start from JSON
files and their own lists of dicts, ymir-nb from Parquet tables. Printed are medians: of the evaluation alone, from
loaded tables, in seconds of the processor (none of them uses more than one at a time), so that other work on the
machine weighs less; and of the whole process with its imports and its reading, by the clock. Then ymir-nb alone,
with more images.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import io
import json
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import orjson
import pandas as pd

from ymir_nb.backend import tables
from ymir_nb.backend.boxes import to_xywh
from ymir_nb.backend.dataset import Dataset
from ymir_nb.backend.metrics import evaluate

CORNERS = ["x1", "y1", "x2", "y2"]
MOST_MB = 2048
Runs = list[dict[str, Any]]


def main() -> None:
    """Run everything in processes of its own and print the tables; with a role, be one of these processes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=5000, help="images; 7.2 objects and 100 detections on each")
    parser.add_argument("--labels", type=int, default=80, help="labels")
    parser.add_argument("--seed", type=int, default=0, help="seed of the drawn boxes")
    parser.add_argument("--times", type=int, default=10, help="so many times the images for ymir-nb alone; 1: not that")
    parser.add_argument("--role", choices=ROLES, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.role:
        print(json.dumps(ROLES[options.role](options)))
        return
    with tempfile.TemporaryDirectory() as folder:
        options.folder = Path(folder)
        compare(options)


def compare(options: argparse.Namespace) -> None:
    """Measure all engines on few images, ymir-nb on many."""
    drawn = measure("draw", options)
    print(f"{options.images} images, {options.labels} labels, {drawn['objects']} objects, {drawn['found']} detections")
    print(f"Python {platform.python_version()}, numpy {np.__version__}, {platform.machine()}; medians")
    first = [measure("first", options) for _ in range(3)]
    peers = {"pycocotools": [measure("pycocotools", options)]}
    first += [measure("first", options) for _ in range(2)]
    peers["faster-coco-eval"] = [measure("faster", options) for _ in range(3)]
    warm = [measure("warm", options) for _ in range(3)]
    print_ratios(peers, first, warm)
    if options.times > 1:
        many = argparse.Namespace(**vars(options) | {"images": options.images * options.times})
        measure("draw", many)
        print_growth(options.times, warm, [measure("warm", many)])


def measure(role: str, options: argparse.Namespace) -> dict[str, Any]:
    """Run one process; give what it says, and the seconds of all of it."""
    named = {"role": role, "folder": options.folder, "images": options.images}
    named |= {"labels": options.labels, "seed": options.seed}
    command = [sys.executable, __file__, *(f"--{name}={value}" for name, value in named.items())]
    begin = time.perf_counter()
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout) | {"process": time.perf_counter() - begin}


def print_ratios(peers: dict[str, Runs], first: Runs, warm: Runs) -> None:
    """Print seconds, memory, and how many times faster ymir-nb is, beside the bars that it has to clear."""
    print(f"\n{'':24}{'evaluation s':>13}{'process s':>11}{'peak MB':>9}")
    for name, runs in {**peers, "ymir-nb, first call": first, "ymir-nb, warm": warm}.items():
        process = "" if runs is warm else f"{of(runs, 'process'):.2f}"
        print(f"{name:24}{of(runs, 'seconds'):13.3f}{process:>11}{of(runs, 'peak_mb'):9.0f}")
    slow, fast = peers["pycocotools"], peers["faster-coco-eval"]
    print(f"\n{'times faster':48}{'is':>5}{'bar':>6}")
    for text, ratio, bar in (
        ("first call, than pycocotools", of(slow, "seconds") / of(first, "seconds"), 60),
        ("warm, than pycocotools", of(slow, "seconds") / of(warm, "seconds"), 150),
        ("warm, than faster-coco-eval", of(fast, "seconds") / of(warm, "seconds"), 20),
        ("process reading Parquet, than pycocotools", of(slow, "process") / of(first, "process"), 15),
    ):
        print(f"{text:48}{ratio:4.0f}x{bar:5}x{'' if ratio >= bar else '  MISSED'}")
    difference = np.abs(np.subtract(first[0]["numbers"], slow[0]["numbers"])).max()
    print(f"largest difference of the twelve numbers from pycocotools: {difference:.1e}")


def print_growth(times: int, few: Runs, many: Runs) -> None:
    """Print what more images cost."""
    growth, bar, peak_mb = of(many, "seconds") / of(few, "seconds"), 1.2 * times, of(many, "peak_mb")
    print(f"\n{times} times the images: {of(many, 'seconds'):.2f} s, {peak_mb:.0f} MB with tables and imports")
    print(f"{growth:.1f} times the seconds (bar {bar:.0f}){'' if growth <= bar else '  MISSED'}")
    print(f"{peak_mb:.0f} MB (bar {MOST_MB}){'' if peak_mb <= MOST_MB else '  MISSED'}")


def of(runs: Runs, name: str) -> float:
    """Median of what several processes said."""
    return median(run[name] for run in runs)


def draw(options: argparse.Namespace) -> dict[str, Any]:
    """Draw truth (7.2 boxes an image) and predictions (100 an image, a third near a true box) and write both forms."""
    rng = np.random.default_rng(options.seed)
    names = sorted(hashlib.md5(str(i).encode(), usedforsecurity=False).hexdigest() for i in range(options.images))
    labels = [f"label{i:02d}" for i in range(options.labels)]
    n_truth, n_found = round(7.2 * options.images), 100 * options.images
    truth = pd.DataFrame({"image": rng.choice(names, n_truth), "label": rng.choice(labels, n_truth)})
    corner, side = rng.uniform(0, 400, (n_truth, 2)), rng.uniform(8, 240, (n_truth, 2))
    truth[CORNERS] = np.hstack([corner, corner + side])
    near = truth.iloc[rng.integers(0, n_truth, n_found // 3)].reset_index(drop=True)
    near[CORNERS] += rng.normal(0, 8, (len(near), 4))
    n_stray = n_found - len(near)
    stray = pd.DataFrame({"image": rng.choice(names, n_stray), "label": rng.choice(labels, n_stray)})
    corner, side = rng.uniform(0, 400, (n_stray, 2)), rng.uniform(8, 240, (n_stray, 2))
    stray[CORNERS] = np.hstack([corner, corner + side])
    found = pd.concat([near, stray], ignore_index=True)
    found["score"] = rng.random(len(found))
    images = pd.DataFrame(
        {"image": names, "file": names, "format": "PNG", "mode": "RGB", "width": 640, "height": 640, "n_bytes": 1}
    )
    images = tables.images_frame(images.assign(labelled=True))
    truth, found = tables.annotations_frame(truth), tables.annotations_frame(found)
    write = (
        ("images", images, tables.IMAGES),
        ("truth", truth, tables.ANNOTATIONS),
        ("found", found, tables.ANNOTATIONS),
    )
    for name, frame, schema in write:
        path(options, f"{name}.parquet").write_bytes(tables.to_parquet_bytes(frame, schema))
    if options.images <= 20_000:  # the peers take part
        write_json(options, names, labels, truth, found)
    return {"objects": len(truth), "found": len(found)}


def write_json(
    options: argparse.Namespace, names: list[str], labels: list[str], truth: pd.DataFrame, found: pd.DataFrame
) -> None:
    """Write both as the lists that the peers read."""
    image_id = {image: i for i, image in enumerate(names, start=1)}
    label_id = {label: i for i, label in enumerate(labels, start=1)}

    def rows(frame: pd.DataFrame) -> list[dict[str, Any]]:
        boxes = to_xywh(frame[CORNERS].to_numpy()).tolist()
        places = zip(frame["image"], frame["label"], frame["score"], boxes, strict=True)
        return [
            {"image_id": image_id[image], "category_id": label_id[label], "bbox": box, "score": score}
            for image, label, score, box in places
        ]

    listing = {
        "info": {},
        "images": [{"id": i} for i in image_id.values()],
        "categories": [{"id": i, "name": label} for label, i in label_id.items()],
        "annotations": [
            {**row, "id": i, "iscrowd": 0, "area": row["bbox"][2] * row["bbox"][3]}
            for i, row in enumerate(rows(truth), start=1)
        ],
    }
    path(options, "truth.json").write_bytes(orjson.dumps(listing))
    path(options, "found.json").write_bytes(orjson.dumps(rows(found)))


def ours(options: argparse.Namespace, *, calls: int) -> dict[str, Any]:
    """Read the tables and evaluate; of several calls the first is left out."""
    # The largest first: what reading takes on top of a table is free again when the others come.
    found, truth, images = (
        tables.from_parquet_bytes(path(options, f"{name}.parquet").read_bytes(), schema)
        for name, schema in (("found", tables.ANNOTATIONS), ("truth", tables.ANNOTATIONS), ("images", tables.IMAGES))
    )
    labels = tuple(f"label{i:02d}" for i in range(options.labels))
    sides = Dataset(images, truth, labels), Dataset(images, found, labels)
    taken = []
    for _ in range(calls):
        begin = time.process_time()
        result = evaluate(*sides)
        taken.append(time.process_time() - begin)
    return said(median(taken[1:] or taken), result.to_frame()["value"].fillna(-1.0))


def pycocotools(options: argparse.Namespace) -> dict[str, Any]:
    """Read the JSON files and evaluate as pycocotools does."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    return peer(options, COCO, COCOeval)


def faster(options: argparse.Namespace) -> dict[str, Any]:
    """Read the JSON files and evaluate as faster-coco-eval does."""
    from faster_coco_eval import COCO, COCOeval_faster

    return peer(options, COCO, COCOeval_faster)


def peer(options: argparse.Namespace, coco: Callable[..., Any], evaluation: Callable[..., Any]) -> dict[str, Any]:
    """Evaluate once by the classes that both peers have."""
    with contextlib.redirect_stdout(io.StringIO()):
        truth = coco(str(path(options, "truth.json")))
        found = truth.loadRes(str(path(options, "found.json")))
        begin = time.process_time()
        result = evaluation(truth, found, iouType="bbox")
        result.evaluate()
        result.accumulate()
        result.summarize()
        taken = time.process_time() - begin
    return said(taken, result.stats[:12])


def said(taken: float, numbers: Any) -> dict[str, Any]:
    """What a process tells of itself; its memory is the most it held at any time."""
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"seconds": taken, "numbers": [float(number) for number in numbers], "peak_mb": peak_mb}


def path(options: argparse.Namespace, name: str) -> Path:
    """Name a file of the run."""
    return options.folder / name


ROLES: dict[str, Callable[[argparse.Namespace], dict[str, Any]]] = {
    "draw": draw,
    "first": lambda options: ours(options, calls=1),
    "warm": lambda options: ours(options, calls=6),
    "pycocotools": pycocotools,
    "faster": faster,
}


if __name__ == "__main__":
    main()
