"""Marks, confusion, thresholds and calibration, held against evaluation and against loops that are plain to see."""

import dataclasses
import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ymir_nb.backend import boxes
from ymir_nb.backend.calibration import calibrate
from ymir_nb.backend.confusion import BACKGROUND, confuse
from ymir_nb.backend.dataset import Dataset
from ymir_nb.backend.diagnosis import diagnose
from ymir_nb.backend.errors import InvalidTable, LabelNotFound
from ymir_nb.backend.marks import MARKS, PREDICTION_CAUSES, mark
from ymir_nb.backend.metrics import evaluate
from ymir_nb.backend.operating_points import at_precision, at_recall, best_thresholds, over_range

A = "a" * 32
B = "b" * 32
CORNERS = ["x1", "y1", "x2", "y2"]
VOC100 = Path(__file__).resolve().parents[2] / "../shared/data/multiformat_voc100/database"


def image(name, **more):
    base = {"file": name, "format": "PNG", "mode": "RGB", "width": 600, "height": 600, "n_bytes": 1, "labelled": True}
    return {"image": name, **base, **more}


def box(name, x1=0.0, y1=0.0, x2=10.0, y2=10.0, *, label="dog", **more):
    return {"image": name, "label": label, "x1": x1, "y1": y1, "x2": x2, "y2": y2, **more}


def dataset(names, rows, *, labels=("dog", "cat")):
    return Dataset.of([image(name) for name in names], rows, labels=labels)


def marked(truth, found, **more):
    """Marks and causes as pairs, by side, in the order of the rows."""
    frame = mark(dataset([A], truth), dataset([A], found), **more).frame
    return {
        side: [(m, c) for m, c in zip(rows["mark"], rows["cause"], strict=True)]
        for side, rows in frame.groupby("side", observed=False)
    }


def test_each_box_is_marked_with_its_cause():
    truth = [
        box(A, 0, 0, 10, 10),
        box(A, 100, 0, 110, 10, label="cat"),
        box(A, 200, 0, 210, 10),
        box(A, 300, 0, 310, 10, label="cat"),
    ]
    found = [
        box(A, 0, 0, 10, 9, score=0.9),
        box(A, 0, 0, 10, 8, score=0.8),
        box(A, 100, 0, 110, 9, score=0.7),
        box(A, 200, 0, 210, 3, score=0.6),
        box(A, 300, 0, 310, 4, score=0.5),
        box(A, 400, 0, 410, 10, score=0.4),
        box(A, 400, 50, 410, 60, score=0.2),
    ]
    # Of these dogs each table is sorted by place.
    frame = mark(dataset([A], truth), dataset([A], found)).frame
    got = {(r.side, r.x): (r.mark, r.cause) for r in _with_place(frame, truth, found).itertuples()}
    assert got == {
        ("prediction", (0.0, 9.0)): ("true_positive", ""),
        ("prediction", (0.0, 8.0)): ("false_positive", "duplicate"),
        ("prediction", (100.0, 9.0)): ("false_positive", "wrong_label"),
        ("prediction", (200.0, 3.0)): ("false_positive", "poorly_placed"),
        ("prediction", (300.0, 4.0)): ("false_positive", "wrong_label_and_place"),
        ("prediction", (400.0, 10.0)): ("false_positive", "background"),
        ("prediction", (400.0, 60.0)): ("ignored", "low_score"),
        ("truth", (0.0, 10.0)): ("found", ""),
        ("truth", (100.0, 10.0)): ("missed", "wrong_label"),
        ("truth", (200.0, 10.0)): ("missed", "poorly_placed"),
        ("truth", (300.0, 10.0)): ("missed", "wrong_label_and_place"),
    }


def _with_place(frame, truth, found):
    tables = {"truth": dataset([A], truth).annotations, "prediction": dataset([A], found).annotations}
    place = [tuple(tables[r.side].loc[r.row, ["x1", "y2"]]) for r in frame.itertuples()]
    return frame.assign(x=place, side=frame["side"].astype(str))


@pytest.mark.parametrize(
    ("far", "cause"), [(5.0, "true_positive"), (4.99, "poorly_placed"), (1.0, "poorly_placed"), (0.99, "background")]
)
def test_the_thresholds_themselves_belong_to_the_better_side(far, cause):
    got = marked([box(A)], [box(A, 0, 0, 10, far, score=0.3)])["prediction"]
    assert cause in got[0]


