"""`env.yaml` and `config.yaml`: what a run is asked to do, and where its files are."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from ymir_nb.executor.errors import CONFIG, ExecutorFailure

ENV_VARIABLE = "DEFAULT_ENV_FILE_PATH"
DEFAULT_ENV_PATH = "/in/env.yaml"


@dataclass(frozen=True)
class Task:
    """One run: which functions, and every path it may read or write.

    Parameters
    ----------
    task_id : str
        First column of monitor.txt.
    run_training, run_mining, run_infer : bool
        What to do; mining and inference may both be asked for.
    training_index, val_index, candidate_index : Path or None
        Index files; None where env.yaml leaves them empty.
    config : dict
        The mapping of config.yaml.
    models_dir, tensorboard_dir, training_result, mining_result, infer_result, monitor_file : Path
        Where the results go.
    """

    task_id: str
    run_training: bool
    run_mining: bool
    run_infer: bool
    training_index: Path | None
    val_index: Path | None
    candidate_index: Path | None
    config: dict[str, Any]
    models_dir: Path
    tensorboard_dir: Path
    training_result: Path
    mining_result: Path
    infer_result: Path
    monitor_file: Path


def env_path() -> Path:
    """Give the path of env.yaml: the environment's ``DEFAULT_ENV_FILE_PATH``, or `/in/env.yaml`."""
    return Path(os.environ.get(ENV_VARIABLE) or DEFAULT_ENV_PATH)


def read_mapping(path: Path) -> dict[str, Any]:
    """Read a YAML file that holds a mapping.

    Raises
    ------
    ExecutorFailure
        The file is missing, is no YAML, or holds something else.
    """
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ExecutorFailure(f"{path} cannot be read: {error.strerror or error}", code=CONFIG) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise ExecutorFailure(f"{path} is no YAML: {reason}", code=CONFIG) from error
    if not isinstance(data, dict):
        raise ExecutorFailure(f"{path} must hold a mapping, it holds {type(data).__name__}", code=CONFIG)
    return data


def output_file(env: dict[str, Any], key: str, default: str) -> Path:
    """Give a path of env.yaml's `output` section, or its place below `/out` where it is not named."""
    section = env.get("output")
    return Path(str(section.get(key) or default) if isinstance(section, dict) else default)


def read_task(env: dict[str, Any]) -> Task:
    """Understand env.yaml and read the config.yaml that it names.

    Parameters
    ----------
    env : dict
        The mapping of env.yaml.

    Raises
    ------
    ExecutorFailure
        A section is missing, or nothing, or too much, is asked for.

    Source: YMIR's executor contract, protocol version 1.1.0, `env.yaml`.
    """
    given = env.get("input")
    if not isinstance(given, dict):
        raise ExecutorFailure("env.yaml has no section `input`", code=CONFIG)

    def index(key: str) -> Path | None:
        return Path(str(given[key])) if given.get(key) else None

    task = Task(
        task_id=str(env.get("task_id") or "task"),
        run_training=bool(env.get("run_training")),
        run_mining=bool(env.get("run_mining")),
        run_infer=bool(env.get("run_infer")),
        training_index=index("training_index_file"),
        val_index=index("val_index_file"),
        candidate_index=index("candidate_index_file"),
        config=read_mapping(Path(str(given.get("config_file") or "/in/config.yaml"))),
        models_dir=output_file(env, "models_dir", "/out/models"),
        tensorboard_dir=output_file(env, "tensorboard_dir", "/out/tensorboard"),
        training_result=output_file(env, "training_result_file", "/out/models/result.yaml"),
        mining_result=output_file(env, "mining_result_file", "/out/result.tsv"),
        infer_result=output_file(env, "infer_result_file", "/out/infer-result.json"),
        monitor_file=output_file(env, "monitor_file", "/out/monitor.txt"),
    )
    if task.run_training == (task.run_mining or task.run_infer):
        raise ExecutorFailure(
            "env.yaml must ask for run_training alone, or for run_mining, run_infer or both", code=CONFIG
        )
    return task


def write_atomically(path: Path, text: str) -> None:
    """Write a file under a temporary name beside it, then rename it into place."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(path.name + ".part")
    draft.write_text(text, encoding="utf-8")
    draft.replace(path)
