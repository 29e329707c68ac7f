"""What a runner is: the way an executor is started, watched and ended."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from math import inf
from pathlib import Path
from typing import Any, Literal, Protocol

from ymir_nb.backend.errors import PreflightFailed

CANCELLED, LOST, ENGINE_STOPPED = "cancelled", "lost", "the container engine was stopped while it ran"
"""Reasons of an end that was asked for, that nobody recorded, and that the engine brought about."""
OUT_OF_MEMORY = "it was killed, since memory ran out"
KILLED = "it was killed from outside, with signal 9, and not for want of memory"

GIB = 1 << 30
_OFF_AT_0 = frozenset({"memory_bytes", "cpus", "seconds", "silent_seconds"})

Phase = Literal["absent", "queued", "running", "unreachable", "exited", "vanished"]


@dataclass(frozen=True)
class Isolation:
    """What an executor may do; whatever is not the default loosens or tightens it, by name.

    The limits on time, output and log hold for every runner; the rest is a container's.

    Parameters
    ----------
    network : bool
        Let it reach the network.
    writable_root : bool
        Let it write into its own file system, and not only to ``/out`` and ``/tmp``.
    image_user : bool
        Run as the user that the image names, most often root, and not as the caller.
    capabilities : bool
        Keep the engine's default capabilities and let programs gain privileges.
    memory_bytes : int
        Most memory, swap included; 0: nine tenths of the machine's.
    cpus : float
        Most processors; 0: all.
    n_pids : int
        Most processes and threads.
    out_bytes, out_files : int
        Most that may lie in ``/out``.
    log_bytes : int
        Most of the log that is kept from its beginning; its end is kept besides.
    seconds : float
        Wall-clock time after which it is ended; 0: none.
    silent_seconds : float
        After so long without a word in the log or monitor.txt it is told to be silent; 0: never.
    """

    network: bool = False
    writable_root: bool = False
    image_user: bool = False
    capabilities: bool = False
    memory_bytes: int = 0
    cpus: float = 0.0
    n_pids: int = 4096
    out_bytes: int = 64 * GIB
    out_files: int = 100_000
    log_bytes: int = 64 << 20
    seconds: float = 0.0
    silent_seconds: float = 1800.0

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> Isolation:
        """Make one from named settings.

        Raises
        ------
        PreflightFailed
            A name that there is not, or a value of another kind.

        Examples
        --------
        >>> Isolation.of({"network": True}).settings()
        {'network': True}
        """
        kinds: dict[str, Any] = {f.name: type(f.default) for f in fields(cls)}
        for name, value in settings.items():
            if name not in kinds:
                raise PreflightFailed(f"there is no isolation setting {name!r}; there is {', '.join(kinds)}.")
            is_flag = kinds[name] is bool
            least = 0 if is_flag or name in _OFF_AT_0 else 1
            if isinstance(value, bool) != is_flag or not isinstance(value, int | float) or not least <= value < inf:
                wanted = "true or false" if is_flag else f"a number from {least}"
                raise PreflightFailed(f"isolation setting {name} is {value!r}; it must be {wanted}.")
        return cls(**{name: kinds[name](value) for name, value in settings.items()})

    def settings(self) -> dict[str, Any]:
        """Give what differs from the default, by name."""
        return {f.name: getattr(self, f.name) for f in fields(self) if getattr(self, f.name) != f.default}


@dataclass(frozen=True)
class Launch:
    """How an executor is started.

    Parameters
    ----------
    runner : str
        A key of `runners.RUNNERS`.
    command : tuple of str
        Program and arguments; for an image: empty for what the image itself starts.
    image : str
        Name of an image; empty for a local program.
    digest : str
        The image's id, ``sha256:...``, to which it is pinned.
    env : mapping of str to str
        Further environment.
    isolation : Isolation
        What it may do.
    n_gpus : int
        How many GPUs it gets for itself.
    shm_bytes : int
        Shared memory; 0: 16 GiB for every GPU and as much without one, as YMIR does.
    scratch : tuple of str
        Folders of a container, besides ``/tmp``, that are empty at its start and can be written to.
    notify : tuple of str
        A command of the user's that is run at the end, with ``YMIR_JOB``, ``YMIR_JOB_DIR``, ``YMIR_JOB_CODE``
        and ``YMIR_JOB_REASON`` in its environment.
    """

    runner: str = "process"
    command: tuple[str, ...] = ()
    image: str = ""
    digest: str = ""
    env: Mapping[str, str] = field(default_factory=dict)
    isolation: Isolation = field(default_factory=Isolation)
    n_gpus: int = 0
    shm_bytes: int = 0
    scratch: tuple[str, ...] = ()
    notify: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Give plain values, of the isolation only what is not the default."""
        lists = {name: list(getattr(self, name)) for name in ("command", "scratch", "notify")}
        return asdict(self) | lists | {"isolation": self.isolation.settings()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Launch:
        """Read what `to_dict` gave."""
        lists = {name: tuple(values[name]) for name in ("command", "scratch", "notify")}
        return cls(**(dict(values) | lists | {"isolation": Isolation.of(values["isolation"])}))


@dataclass(frozen=True)
class RunState:
    """The truth about an executor, from its job's files and from whoever runs it.

    Parameters
    ----------
    phase : {"absent", "queued", "running", "unreachable", "exited", "vanished"}
        ``absent``: never started; ``queued``: waits for a GPU; ``unreachable``: the engine that runs it
        does not answer; ``vanished``: it is gone and nobody recorded its end.
    code : int, optional
        Exit code of one that exited; negative: ended by the signal of this number.
    seconds : float
        How long it ran, or has been running.
    reason : str
        Why it ended, other than by itself: `CANCELLED`, `LOST` (its supervisor was killed, or the
        machine), `ENGINE_STOPPED`, ``time limit of ... s``, or what kept it from starting.
    log_error : str
        Why its log is not complete; empty where it is.
    """

    phase: Phase
    code: int | None = None
    seconds: float = 0.0
    reason: str = ""
    log_error: str = ""

    @classmethod
    def ended(cls, end: Mapping[str, Any]) -> RunState:
        """Read what a supervisor wrote at the end."""
        return cls("exited", end["code"], end["seconds"], end["reason"], end["log"])


class Runner(Protocol):
    """One way to run an executor; everything it knows later it reads from the job's directory."""

    def preflight(self, launch: Launch) -> None:
        """Refuse what cannot be started, before anything is exported (PreflightFailed)."""
        ...

    def roots(self, job_dir: Path) -> tuple[str, str]:
        """Give the job's ``in`` and ``out`` folders as the executor will see them."""
        ...

    def start(self, job_dir: Path, launch: Launch) -> None:
        """Start an executor that outlives this process; back when it runs, is queued, or has failed to start."""
        ...

    def poll(self, job_dir: Path) -> RunState:
        """Tell how it stands; any process may ask."""
        ...

    def cancel(self, job_dir: Path) -> None:
        """End it and everything it started, within ten seconds."""
        ...

    def sweep(self, jobs_dir: Path) -> list[str]:
        """End what is left of jobs that are over, and name it."""
        ...
