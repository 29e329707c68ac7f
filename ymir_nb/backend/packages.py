"""Model packages: the tar that a trained model travels in, with its ``ymir-info.yaml``.

Equal trainings give equal bytes: members are sorted and carry no time or owner, and the stages'
timestamps, which are wall-clock times of the run, are replaced by their rank (0, 1, 2 ...). Their
order is all that YMIR reads from them.

Source: YMIR 2.5.0, model packages 1.1.0 and 2.0.0.
"""

from __future__ import annotations

import gzip
import io
import re
import shutil
import tarfile
import tempfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from ymir_nb.backend.errors import ImportRefused
from ymir_nb.backend.untrusted import is_safe_name, show, to_number

INFO_FILE = "ymir-info.yaml"
PACKAGE_VERSION = "2.0.0"
LEGACY_STAGE = "default_best_stage"
METRICS = ("mAP", "mAR", "mIoU", "mAcc", "maskAP", "boxAP")
COUNTS = ("tp", "fp", "fn")
MAIN_METRIC = {2: "mAP", 3: "mIoU", 4: "maskAP", 50: "mAP"}

MAX_INFO_BYTES = 1 << 20
MAX_MEMBERS = 10_000
MAX_BYTES = 32 << 30


@dataclass(frozen=True)
class Stage:
    """One set of weights that a training left behind.

    Parameters
    ----------
    name : str
        An identifier, such as ``epoch10``.
    files : tuple of str
        Names relative to the stage's folder.
    timestamp : int
        Seconds since 1970 in an executor's result, the stage's rank in a package.
    metrics : mapping of str to float
        Of `METRICS`, in [0, 1], and `COUNTS`.
    """

    name: str
    files: tuple[str, ...]
    timestamp: int = 0
    metrics: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class PackageInfo:
    """What ``ymir-info.yaml`` says about a model.

    Parameters
    ----------
    stages : mapping of str to Stage
        In the order of the file.
    best_stage_name : str
        The stage to use unless another is asked for.
    executor_config : mapping
        The whole config of the training, ``class_names`` among it.
    task_context : mapping
        Where it comes from: producer, executor, sources.
    object_type : int
        2 detection, 3 semantic and 4 instance segmentation, 50 multimodal.
    attachments : mapping of str to tuple of str
        Further files by section.
    evaluate_config : mapping
        ``iou_thr`` and ``conf_thr`` that the executor recommends.
    """

    stages: Mapping[str, Stage]
    best_stage_name: str
    executor_config: Mapping[str, Any] = field(default_factory=dict)
    task_context: Mapping[str, Any] = field(default_factory=dict)
    object_type: int = 2
    attachments: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    evaluate_config: Mapping[str, float] = field(default_factory=dict)

    @property
    def class_names(self) -> tuple[str, ...]:
        """Classes the model knows, in the order of their ids."""
        return tuple(str(name) for name in self.executor_config.get("class_names") or ())

    @property
    def metric(self) -> float:
        """Main metric of the best stage: mAP, mIoU or maskAP by object type."""
        return float(self.stages[self.best_stage_name].metrics.get(MAIN_METRIC.get(self.object_type, "mAP"), 0.0))

    def to_yaml(self) -> str:
        """Write the text of ymir-info.yaml, package version 2.0.0."""
        stages = {
            stage.name: {key: stage.metrics.get(key, 0) for key in (*METRICS, *COUNTS)}
            | {"files": list(stage.files), "stage_name": stage.name, "timestamp": stage.timestamp}
            for stage in self.stages.values()
        }
        document = {
            "attachments": {section: list(files) for section, files in self.attachments.items()},
            "best_stage_name": self.best_stage_name,
            "evaluate_config": dict(self.evaluate_config),
            "executor_config": dict(self.executor_config),
            "model_hash": "",
            "object_type": self.object_type,
            "package_version": PACKAGE_VERSION,
            "stage_name": "",
            "stages": stages,
            "task_context": {"producer": "ymir", "type": 1, "mAP": self.metric} | dict(self.task_context),
        }
        text: str = yaml.safe_dump(document, allow_unicode=True)
        return text


def pack(files: Mapping[str, Path], info: PackageInfo) -> bytes:
    """Make a package; equal files and infos give equal bytes.

    Parameters
    ----------
    files : mapping of str to Path
        Member name, ``<stage>/<file>`` or ``attachments/<section>/<file>``, to the file itself.
        `results.TrainingResult.files` has this form.
    info : PackageInfo
        Its stages' timestamps are replaced by their rank; ties go by name, numbers in it by value.

    Returns
    -------
    bytes
        A gzip tar.

    Raises
    ------
    ImportRefused
        A file that `info` lists is not among `files`.
    """
    _require(info, set(files))
    order = sorted(info.stages.values(), key=lambda stage: (stage.timestamp, _natural(stage.name)))
    ranks = {stage.name: rank for rank, stage in enumerate(order)}
    ranked = replace(info, stages={name: replace(stage, timestamp=ranks[name]) for name, stage in info.stages.items()})
    sink = io.BytesIO()
    # Weights hardly compress: level 1 costs a third of the time of 6 and 1 % of the size.
    with (
        gzip.GzipFile(filename="", fileobj=sink, mode="wb", compresslevel=1, mtime=0) as zipped,
        tarfile.open(fileobj=zipped, mode="w", format=tarfile.PAX_FORMAT) as tar,
    ):
        text = ranked.to_yaml().encode()
        tar.addfile(_member(INFO_FILE, len(text)), io.BytesIO(text))
        for name, path in sorted(files.items()):
            with path.open("rb") as source:
                tar.addfile(_member(name, path.stat().st_size), source)
    return sink.getvalue()


