"""Row by row, what the real YMIR 2.5 takes as a result; where this reader differs, the row says why."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from ymir_nb.backend.errors import ProtocolViolated
from ymir_nb.backend.results import read_infer, read_mining, read_training
from ymir_nb.backend.tables import images_frame

A, B = "a" * 32, "b" * 32
TAKEN, REFUSED = True, False


@dataclass(frozen=True)
class Row:
    """A row of the tables: what was done, and whether YMIR and this reader take it."""

    case: str
    given: Any
    ymir: bool
    ours: bool
    why: str = ""

    def __post_init__(self):
        assert (self.ymir != self.ours) == bool(self.why), f"{self.case}: a difference needs a reason, and no other"


def ids(row: Row) -> str:
    return row.case


def candidates() -> pd.DataFrame:
    row = {"format": "JPEG", "mode": "RGB", "width": 100, "height": 80, "n_bytes": 1}
    return images_frame([row | {"image": name, "file": name} for name in (A, B)])


def judged(row: Row, read):
    """Read, and hold the outcome against the row."""
    if row.ours:
        return read()
    with pytest.raises(ProtocolViolated):
        read()
    return None


# ------------------------------------------------------------------------------------------- result.yaml

STAGE = {"stage_name": "last", "files": ["w.pt"], "timestamp": 1_700_000_000, "mAP": 0.5}
GOOD = {"model_stages": {"last": STAGE}, "best_stage_name": "last", "mAP": 0.5}


def stage(**changes: Any) -> dict:
    """The good result with other values in its stage; None removes one."""
    changed = {key: value for key, value in (STAGE | changes).items() if value is not None}
    return GOOD | {"model_stages": {"last": changed}}


def without(key: str) -> dict:
    return {name: value for name, value in GOOD.items() if name != key}


NO_WEIGHTS = "a best stage without a file is no model: inference would have nothing to load"
SDK2 = "the SDK 2.x writes this for old protocols itself, so executors in use end that way"
TRAINING = [
    Row("files in the stage's folder", (GOOD, "models/last/w.pt"), TAKEN, TAKEN),
    Row("files flat in models", (GOOD, "models/w.pt"), TAKEN, TAKEN),
    Row("a file in a folder of the stage", (stage(files=["b/m.pt"]), "models/last/b/m.pt"), TAKEN, TAKEN),
    Row("no metric at the top", (without("mAP"), "models/w.pt"), TAKEN, TAKEN),
    Row("map at the top", (without("mAP") | {"map": 0.5}, "models/w.pt"), TAKEN, TAKEN),
    Row("no metric in the stage", (stage(mAP=None), "models/w.pt"), TAKEN, TAKEN),
    Row("unknown further keys", (stage(colour="red") | {"author": "me"}, "models/w.pt"), TAKEN, TAKEN),
    Row("a timestamp with a fraction", (stage(timestamp=1_700_000_000.5), "models/w.pt"), TAKEN, TAKEN),
    Row("mIoU for a detector", (stage(mAP=None, mIoU=0.7) | {"mAP": 0}, "models/w.pt"), TAKEN, TAKEN),
    Row("an empty list of files", (stage(files=[]), "models/w.pt"), TAKEN, REFUSED, NO_WEIGHTS),
    Row("no result.yaml", (None, "models/w.pt"), REFUSED, REFUSED),
    Row("an empty result.yaml", ("", "models/w.pt"), REFUSED, REFUSED),
    Row("a listed file is absent", (GOOD, "models/other.pt"), REFUSED, REFUSED),
    Row("an absolute path in files", (stage(files=["/etc/passwd"]), "models/w.pt"), REFUSED, REFUSED),
    Row("no best_stage_name", (without("best_stage_name"), "models/w.pt"), REFUSED, REFUSED),
    Row("best stage not among the stages", (GOOD | {"best_stage_name": "first"}, "models/w.pt"), REFUSED, REFUSED),
    Row("a stage without timestamp", (stage(timestamp=None), "models/w.pt"), REFUSED, REFUSED),
    Row("a metric above 1", (stage(mAP=1.01), "models/w.pt"), REFUSED, REFUSED),
    Row("a metric below 0", (stage(mAP=-0.01), "models/w.pt"), REFUSED, REFUSED),
    Row("a metric that is no number", (stage(mAP=float("nan")), "models/w.pt"), REFUSED, REFUSED),
    Row("the first protocol", ({"model": ["w.pt"], "map": 0.5}, "models/w.pt"), TAKEN, TAKEN),
    Row("the first protocol with mAP", ({"model": ["w.pt"], "mAP": 0.5}, "models/w.pt"), REFUSED, TAKEN, SDK2),
]


@pytest.mark.parametrize("row", TRAINING, ids=ids)
def test_results_of_training(tmp_path, row):
    document, file = row.given
    (tmp_path / file).parent.mkdir(parents=True)
    (tmp_path / file).write_bytes(b"weights")
    if document is not None:
        (tmp_path / "models/result.yaml").write_text(yaml.safe_dump(document) if document else "")
    result = judged(row, lambda: read_training(tmp_path))
    if result is not None:
        assert list(result.files.values()) == [tmp_path / file]
        assert result.metric == (0.0 if "mIoU" in row.case else 0.5)
        stages = {"default_best_stage" if "protocol" in row.case else "last"}
        assert (set(result.stages), result.best_stage_name) == (stages, *stages)


@pytest.mark.parametrize(("object_type", "metric"), [(2, "mAP"), (3, "mIoU"), (4, "maskAP"), (50, "mAP")])
def test_the_main_metric_goes_by_the_kind_of_object(tmp_path, object_type, metric):
    (tmp_path / "models").mkdir()
    (tmp_path / "models/w.pt").write_bytes(b"weights")
    others = {"mAP": 0.1, "mIoU": 0.1, "maskAP": 0.1, "mAR": 0.1, "mAcc": 0.1, "boxAP": 0.1, "tp": 3, "fp": 2, "fn": 1}
    (tmp_path / "models/result.yaml").write_text(yaml.safe_dump(stage(**others | {metric: 0.75})))
    result = read_training(tmp_path, object_type=object_type)
    assert result.metric == 0.75
    assert result.stages["last"].metrics == others | {metric: 0.75}


# -------------------------------------------------------------------------------------------- result.tsv

BOTH = f"/in/assets/aa/{A}.jpg\t0.9\n/in/assets/bb/{B}.jpg\t0.1\n"
STRAY = "a row that names no candidate, or one twice, says that the executor mixed something up"
EVERY = "a candidate without a score would silently never be mined"
MINING = [
    Row("rows as the index names them", BOTH, TAKEN, TAKEN),
    Row("base names only", f"{A}.jpg\t0.9\n{B}.jpg\t0.1\n", TAKEN, TAKEN),
    Row("no column of scores: the order counts", f"{A}.jpg\n{B}.jpg\n", TAKEN, TAKEN),
    Row("blank lines", f"\n{BOTH}\n\n", TAKEN, TAKEN),
    Row("rows that are not sorted: sorted here", f"{B}.jpg\t0.1\n{A}.jpg\t0.9\n", TAKEN, TAKEN),
    Row("an unknown image", f"{BOTH}unknown.jpg\t0.5\n", TAKEN, REFUSED, STRAY),
    Row("an image twice", BOTH + BOTH, TAKEN, REFUSED, STRAY),
    Row("fewer rows than images", f"{A}.jpg\t0.9\n", TAKEN, REFUSED, EVERY),
    Row("no file", None, REFUSED, REFUSED),
]


@pytest.mark.parametrize("row", MINING, ids=ids)
def test_results_of_mining(tmp_path, row):
    if row.given is not None:
        (tmp_path / "result.tsv").write_text(row.given)
    result = judged(row, lambda: read_mining(tmp_path, candidates()))
    if result is not None:
        assert result.scores["image"].tolist() == [A, B]
    elif row.given is not None:  # what YMIR takes can be taken, and is told of
        taken = read_mining(tmp_path, candidates(), strays="report")
        assert taken.scores["image"].tolist() == [A, B][: 1 if row.why == EVERY else 2]
        assert taken.notes


# ------------------------------------------------------------------------------------- infer-result.json


def box(x: Any = 1, y: Any = 2, w: Any = 3, h: Any = 4, **changes: Any) -> dict:
    return {"class_name": "cat", "score": 0.5, "box": {"x": x, "y": y, "w": w, "h": h}} | changes


def found(*boxes: Any, key: str = "boxes", name: str = f"{A}.jpg", **more: Any) -> dict:
    other = {f"{B}.jpg": {key: []}}
    return {"detection": {name: {key: list(boxes)}} | other | more}


def coco(**changes: Any) -> dict:
    mask = {"size": [80, 100], "counts": "0"}
    entry = {"id": 1, "image_id": 1, "category_id": 0, "bbox": [1, 2, 3, 4], "area": 12.0, "iscrowd": 0}
    return {
        "images": [{"id": n, "file_name": f"{image}.jpg", "width": 100, "height": 80} for n, image in ((1, A), (2, B))],
        "categories": [{"id": 0, "name": "cat"}],
        "annotations": [entry | {"segmentation": mask} | changes],
    }


NOT_MEASURED = "precision and recall are not defined for it; an executor that writes it is broken"
CANDIDATES = "a name that is no candidate says that the executor mixed something up"
UNSEEN = "an image that was not looked at must not count as one without objects"
MENDED = "whole pixels are no need of ours"
LATE = "no class can be made of it afterwards; YMIR stores it as class -1, which is a known fault"
ONE = [[A, 1.0, 2.0, 4.0, 6.0]]
INFERENCE = [
    Row("boxes", (found(box()), ONE), TAKEN, TAKEN),
    Row("annotations in place of boxes", (found(box(), key="annotations"), ONE), TAKEN, TAKEN),
    Row("absolute paths as names", (found(box(), name=f"/in/assets/aa/{A}.jpg"), ONE), TAKEN, TAKEN),
    Row("no box on any image: negatives", (found(), []), TAKEN, TAKEN),
    Row("boxes over the edge: clipped", (found(box(-9, -8, 12, 14)), [[A, 0.0, 0.0, 3.0, 6.0]]), TAKEN, TAKEN),
    Row("boxes outside the image: dropped", (found(box(500, 2)), []), TAKEN, TAKEN),
    Row("boxes of negative or no size: dropped", (found(box(w=-3), box(h=0)), []), TAKEN, TAKEN),
    Row("an image is missing", ({"detection": {f"{A}.jpg": {"boxes": [box()]}}}, ONE), TAKEN, REFUSED, UNSEEN),
    Row("an image is no candidate", (found(box(), **{"c.jpg": {"boxes": []}}), ONE), TAKEN, REFUSED, CANDIDATES),
    Row("a score above 1", (found(box(score=1.5)), None), TAKEN, REFUSED, NOT_MEASURED),
    Row("a box without score", (found(box(score=None)), None), TAKEN, REFUSED, NOT_MEASURED),
    Row("an unknown class", (found(box(class_name="bird")), None), TAKEN, REFUSED, LATE),
    Row("boxes in fractions of pixels", (found(box(1.0, 2.0, 3.0, 4.0)), ONE), REFUSED, TAKEN, MENDED),
    Row("no key detection", ({"found": {}}, None), REFUSED, REFUSED),
    Row("no file", (None, None), REFUSED, REFUSED),
    Row("masks", (coco(confidence=0.5), ONE), TAKEN, TAKEN),
    Row("masks without confidence", (coco(), ONE), TAKEN, TAKEN),
    Row("polygons", (coco(segmentation=[[1, 2, 4, 2, 4, 6]], confidence=0.5), ONE), TAKEN, TAKEN),
]


@pytest.mark.parametrize("row", INFERENCE, ids=ids)
def test_results_of_inference(tmp_path, row):
    document, boxes = row.given
    if document is not None:
        (tmp_path / "infer-result.json").write_text(json.dumps(document))
    result = judged(row, lambda: read_infer(tmp_path, candidates(), ["cat"]))
    if result is None and row.why in (UNSEEN, CANDIDATES):  # what YMIR takes can be taken, and is told of
        result = read_infer(tmp_path, candidates(), ["cat"], strays="report")
        assert result.notes
    if result is not None:
        rows = result.annotations[["image", "x1", "y1", "x2", "y2"]].to_numpy().tolist()
        assert rows == boxes
        assert result.annotations["score"].tolist() == [1.0 if "without confidence" in row.case else 0.5] * len(rows)
        assert ("dropped" in row.case or "clipped" in row.case) <= bool(result.notes)


def test_the_file_name_of_a_version_in_the_making_is_not_read(tmp_path: Path):
    (tmp_path / "coco-infer-result.json").write_text(json.dumps(coco()))
    with pytest.raises(ProtocolViolated, match=r"infer-result\.json does not exist"):
        read_infer(tmp_path, candidates(), ["cat"])
