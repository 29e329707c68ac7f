"""AP of mixtures of images, intervals, slices and the comparison of two models."""

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ymir_nb.backend import ops
from ymir_nb.backend.comparison import compare
from ymir_nb.backend.dataset import Dataset
from ymir_nb.backend.errors import InvalidTable
from ymir_nb.backend.metrics import evaluate
from ymir_nb.backend.outcomes import METRICS, Outcomes, by_label
from ymir_nb.backend.resampling import draws, interval, intervals
from ymir_nb.backend.slices import keys, slice_by

A, B = "a" * 32, "b" * 32
CORNERS = ["x1", "y1", "x2", "y2"]


def image(name, **more):
    base = {"file": name, "format": "PNG", "mode": "RGB", "width": 600, "height": 600, "n_bytes": 1, "labelled": True}
    return {"image": name, **base, **more}


def box(name, x1=0.0, y1=0.0, x2=10.0, y2=10.0, *, label="dog", **more):
    return {"image": name, "label": label, "x1": x1, "y1": y1, "x2": x2, "y2": y2, **more}


def dataset(names, rows, *, labels=("dog",)):
    return Dataset.of([image(name) for name in names], rows, labels=labels)


def random_pair(seed, *, n_images=12, n_labels=3, n_found=150, crowds=0.15, scores=20, skill=0.7):
    rng = np.random.default_rng(seed)
    names, labels = [f"{i:032x}" for i in range(n_images)], tuple("abcdefgh"[:n_labels])
    truth_rng = np.random.default_rng(1000)

    def corners(rng, n):
        near = rng.uniform(0, 60, (n, 2))
        return np.hstack([near, near + rng.uniform(2, 90, (n, 2))])

    n_truth = 4 * n_images
    truth = pd.DataFrame(corners(truth_rng, n_truth), columns=CORNERS)
    truth["image"], truth["label"] = truth_rng.choice(names, n_truth), truth_rng.choice(labels, n_truth)
    truth["crowd"] = truth_rng.random(n_truth) < crowds
    found = pd.DataFrame(corners(rng, n_found), columns=CORNERS)
    found["image"], found["label"] = rng.choice(names, n_found), rng.choice(labels, n_found)
    copied = truth.iloc[rng.integers(0, n_truth, n_found)].reset_index(drop=True)
    near = rng.random(n_found) < skill
    found.loc[near, CORNERS] = (copied[CORNERS] + rng.normal(0, 4, (n_found, 4)))[near]
    found.loc[near, ["image", "label"]] = copied.loc[near, ["image", "label"]]
    found[["x2", "y2"]] = np.maximum(found[["x2", "y2"]], found[["x1", "y1"]].to_numpy())
    found["score"] = np.round((rng.random(n_found) + near) / 2 * scores) / scores
    return dataset(names, truth, labels=labels), dataset(names, found, labels=labels)


def assert_equals_evaluation(outcomes, truth, found, weights):
    ap = outcomes.ap(weights[None])[0]
    evaluation = evaluate(truth, found)
    for metric in METRICS:
        assert by_label(ap[None], metric)[0, 0] == pytest.approx(getattr(evaluation, metric), abs=1e-9, nan_ok=True)
    np.testing.assert_allclose(by_label(ap[None], "ap")[0, 1:], evaluation.per_label["ap"], atol=1e-9)
    np.testing.assert_allclose(by_label(ap[None], "ap50")[0, 1:], evaluation.per_label["ap50"], atol=1e-9)


@pytest.mark.parametrize("seed", range(6))
def test_every_image_once_gives_the_ap_of_the_evaluation(seed):
    truth, found = random_pair(seed, n_found=400 if seed % 2 else 100)
    assert_equals_evaluation(Outcomes.of(truth, found), truth, found, np.ones(len(truth)))


def test_only_the_best_hundred_detections_of_a_label_on_an_image_count():
    truth, found = random_pair(1, n_images=3, n_labels=1, n_found=600)
    assert found.annotations.groupby("image").size().max() > 150
    assert_equals_evaluation(Outcomes.of(truth, found), truth, found, np.ones(3))


