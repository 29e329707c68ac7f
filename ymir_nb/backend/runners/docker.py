"""Executors in containers, shut in as far as their work allows."""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING

from ymir_nb.backend.errors import JobError, JobFailed, PreflightFailed
from ymir_nb.backend.gpus import check_available, inventory
from ymir_nb.backend.runners.base import CANCELLED, LOST, Launch, RunState
from ymir_nb.backend.runners.container import JOB_LABEL, JOBS_LABEL, container_name, find_container
from ymir_nb.backend.runners.engine import (
    TOOLKIT,
    EngineUnreachable,
    check_image,
    connect,
    engine_errors,
    find_image,
    has_gpus,
)
from ymir_nb.backend.runners.processes import is_alive, read_json, write_json
from ymir_nb.backend.runners.supervisor import CANCEL_SIGNAL, EXIT_FILE, RUN_FILE, spawn

if TYPE_CHECKING:
    import docker

CANCEL_SECONDS = 7.0


class DockerRunner:
    """Runs an executor's image in a container that outlives the kernel, its supervisor, and a lost connection."""

    def preflight(self, launch: Launch) -> None:
        """Refuse what cannot be started.

        Raises
        ------
        PreflightFailed
            No engine answers, the image is not there, has changed, is for another machine or has no
            start command, or the GPUs asked for cannot be had.
        """
        try:
            self._preflight(connect(), launch)
        except EngineUnreachable as error:
            raise PreflightFailed(str(error)) from error

    def _preflight(self, client: docker.DockerClient, launch: Launch) -> None:
        image = find_image(client, launch.image)
        if launch.digest and image.id != launch.digest:
            raise PreflightFailed(
                f"image {launch.image!r} is {image.id[:19]} now, and was {launch.digest[:19]} when it was registered. "
                f"Look at what changed, then take it as it is: ymir-nb executor add NAME {launch.image}"
            )
        check_image(client, image, launch.image, command=not launch.command)
        if launch.n_gpus:
            check_available(launch.n_gpus, inventory())
            if not has_gpus(client):
                raise PreflightFailed(f"{TOOLKIT}.")

    def roots(self, _job_dir: Path) -> tuple[str, str]:
        """Give ``/in`` and ``/out``, wherever the job lies."""
        return "/in", "/out"

    def start(self, job_dir: Path, launch: Launch) -> None:
        """Start the container below a supervisor of its own.

        Raises
        ------
        JobFailed
            The supervisor could not be started; a container that cannot is seen by `poll`.
        """
        job_dir = job_dir.resolve()
        for name in (RUN_FILE, EXIT_FILE):
            (job_dir / name).unlink(missing_ok=True)
        with contextlib.suppress(JobError):  # what an engine that was stopped left behind
            self.sweep(job_dir.parent)
        said = spawn(job_dir, launch, token=secrets.token_hex(8))
        if said:
            raise JobFailed(f"the container's supervisor could not be started: {said}")

    def poll(self, job_dir: Path) -> RunState:
        """Tell how the container stands; where its supervisor was killed, another takes over."""
        run = read_json(job_dir / RUN_FILE)
        alive = run is not None and is_alive(run["supervisor"])
        end = read_json(job_dir / EXIT_FILE)
        if end is not None:
            return RunState.ended(end)
        if run is None:
            return RunState("absent")
        seconds = max(0.0, time.time() - run["started"])
        if alive:
            return RunState(run["phase"], seconds=seconds)
        try:
            gone = run["phase"] != "queued" and find_container(container_name(run["token"])) is None
        except EngineUnreachable:
            return RunState("unreachable", seconds=seconds)
        if gone:
            return RunState("vanished", seconds=seconds)
        spawn(job_dir.resolve(), Launch.from_dict(run["launch"]), token=run["token"], resume=True)
        return RunState("queued" if run["phase"] == "queued" else "running", seconds=seconds)

    def cancel(self, job_dir: Path) -> None:
        """Stop and remove the container.

        Raises
        ------
        EngineUnreachable
            No engine answers, so that nothing can be ended.
        """
        run = read_json(job_dir / RUN_FILE)
        if run is None or (job_dir / EXIT_FILE).exists():
            return
        if is_alive(run["supervisor"]):
            os.kill(run["supervisor"]["pid"], CANCEL_SIGNAL)
            deadline = time.monotonic() + CANCEL_SECONDS
            while time.monotonic() < deadline and not (job_dir / EXIT_FILE).exists():
                time.sleep(0.05)
            if (job_dir / EXIT_FILE).exists():
                return
        ended = remove(container_name(run["token"]))
        if is_alive(run["supervisor"]):  # stopped, or stuck: it would only speak of what is over
            os.kill(run["supervisor"]["pid"], signal.SIGKILL)
            ended = True
        seconds = max(0.0, time.time() - run["started"])
        reason = CANCELLED if ended else LOST
        write_json(job_dir / EXIT_FILE, {"code": None, "reason": reason, "seconds": seconds, "log": ""})

    def sweep(self, jobs_dir: Path) -> list[str]:
        """Remove the containers below a folder of jobs whose job is over, or is no more.

        Returns
        -------
        list of str
            Names of the containers that were removed.
        """
        runs = (read_json(path) for path in jobs_dir.glob(f"*/{RUN_FILE}"))
        if not any(run["launch"]["runner"] == "docker" for run in runs):
            return []  # most machines with no engine have no jobs for one either
        with engine_errors():
            label = f"{JOBS_LABEL}={jobs_dir.resolve()}"
            found = connect().containers.list(all=True, filters={"label": label})
        names = sorted(str(c.name) for c in found if not _is_cared_for(str(c.name), Path(c.labels[JOB_LABEL])))
        for name in names:
            remove(name)
        return names


def _is_cared_for(name: str, job_dir: Path) -> bool:
    """Tell whether a container is the one that its job runs in now."""
    run = read_json(job_dir / RUN_FILE)
    return run is not None and container_name(run["token"]) == name and not (job_dir / EXIT_FILE).exists()


def remove(name: str) -> bool:
    """Kill and remove a container; False where there is none."""
    found = find_container(name)
    if found is not None:
        with engine_errors():
            found.remove(force=True, v=True)
    return found is not None
