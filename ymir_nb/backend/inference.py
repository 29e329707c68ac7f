"""Inference: from a dataset version and a model version to versioned predictions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from ymir_nb.backend import contract
from ymir_nb.backend.dataset import Dataset
from ymir_nb.backend.detections import read_infer
from ymir_nb.backend.errors import PreflightFailed
from ymir_nb.backend.executors import ExecutorBook, gpu_count
from ymir_nb.backend.jobs import Jobs, Order, Watch
from ymir_nb.backend.models import open_model
from ymir_nb.backend.names import work_id
from ymir_nb.backend.results import read_mining, strays_of
from ymir_nb.backend.workspace import Workspace


@dataclass(frozen=True)
class Inference:
    """What an executor said about a dataset.

    Parameters
    ----------
    predictions : Dataset
        Saved, with its `ref`; annotations carry scores.
    scores : DataFrame or None
        Columns image, score: the executor's own mining, where it was asked for.
    """

    predictions: Dataset
    scores: pd.DataFrame | None = None


def infer(
    workspace: Workspace,
    dataset: str,
    model: str,
    *,
    executor: str | None = None,
    parameters: Mapping[str, Any] | None = None,
    watch: Watch = None,
) -> Dataset:
    """Predict on a dataset and save the predictions as a version of ``<dataset>.<model>``.

    Parameters
    ----------
    workspace : Workspace
        Where everything is.
    dataset : str
        Reference of the images, such as ``val@v1``.
    model : str
        Reference of the model, such as ``helmets@v2``, or of a stage of it, ``helmets@v2:epoch10``.
    executor : str, optional
        Who infers; by default the one that trained the model.
    parameters : mapping, optional
        Executor parameters that differ from its infer template.
    watch : callable, optional
        Gets the share done and a few words.

    Returns
    -------
    Dataset
        Predictions: the dataset's images, and annotations with scores.

    Raises
    ------
    PreflightFailed, JobFailed, ProtocolViolated
        Nothing is saved then.
    """
    done = run_inference(
        workspace, dataset, model, executor=executor, parameters={"infer": dict(parameters or {})}, watch=watch
    )
    return done.predictions


def run_inference(
    workspace: Workspace,
    dataset: str,
    model: str,
    *,
    mining: bool = False,
    executor: str | None = None,
    parameters: Mapping[str, Mapping[str, Any]] | None = None,
    watch: Watch = None,
) -> Inference:
    """Predict, and let the executor score the images for mining in the same run where asked.

    Parameters
    ----------
    workspace, dataset, model, mining, executor, parameters
        As `order_inference`.
    watch : callable, optional
        Gets the share done and a few words.

    Returns
    -------
    Inference
    """
    order = order_inference(workspace, dataset, model, mining=mining, executor=executor, parameters=parameters)
    record = Jobs.of(workspace).run(order, watch=watch)
    predictions = workspace.predictions(record.result)
    strays = strays_of(order.task.config)
    scores = read_mining(record.out_dir, predictions.images, strays=strays).scores if mining else None
    return Inference(predictions, scores)


def order_inference(
    workspace: Workspace,
    dataset: str,
    model: str,
    *,
    mining: bool = False,
    executor: str | None = None,
    parameters: Mapping[str, Mapping[str, Any]] | None = None,
) -> Order:
    """Say what an inference is, for `Jobs.start` or `Jobs.run`; nothing is started yet.

    Parameters
    ----------
    workspace, dataset, model, executor
        As `infer`.
    mining : bool
        Ask for the executor's own mining scores as well.
    parameters : mapping
        Executor parameters under ``infer`` and ``mining``.

    Returns
    -------
    Order
    """
    images, chosen_model = workspace.dataset(dataset), open_model(workspace, model)
    chosen = ExecutorBook(workspace.store).get(executor or str(chosen_model.card["executor"]))
    given = {kind: dict((parameters or {}).get(kind, {})) for kind in ("mining", "infer")}
    config = chosen.config("infer", given["infer"])
    if mining:
        config = {**chosen.config("mining", given["mining"]), **config, **given["mining"]}
    strays = strays_of(config)
    name = f"{images.ref.partition('@')[0]}.{chosen_model.ref.partition('@')[0]}"
    parents = [images.ref, f"models/{chosen_model.ref}"]
    order = {"config": config, "mining": mining, "executor": chosen.start()}
    if chosen_model.stage:
        order["stage"] = chosen_model.stage
    task = contract.Task(
        task_id=work_id(f"infer-{name}", order, workspace.lineage(parents)),
        class_names=chosen_model.labels,
        config=config,
        infer=True,
        mining=mining,
        candidates=images,
        model=chosen_model.package(),
        stage=chosen_model.stage,
        gpu_id=",".join(map(str, range(gpu_count(config)))),
        allow_network=chosen.isolation.network,
    )

    def ingest(out: Path) -> str:
        made = workspace.store.made_by(task.task_id, "predictions", name)
        if made is not None:
            return made.ref
        longside_px = contract.longside_px(config)
        found = read_infer(out, images.images, chosen_model.labels, strays=strays, longside_px=longside_px)
        if mining:  # before anything is saved: a result with one fault is not used at all
            read_mining(out, images.images, strays=strays)
        strange = [label for label in chosen_model.labels if label not in workspace.labels]
        if strange:
            raise PreflightFailed(
                f"the model's labels {', '.join(strange)} are not in labels.yaml. Add them: ymir-nb label add"
            )
        predictions = Dataset.of(images.images, found.annotations, labels=chosen_model.labels, media=images.media)
        saved = workspace.save(
            predictions,
            name,
            operation="infer",
            parameters=given["infer"] | ({"stage": chosen_model.stage} if chosen_model.stage else {}),
            parents=parents,
            details={"job": task.task_id} | ({"notes": list(found.notes)} if found.notes else {}),
            shelf="predictions",
        )
        return saved.ref

    arguments = {
        "dataset": images.ref,
        "model": chosen_model.full_ref,
        "mining": mining,
        "executor": chosen.name,
        "parameters": given,
    }
    return Order(task.task_id, task, chosen.launch(config), ingest, {"flow": "infer", "arguments": arguments})
