"""Checks of an executor's templates and of how it is started, before anything is run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from ymir_nb.backend.contract_annotations import annotation_format
from ymir_nb.backend.errors import PreflightFailed
from ymir_nb.backend.executors import RESERVED
from ymir_nb.backend.runners import RUNNERS
from ymir_nb.backend.untrusted import show
from ymir_nb.backend.verification.findings import Check, Finding, Row, judge, ok, skipped
from ymir_nb.backend.verification.steps import Session


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
    Check("starts", starts, "executor contract, launch", "Follow the detail. An image needs a CMD: none is sent."),
)


def look_at_manual(session: Session, kind: str) -> tuple[Row, ...]:
    """Look at the templates and the start command, before anything is run."""
    offered = all(part in session.executor.templates for part in kind.split("+"))
    offer = Offer(session, kind)
    return tuple(
        check.row(kind, check.look(offer) if offered else skipped("it does not offer that")) for check in MANUAL
    )
