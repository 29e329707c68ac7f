"""Evaluation, held against pycocotools on drawn and on real data."""

import contextlib
import dataclasses
import io
import json
import math
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from ymir_nb.backend.boxes import from_xywh, to_xywh
from ymir_nb.backend.dataset import Dataset
from ymir_nb.backend.errors import InvalidTable, LabelNotFound
from ymir_nb.backend.iou_sweep import sweep
from ymir_nb.backend.metrics import evaluate
from ymir_nb.backend.ordering import by_falling_score, stable_order
from ymir_nb.backend.precision import RECALLS

CORNERS = ["x1", "y1", "x2", "y2"]
VOC100 = Path(__file__).resolve().parents[2] / "../shared/data/multiformat_voc100/database"


def image(name, *, labelled=True):
    return {
        "image": name,
        "file": f"{name}.png",
        "format": "PNG",
        "mode": "RGB",
        "width": 600,
        "height": 600,
        "n_bytes": 1,
        "labelled": labelled,
    }


def box(name, x1=0.0, y1=0.0, x2=10.0, y2=10.0, *, label="dog", **more):
    return {"image": name, "label": label, "x1": x1, "y1": y1, "x2": x2, "y2": y2, **more}


def dataset(names, boxes, *, labels=("dog",)):
    return Dataset.of([image(name) for name in names], boxes, labels=labels)


def coco_evaluation(truth, predictions, *, ious=None, limits=None):
    """Run pycocotools on the labelled images of the same tables."""
    images = truth.images.loc[truth.images["labelled"], "image"].tolist()
    image_id = {name: i for i, name in enumerate(images, start=1)}
    label_id = {label: i for i, label in enumerate(truth.labels, start=1)}

    def rows(frame):
        frame = frame[frame["image"].isin(images) & frame["label"].isin(truth.labels)]
        for row, bbox in zip(frame.itertuples(), to_xywh(frame[CORNERS].to_numpy()).tolist(), strict=True):
            yield row, {"image_id": image_id[row.image], "category_id": label_id[row.label], "bbox": bbox}

    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        coco = COCO()
        coco.dataset = {
            "info": {},
            "images": [{"id": i} for i in image_id.values()],
            "categories": [{"id": i, "name": name} for name, i in label_id.items()],
            "annotations": [
                entry
                | {
                    "id": i,
                    "iscrowd": int(row.crowd),
                    "area": entry["bbox"][2] * entry["bbox"][3] if math.isnan(row.area_px) else row.area_px,
                }
                for i, (row, entry) in enumerate(rows(truth.annotations), start=1)
            ],
        }
        coco.createIndex()
        found = [entry | {"score": row.score} for row, entry in rows(predictions.annotations)]
        if found:
            results = coco.loadRes(found)
        else:  # loadRes fails on an empty list
            results = COCO()
            results.dataset = coco.dataset | {"annotations": []}
            results.createIndex()
        evaluation = COCOeval(coco, results, "bbox")
        evaluation.params.iouThrs = evaluation.params.iouThrs if ious is None else np.array(ious)
        evaluation.params.maxDets = limits or evaluation.params.maxDets
        evaluation.evaluate()
        evaluation.accumulate()
        if ious is None:
            evaluation.summarize()
    return evaluation


def assert_equals_pycocotools(truth, predictions):
    ours, theirs = evaluate(truth, predictions), coco_evaluation(truth, predictions)
    values = ours.to_frame()["value"].fillna(-1.0).to_numpy()
    np.testing.assert_allclose(values, theirs.stats, rtol=0, atol=1e-9)
    precision = theirs.eval["precision"][:, :, :, 0, 2]
    for k, row in enumerate(ours.per_label.itertuples()):
        ap = precision[:, :, k].mean()
        assert math.isnan(row.ap) if ap == -1 else row.ap == pytest.approx(ap, abs=1e-9)
        assert math.isnan(row.ap50) if ap == -1 else row.ap50 == pytest.approx(precision[0, :, k].mean(), abs=1e-9)
        if ap != -1:
            curve = ours.pr_curve(row.label, 0.75)
            at_recalls = [curve["precision"][curve["recall"] >= r].max() for r in RECALLS]
            np.testing.assert_allclose(np.nan_to_num(at_recalls), precision[5, :, k], rtol=0, atol=1e-9)
    return ours


