"""An arm of a simulation: one strategy with one seed, round by round, in jobs."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from ymir_nb.backend import contract, metrics, ops, packages
from ymir_nb.backend.dataset import Dataset
from ymir_nb.backend.detections import read_infer
from ymir_nb.backend.embeddings import Seen as Look
from ymir_nb.backend.embeddings import read_features
from ymir_nb.backend.errors import JobFailed
from ymir_nb.backend.evaluation import restrict
from ymir_nb.backend.executors import Executor, gpu_count
from ymir_nb.backend.jobs import JobRecord, Jobs, Order
from ymir_nb.backend.mining import HEAD, LEAST_HEAD
from ymir_nb.backend.names import work_id
from ymir_nb.backend.results import read_mining
from ymir_nb.backend.strategies import ALGORITHMS, NEEDS, STRATEGIES, Evidence, group_duplicates, select
from ymir_nb.backend.training_results import TrainingResult, read_training

SPENT = "spent"
"""Marks a job whose round is written down, and whose weights and predictions are removed."""


@dataclass(frozen=True, eq=False)
class Replay:
    """What all arms of a simulation share.

    Parameters
    ----------
    name : str
        Id of the simulation.
    pool, val, test : Dataset
        Fully labelled: what is chosen from, what a training chooses its stage on, what is measured on.
    jobs : Jobs
        Where the work is done.
    executor : Executor
        Who does it.
    given : mapping
        Executor parameters under ``training``, ``infer`` and ``mining``.
    n_start, k : int
        Labelled images to begin with, and images chosen a round.
    warm_start : bool
        Begin each training from the model of the round before.
    tell : callable
        Gets the share done of a job, and a few words; what it raises ends the waiting.
    """

    name: str
    pool: Dataset
    val: Dataset
    test: Dataset
    jobs: Jobs
    executor: Executor
    given: Mapping[str, Mapping[str, Any]]
    n_start: int
    k: int
    warm_start: bool
    tell: Callable[[float, str], None]


@dataclass(frozen=True, eq=False)
class Seen:
    """What a model says: predictions, and where the strategy asked for them the executor's scores and features."""

    predictions: Dataset
    scores: pd.DataFrame | None
    look: Look | None

    def evidence(self, images: pd.DataFrame, train: Dataset, *, k: int, seed: int) -> Evidence:
        """Give what a strategy may look at, of these images; what is said of others plays no part."""
        names, known = images["image"], train.images["image"]
        rows = self.predictions.annotations
        features = self.look.features if self.look else None
        chances = self.look.class_scores if self.look else None
        return Evidence(
            images,
            rows[rows["image"].isin(names)].reset_index(drop=True),
            labelled_counts=train.counts(),
            features=features.take(names) if features else None,
            labelled_features=features.take(known) if features else None,
            class_scores=chances.take(names) if chances else None,
            executor_scores=self.scores,
            k=k,
            seed=seed,
        )


