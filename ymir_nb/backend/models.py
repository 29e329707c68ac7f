"""The model registry: YMIR model packages as versions, each with a card."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pandas as pd
import yaml

from ymir_nb.backend import packages
from ymir_nb.backend.errors import ImportRefused, StoreError, VersionNotFound
from ymir_nb.backend.hidden import hidden_models
from ymir_nb.backend.model_card import model_card
from ymir_nb.backend.names import check_name
from ymir_nb.backend.objects import write_atomically
from ymir_nb.backend.package_info import (
    COUNTS,
    MAIN_METRIC,
    METRICS,
    PackageInfo,
    oldest_first,
    parse_info,
)
from ymir_nb.backend.store import Version
from ymir_nb.backend.workspace import Workspace

PACKAGE = "model.tar.gz"
CARD = "card.yaml"
DOWNLOADS = "downloads"
_OBJECTS = {2: "detection", 3: "semantic segmentation", 4: "instance segmentation", 50: "multimodal"}


@dataclass(frozen=True)
class Model:
    """A version of a model.

    Parameters
    ----------
    workspace : Workspace
        Where it is registered.
    ref : str
        Such as ``helmets@v2``.
    card : mapping
        ``labels``, ``metric`` (the executor's own, of the best stage; None where an import tells
        none), ``best_stage``, ``stages``, ``object_type``, ``executor``, ``parameters``,
        ``trained_on`` (references and counts), ``sha1`` and ``n_bytes`` of the package.
    stage : str
        The stage that was chosen, as `contract.Task` takes it; empty for the best one.
    """

    workspace: Workspace
    ref: str
    card: Mapping[str, Any]
    stage: str = ""

    @property
    def labels(self) -> tuple[str, ...]:
        """What it detects, in the order of its class ids."""
        return tuple(self.card["labels"])

    @property
    def full_ref(self) -> str:
        """Its reference with the stage that was chosen, such as ``helmets@v2:epoch10``."""
        return f"{self.ref}:{self.stage}" if self.stage else self.ref

    @property
    def main_metric(self) -> str:
        """Name of its metric: mAP, mIoU or maskAP."""
        return MAIN_METRIC.get(self.card["object_type"], "mAP")

    @property
    def metric(self) -> float | None:
        """The executor's own measure of the chosen stage, or else the best one; None where none was told."""
        metric = self.card["metric"]
        if self.stage and metric is not None:
            metric = self.card["stages"][self.stage].get(self.main_metric, 0.0)
        return None if metric is None else float(metric)

    @property
    def info(self) -> PackageInfo:
        """What its package says about itself."""
        text = self.workspace.store.read(self._version(), packages.INFO_FILE)
        return parse_info(text.decode())

    @property
    def stages(self) -> pd.DataFrame:
        """Its stages, oldest first.

        Returns
        -------
        DataFrame
            Columns stage, best, files (their number), the main metric, and every other that is told.
        """
        info = self.info
        stages = oldest_first(info.stages.values())
        told = [key for key in (*METRICS, *COUNTS) if any(stage.metrics.get(key) for stage in stages)]
        keys = list(dict.fromkeys([self.main_metric, *told]))
        rows = [
            {"stage": stage.name, "best": stage.name == info.best_stage_name, "files": len(stage.files)}
            | {key: stage.metrics.get(key, 0) for key in keys}
            for stage in stages
        ]
        return pd.DataFrame(rows, columns=["stage", "best", "files", *keys])

    def at(self, stage: str) -> Model:
        """Choose a stage; `open_model` takes it too, as ``helmets@v2:epoch10``.

        Raises
        ------
        VersionNotFound
            There is no such stage.
        """
        if stage not in self.card["stages"]:
            raise VersionNotFound(f"model {self.ref} has no stage {stage!r}; it has {', '.join(self.card['stages'])}.")
        return replace(self, stage=stage)

    def package(self) -> bytes:
        """Read its package, a gzip tar with ``ymir-info.yaml``, held against its hash."""
        return self.workspace.store.read(self._version(), PACKAGE)

    def export(self, directory: str | Path) -> Path:
        """Write the package into a folder under the name that YMIR gives it: its sha1.

        An imported package comes out as it went in, byte for byte.

        Returns
        -------
        Path
            The file written.
        """
        path = Path(directory) / str(self.card["sha1"])
        write_atomically(path, self.package())
        return path

    def download(self) -> Path:
        """Put the package where JupyterLab can hand it to the browser: ``downloads/`` of the workspace.

        It is a link to the cached file where the disk allows one, and git ignores the folder.

        Returns
        -------
        Path
            Such as ``downloads/helmets-v2-1a2b3c4d.tar.gz``.

        Raises
        ------
        ObjectMissing
            The package is not in the cache; the message says how to get it.
        """
        folder = self.workspace.root / DOWNLOADS
        if not (folder / ".gitignore").exists():
            write_atomically(folder / ".gitignore", "*\n")
        path = folder / f"{self.ref.replace('@', '-')}-{self.card['sha1'][:8]}.tar.gz"
        objects = self.workspace.store.objects
        md5 = self.workspace.store.files(self._version())[PACKAGE]
        if not objects.is_same(md5, path):
            path.unlink(missing_ok=True)
            objects.link(md5, path)
        return path

    def _version(self) -> Version:
        return self.workspace.version(f"models/{self.ref}")

    def _headline(self) -> str:
        metric = self.metric
        return "not measured by its executor" if metric is None else f"{self.main_metric} {metric:.3f} by its executor"

    def __repr__(self) -> str:
        """Say in one line what it is."""
        return f"<Model {self.full_ref}: {', '.join(self.labels)}; {self._headline()}>"

    def _repr_html_(self) -> str:
        """Show the card, with a link that downloads the package."""
        version, card = self._version(), self.card
        n_bytes = int(card.get("n_bytes", version.n_bytes))
        words = f"Download {self.ref} ({_size(n_bytes)})"
        problem, hidden, link, stages = "", False, None, pd.DataFrame()
        try:
            hidden = self.ref in hidden_models(self.workspace)
            stages = self.stages
            link = quote(Path(os.path.relpath(self.download())).as_posix()), words
        except OSError as error:  # the card is shown all the same
            problem = str(error)
        facts = {
            "executor": str(card["executor"]),
            "objects": _OBJECTS.get(card["object_type"], ""),
            "made from": _listed(card["trained_on"]),
            "parameters": _listed(card["parameters"]),
            "parents": ", ".join(version.meta.get("parents", {})),
            "made by": f"{version.meta.get('operation', '')} {version.meta.get('job', '')}".strip(),
            "size": _size(n_bytes),
            "sha1": str(card["sha1"]),
            "hidden": "yes" if hidden else "",
            "download": problem,
        }
        return model_card(
            title=self.full_ref,
            headline=self._headline(),
            labels=self.labels,
            facts=facts,
            stages=stages,
            link=link,
        )