def unpack(data: bytes, directory: Path) -> PackageInfo:
    """Unpack a package into a new folder: ``<stage>/<file>`` and ``ymir-info.yaml``.

    Nothing is opened or executed; files that an older package keeps flat are put into their stage's
    folder. When anything is wrong the folder is not made.

    Parameters
    ----------
    data : bytes
        A package of version 1.1.0 or 2.0.0.
    directory : Path
        Must not exist, or be empty.

    Returns
    -------
    PackageInfo

    Raises
    ------
    ImportRefused
        The archive is damaged, unsafe (links, devices, paths that leave it), too large, or lacks
        what its info lists.
    """
    directory.parent.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=".unpack-", dir=directory.parent))
    try:
        found: set[str] = set()
        with _reading(), tarfile.open(fileobj=io.BytesIO(data), mode="r:*") as tar:
            total = 0
            for count, member in enumerate(tar, start=1):
                total += member.size
                _refuse(member, found, count=count, total=total)
                if member.isfile():
                    found.add(_normal(member.name))
                    tar.extract(member, staging, filter="data")
            _check_end(tar)
        info = _info_of(staging / INFO_FILE if INFO_FILE in found else None)
        for name, flat in _expected(info).items():
            if name not in found and flat in found:
                (staging / name).parent.mkdir(exist_ok=True)
                shutil.copyfile(staging / flat, staging / name)
                found.add(name)
        _require(info, found)
        (staging / INFO_FILE).write_text(info.to_yaml(), encoding="utf-8")
        staging.chmod(0o755)
        staging.replace(directory)
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        raise
    return info


def read_info(data: bytes) -> PackageInfo:
    """Read a package's ymir-info.yaml without unpacking anything.

    Raises
    ------
    ImportRefused
        The archive is damaged or has no readable ymir-info.yaml.
    """
    with _reading(), tarfile.open(fileobj=io.BytesIO(data), mode="r:*") as tar:
        for count, member in enumerate(tar, start=1):
            if count > MAX_MEMBERS:
                break
            if _normal(member.name) == INFO_FILE and member.isfile():
                source = tar.extractfile(member)
                if source is None or member.size > MAX_INFO_BYTES:
                    raise ImportRefused(f"{INFO_FILE} of the model package is {member.size} bytes long: it is no info.")
                return parse_info(source.read().decode("utf-8", errors="replace"))
    raise ImportRefused(f"the model package has no {INFO_FILE}. Is it a YMIR model package (gzip tar)?")


def parse_info(text: str) -> PackageInfo:
    """Read the text of ymir-info.yaml, package version 2.0.0 or 1.1.0 (also when none is given).

    Raises
    ------
    ImportRefused
        It is no safe YAML mapping, or lacks stages, files or a best stage.
    """
    try:
        document = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ImportRefused(f"{INFO_FILE} of the model package is no plain YAML: {error}") from error
    if not isinstance(document, dict):
        raise ImportRefused(f"{INFO_FILE} of the model package is no mapping. Is it a YMIR model package?")
    context = _mapping(document, "task_context")
    stages = _stages_of(document, context)
    best = str(document.get("best_stage_name") or (LEGACY_STAGE if LEGACY_STAGE in stages else ""))
    if best not in stages:
        raise ImportRefused(f"{INFO_FILE}: best_stage_name {best!r} is not among the stages {sorted(stages)}.")
    attachments = {str(k): _names(v, f"attachments.{k}") for k, v in _mapping(document, "attachments").items()}
    object_type = document.get("object_type") or 2
    if object_type not in MAIN_METRIC:
        raise ImportRefused(f"{INFO_FILE}: object_type {object_type!r} is none of {sorted(MAIN_METRIC)}.")
    return PackageInfo(
        stages=stages,
        best_stage_name=best,
        executor_config=_mapping(document, "executor_config"),
        task_context=context,
        object_type=object_type,
        attachments=attachments,
        evaluate_config=_mapping(document, "evaluate_config"),
    )


