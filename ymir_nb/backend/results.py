"""The executor contract, the host's side of ``/out``: what an executor left, checked before use.

Everything there is hostile until checked. All faults of a result are collected and raised together;
a result with one fault is not used at all.

Source: YMIR 2.5.0, executor contract: result.yaml, result.tsv, infer-result.json.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from ymir_nb.backend.detections import Detections, image_of, read_infer
from ymir_nb.backend.outbox import Faults, Limits, Outbox
from ymir_nb.backend.package_info import COUNTS, LEGACY_STAGE, MAIN_METRIC, METRICS, PackageInfo, Stage, is_stage_name
from ymir_nb.backend.untrusted import show, to_number

__all__ = ["Detections", "Limits", "MiningScores", "TrainingResult", "read_infer", "read_mining", "read_training"]

MAX_STAGES = 1000
Strays = Literal["fail", "report"]


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
        What was odd and did no harm.
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


@dataclass(frozen=True)
class MiningScores:
    """What a miner found.

    Parameters
    ----------
    scores : DataFrame
        Columns image and score, best first; equal scores by image.
    notes : tuple of str
        Rows that were left out, and why.
    """

    scores: pd.DataFrame
    notes: tuple[str, ...] = ()


def read_training(out_dir: Path, *, object_type: int = 2, limits: Limits | None = None) -> TrainingResult:
    """Read and check ``models/result.yaml`` and the files it lists; weights are never opened.

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
    outbox, faults = Outbox(out_dir, limits or Limits()), Faults("training result")
    outbox.check_size(faults)
    document = outbox.read_yaml("models/result.yaml", faults)
    if document is None:
        faults.end()
        document = {}
    reader = _TrainingReader(outbox, faults, MAIN_METRIC.get(object_type, "mAP"))
    stages = reader.stages(document)
    best = document.get("best_stage_name") or (LEGACY_STAGE if LEGACY_STAGE in stages else None)
    if not isinstance(best, str) or best not in stages:
        faults.add(f"best_stage_name {show(best)} is not among the stages {show(sorted(stages))}")
    elif not stages[best].files:
        faults.add(f"the best stage {best!r} lists no file")
    headline = reader.headline(document)
    attachments = reader.attachments(document)
    evaluate_config = reader.evaluate_config(document)
    faults.end()
    found = stages[str(best)].metrics.get(reader.main_metric)
    return TrainingResult(
        stages=stages,
        best_stage_name=str(best),
        metric=float(found if found is not None else headline or 0.0),
        files=dict(sorted(reader.files.items())),
        object_type=object_type,
        attachments=attachments,
        evaluate_config=evaluate_config,
        notes=tuple(reader.notes),
    )


def read_mining(
    out_dir: Path, images: pd.DataFrame, *, strays: Strays = "fail", limits: Limits | None = None
) -> MiningScores:
    """Read and check ``result.tsv``: a score for every candidate.

    The rows are sorted here, whatever the executor did, so that a top k never depends on its order,
    and a row that names no candidate, or one that was named before, never takes a place in it.

    Parameters
    ----------
    out_dir : Path
        ``out`` of a job.
    images : DataFrame
        The candidates, columns of `tables.IMAGES`.
    strays : {"fail", "report"}, default "fail"
        Unknown, repeated and missing images are faults, or are left out and noted: some executors
        that work on several GPUs repeat rows. Of repeated rows the first counts.
    limits : Limits, optional
        How much may lie in ``/out``.

    Returns
    -------
    MiningScores

    Raises
    ------
    ProtocolViolated
        With every fault: the file is missing or no text, a score is not a finite number, some rows
        have a score and some have none, and what `strays` names.
    """
    outbox, faults = Outbox(out_dir, limits or Limits()), Faults("mining result")
    outbox.check_size(faults)
    text = outbox.read_text("result.tsv", faults, limit=outbox.limits.table_bytes)
    rows = _mining_rows(text or "", faults)
    known = set(images["image"])
    notes: list[str] = []
    stray = faults.add if strays == "fail" else notes.append
    kept: dict[str, float] = {}
    for name, score in rows:
        image = image_of(name)
        if image not in known:
            stray(f"result.tsv names {show(name)}, which is no candidate")
        elif image in kept:
            stray(f"result.tsv names image {image} more than once")
        else:
            kept[image] = score
    missing = sorted(known - kept.keys())
    if missing and text is not None:
        stray(f"result.tsv has no row for {len(missing)} of {len(known)} candidates, the first is {missing[0]}")
    faults.end()
    frame = pd.DataFrame(
        {"image": pd.Series(list(kept), dtype="str"), "score": pd.Series(list(kept.values()), dtype=float)}
    )
    ordered = frame.sort_values(["score", "image"], ascending=[False, True], ignore_index=True)
    return MiningScores(ordered, tuple(notes))


