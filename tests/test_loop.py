"""The main job, with the real embedded executor: on drawn scenes, and on real photographs."""

import json
import os
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from ymir_nb.backend import ops
from ymir_nb.backend.importing import import_dataset
from ymir_nb.backend.projects import create_project
from ymir_nb.backend.rounds import TEMPLATES, folder, run_round
from ymir_nb.backend.sandbox import draw_sandbox
from ymir_nb.backend.steps import run_until
from ymir_nb.backend.workspace import Workspace

ROOT = Path(__file__).resolve().parents[1]
FEW = {"training": {"max_steps": 6, "batch_size": 4, "input_width": 128, "input_height": 96, "n_checkpoints": 1}}


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    return draw_sandbox(
        tmp_path_factory.mktemp("sandbox") / "site", n_images=30, seed=5, splits={"train": 22, "val": 8}
    )


def prepare(root, scenes):
    ws = Workspace.init(root)
    truth = import_dataset(ws, "truth", scenes, unknown_labels="add")
    val = ops.filter(truth, split="val")
    rest = ops.exclude(truth, val)
    train = ops.sample(rest, n=8, seed=1)
    ws.save(val, "val", operation="filter", parents=["truth"])
    ws.save(train, "train", operation="sample", parents=["truth"])
    ws.save(ops.unlabel(ops.exclude(rest, train)), "pool", operation="unlabel", parents=["truth"])
    return create_project(ws, "site", train="train", val="val", pool="pool", k=4, parameters=FEW)


@pytest.mark.slow
def test_headless_and_by_hand_train_the_same_weights(tmp_path, scenes):
    by_hand, headless = (prepare(tmp_path / name, scenes) for name in ("hand", "headless"))
    run_until(by_hand, "training", settings={"source": "truth"})
    run_round(headless, oracle="truth")

    def held(project):
        store = project.workspace.store
        return {
            version.path: [v.hash for v in store.versions(shelf, name)]
            for shelf in ("datasets", "predictions", "models")
            for name in store.names(shelf)
            for version in store.versions(shelf, name)[:1]
        }

    assert held(by_hand) == held(headless)
    assert by_hand.to_frame().drop(columns="seconds").equals(headless.to_frame().drop(columns="seconds"))


@pytest.mark.slow
def test_executed_notebooks_show_their_charts_and_pictures_in_a_plain_html_export(tmp_path, scenes, run):
    project = prepare(tmp_path / "ws", scenes)
    run_round(project, oracle="truth")
    for step, stem in TEMPLATES.items():
        path = folder(project, 1) / f"{stem}.ipynb"
        assert path.stat().st_size < 2_000_000
        run(sys.executable, "-m", "nbconvert", "--to", "html", path, cwd=tmp_path)
        page = path.with_suffix(".html").read_text(encoding="utf-8")
        pictures = page.count("data:image/")
        assert (
            pictures >= {"prepare_mining": 10, "mining": 4, "label": 4, "prepare_training": 0, "training": 1}[step]
        ), step
        outputs = [out for cell in nbformat.read(path, as_version=4).cells for out in cell.get("outputs", [])]
        assert not [out for out in outputs if out.output_type == "error"]


def demo(*words, cwd):
    environment = {key: value for key, value in os.environ.items() if key != "YMIR_NB_REQUIRE_ALL"}
    command = [sys.executable, "-m", "ymir_nb", "demo", *map(str, words), "--json"]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.slow
def test_the_demo_runs_on_real_blood_cells_and_leaves_a_clean_workspace(tmp_path, shared, run, dvc):
    """A short form: few steps on small pictures; what the model reaches is the executor's own test."""
    short = ("training.max_steps=40", "training.input_width=160", "training.input_height=120")
    words = [word for pair in short for word in ("--set", pair)]
    outcome = demo("--to", "cells", "--data", shared / "bccd_voc", "--rounds", 1, "-k", 20, *words, cwd=tmp_path)
    assert [(row["round"], row["images"]) for row in outcome["rounds"]] == [(0, 20), (1, 40)]
    ws = Workspace.open(tmp_path / "cells")
    report = json.loads(ws.store.read(ws.version("truth"), "report.json"))
    zero = [row for row in report["report"] if row["kind"] == "rejected"]
    assert report["n_images"] == 364
    assert report["n_boxes"] == 4886
    assert sorted(Path(row["file"]).stem for row in zero) == ["BloodImage_00338", "BloodImage_00343"]
    assert len(ws.dataset("val")) == 72
    page = Path(outcome["report"]).read_text(encoding="utf-8")
    assert "<svg" in page
    assert page.count("data:image/jpeg") >= 10
    assert "<script" not in page
    assert run("git", "status", "--porcelain", cwd=ws.root) == ""
    assert "up to date" in dvc("status", cwd=ws.root)
