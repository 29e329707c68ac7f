"""Evaluation: predictions of a model against the labels of a dataset version."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from ymir_nb.backend import metrics, ops
from ymir_nb.backend.dataset import Dataset
from ymir_nb.backend.errors import ProjectError, VersionNotFound
from ymir_nb.backend.metrics import Evaluation
from ymir_nb.backend.workspace import Workspace


def evaluate(workspace: Workspace, predictions: str, *, truth: str = "") -> Evaluation:
    """Measure predictions: AP per label, AP50 and AP50:95, as COCO defines them.

    Only images that were predicted on and are labelled count, and only labels that the model can predict.

    Parameters
    ----------
    workspace : Workspace
        Where everything is.
    predictions : str
        Reference, such as ``val.helmets@v2``.
    truth : str
        Dataset to measure against; by default the very version that was predicted on.

    Returns
    -------
    Evaluation

    Raises
    ------
    VersionNotFound
        No such predictions, or they do not say what they were made on.
    ProjectError
        None of the images that were predicted on is labelled in the truth.
    """
    seen, found = read_seen(workspace, predictions, truth=truth)
    return metrics.evaluate(restrict(seen, found.labels), found)


def read_seen(workspace: Workspace, predictions: str, *, truth: str = "") -> tuple[Dataset, Dataset]:
    """Read the images that predictions were made on, as a dataset has them, and the predictions.

    Parameters
    ----------
    workspace, predictions, truth
        As `evaluate`.

    Raises
    ------
    VersionNotFound, ProjectError
        As `evaluate`.
    """
    found = workspace.predictions(predictions)
    parents = workspace.version(f"predictions/{predictions}").meta.get("parents", {})
    source = truth or next((ref for ref in parents if "/" not in ref), "")
    if not source:
        raise VersionNotFound(f"{predictions!r} does not say which dataset it was made on. Name it: truth='val@v1'")
    seen = ops.take(workspace.dataset(source), found.images["image"])
    if seen.n_unlabelled == len(seen):
        raise ProjectError(
            f"none of the {len(found)} images of {found.ref} is labelled in {source}: there is nothing to hold them "
            "against. Name a dataset that has their labels as the truth."
        )
    return seen, found


def restrict(dataset: Dataset, labels: Collection[str]) -> Dataset:
    """Keep the objects of these labels alone; every image stays."""
    kept = dataset.annotations[dataset.annotations["label"].isin(labels)].reset_index(drop=True)
    return replace(dataset, annotations=kept, labels=tuple(label for label in dataset.labels if label in labels))
