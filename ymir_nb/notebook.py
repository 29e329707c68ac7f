"""What a person calls in a notebook: the loop in a few words, each giving something to look at."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from ymir_nb.backend.collecting import collect
from ymir_nb.backend.dataset import Dataset
from ymir_nb.backend.jobs import Jobs
from ymir_nb.backend.objects import write_atomically
from ymir_nb.backend.progress import bar
from ymir_nb.backend.projects import Project
from ymir_nb.backend.steps import finish, run_until
from ymir_nb.backend.steps import leaderboard as read_leaderboard
from ymir_nb.backend.workspace import Workspace
from ymir_nb.widgets import DatasetBrowser, IterationChart, MiningLeaderboard, report_page

REPORTED_IMAGES = 12
SHOWN_SCORE = 0.2
"""Proposals below are hidden at first: a detector that is to be measured gives a hundred boxes an image."""


def jobs(workspace: Workspace) -> Jobs:
    """Give the jobs of a workspace, after what has ended meanwhile was taken in.

    It shows as a table; ``.attach(id)`` tells the truth about one, ``.wait(id)``, ``.log(id)``,
    ``.metrics(id)``, ``.cancel(id)`` and ``.retry(id)`` do what they say, from any kernel.

    Parameters
    ----------
    workspace : Workspace
        Whose jobs.
    """
    collect(workspace)
    return Jobs.of(workspace)


def browse(dataset: Dataset, *, predictions: Dataset | None = None) -> DatasetBrowser:
    """Show a dataset as pages of pictures with their boxes.

    Parameters
    ----------
    dataset : Dataset
        What to show.
    predictions : Dataset, optional
        Boxes with scores to draw beside the labels.
    """
    widget = DatasetBrowser(dataset, predictions=predictions)
    widget.min_score = SHOWN_SCORE
    return widget


def mine(
    project: Project, k: int | None = None, *, strategy: str | None = None, seed: int | None = None
) -> MiningLeaderboard:
    """Choose the images of the round at hand that are worth labelling.

    Trains the first model where there is none, takes train, val and earlier batches out of the pool,
    lets the model predict on the rest, and ranks it. A round that was mined already is shown again.

    Parameters
    ----------
    project : Project
        Whose round it is.
    k : int, optional
        Images to choose; by default the plan's.
    strategy : str, optional
        A key of `strategies.STRATEGIES`, or ``executor``; by default the plan's.
    seed : int, optional
        Of what the strategy leaves to chance; by default the plan's.

    Returns
    -------
    MiningLeaderboard
        The chosen images when displayed, a frame (rank, image, score, why) when used.
    """
    given = {name: value for name, value in (("k", k), ("strategy", strategy), ("seed", seed)) if value is not None}
    with bar("mining") as watch:
        number = run_until(project, "mining", settings=given, watch=watch)
    return leaderboard(project, number)


def leaderboard(project: Project, number: int | None = None) -> MiningLeaderboard:
    """Show what a round mined; by default the newest that did.

    Parameters
    ----------
    project : Project
        Whose round it is.
    number : int, optional
        The round.
    """
    return _board(project, _newest(project, "mining") if number is None else number)


def finish_round(project: Project, source: str = "") -> IterationChart:
    """Take the labels of the mined images, merge them into train, train and evaluate.

    Parameters
    ----------
    project : Project
        Whose round it is.
    source : str
        Dataset that has the labels: one imported after labelling by hand, or held-back truth.

    Returns
    -------
    IterationChart
        The rounds so far.
    """
    with bar("training") as watch:
        finish(project, source, watch=watch)
    return chart(project)


def chart(project: Project) -> IterationChart:
    """Show how the project's mAP grew, round by round."""
    return IterationChart(project.to_frame(), target_map50=project.plan.target_map50, per_label=per_label(project))


def per_label(project: Project) -> pd.DataFrame:
    """List AP50 of each label in each round: columns round, label, ap50."""
    rows = [
        {"round": row["round"], "label": label, "ap50": values["ap50"]}
        for row in project.to_dict()["rounds"]
        for label, values in row["per_label"].items()
        if values["ap50"] is not None
    ]
    return pd.DataFrame(rows, columns=["round", "label", "ap50"])


def report(project: Project, path: str | Path) -> Path:
    """Write a static page about a project: the curve, the rounds, what was mined last, the versions.

    Parameters
    ----------
    project : Project
        What to report on; it has at least one trained round.
    path : str or Path
        The HTML file to write.

    Returns
    -------
    Path
        The file.
    """
    rounds, plan, ws = project.to_frame(), project.plan, project.workspace
    mined = [number for number in range(len(project.rounds)) if project.result(number, "mining")]
    goals = {"map50": plan.target_map50, "rounds": plan.target_rounds, "n_images": plan.target_images}
    page = report_page(
        title=project.name,
        rounds=rounds,
        targets={name: goal for name, goal in goals.items() if goal is not None},
        per_label=per_label(project),
        leaderboard=_board(project, mined[-1], limit=REPORTED_IMAGES) if mined else None,
        label_counts=ws.dataset(rounds["train"].iloc[-1]).counts() if len(rounds) else None,
        versions=_versions(project),
    )
    write_atomically(Path(path), page)
    return Path(path)


def _board(project: Project, number: int, *, limit: int | None = None) -> MiningLeaderboard:
    mined = read_leaderboard(project, number)
    n_shown = len(mined.dataset) if limit is None else min(limit, len(mined.dataset))
    widget = MiningLeaderboard(mined.board.head(n_shown), mined.dataset, mined.predictions)
    widget.min_score = SHOWN_SCORE
    return widget


def _versions(project: Project) -> pd.DataFrame:
    """List the versions of everything in the workspace: name, version, operation, parents, images, boxes."""
    store = project.workspace.store
    rows: list[dict[str, Any]] = [
        {
            "name": version.name if shelf == "datasets" else f"{shelf}/{version.name}",
            "version": f"v{version.number}",
            "operation": version.meta.get("operation", ""),
            "parents": ", ".join(version.meta.get("parents", {})),
            "images": str(version.meta.get("n_images", "")),
            "boxes": str(version.meta.get("n_boxes", "")),
        }
        for shelf in ("datasets", "models", "predictions")
        for name in store.names(shelf)
        for version in reversed(store.versions(shelf, name))
    ]
    return pd.DataFrame(rows)


def _newest(project: Project, step: str) -> int:
    done = [number for number in range(len(project.rounds)) if project.result(number, step)]
    return done[-1] if done else project.next_step()["round"]
