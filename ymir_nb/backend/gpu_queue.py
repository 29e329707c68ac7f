"""Who gets which GPU: one queue for all users, kernels and jobs of a machine, first come first served.

The queue is a folder. Every request is a small file, numbered in the order of asking; one that names GPUs
holds them. A file counts only as long as a process that it names is alive, so that a crash, a kill or a
reboot frees everything by itself. Users can delay each other, as they can on the GPUs, and take nothing away.
Where containers share the folder, none sees whether another's processes live: what they ask for or hold counts
until it is released, its file is removed, or the machine boots.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ymir_nb.backend.errors import JobError, JobFailed, PreflightFailed
from ymir_nb.backend.gpus import Gpu, check_available, in_words
from ymir_nb.backend.shared_folder import Entry, SharedFolder, user_name
from ymir_nb.backend.untrusted import show, to_number

if TYPE_CHECKING:
    import pandas as pd

DIR_VARIABLE = "YMIR_NB_GPU_DIR"
FREE_SHARE = 0.8

_REQUEST, _ASIDE = "request-", "aside-"
_NUMBERED = re.compile(r"request-(\d+)\.json")


@dataclass(frozen=True)
class _Request:
    """A place in the queue, or, where it names GPUs, the right to use them.

    Its `owners` are those processes that keep it and are alive: pid, identity, and namespace of the pid.
    """

    name: str
    number: int
    user_id: int
    ticket: str
    n: int
    owners: tuple[Mapping[str, Any], ...]
    gpus: tuple[str, ...] = ()
    since: float = 0.0

    def __str__(self) -> str:
        return f"{show(self.ticket)} of {user_name(self.user_id)}"


class GpuQueue:
    """The machine's queue for GPUs.

    Parameters
    ----------
    directory : Path, optional
        Where it is kept. By default what the environment variable ``YMIR_NB_GPU_DIR`` says, else
        ``/dev/shm/ymir-nb-gpus``, which all users of a machine share and a reboot empties; where there is
        no ``/dev/shm``, the same name in the temporary folder.
    free_share : float
        Part of a GPU's memory, in [0, 1], that must be free for it to be given; less of it means that
        a program uses it which did not ask here.

    Examples
    --------
    >>> queue = GpuQueue(Path(tempfile.mkdtemp()))
    >>> queue.ask("job-1", 1, os.getpid())
    >>> [gpu.uuid for gpu in queue.take("job-1", [Gpu(0, "GPU-1", "Tiny", 8, 8)])]
    ['GPU-1']
    >>> queue.release("job-1")

    Source: the share of 0.8 is YMIR's GPU_USAGE_THRESHOLD.
    """

    def __init__(self, directory: Path | None = None, *, free_share: float = FREE_SHARE) -> None:
        self.free_share = free_share
        self.folder = SharedFolder(
            directory or _default_directory(),
            fix=f"Set {DIR_VARIABLE} to a folder that all who use these GPUs share.",
        )

    def ask(self, ticket: str, n: int, owner_pid: int) -> None:
        """Take a place at the end of the queue; asking again keeps the place, and adds the process.

        Parameters
        ----------
        ticket : str
            Name of the request, unlike all others of this user on this machine.
        n : int
            How many GPUs, from 1.
        owner_pid : int
            Process with whose death the request is void.

        Raises
        ------
        PreflightFailed
            `n` is less than 1, no such process is alive, or the queue's folder cannot be used.
        JobError
            The ticket asks for another number already.
        """
        if n < 1:
            raise PreflightFailed(f"ticket {ticket!r} asks for {n} GPUs. A job without GPUs needs no ticket.")
        with self._deciding() as requests:
            own = _find(requests, ticket)
            if own is not None and own.n != n:
                raise JobError(f"ticket {ticket!r} asks for {own.n} GPUs already, and not {n}. Release it first.")
            if own is None:
                taken = (_NUMBERED.fullmatch(name) for name in self.folder.names(_REQUEST))
                number = 1 + max((int(match[1]) for match in taken if match), default=0)
                own = _Request(f"{_REQUEST}{number:012d}.json", number, os.getuid(), ticket, n, ())
            self._write(own, owner_pid)

    def keep(self, ticket: str, pid: int) -> None:
        """Let the ticket and the GPUs that it holds live as long as this process, too.

        It is for what goes on without the one who asked: a container's first process, a new supervisor.

        Raises
        ------
        PreflightFailed
            No such process is alive.
        JobError
            The ticket is not in the queue.
        """
        with self._deciding() as requests:
            self._write(self._own(requests, ticket), pid)

    def position(self, ticket: str) -> int:
        """Tell how many wait before a ticket: 0 when it is its turn, or holds its GPUs.

        It is cheap: who waits asks for it, and lists the GPUs for `take` only when it is 0.

        Raises
        ------
        JobError
            The ticket is not in the queue.
        """
        requests = self._requests()
        return len(_before(self._own(requests, ticket), requests))

    def take(self, ticket: str, gpus: Sequence[Gpu]) -> list[Gpu] | None:
        """Take GPUs, if it is the ticket's turn and enough are free; taking again gives the same.

        Nobody overtakes: while the first in the queue waits for many GPUs, those behind it wait too.

        Parameters
        ----------
        ticket : str
            As given to `ask`.
        gpus : sequence of Gpu
            What `gpus.inventory` says now.

        Returns
        -------
        list of Gpu or None
            As many as asked for, those with the most free memory, by index. None: not yet.

        Raises
        ------
        PreflightFailed
            So many can never be given: they are not there, broken or set aside.
        JobFailed
            A GPU that the ticket holds is broken or gone.
        JobError
            The ticket is not in the queue.
        """
        with self._deciding() as requests:
            own = self._own(requests, ticket)
            if own.gpus:
                return _held(own, gpus)
            aside = self.quarantined()
            check_available(own.n, [replace(gpu, fault=gpu.fault or aside.get(gpu.uuid, "")) for gpu in gpus])
            refusals = self._refusals(gpus, requests)
            free = [gpu for gpu in gpus if gpu.index not in refusals]
            if _before(own, requests) or len(free) < own.n:
                return None
            best = sorted(free, key=lambda gpu: (-gpu.free_bytes, gpu.index))[: own.n]
            best.sort(key=lambda gpu: gpu.index)
            self._write(replace(own, gpus=tuple(gpu.uuid for gpu in best), since=time.time()))
            return best

    def why(self, ticket: str, gpus: Sequence[Gpu]) -> str:
        """Say what a ticket waits for: those before it, or what keeps each GPU from it. Empty: for nothing.

        Raises
        ------
        JobError
            The ticket is not in the queue.
        """
        requests = self._requests()
        own = self._own(requests, ticket)
        if own.gpus:
            return ""
        if before := _before(own, requests):
            return f"it waits behind {len(before)} others; {before[0]} is the first, and asks for {before[0].n} GPUs."
        refusals = self._refusals(gpus, requests)
        if len(gpus) - len(refusals) >= own.n:
            return ""
        reasons = "; ".join(f"{in_words(gpu)}: {refusals[gpu.index]}" for gpu in gpus if gpu.index in refusals)
        return f"it asks for {own.n} GPUs, and {len(gpus) - len(refusals)} of {len(gpus)} are free. {reasons}"

    def release(self, ticket: str) -> None:
        """Give back what a ticket holds, or its place in the queue; fine when it has neither."""
        with self._deciding() as requests:
            own = _find(requests, ticket)
            if own is not None:
                self.folder.remove(self.folder.path / own.name)

    def quarantine(self, uuid: str, reason: str) -> None:
        """Set a GPU aside: nobody gets it until it is readmitted. Who holds it keeps it.

        Parameters
        ----------
        uuid : str
            The GPU's.
        reason : str
            Shown to those who wait for it.
        """
        name = f"{_ASIDE}{os.getuid()}-{hashlib.sha256(uuid.encode()).hexdigest()[:16]}.json"
        with self._deciding():
            self.folder.write(name, {"uuid": uuid, "reason": reason})

    def readmit(self, uuid: str) -> None:
        """Undo `quarantine`; fine when the GPU is not set aside.

        Raises
        ------
        JobError
            Another user set it aside, who must readmit it.
        """
        with self._deciding():
            for entry in self.folder.read(_ASIDE):
                if entry.value.get("uuid") == uuid and not self.folder.remove(entry.path):
                    raise JobError(
                        f"GPU {uuid} was set aside by {user_name(entry.user_id)}, who must readmit it; or root does: "
                        f"rm {entry.path}"
                    )

    def quarantined(self) -> dict[str, str]:
        """Give the reasons of all GPUs that are set aside, by UUID."""
        found = {}
        for entry in self.folder.read(_ASIDE):
            uuid, reason = entry.value.get("uuid"), entry.value.get("reason")
            if isinstance(uuid, str) and isinstance(reason, str):
                found[uuid] = f"{user_name(entry.user_id)} set it aside: {show(reason)[1:-1]}"
        return dict(sorted(found.items()))

    def holders(self) -> pd.DataFrame:
        """List who holds which GPU.

        Returns
        -------
        DataFrame
            gpu (UUID), ticket, user, pid, since (UTC), sorted by gpu.
        """
        import pandas as pd

        held = [(r, uuid) for r in self._requests() for uuid in r.gpus]
        rows = sorted((uuid, r.ticket, user_name(r.user_id), r.owners[0]["pid"], r.since) for r, uuid in held)
        frame = pd.DataFrame(rows, columns=["gpu", "ticket", "user", "pid", "since"])
        frame["since"] = pd.to_datetime(frame["since"].astype("float64"), unit="s", utc=True).dt.as_unit("us")
        return frame

    @contextlib.contextmanager
    def _deciding(self) -> Iterator[list[_Request]]:
        """Hold the lock, with the queue as it stands, and sweep away what is void.

        What this user may not remove, since it is another's, stays lying there and counts for nothing.
        """
        with self.folder.locked():
            requests = self._requests()
            living = {request.name for request in requests}
            for name in self.folder.names(_REQUEST):
                if name not in living:
                    self.folder.remove(self.folder.path / name)
            yield requests

    def _requests(self) -> list[_Request]:
        """Read the queue in its order, without the requests whose processes have all ended."""
        found = (_to_request(entry) for entry in self.folder.read(_REQUEST))
        return sorted((r for r in found if r is not None and r.owners), key=lambda r: (r.number, r.name))

    def _own(self, requests: Sequence[_Request], ticket: str) -> _Request:
        own = _find(requests, ticket)
        if own is None:
            raise JobError(
                f"ticket {ticket!r} is not in the queue for GPUs ({self.folder.path}): it was released, or the "
                f"process that asked has ended. Ask again."
            )
        return own

    def _write(self, request: _Request, *new_owners: int) -> None:
        """Write a request, kept by these processes too."""
        owners = list(request.owners)
        owners += [owner for owner in map(_describe, new_owners) if owner not in owners]
        value = {"ticket": request.ticket, "n": request.n, "gpus": request.gpus, "since": request.since}
        self.folder.write(request.name, value | {"owners": owners})

    def _refusals(self, gpus: Sequence[Gpu], requests: Sequence[_Request]) -> dict[int, str]:
        """Give the reason for every GPU that cannot be had now, by its index."""
        held = {uuid: f"{r} has it" for r in requests for uuid in r.gpus}
        aside = self.quarantined()
        found = {}
        for gpu in gpus:
            reason = gpu.fault or aside.get(gpu.uuid) or held.get(gpu.uuid, "")
            if not reason and gpu.free_share < self.free_share:
                reason = (
                    f"{gpu.free_share:.0%} of its memory is free and {self.free_share:.0%} must be; a program uses "
                    f"it that did not ask here (nvidia-smi shows it)"
                )
            if reason:
                found[gpu.index] = reason
        return found


def _default_directory() -> Path:
    """Choose a folder that is the same one for all users: a temporary folder may be each user's own."""
    named = os.environ.get(DIR_VARIABLE)
    shared = Path("/dev/shm")  # noqa: S108 - `SharedFolder` does not trust what lies there
    return Path(named) if named else (shared if shared.is_dir() else Path(tempfile.gettempdir())) / "ymir-nb-gpus"


