"""A short training on real photographs of blood cells."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

from ymir_nb.executor.annotations import Sample, read_samples
from ymir_nb.executor.detection import iou_matrix

REPOSITORY = Path(__file__).resolve().parents[2]
BCCD = (REPOSITORY / "../shared/data/bccd_voc").resolve()
NAMES = ["RBC", "WBC", "Platelets"]


def execute(root: Path, config: dict, **env: object) -> Path:
    """Run the executor on a config and give its out folder."""
    (root / "in").mkdir(parents=True)
    out = root / "out"
    (root / "in/config.yaml").write_text(yaml.safe_dump({"class_names": NAMES, "gpu_id": "", **config}))
    places = {
        "models_dir": out / "models", "tensorboard_dir": out / "tensorboard", "monitor_file": out / "monitor.txt",
        "training_result_file": out / "models/result.yaml", "infer_result_file": out / "infer-result.json",
    }  # fmt: skip
    given = {"config_file": root / "in/config.yaml", **{k: v for k, v in env.items() if k.endswith("_file")}}
    text = {
        "task_id": "cells", **{key: True for key in env if key.startswith("run_")},
        "input": {key: str(path) for key, path in given.items()},
        "output": {key: str(path) for key, path in places.items()},
    }  # fmt: skip
    (root / "in/env.yaml").write_text(yaml.safe_dump(text))
    variables = os.environ | {"DEFAULT_ENV_FILE_PATH": str(root / "in/env.yaml")}
    subprocess.run([sys.executable, "-m", "ymir_nb.executor"], cwd=REPOSITORY, env=variables, check=True, timeout=900)
    return out


def listing(path: Path, split: str, n: int, *, annotated: bool) -> Path:
    """Write an index of the first images of a split."""
    names = (BCCD / f"ImageSets/Main/{split}.txt").read_text().split()[:n]
    pairs = [f"{BCCD}/JPEGImages/{name}.jpg" + annotated * f"\t{BCCD}/Annotations/{name}.xml" for name in names]
    path.write_text("".join(f"{pair}\n" for pair in pairs))
    return path


def recall(samples: list[Sample], detection: dict, name: str) -> float:
    """Share of a class's objects that a detection with score >= 0.2 covers with IoU >= 0.5."""
    hits = n_truth = 0
    for sample in samples:
        truth = sample.boxes[sample.classes == NAMES.index(name)]
        rows = detection[Path(sample.path).name]["boxes"]
        boxes = [row["xyxy"] for row in rows if row["class_name"] == name and row["score"] >= 0.2]
        n_truth += len(truth)
        if boxes and len(truth):
            hits += int((iou_matrix(truth, np.array(boxes)).max(1) >= 0.5).sum())
    return hits / n_truth


@pytest.mark.slow
@pytest.mark.skipif(not BCCD.is_dir(), reason="the blood-cell photographs are not beside the checkout")
def test_eighty_steps_on_blood_cells_find_most_white_cells(tmp_path):
    train = listing(tmp_path / "train.tsv", "train", 60, annotated=True)
    test = listing(tmp_path / "test.tsv", "test", 30, annotated=True)
    config = {"max_steps": 80, "export_format": "voc:raw", "input_width": 160, "input_height": 120, "n_checkpoints": 1}
    out = execute(tmp_path / "t", config, run_training=True, training_index_file=train, val_index_file=test)
    result = yaml.safe_load((out / "models/result.yaml").read_text())
    assert result["mAP"] > 0.4
    stage = out / "models" / result["best_stage_name"]
    model = {"model_params_path": [str(path) for path in sorted(stage.iterdir())]}
    candidates = listing(tmp_path / "candidates.tsv", "test", 30, annotated=False)
    out = execute(tmp_path / "i", model, run_infer=True, candidate_index_file=candidates)
    detection = json.loads((out / "infer-result.json").read_text())["detection"]
    samples = read_samples(test, "voc:raw", NAMES, key="val_index_file")
    assert recall(samples, detection, "WBC") > 0.7
