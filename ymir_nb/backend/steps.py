"""The steps of a round, from an unlabelled pool to a better model, resumable at every point.

A step takes its settings from the step before it, does its work, and is written into the project's
file. A finished step is never run twice: asking for it again gives what it recorded. A step that was
killed runs again and finds its half-done work: versions that it saved are recognised by their
content, and a job that it started is attached to.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from filelock import Timeout

from ymir_nb.backend import evaluation, inference, mining, ops, training
from ymir_nb.backend.errors import ProjectError
from ymir_nb.backend.jobs import Watch
from ymir_nb.backend.projects import STEPS, Project
from ymir_nb.backend.strategies import left_out

Settings = dict[str, Any]
Result = dict[str, Any]


@dataclass(frozen=True)
class Step:
    """One step of a round.

    Parameters
    ----------
    presets : callable
        From project and round number to the step's settings, filled in from what went before.
    run : callable
        From project, settings and watcher to the step's result: plain values.
    """

    presets: Callable[[Project, int], Settings]
    run: Callable[[Project, Settings, Watch], Result]


def run_step(
    project: Project,
    step: str,
    *,
    number: int | None = None,
    settings: Mapping[str, Any] | None = None,
    watch: Watch = None,
) -> Result:
    """Run one step of a round, or give what it recorded if it is finished.

    Parameters
    ----------
    project : Project
        Whose round it is.
    step : str
        One of `projects.STEPS`.
    number : int, optional
        The round; by default the one that comes next. Round 0 has one step, ``training``.
    settings : mapping, optional
        Settings that differ from `presets`.
    watch : callable, optional
        Gets the progress of jobs.

    Returns
    -------
    dict
        The step's result: references of what it made, and numbers.

    Raises
    ------
    ProjectError
        An unknown step or setting, a step whose predecessor is missing, or another process runs one.
    """
    if step not in STEPS:
        raise ProjectError(f"there is no step {step!r}; the steps of a round are {', '.join(STEPS)}.")
    lock = project.workspace.store.lock(f"project-{project.name}")
    try:
        with lock:
            return _run_locked(project, step, number, dict(settings or {}), watch)
    except Timeout as error:
        raise ProjectError(
            f"another process runs a step of project {project.name!r}. Wait for it (ymir-nb jobs list), then ask again."
        ) from error


def run_until(project: Project, step: str, *, settings: Mapping[str, Any] | None = None, watch: Watch = None) -> int:
    """Run every step that is left up to and with this one, and give the round's number.

    Parameters
    ----------
    project : Project
        Whose rounds they are; a first model is trained where there is none.
    step : str
        One of `projects.STEPS`.
    settings : mapping, optional
        Each goes to the steps that take it.
    watch : callable, optional
        Gets the progress of jobs.

    Raises
    ------
    ProjectError
        As `run_step`.
    """
    given = dict(settings or {})
    if project.next_step()["round"] == 0:
        run_step(project, "training", number=0, watch=watch)
    number: int = project.next_step()["round"]
    for due in STEPS[: STEPS.index(step) + 1]:
        if project.result(number, due) is None:
            taken = {name: value for name, value in given.items() if name in presets(project, number, due)}
            run_step(project, due, number=number, settings=taken, watch=watch)
    return number


def finish(project: Project, source: str = "", *, watch: Watch = None) -> int:
    """Run what is left of a round whose images were mined, and give the round's number.

    Parameters
    ----------
    project : Project
        Whose round it is.
    source : str
        Dataset that has the labels.
    watch : callable, optional
        Gets the progress of jobs.

    Raises
    ------
    ProjectError
        Nothing is mined yet in the round at hand.
    VersionNotFound
        There is no such source.
    """
    due = project.next_step()
    if due["round"] == 0 or due["step"] in ("prepare_mining", "mining"):
        before = f"Round {due['round'] - 1} is finished. " if due["round"] else ""
        raise ProjectError(
            f"{before}Nothing is mined yet in round {max(1, due['round'])} of {project.name!r}. "
            f"Mine first: ymir-nb round mine {project.name}"
        )
    if source:
        project.workspace.version(source)
    return run_until(project, "training", settings={"source": source} if source else {}, watch=watch)


def leaderboard(project: Project, number: int) -> mining.Mined:
    """Give what a round mined: the board, the images and the proposals on them."""
    result = _result(project, number, "mining")
    return mining.read_mined(project.workspace, result["mined"], result["predictions"])


def _run_locked(project: Project, step: str, number: int | None, settings: Settings, watch: Watch) -> Result:
    number = project.next_step()["round"] if number is None else number
    done = project.result(number, step)
    if done is not None:
        return done
    due = project.next_step()
    if (number, step) != (due["round"], due["step"]):
        raise ProjectError(
            f"project {project.name!r}: round {number}, {step.replace('_', ' ')} cannot run yet; next is round "
            f"{due['round']}, {due['step'].replace('_', ' ')}."
        )
    used = presets(project, number, step)
    unknown = sorted(set(settings) - set(used))
    if unknown:
        raise ProjectError(f"step {step!r} has no setting {', '.join(unknown)}. It takes {', '.join(used)}.")
    used |= settings
    started = time.monotonic()
    result = _STEPS[step].run(project, used, watch)
    project.record(number, step, settings=used, result=result, seconds=time.monotonic() - started)
    return result


def presets(project: Project, number: int, step: str) -> Settings:
    """Give a step's settings as they follow from the plan and the steps before it."""
    return _STEPS[step].presets(project, number)


