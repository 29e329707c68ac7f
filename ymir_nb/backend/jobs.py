"""Jobs: work in an executor that outlives the kernel that started it.

A job is a directory, ``<jobs>/<id>/{job.json, in/, out/}``, and a process or container. Its id is
given by whoever starts it and says what the work is (``helmets-r01-training``), so that asking for
the same work again attaches to it while it runs, and gives its result once it is done.
"""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pandas as pd
from filelock import FileLock, Timeout

from ymir_nb.backend import contract
from ymir_nb.backend.errors import JobError, JobFailed, PreflightFailed, ProtocolViolated
from ymir_nb.backend.event_files import read_scalars
from ymir_nb.backend.failures import LOG_FILE, explain, last_lines
from ymir_nb.backend.monitor import read_monitor
from ymir_nb.backend.names import check_name
from ymir_nb.backend.objects import write_atomically
from ymir_nb.backend.outbox import clear_away
from ymir_nb.backend.runners import RUNNERS, Runner
from ymir_nb.backend.runners.base import CANCELLED, ENGINE_STOPPED, LOST, Isolation, Launch, RunState
from ymir_nb.backend.runners.engine import EngineUnreachable

if TYPE_CHECKING:
    from ymir_nb.backend.workspace import Workspace

__all__ = ["JobRecord", "Jobs", "Order", "Watch"]

State = Literal["queued", "running", "lost", "done", "failed", "cancelled", "interrupted"]
Watch = Callable[[float, str], None] | None
"""Gets the share of a job that is done, in [0, 1], and a few words; None where nobody looks."""

JOB_FILE = "job.json"
CANCEL_FILE = "cancel"
PREVIOUS = ".previous"
KEPT_INPUTS = frozenset({"config.yaml", "env.yaml"})
_ENDED = frozenset({"done", "failed", "cancelled", "interrupted"})
_GOING_ON = ("queued", "running", "lost")


@dataclass(frozen=True)
class JobRecord:
    """How a job stands.

    Parameters
    ----------
    id : str
        Its name.
    state : {"queued", "running", "lost", "done", "failed", "cancelled", "interrupted"}
        ``lost``: the engine that runs it does not answer; ``interrupted``: its machine, engine or
        supervisor stopped, or it never came to start.
    kind : str
        ``training``, ``mining``, ``infer`` or ``mining+infer``.
    launch : mapping
        How it is started, `Launch.to_dict`: its runner, image and digest, and what of the isolation
        is loosened or tightened.
    digest : str
        Hash of everything that goes in; equal digests mean the same work.
    directory : Path
        Where it lives.
    created : float
        Unix time.
    seconds : float
        How long it ran, or has been running.
    fraction : float
        Share that is done, in [0, 1].
    message : str
        Why it failed, or what is odd about it; empty otherwise.
    asked : mapping
        ``flow`` and ``arguments``: the function that asked for it, so that whoever notices its end can
        take its result in; empty where nobody but the caller can.
    result : str
        Reference of the version that its result was saved as; empty until then.
    """

    id: str
    state: State
    kind: str
    launch: Mapping[str, Any]
    digest: str
    directory: Path
    created: float
    seconds: float = 0.0
    fraction: float = 0.0
    message: str = ""
    asked: Mapping[str, Any] = field(default_factory=dict)
    result: str = ""

    @property
    def runner(self) -> str:
        """A key of `runners.RUNNERS`."""
        return str(self.launch["runner"])

    @property
    def out_dir(self) -> Path:
        """What its executor writes."""
        return self.directory / "out"

    @property
    def log_path(self) -> Path:
        """What its executor said."""
        return self.out_dir / LOG_FILE

    def __repr__(self) -> str:
        """Say in one line how it stands."""
        first = self.message.partition("\n")[0].removesuffix(" Last lines of its log:")
        said = f": {first}" if first else ""
        return f"<Job {self.id}: {self.kind}, {self.state}, {self.fraction:.0%} after {self.seconds:.0f} s{said}>"

    def to_dict(self) -> dict[str, Any]:
        """Give its fields as plain values."""
        return asdict(self) | {"directory": str(self.directory)}


