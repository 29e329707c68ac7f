"""What an executor left in `/out`, taken as hostile until checked."""

import json
import os
import shutil
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from ymir_nb.backend.errors import ProtocolViolated
from ymir_nb.backend.monitor import read_monitor
from ymir_nb.backend.results import Limits, read_infer, read_mining, read_training
from ymir_nb.backend.tables import images_frame

SAMPLES = (Path(__file__).resolve().parents[2] / "../shared/data/ymir_contract").resolve()
needs_samples = pytest.mark.skipif(not SAMPLES.is_dir(), reason="the samples of the real contract are not here")
A, B, C = "a" * 32, "b" * 32, "c" * 32
NAMES = ("cat", "dog")


def table(*names: str, width: int = 100, height: int = 80) -> pd.DataFrame:
    rows = [{"image": n, "file": n, "format": "JPEG", "mode": "RGB", "width": width, "height": height} for n in names]
    return images_frame([row | {"n_bytes": 1} for row in rows])


def good_training(out: Path) -> dict:
    """Lay out a result that is in order, for a test to spoil."""
    for stage in ("epoch10", "epoch20"):
        (out / "models" / stage).mkdir(parents=True)
        (out / "models" / stage / "w.bin").write_bytes(stage.encode())
    stages = {
        name: {"stage_name": name, "files": ["w.bin"], "timestamp": 1700000000 + place, "mAP": 0.5 + place / 4}
        for place, name in enumerate(("epoch10", "epoch20"))
    }
    return {"model_stages": stages, "best_stage_name": "epoch20", "mAP": 0.75}


def trained(out: Path, document: object, **options: object):
    (out / "models").mkdir(parents=True, exist_ok=True)
    (out / "models/result.yaml").write_text(yaml.safe_dump(document))
    return read_training(out, **options)


def mined(out: Path, text: str, *names: str, **options: object):
    (out / "result.tsv").write_text(text)
    return read_mining(out, table(*names), **options)


def inferred(out: Path, document: object, *names: str, **options: object):
    (out / "infer-result.json").write_text(document if isinstance(document, str) else json.dumps(document))
    return read_infer(out, table(*names), NAMES, **options)


def box(x=1, y=2, w=3, h=4, *, name="cat", score=0.5, **more: object) -> dict:
    return {"class_name": name, "score": score, "box": {"x": x, "y": y, "w": w, "h": h}} | more


# ---------------------------------------------------------------------------------------------- training


@needs_samples
@pytest.mark.parametrize(
    ("sample", "object_type", "metric"), [("det-ark_raw", 2, 0.8), ("mir_sem-seg", 3, 0.8), ("mir_ins-seg", 4, 0.7)]
)
def test_a_training_result_of_the_real_system_is_read(tmp_path, sample, object_type, metric):
    shutil.copytree(SAMPLES / sample / "tr1/out", tmp_path / "out")
    for stage in ("epoch10", "epoch20"):
        folder = tmp_path / "out/models" / stage
        folder.mkdir()
        for name in (f"{stage}.pt", "config.py"):
            (folder / name).write_text("weights are left out of the samples")
    result = read_training(tmp_path / "out", object_type=object_type)
    assert result.best_stage_name == "epoch20"
    assert result.metric == metric
    assert sorted(result.files) == [f"epoch{n}/{f}" for n in (10, 20) for f in ("config.py", f"epoch{n}.pt")]
    assert result.to_frame()["stage"].tolist() == ["epoch10", "epoch20"]
    assert result.notes == ()


def test_the_form_of_the_first_protocol_is_read(tmp_path):
    (tmp_path / "models").mkdir()
    (tmp_path / "models/w.bin").write_text("x")
    for metric in ("map", "mAP"):
        result = trained(tmp_path, {"model": ["w.bin"], metric: 0.4})
        assert list(result.stages) == ["default_best_stage"]
        assert result.metric == 0.4
        assert result.files == {"default_best_stage/w.bin": tmp_path / "models/w.bin"}