def test_one_prediction_on_two_objects_finds_one_and_merges_the_other():
    got = marked([box(A, 0, 0, 10, 10), box(A, 4, 0, 14, 10)], [box(A, 2, 0, 12, 10, score=0.9)])
    assert got["truth"] == [("missed", "merged"), ("found", "")]


def test_predictions_on_a_crowd_are_ignored_and_what_they_touch_names_no_partner():
    frame = mark(
        dataset([A], [box(A, 0, 0, 100, 100, crowd=True), box(A, 0, 0, 10, 30)]),
        dataset([A], [box(A, 0, 0, 10, 10, score=0.9)]),
    ).frame
    assert frame["mark"].tolist() == ["ignored", "missed", "ignored"]
    assert frame["cause"].tolist() == ["crowd", "poorly_placed", "crowd"]
    assert frame["partner"].tolist() == [-1, 0, -1]


def test_case_27_boxes_on_images_that_nobody_labelled_are_not_compared():
    truth = Dataset.of([image(A), image(B, labelled=False)], [box(A)], labels=["dog"])
    found = dataset([A, B], [box(A, score=0.9), box(B, score=0.9), box(A, score=0.9, label="cat")])
    marks = mark(truth, found)
    assert marks.where(cause="not_compared")["row"].tolist() == [0, 2]
    assert marks.counts()[["label", "n_truth", "n_predictions"]].to_numpy().tolist() == [["dog", 1, 1]]


def random_pair(seed, *, n_images=12, n_labels=3, n_found=150, crowds=0.1, grid=1.0):
    rng = np.random.default_rng(seed)
    names, labels = [f"{i:032x}" for i in range(n_images)], tuple("abcdefgh"[:n_labels])

    def corners(n):
        near = np.round(rng.uniform(0, 60, (n, 2)) / grid) * grid
        return np.hstack([near, near + np.round(rng.uniform(0, 90, (n, 2)) / grid) * grid])

    n_truth = int(rng.integers(1, 5 * n_images))
    truth = pd.DataFrame(corners(n_truth), columns=CORNERS)
    truth["image"], truth["label"] = rng.choice(names, n_truth), rng.choice(labels, n_truth)
    truth["crowd"] = rng.random(n_truth) < crowds
    found = pd.DataFrame(corners(n_found), columns=CORNERS)
    found["image"], found["label"] = rng.choice(names, n_found), rng.choice(labels, n_found)
    copied = truth.iloc[rng.integers(0, n_truth, n_found)].reset_index(drop=True)
    near = rng.random(n_found) < 0.7
    found.loc[near, CORNERS] = (copied[CORNERS] + np.round(rng.normal(0, 4, (n_found, 4)) / grid) * grid)[near]
    found.loc[near, "image"] = copied.loc[near, "image"]
    same = near & (rng.random(n_found) < 0.8)
    found.loc[same, "label"] = copied.loc[same, "label"]
    found["score"] = np.round(rng.random(n_found) * 20) / 20
    return dataset(names, truth, labels=labels), dataset(names, found, labels=labels)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("iou", [0.5, 0.75])
def test_true_positives_are_those_of_the_evaluation(seed, iou):
    truth, found = random_pair(seed)
    marks, evaluation = mark(truth, found, iou=iou, min_score=0.0), evaluate(truth, found)
    for row in marks.counts().itertuples():
        curve = evaluation.pr_curve(row.label, iou)
        assert row.true_positive + row.false_positive == len(curve)
        assert row.true_positive == round(curve["recall"].iloc[-1] * row.n_truth)
        assert row.n_truth == evaluation.per_label.set_index("label")["n_truth"][row.label]