def _result(project: Project, number: int, step: str) -> Result:
    """Give the result of a step that must be finished."""
    result = project.result(number, step)
    if result is None:
        raise ProjectError(f"project {project.name!r}: round {number} has not finished {step.replace('_', ' ')} yet.")
    return result


def _last_training(project: Project, number: int) -> Result:
    return _result(project, number - 1, "training")


def _prepare_mining_presets(project: Project, number: int) -> Settings:
    last = _last_training(project, number)
    earlier = range(1, number)
    exclude = left_out(
        project.plan.pool_strategy,
        train=last["train"],
        val=last["val"],
        inputs=[_result(project, each, "prepare_mining")["candidates"] for each in earlier],
        outputs=[_result(project, each, "mining")["mined"] for each in earlier],
    )
    return {"pool": project.plan.pool, "exclude": exclude}


def _prepare_mining(project: Project, settings: Settings, watch: Watch) -> Result:  # noqa: ARG001
    ws = project.workspace
    pool = ws.dataset(settings["pool"])
    candidates = ops.exclude(pool, *(ws.dataset(ref) for ref in settings["exclude"]))
    if not len(candidates):
        raise ProjectError(
            f"nothing is left to mine: all {len(pool)} images of {pool.ref} are in {', '.join(settings['exclude'])}. "
            f"Import more images into {project.plan.pool!r}."
        )
    saved = ws.save(
        candidates,
        f"{project.name}-candidates",
        operation="exclude",
        parents=[pool.ref, *settings["exclude"]],
    )
    return {"candidates": saved.ref, "n_images": len(saved)}


def _mining_presets(project: Project, number: int) -> Settings:
    plan = project.plan
    return {
        "candidates": _result(project, number, "prepare_mining")["candidates"],
        "model": _last_training(project, number)["model"],
        "train": _last_training(project, number)["train"],
        "committee": [_result(project, earlier, "mining")["predictions"] for earlier in range(1, number)],
        "strategy": plan.strategy,
        "k": plan.k,
        "budget": plan.budget,
        "seed": plan.seed,
        "executor": plan.executor,
        "parameters": {kind: dict(plan.parameters.get(kind, {})) for kind in ("infer", "mining")},
    }


def _mining(project: Project, settings: Settings, watch: Watch) -> Result:
    mined = mining.mine(
        project.workspace,
        settings["candidates"],
        name=f"{project.name}-mined",
        model=settings["model"],
        strategy=settings["strategy"],
        k=settings["k"],
        budget=settings["budget"],
        train=settings["train"],
        committee=settings["committee"],
        seed=settings["seed"],
        executor=settings["executor"],
        parameters=settings["parameters"],
        watch=watch,
    )
    return {"mined": mined.dataset.ref, "predictions": mined.predictions.ref, "n_images": len(mined.dataset)}


