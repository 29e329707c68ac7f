"""Mining and inference: every candidate image scored once, both results written from it."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from ymir_nb.executor.checkpoints import Checkpoint, load_checkpoint
from ymir_nb.executor.consistency import consistencies
from ymir_nb.executor.contract import Task, write_atomically
from ymir_nb.executor.detection import Detections, Finder, find_all
from ymir_nb.executor.device import choose_device, make_repeatable, use_half, workers
from ymir_nb.executor.errors import MODEL, ExecutorFailure
from ymir_nb.executor.features import FOLDER, write_features
from ymir_nb.executor.images import PictureSource
from ymir_nb.executor.monitor import Monitor
from ymir_nb.executor.network import Detector, for_inference
from ymir_nb.executor.planning import ScoringPlan
from ymir_nb.executor.settings import ScoringSettings, comparable

log = logging.getLogger(__name__)


def score(task: Task, plan: ScoringPlan, monitor: Monitor) -> None:
    """Run the model over the candidates and write result.tsv, infer-result.json or both.

    Raises
    ------
    ExecutorFailure
        An image or the model cannot be used.
    """
    settings, names, paths = plan.settings, plan.names, plan.paths
    device = choose_device(task.config)
    make_repeatable()
    checkpoint = load_checkpoint(task.config.get("model_params_path"), "model_params_path")
    finder = _finder(checkpoint, names, settings, device)
    changing = task.run_mining and settings.mining_algorithm == "cald"
    asked = settings.features or (task.run_mining and settings.mining_algorithm == "aldd")
    source = PictureSource(paths, checkpoint.size, cache_mb=0)
    found: list[Detections] = []
    steady: list[float] = []
    with workers(settings.n_threads, device) as pool:
        for each in find_all(replace(finder, look=asked), source, settings.batch_size, pool):
            found.append(each)
            monitor.progress((0.3 if changing else 0.98) * len(found) / len(paths))
        for value in _steadiness(finder, source, settings.batch_size, pool) if changing else ():
            steady.append(value)
            monitor.progress(0.3 + 0.68 * len(steady) / len(paths))
    log.info("scored %d images, %d detections", len(paths), sum(len(each.scores) for each in found))
    if task.run_mining:
        mined = steady or mining_scores(paths, found, settings)
        write_mining(task.mining_result, dict(zip(paths, mined, strict=True)))
    if task.run_infer:
        if settings.features:
            write_features(task.infer_result.parent / FOLDER, paths, found, names)
        write_detections(task.infer_result, paths, found, names)
    monitor.progress(1.0)


def _steadiness(finder: Finder, source: PictureSource, batch_size: int, pool: ThreadPoolExecutor) -> Iterator[float]:
    """Go through the images once more, changed, for CALD."""
    looking = replace(finder, look=True)

    def batch(start: int) -> list[float]:
        places = range(start, min(start + batch_size, len(source)))
        return consistencies(looking, [source.get(place) for place in places])

    for values in pool.map(batch, range(0, len(source), batch_size)):
        yield from values


def _finder(checkpoint: Checkpoint, names: list[str], settings: ScoringSettings, device: torch.device) -> Finder:
    """Build the detector for the classes asked for, in their order."""
    known = {comparable(name): row for row, name in enumerate(checkpoint.names)}
    strange = [name for name in names if comparable(name) not in known]
    if strange:
        raise ExecutorFailure(
            f"config.yaml: class_names has {', '.join(map(repr, strange))}, the model knows only "
            f"{', '.join(map(repr, checkpoint.names))}",
            code=MODEL,
        )
    rows = [known[comparable(name)] for name in names]
    weights = {key: value[rows] if key.startswith("heatmap.") else value for key, value in checkpoint.weights.items()}
    model = Detector(len(names))
    model.load_state_dict(weights)
    fast = for_inference(model.to(device), half=use_half(settings.precision, device))
    return Finder(fast, settings.conf_threshold, settings.nms_iou, settings.max_boxes)


def mining_scores(paths: list[str], found: list[Detections], settings: ScoringSettings) -> list[float]:
    """Say how much there is to learn from each image.

    Notes
    -----
    `entropy`: the binary entropy, in bits, of the scores p of the heatmaps' peaks,
    -p log2 p - (1 - p) log2 (1 - p), averaged over the `mining_top_boxes` most uncertain peaks. It lies in
    [0, 1]; an image without detections still has peaks, so it keeps a finite score, near 0, and its place
    at the end of the list. `random`: uniform in [0, 1) from the seed and the file's name alone. `aldd`: see
    `disagreement.disagreement`. `cald` goes through changed images, see `consistency.consistencies`.
    """
    if settings.mining_algorithm == "random":
        return [_random_score(Path(path).name, settings.seed) for path in paths]
    if settings.mining_algorithm == "aldd":
        return [each.look.disagreement if each.look else 0.0 for each in found]
    return [uncertainty(each.peaks, settings.mining_top_boxes) for each in found]


def uncertainty(peaks: np.ndarray, top: int) -> float:
    """Average the binary entropy (bits) of the `top` most uncertain peaks; missing ones count 0.

    Examples
    --------
    >>> uncertainty(np.array([0.5, 0.5, 0.0]), 2)
    1.0
    """
    p = np.clip(peaks, 1e-12, 1 - 1e-12)
    entropy = -p * np.log2(p) - (1 - p) * np.log2(1 - p)
    return float(np.sort(entropy)[::-1][:top].sum() / top)


def _random_score(name: str, seed: int) -> float:
    digest = hashlib.sha256(f"{seed}/{name}".encode()).digest()
    return int.from_bytes(digest[:6]) / 2**48


def write_mining(path: Path, scores: dict[str, float]) -> None:
    """Write result.tsv: highest score first, ties by path.

    Source: YMIR's executor contract, protocol version 1.1.0, `result.tsv`.
    """
    rounded = {image: round(value, 6) for image, value in scores.items()}
    ranked = sorted(rounded, key=lambda image: (-rounded[image], image))
    write_atomically(path, "".join(f"{image}\t{rounded[image]:.6f}\n" for image in ranked))


def write_detections(path: Path, paths: list[str], found: list[Detections], names: list[str]) -> None:
    """Write infer-result.json, with an entry for every image; `xyxy` adds the box as it was found.

    Source: YMIR's executor contract, protocol version 1.1.0, `infer-result.json`.
    """
    detection = {
        Path(image).name: {
            "boxes": [_entry(names, *row) for row in zip(each.classes, each.scores, each.boxes, strict=True)]
        }
        for image, each in zip(paths, found, strict=True)
    }
    write_atomically(path, json.dumps({"detection": detection}, ensure_ascii=False))


def _entry(names: list[str], class_id: np.integer, value: np.floating, box: np.ndarray) -> dict[str, object]:
    x1, y1, x2, y2 = (round(float(edge), 2) for edge in box)
    x, y = round(x1), round(y1)
    return {
        "class_name": names[int(class_id)],
        "score": round(float(value), 6),
        "box": {"x": x, "y": y, "w": max(1, round(x2) - x), "h": max(1, round(y2) - y)},
        "xyxy": [x1, y1, x2, y2],
    }