def random_pair(seed, *, n_images=12, n_labels=3, n_found=150, grid=1.0, side=120, crowds=0.15, scores=20):
    """Draw truth with crowds and given areas, and predictions of which many lie near the truth."""
    rng = np.random.default_rng(seed)
    names = [f"{i:032x}" for i in range(n_images)]
    labels = tuple("abcdefgh"[:n_labels])

    def corners(n):
        near = np.round(rng.uniform(0, 60, (n, 2)) / grid) * grid
        return np.hstack([near, near + np.round(rng.uniform(0, side, (n, 2)) / grid) * grid])

    n_truth = int(rng.integers(1, 5 * n_images))
    truth = pd.DataFrame(corners(n_truth), columns=CORNERS)
    truth["image"] = rng.choice(names[: max(1, n_images - 2)], n_truth)
    truth["label"] = rng.choice(labels, n_truth)
    truth["crowd"] = rng.random(n_truth) < crowds
    truth["area_px"] = np.where(rng.random(n_truth) < 0.3, rng.uniform(0, 12000, n_truth), np.nan)
    found = pd.DataFrame(corners(n_found), columns=CORNERS)
    found["image"] = rng.choice(names, n_found)
    found["label"] = rng.choice(labels, n_found)
    copied = truth.iloc[rng.integers(0, n_truth, n_found)].reset_index(drop=True)
    near = rng.random(n_found) < 0.7
    moved = copied[CORNERS] + np.round(rng.normal(0, 4, (n_found, 4)) / grid) * grid
    found.loc[near, CORNERS] = moved[near]
    found.loc[near, ["image", "label"]] = copied.loc[near, ["image", "label"]]
    found["score"] = np.round(rng.random(n_found) * scores) / scores
    return dataset(names, truth, labels=labels), dataset(names, found, labels=labels)


def test_a_perfect_prediction_scores_one():
    name = "a" * 32
    result = evaluate(dataset([name], [box(name)]), dataset([name], [box(name, score=0.9)]))
    assert [result.ap, result.ap50, result.ap75, result.ap_small, result.ar_1] == pytest.approx([1.0] * 5)
    assert math.isnan(result.ap_large)


@pytest.mark.parametrize("seed", range(12))
def test_the_twelve_numbers_equal_pycocotools_on_random_boxes_with_crowds_and_tied_scores(seed):
    truth, predictions = random_pair(seed)
    assert 0 < assert_equals_pycocotools(truth, predictions).ap50 < 1


@pytest.mark.parametrize("seed", range(4))
def test_the_twelve_numbers_equal_pycocotools_on_coordinates_that_are_no_whole_numbers(seed):
    assert_equals_pycocotools(*random_pair(seed, grid=0.1, scores=1e6))


@pytest.mark.parametrize("seed", range(3))
def test_only_the_best_hundred_detections_of_a_label_on_an_image_count(seed):
    truth, predictions = random_pair(seed, n_images=3, n_labels=1, n_found=600, scores=50)
    assert predictions.annotations.groupby("image").size().max() > 150
    assert_equals_pycocotools(truth, predictions)


@pytest.mark.parametrize("seed", range(3))
def test_the_twelve_numbers_equal_pycocotools_where_every_box_overlaps_every_other(seed):
    rng = np.random.default_rng(seed)
    name = "a" * 32

    def pile(n):
        return rng.integers(0, 12, (n, 4)) + np.array([0, 0, 30, 30])

    truth = [box(name, *four, crowd=bool(i % 10 == 0), area_px=rng.uniform(0, 2000)) for i, four in enumerate(pile(40))]
    found = [box(name, *four, score=score) for four, score in zip(pile(60), rng.random(60).round(1), strict=True)]
    assert assert_equals_pycocotools(dataset([name], truth), dataset([name], found)).ar_100 > 0.3