def _mining_rows(text: str, faults: Faults) -> list[tuple[str, float]]:
    """Split result.tsv into names and scores; where no row has a score, the order of lines decides."""
    lines = [line.rstrip("\r").rstrip("\t").split("\t") for line in text.split("\n") if line.strip()]
    widths = Counter(map(len, lines))
    for width in sorted(widths.keys() - {1, 2}):
        faults.add(f"result.tsv has {widths[width]} lines of {width} columns; it must be an image and a score")
    if widths[1] and widths[2]:
        faults.add(f"result.tsv gives a score in {widths[2]} lines and none in {widths[1]}")
    if not widths[2]:
        return [(line[0], (len(lines) - place) / len(lines)) for place, line in enumerate(lines)]
    rows = []
    for line in lines:
        if len(line) == 2:
            score = _parse_score(line[1])
            if score is None:
                faults.add(f"result.tsv gives {show(line[0])} the score {show(line[1])}, which is no finite number")
            rows.append((line[0], score or 0.0))
    return rows


def _parse_score(text: str) -> float | None:
    try:
        return to_number(float(text))
    except ValueError:
        return None


class _TrainingReader:
    """Reads the parts of result.yaml, noting faults and the files found on the way."""

    def __init__(self, outbox: Outbox, faults: Faults, main_metric: str) -> None:
        self.outbox = outbox
        self.faults = faults
        self.main_metric = main_metric
        self.files: dict[str, Path] = {}
        self.notes: list[str] = []

    def stages(self, document: Mapping[str, Any]) -> dict[str, Stage]:
        """Read ``model_stages``, or ``model`` of the first protocol as one stage."""
        entries = document.get("model_stages")
        if entries is None and "model" in document:
            legacy = {"files": document["model"], "timestamp": 0, "map": document.get("map", document.get("mAP"))}
            entries = {LEGACY_STAGE: legacy}
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
                stages[name] = self._stage(name, entry)
        return stages

    def _stage(self, name: str, entry: Mapping[str, Any]) -> Stage:
        timestamp = to_number(entry.get("timestamp"))
        if timestamp is None or not 0 <= timestamp < 1e12:
            self.faults.add(f"stage {name!r} has the timestamp {show(entry.get('timestamp'))}, it must be seconds")
        metrics = {key: self._share(entry[key], f"{key} of stage {name!r}") for key in METRICS if key in entry}
        if entry.get("map") is not None and "mAP" not in metrics:
            metrics["mAP"] = self._share(entry["map"], f"map of stage {name!r}")
        if self.main_metric not in metrics:
            self.notes.append(f"stage {name!r} has no {self.main_metric}; it counts as 0")
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
                return self._share(document[key], key)
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
            read[section] = self._listed(files, f"attachments section {section!r}", folder, (f"models/{folder}",))
        return read

    def evaluate_config(self, document: Mapping[str, Any]) -> dict[str, float]:
        """Read the thresholds that the executor recommends."""
        config = document.get("evaluate_config") or {}
        if not isinstance(config, dict):
            self.faults.add(f"evaluate_config must be a mapping, it reads {show(config)}")
            return {}
        return {
            key: self._share(config[key], f"evaluate_config.{key}") for key in ("iou_thr", "conf_thr") if key in config
        }

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
