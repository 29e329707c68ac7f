"""Commands on projects and rounds, the demo and the lab."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import yaml

from ymir_nb.commands.answers import (
    Answer,
    Command,
    Namespace,
    arg,
    as_table,
    open_workspace,
    settings_by_kind,
    settings_of,
)


def project_create(a: Namespace) -> Answer:
    """Make a project: datasets, labels, executor, strategy, targets."""
    from ymir_nb.backend.projects import create_project

    given = {key: value for key in _PLAN if (value := getattr(a, key)) not in (None, [])}
    parameters = {"parameters": settings_by_kind(a.set)} if a.set else {}
    project = create_project(open_workspace(a), a.name, train=a.train, val=a.val, pool=a.pool, **given, **parameters)
    return _shown(project)


def project_set(a: Namespace) -> Answer:
    """Change a project's plan."""
    from ymir_nb.backend.projects import open_project

    project = open_project(open_workspace(a), a.name)
    given = {key: value for key in (*_PLAN, "train", "val", "pool") if (value := getattr(a, key)) not in (None, [])}
    if a.set:
        plan = project.plan
        merged = {kind: dict(values) for kind, values in plan.parameters.items()}
        for kind, values in settings_by_kind(a.set).items():
            merged[kind] = merged.get(kind, {}) | values
        given["parameters"] = merged
    return _shown(project.edit(**given))


def project_copy(a: Namespace) -> Answer:
    """Make a project with the same plan and no rounds."""
    from ymir_nb.backend.projects import open_project

    return _shown(open_project(open_workspace(a), a.name).copy(a.to))


def project_delete(a: Namespace) -> Answer:
    """Remove a project; its datasets and models stay."""
    from ymir_nb.backend.projects import open_project

    open_project(open_workspace(a), a.name).delete()
    return Answer({"deleted": a.name}, f"{a.name} is deleted; its datasets and models stay")


def project_list(a: Namespace) -> Answer:
    """List projects and what comes next in each."""
    from ymir_nb.backend.projects import names, open_project

    ws = open_workspace(a)
    projects = [open_project(ws, name) for name in names(ws)]
    return Answer([{"name": p.name, **p.next_step()} for p in projects], "\n".join(map(repr, projects)) or "none yet")


def project_show(a: Namespace) -> Answer:
    """Show a project's plan, rounds and next step."""
    from ymir_nb.backend.projects import open_project

    return _shown(open_project(open_workspace(a), a.name))


def _shown(project: Any) -> Answer:
    data = project.to_dict()
    plan = yaml.safe_dump(data["plan"], sort_keys=False, allow_unicode=True)
    return Answer(data, f"{project!r}\n{plan}{as_table(project.to_frame()).text}")


def round_run(a: Namespace) -> Answer:
    """Run the next round headless, or what is left of it."""
    from ymir_nb.backend.projects import open_project
    from ymir_nb.backend.rounds import run_rounds

    outcome = run_rounds(open_project(open_workspace(a), a.name), a.n, oracle=a.oracle, settings=settings_of(a.set))
    return Answer(outcome.to_dict(), outcome.waiting or repr(outcome))


def round_mine(a: Namespace) -> Answer:
    """Run a round's steps up to the leaderboard, without notebooks."""
    from ymir_nb.backend.progress import bar
    from ymir_nb.backend.projects import open_project
    from ymir_nb.backend.steps import leaderboard, run_until

    project = open_project(open_workspace(a), a.name)
    with bar("mining") as watch:
        number = run_until(project, "mining", settings={"k": a.k} if a.k else {}, watch=watch)
    return as_table(leaderboard(project, number).board)


def round_finish(a: Namespace) -> Answer:
    """Run the rest of a round: labels, merge, training, evaluation, without notebooks."""
    from ymir_nb.backend.progress import bar
    from ymir_nb.backend.projects import open_project
    from ymir_nb.backend.steps import finish

    project = open_project(open_workspace(a), a.name)
    with bar("training") as watch:
        number = finish(project, a.source, watch=watch)
    shown = _shown(project)
    left = (project.result(number, "label") or {}).get("n_open", 0)
    rest = f"\n{left} mined images have no label and will not be offered again" if left else ""
    return Answer(shown.data, shown.text + rest)


