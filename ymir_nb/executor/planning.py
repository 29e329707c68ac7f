"""What a run will do, read and checked before anything heavy loads."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from ymir_nb.executor.annotations import Sample, read_candidates, read_samples
from ymir_nb.executor.contract import Task
from ymir_nb.executor.settings import (
    ScoringSettings,
    TrainingSettings,
    class_names,
    scoring_settings,
    training_settings,
)

log = logging.getLogger(__name__)

DEFAULT_FORMAT = "voc:raw"
"""Export format where config.yaml names none, as YMIR 2.x has it."""


@dataclass(frozen=True, eq=False)
class TrainingPlan:
    """Parameters, classes and samples of a training."""

    settings: TrainingSettings
    names: list[str]
    train: list[Sample]
    val: list[Sample]


@dataclass(frozen=True, eq=False)
class ScoringPlan:
    """Parameters, classes and images of mining and inference."""

    settings: ScoringSettings
    names: list[str]
    paths: list[str]


def plan_training(task: Task) -> TrainingPlan:
    """Read what a training needs; without validation images it is measured on the training images.

    Raises
    ------
    ExecutorFailure
        A parameter, an index or an annotation cannot be used.
    """
    settings, names = training_settings(task.config), class_names(task.config)
    form = str(task.config.get("export_format") or DEFAULT_FORMAT)
    train = read_samples(task.training_index, form, names, key="training_index_file")
    index = task.val_index
    if index is None or not index.is_file() or not index.read_text(encoding="utf-8").strip():
        log.info("no validation images: mAP is measured on the training images")
        return TrainingPlan(settings, names, train, train)
    return TrainingPlan(settings, names, train, read_samples(index, form, names, key="val_index_file"))


def plan_scoring(task: Task) -> ScoringPlan:
    """Read what mining and inference need.

    Raises
    ------
    ExecutorFailure
        A parameter or the candidate index cannot be used.
    """
    return ScoringPlan(scoring_settings(task.config), class_names(task.config), read_candidates(task.candidate_index))