class Arm:
    """One strategy with one seed.

    Parameters
    ----------
    replay : Replay
        What it is a part of.
    strategy : str
        A key of `strategies.STRATEGIES`.
    seed : int
        Draws the start, and seeds the training where the executor has a parameter ``seed``.
    """

    def __init__(self, replay: Replay, strategy: str, seed: int) -> None:
        self.replay, self.strategy, self.seed = replay, strategy, seed
        start = ops.sample(replay.pool, n=replay.n_start, seed=seed)
        self.labelled = [start.images["image"].tolist()]
        self.records: dict[str, JobRecord] = {}

    def take(self, row: Mapping[str, Any]) -> None:
        """Give the next round the labels of what a finished round chose."""
        self.labelled.append(list(row["chosen"]))

    def round(self, number: int, *, is_last: bool) -> dict[str, Any]:
        """Train, predict, measure and choose.

        Parameters
        ----------
        number : int
            Which round; 0 is the first model. The rounds before it were taken.
        is_last : bool
            Choose nothing more.

        Returns
        -------
        dict
            The round's line, as `Runs` describes it.
        """
        replay = self.replay
        self.records = {}
        train = self._train_set(number)
        rest = ops.unlabel(ops.exclude(replay.pool, train))
        package = self._train(number)
        seen = self._predict(number, self._looked_at(rest, is_last=is_last), package, is_last=is_last)
        measured = metrics.evaluate(restrict(replay.test, replay.pool.labels), seen.predictions)
        return {
            "strategy": self.strategy,
            "seed": self.seed,
            "round": number,
            "n_images": len(train),
            "n_boxes": train.n_boxes,
            **_numbers(measured, train),
            "seconds": {kind: round(record.seconds, 1) for kind, record in self.records.items()},
            "jobs": [record.id for record in self.records.values()],
            "chosen": [] if is_last else self._choose(seen, rest, train, number),
        }

    def spend(self, number: int) -> None:
        """Remove the weights and predictions of a round that no other arm and no later round will ask for."""
        kept = number if self.replay.warm_start else 0
        for record in self.records.values() if number != kept else ():
            (record.directory / SPENT).touch()
            for name in ("models", "tensorboard"):
                shutil.rmtree(record.out_dir / name, ignore_errors=True)
            shutil.rmtree(record.out_dir / "features", ignore_errors=True)
            (record.out_dir / "infer-result.json").unlink(missing_ok=True)

    def _train_set(self, number: int) -> Dataset:
        """Give what is labelled when a round begins."""
        return ops.take(self.replay.pool, (image for batch in self.labelled[: number + 1] for image in batch))

    def _looks(self, *, is_last: bool) -> bool:
        """Tell whether the strategy is given what the network sees beside boxes."""
        offers = "features" in self.replay.executor.templates["infer"]
        return offers and not is_last and "features" in NEEDS.get(self.strategy, ())

    def _looked_at(self, rest: Dataset, *, is_last: bool) -> Dataset:
        """Give what is predicted on: the test images, those to choose from, and those they are compared with."""
        test = ops.unlabel(self.replay.test)
        if is_last:
            return test
        return ops.merge([test, ops.unlabel(self.replay.pool) if self._looks(is_last=is_last) else rest])

    def _choose(self, seen: Seen, rest: Dataset, train: Dataset, number: int) -> list[str]:
        """Let the strategy choose."""
        k = self.replay.k
        evidence = seen.evidence(rest.images, train, k=k, seed=1000 * self.seed + number)
        board = select(STRATEGIES[self.strategy](evidence), len(rest))
        if evidence.features is not None:
            board = group_duplicates(board, features=evidence.features, head=max(HEAD * k, LEAST_HEAD))
        return [str(image) for image in board["image"].head(k)]

    def _train(self, number: int) -> bytes:
        """Train the model of a round, or read it where it is trained, and give its package."""
        replay, executor = self.replay, self.replay.executor
        base = self._train(number - 1) if replay.warm_start and number else None
        given = dict(replay.given["training"])
        if "seed" in executor.templates["training"]:
            given.setdefault("seed", self.seed)
        config = executor.config("training", given)
        task = contract.Task(
            task_id=self._job_id("train", number, config),
            class_names=replay.pool.labels,
            config=config,
            training=True,
            train=self._train_set(number),
            val=replay.val,
            model=base,
        )
        found: list[TrainingResult] = []

        def ingest(out: Path) -> str:
            found.append(read_training(out, object_type=executor.object_type))
            return replay.name

        self._do("training", task, ingest)
        described = {**config, "class_names": list(task.class_names), "task_id": task.task_id}
        info = found[-1].to_info(executor_config=described, task_context={"executor": executor.name})
        return packages.pack(found[-1].files, info)

    def _predict(self, number: int, images: Dataset, package: bytes, *, is_last: bool) -> Seen:
        """Predict on images, and let the executor score them where the strategy asks for that, in one job."""
        replay, executor = self.replay, self.replay.executor
        looks = self._looks(is_last=is_last)
        config = executor.config("infer", {**replay.given["infer"], **({"features": True} if looks else {})})
        scored = self.strategy in ALGORITHMS and not is_last
        if scored:
            asked = {**replay.given["mining"], "mining_algorithm": ALGORITHMS[self.strategy]}
            config = {**executor.config("mining", asked), **config, **asked}
        task = contract.Task(
            task_id=self._job_id("infer", number, {**config, "is_last": is_last}),
            class_names=replay.pool.labels,
            config=config,
            infer=True,
            mining=scored,
            candidates=images,
            model=package,
        )
        found: list[Seen] = []

        def ingest(out: Path) -> str:
            rows = read_infer(out, images.images, task.class_names).annotations
            scores = read_mining(out, images.images).scores if scored else None
            look = read_features(out, images.images, task.class_names) if looks else None
            found.append(Seen(Dataset.of(images.images, rows, labels=task.class_names), scores, look))
            return replay.name

        self._do("infer", task, ingest)
        return found[-1]

    def _do(self, kind: str, task: contract.Task, ingest: Callable[[Path], str]) -> None:
        """Do a job, and note it; one that was spent is done afresh, one that was interrupted once more."""
        replay = self.replay
        gpus = ",".join(map(str, range(gpu_count(task.config))))
        order = Order(task.task_id, replace(task, gpu_id=gpus), replay.executor.launch(task.config), ingest)
        if (replay.jobs.directory / order.id / SPENT).exists():
            shutil.rmtree(replay.jobs.directory / order.id)
        words = f"{self.strategy}, seed {self.seed}"

        def run() -> JobRecord:
            return replay.jobs.run(order, watch=lambda share, said: replay.tell(share, f"{words}: {said}"))

        try:
            self.records[kind] = run()
        except JobFailed:
            if replay.jobs.attach(order.id).state != "interrupted":
                raise
            self.records[kind] = run()

    def _job_id(self, kind: str, number: int, config: Mapping[str, Any]) -> str:
        """Name a job by what goes into it; the first model is the same for every strategy."""
        arm = f"{self.strategy}-" if number else ""
        inputs = {"simulation": self.replay.name, "config": config, "labelled": self.labelled[: number + 1]}
        return work_id(f"{self.replay.name}-{arm}s{self.seed}-r{number}-{kind}"[-80:].lstrip("-."), inputs)


def _numbers(measured: metrics.Evaluation, train: Dataset) -> dict[str, Any]:
    """Give what a round's line says of the model and of its labels."""
    read, counts = measured.to_dict(), train.counts()
    images = train.annotations.groupby("label")["image"].nunique()
    per_label = {
        label: {**values, "n_images": int(images.get(label, 0)), "n_boxes": counts.get(label, 0)}
        for label, values in read["per_label"].items()
    }
    return {"ap50": read["ap50"], "ap": read["ap"], "per_label": per_label}
