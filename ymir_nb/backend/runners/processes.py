"""The processes of a job: finding them all, ending them all, and telling one from a later one with its id."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import psutil

TOKEN_VARIABLE = "YMIR_JOB"  # noqa: S105 - it marks processes, and is no secret


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
    return [process for process in found.values() if process.pid != os.getpid() and _is_living(process)]


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


def myself() -> dict[str, Any]:
    """Give what `is_alive` needs to know of this process."""
    return {"pid": os.getpid(), "identity": identity(os.getpid())}


def is_alive(process: Mapping[str, Any]) -> bool:
    """Tell whether a process that `myself` described is alive, and not another one with its id."""
    return bool(process["identity"]) and identity(process["pid"]) == process["identity"]


def is_of_this_boot(process: Mapping[str, Any]) -> bool:
    """Tell whether the machine has been up since a process was described."""
    return identity(os.getpid()).partition(":")[0] == str(process["identity"]).partition(":")[0]


def read_json(path: Path) -> Any:
    """Read a JSON file that is written whole; None where there is none."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None


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


def _is_living(process: psutil.Process) -> bool:
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return False
