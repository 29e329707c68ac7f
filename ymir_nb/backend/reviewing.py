"""Diagnosis of what lies in a workspace: predictions by reference, against the dataset they were made on."""

from __future__ import annotations

from dataclasses import dataclass

from ymir_nb.backend import comparison, diagnosis, label_review, ops
from ymir_nb.backend.comparison import Comparison
from ymir_nb.backend.dataset import Dataset
from ymir_nb.backend.diagnosis import Diagnosis
from ymir_nb.backend.errors import ProjectError, VersionNotFound
from ymir_nb.backend.evaluation import restrict
from ymir_nb.backend.label_review import Review
from ymir_nb.backend.workspace import Workspace


@dataclass(frozen=True)
class Pair:
    """Predictions, and the truth on the images that they were made on, of the labels that they know."""

    truth: Dataset
    predictions: Dataset


def read_pair(workspace: Workspace, predictions: str, *, truth: str = "") -> Pair:
    """Read predictions with the truth that they are held against.

    Parameters
    ----------
    workspace : Workspace
        Where everything is.
    predictions : str
        Reference, such as ``val.helmets@v2``.
    truth : str
        Dataset to hold them against; by default the very version that was predicted on.

    Returns
    -------
    Pair

    Raises
    ------
    VersionNotFound
        No such predictions, or they do not say what they were made on.
    ProjectError
        None of the images that were predicted on is labelled in the truth.
    """
    seen, found = _seen(workspace, predictions, truth)
    return Pair(restrict(seen, found.labels), found)


def diagnose(
    workspace: Workspace, predictions: str, *, truth: str = "", iou: float = 0.5, min_score: float = 0.3
) -> Diagnosis:
    """Look at saved predictions from all sides; see `diagnosis.diagnose` and `read_pair`."""
    pair = read_pair(workspace, predictions, truth=truth)
    return diagnosis.diagnose(pair.truth, pair.predictions, iou=iou, min_score=min_score)


def compare(
    workspace: Workspace, first: str, second: str, *, truth: str = "", n: int = 1000, seed: int = 0
) -> Comparison:
    """Compare saved predictions of two models; see `comparison.compare`.

    Without a `truth`, that of the first is used for both.

    Raises
    ------
    InvalidTable
        They were not made on the same images.
    """
    seen, found = _seen(workspace, first, truth)
    return comparison.compare(seen, found, workspace.predictions(second), n=n, seed=seed)


def review(
    workspace: Workspace, predictions: str, *, truth: str = "", sure: float = 0.95, likely: float = 0.5
) -> Review:
    """Rank the labels of a dataset by what saved predictions say against them; see `label_review.review`."""
    pair = read_pair(workspace, predictions, truth=truth)
    return label_review.review(pair.truth, pair.predictions, sure=sure, likely=likely)


def _seen(workspace: Workspace, predictions: str, truth: str) -> tuple[Dataset, Dataset]:
    """Read predictions, and the images that they were made on as a dataset has them."""
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
