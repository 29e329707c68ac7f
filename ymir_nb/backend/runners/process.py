"""Executors as local processes: the same two folders, their real paths handed over in the environment.

Source: YMIR's executor SDK reads the path of env.yaml from ``DEFAULT_ENV_FILE_PATH``.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil

from ymir_nb.backend.errors import JobFailed, PreflightFailed
from ymir_nb.backend.runners import supervisor
from ymir_nb.backend.runners.base import LOST, RunState

LOG_NAME = "ymir-executor-out.log"
LOG_BYTES = 64 << 20
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

    def preflight(self, command: Sequence[str]) -> None:
        """Refuse a command whose program is not there.

        Raises
        ------
        PreflightFailed
            The command is empty, or its program is neither on the PATH nor an executable file.
        """
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

    def start(
        self, job_dir: Path, command: Sequence[str], *, env: Mapping[str, str], limit_seconds: float | None
    ) -> None:
        """Start the executor below a supervisor of its own.

        It sees ``DEFAULT_ENV_FILE_PATH``, ``YMIR_IN``, ``YMIR_OUT``, the harmless part of this
        process's environment, and `env`; its working directory is ``out``.

        Raises
        ------
        JobFailed
            The supervisor could not be started; an executor that cannot is seen by `poll`.
        """
        job_dir = job_dir.resolve()
        for name in (supervisor.RUN_FILE, supervisor.EXIT_FILE):
            (job_dir / name).unlink(missing_ok=True)
        in_root, out_root = self.roots(job_dir)
        token = secrets.token_hex(8)
        inherited = {k: v for k, v in os.environ.items() if k in _ALLOWED or k.startswith("LC_")}
        own = {"DEFAULT_ENV_FILE_PATH": f"{in_root}/env.yaml", "YMIR_IN": in_root, "YMIR_OUT": out_root}
        order = {
            "job_dir": str(job_dir),
            "command": list(command),
            "env": inherited | {"PYTHONUNBUFFERED": "1"} | dict(env) | own | {supervisor.TOKEN_VARIABLE: token},
            "cwd": str(job_dir / "out"),
            "log": str(job_dir / "out" / LOG_NAME),
            "log_bytes": LOG_BYTES,
            "limit_seconds": limit_seconds,
            "token": token,
        }
        started = subprocess.run(
            [sys.executable, "-P", supervisor.__file__],
            input=json.dumps(order).encode(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            cwd=job_dir,
            check=False,
        )
        if started.returncode:
            own_log = job_dir / supervisor.OWN_LOG
            said = started.stderr + (own_log.read_bytes() if own_log.exists() else b"")
            raise JobFailed(
                f"the executor's supervisor could not be started: {said.decode(errors='replace').strip()[-1000:]}"
            )

    def poll(self, job_dir: Path) -> RunState:
        """Tell how the executor stands, from the job's files and the process table."""
        run = _read(job_dir / supervisor.RUN_FILE)
        alive = run is not None and _is_same(run["supervisor"])
        # In this order: a supervisor that ends between the two looks has left its record.
        end = _read(job_dir / supervisor.EXIT_FILE)
        if end is not None:
            return RunState("exited", end["code"], end["seconds"], end["reason"])
        if run is None:
            return RunState("absent")
        return RunState("running" if alive else "vanished", seconds=max(0.0, time.time() - run["started"]))

    def cancel(self, job_dir: Path) -> None:
        """End the executor and all it started; also what a lost supervisor left behind.

        The supervisor is asked first; where it does not answer, this process does its work.
        """
        run = _read(job_dir / supervisor.RUN_FILE)
        if run is None or (job_dir / supervisor.EXIT_FILE).exists():
            return
        pid = run["supervisor"]["pid"]
        if _is_same(run["supervisor"]):
            os.kill(pid, signal.SIGTERM)
            deadline = time.monotonic() + CANCEL_SECONDS
            while time.monotonic() < deadline:
                if (job_dir / supervisor.EXIT_FILE).exists():
                    return
                time.sleep(0.05)
        # Stopped or killed: its children go first, then the supervisor; orphans are known by the token.
        found = [psutil.Process(pid)] if _is_same(run["supervisor"]) else []
        reason = "cancelled" if found else LOST
        supervisor.end_processes(
            lambda: supervisor.members(pid if _is_same(run["supervisor"]) else None, run["token"]), grace_seconds=0.0
        )
        for process in found:
            process.kill()
        if not (job_dir / supervisor.EXIT_FILE).exists():
            seconds = max(0.0, time.time() - run["started"])
            supervisor.write_json(
                job_dir / supervisor.EXIT_FILE, {"code": None, "reason": reason, "seconds": seconds, "log": ""}
            )


def _is_same(process: Mapping[str, Any]) -> bool:
    """Tell whether a recorded process is alive and not another one with its id."""
    return bool(process["identity"]) and supervisor.identity(process["pid"]) == process["identity"]


def _read(path: Path) -> Any:
    """Read a JSON file that is written whole; None where there is none."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
