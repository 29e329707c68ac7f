"""Progress of an executor, read from its ``monitor.txt`` with patience for whatever stands there.

Source: YMIR 2.5.0, executor contract, ``/out/monitor.txt`` and return codes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from ymir_nb.backend.untrusted import read_head

MAX_BYTES = 1 << 16
PENDING, RUNNING, DONE, ERROR = 1, 2, 3, 4

RETURN_CODES = {
    160004: "the container failed",
    300001: "the configuration is wrong",
    300002: "the dataset is wrong",
    300003: "an image has a form that the executor cannot read",
    300004: "the model cannot be used",
    300005: "the executor does not support this object type",
    300101: "CUDA and the GPU do not fit together",
    300102: "no GPU was found",
    300103: "memory ran out",
    300201: "the training diverged (not a number)",
    300301: "the network could not be reached",
}


@dataclass(frozen=True)
class Progress:
    """One record of monitor.txt.

    Parameters
    ----------
    fraction : float
        Share of the work that is done, in [0, 1].
    state : int
        1 pending, 2 running, 3 done, 4 error.
    task_id : str
        As the executor wrote it.
    code : int
        The executor's return code; 0 when it gave none.
    message : str
        Its message; empty when it gave none.
    """

    fraction: float
    state: int
    task_id: str = ""
    code: int = 0
    message: str = ""

    def in_words(self) -> str:
        """Say what an error record means; empty when it is none.

        Examples
        --------
        >>> Progress(1.0, 4, code=300103).in_words()
        'memory ran out (return code 300103)'
        """
        if self.state != ERROR:
            return ""
        meaning = RETURN_CODES.get(self.code, "the executor reports an error")
        said = f": {self.message}" if self.message else ""
        return f"{meaning} (return code {self.code}){said}" if self.code else f"{meaning}{said}"


def read_monitor(path: Path) -> Progress | None:
    """Read the newest record; None where there is none that can be understood.

    The file is hostile until checked: links and pipes are not followed, no more than 64 KiB are
    read, the percent is cut to [0, 1]. It is rewritten by the executor at any time, so that half a
    record is a matter of course. That a percent never goes back is the business of whoever shows it.

    Parameters
    ----------
    path : Path
        ``out/monitor.txt`` of a job.

    Returns
    -------
    Progress or None
    """
    data = read_head(path, limit=MAX_BYTES)
    line = data.decode("utf-8", errors="replace").partition("\n")[0].rstrip("\r")
    columns = line.split("\t")
    if len(columns) < 4:
        return None
    try:
        fraction, state = float(columns[2]), int(columns[3])
        code = int(columns[4]) if len(columns) > 4 and columns[4].strip() else 0
    except ValueError:
        return None
    if not math.isfinite(fraction) or state not in (PENDING, RUNNING, DONE, ERROR):
        return None
    message = "".join(c if c.isprintable() else " " for c in " ".join(columns[5:]))[:500].strip()
    return Progress(min(max(fraction, 0.0), 1.0), state, task_id=columns[0][:100], code=code, message=message)
