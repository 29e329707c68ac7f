"""One run of an executor in a verification: started as any job is, and looked at more closely."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import yaml

from ymir_nb.backend import contract
from ymir_nb.backend.failures import LOG_FILE, explain
from ymir_nb.backend.runners import RUNNERS, Launch, RunState
from ymir_nb.backend.untrusted import read_head

MONITOR_BYTES = 1 << 16
LOOK_SECONDS = 0.02
TELL_SECONDS = 5.0
"""One that writes no monitor.txt is told to stop after so long."""
OWN_LOG = "named-in-env.log"
"""The runs' env.yaml names this as the caller's log: an executor that writes where it says is found out."""


@dataclass(frozen=True, eq=False)
class Run:
    """What was seen of one run.

    Parameters
    ----------
    task : contract.Task
        What was asked for.
    object_type : int
        Of the executor.
    launch : Launch
        How it was started.
    directory : Path
        With ``in`` and ``out``.
    state : RunState
        How it ended.
    monitor : tuple of str
        What monitor.txt read, each time that it had changed; the newest last.
    began, ended : float
        Unix time.
    changed : tuple of str
        Files below ``in`` that were changed, added or removed.
    log_fault : str
        What happened to the caller's log; empty where nothing did.
    stop_seconds : float
        How long it took to end after it was told to; negative: it was not told, or ended before.
    former : Run, optional
        The one that it repeats, or is compared with.
    """

    task: contract.Task
    object_type: int
    launch: Launch
    directory: Path
    state: RunState
    monitor: tuple[str, ...]
    began: float
    ended: float
    changed: tuple[str, ...] = ()
    log_fault: str = ""
    stop_seconds: float = -1.0
    former: Run | None = field(default=None, repr=False)

    @property
    def out_dir(self) -> Path:
        """What it wrote."""
        return self.directory / "out"

    @property
    def is_well(self) -> bool:
        """Tell whether it ended with exit status 0."""
        return self.state.phase == "exited" and self.state.code == 0 and not self.state.reason

    def why(self) -> str:
        """Say in one line why it did not end well."""
        return " ".join(explain(self.out_dir, self.state).split())


@dataclass(frozen=True)
class Order:
    """How a run differs from any other.

    Parameters
    ----------
    spoil : callable, optional
        Changes the ``in`` folder before the start.
    stop : bool
        Tell it to stop as soon as it reports.
    former : Run, optional
        The one to compare it with.
    """

    spoil: Callable[[Path], None] | None = None
    stop: bool = False
    former: Run | None = None


class Bench:
    """Runs executors one after another.

    Parameters
    ----------
    directory : Path
        Each run gets a folder in it.
    object_type : int
        Of the executor.
    seconds : float
        Longest time of one run.
    """

    def __init__(self, directory: Path, *, object_type: int, seconds: float) -> None:
        self.directory = directory
        self.object_type = object_type
        self.seconds = seconds

    def run(self, name: str, task: contract.Task, launch: Launch, order: Order | None = None) -> Run:
        """Start it, watch it to its end, and give what was seen; Ctrl-C ends it."""
        order = order or Order()
        directory = self.directory / name
        runner = RUNNERS[launch.runner]
        in_root, out_root = runner.roots(directory)
        contract.write_in(directory, task, in_root=in_root, out_root=out_root)
        rewrite(directory / "in" / "env.yaml", lambda env: env["output"].update(executor_log_file=_own(out_root)))
        if order.spoil is not None:
            order.spoil(directory / "in")
        before = _contents(directory / "in")
        log = _Log(directory / "out")
        monitor: list[str] = []
        stop_seconds = -1.0
        began = time.time()
        try:
            runner.start(directory, self._limited(launch))
            while (state := runner.poll(directory)).phase in ("queued", "running", "unreachable"):
                _look(directory / "out" / "monitor.txt", monitor)
                log.look()
                if order.stop and stop_seconds < 0 and (monitor or time.time() - began > TELL_SECONDS):
                    told = time.monotonic()
                    runner.cancel(directory)
                    stop_seconds = time.monotonic() - told
                time.sleep(LOOK_SECONDS)
        except BaseException:
            runner.cancel(directory)
            raise
        _look(directory / "out" / "monitor.txt", monitor, last=True)
        after = _contents(directory / "in")
        changed = sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))
        return Run(
            task=task,
            object_type=self.object_type,
            launch=launch,
            directory=directory,
            state=state,
            monitor=tuple(monitor),
            began=began,
            ended=time.time(),
            changed=tuple(changed),
            log_fault=log.fault(),
            stop_seconds=stop_seconds,
            former=order.former,
        )

    def _limited(self, launch: Launch) -> Launch:
        """Give it an end, unless it has one of its own."""
        limits = launch.isolation
        return replace(launch, isolation=replace(limits, seconds=limits.seconds or self.seconds))


class _Log:
    """Watches that the caller's log stays the caller's."""

    def __init__(self, out_dir: Path) -> None:
        self.path = out_dir / LOG_FILE
        self.other = out_dir / OWN_LOG
        self.inode = 0
        self.n_bytes = 0
        self.said = ""

    def look(self) -> None:
        """Note a log that was replaced, removed or cut; the supervisor puts it back at the end, as another file."""
        try:
            status = self.path.lstat()
        except FileNotFoundError:
            self.said = f"it removed {LOG_FILE}"
            return
        self.inode = self.inode or status.st_ino
        if status.st_ino != self.inode:
            self.said = f"it replaced or removed {LOG_FILE}"
        elif status.st_size < self.n_bytes:
            self.said = f"it cut {LOG_FILE}"
        self.n_bytes = max(self.n_bytes, status.st_size)

    def fault(self) -> str:
        """Say what was seen, in all."""
        self.look()
        return self.said or ("it wrote to env.yaml's executor_log_file" if self.other.exists() else "")


def rewrite(path: Path, change: Callable[[dict[str, dict[str, object]]], object]) -> None:
    """Change a YAML file of an ``in`` folder."""
    document = yaml.safe_load(path.read_text(encoding="utf-8"))
    change(document)
    path.write_text(yaml.safe_dump(document, allow_unicode=True), encoding="utf-8")


def _own(out_root: str) -> str:
    return f"{out_root}/{OWN_LOG}"


def _look(path: Path, seen: list[str], *, last: bool = False) -> None:
    """Note what monitor.txt reads now; half a line is a writer at work, unless nobody writes any more."""
    text = read_head(path, limit=MONITOR_BYTES).decode("utf-8", errors="replace")
    if text and (last or text.endswith("\n")) and (not seen or seen[-1] != text):
        seen.append(text)


def _contents(directory: Path) -> dict[str, str]:
    """Hash every file below a folder; other things by what they are."""
    found = {}
    for path in sorted(directory.rglob("*")):
        name = path.relative_to(directory).as_posix()
        is_file = path.is_file() and not path.is_symlink()
        found[name] = hashlib.sha256(path.read_bytes()).hexdigest() if is_file else str(path.lstat().st_mode)
    return found