def test_the_hundredth_detection_counts_and_the_next_does_not():
    name = "a" * 32
    truth = dataset([name], [box(name)])
    for n_before, ap50 in ((99, 0.01), (100, 0.0)):
        found = [box(name, 50, 50, 60, 61 + i, score=0.9) for i in range(n_before)] + [box(name, score=0.1)]
        assert assert_equals_pycocotools(truth, dataset([name], found)).ap50 == pytest.approx(ap50)


@pytest.mark.parametrize(("second", "ap50"), [((5, 0, 15, 10), 51 / 101), ((-1, 0, 9, 10), 1.0)])
def test_of_two_objects_that_overlap_alike_the_last_in_the_table_is_found(second, ap50):
    name = "a" * 32
    truth = dataset([name], [box(name, 0, 0, 10, 10), box(name, 4, 0, 14, 10)])
    found = dataset([name], [box(name, 2, 0, 12, 10, score=0.9), box(name, *second, score=0.8)])
    assert assert_equals_pycocotools(truth, found).ap50 == pytest.approx(ap50)


coordinates = st.integers(0, 12).map(lambda n: n * 8.0)
drawn_boxes = st.lists(
    st.tuples(
        st.integers(0, 2),
        st.sampled_from("ab"),
        coordinates,
        coordinates,
        coordinates,
        coordinates,
        st.sampled_from([0.2, 0.5, 0.5, 0.9]),
        st.booleans(),
        st.sampled_from([math.nan, math.nan, 0.0, 1024.0, 9216.0, 1e6]),
    ),
    max_size=25,
)


@settings(max_examples=60, deadline=None)
@given(objects=drawn_boxes, found=drawn_boxes, n_images=st.integers(1, 3))
def test_the_twelve_numbers_equal_pycocotools_whatever_is_drawn(objects, found, n_images):
    names = [f"{i:032x}" for i in range(3)]

    def rows(drawn, *, scored):
        for i, label, x, y, width, height, score, crowd, area_px in drawn:
            more = {"score": score} if scored else {"crowd": crowd, "area_px": area_px}
            yield box(names[i % n_images], x, y, x + width, y + height, label=label, **more)

    truth = dataset(names[:n_images], rows(objects, scored=False), labels=("a", "b"))
    assert_equals_pycocotools(truth, dataset(names[:n_images], rows(found, scored=True), labels=("a", "b")))


def test_inverted_boxes_count_as_pycocotools_counts_them():
    name = "a" * 32
    truth = dataset([name], [box(name, 0, 0, 50, 50), box(name, 60, 60, 40, 40)])
    found = [box(name, 50, 50, 0, 0, score=0.9), box(name, 50, 0, 0, 50, score=0.8), box(name, 0, 0, 50, 49, score=0.7)]
    assert_equals_pycocotools(truth, dataset([name], found))


def real_pair(form):
    """Read the hundred VOC images: truth from COCO, detections from one of the text forms."""
    if not VOC100.exists():
        pytest.skip(f"the dataset is not at {VOC100}")
    listing = json.loads((VOC100 / "gts/coco_format_v2/instances_v2.json").read_text())
    label_of = {entry["id"]: entry["name"] for entry in listing["categories"]}
    name_of = {entry["id"]: Path(entry["file_name"]).stem for entry in listing["images"]}
    truth = [
        box(
            name_of[entry["image_id"]],
            *from_xywh(entry["bbox"])[0],
            label=label_of[entry["category_id"]],
            crowd=bool(entry.get("iscrowd")),
            area_px=entry["area"],
        )
        for entry in listing["annotations"]
    ]
    labels = (VOC100 / "voc.names").read_text().split()
    found = []
    for path in sorted((VOC100 / "dets" / form).glob("*.txt")):
        for line in path.read_text().splitlines():
            label, score, *four = map(float, line.split())
            corners = from_xywh(four)[0] if form == "abs_xywh" else four
            found.append(box(path.stem, *corners, label=labels[int(label)], score=score))
    names = sorted(name_of.values())
    return dataset(names, truth, labels=labels), dataset(names, found, labels=labels)


