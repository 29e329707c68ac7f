"""Selecting from a million images: seconds and peak memory of each strategy, each in a process of its own.

    python benchmarks/selection.py [--images 1000000] [--boxes 5000000] [--k 1000]

The table of predictions is generated: 32-digit names, ten labels of falling frequency, scores of a detector (mostly
faint), and vectors of 64 numbers for every image and 16,000 labelled ones where a strategy looks at them. What is
measured is the strategy and `select`, from frames in memory to the leaderboard; the memory is what the process held at
its most beyond the frames that it was given.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time

import numpy as np
import pandas as pd

from ymir_nb.backend.strategies import NEEDS, STRATEGIES, Evidence, Features, select

MEASURED = ("hybrid", "random", "entropy", "entropy_mean", "margin", "class_balance", "missed_objects", "kcenter")
LABELS = [f"label-{i}" for i in range(10)]
N_LABELLED = 2_000
DIMENSIONS = 64


def names(n: int, *, start: int = 0) -> np.ndarray:
    """Name images by 32 digits, sorted."""
    return np.array([f"{i:032x}" for i in range(start, start + n)], dtype=object)


def generate(n_images: int, n_boxes: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Make images and predictions."""
    rng = np.random.default_rng(0)
    images = names(n_images)
    place = np.sort(rng.integers(0, n_images, n_boxes))
    share = 1.0 / np.arange(1, len(LABELS) + 1) ** 2
    corner = rng.random((n_boxes, 2)) * 500
    side = 10 + rng.random((n_boxes, 2)) * 90
    table = {
        "image": pd.array(images[place], dtype="str"),
        "label": pd.array(
            np.array(LABELS, dtype=object)[rng.choice(len(LABELS), n_boxes, p=share / share.sum())], dtype="str"
        ),
        "score": rng.beta(0.6, 1.6, n_boxes),
        **dict(zip(("x1", "y1", "x2", "y2"), np.hstack([corner, corner + side]).T, strict=True)),
    }
    return pd.DataFrame({"image": pd.array(images, dtype="str")}), pd.DataFrame(table)


def seen(images: np.ndarray, seed: int) -> Features:
    """Make a vector for each image, as an executor's features."""
    vectors = np.random.default_rng(seed).standard_normal((len(images), DIMENSIONS), dtype=np.float32)
    rows = pd.DataFrame({"image": pd.array(images, dtype="str"), "label": "", "score": 1.0})
    return Features(rows, vectors)


def measure(name: str, n_images: int, n_boxes: int, k: int) -> None:
    """Time one strategy, and print what it took as JSON."""
    images, predictions = generate(n_images, n_boxes)
    looks = "features" in NEEDS.get(name, ())
    evidence = Evidence(
        images,
        predictions,
        labelled_counts={label: 4_000 // (i + 1) ** 2 for i, label in enumerate(LABELS)},
        features=seen(images["image"].to_numpy(dtype=object), 1) if looks else None,
        labelled_features=seen(names(N_LABELLED, start=n_images), 2) if looks else None,
        k=k,
    )
    held = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started, worked = time.perf_counter(), time.process_time()
    board = select(STRATEGIES[name](evidence), k)
    seconds, cpu = time.perf_counter() - started, time.process_time() - worked
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(
        json.dumps(
            {"seconds": seconds, "cpu": cpu, "more_mb": (peak - held) / 1024, "peak_mb": peak / 1024, "n": len(board)}
        )
    )


def main() -> None:
    """Measure every strategy in a child process, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=1_000_000)
    parser.add_argument("--boxes", type=int, default=5_000_000)
    parser.add_argument("--k", type=int, default=1_000)
    parser.add_argument("--strategies", default=",".join(MEASURED))
    parser.add_argument("--one", default="", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.one:
        measure(asked.one, asked.images, asked.boxes, asked.k)
        return
    print(f"{asked.k:,} of {asked.images:,} images with {asked.boxes:,} boxes")
    print(f"{'strategy':<16}{'seconds':>10}{'CPU s':>10}{'MB more':>10}{'MB peak':>10}")
    for name in asked.strategies.split(","):
        size = ["--images", str(asked.images), "--boxes", str(asked.boxes), "--k", str(asked.k)]
        done = subprocess.run(
            [sys.executable, __file__, *size, "--one", name], check=True, capture_output=True, text=True
        )
        told = json.loads(done.stdout)
        print(
            f"{name:<16}{told['seconds']:>10.1f}{told['cpu']:>10.1f}{told['more_mb']:>10,.0f}{told['peak_mb']:>10,.0f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