def test_what_the_real_system_tolerates_is_tolerated(tmp_path):
    document = good_training(tmp_path)
    del document["mAP"]
    document["more"] = {"unknown": 1}
    stage = document["model_stages"]["epoch10"]
    del stage["mAP"]
    stage |= {"timestamp": 1700000000.5, "mIoU": 0.1, "tp": 3, "files": []}
    (tmp_path / "models/epoch20/b").mkdir()
    (tmp_path / "models/epoch20/b/m.pt").write_text("x")
    (tmp_path / "models/flat.pt").write_text("x")
    document["model_stages"]["epoch20"]["files"] = ["b/m.pt", "flat.pt"]
    result = trained(tmp_path, document)
    assert result.metric == 0.75
    assert result.stages["epoch10"].metrics == {"mIoU": 0.1, "tp": 3}
    assert result.notes == ("stage 'epoch10' has no mAP; it counts as 0",)


def test_attachments_and_thresholds_are_read_and_checked(tmp_path):
    document = good_training(tmp_path) | {
        "attachments": {"plots": ["a.png"]},
        "evaluate_config": {"conf_thr": 0.3, "iou_thr": 2},
    }
    with pytest.raises(ProtocolViolated) as caught:
        trained(tmp_path, document)
    assert caught.value.faults == [
        "file 'a.png' of attachments section 'plots' does not exist",
        "evaluate_config.iou_thr is 2, it must be in [0, 1]",
    ]
    (tmp_path / "models/attachments/plots").mkdir(parents=True)
    (tmp_path / "models/attachments/plots/a.png").write_text("x")
    document["evaluate_config"]["iou_thr"] = 0.5
    result = trained(tmp_path, document)
    assert result.attachments == {"plots": ("a.png",)}
    assert "attachments/plots/a.png" in result.files
    assert result.evaluate_config == {"iou_thr": 0.5, "conf_thr": 0.3}


def test_case_41_an_executor_that_leaves_nothing_behind_has_failed(tmp_path):
    for read in (
        lambda: read_training(tmp_path),
        lambda: read_mining(tmp_path, table(A)),
        lambda: read_infer(tmp_path, table(A), NAMES),
    ):
        with pytest.raises(ProtocolViolated, match="does not exist") as caught:
            read()
        assert len(caught.value.faults) == 1


STAGE = ("model_stages", "epoch20")


def put(*path_and_value: object):
    *path, last, value = path_and_value

    def apply(document, _out):
        for key in path:
            document = document[key]
        if value is None:
            del document[last]
        else:
            document[last] = value

    return apply


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (put("model_stages", None), "must name 1-1000 model_stages"),
        (put("model_stages", {}), "must name 1-1000 model_stages"),
        (put("model_stages", ["epoch20"]), "must name 1-1000 model_stages"),
        (put(*STAGE, []), "is no mapping"),
        (put("best_stage_name", None), "best_stage_name None is not among"),
        (put("best_stage_name", "best"), "best_stage_name 'best' is not among"),
        (put("best_stage_name", ["epoch20"]), "is not among"),
        (put(*STAGE, "timestamp", None), "timestamp None"),
        (put(*STAGE, "timestamp", float("inf")), "timestamp inf"),
        (put(*STAGE, "timestamp", "yesterday"), "timestamp 'yesterday'"),
        (put(*STAGE, "mAP", 1.5), r"mAP of stage 'epoch20' is 1\.5"),
        (put(*STAGE, "mAP", -0.1), r"is -0\.1"),
        (put(*STAGE, "mAP", float("nan")), "is nan"),
        (put(*STAGE, "mAP", True), "is True"),
        (put(*STAGE, "mAP", 10**400), "is 1000"),
        (put(*STAGE, "mIoU", "good"), "is 'good'"),
        (put(*STAGE, "tp", -1), "must be a count"),
        (put(*STAGE, "fp", 0.5), "must be a count"),
        (put("mAP", float("inf")), "mAP is inf"),
        (put(*STAGE, "stage_name", "epoch10"), "calls itself 'epoch10'"),
        (put("model_stages", "../up", {}), "no identifier"),
        (put("model_stages", "attachments", {}), "no identifier"),
        (put("model_stages", 7, {}), "no identifier"),
        (put(*STAGE, "files", None), "must be a list of names"),
        (put(*STAGE, "files", "w.bin"), "must be a list of names"),
        (put(*STAGE, "files", [3]), "must be a list of names"),
        (put(*STAGE, "files", []), "the best stage 'epoch20' lists no file"),
        (put(*STAGE, "files", ["w.bin", "w.bin"]), "more than once"),
        (put(*STAGE, "files", ["none.pt"]), r"file 'none\.pt' of stage 'epoch20' does not exist"),
        (put("attachments", ["a"]), "attachments must be a mapping"),
        (put("attachments", {"..": ["a"]}), "is no identifier"),
        (put("evaluate_config", 3), "evaluate_config must be a mapping"),
    ],
)
def test_case_41_a_training_result_with_a_fault_is_not_used(tmp_path, change, said):
    document = good_training(tmp_path)
    trained(tmp_path, document)
    change(document, tmp_path)
    with pytest.raises(ProtocolViolated, match=said):
        trained(tmp_path, document)


