"""`monitor.txt`: one line that says how far a run has come, rewritten as it goes."""

from __future__ import annotations

import time
from pathlib import Path

from ymir_nb.executor.contract import write_atomically

RUNNING, FAILED = 2, 4


class Monitor:
    """Writer of monitor.txt; its percent never falls.

    Parameters
    ----------
    path : Path
        The file.
    task_id : str
        Its first column.

    Source: YMIR's executor contract, protocol version 1.1.0, `monitor.txt`.
    """

    def __init__(self, path: Path, task_id: str) -> None:
        self.path = path
        self.task_id = task_id
        self.percent = -1.0

    def progress(self, fraction: float) -> None:
        """Say that `fraction` (0 to 1) of the work is done; steps below a percent are not written."""
        percent = min(1.0, int(fraction * 100) / 100)
        if percent > self.percent:
            self.percent = percent
            self._write(RUNNING, 0, "")

    def fail(self, message: str, *, code: int) -> None:
        """Record the failure, with the percent reached and one line of reason."""
        self.percent = max(self.percent, 0.0)
        self._write(FAILED, code, " ".join(message.split()))

    def _write(self, state: int, code: int, message: str) -> None:
        columns = [self.task_id, f"{time.time():.6f}", f"{self.percent:.2f}", str(state), str(code)]
        write_atomically(self.path, "\t".join([*columns, message] if message else columns) + "\n")
