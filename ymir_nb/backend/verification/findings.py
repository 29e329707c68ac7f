"""What a verification finds: one row a check, and all of them together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from typing import Any, Generic, Literal, TypeVar

import pandas as pd

Result = Literal["ok", "failed", "warning", "skipped"]
Subject = TypeVar("Subject")
MOST_SHOWN = 3


@dataclass(frozen=True)
class Finding:
    """What one check found.

    Parameters
    ----------
    result : {"ok", "failed", "warning", "skipped"}
        ``warning``: allowed, or harmless here, and a trouble elsewhere.
    detail : str
        What was seen.
    """

    result: Result
    detail: str = ""


def ok(detail: str = "") -> Finding:
    """Find that it holds."""
    return Finding("ok", detail)


def skipped(reason: str) -> Finding:
    """Find that it could not be looked at."""
    return Finding("skipped", reason)


def judge(faults: Sequence[str], *, otherwise: str = "", result: Result = "failed") -> Finding:
    """Find faults, of which the first few are told; without any it holds.

    Examples
    --------
    >>> judge(["a", "b", "c", "d"]).detail
    'a; b; c; and 1 more'
    """
    if not faults:
        return ok(otherwise)
    more = len(faults) - MOST_SHOWN
    return Finding(result, "; ".join([*faults[:MOST_SHOWN], *([f"and {more} more"] if more > 0 else [])]))


@dataclass(frozen=True)
class Check(Generic[Subject]):
    """One demand of the contract.

    Parameters
    ----------
    name : str
        Unique among the checks of a task.
    look : callable
        Takes what is looked at, mostly a `runs.Run`, and gives a `Finding`.
    source : str
        Where the contract says so.
    remedy : str
        What the author of the executor does about it.
    is_rest : bool
        It reads the whole result as ymir-nb does, and is asked only where the checks before it hold:
        what it finds then is a fault that has no check of its own.
    """

    name: str
    look: Callable[[Subject], Finding]
    source: str
    remedy: str
    is_rest: bool = False

    def row(self, task: str, finding: Finding) -> Row:
        """Make a row; the remedy stands where there is something to mend."""
        mend = finding.result in ("failed", "warning")
        return Row(self.name, task, finding.result, finding.detail, f"{self.remedy} ({self.source})" if mend else "")


@dataclass(frozen=True)
class Row:
    """One line of the report.

    Parameters
    ----------
    check : str
        Name of the check.
    task : str
        ``training``, ``mining``, ``infer`` or ``mining+infer``.
    result, detail : str
        As in `Finding`.
    remedy : str
        What to do; empty where there is nothing to do.
    """

    check: str
    task: str
    result: Result
    detail: str = ""
    remedy: str = ""


@dataclass(frozen=True)
class Verification:
    """What of the contract an executor holds.

    Parameters
    ----------
    executor : str
        Its name.
    rows : tuple of Row
        Every check of every task, always in the same order.
    seconds : float
        How long it took.
    """

    executor: str
    rows: tuple[Row, ...]
    seconds: float = 0.0

    @property
    def ok(self) -> bool:
        """Tell whether nothing failed; warnings are allowed."""
        return not self.count("failed")

    def count(self, result: Result) -> int:
        """Count the rows with a result."""
        return sum(row.result == result for row in self.rows)

    def to_frame(self) -> pd.DataFrame:
        """List the checks: columns check, task, result, detail, remedy."""
        return pd.DataFrame([asdict(row) for row in self.rows], columns=["check", "task", "result", "detail", "remedy"])

    def to_dict(self) -> dict[str, Any]:
        """Give plain values."""
        counts = {result: self.count(result) for result in ("ok", "failed", "warning", "skipped")}
        rows = [asdict(row) for row in self.rows]
        told = {"executor": self.executor, "ok": self.ok, "seconds": round(self.seconds, 1), "counts": counts}
        return told | {"checks": rows}

    def to_text(self) -> str:
        """Write the report for people: a line a check, the remedy below what is to be mended.

        Checks that were left out for the same reason share a line.
        """
        groups = [list(rows) for _, rows in groupby(self.rows, key=_line_of)]
        shown = [(rows[0], rows[0].check if len(rows) == 1 else f"({len(rows)} checks)") for rows in groups]
        widths = [
            max(map(len, words), default=0) for words in zip(*((row.task, name) for row, name in shown), strict=True)
        ]
        lines = []
        for row, name in shown:
            lines.append(f"{row.result:<8} {row.task:<{widths[0]}}  {name:<{widths[1]}}  {row.detail}".rstrip())
            lines += [" " * 9 + f"-> {row.remedy}"] if row.remedy else []
        return "\n".join([*lines, repr(self)])

    def __repr__(self) -> str:
        """Say in one line how it stands."""
        said = "holds the contract" if self.ok else "breaks the contract"
        counts = ", ".join(f"{self.count(r)} {r}" for r in ("ok", "failed", "warning", "skipped") if self.count(r))
        return f"<{self.executor} {said}: {counts}; {self.seconds:.0f} s>"


def _line_of(row: Row) -> tuple[str, ...]:
    """Tell which rows share a line of the report."""
    return (row.task, row.result, row.detail) if row.result == "skipped" else (row.task, row.result, row.check)