def save_model(
    workspace: Workspace,
    name: str,
    package: bytes,
    *,
    operation: str,
    executor: str,
    parameters: Mapping[str, Any],
    trained_on: Mapping[str, Any],
    parents: Iterable[str] = (),
    job: str = "",
) -> Model:
    """Register a package as the next version of a model.

    Parameters
    ----------
    workspace : Workspace
        Where to register it.
    name : str
        Name of the model.
    package : bytes
        A YMIR model package; nothing in it but ``ymir-info.yaml`` is read.
    operation : str
        ``train`` or ``import``.
    executor : str
        Who can run it.
    parameters : mapping
        Of the training.
    trained_on : mapping
        References and counts of what it was trained on.
    parents : iterable of str
        References it came from.
    job : str
        The job that made it.

    Raises
    ------
    ImportRefused
        It is no model package, or names no classes.
    """
    check_name(name, what="model")
    info = packages.read_info(package)
    if not info.class_names:
        raise ImportRefused(
            f"the package of model {name!r} names no classes. Add them to executor_config.class_names of its "
            f"{packages.INFO_FILE}, or import its weights with labels."
        )
    stages = {stage.name: dict(stage.metrics) for stage in oldest_first(info.stages.values())}
    main = MAIN_METRIC[info.object_type]
    told = operation == "train" or any(metrics.get(main) for metrics in stages.values())
    card = {
        "labels": list(info.class_names),
        "metric": info.metric if told else None,
        "best_stage": info.best_stage_name,
        "stages": stages,
        "object_type": info.object_type,
        "executor": executor,
        "parameters": dict(parameters),
        "trained_on": dict(trained_on),
        "sha1": hashlib.sha1(package, usedforsecurity=False).hexdigest(),
        "n_bytes": len(package),
    }
    card_text = yaml.safe_dump(card, sort_keys=False, allow_unicode=True)
    files = {
        PACKAGE: workspace.store.objects.put(package),
        packages.INFO_FILE: workspace.store.objects.put(info.to_yaml().encode()),
        CARD: workspace.store.objects.put(card_text.encode()),
    }
    meta = {
        "operation": operation,
        "parameters": dict(parameters),
        "parents": workspace.lineage(parents),
        "labels": list(info.class_names),
        "metric": card["metric"],
        "executor": executor,
        "stages": list(stages),
    } | ({"job": job} if job else {})
    version = workspace.store.save("models", name, files, meta=meta, message=f"model {name}: {operation}")
    return Model(workspace, version.ref, card)


