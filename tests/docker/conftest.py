"""Rigs for containers, a second user, and GPUs that are not there."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import textwrap
import uuid
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace

import docker.errors
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from rigs import Rig

from ymir_nb.backend.building import REQUIREMENTS

# What a script imports while it can: another user may not be able to read this user's Python.
AS_NOBODY = """
import json, os, shutil, signal, sys, tempfile
from pathlib import Path
import docker.errors, docker.types, http.client, requests.exceptions, urllib3
import encodings.ascii, encodings.idna, encodings.latin_1
from ymir_nb.backend.runners import RUNNERS, Isolation, Launch, container, supervisor
def drop(group=65534):
    os.setgroups([]); os.setgid(group); os.setuid({user})
"""

# No test machine is sure to have a GPU: two stand in. Every Python that is started meanwhile sees them too.
STAND_IN = """
def install(put):
    import pynvml
    from types import SimpleNamespace
    put(pynvml, "nvmlInit", lambda: None)
    put(pynvml, "nvmlShutdown", lambda: None)
    put(pynvml, "nvmlDeviceGetCount", lambda: 2)
    put(pynvml, "nvmlDeviceGetHandleByIndex", lambda index: index)
    put(pynvml, "nvmlDeviceGetUUID", lambda handle: f"GPU-0{handle}")
    put(pynvml, "nvmlDeviceGetName", lambda handle: "Stand-in")
    put(pynvml, "nvmlDeviceGetMemoryInfo", lambda handle: SimpleNamespace(total=8 << 30, free=8 << 30, used=0))
"""
FOR_ALL = """
try:
    import stand_in
    stand_in.install(setattr)
except ImportError:
    pass
"""


@pytest.fixture
def rig(base_image, tmp_path):
    """Give a rig for a container, and leave nothing running behind it."""
    made = Rig("docker", tmp_path / "jobs" / "a", base_image)
    yield made
    made.close()
    assert made.left_over() == []


@pytest.fixture
def as_nobody(engine, tmp_path):
    """Run a script as a user without rights; it calls `drop()` once it has begun."""
    if os.getuid():
        pytest.skip("only root can run a script as another user")

    def call(text: str, *, user: int = 65534) -> str:
        code = AS_NOBODY.format(user=user) + textwrap.dedent(text)
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd="/")
        assert not done.returncode, done.stderr
        return done.stdout

    return call


@pytest.fixture
def stand_in_gpus(tmp_path, monkeypatch):
    """Let this machine have two GPUs, as far as its driver tells."""
    folder = tmp_path / "stand-in"
    folder.mkdir()
    (folder / "stand_in.py").write_text(STAND_IN)
    (folder / "sitecustomize.py").write_text(FOR_ALL)
    scope = {}
    exec(STAND_IN, scope)
    scope["install"](monkeypatch.setattr)
    monkeypatch.setenv("PYTHONPATH", str(folder))
    monkeypatch.setenv("YMIR_NB_GPU_DIR", str(tmp_path / "gpus"))
    return SimpleNamespace(uuids=["GPU-00", "GPU-01"])


def copy_packages(names: tuple[str, ...], target: Path) -> None:
    """Copy installed packages with all that they need, so that pip finds them where nothing can be downloaded."""
    wanted, done = [Requirement(name) for name in names], set()
    while wanted:
        requirement = wanted.pop()
        name = canonicalize_name(requirement.name)
        if name in done or (requirement.marker and not requirement.marker.evaluate({"extra": ""})):
            continue
        done.add(name)
        found = metadata.distribution(requirement.name)
        wanted += [Requirement(text) for text in found.requires or ()]
        for file in found.files or ():
            if ".." not in file.parts and "__pycache__" not in file.parts and Path(file.locate()).is_file():
                place = target / file
                place.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(file.locate(), place)


def packages_image(client, base: str, tag: str, names: tuple[str, ...], folder: Path) -> str:
    """Give an image of the base with these packages of this Python in it."""
    try:
        client.images.get(tag)
    except docker.errors.ImageNotFound:
        copy_packages(names, folder / "site")
        (folder / "Dockerfile").write_text(f"FROM {base}\nCOPY site /opt/site\nENV PYTHONPATH=/opt/site\n")
        client.images.build(path=str(folder), tag=tag, rm=True, forcerm=True)
        shutil.rmtree(folder)
    inside = client.containers.run(
        tag, ["python3", "-c", "import sys; print(sys.version_info[:2])"], network_mode="none", remove=True
    )
    if inside.decode().strip() != str(sys.version_info[:2]):
        pytest.skip(f"the base image has Python {inside.decode().strip()}; this Python's packages do not fit it")
    return tag


@pytest.fixture(scope="session")
def yaml_base(docker_client, base_image, tmp_path_factory):
    """The base image with an installed PyYAML."""
    folder = tmp_path_factory.mktemp("yaml")
    tag = f"ymir-nb-test-yaml:{uuid.uuid4().hex[:8]}"
    yield packages_image(docker_client, base_image, tag, ("pyyaml",), folder)
    docker_client.images.remove(tag, force=True)


@pytest.fixture(scope="session")
def torch_base(docker_client, base_image, tmp_path_factory):
    """The base image with what the reference executor needs; it takes a minute and is kept for the next time."""
    versions = "-".join(metadata.version(Requirement(name).name) for name in REQUIREMENTS)
    tag = f"ymir-nb-test-torch:{re.sub(r'[^0-9a-z.-]', '-', versions)}"
    return packages_image(docker_client, base_image, tag, REQUIREMENTS, tmp_path_factory.mktemp("torch"))


@pytest.fixture
def registered(docker_client):
    """A name for an executor whose image is removed again."""
    name = f"test-{uuid.uuid4().hex[:8]}"
    yield name
    images = docker_client.images.list(name=f"ymir-nb/{name}")
    for tag in sorted({tag for image in images for tag in image.tags if tag.startswith(f"ymir-nb/{name}:")}):
        docker_client.images.remove(tag, force=True)
