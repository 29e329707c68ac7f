"""An executor of few lines, for tests: it learns the average box of each class and guesses it everywhere.

It needs neither torch nor ymir-nb, and speaks to its caller through /in and /out alone.
"""

import hashlib
import json
import os
import sys
import time
from pathlib import Path

import yaml

env = yaml.safe_load(Path(os.environ.get("DEFAULT_ENV_FILE_PATH", "/in/env.yaml")).read_text())
config = yaml.safe_load(Path(env["input"]["config_file"]).read_text())
monitor = Path(env["output"]["monitor_file"])


def progress(share: float) -> None:
    monitor.write_text(f"{env['task_id']}\t{time.time():.6f}\t{share:.2f}\t2\n")


def draw(*words: str) -> float:
    return int(hashlib.md5("/".join(words).encode()).hexdigest()[:6], 16) / 0xFFFFFF


progress(0.0)
time.sleep(float(config.get("idle_seconds", 0)))
crash_after = config.get("crash_after", "")
if env["run_training"]:
    boxes: dict[int, list[list[float]]] = {}
    for line in Path(env["input"]["training_index_file"]).read_text().splitlines():
        for row in Path(line.split("\t")[1]).read_text().splitlines():
            number, *corners = row.split(",")[:5]
            boxes.setdefault(int(number), []).append([float(corner) for corner in corners])
    means = {
        name: [sum(c) / len(c) for c in zip(*boxes[i], strict=True)]
        for i, name in enumerate(config["class_names"])
        if i in boxes
    }
    stages = {}
    for name in ("first", "only")[-int(config.get("n_stages", 1)) :]:
        stage = Path(env["output"]["models_dir"]) / name
        stage.mkdir(parents=True)
        (stage / "means.json").write_text(json.dumps(means))
        stages[name] = {"stage_name": name, "files": ["means.json"], "timestamp": int(time.time()), "mAP": 0.5}
    result = {"model_stages": stages, "best_stage_name": "only", "mAP": 0.5}
    Path(env["output"]["training_result_file"]).write_text(yaml.safe_dump(result))
    if crash_after == "train":
        sys.exit("the disk of the results went away")
else:
    means = json.loads(Path(config["model_params_path"][0]).read_text())
    paths = [line.split("\t")[0] for line in Path(env["input"]["candidate_index_file"]).read_text().splitlines()]
    paths = paths[int(config.get("n_left_out", 0)) :]
    found, scores = {}, []
    for path in paths:
        name = path.rsplit("/", 1)[1]
        rows = []
        for label, (x1, y1, x2, y2) in means.items():
            box = {"x": round(x1), "y": round(y1), "w": max(1, round(x2 - x1 + 1)), "h": max(1, round(y2 - y1 + 1))}
            rows.append({"class_name": label, "score": round(draw(name, label), 4), "box": box})
        found[name] = {"boxes": rows}
        scores.append((draw(name), path))
    if env["run_infer"]:
        Path(env["output"]["infer_result_file"]).write_text(json.dumps({"detection": found}))
    if env["run_mining"]:
        lines = [f"{path}\t{score:.6f}\n" for score, path in sorted(scores, reverse=True)]
        Path(env["output"]["mining_result_file"]).write_text("".join(lines))
progress(1.0)
sys.exit(0)