def _find(requests: Sequence[_Request], ticket: str) -> _Request | None:
    """Find a ticket of this user."""
    return next((r for r in requests if r.ticket == ticket and r.user_id == os.getuid()), None)


def _before(own: _Request, requests: Sequence[_Request]) -> list[_Request]:
    """Give those that must be served before a request."""
    return [] if own.gpus else [r for r in requests if not r.gpus and r.number < own.number]


def _held(own: _Request, gpus: Sequence[Gpu]) -> list[Gpu]:
    """Give the GPUs that a request holds."""
    found = [gpu for gpu in gpus if gpu.uuid in own.gpus]
    broken = [f"{in_words(gpu)}: {gpu.fault}" for gpu in found if gpu.fault]
    broken += [
        f"{uuid}: the driver does not list it any more." for uuid in own.gpus if uuid not in {g.uuid for g in found}
    ]
    if broken:
        raise JobFailed(f"ticket {own.ticket!r} holds GPUs that cannot be used any more. {' '.join(broken)}")
    return found


def _to_request(entry: Entry) -> _Request | None:
    """Read a request that anybody may have written; None where it is none."""
    value, match = entry.value, _NUMBERED.fullmatch(entry.path.name)
    ticket, n, gpus, owners = (value.get(key) for key in ("ticket", "n", "gpus", "owners"))
    since = to_number(value.get("since"))
    if not (match and isinstance(ticket, str) and isinstance(n, int) and since is not None):
        return None
    if not (isinstance(gpus, list) and isinstance(owners, list) and all(isinstance(gpu, str) for gpu in gpus)):
        return None
    living = tuple(owner for owner in owners if _is_owner(owner) and _lives(owner))
    return _Request(entry.path.name, int(match[1]), entry.user_id, ticket, n, living, tuple(gpus), since)


