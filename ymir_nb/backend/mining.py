"""Mining: from an unlabelled pool to the images worth labelling, ranked, with the reason for each."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from ymir_nb.backend import ops
from ymir_nb.backend.dataset import Dataset
from ymir_nb.backend.errors import ProjectError
from ymir_nb.backend.inference import run_inference
from ymir_nb.backend.jobs import Watch
from ymir_nb.backend.strategies import STRATEGIES, Evidence, select
from ymir_nb.backend.workspace import Workspace

BOARD = "leaderboard.parquet"
BY_EXECUTOR = "executor"


@dataclass(frozen=True)
class Mined:
    """What was mined.

    Parameters
    ----------
    board : DataFrame
        Every pool image, best first: columns rank, image, score, why. The first rows are `dataset`.
    dataset : Dataset
        The chosen images, saved.
    predictions : Dataset
        The model's predictions on the whole pool: the proposals.
    """

    board: pd.DataFrame
    dataset: Dataset
    predictions: Dataset


def mine(
    workspace: Workspace,
    pool: str,
    *,
    name: str,
    model: str,
    strategy: str = "entropy",
    k: int = 20,
    seed: int = 0,
    executor: str | None = None,
    parameters: Mapping[str, Mapping[str, Any]] | None = None,
    watch: Watch = None,
) -> Mined:
    """Rank a pool and save the k best images as a dataset version.

    Parameters
    ----------
    workspace : Workspace
        Where everything is.
    pool : str
        Reference of the images to choose from; take train, val and earlier batches out first.
    name : str
        Name of the dataset to save.
    model : str
        Reference of the model whose predictions are looked at.
    strategy : str
        A key of `strategies.STRATEGIES`, or ``executor`` for the executor's own mining.
    k : int
        Images to choose; all, where the pool is smaller.
    seed : int
        Of what a strategy leaves to chance.
    executor : str, optional
        Who infers; by default the one that trained the model.
    parameters : mapping, optional
        Executor parameters under ``infer`` and ``mining``.
    watch : callable, optional
        Gets the share done and a few words.

    Returns
    -------
    Mined

    Raises
    ------
    ProjectError
        An unknown strategy, or k below 1.
    PreflightFailed, JobFailed, ProtocolViolated
        As `inference.run_inference`.
    """
    known = [*STRATEGIES, BY_EXECUTOR]
    if strategy not in known:
        raise ProjectError(f"there is no strategy {strategy!r}; there is {', '.join(known)}.")
    if k < 1:
        raise ProjectError(f"k is {k}; it must be a whole number from 1.")
    by_executor = strategy == BY_EXECUTOR
    done = run_inference(
        workspace, pool, model, mining=by_executor, executor=executor, parameters=parameters, watch=watch
    )
    images = done.predictions.images
    if done.scores is not None:
        scored = done.scores.assign(why="scored by the executor")
    else:
        scored = STRATEGIES[strategy](Evidence(images, done.predictions.annotations, k=k, seed=seed))
    board = select(scored, len(scored))
    source = workspace.dataset(pool)
    chosen = ops.take(source, board["image"][:k])
    saved = workspace.save(
        chosen,
        name,
        operation="mine",
        parameters={"strategy": strategy, "k": k, "seed": seed},
        parents=[source.ref, f"predictions/{done.predictions.ref}"],
        extra={BOARD: _to_bytes(board)},
    )
    return Mined(board, saved, done.predictions)


def read_mined(workspace: Workspace, mined: str, predictions: str) -> Mined:
    """Read what was mined before.

    Parameters
    ----------
    workspace : Workspace
        Where it is.
    mined : str
        Reference of the chosen images.
    predictions : str
        Reference of the predictions on the pool.
    """
    version = workspace.version(mined)
    board = pq.read_table(io.BytesIO(workspace.store.read(version, BOARD))).to_pandas()
    return Mined(board, workspace.dataset(mined), workspace.predictions(predictions))


def _to_bytes(board: pd.DataFrame) -> bytes:
    """Write a board as Parquet without pandas' own metadata, so that equal boards have equal bytes."""
    arrow = pa.table({name: board[name].to_numpy() for name in ("rank", "image", "score", "why")})
    sink = io.BytesIO()
    pq.write_table(arrow, sink, compression="zstd")
    return sink.getvalue()
