"""Pascal VOC's average precision, held against its rules walked through box by box."""

import json
import math
from pathlib import Path

import numpy as np
import pytest

from ymir_nb.backend.boxes import from_xywh
from ymir_nb.backend.dataset import Dataset
from ymir_nb.backend.errors import InvalidTable
from ymir_nb.backend.metrics import evaluate
from ymir_nb.backend.voc_precision import evaluate_voc

CORNERS = ["x1", "y1", "x2", "y2"]
VOC100 = Path(__file__).resolve().parents[2] / "../shared/data/multiformat_voc100/database"


def image(name):
    return {
        "image": name,
        "file": f"{name}.png",
        "format": "PNG",
        "mode": "RGB",
        "width": 600,
        "height": 600,
        "n_bytes": 1,
        "labelled": True,
    }


def box(name, *corners, label="dog", **more):
    return {"image": name, "label": label} | dict(zip(CORNERS, corners, strict=True)) | more


def dataset(names, boxes, labels=("dog",)):
    return Dataset.of([image(name) for name in names], boxes, labels=labels)


def iou(a, b, extra):
    width = min(a[2], b[2]) - max(a[0], b[0]) + extra
    height = min(a[3], b[3]) - max(a[1], b[1]) + extra
    if width <= 0 or height <= 0:
        return 0.0
    areas = [(c[2] - c[0] + extra) * (c[3] - c[1] + extra) for c in (a, b)]
    return width * height / (sum(areas) - width * height)


def walked(truth, predictions, label, *, threshold=0.5, points="all", above=False, extra=0.0):
    """Walk through the detections of one label as VOC's devkit does."""
    objects = truth.annotations[truth.annotations["label"] == label]
    found = predictions.annotations[predictions.annotations["label"] == label]
    found = found.sort_values("score", ascending=False, kind="stable")
    ignored = {i: bool(row.crowd) or "difficult" in json.loads(row.tags) for i, row in objects.iterrows()}
    taken, right, wrong = set(), [], []
    for _, row in found.iterrows():
        best, winner = 0.0, None
        for i, other in objects[objects["image"] == row["image"]].iterrows():
            value = iou(row[CORNERS].tolist(), other[CORNERS].tolist(), extra)
            if value > best:
                best, winner = value, i
        enough = winner is not None and (best > threshold if above else best >= threshold)
        excused = enough and ignored[winner]
        hit = enough and not excused and winner not in taken
        taken |= {winner} if hit else set()
        right.append(hit)
        wrong.append(not hit and not excused)
    n_truth = sum(not value for value in ignored.values())
    if not n_truth:
        return math.nan, sum(right), sum(wrong)
    recall = np.cumsum(right) / n_truth
    precision = np.cumsum(right) / np.maximum(np.cumsum(right) + np.cumsum(wrong), 1e-12)
    if points == "eleven":
        read = [max(precision[recall >= t], default=0.0) for t in np.linspace(0, 1, 11)]
        return sum(read) / 11, sum(right), sum(wrong)
    recall, precision = np.concatenate([[0], recall, [1]]), np.concatenate([[0], precision, [0]])
    for i in range(len(precision) - 1, 0, -1):
        precision[i - 1] = max(precision[i - 1], precision[i])
    return float(((recall[1:] - recall[:-1]) * precision[1:]).sum()), sum(right), sum(wrong)


def drawn_pair(seed, labels=("a", "b")):
    """Draw boxes on whole pixels, so that overlaps fall on thresholds and objects compete."""
    rng = np.random.default_rng(seed)
    names = [f"{i:032x}" for i in range(6)]

    def corners():
        near = rng.integers(0, 20, 2)
        return [float(v) for v in (*near, *(near + rng.integers(0, 16, 2)))]

    def kind():
        return {"crowd": bool(rng.random() < 0.1), "tags": '{"difficult": "1"}' if rng.random() < 0.2 else "{}"}

    truth = [box(rng.choice(names), *corners(), label=rng.choice(labels), **kind()) for _ in range(25)]
    found = [box(rng.choice(names), *corners(), label=rng.choice(labels), score=rng.random()) for _ in range(40)]
    found += [
        row | {"score": float(rng.random()), "crowd": False, "tags": "{}", "x2": row["x2"] + float(rng.integers(0, 4))}
        for row in truth
        for _ in range(rng.integers(0, 3))
    ]
    return dataset(names, truth, labels), dataset(names, found, labels)


def assert_equals_the_walk(truth, predictions, *, threshold=0.5, points="all", above=False, extra=0.0):
    ours = evaluate_voc(truth, predictions, iou=threshold, points=points, above=above, extra_px=extra)
    for row in ours.per_label.itertuples():
        expected = walked(truth, predictions, row.label, threshold=threshold, points=points, above=above, extra=extra)
        assert (row.ap, row.n_right, row.n_wrong) == pytest.approx(expected, abs=1e-12, nan_ok=True)
    return ours


