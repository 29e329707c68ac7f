"""Strategies and the leaderboard: deterministic, finite, and never blind to an image."""

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ymir_nb.backend.errors import InvalidTable
from ymir_nb.backend.strategies import EXPLORED, STRATEGIES, entropy, random, select
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


def bits(p):
    return -p * math.log2(p) - (1 - p) * math.log2(1 - p)


def test_an_image_scores_the_entropy_of_its_three_most_uncertain_boxes():
    boxes = found((0, "helmet", 0.52), (0, "head", 0.44), (0, "cone", 0.31), (0, "cone", 0.99), (1, "head", 0.98))
    scored = entropy(pool(2), boxes, seed=0)
    assert scored["score"].tolist() == pytest.approx([bits(0.52) + bits(0.44) + bits(0.31), bits(0.98)])
    assert scored["why"].tolist() == [
        "3 uncertain boxes: helmet 0.52, head 0.44, cone 0.31",
        "1 uncertain box: head 0.98",
    ]


def test_a_crowd_of_faint_boxes_does_not_outrank_three_real_doubts():
    crowd = [(0, "head", 0.9)] * 60
    scored = entropy(pool(2), found(*crowd, *[(1, "head", 0.5)] * 3), seed=0)
    assert select(scored, 1)["image"].item() == names(2)[1]
    assert scored["score"].tolist() == pytest.approx([3 * bits(0.9), 3.0])


def test_boxes_below_the_threshold_are_no_detections():
    scored = entropy(pool(2), found((0, "head", 0.049), (1, "head", 0.05)), seed=0)
    assert scored["why"].str.startswith("no detections").tolist() == [True, False]


def test_sure_boxes_have_no_entropy_and_the_score_stays_finite():
    scored = entropy(pool(1), found((0, "head", 1.0)), seed=0)
    assert scored.loc[0, ["score", "why"]].tolist() == [0.0, "1 uncertain box: head 1.00"]


@pytest.mark.parametrize("share", [0.2, 0.5, 0.8])
@pytest.mark.parametrize("k", [200, 1000])
def test_images_without_detections_fill_about_a_tenth_of_any_selection(share, k):
    board = select(entropy(pool(4000), drawn(4000, share=share), seed=3), k)
    explored = board["why"].eq("no detections; drawn to explore").mean()
    assert explored == pytest.approx(EXPLORED, abs=3 * math.sqrt(EXPLORED / k))


def test_another_seed_explores_other_images_and_scores_the_rest_alike():
    first, second = (entropy(pool(200), drawn(200), seed=seed) for seed in (1, 2))
    explored = [set(frame.loc[frame["why"].str.contains("explore"), "image"]) for frame in (first, second)]
    assert explored[0] != explored[1]
    seen = ~first["why"].str.startswith("no detections")
    pd.testing.assert_frame_equal(first[seen], second[seen])


def test_random_scores_are_spread_evenly_and_follow_the_seed():
    scored = random(pool(4000), found(), seed=1)
    assert scored["score"].between(0, 1, inclusive="left").all()
    assert np.histogram(scored["score"], bins=4, range=(0, 1))[0].tolist() == pytest.approx([1000] * 4, abs=120)
    assert abs(np.corrcoef(scored["score"], random(pool(4000), found(), seed=2)["score"])[0, 1]) < 0.06


def test_random_gives_an_image_the_same_score_in_every_pool():
    whole, part = random(pool(50), found(), seed=1), random(pool(50).iloc[10:20], found(), seed=1)
    assert whole["score"].iloc[10:20].tolist() == part["score"].tolist()


@every_strategy
@given(n=st.integers(0, 12), seed=st.integers(-3, 2**70), data=st.integers(0, 50))
@settings(max_examples=25, deadline=None)
def test_every_given_image_gets_one_finite_score_and_a_reason(strategy, n, seed, data):
    images, predictions = pool(n), drawn(20, seed=data)
    scored = strategy(images, predictions, seed=seed)
    assert scored.columns.tolist() == ["image", "score", "why"]
    assert scored["image"].tolist() == names(n)
    assert np.isfinite(scored["score"].to_numpy(dtype=float)).all()
    assert scored["why"].str.len().gt(0).all()


@every_strategy
def test_case_51_the_same_inputs_and_seed_give_the_same_ranking_whatever_the_order_of_rows(strategy):
    images, predictions = pool(60), drawn(60)
    board = select(strategy(images, predictions, seed=7), 20)
    again = select(strategy(images, predictions, seed=7), 20)
    pd.testing.assert_frame_equal(board, again)
    mixed = strategy(images.sample(frac=1, random_state=1), predictions.sample(frac=1, random_state=2), seed=7)
    pd.testing.assert_frame_equal(strategy(images, predictions, seed=7), mixed)
    pd.testing.assert_frame_equal(board, select(mixed.sample(frac=1, random_state=3), 20))


@every_strategy
def test_case_51_an_empty_pool_gives_an_empty_leaderboard_with_its_columns(strategy):
    for predictions in (found(), drawn(5)):
        board = select(strategy(pool(0), predictions, seed=0), 10)
        assert board.columns.tolist() == ["rank", "image", "score", "why"]
        assert len(board) == 0


@every_strategy
def test_case_51_k_above_the_pool_gives_the_whole_pool(strategy):
    board = select(strategy(pool(7), drawn(7), seed=0), 1000)
    assert sorted(board["image"]) == names(7)
    assert board["rank"].tolist() == [1, 2, 3, 4, 5, 6, 7]
    assert len(select(strategy(pool(7), drawn(7), seed=0), 0)) == 0


@every_strategy
def test_case_51_a_pool_without_any_detection_is_ranked_by_chance(strategy):
    boards = [select(strategy(pool(300), found(), seed=seed), 30) for seed in (0, 1)]
    assert boards[0]["score"].is_unique
    assert set(boards[0]["image"]) != set(boards[1]["image"])
    assert boards[0]["image"].tolist() != sorted(boards[0]["image"])


def test_case_51_equal_scores_everywhere_rank_by_image():
    scored = entropy(pool(9), found(*[(i, "head", 0.5) for i in range(9)]), seed=0)
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
        entropy(pool(1), found((0, "head", 0.5), (0, "head", math.nan)), seed=0)
    with pytest.raises(InvalidTable, match=r"the first is 1\.5"):
        entropy(pool(1), found((0, "head", 1.5)), seed=0)


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
    images, predictions = pool(10), drawn(10)
    before = images.copy(), predictions.copy()
    select(strategy(images, predictions, seed=0), 3)
    pd.testing.assert_frame_equal(images, before[0])
    pd.testing.assert_frame_equal(predictions, before[1])
