"""What a training leaves behind: which stages are kept, and what is saved of one that crashed."""

import os
from pathlib import Path

import pytest
import yaml

from ymir_nb.backend.errors import ProtocolViolated
from ymir_nb.backend.outbox import Limits
from ymir_nb.backend.packages import inspect, pack, unpack
from ymir_nb.backend.results import read_training, readable_stages


def lay_out(out: Path, metrics: dict[str, float], *, best: str, **more: object) -> dict:
    """Write the result of a training whose stages came one after another."""
    stages = {}
    for place, (name, metric) in enumerate(metrics.items()):
        (out / "models" / name).mkdir(parents=True, exist_ok=True)
        (out / "models" / name / "w.pt").write_bytes(name.encode())
        stages[name] = {"stage_name": name, "files": ["w.pt"], "timestamp": 1_700_000_000 + place, "mAP": metric}
    return rewrite(out, {"model_stages": stages, "best_stage_name": best, "mAP": metrics[best], **more})


def rewrite(out: Path, document: dict) -> dict:
    (out / "models/result.yaml").write_text(yaml.safe_dump(document, sort_keys=False))
    return document


def test_of_many_stages_the_best_and_the_ten_newest_others_go_into_the_package(tmp_path):
    lay_out(tmp_path, {f"epoch{n}": 0.9 if n == 2 else 0.5 for n in range(1, 16)}, best="epoch2")
    result = read_training(tmp_path)
    kept = ["epoch2", *(f"epoch{n}" for n in range(6, 16))]
    assert list(result.stages) == kept
    assert sorted(result.files) == sorted(f"{name}/w.pt" for name in kept)
    assert result.notes[0] == "stage 'epoch1' was left out: it is none of the newest"
    info = inspect(pack(result.files, result.to_info(executor_config={"class_names": ["cat"]}, task_context={})))
    assert (list(info.stages), info.best_stage_name, info.metric) == (sorted(kept), "epoch2", 0.9)


def test_a_fault_in_a_stage_that_would_be_left_out_is_a_fault_all_the_same(tmp_path):
    lay_out(tmp_path, {f"epoch{n}": 0.5 for n in range(1, 16)}, best="epoch15")
    (tmp_path / "models/epoch1/w.pt").unlink()
    with pytest.raises(ProtocolViolated, match="epoch1"):
        read_training(tmp_path)


def test_the_metric_at_the_top_stands_for_a_best_stage_without_one(tmp_path):
    document = lay_out(tmp_path, {"first": 0.5, "last": 0.5}, best="last")
    for name in ("first", "last"):
        del document["model_stages"][name]["mAP"]
    rewrite(tmp_path, document | {"mAP": 0.25})
    result = read_training(tmp_path)
    assert result.metric == 0.25
    info = inspect(pack(result.files, result.to_info(executor_config={}, task_context={})))
    assert info.metric == 0.25
    assert result.notes == ("stage 'first' has no mAP; it counts as 0",)


def test_attachments_and_thresholds_travel_with_the_package(tmp_path):
    folder = tmp_path / "out/models/attachments/plots/per class"
    folder.mkdir(parents=True)
    (folder / "cat.png").write_bytes(b"drawn")
    more = {"attachments": {"plots": ["per class/cat.png"]}, "evaluate_config": {"conf_thr": 0.3, "iou_thr": 0.5}}
    lay_out(tmp_path / "out", {"last": 0.5}, best="last", **more)
    result = read_training(tmp_path / "out")
    info = unpack(pack(result.files, result.to_info(executor_config={}, task_context={})), tmp_path / "model")
    assert info.attachments == {"plots": ("per class/cat.png",)}
    assert info.evaluate_config == {"conf_thr": 0.3, "iou_thr": 0.5}
    assert (tmp_path / "model/attachments/plots/per class/cat.png").read_bytes() == b"drawn"


# ------------------------------------------------------------------------------------- after a crash


def test_a_good_result_of_a_training_that_crashed_is_read_in_full(tmp_path):
    lay_out(tmp_path, {"epoch1": 0.5, "epoch2": 0.75}, best="epoch2", evaluate_config={"conf_thr": 0.3})
    assert readable_stages(tmp_path) == read_training(tmp_path)


