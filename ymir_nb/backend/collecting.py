"""Collecting: the results of jobs that ended while nobody waited for them, or that failed."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pandas as pd

from ymir_nb.backend.errors import JobError, YmirError
from ymir_nb.backend.inference import order_inference
from ymir_nb.backend.jobs import JobRecord, Jobs, Order
from ymir_nb.backend.models import Model, open_model
from ymir_nb.backend.training import order_training
from ymir_nb.backend.workspace import Workspace

FLOWS: Mapping[str, Callable[..., Order]] = {"train": order_training, "infer": order_inference}
"""What `jobs.JobRecord.asked` may name."""


def collect(workspace: Workspace) -> pd.DataFrame:
    """Take in the results of all jobs that are done and that nobody has taken in yet.

    Whoever looks first takes a result in; a second look finds nothing to do. What cannot be taken in
    is told, and stays as it is.

    Parameters
    ----------
    workspace : Workspace
        Whose jobs.

    Returns
    -------
    DataFrame
        Columns id, result (a reference) and problem, one row for each job that was looked at.
    """
    jobs = Jobs.of(workspace)
    rows = []
    for record in jobs.records():
        if record.state == "done" and not record.result and record.asked:
            try:
                rows.append((record.id, jobs.ingest(record, order_of(workspace, record)).result, ""))
            except YmirError as error:
                rows.append((record.id, "", str(error)))
    return pd.DataFrame(rows, columns=["id", "result", "problem"])


def salvage(workspace: Workspace, job_id: str) -> Model:
    """Keep the model that a training which failed left behind, as the next version of its name.

    Raises
    ------
    JobError
        The job goes on, or is done, or left nothing that can be read.
    """
    record = Jobs.of(workspace).attach(job_id)
    if record.state not in ("failed", "cancelled", "interrupted"):
        raise JobError(f"job {job_id!r} is {record.state}; there is nothing to salvage.")
    order = order_of(workspace, record) if record.asked else None
    kept = order.salvage(record.out_dir) if order and order.salvage else ""
    if not kept:
        raise JobError(
            f"job {job_id!r} left no model that can be read in {record.out_dir}. Run it again: "
            f"ymir-nb jobs retry {job_id}"
        )
    return open_model(workspace, kept)


def order_of(workspace: Workspace, record: JobRecord) -> Order:
    """Give the order that a job came from."""
    return FLOWS[record.asked["flow"]](workspace, **record.asked["arguments"])