@pytest.mark.parametrize("seed", range(3))
def test_a_part_of_the_images_gives_the_ap_of_that_part(seed):
    truth, found = random_pair(seed)
    outcomes = Outcomes.of(truth, found)
    for chosen in np.random.default_rng(seed).random((3, len(truth))) < 0.5:
        part = ops.take(truth, outcomes.images[chosen])
        assert_equals_evaluation(outcomes, part, found, chosen.astype(float))


def test_an_image_drawn_twice_counts_as_two_images_with_the_same_boxes():
    truth, found = random_pair(2, scores=1e9)
    weights = np.random.default_rng(0).integers(0, 4, len(truth)).astype(float)
    names = sorted(truth.images["image"])

    def copied(value):
        # Copies lie behind each other in the table, as equal scores of copies count one after the other.
        new = {f"{name}{i}": name for name, n in zip(names, weights, strict=True) for i in range(int(n))}
        rows = [value.annotations[value.annotations["image"] == old].assign(image=name) for name, old in new.items()]
        return Dataset.of([image(name) for name in new], pd.concat(rows), labels=value.labels)

    assert_equals_evaluation(Outcomes.of(truth, found), copied(truth), copied(found), weights)


def test_mixtures_that_do_not_fit_together_give_the_same_numbers(monkeypatch):
    truth, found = random_pair(3)
    weights = next(draws(len(truth), n=20, seed=0))
    whole = Outcomes.of(truth, found).ap(weights)
    monkeypatch.setattr("ymir_nb.backend.outcomes._CELLS_AT_ONCE", 10)
    np.testing.assert_array_equal(Outcomes.of(truth, found).ap(weights), whole)


def test_draws_are_as_many_images_as_there_are_and_the_same_for_the_same_seed():
    first, again, other = (np.concatenate(list(draws(7, n=50, seed=seed))) for seed in (1, 1, 2))
    assert first.shape == (50, 7)
    assert (first.sum(axis=1) == 7).all()
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_intervals_hold_the_measured_value_and_narrow_with_more_images():
    few, many = (intervals(*random_pair(4, n_images=n, n_found=12 * n), n=200) for n in (10, 160))
    for frame in (few, many):
        assert (frame["low"] <= frame["value"]).all()
        assert (frame["value"] <= frame["high"]).all()
        assert ((frame[["low", "high"]] >= 0) & (frame[["low", "high"]] <= 1)).all(axis=None)
    width = [(frame["high"] - frame["low"])[frame["label"] == ""].mean() for frame in (few, many)]
    assert width[1] < 0.5 * width[0]
    assert few["label"].tolist() == ["", "", "", *(label for label in "abc" for _ in METRICS)]


def test_intervals_are_mirrored_and_stretched_to_the_measured_value():
    drawn = np.linspace(0.4, 0.6, 101)[:, None]
    low, high = interval(np.array([0.45]), drawn, 0.9)
    assert (low.item(), high.item()) == pytest.approx((0.31, 0.49))
    low, high = interval(np.array([0.3]), drawn, 0.9)
    assert (low.item(), high.item()) == pytest.approx((0.01, 0.3))


def test_intervals_know_nothing_of_a_label_without_truth_and_refuse_what_gives_none():
    name = A
    truth, found = dataset([name], [box(name)], labels=("dog", "cat")), dataset([name], [box(name, score=0.9)])
    frame = intervals(truth, found, n=10).set_index(["label", "metric"])
    assert frame.loc[("dog", "ap"), ["value", "low", "high"]].tolist() == pytest.approx([1, 1, 1])
    assert frame.loc["cat"].isna().all(axis=None)
    for wrong in ({"n": 0}, {"level": 1.0}):
        with pytest.raises(InvalidTable, match="bootstrap needs"):
            intervals(truth, found, **wrong)


