"""Hybrid, the default: uncertain about rare labels, unlike each other, and a part left to chance."""

from __future__ import annotations

import hashlib

import numpy as np
import pandas as pd

from ymir_nb.backend.strategies.balance import presence
from ymir_nb.backend.strategies.evidence import Boxes, Evidence
from ymir_nb.backend.strategies.features import Features, Floats, Ints, Vectors
from ymir_nb.backend.strategies.ranking import EXPLORED, batch, draw, reasons, scored, top_sum
from ymir_nb.backend.strategies.spreading import farthest_first, nearest, unit
from ymir_nb.backend.strategies.uncertainty import TOP_BOXES, bits, name_boxes, say_boxes

POOL = 4
"""The batch is chosen among so many times its size. Source: PPAL's delta."""

WHOLE_IMAGE = 0.3
"""Weight of the whole image's vector beside those of its labels."""

MOST_DIMENSIONS = 1_024
PROJECTED = 512
"""Above the first number of dimensions the labels' vectors are folded into the second."""


def hybrid(evidence: Evidence, *, pool: int = POOL, explored: float = EXPLORED, top: int = TOP_BOXES) -> pd.DataFrame:
    """Choose images of which the model is unsure, rare labels first, that differ from all that is there.

    1. A box's uncertainty is the binary entropy of its score (of every label's, where they are known), weighed
       by 1 / sqrt(labelled boxes of the label + 1). An image has the sum of its three most uncertain boxes: a
       crowd gains nothing. The best four times the batch go on.
    2. Of these the batch is picked one by one, each the farthest by cosine from what is labelled and picked. An
       image is compared by the vectors of its labels, each weighed by score and rarity, and by a third of the
       vector of the whole. Without features it is compared by which labels it likely shows.
    3. A tenth of the batch is drawn at random from all images, those without detections too.

    Parameters
    ----------
    evidence : Evidence
        Of which `predictions` (or `class_scores`), `labelled_counts`, `features`, `labelled_features`, `k` and
        `seed` are looked at; all but the predictions may be missing, at the cost of what they are for.
    pool : int
        The batch is picked among so many times its size.
    explored : float
        Share of the batch in [0, 1] that is drawn at random.
    top : int
        Boxes of an image that count.

    Returns
    -------
    DataFrame
        Columns image, score, why; sorted by image. The chosen score from 2 down in their order, the others
        below 1, by uncertainty.

    Raises
    ------
    InvalidTable
        A prediction on these images has no score, or one outside [0, 1]; an image has no features.

    Examples
    --------
    >>> found = pd.DataFrame({"image": ["a"], "label": ["dog"], "score": [0.5]})
    >>> hybrid(Evidence(pd.DataFrame({"image": ["a"]}), found, k=1), explored=0.0)["why"].item()
    '1 uncertain box: dog 0.50; the most unlike what is labelled'

    Source: two stages, pool and class-conditioned similarity after PPAL (Yang et al., CVPR 2024); the weights by
    rarity stand for its difficulty weights, which need the training's own losses; k-center for its k-medoids.
    """
    names, boxes = evidence.names, evidence.boxes
    doubt = _weighted(evidence, boxes)
    value, tickets, drawn, uncertain = _first_stage(evidence, doubt, pool=pool, explored=explored, top=top)
    vectors, near = _compared(evidence, boxes, uncertain)
    picked, distance = farthest_first(vectors, near, min(evidence.k, len(names)) - len(drawn))
    chosen = _interleaved(uncertain[picked], drawn)
    # Those without any detection follow last, in the order of their tickets.
    score = batch(chosen, np.where(value > 0, value, 1e-9 * tickets))
    far = dict(zip(uncertain[picked].tolist(), distance.tolist(), strict=True))
    lots = set(drawn.tolist())

    def why(places: Ints) -> list[str]:
        held = places[np.isin(places, boxes.seen)]
        texts = dict(zip(held.tolist(), map(say_boxes, name_boxes(boxes, doubt, held, top=top)), strict=True))
        return [_reason(place, texts.get(place, "no detections"), far, lots) for place in places.tolist()]

    return scored(names, score, reasons(evidence, score, why, rest="less uncertain than those above"))


def hybrid_pool(evidence: Evidence) -> pd.Series:
    """Name the images among which `hybrid` will choose: the only ones that it needs vectors of.

    Parameters
    ----------
    evidence : Evidence
        As `hybrid`, without features.

    Returns
    -------
    Series of str
        About four times `k` names, sorted.
    """
    doubt = _weighted(evidence, evidence.boxes)
    *_, uncertain = _first_stage(evidence, doubt, pool=POOL, explored=EXPLORED, top=TOP_BOXES)
    return evidence.names.iloc[np.sort(uncertain)].reset_index(drop=True)


def _first_stage(
    evidence: Evidence, doubt: Floats, *, pool: int, explored: float, top: int
) -> tuple[Floats, Floats, Ints, Ints]:
    """Give each image's value and ticket, the places that are drawn, and those of the most uncertain."""
    names, boxes = evidence.names, evidence.boxes
    value = np.zeros(len(names))
    value[boxes.seen] = top_sum(doubt, boxes.starts, top)
    tickets = draw(names, seed=evidence.seed)
    k = min(evidence.k, len(names))
    drawn = np.lexsort((np.arange(len(names)), tickets))[: _quota(k, explored, evidence.seed)]
    return value, tickets, drawn, _best(value, tickets, pool * (k - len(drawn)), without=drawn)


