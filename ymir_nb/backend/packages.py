"""Model packages: the tar that a trained model travels in, with its ``ymir-info.yaml``.

Equal trainings give equal bytes: members are sorted and carry no time or owner, and the stages'
timestamps, which are wall-clock times of the run, are replaced by their rank (0, 1, 2 ...). Their
order is all that YMIR reads from them.

Source: YMIR 2.5.0, model packages 1.1.0 and 2.0.0.
"""

from __future__ import annotations

import gzip
import io
import shutil
import tarfile
import tempfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path, PurePosixPath

from ymir_nb.backend.errors import ImportRefused
from ymir_nb.backend.package_info import INFO_FILE, PackageInfo, Stage, oldest_first, parse_info
from ymir_nb.backend.untrusted import is_safe_name

__all__ = ["INFO_FILE", "PackageInfo", "Stage", "inspect", "pack", "parse_info", "read_info", "unpack"]

MAX_INFO_BYTES = 1 << 20
MAX_MEMBERS = 10_000
MAX_BYTES = 32 << 30


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
    ranks = {stage.name: rank for rank, stage in enumerate(oldest_first(info.stages.values()))}
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
        with _reading(), tarfile.open(fileobj=io.BytesIO(data), mode="r:*") as tar:
            found = set()
            for member in _members(tar):
                tar.extract(member, staging, filter="data")
                found.add(_normal(member.name))
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


def inspect(data: bytes) -> PackageInfo:
    """Go through a package as `unpack` does, and write nothing.

    Raises
    ------
    ImportRefused
        As `unpack`.
    """
    info, found = None, set()
    with _reading(), tarfile.open(fileobj=io.BytesIO(data), mode="r:*") as tar:
        for member in _members(tar):
            found.add(_normal(member.name))
            if _normal(member.name) == INFO_FILE:
                info = _read_info_member(tar, member)
    if info is None:
        raise ImportRefused(_NO_INFO)
    _require(info, {name for name, flat in _expected(info).items() if {name, flat} & found})
    return info


def read_info(data: bytes) -> PackageInfo:
    """Read a package's ymir-info.yaml without unpacking anything.

    Raises
    ------
    ImportRefused
        The archive is damaged or has no readable ymir-info.yaml.
    """
    with _reading(), tarfile.open(fileobj=io.BytesIO(data), mode="r:*") as tar:
        for member in _members(tar):
            if _normal(member.name) == INFO_FILE:
                return _read_info_member(tar, member)
    raise ImportRefused(_NO_INFO)


_NO_INFO = f"the model package has no {INFO_FILE}. Is it a YMIR model package (gzip tar)?"


def _members(tar: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    """Give the files of an archive, each checked, and make sure at the end that it is whole."""
    files: set[str] = set()
    folders: set[str] = set()
    total = 0
    for count, member in enumerate(tar, start=1):
        total += member.size
        _refuse(member, count=count, total=total)
        if not member.isfile():
            continue
        name = _normal(member.name)
        above = {str(folder) for folder in PurePosixPath(name).parents}
        if name in files or name in folders or above & files:
            raise ImportRefused(f"the model package holds {member.name!r} twice, or as a file and as a folder.")
        files.add(name)
        folders |= above
        yield member
    _check_end(tar)


def _read_info_member(tar: tarfile.TarFile, member: tarfile.TarInfo) -> PackageInfo:
    source = tar.extractfile(member)
    if source is None or member.size > MAX_INFO_BYTES:
        raise ImportRefused(f"{INFO_FILE} of the model package is {member.size} bytes long: it is no info.")
    return parse_info(source.read().decode("utf-8", errors="replace"))


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


def _refuse(member: tarfile.TarInfo, *, count: int, total: int) -> None:
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
        raise ImportRefused(_NO_INFO)
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
