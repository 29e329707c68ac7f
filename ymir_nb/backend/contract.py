"""The executor contract, the host's side of ``/in``: what an executor finds when it starts.

YMIR's executors read ``/in`` and write ``/out``; this module writes the first exactly as YMIR 2.5
does (protocol 1.1.0), `results` reads the second. In a container the two lie at ``/in`` and
``/out``; a local process gets the very same files, in which the real paths are named instead.

Source: YMIR 2.5.0, executor (training, mining, infer) contract, protocol 1.1.0.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from ymir_nb.backend import livecode, packages
from ymir_nb.backend.contract_annotations import WRITERS, Asset, Place, annotation_format
from ymir_nb.backend.contract_assets import export_images
from ymir_nb.backend.errors import PreflightFailed, StoreError
from ymir_nb.backend.scaling import rescale
from ymir_nb.backend.tables import annotations_frame
from ymir_nb.backend.tasks import Task

__all__ = ["IN_ROOT", "OUT_ROOT", "PROTOCOL_VERSION", "Task", "longside_px", "make_out", "preflight", "write_in"]

PROTOCOL_VERSION = "1.1.0"
IN_ROOT, OUT_ROOT = "/in", "/out"
MANIFEST_FILE = "/img-man/manifest.yaml"
MAX_LONGSIDE_PX = 1 << 14

_RESERVED = (
    "task_id",
    "class_names",
    "gpu_id",
    "pretrained_model_params",
    "model_params_path",
    "run_infer",
    "run_mining",
)
_TASK_ID = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")


def preflight(task: Task) -> None:
    """Refuse a task that cannot end well, before anything is written or started.

    Raises
    ------
    PreflightFailed
        With what is wrong and how to mend it: nothing or contradictory asked, an empty or
        unlabelled set, an image in both train and val, classes that a dataset is not annotated
        for, an unknown export format or preprocessing, a model that does not fit, live code that
        nobody may fetch, a config that YAML cannot hold.
    """
    if not _TASK_ID.fullmatch(task.task_id):
        raise PreflightFailed(f"task id {task.task_id!r} must be 1-100 letters, digits, '_', '-' or '.'.")
    if task.training == (task.mining or task.infer):
        raise PreflightFailed(
            f"a task is either training, or mining and/or infer; this one asks for {task.kind or 'none'}."
        )
    _check_classes(task)
    annotation_format(task.config)
    longside_px(task.config)
    livecode.preflight(task.config, allow_network=task.allow_network)
    try:
        yaml.safe_dump(dict(task.config))
    except yaml.YAMLError as error:
        raise PreflightFailed(f"the executor's config holds a value that YAML cannot write plainly: {error}") from error
    if task.training:
        _check_training(task)
    elif task.candidates is None or not len(task.candidates):
        raise PreflightFailed(f"there are no candidate images for {task.kind}. Choose a dataset that is not empty.")
    _check_model(task)


def write_in(
    job_dir: Path,
    task: Task,
    *,
    in_root: str = IN_ROOT,
    out_root: str = OUT_ROOT,
    manifest_file: str = MANIFEST_FILE,
) -> None:
    """Write ``in/`` and the empty folders of ``out/`` below a job's directory.

    Images are hard-linked where the file system allows it and copied otherwise; one whose pixels an
    executor could misread (turned by EXIF, CMYK, palette, 16 bit, alpha, WEBP, TIFF, GIF) is written
    as an upright RGB PNG. One that changed since it was last held against its hash is held against
    it again. Live code lies in ``in/code``. Equal tasks give equal files.

    Parameters
    ----------
    job_dir : Path
        Gets ``in`` and ``out``; neither may be there yet.
    task : Task
        What to do.
    in_root, out_root : str
        The two folders as the executor will see them; without blanks, at which executors split.
    manifest_file : str
        Where the executor's manifest lies, as the executor sees it.

    Raises
    ------
    PreflightFailed
        As `preflight`, and then nothing is written; or live code cannot be fetched, see `livecode.fetch`.
    ObjectMissing, ObjectDamaged
        An image is not in the cache, or is not what its name says.
    StoreError
        The disk is full or refuses.
    """
    preflight(task)
    for root in (in_root, out_root):
        if re.search(r"\s", root):
            raise PreflightFailed(
                f"the job's folder {root!r} has a blank in its path, at which executors split. Move the workspace."
            )
    try:
        _write_in(job_dir, task, in_root, _env(task, in_root, out_root, manifest_file))
    except StoreError:
        raise
    except OSError as error:
        raise StoreError(
            f"cannot write the job's inputs below {job_dir}: {error.strerror or error}. Free space or mend the "
            "permissions."
        ) from error


def longside_px(config: Mapping[str, Any]) -> int:
    """Give the pixels that a config asks for as the longer side of every image; 0 where it asks for none.

    The key is YMIR's: ``preprocess: {longside_resize: {dest_size: 640}}``. It is done here, and not
    handed on to the executor. What the executor finds then goes back by `read_infer` with the same number.

    Raises
    ------
    PreflightFailed
        ``dest_size`` is no whole number from 1 to `MAX_LONGSIDE_PX`.

    Examples
    --------
    >>> longside_px({"preprocess": {"longside_resize": {"dest_size": 640}}})
    640
    """
    asked = config.get("preprocess")
    asked = asked.get("longside_resize") if isinstance(asked, Mapping) else None
    if asked is None:
        return 0
    pixels = asked.get("dest_size") if isinstance(asked, Mapping) else None
    if not isinstance(pixels, int) or isinstance(pixels, bool) or not 1 <= pixels <= MAX_LONGSIDE_PX:
        raise PreflightFailed(
            f"preprocess.longside_resize.dest_size is {pixels!r}; it must be whole pixels from 1 to {MAX_LONGSIDE_PX}, "
            "as in preprocess: {longside_resize: {dest_size: 640}}."
        )
    return pixels


def _write_in(job_dir: Path, task: Task, in_root: str, env: Mapping[str, Any]) -> None:
    """Write all files; live code comes first, since it alone can still be refused."""
    in_dir = job_dir / "in"
    in_dir.mkdir(parents=True)
    config = livecode.place(task.config, job_dir, in_root)
    for folder in (in_dir / "annotations", in_dir / "predictions", in_dir / "models"):
        folder.mkdir()
    make_out(job_dir)
    pixels = longside_px(task.config)
    assets = {
        role: export_images(in_dir / "assets", dataset, longside_px=pixels) for role, dataset in task.datasets.items()
    }
    if task.training:
        _write_training_indices(in_dir, in_root, task, assets)
    else:
        _write_lines(in_dir / "candidate-index.tsv", (f"{in_root}/assets/{a.name}" for a in assets["candidates"]))
    model_paths = _write_model(in_dir / "models", task, in_root)
    _write_yaml(in_dir / "config.yaml", _config(task, config, model_paths))
    _write_yaml(in_dir / "env.yaml", env)


def make_out(job_dir: Path) -> None:
    """Make the folders of ``out/`` that an executor finds."""
    for folder in ("models", "tensorboard"):
        (job_dir / "out" / folder).mkdir(parents=True)


def _check_classes(task: Task) -> None:
    names = task.class_names
    if not names or any(not name.strip() for name in names):
        raise PreflightFailed("no classes to work on. Name them in class_names.")
    if len(set(names)) != len(names):
        twice = sorted({name for name in names if names.count(name) > 1})
        raise PreflightFailed(f"class_names names {', '.join(map(repr, twice))} more than once. Name each class once.")


def _check_training(task: Task) -> None:
    for role in ("train", "val"):
        dataset = task.datasets.get(role)
        if dataset is None or not len(dataset):
            raise PreflightFailed(f"the {role} set is empty. Choose a dataset with labelled images as {role}.")
        name = f"{role} set {dataset.ref}".rstrip()
        if dataset.n_unlabelled:
            raise PreflightFailed(
                f"{dataset.n_unlabelled} of the {len(dataset)} images of the {name} are not labelled yet; an executor "
                "would take them for empty ones. Label them, or exclude them."
            )
        strange = [label for label in task.class_names if label not in dataset.labels]
        if strange:
            raise PreflightFailed(
                f"the {name} is not annotated for {', '.join(map(repr, strange))}, only for "
                f"{', '.join(map(repr, dataset.labels)) or 'nothing'}. Train other classes, or label these first."
            )
    train, val = task.datasets["train"].images, task.datasets["val"].images
    both = train.loc[train["image"].isin(val["image"]), "file"].tolist()
    if both:
        raise PreflightFailed(
            f"{len(both)} images stand in both train and val: {', '.join(sorted(both)[:5])}. "
            "Exclude them from one of the two."
        )


def _check_model(task: Task) -> None:
    if task.model is None:
        if not task.training:
            raise PreflightFailed(f"{task.kind} needs a model. Train one first, or import one.")
        return
    info = packages.read_info(task.model)
    stage = task.stage or info.best_stage_name
    if stage not in info.stages:
        raise PreflightFailed(f"the model has no stage {stage!r}; it has {', '.join(sorted(info.stages))}.")
    asked = task.config.get("object_type")
    if asked is not None and asked != info.object_type:
        raise PreflightFailed(
            f"the model is for object_type {info.object_type} and the executor's config says {asked!r}. "
            "Choose a model of the same kind."
        )
    if not task.training and info.class_names and info.class_names != task.class_names:
        raise PreflightFailed(
            f"the model knows the classes {', '.join(info.class_names)} in this order, and class_names says "
            f"{', '.join(task.class_names)}. For {task.kind} class_names must be the model's."
        )


def _write_training_indices(in_dir: Path, root: str, task: Task, assets: Mapping[str, Sequence[Asset]]) -> None:
    """Write annotations, predictions and all index files of a training."""
    write = WRITERS[annotation_format(task.config)]
    both = sorted((*assets["train"], *assets["val"]), key=lambda asset: asset.image)
    sides = [task.datasets["train"], task.datasets["val"]]
    shown = pd.concat([side.images[["image", "width", "height"]] for side in sides], ignore_index=True)
    truth = pd.concat([side.annotations for side in sides], ignore_index=True)
    guesses = annotations_frame() if task.predictions is None else task.predictions
    pixels = longside_px(task.config)
    images = f"{root}/assets"
    paths = {
        folder: write(
            Place(in_dir / folder, f"{root}/{folder}", images),
            both,
            rescale(boxes, shown, pixels),
            task.class_names,
        )
        for folder, boxes in (("annotations", truth), ("predictions", guesses))
    }
    sets = {"train": assets["train"], "val": assets["val"], "test": []}
    for role, members in sets.items():
        for prefix, folder in (("", "annotations"), ("pred-", "predictions")):
            lines = (f"{images}/{asset.name}\t{paths[folder][asset.image]}" for asset in members)
            _write_lines(in_dir / f"{prefix}{role}-index.tsv", lines)
    _write_lines(in_dir / "idx-assets.tsv", (f"{images}/{asset.name}" for asset in both))
    for name, folder in (("idx-gt.tsv", "annotations"), ("idx-pred.tsv", "predictions")):
        _write_lines(in_dir / name, (f"{images}/{asset.name}\t{paths[folder][asset.image]}" for asset in both))


def _write_model(directory: Path, task: Task, root: str) -> list[str]:
    """Unpack the model and give the files of its stage as the executor sees them."""
    if task.model is None:
        return []
    info = packages.unpack(task.model, directory)
    stage = info.stages[task.stage or info.best_stage_name]
    return [f"{root}/models/{stage.name}/{name}" for name in stage.files]


def _config(task: Task, asked: Mapping[str, Any], model_paths: list[str]) -> dict[str, Any]:
    """Overwrite or remove the reserved keys of the user's config, and what was done here already."""
    config = {key: value for key, value in asked.items() if key not in (*_RESERVED, "strays")}
    if longside_px(asked):
        config["preprocess"] = {k: v for k, v in asked["preprocess"].items() if k != "longside_resize"}
        config = {key: value for key, value in config.items() if key != "preprocess" or value}
    config |= {"task_id": task.task_id, "class_names": list(task.class_names), "gpu_id": task.gpu_id}
    if not task.training:
        config |= {"model_params_path": model_paths, "run_mining": task.mining, "run_infer": task.infer}
    elif model_paths:
        config["pretrained_model_params"] = model_paths
    return config