def _stages_of(document: Mapping[str, Any], context: Mapping[str, Any]) -> dict[str, Stage]:
    """Read the stages of either version."""
    if "stages" not in document and "models" in document:
        files = _names(document["models"], "models")
        return {LEGACY_STAGE: Stage(LEGACY_STAGE, files, metrics={"mAP": _metric(context.get("mAP"), "mAP")})}
    stages = {}
    for name, entry in _mapping(document, "stages").items():
        if not is_stage_name(name) or not isinstance(entry, dict):
            raise ImportRefused(f"{INFO_FILE}: stage {name!r} must be an identifier with a mapping.")
        stages[name] = Stage(
            name,
            _names(entry.get("files"), f"stages.{name}.files"),
            timestamp=int(_metric(entry.get("timestamp"), f"stages.{name}.timestamp")),
            metrics={k: _metric(entry[k], f"stages.{name}.{k}") for k in (*METRICS, *COUNTS) if k in entry},
        )
    return stages


def is_stage_name(name: object) -> bool:
    """Tell whether a stage may be called so: an ASCII identifier, and not the attachments' folder."""
    return isinstance(name, str) and name.isascii() and name.isidentifier() and name != "attachments"


def _mapping(document: Mapping[str, Any], key: str) -> dict[str, Any]:
    value = document.get(key) or {}
    if not isinstance(value, dict):
        raise ImportRefused(f"{INFO_FILE}: {key} must be a mapping, it is a {type(value).__name__}.")
    return value


def _names(value: object, where: str) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(is_safe_name(name) for name in value):
        raise ImportRefused(f"{INFO_FILE}: {where} must be a list of relative file names, it reads {show(value)}.")
    return tuple(value)


def _metric(value: object, where: str) -> float:
    """Give a finite number; nothing given counts as 0, as in YMIR."""
    if value is None:
        return 0
    number = to_number(value)
    if number is None or abs(number) > 1e15:
        raise ImportRefused(f"{INFO_FILE}: {where} must be a finite number, it reads {show(value)}.")
    return int(number) if isinstance(value, int) else number


def _expected(info: PackageInfo) -> dict[str, str]:
    """Map every member that must be there to its flat name, where older packages keep it."""
    members = {f"{stage.name}/{name}": name for stage in info.stages.values() for name in stage.files}
    return members | {f"attachments/{s}/{name}": name for s, names in info.attachments.items() for name in names}


def _require(info: PackageInfo, found: set[str]) -> None:
    missing = sorted(set(_expected(info)) - found)
    if missing:
        raise ImportRefused(
            f"the model package lists {len(missing)} files that it does not have: {', '.join(missing[:5])}. "
            "Pack it again with all files of its stages."
        )


def _refuse(member: tarfile.TarInfo, found: set[str], *, count: int, total: int) -> None:
    """Refuse a member that could write elsewhere, or an archive that grows past all measure."""
    name = _normal(member.name)
    if count > MAX_MEMBERS or total > MAX_BYTES:
        raise ImportRefused(f"the model package is too large: more than {MAX_MEMBERS} members or {MAX_BYTES} bytes.")
    if not (member.isfile() or member.isdir()):
        raise ImportRefused(
            f"the model package holds {member.name!r}, which is a link or device. Only files are allowed."
        )
    if member.isdir() and name in ("", "."):
        return
    if not is_safe_name(name):
        raise ImportRefused(f"the model package holds {member.name!r}, which leaves the package's folder.")
    if name in found:
        raise ImportRefused(f"the model package holds {member.name!r} twice.")


def _check_end(tar: tarfile.TarFile) -> None:
    """Read what follows the last member: only at its very end a gzip stream tells that it is whole."""
    assert tar.fileobj is not None
    for _ in range(64):
        if not tar.fileobj.read(1 << 20):
            return
    raise ImportRefused("the model package is too large: more than 64 MiB follow its last member.")


def _normal(name: str) -> str:
    """Drop a leading ``./``, which `tar` itself writes."""
    return str(PurePosixPath(name)) if not name.startswith("/") else name


def _info_of(path: Path | None) -> PackageInfo:
    if path is None:
        raise ImportRefused(f"the model package has no {INFO_FILE}. Is it a YMIR model package (gzip tar)?")
    if path.stat().st_size > MAX_INFO_BYTES:
        raise ImportRefused(f"{INFO_FILE} of the model package is {path.stat().st_size} bytes long: it is no info.")
    return parse_info(path.read_text(encoding="utf-8", errors="replace"))


@contextmanager
def _reading() -> Iterator[None]:
    """Translate what a damaged archive raises."""
    try:
        yield
    except (tarfile.TarError, gzip.BadGzipFile, zlib.error, EOFError, FileExistsError, NotADirectoryError) as error:
        raise ImportRefused(f"the model package cannot be read: {error}. Is it a complete gzip tar?") from error


def _member(name: str, n_bytes: int) -> tarfile.TarInfo:
    """Make a header without time or owner."""
    member = tarfile.TarInfo(name)
    member.size = n_bytes
    member.mode = 0o644
    return member


def _natural(name: str) -> list[tuple[int, str]]:
    """Sort key that puts epoch9 before epoch10."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)]
