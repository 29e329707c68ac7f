"""Mining: from an unlabelled pool to the images worth labelling, ranked, with the reason for each."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from ymir_nb.backend import embeddings, ops
from ymir_nb.backend.dataset import Dataset
from ymir_nb.backend.errors import ProjectError
from ymir_nb.backend.executors import Executor, ExecutorBook
from ymir_nb.backend.inference import Inference, read_inference, run_inference
from ymir_nb.backend.jobs import Watch
from ymir_nb.backend.models import open_model
from ymir_nb.backend.strategies import (
    ALGORITHMS,
    BUDGETS,
    DEFAULT,
    NEEDS,
    STRATEGIES,
    Evidence,
    affordable,
    expected_boxes,
    group_duplicates,
    hybrid_pool,
    select,
)
from ymir_nb.backend.workspace import Workspace

BOARD = "leaderboard.parquet"
BY_EXECUTOR = "executor"
HEAD = 10
"""Near-duplicates are looked for among so many times the images wanted, and `LEAST_HEAD` at least."""
LEAST_HEAD = 500


@dataclass(frozen=True)
class Mined:
    """What was mined.

    Parameters
    ----------
    board : DataFrame
        Every pool image, best first: columns rank, image, score, why, group (the image that it is a
        near-duplicate of, or empty). The first rows are `dataset`; near-duplicates come last.
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
    strategy: str = DEFAULT,
    k: int = 20,
    budget: str = "images",
    seed: int = 0,
    train: str = "",
    committee: Sequence[str] = (),
    executor: str | None = None,
    parameters: Mapping[str, Mapping[str, Any]] | None = None,
    watch: Watch = None,
) -> Mined:
    """Rank a pool and save the best images as a dataset version.

    Of near-duplicates only one is chosen, whatever the strategy says of the others; `random`, the control,
    is left as it is.

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
        Images to choose, or boxes to be drawn; all, where the pool is smaller.
    budget : {'images', 'boxes'}
        What k counts. A crowd costs as many boxes as the model expects there.
    seed : int
        Of what a strategy leaves to chance.
    train : str
        Reference of what is labelled so far: its counts say which labels are rare, and its images are what
        new ones are compared with. Without it `hybrid` knows neither.
    committee : sequence of str
        References of predictions of earlier models on these images, for the strategy of that name.
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
        An unknown strategy or budget, k below 1, or the strategy needs what is not there.
    PreflightFailed, JobFailed, ProtocolViolated
        As `inference.run_inference`.
    """
    _check(strategy, k, budget)
    chosen = ExecutorBook(workspace.store).get(executor or str(open_model(workspace, model).card["executor"]))
    asked = _asked(chosen, strategy, parameters or {})
    by_executor = strategy == BY_EXECUTOR or strategy in ALGORITHMS
    sees = bool(asked["infer"].get("features"))
    done = run_inference(
        workspace,
        pool,
        model,
        mining=by_executor,
        context=train if sees and "features" in NEEDS.get(strategy, ()) else "",
        executor=executor,
        parameters=asked,
        watch=watch,
    )
    evidence = _evidence(workspace, done, train=train, committee=committee, k=k, seed=seed)
    n_boxes = expected_boxes(evidence.images, evidence.predictions) if budget == "boxes" else None
    n_wanted = k if n_boxes is None else max(1, math.ceil(k / float(n_boxes.mean())))
    evidence = _embedded(workspace, replace(evidence, k=n_wanted), strategy, train=train)
    scored = _scored(strategy, evidence, done)
    board = _grouped(select(scored, len(scored)), workspace.dataset(pool), evidence, strategy)
    n = affordable(board["image"], k, budget=budget, n_boxes=n_boxes)
    source = workspace.dataset(pool)
    saved = workspace.save(
        ops.take(source, board["image"][:n]),
        name,
        operation="mine",
        parameters={"strategy": strategy, "k": k, "seed": seed} | ({"budget": budget} if budget != "images" else {}),
        parents=[source.ref, f"predictions/{done.predictions.ref}"],
        extra={BOARD: _to_bytes(board)},
    )
    return Mined(board, saved, done.predictions)


