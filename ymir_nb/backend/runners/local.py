"""A local process in the care of its supervisor.

On Linux orphans of the executor come back to the supervisor (PR_SET_CHILD_SUBREAPER), so that none
escapes by forking twice, and the executor dies with its supervisor (PR_SET_PDEATHSIG).
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import psutil

from ymir_nb.backend.gpus import Gpu
from ymir_nb.backend.runners.base import OUT_OF_MEMORY
from ymir_nb.backend.runners.capped_log import CappedLog
from ymir_nb.backend.runners.processes import TOKEN_VARIABLE, end_processes, members

_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36
_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None


class LocalProcess:
    """Starts, hears and ends a program and everything it starts.

    Parameters
    ----------
    command : list of str
        Program and arguments.
    env : mapping of str to str
        All of its environment.
    cwd : str
        Where it works.
    token : str
        Marks its processes.
    log : CappedLog
        Gets what it says.
    """

    goes_on_alone = False
    reachable = True

    def __init__(self, command: list[str], env: Mapping[str, str], cwd: str, token: str, log: CappedLog) -> None:
        self.command = command
        self.env = dict(env) | {TOKEN_VARIABLE: token}
        self.cwd = cwd
        self.token = token
        self.log = log
        self.code: int | None = None
        self.reason = ""
        self.selector = selectors.DefaultSelector()
        self.process: subprocess.Popen[bytes] | None = None
        self.n_killed = _n_killed_for_memory()
        if _LIBC is not None:
            _LIBC.prctl(_PR_SET_CHILD_SUBREAPER, 1)

    @property
    def pid(self) -> int:
        """Process id, 0 before it is started."""
        return self.process.pid if self.process else 0

    def start(self, gpus: list[Gpu]) -> None:
        """Start it; it sees the GPUs that it was given and no other."""
        if gpus:
            self.env["CUDA_VISIBLE_DEVICES"] = ",".join(gpu.uuid for gpu in gpus)
        self.process = subprocess.Popen(
            self.command,
            env=self.env,
            cwd=self.cwd,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=_die_with_parent,  # noqa: PLW1509 - this process has one thread
        )
        assert self.process.stdout is not None
        os.set_blocking(self.process.stdout.fileno(), False)
        self.selector.register(self.process.stdout, selectors.EVENT_READ)

    def adopt(self) -> None:
        """There is nothing to take over: it died with its supervisor."""
        raise ProcessLookupError("a local process ends with its supervisor")

    def pump(self, wait_seconds: float) -> None:
        """Move what it said to the log, and take note of the dead."""
        if not self.selector.get_map():
            time.sleep(wait_seconds)
        elif self.selector.select(wait_seconds):
            self._read()
        self._reap()
        if self.code == -signal.SIGKILL and _n_killed_for_memory() > self.n_killed:
            self.reason = OUT_OF_MEMORY

    def end(self, *, grace_seconds: float) -> None:
        """End it and everything it started, also what left its session."""
        end_processes(self._others, grace_seconds=grace_seconds, between=lambda: self.pump(0.0))
        self.pump(0.0)

    def _others(self) -> list[psutil.Process]:
        return members(os.getpid(), self.token)

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
        with contextlib.suppress(ChildProcessError):
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if pid == 0:
                    return
                if self.process is not None and pid == self.process.pid:
                    self.code = self.process.returncode = os.waitstatus_to_exitcode(status)


def _die_with_parent() -> None:
    """Run in the executor's process before it becomes the executor."""
    if _LIBC is not None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _n_killed_for_memory() -> int:
    """Count the processes that the kernel killed for want of memory since it booted; 0 where it does not tell."""
    try:
        lines = Path("/proc/vmstat").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("oom_kill ")), 0)
