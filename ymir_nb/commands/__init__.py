"""What each command of ``ymir-nb`` does: one library call, and how its result reads."""

from __future__ import annotations

from typing import Any

from ymir_nb.commands import data, diagnosis, executors, jobs, models, rounds, simulation, work

COMMANDS: dict[str, Any] = {
    **data.COMMANDS,
    **work.COMMANDS,
    **diagnosis.COMMANDS,
    **models.COMMANDS,
    **executors.COMMANDS,
    **jobs.COMMANDS,
    **rounds.COMMANDS,
    **simulation.COMMANDS,
}
"""Every command by name; a table stands for commands with sub-commands."""