def test_a_better_model_is_told_from_a_worse_one_and_a_like_one_is_not():
    truth, bad = random_pair(5, n_images=60, n_found=400, skill=0.2)
    _, good = random_pair(6, n_images=60, n_found=400, skill=0.9)
    _, alike = random_pair(7, n_images=60, n_found=400, skill=0.9)
    result = compare(truth, bad, good, n=200)
    row = result.overall.set_index("metric").loc["ap"]
    assert result.verdict().startswith("The second is better: AP 0.")
    assert row["p_better"] == 1.0
    assert row["difference"] == pytest.approx(evaluate(truth, good).ap - evaluate(truth, bad).ap)
    assert compare(truth, good, bad, n=200).verdict().startswith("The first is better")
    assert compare(truth, good, alike, n=200).verdict().startswith("These images cannot tell")


def test_a_model_compared_with_itself_differs_nowhere():
    truth, found = random_pair(8)
    result = compare(truth, found, found, n=50)
    assert (result.per_label[["difference", "low", "high"]] == 0).all(axis=None)
    assert (result.per_label["p_better"] == 0.5).all()
    assert set(result.images["better"]) == {"same"}


def test_what_is_paired_is_drawn_together():
    """The two models' ups and downs share the images, so their difference varies less than each."""
    truth, first = random_pair(9, n_images=40, n_found=300)
    second = Dataset.of(first.images, first.annotations.iloc[::-2], labels=first.labels)
    paired = compare(truth, first, second, n=200).overall
    alone = [intervals(truth, found, n=200).query("label == ''") for found in (first, second)]
    width = [(frame["high"] - frame["low"]).to_numpy() for frame in (paired, *alone)]
    assert (width[0] < np.hypot(width[1], width[2])).all()


def test_images_that_each_model_gets_right_are_named():
    names = [f"{i:032x}" for i in range(4)]
    truth = dataset(names, [box(name) for name in names[:3]])
    first = dataset(names, [box(names[0], score=0.9), box(names[1], score=0.9)])
    second = dataset(names, [box(names[0], score=0.9), box(names[2], score=0.9), box(names[3], score=0.9)])
    result = compare(truth, first, second, n=10)
    assert result.where(first="right", second="wrong") == [names[1], names[3]]
    assert result.where(first="wrong", second="right") == [names[2]]
    assert result.where(first="right", second="right") == [names[0]]
    assert result.where() == names
    row = result.images.set_index("image").loc[names[3]]
    assert (row["second_false"], row["second_missed"], row["better"]) == (1, 0, "first")
    assert result.images["image"].tolist() == [names[2], names[0], names[1], names[3]]
    with pytest.raises(InvalidTable, match="right, wrong"):
        result.where(first="good")


def test_predictions_on_different_images_are_refused_with_the_fix():
    truth = dataset([A, B], [box(A)])
    first, second = dataset([A, B], [box(A, score=0.9)]), dataset([A], [box(A, score=0.9)])
    with pytest.raises(InvalidTable, match=r"1 are shared, 1 only in the first, 0 only in the second.*ops.take"):
        compare(truth, first, second)
    shared = set(first.images["image"]) & set(second.images["image"])
    result = compare(*(ops.take(value, shared) for value in (truth, first, second)), n=10)
    assert len(result.images) == 1


def test_labels_that_one_model_does_not_know_are_left_out_and_named():
    truth = dataset([A], [box(A), box(A, 50, 0, 60, 10, label="cat")], labels=("dog", "cat"))
    both = dataset([A], [box(A, score=0.9), box(A, 50, 0, 60, 10, label="cat", score=0.9)], labels=("dog", "cat"))
    one = dataset([A], [box(A, score=0.9)])
    result = compare(truth, both, one, n=10)
    assert (result.labels, result.left_out) == (("dog",), ("cat",))
    assert result.images[["first_right", "second_right"]].all(axis=None)
    with pytest.raises(InvalidTable, match="know none of these in common"):
        compare(truth, one, dataset([A], [], labels=("cat",)))


