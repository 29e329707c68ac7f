"""Box evaluation beside pycocotools, in one process: ``python benchmarks/evaluation.py --images 500``.

Both start from loaded tables: pycocotools from its own lists of dicts, ymir-nb from a `Dataset`.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import io
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from ymir_nb.backend.boxes import to_xywh
from ymir_nb.backend.dataset import Dataset
from ymir_nb.backend.metrics import Evaluation, evaluate

CORNERS = ["x1", "y1", "x2", "y2"]


def draw(*, n_images: int, n_labels: int, seed: int) -> tuple[Dataset, Dataset]:
    """Draw truth (7.2 boxes an image) and predictions (100 an image, a third of them near a true box)."""
    rng = np.random.default_rng(seed)
    names = sorted(hashlib.md5(str(i).encode(), usedforsecurity=False).hexdigest() for i in range(n_images))
    labels = [f"label{i:02d}" for i in range(n_labels)]
    n_truth, n_found = round(7.2 * n_images), 100 * n_images
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
    return (
        Dataset.of(images.assign(labelled=True), truth, labels=labels),
        Dataset.of(images, found, labels=labels),
    )


def to_coco(truth: Dataset, predictions: Dataset) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Write both as the dicts that pycocotools reads."""
    image_id = {image: i for i, image in enumerate(truth.images["image"], start=1)}
    label_id = {label: i for i, label in enumerate(truth.labels, start=1)}

    def rows(frame: pd.DataFrame) -> list[dict[str, Any]]:
        boxes = to_xywh(frame[CORNERS].to_numpy()).tolist()
        places = zip(frame["image"], frame["label"], frame["score"], boxes, strict=True)
        return [
            {"image_id": image_id[image], "category_id": label_id[label], "bbox": box, "score": score}
            for image, label, score, box in places
        ]

    objects = [
        {**row, "id": i, "iscrowd": 0, "area": row["bbox"][2] * row["bbox"][3]}
        for i, row in enumerate(rows(truth.annotations), start=1)
    ]
    listing = {
        "info": {},
        "images": [{"id": i} for i in image_id.values()],
        "categories": [{"id": i, "name": label} for label, i in label_id.items()],
        "annotations": objects,
    }
    return listing, rows(predictions.annotations)


def peer(listing: dict[str, Any], found: list[dict[str, Any]]) -> Callable[[], list[float]]:
    """Load the tables of pycocotools, and give what evaluates them."""
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = listing
        coco.createIndex()
        results = coco.loadRes(found)

    def run() -> list[float]:
        with contextlib.redirect_stdout(io.StringIO()):
            evaluation = COCOeval(coco, results, "bbox")
            evaluation.evaluate()
            evaluation.accumulate()
            evaluation.summarize()
        return [float(value) for value in evaluation.stats]

    return run


def seconds(run: Callable[[], Any], *, times: int) -> tuple[list[float], Any]:
    """Run several times; give the seconds of each and the last result."""
    taken = []
    for _ in range(times):
        begin = time.perf_counter()
        result = run()
        taken.append(time.perf_counter() - begin)
    return taken, result


def main() -> None:
    """Compare speed and numbers, and print both."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=500, help="images; 7.2 objects and 100 detections on each")
    parser.add_argument("--labels", type=int, default=80, help="labels")
    parser.add_argument("--seed", type=int, default=0, help="seed of the drawn boxes")
    options = parser.parse_args()
    truth, predictions = draw(n_images=options.images, n_labels=options.labels, seed=options.seed)
    print(
        f"{options.images} images, {options.labels} labels, {truth.n_boxes} objects, {predictions.n_boxes} detections"
    )
    ours, evaluation = seconds(lambda: evaluate(truth, predictions), times=5)
    theirs, stats = seconds(peer(*to_coco(truth, predictions)), times=1)
    report(evaluation, ours, theirs[0], stats)


def report(evaluation: Evaluation, ours: list[float], theirs: float, stats: list[float]) -> None:
    """Print the table."""
    values = evaluation.to_frame()["value"].fillna(-1.0)
    warm = float(np.median(ours[1:]))
    print(f"{'':24}{'seconds':>10}{'ratio':>8}")
    print(f"{'pycocotools':24}{theirs:10.3f}{1:7.0f}x")
    print(f"{'ymir-nb, first call':24}{ours[0]:10.3f}{theirs / ours[0]:7.0f}x")
    print(f"{'ymir-nb, median of 4':24}{warm:10.3f}{theirs / warm:7.0f}x")
    print(f"largest difference of the twelve numbers: {np.abs(values - stats).max():.1e}")


if __name__ == "__main__":
    main()
