"""The parameters of a run: a template's defaults, overlaid by config.yaml, checked."""

from __future__ import annotations

import os
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from ymir_nb.executor.contract import read_mapping
from ymir_nb.executor.errors import CONFIG, OBJECT_TYPE, ExecutorFailure

TEMPLATES_DIR = Path(__file__).parent / "img-man"
DETECTION = 2


@dataclass(frozen=True)
class TrainingSettings:
    """Parameters of a training; `img-man/training-template.yaml` explains each and holds its default."""

    seed: int
    max_steps: int
    batch_size: int
    input_width: int
    input_height: int
    learning_rate: float
    weight_decay: float
    augmentation: float
    flip: str
    n_checkpoints: int
    conf_threshold: float
    nms_iou: float
    max_boxes: int
    precision: str
    n_threads: int
    cache_mb: int


@dataclass(frozen=True)
class ScoringSettings:
    """Parameters of mining and inference; the templates explain each and hold its default."""

    seed: int
    batch_size: int
    conf_threshold: float
    nms_iou: float
    max_boxes: int
    precision: str
    n_threads: int
    features: bool
    mining_algorithm: str
    mining_top_boxes: int


RANGES: dict[str, tuple[float, float]] = {
    "max_steps": (1, 10_000_000),
    "batch_size": (1, 1024),
    "input_width": (32, 4096),
    "input_height": (32, 4096),
    "learning_rate": (1e-8, 1.0),
    "weight_decay": (0.0, 1.0),
    "augmentation": (0.0, 1.0),
    "n_checkpoints": (1, 11),
    "conf_threshold": (0.0, 1.0),
    "nms_iou": (0.0, 1.0),
    "max_boxes": (1, 1000),
    "n_threads": (0, 1024),
    "cache_mb": (0, 1_000_000),
    "mining_top_boxes": (1, 1000),
}
CHOICES = {
    "flip": ("none", "horizontal", "both"),
    "precision": ("auto", "float32", "bfloat16"),
    "mining_algorithm": ("entropy", "random", "aldd", "cald"),
}


def training_settings(config: dict[str, Any]) -> TrainingSettings:
    """Read the parameters of a training.

    Raises
    ------
    ExecutorFailure
        A value is of the wrong type or outside its range, or the task is not detection.
    """
    settings = TrainingSettings(**_values(TrainingSettings, config, ["training-template.yaml"]))
    for side in ("input_width", "input_height"):
        if getattr(settings, side) % 4:
            raise ExecutorFailure(
                f"config.yaml: {side} is {getattr(settings, side)}, it must be a multiple of 4", code=CONFIG
            )
    return settings


def scoring_settings(config: dict[str, Any]) -> ScoringSettings:
    """Read the parameters of mining and inference, under the same rules as `training_settings`."""
    return ScoringSettings(**_values(ScoringSettings, config, ["infer-template.yaml", "mining-template.yaml"]))


def class_names(config: dict[str, Any]) -> list[str]:
    """Give the classes in the order of their ids.

    Raises
    ------
    ExecutorFailure
        There is no class, or one stands there twice.
    """
    names = config.get("class_names")
    if not isinstance(names, list) or not names or not all(isinstance(name, str) and name for name in names):
        raise ExecutorFailure(
            f"config.yaml: class_names must be a list of names, e.g. [cat, dog]; it is {names!r}", code=CONFIG
        )
    if len({comparable(name) for name in names}) != len(names):
        raise ExecutorFailure(f"config.yaml: class_names holds a name twice: {names!r}", code=CONFIG)
    return names


def comparable(name: str) -> str:
    """Form of a class name under which two spellings are the same class."""
    return name.strip().casefold()


def usable_threads(n_threads: int) -> int:
    """Resolve `n_threads`: 0 means every core that this process may use, at most 8 of them."""
    return n_threads or min(8, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1)


def _values(kind: type, config: dict[str, Any], templates: list[str]) -> dict[str, Any]:
    if config.get("object_type", DETECTION) != DETECTION:
        raise ExecutorFailure(
            f"config.yaml: object_type is {config['object_type']!r}, this executor does 2 (detection) only",
            code=OBJECT_TYPE,
        )
    defaults: dict[str, Any] = {}
    for template in templates:
        defaults |= read_mapping(TEMPLATES_DIR / template)
    return {field.name: _checked(field.name, config, defaults) for field in fields(kind)}


def _checked(name: str, config: dict[str, Any], defaults: dict[str, Any]) -> Any:
    default = defaults[name]
    given = config.get(name, default)
    try:
        if isinstance(given, bool) != isinstance(default, bool) or (
            isinstance(default, int) and float(given) != int(float(given))
        ):
            raise ValueError(given)
        value = type(default)(float(given)) if isinstance(default, int) else type(default)(given)
    except (TypeError, ValueError, OverflowError) as error:
        kind = {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}[type(default)]
        raise ExecutorFailure(f"config.yaml: {name} is {given!r}, it must be {kind}", code=CONFIG) from error
    low, high = RANGES.get(name, (float("-inf"), float("inf")))
    if not isinstance(value, str) and not low <= value <= high:
        raise ExecutorFailure(f"config.yaml: {name} is {value}, it must lie in [{low}, {high}]", code=CONFIG)
    if name in CHOICES and value not in CHOICES[name]:
        raise ExecutorFailure(
            f"config.yaml: {name} is {value!r}, it must be one of {', '.join(CHOICES[name])}", code=CONFIG
        )
    return value
