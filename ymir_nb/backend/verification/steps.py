"""What a verification runs, in which order, and which checks look at it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from ymir_nb.backend import contract, packages
from ymir_nb.backend.errors import ProtocolViolated
from ymir_nb.backend.executors import Executor, gpu_count
from ymir_nb.backend.results import read_training
from ymir_nb.backend.runners import Launch
from ymir_nb.backend.verification.every_run import EVERY_RUN, LOOSENINGS, loosened
from ymir_nb.backend.verification.findings import Check
from ymir_nb.backend.verification.runs import Bench, Order, Run, rewrite
from ymir_nb.backend.verification.samples import LABELS, Samples
from ymir_nb.backend.verification.scoring_checks import INFER, MINING
from ymir_nb.backend.verification.special_checks import (
    AGAIN_SCORING,
    AGAIN_TRAINING,
    BROKEN_CONFIG,
    GOES_ON,
    NO_MODEL,
    STOPPED,
    class_order,
)
from ymir_nb.backend.verification.training_checks import TRAINING

UNKNOWN_KEY = {"a_key_that_no_executor_has": "and passes over"}
BROKEN_YAML = "class_names: [\n"
NOWHERE = "nowhere/no-such-model.bin"


class Session:
    """The runs of one verification, and what they need from each other.

    Parameters
    ----------
    executor : Executor
        Whom it is about.
    bench : Bench
        Runs it.
    samples : Samples
        What it works on.
    parameters : mapping
        Under ``training``, ``mining`` and ``infer``.
    model : bytes, optional
        A package, for an executor that does not train.
    """

    def __init__(
        self,
        executor: Executor,
        bench: Bench,
        samples: Samples,
        parameters: Mapping[str, Mapping[str, Any]],
        model: bytes | None,
    ) -> None:
        self.executor = executor
        self.bench = bench
        self.samples = samples
        self.parameters = parameters
        self.isolation = executor.isolation
        self.runs: dict[str, Run] = {}
        self.model = model
        self.labels = packages.read_info(model).class_names if model else LABELS
        self.turned_model: bytes | None = None

    def config(self, kind: str) -> dict[str, Any]:
        """Give the config of a kind of work; of both at once, the two templates' together."""
        config: dict[str, Any] = {}
        for part in kind.split("+"):
            config |= self.executor.config(part, self.parameters.get(part))
        return config

    def launch(self, config: Mapping[str, Any]) -> Launch:
        """Say how it is started, as far shut in as is known to work."""
        return replace(self.executor.launch(config), isolation=self.isolation)

    def training(self, name: str, *, labels: tuple[str, ...] = LABELS, **rest: Any) -> contract.Task:
        """Make the task of a training."""
        return self._task(name, "training", labels, train=self.samples.train, val=self.samples.val, **rest)

    def scoring(self, name: str, kind: str, *, turned: bool = False, **rest: Any) -> contract.Task:
        """Make the task of mining, inference, or both."""
        labels = tuple(reversed(self.labels)) if turned else self.labels
        model = self.turned_model if turned else self.model
        return self._task(name, kind, labels, candidates=self.samples.candidates, model=model, **rest)

    def _task(self, name: str, kind: str, labels: tuple[str, ...], **rest: Any) -> contract.Task:
        config = self.config(kind)
        parts = kind.split("+")
        return contract.Task(
            task_id=f"verify_{name.replace('-', '_')}",
            class_names=labels,
            config=config,
            training="training" in parts,
            mining="mining" in parts,
            infer="infer" in parts,
            gpu_id=",".join(map(str, range(gpu_count(config)))),
            **rest,
        )

    def run(self, name: str, task: contract.Task, order: Order | None = None) -> Run:
        """Run a task and remember what was seen."""
        self.runs[name] = self.bench.run(name, task, self.launch(task.config), order)
        return self.runs[name]

    def run_shut_in(self, name: str, task: contract.Task) -> Run:
        """Run a task; where that fails in a container, find out what of the isolation is in its way.

        What it turns out to need stays allowed for all runs that follow.
        """
        first = self.run(name, task)
        if first.is_well or first.launch.runner != "docker":
            return first
        found = self._loosen(name, task)
        if found is not None:
            self.runs[name], self.isolation = found, found.launch.isolation
        return found or first

    def _loosen(self, name: str, task: contract.Task) -> Run | None:
        """Find a run that goes well with as little allowed as can be; None where none does."""
        more = [LOOSENINGS[:count] for count in range(2, len(LOOSENINGS) + 1)]
        for allowed in [*((flag,) for flag in LOOSENINGS), *more]:
            run = self._run_with(name, task, allowed)
            if run.is_well:
                return self._tighten(name, task, run, allowed)
        return None

    def _tighten(self, name: str, task: contract.Task, best: Run, allowed: Sequence[str]) -> Run:
        """Take back one after another what a run that went well can do without."""
        for flag in allowed[:-1]:  # without the last it was tried
            fewer = [other for other in loosened(best.launch.isolation) if other != flag]
            run = self._run_with(name, task, fewer) if len(fewer) > 1 else best  # each alone was tried
            best = run if run.is_well else best
        return best

    def _run_with(self, name: str, task: contract.Task, allowed: Sequence[str]) -> Run:
        launch = self.launch(task.config)
        limits = replace(launch.isolation, **dict.fromkeys(allowed, True))
        return self.bench.run(f"{name}-{'-'.join(allowed)}", task, replace(launch, isolation=limits))

    def package(self, run: Run) -> bytes | None:
        """Make a model package of a training; None where its result cannot be read."""
        try:
            result = read_training(run.out_dir, object_type=self.executor.object_type)
        except ProtocolViolated:
            return None
        config = {**run.task.config, "class_names": list(run.task.class_names)}
        info = result.to_info(executor_config=config, task_context={"executor": self.executor.name})
        return packages.pack(result.files, info)