def _label_presets(project: Project, number: int) -> Settings:
    mined = project.workspace.dataset(_result(project, number, "mining")["mined"])
    # A pool that was labelled all along answers for itself.
    source = "" if mined.n_unlabelled else mined.ref
    return {"mined": mined.ref, "labels": list(project.plan.labels), "source": source}


def _label(project: Project, settings: Settings, watch: Watch) -> Result:  # noqa: ARG001
    ws = project.workspace
    mined = ws.dataset(settings["mined"])
    if not settings["source"]:
        raise ProjectError(
            f"{mined.n_unlabelled} of the {len(mined)} images of {mined.ref} have no labels yet. Name the dataset that "
            f"has them as the source: ymir-nb round finish {project.name} --source NAME"
        )
    source = ws.dataset(settings["source"])
    labelled = ops.label_from(mined, source, labels=settings["labels"])
    if labelled.n_unlabelled == len(labelled):
        raise ProjectError(
            f"{source.ref} has labelled none of the {len(mined)} images of {mined.ref}, known by their bytes. Export "
            "these images, label the files as they are, and import them again."
        )
    found = ops.filter(labelled, state="labelled")
    saved = ws.save(found, f"{project.name}-labelled", operation="label", parents=[mined.ref, source.ref])
    return {"labelled": saved.ref, "n_images": len(saved), "n_boxes": saved.n_boxes, "n_open": labelled.n_unlabelled}


def _prepare_training_presets(project: Project, number: int) -> Settings:
    return {
        "train": _last_training(project, number)["train"],
        "labelled": _result(project, number, "label")["labelled"],
        "conflicts": "last",
    }


def _prepare_training(project: Project, settings: Settings, watch: Watch) -> Result:  # noqa: ARG001
    ws = project.workspace
    parts = [ws.dataset(settings["train"]), ws.dataset(settings["labelled"])]
    merged = ops.merge(parts, conflicts=settings["conflicts"])
    name = settings["train"].partition("@")[0]
    saved = ws.save(
        merged,
        name,
        operation="merge",
        parameters={"conflicts": settings["conflicts"]},
        parents=[part.ref for part in parts],
    )
    return {"train": saved.ref, "n_images": len(saved), "n_boxes": saved.n_boxes}


def _training_presets(project: Project, number: int) -> Settings:
    plan = project.plan
    first = number == 0
    train = (
        project.workspace.version(plan.train).ref if first else _result(project, number, "prepare_training")["train"]
    )
    return {
        "train": train,
        "val": project.workspace.version(plan.val).ref,
        "labels": list(plan.labels),
        "model": _last_training(project, number)["model"] if plan.warm_start and not first else "",
        "overlap": plan.overlap,
        "executor": plan.executor,
        "parameters": {kind: dict(plan.parameters.get(kind, {})) for kind in ("training", "infer")},
    }


def _training(project: Project, settings: Settings, watch: Watch) -> Result:
    ws = project.workspace
    model = training.train(
        ws,
        project.name,
        train=settings["train"],
        val=settings["val"],
        labels=settings["labels"],
        pretrained=settings["model"],
        overlap=settings["overlap"],
        executor=settings["executor"],
        parameters=settings["parameters"]["training"],
        watch=watch,
    )
    predictions = inference.infer(
        ws,
        settings["val"],
        model.ref,
        executor=settings["executor"],
        parameters=settings["parameters"]["infer"],
        watch=watch,
    )
    measured = evaluation.evaluate(ws, predictions.ref)
    trained_on = model.card["trained_on"]
    return {
        "train": settings["train"],
        "val": settings["val"],
        "model": model.ref,
        "predictions": predictions.ref,
        "n_images": trained_on["n_images"],
        "n_boxes": trained_on["n_boxes"],
        **measured.to_dict(),
    }


_STEPS: dict[str, Step] = {
    "prepare_mining": Step(_prepare_mining_presets, _prepare_mining),
    "mining": Step(_mining_presets, _mining),
    "label": Step(_label_presets, _label),
    "prepare_training": Step(_prepare_training_presets, _prepare_training),
    "training": Step(_training_presets, _training),
}