@pytest.mark.parametrize("form", ["abs_xywh", "abs_xyx2y2"])
def test_the_twelve_numbers_equal_pycocotools_on_real_photographs(form):
    truth, predictions = real_pair(form)
    assert len(truth) == 100
    result = assert_equals_pycocotools(truth, predictions)
    assert result.ap50 > 0.3
    assert result.per_label["n_truth"].sum() == truth.n_boxes


def test_case_27_images_that_nobody_labelled_are_left_out_with_the_predictions_on_them():
    labelled, negative, unlabelled = "a" * 32, "b" * 32, "c" * 32
    found = [box(labelled, score=0.5), box(unlabelled, score=0.9)]
    truth = Dataset.of([image(labelled), image(unlabelled, labelled=False)], [box(labelled)], labels=["dog"])
    result = evaluate(truth, dataset([labelled, unlabelled], found))
    assert result.ap50 == pytest.approx(1.0)
    assert (result.n_images, result.per_label["n_predictions"].item()) == (1, 1)

    truth = dataset([labelled, negative], [box(labelled)])
    result = evaluate(truth, dataset([labelled, negative], [box(labelled, score=0.5), box(negative, score=0.9)]))
    assert result.ap50 == pytest.approx(0.5)


def test_a_label_without_truth_has_no_ap_and_stays_out_of_the_mean():
    name = "a" * 32
    labels = ("dog", "unicorn")
    found = [box(name, score=0.9), box(name, label="unicorn", score=0.9)]
    result = evaluate(dataset([name], [box(name)], labels=labels), dataset([name], found, labels=labels))
    assert result.ap == pytest.approx(1.0)
    assert result.per_label["n_truth"].tolist() == [1, 0]
    assert result.per_label["n_predictions"].tolist() == [1, 1]
    assert result.to_dict()["per_label"]["unicorn"] == {"ap50": None, "ap": None}


def test_predictions_of_labels_that_the_truth_does_not_have_are_left_out():
    name = "a" * 32
    found = dataset([name], [box(name, label="cat", score=1.0), box(name, score=0.5)], labels=("cat", "dog"))
    assert evaluate(dataset([name], [box(name)]), found).ap50 == pytest.approx(1.0)


def test_no_predictions_give_zero_and_no_truth_gives_none():
    name = "a" * 32
    nothing = evaluate(dataset([name], [box(name)]), Dataset.of())
    assert (nothing.ap, nothing.ar_100, nothing.n_images) == (0.0, 0.0, 1)
    empty = evaluate(Dataset.of(), Dataset.of())
    assert math.isnan(empty.ap)
    assert json.loads(json.dumps(empty.to_dict(), allow_nan=False)) == {"ap50": None, "ap": None, "per_label": {}}


def test_crowds_are_no_truth_and_detections_on_them_are_neither_right_nor_wrong():
    name = "a" * 32
    truth = dataset([name], [box(name), box(name, 100, 100, 200, 200, crowd=True)])
    found = [box(name, 100 + i, 100, 120 + i, 120, score=0.9) for i in range(5)] + [box(name, score=0.5)]
    result = evaluate(truth, dataset([name], found))
    assert result.ap50 == pytest.approx(1.0)
    assert result.per_label["n_truth"].item() == 1
    assert len(result.pr_curve("dog")) == 1


def test_the_order_of_the_rows_plays_no_part():
    truth, predictions = random_pair(5)
    reordered = [
        Dataset.of(value.images.iloc[::-1], value.annotations.sample(frac=1, random_state=1), labels=value.labels)
        for value in (truth, predictions)
    ]
    assert evaluate(*reordered).to_dict() == evaluate(truth, predictions).to_dict()


