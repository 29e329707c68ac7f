"""The small process that stands between a job's executor and whoever started it.

It is run as a module (``python -m ymir_nb.backend.runners.supervisor``, the order as JSON on standard
input) and detaches itself, so that it outlives a kernel. It waits for GPUs, starts the executor, writes
its output to the log up to a size, ends it when it is past its time or its room or when told to by
`CANCEL_SIGNAL`, and writes ``exit.json``. A local program dies with it; a container goes on without it, and
whoever looks next starts another supervisor, which takes it over.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from filelock import FileLock, Timeout

from ymir_nb.backend.errors import PreflightFailed, YmirError
from ymir_nb.backend.gpu_queue import GpuQueue
from ymir_nb.backend.gpus import Gpu, faults, inventory
from ymir_nb.backend.outbox import measure
from ymir_nb.backend.runners.base import CANCELLED, LOST, Isolation, Launch, Phase
from ymir_nb.backend.runners.capped_log import CappedLog
from ymir_nb.backend.runners.processes import is_of_this_boot, myself, read_json, write_json

RUN_FILE, EXIT_FILE, OWN_LOG, LOCK_FILE = "run.json", "exit.json", "supervisor.log", ".supervisor.lock"
LOG_NAME = "ymir-executor-out.log"
CANCEL_SIGNAL = signal.SIGUSR1
GRACE_SECONDS = 3.0
MEASURE_SECONDS = 1.0
QUEUE_SECONDS = 0.5
PUMP_SECONDS = 0.2


class Charge(Protocol):
    """One executor in the care of a supervisor: a local process or a container."""

    goes_on_alone: bool
    """Whether it outlives its supervisor."""
    code: int | None
    """Exit code, once it has ended."""
    reason: str
    """Why it ended, where that is not plain from the code."""
    reachable: bool
    """Whether one can know how it stands."""

    @property
    def pid(self) -> int:
        """Process id, 0 where there is none."""
        ...

    def start(self, gpus: list[Gpu]) -> None:
        """Start it; OSError or YmirError says what kept it from starting."""
        ...

    def adopt(self) -> None:
        """Take over what a former supervisor started."""
        ...

    def pump(self, wait_seconds: float) -> None:
        """Move what it said to the log and look whether it has ended, for at most so long."""
        ...

    def end(self, *, grace_seconds: float) -> None:
        """End it and all it started: first politely, after the grace for good. Fine when it has ended."""
        ...


class Supervisor:
    """Sees one executor to its end.

    Parameters
    ----------
    job_dir : Path
        Gets run.json and exit.json.
    order : dict
        ``runner``, ``launch`` (of `Launch.to_dict`), ``token``, ``env``, ``cwd``, ``resume``.
    """

    def __init__(self, job_dir: Path, order: dict[str, Any]) -> None:
        self.job_dir = job_dir
        self.order = order
        self.launch = Launch.from_dict(order["launch"])
        self.former = read_json(job_dir / RUN_FILE) if order["resume"] else None
        self.log = CappedLog(job_dir / "out" / LOG_NAME, limit=self.launch.isolation.log_bytes)
        self.charge = _charge(self)
        self.queue = GpuQueue() if self.launch.n_gpus else None
        self.gpus: list[Gpu] = []
        self.asked = ""
        self.begin = self.former["started"] if self.former else time.time()
        self.measured = time.monotonic()

    def run(self, started: Callable[[], None]) -> None:
        """Wait for GPUs, start, watch, end; `started` is called once it runs, is queued, or has failed to start."""
        signal.signal(CANCEL_SIGNAL, lambda *_: self._ask(CANCELLED))
        if not self.charge.goes_on_alone:  # a machine that is shut down says so
            signal.signal(signal.SIGTERM, lambda *_: self._ask(LOST))
        doing = "started"
        try:
            reason = self._begin(started)
            doing = "watched"
            reason = reason or self._watch()
        except (OSError, YmirError) as error:
            self.charge.code, reason = 127, f"it could not be {doing}: {error}"
        try:
            self.charge.end(grace_seconds=GRACE_SECONDS if reason else 0.5)
        finally:
            self._finish(reason)
            started()

    def _ask(self, reason: str) -> None:
        self.asked = self.asked or reason

    def _begin(self, started: Callable[[], None]) -> str:
        """Start or adopt the executor; a reason when it is over before it began."""
        if self.former:  # the engine keeps all that was said, and the log is written anew
            self.gpus = [Gpu(**gpu) for gpu in self.former["gpus"]]
            self.charge.adopt()
            if self.charge.code is not None and not is_of_this_boot(self.former["supervisor"]):
                return LOST
        else:
            reason = self._wait_for_gpus(started)
            if reason:
                return reason
            self.begin = time.time()
            self._record("running")  # first: whoever finds a container must find its job
            self.charge.start(self.gpus)
        if self.queue is not None and self.charge.code is None:
            self._keep_gpus(self.queue)
        self._record("running")
        started()
        return ""

    def _wait_for_gpus(self, started: Callable[[], None]) -> str:
        """Stand in the queue until the GPUs are there; a reason when that was given up."""
        if self.queue is None:
            return ""
        ticket = self.order["token"]
        self.queue.ask(ticket, self.launch.n_gpus, os.getpid())
        while self.queue.position(ticket) or (taken := self.queue.take(ticket, inventory())) is None:
            self._record("queued")
            started()
            time.sleep(QUEUE_SECONDS)
            if self.asked:
                return self.asked
        self.gpus = taken
        return ""

    def _keep_gpus(self, queue: GpuQueue) -> None:
        """Let the executor hold its GPUs: a container goes on without its supervisor."""
        try:
            queue.keep(self.order["token"], self.charge.pid)
        except PreflightFailed:  # the engine runs in a machine of its own, where process ids mean something else
            queue.keep(self.order["token"], os.getpid())

    def _watch(self) -> str:
        """Wait for the executor's end, or a reason to end it."""
        limits = self.launch.isolation
        reachable = self.charge.reachable
        while self.charge.code is None:
            # What cannot be reached cannot be ended either: it goes on until the engine is back.
            if reachable and (reason := self._over(limits)):
                return reason
            self.charge.pump(PUMP_SECONDS)
            if self.charge.reachable != reachable:
                reachable = self.charge.reachable
                self._record("running" if reachable else "unreachable")
        return self.charge.reason

    def _over(self, limits: Isolation) -> str:
        """Say why it must end now."""
        if self.asked:
            return self.asked
        if limits.seconds and time.time() - self.begin > limits.seconds:
            return f"time limit of {limits.seconds:g} s"
        return self._over_quota(limits)

    def _over_quota(self, limits: Isolation) -> str:
        """Say what of ``/out`` has become too much, looking once a second."""
        if time.monotonic() - self.measured < MEASURE_SECONDS:
            return ""
        n_files, n_bytes = measure(self.job_dir / "out", most_files=limits.out_files, most_bytes=limits.out_bytes)
        self.measured = time.monotonic()
        if n_files > limits.out_files:
            return f"it left more than {limits.out_files} files in /out, or hid them"
        return f"it wrote more than {limits.out_bytes} bytes to /out" if n_bytes > limits.out_bytes else ""

    def _record(self, phase: Phase) -> None:
        """Leave a record by which any process can find the executor and its supervisor."""
        record = {
            "supervisor": myself(),
            "executor": self.charge.pid,
            "phase": phase,
            "token": self.order["token"],
            "started": self.begin,
            "launch": self.order["launch"],
            "gpus": [vars(gpu) for gpu in self.gpus],
        }
        write_json(self.job_dir / RUN_FILE, record)

    def _finish(self, reason: str) -> None:
        """Close the log, free the GPUs, write how it ended, and tell whoever wants to know."""
        code = self.charge.code
        if self.queue is not None:
            broken = faults(self.gpus, inventory()) if self.gpus and code else {}
            for uuid, fault in broken.items():
                self.queue.quarantine(uuid, fault)
                reason = reason or f"GPU {uuid} failed: {fault}"
            self.queue.release(self.order["token"])
        self.log.close()
        end = {"code": code, "reason": reason, "seconds": time.time() - self.begin, "log": self.log.error}
        write_json(self.job_dir / EXIT_FILE, end)
        if self.launch.notify:
            words = {"YMIR_JOB": self.job_dir.name, "YMIR_JOB_DIR": str(self.job_dir), "YMIR_JOB_REASON": reason}
            words["YMIR_JOB_CODE"] = "" if code is None else str(code)
            subprocess.run(self.launch.notify, env=os.environ | words, check=False)


