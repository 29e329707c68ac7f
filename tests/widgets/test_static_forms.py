"""What every widget leaves in a notebook: escaped, without scripts, small, and shown where no kernel is."""

import functools
import html.parser
import json
import subprocess
import sys
import textwrap
from pathlib import Path

import nbformat
import pandas as pd
import pytest
from drawn_dataset import drawn_dataset, label_rounds, predictions_of, ranked, rounds

from ymir_nb.widgets import DatasetBrowser, IterationChart, MiningLeaderboard, report_page

EVIL = '<img src=x onerror="alert(1)">'
EVIL_FILE = "a\"'><script>alert(2)</script>{k}.jpg"
VIEW = "application/vnd.jupyter.widget-view+json"
HERE = Path(__file__).resolve().parent


class Markup(html.parser.HTMLParser):
    """Collects the tags and attributes that a browser would see."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.attributes, self.sources, self.text = set(), set(), [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}
        self.sources += [value for name, value in attrs if name in ("src", "href", "xlink:href")]

    def handle_data(self, data):
        self.text.append(data)


def evil_dataset():
    return drawn_dataset(12, labels=(EVIL, "ok", "cone"), file=EVIL_FILE)


@functools.cache
def evil_widgets():
    dataset = evil_dataset()
    predictions = predictions_of(dataset)
    frame = rounds(dataset=EVIL)
    per_label = label_rounds().assign(label=EVIL)
    board = ranked(dataset, 10, why=EVIL)
    return {
        "browser": DatasetBrowser(dataset, predictions=predictions),
        "leaderboard": MiningLeaderboard(board, dataset, predictions),
        "chart": IterationChart(frame, per_label=per_label, target_map50=0.8),
    }


@functools.cache
def evil_report():
    widgets = evil_widgets()
    versions = pd.DataFrame(
        [[EVIL, 1, EVIL, EVIL, 3, 4]], columns=["name", "version", "operation", "parents", "images", "boxes"]
    )
    return report_page(
        title=EVIL, rounds=rounds(dataset=EVIL), per_label=label_rounds().assign(label=EVIL),
        leaderboard=widgets["leaderboard"], label_counts={EVIL: 3}, versions=versions, targets={"map50": 0.8},
    )  # fmt: skip


@pytest.mark.parametrize("name", ["browser", "leaderboard", "chart", "report"])
def test_case_53_a_label_or_file_name_never_becomes_markup(name):
    page = evil_report() if name == "report" else evil_widgets()[name]._repr_mimebundle_()[0]["text/html"]
    seen = Markup(page)
    assert not {attribute for attribute in seen.attributes if attribute.startswith("on")}
    assert "script" not in seen.tags
    assert "x" not in seen.sources
    assert EVIL in " ".join(seen.text), "the name is shown as text"


@pytest.mark.parametrize("name", ["browser", "leaderboard", "chart", "report"])
def test_case_54_static_forms_run_and_fetch_nothing(name):
    page = evil_report() if name == "report" else evil_widgets()[name]._repr_mimebundle_()[0]["text/html"]
    seen = Markup(page)
    assert not seen.tags & {"script", "iframe", "object", "embed", "link", "form", "base"}
    assert all(source.startswith(("data:image/", "#")) for source in seen.sources)


def test_case_53_what_the_front_end_gets_is_data_not_markup():
    widgets = evil_widgets()
    answer, _ = widgets["browser"]._answer("page", {"page": 0})
    assert any("<script>" in each["file"] for each in answer["cards"]), "text goes as it is, and is set as textContent"
    sources = [path.read_text() for path in sorted((HERE / "../../ymir_nb/widgets/static").glob("*.js"))]
    assert len(sources) >= 5
    for forbidden in (
        "innerHTML",
        "outerHTML",
        "insertAdjacentHTML",
        "document.write",
        "eval(",
        "http://cdn",
        "https://",
    ):
        assert not any(forbidden in source for source in sources), forbidden


@pytest.mark.parametrize("name", ["browser", "leaderboard", "chart"])
def test_a_widget_gives_a_live_view_a_static_form_and_one_line_of_text(name):
    bundle, _ = evil_widgets()[name]._repr_mimebundle_()
    assert set(bundle) == {VIEW, "text/html", "text/plain"}
    assert "<img" in bundle["text/html"]
    assert len(bundle["text/plain"].splitlines()) == 1


def test_case_58_a_page_of_100_thumbnails_stays_under_2_mb():
    dataset = drawn_dataset(120)
    browser = DatasetBrowser(dataset, predictions=predictions_of(dataset), page_size=100)
    page = browser._repr_mimebundle_()[0]["text/html"]
    assert page.count("<figure") == 100
    assert len(page) < 2_000_000


def test_case_58_a_larger_page_is_cut_in_the_static_form_and_says_so():
    dataset = drawn_dataset(130)
    page = DatasetBrowser(dataset, page_size=125).to_html()
    assert page.count("<figure") == 100
    assert "pictures 1 to 100" in page


def test_case_58_a_chart_stays_under_100_kb():
    bundle, _ = IterationChart(rounds(12), per_label=label_rounds(12), target_map50=0.8)._repr_mimebundle_()
    assert len(json.dumps(bundle)) < 100_000


def test_case_58_a_headless_run_leaves_pictures_and_chart_in_the_html_export(tmp_path):
    cell = f"""
        import sys
        sys.path.insert(0, {str(HERE)!r})
        from drawn_dataset import *
        from ymir_nb.widgets import *
        dataset = drawn_dataset(8)
        display(DatasetBrowser(dataset))
        display(MiningLeaderboard(ranked(dataset, 4), dataset, predictions_of(dataset)))
        display(IterationChart(rounds()))
        """
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(textwrap.dedent(cell), id="cell")])
    source = tmp_path / "source.ipynb"
    nbformat.write(notebook, source)
    run = "import sys, papermill; papermill.execute_notebook(*sys.argv[1:3], kernel_name='python3', progress_bar=False)"
    subprocess.run([sys.executable, "-c", run, source, tmp_path / "out.ipynb"], check=True, capture_output=True)
    export = [sys.executable, "-m", "nbconvert", "--to", "html", "--output", "out.html", tmp_path / "out.ipynb"]
    subprocess.run(export, check=True, capture_output=True)
    outputs = nbformat.read(tmp_path / "out.ipynb", as_version=4).cells[0].outputs
    assert [VIEW in output.data for output in outputs] == [False] * 3, "nobody can click in a headless run"
    sources = Markup((tmp_path / "out.html").read_text()).sources
    assert sum(source.startswith("data:image/jpeg;base64") for source in sources) == 8 + 4
    assert sum(source.startswith("data:image/png;base64") for source in sources) == 1


def test_naming_the_widgets_loads_no_drawing_library():
    code = "import sys, ymir_nb.widgets as w; w.DatasetBrowser; w.IterationChart; print(*sorted(sys.modules))"
    run = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert not {"bokeh", "matplotlib", "torch", "dvc", "papermill"} & set(run.stdout.split())


def test_an_unknown_name_is_refused_with_the_known_ones():
    import ymir_nb.widgets

    with pytest.raises(AttributeError, match="DatasetBrowser"):
        _ = ymir_nb.widgets.Browser
