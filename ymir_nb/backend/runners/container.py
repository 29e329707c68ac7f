"""A container in the care of its supervisor: shut in by default, found again by its labels.

Source: YMIR 2.5.0, executor contract, how it is launched: ``/in`` read-only, ``/out`` writable, the
image's own start command, shared memory by GPU, the caller's user.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from ymir_nb.backend.errors import JobError, JobFailed
from ymir_nb.backend.gpus import Gpu, check_seen
from ymir_nb.backend.runners.base import ENGINE_STOPPED, GIB, KILLED, LOST, OUT_OF_MEMORY, Launch
from ymir_nb.backend.runners.capped_log import CappedLog
from ymir_nb.backend.runners.engine import connect, engine_errors, takes_connections
from ymir_nb.backend.runners.handing import container_user, let_in, take_back

if TYPE_CHECKING:
    from docker.models.containers import Container as Found

JOB_LABEL, JOBS_LABEL = "ymir-nb.job", "ymir-nb.jobs"
SCRATCH = "rw,exec,nosuid,nodev,mode=1777"
DRAIN_SECONDS, ENDED_DRAIN_SECONDS = 60.0, 2.0
"""How long the rest of the log is waited for: where it ended by itself, and where somebody waits for its end."""


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

    goes_on_alone = True

    def __init__(self, job_dir: Path, launch: Launch, token: str, log: CappedLog) -> None:
        self.job_dir = job_dir
        self.launch = launch
        self.name = container_name(token)
        self.log = log
        self.code: int | None = None
        self.reason = ""
        self.pid = 0
        self.state = ""
        self.reachable = True
        self.listener: threading.Thread | None = None
        self.follows = False

    def start(self, gpus: list[Gpu]) -> None:
        """Make and start it, and hold the GPUs that it sees against those it was given."""
        client = connect()
        user = None if self.launch.isolation.image_user else container_user(client)
        let_in(self.job_dir, user)
        with engine_errors():
            container = client.containers.create(**self._settings(gpus, user))
            # From before its start, and not from the engine's log: that one forgets its beginning in a flood.
            self._listen(container.attach(stream=True))
            container.start()
        self._look()
        if gpus:
            self._check_gpus(container, gpus)

    def adopt(self) -> None:
        """Take over the container that a former supervisor made; one that it never started is lost."""
        self._look()
        if self.state == "created":
            self.code, self.reason = 127, LOST

    def pump(self, wait_seconds: float) -> None:
        """Wait a little, or until it falls silent for good, and look how it stands."""
        if self.listener is not None and self.listener.is_alive():
            self.listener.join(wait_seconds)
        else:
            time.sleep(wait_seconds)
        self._look()

    def end(self, *, grace_seconds: float) -> None:
        """Stop and remove it; what it left in ``/out`` becomes the caller's.

        Where the engine does not answer, the container is left to `DockerRunner.sweep`.
        """
        drain_seconds = ENDED_DRAIN_SECONDS if self.code is None else DRAIN_SECONDS
        with contextlib.suppress(JobError):
            container = self._find()
            if container is None:
                return
            if self.code is None:
                self._stop(container, grace_seconds)
            if self.listener is not None:
                self.listener.join(drain_seconds)
            with engine_errors():
                if self.follows:  # the engine may end that before the last words
                    self.log.restart()
                    self._listen(container.logs(stream=True, follow=False)).join(drain_seconds)
                container.remove(force=True, v=True)
            client = connect()
            if self.launch.isolation.image_user or not os.getuid():
                take_back(client, str(container.attrs["Image"]), self.job_dir, container_user(client))

    def _stop(self, container: Found, grace_seconds: float) -> None:
        """Stop it; one that the engine cannot stop is removed by force all the same."""
        with contextlib.suppress(JobError), engine_errors():
            container.stop(timeout=max(1, round(grace_seconds)))
            self.code = int(container.wait()["StatusCode"])

    def _check_gpus(self, container: Found, gpus: list[Gpu]) -> None:
        """Hold the GPUs that it sees against those it was given, unless it has ended already."""
        try:
            with engine_errors():
                code, said = container.exec_run(["nvidia-smi", "-L"])
        except JobError:
            self._look()
            if self.code is None:
                raise
            return
        wrong = check_seen(said.decode(errors="replace") if code == 0 and isinstance(said, bytes) else "", gpus)
        if wrong:
            raise JobFailed(wrong)

    def _settings(self, gpus: list[Gpu], user: tuple[int, int] | None) -> dict[str, Any]:
        """Say what the engine shall make: nothing is allowed that the isolation does not name."""
        from docker.types import DeviceRequest, LogConfig, Mount, Ulimit

        limits = self.launch.isolation
        memory = limits.memory_bytes or psutil.virtual_memory().total * 9 // 10
        cpus = limits.cpus or os.cpu_count() or 1
        owner = "" if user is None else ",uid={},gid={}".format(*user)  # git works in no folder of somebody else's
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
            "use_config_proxy": limits.network,  # a proxy's address may hold a password
            "read_only": not limits.writable_root,
            "tmpfs": {"/tmp": SCRATCH} | dict.fromkeys(self.launch.scratch, f"{SCRATCH}{owner}"),  # noqa: S108
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
        if user is not None:
            settings["user"] = "{}:{}".format(*user)
        if not limits.capabilities:
            settings |= {"cap_drop": ["ALL"], "security_opt": ["no-new-privileges"]}
        return settings

    def _find(self) -> Found | None:
        return find_container(self.name)

    def _look(self) -> None:
        """Ask the engine how it stands; one that does not answer, or not sensibly, is asked again later."""
        was_reachable = self.reachable
        try:
            container = self._find()
        except JobError:
            self.reachable = False
            return
        self.reachable = True
        if container is None:
            self.code, self.reason = 137, "its container was removed by somebody else"
            return
        if self.listener is None or not (was_reachable or self.listener.is_alive()):
            self.log.restart()
            self.follows = True
            with engine_errors():
                self._listen(container.logs(stream=True, follow=True))
        state = container.attrs["State"]
        self.state, self.pid = str(state["Status"]), int(state["Pid"])
        if self.state in ("created", "running", "paused", "restarting"):
            return
        self.code = int(state["ExitCode"])
        if state.get("OOMKilled") and self.code:
            self.reason = OUT_OF_MEMORY
        elif self.code and not (was_reachable and takes_connections()):
            self.reason = ENGINE_STOPPED
        elif self.code == 137:
            self.reason = KILLED

    def _listen(self, words: Iterable[bytes]) -> threading.Thread:
        """Write what it says to the log, in a thread that ends with it."""

        def listen() -> None:
            with contextlib.suppress(JobError), engine_errors():
                for data in words:
                    self.log.write(data)

        self.listener = threading.Thread(target=listen, daemon=True)
        self.listener.start()
        return self.listener


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
