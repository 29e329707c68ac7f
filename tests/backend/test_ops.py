import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ymir_nb.backend import ops
from ymir_nb.backend.dataset import Dataset
from ymir_nb.backend.errors import InvalidTable, LabelNotFound, MergeConflict


def dataset(spec, labels=("dog", "cat")):
    """Make a dataset of `{image: [labels] or None}`; None is not labelled yet."""
    images = [
        {
            "image": name,
            "file": f"{name}.jpg",
            "format": "JPEG",
            "mode": "RGB",
            "width": 9,
            "height": 9,
            "n_bytes": 1,
            "labelled": found is not None,
        }
        for name, found in spec.items()
    ]
    boxes = [
        {"image": name, "label": label, "x1": place, "y1": 0, "x2": place + 1, "y2": 1}
        for name, found in spec.items()
        for place, label in enumerate(found or [])
    ]
    return Dataset.of(images, boxes, labels=labels)


specs = st.dictionaries(
    st.sampled_from("abcdefgh"), st.none() | st.lists(st.sampled_from(["dog", "cat"]), max_size=3), max_size=8
)


def test_merge_keeps_each_image_once_and_every_box():
    merged = ops.merge([dataset({"a": ["dog"], "b": None}), dataset({"c": ["cat", "cat"], "a": ["dog"]})])
    assert merged.images["image"].tolist() == ["a", "b", "c"]
    assert merged.counts() == {"dog": 1, "cat": 2}


def test_merge_takes_the_labelled_side_of_an_image_whatever_the_order():
    for sides in ([{"a": None}, {"a": ["dog"]}], [{"a": ["dog"]}, {"a": None}]):
        for conflicts in ops.CONFLICTS:
            merged = ops.merge([dataset(side) for side in sides], conflicts=conflicts)
            assert (merged.n_unlabelled, merged.n_boxes) == (0, 1)


def test_merge_stops_at_images_annotated_in_two_ways_and_names_them():
    sides = [dataset({"a": ["dog"], "b": []}), dataset({"a": ["cat"], "b": []})]
    with pytest.raises(MergeConflict, match=r"1 images .* a\.jpg"):
        ops.merge(sides)
    assert ops.merge(sides, conflicts="first").annotations["label"].tolist() == ["dog"]
    assert ops.merge(sides, conflicts="last").annotations["label"].tolist() == ["cat"]


def test_merge_sees_a_negative_against_a_box_as_a_conflict():
    with pytest.raises(MergeConflict):
        ops.merge([dataset({"a": []}), dataset({"a": ["dog"]})])


@given(specs, specs)
def test_merging_loses_no_image_and_no_box_that_only_one_side_has(first, second):
    merged = ops.merge([dataset(first), dataset(second)], conflicts="last")
    assert set(merged.images["image"]) == set(first) | set(second)
    for name in set(first) ^ set(second):
        found = {**first, **second}[name] or []
        assert (merged.annotations["image"] == name).sum() == len(found)


@given(specs)
def test_merging_with_itself_changes_nothing(spec):
    one = dataset(spec)
    merged = ops.merge([one, one])
    assert merged.images.equals(one.images)
    assert merged.annotations.equals(one.annotations)


def test_filter_by_labels_keeps_any_of_and_leaves_out_none_of():
    pets = dataset({"a": ["dog"], "b": ["dog", "cat"], "c": [], "d": None})
    assert ops.filter(pets, any_of=["dog"]).images["image"].tolist() == ["a", "b"]
    assert ops.filter(pets, none_of=["cat"]).images["image"].tolist() == ["a", "c", "d"]
    assert ops.filter(pets, any_of=["dog"], none_of=["cat"]).images["image"].tolist() == ["a"]
    assert ops.filter(pets, any_of=["cat"]).n_boxes == 2
    with pytest.raises(LabelNotFound, match="it has dog, cat"):
        ops.filter(pets, any_of=["cow"])


def test_case_27_filter_tells_negatives_from_unlabelled():
    pets = dataset({"a": ["dog"], "c": [], "d": None})
    names = {state: ops.filter(pets, state=state).images["image"].tolist() for state in ops.STATES}
    assert names == {"labelled": ["a", "c"], "negative": ["c"], "unlabelled": ["d"]}


def test_exclude_knows_images_by_their_content():
    rest = ops.exclude(dataset({"a": ["dog"], "b": [], "c": None}), dataset({"a": None}), dataset({"c": []}))
    assert rest.images["image"].tolist() == ["b"]


def test_sample_is_the_same_for_a_seed_and_grows_with_n():
    pets = dataset({name: [] for name in "abcdefgh"})
    three, five = (set(ops.sample(pets, n=n, seed=4).images["image"]) for n in (3, 5))
    assert len(three) == 3
    assert three < five
    assert set(ops.sample(pets, rate=0.5, seed=4).images["image"]) == set(ops.sample(pets, n=4, seed=4).images["image"])
    assert len({frozenset(ops.sample(pets, n=4, seed=s).images["image"]) for s in range(9)}) > 1
    assert len(ops.sample(pets, n=99)) == 8


@pytest.mark.parametrize("wrong", [{}, {"n": 1, "rate": 0.1}, {"n": -1}, {"rate": 1.5}])
def test_sample_refuses_what_it_cannot_draw(wrong):
    with pytest.raises(InvalidTable):
        ops.sample(dataset({"a": []}), **wrong)


def test_split_fills_the_column_by_share():
    pets = ops.split(dataset({f"{n:02}": [] for n in range(50)}), {"train": 0.7, "val": 0.2, "test": 0.1}, seed=1)
    assert pets.images["split"].value_counts().to_dict() == {"train": 35, "val": 10, "test": 5}
    assert len(ops.filter(pets, split="val")) == 10
    with pytest.raises(InvalidTable, match="add up to 1"):
        ops.split(pets, {"train": 0.7})


def test_label_from_takes_the_truth_of_the_same_images_and_leaves_the_rest_open():
    mined = dataset({"a": None, "b": None, "c": None})
    truth = dataset({"a": ["dog", "cat"], "b": [], "z": ["dog"]})
    labelled = ops.label_from(mined, truth, labels=["dog"])
    assert labelled.images.set_index("image")["labelled"].to_dict() == {"a": True, "b": True, "c": False}
    assert labelled.annotations["label"].tolist() == ["dog"]


def test_operations_leave_their_input_as_it_was():
    pets = dataset({"a": ["dog"], "b": None})
    images, annotations = pets.images.copy(), pets.annotations.copy()
    ops.unlabel(pets), ops.split(pets, {"train": 1.0}), ops.sample(pets, n=1), ops.merge([pets, pets])
    assert pets.images.equals(images)
    assert pets.annotations.equals(annotations)


def test_the_order_of_images_does_not_decide_a_draw():
    names = [f"{n:03}" for n in range(30)]
    mixed = list(np.random.default_rng(0).permutation(names))
    assert ops.shuffled(names, seed=3).tolist() == ops.shuffled(mixed, seed=3).tolist()