@dataclass(frozen=True)
class Order:
    """Work for an executor, and what becomes of its result.

    Parameters
    ----------
    id : str
        Names the work; the same name and the same inputs mean the same work.
    task : contract.Task
        What to do.
    launch : Launch
        How its executor is started.
    ingest : callable
        Reads ``out``, saves what it finds, and gives the reference of what it saved, or of what was
        saved before. A ProtocolViolated from it makes the job a failed one.
    asked : mapping
        As in `JobRecord`.
    salvage : callable, optional
        As `ingest`, of what an executor left that failed; gives nothing where there is nothing of use.
    """

    id: str
    task: contract.Task
    launch: Launch
    ingest: Callable[[Path], str]
    asked: Mapping[str, Any] = field(default_factory=dict)
    salvage: Callable[[Path], str] | None = None

    def digest(self) -> str:
        """Hash everything that goes in."""
        launch = self.launch
        words = [self.task.digest(), launch.runner, list(launch.command), launch.digest or launch.image]
        return hashlib.sha256(json.dumps(words).encode()).hexdigest()


class Jobs:
    """The jobs below a folder.

    Parameters
    ----------
    directory : Path
        Made when the first job is; any number of processes may use it at a time.
    notify : sequence of str
        A command that is run when a job ends, as in `Launch`.
    """

    def __init__(self, directory: Path, *, notify: Sequence[str] = ()) -> None:
        self.directory = directory
        self.notify = tuple(notify)

    @classmethod
    def of(cls, workspace: Workspace) -> Jobs:
        """Give the jobs of a workspace; the command in ``YMIR_NB_NOTIFY`` is told of their ends.

        It stands in the environment and not in the workspace, so that a workspace from somebody else
        starts nothing on this machine.
        """
        return cls(workspace.root / ".ymir" / "jobs", notify=shlex.split(os.environ.get("YMIR_NB_NOTIFY", "")))

    def run(self, order: Order, *, watch: Watch = None) -> JobRecord:
        """Do work in an executor and take its result in; work that is done is not done again.

        Parameters
        ----------
        order : Order
            The work.
        watch : callable, optional
            Called with the share done and a few words.

        Returns
        -------
        JobRecord
            With its `result`.

        Raises
        ------
        PreflightFailed
            As `start`.
        JobFailed
            The executor failed, or was cancelled or interrupted.
        ProtocolViolated
            It ended well and left what the contract forbids.
        """
        self.start(order)
        return self.ingest(self.wait(order.id, watch=watch), order)

    def ingest(self, record: JobRecord, order: Order) -> JobRecord:
        """Take the result of a job that is done in, one process at a time.

        Returns
        -------
        JobRecord
            With its `result`.
        """
        with self._lock(f"{record.id}.result"):
            try:
                done = replace(record, result=order.ingest(record.out_dir))
            except ProtocolViolated as error:
                self._update(record, replace(record, state="failed", message=str(error)))
                raise ProtocolViolated(
                    f"{record.kind} job {record.id!r}: {error} Log: {record.log_path}", error.faults
                ) from error
            self._update(record, done)
            _tidy(record.directory / "in")
            return done

    def start(self, order: Order) -> JobRecord:
        """Start a job and come back at once; one that runs or is done with the same inputs is left alone.

        What failed, was interrupted or had other inputs is set aside to ``.previous/<id>`` first.

        Raises
        ------
        PreflightFailed
            The task cannot work or its executor cannot be started (see `contract.preflight`), or a job
            of this name runs with other inputs.
        """
        job_id, task = check_name(order.id, what="job"), order.task
        launch = replace(order.launch, notify=self.notify)
        runner, digest = _runner(launch.runner), order.digest()
        with self._lock(job_id):
            stored = self._load(job_id)
            known = None if stored is None else self._refresh(stored, locked=True)
            if known is not None and known.digest == digest and known.state in (*_GOING_ON, "done"):
                return known
            if known is not None and known.state in _GOING_ON:
                raise PreflightFailed(
                    f"job {job_id!r} is {known.state} with other inputs. Wait for it, or end it: "
                    f"ymir-nb jobs cancel {job_id}"
                )
            runner.preflight(launch)
            contract.preflight(task)
            self._set_aside(known, job_id)
            record = JobRecord(
                job_id,
                "queued",
                task.kind,
                launch.to_dict(),
                digest,
                self.directory / job_id,
                created=time.time(),
                asked=dict(order.asked),
            )
            self._save(record)
            try:
                in_root, out_root = runner.roots(record.directory)
                contract.write_in(record.directory, task, in_root=in_root, out_root=out_root)
                if (record.directory / CANCEL_FILE).exists():
                    raise JobFailed(f"{task.kind} job {job_id!r} was cancelled before it started.")
                runner.start(record.directory, launch)
            except BaseException:
                if runner.poll(record.directory).phase == "absent":  # half an export is of no use to anybody
                    shutil.rmtree(record.directory)
                raise
            return self._begun(record)

    def retry(self, job_id: str) -> JobRecord:
        """Start a job that failed, was cancelled or interrupted again, with the very inputs that it had.

        What it left is set aside to ``.previous/<id>``.

        Raises
        ------
        JobError
            It runs, or is done, or its inputs are gone.
        PreflightFailed
            Its executor cannot be started now.
        """
        with self._lock(check_name(job_id, what="job")):
            stored = self._load(job_id)
            if stored is None:
                raise JobError(f"there is no job {job_id!r} in {self.directory}. List them: ymir-nb jobs list")
            known = self._refresh(stored, locked=True)
            if known.state in (*_GOING_ON, "done"):
                raise JobError(f"job {job_id!r} is {known.state}; there is nothing to try again.")
            if not (known.directory / "in" / "assets").is_dir():
                raise JobError(f"the inputs of job {job_id!r} are gone. Ask for its work again, as the first time.")
            launch = Launch.from_dict(known.launch)
            _runner(launch.runner).preflight(launch)
            self._reap(known)
            former = self._room_for_former(job_id)
            former.mkdir()
            for path in known.directory.iterdir():
                if path.name != "in":
                    path.replace(former / path.name)
            contract.make_out(known.directory)
            record = replace(known, state="queued", created=time.time(), seconds=0.0, fraction=0.0, message="")
            self._save(record)
            _runner(launch.runner).start(record.directory, launch)
            return self._begun(record)

    def wait(self, job_id: str, watch: Watch = None, *, poll_seconds: float = 0.1) -> JobRecord:
        """Wait for a job's end. Ctrl-C stops the waiting, not the job.

        Parameters
        ----------
        job_id : str
            Any job, whoever started it.
        watch : callable, optional
            Called with the share done, which never goes back, and a few words.
        poll_seconds : float
            How often to look.

        Raises
        ------
        JobFailed
            It failed, was cancelled or interrupted; the message carries the exit code, the first
            line that looks like an error, the last lines of the log, and the log's path.
        KeyboardInterrupt
            With a word on how to go on.
        """
        furthest = 0.0
        try:
            while (record := self.attach(job_id)).state not in _ENDED:
                furthest = max(furthest, record.fraction)
                if watch is not None:
                    said = f"; {record.message}" if record.message else ""
                    watch(furthest, f"{record.kind}, {record.state} {record.seconds:.0f} s{said}")
                time.sleep(poll_seconds)
        except KeyboardInterrupt:
            raise KeyboardInterrupt(
                f"stopped waiting; job {job_id!r} keeps running. Watch it again: ymir-nb jobs attach {job_id}; "
                f"end it: ymir-nb jobs cancel {job_id}"
            ) from None
        if record.state != "done":
            raise JobFailed(record.message)
        if watch is not None:
            watch(1.0, f"{record.kind}, done in {record.seconds:.0f} s")
        return record

    def attach(self, job_id: str) -> JobRecord:
        """Give the truth about a job, from its files and the process table.

        Raises
        ------
        InvalidName
            A path, or anything else that no job is called.
        JobError
            There is no such job.
        """
        record = self._load(check_name(job_id, what="job"))
        if record is None:
            raise JobError(f"there is no job {job_id!r} in {self.directory}. List them: ymir-nb jobs list")
        fresh = self._refresh(record)
        if fresh.state in _ENDED and record.state not in _ENDED:
            self._reap(fresh)
            self._update(record, fresh)
        return fresh

    def cancel(self, job_id: str) -> JobRecord:
        """End a job and everything its executor started, within ten seconds; one that ended is left as it is."""
        record = self.attach(job_id)
        if record.state == "queued":  # where somebody is writing its inputs, he looks for this file then
            (record.directory / CANCEL_FILE).touch()
        if record.state in _GOING_ON:
            _runner(record.runner).cancel(record.directory)
        return self.attach(job_id)

    def log(self, job_id: str, *, n_lines: int = 50) -> str:
        """Give the last lines that a job's executor said."""
        return "\n".join(last_lines(self.attach(job_id).log_path, n_lines=n_lines))

    def metrics(self, job_id: str) -> pd.DataFrame:
        """Give what its executor logs for TensorBoard, also while it runs: columns run, tag, step, wall_time, value."""
        return read_scalars(self.attach(job_id).out_dir / "tensorboard")

    def sweep(self) -> list[str]:
        """End what jobs that are over left running, and give its names: containers, processes.

        Raises
        ------
        EngineUnreachable
            A job of this folder ran in a container, and no engine answers.
        """
        used = {record.runner for record in self.records()}
        names = []
        for name, runner in RUNNERS.items():
            try:
                names += runner.sweep(self.directory)
            except EngineUnreachable:
                if name in used:
                    raise
        return names

    def records(self) -> list[JobRecord]:
        """Give the truth about all jobs, newest first."""
        found = (self._load(path.parent.name) for path in self.directory.glob(f"*/{JOB_FILE}"))
        return sorted((self.attach(r.id) for r in found if r is not None), key=lambda r: (-r.created, r.id))

    def __repr__(self) -> str:
        """Say in one line where they are, and how many go on."""
        records = self.records()
        n_going_on = sum(record.state in _GOING_ON for record in records)
        return f"<Jobs in {self.directory}: {len(records)}, of which {n_going_on} go on>"

    def _repr_html_(self) -> str:
        """Show them as a table."""
        return str(self.to_frame().drop(columns="message").to_html(index=False, float_format=lambda v: f"{v:.2f}"))

    def to_frame(self) -> pd.DataFrame:
        """List the jobs, newest first: columns id, kind, state, fraction, seconds, created, result, message."""
        columns = ("id", "kind", "state", "fraction", "seconds", "created", "result", "message")
        rows = [[getattr(record, column) for column in columns] for record in self.records()]
        frame = pd.DataFrame(rows, columns=list(columns))
        frame["created"] = pd.to_datetime(frame["created"].astype(float), unit="s", utc=True)
        return frame

    def _load(self, job_id: str) -> JobRecord | None:
        """Read job.json; one that a crash left unreadable is none."""
        directory = self.directory / job_id
        try:
            data = json.loads((directory / JOB_FILE).read_text(encoding="utf-8"))
            return JobRecord(**(data | {"id": job_id, "directory": directory}))
        except (FileNotFoundError, NotADirectoryError, json.JSONDecodeError, TypeError):
            return None

    def _update(self, before: JobRecord, after: JobRecord) -> None:
        """Save what became of a job, unless somebody else has changed or replaced it meanwhile."""
        with self._lock(before.id):
            if self._is_current(before):
                self._save(after)

    def _begun(self, record: JobRecord) -> JobRecord:
        """Save and give a job that was just started."""
        started = self._refresh(record, locked=True)
        self._save(started)
        return started

    def _is_current(self, record: JobRecord) -> bool:
        """Tell whether a job is still as it was read: nobody ended, failed or replaced it since."""
        now = self._load(record.id)
        return now is not None and (now.created, now.state) == (record.created, record.state)

    def _save(self, record: JobRecord) -> None:
        fields = asdict(record)
        del fields["id"], fields["directory"]
        write_atomically(record.directory / JOB_FILE, json.dumps(fields, indent=2))

    def _refresh(self, record: JobRecord, *, locked: bool = False) -> JobRecord:
        """Hold a record against what its runner knows; `locked` when this process holds the job's lock."""
        if record.state in _ENDED:
            return record
        run = _runner(record.runner).poll(record.directory)
        record = replace(record, seconds=run.seconds, message="")
        if run.phase in _WAITING:
            state, message = _WAITING[run.phase]
            return replace(record, state=state, message=message or _silence(record), fraction=_fraction(record))
        if run.phase == "absent":
            if not locked and self._is_locked(record.id):  # somebody is writing its inputs
                return replace(record, state="queued")
            return replace(record, state="interrupted", message=f"job {record.id!r} was interrupted before it started.")
        state = _state_of(run)
        if state == "done":
            return replace(record, state="done", fraction=1.0)
        message = f"{record.kind} job {record.id!r} {_WORDS[state]}: {explain(record.out_dir, run)}"
        return replace(record, state=state, message=message)

    def _reap(self, record: JobRecord) -> None:
        """End what a lost supervisor left running."""
        if record.state == "interrupted":
            _runner(record.runner).cancel(record.directory)

    def _set_aside(self, known: JobRecord | None, job_id: str) -> None:
        """Keep the record and output of a former run, without its inputs, and make room."""
        directory = self.directory / job_id
        if not directory.exists():
            return
        if known is not None:
            self._reap(known)
        _tidy(directory / "in")
        directory.replace(self._room_for_former(job_id))

    def _room_for_former(self, job_id: str) -> Path:
        """Make room for what a job left, and give the place."""
        former = self.directory / PREVIOUS / job_id
        former.parent.mkdir(exist_ok=True)
        if former.exists():
            clear_away(former)
        return former

    @contextmanager
    def _lock(self, job_id: str) -> Iterator[None]:
        """Let one process at a time start or end a job; the lock dies with its holder."""
        self.directory.mkdir(parents=True, exist_ok=True)
        with FileLock(self._lock_path(job_id)):
            yield

    def _is_locked(self, job_id: str) -> bool:
        """Tell whether another process is starting or ending this job now."""
        try:
            with FileLock(self._lock_path(job_id), timeout=0):
                return False
        except Timeout:
            return True

    def _lock_path(self, job_id: str) -> Path:
        return self.directory / f".{job_id}.lock"


