"""The conformance kit finds what is wrong with an executor, and nothing else."""

import dataclasses
import json
import sys
from pathlib import Path

import pytest
import yaml

from ymir_nb.backend import packages
from ymir_nb.backend.errors import PreflightFailed
from ymir_nb.backend.executors import Executor, builtin
from ymir_nb.backend.manual_files import read_folder
from ymir_nb.backend.manuals import Manual, read_manual
from ymir_nb.backend.results import read_training
from ymir_nb.backend.verification import verify
from ymir_nb.backend.verification.samples import LABELS, draw_samples
from ymir_nb.cli import main

HERE = Path(__file__).resolve().parents[1] / "executors"
PLAIN = {"training": {"idle_seconds": 0.0}}


def executor(*command: str, **changes) -> Executor:
    manual = read_manual(read_folder(HERE / "average-man"), where="average-man")
    manual = dataclasses.replace(manual, **changes.pop("manual", {}))
    return Executor("it", (sys.executable, *command), manual, **changes)


def broken(*faults: str, **changes) -> Executor:
    return executor(str(HERE / "broken.py"), *faults, **changes)


def bad(found) -> dict[tuple[str, str], str]:
    """Name the checks that found something, with their task."""
    rows = [row for row in found.rows if row.result in ("failed", "warning")]
    assert all(row.detail and row.remedy for row in rows)
    return {(row.task, row.check): row.result for row in rows}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The whole verification of an executor that is in order, and its folder."""
    folder = tmp_path_factory.mktemp("whole") / "kept"
    return verify(broken(), folder, parameters={"training": {"idle_seconds": 0.3}}), folder


@pytest.fixture(scope="module")
def package(whole):
    """A model package that the executor made."""
    result = read_training(whole[1] / "runs/training/out")
    return packages.pack(result.files, result.to_info(executor_config={"class_names": list(LABELS)}, task_context={}))


def test_an_executor_in_order_passes_every_check(whole):
    found, _ = whole
    assert found.ok
    assert bad(found) == {}
    skipped = {row.check for row in found.rows if row.result == "skipped"}
    assert skipped <= {"isolation"}
    assert repr(found).startswith("<it holds the contract: ")


def test_the_small_executor_of_the_tests_breaks_nothing(tmp_path):
    found = verify(executor(str(HERE / "average.py")), tmp_path / "kept", parameters=PLAIN)
    assert found.ok
    assert {check for _, check in bad(found)} == {"tensorboard", "names its failure", "boxes inside"}


@pytest.mark.slow
def test_the_embedded_executor_passes_every_check(tmp_path):
    small = {"training": {"max_steps": 10, "input_width": 96, "input_height": 72}}
    found = verify(builtin(), tmp_path / "kept", parameters=small)
    assert bad(found) == {}
    assert {row.check for row in found.rows if row.result == "skipped"} <= {"isolation", "class order"}


TRAINING_FAULTS = {
    "exits-3": {"exit status": "failed"},
    "writes-to-in": {"inputs untouched": "failed"},
    "writes-to-the-callers-log": {"log untouched": "failed"},
    "removes-the-callers-log": {"log untouched": "failed"},
    "no-monitor": {"monitor record": "failed"},
    "blanks-for-tabs": {"monitor record": "failed"},
    "other-task-id": {"monitor task id": "failed"},
    "time-in-milliseconds": {"monitor time": "failed"},
    "percent-of-100": {"monitor percent": "failed"},
    "goes-back": {"monitor percent": "failed"},
    "state-in-words": {"monitor state": "failed"},
    "says-failed-and-exits-0": {"monitor state": "failed"},
    "ends-at-99": {"monitor end": "warning"},
    "no-training-result": {"result.yaml": "failed"},
    "pickles-its-result": {"result.yaml": "failed"},
    "dash-in-a-stage-name": {"stage names": "failed"},
    "lists-a-file-that-is-not-there": {"stage files": "failed"},
    "absolute-file-names": {"stage files": "failed"},
    "empty-weights": {"weights": "failed"},
    "metric-as-percent": {"metrics": "failed"},
    "metric-is-nan": {"metrics": "failed"},
    "best-stage-that-is-none": {"best stage": "failed"},
    "worse-stage-is-best": {"best stage": "warning"},
    "no-timestamp": {"timestamps": "failed"},
    "timestamp-in-words": {"timestamps": "failed"},
    "no-tensorboard": {"tensorboard": "warning"},
    "attachments-that-are-not-there": {"training result": "failed"},
}
SCORING_FAULTS = {
    ("mining", "no-mining-result"): {"result.tsv": "failed"},
    ("mining", "leaves-out-a-candidate"): {"every candidate once": "failed"},
    ("mining", "repeats-a-row"): {"every candidate once": "failed"},
    ("mining", "file-names-without-folder"): {"mining paths": "warning"},
    ("mining", "score-is-nan"): {"mining scores": "failed"},
    ("mining", "worst-first"): {"mining order": "warning"},
    ("infer", "no-detection"): {"infer-result.json": "failed"},
    ("infer", "python-for-json"): {"infer-result.json": "failed"},
    ("infer", "old-key"): {"boxes key": "warning"},
    ("infer", "names-no-image-without-boxes"): {"every candidate named": "warning"},
    ("infer", "names-an-image-of-its-own"): {"every candidate named": "failed"},
    ("infer", "float-coordinates"): {"box coordinates": "warning"},
    ("infer", "corners-for-sizes"): {"box coordinates": "failed"},
    ("infer", "boxes-of-the-networks-input"): {"boxes inside": "failed"},
    ("infer", "reaches-over-the-edge"): {"boxes inside": "warning"},
    ("infer", "class-ids-for-names"): {"class names": "failed"},
    ("infer", "score-as-percent"): {"scores": "failed"},
    ("infer", "odd-further-key"): {"infer result": "failed"},
    ("mining+infer", "infers-instead-of-both"): {"result.tsv": "failed"},
}


@pytest.mark.parametrize("fault", TRAINING_FAULTS)
def test_a_training_that_breaks_the_contract_is_told_by_the_one_check(tmp_path, fault):
    found = verify(broken(fault), tmp_path / "kept", only=["training"], quick=True)
    assert bad(found) == {("training", check): result for check, result in TRAINING_FAULTS[fault].items()}


@pytest.mark.parametrize(("kind", "fault"), SCORING_FAULTS)
def test_a_mining_or_inference_that_breaks_the_contract_is_told_by_the_one_check(tmp_path, package, kind, fault):
    found = verify(broken(fault), tmp_path / "kept", only=[kind], quick=True, model=package)
    assert bad(found) == {(kind, check): result for check, result in SCORING_FAULTS[kind, fault].items()}


def test_one_fault_does_not_hide_another(tmp_path, package):
    it = broken("other-task-id", "worst-first", "score-is-nan", "odd-further-key")
    found = verify(it, tmp_path / "a", only=["mining+infer"], quick=True, model=package)
    assert bad(found) == {
        ("mining+infer", "monitor task id"): "failed",
        ("mining+infer", "mining scores"): "failed",
        ("mining+infer", "mining order"): "warning",
        ("mining+infer", "infer result"): "failed",
    }


def test_faults_that_take_a_run_of_their_own_are_told_in_training(tmp_path):
    faults = ("random", "crashes-when-pretrained", "does-not-end-when-told", "swallows-errors")
    found = verify(broken(*faults), tmp_path / "a", only=["training"], parameters={"training": {"idle_seconds": 0.4}})
    assert bad(found) == {
        ("training", "same result twice"): "warning",
        ("training", "pretrained model"): "failed",
        ("training", "ends when told"): "warning",
        ("training", "refuses a broken config"): "failed",
    }
    killed = next(row for row in found.rows if row.check == "ends when told")
    assert "SIGTERM" in killed.detail
    found = verify(broken("refuses-unknown-keys", "fails-without-a-word"), tmp_path / "b", only=["training"])
    assert bad(found) == {
        ("training", "unknown keys"): "failed",
        ("training", "names its failure"): "warning",
    }


def test_faults_that_take_a_run_of_their_own_are_told_in_inference(tmp_path, package):
    found = verify(broken("random", "does-without-a-model"), tmp_path / "a", only=["infer"], model=package)
    assert bad(found) == {
        ("infer", "same result twice"): "warning",
        ("infer", "refuses a missing model"): "failed",
    }


def test_an_executor_that_sorts_the_classes_is_found_out(tmp_path):
    found = verify(broken("sorts-the-classes"), tmp_path / "a", only=["training", "infer"])
    assert bad(found) == {("infer", "class order"): "failed"}


def test_an_executor_that_hangs_is_ended_and_told(tmp_path):
    found = verify(broken("hangs"), tmp_path / "a", only=["training"], quick=True, seconds=1.0)
    assert bad(found) == {("training", "exit status"): "failed"}
    assert "time limit of 1 s" in next(row.detail for row in found.rows if row.check == "exit status")


def templates(**kinds: str) -> dict:
    """What a manual holds of templates that read so."""
    read = {f"{kind}-template.yaml": text.encode() for kind, text in kinds.items()}
    manual = read_manual(read, where="a test")
    return {"templates": manual.templates, "texts": manual.texts}


def test_a_template_that_sets_reserved_keys_is_told_and_nothing_is_run(tmp_path):
    manual = templates(training="idle_seconds: 0.0\nclass_names: [cat]\ngpu_id: ''\nexport_format: ark:raw\n")
    found = verify(broken(manual=manual), tmp_path / "a")
    assert bad(found) == {("training", "template"): "failed"}
    assert "class_names" in next(row.detail for row in found.rows if row.result == "failed")
    assert not (tmp_path / "a/runs").exists()


def test_a_template_that_is_not_flat_or_has_no_such_format_is_told(tmp_path):
    manual = templates(training="solver: {lr: 0.1}\nexport_format: det-coco:raw\n")
    found = verify(broken(manual=manual), tmp_path / "a", only=["training"])
    assert bad(found) == {("training", "template"): "failed", ("training", "export format"): "failed"}


def test_templates_that_disagree_are_told(tmp_path, package):
    manual = templates(mining="idle_seconds: 0.0\nimg_size: 640\n", infer="idle_seconds: 0.0\nimg_size: 416\n")
    found = verify(broken(manual=manual), tmp_path / "a", only=["mining+infer"], quick=True, model=package)
    assert bad(found) == {("mining+infer", "templates agree"): "warning"}


def test_a_program_that_is_not_there_is_told(tmp_path):
    gone = Executor("gone", ("no-such-program",), broken().manual)
    found = verify(gone, tmp_path / "a", only=["training"])
    assert bad(found) == {("training", "starts"): "failed"}


def test_the_rows_are_the_same_for_every_executor(tmp_path, whole):
    gone = Executor("gone", ("no-such-program",), broken().manual)
    names = [(row.task, row.check) for row in verify(gone, tmp_path / "a").rows]
    assert names == [(row.task, row.check) for row in whole[0].rows]
    assert len(set(names)) == len(names)


def test_an_executor_without_a_model_or_a_training_is_refused(tmp_path):
    with pytest.raises(PreflightFailed, match="--model"):
        verify(broken(), tmp_path / "a", only=["infer"])
    with pytest.raises(PreflightFailed, match="training, mining, infer"):
        verify(broken(), tmp_path / "a", only=["labelling"])
    (tmp_path / "a").mkdir()
    (tmp_path / "a/thesis.tex").write_text("\\documentclass{book}")
    with pytest.raises(PreflightFailed, match="empty folder"):
        verify(broken(), tmp_path / "a")


def test_an_executor_that_infers_alone_is_verified_with_a_given_model(tmp_path, package):
    manual = {"templates": {"infer": {}}, "texts": {}}
    found = verify(broken(manual=manual), tmp_path / "a", model=package)
    assert bad(found) == {}
    assert {row.task for row in found.rows if row.result == "ok"} == {"infer"}


@pytest.mark.parametrize(("fault", "expected"), [("", {}), ("no-list-of-annotations", "infer-result.json")])
def test_an_executor_that_segments_is_verified_in_its_own_form(tmp_path, fault, expected):
    it = broken("segments", *filter(None, [fault]), manual={"object_type": 4, "object_types": (4,)})
    found = verify(it, tmp_path / "a", only=["training", "infer"], quick=True)
    assert bad(found) == ({("infer", expected): "failed"} if fault else {})
    assert {row.result for row in found.rows if row.check == "infer result"} == {"skipped" if fault else "ok"}


def test_a_parameter_that_the_executor_does_not_have_is_refused_at_once(tmp_path):
    with pytest.raises(PreflightFailed, match="no_such"):
        verify(broken(), tmp_path / "a", parameters={"infer": {"no_such": 1}})
    assert not (tmp_path / "a").exists()


def test_what_was_left_out_for_one_reason_shares_a_line(tmp_path, whole):
    gone = Executor("gone", ("no-such-program",), broken().manual)
    text = verify(gone, tmp_path / "a", only=["training"]).to_text()
    assert text.count("\n") < 12
    assert "checks)" in text
    assert "no-such-program" in text
    assert len(whole[0].to_text().splitlines()) > 90


def test_the_frame_has_a_row_a_check(whole):
    frame = whole[0].to_frame()
    assert list(frame.columns) == ["check", "task", "result", "detail", "remedy"]
    assert set(frame["result"]) <= {"ok", "skipped"}


def test_the_samples_are_nasty_and_the_same_every_time(tmp_path):
    first, second = (draw_samples(tmp_path / name) for name in "ab")
    assert first.train == second.train
    assert first.candidates == second.candidates
    assert set(first.train.images["mode"]) >= {"L", "RGB", "RGBA"}
    assert set(first.train.images["format"]) == {"JPEG", "PNG", "BMP"}
    assert 6 in set(first.train.images["orientation"])
    per_image = first.train.annotations["image"].value_counts()
    assert {1, 3} <= set(per_image)
    assert first.train.n_negatives
    assert first.candidates.n_unlabelled == len(first.candidates)


def test_the_command_prints_a_table_and_exits_by_what_it_found(workspace, average, tmp_path, capsys):
    words = ["-w", str(workspace.root), "executor", "verify", "average", "--quick", "--only", "training"]
    assert main([*words, "--keep", str(tmp_path / "kept"), "--set", "training.idle_seconds=0.1"]) == 0
    shown = capsys.readouterr().out
    assert "exit status" in shown
    assert "holds the contract" in shown
    config = yaml.safe_load((tmp_path / "kept/runs/training/in/config.yaml").read_text())
    assert config["idle_seconds"] == 0.1
    row = yaml.safe_load((workspace.root / "executors.yaml").read_text())
    row["executors"]["average"]["command"] = [sys.executable, str(HERE / "broken.py"), "exits-3"]
    (workspace.root / "executors.yaml").write_text(yaml.safe_dump(row))
    assert main([*words, "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert (found["executor"], found["ok"], found["counts"]["failed"]) == ("average", False, 1)
    assert next(check for check in found["checks"] if check["result"] == "failed")["check"] == "exit status"


def test_the_embedded_executor_is_verified_outside_any_workspace(tmp_path, capsys):
    words = ["-w", str(tmp_path), "executor", "verify", "tiny", "--only", "training", "--quick", "--seconds", "0.1"]
    assert main([*words, "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["counts"]["failed"]
    assert isinstance(builtin().manual, Manual)