def test_case_41_all_faults_are_told_together(tmp_path):
    document = good_training(tmp_path)
    document["model_stages"]["epoch10"] |= {"mAP": 7, "timestamp": None, "files": ["a", "b"]}
    with pytest.raises(ProtocolViolated, match=r"breaks the contract.*Mend the executor") as caught:
        trained(tmp_path, document)
    assert len(caught.value.faults) == 4


@pytest.mark.parametrize("text", ["", "- 1\n", "a: [", "a: 2020-99-99\n", "\x00", "x: " + "[" * 2000])
def test_case_41_a_result_that_is_no_mapping_is_a_fault(tmp_path, text):
    (tmp_path / "models").mkdir()
    (tmp_path / "models/result.yaml").write_text(text)
    with pytest.raises(ProtocolViolated) as caught:
        read_training(tmp_path)
    assert len(caught.value.faults) == 1


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("/etc/passwd", "is not a plain relative name"),
        ("../../../etc/passwd", "is not a plain relative name"),
        ("a/../../w.bin", "is not a plain relative name"),
        ("a\\w.bin", "is not a plain relative name"),
        ("a\nb", "is not a plain relative name"),
        ("", "is not a plain relative name"),
        ("x" * 300, "is not a plain relative name"),
        ("link", "is a link"),
        ("linked/w.bin", "is a link"),
        ("pipe", "is not a regular file"),
        ("folder", "is not a regular file"),
        ("sparse", "bytes long"),
    ],
)
def test_case_42_links_pipes_and_paths_that_leave_out_are_not_followed(tmp_path, name, reason):
    out = tmp_path / "out"
    document = good_training(out)
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/w.bin").write_text("secret")
    stage = out / "models/epoch20"
    (stage / "link").symlink_to("/etc/passwd")
    (stage / "linked").symlink_to(tmp_path / "outside")
    os.mkfifo(stage / "pipe")
    (stage / "folder").mkdir()
    with (stage / "sparse").open("wb") as file:
        file.truncate(1 << 40)
    document["model_stages"]["epoch20"]["files"] = [name]
    limits = Limits(total_bytes=1 << 50)
    with pytest.raises(ProtocolViolated) as caught:
        trained(out, document, limits=limits)
    assert len(caught.value.faults) == 1
    assert reason in caught.value.faults[0]


@pytest.mark.parametrize("make", [lambda p: p.symlink_to("/etc/passwd"), os.mkfifo, lambda p: p.mkdir()])
def test_case_42_result_files_themselves_may_be_no_links_pipes_or_folders(tmp_path, make):
    (tmp_path / "models").mkdir()
    for name in ("models/result.yaml", "result.tsv", "infer-result.json", "monitor.txt"):
        make(tmp_path / name)
    begin = time.monotonic()
    for read in (
        lambda: read_training(tmp_path),
        lambda: read_mining(tmp_path, table(A)),
        lambda: read_infer(tmp_path, table(A), NAMES),
    ):
        with pytest.raises(ProtocolViolated, match=r"is a link|is not a regular file"):
            read()
    assert read_monitor(tmp_path / "monitor.txt") is None
    assert time.monotonic() - begin < 5


