"""What a job costs beside its executor, in one process: ``python benchmarks/jobs.py --images 1000 100000``.

Starting (digest and preflight), writing ``/in`` and reading ``/out`` are timed. Their peer is the bare copying of
the same image files into a folder, which is the least that an exporter without links does. Last, an executor that only
names every image is run by itself, as a whole job in a process, and with ``--image`` (any with python3) in a container.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

import numpy as np
import pandas as pd
from PIL import Image

from ymir_nb.backend import packages
from ymir_nb.backend.contract import Task, preflight, write_in
from ymir_nb.backend.dataset import Dataset
from ymir_nb.backend.detections import read_infer
from ymir_nb.backend.jobs import Jobs, Order
from ymir_nb.backend.objects import VERIFIED_FILE
from ymir_nb.backend.results import read_mining
from ymir_nb.backend.runners import Launch
from ymir_nb.backend.workspace import Workspace

LABELS = ("cat", "dog")
SIDE = 64
WORK = """
import json, os
in_dir, out_dir = os.environ.get("YMIR_IN", "/in"), os.environ.get("YMIR_OUT", "/out")
paths = open(in_dir + "/candidate-index.tsv").read().splitlines()
box = {"class_name": "dog", "score": 0.5, "box": {"x": 1, "y": 2, "w": 29, "h": 18}}
found = {path.rpartition("/")[2]: {"boxes": [box]} for path in paths}
json.dump({"detection": found}, open(out_dir + "/infer-result.json", "w"))
open(out_dir + "/result.tsv", "w").writelines(f"{path}\\t0.5\\n" for path in paths)
"""


def main() -> None:
    """Measure each size and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, nargs="+", default=[1_000, 100_000], help="numbers of images")
    parser.add_argument("--bytes", type=int, default=8_000, help="size of one image file")
    parser.add_argument("--times", type=int, default=3, help="how often each part is run; the median is shown")
    parser.add_argument("--image", default="", help="an image with python3, to run the job in a container too")
    parser.add_argument("--at", type=Path, help="folder to work in, on the disk to measure; by default a temporary one")
    options = parser.parse_args()
    for n_images in options.images:
        with tempfile.TemporaryDirectory(dir=options.at, ignore_cleanup_errors=True) as folder:
            workspace = Workspace.init(Path(folder) / "ws")
            dataset = put_images(workspace, n_images=n_images, n_bytes=options.bytes)
            report(measure(workspace, dataset, Path(folder), options), n_images, options.bytes)


def put_images(workspace: Workspace, *, n_images: int, n_bytes: int) -> Dataset:
    """Put distinct small JPEGs into the cache: one picture, a number in the comment of each, a box on each."""
    sink = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
    Image.fromarray(noise).save(sink, "JPEG", quality=50)
    picture, names = sink.getvalue(), []
    for number in range(n_images):
        comment = number.to_bytes(8, "big").ljust(max(8, n_bytes - len(picture) - 4), b"\0")[:65_000]
        segment = b"\xff\xfe" + (len(comment) + 2).to_bytes(2, "big") + comment
        names.append(workspace.store.objects.put(picture[:2] + segment + picture[2:]))
    workspace.store.objects.put_listing({f"images/{name}.jpg": name for name in names})
    images = pd.DataFrame({"image": names, "file": names, "format": "JPEG", "mode": "RGB", "n_bytes": n_bytes})
    images = images.assign(width=SIDE, height=SIDE, labelled=True)
    boxes = pd.DataFrame({"image": names, "label": "dog", "x1": 1.0, "y1": 2.0, "x2": 30.0, "y2": 20.5})
    return Dataset.of(images, boxes, labels=LABELS, media=workspace.media)


