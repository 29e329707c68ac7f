"""The dataset browser without a browser: pages, selection, errors."""

import pytest
from drawn_dataset import drawn_dataset, predictions_of

from ymir_nb.backend.dataset import Dataset
from ymir_nb.widgets import DatasetBrowser


def heard(widget):
    """Collect what the widget sends."""
    sent = []
    widget.send = lambda content, buffers=None: sent.append((content, buffers))
    return sent


def test_making_a_browser_reads_no_picture():
    dataset = drawn_dataset(30)
    DatasetBrowser(dataset)
    assert dataset.media.asked == []


def test_a_page_is_sent_when_it_is_asked_for_with_a_picture_a_card():
    dataset = drawn_dataset(30)
    browser = DatasetBrowser(dataset, predictions=predictions_of(dataset), page_size=12)
    sent = heard(browser)
    browser._receive(browser, {"kind": "page", "page": 2}, [])
    content, buffers = sent[0]
    assert (content["page"], len(content["cards"]), len(buffers)) == (2, 6, 6)
    assert all(jpeg.startswith(b"\xff\xd8") for jpeg in buffers)
    assert dataset.media.asked == list(dataset.images["image"].iloc[24:])
    card = content["cards"][0]
    assert card["place"] == 24
    assert {len(mark) for mark in card["marks"]} == {6}


def test_a_page_beyond_the_end_is_the_last_one():
    browser = DatasetBrowser(drawn_dataset(30), page_size=12)
    assert browser._answer("page", {"page": 99})[0]["page"] == 2
    browser.page = 99
    assert browser.page == 2


def test_an_empty_dataset_has_one_empty_page():
    browser = DatasetBrowser(Dataset.of(labels=["dog"]))
    assert browser._answer("page", {"page": 0})[0]["cards"] == []
    assert "0 images" in browser.to_html()


def test_the_selection_is_in_the_order_of_the_dataset_however_it_was_made():
    dataset = drawn_dataset(10)
    images = list(dataset.images["image"])
    browser = DatasetBrowser(dataset)
    browser.selection = [images[7], images[2]]
    assert browser.selection == [images[2], images[7]]
    assert browser.picked == [2, 7]


def test_selecting_an_image_that_is_not_there_is_refused():
    browser = DatasetBrowser(drawn_dataset(3))
    with pytest.raises(ValueError, match="1 of 1 images are not shown here"):
        browser.selection = ["0" * 32]


def test_places_from_a_page_that_is_out_of_date_are_dropped():
    browser = DatasetBrowser(drawn_dataset(3))
    browser.picked = [2, 99, -1, 2]
    assert browser.picked == [2]


def test_callbacks_hear_the_selection_and_one_that_fails_stops_no_other():
    dataset = drawn_dataset(4)
    browser = DatasetBrowser(dataset)
    told = []

    def fail(selection):
        raise RuntimeError("disk full")

    browser.on_select(fail)
    browser.on_select(told.append)
    browser.picked = [1]
    assert told == [[dataset.images["image"].iloc[1]]]
    assert isinstance(browser.last_error, RuntimeError)
    assert browser.error == "RuntimeError: disk full"


def test_a_message_that_nobody_knows_becomes_an_error_of_the_widget():
    browser = DatasetBrowser(drawn_dataset(1))
    browser._receive(browser, {"kind": "nonsense"}, [])
    assert "nonsense" in str(browser.last_error)
    browser._receive(browser, {}, [])
    assert isinstance(browser.last_error, KeyError)


def test_a_lost_picture_is_told_and_the_others_are_shown():
    dataset = drawn_dataset(3)
    dataset.media.lost.add(dataset.images["image"].iloc[1])
    browser = DatasetBrowser(dataset)
    content, buffers = browser._answer("page", {"page": 0})
    assert ["dvc pull" in card["problem"] for card in content["cards"]] == [False, True, False]
    assert [bool(jpeg) for jpeg in buffers] == [True, False, True]
    assert "no picture: object" in browser.to_html()


def test_the_static_form_shows_the_page_and_the_boxes_that_are_chosen():
    dataset = drawn_dataset(30)
    browser = DatasetBrowser(dataset, predictions=predictions_of(dataset), page_size=10)
    browser.page = 1
    assert "pictures 11 to 20" in browser.to_html()
    assert "predicted" in browser.to_html()
    browser.min_score = 1
    assert "predicted" not in browser.to_html()


def test_the_text_form_says_what_is_shown():
    assert repr(DatasetBrowser(drawn_dataset(30))) == (
        "<DatasetBrowser train@v3: 30 images, 56 boxes, 3 negatives, 4 unlabelled, 0 selected>"
    )