def _charge(supervisor: Supervisor) -> Charge:
    """Make the charge of a runner; each loads what it needs."""
    if supervisor.launch.runner == "docker":
        from ymir_nb.backend.runners.container import Container

        return Container(supervisor.job_dir, supervisor.launch, supervisor.order["token"], supervisor.log)
    from ymir_nb.backend.runners.local import LocalProcess

    order = supervisor.order
    return LocalProcess(list(supervisor.launch.command), order["env"], order["cwd"], order["token"], supervisor.log)


def spawn(job_dir: Path, launch: Launch, *, token: str, resume: bool = False, **rest: Any) -> str:
    """Start a supervisor; back when its executor runs, is queued, or has failed to start.

    Parameters
    ----------
    job_dir : Path
        The job's directory.
    launch : Launch
        What to start.
    token : str
        Marks everything that belongs to the job.
    resume : bool
        Take over an executor that runs.
    **rest
        ``env`` and ``cwd`` of a local program.

    Returns
    -------
    str
        Empty, or what the supervisor said before it could not start.
    """
    order = {"job_dir": str(job_dir), "launch": launch.to_dict(), "token": token, "resume": resume}
    order |= {"env": {}, "cwd": ""} | rest
    started = subprocess.run(
        [sys.executable, "-P", "-m", __name__],
        input=json.dumps(order).encode(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        cwd=job_dir,
        check=False,
    )
    if not started.returncode:
        return ""
    own_log = job_dir / OWN_LOG
    said = started.stderr + (own_log.read_bytes() if own_log.exists() else b"")
    return said.decode(errors="replace").strip()[-1000:]


def _detach(job_dir: Path) -> None:
    """Leave the session and the standard streams of whoever started this."""
    os.setsid()
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    own = os.open(job_dir / OWN_LOG, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    null = os.open(os.devnull, os.O_RDWR)
    for stream, target in ((0, null), (1, own), (2, own)):
        os.dup2(target, stream)


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
    told = False

    def started() -> None:
        nonlocal told
        if not told:
            told = True
            os.write(tell, b"1")
            os.close(tell)

    try:
        with FileLock(job_dir / LOCK_FILE, timeout=0):
            if (job_dir / EXIT_FILE).exists():  # another supervisor has seen to it
                started()
                return 0
            Supervisor(job_dir, order).run(started)
    except Timeout:
        started()
    return 0


if __name__ == "__main__":
    sys.exit(main())
