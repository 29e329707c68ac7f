"""The report page: complete, self-contained, honest about what is not there yet."""

import pandas as pd
import pytest
from drawn_dataset import drawn_dataset, label_rounds, predictions_of, ranked, rounds

from ymir_nb.backend.errors import InvalidTable
from ymir_nb.widgets import MiningLeaderboard, report_page


def test_it_shows_targets_rounds_chart_pictures_labels_and_versions():
    dataset = drawn_dataset(20)
    versions = pd.DataFrame(
        {
            "name": ["train"],
            "version": [2],
            "operation": ["merge"],
            "parents": ["train@v1"],
            "images": [40],
            "boxes": [9],
        }
    )
    page = report_page(
        title="helmets",
        rounds=rounds(),
        targets={"map50": 0.8, "rounds": 3, "n_images": 100},
        per_label=label_rounds(),
        leaderboard=MiningLeaderboard(ranked(dataset, 15), dataset, predictions_of(dataset)),
        label_counts=dataset.counts(),
        versions=versions,
    )
    for part in ("<h1>helmets</h1>", "target 0.8", "target 3, reached", "<svg", "train@v4", "merge", "train@v1"):
        assert part in page
    assert page.count("data:image/jpeg;base64") == 12
    assert "The first 12 of 15." in page


def test_it_has_no_script_and_forbids_any():
    page = report_page(title="t", rounds=rounds())
    assert "<script" not in page
    assert "default-src 'none'" in page


def test_the_same_numbers_give_the_same_page():
    assert report_page(title="t", rounds=rounds()) == report_page(title="t", rounds=rounds())


def test_before_the_first_round_it_says_so():
    assert "No round is finished yet" in report_page(title="t", rounds=rounds(0), targets={"map50": 0.8})


def test_a_label_without_objects_has_an_empty_bar():
    assert "width:0.0%" in report_page(title="t", rounds=rounds(), label_counts={"cone": 0})


def test_an_unknown_target_is_refused_with_the_known_ones():
    with pytest.raises(InvalidTable, match=r"unknown targets mAP\. Known are map50, rounds, n_images"):
        report_page(title="t", rounds=rounds(), targets={"mAP": 0.8})


def test_versions_without_their_columns_are_refused():
    with pytest.raises(InvalidTable, match="versions frame: missing columns version"):
        report_page(title="t", rounds=rounds(), versions=pd.DataFrame({"name": ["train"]}))
