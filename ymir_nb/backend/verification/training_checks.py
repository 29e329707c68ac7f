"""Checks of what a training leaves: result.yaml, its stages and their files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ymir_nb.backend.errors import ProtocolViolated
from ymir_nb.backend.event_files import read_scalars
from ymir_nb.backend.outbox import Faults, Outbox
from ymir_nb.backend.package_info import LEGACY_STAGE, MAIN_METRIC, MOST_STAGES, is_stage_name
from ymir_nb.backend.results import read_training
from ymir_nb.backend.untrusted import show, to_number
from ymir_nb.backend.verification.findings import Check, Finding, judge, ok, skipped
from ymir_nb.backend.verification.runs import Run

RESULT = "models/result.yaml"
DAY_SECONDS = 86_400.0
_NO_STAGES = "result.yaml names no stage"


def result_yaml(run: Run) -> Finding:
    """It is there, plain YAML, and names stages."""
    faults = Faults("training result")
    document = Outbox(run.out_dir).read_yaml(RESULT, faults)
    if document is not None and not _stages(document):
        faults.add("result.yaml has neither model_stages nor, in the old form, model")
    return judge(faults.found)


def stage_names(run: Run) -> Finding:
    """Stages have identifiers for names, and repeat them inside."""
    stages = _stages(_document(run))
    faults = [f"stage {show(name)} is no identifier" for name in stages if not is_stage_name(name)]
    faults += [f"stage {show(name)} is no mapping" for name, stage in stages.items() if not isinstance(stage, dict)]
    for name, stage in _entries(run).items():
        if stage.get("stage_name", name) != name:
            faults.append(f"stage {show(name)} calls itself {show(stage['stage_name'])}")
    if not faults and len(stages) > MOST_STAGES:
        return Finding("warning", f"{len(stages)} stages; the best and the newest {MOST_STAGES - 1} others are kept")
    return judge(faults) if stages else skipped(_NO_STAGES)


def stage_files(run: Run) -> Finding:
    """What a stage lists lies in /out/models, by a relative name."""
    faults = []
    for name, stage in _entries(run).items():
        files = stage.get("files")
        if not isinstance(files, list) or not files:
            faults.append(f"stage {show(name)} lists {show(files)} as its files")
            continue
        for file in files:
            reason = _find(run, name, file)[1]
            faults += [f"file {show(file)} of stage {show(name)} {reason}"] if reason else []
    return judge(faults) if _entries(run) else skipped(_NO_STAGES)


def weights(run: Run) -> Finding:
    """No file that a stage lists is empty."""
    empty = []
    for name, stage in _entries(run).items():
        for file in stage["files"] if isinstance(stage.get("files"), list) else ():
            n_bytes = _find(run, name, file)[0]
            empty += [f"file {show(file)} of stage {show(name)} is empty"] if n_bytes == 0 else []
    return judge(empty) if _entries(run) else skipped(_NO_STAGES)


def metrics(run: Run) -> Finding:
    """Each stage has the main metric of its object type, in [0, 1], and so has the file."""
    key = MAIN_METRIC.get(run.object_type, "mAP")
    given = {f"stage {show(name)}": _metric(stage, key) for name, stage in _entries(run).items()}
    faults = [f"{key} of {where} is {show(value)}" for where, value in given.items() if not _is_share(value)]
    top = _metric(_document(run), key)
    if not _is_share(top):
        faults.append(f"{key} of result.yaml is {show(top)}")
    if faults:
        return Finding("failed", "; ".join(faults[:3]))
    missing = [f"{where} has no {key}, and counts as 0" for where, value in given.items() if value is None]
    missing += [f"result.yaml has no {key} of its own"] if top is None else []
    return judge(missing, result="warning") if given else skipped(_NO_STAGES)


def best_stage(run: Run) -> Finding:
    """best_stage_name is one of the stages, and the one with the largest metric."""
    document, stages = _document(run), _entries(run)
    if not stages:
        return skipped(_NO_STAGES)
    best = document.get("best_stage_name", LEGACY_STAGE)
    if best not in stages:
        return Finding("failed", f"best_stage_name is {show(best)}, the stages are {show(sorted(stages))}")
    key = MAIN_METRIC.get(run.object_type, "mAP")
    values = {name: to_number(_metric(stage, key)) or 0.0 for name, stage in stages.items()}
    better = [f"{name!r} has {key} {value:g}" for name, value in values.items() if value > values[best]]
    return judge([f"{best!r} has {key} {values[best]:g}", *better] if better else [], result="warning")


def timestamps(run: Run) -> Finding:
    """Each stage says when it was made, in seconds since 1970."""
    given = {name: stage.get("timestamp") for name, stage in _entries(run).items()}
    if LEGACY_STAGE in given and "model_stages" not in _document(run):
        return skipped("the old form of result.yaml has none")
    numbers = {name: to_number(value) for name, value in given.items()}
    wrong = [f"timestamp of stage {show(name)} is {show(given[name])}" for name, n in numbers.items() if n is None]
    first, last = run.began - DAY_SECONDS, run.ended + DAY_SECONDS
    odd = [
        f"timestamp {n:.0f} of stage {show(name)} is not of this run"
        for name, n in numbers.items()
        if n is not None and not first <= n <= last
    ]
    if not given:
        return skipped(_NO_STAGES)
    return judge(wrong) if wrong else judge(odd, result="warning")


def tensorboard(run: Run) -> Finding:
    """It logs scalars where TensorBoard looks."""
    n_scalars = len(read_scalars(run.out_dir / "tensorboard"))
    return ok(f"{n_scalars} scalars") if n_scalars else Finding("warning", "there is no scalar in /out/tensorboard")


def training_result(run: Run) -> Finding:
    """ymir-nb can read all of it."""
    try:
        result = read_training(run.out_dir, object_type=run.object_type)
    except ProtocolViolated as error:
        return judge(error.faults)
    return ok(f"{len(result.stages)} stages, best {result.best_stage_name!r}")


def _document(run: Run) -> dict[str, Any]:
    return Outbox(run.out_dir).read_yaml(RESULT, Faults("")) or {}


def _stages(document: Mapping[str, Any]) -> dict[Any, Any]:
    """Give the stages as they stand there, in the new form or the old."""
    if "model_stages" not in document and "model" in document:
        old = {"files": document["model"], "timestamp": 0, "map": document.get("map", document.get("mAP"))}
        return {LEGACY_STAGE: old}
    stages = document.get("model_stages")
    return stages if isinstance(stages, dict) else {}


def _entries(run: Run) -> dict[Any, dict[str, Any]]:
    return {name: stage for name, stage in _stages(_document(run)).items() if isinstance(stage, dict)}


def _find(run: Run, stage: object, file: object) -> tuple[int, str]:
    """Give the size of a listed file, or -1 and why it cannot be used."""
    outbox = Outbox(run.out_dir)
    reasons = []
    for folder in (f"models/{stage}", "models"):
        path, reason = outbox.find(f"{folder}/{file}") if isinstance(file, str) else (None, "is no name")
        if path is not None:
            return path.stat().st_size, ""
        reasons.append(reason)
    return -1, next((reason for reason in reasons if reason != "does not exist"), reasons[0])


def _metric(entry: Mapping[str, Any], key: str) -> object:
    return entry.get(key, entry.get("map"))


def _is_share(value: object) -> bool:
    """Tell whether a metric is in [0, 1]; one that is not given is another check's."""
    number = to_number(value)
    return value is None or (number is not None and 0.0 <= number <= 1.0)


_SOURCE = "executor contract, /out/models/result.yaml"

TRAINING: tuple[Check[Run], ...] = (
    Check("result.yaml", result_yaml, _SOURCE, "Write model_stages, best_stage_name and the metric as plain YAML."),
    Check("stage names", stage_names, _SOURCE, "Name stages as identifiers, such as epoch10, and keep eleven."),
    Check("stage files", stage_files, _SOURCE, "List names relative to /out/models/<stage>/ of files that are there."),
    Check("weights", weights, _SOURCE, "Write the weights before result.yaml, and list no empty file."),
    Check("metrics", metrics, _SOURCE, "Write mAP (mIoU, maskAP) of each stage and of the best, in [0, 1]."),
    Check("best stage", best_stage, _SOURCE, "Set best_stage_name to the stage with the largest metric."),
    Check("timestamps", timestamps, _SOURCE, "Write int(time.time()) when a stage is saved."),
    Check(
        "tensorboard",
        tensorboard,
        "executor contract, mounts: /out/tensorboard",
        "Log scalars with SummaryWriter to env.yaml's tensorboard_dir.",
    ),
    Check("training result", training_result, _SOURCE, "Mend what the detail names.", is_rest=True),
)
