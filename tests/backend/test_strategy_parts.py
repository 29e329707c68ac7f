"""What each strategy prefers, on small scenes where the answer is plain; grouping, comparing, pools."""

from __future__ import annotations

import math
import time
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from ymir_nb.backend.errors import InvalidTable, ProjectError
from ymir_nb.backend.strategies import (
    STRATEGIES,
    ClassScores,
    Evidence,
    Features,
    compare_strategies,
    group_duplicates,
    hybrid_pool,
    left_out,
    select,
)
from ymir_nb.backend.strategies.hybrid import MOST_DIMENSIONS, hybrid
from ymir_nb.backend.strategies.ranking import top_sum
from ymir_nb.backend.strategies.spreading import PART, farthest_first, nearest, unit
from ymir_nb.backend.strategies.uncertainty import AGGREGATIONS, aggregate, entropy


def images(n):
    return pd.DataFrame({"image": [f"{i:032x}" for i in range(n)]})


def boxes(*rows):
    """Rows of image, label, score, and optionally x1 y1 x2 y2."""
    table = [(*row, *(0, 0, 10, 10)[: 7 - len(row)]) for row in rows]
    frame = pd.DataFrame(table, columns=["image", "label", "score", "x1", "y1", "x2", "y2"])
    return frame.assign(image=[f"{i:032x}" for i in frame["image"]]).astype({"label": "str", "score": float})


def vectors(*rows, labels=()):
    """A vector for each image; `labels` adds rows of image, label, score, vector."""
    frame = [(f"{i:032x}", "", 1.0) for i in range(len(rows))]
    frame += [(f"{i:032x}", label, score) for i, label, score, _ in labels]
    table = pd.DataFrame(frame, columns=["image", "label", "score"])
    return Features.of(table, np.array([*rows, *(vector for *_, vector in labels)], dtype=float))


def order(scored):
    """Places, best first."""
    return [int(image, 16) for image in select(scored, len(scored))["image"]]


def bits(p):
    return -p * math.log2(p) - (1 - p) * math.log2(1 - p)


# uncertainty


def test_a_sum_favours_the_crowd_and_a_mean_the_one_doubt():
    crowd = [(0, "head", 0.9)] * 9
    evidence = Evidence(images(2), boxes(*crowd, (1, "head", 0.5), (1, "head", 0.95)))
    scores = {name: STRATEGIES[name](evidence)["score"].tolist() for name in ("entropy_sum", "entropy_mean")}
    assert scores["entropy_sum"] == pytest.approx([9 * bits(0.9), 1 + bits(0.95)])
    assert scores["entropy_mean"] == pytest.approx([bits(0.9), (1 + bits(0.95)) / 2])
    assert STRATEGIES["entropy_max"](evidence)["score"].tolist() == pytest.approx([bits(0.9), 1])
    assert STRATEGIES["entropy_sum"](evidence)["why"].iloc[0].startswith("sum of 9 boxes, 3 uncertain boxes: head 0.90")


def test_margin_and_least_confidence_look_at_all_labels_where_their_scores_are_known():
    evidence = Evidence(images(3), boxes((0, "head", 0.5), (1, "head", 0.5), (2, "head", 0.9)))
    assert STRATEGIES["margin"](evidence)["score"].tolist() == pytest.approx([1, 1, 0.2])
    chances = np.array([[0.5, 0.0], [0.5, 0.45], [0.9, 0.1]], dtype=np.float32)
    all_labels = replace(evidence, class_scores=ClassScores(evidence.predictions, ("head", "cone"), chances))
    assert STRATEGIES["margin"](all_labels)["score"].tolist() == pytest.approx([1, 1, 0.2])
    least = STRATEGIES["least_confidence"](all_labels)["score"].tolist()
    assert least == pytest.approx([1, 2 * (1 - 0.5 / 1.45), 2 * (1 - 0.9 / 1.1)], abs=1e-6)
    assert STRATEGIES["entropy"](all_labels)["score"].tolist() == pytest.approx(
        [1, 1 + bits(0.45), bits(0.9) + bits(0.1)], abs=1e-5
    )


def test_the_top_of_each_run_is_that_of_sorting():
    rng = np.random.default_rng(0)
    values, lengths = np.round(rng.random(200), 1), rng.integers(1, 9, 40)
    values = values[: lengths.sum()] if lengths.sum() < 200 else np.resize(values, lengths.sum())
    starts = np.r_[0, np.cumsum(lengths)[:-1]]
    runs = np.split(values, starts[1:])
    assert top_sum(values, starts, 3).tolist() == pytest.approx([np.sort(run)[::-1][:3].sum() for run in runs])
    for name in AGGREGATIONS:
        assert len(aggregate(values, starts, name)) == 40
    with pytest.raises(InvalidTable, match="no aggregation 'median'"):
        entropy(Evidence(images(1), boxes((0, "head", 0.5))), aggregation="median")