def _env(task: Task, in_root: str, out_root: str, manifest_file: str) -> dict[str, Any]:
    return {
        "protocol_version": PROTOCOL_VERSION,
        "task_id": task.task_id,
        "run_training": task.training,
        "run_mining": task.mining,
        "run_infer": task.infer,
        "manifest_file": manifest_file,
        "input": {
            "root_dir": in_root,
            "assets_dir": f"{in_root}/assets",
            "annotations_dir": f"{in_root}/annotations",
            "models_dir": f"{in_root}/models",
            "training_index_file": f"{in_root}/train-index.tsv" if task.training else "",
            "val_index_file": f"{in_root}/val-index.tsv" if task.training else "",
            "candidate_index_file": "" if task.training else f"{in_root}/candidate-index.tsv",
            "config_file": f"{in_root}/config.yaml",
        },
        "output": {
            "root_dir": out_root,
            "models_dir": f"{out_root}/models",
            "tensorboard_dir": f"{out_root}/tensorboard",
            "training_result_file": f"{out_root}/models/result.yaml",
            "mining_result_file": f"{out_root}/result.tsv",
            "infer_result_file": f"{out_root}/infer-result.json",
            "monitor_file": f"{out_root}/monitor.txt",
            "executor_log_file": f"{out_root}/ymir-executor-out.log",
        },
    }


def _write_lines(path: Path, lines: Iterable[str]) -> None:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def _write_yaml(path: Path, document: Mapping[str, Any]) -> None:
    path.write_text(yaml.safe_dump(dict(document), allow_unicode=True), encoding="utf-8")
