"""The leaderboard without a browser: a frame when used."""

import pandas as pd
import pytest
from drawn_dataset import drawn_dataset, predictions_of, ranked

from ymir_nb.backend.dataset import Dataset
from ymir_nb.backend.errors import InvalidTable
from ymir_nb.widgets import MiningLeaderboard


def leaderboard(n=20, **kwargs):
    dataset = drawn_dataset(30)
    return MiningLeaderboard(ranked(dataset, n), dataset, predictions_of(dataset), **kwargs)


def test_it_is_used_like_the_frame_it_was_made_of():
    board = leaderboard()
    assert len(board) == 20
    assert list(board["image"]) == list(board.frame["image"])
    assert [row.rank for row in board][:3] == [1, 2, 3]
    pd.testing.assert_frame_equal(board[board["score"] > 0.9], board.frame[board.frame["score"] > 0.9])


def test_everything_is_ticked_until_it_is_unticked():
    board = leaderboard()
    assert board.selection == list(board["image"])
    board.picked = board.picked[1:]
    assert board.selection == list(board["image"])[1:]
    board.selection = []
    assert board.selection == []
    assert "0 ticked" in repr(board)


def test_cards_carry_rank_score_reason_and_the_score_as_a_share():
    card = leaderboard()._answer("page", {"page": 0})[0]["cards"][10]
    assert (card["rank"], card["score"], card["why"]) == (11, "0.500", "entropy 1.2 of 3 boxes")
    assert card["share"] == pytest.approx(0.5)


def test_scores_that_are_missing_or_negative_do_not_break_it():
    dataset = drawn_dataset(3)
    board = ranked(dataset, 3).assign(score=[float("nan"), -1.0, -2.0])
    cards = MiningLeaderboard(board, dataset)._answer("page", {"page": 0})[0]["cards"]
    assert [card["score"] for card in cards] == ["no score", "-1.000", "-2.000"]
    assert [card["share"] for card in cards] == [0.0, 0.5, 0.0]


def test_labels_held_back_are_not_given_away():
    board = leaderboard()
    assert board.has_truth
    assert not board.show_truth
    assert "&#9632;" not in board.to_html(), "full squares count ground truth"


def test_a_board_of_another_pool_is_refused():
    with pytest.raises(InvalidTable, match="30 images are not in the dataset"):
        MiningLeaderboard(ranked(drawn_dataset(30), 30), Dataset.of())


def test_a_board_without_its_columns_is_refused():
    with pytest.raises(InvalidTable, match="missing columns score, why"):
        MiningLeaderboard(pd.DataFrame({"rank": [], "image": []}), Dataset.of())


def test_an_image_that_is_ranked_twice_is_refused():
    dataset = drawn_dataset(4)
    board = pd.concat([ranked(dataset, 2), ranked(dataset, 1)])
    with pytest.raises(InvalidTable, match="ranked twice"):
        MiningLeaderboard(board, dataset)


def test_the_frame_that_was_given_is_not_changed():
    dataset = drawn_dataset(4)
    board = ranked(dataset, 4)
    kept = board.copy()
    MiningLeaderboard(board, dataset).selection = []
    pd.testing.assert_frame_equal(board, kept)


def test_an_empty_board_is_a_widget_that_says_so():
    board = MiningLeaderboard(ranked(drawn_dataset(3), 0), Dataset.of())
    assert board
    assert len(board) == 0
    assert "0 images" in board.to_html()
