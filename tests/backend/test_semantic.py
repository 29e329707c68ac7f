"""Semantic segmentation, held against counts taken label by label."""

import json
import math
import warnings

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from ymir_nb.backend.dataset import Dataset
from ymir_nb.backend.errors import InvalidTable
from ymir_nb.backend.semantic import IGNORED, evaluate_maps, evaluate_semantic

LABELS = ("sky", "road", "car", "cow")


def image(name, width=40, height=30):
    size = {"width": width, "height": height, "n_bytes": 1}
    return {"image": name, "file": f"{name}.png", "format": "PNG", "mode": "RGB", "labelled": True} | size


def thing(name, rings, *, label, **more):
    edges = {"x1": 0.0, "y1": 0.0, "x2": 9.0, "y2": 9.0}
    return {"image": name, "label": label, "segmentation": json.dumps(rings)} | edges | more


def square(x1, y1, x2, y2):
    return [[x1, y1, x2, y1, x2, y2, x1, y2]]


def counted(pairs, n_labels):
    """Count label by label: pixels of both, of either, of the truth."""
    both, either, real = np.zeros((3, n_labels))
    for truth, found in pairs:
        said = truth != IGNORED
        for label in range(n_labels):
            a, b = said & (truth == label), said & (found == label)
            both[label] += (a & b).sum()
            either[label] += (a | b).sum()
            real[label] += a.sum()
    with np.errstate(invalid="ignore"):
        return both / either, both / real, both.sum() / real.sum()


def assert_counts_agree(result, pairs, n_labels):
    iou, acc, a_acc = counted(pairs, n_labels)
    np.testing.assert_allclose(result.per_label["iou"], iou, rtol=0, atol=1e-12)
    np.testing.assert_allclose(result.per_label["acc"], acc, rtol=0, atol=1e-12)
    means = (np.nanmean(iou), np.nanmean(acc), a_acc)
    assert (result.m_iou, result.m_acc, result.a_acc) == pytest.approx(means, abs=1e-12)


@pytest.mark.parametrize("dtype", [np.uint8, np.int64])
def test_shares_of_maps_equal_counts_by_label_with_ignored_pixels(dtype):
    rng = np.random.default_rng(0)
    values = [0, 1, 2, IGNORED]  # the fourth label is in neither, so it has no IoU
    pairs = [tuple(rng.choice(values, (2, 17, 13)).astype(dtype)) for _ in range(5)]
    result = evaluate_maps(iter(pairs), labels=LABELS)
    assert_counts_agree(result, pairs, 4)
    assert math.isnan(result.per_label["iou"][3])
    assert result.n_images == 5
    assert result.confusion.to_numpy().sum() == sum((truth != IGNORED).sum() for truth, _ in pairs)


def test_a_label_that_only_the_prediction_has_counts_as_zero_in_the_mean_iou():
    result = evaluate_maps([(np.zeros((2, 2), int), np.array([[0, 1], [0, 0]]))], labels=LABELS[:2])
    assert result.per_label["iou"].tolist() == [0.75, 0.0]
    assert result.m_iou == pytest.approx(0.375)
    assert result.m_acc == pytest.approx(0.75)


def test_no_image_gives_no_numbers():
    result = evaluate_maps([], labels=LABELS)
    assert math.isnan(result.m_iou)
    assert math.isnan(result.a_acc)


def painted(dataset, name, labels, *, empty, by):
    """Paint with pycocotools, in the order that `by` gives."""
    pixels = np.full((30, 40), empty)
    rows = dataset.annotations[dataset.annotations["image"] == name]
    drawn = [
        (row, coco_mask.merge(coco_mask.frPyObjects(json.loads(row.segmentation), 30, 40))) for row in rows.itertuples()
    ]
    for row, mask in sorted(drawn, key=lambda pair: by(*pair)):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            pixels[coco_mask.decode(mask) == 1] = labels.index(row.label)
    return pixels


