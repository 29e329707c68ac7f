"""Verify an executor: run it on a small dataset, and hold what it does against the contract."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from ymir_nb.backend.errors import PreflightFailed
from ymir_nb.backend.executors import Executor
from ymir_nb.backend.untrusted import show
from ymir_nb.backend.verification.every_run import EVERY_RUN
from ymir_nb.backend.verification.findings import Row, Verification, skipped
from ymir_nb.backend.verification.manual_checks import look_at_manual
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

    Examples
    --------
    >>> from ymir_nb.backend.manuals import Manual
    >>> gone = Executor("gone", ("no-such-program",), Manual({"training": {"epochs": 3}}))
    >>> [row.check for row in verify(gone, tmp / "kit").rows if row.result == "failed"]
    ['starts']

    Source: YMIR 2.5.0, executor contract, protocol 1.1.0.
    """
    began = time.monotonic()
    _check_call(executor, directory, only, model)
    _check_parameters(executor, parameters or {})
    samples = draw_samples(directory / "images", segmented=executor.object_type in SEGMENTATION)
    bench = Bench(directory / "runs", object_type=executor.object_type, seconds=seconds)
    session = Session(executor, bench, samples, _shortened(executor, parameters or {}), model)
    manual = {kind: look_at_manual(session, kind) for kind in KINDS}
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


def _check_parameters(executor: Executor, given: Mapping[str, Mapping[str, Any]]) -> None:
    """Refuse parameters that are not the executor's."""
    for kind, values in given.items():
        executor.config(kind, values)


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
        # Of its own result alone: what follows a reading of the whole is about another file.
        failed = not check.is_rest and (failed or (finding.result == "failed" and check not in EVERY_RUN))
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
