"""Rigs for containers, a second user, and GPUs that are not there."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from types import SimpleNamespace

import pytest
from rigs import Rig

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
