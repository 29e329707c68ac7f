"""Why a job failed, in words: exit code, the executor's own error record, and what its log says."""

from __future__ import annotations

import re
import signal
from pathlib import Path

from ymir_nb.backend.monitor import read_monitor
from ymir_nb.backend.runners.base import CANCELLED, ENGINE_STOPPED, LOST, OUT_OF_MEMORY, RunState
from ymir_nb.backend.untrusted import read_head, read_tail

LOG_FILE = "ymir-executor-out.log"
SCANNED_BYTES = 1 << 20
MAX_LINE = 300

_EXCEPTION = re.compile(r"^(?:[A-Za-z_][\w.]*\.)?[A-Z]\w*(?:Error|Exception|Exit|Interrupt)\b")
_ERROR = re.compile(r"\b(?:error|fatal|exception|killed|out of memory|no such file|not found|denied)\b", re.IGNORECASE)


def explain(out_dir: Path, run: RunState) -> str:
    """Say why an executor did not end well.

    Parameters
    ----------
    out_dir : Path
        ``out`` of its job.
    run : RunState
        How it ended.

    Returns
    -------
    str
        The reason, the executor's own error record, the first line of its log that looks like an
        error, the last lines, and the log's path.
    """
    path = out_dir / LOG_FILE
    parts = [_ending(run)]
    record = read_monitor(out_dir / "monitor.txt")
    if record is not None and record.in_words():
        parts.append(f"It says: {record.in_words()}.")
    first = first_error(path)
    if first:
        parts.append(f"First error: {first}")
    last = last_lines(path, n_lines=5)
    if last:
        parts.append("Last lines of its log:\n" + "\n".join(f"    {line}" for line in last))
    return " ".join(parts) + f"\nLog: {path}"


def first_error(path: Path) -> str:
    """Give the first line of a log that names an exception, or else one that looks like an error; else nothing."""
    lines = _lines(read_head(path, limit=SCANNED_BYTES)) + _lines(read_tail(path, limit=SCANNED_BYTES))
    for pattern in (_EXCEPTION, _ERROR):
        for line in lines:
            if pattern.search(line):
                return line
    return ""


def last_lines(path: Path, *, n_lines: int) -> list[str]:
    """Give the last lines of a log that are not empty."""
    lines = [line for line in _lines(read_tail(path, limit=SCANNED_BYTES)) if line.strip()]
    return lines[-n_lines:] if n_lines > 0 else []


_MEANINGS = {
    CANCELLED: "somebody asked for it.",
    LOST: "its supervisor was killed, or the machine stopped. Start it again: ymir-nb jobs retry.",
    ENGINE_STOPPED: f"{ENGINE_STOPPED}. Start it again: ymir-nb jobs retry.",
    OUT_OF_MEMORY: f"{OUT_OF_MEMORY}. Give it more (memory_bytes), or let it work on fewer images at a time.",
}


def _ending(run: RunState) -> str:
    """Say how a run ended."""
    reason = LOST if run.phase == "vanished" else run.reason
    if reason:
        return _MEANINGS.get(reason, f"{reason}.")
    if run.code in (-9, 137):
        return "it was killed (signal 9, exit code 137)."
    if run.code is not None and run.code < 0:
        return f"it was ended by {signal.Signals(-run.code).name} (exit code {128 - run.code})."
    return f"exit code {run.code}."


def _lines(data: bytes) -> list[str]:
    """Split a log, which may hold anything, into lines fit for a message."""
    text = data.decode("utf-8", errors="replace")
    # A progress bar rewrites its line: what stands after its last carriage return is what one saw.
    seen = (line.rstrip("\r").rpartition("\r")[2] for line in text.split("\n"))
    return ["".join(c if c.isprintable() else " " for c in line[:MAX_LINE]).rstrip() for line in seen]
