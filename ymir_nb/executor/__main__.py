"""Run the task that env.yaml describes: ``python -m ymir_nb.executor``."""

from __future__ import annotations

import logging
import signal
import sys
from types import FrameType
from typing import NoReturn

from ymir_nb.executor.contract import Task, env_path, output_file, read_mapping, read_task
from ymir_nb.executor.errors import CONTAINER, OUT_OF_MEMORY, ExecutorFailure
from ymir_nb.executor.monitor import Monitor
from ymir_nb.executor.planning import plan_scoring, plan_training

log = logging.getLogger("ymir_nb.executor")


class Terminated(SystemExit):
    """The run was told to stop."""


def main() -> int:
    """Do what env.yaml asks for.

    Returns
    -------
    int
        0, or 1 after a failure that standard error and monitor.txt name in one line.
    """
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    signal.signal(signal.SIGTERM, _terminate)
    try:
        env = read_mapping(env_path())
    except ExecutorFailure as failure:
        return _report(failure)
    monitor = Monitor(output_file(env, "monitor_file", "/out/monitor.txt"), str(env.get("task_id") or "task"))
    try:
        monitor.progress(0.0)
        _do(read_task(env), monitor)
    except ExecutorFailure as failure:
        monitor.fail(str(failure), code=failure.code)
        return _report(failure)
    except Terminated:
        monitor.fail("terminated by a signal", code=CONTAINER)
        raise
    except Exception as error:
        monitor.fail(f"{type(error).__name__}: {error}", code=_code(error))
        raise
    return 0


def _do(task: Task, monitor: Monitor) -> None:
    """Run it; torch loads only once the plan stands, so that a wrong input is told at once."""
    if task.run_training:
        training_plan = plan_training(task)
        from ymir_nb.executor.training import train

        train(task, training_plan, monitor)
    else:
        scoring_plan = plan_scoring(task)
        from ymir_nb.executor.scoring import score

        score(task, scoring_plan, monitor)


def _report(failure: ExecutorFailure) -> int:
    sys.stdout.flush()
    sys.stderr.write(f"error {failure.code}: {' '.join(str(failure).split())}\n")
    return 1


def _code(error: Exception) -> int:
    """Give the return code of an error that nobody foresaw."""
    return OUT_OF_MEMORY if isinstance(error, MemoryError) or "out of memory" in str(error).lower() else CONTAINER


def _terminate(number: int, _frame: FrameType | None) -> NoReturn:
    raise Terminated(128 + number)


if __name__ == "__main__":
    sys.exit(main())