def test_case_42_too_many_files_or_bytes_are_faults(tmp_path):
    document = good_training(tmp_path)
    for limits in (Limits(n_files=4), Limits(total_bytes=100)):
        with pytest.raises(ProtocolViolated, match="/out holds more than"):
            trained(tmp_path, document, limits=limits)
    (tmp_path / "models/result.yaml").write_bytes(b"#" * (Limits().yaml_bytes + 1))
    with pytest.raises(ProtocolViolated, match="bytes long"):
        read_training(tmp_path)
    (tmp_path / "result.tsv").write_text("x" * 11)
    with pytest.raises(ProtocolViolated, match="11 bytes long, more than 10"):
        read_mining(tmp_path, table(A), limits=Limits(table_bytes=10))


def test_case_48_a_result_that_would_run_code_is_refused(tmp_path):
    good_training(tmp_path)
    mark = tmp_path / "ran"
    (tmp_path / "models/result.yaml").write_text(f"mAP: !!python/object/apply:os.system ['touch {mark}']\n")
    with pytest.raises(ProtocolViolated, match="no plain YAML"):
        read_training(tmp_path)
    assert not mark.exists()


def test_case_48_a_bomb_of_aliases_is_shown_in_a_line(tmp_path):
    (tmp_path / "models").mkdir()
    bomb = "a: &a [x,x,x,x,x,x,x,x,x]\n"
    for one, two in zip("abcdefgh", "bcdefghi", strict=True):
        bomb += f"{two}: &{two} [{','.join([f'*{one}'] * 9)}]\n"
    (tmp_path / "models/result.yaml").write_text(bomb + "model_stages: *i\n")
    with pytest.raises(ProtocolViolated) as caught:
        read_training(tmp_path)
    assert len(str(caught.value)) < 2000


def test_case_49_weights_are_found_and_not_opened(tmp_path):
    document = good_training(tmp_path)
    path = tmp_path / "models/epoch20/w.bin"
    path.write_bytes(b"cposix\nsystem\n(S'false'\ntR.")
    os.utime(path, ns=(1, 1))
    if os.geteuid():
        path.chmod(0)
    assert trained(tmp_path, document).files["epoch20/w.bin"] == path
    assert path.stat().st_size == 27


# ------------------------------------------------------------------------------------------------ mining


@needs_samples
def test_a_mining_result_of_the_real_system_is_read():
    folder = SAMPLES / "det-ark_raw/mi1"
    lines = (folder / "in/candidate-index.tsv").read_text().splitlines()
    result = read_mining(folder / "out", table(*(Path(line).stem for line in lines)))
    assert result.scores["score"].tolist() == [0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1, 0.0]
    assert result.scores["image"].iloc[0].startswith("c7ef5107")
    assert result.notes == ()


def test_scores_are_sorted_here_and_ties_go_by_image(tmp_path):
    result = mined(tmp_path, f"/in/assets/cc/{C}.jpg\t0.5\n{B}.jpg\t2\r\n\n{A}\t0.5\t\n", A, B, C)
    assert result.scores["image"].tolist() == [B, A, C]
    assert result.scores["score"].tolist() == [2.0, 0.5, 0.5]


def test_lines_without_scores_are_ranked_by_their_order(tmp_path):
    result = mined(tmp_path, f"/in/{B}.jpg\t\n/in/{A}.jpg\t\n", A, B)
    assert result.scores["image"].tolist() == [B, A]
    assert np.isfinite(result.scores["score"]).all()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (f"{A}.jpg\tnan\n{B}.jpg\t1\n", "no finite number"),
        (f"{A}.jpg\t-inf\n{B}.jpg\t1\n", "no finite number"),
        (f"{A}.jpg\t1e999\n{B}.jpg\t1\n", "no finite number"),
        (f"{A}.jpg\thigh\n{B}.jpg\t1\n", "'high', which is no finite number"),
        (f"{A}.jpg\n{B}.jpg\t1\n", "a score in 1 lines and none in 1"),
        (f"{A}.jpg\t1\t2\n{B}.jpg\t1\n", "1 lines of 3 columns"),
        (f"{A}.jpg\t1\n{B}.jpg\t1\nx.jpg\t9\n", r"'x\.jpg', which is no candidate"),
        (f"{A}.jpg\t1\n{B}.jpg\t1\n/other/{A}.png\t9\n", f"image {A} more than once"),
        (f"{A}.jpg\t1\n", f"no row for 1 of 2 candidates, the first is {B}"),
        ("", "no row for 2 of 2"),
    ],
)
def test_case_41_a_mining_result_with_a_fault_is_not_used(tmp_path, text, said):
    with pytest.raises(ProtocolViolated, match=said):
        mined(tmp_path, text, A, B)


