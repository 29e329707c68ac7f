"""The small process that stands between a job's executor and whoever started it.

It is run by its file's name (``python supervisor.py``, the order as JSON on standard input), imports
nothing of ymir-nb, and detaches itself, so that it outlives a kernel. It starts the executor in a
process group of its own, writes its output to the log up to a size, ends it at the time limit or
when told to by SIGTERM, ends what the executor left running, and writes ``exit.json``.

On Linux orphans of the executor come back to the supervisor (PR_SET_CHILD_SUBREAPER), so that none
escapes by forking twice, and the executor dies with its supervisor (PR_SET_PDEATHSIG).
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil

RUN_FILE, EXIT_FILE, OWN_LOG = "run.json", "exit.json", "supervisor.log"
TOKEN_VARIABLE = "YMIR_JOB"  # noqa: S105 - it marks processes, and is no secret
GRACE_SECONDS = 3.0
TAIL_BYTES = 1 << 17

_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36
_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None


class CappedLog:
    """A log that keeps its first and its last bytes, however much is written.

    Parameters
    ----------
    path : Path
        Opened once, and never through a link, since the executor may write beside it.
    limit : int
        Bytes to keep from the beginning; `TAIL_BYTES` more from the end.
    """

    def __init__(self, path: Path, *, limit: int) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
        self._limit = limit
        self._room = limit
        self._tail = bytearray()
        self._n_tail = 0
        self.error = ""

    def write(self, data: bytes) -> None:
        """Write what has room, and remember the end of the rest."""
        now, later = data[: self._room], data[self._room :]
        self._room -= len(now)
        self._put(now)
        self._n_tail += len(later)
        self._tail = (self._tail + later)[-TAIL_BYTES:]

    def close(self) -> None:
        """Write the remembered end, with a word on what is left out."""
        left_out = self._n_tail - len(self._tail)
        if left_out:
            self._put(f"\n[... {left_out} bytes left out, the log keeps {self._limit} ...]\n".encode())
        self._put(bytes(self._tail))
        os.close(self._file)

    def _put(self, data: bytes) -> None:
        """Write all of it; a full disk costs the log and not the job."""
        try:
            while data:
                data = data[os.write(self._file, data) :]
        except OSError as error:
            self.error = f"the log is not complete: {error.strerror}"


class Supervisor:
    """Runs one executor to its end.

    Parameters
    ----------
    job_dir : Path
        Gets run.json and exit.json.
    order : dict
        command, env, cwd, log, log_bytes, limit_seconds, token.
    """

    def __init__(self, job_dir: Path, order: dict[str, Any]) -> None:
        self.job_dir = job_dir
        self.order = order
        self.log = CappedLog(Path(order["log"]), limit=order["log_bytes"])
        self.code: int | None = None
        self.cancelled = False
        self.selector = selectors.DefaultSelector()
        self.process: subprocess.Popen[bytes] | None = None

    def run(self, started: Callable[[], None]) -> None:
        """Start, watch, end; `started` is called once the executor runs or has failed to."""
        signal.signal(signal.SIGTERM, self._on_cancel)
        begin = time.monotonic()
        try:
            self._start()
        except OSError as error:
            self._finish(begin, 127, f"it could not be started: {error}")
            started()
            return
        started()
        reason = self._watch(begin)
        end_processes(self._others, grace_seconds=GRACE_SECONDS if reason else 0.5, between=self._pump)
        self._pump()
        self._finish(begin, self.code, reason)

    def _on_cancel(self, _number: int, _frame: object) -> None:
        self.cancelled = True

    def _start(self) -> None:
        """Start the executor and leave a record by which any process can find both."""
        self.process = subprocess.Popen(
            self.order["command"],
            env=self.order["env"],
            cwd=self.order["cwd"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=_die_with_parent,  # noqa: PLW1509 - this process has one thread
        )
        assert self.process.stdout is not None
        os.set_blocking(self.process.stdout.fileno(), False)
        self.selector.register(self.process.stdout, selectors.EVENT_READ)
        record = {
            "supervisor": {"pid": os.getpid(), "identity": identity(os.getpid())},
            "executor": self.process.pid,
            "token": self.order["token"],
            "started": time.time(),
        }
        write_json(self.job_dir / RUN_FILE, record)

    def _watch(self, begin: float) -> str:
        """Wait for the executor's end, or a reason to end it."""
        limit = self.order["limit_seconds"]
        while self.code is None:
            if self.cancelled:
                return "cancelled"
            if limit is not None and time.monotonic() - begin > limit:
                return f"time limit of {limit:g} s"
            self._pump(wait_seconds=0.1)
        return ""

    def _pump(self, wait_seconds: float = 0.0) -> None:
        """Move what the executor said to the log, and take note of the dead."""
        if not self.selector.get_map():
            time.sleep(wait_seconds)
        elif self.selector.select(wait_seconds):
            self._read()
        self._reap()

    def _read(self) -> None:
        assert self.process is not None
        assert self.process.stdout is not None
        for _ in range(64):  # then look up: a flood of output must not hide the time limit
            try:
                data = os.read(self.process.stdout.fileno(), 1 << 16)
            except BlockingIOError:
                return
            if not data:
                self.selector.unregister(self.process.stdout)
                return
            self.log.write(data)

    def _reap(self) -> None:
        """Collect ended children: the executor, and orphans of its own."""
        assert self.process is not None
        with contextlib.suppress(ChildProcessError):
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if pid == 0:
                    return
                if pid == self.process.pid:
                    self.code = self.process.returncode = os.waitstatus_to_exitcode(status)

    def _others(self) -> list[psutil.Process]:
        return members(os.getpid(), self.order["token"])

    def _finish(self, begin: float, code: int | None, reason: str) -> None:
        self.log.close()
        end = {"code": code, "reason": reason, "seconds": time.monotonic() - begin, "log": self.log.error}
        write_json(self.job_dir / EXIT_FILE, end)


