"""Strategies and the leaderboard: deterministic, finite, and never blind to an image."""

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ymir_nb.backend.errors import InvalidTable, ProjectError
from ymir_nb.backend.strategies import (
    EXPLORED,
    NEEDS,
    STRATEGIES,
    Evidence,
    entropy,
    expected_boxes,
    random,
    select,
)
from ymir_nb.backend.strategies.features import Features
from ymir_nb.backend.tables import annotations_frame, images_frame

every_strategy = pytest.mark.parametrize("strategy", STRATEGIES.values(), ids=list(STRATEGIES))


def names(n):
    return [f"{i:032x}" for i in range(n)]


def pool(n):
    return images_frame(
        {"image": name, "file": name, "format": "PNG", "mode": "RGB", "width": 9, "height": 9, "n_bytes": 1}
        for name in names(n)
    )


def found(*boxes):
    return annotations_frame(
        {"image": names(99)[i], "label": label, "x1": 0, "y1": 0, "x2": 5, "y2": 5 + j, "score": score}
        for j, (i, label, score) in enumerate(boxes)
    )


def drawn(n, seed=0, share=0.5):
    """Predict on the first `share` of n images, up to six boxes each."""
    rng = np.random.default_rng(seed)
    boxes = [
        {"image": name, "label": label, "x1": 0, "y1": 0, "x2": 5, "y2": 5, "score": rng.random()}
        for name in names(n)[: round(n * share)]
        for label in rng.choice(["head", "cone"], rng.integers(1, 7))
    ]
    return annotations_frame(boxes)


