"""The executed notebooks of a round, opened in JupyterLab as somebody finds them the next morning."""

from __future__ import annotations

import shutil

import pytest

from ymir_nb.backend.rounds import TEMPLATES, folder, run_round

pytestmark = pytest.mark.slow

PICTURES = {"prepare_mining": 12, "mining": 3, "label": 3, "prepare_training": 0, "training": 1}
PAINTED = """n => {
    const images = [...document.querySelectorAll('.jp-Notebook .jp-OutputArea-output img')];
    return images.length >= n && images.every((image) => image.complete && image.naturalWidth > 0);
}"""


def test_every_step_shows_its_pictures_and_chart_without_running_anything(open_notebook, lab, make_project):
    project = make_project()
    run_round(project, oracle="truth")
    for step, stem in TEMPLATES.items():
        path = lab.folder / f"{stem}.ipynb"
        shutil.copy(folder(project, 1) / path.name, path)
        notebook = open_notebook.path(path)
        notebook.page.wait_for_selector(".jp-Notebook .jp-CodeCell", timeout=30_000)
        notebook.page.wait_for_function(PAINTED, arg=PICTURES[step], timeout=30_000)
        assert notebook.page.get_by_text("Traceback").count() == 0
        notebook.picture(".jp-Notebook", f"round_{step}")