@pytest.mark.parametrize("seed", range(3))
def test_causes_equal_a_plain_loop_over_every_pair(seed):
    truth, found = random_pair(seed, n_images=4, crowds=0.0)
    marks = mark(truth, found, min_score=0.1)
    objects, predicted = truth.annotations, found.annotations
    for row in marks.where(side="prediction", mark="false_positive").itertuples():
        here = objects[objects["image"] == row.image]
        iou = boxes.iou(predicted.loc[[row.row], CORNERS].to_numpy(), here[CORNERS].to_numpy())[0]
        same = (here["label"] == row.label).to_numpy()
        own, other = iou[same].max(initial=0), iou[~same].max(initial=0)
        cause = next(
            name
            for name, holds in zip(
                PREDICTION_CAUSES, (own >= 0.5, other >= 0.5, own >= 0.1, other >= 0.1, True), strict=True
            )
            if holds
        )
        assert row.cause == cause
        expected = {"duplicate": own, "poorly_placed": own, "background": 0.0}.get(cause, other)
        assert row.iou == pytest.approx(expected)
        assert (row.partner == -1) == (cause == "background")


coordinates = st.integers(0, 8).map(lambda n: n * 8.0)
drawn = st.lists(
    st.tuples(
        st.integers(0, 2), st.sampled_from("ab"), coordinates, coordinates, coordinates, coordinates,
        st.sampled_from([0.2, 0.5, 0.5, 0.9, 1.0]), st.booleans(),
    ),
    max_size=20,
)  # fmt: skip


def drawn_pair(objects, found, n_images):
    names = [f"{i:032x}" for i in range(n_images)]

    def rows(values, *, scored):
        for i, label, x, y, width, height, score, crowd in values:
            more = {"score": score} if scored else {"crowd": crowd}
            yield box(names[i % n_images], x, y, x + width, y + height, label=label, **more)

    return (
        dataset(names, rows(objects, scored=False), labels=("a", "b")),
        dataset(names, rows(found, scored=True), labels=("a", "b")),
    )


@settings(max_examples=60, deadline=None)
@given(objects=drawn, found=drawn, n_images=st.integers(1, 3), min_score=st.sampled_from([0.0, 0.5]))
def test_every_box_is_counted_once_in_marks_and_in_the_matrix(objects, found, n_images, min_score):
    truth, predictions = drawn_pair(objects, found, n_images)
    marks = mark(truth, predictions, min_score=min_score)
    assert (marks.frame["side"] == "truth").sum() == truth.n_boxes
    assert (marks.frame["side"] == "prediction").sum() == predictions.n_boxes
    n = marks.frame["mark"].value_counts()
    assert n["true_positive"] == n["found"]
    counts = marks.counts()
    assert (counts["found"] + counts["missed"]).sum() == (~truth.annotations["crowd"]).sum()
    assert (counts[list(PREDICTION_CAUSES)].sum(axis=1) == counts["false_positive"]).all()
    assert n["true_positive"] + n["false_positive"] + (
        marks.frame.loc[marks.frame["side"] == "prediction", "mark"] == "ignored"
    ).sum() == len(found)
    paired = marks.where(mark="true_positive")
    assert sorted(paired["partner"]) == sorted(marks.where(mark="found")["row"])
    assert sorted(paired["row"]) == sorted(marks.where(mark="found")["partner"])

    matrix = confuse(truth, predictions, min_score=min_score)
    assert matrix.matrix.sum() == len(matrix.pairs)
    singles = truth.annotations.loc[~truth.annotations["crowd"], "label"].value_counts()
    assert matrix.matrix[:-1].sum(axis=1).tolist() == [singles.get(label, 0) for label in "ab"]
    assert matrix.matrix[:, :-1].sum() <= (predictions.annotations["score"] >= min_score).sum()
    assert matrix.matrix[-1, -1] == 0
    names = ["a", "b", None]
    for i, row in enumerate(names):
        for j, column in enumerate(names):
            assert len(matrix.cell(row, column)) == matrix.matrix[i, j]

    calibration = calibrate(truth, predictions)
    assert calibration.to_frame()["n"].sum() == calibration.per_label["n"].sum()


