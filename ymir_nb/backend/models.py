"""The model registry: YMIR model packages as versions, each with a card."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from ymir_nb.backend import packages
from ymir_nb.backend.errors import ImportRefused, StoreError
from ymir_nb.backend.executors import ExecutorBook
from ymir_nb.backend.names import check_name
from ymir_nb.backend.objects import write_atomically
from ymir_nb.backend.workspace import Workspace

PACKAGE = "model.tar.gz"
CARD = "card.yaml"


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
        ``labels``, ``metric`` (the executor's own mAP of the best stage), ``best_stage``, ``stages``,
        ``executor``, ``parameters``, ``trained_on`` (references and counts), ``sha1`` of the package.
    """

    workspace: Workspace
    ref: str
    card: Mapping[str, Any]

    @property
    def labels(self) -> tuple[str, ...]:
        """What it detects, in the order of its class ids."""
        return tuple(self.card["labels"])

    def package(self) -> bytes:
        """Read its package, a gzip tar with ``ymir-info.yaml``, held against its hash."""
        version = self.workspace.version(f"models/{self.ref}")
        return self.workspace.store.read(version, PACKAGE)

    def export(self, directory: str | Path) -> Path:
        """Write the package into a folder under the name that YMIR gives it: its sha1.

        Returns
        -------
        Path
            The file written.
        """
        path = Path(directory) / str(self.card["sha1"])
        write_atomically(path, self.package())
        return path

    def __repr__(self) -> str:
        """Say in one line what it is."""
        return f"<Model {self.ref}: {', '.join(self.labels)}; mAP {self.card['metric']:.3f} by its executor>"


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
        It is no model package.
    """
    check_name(name, what="model")
    info = packages.read_info(package)
    card = {
        "labels": list(info.class_names),
        "metric": info.metric,
        "best_stage": info.best_stage_name,
        "stages": {stage: dict(found.metrics) for stage, found in info.stages.items()},
        "object_type": info.object_type,
        "executor": executor,
        "parameters": dict(parameters),
        "trained_on": dict(trained_on),
        "sha1": hashlib.sha1(package, usedforsecurity=False).hexdigest(),
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
        "metric": info.metric,
    } | ({"job": job} if job else {})
    version = workspace.store.save("models", name, files, meta=meta, message=f"model {name}: {operation}")
    return Model(workspace, version.ref, card)


def import_model(workspace: Workspace, name: str, file: str | Path, *, executor: str) -> Model:
    """Register a YMIR model package from a file; nothing in it is opened but ``ymir-info.yaml``.

    Parameters
    ----------
    workspace : Workspace
        Where to register it.
    name : str
        Name of the model.
    file : str or Path
        The package, of version 2.0.0 or 1.1.0.
    executor : str
        Who can run it.

    Raises
    ------
    ImportRefused
        The file cannot be read, or is no model package.
    """
    try:
        package = Path(file).expanduser().read_bytes()
    except OSError as error:
        raise ImportRefused(f"{file} cannot be read: {error.strerror}. Name a model package.") from error
    return save_model(
        workspace,
        name,
        package,
        operation="import",
        executor=ExecutorBook(workspace.store).get(executor).name,
        parameters={},
        trained_on={"package": Path(file).name},
    )


def open_model(workspace: Workspace, ref: str) -> Model:
    """Find a model by reference, such as ``helmets`` or ``helmets@v2``.

    Raises
    ------
    VersionNotFound
        There is none.
    StoreError
        Its card cannot be read.
    """
    version = workspace.version(f"models/{ref}")
    card = yaml.safe_load(workspace.store.read(version, CARD))
    if not isinstance(card, dict) or "labels" not in card:
        raise StoreError(f"{version.path} has a card without labels. See its history: git log -- {version.path}")
    return Model(workspace, version.ref, card)
