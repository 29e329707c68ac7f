"""Evaluation of masks, held against pycocotools on drawn and on real masks."""

import contextlib
import io
import json
import math
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from ymir_nb.backend import masks, polygons, run_lengths, segmentations
from ymir_nb.backend.dataset import Dataset
from ymir_nb.backend.errors import InvalidTable
from ymir_nb.backend.metrics import evaluate

SHARED = Path(__file__).resolve().parents[2] / "../shared/data"
FRUITS = SHARED / "fruits_nuts_cocoseg/data/trainval.json"


def image(name, *, width=80, height=60):
    return {
        "image": name,
        "file": f"{name}.png",
        "format": "PNG",
        "mode": "RGB",
        "width": width,
        "height": height,
        "n_bytes": 1,
        "labelled": True,
    }


def thing(name, segmentation, *, label="dog", **more):
    shape = {"x1": 0.0, "y1": 0.0, "x2": 10.0, "y2": 10.0, "segmentation": json.dumps(segmentation)}
    return {"image": name, "label": label} | shape | more


def blob(rng, *, at=None):
    """Draw a round polygon that may reach out of the image."""
    centre = rng.uniform(0, [80, 60]) if at is None else at + rng.normal(0, 2, 2)
    angle = np.sort(rng.uniform(0, 2 * np.pi, int(rng.integers(3, 12))))
    corners = centre + rng.uniform(2, 25) * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    return centre, np.round(corners, int(rng.integers(0, 4))).ravel().tolist()