# hybrid


def test_hybrid_puts_doubt_about_a_rare_label_before_more_doubt_about_a_common_one():
    found = boxes(*[(i, "head", 0.5) for i in range(30)], *[(i, "cone", 0.1) for i in range(30, 34)])
    evidence = Evidence(images(34), found, labelled_counts={"head": 400, "cone": 0}, k=1)
    assert set(hybrid_pool(evidence)) == {f"{i:032x}" for i in range(30, 34)}
    assert set(hybrid_pool(replace(evidence, labelled_counts=None))) < {f"{i:032x}" for i in range(30)}


def test_hybrid_chooses_what_is_unlike_the_labelled_and_unlike_itself():
    found = boxes(*[(i, "head", 0.5) for i in range(4)])
    looks = vectors(*[[1, 1, 1]] * 4, labels=[(i, "head", 0.5, v) for i, v in enumerate(np.eye(3)[[0, 1, 1, 2]])])
    labelled = vectors([1, 1, 1], labels=[(0, "head", 0.9, [1, 0, 0])])
    evidence = Evidence(images(4), found, features=looks, labelled_features=labelled, k=2)
    board = select(hybrid(evidence, explored=0.0), 4)
    assert {int(image, 16) for image in board["image"].head(2)} in ({1, 3}, {2, 3})
    assert board["why"].iloc[0].endswith("away from what is labelled or chosen")
    assert board["why"].iloc[3] == "1 uncertain box: head 0.50; not chosen: less uncertain, or like a chosen one"


def test_a_crowd_gains_nothing_in_hybrid():
    found = boxes(*[(0, "head", 0.8)] * 50, *[(i, "head", 0.5) for i in range(1, 9) for _ in range(3)])
    assert f"{0:032x}" not in set(hybrid_pool(Evidence(images(9), found, k=2)))


def test_a_tenth_of_hybrids_batch_is_drawn_from_all_images_and_spread_over_it():
    found = boxes(*[(i, "head", 0.3 + i / 1000) for i in range(100)])
    board = select(hybrid(Evidence(images(1000), found, k=100, seed=4)), 100)
    drawn = board["why"].str.startswith("drawn at random to explore; ")
    assert 10 <= drawn.sum() <= 11
    assert 3 <= drawn.head(50).sum() <= 7
    assert board.loc[drawn, "why"].str.endswith("no detections").sum() >= 6
    small = [
        select(hybrid(Evidence(images(1000), found, k=2, seed=s)), 2)["why"].str.startswith("drawn").sum()
        for s in range(40)
    ]
    assert 1 <= sum(small) <= 18, "small batches explore too, by chance"


