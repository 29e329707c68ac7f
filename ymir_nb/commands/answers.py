"""What every command is made of: its arguments, its answer, and how settings are read."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pandas as pd
import yaml

from ymir_nb.backend.errors import YmirError
from ymir_nb.backend.jobs import JobRecord
from ymir_nb.backend.workspace import Workspace

Namespace = argparse.Namespace


@dataclass(frozen=True)
class Answer:
    """What a command found: plain values for ``--json``, and text for people."""

    data: Any
    text: str = ""
    status: int = 0


@dataclass(frozen=True)
class Argument:
    """One argument, as `argparse` takes it."""

    names: tuple[str, ...]
    options: dict[str, Any]


@dataclass(frozen=True)
class Command:
    """A command: what it takes and what it runs; its help is the first line of the docstring."""

    run: Callable[[Namespace], Answer]
    arguments: tuple[Argument, ...] = ()


def arg(*names: str, **options: Any) -> Argument:
    """Describe an argument."""
    return Argument(names, options)


def open_workspace(a: Namespace) -> Workspace:
    """Open the workspace that the call names."""
    return Workspace.open(a.workspace)


def as_table(frame: pd.DataFrame) -> Answer:
    """Answer with a frame: a list of rows, or an aligned table."""
    rows = json.loads(frame.to_json(orient="records", date_format="iso"))
    return Answer(rows, frame.to_string(index=False) if len(frame) else "none yet")


def as_version(ws: Workspace, ref: str) -> Answer:
    """Answer with the version that was saved, and its counts."""
    version = ws.version(ref)
    counts = {key: version.meta.get(key) for key in ("n_images", "n_boxes", "n_negatives", "n_unlabelled", "labels")}
    data = {"dataset": version.name, "version": version.ref, **counts}
    text = f"{version.ref}: {counts['n_images']} images, {counts['n_boxes']} boxes, {counts['n_unlabelled']} unlabelled"
    return Answer(data, text)


def as_job(record: JobRecord) -> Answer:
    """Answer with how a job stands."""
    return Answer(record.to_dict(), repr(record))


def settings_of(pairs: list[str] | None) -> dict[str, Any]:
    """Read ``key=value`` words; a value is a plain YAML literal, so 3 is a number and text needs no quotes."""
    settings = {}
    for pair in pairs or []:
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise YmirError(f"--set takes key=value, not {pair!r}. Such as: --set max_steps=300")
        try:
            settings[key] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise YmirError(
                f"--set {key}: {value!r} is no plain value ({error}). Quote it: {key}='\"text\"'"
            ) from error
    return settings


def settings_by_kind(pairs: list[str] | None) -> dict[str, dict[str, Any]]:
    """Read ``kind.key=value`` words, such as ``training.max_steps=300``."""
    parameters: dict[str, dict[str, Any]] = {}
    for key, value in settings_of(pairs).items():
        kind, dot, name = key.partition(".")
        if not dot:
            raise YmirError(f"--set {key}: say for which work, such as training.{key}=... (training, infer or mining)")
        parameters.setdefault(kind, {})[name] = value
    return parameters


REF = arg("ref", help="dataset, such as train or train@v3")


TO = arg("--to", required=True, help="name of the dataset to save")


SEED = arg("--seed", type=int, default=0, help="of the draw")


SET = arg("--set", action="append", metavar="KEY=VALUE", help="an executor parameter; may be given again")


DETACH = arg("--detach", action="store_true", help="start it and come back; `jobs attach` waits for it")


EXECUTOR = arg("--executor", default=None, help="who does it (default: the model's own, or the workspace's)")
