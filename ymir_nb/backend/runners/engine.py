"""The container engine: reached through the Docker SDK, its refusals turned into words with a remedy.

The engine is the one that the environment names (``DOCKER_HOST``, or the local socket), as for every
program that uses Docker. Any engine with its API will do.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from ymir_nb.backend.errors import JobError, PreflightFailed

if TYPE_CHECKING:
    import docker

TIMEOUT_SECONDS = 60
ADDRESS_VARIABLES = ("DOCKER_HOST", "DOCKER_TLS_VERIFY", "DOCKER_CERT_PATH")
INTERPRETERS = frozenset({"bash", "sh", "dash", "python"})
START_IT = "Start it (`sudo systemctl start docker`, or Docker Desktop), or set DOCKER_HOST to one that runs"
TOOLKIT = (
    "the engine cannot hand GPUs to a container. Install the NVIDIA Container Toolkit on its machine, or set "
    "gpu_count to 0 to run on the CPU"
)


class EngineUnreachable(JobError):
    """No engine answers; what it runs is as it was."""


class ImageMissing(PreflightFailed):
    """The engine has no such image."""


def connect() -> docker.DockerClient:
    """Connect to the engine.

    Raises
    ------
    EngineUnreachable
        None answers, or this user may not talk to it.
    """
    with engine_errors():
        client = _client(os.getpid(), *(os.environ.get(name, "") for name in ADDRESS_VARIABLES))
        client.ping()
    return client


def takes_connections() -> bool:
    """Tell whether the engine takes a new connection; one that is being stopped serves only those it has."""
    import docker

    try:
        with engine_errors():
            docker.from_env(timeout=TIMEOUT_SECONDS).close()
    except EngineUnreachable:
        return False
    return True


@lru_cache(maxsize=4)
def _client(*_where: object) -> docker.DockerClient:
    """Make a client, one for each process and engine: each keeps its connections open."""
    import docker

    return docker.from_env(timeout=TIMEOUT_SECONDS)


@contextmanager
def engine_errors() -> Iterator[None]:
    """Turn what the SDK raises into an error that says what to do."""
    import docker.errors
    import requests.exceptions

    try:
        yield
    except docker.errors.ImageNotFound as error:
        raise ImageMissing(f"the engine has no such image: {error.explanation}. Get it: docker pull IMAGE") from error
    except docker.errors.APIError as error:
        raise JobError(f"the container engine refused: {_words(str(error.explanation or error))}") from error
    except (docker.errors.DockerException, requests.exceptions.RequestException) as error:
        raise EngineUnreachable(_words(str(error))) from error


def find_image(client: docker.DockerClient, image: str) -> Any:
    """Find an image of the engine by name, digest or id.

    Raises
    ------
    ImageMissing
        There is none.
    """
    try:
        with engine_errors():
            return client.images.get(image)
    except ImageMissing:
        raise ImageMissing(
            f"image {image!r} is not on this machine's engine. Get it: docker pull {image}; or build it: "
            "ymir-nb executor build"
        ) from None


def check_image(client: docker.DockerClient, image: Any, name: str, *, command: bool) -> None:
    """Refuse an image that cannot be started here.

    Parameters
    ----------
    client : DockerClient
        The engine.
    image : Image
        Of `find_image`.
    name : str
        What people call it.
    command : bool
        Whether it must bring its own start command.

    Raises
    ------
    PreflightFailed
        It is for other machines, has nothing to start, or not the file that it says it starts.
    """
    with engine_errors():
        own = _architecture(client.version().get("Arch", ""))
    theirs = _architecture(image.attrs.get("Architecture", ""))
    if own and theirs and own != theirs:
        raise PreflightFailed(
            f"image {name!r} is built for {theirs}, and this engine runs {own}. Build it for {own}, or use another "
            "machine."
        )
    settings = image.attrs.get("Config") or {}
    if command and not settings.get("Cmd") and not settings.get("Entrypoint"):
        raise PreflightFailed(
            f"image {name!r} has no start command, so there is nothing to run. An executor image ends with "
            'CMD ["bash", "/usr/bin/start.sh"].'
        )
    path = _start_file([*(settings.get("Entrypoint") or ()), *(settings.get("Cmd") or ())]) if command else ""
    if path and not _has_file(client, str(image.id), path):
        raise PreflightFailed(
            f"image {name!r} starts {path}, and has no such file. Copy it there when the image is built: "
            f"COPY start.sh {path}"
        )


def has_gpus(client: docker.DockerClient) -> bool:
    """Tell whether the engine can hand GPUs to containers: it knows NVIDIA's runtime or device interface."""
    with engine_errors():
        info = client.info()
    specs = [str(path) for path in info.get("CDISpecDirs") or ()]
    return "nvidia" in (info.get("Runtimes") or {}) or any("nvidia" in spec for spec in specs)


def _start_file(command: list[str]) -> str:
    """Name the file that a command starts, where it says so by its full path: a program, or an interpreter's script."""
    words = [*command, ""]
    if PurePosixPath(words[0]).name.rstrip("0123456789.") in INTERPRETERS:
        words = words[1:]
    return words[0] if words[0].startswith("/") else ""


def _has_file(client: docker.DockerClient, image: str, path: str) -> bool:
    """Tell whether an image has a file; a container is made of it for that, never started, and removed."""
    import docker.errors

    with engine_errors():
        container = client.containers.create(image, [path], network_mode="none")
        try:
            container.get_archive(path)
        except docker.errors.NotFound:
            return False
        else:
            return True
        finally:
            container.remove(v=True, force=True)


def _architecture(name: str) -> str:
    """Give one name to what has several."""
    return {"x86_64": "amd64", "aarch64": "arm64"}.get(name.lower(), name.lower())


def _words(text: str) -> str:
    """Say what the engine meant, with a remedy where one is known."""
    low = text.lower()
    if "capabilities: [[gpu]]" in low:
        return f"{TOOLKIT}."
    if "permissionerror" in low or ("permission denied" in low and "socket" in low):
        return (
            "this user may not talk to the container engine. Join the group docker (`sudo usermod -aG docker $USER`, "
            "then log in again), or use a rootless engine."
        )
    if any(sign in low for sign in ("connect", "no such file", "refused", "timed out", "closed", "bind address")):
        return f"no container engine answers. {START_IT}. It said: {text[:200]}"
    return text[:500]