def test_confusion_counts_what_was_taken_for_what_and_names_the_boxes():
    truth = dataset([A, B], [box(A), box(A, 100, 0, 110, 10, label="cat"), box(B, 0, 0, 9, 9)])
    found = dataset(
        [A, B],
        [
            box(A, score=0.9),
            box(A, 100, 0, 110, 9, score=0.8),
            box(A, 200, 0, 210, 9, score=0.7, label="cat"),
            box(B, score=0.1),
        ],
    )
    confusion = confuse(truth, found)
    assert confusion.to_frame().to_numpy().tolist() == [[1, 0, 1], [1, 0, 0], [0, 1, 0]]
    cell = confusion.cell("cat", "dog")
    assert (cell["image"].item(), cell["iou"].item(), cell["score"].item()) == (A, pytest.approx(0.9), 0.8)
    assert truth.annotations.loc[cell["truth_row"].item(), "label"] == "cat"
    assert found.annotations.loc[cell["prediction_row"].item(), "x1"] == 100
    assert confusion.cell("dog", None)["image"].tolist() == [B]
    assert confusion.cell(BACKGROUND, "cat")["score"].tolist() == [0.7]
    assert confusion.mixed_up().to_numpy().tolist() == [["cat", "dog", 1]]
    with pytest.raises(LabelNotFound, match="'dog', 'cat'"):
        confusion.cell("zebra", None)


def test_predictions_on_a_crowd_of_their_label_are_in_no_cell():
    truth = dataset([A], [box(A, 0, 0, 100, 100, crowd=True)])
    found = dataset([A], [box(A, 5, 5, 15, 15, score=0.9), box(A, 5, 5, 15, 15, label="cat", score=0.9)])
    assert confuse(truth, found).matrix.tolist() == [[0, 0, 0], [0, 0, 0], [0, 1, 0]]


def test_of_equal_overlaps_a_prediction_takes_the_object_of_its_label():
    truth = [box(A, label="cat"), box(A, label="dog")]
    for label in ("cat", "dog"):
        confusion = confuse(dataset([A], truth), dataset([A], [box(A, label=label, score=0.9)]))
        assert len(confusion.cell(label, label)) == 1


def evaluation_of(scores_and_hits, n_truth):
    """An evaluation whose detections of `dog` are right or wrong as told."""
    truth = [box(A, 20 * i, 0, 20 * i + 10, 10) for i in range(n_truth)]
    found, at = [], 0
    for i, (score, hit) in enumerate(scores_and_hits):
        found.append(
            box(A, 20 * at, 0, 20 * at + 10, 10, score=score)
            if hit
            else box(A, 500, 50 + 20 * i, 509, 60 + 20 * i, score=score)
        )
        at += hit
    return evaluate(dataset([A], truth), dataset([A], found))


def test_the_best_threshold_has_the_highest_f1_and_takes_all_of_equal_scores():
    evaluation = evaluation_of([(0.9, True), (0.8, True), (0.8, False), (0.5, True), (0.4, False)], 4)
    row = best_thresholds(evaluation).iloc[0]
    assert row.to_dict() == {"label": "dog", "threshold": 0.5, "f1": 0.75, "precision": 0.75, "recall": 0.75}
    # At 0.8 both detections with that score are taken, so precision is 2/3 and not 1.
    row = at_precision(evaluation, 0.9).iloc[0]
    assert (row["threshold"], row["recall"]) == (0.9, 0.25)
    row = at_recall(evaluation, 0.5).iloc[0]
    assert (row["threshold"], row["precision"], row["recall"]) == (0.5, 0.75, 0.75)


def test_what_is_never_reached_counts_as_nothing_and_a_label_without_truth_as_unknown():
    evaluation = evaluation_of([(0.9, False), (0.8, True)], 2)
    row = at_precision(evaluation, 0.8).iloc[0]
    assert (math.isnan(row["threshold"]), row["recall"]) == (True, 0.0)
    row = at_recall(evaluation, 0.8).iloc[0]
    assert (math.isnan(row["threshold"]), row["precision"]) == (True, 0.0)
    for table in (
        at_precision(evaluation, 0.8),
        at_recall(evaluation, 0.8),
        best_thresholds(evaluation),
        over_range(evaluation),
    ):
        assert table["label"].tolist() == ["dog", "cat"]
        assert table.iloc[1, 1:].isna().all()
    wrong = best_thresholds(evaluation_of([(0.9, False)], 1)).iloc[0]
    assert (wrong["f1"], wrong["recall"], math.isnan(wrong["threshold"])) == (0.0, 0.0, True)


