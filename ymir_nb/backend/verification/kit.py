"""Verify an executor: run it on a small dataset, and hold what it does against the contract."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from ymir_nb.backend.contract_annotations import annotation_format
from ymir_nb.backend.errors import PreflightFailed
from ymir_nb.backend.executors import RESERVED, Executor
from ymir_nb.backend.runners import RUNNERS
from ymir_nb.backend.untrusted import show
from ymir_nb.backend.verification.every_run import EVERY_RUN
from ymir_nb.backend.verification.findings import Check, Finding, Row, Verification, judge, ok, skipped
from ymir_nb.backend.verification.runs import Bench, Run
from ymir_nb.backend.verification.samples import draw_samples
from ymir_nb.backend.verification.scoring_checks import SEGMENTATION
from ymir_nb.backend.verification.steps import Session, Step, steps

KINDS = ("training", "mining", "infer", "mining+infer")
SHORT = {"max_steps": 40, "epochs": 2, "max_epochs": 2, "num_epochs": 2, "max_batches": 40}
"""Parameters by which known executors say how long they train, and what is enough here."""
RUN_SECONDS = 1800.0


def verify(
    executor: Executor,
    directory: Path,
    *,
    parameters: Mapping[str, Mapping[str, Any]] | None = None,
    model: bytes | None = None,
    only: Collection[str] = KINDS,
    quick: bool = False,
    seconds: float = RUN_SECONDS,
    watch: Callable[[float, str], None] | None = None,
) -> Verification:
    """Run an executor through training, mining, inference and both, and report what of the contract holds.

    Parameters
    ----------
    executor : Executor
        A command or an image.
    directory : Path
        A new or empty folder: gets the drawn images, and ``in`` and ``out`` of every run.
    parameters : mapping, optional
        Executor parameters under ``training``, ``mining`` and ``infer``. Without them a training is
        cut to what `SHORT` names.
    model : bytes, optional
        A model package, for an executor that does not train.
    only : collection of str
        Of `KINDS`: what to look at; the first model comes from a training, or is given.
    quick : bool
        One plain run of each kind: nothing is repeated, gone on with, spoilt or stopped.
    seconds : float, default 1800
        Longest time of one run.
    watch : callable, optional
        Gets the share done, in [0, 1], and a few words.

    Returns
    -------
    Verification
        A row for every check, also for what was skipped, always in the same order.

    Raises
    ------
    PreflightFailed
        The folder has something in it, a parameter is not the executor's, or there is neither a
        training nor a model to begin with.
    ImportRefused
        The model is no package.

    Source: YMIR 2.5.0, executor contract, protocol 1.1.0.
    """
    began = time.monotonic()
    _check_call(executor, directory, only, model)
    samples = draw_samples(directory / "images", segmented=executor.object_type in SEGMENTATION)
    bench = Bench(directory / "runs", object_type=executor.object_type, seconds=seconds)
    session = Session(executor, bench, samples, _shortened(executor, parameters or {}), model)
    manual = {kind: _look_at_manual(session, kind) for kind in KINDS}
    rows = [row for kind in KINDS if kind in only for row in manual[kind]]
    todo = steps(samples)
    for number, step in enumerate(todo):
        if watch is not None:
            watch(number / len(todo), _words(step))
        reason = _reason(step, executor, only, manual) or ("" if step.is_basic or not quick else "left out: quick")
        rows += _rows(step, reason or step.go(session))
    if watch is not None:
        watch(1.0, "done")
    order = {kind: place for place, kind in enumerate(KINDS)}
    rows = [row for row in rows if row.task in only]
    return Verification(executor.name, tuple(sorted(rows, key=lambda row: order[row.task])), time.monotonic() - began)


def _check_call(executor: Executor, directory: Path, only: Collection[str], model: bytes | None) -> None:
    """Refuse a call from which nothing could be learned."""
    strange = sorted(set(only) - set(KINDS))
    if strange or not only:
        raise PreflightFailed(f"only is {show(list(only))}; it takes of {', '.join(KINDS)}.")
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise PreflightFailed(f"{directory} has something in it. Name a new or an empty folder.")
    trains = "training" in executor.templates and "training" in only
    if not trains and model is None:
        raise PreflightFailed(
            f"executor {executor.name!r} is not asked to train, so {', '.join(only)} needs a model: give a package of "
            "one that it made (--model), or let it train."
        )


def _shortened(executor: Executor, given: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Add a short training to the caller's parameters."""
    parameters = {kind: dict(values) for kind, values in given.items()}
    template = executor.templates.get("training", {})
    short = {name: value for name, value in SHORT.items() if _is_more(template.get(name), value)}
    return parameters | {"training": short | parameters.get("training", {})}


