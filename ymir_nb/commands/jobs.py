"""Commands on jobs: work that outlives the kernel or shell that asked for it."""

from __future__ import annotations

import json
from typing import Any

from ymir_nb.backend.workspace import Workspace
from ymir_nb.commands.answers import Answer, Command, Namespace, arg, as_job, as_table, open_workspace

ID = arg("id", help="as `jobs list` shows it")


def jobs_list(a: Namespace) -> Answer:
    """List jobs with their states; results that nobody has taken in yet are."""
    ws = open_workspace(a)
    return as_table(_jobs(ws, collected=True).to_frame())


def jobs_attach(a: Namespace) -> Answer:
    """Watch a job until it ends and take its result in; Ctrl-C stops the watching, not the job."""
    from ymir_nb.backend.progress import bar

    ws = open_workspace(a)
    with bar(a.id) as watch:
        _jobs(ws).wait(a.id, watch)
    record = _jobs(ws, collected=True).attach(a.id)
    return as_job(record)


def jobs_cancel(a: Namespace) -> Answer:
    """End a job and everything that it started."""
    record = _jobs(open_workspace(a)).cancel(a.id)
    return as_job(record)


def jobs_retry(a: Namespace) -> Answer:
    """Start a job that failed, was cancelled or interrupted again, with the inputs that it had."""
    record = _jobs(open_workspace(a)).retry(a.id)
    return as_job(record)


def jobs_log(a: Namespace) -> Answer:
    """Print the end of a job's log."""
    text = _jobs(open_workspace(a)).log(a.id, n_lines=a.lines)
    return Answer({"id": a.id, "log": text}, text.rstrip())


def jobs_metrics(a: Namespace) -> Answer:
    """Show what a job logged for TensorBoard: the last value of each metric, or every one as JSON."""
    frame = _jobs(open_workspace(a)).metrics(a.id)
    last = frame.groupby(["run", "tag"], as_index=False).last()
    return Answer(json.loads(frame.to_json(orient="records")), as_table(last).text)


def jobs_salvage(a: Namespace) -> Answer:
    """Keep the model that a failed training left behind."""
    from ymir_nb.backend.collecting import salvage

    model = salvage(open_workspace(a), a.id)
    return Answer({"model": model.ref, **model.card}, repr(model))


def jobs_sweep(a: Namespace) -> Answer:
    """End containers and processes that jobs which are over left running."""
    names = _jobs(open_workspace(a)).sweep()
    return Answer({"ended": names}, "\n".join(names) or "nothing was left")


def _jobs(ws: Workspace, *, collected: bool = False) -> Any:
    """Give the jobs of a workspace, where asked after all results that are ready were taken in."""
    from ymir_nb.backend.collecting import collect
    from ymir_nb.backend.jobs import Jobs

    if collected:
        collect(ws)
    return Jobs.of(ws)


COMMANDS: dict[str, Any] = {
    "jobs": {
        "list": Command(jobs_list),
        "attach": Command(jobs_attach, (ID,)),
        "cancel": Command(jobs_cancel, (ID,)),
        "retry": Command(jobs_retry, (ID,)),
        "log": Command(jobs_log, (ID, arg("--lines", type=int, default=50, help="how many (default: 50)"))),
        "metrics": Command(jobs_metrics, (ID,)),
        "salvage": Command(jobs_salvage, (ID,)),
        "sweep": Command(jobs_sweep),
    },
}
