"""The executor contract, the host's side of ``/out``: what an executor left, checked before use.

Everything there is hostile until checked. All faults of a result are collected and raised together;
a result with one fault is not used at all.

Source: YMIR 2.5.0, executor contract: result.yaml, result.tsv, infer-result.json.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import pandas as pd

from ymir_nb.backend.detections import Detections, image_of, read_infer
from ymir_nb.backend.errors import PreflightFailed
from ymir_nb.backend.outbox import Faults, Limits, Outbox
from ymir_nb.backend.training_results import TrainingResult, read_training, readable_stages
from ymir_nb.backend.untrusted import show, to_number

__all__ = [
    "Detections",
    "Limits",
    "MiningScores",
    "TrainingResult",
    "read_infer",
    "read_mining",
    "read_training",
    "readable_stages",
    "strays_of",
]

Strays = Literal["fail", "report"]


@dataclass(frozen=True)
class MiningScores:
    """What a miner found.

    Parameters
    ----------
    scores : DataFrame
        Columns image and score, best first; equal scores by image.
    notes : tuple of str
        Rows that were left out, and why.
    """

    scores: pd.DataFrame
    notes: tuple[str, ...] = ()


def strays_of(config: Mapping[str, Any]) -> Strays:
    """Give what a config says of images that a result leaves out, repeats or invents.

    Raises
    ------
    PreflightFailed
        It is neither ``fail`` nor ``report``.

    Examples
    --------
    >>> strays_of({})
    'fail'
    """
    asked = config.get("strays", "fail")
    if asked not in get_args(Strays):
        raise PreflightFailed(f"strays is {asked!r}; it is one of {', '.join(get_args(Strays))}.")
    return "report" if asked == "report" else "fail"


def read_mining(
    out_dir: Path, images: pd.DataFrame, *, strays: Strays = "fail", limits: Limits | None = None
) -> MiningScores:
    """Read and check ``result.tsv``: a score for every candidate.

    The rows are sorted here, whatever the executor did, so that a top k never depends on its order,
    and a row that names no candidate, or one that was named before, never takes a place in it.

    Parameters
    ----------
    out_dir : Path
        ``out`` of a job.
    images : DataFrame
        The candidates, columns of `tables.IMAGES`.
    strays : {"fail", "report"}, default "fail"
        Unknown, repeated and missing images are faults, or are left out and noted: some executors
        that work on several GPUs repeat rows. Of repeated rows the first counts.
    limits : Limits, optional
        How much may lie in ``/out``.

    Returns
    -------
    MiningScores

    Raises
    ------
    ProtocolViolated
        With every fault: the file is missing or no text, a score is not a finite number, some rows
        have a score and some have none, and what `strays` names.
    """
    outbox, faults = Outbox(out_dir, limits or Limits()), Faults("mining result")
    outbox.check_size(faults)
    text = outbox.read_text("result.tsv", faults, limit=outbox.limits.table_bytes)
    rows = _mining_rows(text or "", faults)
    known = set(images["image"])
    notes: list[str] = []
    stray = faults.add if strays == "fail" else notes.append
    kept: dict[str, float] = {}
    for name, score in rows:
        image = image_of(name)
        if image not in known:
            stray(f"result.tsv names {show(name)}, which is no candidate")
        elif image in kept:
            stray(f"result.tsv names image {image} more than once")
        else:
            kept[image] = score
    missing = sorted(known - kept.keys())
    if missing and text is not None:
        stray(f"result.tsv has no row for {len(missing)} of {len(known)} candidates, the first is {missing[0]}")
    faults.end()
    frame = pd.DataFrame(
        {"image": pd.Series(list(kept), dtype="str"), "score": pd.Series(list(kept.values()), dtype=float)}
    )
    ordered = frame.sort_values(["score", "image"], ascending=[False, True], ignore_index=True)
    return MiningScores(ordered, tuple(notes))


def _mining_rows(text: str, faults: Faults) -> list[tuple[str, float]]:
    """Split result.tsv into names and scores; where no row has a score, the order of lines decides."""
    lines = [line.rstrip("\r").rstrip("\t").split("\t") for line in text.split("\n") if line.strip()]
    widths = Counter(map(len, lines))
    for width in sorted(widths.keys() - {1, 2}):
        faults.add(f"result.tsv has {widths[width]} lines of {width} columns; it must be an image and a score")
    if widths[1] and widths[2]:
        faults.add(f"result.tsv gives a score in {widths[2]} lines and none in {widths[1]}")
    if not widths[2]:
        return [(line[0], (len(lines) - place) / len(lines)) for place, line in enumerate(lines)]
    rows = []
    for line in lines:
        if len(line) == 2:
            score = _parse_score(line[1])
            if score is None:
                faults.add(f"result.tsv gives {show(line[0])} the score {show(line[1])}, which is no finite number")
            rows.append((line[0], score or 0.0))
    return rows


def _parse_score(text: str) -> float | None:
    try:
        return to_number(float(text))
    except ValueError:
        return None