def members(supervisor: int | None, token: str) -> list[psutil.Process]:
    """Find every living process of a job: below its supervisor, or marked with its token.

    Parameters
    ----------
    supervisor : int or None
        Process id of the living supervisor.
    token : str
        Value of `TOKEN_VARIABLE` in the environment of all that the executor started.
    """
    found = {process.pid: process for process in _children(supervisor)}
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.environ().get(TOKEN_VARIABLE) == token:
                found[process.pid] = process
    return [process for process in found.values() if process.pid != os.getpid() and _is_alive(process)]


def end_processes(
    find: Callable[[], list[psutil.Process]], *, grace_seconds: float, between: Callable[[], None] = lambda: None
) -> None:
    """End processes: SIGTERM, then SIGKILL after the grace, again and again while new ones turn up.

    Parameters
    ----------
    find : callable
        Gives those that are alive now.
    grace_seconds : float
        Between the two signals.
    between : callable
        Called while waiting.
    """
    for process in find():
        with contextlib.suppress(psutil.Error):
            process.terminate()
    deadline = time.monotonic() + grace_seconds
    while (alive := find()) and time.monotonic() < deadline:
        between()
        time.sleep(0.05)
    deadline = time.monotonic() + 4.0
    while alive and time.monotonic() < deadline:
        for process in alive:
            with contextlib.suppress(psutil.Error):
                process.kill()
        between()
        time.sleep(0.02)
        alive = find()


def identity(pid: int) -> str:
    """Give what tells a process from a later one with the same id; empty when there is none.

    On Linux the boot and the clock ticks since then, which no change of the clock moves.
    """
    try:
        if sys.platform != "linux":
            return str(psutil.Process(pid).create_time())
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        # Everything after the last parenthesis is numbers; the name before it may hold anything.
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    except (OSError, psutil.Error):
        return ""
    return "" if fields[0] in (b"Z", b"X") else f"{boot}:{fields[19].decode()}"


def write_json(path: Path, value: object) -> None:
    """Write a file under a temporary name, then rename it into place."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    with draft.open("w", encoding="utf-8") as file:
        json.dump(value, file)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)


def _children(pid: int | None) -> Iterator[psutil.Process]:
    if pid is not None:
        with contextlib.suppress(psutil.Error):
            yield from psutil.Process(pid).children(recursive=True)


def _is_alive(process: psutil.Process) -> bool:
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return False


def _die_with_parent() -> None:
    """Run in the executor's process before it becomes the executor."""
    if _LIBC is not None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _detach(job_dir: Path) -> None:
    """Leave the session and the standard streams of whoever started this."""
    os.setsid()
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    own = os.open(job_dir / OWN_LOG, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    null = os.open(os.devnull, os.O_RDWR)
    for stream, target in ((0, null), (1, own), (2, own)):
        os.dup2(target, stream)
    if _LIBC is not None:
        _LIBC.prctl(_PR_SET_CHILD_SUBREAPER, 1)


def main() -> int:
    """Fork: the first process waits until the executor runs, the second stays with it."""
    order = json.load(sys.stdin)
    job_dir = Path(order["job_dir"])
    ready, tell = os.pipe()
    if os.fork():
        os.close(tell)
        return 0 if os.read(ready, 1) else 1
    os.close(ready)
    _detach(job_dir)

    def started() -> None:
        os.write(tell, b"1")
        os.close(tell)

    Supervisor(job_dir, order).run(started)
    return 0


if __name__ == "__main__":
    sys.exit(main())
