"""Collecting: the results of jobs that ended while nobody waited for them."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pandas as pd

from ymir_nb.backend.errors import YmirError
from ymir_nb.backend.inference import order_inference
from ymir_nb.backend.jobs import JobRecord, Jobs, Order
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


def order_of(workspace: Workspace, record: JobRecord) -> Order:
    """Give the order that a job came from."""
    return FLOWS[record.asked["flow"]](workspace, **record.asked["arguments"])
