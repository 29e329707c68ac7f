"""Between trainer.py and its caller: reads /in, writes /out. It needs nothing but PyYAML."""

import json
import os
import sys
import time
from pathlib import Path

import yaml

import trainer

# What is asked for, and where everything lies. Run outside a container, the variable names another env.yaml.
ENV = yaml.safe_load(Path(os.environ.get("DEFAULT_ENV_FILE_PATH", "/in/env.yaml")).read_text())
IN, OUT = ENV["input"], ENV["output"]


def progress(share, state="2"):
    """Tell the caller how far it is: one line, rewritten each time. State 2 is running."""
    Path(OUT["monitor_file"]).write_text(f"{ENV['task_id']}\t{time.time():.6f}\t{share:.2f}\t{state}\n")


def fail(kind, error, trace):
    """Leave the reason of a failure too: state 4, a return code, a message. The traceback goes to the log."""
    progress(1.0, f"4\t160004\t{kind.__name__}: {' '.join(str(error).split())}")
    sys.__excepthook__(kind, error, trace)


sys.excepthook = fail
CONFIG = yaml.safe_load(Path(IN["config_file"]).read_text())


def read_index(path):
    """Read the images of an index: a line an image, `image<TAB>annotation`, or the image alone."""
    return [line.split("\t") for line in Path(path).read_text().splitlines() if line.strip()]


def read_boxes(path):
    """Read the boxes of an image in the form ark: `class number, x1, y1, x2, y2, ...`, a line a box."""
    rows = [line.split(",")[:5] for line in Path(path).read_text().splitlines() if line.strip()]
    return [(int(number), *(float(value) for value in corners)) for number, *corners in rows]


def train():
    """Train, and describe what lies in /out/models: stages of weights, the best of them, and how good it is."""
    sides = [
        [(Path(image), read_boxes(boxes)) for image, boxes in read_index(IN[name])]
        for name in ("training_index_file", "val_index_file")
    ]
    folder = Path(OUT["models_dir"]) / "last"  # a stage is named like a Python variable
    folder.mkdir(parents=True, exist_ok=True)
    metric = trainer.train(*sides, CONFIG, folder, progress)
    if metric is None:
        sys.exit("app/trainer.py: train() must return the mAP on val, in [0, 1]; it returned nothing")
    files = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    # mAP for boxes; maskAP for outlines, mIoU for the class of every pixel.
    stage = {"stage_name": "last", "files": files, "timestamp": int(time.time()), "mAP": float(metric)}
    result = {"model_stages": {"last": stage}, "best_stage_name": "last", "mAP": float(metric)}
    Path(OUT["training_result_file"]).write_text(yaml.safe_dump(result))


def infer(model, images):
    """Write what is found in each image, by the image's file name."""
    detection = {}
    for n_done, image in enumerate(images, start=1):
        found = trainer.detect(model, image, CONFIG)
        detection[image.name] = {
            "boxes": [
                {"class_name": name, "score": float(score), "box": {"x": int(x), "y": int(y), "w": int(w), "h": int(h)}}
                for name, score, x, y, w, h in found
                if not score < CONFIG.get("confidence", 0.0)  # a score that is no number is told, and not lost
            ]
        }
        progress(n_done / len(images))
    result = {"detection": detection}
    # Outlines or the class of every pixel (object_type 4 or 3 in img-man/manifest.yaml) are told in COCO's form:
    # result = {
    #     "images": [{"id": n, "file_name": image.name, "width": 40, "height": 30} for n, image in enumerate(images)],
    #     "categories": [{"id": n, "name": name} for n, name in enumerate(CONFIG["class_names"])],
    #     "annotations": [
    #         {
    #             **{"id": 0, "image_id": 0, "category_id": 0, "iscrowd": 0, "confidence": 0.9},
    #             **{"bbox": [5, 5, 10, 10], "area": 100, "segmentation": [[5, 5, 15, 5, 15, 15, 5, 15]]},
    #         },
    #     ],
    # }
    Path(OUT["infer_result_file"]).write_text(json.dumps(result))


def mine(model, images):
    """Write a score for each image, the highest first: `image<TAB>score`."""
    scores = [(float(trainer.score(model, image, CONFIG)), str(image)) for image in images]
    lines = [f"{image}\t{score}\n" for score, image in sorted(scores, key=lambda row: (-row[0], row[1]))]
    Path(OUT["mining_result_file"]).write_text("".join(lines))


progress(0.0)
if ENV["run_training"]:
    train()
else:
    model = trainer.load([Path(path) for path in CONFIG["model_params_path"]], CONFIG)
    images = [Path(row[0]) for row in read_index(IN["candidate_index_file"])]
    if ENV["run_infer"]:
        infer(model, images)
    if ENV["run_mining"]:
        mine(model, images)
progress(1.0)
