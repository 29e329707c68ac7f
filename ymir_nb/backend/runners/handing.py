"""Whose files lie in ``/out``: a container's user must be able to write there, and the caller owns what is left."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from ymir_nb.backend.runners.engine import engine_errors

if TYPE_CHECKING:
    import docker

NOBODY = 65534


def container_user(client: docker.DockerClient) -> tuple[int, int]:
    """Choose user and group of a container: the caller's, or nobody's where that is root.

    A rootless engine shows the caller as root inside, with no more rights than the caller has.

    Source: Docker's documentation of the rootless mode, user namespaces.
    """
    with engine_errors():
        if any("rootless" in option for option in client.info().get("SecurityOptions") or ()):
            return (0, 0)
    return (os.getuid(), os.getgid()) if os.getuid() else (NOBODY, NOBODY)


def let_in(job_dir: Path, user: tuple[int, int] | None) -> None:
    """Let a container's user write to ``out``.

    Parameters
    ----------
    job_dir : Path
        Whose ``out`` it is.
    user : tuple of int, optional
        Who it is; None where only the image knows, and anybody may write. The job's directory is closed
        then to all others of this machine.
    """
    if user is None:
        job_dir.chmod(0o700)
        for folder in _folders(job_dir / "out"):
            folder.chmod(0o777)
    elif os.getuid() == 0 and user[0]:
        hand_over(job_dir / "out", user)


def take_back(client: docker.DockerClient, image: str, job_dir: Path, user: tuple[int, int]) -> None:
    """Make the caller the owner of ``out`` and all in it, once its container has ended.

    Only root may give files away. Where the caller is not root, the image's own chown does it, with no
    right but this.

    Raises
    ------
    JobError
        The engine does not answer, or the image has no chown.
    """
    if os.getuid() == 0:
        hand_over(job_dir / "out", (0, os.getgid()))
        return
    with engine_errors():
        client.containers.run(
            image,
            ["-R", f"{user[0]}:{user[1]}", "/out"],
            entrypoint="chown",
            user="0:0",
            cap_drop=["ALL"],
            cap_add=["CHOWN", "DAC_READ_SEARCH"],
            security_opt=["no-new-privileges"],
            network_mode="none",
            read_only=True,
            volumes={str(job_dir / "out"): {"bind": "/out", "mode": "rw"}},
            remove=True,
        )


def hand_over(directory: Path, owner: tuple[int, int]) -> None:
    """Give a folder and all in it to a user; links themselves, never what they name."""
    for folder in _folders(directory):
        with os.scandir(folder) as entries:
            for path in (str(folder), *(entry.path for entry in entries if not entry.is_dir(follow_symlinks=False))):
                os.chown(path, *owner, follow_symlinks=False)


def _folders(directory: Path) -> Iterator[Path]:
    """Give a folder and all below it; those that lie too deep to be named are left out."""
    waiting = [directory]
    while waiting:
        folder = waiting.pop()
        with contextlib.suppress(OSError), os.scandir(folder) as entries:
            waiting += [Path(entry.path) for entry in entries if entry.is_dir(follow_symlinks=False)]
            yield folder
