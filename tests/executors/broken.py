"""An executor that holds the contract, and breaks it in one way for every word on its command line.

``broken.py`` alone is in order, and so is ``broken.py segments``, which tells outlines in COCO's form;
``broken.py metric-as-percent`` is not. Like `average.py` it guesses the
average box of each class, and needs neither torch nor ymir-nb.
"""

import hashlib
import json
import os
import signal
import sys
import time
from pathlib import Path

import yaml

FAULTS = set(sys.argv[1:])
IN_PLACE = ("x", "y", "w", "h")
EVENT = bytes.fromhex("0e00000000000000c5e5693f10072a0a0a080a0161150000803f3c24eeb1")  # a scalar of TensorBoard's


def broken(fault: str) -> bool:
    """Tell whether this fault is switched on."""
    return fault in FAULTS


env = yaml.safe_load(Path(os.environ.get("DEFAULT_ENV_FILE_PATH", "/in/env.yaml")).read_text())
OUT = {name: Path(path) for name, path in env["output"].items()}


def report(share: float, state: str = "2", *further: str) -> None:
    """Rewrite monitor.txt."""
    if broken("no-monitor"):
        return
    task_id = "task" if broken("other-task-id") else env["task_id"]
    now = time.time() * (1000 if broken("time-in-milliseconds") else 1)
    share = share * 100 if broken("percent-of-100") else share
    columns = [task_id, f"{now:.6f}", f"{share:.2f}", "running" if broken("state-in-words") else state, *further]
    text = " ".join(columns) if broken("blanks-for-tabs") else "\t".join(columns)
    draft = OUT["monitor_file"].with_suffix(".part")
    draft.write_text(f"{text}\n")
    draft.replace(OUT["monitor_file"])


def draw(*words: str) -> float:
    """A number in [0, 1) that depends on words alone."""
    salt = str(time.time()) if broken("random") else ""
    return int(hashlib.md5("/".join((*words, salt)).encode()).hexdigest()[:6], 16) / 0x1000000


def misbehave() -> None:
    """What has nothing to do with the results."""
    if broken("writes-to-the-callers-log"):
        OUT["executor_log_file"].write_text("hello\n")
    if broken("removes-the-callers-log"):
        (OUT["root_dir"] / "ymir-executor-out.log").unlink()
        time.sleep(0.1)
    if broken("writes-to-in"):
        Path(env["input"]["root_dir"], "scratch").write_text("mine now\n")
    if broken("writes-to-its-own-folder"):
        Path("/opt/cache/settings.json").write_text("{}")
    if broken("hangs"):
        time.sleep(600)
    if broken("goes-back"):
        for share in (0.5, 0.1):
            report(share)
            time.sleep(0.3)


def train(config: dict) -> None:
    """Average the boxes of each class."""
    if broken("crashes-when-pretrained") and "pretrained_model_params" in config:
        raise KeyError("pretrained_model_params")
    names = sorted(config["class_names"]) if broken("sorts-the-classes") else config["class_names"]
    boxes: dict[int, list[list[float]]] = {}
    for line in Path(env["input"]["training_index_file"]).read_text().splitlines():
        for row in Path(line.split("\t")[1]).read_text().splitlines():
            number, *corners = row.split(",")[:5]
            boxes.setdefault(int(number), []).append([float(corner) for corner in corners])
    means = {names[i]: [sum(c) / len(c) for c in zip(*rows, strict=True)] for i, rows in sorted(boxes.items())}
    if not broken("no-tensorboard"):
        (OUT["tensorboard_dir"] / "events.out.tfevents.0").write_bytes(EVENT)
    write_training(json.dumps({"means": means, "drawn": draw("weights")}))


