"""Models on disk: `weights.safetensors` and `model.yaml`, and how weights pass to other classes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from ymir_nb.executor.contract import read_mapping, write_atomically
from ymir_nb.executor.errors import MODEL, ExecutorFailure
from ymir_nb.executor.images import InputSize
from ymir_nb.executor.network import Detector
from ymir_nb.executor.settings import comparable

ARCHITECTURE = "centre-heatmap-1"
WEIGHTS, DESCRIPTION = "weights.safetensors", "model.yaml"


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A model as saved.

    Parameters
    ----------
    names : list of str
        Its classes, in the order of its heatmaps.
    size : InputSize
        The input that it was trained at.
    weights : dict of str to Tensor
        Its parameters and buffers.
    """

    names: list[str]
    size: InputSize
    weights: dict[str, torch.Tensor]


def save_checkpoint(folder: Path, model: Detector, names: list[str], size: InputSize) -> list[str]:
    """Write a model into a folder and give the names of its files."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
    save_file(weights, folder / WEIGHTS)
    description = {
        "architecture": ARCHITECTURE,
        "class_names": list(names),
        "input_width": size.width,
        "input_height": size.height,
    }
    write_atomically(folder / DESCRIPTION, yaml.safe_dump(description, sort_keys=False, allow_unicode=True))
    return [WEIGHTS, DESCRIPTION]


def load_checkpoint(paths: Any, key: str) -> Checkpoint:
    """Read the model among the files that config.yaml lists.

    Parameters
    ----------
    paths : list of str
        Value of `pretrained_model_params` or `model_params_path`: files of one stage.
    key : str
        Name of that key, for messages.

    Raises
    ------
    ExecutorFailure
        The two files are not listed, or are not those of this detector.
    """
    listed = [Path(str(path)) for path in paths] if isinstance(paths, list) else []
    found = {path.name: path for path in listed}
    if WEIGHTS not in found or DESCRIPTION not in found:
        raise ExecutorFailure(
            f"config.yaml: {key} must list {WEIGHTS} and {DESCRIPTION} of one stage, it lists "
            f"{', '.join(path.name for path in listed) or 'nothing'}",
            code=MODEL,
        )
    description = read_mapping(found[DESCRIPTION])
    if description.get("architecture") != ARCHITECTURE:
        raise ExecutorFailure(
            f"{found[DESCRIPTION]}: architecture is {description.get('architecture')!r}, "
            f"this executor has {ARCHITECTURE!r}",
            code=MODEL,
        )
    try:
        weights = load_file(found[WEIGHTS])
        names = [str(name) for name in description["class_names"]]
        size = InputSize(int(description["input_width"]), int(description["input_height"]))
        Detector(len(names)).load_state_dict(weights)
    except (OSError, SafetensorError, RuntimeError, KeyError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise ExecutorFailure(f"{found[WEIGHTS]} is no model of this executor: {reason}", code=MODEL) from error
    return Checkpoint(names, size, weights)


def carry_over(model: Detector, checkpoint: Checkpoint, names: list[str]) -> list[str]:
    """Start a detector from a checkpoint: the whole body, and the heatmaps of the classes both know.

    Parameters
    ----------
    model : Detector
        Changed in place; heatmaps of new classes keep their fresh weights.
    checkpoint : Checkpoint
        Where the weights come from; its classes may be others, in another order.
    names : list of str
        Classes of `model`.

    Returns
    -------
    list of str
        The classes whose heatmaps were carried over.
    """
    known = {comparable(name): row for row, name in enumerate(checkpoint.names)}
    weights = dict(checkpoint.weights)
    shared = [(row, known[comparable(name)]) for row, name in enumerate(names) if comparable(name) in known]
    for key in ("heatmap.weight", "heatmap.bias"):
        rows = model.state_dict()[key].clone()
        for row, old in shared:
            rows[row] = weights[key][old]
        weights[key] = rows
    model.load_state_dict(weights)
    return [names[row] for row, _ in shared]