def test_evaluating_changes_none_of_its_inputs():
    truth, predictions = random_pair(6)
    before = truth.annotations.copy(), predictions.annotations.copy()
    evaluate(truth, predictions)
    pd.testing.assert_frame_equal(truth.annotations, before[0])
    pd.testing.assert_frame_equal(predictions.annotations, before[1])


def test_tables_put_together_from_several_pieces_evaluate_alike():
    truth, predictions = random_pair(7)
    half = len(predictions.annotations) // 2
    pieces = pd.concat([predictions.annotations.iloc[:half], predictions.annotations.iloc[half:]])
    patched = dataclasses.replace(predictions, annotations=pieces)
    assert evaluate(truth, patched).to_dict() == evaluate(truth, predictions).to_dict()
    plain = dataclasses.replace(predictions, annotations=predictions.annotations.astype({"image": object}))
    assert evaluate(truth, plain).to_dict() == evaluate(truth, predictions).to_dict()


def test_more_pairs_than_fit_one_block_give_the_same_numbers(monkeypatch):
    truth, predictions = random_pair(8)
    whole = evaluate(truth, predictions)
    monkeypatch.setattr("ymir_nb.backend.overlaps._PAIRS_AT_ONCE", 7)
    assert evaluate(truth, predictions).to_dict() == whole.to_dict()


def test_few_labels_at_a_time_give_the_same_numbers(monkeypatch):
    truth, predictions = random_pair(8, n_images=3, n_labels=5, n_found=900)
    whole = evaluate(truth, predictions, max_detections=40)
    for n in (1, 200):
        monkeypatch.setattr("ymir_nb.backend.contest._DETECTIONS_AT_ONCE", n)
        monkeypatch.setattr("ymir_nb.backend.precision._ROWS_AT_ONCE", n)
        parts = evaluate(truth, predictions, max_detections=40)
        pd.testing.assert_frame_equal(parts.to_frame(), whole.to_frame())
        pd.testing.assert_frame_equal(parts.finds(0.7), whole.finds(0.7))


def test_truth_and_predictions_in_the_wrong_order_are_refused():
    name = "a" * 32
    truth, predictions = dataset([name], [box(name)]), dataset([name], [box(name, score=0.5)])
    with pytest.raises(InvalidTable, match=r"have a score.*evaluate\(truth, predictions\)"):
        evaluate(predictions, truth)
    with pytest.raises(InvalidTable, match="no finite score"):
        evaluate(truth, truth)


@pytest.mark.parametrize("score", [math.nan, math.inf])
def test_case_20_scores_that_are_no_numbers_are_refused(score):
    name = "a" * 32
    found = dataset([name], [box(name, score=0.5), box(name, score=score)])
    with pytest.raises(
        InvalidTable, match=r"1 of their 2 objects have no finite score, the first is row 1 \('dog' on image aaaa"
    ):
        evaluate(dataset([name], [box(name)]), found)


def test_predictions_on_none_of_the_labelled_images_are_refused():
    with pytest.raises(InvalidTable, match="none of their 1 images"):
        evaluate(dataset(["a" * 32], []), dataset(["b" * 32], []))


def test_the_curve_falls_from_the_surest_detection_to_the_last():
    truth, predictions = random_pair(9)
    curve = evaluate(truth, predictions).pr_curve("a", 0.55)
    assert curve.columns.tolist() == ["score", "recall", "precision"]
    assert curve["score"].is_monotonic_decreasing
    assert curve["recall"].is_monotonic_increasing
    assert curve["recall"].iloc[-1] <= 1


