"""Dataset analysis: YMIR's buckets and hints."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ymir_nb.backend.analysis import BUCKETS, analyse
from ymir_nb.backend.dataset import Dataset

BCCD = Path(__file__).resolve().parents[2] / "../shared/data/bccd_voc"


def image(name, **more):
    base = {"file": name, "format": "PNG", "mode": "RGB", "width": 100, "height": 50, "n_bytes": 2**19}
    return {"image": name, **base, "labelled": True, **more}


def box(name, x1=0.0, y1=0.0, x2=10.0, y2=10.0, *, label="dog", **more):
    return {"image": name, "label": label, "x1": x1, "y1": y1, "x2": x2, "y2": y2, **more}


def filled(analysis, chart):
    """The buckets of a chart that hold anything, by their lower end."""
    rows = analysis.histogram(chart)
    return {float(low): int(n) for low, n in zip(rows["low"], rows["n"], strict=True) if n}


def test_the_buckets_are_those_of_ymir():
    assert BUCKETS["image_area"] == (0, 1e5, 5e5, 1e6, 2e6, 4e6, 6e6, 8e6)
    assert BUCKETS["box_area"] == BUCKETS["mask_area"] == (0, 1, 50, 500, 2500, 5000, 1e4, 5e4, 1e5, 2e5)
    assert BUCKETS["objects_per_image"] == (0, 1, 2, 3, 4, 5, 10, 15, 20, 30, 40, 50, 100)
    assert BUCKETS["image_hw_ratio"][-1] == 1.5
    assert BUCKETS["image_megabytes"][-1] == 5
    assert BUCKETS["image_quality"] == pytest.approx(np.linspace(0, 1, 11))


@pytest.mark.parametrize(
    ("chart", "given", "bucket"),
    [
        ("image_quality", {"quality": 0.25}, 0.2),
        ("image_quality", {"quality": 1.0}, 1.0),
        ("image_megabytes", {"n_bytes": 2**19}, 0.5),
        ("image_megabytes", {"n_bytes": 2**19 - 1}, 0.0),
        ("image_megabytes", {"n_bytes": 2**30}, 5.0),
        ("image_area", {"width": 1000, "height": 100}, 1e5),
        ("image_area", {"width": 4000, "height": 2000}, 8e6),
        ("image_hw_ratio", {"width": 100, "height": 30}, 0.3),
        ("image_hw_ratio", {"width": 10, "height": 90}, 1.5),
    ],
)
def test_images_fall_into_the_bucket_whose_lower_end_they_reach(chart, given, bucket):
    assert filled(analyse(Dataset.of([image("a" * 32, **given)])), chart) == {bucket: 1}


@pytest.mark.parametrize(
    ("chart", "given", "bucket"),
    [
        ("box_area", {"x2": 10.0, "y2": 5.0}, 50),
        ("box_area", {"x2": 0.0}, 0),
        ("box_area_ratio", {"x2": 100.0, "y2": 50.0}, 1.0),
        ("box_area_ratio", {"x2": 50.0, "y2": 10.0}, 0.1),
        ("box_hw_ratio", {"x2": 10.0, "y2": 7.0}, 0.7),
        ("box_quality", {"quality": 0.5}, 0.5),
        ("mask_area", {"segmentation": "[[0, 0, 9, 0, 9, 9]]", "area_px": 500.0}, 500),
    ],
)
def test_boxes_fall_into_the_bucket_whose_lower_end_they_reach(chart, given, bucket):
    name = "a" * 32
    result = analyse(Dataset.of([image(name)], [box(name, **given)], labels=["dog"]))
    assert filled(result, chart) == {bucket: 1}


def test_what_is_not_known_is_in_no_bucket():
    name = "a" * 32
    result = analyse(Dataset.of([image(name)], [box(name, 5, 0, 5, 10)], labels=["dog"]))
    for chart in ("image_quality", "box_quality", "mask_area", "box_hw_ratio"):
        assert filled(result, chart) == {}


def test_case_27_images_that_nobody_labelled_are_no_negatives():
    names = [f"{i:032x}" for i in range(4)]
    images = [image(name, labelled=i < 3) for i, name in enumerate(names)]
    boxes = [box(names[0]), box(names[0], 1), box(names[1], label="cat")]
    result = analyse(Dataset.of(images, boxes, labels=["dog", "cat"]))
    totals = result.totals
    assert (totals["n_positives"], totals["n_negatives"], totals["n_unlabelled"]) == (2, 1, 1)
    assert filled(result, "objects_per_image") == {0: 1, 1: 1, 2: 1}
    assert filled(result, "labels_per_image") == {0: 1, 1: 2}
    assert result.per_label[["label", "n_objects", "n_images"]].to_numpy().tolist() == [["dog", 2, 1], ["cat", 1, 1]]


def test_predictions_are_counted_on_every_image():
    names = [f"{i:032x}" for i in range(2)]
    found = Dataset.of([image(n, labelled=False) for n in names], [box(names[0], score=0.9)], labels=["dog"])
    assert filled(analyse(found), "objects_per_image") == {0: 1, 1: 1}


def crowded(sizes, *, labels=("dog", "cat")):
    """A dataset with so many boxes of each label on each image."""
    names = [f"{i:032x}" for i in range(len(sizes))]
    boxes = [
        box(name, 12 * i, 0, 12 * i + 10, 10, label=label)
        for name, counts in zip(names, sizes, strict=True)
        for label, n in zip(labels, counts, strict=True)
        for i in range(n)
    ]
    return Dataset.of([image(name) for name in names], boxes, labels=labels)


def test_hints_name_small_labels_rare_labels_and_rare_densities():
    hints = analyse(crowded([(3, 0)] * 200 + [(0, 7)] * 8)).hints()
    assert hints == [
        "Fewer than 500 objects: 'cat' (56). Label more of them.",
        "Less than a tenth of the 600 objects of 'dog': 'cat' (56). Choose images that hold them next.",
        (
            "Less than a tenth of the 200 images with 1 to 3 boxes: 4 to 10 boxes (8 images), more than 10 boxes "
            "(0 images). Add images that are as crowded as those that the model will see."
        ),
    ]


def test_a_tenth_and_five_hundred_are_enough():
    even = analyse(crowded([(50, 50)] * 10 + [(4, 4)] * 10 + [(1, 1)] * 10)).hints()
    assert even == []
    assert analyse(crowded([(500, 50)])).hints()[0] == "Fewer than 500 objects: 'cat' (50). Label more of them."
    assert not any("tenth of the 500" in hint for hint in analyse(crowded([(500, 50)])).hints())


def test_an_analysis_goes_to_json_and_escapes_labels():
    empty = analyse(Dataset.of(labels=["<img src=x>"]))
    text = json.dumps(empty.to_dict(), allow_nan=False)
    assert json.loads(text)["per_label"][0]["median_box_area_px"] is None
    assert "<img" not in empty._repr_html_()
    assert analyse(Dataset.of()).hints() == []
    assert repr(analyse(Dataset.of())) == "<Analysis: 0 images, 0 boxes, 0 hints>"


rows = st.lists(
    st.tuples(st.integers(0, 4), st.sampled_from("ab"), st.integers(0, 100), st.integers(0, 50)), max_size=40
)


@settings(max_examples=40, deadline=None)
@given(rows=rows, labelled=st.integers(0, 5))
def test_counts_add_up_whatever_is_drawn(rows, labelled):
    names = [f"{i:032x}" for i in range(5)]
    images = [image(name, labelled=i < labelled) for i, name in enumerate(names)]
    boxes = [box(names[i], 0, 0, w, h, label=label) for i, label, w, h in rows if i < labelled]
    result = analyse(Dataset.of(images, boxes, labels="ab"))
    n = result.histograms.groupby("chart")["n"].sum()
    assert n["image_area"] == n["image_megabytes"] == n["image_hw_ratio"] == 5
    assert n["objects_per_image"] == n["labels_per_image"] == labelled
    assert n["box_area"] == n["box_area_ratio"] == len(boxes) == result.per_label["n_objects"].sum()
    totals = result.totals
    assert totals["n_positives"] + totals["n_negatives"] + totals["n_unlabelled"] == totals["n_images"]
    assert result.densities["n_images"].sum() == totals["n_positives"]
    assert math.isclose(result.per_label["share"].sum(), 1.0 if boxes else 0.0)


def test_real_blood_cells_are_analysed():
    if not BCCD.exists():
        pytest.skip(f"the dataset is not at {BCCD}")
    from xml.etree import ElementTree as ET

    images, boxes = [], []
    for i, path in enumerate(sorted((BCCD / "Annotations").glob("*.xml"))):
        root, name = ET.parse(path).getroot(), f"{i:032x}"
        size = {tag: int(root.findtext(f"size/{tag}")) for tag in ("width", "height")}
        images.append(image(name, **size))
        for entry in root.iter("object"):
            four = [float(entry.findtext(f"bndbox/{edge}")) for edge in ("xmin", "ymin", "xmax", "ymax")]
            boxes.append(box(name, *four, label=entry.findtext("name")))
    labels = sorted({entry["label"] for entry in boxes})
    result = analyse(Dataset.of(images, boxes, labels=labels))
    assert result.totals["n_boxes"] == len(boxes) > 1000
    assert result.histogram("image_area")["n"].tolist() == [0, len(images), *[0] * 6]
    assert labels == ["Platelets", "RBC", "WBC"]
    assert result.hints()[0].startswith("Fewer than 500 objects: ")
    assert "of 'RBC': " in result.hints()[1]
