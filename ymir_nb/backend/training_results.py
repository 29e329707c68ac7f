"""The executor contract, what a training leaves in ``/out``: stages, metrics and files, checked before use.

Source: YMIR 2.5.0, executor contract: result.yaml, in its present form and that of the first protocol.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd

from ymir_nb.backend.outbox import Faults, Limits, Outbox
from ymir_nb.backend.package_info import (
    COUNTS,
    LEGACY_STAGE,
    MAIN_METRIC,
    METRICS,
    PackageInfo,
    Stage,
    is_stage_name,
    kept_stages,
    oldest_first,
)
from ymir_nb.backend.untrusted import show, to_number

MAX_STAGES = 1000


@dataclass(frozen=True)
class TrainingResult:
    """What a training left behind.

    Parameters
    ----------
    stages : mapping of str to Stage
        In the order of result.yaml.
    best_stage_name : str
        The executor's choice.
    metric : float
        Main metric of the best stage, in [0, 1].
    files : mapping of str to Path
        Member name in a model package (``<stage>/<file>``, ``attachments/<section>/<file>``) to the
        file in ``/out``, as `packages.pack` takes it.
    object_type : int
        2 detection, 3 semantic and 4 instance segmentation, 50 multimodal.
    attachments, evaluate_config : mapping
        As in `packages.PackageInfo`.
    notes : tuple of str
        What was odd and did no harm, and what was left out.
    """

    stages: Mapping[str, Stage]
    best_stage_name: str
    metric: float
    files: Mapping[str, Path]
    object_type: int = 2
    attachments: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    evaluate_config: Mapping[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def to_info(self, *, executor_config: Mapping[str, Any], task_context: Mapping[str, Any]) -> PackageInfo:
        """Make the info of a model package of this training."""
        return PackageInfo(
            stages=self.stages,
            best_stage_name=self.best_stage_name,
            executor_config=executor_config,
            task_context=task_context,
            object_type=self.object_type,
            attachments=self.attachments,
            evaluate_config=self.evaluate_config,
        )

    def to_frame(self) -> pd.DataFrame:
        """List the stages: columns stage, best, files, timestamp, and every metric that one of them has."""
        rows = [
            {"stage": s.name, "best": s.name == self.best_stage_name, "files": len(s.files), "timestamp": s.timestamp}
            | dict(s.metrics)
            for s in self.stages.values()
        ]
        return pd.DataFrame(rows)


def read_training(out_dir: Path, *, object_type: int = 2, limits: Limits | None = None) -> TrainingResult:
    """Read and check ``models/result.yaml`` and the files it lists; weights are never opened.

    Of more than 11 stages the best and the newest others are kept, as YMIR's own SDK leaves them.

    Parameters
    ----------
    out_dir : Path
        ``out`` of a job.
    object_type : int, default 2
        Says which metric is the main one.
    limits : Limits, optional
        How much may lie in ``/out``.

    Returns
    -------
    TrainingResult

    Raises
    ------
    ProtocolViolated
        With every fault: result.yaml missing or no plain YAML; a listed file missing, absolute, a
        link, outside ``/out`` or too large; a metric outside [0, 1]; a stage without timestamp or
        with a name that is no identifier; a best stage that is not among the stages or has no file.
    """
    faults = Faults("training result")
    reader = _TrainingReader(Outbox(out_dir, limits or Limits()), faults, object_type)
    document = reader.document()
    if document is None:
        faults.end()
        document = {}
    stages = reader.stages(document)
    best = _choice(document, stages)
    if not isinstance(best, str) or best not in stages:
        faults.add(f"best_stage_name {show(best)} is not among the stages {show(sorted(stages))}")
        best = ""
    elif not stages[best].files:
        faults.add(f"the best stage {best!r} lists no file")
    attachments, evaluate_config = reader.attachments(document), reader.evaluate_config(document)
    headline = reader.headline(document)
    faults.end()
    return reader.result(stages, best, headline, attachments, evaluate_config)


def readable_stages(out_dir: Path, *, object_type: int = 2, limits: Limits | None = None) -> TrainingResult | None:
    """Read what a training left that did not end well; what has a fault is left out.

    Parameters
    ----------
    out_dir, object_type, limits
        As `read_training`.

    Returns
    -------
    TrainingResult or None
        The stages that are whole; the best is the executor's choice, or else the one with the
        largest metric, the newer of equal ones. `notes` tells what was left out. None where no
        stage with a file is whole; nothing is ever raised.
    """
    left_out = Faults("training result")
    reader = _TrainingReader(Outbox(out_dir, limits or Limits()), left_out, object_type, lenient=True)
    try:
        document = reader.document()
        if document is None or left_out.found:
            return None
        stages = {name: stage for name, stage in reader.stages(document).items() if stage.files}
        attachments, evaluate_config = reader.attachments(document), reader.evaluate_config(document)
        headline = reader.headline(document)
    except OSError:
        return None
    if not stages:
        return None
    best = _choice(document, stages)
    if not isinstance(best, str) or best not in stages:
        best = max(oldest_first(stages.values())[::-1], key=lambda s: s.metrics.get(reader.main_metric, 0.0)).name
        headline = None  # it was said of another stage
    result = reader.result(stages, best, headline, attachments, evaluate_config)
    return replace(result, notes=(*result.notes, *left_out.found))


def _choice(document: Mapping[str, Any], stages: Mapping[str, Stage]) -> object:
    """Give the executor's best stage, which the first protocol does not name, as it stands."""
    return document.get("best_stage_name") or (LEGACY_STAGE if LEGACY_STAGE in stages else None)


