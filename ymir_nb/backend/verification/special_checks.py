"""Checks that need a run of their own: done again, gone on with, turned round, spoilt, stopped."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pandas as pd

from ymir_nb.backend.boxes import iou
from ymir_nb.backend.detections import RESULT_FILE, read_infer
from ymir_nb.backend.errors import ProtocolViolated
from ymir_nb.backend.results import read_training
from ymir_nb.backend.runners.base import CANCELLED
from ymir_nb.backend.untrusted import read_head
from ymir_nb.backend.verification.every_run import NAMES_ITS_FAILURE
from ymir_nb.backend.verification.findings import Check, Finding, judge, ok, skipped
from ymir_nb.backend.verification.runs import Run
from ymir_nb.backend.verification.scoring_checks import MINED

LONGEST_STOP_SECONDS = 10.0
KILLED_CODES = (-9, 137)
IOU, SURE, FEWEST = 0.3, 0.8, 3
"""Overlap that makes a box the truth's; share of boxes of one label that is no chance; boxes of a class it takes."""
_CORNERS = ["x1", "y1", "x2", "y2"]
_COMPARED_BYTES = 1 << 30


def tolerates_unknown_keys(run: Run) -> Finding:
    """A key that it does not know is passed over."""
    return ok() if run.is_well else Finding("failed", run.why())


def same_training(run: Run) -> Finding:
    """The same inputs and seed give the same metrics and weights."""
    first, second = (_trained(r) for r in (run.former, run))
    if first is None or second is None:
        return skipped("one of the two left no result")
    if first[0] != second[0]:
        return Finding("warning", f"the metrics were {first[0]} and {second[0]}")
    other = sorted(name for name in first[1].keys() | second[1].keys() if first[1].get(name) != second[1].get(name))
    return judge([f"{name} has other bytes, the metrics are the same" for name in other], result="warning")


def same_scoring(run: Run) -> Finding:
    """The same inputs and seed give the same result."""
    if run.former is None or not run.is_well:
        return skipped("it did not end well")
    names = [name for name, asked in ((MINED, run.task.mining), (RESULT_FILE, run.task.infer)) if asked]
    other = [n for n in names if _bytes(run, n) != _bytes(run.former, n)]
    return judge([f"{name} was another the second time" for name in other], result="warning")


def goes_on(run: Run) -> Finding:
    """It begins with the weights of pretrained_model_params, and leaves a model again."""
    if not run.is_well:
        return Finding("failed", run.why())
    try:
        read_training(run.out_dir, object_type=run.object_type)
    except ProtocolViolated as error:
        return judge(error.faults)
    return ok()


def refuses(run: Run) -> Finding:
    """It exits with another status than 0, by itself."""
    if run.is_well:
        return Finding("failed", "it exited with 0")
    return judge([f"it did not end by itself: {run.state.reason}"] if run.state.reason else [])


def ends_when_told(run: Run) -> Finding:
    """SIGTERM ends it, and all that it started."""
    if run.stop_seconds < 0 or run.state.reason != CANCELLED:
        return skipped("it was done before it could be told to stop")
    if run.stop_seconds > LONGEST_STOP_SECONDS:
        return Finding("failed", f"it took {run.stop_seconds:.0f} s")
    if run.state.code in KILLED_CODES:
        return Finding("warning", f"it passed SIGTERM over, and was killed after {run.stop_seconds:.1f} s")
    return ok(f"{run.stop_seconds:.1f} s")


def class_order(run: Run, truth: pd.DataFrame) -> Finding:
    """The n-th of class_names is class n: trained with the names turned round, it names things the same.

    A model that has learned hardly anything proves nothing. Only one that tells the classes apart,
    and calls them by each other's names, is wrong.
    """
    known = []
    for each in (run.former, run):
        labels = _matched(each, truth) if each is not None and each.is_well else None
        if labels is None:
            return skipped("there are no predictions to compare")
        right, exchanged = _agreement(*labels, names=run.task.class_names)
        if right < SURE <= exchanged and each is not None:
            return Finding("failed", f"with class_names {list(each.task.class_names)} the classes change their names")
        known.append(right >= SURE)
    return ok() if all(known) else skipped("it learned too little to tell the classes apart: train it longer (--set)")