def test_case_41_stray_rows_that_are_only_reported_take_no_place_in_the_top_k(tmp_path):
    text = f"x.jpg\t9\n{A}.jpg\t8\n{A}.jpg\t9\n{B}.jpg\t7\ny.jpg\t9\n{C}.jpg\t1\n"
    result = mined(tmp_path, text, A, B, C, "d" * 32, strays="report")
    assert result.scores.head(3)["image"].tolist() == [A, B, C]
    assert result.scores["score"].tolist() == [8.0, 7.0, 1.0]
    assert len(result.notes) == 4


def test_case_41_a_result_that_is_no_text_is_a_fault(tmp_path):
    (tmp_path / "result.tsv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ProtocolViolated, match="no UTF-8"):
        read_mining(tmp_path, table(A))


def test_case_42_ten_thousand_faults_make_a_short_message(tmp_path):
    with pytest.raises(ProtocolViolated) as caught:
        mined(tmp_path, "".join(f"x{n}.jpg\t1\n" for n in range(10_000)), A)
    assert len(caught.value.faults) == 101
    assert caught.value.faults[-1] == "and 9901 more"
    assert len(str(caught.value)) < 2000


def test_case_51_the_order_of_rows_is_irrelevant_and_no_candidates_is_a_result(tmp_path):
    rows = [f"{image}.jpg\t{score}\n" for image, score in ((A, 1), (B, 1), (C, 0))]
    first = mined(tmp_path, "".join(rows), A, B, C).scores
    second = mined(tmp_path, "".join(reversed(rows)), C, B, A).scores
    pd.testing.assert_frame_equal(first, second)
    assert mined(tmp_path, "").scores.columns.tolist() == ["image", "score"]


def test_case_52_ties_break_by_image(tmp_path):
    images = [f"{n:032x}" for n in (3, 1, 2)]
    result = mined(tmp_path, "".join(f"{image}.png\t0\n" for image in images), *images)
    assert result.scores["image"].tolist() == sorted(images)


@settings(max_examples=50, deadline=None)
@given(st.text(max_size=200))
def test_any_text_is_either_scores_or_faults(tmp_path_factory, text):
    folder = tmp_path_factory.getbasetemp()
    (folder / "result.tsv").write_bytes(text.encode("utf-8", errors="replace"))
    try:
        found = read_mining(folder, table(A)).scores["image"].tolist()
    except ProtocolViolated as error:
        found = error.faults
    assert found
    assert found == [A] or all(isinstance(fault, str) for fault in found)


# --------------------------------------------------------------------------------------------- inference


@needs_samples
def test_an_inference_result_of_the_real_system_is_read():
    folder = SAMPLES / "det-ark_raw/mi1"
    lines = (folder / "in/candidate-index.tsv").read_text().splitlines()
    images = table(*(Path(line).stem for line in lines), width=160, height=120)
    found = read_infer(folder / "out", images, NAMES).annotations
    assert len(found) == 2 * len(images)
    assert found.loc[0, ["label", "x1", "y1", "x2", "y2"]].tolist() == ["cat", 26.0, 1.0, 109.0, 98.0]
    assert found["score"].between(0, 1).all()


@needs_samples
def test_a_segmentation_result_of_the_real_system_keeps_its_masks():
    folder = SAMPLES / "mir_ins-seg/mi1"
    lines = (folder / "in/candidate-index.tsv").read_text().splitlines()
    images = table(*(Path(line).stem for line in lines), width=170, height=130)
    document = json.loads((folder / "out/infer-result.json").read_text())
    found = read_infer(folder / "out", images, NAMES).annotations
    assert len(found) == len(document["annotations"])
    assert sorted(found["segmentation"]) == sorted(json.dumps(row["segmentation"]) for row in document["annotations"])
    assert sorted(found["area_px"]) == sorted(float(row["area"]) for row in document["annotations"])


def test_boxes_come_back_as_corners_with_scores(tmp_path):
    entries = {f"{A}.jpg": {"boxes": [box(score=1, name="dog")]}, f"/in/assets/{B}.png": {"annotations": []}}
    result = inferred(tmp_path, {"detection": entries}, A, B)
    (row,) = result.annotations.to_dict("records")
    assert (row["image"], row["label"], row["score"]) == (A, "dog", 1.0)
    assert [row[name] for name in ("x1", "y1", "x2", "y2")] == [1.0, 2.0, 4.0, 6.0]
    assert result.notes == ()


def test_exact_corners_are_preferred_to_whole_pixels(tmp_path):
    entries = {f"{A}.jpg": {"boxes": [box(xyxy=[1.25, 2.5, 4.75, 6.5])]}}
    (row,) = inferred(tmp_path, {"detection": entries}, A).annotations.to_dict("records")
    assert [row[name] for name in ("x1", "y1", "x2", "y2")] == [1.25, 2.5, 4.75, 6.5]


def test_boxes_over_the_edge_are_clipped_and_those_outside_or_empty_dropped_and_counted(tmp_path):
    boxes = [box(-5, -5, 10, 10), box(95, 75, 50, 50), box(200, 1, 5, 5), box(1, 1, 0, 5), box(5, 5, -2, 3)]
    result = inferred(tmp_path, {"detection": {A: {"boxes": boxes}}}, A)
    assert result.annotations[["x1", "y1", "x2", "y2"]].to_numpy().tolist() == [[0, 0, 5, 5], [95, 75, 100, 80]]
    assert result.notes == (
        "1 boxes outside their image were dropped",
        "2 boxes were clipped to their image",
        "2 boxes without area were dropped",
    )


@pytest.mark.parametrize(
    ("spoilt", "said"),
    [
        (box(name="bird"), "class 'bird' is none of the model's"),
        (box(name=None), "class None"),
        (box(name=["cat"]), "class"),
        (box(score=float("nan")), "score nan"),
        (box(score=float("inf")), "score inf"),
        (box(score=1.5), r"score 1\.5"),
        (box(score=-0.1), r"score -0\.1"),
        (box(score="0.5"), "score '0.5'"),
        (box(score=None), "score None"),
        (box(x=float("nan")), "no four finite numbers"),
        (box(x="1"), "no four finite numbers"),
        (box(w=1e308), "no four finite numbers"),
        (box(w=None), "no four finite numbers"),
        (box(xyxy=[1, 2, 3]), "no four finite numbers"),
        (box(xyxy=[1, 2, 3, float("inf")]), "no four finite numbers"),
        ({"class_name": "cat", "score": 0.5}, "no four finite numbers"),
        ({"class_name": "cat", "score": 0.5, "box": [1, 2, 3, 4]}, "no four finite numbers"),
        ("cat", "no four finite numbers"),
    ],
)
def test_case_41_a_box_with_a_fault_spoils_the_whole_result(tmp_path, spoilt, said):
    with pytest.raises(ProtocolViolated, match=said):
        inferred(tmp_path, {"detection": {f"{A}.jpg": {"boxes": [box(), spoilt]}}}, A)


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ("{", "no JSON"),
        ("[" * 100_000, "no JSON"),
        ("[1]", "no JSON object"),
        ({}, "neither a mapping `detection`"),
        ({"detection": []}, "neither a mapping `detection`"),
        ({"detection": {f"{A}.jpg": []}}, "no list `boxes`"),
        ({"detection": {f"{A}.jpg": {"boxes": 3}}}, "no list `boxes`"),
        ({"detection": {f"{A}.jpg": {"boxes": []}, "x.jpg": {"boxes": []}}}, r"'x\.jpg' is no candidate"),
        ({"detection": {f"{A}.jpg": {"boxes": []}, f"/in/{A}.jpg": {"boxes": []}}}, "more than once"),
        (f'{{"detection": {{"{A}.jpg": {{"boxes": []}}, "{A}.jpg": {{"boxes": []}}}}}}', "has the key"),
        ({"detection": {}}, "1 of 1 candidates are not named"),
        ({"images": [], "annotations": [{"image_id": 1}]}, "belongs to no image"),
        (
            {
                "images": [{"id": 1, "file_name": f"{A}.jpg"}],
                "categories": [{"id": 0, "name": "cat"}],
                "annotations": [{"image_id": 1, "category_id": 0, "bbox": [1, 2, 3]}],
            },
            "not four finite numbers",
        ),
        (
            {
                "images": [{"id": 1, "file_name": f"{A}.jpg"}],
                "annotations": [{"image_id": 1, "category_id": 9, "bbox": [1, 2, 3, 4]}],
            },
            "class None",
        ),
    ],
)
def test_case_41_an_inference_result_with_a_fault_is_not_used(tmp_path, document, said):
    with pytest.raises(ProtocolViolated, match=said):
        inferred(tmp_path, document, A)


