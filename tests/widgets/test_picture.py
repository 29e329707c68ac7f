"""The shared picture: colours, boxes over thumbnails, counts."""

import io
import re

import pytest
from drawn_dataset import drawn_dataset, predictions_of
from PIL import Image

from ymir_nb.backend.dataset import Dataset
from ymir_nb.widgets.picture import (
    PALETTE,
    STATIC_PX,
    Look,
    Mark,
    Overlay,
    card,
    drawn,
    label_colour,
    tally_html,
    tally_text,
)


def luminance(colour):
    channels = [int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5)]
    linear = [value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(first, second):
    low, high = sorted((luminance(first), luminance(second)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("colour", PALETTE)
def test_every_label_colour_is_legible_in_both_themes(colour):
    assert contrast(colour, "#ffffff") >= 3
    assert contrast(colour, "#111111") >= 3


def test_a_label_keeps_its_colour_from_release_to_release():
    assert [label_colour(name) for name in ("helmet", "head", "cone")] == ["#4a87fe", "#d86b07", "#853dc2"]


def test_a_colour_depends_on_the_name_alone_without_case():
    assert label_colour("Dog ") == label_colour("dog")


def test_boxes_are_found_by_image_with_truth_before_predictions_and_high_scores_first():
    dataset = drawn_dataset(12)
    predictions = predictions_of(dataset)
    overlay = Overlay(dataset, predictions)
    for image in dataset.images["image"]:
        marks = overlay.of(image)
        truth = dataset.annotations[dataset.annotations["image"] == image]
        proposed = predictions.annotations[predictions.annotations["image"] == image]
        assert [mark.x1 for mark in marks[: len(truth)]] == list(truth["x1"])
        assert [mark.score for mark in marks[len(truth) :]] == sorted(proposed["score"], reverse=True)


def test_a_frame_of_boxes_serves_as_predictions_too():
    dataset = drawn_dataset(5)
    predictions = predictions_of(dataset)
    image = dataset.images["image"].iloc[0]
    assert Overlay(dataset, predictions.annotations).of(image) == Overlay(dataset, predictions).of(image)


def test_an_image_without_boxes_has_none():
    assert Overlay(Dataset.of()).of("0" * 32) == []


def test_a_threshold_leaves_truth_standing():
    marks = [Mark("a", 0, 0, 1, 1, None), Mark("a", 0, 0, 1, 1, 0.4), Mark("a", 0, 0, 1, 1, 0.6)]
    assert [mark.score for mark in Look(min_score=0.5).of(marks)] == [None, 0.6]


def test_the_drawn_box_lies_where_the_mark_says():
    ground = io.BytesIO()
    Image.new("RGB", (256, 192), "#ffffff").save(ground, "JPEG", quality=95)
    picture = Image.open(
        io.BytesIO(drawn(ground.getvalue(), [Mark("x", 160, 120, 480, 360, None)], width=640, height=480))
    )
    assert max(picture.size) == STATIC_PX
    assert min(picture.getpixel((80, 60))) > 230, "the middle of the box stays free"
    assert min(picture.getpixel((41, 60))) < 200, "its left edge is drawn at x = 160 / 640 * 160"
    assert min(picture.getpixel((30, 60))) > 230, "left of it nothing is"


def test_predictions_are_dashed_and_truth_is_not():
    ground = io.BytesIO()
    Image.new("RGB", (160, 120), "#ffffff").save(ground, "JPEG", quality=95)

    def n_coloured(score):
        """Count the pixels of the upper edge that have the label's colour and not the halo's grey."""
        jpeg = drawn(ground.getvalue(), [Mark("head", 20, 20, 140, 100, score)], width=160, height=120)
        pixels = [Image.open(io.BytesIO(jpeg)).getpixel((x, 20)) for x in range(24, 136)]
        return sum(red - blue > 120 for red, _, blue in pixels)

    assert n_coloured(None) > 105
    assert 50 < n_coloured(0.5) < 100


def test_a_missing_file_gives_a_card_that_says_why():
    dataset = drawn_dataset(2)
    row = next(dataset.images.itertuples(index=False))
    dataset.media.lost.add(row.image)
    made = card(dataset, Overlay(dataset), row)
    assert made.jpeg == b""
    assert "dvc pull" in made.problem


def test_a_card_tells_negatives_from_what_nobody_labelled():
    dataset = drawn_dataset(20)
    cards = [card(dataset, Overlay(dataset), row) for row in dataset.images.itertuples(index=False)]
    states = [each.state for each in cards]
    assert states.count("negative") == dataset.n_negatives > 0
    assert states.count("unlabelled") == dataset.n_unlabelled > 0


def test_truth_and_predictions_can_be_hidden_each():
    marks = [Mark("a", 0, 0, 1, 1, None), Mark("a", 0, 0, 1, 1, 0.4)]
    assert Look(truth=False).of(marks) == marks[1:]
    assert Look(predictions=False).of(marks) == marks[:1]


def test_counts_keep_truth_and_predictions_apart():
    marks = [Mark(label, 0, 0, 1, 1, score) for label, score in (("b", None), ("a", None), ("b", None), ("b", 0.5))]
    assert tally_text(marks) == "1 a, 2 b, predicted 1 b"
    assert tally_html(marks).count("&#9633;") == 1
    assert tally_text([]) == "no boxes"


def test_colours_are_plain_hex_so_that_they_may_stand_in_a_style():
    assert all(re.fullmatch("#[0-9a-f]{6}", colour) for colour in PALETTE)