def test_case_51_nothing_to_compare_is_said_and_the_order_of_rows_plays_no_part():
    empty = dataset([A], [])
    assert compare(empty, empty, empty, n=5).verdict().endswith("nothing can be said.")
    assert compare(Dataset.of(), Dataset.of(), Dataset.of(), n=5).images.empty
    truth, found = random_pair(1)
    _, other = random_pair(2)
    mixed = Dataset.of(other.images.iloc[::-1], other.annotations.sample(frac=1, random_state=3), labels=other.labels)
    first, second = (compare(truth, found, value, n=20) for value in (other, mixed))
    pd.testing.assert_frame_equal(first.per_label, second.per_label)
    pd.testing.assert_frame_equal(first.images, second.images)


def test_slices_of_images_have_the_ap_of_their_images_alone():
    truth, found = random_pair(3)
    site = ['{"site": "north"}', '{"site": "south"}', "{}"]
    images = truth.images.assign(keys=[site[i % 3] for i in range(len(truth))])
    truth = Dataset.of(images, truth.annotations, labels=truth.labels)
    table = slice_by(truth, found, "site")
    assert table["slice"].tolist() == ["north", "south", ""]
    assert table["n_images"].sum() == len(truth)
    assert table["n_boxes"].sum() == (~truth.annotations["crowd"]).sum()
    assert table["n_predictions"].sum() == found.n_boxes
    for row, text in zip(table.itertuples(), site, strict=True):
        part = ops.take(truth, images.loc[images["keys"] == text, "image"])
        assert row.ap == pytest.approx(evaluate(part, found).ap)
        assert row.ap75 == pytest.approx(evaluate(part, found).ap75)


def test_slices_of_boxes_ignore_the_other_boxes():
    rows = [box(A, tags='{"occluded": "yes"}'), box(A, 50, 0, 60, 10, tags='{"occluded": "no"}'), box(B)]
    truth = dataset([A, B], rows)
    found = dataset([A, B], [box(A, 50, 0, 60, 10, score=0.9), box(A, score=0.8), box(B, 80, 0, 90, 10, score=0.5)])
    table = slice_by(truth, found, "occluded", of="box").set_index("slice")
    assert table["n_boxes"].to_dict() == {"no": 1, "yes": 1, "": 1}
    assert table["n_images"].to_dict() == {"no": 1, "yes": 1, "": 1}
    assert table["ap50"].to_dict() == pytest.approx({"no": 1.0, "yes": 1.0, "": 0.0})


def test_what_a_dataset_can_be_sliced_by_is_listed_and_named_in_the_refusal():
    truth = Dataset.of([image(A, keys='{"site": "n", "n": 3}')], [box(A, tags='{"blur": "1"}')], labels=["dog"])
    assert {"site", "n", "split"} <= set(keys(truth)["image"])
    assert keys(truth)["box"] == ["blur"]
    found = dataset([A], [])
    assert slice_by(truth, found, "n")["slice"].tolist() == ["3"]
    assert slice_by(truth, found, "split")["slice"].tolist() == [""]
    with pytest.raises(InvalidTable, match=r"no images of the truth have a key 'camera'.*'site'"):
        slice_by(truth, found, "camera")
    with pytest.raises(InvalidTable, match=r"no boxes of the truth have a key 'site'.*'blur'"):
        slice_by(truth, found, "site", of="box")
    names = [f"{i:032x}" for i in range(300)]
    each = Dataset.of([image(name, keys=f'{{"id": "{name}"}}') for name in names], labels=["dog"])
    with pytest.raises(InvalidTable, match="300 values"):
        slice_by(each, Dataset.of(), "id")


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), values=st.lists(st.sampled_from(["x", "y", ""]), min_size=4, max_size=4))
def test_slices_add_up_to_the_whole(seed, values):
    truth, found = random_pair(seed, n_images=4, n_found=30)
    marked = [f'{{"key": "{value}"}}' if value else "{}" for value in values]
    if not any(values):
        marked[0] = '{"key": "x"}'
    truth = Dataset.of(truth.images.assign(keys=marked), truth.annotations, labels=truth.labels)
    table = slice_by(truth, found, "key")
    assert table["n_images"].sum() == 4
    assert table["n_boxes"].sum() == (~truth.annotations["crowd"]).sum()
    assert table["n_predictions"].sum() == 30
    for row in table.itertuples():
        assert math.isnan(row.ap) == (row.n_boxes == 0)
