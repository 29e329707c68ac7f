"""Executors as local processes: the same two folders, their real paths handed over in the environment.

Source: YMIR's executor SDK reads the path of env.yaml from ``DEFAULT_ENV_FILE_PATH``.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
import tempfile
import time
from functools import partial
from pathlib import Path

import psutil

from ymir_nb.backend.errors import JobFailed, PreflightFailed
from ymir_nb.backend.gpus import check_available, inventory
from ymir_nb.backend.runners.base import CANCELLED, LOST, Launch, RunState
from ymir_nb.backend.runners.processes import end_processes, is_alive, members, read_json, write_json
from ymir_nb.backend.runners.supervisor import CANCEL_SIGNAL, EXIT_FILE, RUN_FILE, spawn

CANCEL_SECONDS = 7.0

# What an executor may know of the environment; everything else could be a secret.
# fmt: off
_ALLOWED = frozenset(
    (
        "PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LANGUAGE", "TZ", "TMPDIR",
        "TERM", "VIRTUAL_ENV", "CONDA_PREFIX", "PYTHONPATH", "PYTHONHASHSEED",
        "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "CUDA_HOME", "CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES",
        "CUBLAS_WORKSPACE_CONFIG", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS",
        "TORCH_HOME", "XDG_CACHE_HOME", "XDG_RUNTIME_DIR",
    )
)
# fmt: on


class ProcessRunner:
    """Runs an executor as a local process that outlives the kernel (Linux and macOS)."""

    def preflight(self, launch: Launch) -> None:
        """Refuse a command whose program is not there, or GPUs that are not to be had.

        Raises
        ------
        PreflightFailed
            The command is empty, or its program is neither on the PATH nor an executable file; more
            GPUs than the machine has.
        """
        command = launch.command
        if launch.n_gpus:
            check_available(launch.n_gpus, inventory())
        if not command or shutil.which(command[0]) is None:
            program = command[0] if command else ""
            raise PreflightFailed(
                f"the executor's program {program!r} was not found. Install it, or correct the executor's command."
            )

    def roots(self, job_dir: Path) -> tuple[str, str]:
        """Give the absolute paths of ``in`` and ``out``.

        Executors split their index files at blanks. Where the path has one, a link to the job's
        directory in the temporary folder stands in for it.

        Raises
        ------
        PreflightFailed
            The temporary folder has a blank in its path too, or belongs to somebody else.
        """
        real = str(job_dir.resolve())
        if not any(character.isspace() for character in real):
            return f"{real}/in", f"{real}/out"
        links = Path(tempfile.gettempdir()) / f"ymir-nb-{os.getuid()}"
        links.mkdir(mode=0o700, exist_ok=True)
        link = links / hashlib.sha256(real.encode()).hexdigest()[:16]
        if links.is_symlink() or links.stat().st_uid != os.getuid() or any(c.isspace() for c in str(link)):
            raise PreflightFailed(
                f"the workspace's path {real!r} has a blank, at which executors split, and no safe link to it can be "
                f"made in {links}. Move the workspace, or set TMPDIR to a folder of your own without blanks."
            )
        if not link.is_symlink():
            link.symlink_to(real)
        return f"{link}/in", f"{link}/out"

    def start(self, job_dir: Path, launch: Launch) -> None:
        """Start the executor below a supervisor of its own.

        It sees ``DEFAULT_ENV_FILE_PATH``, ``YMIR_IN``, ``YMIR_OUT``, the harmless part of this
        process's environment, and the launch's own; its working directory is ``out``.

        Raises
        ------
        JobFailed
            The supervisor could not be started; an executor that cannot is seen by `poll`.
        """
        job_dir = job_dir.resolve()
        for name in (RUN_FILE, EXIT_FILE):
            (job_dir / name).unlink(missing_ok=True)
        in_root, out_root = self.roots(job_dir)
        inherited = {k: v for k, v in os.environ.items() if k in _ALLOWED or k.startswith("LC_")}
        own = {"DEFAULT_ENV_FILE_PATH": f"{in_root}/env.yaml", "YMIR_IN": in_root, "YMIR_OUT": out_root}
        env = inherited | {"PYTHONUNBUFFERED": "1"} | dict(launch.env) | own
        said = spawn(job_dir, launch, token=secrets.token_hex(8), env=env, cwd=str(job_dir / "out"))
        if said:
            raise JobFailed(f"the executor's supervisor could not be started: {said}")

    def poll(self, job_dir: Path) -> RunState:
        """Tell how the executor stands, from the job's files and the process table."""
        run = read_json(job_dir / RUN_FILE)
        alive = run is not None and is_alive(run["supervisor"])
        # In this order: a supervisor that ends between the two looks has left its record.
        end = read_json(job_dir / EXIT_FILE)
        if end is not None:
            return RunState.ended(end)
        if run is None:
            return RunState("absent")
        return RunState(run["phase"] if alive else "vanished", seconds=max(0.0, time.time() - run["started"]))

    def cancel(self, job_dir: Path) -> None:
        """End the executor and all it started; also what a lost supervisor left behind.

        The supervisor is asked first; where it does not answer, this process does its work.
        """
        run = read_json(job_dir / RUN_FILE)
        if run is None or (job_dir / EXIT_FILE).exists():
            return
        pid = run["supervisor"]["pid"]
        if is_alive(run["supervisor"]):
            os.kill(pid, CANCEL_SIGNAL)
            deadline = time.monotonic() + CANCEL_SECONDS
            while time.monotonic() < deadline:
                if (job_dir / EXIT_FILE).exists():
                    return
                time.sleep(0.05)
        # Stopped or killed: its children go first, then the supervisor; orphans are known by the token.
        found = [psutil.Process(pid)] if is_alive(run["supervisor"]) else []
        reason = CANCELLED if found else LOST
        end_processes(lambda: members(pid if is_alive(run["supervisor"]) else None, run["token"]), grace_seconds=0.0)
        for process in found:
            process.kill()
        if not (job_dir / EXIT_FILE).exists():
            seconds = max(0.0, time.time() - run["started"])
            write_json(job_dir / EXIT_FILE, {"code": None, "reason": reason, "seconds": seconds, "log": ""})

    def sweep(self, jobs_dir: Path) -> list[str]:
        """End what lost supervisors left behind below a folder of jobs."""
        names = []
        for path in sorted(jobs_dir.resolve().glob(f"*/{RUN_FILE}")):
            run = read_json(path)
            lost = not is_alive(run["supervisor"]) or (path.parent / EXIT_FILE).exists()
            left = members(None, run["token"]) if lost else []
            if left:
                end_processes(partial(members, None, run["token"]), grace_seconds=0.0)
            names += [f"process {process.pid}" for process in left]
        return names
