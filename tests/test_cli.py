import json
import subprocess
import sys

import pytest

from ymir_nb.cli import main
from ymir_nb.commands import COMMANDS
from ymir_nb.notebook import browse


@pytest.fixture
def call(workspace, capsys):
    """Run a command in the workspace and give its JSON."""

    def run(*words, fails=0):
        assert main(["-w", str(workspace.root), *map(str, words), "--json"]) == fails
        captured = capsys.readouterr()
        if fails:
            assert captured.out == ""
            assert captured.err.count("\n") == 1
            return captured.err
        return json.loads(captured.out)

    return run


@pytest.fixture
def voc(tmp_path, draw):
    """A labelled folder of twelve images, two of them negatives, one broken, split by ImageSets."""
    root = tmp_path / "photos"
    for folder in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (root / folder).mkdir(parents=True)
    for n in range(12):
        (root / "JPEGImages" / f"{n:02}.jpg").write_bytes(draw(100 + n))
        box = f"<bndbox><xmin>{n}</xmin><ymin>2</ymin><xmax>{n + 12}</xmax><ymax>20</ymax></bndbox>"
        thing = f"<object><name>Dog</name>{box}</object>" if n > 1 else ""
        size = "<size><width>40</width><height>30</height><depth>3</depth></size>"
        (root / "Annotations" / f"{n:02}.xml").write_text(f"<annotation>{size}{thing}</annotation>")
    (root / "JPEGImages" / "broken.jpg").write_bytes(b"")
    (root / "ImageSets/Main/train.txt").write_text("".join(f"{n:02}\n" for n in range(8)))
    (root / "ImageSets/Main/val.txt").write_text("".join(f"{n:02}\n" for n in range(8, 12)))
    return root


def test_import_json_has_its_fixed_shape(call, voc):
    found = call("import", "dogs", voc, "--unknown-labels", "add")
    assert list(found) == ["dataset", "version", "n_images", "n_boxes", "n_quarantined", "labels", "report"]
    assert (found["dataset"], found["version"]) == ("dogs", "dogs@v1")
    assert (found["n_images"], found["n_boxes"], found["n_quarantined"]) == (12, 10, 1)
    assert found["labels"] == {"Dog": 10}
    row = next(row for row in found["report"] if row["kind"] == "quarantined")
    assert row["file"].endswith("broken.jpg")
    assert row["reason"]
    assert row["remedy"]


def test_importing_the_same_again_gives_the_same_version(call, voc):
    assert call("import", "dogs", voc, "--unknown-labels", "add")["version"] == "dogs@v1"
    assert call("import", "dogs", voc, "--unknown-labels", "add")["version"] == "dogs@v1"


def test_case_23_stop_shows_every_unknown_label_with_its_count_and_changes_nothing(call, voc, workspace):
    head = workspace.store.git.head()
    error = call("import", "dogs", voc, fails=1)
    assert "Dog" in error
    assert "10" in error
    assert workspace.store.git.head() == head
    assert call("list") == []


def test_filter_takes_one_split(call, voc):
    call("import", "dogs", voc, "--unknown-labels", "add")
    assert call("filter", "dogs", "--split", "train", "--to", "learn")["n_images"] == 8
    assert call("filter", "dogs", "--state", "negative", "--to", "empty")["n_images"] == 2
    assert call("show", "learn")["parameters"] == {"split": "train"}


def test_each_operation_records_its_parameters_and_parents(call, voc):
    call("import", "dogs", voc, "--unknown-labels", "add")
    call("sample", "dogs", "-n", 5, "--seed", 3, "--to", "five")
    call("exclude", "dogs", "five", "--to", "seven")
    call("split", "dogs", "--train", 0.5, "--val", 0.5, "--to", "halves")
    assert call("merge", "five", "seven", "--to", "all")["n_images"] == 12
    shown = call("show", "all")
    assert (shown["operation"], list(shown["parents"])) == ("merge", ["five@v1", "seven@v1"])
    assert call("show", "five")["parameters"] == {"n": 5, "rate": None, "seed": 3}
    assert [row["ref"] for row in call("log", "all")] == ["all@v1"]
    assert len(call("list")) == 5


def test_labels_are_added_aliased_renamed_and_listed(call):
    call("label", "add", "dog", "--alias", "hound")
    call("label", "alias", "pup", "--of", "HOUND")
    assert call("label", "rename", "dog", "--to", "canine") == [
        {"id": 0, "name": "canine", "aliases": ["hound", "pup", "dog"]}
    ]
    assert "already" in call("label", "add", "Pup", fails=1)


def test_export_and_import_bring_the_same_images_back(call, voc, tmp_path):
    call("import", "dogs", voc, "--unknown-labels", "add")
    for form in ("voc", "coco"):
        call("export", "dogs", "--to", tmp_path / form, "--format", form)
        found = call("import", f"{form}-back", tmp_path / form)
        assert (found["n_images"], found["n_boxes"]) == (12, 10)
    ours = call("show", "dogs")
    assert call("show", "voc-back")["labels"] == ours["labels"]