def test_images_that_are_not_named_can_be_taken_for_empty_ones(tmp_path):
    entries = {f"{A}.jpg": {"boxes": [box()]}, "x.jpg": {"boxes": [box()]}}
    result = inferred(tmp_path, {"detection": entries}, A, B, strays="report")
    assert result.annotations["image"].tolist() == [A]
    assert result.notes == ("'x.jpg' is no candidate", f"1 of 2 candidates are not named, the first is {B}")


def test_case_69_names_that_look_like_commands_stay_text(tmp_path):
    mark = tmp_path / "ran"
    name = f'"; touch {mark}; $(touch {mark})'
    with pytest.raises(ProtocolViolated):
        inferred(tmp_path, {"detection": {name: {"boxes": [box(name=name)]}}}, A)
    with pytest.raises(ProtocolViolated):
        mined(tmp_path, f"{name}\t1\n", A)
    assert not mark.exists()


# ----------------------------------------------------------------------------------------------- monitor


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("t\t1795148622.734886\t0.25\t2\n", (0.25, 2, 0, "")),
        ("t\t1795148622.7348886\t1.00\t2\t0\n", (1.0, 2, 0, "")),
        ("t\t1\t0.5\t4\t300103\tno room\nTraceback ...\n", (0.5, 4, 300103, "no room")),
        ("t\t1\t0.5\t4\t\tsome\tmore\n", (0.5, 4, 0, "some more")),
        ("t\t1\t7\t2", (1.0, 2, 0, "")),
        ("t\t1\t-7\t2\r\n", (0.0, 2, 0, "")),
        ("t\tx\t0.5\t2\n\xff\xff", (0.5, 2, 0, "")),
    ],
)
def test_progress_is_read_from_a_record(tmp_path, text, expected):
    (tmp_path / "monitor.txt").write_bytes(text.encode("latin-1"))
    seen = read_monitor(tmp_path / "monitor.txt")
    assert (seen.fraction, seen.state, seen.code, seen.message) == expected