def lab(a: Namespace) -> Answer:
    """Open JupyterLab on the notebooks."""
    from ymir_nb.demo import open_lab

    return Answer({}, status=open_lab(Path(a.workspace), browser=not a.no_browser))


def demo(a: Namespace) -> Answer:
    """Run the whole loop on drawn scenes, or on your own Pascal VOC or COCO folder."""
    from ymir_nb.demo import run_demo

    outcome = run_demo(
        a.to,
        data=a.data,
        rounds=a.rounds,
        k=a.k,
        start=a.start,
        executor=a.executor,
        parameters=settings_by_kind(a.set),
    )
    return Answer(outcome.to_dict(), outcome.to_text())


_PLAN = (
    "labels",
    "executor",
    "strategy",
    "k",
    "budget",
    "pool_strategy",
    "seed",
    "overlap",
    "warm_start",
    "target_map50",
    "target_rounds",
    "target_images",
    "description",
)


_DATASETS = tuple(arg(f"--{role}", required=True, help="dataset") for role in ("train", "val", "pool"))


_DATASETS_OPTIONAL = tuple(arg(f"--{role}", help="dataset") for role in ("train", "val", "pool"))


_PLAN_ARGUMENTS = (
    arg("--label", dest="labels", action="append", help="a label to train (default: all of the training set)"),
    arg("--executor"),
    arg("--strategy", help="hybrid (default), random, entropy ..., or executor for its own; the README lists them"),
    arg("-k", type=int, help="images mined each round"),
    arg("--budget", choices=("images", "boxes"), help="what -k counts (default: images)"),
    arg(
        "--pool-strategy",
        choices=("dedup", "whole", "chunk", "custom"),
        help="leave out what was mined before (default), nothing, or what was ever looked at",
    ),
    arg("--seed", type=int),
    arg("--overlap", choices=("stop", "train", "val"), help="whose are images in both train and val"),
    arg("--warm-start", action=argparse.BooleanOptionalAction, help="begin from the last model's weights"),
    arg("--target-map50", type=float, help="AP50 in (0, 1] to reach"),
    arg("--target-rounds", type=int),
    arg("--target-images", type=int),
    arg("--description"),
    arg(
        "--set", action="append", metavar="KIND.KEY=VALUE", help="an executor parameter, such as training.max_steps=300"
    ),
)


COMMANDS: dict[str, Any] = {
    "project": {
        "create": Command(project_create, (arg("name"), *_DATASETS, *_PLAN_ARGUMENTS)),
        "set": Command(project_set, (arg("name"), *_DATASETS_OPTIONAL, *_PLAN_ARGUMENTS)),
        "copy": Command(project_copy, (arg("name"), arg("--to", required=True, help="name of the copy"))),
        "delete": Command(project_delete, (arg("name"),)),
        "list": Command(project_list),
        "show": Command(project_show, (arg("name"),)),
    },
    "round": {
        "run": Command(
            round_run,
            (
                arg("name", help="the project"),
                arg("-n", type=int, default=1, help="how many rounds (default: 1)"),
                arg("--oracle", default="", help="dataset whose labels answer for a person"),
                arg("--set", action="append", metavar="KEY=VALUE", help="a parameter of the steps' templates"),
            ),
        ),
        "mine": Command(round_mine, (arg("name", help="the project"), arg("-k", type=int, help="images to choose"))),
        "finish": Command(
            round_finish,
            (arg("name", help="the project"), arg("--source", default="", help="dataset that has the labels")),
        ),
    },
    "demo": Command(
        demo,
        (
            arg("--to", default="demo", help="folder of the workspace (default: demo)"),
            arg("--data", default="", help="your own labelled folder or zip, Pascal VOC or COCO"),
            arg("--rounds", type=int, default=3),
            arg("-k", type=int, default=None, help="images a round"),
            arg("--start", type=int, default=20, help="labelled images to begin with"),
            arg("--executor", help="who does the work (default: the embedded one)"),
            arg("--set", action="append", metavar="KIND.KEY=VALUE", help="such as training.max_steps=200"),
        ),
    ),
    "lab": Command(lab, (arg("--no-browser", action="store_true", help="print the address only"),)),
}