def open_model(workspace: Workspace, ref: str) -> Model:
    """Find a model by reference.

    Parameters
    ----------
    workspace : Workspace
        Where it is registered.
    ref : str
        ``helmets`` (the newest version that is not hidden), ``helmets@v2``, ``helmets@REVISION`` at
        a git revision; each may end in a stage, such as ``helmets@v2:epoch10``.

    Raises
    ------
    VersionNotFound
        There is no such model, version or stage, or the name has hidden versions alone.
    StoreError
        Its card cannot be read.
    """
    whole, colon, stage = ref.partition(":")
    version = workspace.version(f"models/{whole}") if "@" in whole else _newest_visible(workspace, whole)
    card = yaml.safe_load(workspace.store.read(version, CARD))
    if not isinstance(card, dict) or "labels" not in card:
        raise StoreError(f"{version.path} has a card without labels. See its history: git log -- {version.path}")
    model = Model(workspace, version.ref, card)
    return model.at(stage) if colon else model


def list_models(workspace: Workspace, *, hidden: bool = False) -> pd.DataFrame:
    """List the newest version of every model; its files need not be here.

    Parameters
    ----------
    workspace : Workspace
        Where they are registered.
    hidden : bool
        List the hidden versions as well.

    Returns
    -------
    DataFrame
        Columns ref, metric (the executor's own), labels, stages (their number), executor, hidden;
        by name, newest first.
    """
    out_of_sight = hidden_models(workspace)
    rows = []
    for name in workspace.store.names("models"):
        versions = workspace.store.versions("models", name)
        newest = next((version.ref for version in versions if version.ref not in out_of_sight), "")
        shown = [v for v in versions if v.ref == newest or (hidden and v.ref in out_of_sight)]
        rows += [
            {
                "ref": version.ref,
                "metric": version.meta.get("metric"),
                "labels": ", ".join(version.meta.get("labels", [])),
                "stages": len(version.meta.get("stages", [])),
                "executor": version.meta.get("executor", ""),
                "hidden": version.ref in out_of_sight,
            }
            for version in shown
        ]
    frame = pd.DataFrame(rows, columns=["ref", "metric", "labels", "stages", "executor", "hidden"])
    return frame.astype({"metric": float, "stages": int, "hidden": bool})


def _newest_visible(workspace: Workspace, name: str) -> Version:
    """Give the version that a bare name means."""
    newest = workspace.version(f"models/{name}")
    out_of_sight = hidden_models(workspace)
    if newest.ref not in out_of_sight:
        return newest
    for version in workspace.store.versions("models", name):
        if version.ref not in out_of_sight:
            return version
    raise VersionNotFound(
        f"model {name!r} is hidden. Name a version, such as {newest.ref}, or bring it back: "
        f"ymir-nb model restore {name}"
    )


def _listed(values: Mapping[str, Any]) -> str:
    """Put plain values in a line."""
    told = {key: ", ".join(map(str, v)) if isinstance(v, list | tuple) else str(v) for key, v in values.items()}
    return ", ".join(f"{key} {value}" for key, value in told.items() if value not in ("", "None"))


def _size(n_bytes: int) -> str:
    """Say a size in words."""
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if n_bytes >= size:
            return f"{n_bytes / size:.1f} {unit}"
    return f"{n_bytes} bytes"
