"""What a runner is: the way an executor is started, watched and ended."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

CANCELLED, LOST = "cancelled", "lost"
"""Reasons of an end that nobody recorded an exit code for: asked for, or found out later."""

Phase = Literal["absent", "running", "exited", "vanished"]


@dataclass(frozen=True)
class RunState:
    """The truth about an executor, read from its job's files.

    Parameters
    ----------
    phase : {"absent", "running", "exited", "vanished"}
        ``absent``: never started; ``vanished``: it is gone and nobody recorded its end.
    code : int, optional
        Exit code of one that exited; negative: ended by the signal of this number.
    seconds : float
        How long it ran, or has been running.
    reason : str
        Why it ended, other than by itself: `CANCELLED`, `LOST` (its supervisor was killed, or the
        machine), ``time limit of ... s``, or what kept it from starting.
    """

    phase: Phase
    code: int | None = None
    seconds: float = 0.0
    reason: str = ""


class Runner(Protocol):
    """One way to run an executor; everything it knows later it reads from the job's directory."""

    def preflight(self, command: Sequence[str]) -> None:
        """Refuse a command that cannot be started, before anything is exported (PreflightFailed)."""
        ...

    def roots(self, job_dir: Path) -> tuple[str, str]:
        """Give the job's ``in`` and ``out`` folders as the executor will see them."""
        ...

    def start(
        self, job_dir: Path, command: Sequence[str], *, env: Mapping[str, str], limit_seconds: float | None
    ) -> None:
        """Start an executor that outlives this process; back when it runs, or has failed to start."""
        ...

    def poll(self, job_dir: Path) -> RunState:
        """Tell how it stands; any process may ask."""
        ...

    def cancel(self, job_dir: Path) -> None:
        """End it and everything it started, within ten seconds."""
        ...