def _trained(run: Run | None) -> tuple[dict[str, dict[str, float]], dict[str, bytes]] | None:
    """Give the metrics of each stage and the bytes of each file; None where there is no result."""
    if run is None or not run.is_well:
        return None
    try:
        result = read_training(run.out_dir, object_type=run.object_type)
    except ProtocolViolated:
        return None
    files = {name: path.read_bytes() for name, path in result.files.items()}
    return {name: dict(stage.metrics) for name, stage in result.stages.items()}, files


def _bytes(run: Run, name: str) -> bytes:
    return read_head(run.out_dir / name, limit=_COMPARED_BYTES)


def _matched(run: Run, truth: pd.DataFrame) -> tuple[list[str], list[str]] | None:
    """Give the labels of predicted boxes and of the truth's they lie on, the surest box of each object alone."""
    images = run.task.datasets["candidates"].images
    try:
        found = read_infer(run.out_dir, images, run.task.class_names, strays="report").annotations
    except ProtocolViolated:
        return None
    predicted, real = [], []
    for image, objects in truth.groupby("image"):
        boxes = found[found["image"] == image]
        overlaps = iou(objects[_CORNERS].to_numpy(), boxes[_CORNERS].to_numpy()) >= IOU
        for row, label in enumerate(objects["label"]):
            scores = np.where(overlaps[row], boxes["score"].to_numpy(), -1.0)
            if len(scores) and scores.max() >= 0:
                predicted.append(str(boxes["label"].iloc[int(scores.argmax())]))
                real.append(str(label))
    return predicted, real


def _agreement(predicted: list[str], real: list[str], *, names: tuple[str, ...]) -> tuple[float, float]:
    """Give the share of boxes with the right label, and the best share with the names exchanged.

    Each class is as frequent as any other, so that a model that calls everything by one name stays low.
    """
    if min(real.count(name) for name in names) < FEWEST:
        return 0.0, 0.0
    shares = []
    for other in permutations(names):
        called = dict(zip(names, other, strict=True))
        hits = sum(called.get(label) == label_of for label, label_of in zip(predicted, real, strict=True))
        shares.append((called == dict(zip(names, names, strict=True)), hits / len(real)))
    return max(s for same, s in shares if same), max((s for same, s in shares if not same), default=0.0)


_CONFIG = "executor contract, /in/config.yaml"

AGAIN_TRAINING: tuple[Check[Run], ...] = (
    Check("unknown keys", tolerates_unknown_keys, _CONFIG, "Pass over keys that you do not know."),
    Check("same result twice", same_training, "ymir-nb's rounds", "Seed Python, NumPy and the framework."),
)
AGAIN_SCORING: tuple[Check[Run], ...] = (
    Check("unknown keys", tolerates_unknown_keys, _CONFIG, "Pass over keys that you do not know."),
    Check("same result twice", same_scoring, "ymir-nb's rounds", "Seed all randomness; switch dropout off."),
)
GOES_ON: tuple[Check[Run], ...] = (
    Check("pretrained model", goes_on, _CONFIG, "Load the files of pretrained_model_params where the key is there."),
)
STOPPED: tuple[Check[Run], ...] = (
    Check(
        "ends when told",
        ends_when_told,
        "ymir-nb's cancel; YMIR removes the container",
        "Start the program with exec, so that SIGTERM reaches it, and do not block the signal.",
    ),
)
BROKEN_CONFIG: tuple[Check[Run], ...] = (
    Check("refuses a broken config", refuses, "executor contract, exit status", "Let errors end the program: set -e."),
    NAMES_ITS_FAILURE,
)
NO_MODEL: tuple[Check[Run], ...] = (
    Check("refuses a missing model", refuses, "executor contract, exit status", "Open model_params_path, or fail."),
    NAMES_ITS_FAILURE,
)