@pytest.mark.parametrize("points", ["all", "eleven"])
@pytest.mark.parametrize("seed", range(4))
def test_both_averages_equal_the_devkit_s_rules_with_difficult_objects_and_crowds(seed, points):
    assert 0 < assert_equals_the_walk(*drawn_pair(seed), points=points).mean_ap < 1


@pytest.mark.parametrize("seed", range(4))
def test_ymir_s_convention_adds_a_pixel_and_asks_for_more_than_the_threshold(seed):
    pair = drawn_pair(seed + 10)
    ymir = assert_equals_the_walk(*pair, threshold=0.4, above=True, extra=1.0)
    assert ymir.mean_ap != evaluate_voc(*pair, iou=0.4).mean_ap


def test_an_overlap_of_just_the_threshold_counts_unless_more_is_asked_for():
    name = "a" * 32
    truth, found = dataset([name], [box(name, 0, 0, 10, 10)]), dataset([name], [box(name, 0, 0, 10, 5, score=0.9)])
    assert evaluate_voc(truth, found).mean_ap == 1
    assert evaluate_voc(truth, found, above=True).mean_ap == 0


def test_a_second_detection_of_an_object_is_wrong_even_where_it_reaches_a_free_one():
    name = "a" * 32
    truth = dataset([name], [box(name, 0, 0, 10, 10), box(name, 3, 0, 13, 10)])
    found = dataset([name], [box(name, 0, 0, 10, 10, score=0.9), box(name, 1, 0, 11, 10, score=0.8)])
    assert evaluate_voc(truth, found).per_label[["n_right", "n_wrong"]].iloc[0].tolist() == [1, 1]
    assert evaluate(truth, found, ious=[0.5]).ar_100 == 1


def test_of_two_objects_that_overlap_alike_the_first_in_the_table_is_found():
    name = "a" * 32
    difficult = {"tags": '{"difficult": "1"}'}
    first, second, between = (0, 0, 10, 10), (4, 0, 14, 10), box(name, 2, 0, 12, 10, score=0.9)
    truth = dataset([name], [box(name, *first, **difficult), box(name, *second)])
    assert assert_equals_the_walk(truth, dataset([name], [between])).per_label["n_right"].item() == 0
    truth = dataset([name], [box(name, *first), box(name, *second, **difficult)])
    assert assert_equals_the_walk(truth, dataset([name], [between])).per_label["n_right"].item() == 1


def test_real_photographs_score_as_the_devkit_s_rules_have_it():
    if not VOC100.exists():
        pytest.skip(f"the dataset is not at {VOC100}")
    listing = json.loads((VOC100 / "gts/coco_format_v2/instances_v2.json").read_text())
    label_of = {entry["id"]: entry["name"] for entry in listing["categories"]}
    name_of = {entry["id"]: Path(entry["file_name"]).stem for entry in listing["images"]}
    truth = [
        box(name_of[e["image_id"]], *from_xywh(e["bbox"])[0], label=label_of[e["category_id"]])
        for e in listing["annotations"]
    ]
    labels = (VOC100 / "voc.names").read_text().split()
    found = []
    for path in sorted((VOC100 / "dets/abs_xywh").glob("*.txt")):
        for line in path.read_text().splitlines():
            label, score, *four = map(float, line.split())
            found.append(box(path.stem, *from_xywh(four)[0], label=labels[int(label)], score=score))
    names = sorted(name_of.values())
    result = assert_equals_the_walk(dataset(names, truth, labels), dataset(names, found, labels))
    assert result.mean_ap > 0.3


def test_a_label_without_truth_stays_out_of_the_mean():
    name = "a" * 32
    labels = ("dog", "unicorn")
    found = dataset(
        [name], [box(name, 0, 0, 9, 9, score=0.9), box(name, 0, 0, 9, 9, label="unicorn", score=1.0)], labels
    )
    result = evaluate_voc(dataset([name], [box(name, 0, 0, 9, 9)], labels), found)
    assert result.mean_ap == 1
    assert result.per_label["n_wrong"].tolist() == [0, 1]
    assert math.isnan(result.per_label["ap"][1])


def test_no_predictions_give_zero_and_no_truth_gives_none():
    name = "a" * 32
    assert evaluate_voc(dataset([name], [box(name, 0, 0, 9, 9)]), Dataset.of()).mean_ap == 0
    assert evaluate_voc(dataset([name], [box(name, 0, 0, 9, 9)]), Dataset.of(), points="eleven").mean_ap == 0
    assert math.isnan(evaluate_voc(Dataset.of(), Dataset.of()).mean_ap)


@pytest.mark.parametrize("wrong", [{"iou": 0.0}, {"iou": 1.5}, {"points": "twelve"}])
def test_options_that_voc_does_not_have_are_refused(wrong):
    with pytest.raises(InvalidTable, match="cannot be evaluated"):
        evaluate_voc(Dataset.of(), Dataset.of(), **wrong)
