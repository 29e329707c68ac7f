"""The iteration chart without a browser: numbers in, picture and Bokeh document out."""

import io
import json

import pandas as pd
import pytest
from drawn_dataset import label_rounds, rounds
from PIL import Image

from ymir_nb.backend.errors import InvalidTable
from ymir_nb.widgets import IterationChart, learning_curve


def test_the_static_picture_is_a_png_with_a_see_through_ground():
    picture = Image.open(io.BytesIO(learning_curve.png(learning_curve.Curve.of(rounds()))))
    assert picture.format == "PNG"
    assert picture.convert("RGBA").getpixel((2, 2))[3] == 0


def test_the_svg_takes_the_colour_of_the_text_around_it_and_is_the_same_every_time():
    curve = learning_curve.Curve.of(rounds(), per_label=label_rounds(), target_map50=0.8)
    first = learning_curve.svg(curve)
    assert "currentColor" in first
    assert "#010203" not in first
    assert "target 0.8" in first
    assert learning_curve.svg(curve) == first


def test_the_live_figure_carries_the_rounds_and_not_the_library():
    chart = IterationChart(rounds(), per_label=label_rounds(), target_map50=0.8)
    answer, buffers = chart._answer("figure", {"ink": "#ffffff"})
    text = json.dumps(answer)
    assert len(text) < 60_000
    assert '"rounds"' in text
    assert "#ffffff" in text
    assert buffers == []


def test_bokehjs_comes_from_the_kernel_in_the_version_of_the_figure():
    chart = IterationChart(rounds())
    version = chart._answer("figure", {})[0]["bokeh"]
    _, (library,) = chart._answer("bokehjs", {})
    assert version.encode() in library


def test_an_ink_that_is_no_colour_is_not_used():
    answer, _ = IterationChart(rounds())._answer("figure", {"ink": "url(x)"})
    assert "url(x)" not in json.dumps(answer)


def test_the_curve_is_drawn_against_images_boxes_or_rounds():
    chart = IterationChart(rounds(), per_label=label_rounds())
    labels = set()
    for against, text in learning_curve.AXES.items():
        chart.against = against
        labels.add(json.dumps(chart._answer("figure", {})[0]).count(f'"axis_label": "{text}"'))
    assert labels == {1}


def test_rounds_are_sorted_and_selected_by_their_number():
    chart = IterationChart(rounds().iloc[::-1])
    assert list(chart.frame["round"]) == [0, 1, 2, 3]
    chart.picked = [2, 7]
    assert chart.selection == [2]
    chart.selection = [3, 1]
    assert chart.selection == [1, 3]
    with pytest.raises(ValueError, match="rounds \\[9\\] are not in the chart"):
        chart.selection = [9]


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (rounds().drop(columns="ap"), "missing columns ap"),
        (rounds().assign(ap50=1.2), r"ap50 must lie in \[0, 1\]"),
        (pd.concat([rounds(1), rounds(1)]), "stands there twice"),
        (rounds().assign(ap=-0.1), r"ap must lie in \[0, 1\], it has -0.1"),
    ],
)
def test_a_frame_that_does_not_fit_is_refused(frame, message):
    with pytest.raises(InvalidTable, match=message):
        IterationChart(frame)


def test_labels_of_a_round_that_is_not_there_are_refused():
    with pytest.raises(InvalidTable, match=r"rounds \[2, 3\] are not in the rounds frame"):
        IterationChart(rounds(2), per_label=label_rounds(4))


def test_a_target_in_percent_is_refused():
    with pytest.raises(InvalidTable, match="target_map50"):
        IterationChart(rounds(), target_map50=80)


@pytest.mark.parametrize("frame", [rounds(0), rounds(1), rounds().assign(ap50=float("nan"))])
def test_no_round_one_round_and_rounds_without_a_value_can_be_drawn(frame):
    chart = IterationChart(frame, target_map50=0.8)
    assert "data:image/png" in chart.to_html()
    json.dumps(chart._answer("figure", {})[0], allow_nan=False)


def test_a_label_like_a_formula_or_with_an_underscore_is_drawn_as_it_is():
    per_label = pd.DataFrame({"round": [0, 0], "label": ["$x_{1}$", "_hidden"], "ap50": [0.5, 0.6]})
    drawn = learning_curve.svg(learning_curve.Curve.of(rounds(1), per_label=per_label))
    assert "$x_{1}$ AP50" in drawn
    assert "_hidden AP50" in drawn


def test_the_text_form_says_the_last_value_and_the_target():
    assert repr(IterationChart(rounds(1), target_map50=0.8)) == "<IterationChart 1 round, mAP50 0.420, target 0.8>"
