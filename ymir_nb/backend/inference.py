"""Inference: from a dataset version and a model version to versioned predictions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from ymir_nb.backend import contract, ops
from ymir_nb.backend.dataset import Dataset
from ymir_nb.backend.detections import read_infer
from ymir_nb.backend.embeddings import Seen, read_features
from ymir_nb.backend.errors import PreflightFailed
from ymir_nb.backend.executors import ExecutorBook, gpu_count
from ymir_nb.backend.jobs import Jobs, Order, Watch
from ymir_nb.backend.models import open_model
from ymir_nb.backend.names import work_id
from ymir_nb.backend.results import read_mining, strays_of
from ymir_nb.backend.strategies import ClassScores, Features
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
    features, context_features : Features or None
        What the network saw on the images, and on those of the context; where it was asked for.
    class_scores : ClassScores or None
        Scores of all labels at each box, likewise.
    """

    predictions: Dataset
    scores: pd.DataFrame | None = None
    features: Features | None = None
    context_features: Features | None = None
    class_scores: ClassScores | None = None


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
    context: str = "",
    executor: str | None = None,
    parameters: Mapping[str, Mapping[str, Any]] | None = None,
    watch: Watch = None,
) -> Inference:
    """Predict, and let the executor score the images for mining in the same run where asked.

    Parameters
    ----------
    workspace, dataset, model, mining, context, executor, parameters
        As `order_inference`.
    watch : callable, optional
        Gets the share done and a few words.

    Returns
    -------
    Inference
    """
    order = order_inference(
        workspace, dataset, model, mining=mining, context=context, executor=executor, parameters=parameters
    )
    record = Jobs.of(workspace).run(order, watch=watch)
    done = read_inference(workspace, record.result)
    if not mining:
        return done
    looked_at = _candidates(workspace, workspace.dataset(dataset), context)
    scores = read_mining(record.out_dir, looked_at.images, strays=strays_of(order.task.config)).scores
    own = scores["image"].isin(done.predictions.images["image"])
    return replace(done, scores=scores[own].reset_index(drop=True))


def read_inference(workspace: Workspace, predictions: str) -> Inference:
    """Read predictions, and what the network saw where that was kept with them.

    Parameters
    ----------
    workspace : Workspace
        Where they are.
    predictions : str
        Reference, such as ``pool.helmets@v1``.

    Returns
    -------
    Inference
        Without the executor's mining scores.
    """
    version = workspace.version(f"predictions/{predictions}")
    kept = [name for name in SEEN if name in workspace.store.files(version)]
    read = {SEEN[name][0]: SEEN[name][1].from_bytes(workspace.store.read(version, name)) for name in kept}
    return Inference(workspace.predictions(predictions), **read)


SEEN: dict[str, tuple[str, Any]] = {
    "features.parquet": ("features", Features),
    "context_features.parquet": ("context_features", Features),
    "class_scores.parquet": ("class_scores", ClassScores),
}
"""Files beside predictions, with the field of `Inference` that they fill."""


def order_inference(
    workspace: Workspace,
    dataset: str,
    model: str,
    *,
    mining: bool = False,
    context: str = "",
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
    context : str
        Dataset that the network shall see too, such as the labelled images that others are compared with: its
        features are kept, and no predictions on it.
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
    if context:
        order["context"] = workspace.lineage([workspace.dataset(context).ref])
    looked_at = _candidates(workspace, images, context)
    task = contract.Task(
        task_id=work_id(f"infer-{name}", order, workspace.lineage(parents)),
        class_names=chosen_model.labels,
        config=config,
        infer=True,
        mining=mining,
        candidates=looked_at,
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
        found = read_infer(out, looked_at.images, chosen_model.labels, strays=strays, longside_px=longside_px)
        seen = read_features(out, looked_at.images, chosen_model.labels)
        if mining:  # before anything is saved: a result with one fault is not used at all
            read_mining(out, looked_at.images, strays=strays)
        strange = [label for label in chosen_model.labels if label not in workspace.labels]
        if strange:
            raise PreflightFailed(
                f"the model's labels {', '.join(strange)} are not in labels.yaml. Add them: ymir-nb label add"
            )
        own = found.annotations[found.annotations["image"].isin(images.images["image"])]
        predictions = Dataset.of(images.images, own, labels=chosen_model.labels, media=images.media)
        saved = workspace.save(
            predictions,
            name,
            operation="infer",
            parameters=given["infer"] | ({"stage": chosen_model.stage} if chosen_model.stage else {}),
            parents=parents,
            details={"job": task.task_id} | ({"notes": list(found.notes)} if found.notes else {}),
            extra=_kept(seen, set(images.images["image"])) if seen else {},
            shelf="predictions",
        )
        return saved.ref

    arguments = {
        "dataset": images.ref,
        "model": chosen_model.full_ref,
        "mining": mining,
        "context": workspace.dataset(context).ref if context else "",
        "executor": chosen.name,
        "parameters": given,
    }
    return Order(task.task_id, task, chosen.launch(config), ingest, {"flow": "infer", "arguments": arguments})


def _candidates(workspace: Workspace, images: Dataset, context: str) -> Dataset:
    """Give all that the network shall see: the images, and those of the context."""
    if not context:
        return images
    return ops.merge([ops.unlabel(images), ops.unlabel(workspace.dataset(context))])


def _kept(seen: Seen, own: set[str]) -> dict[str, bytes]:
    """Give what the network saw as files: of the images, and of the rest as the context."""
    features = seen.features
    others = set(features.images) - own
    files = {"features.parquet": features.take(own).to_bytes()}
    if others:
        files["context_features.parquet"] = features.take(others).to_bytes()
    if seen.class_scores is not None:
        files["class_scores.parquet"] = seen.class_scores.take(own).to_bytes()
    return files
