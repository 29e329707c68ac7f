"""Checks of what every run owes: its end, its manners, and monitor.txt."""

from __future__ import annotations

from ymir_nb.backend.runners.base import Isolation
from ymir_nb.backend.untrusted import show
from ymir_nb.backend.verification.findings import Check, Finding, Result, judge, ok, skipped
from ymir_nb.backend.verification.runs import Run

LOOSENINGS = ("writable_root", "image_user", "capabilities", "network")
"""Isolation settings that an image may need loosened, the most frequent need first."""
CLOCK_SECONDS = 60.0
_NO_RECORD = "it left no readable monitor.txt"


def exit_status(run: Run) -> Finding:
    """0 means done."""
    return ok(f"{run.ended - run.began:.1f} s") if run.is_well else Finding("failed", run.why())


def isolation(run: Run) -> Finding:
    """It runs shut in: another user, a read-only root, no network, no capabilities."""
    if run.launch.runner != "docker":
        return skipped("a local command is not shut in")
    if not run.is_well:
        return skipped("it fails, however it is shut in")
    needed = loosened(run.launch.isolation)
    words = ", ".join(f"{name}: true" for name in needed)
    return judge([f"it needs {words}"] if needed else [], otherwise="nothing is loosened", result="warning")


def loosened(limits: Isolation) -> list[str]:
    """Name what of the isolation is loosened."""
    return [name for name in LOOSENINGS if getattr(limits, name)]


def inputs_untouched(run: Run) -> Finding:
    """Nothing in /in changes."""
    return judge([f"/in/{name} is not what it was" for name in run.changed])


def log_untouched(run: Run) -> Finding:
    """The log belongs to the caller."""
    return judge([run.log_fault] if run.log_fault else [])


def monitor_record(run: Run) -> Finding:
    """The first line has four to six columns."""
    records = _records(run)
    if not records:
        return Finding("failed", "there is no monitor.txt")
    return judge([f"it reads {show(chr(9).join(r))}: {len(r)} columns" for r in records if not 4 <= len(r) <= 6])


def monitor_task_id(run: Run) -> Finding:
    """The first column is env.yaml's task_id."""
    faults = [f"{show(r[0])}, not {run.task.task_id!r}" for r in _whole(run) if r[0] != run.task.task_id]
    return _of_records(run, sorted(set(faults)))


def monitor_time(run: Run) -> Finding:
    """The second column is the present, in seconds since 1970."""
    first, last = run.began - CLOCK_SECONDS, run.ended + CLOCK_SECONDS
    wrong = [r[1] for r in _whole(run) if not first <= _number(r[1], otherwise=0.0) <= last]
    return _of_records(run, [f"{show(text)} is no time of the run" for text in sorted(set(wrong))])


def monitor_percent(run: Run) -> Finding:
    """The third column lies in [0, 1] and never goes back."""
    faults, furthest = [], 0.0
    for record in _whole(run):
        share = _number(record[2], otherwise=-1.0)
        if not 0.0 <= share <= 1.0:
            faults.append(f"{show(record[2])} is not in [0, 1]")
        elif share < furthest:
            faults.append(f"it goes back from {furthest:g} to {share:g}")
        furthest = max(furthest, share)
    return _of_records(run, faults)


def monitor_state(run: Run) -> Finding:
    """The fourth column is 2 while it works, and 4 only where it fails."""
    states = sorted({r[3] for r in _whole(run)})
    wrong = [f"state {show(state)} is none of 1, 2, 3, 4" for state in states if state not in ("1", "2", "3", "4")]
    if run.is_well and "4" in states:
        wrong.append("it says 4, failed, and exits with 0")
    if wrong:
        return Finding("failed", "; ".join(wrong))
    odd = [f"state {state}: executors use 2 and 4 alone" for state in states if state in ("1", "3")]
    return _of_records(run, odd, result="warning")


def monitor_end(run: Run) -> Finding:
    """The last record of a run that went well says 1."""
    if not run.is_well:
        return skipped("it did not end well")
    records = _whole(run)
    last = _number(records[-1][2], otherwise=-1.0) if records else 1.0
    return _of_records(run, [] if last >= 1.0 else [f"it ends at {records[-1][2]}"], result="warning")


def names_its_failure(run: Run) -> Finding:
    """A run that fails says so in monitor.txt, with a return code."""
    if run.is_well:
        return skipped("it did not fail")
    last = _records(run)[-1:] or [[]]
    is_error = len(last[0]) > 4 and last[0][3] == "4" and _number(last[0][4], otherwise=0.0) > 0
    said = f"its last record is {show(chr(9).join(last[0]))}" if last[0] else "there is no monitor.txt"
    return judge([] if is_error else [said], result="warning")


def _records(run: Run) -> list[list[str]]:
    """Split the first line of each state of monitor.txt into its columns."""
    return [text.partition("\n")[0].rstrip("\r").split("\t") for text in run.monitor]


def _whole(run: Run) -> list[list[str]]:
    return [record for record in _records(run) if len(record) >= 4]


def _of_records(run: Run, faults: list[str], *, result: Result = "failed") -> Finding:
    """Judge faults of records, if there are any records."""
    if not _whole(run):
        return skipped(_NO_RECORD)
    return judge(faults, result=result)


def _number(text: str, *, otherwise: float) -> float:
    try:
        return float(text)
    except ValueError:
        return otherwise


_MONITOR = "executor contract, monitor.txt"

EVERY_RUN: tuple[Check[Run], ...] = (
    Check("exit status", exit_status, "executor contract, exit status", "Read the log's error; run it with --keep."),
    Check(
        "isolation",
        isolation,
        "ymir-nb's isolation; YMIR itself shuts nothing in",
        "Write to /out and /tmp alone and fetch nothing; or allow it: ymir-nb executor add NAME IMAGE --allow SETTING.",
    ),
    Check(
        "inputs untouched",
        inputs_untouched,
        "executor contract, mounts: /in is read-only",
        "Write to /out, whatever you make.",
    ),
    Check(
        "log untouched",
        log_untouched,
        "executor contract, mounts: the caller writes the log",
        "Print to standard output; leave ymir-executor-out.log alone.",
    ),
    Check("monitor record", monitor_record, _MONITOR, "Write <task_id>, time, percent and state, parted by tabs."),
    Check("monitor task id", monitor_task_id, _MONITOR, "Repeat task_id of env.yaml."),
    Check("monitor time", monitor_time, _MONITOR, "Write time.time(): seconds since 1970."),
    Check("monitor percent", monitor_percent, _MONITOR, "Count the whole work from 0 to 1 once, both halves of it."),
    Check("monitor state", monitor_state, _MONITOR, "Write 2 while it works, and 4 with a return code if it fails."),
    Check("monitor end", monitor_end, _MONITOR, "Write 1.00 at the end."),
)
NAMES_ITS_FAILURE = Check(
    "names its failure",
    names_its_failure,
    "executor contract, return codes",
    "Write state 4, a return code such as 300001 (config) or 300004 (model), and a message before it exits.",
)