def test_averages_over_a_range_walk_every_hundredth():
    evaluation = evaluation_of([(0.9, True), (0.8, True), (0.7, True), (0.6, False), (0.5, True)], 4)
    # Recall is 0.75 at precisions above 0.8, and 1 at 0.8; precision is 0.8 at all recalls above 0.75.
    row = over_range(evaluation).iloc[0]
    assert row["recall_at_precision"] == pytest.approx((1 + 15 * 0.75) / 16)
    assert row["precision_at_recall"] == pytest.approx(0.8)
    with pytest.raises(InvalidTable, match="Swap low and high"):
        over_range(evaluation, low=0.9, high=0.8)
    with pytest.raises(InvalidTable, match="precision is 0"):
        at_precision(evaluation, 0.0)


def test_calibration_puts_a_score_of_one_in_the_last_bin_and_weighs_gaps_by_detections():
    truth = dataset([A], [box(A), box(A, 20, 0, 30, 10)])
    found = dataset([A], [box(A, score=1.0), box(A, 20, 0, 30, 10, score=0.95), box(A, 50, 0, 60, 10, score=0.15)])
    result = calibrate(truth, found)
    table = result.to_frame()
    assert table.loc[table["n"] > 0, ["low", "n", "precision"]].to_numpy().tolist() == [[0.1, 1, 0.0], [0.9, 2, 1.0]]
    assert result.ece == pytest.approx((0.15 + 2 * 0.025) / 3)
    assert result.per_label["n"].tolist() == [3, 0]
    assert math.isnan(result.per_label["ece"][1])
    assert calibrate(truth, found, n_bins=1).ece == pytest.approx(abs(2.1 / 3 - 2 / 3))


def test_scores_that_are_no_probabilities_are_refused():
    with pytest.raises(InvalidTable, match=r"1 scores lie outside \[0, 1\]"):
        calibrate(dataset([A], [box(A)]), dataset([A], [box(A, score=1.5)]))
    with pytest.raises(InvalidTable, match="at least one bin"):
        calibrate(dataset([A], []), dataset([A], []), n_bins=0)


@pytest.mark.parametrize("score", [math.nan, math.inf])
@pytest.mark.parametrize("look", [mark, confuse, calibrate, diagnose])
def test_case_20_scores_that_are_no_numbers_are_refused(score, look):
    found = dataset([A], [box(A, score=0.5), box(A, score=score)])
    with pytest.raises(InvalidTable, match="1 of their 2 objects have no finite score"):
        look(dataset([A], [box(A)]), found)
    with pytest.raises(InvalidTable, match="1 of its 1 objects have a score"):
        look(dataset([A], [box(A, score=0.5)]), dataset([A], []))
    with pytest.raises(InvalidTable, match="none of their 1 images"):
        look(dataset([A], []), dataset([B], []))


def test_thresholds_out_of_range_are_refused():
    pair = dataset([A], [box(A)]), dataset([A], [])
    for wrong in ({"iou": 0.0}, {"iou": 1.1}, {"background": 0.0}, {"background": 0.6}):
        with pytest.raises(InvalidTable, match="0 < background <= iou <= 1"):
            mark(*pair, **wrong)
    with pytest.raises(InvalidTable, match=r"IoU in \(0, 1\]"):
        confuse(*pair, iou=0)
    with pytest.raises(InvalidTable, match="it is one of true_positive"):
        mark(*pair).where(mark="TP")
    with pytest.raises(LabelNotFound, match="dog, cat"):
        mark(*pair).images(label="zebra")


@pytest.mark.parametrize(
    ("truth", "found"),
    [
        (Dataset.of(), Dataset.of()),
        (Dataset.of(labels=["dog"]), Dataset.of()),
        (dataset([A], []), dataset([A], [])),
        (dataset([A], [box(A)]), Dataset.of()),
        (dataset([A], []), dataset([A], [box(A, score=0.9)])),
        (dataset([A], [box(A, 5, 5, 5, 5)]), dataset([A], [box(A, 5, 5, 5, 5, score=0.9)])),
        (dataset([A], [box(A, 9, 9, 2, 2, crowd=True)]), dataset([A], [box(A, 9, 0, 2, 2, score=0.9)])),
    ],
    ids=["nothing", "no images", "no boxes", "no predictions", "no truth", "no area", "inverted"],
)
def test_what_is_empty_is_diagnosed_all_the_same(truth, found):
    result = diagnose(truth, found)
    json.dumps(result.to_dict(), allow_nan=False)
    assert result.to_frame()["label"].tolist() == list(truth.labels)
    assert "<Diagnosis" in repr(result)
    assert len(result.marks.frame) == truth.n_boxes + found.n_boxes
    assert result.marks.where(mark="true_positive").empty