def test_stages_with_a_fault_are_left_out_and_told_of(tmp_path):
    document = lay_out(tmp_path, {f"epoch{n}": n / 10 for n in range(1, 7)}, best="epoch6")
    stages = document["model_stages"]
    (tmp_path / "models/epoch6/w.pt").unlink()
    stages["epoch5"]["files"] = ["../../../etc/passwd"]
    stages["epoch4"]["mAP"] = float("nan")
    del stages["epoch3"]["timestamp"]
    stages |= {"../up": {}, "empty": {"files": [], "timestamp": 1, "mAP": 1.0}}
    document |= {
        "attachments": {"plots": ["gone.png"], "..": ["a"]},
        "evaluate_config": {"conf_thr": 7, "iou_thr": 0.5},
    }
    rewrite(tmp_path, document)
    result = readable_stages(tmp_path)
    assert sorted(result.files) == ["epoch1/w.pt", "epoch2/w.pt"]
    assert (result.best_stage_name, result.metric) == ("epoch2", 0.2)
    assert (result.attachments, result.evaluate_config) == ({}, {"iou_thr": 0.5})
    assert len(result.notes) == 8
    assert inspect(pack(result.files, result.to_info(executor_config={}, task_context={}))).metric == 0.2


def test_of_equal_stages_the_newest_is_taken_when_the_choice_is_lost(tmp_path):
    document = lay_out(tmp_path, {"epoch9": 0.5, "epoch10": 0.5, "epoch11": 0.25}, best="epoch11")
    del document["best_stage_name"]
    rewrite(tmp_path, document | {"mAP": 1.0})
    result = readable_stages(tmp_path)
    assert (result.best_stage_name, result.metric) == ("epoch10", 0.5)
    for stage in document["model_stages"].values():
        del stage["mAP"]
    rewrite(tmp_path, document | {"mAP": 1.0})
    result = readable_stages(tmp_path)  # whose metric that was is lost
    assert (result.best_stage_name, result.metric) == ("epoch11", 0.0)


def test_the_first_protocol_is_read_after_a_crash_too(tmp_path):
    (tmp_path / "models").mkdir()
    (tmp_path / "models/w.pt").write_bytes(b"weights")
    rewrite(tmp_path, {"model": ["w.pt"], "map": 0.5})
    result = readable_stages(tmp_path)
    assert (result.best_stage_name, result.metric) == ("default_best_stage", 0.5)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda out: (out / "models/result.yaml").unlink(),
        lambda out: (out / "models/result.yaml").write_text(""),
        lambda out: (out / "models/result.yaml").write_text("model_stages: {last: {files: ["),
        lambda out: (out / "models/result.yaml").write_text("x: " + "[" * 3000),
        lambda out: (out / "models/result.yaml").write_text("!!python/object/apply:os.system ['false']"),
        lambda out: (out / "models/result.yaml").write_bytes(b"\xff\xfe\0"),
        lambda out: (out / "models/result.yaml").write_text("model_stages: 7"),
        lambda out: (out / "models/last/w.pt").unlink(),
        lambda out: (out / "models").rename(out / "elsewhere"),
        lambda out: out.rename(out.with_name("elsewhere")),
        lambda out: [out.rename(out.with_name("elsewhere")), out.write_text("a file")],
        lambda out: [(out / "models/result.yaml").unlink(), os.mkfifo(out / "models/result.yaml")],
        lambda out: [(out / "models/last/w.pt").unlink(), (out / "models/last/w.pt").symlink_to("/etc/passwd")],
    ],
)
def test_case_41_what_cannot_be_read_after_a_crash_is_nothing_and_no_error(tmp_path, spoil):
    out = tmp_path / "out"
    lay_out(out, {"last": 0.5}, best="last")
    assert readable_stages(out) is not None
    spoil(out)
    assert readable_stages(out) is None


def test_case_42_a_crashed_training_that_filled_the_disk_is_not_read(tmp_path):
    lay_out(tmp_path, {"last": 0.5}, best="last")
    assert readable_stages(tmp_path, limits=Limits(n_files=2)) is None