@pytest.mark.parametrize(
    "text", ["", "\n", "t\t1\t0.5", "garbage", "t\t1\tnan\t2", "t\t1\tinf\t2", "t\t1\thalf\t2", "t\t1\t.5\t9", "\0\0\0"]
)
def test_case_43_garbage_in_the_monitor_is_no_progress_and_no_error(tmp_path, text):
    (tmp_path / "monitor.txt").write_text(text)
    assert read_monitor(tmp_path / "monitor.txt") is None


def test_case_43_a_monitor_without_end_is_read_in_part(tmp_path):
    (tmp_path / "monitor.txt").write_bytes(b"t\t1\t0.5\t2\n" + b"x" * (8 << 20))
    assert read_monitor(tmp_path / "monitor.txt").fraction == 0.5
    (tmp_path / "monitor.txt").write_bytes(b"\xff" * (8 << 20))
    assert read_monitor(tmp_path / "monitor.txt") is None


def test_an_error_record_is_put_into_words(tmp_path):
    (tmp_path / "monitor.txt").write_text("t\t1\t1.00\t4\t300102\tnvidia-smi \x1b[31mfailed\n")
    assert read_monitor(tmp_path / "monitor.txt").in_words() == (
        "no GPU was found (return code 300102): nvidia-smi  [31mfailed"
    )
