"""What a model package says about itself: ``ymir-info.yaml``, its stages, metrics and classes.

Source: YMIR 2.5.0, model packages 1.1.0 and 2.0.0.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

from ymir_nb.backend.errors import ImportRefused
from ymir_nb.backend.untrusted import is_safe_name, show, to_number

INFO_FILE = "ymir-info.yaml"
PACKAGE_VERSION = "2.0.0"
LEGACY_STAGE = "default_best_stage"
METRICS = ("mAP", "mAR", "mIoU", "mAcc", "maskAP", "boxAP")
COUNTS = ("tp", "fp", "fn")
MOST_STAGES = 11
MAIN_METRIC = {2: "mAP", 3: "mIoU", 4: "maskAP", 50: "mAP"}


@dataclass(frozen=True)
class Stage:
    """One set of weights that a training left behind.

    Parameters
    ----------
    name : str
        An identifier, such as ``epoch10``.
    files : tuple of str
        Names relative to the stage's folder.
    timestamp : int
        Seconds since 1970 in an executor's result, the stage's rank in a package.
    metrics : mapping of str to float
        Of `METRICS`, in [0, 1], and `COUNTS`.
    """

    name: str
    files: tuple[str, ...]
    timestamp: int = 0
    metrics: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class PackageInfo:
    """What ``ymir-info.yaml`` says about a model.

    Parameters
    ----------
    stages : mapping of str to Stage
        In the order of the file.
    best_stage_name : str
        The stage to use unless another is asked for.
    executor_config : mapping
        The whole config of the training, ``class_names`` among it.
    task_context : mapping
        Where it comes from: producer, executor, sources.
    object_type : int
        2 detection, 3 semantic and 4 instance segmentation, 50 multimodal.
    attachments : mapping of str to tuple of str
        Further files by section.
    evaluate_config : mapping
        ``iou_thr`` and ``conf_thr`` that the executor recommends.
    """

    stages: Mapping[str, Stage]
    best_stage_name: str
    executor_config: Mapping[str, Any] = field(default_factory=dict)
    task_context: Mapping[str, Any] = field(default_factory=dict)
    object_type: int = 2
    attachments: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    evaluate_config: Mapping[str, float] = field(default_factory=dict)

    @property
    def class_names(self) -> tuple[str, ...]:
        """Classes the model knows, in the order of their ids."""
        return tuple(str(name) for name in self.executor_config.get("class_names") or ())

    @property
    def metric(self) -> float:
        """Main metric of the best stage: mAP, mIoU or maskAP by object type."""
        return float(self.stages[self.best_stage_name].metrics.get(MAIN_METRIC.get(self.object_type, "mAP"), 0.0))

    def to_yaml(self) -> str:
        """Write the text of ymir-info.yaml, package version 2.0.0."""
        stages = {
            stage.name: {key: stage.metrics.get(key, 0) for key in (*METRICS, *COUNTS)}
            | {"files": list(stage.files), "stage_name": stage.name, "timestamp": stage.timestamp}
            for stage in self.stages.values()
        }
        document = {
            "attachments": {section: list(files) for section, files in self.attachments.items()},
            "best_stage_name": self.best_stage_name,
            "evaluate_config": dict(self.evaluate_config),
            "executor_config": dict(self.executor_config),
            "model_hash": "",
            "object_type": self.object_type,
            "package_version": PACKAGE_VERSION,
            "stage_name": "",
            "stages": stages,
            "task_context": {"producer": "ymir", "type": 1, "mAP": self.metric} | dict(self.task_context),
        }
        text: str = yaml.safe_dump(document, allow_unicode=True)
        return text


def parse_info(text: str) -> PackageInfo:
    """Read the text of ymir-info.yaml, package version 2.0.0 or 1.1.0 (also when none is given).

    Raises
    ------
    ImportRefused
        It is no safe YAML mapping, or lacks stages, files or a best stage.
    """
    try:
        document = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ImportRefused(f"{INFO_FILE} of the model package is no plain YAML: {error}") from error
    if not isinstance(document, dict):
        raise ImportRefused(f"{INFO_FILE} of the model package is no mapping. Is it a YMIR model package?")
    context = _mapping(document, "task_context")
    stages = _stages_of(document, context)
    best = document.get("best_stage_name") or (LEGACY_STAGE if LEGACY_STAGE in stages else None)
    if not isinstance(best, str) or best not in stages:
        raise ImportRefused(
            f"{INFO_FILE}: best_stage_name {show(best)} is not among the stages {show(sorted(stages))}."
        )
    object_type = document.get("object_type") or 2
    if not isinstance(object_type, int) or object_type not in MAIN_METRIC:
        raise ImportRefused(f"{INFO_FILE}: object_type {show(object_type)} is none of {sorted(MAIN_METRIC)}.")
    config = _mapping(document, "executor_config")
    _check_class_names(config.get("class_names"))
    return PackageInfo(
        stages=stages,
        best_stage_name=best,
        executor_config=config,
        task_context=context,
        object_type=object_type,
        attachments=_attachments_of(document),
        evaluate_config=_mapping(document, "evaluate_config"),
    )


def _stages_of(document: Mapping[str, Any], context: Mapping[str, Any]) -> dict[str, Stage]:
    """Read the stages of either version."""
    if "stages" not in document and "models" in document:
        files = _names(document["models"], "models")
        return {LEGACY_STAGE: Stage(LEGACY_STAGE, files, metrics={"mAP": _metric(context.get("mAP"), "mAP")})}
    stages = {}
    for name, entry in _mapping(document, "stages").items():
        if not is_stage_name(name) or not isinstance(entry, dict):
            raise ImportRefused(f"{INFO_FILE}: stage {name!r} must be an identifier with a mapping.")
        stages[name] = Stage(
            name,
            _names(entry.get("files"), f"stages.{name}.files"),
            timestamp=int(_metric(entry.get("timestamp"), f"stages.{name}.timestamp")),
            metrics={k: _metric(entry[k], f"stages.{name}.{k}") for k in (*METRICS, *COUNTS) if k in entry},
        )
    return stages


def _attachments_of(document: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    """Read the lists of further files by section, which is a folder's name."""
    sections = _mapping(document, "attachments")
    for section in sections:
        if not is_safe_name(section):
            raise ImportRefused(f"{INFO_FILE}: attachments section {show(section)} must be a relative name.")
    return {section: _names(files, f"attachments.{section}") for section, files in sections.items()}