@pytest.mark.parametrize("seed", range(4))
def test_who_found_whom_is_what_pycocotools_matched(seed):
    truth, predictions = random_pair(seed, n_found=300)
    theirs = coco_evaluation(truth, predictions)
    found = evaluate(truth, predictions).finds(0.6).set_index("row")
    seen = 0
    for entry in filter(None, theirs.evalImgs):
        if entry["aRng"] == theirs.params.areaRng[0]:
            for i, place in enumerate(entry["dtIds"]):
                ours = found.loc[place - 1]
                assert ours["truth_row"] + 1 == entry["dtMatches"][2, i]
                assert (ours["outcome"] == "ignored") == entry["dtIgnore"][2, i]
                assert (ours["outcome"] == "right") == (entry["dtMatches"][2, i] > 0 and not entry["dtIgnore"][2, i])
                assert (ours["iou"] >= 0.6) == (ours["truth_row"] >= 0)
                seen += 1
    assert seen == len(found) > 100
    assert set(found["outcome"]) == {"right", "wrong", "ignored"}


IOUS = [0.05, *np.linspace(0.1, 0.9, 17).round(2), 0.999, 1.0]


def test_ap_and_recall_at_many_thresholds_equal_pycocotools():
    truth, predictions = random_pair(2)
    theirs = coco_evaluation(truth, predictions, ious=IOUS)
    table = sweep(truth, predictions, ious=IOUS[::-1])
    assert table.columns.tolist() == ["label", "iou", "ap", "recall"]
    for k, label in enumerate(["a", "b", "c"]):
        rows = table[table["label"] == label]
        assert rows["iou"].tolist() == IOUS
        precision, recall = theirs.eval["precision"][:, :, k, 0, 2].mean(axis=1), theirs.eval["recall"][:, k, 0, 2]
        np.testing.assert_allclose(rows["ap"], precision, rtol=0, atol=1e-9)
        np.testing.assert_allclose(rows["recall"], recall, rtol=0, atol=1e-9)
    by_iou = table[table["label"] != ""].groupby("iou")["ap"].mean()
    np.testing.assert_allclose(table[table["label"] == ""]["ap"], by_iou, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("more", "recall"), [(0.0, 1.0), (1e-10, 1.0), (1e-8, 0.0)])
def test_at_a_threshold_of_one_a_hair_s_breadth_is_allowed(more, recall):
    name = "a" * 32
    truth, found = dataset([name], [box(name)]), dataset([name], [box(name, 0, 0, 10, 10 + more, score=0.5)])
    theirs = coco_evaluation(truth, found, ious=[1.0])
    ours = sweep(truth, found, ious=[1.0])["recall"].tolist()
    assert ours == [recall] * 2 == [theirs.eval["recall"][0, 0, 0, 2]] * 2


@pytest.mark.parametrize("n", [1, 7, 300])
def test_other_limits_and_thresholds_equal_pycocotools(n):
    truth, predictions = random_pair(3, n_images=2, n_labels=1, n_found=500)
    ious = [0.3, 0.5, 0.8]
    theirs = coco_evaluation(truth, predictions, ious=ious, limits=[1, min(n, 10), n])
    ours = evaluate(truth, predictions, ious=ious, max_detections=n)
    assert ours.ap == pytest.approx(theirs.eval["precision"][:, :, 0, 0, 2].mean(), abs=1e-9)
    assert ours.ap50 == pytest.approx(theirs.eval["precision"][1, :, 0, 0, 2].mean(), abs=1e-9)
    assert ours.ar_100 == pytest.approx(theirs.eval["recall"][:, 0, 0, 2].mean(), abs=1e-9)
    assert ours.ar_10 == pytest.approx(theirs.eval["recall"][:, 0, 0, 1].mean(), abs=1e-9)
    assert math.isnan(ours.ap75)
    assert len(ours.finds(0.3)) <= 2 * n
    with pytest.raises(InvalidTable, match=r"evaluated were 0\.3, 0\.5, 0\.8"):
        ours.pr_curve("a", 0.75)


