"""Simulation: active learning replayed on a labelled dataset whose labels are held back.

A strategy and a seed are an arm. All arms of a seed begin with the same images, and so with the same
model, which is trained once. Every round trains from scratch, so that a strategy is not paid in
training steps; predicts on the rest of the pool; lets the strategy choose; and takes the labels of
what was chosen from the truth. Every training and every inference is a job.

The runs stand in a file of JSON lines, the plan first and then a line for each finished round with
the images that it chose, so that the file alone is enough to go on, here or on another machine.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

from ymir_nb.backend import ops
from ymir_nb.backend.arms import Arm, Replay
from ymir_nb.backend.errors import ProjectError
from ymir_nb.backend.executors import ExecutorBook
from ymir_nb.backend.jobs import Jobs, Watch
from ymir_nb.backend.learning_curves import CONTROL
from ymir_nb.backend.names import work_id
from ymir_nb.backend.runs import Runs
from ymir_nb.backend.strategies import DEFAULT, NEEDS, STRATEGIES
from ymir_nb.backend.workspace import Workspace


def simulate(
    workspace: Workspace,
    truth: str,
    *,
    val: str,
    test: str = "",
    strategies: Sequence[str] = (CONTROL, DEFAULT),
    seeds: Sequence[int] = (1, 2, 3),
    n_start: int = 40,
    k: int = 40,
    rounds: int = 6,
    executor: str | None = None,
    parameters: Mapping[str, Mapping[str, Any]] | None = None,
    warm_start: bool = False,
    n_parallel: int = 1,
    results: str | Path = "",
    watch: Watch = None,
) -> Runs:
    """Replay active learning with held-back labels, for each strategy and seed.

    Interrupted, the same call goes on after the last finished round of each arm; with more
    strategies, seeds or rounds it adds what is missing. No version is saved.

    Parameters
    ----------
    workspace : Workspace
        Where the data is.
    truth : str
        Reference of the labelled images to choose from; those of val and test are left out.
    val : str
        What the executor chooses its best stage on.
    test : str
        What is measured on; val, where nothing is named.
    strategies : sequence of str
        Keys of `strategies.STRATEGIES` (none that asks a committee); without ``random`` there is nothing to
        compare with.
    seeds : sequence of int
        Each draws its own start, and seeds the training where the executor has a parameter ``seed``.
    n_start, k, rounds : int
        Labelled images to begin with, images chosen a round, and rounds after the first model.
    executor : str, optional
        Who trains and infers; by default the workspace's.
    parameters : mapping, optional
        Executor parameters under ``training``, ``infer`` and ``mining``.
    warm_start : bool
        Begin each training from the model of the round before.
    n_parallel : int
        Arms at a time; what needs GPUs queues for them.
    results : str or Path
        File of the runs, to go on with; by default ``.ymir/simulations/<id>.jsonl``.
    watch : callable, optional
        Gets the share of all rounds that is done, and a few words.

    Returns
    -------
    Runs

    Raises
    ------
    ProjectError
        An unknown strategy, numbers out of range, too few labelled images, or a file of other runs.
    PreflightFailed, JobFailed, ProtocolViolated
        As a training and an inference; finished rounds stay.
    KeyboardInterrupt
        With a word on how to go on; the jobs that run keep running.

    Source: the measuring rules of Riedlinger et al. 2024 and of CALD (identical training, several seeds).
    """
    _check(strategies, seeds, n_start=n_start, k=k, rounds=rounds, n_parallel=n_parallel)
    chosen = ExecutorBook(workspace.store).get(executor or str(workspace.settings["executor"]))
    given = {kind: dict((parameters or {}).get(kind, {})) for kind in ("training", "infer", "mining")}
    refs = {"truth": truth, "val": val, "test": test or val}
    plan = {
        "data": workspace.lineage(refs.values()),
        **{role: workspace.dataset(ref).ref for role, ref in refs.items()},
        "n_start": n_start,
        "k": k,
        "warm_start": warm_start,
        "executor": chosen.name,
        "starts": chosen.start(),
        "training": chosen.config("training", given["training"]),
        "infer": given["infer"],
        "mining": given["mining"],
    }
    name = work_id(f"simulate-{str(plan['truth']).replace('@', '-')}", plan)
    path = Path(results) if results else workspace.root / ".ymir" / "simulations" / f"{name}.jsonl"
    images, check, measured = (ops.filter(workspace.dataset(ref), state="labelled") for ref in refs.values())
    pool = ops.exclude(images, check, measured)
    if n_start + k * rounds > len(pool) or not len(measured):
        raise ProjectError(
            f"{n_start} images to begin with and {rounds} rounds of {k} are {n_start + k * rounds}, and the pool has "
            f"{len(pool)} labelled ones ({len(measured)} to measure on). Ask for fewer, or give more."
        )
    schedule = _Schedule(Runs.open(path, plan | {"id": name}), rounds, watch)
    replay = Replay(
        name=name,
        pool=pool,
        val=check,
        test=measured,
        jobs=Jobs.of(workspace),
        executor=chosen,
        given=given,
        n_start=n_start,
        k=k,
        warm_start=warm_start,
        tell=schedule.tell,
    )
    arms = [Arm(replay, strategy, seed) for seed in dict.fromkeys(seeds) for strategy in dict.fromkeys(strategies)]
    schedule.run(arms, n_parallel)
    return Runs.read(path)


class _Stopped(Exception):
    """Another arm failed, or the person pressed Ctrl-C."""


class _Schedule:
    """The arms under way: how far they are, and what stops them."""

    def __init__(self, runs: Runs, n_rounds: int, watch: Watch) -> None:
        self.runs, self.n_rounds, self.watch = runs, n_rounds, watch
        self.n_done, self.n_all = 0, 1
        self.stop, self.lock = threading.Event(), threading.Lock()

    def run(self, arms: Sequence[Arm], n_parallel: int) -> None:
        """Run arms, some at a time; the first failure ends the waiting of the others."""
        self.n_all = len(arms) * (self.n_rounds + 1)
        with ThreadPoolExecutor(n_parallel) as pool:
            futures = [pool.submit(self._run, arm) for arm in arms]
            try:
                wait(futures, return_when=FIRST_EXCEPTION)
            except KeyboardInterrupt:
                raise KeyboardInterrupt(
                    f"stopped; the rounds so far are in {self.runs.path}, and the same call goes on. What runs keeps "
                    "running: ymir-nb jobs list"
                ) from None
            finally:
                self.stop.set()
                pool.shutdown(cancel_futures=True)
        for future in futures:
            if not future.cancelled() and (error := future.exception()) and not isinstance(error, _Stopped):
                raise error

    def tell(self, fraction: float, words: str) -> None:
        """Say how far everything is; the share of a job is a part of its round."""
        if self.stop.is_set():
            raise _Stopped
        if self.watch is not None:
            with self.lock:
                self.watch(min(1.0, (self.n_done + 0.9 * fraction) / self.n_all), words)

    def _run(self, arm: Arm) -> None:
        """Go through the rounds of an arm; those that stand in the file are taken from there."""
        known = self.runs.rounds(arm.strategy, arm.seed)
        for number in range(self.n_rounds + 1):
            row, is_last = known.get(number), number == self.n_rounds
            if row is None or not (row["chosen"] or is_last):
                row = arm.round(number, is_last=is_last)
                self.runs.append(row)
                arm.spend(number)
            arm.take(row)
            with self.lock:
                self.n_done += 1
            reached = "-" if row["ap50"] is None else f"{row['ap50']:.3f}"
            self.tell(0.0, f"{arm.strategy}, seed {arm.seed}, round {number}: AP50 {reached}")


def _check(strategies: Sequence[str], seeds: Iterable[int], **numbers: int) -> None:
    """Refuse what cannot be replayed."""
    known = [name for name in STRATEGIES if "committee" not in NEEDS.get(name, ())]
    strange = [name for name in strategies if name not in known]
    if strange or not strategies or not list(seeds):
        raise ProjectError(
            f"there is no strategy {', '.join(map(repr, strange)) or '(none was named)'} to replay; there is "
            f"{', '.join(known)}. At least one, and one seed, are needed."
        )
    low = [f"{name}={value}" for name, value in numbers.items() if value < (name != "rounds")]
    if low:
        raise ProjectError(f"{', '.join(low)}: whole numbers from 1 are needed (rounds from 0).")