def write_training(weights: str) -> None:
    """Write a stage and result.yaml."""
    name = "epoch-1" if broken("dash-in-a-stage-name") else "only"
    stage = OUT["models_dir"] / name
    stage.mkdir(parents=True)
    (stage / "means.json").write_text("" if broken("empty-weights") else weights)
    files = ["means.json", "best.pt"] if broken("lists-a-file-that-is-not-there") else ["means.json"]
    files = [str(stage / "means.json")] if broken("absolute-file-names") else files
    metric = 50.0 if broken("metric-as-percent") else float("nan") if broken("metric-is-nan") else 0.5
    main = "maskAP" if broken("segments") else "mAP"
    entry = {"stage_name": name, "files": files, "timestamp": int(time.time()), main: metric}
    if broken("no-timestamp"):
        del entry["timestamp"]
    if broken("timestamp-in-words"):
        entry["timestamp"] = time.ctime()
    result = {"model_stages": {name: entry}, "best_stage_name": name, main: metric}
    if broken("best-stage-that-is-none"):
        result["best_stage_name"] = "best"
    if broken("worse-stage-is-best"):
        result["model_stages"]["later"] = entry | {"stage_name": "later", "mAP": 0.9, "files": ["only/means.json"]}
    if broken("attachments-that-are-not-there"):
        result["attachments"] = {"curves": ["pr.png"]}
    if broken("pickles-its-result"):
        OUT["training_result_file"].write_text(f"mAP: !!python/object/apply:float [{metric}]\n")
    elif not broken("no-training-result"):
        OUT["training_result_file"].write_text(yaml.safe_dump(result))


def score(config: dict) -> None:
    """Guess the average boxes everywhere."""
    try:
        means = json.loads(Path(config["model_params_path"][0]).read_text())["means"]
    except OSError:
        if not broken("does-without-a-model"):
            raise
        means = {}
    paths = [line.split("\t")[0] for line in Path(env["input"]["candidate_index_file"]).read_text().splitlines()]
    if env["run_infer"]:
        write_boxes({path.rsplit("/", 1)[1]: boxes_of(path, means) for path in paths}, config)
    if env["run_mining"] and not (broken("infers-instead-of-both") and env["run_infer"]):
        write_scores(sorted(((draw(path.rsplit("/", 1)[1]), path) for path in paths), reverse=True))


def boxes_of(path: str, means: dict[str, list[float]]) -> list[dict]:
    """Cut the average boxes to an image."""
    width, height = size_of(Path(path).read_bytes())
    found = []
    for label, (x1, y1, x2, y2) in means.items():
        x, y = min(round(x1), width - 1), min(round(y1), height - 1)
        w, h = min(round(x2 + 1), width) - x, min(round(y2 + 1), height) - y
        place = dict(zip(IN_PLACE, (x, y, max(1, w), max(1, h)), strict=True))
        found.append({"class_name": label, "score": round(draw(path.rsplit("/", 1)[1], label), 4), "box": place})
    return found


def size_of(data: bytes) -> tuple[int, int]:
    """Read the size in an image's header: PNG, BMP or JPEG."""
    if data[:4] == b"\x89PNG":
        return int.from_bytes(data[16:20]), int.from_bytes(data[20:24])
    if data[:2] == b"BM":
        return int.from_bytes(data[18:22], "little"), int.from_bytes(data[22:26], "little")
    at = 2
    while data[at + 1] not in (0xC0, 0xC2):
        at += 2 + int.from_bytes(data[at + 2 : at + 4])
    return int.from_bytes(data[at + 7 : at + 9]), int.from_bytes(data[at + 5 : at + 7])


def write_scores(rows: list[tuple[float, str]]) -> None:
    """Write result.tsv."""
    rows = rows[1:] if broken("leaves-out-a-candidate") else rows
    rows = [*rows, rows[-1]] if broken("repeats-a-row") else rows
    rows = rows[::-1] if broken("worst-first") else rows
    rows = [*rows[:-1], (float("nan"), rows[-1][1])] if broken("score-is-nan") else rows
    rows = [(s, path.rsplit("/", 1)[1]) for s, path in rows] if broken("file-names-without-folder") else rows
    if broken("no-mining-result"):
        return
    OUT["mining_result_file"].write_text("".join(f"{path}\t{score:.6f}\n" for score, path in rows))


