"""Ways to run an executor, each one file and one row here."""

from __future__ import annotations

from ymir_nb.backend.runners.base import Isolation, Launch, Runner, RunState
from ymir_nb.backend.runners.docker import DockerRunner
from ymir_nb.backend.runners.process import ProcessRunner

__all__ = ["RUNNERS", "DockerRunner", "Isolation", "Launch", "ProcessRunner", "RunState", "Runner"]

RUNNERS: dict[str, Runner] = {"process": ProcessRunner(), "docker": DockerRunner()}
"""Runners by the name that executors.yaml uses."""
