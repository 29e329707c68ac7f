"""One rig for all runners: an executor written on the spot, started, watched and ended."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

from ymir_nb.backend.failures import LOG_FILE
from ymir_nb.backend.runners import RUNNERS, Isolation, Launch, RunState
from ymir_nb.backend.runners.container import JOB_LABEL
from ymir_nb.backend.runners.engine import connect
from ymir_nb.backend.runners.processes import members

PRELUDE = 'import os, sys, time\nOUT = os.environ.get("YMIR_OUT", "/out")\n'


class Rig:
    """Runs executors in the directory of one job.

    Parameters
    ----------
    name : str
        A key of `RUNNERS`.
    job : Path
        The job's directory.
    image : str
        With python3; empty for local programs.
    """

    def __init__(self, name: str, job: Path, image: str = "") -> None:
        self.name = name
        self.runner = RUNNERS[name]
        self.job = job
        self.image = image
        self.tokens: list[str] = []
        for folder in ("in", "out"):
            (job / folder).mkdir(parents=True, exist_ok=True)

    def launch(self, text: str, *, env: dict[str, str] | None = None, **isolation: Any) -> Launch:
        """Say how a Python text is started."""
        code = PRELUDE + textwrap.dedent(text)
        command = ("python3", "-c", code) if self.image else (sys.executable, "-c", code)
        isolation = {"memory_bytes": 1 << 30, **isolation}
        return Launch(self.name, command, self.image, env=env or {}, isolation=Isolation.of(isolation))

    def start(self, text: str, *, env: dict[str, str] | None = None, **isolation: Any) -> None:
        """Start it and come back."""
        self.runner.start(self.job, self.launch(text, env=env, **isolation))
        self.tokens.append(self.record()["token"])

    def run(self, text: str, **isolation: Any) -> RunState:
        """Start it and wait for its end."""
        self.start(text, **isolation)
        return self.ended()

    def poll(self) -> RunState:
        """Tell how it stands."""
        return self.runner.poll(self.job)

    def ended(self, *, seconds: float = 30) -> RunState:
        """Wait for its end."""
        until(lambda: self.poll().phase not in ("running", "queued", "unreachable"), seconds=seconds)
        return self.poll()

    def log(self) -> str:
        """Give all that it said."""
        return (self.job / "out" / LOG_FILE).read_text(errors="replace")

    def says(self, words: str) -> None:
        """Wait until it has said something."""
        until(lambda: words in self.log())

    def record(self) -> Any:
        """Give what its supervisor recorded."""
        return json.loads((self.job / "run.json").read_text())

    def supervisor(self) -> int:
        """Give the process id of its supervisor."""
        return int(self.record()["supervisor"]["pid"])

    def left_over(self) -> list[str]:
        """Name the containers and marked processes that it left behind."""
        found = [f"process {process.pid}" for token in self.tokens for process in members(None, token)]
        if self.image:
            filters = {"label": f"{JOB_LABEL}={self.job}"}
            found += [str(c.name) for c in connect().containers.list(all=True, filters=filters)]
        return found

    def close(self) -> None:
        """Leave nothing running."""
        with contextlib.suppress(FileNotFoundError):
            self.runner.cancel(self.job)
            end_quietly(self.supervisor())
        for container in connect().containers.list(all=True) if self.image else ():
            if container.labels.get(JOB_LABEL) == str(self.job):
                container.remove(force=True)


def until(true: Callable[[], object], *, seconds: float = 20) -> None:
    """Wait until something is true."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.02)


def alive(pid: int) -> bool:
    """Tell whether a process lives."""
    with contextlib.suppress(psutil.Error):
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    return False


def end_quietly(pid: int) -> None:
    """Kill a supervisor that outlived its test."""
    with contextlib.suppress(psutil.Error):
        if "ymir_nb.backend.runners.supervisor" in psutil.Process(pid).cmdline():
            os.kill(pid, 9)