def _is_more(value: object, most: int) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value > most


def _rows(step: Step, outcome: Run | str) -> Iterator[Row]:
    """Let every check of a step look at its run."""
    failed = False
    for check in step.checks:
        if isinstance(outcome, str):
            finding = skipped(outcome)
        elif step.is_basic and not outcome.is_well and check not in EVERY_RUN:
            finding = skipped("it did not end well")
        elif check.is_rest and failed:
            finding = skipped("see the checks above")
        else:
            finding = check.look(outcome)
        failed = failed or finding.result == "failed"
        yield check.row(step.kind, finding)


def _reason(step: Step, executor: Executor, only: Collection[str], manual: Mapping[str, tuple[Row, ...]]) -> str:
    """Say why a step is left out; empty where it is not."""
    if step.kind not in only:
        return "not asked for"
    missing = [part for part in step.kind.split("+") if part not in executor.templates]
    if missing:
        return f"it offers no {' and no '.join(missing)}"
    broken = [row.check for row in manual[step.kind] if row.result == "failed"]
    return f"see {', '.join(broken)}" if broken else ""


def _words(step: Step) -> str:
    return f"{step.kind}: {step.checks[0].name if not step.is_basic else 'a plain run'}"


@dataclass(frozen=True)
class Offer:
    """A kind of work as the executor's templates offer it."""

    session: Session
    kind: str

    @property
    def templates(self) -> list[Mapping[str, Any]]:
        """One template, or two where both works are done at once."""
        return [self.session.executor.templates[part] for part in self.kind.split("+")]

    @property
    def written(self) -> list[Mapping[str, Any]]:
        """The same as they were written, reserved keys and all."""
        texts = self.session.executor.manual.texts
        return [yaml.safe_load(texts.get(part, "")) or given for part, given in self._parts()]

    def _parts(self) -> Iterator[tuple[str, Mapping[str, Any]]]:
        return zip(self.kind.split("+"), self.templates, strict=True)


def _look_at_manual(session: Session, kind: str) -> tuple[Row, ...]:
    """Look at the templates and the start command, before anything is run."""
    offered = all(part in session.executor.templates for part in kind.split("+"))
    offer = Offer(session, kind)
    return tuple(
        check.row(kind, check.look(offer) if offered else skipped("it does not offer that")) for check in MANUAL
    )


def template(offer: Offer) -> Finding:
    """A template is a flat mapping of names to plain values, and sets no reserved key."""
    faults = []
    for values in offer.written:
        for name, value in values.items():
            if name in RESERVED and value not in (None, "", [], {}):
                faults.append(f"reserved key {name} is {show(value)}")
            elif isinstance(value, dict) and name not in RESERVED:
                faults.append(f"{name} is {show(value)}, which is not flat")
    return judge(faults)


def templates_agree(offer: Offer) -> Finding:
    """Two templates that are used together say the same."""
    if len(offer.templates) == 1:
        return ok()
    first, second = offer.templates
    other = sorted(name for name in first.keys() & second.keys() if first[name] != second[name])
    return judge([f"{n} is {show(first[n])} and {show(second[n])}" for n in other], result="warning")


def export_format(offer: Offer) -> Finding:
    """export_format is one that can be written."""
    try:
        return ok(annotation_format(offer.session.config(offer.kind)))
    except PreflightFailed as error:
        return Finding("failed", str(error))


def starts(offer: Offer) -> Finding:
    """It can be started as it stands, and an image without being told what to start."""
    try:
        launch = offer.session.launch(offer.session.config(offer.kind))
        RUNNERS[launch.runner].preflight(launch)
    except PreflightFailed as error:
        return Finding("failed", str(error))
    told = bool(launch.image and launch.command)
    return judge([f"the image is told to run {list(launch.command)}"] if told else [], result="warning")


_MANUAL = "executor contract, /img-man"

MANUAL: tuple[Check[Offer], ...] = (
    Check("template", template, _MANUAL, "Write `key: value` lines; leave reserved keys empty or in a comment."),
    Check("templates agree", templates_agree, _MANUAL, "Give the key one default: the two are merged in one run."),
    Check("export format", export_format, "executor contract, export_format", "Write ark:raw, voc:raw or coco:raw."),
    Check("starts", starts, "executor contract, launch", "Give the image a CMD that starts the work: none is sent."),
)