def test_the_order_of_the_rows_plays_no_part_and_inputs_stay_as_they_are():
    truth, found = random_pair(3)
    before = found.annotations.copy()
    shuffled = Dataset.of(
        found.images.iloc[::-1], found.annotations.sample(frac=1, random_state=1), labels=found.labels
    )
    first, second = diagnose(truth, found), diagnose(truth, shuffled)
    pd.testing.assert_frame_equal(first.marks.frame, second.marks.frame)
    assert first.to_dict() == second.to_dict()
    pd.testing.assert_frame_equal(found.annotations, before)


def test_more_pairs_than_fit_one_block_give_the_same_marks(monkeypatch):
    truth, found = random_pair(4)
    whole = mark(truth, found).frame
    monkeypatch.setattr("ymir_nb.backend.pairing._PAIRS_AT_ONCE", 7)
    pd.testing.assert_frame_equal(mark(truth, found).frame, whole)


def test_marks_choose_images_for_the_browser():
    truth = dataset([A, B], [box(A), box(B)])
    marks = mark(truth, dataset([A, B], [box(A, score=0.9), box(B, 50, 50, 60, 60, score=0.9)]))
    assert marks.images(mark="missed") == [B]
    assert marks.images(mark="missed", label="cat") == []
    assert marks.images(cause="background", side="prediction") == [B]
    assert set(marks.frame["mark"].cat.categories) == set(MARKS)
    assert repr(marks) == "<Marks at IoU 0.5, score 0.3: 1 true positives, 1 false positives, 1 missed>"


def test_a_diagnosis_says_what_costs_most_and_escapes_labels():
    label = "<img src=x>"
    truth = dataset([A], [box(A, label=label), box(A, 50, 0, 60, 10, label="dog")], labels=("dog", label))
    found = dataset([A], [box(A, label="dog", score=0.9)], labels=("dog", label))
    result = diagnose(truth, found)
    assert result.findings() == [
        "2 of 2 objects are missed.",
        "1 of 1 predictions are wrong: 1 wrong label.",
        f"Labels taken for another, most often: {label!r} for 'dog' (1) (truth first).",
        "Scores are too high by 0.90 on average: read them as ranks.",
    ]
    assert "<img" not in result._repr_html_()
    assert "<img" not in result.confusion._repr_html_()


def test_real_photographs_are_diagnosed_and_add_up():
    if not VOC100.exists():
        pytest.skip(f"the dataset is not at {VOC100}")
    listing = json.loads((VOC100 / "gts/coco_format_v2/instances_v2.json").read_text())
    label_of = {entry["id"]: entry["name"] for entry in listing["categories"]}
    name_of = {entry["id"]: Path(entry["file_name"]).stem for entry in listing["images"]}
    truth = [
        box(name_of[e["image_id"]], *boxes.from_xywh(e["bbox"])[0], label=label_of[e["category_id"]])
        for e in listing["annotations"]
    ]
    labels = (VOC100 / "voc.names").read_text().split()
    found = []
    for path in sorted((VOC100 / "dets" / "abs_xyx2y2").glob("*.txt")):
        for line in path.read_text().splitlines():
            label, score, *four = map(float, line.split())
            found.append(box(path.stem, *four, label=labels[int(label)], score=score))
    pair = (
        dataset(sorted(name_of.values()), truth, labels=labels),
        dataset(sorted(name_of.values()), found, labels=labels),
    )
    result = diagnose(*pair, min_score=0.0)
    counts = result.marks.counts()
    assert counts["found"].sum() == counts["true_positive"].sum() > 50
    assert counts["n_truth"].sum() == len(truth)
    assert counts["n_predictions"].sum() == len(found)
    assert result.confusion.matrix[:-1].sum() == len(truth)
    assert result.confusion.matrix[:, :-1].sum() == len(found)
    for row in counts.itertuples():
        curve = result.evaluation.pr_curve(row.label, 0.5)
        if row.n_truth:
            assert row.true_positive == round(curve["recall"].max() * row.n_truth if len(curve) else 0)
    assert dataclasses.is_dataclass(result)
