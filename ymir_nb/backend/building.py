"""Executor images, built here: the reference executor's, or one of somebody's own."""

from __future__ import annotations

import io
import re
import shutil
import sys
import tarfile
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from importlib import metadata
from pathlib import Path
from typing import IO, Any

from ymir_nb.backend.errors import JobFailed, PreflightFailed
from ymir_nb.backend.executors import Executor, ExecutorBook
from ymir_nb.backend.runners.engine import EngineUnreachable, connect, engine_errors

REFERENCE = "tiny-docker"
REQUIREMENTS = ("torch>=2.4", "numpy>=2.0", "pillow>=10.4", "pyyaml>=6.0", "safetensors>=0.4", "tensorboard>=2.17")
"""What the reference executor needs; where this Python has it, the very same version is installed."""
N_LAST_LINES = 12
_COLOURS = re.compile("\x1b\\[[0-9;]*m")
_START = "from ymir_nb.executor.__main__ import main\n\nraise SystemExit(main())\n"

Context = dict[str, Path | bytes]
"""A build's files by their names in it."""


def start_own(directory: str | Path) -> Path:
    """Copy the template of an executor, to make one's own of it.

    Parameters
    ----------
    directory : str or Path
        Folder to make.

    Raises
    ------
    PreflightFailed
        It is there already.

    Examples
    --------
    >>> sorted(path.name for path in start_own(tmp / "my-trainer").iterdir())
    ['Dockerfile', 'app', 'img-man', 'requirements.txt', 'start.sh']
    """
    target = Path(directory)
    if target.exists():
        raise PreflightFailed(f"{target} is there already. Name a new folder, or go on with that one.")
    shutil.copytree(template_dir(), target, ignore=shutil.ignore_patterns("__pycache__"))
    return target


def build_executor(
    book: ExecutorBook,
    name: str = REFERENCE,
    *,
    source: str | Path | None = None,
    base: str = "",
    wheels: str | Path | None = None,
    say: Callable[[str], object] | None = None,
) -> Executor:
    """Build an executor's image and register it.

    Parameters
    ----------
    book : ExecutorBook
        Where it is registered.
    name : str
        What to call it. The image is ``ymir-nb/NAME:latest`` until the next is built, and for good
        ``ymir-nb/NAME:ID``, the name that is registered: a build elsewhere takes nothing from anybody.
    source : str or Path, optional
        Folder with its ``Dockerfile``, such as a copy that `start_own` made; by default the reference
        executor is built, on the template's Dockerfile.
    base : str
        Image to build on, the build argument ``BASE_IMAGE``; by default the Dockerfile's own, and for the
        reference executor Python's image of the version that runs ymir-nb.
    wheels : str or Path, optional
        Folder of Python wheels to install from, instead of the network.
    say : callable, optional
        Gets every line of the build.

    Returns
    -------
    Executor

    Raises
    ------
    PreflightFailed
        No engine, no Dockerfile or no wheel in the folders named, or an image that is no executor.
    JobFailed
        The build stopped; the message has the step and its last words.
    """
    context = reference_context() if source is None else folder_context(Path(source))
    base = base or ("" if source else f"python:{sys.version_info.major}.{sys.version_info.minor}-slim")
    arguments = {"BASE_IMAGE": base} if base else {}
    if wheels is not None:
        context |= _wheels(Path(wheels))
        arguments["PIP_NO_INDEX"] = "1"
    repository = f"ymir-nb/{_slug(name)}"
    tag = f"{repository}:latest"
    try:
        client = connect()
    except EngineUnreachable as error:
        raise PreflightFailed(str(error)) from error
    with closing(client), pack(context) as packed, engine_errors():
        lines = client.api.build(
            fileobj=packed, custom_context=True, tag=tag, buildargs=arguments, rm=True, forcerm=True, decode=True
        )
        _follow(lines, tag, say)
        image = client.images.get(tag)
        own = str(image.id).removeprefix("sha256:")[:12]
        image.tag(repository, tag=own)
    return book.add(name, f"{repository}:{own}")


def template_dir() -> Path:
    """Give the folder ``templates/executor``, of the wheel or of the checkout it was installed from."""
    package = Path(__file__).resolve().parents[1]
    for folder in (package / "templates", package.parent / "templates"):
        if (folder / "executor" / "Dockerfile").is_file():
            return folder / "executor"
    raise PreflightFailed("templates/executor is missing. Install ymir-nb again: the wheel carries it.")


