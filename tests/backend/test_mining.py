"""Mining in a workspace: what is asked of the executor, what is kept, and what the budget is spent on."""

from __future__ import annotations

import io
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ymir_nb.backend import embeddings, mining, ops
from ymir_nb.backend.dataset import Dataset
from ymir_nb.backend.errors import PreflightFailed, ProjectError
from ymir_nb.backend.executors import ExecutorBook
from ymir_nb.backend.inference import read_inference
from ymir_nb.backend.steps import finish, presets, run_step, run_until
from ymir_nb.backend.strategies import STRATEGIES, compare_strategies, expected_boxes

HERE = Path(__file__).resolve().parents[1] / "executors"

SEEING = """
import contextlib, hashlib, json, os, runpy, sys
from pathlib import Path
import numpy as np, yaml
env = yaml.safe_load(Path(os.environ["DEFAULT_ENV_FILE_PATH"]).read_text())
config = yaml.safe_load(Path(env["input"]["config_file"]).read_text())
with contextlib.suppress(SystemExit):
    runpy.run_path(sys.argv[1])
if env["run_infer"] and config.get("features"):
    names = [p.split("\\t")[0] for p in Path(env["input"]["candidate_index_file"]).read_text().splitlines()]
    seeds = [int(hashlib.md5(n.rsplit("/")[-1].encode()).hexdigest()[:8], 16) for n in names]
    folder = Path(env["output"]["infer_result_file"]).parent / "features"
    folder.mkdir()
    np.save(folder / "images.npy", np.array([np.random.default_rng(s).normal(size=4) for s in seeds], dtype="f2"))
    (folder / "index.json").write_text(json.dumps({"images": names, "class_names": config["class_names"]}))
"""


@pytest.fixture
def no_backbone(monkeypatch):
    """As where the extra is not installed; it is not taken out of the environment for a test."""
    monkeypatch.setattr(embeddings, "has_backbone", lambda: False)


@pytest.fixture
def seeing(workspace, tmp_path):
    """An executor that gives features when asked."""
    shutil.copytree(HERE / "average-man", tmp_path / "man")
    template = tmp_path / "man" / "infer-template.yaml"
    template.write_text(template.read_text() + "\nfeatures: false # what the network saw\n")
    (tmp_path / "seeing.py").write_text(SEEING)
    command = [sys.executable, str(tmp_path / "seeing.py"), str(HERE / "average.py")]
    return ExecutorBook(workspace.store).add("seeing", command, templates=tmp_path / "man").name


@pytest.fixture
def trained(workspace, make_project):
    """Give the model of a project's round 0, made by an executor."""

    def train(executor="average"):
        project = make_project(executor=executor)
        return run_step(project, "training", number=0)["model"]

    return train


def test_hybrid_asks_for_features_of_the_pool_and_of_what_is_labelled_and_keeps_them(workspace, seeing, trained):
    model = trained(seeing)
    mined = mining.mine(workspace, "pool", name="mined", model=model, k=3, train="train")
    kept = read_inference(workspace, mined.predictions.ref)
    assert kept.features.images.tolist() == workspace.dataset("pool").images["image"].tolist()
    assert kept.context_features.images.tolist() == workspace.dataset("train").images["image"].tolist()
    assert len(mined.predictions) == 12
    assert mined.board["why"].str.contains("away from what is labelled or chosen").any()
    assert workspace.version(mined.dataset.ref).meta["parameters"] == {"strategy": "hybrid", "k": 3, "seed": 0}
    again = mining.mine(workspace, "pool", name="mined", model=model, k=3, train="train")
    assert again.dataset.ref == mined.dataset.ref
    assert mining.read_mined(workspace, mined.dataset.ref, mined.predictions.ref).board.equals(mined.board)


def test_strategies_can_be_compared_on_predictions_that_were_made(workspace, seeing, trained):
    mined = mining.mine(workspace, "pool", name="mined", model=trained(seeing), k=3, train="train")
    evidence = mining.gather(workspace, mined.predictions.ref, train="train", k=3)
    assert evidence.labelled_counts == {"dog": 4}
    told = compare_strategies(evidence, {name: STRATEGIES[name] for name in ("hybrid", "kcenter", "entropy")})
    assert len(told.ranks) == 12
    assert told.ranks["image"].head(3).tolist() == mined.board["image"].head(3).tolist()


