"""Label review, held against the numbers of cleanlab 2.9 on drawn boxes (`objectlab_numbers.json`)."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ymir_nb.backend.dataset import Dataset
from ymir_nb.backend.errors import InvalidTable
from ymir_nb.backend.label_review import KINDS, review
from ymir_nb.backend.objectlab import score
from ymir_nb.backend.pairing import sides

A = "a" * 32
CASES = json.loads((Path(__file__).parent / "objectlab_numbers.json").read_text())
"""Made with cleanlab 2.9.0, `object_detection.rank`, from random boxes of three labels.

A row of truth: image, label, x1, y1, x2, y2, badly located, swapped. A row of found: image, label, x1, y1,
x2, y2, score, overlooked (null: not scored). `images` has `get_label_quality_scores`.
"""


def image(name, **more):
    base = {"file": name, "format": "PNG", "mode": "RGB", "width": 300, "height": 300, "n_bytes": 1, "labelled": True}
    return {"image": name, **base, **more}


def box(name, x1=0.0, y1=0.0, x2=40.0, y2=40.0, *, label="a", **more):
    return {"image": name, "label": label, "x1": x1, "y1": y1, "x2": x2, "y2": y2, **more}


def pair(truth, found, names=(A,)):
    images = [image(name) for name in names]
    return Dataset.of(images, truth, labels="abc"), Dataset.of(images, found, labels="abc")


def pair_of(case):
    names = [f"{i:032x}" for i in range(case["n_images"])]
    truth = [box(names[i], *four, label="abc"[label]) for i, label, *four, _, _ in case["truth"]]
    found = [box(names[i], *four, label="abc"[label], score=s) for i, label, *four, s, _ in case["found"]]
    return pair(truth, found, names)


def by_box(rows, column):
    """The library's numbers by box, as many as there are of the same box."""
    return sorted(
        ((f"{row[0]:032x}", "abc"[row[1]], *row[2:6]), math.nan if row[column] is None else row[column]) for row in rows
    )


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case['n_images']} images")
def test_scores_of_boxes_equal_those_of_cleanlab(case):
    truth, found = pair_of(case)
    scores = score(sides(truth, found), sure=0.95, likely=0.5)
    columns = ["image", "label", "x1", "y1", "x2", "y2"]
    for values, frame, rows, column in (
        (scores.overlooked[0], found.annotations, case["found"], 7),
        (scores.badly_placed[0], truth.annotations, case["truth"], 6),
        (scores.swapped[0], truth.annotations, case["truth"], 7),
    ):
        ours = sorted(zip(map(tuple, frame[columns].to_numpy()), values, strict=True))
        theirs = by_box(rows, column)
        assert [key for key, _ in ours] == [key for key, _ in theirs]
        got, wanted = (np.array([value for _, value in part]) for part in (ours, theirs))
        np.testing.assert_allclose(got, wanted, rtol=1e-9, atol=1e-15)
        assert (wanted < 1).sum() > 4


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case['n_images']} images")
def test_scores_of_images_equal_those_of_cleanlab(case):
    images = review(*pair_of(case)).images.sort_values("image")
    np.testing.assert_allclose(images["score"], case["images"], rtol=1e-6, atol=1e-9)
    assert images["score"].min() < 0.01


def test_more_pairs_than_fit_one_block_give_the_same_scores(monkeypatch):
    truth, found = pair_of(CASES[2])
    whole = review(truth, found)
    monkeypatch.setattr("ymir_nb.backend.pairing._PAIRS_AT_ONCE", 5)
    assert review(truth, found).boxes.equals(whole.boxes)


def test_the_queue_names_kind_box_suggestion_and_reason():
    names = [f"{i:032x}" for i in range(3)]
    truth = [
        box(names[0], 0, 0, 40, 40),
        box(names[0], 100, 100, 140, 140, label="b"),
        box(names[1], 0, 0, 40, 40),
        box(names[2], 0, 0, 40, 40),
    ]
    found = [
        box(names[0], 0, 0, 40, 40, score=0.99),
        box(names[0], 100, 100, 140, 140, label="c", score=0.98),
        box(names[0], 200, 200, 240, 240, score=0.97),
        box(names[1], 38, 38, 78, 78, score=0.9),
        box(names[2], 0, 0, 40, 40, score=0.99),
    ]
    result = review(*pair(truth, found, names))
    rows = result.boxes.set_index("kind")
    assert sorted(rows.index) == ["badly_placed", "overlooked", "swapped"]
    assert rows.loc["overlooked", ["image", "label", "suggestion", "new_x1"]].tolist() == [names[0], "", "a", 200.0]
    assert math.isnan(rows.loc["overlooked", "x1"])
    assert rows.loc["swapped", ["image", "label", "suggestion", "x1"]].tolist() == [names[0], "b", "c", 100.0]
    assert rows.loc["badly_placed", ["image", "label", "suggestion", "new_x1"]].tolist() == [names[1], "a", "a", 38.0]
    assert rows.loc["swapped", "why"] == "the model is sure that this is 'c' (score 0.98, IoU 1.00)"
    assert rows.loc["overlooked", "why"] == "the model is sure of 'a' here (score 0.97), and no label touches it"
    assert result.queue(kind="overlooked")["prediction_row"].tolist() == [rows.loc["overlooked", "prediction_row"]]
    assert len(result.queue(1)) == 1
    assert result.queue(issues=False).equals(result.boxes)
    assert result.images["image"].iloc[-1] == names[2]


