"""A model's package goes from the notebook to the browser, through JupyterLab's own server."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

SETUP = """
from pathlib import Path
from ymir_nb.backend.model_imports import import_weights
from ymir_nb.backend.workspace import Workspace
Path("best 1.pt").write_bytes(b"weights" * 1000)
workspace = Workspace.init("site data/helmets")
model = import_weights(workspace, "helmets", "best 1.pt", labels=["helmet", "<b>head"], executor="tiny", metric=0.75)
"""


def test_the_card_of_a_model_downloads_its_package(open_notebook):
    notebook = open_notebook("model", SETUP, "model")
    notebook.run_all()
    page = notebook.page
    card = page.locator(".ymir-model-card")
    card.wait_for(timeout=30_000)
    assert "mAP 0.750 by its executor" in card.inner_text()
    assert "<b>head" in card.inner_text()
    with page.expect_download(timeout=30_000) as download:
        card.locator("a").click()
    data = Path(download.value.path()).read_bytes()
    sha1 = hashlib.sha1(data, usedforsecurity=False).hexdigest()
    assert sha1 == notebook.value("model.card['sha1']")
    assert download.value.suggested_filename == f"helmets-v1-{sha1[:8]}.tar.gz"
    notebook.picture(".ymir-model-card", "model_card_light")
    light = card.evaluate("node => getComputedStyle(node).backgroundColor")
    notebook.theme("JupyterLab Dark")
    page.wait_for_timeout(300)
    notebook.picture(".ymir-model-card", "model_card_dark")
    assert card.evaluate("node => getComputedStyle(node).backgroundColor") != light
    notebook.theme("JupyterLab Light")
    assert notebook.problems == []