@pytest.mark.parametrize(
    "ious", [[], [0.0, 0.5], [0.5, 1.1], [0.5, 0.5], [0.9, 0.5], [math.nan], np.linspace(0.1, 1, 16)]
)
def test_thresholds_that_cannot_be_matched_are_refused(ious):
    with pytest.raises(InvalidTable, match="1 to 15 rising numbers"):
        evaluate(*random_pair(0), ious=ious)


def test_no_detection_at_all_cannot_count():
    with pytest.raises(InvalidTable, match="at least 1"):
        evaluate(*random_pair(0), max_detections=0)


def test_cells_far_apart_are_evaluated_like_close_ones():
    truth, predictions = random_pair(8)
    whole = evaluate(truth, predictions)
    names = [f"{i:032x}" for i in range(9000)]
    labels = (*"abc", *(f"label{i}" for i in range(300)))
    wide = [
        dataclasses.replace(value, images=dataset(names, []).images, labels=labels) for value in (truth, predictions)
    ]
    result = evaluate(*wide)
    assert (result.ap, result.ar_small, result.n_images) == (whole.ap, whole.ar_small, 9000)


def test_more_scores_than_sixteen_bits_can_count_keep_their_order():
    rng = np.random.default_rng(0)
    values = rng.integers(0, 200_000, 300_000)
    assert (stable_order(values) == np.argsort(values, kind="stable")).all()
    scores = rng.integers(0, 1000, 300_000) / 1000
    assert (by_falling_score(scores) == np.argsort(-scores, kind="stable")).all()


def test_case_20_boxes_of_size_zero_find_nothing_and_are_not_found():
    name = "a" * 32
    truth = dataset([name], [box(name), box(name, 50, 50, 50, 60), box(name, 70, 70, 70, 70)])
    found = [box(name, score=0.9), box(name, 50, 50, 50, 60, score=0.8), box(name, 70, 70, 70, 70, score=0.7)]
    result = assert_equals_pycocotools(truth, dataset([name], found))
    assert result.finds()["outcome"].tolist() == ["right", "wrong", "wrong"]


def test_one_image_with_one_label_and_one_box_is_enough():
    name = "a" * 32
    result = assert_equals_pycocotools(
        dataset([name], [box(name)]), dataset([name], [box(name, 0, 0, 10, 6, score=0.1)])
    )
    assert (result.ap50, result.ap75) == (pytest.approx(1.0), 0.0)


def test_case_52_of_equal_scores_the_first_in_the_table_finds_the_object():
    name = "a" * 32
    truth = dataset([name], [box(name)])
    found = dataset([name], [box(name, 1, 0, 11, 10, score=0.5), box(name, 0, 0, 10, 10, score=0.5)])
    result = assert_equals_pycocotools(truth, found)
    again = dataset([name], found.annotations.iloc[::-1])
    assert (
        result.finds()["outcome"].tolist() == ["right", "wrong"] == evaluate(truth, again).finds()["outcome"].tolist()
    )
    assert found.annotations.loc[result.finds()["row"][0], "x1"] == 0


def test_a_curve_that_was_not_evaluated_is_refused_with_what_there_is():
    result = evaluate(*random_pair(9))
    with pytest.raises(LabelNotFound, match="'a', 'b', 'c'"):
        result.pr_curve("zebra")
    with pytest.raises(InvalidTable, match=r"IoU 0\.52"):
        result.pr_curve("a", 0.52)


def test_an_evaluation_reads_as_a_frame_one_line_and_escaped_html():
    name = "a" * 32
    label = "<script>alert(1)</script>"
    truth = dataset([name], [box(name, label=label)], labels=(label,))
    result = evaluate(truth, dataset([name], [box(name, label=label, score=0.5)], labels=(label,)))
    assert repr(result) == "<Evaluation: AP50 1.000, AP 1.000, 1 labels, 1 images>"
    assert result.to_frame().columns.tolist() == ["metric", "value", "meaning"]
    assert len(result.to_frame()) == 12
    page = result._repr_html_()
    assert "<script>" not in page
    assert "&lt;script&gt;" in page
