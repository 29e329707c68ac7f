"""A dataset of drawn pictures for the widgets' tests: real JPEG bytes, made on demand."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image, ImageDraw

from ymir_nb.backend.dataset import Dataset
from ymir_nb.backend.errors import ObjectMissing

WIDTH, HEIGHT = 640, 480
LABELS = ("helmet", "head", "cone")
COLOURS = {"helmet": "#f0c020", "head": "#d8a080", "cone": "#e06010"}


class DrawnMedia:
    """Media that draw an image the first time it is asked for."""

    def __init__(self, boxes: dict[str, list[tuple[str, float, float, float, float]]]) -> None:
        self.boxes = boxes
        self.asked: list[str] = []
        self.lost: set[str] = set()

    def path(self, image: str) -> Path:
        raise ObjectMissing(f"image {image}: drawn pictures have no file")

    def read(self, image: str) -> bytes:
        if image in self.lost:
            raise ObjectMissing(f"object {image} is not in the cache. Get it: dvc pull")
        rng = np.random.default_rng(int(image[:8], 16))
        low, high = sorted(rng.integers(60, 200, 2))
        ground = np.linspace(low, high + 20, HEIGHT)[:, None, None] * rng.uniform(0.6, 1.0, 3)
        grain = rng.normal(0, 12, (HEIGHT, WIDTH, 1))
        picture = Image.fromarray(np.clip(ground + grain, 0, 255).astype(np.uint8))
        pen = ImageDraw.Draw(picture)
        for label, x1, y1, x2, y2 in self.boxes.get(image, []):
            pen.ellipse((x1, y1, x2, y2), fill=COLOURS.get(label, "#5070a0"))
        out = io.BytesIO()
        picture.save(out, "JPEG", quality=90)
        return out.getvalue()

    def thumbnail(self, image: str, *, side_px: int) -> bytes:
        self.asked.append(image)
        with Image.open(io.BytesIO(self.read(image))) as picture:
            picture.thumbnail((side_px, side_px))
            out = io.BytesIO()
            picture.save(out, "JPEG", quality=82)
        return out.getvalue()


def drawn_dataset(n: int = 60, *, labels: tuple[str, ...] = LABELS, file: str = "site/{k:04d}.jpg") -> Dataset:
    """Make a dataset: every 10th image is a negative, every 7th not labelled yet."""
    rng = np.random.default_rng(7)
    images, annotations, boxes = [], [], {}
    for k in range(n):
        image = hashlib.md5(f"drawn {k}".encode()).hexdigest()
        labelled = k % 7 != 6
        images.append(
            {
                "image": image, "file": file.format(k=k), "format": "JPEG", "mode": "RGB", "width": WIDTH,
                "height": HEIGHT, "n_bytes": 1000, "labelled": labelled,
            }
        )  # fmt: skip
        boxes[image] = []
        for _ in range(0 if k % 10 == 9 else rng.integers(1, 5)):
            x, y, side = rng.uniform(0, 500), rng.uniform(0, 340), rng.uniform(40, 140)
            boxes[image].append((labels[rng.integers(len(labels))], x, y, x + side, y + side))
        if labelled:
            annotations += [
                {"image": image, "label": label, "x1": x1, "y1": y1, "x2": x2, "y2": y2}
                for label, x1, y1, x2, y2 in boxes[image]
            ]
    return Dataset.of(images, annotations, labels=labels, media=DrawnMedia(boxes), ref="train@v3")


def predictions_of(dataset: Dataset) -> Dataset:
    """Make predictions: what was drawn, moved a little, with scores from 0.05 to 0.95."""
    rng = np.random.default_rng(8)
    rows = []
    for image, boxes in dataset.media.boxes.items():
        for label, *corners in boxes:
            x1, y1, x2, y2 = (value + rng.normal(0, 5) for value in corners)
            score = rng.uniform(0.05, 0.95)
            rows.append({"image": image, "label": label, "x1": x1, "y1": y1, "x2": x2, "y2": y2, "score": score})
    return Dataset.of(dataset.images, rows, labels=dataset.labels)


def ranked(dataset: Dataset, n: int = 30, *, why: str = "entropy 1.2 of 3 boxes") -> pd.DataFrame:
    """Make a leaderboard of the first images."""
    images = dataset.images["image"].iloc[:n]
    return pd.DataFrame(
        {"rank": range(1, n + 1), "image": list(images), "score": [1 - k / n for k in range(n)], "why": why}
    )


def rounds(n: int = 4, *, dataset: str = "train@v{k}") -> pd.DataFrame:
    """Make the numbers of some rounds."""
    return pd.DataFrame(
        {
            "round": range(n),
            "n_images": [20 * (k + 1) for k in range(n)],
            "n_boxes": [67 * (k + 1) + 5 * k * k for k in range(n)],
            "ap50": [0.42 + 0.45 * k / n for k in range(n)],
            "ap": [0.2 + 0.3 * k / n for k in range(n)],
            "seconds": [31.4 + 9 * k for k in range(n)],
            "dataset": [dataset.format(k=k + 1) for k in range(n)],
        }
    )


def label_rounds(n: int = 4) -> pd.DataFrame:
    """Make the AP50 of each label in those rounds."""
    return pd.DataFrame(
        [
            {"round": k, "label": label, "ap50": 0.3 + 0.4 * k / n + 0.08 * place}
            for k in range(n)
            for place, label in enumerate(LABELS)
        ]
    )