def _is_owner(value: object) -> bool:
    if not isinstance(value, dict) or set(value) != {"pid", "identity", "namespace"}:
        return False
    is_pid = isinstance(value["pid"], int) and 0 < value["pid"] < 1 << 31
    return is_pid and isinstance(value["identity"], str) and isinstance(value["namespace"], str)


def _describe(pid: int) -> dict[str, Any]:
    """Describe a living process so that it can be told from a later one with its id."""
    from ymir_nb.backend.runners.processes import identity

    found = identity(pid)
    if not found:
        raise PreflightFailed(f"no process {pid} is alive to keep GPUs. Ask with the id of the process that uses them.")
    return {"pid": pid, "identity": found, "namespace": _pid_namespace()}


def _lives(owner: Mapping[str, Any]) -> bool:
    """Tell whether a described process is alive; in doubt it is, since a GPU given twice is the worse mistake."""
    from ymir_nb.backend.runners.processes import is_alive, is_of_this_boot

    if owner["namespace"] != _pid_namespace():
        return is_of_this_boot(owner)  # it lives in another container, whose processes have other numbers
    return is_alive(owner) or _is_hidden(owner["pid"])


def _is_hidden(pid: int) -> bool:
    """Tell whether another user's process lives that /proc does not show (its option hidepid)."""
    try:
        os.kill(pid, 0)
    except PermissionError:
        return not os.access(f"/proc/{pid}/stat", os.R_OK) and sys.platform == "linux"
    except ProcessLookupError:
        return False
    return False


def _pid_namespace() -> str:
    """Name the numbering of processes that this one sees; the same for all outside of containers."""
    return str(Path("/proc/self/ns/pid").readlink()) if sys.platform == "linux" else ""