def test_many_labels_are_folded_and_alike_images_stay_alike():
    rng = np.random.default_rng(0)
    n, d = 40, 64
    labels = [f"label-{i:02}" for i in range(MOST_DIMENSIONS // d + 4)]
    own = [(i, labels[i % len(labels)], 0.5, rng.normal(size=d)) for i in range(n)]
    looks = vectors(*rng.normal(size=(n, d)), labels=own)
    found = boxes(*[(i, labels[i % len(labels)], 0.5) for i in range(n)])
    labelled = looks.take([f"{7:032x}"])
    evidence = Evidence(images(n), found, features=looks, labelled_features=labelled, k=n - 1)
    board = select(hybrid(evidence, explored=0.0), n)
    assert board["image"].iloc[-1] == f"{7:032x}"


# coverage


def test_kcenter_covers_every_cluster_before_it_takes_a_second_of_one():
    rng = np.random.default_rng(0)
    centres = np.eye(5) * 4
    cloud = np.repeat(centres, [40, 20, 10, 5, 2], axis=0) + rng.normal(size=(77, 5)) * 0.1
    cluster = np.repeat(range(5), [40, 20, 10, 5, 2])
    evidence = Evidence(images(77), boxes(), features=vectors(*cloud), k=5)
    assert sorted(cluster[order(STRATEGIES["kcenter"](evidence))[:5]]) == [0, 1, 2, 3, 4]
    known = replace(evidence, labelled_features=vectors(*centres[:4]), k=1)
    assert cluster[order(STRATEGIES["kcenter"](known))[0]] == 4


def test_typicality_takes_the_middle_of_groups_and_the_uncovered_ones_first():
    rng = np.random.default_rng(0)
    centres = np.array([[5.0, 0, 0], [0, 5, 0], [0, 0, 5]])
    spread = np.r_[np.full(30, 0.1), np.full(30, 0.1), np.full(12, 0.1)][:, None]
    cloud = np.repeat(centres, [30, 30, 12], axis=0) + rng.normal(size=(72, 3)) * spread
    cloud[5] += 1.5
    cluster = np.repeat(range(3), [30, 30, 12])
    evidence = Evidence(images(72), boxes(), features=vectors(*cloud), k=3, seed=2)
    ranked = order(STRATEGIES["typicality"](evidence))
    assert sorted(cluster[ranked[:3]]) == [0, 1, 2]
    assert 5 not in ranked[:20]
    known = replace(evidence, labelled_features=vectors(centres[0], centres[1]))
    assert cluster[order(STRATEGIES["typicality"](known))[0]] == 2


def test_farthest_first_in_parts_covers_as_well_as_in_one():
    rng = np.random.default_rng(1)
    points = unit(rng.normal(size=(2 * PART + 17, 4)))
    far = np.full(len(points), 2.0, dtype=np.float32)
    picked, distance = farthest_first(points, far, 60)
    assert len(set(picked.tolist())) == 60
    chance = rng.choice(len(points), 60, replace=False)
    assert nearest(points, points[picked]).max() < nearest(points, points[chance]).max()
    assert (distance >= 0).all()


# balance, disagreement


def test_class_balance_prefers_a_rare_label_to_a_crowd_of_a_common_one():
    found = boxes(*[(0, "head", 0.9)] * 40, (1, "cone", 0.4), (2, "head", 0.9))
    evidence = Evidence(images(3), found, labelled_counts={"head": 99, "cone": 3})
    scored = STRATEGIES["class_balance"](evidence)
    assert order(scored) == [1, 0, 2]
    assert scored["score"].tolist() == pytest.approx([0.2, 0.4, 0.18])
    assert scored["why"].iloc[1] == "likely cone (0.40), 3 labelled so far"


def test_missed_objects_counts_faint_boxes_where_no_sure_one_is():
    found = boxes(
        (0, "head", 0.9), (0, "head", 0.2, 1, 1, 10, 10),
        (1, "head", 0.9), (1, "head", 0.2, 50, 50, 60, 60),
        (2, "head", 0.29, 0, 0, 9, 9), (2, "head", 0.1, 40, 40, 50, 50),
        (3, "head", 0.4),
    )  # fmt: skip
    scored = STRATEGIES["missed_objects"](Evidence(images(4), found))
    assert scored["score"].tolist() == pytest.approx([0, 0.2, 0.39, 0])
    assert scored["why"].iloc[2] == "may have been missed: head 0.29, head 0.10"


def test_a_committee_disagrees_on_what_one_sees_and_another_does_not():
    now = boxes((0, "head", 0.9), (1, "head", 0.9), (2, "head", 0.5))
    before = boxes((0, "head", 0.9, 1, 0, 10, 10), (1, "cone", 0.9), (2, "head", 0.5), (3, "head", 0.8))
    evidence = Evidence(images(4), now, committee=[before])
    scored = STRATEGIES["committee"](evidence)
    split = bits(0.45) - bits(0.9) / 2
    assert scored["score"].tolist() == pytest.approx([0, 2 * split, 0, bits(0.4) - bits(0.8) / 2])
    assert scored["why"].iloc[3] == "2 models disagree most on head 0.80"


def test_cald_and_aldd_follow_the_executors_numbers_and_cald_evens_the_labels_out():
    found = boxes(*[(i, "head", 0.9) for i in range(6)], (6, "cone", 0.9), *[(i, "head", 0.9) for i in range(7, 10)])
    told = pd.DataFrame({"image": images(10)["image"], "score": -np.arange(10) / 10})
    evidence = Evidence(images(10), found, executor_scores=told, labelled_counts={"head": 50, "cone": 5}, k=6)
    assert order(STRATEGIES["aldd"](evidence)) == list(range(10))
    ranked = order(STRATEGIES["cald"](evidence))
    assert ranked[0] == 6
    assert set(ranked[:6]) < set(range(8))
    with pytest.raises(InvalidTable, match="1 images have none"):
        STRATEGIES["aldd"](replace(evidence, executor_scores=told.head(9)))


# duplicates, comparison, pools


def test_of_near_duplicates_the_best_ranked_stays_and_the_others_go_last_without_chaining():
    rng = np.random.default_rng(0)
    base = rng.normal(size=(8, 16))
    near = base[0] + rng.normal(size=16) * 0.01
    looks = vectors(*base[:3], near, *base[3:], base[2])
    scored = pd.DataFrame({"image": images(10)["image"], "score": -np.arange(10.0), "why": "x"})
    board = group_duplicates(select(scored, 10), features=looks)
    assert [int(image, 16) for image in board["image"]] == [0, 1, 2, 4, 5, 6, 7, 8, 3, 9]
    assert board["rank"].tolist() == list(range(1, 11))
    assert board["group"].tolist()[-2:] == [f"{0:032x}", f"{2:032x}"]
    assert board["why"].iloc[-1] == "near-duplicate of 00000000; x"
    head = group_duplicates(select(scored, 10), features=looks, head=4)
    assert [int(image, 16) for image in head["image"]] == [0, 1, 2, 4, 5, 6, 7, 8, 9, 3]
    chain = group_duplicates(
        select(scored, 3), hashes=dict(zip(images(3)["image"], [0, 0b111111, 0b1111], strict=True))
    )
    assert chain["group"].tolist() == ["", "", f"{0:032x}"]
    assert group_duplicates(select(scored, 3), hashes={f"{1:032x}": 7})["group"].tolist() == ["", "", ""]


def test_an_image_without_a_vector_is_nobodys_duplicate():
    looks = vectors([1.0, 0], [1.0, 0], [0, 1.0])
    scored = pd.DataFrame({"image": images(5)["image"], "score": -np.arange(5.0), "why": "x"})
    assert group_duplicates(select(scored, 5), features=looks)["group"].ne("").sum() == 1


def test_strategies_are_compared_rank_by_rank_on_the_same_predictions():
    found = boxes(*[(i, "head", 0.05 + i / 40) for i in range(18)])
    evidence = Evidence(images(20), found, k=5, seed=1)
    told = compare_strategies(evidence, {name: STRATEGIES[name] for name in ("entropy", "margin", "random")})
    assert told.overlap.loc["entropy", "margin"] == 1.0
    assert told.correlation.loc["entropy", "margin"] > 0.9
    assert abs(told.correlation.loc["entropy", "random"]) < 0.6
    assert told.ranks["entropy"].tolist() == list(range(1, 21))
    assert sorted(told.ranks["random"]) == list(range(1, 21))
    assert told.ranks.loc[0, "why_entropy"].startswith("1 uncertain box")
    assert told.to_frame()[["a", "b"]].to_numpy().tolist() == [
        ["entropy", "margin"], ["entropy", "random"], ["margin", "random"],
    ]  # fmt: skip
    assert len(compare_strategies(Evidence(images(0), boxes()), {"random": STRATEGIES["random"]}).ranks) == 0


def test_pools_leave_out_what_their_name_says_and_train_and_val_always():
    given = {"train": "train@v2", "val": "val@v1", "inputs": ["pool@v1"], "outputs": ["mined@v1"], "named": ["x@v1"]}
    both = ["train@v2", "val@v1"]
    assert left_out("whole", **given) == both
    assert left_out("dedup", **given) == [*both, "mined@v1"]
    assert left_out("chunk", **given) == [*both, "pool@v1", "mined@v1"]
    assert left_out("custom", **given) == [*both, "x@v1"]


def test_features_that_do_not_fit_are_refused():
    rows = pd.DataFrame({"image": ["a"], "label": ["head"], "score": [0.5]})
    with pytest.raises(InvalidTable, match="has no vector of its own"):
        Features.of(rows, np.ones((1, 2)))
    with pytest.raises(InvalidTable, match="need as many vectors"):
        Features.of(rows, np.ones((2, 2)))
    with pytest.raises(InvalidTable, match="1 of 2 images have no vector"):
        STRATEGIES["kcenter"](Evidence(images(2), boxes(), features=vectors([1.0, 2.0])))
    with pytest.raises(ProjectError, match=r"needs features, .* pip install 'ymir-nb\[embeddings\]'"):
        STRATEGIES["kcenter"](Evidence(images(2), boxes()))


@pytest.mark.parametrize("name", ["hybrid", "entropy", "kcenter", "typicality", "missed_objects", "committee"])
def test_twenty_thousand_images_take_seconds(name):
    rng = np.random.default_rng(0)
    n, m = 20_000, 100_000
    place = np.sort(rng.integers(0, n, m))
    corner = rng.random((m, 2)) * 400
    found = pd.DataFrame(
        {"image": images(n)["image"].to_numpy()[place], "label": rng.choice(["a", "b"], m), "score": rng.random(m)}
    )
    found[["x1", "y1"]], found[["x2", "y2"]] = corner, corner + 40
    rows = pd.DataFrame({"image": images(n)["image"], "label": "", "score": 1.0})
    looks = Features(rows, rng.normal(size=(n, 16)).astype(np.float32))
    evidence = Evidence(images(n), found, features=looks, committee=[found], k=200)
    started = time.process_time()
    assert len(select(STRATEGIES[name](evidence), 200)) == 200
    assert time.process_time() - started < 20