Outcome = Run | str
"""A run, or why there is none."""


def train(session: Session) -> Outcome:
    """Train from nothing."""
    run = session.run_shut_in("training", session.training("training"))
    made = session.package(run)
    session.model, session.labels = (made, LABELS) if made else (session.model, session.labels)
    return run


def train_again(session: Session) -> Outcome:
    """Train once more, with a key that nobody knows."""
    return _after(session, "training", lambda first: session.run(
        "training-again", replace(first.task, config={**first.task.config, **UNKNOWN_KEY}), Order(former=first)
    ))  # fmt: skip


def train_on(session: Session) -> Outcome:
    """Train from the model of the first training."""
    if session.model is None:
        return "there is no model to go on from"
    return _after(session, "training", lambda _: session.run(
        "training-on", session.training("training-on", model=session.model)
    ))  # fmt: skip


def train_and_stop(session: Session) -> Outcome:
    """Train, and be told to stop."""
    return _after(session, "training", lambda _: session.run(
        "training-stopped", session.training("training-stopped"), Order(stop=True)
    ))  # fmt: skip


def train_without_config(session: Session) -> Outcome:
    """Train with a config.yaml that is no YAML."""

    def spoil(in_dir: Path) -> None:
        (in_dir / "config.yaml").write_text(BROKEN_YAML, encoding="utf-8")

    return session.run("training-broken", session.training("training-broken"), Order(spoil=spoil))


def score(kind: str, session: Session) -> Outcome:
    """Mine, infer, or both."""
    if session.model is None:
        return "there is no model: the training left none"
    return session.run_shut_in(kind.replace("+", "-"), session.scoring(kind.replace("+", "-"), kind))


def infer_again(session: Session) -> Outcome:
    """Infer once more, with a key that nobody knows."""
    return _after(session, "infer", lambda first: session.run(
        "infer-again", replace(first.task, config={**first.task.config, **UNKNOWN_KEY}), Order(former=first)
    ))  # fmt: skip


def infer_without_model(session: Session) -> Outcome:
    """Infer with a model that is not there."""
    if session.model is None:
        return "there is no model: the training left none"

    def spoil(in_dir: Path) -> None:
        rewrite(in_dir / "config.yaml", _point_nowhere)

    return session.run("infer-broken", session.scoring("infer-broken", "infer"), Order(spoil=spoil))


def infer_turned(session: Session) -> Outcome:
    """Train with the class names turned round, and infer with that."""
    if "training" not in session.runs or "infer" not in session.runs:
        return "it takes a training and an inference"
    turned = session.training("training-turned", labels=tuple(reversed(LABELS)))
    session.turned_model = session.package(session.run("training-turned", turned))
    if session.turned_model is None:
        return "the training with the class names turned round left no model"
    task = session.scoring("infer-turned", "infer", turned=True)
    return session.run("infer-turned", task, Order(former=session.runs["infer"]))


def _after(session: Session, name: str, go_on: Callable[[Run], Run]) -> Outcome:
    """Go on from a run that went well."""
    first = session.runs.get(name)
    return go_on(first) if first is not None and first.is_well else f"the first {name} did not end well"


def _point_nowhere(config: dict[str, Any]) -> None:
    folder = str(config["model_params_path"][0]).rpartition("/")[0] if config.get("model_params_path") else "/in/models"
    config["model_params_path"] = [f"{folder}/{NOWHERE}"]


@dataclass(frozen=True)
class Step:
    """One run and what looks at it.

    Parameters
    ----------
    kind : str
        ``training``, ``mining``, ``infer`` or ``mining+infer``: the task of its rows.
    go : callable
        Takes a `Session` and gives the `Run`, or why there is none.
    checks : tuple of Check
        In the order of the report.
    is_basic : bool
        Done also where only the plain runs are asked for.
    """

    kind: str
    go: Callable[[Session], Outcome]
    checks: tuple[Check[Run], ...]
    is_basic: bool = False


def steps(samples: Samples) -> tuple[Step, ...]:
    """List every step of a verification; adding one is a function above and a row here."""
    order = Check(
        "class order",
        partial(class_order, truth=samples.truth),
        "executor contract, /in/config.yaml: class_names",
        "Take a class's id from its place in config.yaml's class_names, in training and afterwards.",
    )
    return (
        Step("training", train, (*EVERY_RUN, *TRAINING), is_basic=True),
        Step("training", train_again, AGAIN_TRAINING),
        Step("training", train_on, GOES_ON),
        Step("training", train_and_stop, STOPPED),
        Step("training", train_without_config, BROKEN_CONFIG),
        Step("mining", partial(score, "mining"), (*EVERY_RUN, *MINING), is_basic=True),
        Step("infer", partial(score, "infer"), (*EVERY_RUN, *INFER), is_basic=True),
        Step("infer", infer_again, AGAIN_SCORING),
        Step("infer", infer_without_model, NO_MODEL),
        Step("infer", infer_turned, (order,)),
        Step("mining+infer", partial(score, "mining+infer"), (*EVERY_RUN, *MINING, *INFER), is_basic=True),
    )
