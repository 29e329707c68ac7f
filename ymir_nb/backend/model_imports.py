"""Models from elsewhere: YMIR packages, and foreign weights that are packed with a card; nothing is opened."""

from __future__ import annotations

import stat
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from ymir_nb.backend import packages
from ymir_nb.backend.errors import ImportRefused
from ymir_nb.backend.executors import ExecutorBook
from ymir_nb.backend.models import Model, save_model
from ymir_nb.backend.names import check_name
from ymir_nb.backend.package_info import MAIN_METRIC, PackageInfo, Stage, is_stage_name
from ymir_nb.backend.untrusted import to_number
from ymir_nb.backend.weights import find_weights
from ymir_nb.backend.workspace import Workspace


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
        The file cannot be read, is no whole and safe model package, or names no classes.
    """
    path = Path(file).expanduser()
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode) or status.st_size > packages.MAX_BYTES:
            raise ImportRefused(f"{file} is no file of at most {packages.MAX_BYTES} bytes. Name a model package.")
        package = path.read_bytes()
    except OSError as error:
        raise ImportRefused(f"{file} cannot be read: {error.strerror}. Name a model package.") from error
    packages.inspect(package)
    return save_model(
        workspace,
        name,
        package,
        operation="import",
        executor=ExecutorBook(workspace.store).get(executor).name,
        parameters={},
        trained_on={"package": path.name},
    )


def import_weights(
    workspace: Workspace,
    name: str,
    files: str | Path | Iterable[str | Path],
    *,
    labels: Sequence[str],
    executor: str,
    metric: float | None = None,
    stage: str = "imported",
    object_type: int = 2,
    parameters: Mapping[str, Any] | None = None,
) -> Model:
    """Register weights from elsewhere as a model; they are packed as they are, and never opened.

    Parameters
    ----------
    workspace : Workspace
        Where to register them.
    name : str
        Name of the model.
    files : str, Path or iterable of them
        What the executor needs to load it, such as ``best.pt``, or a folder; see `weights.find_weights`.
    labels : sequence of str
        What it detects, in the order of its class ids.
    executor : str
        Who can run it.
    metric : float, optional
        How good it is by the object type's main metric, in [0, 1], where that is known.
    stage : str
        What to call this set of weights, an identifier.
    object_type : int
        2 detection, 3 semantic and 4 instance segmentation, 50 multimodal.
    parameters : mapping, optional
        What is known of its training, such as ``input_width``; plain values. The package carries it.

    Raises
    ------
    ImportRefused
        There is no file, one is unfit (see `weights.find_weights`), or a value above cannot be.
    """
    check_name(name, what="model")
    chosen = ExecutorBook(workspace.store).get(executor)
    _check_weights(labels, metric=metric, stage=stage, object_type=object_type)
    given = [files] if isinstance(files, str | Path) else list(files)
    found = find_weights(given)
    metrics = {} if metric is None else {MAIN_METRIC[object_type]: float(metric)}
    info = PackageInfo(
        stages={stage: Stage(stage, tuple(found), metrics=metrics)},
        best_stage_name=stage,
        executor_config={**(parameters or {}), "class_names": list(labels)},
        task_context={"executor": chosen.name, "dst_rev": name},
        object_type=object_type,
    )
    try:
        package = packages.pack({f"{stage}/{member}": path for member, path in found.items()}, info)
    except yaml.YAMLError as error:
        raise ImportRefused(f"parameters hold a value that YAML cannot write plainly: {error}") from error
    except OSError as error:
        raise ImportRefused(f"{error.filename} cannot be read: {error.strerror}.") from error
    return save_model(
        workspace,
        name,
        package,
        operation="import",
        executor=chosen.name,
        parameters=parameters or {},
        trained_on={"weights": [Path(path).name for path in given]},
    )


def _check_weights(labels: Sequence[str], *, metric: float | None, stage: str, object_type: int) -> None:
    """Refuse what a package cannot say."""
    names = [] if isinstance(labels, str) else list(labels)
    if not names or not all(isinstance(name, str) and name.strip() for name in names) or len(set(names)) < len(names):
        raise ImportRefused(f"labels are {labels!r}; they must be a list of names, each once, by class id.")
    number = 0.0 if metric is None else to_number(metric)
    if number is None or not 0.0 <= number <= 1.0:
        raise ImportRefused(f"metric is {metric!r}; it must be in [0, 1], or left out where nobody measured.")
    if not is_stage_name(stage):
        raise ImportRefused(f"stage is {stage!r}; it must be an identifier, such as 'epoch10'.")
    if object_type not in MAIN_METRIC:
        raise ImportRefused(f"object_type is {object_type!r}; it must be one of {', '.join(map(str, MAIN_METRIC))}.")
