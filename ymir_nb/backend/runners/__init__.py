"""Ways to run an executor, each one file and one row here."""

from __future__ import annotations

from ymir_nb.backend.runners.base import Runner, RunState
from ymir_nb.backend.runners.process import ProcessRunner

__all__ = ["RUNNERS", "ProcessRunner", "RunState", "Runner"]

RUNNERS: dict[str, Runner] = {"process": ProcessRunner()}
"""Runners by the name that executors.yaml uses."""