def gather(
    workspace: Workspace,
    predictions: str,
    *,
    train: str = "",
    committee: Sequence[str] = (),
    k: int = 20,
    seed: int = 0,
) -> Evidence:
    """Give all that strategies may look at, of predictions that were made: to compare strategies on them.

    Parameters
    ----------
    workspace : Workspace
        Where everything is.
    predictions : str
        Reference, such as ``pool.helmets@v1``. Vectors are there when they were made for mining with a strategy
        that looks at them.
    train, committee, k, seed
        As `mine`.

    Returns
    -------
    Evidence
        For `strategies.compare_strategies`, and for any strategy.
    """
    done = read_inference(workspace, predictions)
    return _evidence(workspace, done, train=train, committee=committee, k=k, seed=seed)


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


def _check(strategy: str, k: int, budget: str) -> None:
    known = [*STRATEGIES, BY_EXECUTOR]
    if strategy not in known:
        raise ProjectError(f"there is no strategy {strategy!r}; there is {', '.join(known)}.")
    if k < 1:
        raise ProjectError(f"k is {k}; it must be a whole number from 1.")
    if budget not in BUDGETS:
        raise ProjectError(f"there is no budget in {budget!r}; there is one in {' or in '.join(BUDGETS)}.")


def _asked(executor: Executor, strategy: str, parameters: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Give the executor's parameters with what the strategy needs of it."""
    asked = {kind: dict(parameters.get(kind, {})) for kind in ("infer", "mining")}
    if "features" in NEEDS.get(strategy, ()) and "features" in executor.templates.get("infer", {}):
        asked["infer"].setdefault("features", True)
    if strategy in ALGORITHMS:
        asked["mining"]["mining_algorithm"] = ALGORITHMS[strategy]
    return asked


def _evidence(
    workspace: Workspace, done: Inference, *, train: str, committee: Sequence[str], k: int, seed: int
) -> Evidence:
    """Gather what strategies may look at."""
    return Evidence(
        done.predictions.images,
        done.predictions.annotations,
        labelled_counts=workspace.dataset(train).counts() if train else None,
        features=done.features,
        labelled_features=done.context_features,
        class_scores=done.class_scores,
        executor_scores=done.scores,
        committee=[workspace.predictions(ref).annotations for ref in committee] or None,
        k=k,
        seed=seed,
    )


def _embedded(workspace: Workspace, evidence: Evidence, strategy: str, *, train: str) -> Evidence:
    """Let a pretrained network see the images where the executor gave no features; `hybrid` needs few of them."""
    wanted = "features" in NEEDS.get(strategy, ()) and evidence.features is None
    if not wanted or not embeddings.has_backbone():
        return evidence
    names = hybrid_pool(evidence) if strategy == "hybrid" else evidence.names
    images = evidence.images[evidence.images["image"].isin(names)].reset_index(drop=True)
    features = embeddings.embed(workspace.root, Dataset.of(images, media=workspace.media))
    labelled = embeddings.embed(workspace.root, workspace.dataset(train)) if train else None
    return replace(evidence, features=features, labelled_features=labelled)


def _scored(strategy: str, evidence: Evidence, done: Inference) -> pd.DataFrame:
    """Ask the strategy."""
    if strategy == BY_EXECUTOR and done.scores is not None:
        return done.scores.assign(why="scored by the executor")
    return STRATEGIES[strategy](evidence)


def _grouped(board: pd.DataFrame, pool: Dataset, evidence: Evidence, strategy: str) -> pd.DataFrame:
    """Group near-duplicates at the head of the board, by vectors or, without these, by perceptual hashes."""
    if strategy == "random":
        return board.assign(group="")
    head = min(len(board), max(HEAD * evidence.k, LEAST_HEAD))
    if evidence.features is not None and board["image"].head(head).isin(evidence.features.images).all():
        return group_duplicates(board, features=evidence.features, head=head)
    hashes = embeddings.perceptual_hashes(pool, board["image"].head(head).tolist())
    return group_duplicates(board, hashes=hashes, head=head)


def _to_bytes(board: pd.DataFrame) -> bytes:
    """Write a board as Parquet without pandas' own metadata, so that equal boards have equal bytes."""
    arrow = pa.table({name: board[name].to_numpy() for name in ("rank", "image", "score", "why", "group")})
    sink = io.BytesIO()
    pq.write_table(arrow, sink, compression="zstd")
    return sink.getvalue()
