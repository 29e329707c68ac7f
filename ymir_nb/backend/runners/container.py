"""A container in the care of its supervisor: shut in by default, found again by its labels.

Source: YMIR 2.5.0, executor contract, how it is launched: ``/in`` read-only, ``/out`` writable, the
image's own start command, shared memory by GPU, the caller's user.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from ymir_nb.backend.errors import JobError, JobFailed
from ymir_nb.backend.gpus import Gpu, check_seen
from ymir_nb.backend.runners.base import ENGINE_STOPPED, GIB, KILLED, LOST, OUT_OF_MEMORY, Launch
from ymir_nb.backend.runners.capped_log import CappedLog
from ymir_nb.backend.runners.engine import EngineUnreachable, connect, engine_errors

if TYPE_CHECKING:
    from docker.models.containers import Container as Found

JOB_LABEL, JOBS_LABEL = "ymir-nb.job", "ymir-nb.jobs"
NOBODY = 65534
DRAIN_SECONDS = 5.0


class Container:
    """Starts, hears and ends the container of one job.

    Parameters
    ----------
    job_dir : Path
        Whose ``in`` and ``out`` it gets.
    launch : Launch
        What to start, and what it may do.
    token : str
        Part of its name.
    log : CappedLog
        Gets what it says.
    """

    def __init__(self, job_dir: Path, launch: Launch, token: str, log: CappedLog) -> None:
        self.job_dir = job_dir
        self.launch = launch
        self.name = container_name(token)
        self.log = log
        self.code: int | None = None
        self.reason = ""
        self.pid = 0
        self.reachable = True
        self.was_unreachable = False
        self.listener: threading.Thread | None = None

    def start(self, gpus: list[Gpu]) -> None:
        """Make and start it, and hold the GPUs that it sees against those it was given."""
        if _caller()[0] != os.getuid():
            hand_over(self.job_dir / "out", _caller())
        with engine_errors():
            container = connect().containers.create(**self._settings(gpus))
            container.start()
        self._listen(container)
        self._look()
        if gpus:
            code, said = container.exec_run(["nvidia-smi", "-L"])
            wrong = check_seen(said.decode(errors="replace") if code == 0 and isinstance(said, bytes) else "", gpus)
            if wrong:
                self.end(grace_seconds=0.0)
                raise JobFailed(wrong)

    def adopt(self) -> None:
        """Take over the container that a former supervisor started."""
        container = self._find()
        if container is None:
            self.code, self.reason = 127, LOST
            return
        self._listen(container)
        self._look()

    def pump(self, wait_seconds: float) -> None:
        """Look how it stands, and wait a little where it runs."""
        self._look()
        if self.code is None:
            time.sleep(max(wait_seconds, 0.1))

    def end(self, *, grace_seconds: float) -> None:
        """Stop and remove it; what it left in ``/out`` becomes the caller's."""
        with contextlib.suppress(JobError):
            container = self._find()
            if container is not None:
                with engine_errors():
                    if self.code is None:
                        container.stop(timeout=max(1, round(grace_seconds)))
                        self.code = int(container.wait()["StatusCode"])
                    if self.listener is not None:
                        self.listener.join(DRAIN_SECONDS)
                    self._give_back(container)
                    container.remove(force=True, v=True)

    def _settings(self, gpus: list[Gpu]) -> dict[str, Any]:
        """Say what the engine shall make: nothing is allowed that the isolation does not name."""
        from docker.types import DeviceRequest, LogConfig, Mount, Ulimit

        limits = self.launch.isolation
        memory = limits.memory_bytes or psutil.virtual_memory().total * 9 // 10
        cpus = limits.cpus or os.cpu_count() or 1
        settings = {
            "image": self.launch.digest or self.launch.image,
            "command": list(self.launch.command) or None,
            "name": self.name,
            "labels": {JOB_LABEL: str(self.job_dir), JOBS_LABEL: str(self.job_dir.parent)},
            "mounts": [
                Mount("/in", str(self.job_dir / "in"), type="bind", read_only=True),
                Mount("/out", str(self.job_dir / "out"), type="bind"),
            ],
            "environment": {"PYTHONUNBUFFERED": "1", "HOME": "/tmp"} | dict(self.launch.env),  # noqa: S108
            "network_mode": "bridge" if limits.network else "none",
            "read_only": not limits.writable_root,
            "tmpfs": {"/tmp": "rw,exec,nosuid,nodev,mode=1777"},  # noqa: S108
            "init": True,
            "shm_size": self.launch.shm_bytes or 16 * GIB * max(1, len(gpus)),
            "mem_limit": memory,
            "memswap_limit": memory,
            "nano_cpus": int(min(cpus, os.cpu_count() or 1) * 1e9),
            "pids_limit": limits.n_pids,
            "ulimits": [
                Ulimit(name="fsize", soft=limits.out_bytes, hard=limits.out_bytes),
                Ulimit(name="core", soft=0, hard=0),
            ],
            # Kept by the engine until a supervisor has written it to the job's log, whoever dies meanwhile.
            "log_config": LogConfig(type="json-file", config={"max-size": str(limits.log_bytes), "max-file": "2"}),
            "device_requests": [DeviceRequest(device_ids=[gpu.uuid for gpu in gpus], capabilities=[["gpu"]])]
            if gpus
            else None,
        }
        if not limits.image_user:
            settings["user"] = "{}:{}".format(*_caller())
        if not limits.capabilities:
            settings |= {"cap_drop": ["ALL"], "security_opt": ["no-new-privileges"]}
        return settings

    def _find(self) -> Found | None:
        return find_container(self.name)

    def _look(self) -> None:
        """Ask the engine how it stands; one that does not answer is asked again later."""
        try:
            container = self._find()
        except EngineUnreachable:
            self.reachable, self.was_unreachable = False, True
            return
        if container is None:
            self.code, self.reason = 137, "its container was removed by somebody else"
            return
        if not self.reachable:
            self._listen(container)
        self.reachable = True
        state = container.attrs["State"]
        self.pid = int(state["Pid"])
        if state["Status"] in ("created", "running", "paused", "restarting"):
            return
        self.code = int(state["ExitCode"])
        if state.get("OOMKilled") and self.code:
            self.reason = OUT_OF_MEMORY
        elif self.was_unreachable and self.code:
            self.reason = ENGINE_STOPPED
        elif self.code == 137:
            self.reason = KILLED

    def _listen(self, container: Found) -> None:
        """Write all that it said and says to the log, in a thread that ends with it."""

        def listen() -> None:
            with contextlib.suppress(JobError), engine_errors():
                for data in container.logs(stream=True, follow=True):
                    self.log.write(data)

        if self.listener is None or not self.listener.is_alive():
            self.log.restart()
            self.listener = threading.Thread(target=listen, daemon=True)
            self.listener.start()

    def _give_back(self, container: Found) -> None:
        """Make the caller the owner of what lies in ``/out``."""
        own = (os.getuid(), os.getgid())
        if own[0] == 0:
            hand_over(self.job_dir / "out", own)
        elif self.launch.isolation.image_user:  # only root may give files away: let the engine do it
            connect().containers.run(
                container.attrs["Image"],
                ["-R", f"{own[0]}:{own[1]}", "/out"],
                entrypoint="chown",
                user="0:0",
                network_mode="none",
                volumes={str(self.job_dir / "out"): {"bind": "/out", "mode": "rw"}},
                remove=True,
            )


def container_name(token: str) -> str:
    """Name the container of a job."""
    return f"ymir-nb-{token}"


def find_container(name: str) -> Found | None:
    """Find a container by its name; None where the engine has none.

    Raises
    ------
    EngineUnreachable
        No engine answers.
    """
    import docker.errors

    client = connect()
    with engine_errors():
        try:
            return client.containers.get(name)
        except docker.errors.NotFound:
            return None


def hand_over(directory: Path, owner: tuple[int, int]) -> None:
    """Give a folder and all in it to a user; links themselves, never what they name."""
    os.chown(directory, *owner, follow_symlinks=False)
    for _, folders, files, fd in os.fwalk(directory):
        for name in (*folders, *files):
            with contextlib.suppress(FileNotFoundError):
                os.chown(name, *owner, dir_fd=fd, follow_symlinks=False)


def _caller() -> tuple[int, int]:
    """Give user and group that a container runs as: the caller's, or nobody's where that is root."""
    return (os.getuid(), os.getgid()) if os.getuid() else (NOBODY, NOBODY)