def test_without_features_hybrid_goes_by_labels_and_kcenter_says_what_is_missing(
    workspace, trained, average, no_backbone
):
    model = trained()
    mined = mining.mine(workspace, "pool", name="mined", model=model, k=3, train="train")
    assert len(mined.dataset) == 3
    with pytest.raises(ProjectError, match=r"pip install 'ymir-nb\[embeddings\]'"):
        mining.mine(workspace, "pool", name="other", model=model, strategy="kcenter")
    with pytest.raises(PreflightFailed, match="mining_algorithm"):
        mining.mine(workspace, "pool", name="other", model=model, strategy="aldd")
    with pytest.raises(ProjectError, match="needs labelled counts"):
        mining.mine(workspace, "pool", name="other", model=model, strategy="class_balance")
    with pytest.raises(ProjectError, match="no budget in 'hours'"):
        mining.mine(workspace, "pool", name="other", model=model, budget="hours")


def test_a_budget_in_boxes_ends_where_the_boxes_do(workspace, trained):
    mined = mining.mine(workspace, "pool", name="mined", model=trained(), strategy="random", k=5, budget="boxes")
    costs = expected_boxes(mined.predictions.images, mined.predictions.annotations).reindex(mined.board["image"])
    n = len(mined.dataset)
    assert costs.iloc[:n].sum() <= 5 < costs.iloc[: n + 1].sum()


def test_of_a_picture_that_lies_in_the_pool_twice_one_is_mined(workspace, trained, average):
    model = trained()
    soft = Image.fromarray(np.random.default_rng(5).integers(0, 255, (3, 4, 3), dtype=np.uint8)).resize((80, 60), 3)
    pool, rows = workspace.dataset("pool"), []
    for quality in (90, 95, 97):
        sink = io.BytesIO()
        soft.save(sink, "JPEG", quality=quality)
        row = {"image": workspace.store.objects.put(sink.getvalue()), "file": f"{quality}.jpg", "format": "JPEG"}
        rows.append({**row, "mode": "RGB", "width": 80, "height": 60, "n_bytes": len(sink.getvalue())})
    twice = ops.merge([pool, Dataset.of(rows, labels=pool.labels, media=workspace.media)])
    workspace.save(twice, "pool", operation="merge")
    mined = mining.mine(workspace, "pool", name="mined", model=model, strategy="entropy", k=13)
    same = {row["image"] for row in rows}
    assert len(same & set(mined.dataset.images["image"])) == 1
    last = mined.board.tail(2)
    assert set(last["image"]) < same
    assert last["group"].isin(same).all()
    assert last["why"].str.startswith("near-duplicate of ").all()
    control = mining.mine(workspace, "pool", name="mined", model=model, strategy="random", k=13)
    assert control.board["group"].eq("").all()


def test_rounds_pass_on_what_is_labelled_what_was_mined_and_the_earlier_models_predictions(make_project):
    project = make_project()
    run_until(project, "mining")
    finish(project, "truth")
    run_step(project, "prepare_mining")
    given = presets(project, 2, "mining")
    assert given["train"] == "train@v2"
    assert given["committee"] == [project.result(1, "mining")["predictions"]]
    result = run_step(project, "mining", settings={"strategy": "committee"})
    assert result["n_images"] == 3


@pytest.mark.parametrize(("pool", "n"), [("dedup", 9), ("whole", 9), ("chunk", 0)])
def test_a_pool_is_worked_through_as_the_plan_says(make_project, pool, n):
    project = make_project(pool_strategy=pool)
    finish_first = run_until(project, "mining")
    finish(project, "truth")
    assert finish_first == 1
    left = presets(project, 2, "prepare_mining")["exclude"]
    assert ("dogs-candidates@v1" in left) == (pool == "chunk")
    assert ("dogs-mined@v1" in left) == (pool != "whole")
    if n:
        assert run_step(project, "prepare_mining")["n_images"] == n
    else:
        with pytest.raises(ProjectError, match="nothing is left to mine"):
            run_step(project, "prepare_mining")
    with pytest.raises(ProjectError, match="pool_strategy is 'best'; it must be one of dedup, whole, chunk, custom"):
        project.edit(pool_strategy="best")
