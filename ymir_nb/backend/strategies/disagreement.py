"""Disagreement: of a model's faint boxes with its sure ones, and of the models of several rounds."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd

from ymir_nb.backend.strategies.evidence import Boxes, Evidence, boxes_on
from ymir_nb.backend.strategies.features import Floats, Ints
from ymir_nb.backend.strategies.pairs import best_overlap
from ymir_nb.backend.strategies.ranking import top_sum, with_unseen
from ymir_nb.backend.strategies.uncertainty import TOP_BOXES, bits, name_boxes

SURE, FAINT = 0.5, 0.3
"""A box from 0.5 on is an object; one below 0.3 would not be shown, and may be an object missed."""

APART_IOU, SAME_IOU = 0.3, 0.5
"""A faint box that overlaps a sure one more than 0.3 belongs to it; two models' boxes are one from 0.5 on."""


def missed_objects(evidence: Evidence) -> pd.DataFrame:
    """Prefer images on which objects may have been missed: faint boxes where no sure one is.

    A box counts when its score is from 0.05 to below 0.3 and it overlaps no box of 0.5 or more, of any label,
    by more than 0.3. An image scores the sum of the three best scores of such boxes, in [0, 0.9]. Images
    without detections take part as in `entropy`.

    Parameters
    ----------
    evidence : Evidence
        Of which `predictions` and `seed` are looked at.

    Returns
    -------
    DataFrame
        Columns image, score, why; sorted by image.
    """
    boxes = evidence.placed_boxes
    sure = _rows(boxes, boxes.score >= SURE)
    faint = np.flatnonzero(boxes.score < FAINT)
    _, iou = best_overlap(_rows(boxes, boxes.score < FAINT), sure, same_label=False)
    counted = np.zeros(len(boxes.place))
    lonely = faint[iou <= APART_IOU]
    counted[lonely] = boxes.score[lonely]
    value = top_sum(counted, boxes.starts, TOP_BOXES)
    missed = _rows(boxes, counted > 0)

    def why(places: Ints) -> list[str]:
        told = dict.fromkeys(places.tolist(), "every faint box lies on a sure one, or there is none")
        held = places[np.isin(places, missed.seen)]
        for place, texts in zip(held.tolist(), name_boxes(missed, missed.score, held), strict=True):
            told[place] = f"may have been missed: {', '.join(texts)}"
        return [told[place] for place in places.tolist()]

    return with_unseen(evidence, boxes, value, why)


def committee(evidence: Evidence) -> pd.DataFrame:
    """Prefer images on which the models of several rounds disagree.

    Every box is looked up in the other models' boxes of its label (IoU from 0.5 on); a model without it votes
    0. The disagreement is the entropy of the mean vote less the mean entropy of the votes, in bits: 0 where
    all say the same, however unsure they are. An image scores the sum over its three most disputed boxes. Boxes
    that only an earlier model sees count too. Images that no model sees anything on take part as in `entropy`.

    Parameters
    ----------
    evidence : Evidence
        Of which `predictions`, `committee` and `seed` are looked at.

    Returns
    -------
    DataFrame
        Columns image, score in bits, why; sorted by image.

    Raises
    ------
    ProjectError
        There are no predictions of earlier models.

    Source: query by committee (Seung et al., 1992) with the Jensen-Shannon disagreement of McCallum and
    Nigam, 1998; that the members are a model's own past is a choice made here, which costs no training.
    """
    earlier = evidence.need("committee", lambda e: e.committee or None)
    members = [evidence.placed_boxes, *(boxes_on(evidence.names, frame, corners=True) for frame in earlier)]
    members = _common_labels(members)
    stacked, votes = [], []
    for i, member in enumerate(members):
        said = np.zeros((len(member.place), len(members)))
        for j, other in enumerate(members):
            row, iou = best_overlap(member, other, same_label=True) if j != i else (np.arange(len(member.place)), 1.0)
            agreed = (row >= 0) & (np.asarray(iou) >= SAME_IOU)
            said[agreed, j] = other.score[row[agreed]]
        # A box that an earlier member has too was counted there.
        new = (said[:, :i] == 0).all(axis=1)
        stacked.append(_rows(member, new))
        votes.append(said[new])
    boxes, said = _joined(stacked, np.concatenate(votes))
    dispute = np.maximum(bits(said.mean(axis=1)) - bits(said).mean(axis=1), 0.0)
    value = top_sum(dispute, boxes.starts, TOP_BOXES)

    def why(places: Ints) -> list[str]:
        return [
            f"{len(members)} models disagree most on {', '.join(texts)}" for texts in name_boxes(boxes, dispute, places)
        ]

    return with_unseen(evidence, boxes, value, why)


def _rows(boxes: Boxes, mask: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> Boxes:
    """Keep some boxes; their order stays."""
    corners = None if boxes.corners is None else boxes.corners[mask]
    return Boxes(boxes.place[mask], boxes.label[mask], boxes.score[mask], boxes.labels, None, corners)


def _common_labels(members: list[Boxes]) -> list[Boxes]:
    """Number the labels of all members alike."""
    labels = tuple(sorted({label for member in members for label in member.labels}))
    numbers = {label: number for number, label in enumerate(labels)}
    return [
        replace(m, label=np.array([numbers[label] for label in m.labels], dtype=np.int64)[m.label], labels=labels)
        for m in members
    ]


def _joined(parts: list[Boxes], votes: Floats) -> tuple[Boxes, Floats]:
    """Put the boxes of all members into one, by image."""
    place, label, score = (np.concatenate([getattr(p, name) for p in parts]) for name in ("place", "label", "score"))
    order = np.lexsort((*votes.T, -score, label, place))
    return Boxes(place[order], label[order], score[order], parts[0].labels), votes[order]
