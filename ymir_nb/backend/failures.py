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
SEARCHED_LINES = 200

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
        The reason, the executor's own error record, what the log's words most often mean, its first line
        that looks like an error, its last lines, and its path.
    """
    path = out_dir / LOG_FILE
    if run.reason == CANCELLED:  # what it said while it was ended explains nothing
        return f"{_ending(run)}\nLog: {path}"
    parts = [_ending(run)]
    record = read_monitor(out_dir / "monitor.txt")
    if record is not None and record.in_words():
        parts.append(f"It says: {record.in_words()}.")
    parts += [f"It seems that {words}." for words in [cause(path)] if words]
    first = first_error(path)
    if first:
        parts.append(f"First error: {first}")
    last = last_lines(path, n_lines=5)
    if last:
        parts.append("Last lines of its log:\n" + "\n".join(f"    {line}" for line in last))
    lost = f" ({run.log_error})" if run.log_error else ""
    return " ".join(parts) + f"\nLog: {path}{lost}"


def cause(path: Path) -> str:
    """Say what the last lines of a log that are known to mean something mean, and what helps; empty where none is.

    Examples
    --------
    >>> import tempfile
    >>> log = Path(tempfile.mkdtemp()) / LOG_FILE
    >>> n_bytes = log.write_text("OSError: [Errno 28] No space left on device")
    >>> cause(log)
    'the disk is full, or what it may write to. Make room; in a container, /tmp is memory'
    """
    for line in reversed(last_lines(path, n_lines=SEARCHED_LINES)):
        for pattern, words in _CAUSES.items():
            if pattern.search(line):
                return words
    return ""


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


_CAUSES = {
    re.compile(words, re.IGNORECASE): meaning
    for words, meaning in (
        (
            r"cuda (error: )?out of memory|torch\.(cuda\.)?OutOfMemoryError|CUDA_ERROR_OUT_OF_MEMORY|_ALLOC_FAILED",
            "the GPU's memory ran out. Let it work on fewer or smaller images at a time",
        ),
        (
            r"driver version is insufficient|driver/library version mismatch|SYSTEM_DRIVER_MISMATCH|no kernel image is",
            "its CUDA and this machine's driver or GPU do not fit together. Update the driver, or use another image",
        ),
        (
            r"fallen off the bus|gpu is lost|uncorrectable ecc|DEVICE_UNAVAILABLE",
            "the GPU was lost or broke down. Look at it with nvidia-smi, and start the job again",
        ),
        (
            r"no cuda-capable device|no nvidia driver|no cuda gpus are available",
            "it found no GPU. Ask for one with gpu_count",
        ),
        (
            r"no space left on device|\[errno 28\]|quota exceeded",
            "the disk is full, or what it may write to. Make room; in a container, /tmp is memory",
        ),
        (
            r"insufficient shared memory|bus error",
            "its shared memory ran out. Give it more with shm_size, or let it load with fewer workers",
        ),
        (
            r"file too large|\[errno 27\]|SIGXFSZ",
            "it wrote a file larger than all of /out may be (out_bytes)",
        ),
        (
            r"read-only file system|\[errno 30\]",
            "it wrote where it may not: /out and /tmp are its own, all else is with the setting writable_root",
        ),
        (
            r"network is unreachable|name resolution|name or service not known|could not resolve host|urlopen error",
            "it wanted the network, which it has only with the setting network",
        ),
        (
            r"can't start new thread|resource temporarily unavailable",
            "it has as many processes and threads as it may (n_pids)",
        ),
    )
}

_SIGNALS = {number.value: number.name for number in signal.Signals}

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
    number = 0 if run.code is None else max(-run.code, run.code - 128)  # a shell or container adds 128
    if number in _SIGNALS:
        return f"it was ended by {_SIGNALS[number]} (exit code {128 + number})."
    return f"exit code {run.code}."


def _lines(data: bytes) -> list[str]:
    """Split a log, which may hold anything, into lines fit for a message."""
    text = data.decode("utf-8", errors="replace")
    # A progress bar rewrites its line: what stands after its last carriage return is what one saw.
    seen = (line.rstrip("\r").rpartition("\r")[2] for line in text.split("\n"))
    return ["".join(c if c.isprintable() else " " for c in line[:MAX_LINE]).rstrip() for line in seen]
