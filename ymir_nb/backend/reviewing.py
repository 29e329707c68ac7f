"""Diagnosis of what lies in a workspace: predictions by reference, against the dataset they were made on."""

from __future__ import annotations

from dataclasses import dataclass

from ymir_nb.backend import comparison, diagnosis, label_review
from ymir_nb.backend.comparison import Comparison
from ymir_nb.backend.dataset import Dataset
from ymir_nb.backend.diagnosis import Diagnosis
from ymir_nb.backend.evaluation import read_seen, restrict
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
    seen, found = read_seen(workspace, predictions, truth=truth)
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
    seen, found = read_seen(workspace, first, truth=truth)
    return comparison.compare(seen, found, workspace.predictions(second), n=n, seed=seed)


def review(
    workspace: Workspace, predictions: str, *, truth: str = "", sure: float = 0.95, likely: float = 0.5
) -> Review:
    """Rank the labels of a dataset by what saved predictions say against them; see `label_review.review`."""
    pair = read_pair(workspace, predictions, truth=truth)
    return label_review.review(pair.truth, pair.predictions, sure=sure, likely=likely)
