"""The Dataset value: checked once, never changed, and clear about what nobody has labelled."""

import dataclasses

import pandas as pd
import pytest

from ymir_nb.backend.dataset import Dataset, NoMedia
from ymir_nb.backend.errors import InvalidTable, ObjectMissing

A, B, C = "a" * 32, "b" * 32, "c" * 32


def image(name, *, labelled=True):
    return {
        "image": name,
        "file": "x.png",
        "format": "PNG",
        "mode": "RGB",
        "width": 9,
        "height": 9,
        "n_bytes": 1,
        "labelled": labelled,
    }


def box(name, label="dog", **more):
    return {"image": name, "label": label, "x1": 0, "y1": 0, "x2": 4, "y2": 3} | more


def three_images():
    """Give one image with a dog, one negative and one that nobody has labelled."""
    return Dataset.of([image(A), image(B), image(C, labelled=False)], [box(A)], labels=["dog", "cat"])


def test_case_27_a_negative_and_an_unlabelled_image_are_never_confused():
    dataset = three_images()
    assert (len(dataset), dataset.n_boxes, dataset.n_negatives, dataset.n_unlabelled) == (3, 1, 1, 1)
    assert repr(dataset) == "<Dataset: 3 images, 1 boxes, 1 negatives, 1 unlabelled>"
    assert dataset.images["labelled"].tolist() == [True, True, False]


def test_case_27_an_image_is_unlabelled_until_somebody_says_otherwise():
    row = {key: value for key, value in image(A).items() if key != "labelled"}
    dataset = Dataset.of([row])
    assert (dataset.n_negatives, dataset.n_unlabelled) == (0, 1)


def test_case_27_ground_truth_on_an_unlabelled_image_is_refused():
    with pytest.raises(InvalidTable, match=f"1 images carry ground truth and say labelled=False, the first is {C}"):
        Dataset.of([image(C, labelled=False)], [box(C), box(C, x1=1)], labels=["dog"])


def test_case_27_predictions_on_an_unlabelled_image_leave_it_unlabelled():
    dataset = Dataset.of([image(C, labelled=False)], [box(C, score=0.5)], labels=["dog"])
    assert (dataset.n_boxes, dataset.n_negatives, dataset.n_unlabelled) == (1, 0, 1)


def test_case_27_the_last_box_taken_away_makes_a_negative_not_an_unlabelled_image():
    dataset = three_images()
    without = Dataset.of(dataset.images, dataset.annotations.head(0), labels=dataset.labels)
    assert (without.n_negatives, without.n_unlabelled) == (2, 1)


def test_an_object_on_an_image_that_is_not_there_is_refused():
    with pytest.raises(InvalidTable, match=f"1 objects lie on images that are not.*first on {B}"):
        Dataset.of([image(A)], [box(A), box(B)], labels=["dog"])


def test_an_object_of_a_label_that_is_not_declared_is_refused():
    with pytest.raises(InvalidTable, match=r"labels 'cat', 'owl' are not among the dataset's labels \('dog'\)"):
        Dataset.of([image(A)], [box(A), box(A, "owl"), box(A, "cat")], labels=["dog"])


def test_a_label_that_is_declared_twice_is_refused():
    with pytest.raises(InvalidTable, match="labels 'dog' are declared twice"):
        Dataset.of(labels=["dog", "cat", "dog"])


def test_counts_follow_the_order_of_the_labels_and_name_those_without_objects():
    dataset = Dataset.of([image(A)], [box(A, "cat"), box(A, "dog"), box(A, "dog", x1=1)], labels=["owl", "dog", "cat"])
    assert list(dataset.counts().items()) == [("owl", 0), ("dog", 2), ("cat", 1)]


def test_rows_in_any_order_make_the_same_dataset():
    rows = [box(A), box(A, "cat"), box(B)]
    first = Dataset.of([image(A), image(B)], rows, labels=["dog", "cat"])
    second = Dataset.of([image(B), image(A)], rows[::-1], labels=["dog", "cat"])
    assert first == second
    pd.testing.assert_frame_equal(first.annotations, second.annotations)


def test_datasets_are_equal_by_content_and_different_by_any_part_of_it():
    dataset = three_images()
    assert dataset == dataclasses.replace(three_images(), ref="train@v3")
    assert dataset != dataclasses.replace(dataset, labels=("cat", "dog"))
    assert dataset != dataclasses.replace(dataset, annotations=dataset.annotations.assign(x1=1.0))
    assert dataset != dataclasses.replace(dataset, images=dataset.images.assign(split="val"))
    assert dataset != "train@v3"


def test_a_dataset_cannot_be_changed_and_does_not_change_what_it_was_made_from():
    frame = pd.DataFrame([image(B), image(A)])
    dataset = Dataset.of(frame)
    assert frame["image"].tolist() == [B, A]
    with pytest.raises(dataclasses.FrozenInstanceError):
        dataset.ref = "other"


def test_a_dataset_shows_where_it_was_read():
    assert repr(Dataset.of(ref="train@v3")) == "<train@v3: 0 images, 0 boxes, 0 negatives, 0 unlabelled>"


@pytest.mark.parametrize(
    "ask",
    [lambda m: m.path(A), lambda m: m.read(A), lambda m: m.thumbnail(A, side_px=64)],
    ids=["path", "read", "thumb"],
)
def test_a_dataset_of_tables_alone_says_that_it_has_no_files(ask):
    assert isinstance(Dataset.of().media, NoMedia)
    with pytest.raises(ObjectMissing, match=f"image {A}: this dataset lives in memory"):
        ask(Dataset.of().media)