def test_the_whole_loop_by_commands(call, make_project, workspace, tmp_path):
    make_project()
    call(
        "project",
        "create",
        "pets",
        "--train",
        "train",
        "--val",
        "val",
        "--pool",
        "pool",
        "--executor",
        "average",
        "-k",
        4,
        "--target-map50",
        0.9,
        "--set",
        "training.idle_seconds=0",
    )
    board = call("round", "mine", "pets")
    assert [row["rank"] for row in board] == list(range(1, 13))
    assert set(board[0]) == {"rank", "image", "score", "why", "group"}
    shown = call("round", "finish", "pets", "--source", "truth")
    assert shown == call("project", "show", "pets")
    assert shown["name"] == "pets"
    first, second = shown["rounds"]
    assert {"round", "n_images", "n_boxes", "ap50", "ap", "seconds"} <= set(first)
    assert (first["round"], first["n_images"], second["round"], second["n_images"]) == (0, 4, 1, 8)
    measured = call("evaluate", second["predictions"])
    assert list(measured) == ["ap50", "ap", "per_label"]
    assert measured["ap50"] == second["ap50"]
    assert set(measured["per_label"]) == {"dog"}
    assert {row["state"] for row in call("jobs", "list")} == {"done"}
    assert call("model", "list")[0]["ref"] == "pets@v2"
    package = call("model", "export", "pets", "--to", tmp_path)["file"]
    assert call("model", "import", "friend", package, "--executor", "average")["labels"] == ["dog"]
    assert call("infer", "val", "--model", "friend")["version"] == "val.friend@v1"
    assert [row["name"] for row in call("predictions")] == ["pets-candidates.pets", "val.friend", "val.pets"]
    assert call("project", "set", "pets", "-k", 2)["plan"]["k"] == 2
    assert call("project", "copy", "pets", "--to", "cats")["rounds"] == []
    assert [row["name"] for row in call("project", "list")] == ["cats", "dogs", "pets"]
    assert call("project", "delete", "cats") == {"deleted": "cats"}
    assert workspace.store.git.run("status", "--porcelain") == b""


def test_train_infer_mine_and_evaluate_stand_alone(call, make_project):
    make_project()
    model = call(
        "train", "solo", "--train", "train", "--val", "val", "--executor", "average", "--set", "idle_seconds=0.0"
    )
    assert (model["model"], model["labels"], model["trained_on"]["n_images"]) == ("solo@v1", ["dog"], 4)
    assert (
        call("train", "solo", "--train", "train", "--val", "val", "--executor", "average", "--set", "idle_seconds=0.0")
        == model
    )
    mined = call("mine", "pool", "--model", "solo", "--to", "best", "-k", 2, "--strategy", "random")
    assert (mined["mined"], len(mined["board"])) == ("best@v1", 12)
    assert call("executor", "show", "average")["templates"]["training"]["idle_seconds"] == 0.0
    assert [row["name"] for row in call("executor", "list")] == ["tiny", "average"]
    assert "its template does not list them" in call(
        "train", "solo", "--train", "train", "--val", "val", "--executor", "average", "--set", "speed=1", fails=1
    )
    assert "set by ymir-nb itself" in call(
        "train", "solo", "--train", "train", "--val", "val", "--executor", "average", "--set", "gpu_id=0", fails=1
    )


def test_an_error_is_one_line_and_a_wrong_call_exits_2(tmp_path):
    lost = subprocess.run(
        [sys.executable, "-m", "ymir_nb", "list"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (lost.returncode, lost.stdout, lost.stderr.count("\n")) == (1, "", 1)
    assert "ymir-nb -w . init" in lost.stderr
    wrong = subprocess.run(
        [sys.executable, "-m", "ymir_nb", "dance"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert wrong.returncode == 2
    assert "Traceback" not in wrong.stderr


def test_every_command_has_its_help(capsys):
    def walk(table, words):
        for name, entry in table.items():
            if isinstance(entry, dict):
                walk(entry, [*words, name])
                continue
            with pytest.raises(SystemExit) as stop:
                main([*words, name, "--help"])
            assert stop.value.code == 0
            assert entry.run.__doc__.split("\n")[0] in " ".join(capsys.readouterr().out.split())

    walk(COMMANDS, [])


def test_case_7_and_53_names_that_bite_are_shown_harmlessly(call, workspace, tmp_path, draw):
    folder = tmp_path / "odd"
    folder.mkdir()
    for name in (
        "-rf.jpg",
        "<script>alert(1)</script>.jpg".replace("/", "_"),
        "tab\there.jpg",
        "smile😀.jpg",
        "line\nbreak.jpg",
    ):
        (folder / name).write_bytes(draw(len(name)))
    found = call("import", "odd", folder, "--format", "images")
    assert found["n_images"] + found["n_quarantined"] + sum(row["kind"] == "refused" for row in found["report"]) == 5
    kept = workspace.dataset("odd")
    assert any("<script>" in file for file in kept.images["file"])
    assert "<script" not in browse(kept)._repr_mimebundle_()[0]["text/html"]