_WORDS: Mapping[str, str] = {"failed": "failed", "cancelled": "was cancelled", "interrupted": "was interrupted"}
_WAITING: Mapping[str, tuple[State, str]] = {
    "queued": ("queued", "it waits for a GPU"),
    "running": ("running", ""),
    "unreachable": ("lost", "the container engine does not answer"),
}
_ENDS: Mapping[str, State] = {CANCELLED: "cancelled", LOST: "interrupted", ENGINE_STOPPED: "interrupted"}


def _runner(name: str) -> Runner:
    if name not in RUNNERS:
        raise PreflightFailed(f"there is no runner {name!r}; there is {', '.join(sorted(RUNNERS))}.")
    return RUNNERS[name]


def _fraction(record: JobRecord) -> float:
    seen = read_monitor(record.out_dir / "monitor.txt")
    return seen.fraction if seen else 0.0


def _silence(record: JobRecord) -> str:
    """Say that a running job has long said nothing; empty where it speaks, or is young."""
    most = Isolation.of(record.launch["isolation"]).silent_seconds
    words = [path.lstat().st_mtime for path in (record.log_path, record.out_dir / "monitor.txt") if path.exists()]
    silent = min(time.time() - max(words, default=record.created), record.seconds)
    return f"no word from it for {silent / 60:.0f} minutes" if most and silent > most else ""


def _state_of(run: RunState) -> State:
    """Name the state of a run that ended."""
    if run.phase == "vanished":
        return "interrupted"
    return _ENDS.get(run.reason, "failed" if run.code != 0 or run.reason else "done")


def _tidy(in_dir: Path) -> None:
    """Remove a job's inputs, but for what tells how it was configured."""
    for path in in_dir.iterdir() if in_dir.is_dir() else ():
        if path.name not in KEPT_INPUTS:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
