"""Rounds run headless: one template notebook a step, executed by papermill and kept."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ymir_nb.backend import notebooks
from ymir_nb.backend.errors import ProjectError, StepFailed
from ymir_nb.backend.jobs import Jobs
from ymir_nb.backend.progress import follow
from ymir_nb.backend.projects import STEPS, Project
from ymir_nb.backend.steps import presets

TEMPLATES = {step: f"{position:02}_{step}" for position, step in enumerate(STEPS, start=1)}


@dataclass(frozen=True)
class RoundOutcome:
    """How far a round came.

    Parameters
    ----------
    project : str
        Whose round it is.
    number : int
        Which; round 0 is the first model.
    results : mapping of str to mapping
        What each finished step recorded.
    waiting : str
        Empty when the round is finished; otherwise what it waits for and how to go on.
    """

    project: str
    number: int
    results: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    waiting: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Give it as plain values: the form of ``round run --json``."""
        return {
            "project": self.project,
            "round": self.number,
            "done": not self.waiting,
            "waiting": self.waiting,
            "steps": {step: dict(result) for step, result in self.results.items()},
        }

    def __repr__(self) -> str:
        """Say in one line how it ended."""
        if self.waiting:
            return f"<Round {self.number} of {self.project} waits: {self.waiting}>"
        trained, labelled = self.results.get("training", {}), self.results.get("label", {})
        left = labelled.get("n_open", 0)
        rest = f"; {left} mined images have no label and will not be offered again" if left else ""
        found = "none" if trained.get("ap50") is None else f"{trained['ap50']:.3f}"
        return f"<Round {self.number} of {self.project}: AP50 {found}, {trained.get('n_images')} images{rest}>"


def run_round(
    project: Project,
    *,
    oracle: str = "",
    settings: Mapping[str, Any] | None = None,
    announce: Callable[[int, str], None] | None = None,
) -> RoundOutcome:
    """Run the round that comes next, headless, or what is left of it.

    Every step's notebook is executed into ``rounds/<project>/<nn>/`` and committed. The first call
    trains the first model (round 0) and goes on with round 1.

    Parameters
    ----------
    project : Project
        Whose round to run.
    oracle : str
        Dataset whose annotations answer for a person, such as ``truth``. Without one the round stops
        at the labelling step.
    settings : mapping, optional
        Parameters of the steps' templates that differ from the plan, such as ``{"k": 40}``.
    announce : callable, optional
        Told the round and step that begin.

    Returns
    -------
    RoundOutcome

    Raises
    ------
    ProjectError
        A setting that no template has; nothing was started.
    StepFailed
        A step's notebook stopped; it is kept, and the same call goes on from there.
    """
    given = dict(settings or {})
    _refuse_unknown(given)
    if oracle:
        project.workspace.version(oracle)
    tell = announce or (lambda _number, _step: None)
    if project.next_step() == {"round": 0, "step": "training"}:
        tell(0, "training")
        _run_notebook(project, 0, "training", given)
    number = max(1, project.next_step()["round"])
    for step in STEPS:
        if step == "label":
            given["source"] = oracle or presets(project, number, step)["source"]
            if not given["source"] and project.result(number, step) is None:
                return RoundOutcome(project.name, number, _results(project, number), _how_to_label(project, number))
        tell(number, step)
        _run_notebook(project, number, step, given)
    return RoundOutcome(project.name, number, _results(project, number))


def run_rounds(
    project: Project, n: int = 1, *, oracle: str = "", settings: Mapping[str, Any] | None = None
) -> RoundOutcome:
    """Run several rounds, one after the other, with a progress bar.

    Parameters
    ----------
    project : Project
        Whose rounds to run.
    n : int
        How many; fewer, where one has to wait for labels.
    oracle, settings
        As `run_round`.

    Returns
    -------
    RoundOutcome
        Of the last one.
    """
    if n < 1:
        raise ProjectError(f"{n} rounds cannot be run; it must be a whole number from 1.")
    jobs = Jobs.of(project.workspace)

    def share() -> float:
        known = jobs.to_frame()
        return (
            float(known.loc[known["state"] == "running", "fraction"].max()) if "running" in set(known["state"]) else 0.0
        )

    with follow(share, project.name) as announce:
        for _ in range(n):
            outcome = run_round(project, oracle=oracle, settings=settings, announce=announce)
            if outcome.waiting:
                break
    return outcome


def folder(project: Project, number: int) -> Path:
    """Give the folder of a round's executed notebooks."""
    return project.workspace.root / "rounds" / project.name / f"{number:02}"


def _run_notebook(project: Project, number: int, step: str, settings: Mapping[str, Any]) -> None:
    """Execute one step's template, unless the step is recorded and its notebook complete."""
    source = notebooks.template(TEMPLATES[step])
    output = folder(project, number) / source.name
    if project.result(number, step) is None or not output.with_suffix(".json").exists():
        known = notebooks.parameters_of(source)
        parameters = {name: value for name, value in settings.items() if name in known}
        try:
            notebooks.run_notebook(
                source,
                output,
                parameters={"workspace": ".", "project": project.name, "round": number, **parameters},
                cwd=project.workspace.root,
            )
        except StepFailed:
            _keep(project, f"{project.name}: round {number}, {step.replace('_', ' ')} stopped", output)
            raise
    message = f"{project.name}: round {number}, notebook of {step.replace('_', ' ')}"
    _keep(project, message, output, output.with_suffix(".json"))


def _keep(project: Project, message: str, *files: Path) -> None:
    """Commit files of a round."""
    with project.workspace.store.lock():
        project.workspace.store.git.commit(files, message)


def _refuse_unknown(settings: Mapping[str, Any]) -> None:
    known = {name for stem in TEMPLATES.values() for name in notebooks.parameters_of(notebooks.template(stem))}
    own = known - {"workspace", "project", "round", "result", "source"}
    unknown = sorted(set(settings) - own)
    if unknown:
        raise ProjectError(f"no step of a round takes {', '.join(unknown)}. They take {', '.join(sorted(own))}.")


def _results(project: Project, number: int) -> dict[str, Mapping[str, Any]]:
    found = {step: project.result(number, step) for step in STEPS}
    return {step: result for step, result in found.items() if result is not None}


def _how_to_label(project: Project, number: int) -> str:
    mined = project.result(number, "mining") or {}
    return (
        f"{mined.get('n_images')} images of {mined.get('mined')} wait for their labels. Take them out, label them with "
        f"any tool, bring them back, and run the round again:\n"
        f"  ymir-nb export {mined.get('mined')} --to DIRECTORY --format voc\n"
        f"  ymir-nb import {project.name}-by-hand DIRECTORY\n"
        f"  ymir-nb round run {project.name} --oracle {project.name}-by-hand"
    )