def features(n, d=6, seed=0):
    """A vector for each image, and one for each label on the first half."""
    rng = np.random.default_rng(seed)
    rows = [(name, "", 1.0) for name in names(n)]
    rows += [(name, label, float(rng.random())) for name in names(n)[: n // 2] for label in ("head", "cone")]
    return Features.of(pd.DataFrame(rows, columns=["image", "label", "score"]), rng.normal(size=(len(rows), d)))


def whole(images, predictions, *, seed=0, k=10):
    """All that any strategy looks at."""
    n = len(images)
    return Evidence(
        images,
        predictions,
        labelled_counts={"head": 40, "cone": 2},
        features=features(n),
        labelled_features=features(5, seed=1),
        executor_scores=pd.DataFrame({"image": names(n)[::-1], "score": np.linspace(-1, 1, n)}),
        committee=[drawn(n, seed=5)],
        k=k,
        seed=seed,
    )


def bare(images, predictions, seed=0):
    return Evidence(images, predictions, seed=seed)


def bits(p):
    return -p * math.log2(p) - (1 - p) * math.log2(1 - p)


def test_an_image_scores_the_entropy_of_its_three_most_uncertain_boxes():
    boxes = found((0, "helmet", 0.52), (0, "head", 0.44), (0, "cone", 0.31), (0, "cone", 0.99), (1, "head", 0.98))
    scored = entropy(bare(pool(2), boxes, 0))
    assert scored["score"].tolist() == pytest.approx([bits(0.52) + bits(0.44) + bits(0.31), bits(0.98)])
    assert scored["why"].tolist() == [
        "3 uncertain boxes: helmet 0.52, head 0.44, cone 0.31",
        "1 uncertain box: head 0.98",
    ]


def test_a_crowd_of_faint_boxes_does_not_outrank_three_real_doubts():
    crowd = [(0, "head", 0.9)] * 60
    scored = entropy(bare(pool(2), found(*crowd, *[(1, "head", 0.5)] * 3), 0))
    assert select(scored, 1)["image"].item() == names(2)[1]
    assert scored["score"].tolist() == pytest.approx([3 * bits(0.9), 3.0])


def test_boxes_below_the_threshold_are_no_detections():
    scored = entropy(bare(pool(2), found((0, "head", 0.049), (1, "head", 0.05)), 0))
    assert scored["why"].str.startswith("no detections").tolist() == [True, False]


def test_sure_boxes_have_no_entropy_and_the_score_stays_finite():
    scored = entropy(bare(pool(1), found((0, "head", 1.0)), 0))
    assert scored.loc[0, ["score", "why"]].tolist() == [0.0, "1 uncertain box: head 1.00"]


@pytest.mark.parametrize("share", [0.2, 0.5, 0.8])
@pytest.mark.parametrize("k", [200, 1000])
def test_images_without_detections_fill_about_a_tenth_of_any_selection(share, k):
    board = select(entropy(bare(pool(4000), drawn(4000, share=share), 3)), k)
    explored = board["why"].eq("no detections; drawn to explore").mean()
    assert explored == pytest.approx(EXPLORED, abs=3 * math.sqrt(EXPLORED / k))


def test_another_seed_explores_other_images_and_scores_the_rest_alike():
    first, second = (entropy(bare(pool(200), drawn(200), seed)) for seed in (1, 2))
    explored = [set(frame.loc[frame["why"].str.contains("explore"), "image"]) for frame in (first, second)]
    assert explored[0] != explored[1]
    seen = ~first["why"].str.startswith("no detections")
    pd.testing.assert_frame_equal(first[seen], second[seen])


def test_random_scores_are_spread_evenly_and_follow_the_seed():
    scored = random(bare(pool(4000), found(), 1))
    assert scored["score"].between(0, 1, inclusive="left").all()
    assert np.histogram(scored["score"], bins=4, range=(0, 1))[0].tolist() == pytest.approx([1000] * 4, abs=120)
    assert abs(np.corrcoef(scored["score"], random(bare(pool(4000), found(), 2))["score"])[0, 1]) < 0.06


def test_random_gives_an_image_the_same_score_in_every_pool():
    all_of_them, part = random(bare(pool(50), found(), 1)), random(bare(pool(50).iloc[10:20], found(), 1))
    assert all_of_them["score"].iloc[10:20].tolist() == part["score"].tolist()


@every_strategy
@given(n=st.integers(0, 12), seed=st.integers(-3, 2**70), data=st.integers(0, 50), k=st.integers(0, 14))
@settings(max_examples=15, deadline=None)
def test_every_given_image_gets_one_finite_score_and_a_reason(strategy, n, seed, data, k):
    scored = strategy(whole(pool(n), drawn(20, seed=data), seed=seed, k=k))
    assert scored.columns.tolist() == ["image", "score", "why"]
    assert scored["image"].tolist() == names(n)
    assert np.isfinite(scored["score"].to_numpy(dtype=float)).all()
    assert scored["why"].str.len().gt(0).all()


@every_strategy
def test_case_51_the_same_inputs_and_seed_give_the_same_ranking_whatever_the_order_of_rows(strategy):
    evidence = whole(pool(60), drawn(60), seed=7, k=20)
    board = select(strategy(evidence), 20)
    pd.testing.assert_frame_equal(board, select(strategy(whole(pool(60), drawn(60), seed=7, k=20)), 20))
    mixed = replace(
        evidence,
        images=evidence.images.sample(frac=1, random_state=1),
        predictions=evidence.predictions.sample(frac=1, random_state=2),
        labelled_counts={"cone": 2, "head": 40},
        features=Features.of(evidence.features.rows.iloc[::-1], evidence.features.vectors[::-1]),
        executor_scores=evidence.executor_scores.sample(frac=1, random_state=3),
        committee=[frame.sample(frac=1, random_state=4) for frame in evidence.committee],
    )
    pd.testing.assert_frame_equal(strategy(evidence), strategy(mixed))
    pd.testing.assert_frame_equal(board, select(strategy(mixed).sample(frac=1, random_state=3), 20))


@every_strategy
def test_case_51_an_empty_pool_gives_an_empty_leaderboard_with_its_columns(strategy):
    for predictions in (found(), drawn(5)):
        board = select(strategy(whole(pool(0), predictions)), 10)
        assert board.columns.tolist() == ["rank", "image", "score", "why"]
        assert len(board) == 0


@every_strategy
def test_case_51_k_above_the_pool_gives_the_whole_pool(strategy):
    board = select(strategy(whole(pool(7), drawn(7), k=1000)), 1000)
    assert sorted(board["image"]) == names(7)
    assert board["rank"].tolist() == [1, 2, 3, 4, 5, 6, 7]
    assert len(select(strategy(whole(pool(7), drawn(7), k=0)), 0)) == 0


@pytest.mark.parametrize("name", ["random", "entropy", "margin_mean", "class_balance", "missed_objects", "hybrid"])
def test_case_51_a_pool_without_any_detection_is_ranked_by_chance(name):
    evidence = Evidence(pool(300), found(), labelled_counts={"head": 3}, k=30)
    boards = [select(STRATEGIES[name](replace(evidence, seed=seed)), 30) for seed in (0, 1)]
    assert boards[0]["score"].is_unique
    assert set(boards[0]["image"]) != set(boards[1]["image"])
    assert boards[0]["image"].tolist() != sorted(boards[0]["image"])


@every_strategy
def test_case_51_all_scores_equal_give_a_defined_ranking(strategy):
    same = found(*[(i, "head", 0.5) for i in range(12)])
    rows = pd.DataFrame({"image": names(12), "label": "", "score": 1.0})
    evidence = replace(
        whole(pool(12), same, k=5),
        features=Features.of(rows, np.ones((12, 6))),
        executor_scores=pd.DataFrame({"image": names(12), "score": 0.25}),
    )
    board = select(strategy(evidence), 5)
    assert len(board) == 5
    pd.testing.assert_frame_equal(board, select(strategy(evidence), 5))


@pytest.mark.parametrize("name", sorted(set(NEEDS) - {"hybrid"}))
def test_a_strategy_that_lacks_what_it_needs_says_how_to_get_it(name):
    with pytest.raises(ProjectError, match=r"needs .*, and there are none\. \S.* \S"):
        STRATEGIES[name](bare(pool(3), drawn(3)))


def test_case_51_equal_scores_everywhere_rank_by_image():
    scored = entropy(bare(pool(9), found(*[(i, "head", 0.5) for i in range(9)]), 0))
    assert select(scored, 4)["image"].tolist() == names(4)


@settings(max_examples=60, deadline=None)
@given(values=st.lists(st.sampled_from([0.0, -0.0, 0.25, 0.5, -3.0]), max_size=30), k=st.integers(0, 35))
def test_case_52_ties_at_the_border_of_the_top_k_break_by_image(values, k):
    scored = pd.DataFrame({"image": names(len(values)), "score": np.array(values, dtype=float), "why": ""})
    board = select(scored.sample(frac=1, random_state=4), k)
    expected = sorted(zip(names(len(values)), values, strict=True), key=lambda pair: (-pair[1], pair[0]))[:k]
    assert board["image"].tolist() == [name for name, _ in expected]
    assert board["rank"].tolist() == list(range(1, len(expected) + 1))


def test_a_prediction_without_a_score_or_beyond_one_is_refused():
    with pytest.raises(InvalidTable, match=r"1 boxes have no score in \[0, 1\], the first is nan"):
        entropy(bare(pool(1), found((0, "head", 0.5), (0, "head", math.nan)), 0))
    with pytest.raises(InvalidTable, match=r"the first is 1\.5"):
        entropy(bare(pool(1), found((0, "head", 1.5)), 0))


def test_a_leaderboard_refuses_scores_that_are_no_numbers_images_twice_and_missing_columns():
    scored = pd.DataFrame({"image": ["a", "b"], "score": [0.5, math.nan], "why": ""})
    with pytest.raises(InvalidTable, match="the first is of image b"):
        select(scored, 1)
    with pytest.raises(InvalidTable, match="stand there twice, the first is a"):
        select(pd.concat([scored.head(1), scored.head(1)]), 1)
    with pytest.raises(InvalidTable, match="missing columns why"):
        select(scored.drop(columns="why"), 1)
    with pytest.raises(InvalidTable, match="k is -1"):
        select(scored.head(1), -1)


@every_strategy
def test_a_strategy_changes_none_of_its_inputs(strategy):
    evidence = whole(pool(10), drawn(10), k=3)
    before = evidence.images.copy(), evidence.predictions.copy(), evidence.features.vectors.copy()
    select(strategy(evidence), 3)
    pd.testing.assert_frame_equal(evidence.images, before[0])
    pd.testing.assert_frame_equal(evidence.predictions, before[1])
    assert (evidence.features.vectors == before[2]).all()


def test_a_budget_in_boxes_pays_for_as_many_images_as_have_so_many_boxes():
    images, predictions = pool(4), found(*[(0, "head", 0.5)] * 8, (1, "head", 0.9), (2, "head", 0.04))
    n_boxes = expected_boxes(images, predictions)
    assert n_boxes.tolist() == [4.0, 1.0, 1.0, 1.0]
    scored = pd.DataFrame({"image": names(4), "score": [3.0, 2.0, 1.0, 0.0], "why": "x"})
    chosen = {k: len(select(scored, k, budget="boxes", n_boxes=n_boxes)) for k in (0, 1, 4, 5, 6, 99)}
    assert chosen == {0: 0, 1: 1, 4: 1, 5: 2, 6: 3, 99: 4}
    with pytest.raises(InvalidTable, match="needs n_boxes"):
        select(scored, 2, budget="boxes")
    with pytest.raises(InvalidTable, match="no budget in 'hours'"):
        select(scored, 2, budget="hours")
