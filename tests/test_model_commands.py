"""The commands on models, as a shell or a scheduler calls them."""

import json

import pytest

from ymir_nb.cli import main


def test_a_model_is_imported_listed_hidden_restored_and_exported(workspace, tmp_path, capsys):
    def call(*words, fails=0):
        assert main(["-w", str(workspace.root), "model", *map(str, words), "--json"]) == fails
        captured = capsys.readouterr()
        return captured.err if fails else json.loads(captured.out)

    for name in ("w.pt", "net.yaml"):
        (tmp_path / name).write_bytes(name.encode())
    weights = [tmp_path / "w.pt", tmp_path / "net.yaml"]
    told = ["--label", "dog", "--label", "cat", "--metric", 0.5, "--stage", "epoch3", "--set", "input_width=640"]
    card = call("import", "pets", *weights, *told)
    assert (card["model"], card["labels"], card["metric"]) == ("pets@v1", ["dog", "cat"], 0.5)
    assert card["parameters"] == {"input_width": 640}
    file = call("export", "pets", "--to", tmp_path / "out")["file"]
    again = call("import", "again", file)
    assert (again["sha1"], again["best_stage"]) == (card["sha1"], "epoch3")
    assert [row["ref"] for row in call("list")] == ["again@v1", "pets@v1"]
    assert call("hide", "pets") == {"hidden": ["pets@v1"]}
    assert [row["ref"] for row in call("list")] == ["again@v1"]
    assert [row["hidden"] for row in call("list", "--hidden")] == [False, True]
    assert "ymir-nb model restore pets" in call("show", "pets", fails=1)
    assert call("show", "pets@v1:epoch3")["model"] == "pets@v1:epoch3"
    assert call("restore", "pets") == {"restored": ["pets@v1"]}
    assert call("show", "pets")["sha1"] == card["sha1"]
    assert "--label helmet" in call("import", "pets", *weights, fails=1)
    assert "--label helmet" in call("import", "pets", file, "--metric", 0.5, fails=1)


@pytest.mark.parametrize("words", [["hide", "cats"], ["show", "cats@v1"], ["export", "cats", "--to", "out"]])
def test_a_model_that_is_not_there_is_one_line_of_error(workspace, capsys, words):
    assert main(["-w", str(workspace.root), "model", *words]) == 1
    captured = capsys.readouterr()
    assert (captured.out, captured.err.count("\n")) == ("", 1)
    assert "there is no 'cats'" in captured.err