def write_boxes(found: dict[str, list[dict]], config: dict) -> None:
    """Write infer-result.json."""
    spoil = next((change for fault, change in SPOILT_BOXES.items() if broken(fault)), lambda box, config: {})
    for box in (box for boxes in found.values() for box in boxes):
        box.update(spoil(box, config))
    if broken("segments"):
        OUT["infer_result_file"].write_text(json.dumps(outlines(found, config["class_names"])))
        return
    key = "annotations" if broken("old-key") else "boxes"
    entries = {name: {key: boxes} for name, boxes in found.items()}
    if broken("names-no-image-without-boxes"):
        entries.popitem()
    if broken("names-an-image-of-its-own"):
        entries["debug.png"] = {key: []}
    result = {"images": entries} if broken("no-detection") else {"detection": entries}
    OUT["infer_result_file"].write_text(str(result) if broken("python-for-json") else json.dumps(result))


def corners(place: dict[str, int]) -> dict[str, int]:
    """What is not asked for."""
    return {"xmin": place["x"], "ymin": place["y"], "xmax": place["x"] + place["w"], "ymax": place["y"] + place["h"]}


def outlines(found: dict[str, list[dict]], names: list[str]) -> dict[str, list[dict]]:
    """The same as instances in COCO's form, an outline being the box's."""
    images = [{"id": n, "file_name": name, "width": 128, "height": 96} for n, name in enumerate(found)]
    rows = [(n, box) for n, boxes in enumerate(found.values()) for box in boxes]
    annotations = []
    for number, (image_id, box) in enumerate(rows):
        x, y, w, h = (box["box"][name] for name in IN_PLACE)
        ids = {"id": number, "image_id": image_id, "category_id": names.index(box["class_name"]), "iscrowd": 0}
        shape = {"bbox": [x, y, w, h], "area": w * h, "segmentation": [[x, y, x + w, y, x + w, y + h, x, y + h]]}
        annotations.append(ids | shape | {"confidence": box["score"]})
    categories = [{"id": n, "name": name} for n, name in enumerate(names)]
    key = "objects" if broken("no-list-of-annotations") else "annotations"
    return {"images": images, "categories": categories, key: annotations}


SPOILT_BOXES = {
    "boxes-of-the-networks-input": lambda box, _: {"box": {name: 10 * value for name, value in box["box"].items()}},
    "float-coordinates": lambda box, _: {"box": {name: float(value) for name, value in box["box"].items()}},
    "corners-for-sizes": lambda box, _: {"box": corners(box["box"])},
    "reaches-over-the-edge": lambda box, _: {"box": box["box"] | {"w": box["box"]["w"] + 500}},
    "class-ids-for-names": lambda box, config: {"class_name": config["class_names"].index(box["class_name"])},
    "score-as-percent": lambda box, _: {"score": 1 + 99 * box["score"]},
    "odd-further-key": lambda _box, _: {"xyxy": "1 2 3 4"},
}


def main() -> int:
    """Do what env.yaml asks for."""
    if broken("does-not-end-when-told"):
        signal.signal(signal.SIGTERM, lambda *_: time.sleep(60))
    report(0.0)
    misbehave()
    config = yaml.safe_load(Path(env["input"]["config_file"]).read_text())
    if broken("refuses-unknown-keys") and "a_key_that_no_executor_has" in config:
        raise ValueError("a_key_that_no_executor_has")
    time.sleep(float(config.get("idle_seconds", 0)))
    (train if env["run_training"] else score)(config)
    if broken("says-failed-and-exits-0"):
        report(1.0, "4", "160004")
    else:
        report(0.99 if broken("ends-at-99") else 1.0)
    return 3 if broken("exits-3") else 0


try:
    sys.exit(main())
except Exception as error:
    if broken("swallows-errors"):
        sys.exit(0)
    if not broken("fails-without-a-word"):
        report(0.0, "4", "300001", f"{type(error).__name__}: {' '.join(str(error).split())}")
    raise