def test_two_labels_in_one_place_suggest_each_other():
    truth = [box(A), box(A, label="b"), box(A, 100, 100, 140, 140)]
    result = review(*pair(truth, [box(A, 100, 100, 140, 140, score=0.9)]))
    swapped = result.boxes[result.boxes["kind"] == "swapped"]
    assert swapped[["label", "suggestion", "prediction_row"]].to_numpy().tolist() == [["a", "b", -1], ["b", "a", -1]]
    assert swapped["why"].iloc[0] == "a box labelled 'b' lies in the same place (IoU 1.00)"


def test_the_better_a_model_knows_a_label_the_more_of_its_words_are_issues():
    names = [f"{i:032x}" for i in range(4)]
    truth = [box(name) for name in names[:3]]
    found = [box(name, score=0.99) for name in names[:3]] + [box(names[3], score=0.98)]
    assert len(review(*pair(truth, found, names)).queue()) == 1
    blind = [box(names[3], score=0.98)]
    result = review(*pair(truth, blind, names))
    assert len(result.boxes) == 1
    assert result.queue().empty


def test_crowds_are_not_reviewed_and_what_lies_on_them_is_not_overlooked():
    truth, found = pair([box(A, 0, 0, 200, 200, crowd=True)], [box(A, 10, 10, 30, 30, label="b", score=0.99)])
    assert review(truth, found).boxes.empty


def test_a_crowd_changes_no_score_of_its_image():
    swapped, sure = box(A), box(A, label="b", score=0.99)
    crowd = box(A, 200, 200, 290, 290, crowd=True)
    alone, beside = (review(*pair(rows, [sure])).images for rows in ([swapped], [swapped, crowd]))
    assert alone["swapped"].item() == beside["swapped"].item() < 0.1


def test_a_box_that_is_only_a_little_off_is_listed_and_no_issue():
    names = [f"{i:032x}" for i in range(3)]
    found = [box(names[0], 0, 10, 40, 50, score=0.9), *(box(name, score=0.99) for name in names[1:])]
    boxes = review(*pair([box(name) for name in names], found, names)).boxes
    assert boxes[["image", "kind", "issue"]].to_numpy().tolist() == [[names[0], "badly_placed", False]]
    assert boxes["score"].item() == pytest.approx(0.9 * 0.6 + 0.1 * math.exp(-1))


def test_a_model_that_is_never_sure_is_told_of():
    truth, found = pair([box(A)], [box(A, 100, 100, 140, 140, score=0.8)])
    assert "the surest has 0.80: lower it" in repr(review(truth, found))
    assert review(truth, found).boxes.empty
    assert len(review(truth, found, sure=0.8).boxes) == 1


coordinates = st.integers(0, 6).map(lambda n: n * 12.0)
drawn = st.lists(
    st.tuples(
        st.integers(0, 2), st.sampled_from("abc"), coordinates, coordinates, coordinates, coordinates,
        st.sampled_from([0.2, 0.6, 0.95, 0.97, 1.0]), st.booleans(),
    ),
    max_size=12,
)  # fmt: skip


@settings(max_examples=40, deadline=None)
@given(objects=drawn, predicted=drawn)
def test_every_box_is_listed_at_most_once_a_kind_and_scores_lie_between_nothing_and_one(objects, predicted):
    names = [f"{i:032x}" for i in range(3)]
    truth = [box(names[i], x, y, x + w, y + h, label=k, crowd=c) for i, k, x, y, w, h, _, c in objects]
    found = [box(names[i], x, y, x + w, y + h, label=k, score=s) for i, k, x, y, w, h, s, _ in predicted]
    result = review(*pair(truth, found, names))
    assert result.boxes["score"].between(0, 1).all()
    assert result.images[["score", *KINDS]].stack().between(0, 1 + 1e-12).all()
    assert len(result.images) == 3
    assert not result.boxes.duplicated(["kind", "truth_row", "prediction_row"]).any()
    assert not result.boxes[result.boxes["truth_row"] >= 0].duplicated(["kind", "truth_row"]).any()
    assert result.boxes["score"].is_monotonic_increasing
    assert result.images["n_issues"].sum() == len(result.queue())


@pytest.mark.parametrize(("truth", "found"), [([], []), ([box(A)], []), ([], [box(A, score=0.99)])])
def test_what_is_empty_is_reviewed_all_the_same(truth, found):
    result = review(*pair(truth, found))
    assert len(result.images) == 1
    assert len(result.boxes) == len(found)
    assert review(Dataset.of(), Dataset.of()).images.empty


def test_what_cannot_be_reviewed_is_refused():
    truth, found = pair([box(A)], [])
    with pytest.raises(InvalidTable, match="scores in"):
        review(truth, found, sure=1.5)
    with pytest.raises(InvalidTable, match="overlooked, badly_placed, swapped"):
        review(truth, found).queue(kind="wrong")
    with pytest.raises(InvalidTable, match="no finite score"):
        review(truth, pair([], [box(A, score=math.inf)])[1])
