"""Projects: what shall be reached with which data, and the rounds with the state of each step."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from ymir_nb.backend.errors import ProjectError, ProjectNotFound
from ymir_nb.backend.executors import KINDS, ExecutorBook
from ymir_nb.backend.names import check_name
from ymir_nb.backend.objects import write_atomically
from ymir_nb.backend.strategies import BUDGETS, DEFAULT, POOLS, STRATEGIES
from ymir_nb.backend.workspace import Workspace

STEPS = ("prepare_mining", "mining", "label", "prepare_training", "training")
OVERLAP_RULES = ("stop", "train", "val")
EXECUTOR_STRATEGY = "executor"


@dataclass(frozen=True)
class Plan:
    """What a project is set to.

    Parameters
    ----------
    train, val, pool : str
        Datasets: labelled images to begin with, images to measure on, images to mine from. Of train
        the version at hand is kept, so that a copy begins where the project began; of val and pool a
        name means the newest version each time, and ``name@v3`` pins one.
    labels : tuple of str
        Labels to train; changeable until the first round starts.
    executor : str
        Who trains and infers.
    parameters : mapping of str to mapping
        Executor parameters that differ from its templates, under ``training``, ``infer`` and ``mining``.
    strategy : str
        A key of `strategies.STRATEGIES`, or ``executor`` for the executor's own mining.
    k : int
        Images mined each round, or boxes.
    budget : {'images', 'boxes'}
        What k counts.
    pool_strategy : {'dedup', 'whole', 'chunk', 'custom'}
        How the pool is worked through, see `strategies.pools.POOLS`; for custom, name what is left out as the
        setting ``exclude`` of the step prepare_mining.
    seed : int
        Of mining strategies that draw.
    overlap : {'stop', 'train', 'val'}
        Images that stand in both train and val: stop the training, or count as one side's.
    warm_start : bool
        Begin each training from the last model's weights.
    target_map50 : float, optional
        AP50 in [0, 1] to reach.
    target_rounds, target_images : int, optional
        Rounds to run, labelled images to reach.
    description : str
        For people.
    """

    train: str
    val: str
    pool: str
    labels: tuple[str, ...]
    executor: str = "tiny"
    parameters: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    strategy: str = DEFAULT
    k: int = 20
    budget: str = "images"
    pool_strategy: str = "dedup"
    seed: int = 0
    overlap: str = "stop"
    warm_start: bool = True
    target_map50: float | None = None
    target_rounds: int | None = None
    target_images: int | None = None
    description: str = ""


class Project:
    """A project on disk; every property reads the file as it is now.

    Parameters
    ----------
    workspace : Workspace
        Where it lives.
    name : str
        Its name; the file is ``projects/<name>.yaml``.
    """

    def __init__(self, workspace: Workspace, name: str) -> None:
        self.workspace = workspace
        self.name = check_name(name, what="project")

    @property
    def path(self) -> Path:
        """Its file."""
        return self.workspace.root / "projects" / f"{self.name}.yaml"

    @property
    def plan(self) -> Plan:
        """What it is set to."""
        known = {f.name for f in fields(Plan)}
        values = {key: value for key, value in self._document()["plan"].items() if key in known}
        return Plan(**values | {"labels": tuple(values["labels"])})

    @property
    def rounds(self) -> list[dict[str, dict[str, Any]]]:
        """Every round's steps, by name: their state, settings, result and seconds. The first is round 0."""
        rounds: list[dict[str, dict[str, Any]]] = self._document()["rounds"]
        return rounds

    def result(self, round_number: int, step: str) -> dict[str, Any] | None:
        """Give what a finished step recorded, or None where it is still to be done."""
        rounds = self.rounds
        record = rounds[round_number].get(step) if 0 <= round_number < len(rounds) else None
        return None if record is None else record["result"]

    def record(
        self, round_number: int, step: str, *, settings: Mapping[str, Any], result: Mapping[str, Any], seconds: float
    ) -> None:
        """Write down that a step is finished, and commit the project's file."""
        with self.workspace.store.lock():
            document = self._document()
            while len(document["rounds"]) <= round_number:
                document["rounds"].append({})
            document["rounds"][round_number][step] = {
                "settings": dict(settings),
                "result": dict(result),
                "seconds": round(seconds, 1),
            }
            self._write(document, f"{self.name}: round {round_number}, {step.replace('_', ' ')} done")

    def edit(self, **changes: Any) -> Project:
        """Change the plan.

        Parameters
        ----------
        **changes
            Fields of `Plan`.

        Raises
        ------
        ProjectError
            An unknown field, a value that cannot be, or labels after the first round has started.
        """
        with self.workspace.store.lock():
            document = self._document()
            plan = _changed(self.plan, changes)
            if plan.labels != self.plan.labels and document["rounds"]:
                raise ProjectError(
                    f"project {self.name!r}: the labels are settled once the first round has started. Copy the project "
                    f"and change the copy: copy('{self.name}-2').edit(labels=...)"
                )
            document["plan"] = _plain(_checked(self.workspace, plan))
            self._write(document, f"{self.name}: plan changed ({', '.join(sorted(changes))})")
        return self

    def copy(self, name: str) -> Project:
        """Make a project with the same plan and no rounds.

        Raises
        ------
        ProjectError
            There is a project of that name.
        """
        return _create(self.workspace, name, self.plan)

    def delete(self) -> None:
        """Remove the project; its datasets and models stay, and git keeps its file."""
        with self.workspace.store.lock():
            self._document()
            self.path.unlink()
            self.workspace.store.git.commit([self.path], f"{self.name}: project deleted")

    def to_frame(self) -> pd.DataFrame:
        """List the trained rounds.

        Returns
        -------
        DataFrame
            Columns round, n_images, n_boxes (labelled, in training), ap50, ap, seconds (of all steps),
            train, model, predictions (references).
        """
        rows = []
        for number, steps in enumerate(self.rounds):
            if "training" in steps:
                seconds = round(sum(record["seconds"] for record in steps.values()), 1)
                result = steps["training"]["result"]
                rows.append({"round": number, **{c: result.get(c) for c in _ROUND_COLUMNS}, "seconds": seconds})
        return pd.DataFrame(rows, columns=["round", *_ROUND_COLUMNS, "seconds"])

    def to_dict(self) -> dict[str, Any]:
        """Give name, plan, rounds and targets as plain values: the form of ``project show --json``."""
        rows = self.to_frame().to_dict("records")
        for row in rows:
            row["per_label"] = (self.result(row["round"], "training") or {}).get("per_label", {})
        return {"name": self.name, "plan": _plain(self.plan), "rounds": rows, "next": self.next_step()}

    def next_step(self) -> dict[str, Any]:
        """Tell the round and step that come next."""
        rounds = self.rounds
        if not rounds or "training" not in rounds[0]:
            return {"round": 0, "step": "training"}
        last = len(rounds) - 1
        open_steps = [step for step in STEPS if step not in rounds[last]] if last else []
        return {"round": last, "step": open_steps[0]} if open_steps else {"round": last + 1, "step": STEPS[0]}

    def __repr__(self) -> str:
        """Say in one line where it stands."""
        step = self.next_step()
        return f"<Project {self.name}: next is round {step['round']}, {step['step'].replace('_', ' ')}>"

    def _document(self) -> dict[str, Any]:
        try:
            document = yaml.safe_load(self.path.read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            known = ", ".join(names(self.workspace)) or "none yet"
            raise ProjectNotFound(
                f"there is no project {self.name!r} in {self.workspace.root}; there is: {known}."
            ) from error
        except yaml.YAMLError as error:
            raise ProjectError(f"{self.path} is no YAML: {error}. Restore it: git checkout {self.path.name}") from error
        if not isinstance(document, dict) or not {"plan", "rounds"} <= document.keys():
            raise ProjectError(
                f"{self.path} has no plan and rounds. Restore it: git checkout -- projects/{self.path.name}"
            )
        return document

    def _write(self, document: Mapping[str, Any], message: str) -> None:
        write_atomically(self.path, yaml.safe_dump(document, sort_keys=False, allow_unicode=True))
        self.workspace.store.git.commit([self.path], message)


_ROUND_COLUMNS = ("n_images", "n_boxes", "ap50", "ap", "train", "model", "predictions")


def create_project(workspace: Workspace, name: str, *, train: str, val: str, pool: str, **settings: Any) -> Project:
    """Make a project.

    Parameters
    ----------
    workspace : Workspace
        Where it shall live.
    name : str
        Its name.
    train, val, pool : str
        Datasets, see `Plan`.
    **settings
        Further fields of `Plan`; `labels` are those of `train` unless given.

    Raises
    ------
    ProjectError
        The name is taken, or the plan cannot work: no such dataset, nothing labelled in val, an
        unknown label, executor or strategy, a number out of range.
    """
    labels = settings.pop("labels", None) or workspace.dataset(train).labels
    plan = _changed(Plan(train=train, val=val, pool=pool, labels=tuple(labels)), settings)
    return _create(workspace, name, plan)


def open_project(workspace: Workspace, name: str) -> Project:
    """Find a project by name.

    Raises
    ------
    ProjectNotFound
        There is none; the message lists what there is.
    """
    project = Project(workspace, name)
    _ = project.plan
    return project


def names(workspace: Workspace) -> list[str]:
    """List the projects of a workspace, sorted."""
    return sorted(path.stem for path in (workspace.root / "projects").glob("*.yaml"))


def _create(workspace: Workspace, name: str, plan: Plan) -> Project:
    project = Project(workspace, name)
    with workspace.store.lock():
        if project.path.exists():
            raise ProjectError(f"there is a project {name!r} already. Choose another name, or delete it first.")
        project._write({"plan": _plain(_checked(workspace, plan)), "rounds": []}, f"{name}: project made")  # noqa: SLF001
    return project


def _changed(plan: Plan, changes: Mapping[str, Any]) -> Plan:
    """Replace fields of a plan by name; a parameter mapping is replaced as a whole."""
    known = [f.name for f in fields(Plan)]
    unknown = sorted(set(changes) - set(known))
    if unknown:
        raise ProjectError(f"a project has no setting {', '.join(unknown)}. It has {', '.join(known)}.")
    return replace(plan, **changes)


def _checked(workspace: Workspace, plan: Plan) -> Plan:
    """Refuse a plan that cannot work; give it back with labels folded to main names."""
    sets = {role: workspace.dataset(getattr(plan, role)) for role in ("train", "val", "pool")}
    for role in ("train", "val"):
        if len(sets[role]) == sets[role].n_unlabelled:
            raise ProjectError(
                f"{role} {getattr(plan, role)!r} has no labelled image. Label some, or choose another dataset."
            )
    common = sets["train"].images[sets["train"].images["image"].isin(sets["val"].images["image"])]
    if len(common) and plan.overlap == "stop":
        raise ProjectError(
            f"{len(common)} images stand in both train {plan.train!r} and val {plan.val!r}, such as "
            f"{min(common['file'])}. Exclude them from one, or say whose they are: overlap train or val."
        )
    labels = tuple(workspace.labels.main_name(label) for label in plan.labels)
    if not labels or len(set(labels)) < len(labels):
        raise ProjectError(
            f"labels {list(plan.labels)} must name at least one label, each once (aliases count as the same)."
        )
    executor = ExecutorBook(workspace.store).get(plan.executor)
    strange = sorted(set(plan.parameters) - set(KINDS))
    if strange:
        raise ProjectError(f"parameters stand under {', '.join(KINDS)}, not under {', '.join(strange)}.")
    for kind, parameters in plan.parameters.items():
        executor.config(kind, parameters)
    _require(
        plan.strategy in STRATEGIES or plan.strategy == EXECUTOR_STRATEGY,
        "strategy",
        plan.strategy,
        f"one of {', '.join([*STRATEGIES, EXECUTOR_STRATEGY])}",
    )
    _require(plan.budget in BUDGETS, "budget", plan.budget, f"one of {', '.join(BUDGETS)}")
    _require(plan.pool_strategy in POOLS, "pool_strategy", plan.pool_strategy, f"one of {', '.join(POOLS)}")
    _require(plan.overlap in OVERLAP_RULES, "overlap", plan.overlap, f"one of {', '.join(OVERLAP_RULES)}")
    _require(_is_whole(plan.k, 1), "k", plan.k, "a whole number from 1")
    _require(_is_whole(plan.seed, 0), "seed", plan.seed, "a whole number from 0")
    _require(plan.target_map50 is None or 0 < plan.target_map50 <= 1, "target_map50", plan.target_map50, "in (0, 1]")
    for name in ("target_rounds", "target_images"):
        value = getattr(plan, name)
        _require(value is None or _is_whole(value, 1), name, value, "a whole number from 1")
    return replace(plan, train=sets["train"].ref, labels=_ordered(workspace, labels))


def _ordered(workspace: Workspace, labels: Iterable[str]) -> tuple[str, ...]:
    """Put labels in the order of labels.yaml, so that class ids do not depend on who typed them."""
    known = workspace.labels.read()
    return tuple(sorted(labels, key=lambda label: known.find(label).id))


def _is_whole(value: Any, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _require(holds: bool, name: str, value: Any, wanted: str) -> None:
    if not holds:
        raise ProjectError(f"{name} is {value!r}; it must be {wanted}.")


def _plain(plan: Plan) -> dict[str, Any]:
    """Give a plan as plain values for YAML and JSON."""
    parameters = {kind: dict(values) for kind, values in plan.parameters.items()}
    return asdict(replace(plan, parameters={})) | {"labels": list(plan.labels), "parameters": parameters}
