"""The widgets as a person uses them: JupyterLab, mouse and keys, both themes."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd
import pytest

from ymir_nb.widgets import MiningLeaderboard, report_page

pytestmark = pytest.mark.slow

WIDGET_TESTS = Path(__file__).resolve().parents[1] / "widgets"
SCREENSHOTS = Path(__file__).resolve().parents[2] / ".screenshots"
SETUP = f"""
import sys
sys.path.insert(0, {str(WIDGET_TESTS)!r})
from drawn_dataset import *
from ymir_nb.widgets import *
dataset = drawn_dataset(60)
predictions = predictions_of(dataset)
"""
PATIENCE_MS = 30_000


def wait_painted(notebook, kind, n):
    """Wait until a gallery shows its pictures."""
    script = f"""() => {{
        const images = [...document.querySelectorAll('.ymir-{kind} .ymir-card img')];
        return images.length === {n} && images.every((image) => image.complete && image.naturalWidth > 0);
    }}"""
    notebook.page.wait_for_function(script, timeout=PATIENCE_MS)


def keep_pictures(notebook, kind, name):
    """Keep screenshots in both themes."""
    notebook.picture(f".ymir-{kind}", f"{name}_light")
    notebook.theme("JupyterLab Dark")
    notebook.page.wait_for_timeout(500)
    notebook.picture(f".ymir-{kind}", f"{name}_dark")
    notebook.theme("JupyterLab Light")


def test_a_dataset_is_browsed_selected_from_and_read_back(open_notebook):
    notebook = open_notebook(
        "browser", SETUP, "browser = DatasetBrowser(dataset, predictions=predictions)\nbrowser", "'the last cell'"
    )
    notebook.run_all()
    wait_painted(notebook, "dataset-browser", 24)
    page = notebook.page
    cards = page.locator(".ymir-dataset-browser .ymir-card")
    boxes = page.locator(".ymir-dataset-browser svg g")
    n_all = boxes.count()
    assert n_all > 24

    cards.nth(1).click()
    cards.nth(3).click()
    images = notebook.value("list(dataset.images['image'])")
    notebook.wait_value("browser.selection", [images[1], images[3]])
    keep_pictures(notebook, "dataset-browser", "dataset_browser")

    n_cells = notebook.n_cells()
    cards.nth(3).focus()  # taking pictures in two themes may have taken it away
    for key in ("x", "b", "d", "d", "Delete"):
        page.keyboard.press(key)
    assert notebook.n_cells() == n_cells, "keys pressed in a widget do nothing to the cells"

    page.keyboard.press("ArrowRight")
    page.keyboard.press("Space")
    notebook.wait_value("browser.selection", [images[1], images[3], images[4]])
    page.keyboard.press("PageDown")
    page.wait_for_function("document.querySelector('.ymir-dataset-browser .ymir-card').title.length > 0")
    notebook.wait_value("browser.page", 1)
    wait_painted(notebook, "dataset-browser", 24)
    page.get_by_text("Next ›").click()
    wait_painted(notebook, "dataset-browser", 12)
    page.get_by_text("‹ Previous").click()
    wait_painted(notebook, "dataset-browser", 24)

    slider = page.locator(".ymir-dataset-browser input[type=range]")
    slider.focus()
    slider.press("End")
    notebook.wait_value("browser.min_score", 1)
    n_truth = boxes.count()
    page.get_by_text("Ground truth (full lines)").click()
    assert boxes.count() == 0 < n_truth
    assert notebook.problems == []


def test_a_second_view_and_a_reload_show_the_same_state(open_notebook):
    notebook = open_notebook("views", SETUP + "browser = DatasetBrowser(dataset, page_size=6)\nbrowser", "browser")
    notebook.run_all()
    wait_painted(notebook, "dataset-browser", 12)
    page = notebook.page
    page.locator(".ymir-dataset-browser .ymir-card").nth(2).click()
    page.wait_for_function("document.querySelectorAll('.ymir-card[aria-selected=true]').length === 2")
    notebook.command("docmanager:save")
    page.wait_for_timeout(500)
    page.reload()
    page.wait_for_selector(".ymir-dataset-browser", timeout=PATIENCE_MS)
    wait_painted(notebook, "dataset-browser", 12)
    assert page.locator(".ymir-card[aria-selected=true]").count() == 2


def test_a_callback_that_fails_is_shown_and_kept(open_notebook):
    fails = "def fail(selection):\n    raise RuntimeError('<b>no disk</b>')\nbrowser.on_select(fail)"
    notebook = open_notebook("fails", SETUP + "browser = DatasetBrowser(dataset, page_size=4)", fails, "browser")
    notebook.run_all()
    wait_painted(notebook, "dataset-browser", 4)
    notebook.page.locator(".ymir-card").first.click()
    strip = notebook.page.locator(".ymir-error")
    strip.wait_for(state="visible", timeout=PATIENCE_MS)
    assert "RuntimeError: <b>no disk</b>" in strip.inner_text()
    notebook.wait_value("str(browser.last_error)", "<b>no disk</b>")
    notebook.picture(".ymir-dataset-browser", "error_strip")
    strip.get_by_text("Dismiss").click()
    strip.wait_for(state="hidden", timeout=PATIENCE_MS)


def test_mined_images_are_unticked_and_the_rest_read_back(open_notebook):
    notebook = open_notebook(
        "board", SETUP, "board = MiningLeaderboard(ranked(dataset, 30), dataset, predictions, page_size=8)\nboard"
    )
    notebook.run_all()
    wait_painted(notebook, "mining-leaderboard", 8)
    page = notebook.page
    assert notebook.value("len(board.selection)") == 30
    page.locator(".ymir-mining-leaderboard .ymir-card").nth(2).click()
    notebook.wait_value("[k for k, image in enumerate(board['image']) if image not in board.selection]", [2])
    keep_pictures(notebook, "mining-leaderboard", "mining_leaderboard")
    n_cells = notebook.n_cells()
    page.keyboard.press("x")
    assert notebook.n_cells() == n_cells
    page.get_by_text("Untick all").click()
    notebook.wait_value("board.selection", [])
    page.get_by_text("Untick all").press("x")
    assert notebook.n_cells() == n_cells
    assert notebook.problems == []


def test_the_chart_draws_selects_a_round_and_follows_the_theme(open_notebook):
    evil = "<img src=x onerror=window.hacked=1>"
    notebook = open_notebook(
        "chart",
        SETUP,
        f"frame = rounds(dataset={evil!r})\n"
        "chart = IterationChart(frame, per_label=label_rounds(), target_map50=0.8)\nchart",
        "IterationChart(frame)",
    )
    notebook.run_all()
    page = notebook.page
    ready = "() => document.querySelectorAll('.ymir-iteration-chart .bk-Figure').length === 2"
    page.wait_for_function(ready, timeout=PATIENCE_MS)
    page.wait_for_timeout(500)
    place = page.evaluate(
        """() => {
            const view = Object.values(Bokeh.index.roots ?? Bokeh.index)[0];
            const {frame} = view, source = view.model.document.get_model_by_name('rounds');
            const box = view.el.getBoundingClientRect();
            const x = frame.x_scale.compute(source.data.c1[2]), y = frame.y_scale.compute(source.data.c3[2]);
            return [box.x + x, box.y + y];
        }"""
    )
    page.mouse.move(*place)
    page.wait_for_timeout(300)
    notebook.picture(".ymir-iteration-chart", "iteration_chart_hover")
    page.mouse.click(*place)
    notebook.wait_value("chart.selection", [2])
    keep_pictures(notebook, "iteration-chart", "iteration_chart")
    assert page.evaluate("window.hacked") is None
    n_cells = notebook.n_cells()
    page.keyboard.press("x")
    assert notebook.n_cells() == n_cells
    page.locator(".ymir-iteration-chart select").first.select_option("n_boxes")
    notebook.wait_value("chart.against", "n_boxes")
    assert page.evaluate("document.querySelectorAll('script[src^=blob]').length") == 0
    assert notebook.problems == []


def test_case_54_a_saved_notebook_shows_its_static_forms_where_it_is_not_trusted(open_notebook, lab):
    cells = (SETUP, "DatasetBrowser(dataset, page_size=6)", "IterationChart(rounds())")
    first = open_notebook("made", *cells)
    first.run_all()
    wait_painted(first, "dataset-browser", 6)
    first.command("docmanager:save")
    first.page.wait_for_timeout(1000)
    text = first.path.read_text()
    assert len(text) < 400_000
    assert "Bokeh" not in text, "the library is not in the notebook"
    # Another file name has no signature: JupyterLab does not trust it.
    foreign = lab.folder / "foreign.ipynb"
    foreign.write_text(re.sub(r'"cell-(\d)"', r'"other-\1"', text).replace('"trusted": true', '"trusted": false'))
    second = open_notebook.path(foreign)
    page = second.page
    page.wait_for_selector(".jp-OutputArea-output img", timeout=PATIENCE_MS)
    assert page.locator(".jp-OutputArea-output figure img").count() == 6
    assert page.locator(".jp-OutputArea-output img[src^='data:image/png']").count() == 1
    assert page.locator(".ymir-panel").count() == 0, "nothing of it runs"
    second.picture(".jp-Notebook", "untrusted")
    second.theme("JupyterLab Dark")
    second.picture(".jp-Notebook", "untrusted_dark")
    second.theme("JupyterLab Light")


def test_a_report_reads_in_both_themes(chromium, tmp_path):
    setup: dict = {}
    exec(SETUP, setup)
    dataset = setup["dataset"]
    versions = pd.DataFrame(
        [
            [
                "train",
                k + 1,
                "merge" if k else "import",
                f"train@v{k}, mined@v{k}" if k else "",
                20 + 20 * k,
                67 * (k + 1),
            ]
            for k in range(4)
        ],
        columns=["name", "version", "operation", "parents", "images", "boxes"],
    )
    report = report_page(
        title="helmets",
        rounds=setup["rounds"](),
        targets={"map50": 0.8, "rounds": 3, "n_images": 100},
        per_label=setup["label_rounds"](),
        leaderboard=MiningLeaderboard(setup["ranked"](dataset, 20), dataset, setup["predictions"]),
        label_counts=dataset.counts(),
        versions=versions,
    )
    (tmp_path / "report.html").write_text(report)
    SCREENSHOTS.mkdir(exist_ok=True)
    for scheme in ("light", "dark"):
        page = chromium.new_page(color_scheme=scheme, viewport={"width": 1200, "height": 900})
        problems = []
        page.on("console", lambda message, problems=problems: problems.append(message.text))
        page.goto((tmp_path / "report.html").as_uri())
        assert page.locator("figure img").count() == 12
        assert page.evaluate("[...document.images].every((image) => image.naturalWidth > 0)")
        colours = "[getComputedStyle(document.body).color, getComputedStyle(document.body).backgroundColor]"
        ink, ground = (sum(map(int, re.findall(r"\d+", colour))) for colour in page.evaluate(colours))
        assert (ink < ground) == (scheme == "light")
        page.screenshot(path=SCREENSHOTS / f"report_{scheme}.png", full_page=True)
        assert problems == []
        page.close()
