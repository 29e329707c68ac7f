"""An executor's image: what it is pinned to, and its manual, read without running anything of it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ymir_nb.backend.errors import PreflightFailed
from ymir_nb.backend.manual_files import read_archive
from ymir_nb.backend.runners.engine import EngineUnreachable, check_image, connect, engine_errors, find_image

if TYPE_CHECKING:
    import docker

MANUAL_DIR = "/img-man"
_DOMAIN = r"(?:[A-Za-z0-9][A-Za-z0-9.-]*(?::\d+)?/)?"
_PART = r"[a-z0-9]+(?:(?:\.|_{1,2}|-+)[a-z0-9]+)*"
_NAME = re.compile(
    rf"(?:sha256:[0-9a-f]{{12,64}}|{_DOMAIN}{_PART}(?:/{_PART})*(?::\w[\w.-]{{0,127}})?(?:@sha256:[0-9a-f]{{64}})?)",
    re.ASCII,
)


@dataclass(frozen=True)
class PinnedImage:
    """An image as it is now.

    Parameters
    ----------
    name : str
        What people call it.
    digest : str
        The engine's id of it, ``sha256:...``: another content has another.
    repo_digest : str
        Its name in the registry that it came from, ``NAME@sha256:...``; empty for one built here.
    files : mapping of str to bytes
        Its ``/img-man``, as `manuals.read_manual` takes it.
    """

    name: str
    digest: str
    repo_digest: str
    files: Mapping[str, bytes]


def is_image_name(text: str) -> bool:
    """Tell whether a text can be the name of an image.

    Examples
    --------
    >>> is_image_name("industryessentials/executor-example:latest"), is_image_name("python start.py")
    (True, False)
    """
    return _NAME.fullmatch(text) is not None


def look_into(name: str) -> PinnedImage:
    """Read an image's id and manual; a container is made of it, never started, and removed.

    Raises
    ------
    PreflightFailed
        No engine answers, or this user may not talk to it; the image is not there, is for another
        machine, has no start command, or has no ``/img-man`` that can be read.
    """
    try:
        client = connect()
    except EngineUnreachable as error:
        raise PreflightFailed(str(error)) from error
    with closing(client):
        image = find_image(client, name)
        check_image(client, image, name, command=True)
        files = _read_files(client, str(image.id), name)
    repository = name.partition("@")[0].rsplit(":", 1)[0] if ":" in name.rsplit("/", 1)[-1] else name
    digests = sorted(image.attrs.get("RepoDigests") or ())
    mine = [digest for digest in digests if digest.partition("@")[0] == repository]
    return PinnedImage(name, str(image.id), (mine or digests or [""])[0], files)


def _read_files(client: docker.DockerClient, image_id: str, name: str) -> dict[str, bytes]:
    """Read the manual out of a container that is never started."""
    import docker.errors

    with engine_errors():
        container = client.containers.create(image_id, [MANUAL_DIR], network_mode="none")
        try:
            chunks, _ = container.get_archive(f"{MANUAL_DIR}/.")
            return read_archive(chunks, where=f"image {name!r}, {MANUAL_DIR}")
        except docker.errors.NotFound:
            raise PreflightFailed(
                f"image {name!r} has no folder {MANUAL_DIR}, so it is no executor. An executor's image holds its "
                f"templates there: COPY img-man {MANUAL_DIR}"
            ) from None
        finally:
            container.remove(v=True, force=True)