def decode(written):
    """Draw a mask of pycocotools, which warns of numpy's new rules for copies."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return coco_mask.decode(written)


def rle(rings, *, width=80, height=60, as_text=True):
    written = coco_mask.merge(coco_mask.frPyObjects(rings, height, width))
    if as_text:
        return {"size": [height, width], "counts": written["counts"].decode()}
    flat = decode(written).ravel(order="F")
    changes = np.flatnonzero(np.diff(flat, prepend=0))
    return {"size": [height, width], "counts": np.diff(changes, prepend=0, append=flat.size).tolist()}


def any_form(rng, rings):
    form = rng.integers(0, 3)
    return rings if form == 0 else rle(rings, as_text=form == 1)


def drawn_pair(seed, *, n_images=6, labels=("a", "b")):
    """Draw blobs with crowds and holes of several rings; predictions lie near them or anywhere."""
    rng = np.random.default_rng(seed)
    names = [f"{i:032x}" for i in range(n_images)]
    truth, found = [], []
    for name in names[:-1]:
        for _ in range(int(rng.integers(0, 7))):
            label, (centre, ring) = rng.choice(labels), blob(rng)
            rings = [ring] + ([blob(rng, at=centre)[1]] if rng.random() < 0.3 else [])
            given = {"area_px": float(rng.uniform(0, 4000))} if rng.random() < 0.7 else {}
            truth.append(thing(name, any_form(rng, rings), label=label, crowd=bool(rng.random() < 0.2), **given))
            for _ in range(int(rng.integers(0, 4))):
                near = [(np.array(ring) + rng.normal(0, 1.5, len(ring))).tolist()]
                found.append(thing(name, any_form(rng, near), label=label, score=float(rng.integers(0, 9)) / 8))
    found += [
        thing(name, any_form(rng, [blob(rng)[1]]), label=rng.choice(labels), score=float(rng.random()))
        for name in rng.choice(names, 15)
    ]
    images = [image(name) for name in names]
    return Dataset.of(images, truth, labels=labels), Dataset.of(images, found, labels=labels)


def coco_evaluation(truth, predictions, *, ious=None):
    """Run pycocotools on the same masks, all of them as its own run lengths."""
    image_id = {name: i for i, name in enumerate(truth.images["image"], start=1)}
    size = dict(
        zip(truth.images["image"], zip(truth.images["height"], truth.images["width"], strict=True), strict=True)
    )
    label_id = {label: i for i, label in enumerate(truth.labels, start=1)}

    def rows(frame):
        for row in frame.itertuples():
            shape = json.loads(row.segmentation)
            height, width = (int(side) for side in size[row.image])
            if isinstance(shape, list):
                mask = coco_mask.merge(coco_mask.frPyObjects(shape, height, width))
            else:
                mask = shape if isinstance(shape["counts"], str) else coco_mask.frPyObjects(shape, height, width)
            where = {"image_id": image_id[row.image], "category_id": label_id[row.label]}
            yield row, where | {"segmentation": mask, "bbox": [row.x1, row.y1, row.x2 - row.x1, row.y2 - row.y1]}

    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        coco = COCO()
        objects = [
            entry
            | {
                "id": i,
                "iscrowd": int(row.crowd),
                "area": entry["bbox"][2] * entry["bbox"][3] if math.isnan(row.area_px) else row.area_px,
            }
            for i, (row, entry) in enumerate(rows(truth.annotations), start=1)
        ]
        coco.dataset = {
            "info": {},
            "images": [{"id": i, "height": int(size[n][0]), "width": int(size[n][1])} for n, i in image_id.items()],
            "categories": [{"id": i, "name": name} for name, i in label_id.items()],
            "annotations": objects,
        }
        coco.createIndex()
        found = [entry | {"score": row.score} for row, entry in rows(predictions.annotations)]
        for entry in found:
            del entry["bbox"]
        evaluation = COCOeval(coco, coco.loadRes(found), "segm")
        if ious is not None:
            evaluation.params.iouThrs = np.array(ious)
        evaluation.evaluate()
        evaluation.accumulate()
        if ious is None:
            evaluation.summarize()
    return evaluation


def assert_equals_pycocotools(truth, predictions):
    ours, theirs = evaluate(truth, predictions, kind="masks"), coco_evaluation(truth, predictions)
    values = ours.to_frame()["value"].fillna(-1.0).to_numpy()
    np.testing.assert_allclose(values, theirs.stats, rtol=0, atol=1e-9)
    return ours


@pytest.mark.parametrize("seed", range(8))
def test_the_twelve_numbers_of_masks_equal_pycocotools_on_drawn_masks_with_crowds(seed):
    assert 0 < assert_equals_pycocotools(*drawn_pair(seed)).ap50 < 1


def real_pair(seed):
    """Read the fruits' polygons; predictions are the same, moved a little, some lost and some doubled."""
    if not FRUITS.exists():
        pytest.skip(f"the dataset is not at {FRUITS}")
    rng = np.random.default_rng(seed)
    listing = json.loads(FRUITS.read_text())
    label_of = {entry["id"]: entry["name"] for entry in listing["categories"]}
    name_of = {entry["id"]: f"{entry['id']:032x}" for entry in listing["images"]}
    truth, found = [], []
    for i, entry in enumerate(listing["annotations"]):
        name, label, rings = name_of[entry["image_id"]], label_of[entry["category_id"]], entry["segmentation"]
        truth.append(thing(name, rings, label=label, area_px=float(entry["area"]), crowd=i % 15 == 0))
        for _ in range(int(rng.integers(0, 3))):
            moved = [(np.array(ring) + np.tile(rng.normal(0, 12, 2), len(ring) // 2)).tolist() for ring in rings]
            found.append(thing(name, moved, label=label, score=float(rng.random())))
    images = [image(name_of[e["id"]], width=e["width"], height=e["height"]) for e in listing["images"]]
    labels = tuple(dict.fromkeys(label_of.values()))
    return Dataset.of(images, truth, labels=labels), Dataset.of(images, found, labels=labels)


def test_the_twelve_numbers_of_masks_equal_pycocotools_on_real_polygons():
    result = assert_equals_pycocotools(*real_pair(0))
    assert 0.2 < result.ap < 0.9
    assert result.n_images == 18


def test_masks_of_one_shape_are_told_apart_where_their_boxes_are_equal():
    name = "a" * 32
    truth = Dataset.of([image(name)], [thing(name, [[0, 0, 40, 0, 0, 40]])], labels=["dog"])
    found = Dataset.of([image(name)], [thing(name, [[40, 0, 40, 40, 0, 40]], score=0.9)], labels=["dog"])
    assert evaluate(truth, found).ap == pytest.approx(1.0)
    assert evaluate(truth, found, kind="masks").ap == 0


def test_a_detection_has_the_size_of_its_mask():
    name, thin = "a" * 32, [[0, 0, 79, 0, 79, 2, 0, 2]]
    truth = Dataset.of([image(name)], [thing(name, thin, area_px=100.0)], labels=["dog"])
    stray = thing(name, [[0, 10, 79, 10, 79, 12, 0, 12]], score=0.9, x2=80.0, y2=60.0)
    found = Dataset.of([image(name)], [thing(name, thin, score=0.5), stray], labels=["dog"])
    assert assert_equals_pycocotools(truth, found).ap_small == pytest.approx(0.5)


def test_many_masks_are_compared_in_blocks_with_the_same_numbers(monkeypatch):
    truth, found = drawn_pair(3)
    whole = evaluate(truth, found, kind="masks")
    monkeypatch.setattr("ymir_nb.backend.segmentations._RUNS_AT_ONCE", 50)
    monkeypatch.setattr("ymir_nb.backend.polygons._CROSSINGS_AT_ONCE", 40)
    monkeypatch.setattr("ymir_nb.backend.overlaps._PAIRS_AT_ONCE", 3)
    assert evaluate(truth, found, kind="masks").to_dict() == whole.to_dict()


corner = st.one_of(
    st.integers(-8, 40).map(float),
    st.floats(-8, 40, allow_nan=False),
    st.integers(-40, 200).map(lambda n: n / 5),
)


@settings(max_examples=150, deadline=None)
@given(
    rings=st.lists(st.lists(st.tuples(corner, corner), min_size=3, max_size=9), min_size=1, max_size=3),
    width=st.integers(1, 33),
    height=st.integers(1, 33),
)
def test_the_pixels_of_polygons_are_those_of_pycocotools(rings, width, height):
    flat = [[value for pair in ring for value in pair] for ring in rings]
    runs = segmentations.read(
        [json.dumps(flat)], width=np.array([width]), height=np.array([height]), name="t", rows=np.array([0])
    )
    expected = decode(coco_mask.merge(coco_mask.frPyObjects(flat, height, width)))
    assert (drawn(runs, 0, width, height) == expected).all()
    assert (np.diff(np.stack([runs.begin, runs.end], axis=1).ravel()) > 0).all()


def drawn(runs, place, width, height):
    flat = np.zeros(width * height, dtype=np.uint8)
    for run in range(runs.start[place], runs.start[place + 1]):
        flat[runs.begin[run] : runs.end[run]] += 1
    return flat.reshape((height, width), order="F")


def test_corners_far_outside_cost_no_more_than_the_image():
    far = np.array([[-1e300, -1e300], [1e300, -1e300], [1e300, 1e300], [-1e300, 1e300]])
    _, begin, end = polygons.to_runs(far, np.array([0, 4]), width=np.array([30]), height=np.array([20]))
    assert (end - begin).sum() == 600


@settings(max_examples=100, deadline=None)
@given(pixels=st.lists(st.lists(st.booleans(), min_size=7, max_size=7), min_size=1, max_size=9), as_list=st.booleans())
def test_run_lengths_are_read_as_they_were_written(pixels, as_list):
    pixels = np.array(pixels)
    written = masks.from_pixels(pixels)
    if as_list:
        flat = pixels.ravel(order="F").astype(np.int8)
        changes = np.flatnonzero(np.diff(flat, prepend=0))
        written["counts"] = np.diff(changes, prepend=0, append=flat.size).tolist()
    sizes = {"width": np.array([7, 7]), "height": np.full(2, len(pixels))}
    runs = segmentations.read([json.dumps(written)] * 2, **sizes, name="t", rows=np.arange(2))
    assert (drawn(runs, 1, 7, len(pixels)) == pixels).all()
    assert runs.area_px.tolist() == [pixels.sum()] * 2


def test_the_shared_pixels_of_masks_are_counted():
    rng = np.random.default_rng(0)
    pixels = rng.random((12, 9, 8)) < rng.random((12, 1, 1))
    texts = [json.dumps(masks.from_pixels(one)) for one in pixels]
    runs = segmentations.read(texts, width=np.full(12, 8), height=np.full(12, 9), name="t", rows=np.arange(12))
    left, right = np.divmod(np.arange(144), 12)
    expected = (pixels[left] & pixels[right]).sum(axis=(1, 2))
    assert (segmentations.intersections(runs, runs, left, right) == expected).all()


@pytest.mark.parametrize(
    ("segmentation", "reason"),
    [
        ("", "there is none"),
        ("{", "cannot be read"),
        ("[]", "cannot be read"),
        ("[[1, 2, 3, 4]]", "three or more pairs"),
        ("[[1, 2, 3, 4, 5, null]]", "three or more pairs"),
        ('[[1, 2, 3, 4, 5, "x"]]', "cannot be read"),
        ('{"size": [60, 80]}', "counts"),
        ('{"size": [80, 60], "counts": [4800]}', r"\[60, 80\] \(height, width\)"),
        ('{"size": [60, 80], "counts": [4000]}', "4800 pixels"),
        ('{"size": [60, 80], "counts": []}', "4800 pixels"),
        ('{"size": [60, 80], "counts": [5000, -200]}', "4800 pixels"),
        ('{"size": [60, 80], "counts": [4800.5]}', "no whole numbers"),
        ('{"size": [60, 80], "counts": ""}', "4800 pixels"),
        ('{"size": [60, 80], "counts": "``"}', "no run-length text"),
        ('{"size": [60, 80], "counts": "\\u00e9"}', "no run-length text"),
        ('{"size": [60, 80], "counts": "oooooooooo0"}', "no run-length text"),
        ('{"size": [60, 80], "counts": 7}', "cannot be read"),
    ],
)
def test_case_22_masks_that_cannot_be_read_are_refused_with_their_row(segmentation, reason):
    name = "a" * 32
    good = thing(name, [[0, 0, 9, 0, 9, 9]], score=0.5)
    found = Dataset.of([image(name)], [good, good | {"x1": 1.0, "segmentation": segmentation}], labels=["dog"])
    truth = Dataset.of([image(name)], [thing(name, [[0, 0, 9, 0, 9, 9]])], labels=["dog"])
    with pytest.raises(InvalidTable, match=rf"(?s)predictions: .*row 1 .*{reason}"):
        evaluate(truth, found, kind="masks")
    assert evaluate(truth, found).n_images == 1


def test_a_text_of_the_longest_lengths_is_still_added_up_within_its_mask():
    runs = run_lengths.to_runs([], [(0, "121"), (1, "022")], n_pixels=np.array([4, 4]))
    assert [part.tolist() for part in runs] == [[0, 1], [1, 0], [3, 2]]


def test_predictions_without_any_mask_find_nothing():
    name = "a" * 32
    truth = Dataset.of([image(name)], [thing(name, [[0, 0, 9, 0, 9, 9]])], labels=["dog"])
    assert evaluate(truth, Dataset.of(), kind="masks").ap == 0
    assert math.isnan(evaluate(Dataset.of(), Dataset.of(), kind="masks").ap)
    empty = Dataset.of([image(name)], [thing(name, {"size": [60, 80], "counts": [4800]}, score=0.9)], labels=["dog"])
    assert evaluate(truth, empty, kind="masks").ap == 0


def test_only_boxes_and_masks_can_be_compared():
    with pytest.raises(InvalidTable, match="'boxes', 'masks'"):
        evaluate(Dataset.of(), Dataset.of(), kind="points")