def reference_context() -> Context:
    """Gather the reference executor's image: the template's Dockerfile around the package ``ymir_nb.executor``."""
    package = Path(__file__).resolve().parents[1] / "executor"
    context: Context = {name: template_dir() / name for name in ("Dockerfile", "start.sh")}
    context |= {f"app/ymir_nb/executor/{path.name}": path for path in package.glob("*.py")}
    for folder in ("img-man", "app/ymir_nb/executor/img-man"):
        context |= {f"{folder}/{path.name}": path for path in (package / "img-man").iterdir()}
    context["app/start.py"] = _START.encode()
    context["requirements.txt"] = "".join(f"{line}\n" for line in _pinned(REQUIREMENTS)).encode()
    return context


def folder_context(directory: Path) -> Context:
    """Gather a folder with a Dockerfile, without what its ``.dockerignore`` names.

    Raises
    ------
    PreflightFailed
        It has no Dockerfile.
    """
    from docker.utils.build import exclude_paths

    if not (directory / "Dockerfile").is_file():
        raise PreflightFailed(
            f"{directory} has no Dockerfile. Begin with a copy of the template: ymir-nb executor new {directory}"
        )
    ignored = directory / ".dockerignore"
    lines = ignored.read_text(encoding="utf-8").splitlines() if ignored.is_file() else []
    names = exclude_paths(str(directory), [line.strip() for line in lines if line.strip() and line[0] != "#"])
    return {name: directory / name for name in names if (directory / name).is_file()}


@contextmanager
def pack(context: Mapping[str, Path | bytes]) -> Iterator[IO[bytes]]:
    """Give a build's files as a tar, sorted, without times and owners, readable for everybody."""
    with tempfile.TemporaryFile() as packed:
        with tarfile.open(fileobj=packed, mode="w") as archive:
            for name, content in sorted(context.items()):
                member = tarfile.TarInfo(name)
                source: IO[bytes] = io.BytesIO(content) if isinstance(content, bytes) else content.open("rb")
                with source:
                    member.size = source.seek(0, 2)
                    source.seek(0)
                    runs = isinstance(content, Path) and content.stat().st_mode & 0o100
                    member.mode = 0o755 if runs else 0o644
                    archive.addfile(member, source)
        packed.seek(0)
        yield packed


def _follow(lines: Iterable[Mapping[str, Any]], tag: str, say: Callable[[str], object] | None) -> None:
    """Pass the build's words on, to the last, and raise its error with the step that failed."""
    step, error = "", ""
    said: list[str] = []
    for line in lines:
        words = _COLOURS.sub("", str(line.get("stream") or line.get("status") or "")).rstrip()
        if words:
            step, said = (words, []) if words.startswith("Step ") else (step, [*said, *words.splitlines()])
            if say is not None:
                say(words)
        error = error or str(line.get("error") or "")
    if error:
        hint = " Get that image (docker pull), or build on another: --base IMAGE." if ": FROM " in step else ""
        last = "".join(f"\n{line}" for line in said[-N_LAST_LINES:])
        raise JobFailed(f"image {tag!r} could not be built at {step!r}: {error}.{hint}{' It said:' * bool(last)}{last}")


def _wheels(directory: Path) -> Context:
    found = sorted(directory.glob("*.whl"))
    if not found:
        raise PreflightFailed(f"{directory} holds no wheel. Fill it: python -m pip download -d {directory} PACKAGE ...")
    return {f"wheels/{path.name}": path for path in found}


def _pinned(requirements: tuple[str, ...]) -> list[str]:
    """Name the versions that this Python has, so that the same work gives the same numbers in the container."""
    pins = []
    for requirement in requirements:
        name = re.split(r"[<>=]", requirement)[0]
        try:
            pins.append(f"{name}=={metadata.version(name).partition('+')[0]}")
        except metadata.PackageNotFoundError:
            pins.append(requirement)
    return pins


def _slug(name: str) -> str:
    """Make an image's name of an executor's."""
    slug = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
    if not slug:
        raise PreflightFailed(f"{name!r} gives no name for an image. Use letters or digits.")
    return slug