def _check_class_names(names: object) -> None:
    """Refuse what is no list of plain names; nothing at all is left to who needs them."""
    if names is None:
        return
    listed = names if isinstance(names, list) else [None]
    if not all(isinstance(name, str | int | float) and str(name).strip() for name in listed):
        raise ImportRefused(f"{INFO_FILE}: class_names must be a list of names, it reads {show(names)}.")
    if len({str(name) for name in listed}) < len(listed):
        raise ImportRefused(f"{INFO_FILE}: class_names names a class twice: {show(names)}.")


def is_stage_name(name: object) -> bool:
    """Tell whether a stage may be called so: an ASCII identifier, and not the attachments' folder."""
    return isinstance(name, str) and name.isascii() and name.isidentifier() and name != "attachments"


def _mapping(document: Mapping[str, Any], key: str) -> dict[str, Any]:
    value = document.get(key) or {}
    if not isinstance(value, dict):
        raise ImportRefused(f"{INFO_FILE}: {key} must be a mapping, it is a {type(value).__name__}.")
    return value


def _names(value: object, where: str) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(is_safe_name(name) for name in value):
        raise ImportRefused(f"{INFO_FILE}: {where} must be a list of relative file names, it reads {show(value)}.")
    return tuple(value)


def _metric(value: object, where: str) -> float:
    """Give a finite number; nothing given counts as 0, as in YMIR."""
    if value is None:
        return 0
    number = to_number(value)
    if number is None or abs(number) > 1e15:
        raise ImportRefused(f"{INFO_FILE}: {where} must be a finite number, it reads {show(value)}.")
    return int(number) if isinstance(value, int) else number


def oldest_first(stages: Iterable[Stage]) -> list[Stage]:
    """Sort stages by time; those of one second by name, numbers in it by value.

    Examples
    --------
    >>> [stage.name for stage in oldest_first([Stage("epoch10", ()), Stage("epoch9", ())])]
    ['epoch9', 'epoch10']
    """
    return sorted(stages, key=lambda stage: (stage.timestamp, _natural(stage.name)))


def kept_stages(stages: Mapping[str, Stage], best: str) -> dict[str, Stage]:
    """Keep the best stage and the newest others, `MOST_STAGES` in all, in the order given.

    Source: YMIR's executor SDK, which drops the oldest stage that is not the best.

    Examples
    --------
    >>> many = {f"epoch{n}": Stage(f"epoch{n}", (), timestamp=n) for n in range(1, 21)}
    >>> list(kept_stages(many, "epoch2"))[:3], len(kept_stages(many, "epoch2"))
    (['epoch2', 'epoch11', 'epoch12'], 11)
    """
    others = oldest_first(stage for name, stage in stages.items() if name != best)
    kept = {best, *(stage.name for stage in others[-(MOST_STAGES - 1) :])}
    return {name: stage for name, stage in stages.items() if name in kept}


def _natural(name: str) -> list[tuple[int, str]]:
    """Sort key that puts epoch9 before epoch10."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)]