def measure(workspace: Workspace, dataset: Dataset, folder: Path, options: argparse.Namespace) -> dict[str, float]:
    """Give the median seconds of each part."""
    taken: dict[str, list[float]] = {}

    @contextmanager
    def timed(part: str) -> Iterator[None]:
        begin = time.perf_counter()
        yield
        taken.setdefault(part, []).append(time.perf_counter() - begin)

    model = package(folder)
    split = Dataset.of(dataset.images[:1], dataset.annotations[:0], labels=LABELS, media=dataset.media)
    rest = dataset.images[1:]
    train = Dataset.of(
        rest, dataset.annotations[dataset.annotations["image"].isin(rest["image"])], labels=LABELS, media=dataset.media
    )
    scoring = Task("score", LABELS, mining=True, infer=True, candidates=dataset, model=model)
    trainings = {
        form: Task("train", LABELS, {"export_format": f"{form}:raw"}, training=True, train=train, val=split)
        for form in ("ark", "voc", "coco")
    }
    launches = {"process": Launch(command=(sys.executable, "-c", WORK))}
    if options.image:
        command = ("python3", "-c", WORK)
        launches["container"] = Launch(runner="docker", image=options.image, command=command)
    for run in range(options.times):
        with timed("copy the images (peer)"):
            copy(dataset, folder / f"copy-{run}")
        with timed("start: digest and preflight"):
            scoring.digest()
            preflight(scoring)
        with timed("export to infer and mine"):
            write_in(folder / f"score-{run}", scoring)
        for form, task in trainings.items():
            with timed(f"export to train, {form}"):
                write_in(folder / f"{form}-{run}", task)
        write_out(folder / f"score-{run}" / "out", dataset)
        with timed("ingest: boxes"):
            read_infer(folder / f"score-{run}" / "out", dataset.images, LABELS)
        with timed("ingest: mining scores"):
            read_mining(folder / f"score-{run}" / "out", dataset.images)
        bare = {"YMIR_IN": str(folder / f"score-{run}" / "in"), "YMIR_OUT": str(folder / f"score-{run}" / "out")}
        with timed("the executor by itself"):
            subprocess.run([sys.executable, "-c", WORK], env=os.environ | bare, check=True)
        for name, launch in launches.items():
            with timed(f"the whole job, in a {name}"):
                Jobs(folder / f"jobs-{run}").run(Order(name, scoring, launch, ingest_of(dataset)))
    (workspace.store.objects.directory.parent / VERIFIED_FILE).unlink()
    with timed("export to infer, all hashed again"):
        write_in(folder / "hashed", scoring)
    return {part: median(seconds) for part, seconds in taken.items()}


def ingest_of(dataset: Dataset) -> Callable[[Path], str]:
    """Read what an executor left; nothing is saved."""

    def ingest(out: Path) -> str:
        read_mining(out, dataset.images)
        return f"{len(read_infer(out, dataset.images, LABELS).annotations)} boxes"

    return ingest


def copy(dataset: Dataset, folder: Path) -> None:
    """Copy the images into folders, as an exporter does that has no links."""
    for name in {image[-2:] for image in dataset.images["image"]}:
        (folder / name).mkdir(parents=True)
    for image in dataset.images["image"]:
        shutil.copyfile(dataset.media.path(image), folder / image[-2:] / f"{image}.jpg")


def package(folder: Path) -> bytes:
    """Make a model of one file."""
    weights = folder / "w.bin"
    weights.write_bytes(b"weights")
    stage = packages.Stage("best", ("w.bin",), 0, {"mAP": 0.5})
    info = packages.PackageInfo({"best": stage}, "best", {"class_names": list(LABELS)})
    return packages.pack({"best/w.bin": weights}, info)


def write_out(out: Path, dataset: Dataset) -> None:
    """Write what an executor would: a box and a score for every image."""
    box = {"class_name": "dog", "score": 0.5, "box": {"x": 1, "y": 2, "w": 29, "h": 18}}
    names = dataset.images["image"]
    (out / "infer-result.json").write_text(json.dumps({"detection": {f"{n}.jpg": {"boxes": [box]} for n in names}}))
    scores = (int(hashlib.sha256(name.encode()).hexdigest()[:8], 16) / 2**32 for name in names)
    (out / "result.tsv").write_text(
        "".join(f"/in/assets/{n[-2:]}/{n}.jpg\t{s:.6f}\n" for n, s in zip(names, scores, strict=True))
    )


def report(seconds: dict[str, float], n_images: int, n_bytes: int) -> None:
    """Print the table."""
    peer = seconds["copy the images (peer)"]
    print(f"{n_images:,} images of {n_bytes:,} bytes")
    print(f"{'':36}{'seconds':>10}{'us/image':>10}{'of copying':>12}")
    for part, taken in seconds.items():
        print(f"{part:36}{taken:10.3f}{taken / n_images * 1e6:10.1f}{taken / peer:11.2f}x")


if __name__ == "__main__":
    main()
