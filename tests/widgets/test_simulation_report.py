import pandas as pd
import pytest

from ymir_nb.backend.errors import InvalidTable
from ymir_nb.widgets import comparison, curves_png, simulation_page


def runs(**strategies):
    rows = []
    for strategy, values in strategies.items():
        for seed in (1, 2, 3):
            for number, value in enumerate(values):
                counts = {
                    "n_images": 40 + 40 * number,
                    "n_boxes": 100 + 90 * number,
                    "label_images": number,
                    "label_boxes": 2,
                }
                for label in ("", "<cone>"):
                    up = {"ap50": value + seed / 100, "ap": value / 2}
                    rows.append({"strategy": strategy, "seed": seed, "round": number, "label": label, **counts, **up})
    return pd.DataFrame(rows)


SOME = {"random": [0.1, 0.2, 0.4], "hybrid": [0.1, 0.5, 0.6], "entropy": [0.1, 0.1, 0.2]}


def test_the_comparison_reads_as_a_person_would_say_it():
    shown = comparison(runs(**SOME)).set_index(["label", "strategy"]).loc["mean of the labels"]
    assert shown["r"].to_dict() == {"random": "1.00", "entropy": "> 1.00 (not reached)", "hybrid": "0.38"}
    assert shown["verdict"].to_dict() == {"random": "control", "entropy": "worse", "hybrid": "better"}
    assert shown.loc["hybrid", "positives"] == "2.0 images, 2.0 boxes"


def test_the_page_stands_alone_and_names_from_outside_stay_text():
    page = simulation_page(title="<b>helmets", runs=runs(**SOME), plan={"training": {"max_steps": 300}, "k": 40})
    assert page.startswith("<!doctype html>")
    assert page.count("<svg") == 2
    assert "<b>" not in page
    assert "<cone>" not in page
    assert "&lt;cone&gt;" in page
    assert "training.max_steps" in page
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert "<script" not in page


def test_equal_runs_give_equal_pages():
    frame = runs(**SOME)
    assert simulation_page(title="a", runs=frame) == simulation_page(
        title="a", runs=frame.sample(frac=1, random_state=1)
    )


def test_without_a_control_there_are_curves_alone_and_without_arms_a_word():
    assert "<svg" in simulation_page(title="a", runs=runs(hybrid=[0.1, 0.2]))
    assert "No arm is finished yet" in simulation_page(title="a", runs=runs(**SOME).head(0))


def test_the_picture_is_a_png_by_either_budget():
    for against in ("n_images", "n_boxes"):
        assert curves_png(runs(**SOME), against=against).startswith(b"\x89PNG")


def test_a_frame_of_something_else_is_refused():
    with pytest.raises(InvalidTable, match="missing columns strategy"):
        simulation_page(title="a", runs=pd.DataFrame({"seed": [1]}))