def drawn_pair(seed):
    rng = np.random.default_rng(seed)
    names = [f"{i:032x}" for i in range(4)]

    def things(n, **more):
        for name in rng.choice(names[:-1], n):
            ring = rng.uniform(-5, 45, (1, 2 * int(rng.integers(3, 7)))).tolist()
            yield thing(name, ring, label=str(rng.choice(LABELS)), **{key: float(rng.random()) for key in more})

    images = [image(name) for name in names]
    truth = Dataset.of(images, things(14), labels=LABELS)
    return truth, Dataset.of(images, things(18, score=0), labels=LABELS)


@pytest.mark.parametrize("background", ["", "nothing"])
@pytest.mark.parametrize("seed", range(3))
def test_painted_objects_equal_counts_by_label(seed, background):
    truth, found = drawn_pair(seed)
    empty = len(LABELS) if background else IGNORED
    pairs = [
        (
            painted(truth, name, LABELS, empty=empty, by=lambda _, mask: -int(coco_mask.area(mask))),
            painted(found, name, LABELS, empty=empty, by=lambda row, _: row.score),
        )
        for name in truth.images["image"]
    ]
    result = evaluate_semantic(truth, found, background=background)
    assert_counts_agree(result, pairs, len(LABELS) + bool(background))
    assert 0 < result.m_iou < 1
    assert (result.per_label["label"].iloc[-1] == background) == bool(background)


def test_small_objects_lie_on_large_ones_and_sure_detections_on_unsure_ones():
    name = "a" * 32
    small, large = square(0, 0, 10, 10), square(0, 0, 20, 10)
    truth = [thing(name, small, label="car"), thing(name, large, label="sky")]
    sure, unsure = thing(name, small, label="car", score=0.9), thing(name, large, label="sky", score=0.2)
    image_ = [image(name)]
    real = Dataset.of(image_, truth, labels=LABELS)
    assert evaluate_semantic(real, Dataset.of(image_, [sure, unsure], labels=LABELS)).a_acc == 1
    swapped = [sure | {"score": 0.1}, unsure]
    assert evaluate_semantic(real, Dataset.of(image_, swapped, labels=LABELS)).a_acc == pytest.approx(0.5)


def test_false_alarms_where_the_truth_says_nothing_cost_only_with_a_background():
    name = "a" * 32
    truth = Dataset.of([image(name)], [thing(name, square(0, 0, 10, 10), label="car")], labels=["car"])
    found = [thing(name, square(0, 0, 20, 10), label="car", score=0.9)]
    found = Dataset.of([image(name)], found, labels=["car"])
    assert evaluate_semantic(truth, found).m_iou == 1
    assert evaluate_semantic(truth, found, background="none").per_label["iou"][0] == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("truth", "found", "reason"),
    [
        (np.zeros((2, 2), int), np.zeros((2, 3), int), r"\(2, 2\).*\(2, 3\)"),
        (np.zeros((2, 2)), np.zeros((2, 2), int), "whole numbers"),
        (np.zeros((2, 2), int), np.zeros((2, 2)), "whole numbers"),
        (np.full((2, 2), 4), np.zeros((2, 2), int), "the value 4"),
        (np.full((2, 2), -1), np.zeros((2, 2), int), "the value -1"),
    ],
)
def test_maps_that_cannot_be_compared_are_refused(truth, found, reason):
    with pytest.raises(InvalidTable, match=f"image 0: .*{reason}"):
        evaluate_maps([(truth, found)], labels=LABELS)


def test_more_labels_than_a_map_can_hold_and_a_doubled_background_are_refused():
    with pytest.raises(InvalidTable, match="256 labels"):
        evaluate_maps([], labels=map(str, range(256)))
    with pytest.raises(InvalidTable, match="'sky' is a label"):
        evaluate_semantic(Dataset.of(labels=["sky"]), Dataset.of(), background="sky")


def test_a_semantic_evaluation_reads_as_one_line_and_escaped_html():
    label = "<script>alert(1)</script>"
    result = evaluate_maps([(np.zeros((2, 2), int), np.zeros((2, 2), int))], labels=[label])
    assert repr(result) == "<SemanticEvaluation: mIoU 1.000, mAcc 1.000, aAcc 1.000, 1 labels, 1 images>"
    assert "<script>" not in result._repr_html_()
