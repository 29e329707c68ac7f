"""A task: one order to an executor, as a value."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from ymir_nb.backend.dataset import Dataset
from ymir_nb.backend.tables import ANNOTATIONS, IMAGES, to_parquet_bytes


@dataclass(frozen=True)
class Task:
    """One order to an executor: train, or mine and/or infer.

    Parameters
    ----------
    task_id : str
        Letters, digits, ``_ - .``; executors repeat it in monitor.txt.
    class_names : tuple of str
        The classes; their order gives the class ids. For mining and infer: those of the model.
    config : mapping
        The executor's template with the user's parameters; reserved keys are overwritten.
    training, mining, infer : bool
        Training alone, or mining and/or infer.
    train, val : Dataset, optional
        For training; fully labelled, without a common image.
    candidates : Dataset, optional
        For mining and infer.
    model : bytes, optional
        A model package: what to start a training from; required for mining and infer.
    stage : str
        Stage of the model; empty for its best one.
    predictions : DataFrame, optional
        Columns of `tables.ANNOTATIONS`: predictions on the training's images, for executors that use them.
    gpu_id : str
        GPUs as the executor sees them, ``0,1``; empty for the CPU.
    allow_network : bool
        Let this machine go to the network for the executor's live code; says nothing about the executor.

    Examples
    --------
    >>> Task(task_id="t1", class_names=("dog",), config={}, training=True).kind
    'training'
    """

    task_id: str
    class_names: tuple[str, ...]
    config: Mapping[str, Any] = field(default_factory=dict)
    training: bool = False
    mining: bool = False
    infer: bool = False
    train: Dataset | None = None
    val: Dataset | None = None
    candidates: Dataset | None = None
    model: bytes | None = field(default=None, repr=False)
    stage: str = ""
    predictions: pd.DataFrame | None = field(default=None, repr=False)
    gpu_id: str = ""
    allow_network: bool = False

    @property
    def kind(self) -> str:
        """``training``, ``mining``, ``infer`` or ``mining+infer``."""
        flags = {"training": self.training, "mining": self.mining, "infer": self.infer}
        return "+".join(name for name, asked in flags.items() if asked)

    @property
    def datasets(self) -> dict[str, Dataset]:
        """The datasets it works on, by role."""
        roles = {"train": self.train, "val": self.val, "candidates": self.candidates}
        return {role: dataset for role, dataset in roles.items() if dataset is not None}

    def digest(self) -> str:
        """Give a hash of everything the executor is told; equal tasks have equal digests."""
        words = {name: getattr(self, name) for name in ("task_id", "class_names", "kind", "stage", "gpu_id")}
        words["config"] = dict(self.config)
        summed = hashlib.sha256(json.dumps(words, sort_keys=True, default=str).encode())
        for role, dataset in sorted(self.datasets.items()):
            summed.update(role.encode())
            summed.update(to_parquet_bytes(dataset.images, IMAGES))
            summed.update(to_parquet_bytes(dataset.annotations, ANNOTATIONS))
        if self.predictions is not None:
            summed.update(to_parquet_bytes(self.predictions, ANNOTATIONS))
        summed.update(hashlib.sha256(self.model or b"").digest())
        return summed.hexdigest()