class _TrainingReader:
    """Reads the parts of result.yaml, noting faults and the files found on the way.

    A lenient one leaves out what has a fault; with the other, nothing is used once there is any.
    """

    def __init__(self, outbox: Outbox, faults: Faults, object_type: int, *, lenient: bool = False) -> None:
        self.outbox = outbox
        self.faults = faults
        self.object_type = object_type
        self.main_metric = MAIN_METRIC.get(object_type, "mAP")
        self.lenient = lenient
        self.files: dict[str, Path] = {}

    def document(self) -> dict[str, Any] | None:
        """Read the file itself; None, and a fault, where it is no mapping."""
        self.outbox.check_size(self.faults)
        return self.outbox.read_yaml("models/result.yaml", self.faults)

    def result(
        self,
        stages: Mapping[str, Stage],
        best: str,
        headline: float | None,
        attachments: Mapping[str, tuple[str, ...]],
        evaluate_config: Mapping[str, float],
    ) -> TrainingResult:
        """Put the parts together: at most eleven stages, and the files of these alone."""
        kept = kept_stages(stages, best)
        if headline is not None and self.main_metric not in kept[best].metrics:
            kept[best] = replace(kept[best], metrics={**kept[best].metrics, self.main_metric: headline})
        notes = [f"stage {name!r} was left out: it is none of the newest" for name in stages if name not in kept]
        lacking = [name for name, stage in kept.items() if self.main_metric not in stage.metrics]
        notes += [f"stage {name!r} has no {self.main_metric}; it counts as 0" for name in lacking]
        members = [f"{stage.name}/{name}" for stage in kept.values() for name in stage.files]
        members += [f"attachments/{section}/{name}" for section, names in attachments.items() for name in names]
        return TrainingResult(
            stages=kept,
            best_stage_name=best,
            metric=float(kept[best].metrics.get(self.main_metric, 0.0)),
            files={member: self.files[member] for member in sorted(members)},
            object_type=self.object_type,
            attachments=attachments,
            evaluate_config=evaluate_config,
            notes=tuple(notes),
        )

    def stages(self, document: Mapping[str, Any]) -> dict[str, Stage]:
        """Read ``model_stages``, or ``model`` of the first protocol as one stage, measured by the `headline`."""
        entries = document.get("model_stages")
        if entries is None and "model" in document:
            entries = {LEGACY_STAGE: {"files": document["model"], "timestamp": 0}}
        if not isinstance(entries, dict) or not entries or len(entries) > MAX_STAGES:
            self.faults.add(f"result.yaml must name 1-{MAX_STAGES} model_stages, it has {show(entries)}")
            return {}
        stages = {}
        for name, entry in entries.items():
            if not is_stage_name(name):
                self.faults.add(f"stage name {show(name)} is no identifier")
            elif not isinstance(entry, dict):
                self.faults.add(f"stage {name!r} is no mapping")
            elif entry.get("stage_name", name) != name:
                self.faults.add(f"stage {name!r} calls itself {show(entry['stage_name'])}")
            else:
                n_faults = _n(self.faults)
                stage = self._stage(name, entry)
                if not self._is_left_out(n_faults):
                    stages[name] = stage
        return stages

    def _is_left_out(self, n_faults: int) -> bool:
        """Tell whether a part must be left out, by the number of faults before it was read."""
        return self.lenient and _n(self.faults) > n_faults

    def _stage(self, name: str, entry: Mapping[str, Any]) -> Stage:
        timestamp = to_number(entry.get("timestamp"))
        if timestamp is None or not 0 <= timestamp < 1e12:
            self.faults.add(f"stage {name!r} has the timestamp {show(entry.get('timestamp'))}, it must be seconds")
        metrics = {key: self._share(entry[key], f"{key} of stage {name!r}") for key in METRICS if key in entry}
        if entry.get("map") is not None and "mAP" not in metrics:
            metrics["mAP"] = self._share(entry["map"], f"map of stage {name!r}")
        for key in COUNTS:
            count = to_number(entry.get(key, 0))
            if count is None or count < 0 or count != int(count):
                self.faults.add(f"{key} of stage {name!r} is {show(entry[key])}, it must be a count")
            elif key in entry:
                metrics[key] = int(count)
        files = self._listed(entry.get("files"), f"stage {name!r}", name, (f"models/{name}", "models"))
        return Stage(name, files, timestamp=int(timestamp or 0), metrics=metrics)

    def headline(self, document: Mapping[str, Any]) -> float | None:
        """Read the main metric at the top level, by its new or its old name."""
        for key in (self.main_metric, "map"):
            if document.get(key) is not None:
                n_faults = _n(self.faults)
                share = self._share(document[key], key)
                return None if self._is_left_out(n_faults) else share
        return None

    def attachments(self, document: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
        """Read the lists of further files, which lie below ``models/attachments/<section>``."""
        sections = document.get("attachments") or {}
        if not isinstance(sections, dict):
            self.faults.add(f"attachments must be a mapping, it reads {show(sections)}")
            return {}
        read = {}
        for section, files in sections.items():
            if not is_stage_name(section):
                self.faults.add(f"attachments section {show(section)} is no identifier")
                continue
            folder = f"attachments/{section}"
            n_faults = _n(self.faults)
            names = self._listed(files, f"attachments section {section!r}", folder, (f"models/{folder}",))
            if not self._is_left_out(n_faults):
                read[section] = names
        return read

    def evaluate_config(self, document: Mapping[str, Any]) -> dict[str, float]:
        """Read the thresholds that the executor recommends."""
        config = document.get("evaluate_config") or {}
        if not isinstance(config, dict):
            self.faults.add(f"evaluate_config must be a mapping, it reads {show(config)}")
            return {}
        read = {}
        for key in ("iou_thr", "conf_thr"):
            n_faults = _n(self.faults)
            if key in config:
                share = self._share(config[key], f"evaluate_config.{key}")
                if not self._is_left_out(n_faults):
                    read[key] = share
        return read

    def _share(self, value: object, where: str) -> float:
        """Check a number in [0, 1]."""
        number = to_number(value)
        if number is None or not 0.0 <= number <= 1.0:
            self.faults.add(f"{where} is {show(value)}, it must be in [0, 1]")
            return 0.0
        return number

    def _listed(self, names: object, where: str, member: str, folders: tuple[str, ...]) -> tuple[str, ...]:
        """Check a list of files and note where each lies."""
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            self.faults.add(f"files of {where} must be a list of names, they read {show(names)}")
            return ()
        if len(set(names)) != len(names):
            self.faults.add(f"{where} lists a file more than once")
        for name in names:
            found = [self.outbox.find(f"{folder}/{name}") for folder in folders]
            paths = [path for path, _ in found if path is not None]
            if paths:
                self.files[f"{member}/{name}"] = paths[0]
            else:
                self.faults.add(f"file {show(name)} of {where} {_worst([reason for _, reason in found])}")
        return tuple(names)


def _worst(reasons: list[str]) -> str:
    """Of the reasons of several places, prefer one that says more than that nothing is there."""
    return next((reason for reason in reasons if reason != "does not exist"), reasons[0])


def _n(faults: Faults) -> int:
    return len(faults.found) + faults.n_more