def _reason(place: int, boxes: str, far: dict[int, float], drawn: set[int]) -> str:
    """Say which part of the strategy put an image where it is."""
    if place in drawn:
        return f"drawn at random to explore; {boxes}"
    if place in far:
        return (
            f"{boxes}; {'the most unlike' if far[place] >= 2 else f'{far[place]:.2f} away from'} what is labelled"
            + ("" if far[place] >= 2 else " or chosen")
        )
    return f"{boxes}; not chosen: less uncertain, or like a chosen one"


def _weighted(evidence: Evidence, boxes: Boxes) -> Floats:
    """Give each box's entropy in bits, weighed by the rarity of its labels."""
    weights = evidence.label_weights(boxes.labels)
    if boxes.chances is None:
        return bits(boxes.score) * (weights[boxes.label] if len(weights) else 1.0)
    total: Floats = bits(boxes.chances.astype(np.float64)) @ weights
    return total


def _quota(k: int, explored: float, seed: int) -> int:
    """Say how many of a batch are drawn: the whole part of the share, and one more by chance for the rest."""
    lot = draw(pd.Series(["exploration quota"]), seed=seed)[0]
    return min(k, int(explored * k + lot))


def _best(value: Floats, tickets: Floats, most: int, *, without: Ints) -> Ints:
    """Give the places of the highest values, the highest first; of equals the highest tickets."""
    left = np.ones(len(value), dtype=bool)
    left[without] = False
    places = np.flatnonzero(left)
    if 0 < most < len(places):
        border = np.partition(value[places], len(places) - most)[len(places) - most]
        places = places[value[places] >= border]
    return places[np.lexsort((places, -tickets[places], -value[places]))][:most]


def _compared(evidence: Evidence, boxes: Boxes, places: Ints) -> tuple[Vectors, Vectors]:
    """Give the vectors of some images, and their distances to what is labelled."""
    names = evidence.names.iloc[places].reset_index(drop=True)
    if evidence.features is None:
        return _composition(evidence, boxes, places), np.full(len(places), 2.0, dtype=np.float32)
    labelled = evidence.labelled_features
    known = set(evidence.features.rows["label"]) | (set(labelled.rows["label"]) if labelled else set())
    labels = sorted(known - {""})
    vectors = _described(evidence, evidence.features, names, labels)
    others = np.zeros((0, vectors.shape[1]), dtype=np.float32)
    if labelled is not None:
        others = _described(evidence, labelled, labelled.images, labels)
    return vectors, nearest(vectors, others)


def _composition(evidence: Evidence, boxes: Boxes, places: Ints) -> Vectors:
    """Describe images by the labels that they likely show, weighed by rarity, where there are no features."""
    starts, chance = presence(boxes)
    row = np.full(len(evidence.names), -1, dtype=np.int64)
    row[places] = np.arange(len(places))
    table = np.zeros((len(places), len(boxes.labels)), dtype=np.float32)
    at, label = row[boxes.place[starts]], boxes.label[starts]
    weights = evidence.label_weights(boxes.labels)
    table[at[at >= 0], label[at >= 0]] = (chance * weights[label])[at >= 0] if len(weights) else 0.0
    return unit(table)


def _described(evidence: Evidence, features: Features, names: pd.Series, labels: list[str]) -> Vectors:
    """Describe images by the vectors of their labels and of the whole, as one vector of length 1 each."""
    whole = unit(features.image_vectors(names)) * WHOLE_IMAGE
    rows, vectors = features.objects(names)
    number = pd.Index(labels).get_indexer(pd.Index(rows["label"])).astype(np.int64)
    weight = rows["score"].to_numpy() * evidence.label_weights(labels)[number] if len(rows) else np.zeros(0)
    weighed = unit(vectors) * weight[:, None].astype(np.float32)
    d, place = whole.shape[1], rows["place"].to_numpy()
    if (len(labels) + 1) * d <= MOST_DIMENSIONS:
        table = np.zeros((len(names), len(labels) + 1, d), dtype=np.float32)
        table[:, 0] = whole
        table[place, number + 1] = weighed
        return unit(table.reshape(len(names), (len(labels) + 1) * d))
    folded = whole @ _projection("", d)
    for each, label in enumerate(labels):
        mine = number == each
        folded[place[mine]] += weighed[mine] @ _projection(label, d)
    return unit(folded)


def _projection(label: str, d: int) -> Vectors:
    """Draw a label's own random map into `PROJECTED` dimensions, which keeps products about as they are."""
    seed = int.from_bytes(hashlib.blake2b(label.encode(), digest_size=8).digest())
    drawn: Vectors = np.random.default_rng(seed).standard_normal((d, PROJECTED), dtype=np.float32)
    return drawn / np.float32(np.sqrt(PROJECTED))


def _interleaved(picked: Ints, drawn: Ints) -> Ints:
    """Spread the drawn evenly among the picked, so that any top of the list has its share of them."""
    n = len(picked) + len(drawn)
    order: Ints = np.full(n, -1, dtype=np.int64)
    order[((np.arange(len(drawn)) + 0.5) * n / max(len(drawn), 1)).astype(np.int64)] = drawn
    order[order < 0] = picked
    return order
