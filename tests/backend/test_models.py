"""The registry: packages and foreign weights in, the same bytes out; stages, hiding, the card; nothing is unpickled."""

import os
import re
import shutil
import tarfile
import time
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import pytest
import yaml

from ymir_nb.backend import packages
from ymir_nb.backend.errors import (
    ExecutorNotFound,
    ImportRefused,
    InvalidName,
    ObjectMissing,
    ProjectError,
    StoreError,
    VersionNotFound,
)
from ymir_nb.backend.hidden import HIDDEN_FILE, hidden_models, hide_model, models_in_use, restore_model
from ymir_nb.backend.model_imports import import_model, import_weights
from ymir_nb.backend.models import list_models, open_model, save_model
from ymir_nb.backend.package_info import PackageInfo, Stage
from ymir_nb.backend.workspace import Workspace


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return Workspace.init(tmp_path_factory.mktemp("made") / "ws").root


@pytest.fixture
def workspace(made, tmp_path):
    """A copy of one that is made once: DVC takes a second to make each."""
    return Workspace.open(shutil.copytree(made, tmp_path / "ws"))


def payload(mark: Path) -> bytes:
    """A pickle that makes a file when it is loaded."""
    return f"cposix\nsystem\n(S'touch {mark}'\ntR.".encode()


def packed(folder: Path, *, metrics=(0.5, 0.75, 0.25), labels=("cat", "dog"), content: bytes = b"weights") -> bytes:
    """A package of several stages, whose middle one is the best."""
    folder.mkdir(exist_ok=True)
    stages, files = {}, {}
    for place, metric in enumerate(metrics, start=1):
        name = f"epoch{5 * place}"
        path = folder / name
        path.write_bytes(content + name.encode())
        files[f"{name}/w.pt"] = path
        stages[name] = Stage(name, ("w.pt",), timestamp=100 + place, metrics={"mAP": metric, "tp": place})
    return packages.pack(files, PackageInfo(stages, "epoch10", {"class_names": list(labels), "epochs": 15}))


def register(workspace, name="pets", *, folder=None, **options):
    package = packed(folder or workspace.root.parent / "weights", **options)
    return save_model(
        workspace, name, package, operation="train", executor="tiny", parameters={}, trained_on={"n_images": 3}
    )


# ---------------------------------------------------------------------------------------------- packages


def test_a_package_comes_out_as_it_went_in(workspace, tmp_path):
    file = tmp_path / "given"
    file.write_bytes(packed(tmp_path / "w"))
    model = import_model(workspace, "pets", file, executor="tiny")
    exported = model.export(tmp_path / "out")
    assert exported.read_bytes() == file.read_bytes()
    assert exported.name == model.card["sha1"]
    assert (model.labels, model.metric, model.card["best_stage"]) == (("cat", "dog"), 0.75, "epoch10")
    assert import_model(workspace, "pets", exported, executor="tiny").card["sha1"] == model.card["sha1"]


def test_a_package_of_the_first_version_comes_out_as_it_went_in(workspace, tmp_path):
    info = {"models": ["w.pt"], "executor_config": {"class_names": ["cat"]}, "task_context": {"mAP": 0.25}}
    (tmp_path / "ymir-info.yaml").write_text(yaml.safe_dump(info))
    (tmp_path / "w.pt").write_bytes(b"weights")
    with tarfile.open(tmp_path / "old", "w:gz") as tar:
        for name in ("w.pt", "ymir-info.yaml"):
            tar.add(tmp_path / name, name)
    model = import_model(workspace, "old", tmp_path / "old", executor="tiny")
    assert (model.stages["stage"].tolist(), model.metric) == (["default_best_stage"], 0.25)
    assert model.export(tmp_path / "out").read_bytes() == (tmp_path / "old").read_bytes()


def test_a_file_that_is_no_whole_package_leaves_no_model(workspace, tmp_path):
    data = packed(tmp_path / "w")
    for name, content in {"cut": data[:-20], "text": b"hello", "empty": b""}.items():
        (tmp_path / name).write_bytes(content)
    os.mkfifo(tmp_path / "pipe")
    info = PackageInfo({"a": Stage("a", ())}, "a")
    (tmp_path / "nameless").write_bytes(packages.pack({}, info))
    begin = time.monotonic()
    for name in ("cut", "text", "empty", "pipe", "nameless", "absent", "w"):
        with pytest.raises(ImportRefused):
            import_model(workspace, "pets", tmp_path / name, executor="tiny")
    assert time.monotonic() - begin < 5
    (tmp_path / "good").write_bytes(data)
    with pytest.raises(ExecutorNotFound):
        import_model(workspace, "pets", tmp_path / "good", executor="nobody")
    assert workspace.store.names("models") == []


# ---------------------------------------------------------------------------------------- foreign weights


def test_foreign_weights_become_a_package_that_ymir_reads(workspace, tmp_path):
    folder = tmp_path / "runs"
    (folder / "config").mkdir(parents=True)
    (folder / "best.pt").write_bytes(b"weights")
    (folder / "config/net.yaml").write_bytes(b"depth: 3")
    (folder / ".DS_Store").write_bytes(b"no part of it")
    model = import_weights(
        workspace, "pets", folder, labels=["cat", "dog"], executor="tiny", metric=0.5, parameters={"input_width": 640}
    )
    assert repr(model) == "<Model pets@v1: cat, dog; mAP 0.500 by its executor>"
    assert model.card["trained_on"] == {"weights": ["runs"]}
    info = packages.unpack(model.export(tmp_path / "out").read_bytes(), tmp_path / "unpacked")
    assert info.stages["imported"].files == ("best.pt", "config/net.yaml")
    assert info.executor_config == {"class_names": ["cat", "dog"], "input_width": 640}
    assert (info.object_type, info.metric) == (2, 0.5)
    assert (tmp_path / "unpacked/imported/config/net.yaml").read_bytes() == b"depth: 3"


def test_single_files_keep_their_names_and_equal_weights_are_one_version(workspace, tmp_path):
    for folder, name in (("a", "w.pt"), ("b", "config.py")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / name).write_bytes(name.encode())
    (tmp_path / "linked.pt").symlink_to(tmp_path / "a/w.pt")
    files = [tmp_path / "b/config.py", tmp_path / "a/w.pt", str(tmp_path / "linked.pt")]
    models = [
        import_weights(workspace, "pets", given, labels=["cat"], executor="tiny", stage="epoch3")
        for given in (files, iter(files))
    ]
    assert models[0] == models[1]
    assert models[0].info.stages["epoch3"].files == ("config.py", "linked.pt", "w.pt")
    assert models[0].metric is None
    assert "not measured by its executor" in repr(models[0])
    alone = import_weights(workspace, "alone", files[1], labels=["cat"], executor="tiny", object_type=4, metric=1)
    assert "maskAP 1.000" in repr(alone)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"labels": []}, "labels"),
        ({"labels": "cat"}, "labels"),
        ({"labels": ["cat", "cat"]}, "labels"),
        ({"labels": ["cat", " "]}, "labels"),
        ({"labels": ["cat", 3]}, "labels"),
        ({"metric": 1.5}, "metric"),
        ({"metric": float("nan")}, "metric"),
        ({"metric": "good"}, "metric"),
        ({"stage": "../up"}, "stage"),
        ({"stage": "attachments"}, "stage"),
        ({"object_type": 7}, "object_type"),
        ({"parameters": {"net": object()}}, "plainly"),
        ({"files": "absent"}, "No such file"),
        ({"files": "empty"}, "no file"),
        ({"files": []}, "no file"),
        ({"files": "pipe"}, "regular file"),
        ({"files": "linking"}, "is a link"),
        ({"files": "looping"}, "is a link"),
        ({"files": "strange"}, "Rename"),
        ({"files": ["w.pt", "other/w.pt"]}, "same name"),
    ],
)
def test_weights_that_cannot_be_packed_leave_no_model(workspace, tmp_path, monkeypatch, changes, said):
    monkeypatch.chdir(tmp_path)
    for folder in ("empty", "linking", "looping", "strange", "other"):
        (tmp_path / folder).mkdir()
    (tmp_path / "linking/w.pt").symlink_to("/etc/passwd")
    (tmp_path / "looping/again").symlink_to(tmp_path / "looping")
    (tmp_path / "strange/a\nb.pt").write_bytes(b"x")
    (tmp_path / "other/w.pt").write_bytes(b"y")
    (tmp_path / "w.pt").write_bytes(b"x")
    os.mkfifo(tmp_path / "pipe")
    given = {"files": "w.pt", "labels": ["cat"], "executor": "tiny"} | changes
    with pytest.raises(ImportRefused, match=said):
        import_weights(workspace, "pets", given.pop("files"), **given)
    assert workspace.store.names("models") == []


def test_case_49_no_step_from_import_to_export_opens_a_pickle(workspace, tmp_path, make_dataset, average):
    mark = tmp_path / "ran"
    (tmp_path / "best.pt").write_bytes(payload(mark))
    model = import_weights(workspace, "evil", tmp_path / "best.pt", labels=["dog"], executor="average")
    exported = model.export(tmp_path / "out")
    again = import_model(workspace, "again", exported, executor="average")
    assert repr(again)
    assert again._repr_html_()
    assert len(again.stages) == 1
    assert list_models(workspace)["ref"].tolist() == ["again@v1", "evil@v1"]
    hide_model(workspace, "evil")
    restore_model(workspace, "evil")
    packages.unpack(again.package(), tmp_path / "unpacked")
    assert (tmp_path / "unpacked/imported/best.pt").read_bytes() == payload(mark)
    from ymir_nb.backend.contract import Task, write_in

    task = Task("t1", ("dog",), infer=True, candidates=make_dataset(2), model=again.package())
    write_in(tmp_path / "job", task)
    assert (tmp_path / "job/in/models/imported/best.pt").read_bytes() == payload(mark)
    assert not mark.exists()
    os.system(f"touch {mark}")
    assert mark.exists()  # the payload's command is one that works here


# -------------------------------------------------------------------------------------------------- stages


def test_stages_are_listed_oldest_first_and_chosen_by_name(workspace):
    model = register(workspace)
    assert model.stages.to_dict("list") == {
        "stage": ["epoch5", "epoch10", "epoch15"],
        "best": [False, True, False],
        "files": [1, 1, 1],
        "mAP": [0.5, 0.75, 0.25],
        "tp": [1, 2, 3],
    }
    assert (model.stage, model.full_ref, model.metric) == ("", "pets@v1", 0.75)
    chosen = model.at("epoch5")
    assert (chosen.stage, chosen.ref, chosen.full_ref, chosen.metric) == ("epoch5", "pets@v1", "pets@v1:epoch5", 0.5)
    for ref in ("pets:epoch5", "pets@v1:epoch5", "pets@HEAD:epoch5"):
        assert open_model(workspace, ref) == chosen
    assert repr(chosen) == "<Model pets@v1:epoch5: cat, dog; mAP 0.500 by its executor>"
    for ref in ("pets:epoch6", "pets:", "pets:a:b", "pets@v2:epoch5", "cats:epoch5"):
        with pytest.raises(VersionNotFound):
            open_model(workspace, ref)


def test_a_chosen_stage_is_the_one_that_an_executor_gets(workspace, tmp_path, make_dataset):
    from ymir_nb.backend.contract import Task, write_in

    model = open_model(workspace, f"{register(workspace, labels=('dog',)).ref}:epoch5")
    task = Task("t1", model.labels, infer=True, candidates=make_dataset(1), model=model.package(), stage=model.stage)
    write_in(tmp_path / "job", task)
    config = yaml.safe_load((tmp_path / "job/in/config.yaml").read_text())
    assert config["model_params_path"] == ["/in/models/epoch5/w.pt"]


# ------------------------------------------------------------------------------------------ hide and restore


def test_a_hidden_version_is_out_of_lists_and_not_what_the_name_means(workspace):
    register(workspace)
    register(workspace, metrics=(0.1, 0.2))
    assert list_models(workspace)["ref"].tolist() == ["pets@v2"]
    assert hide_model(workspace, "pets@v2") == ["pets@v2"]
    assert list_models(workspace)["ref"].tolist() == ["pets@v1"]
    assert open_model(workspace, "pets").ref == "pets@v1"
    assert open_model(workspace, "pets@v2").metric == 0.2
    both = list_models(workspace, hidden=True)
    assert both[["ref", "hidden"]].to_numpy().tolist() == [["pets@v2", True], ["pets@v1", False]]
    assert restore_model(workspace, "pets@v2") == ["pets@v2"]
    assert open_model(workspace, "pets").ref == "pets@v2"


def test_a_name_that_is_hidden_is_refused_until_it_is_restored_or_trained_again(workspace):
    register(workspace)
    register(workspace, metrics=(0.1, 0.2))
    assert hide_model(workspace, "pets") == ["pets@v1", "pets@v2"]
    assert len(list_models(workspace)) == 0
    with pytest.raises(VersionNotFound, match=r"model 'pets' is hidden.*restore pets"):
        open_model(workspace, "pets")
    with pytest.raises(VersionNotFound, match="hidden"):
        open_model(workspace, "pets:epoch5")
    assert open_model(workspace, "pets@v1:epoch5").metric == 0.5
    register(workspace, metrics=(0.3, 0.4))
    assert open_model(workspace, "pets").ref == "pets@v3"
    assert restore_model(workspace, "pets") == ["pets@v1", "pets@v2", "pets@v3"]
    assert hidden_models(workspace) == frozenset()


def test_what_is_hidden_survives_a_clone_and_is_listed_without_its_files(workspace, tmp_path, run):
    register(workspace)
    register(workspace, "other")
    hide_model(workspace, "pets")
    assert run("git", "status", "--porcelain", cwd=workspace.root) == ""
    run("git", "clone", "-q", workspace.root, tmp_path / "clone", cwd=tmp_path)
    clone = Workspace.open(tmp_path / "clone")
    rows = list_models(clone, hidden=True)
    assert rows[["ref", "metric", "labels", "stages", "executor", "hidden"]].to_numpy().tolist() == [
        ["other@v1", 0.75, "cat, dog", 3, "tiny", False],
        ["pets@v1", 0.75, "cat, dog", 3, "tiny", True],
    ]


def test_hiding_twice_is_one_commit_and_restoring_what_is_visible_none(workspace):
    register(workspace)
    before = workspace.store.git.head()
    restore_model(workspace, "pets")
    assert workspace.store.git.head() == before
    assert not (workspace.root / HIDDEN_FILE).exists()
    hide_model(workspace, "pets@v1")
    once = workspace.store.git.head()
    hide_model(workspace, "pets")
    assert workspace.store.git.head() == once != before


def test_hiding_what_is_not_there_or_a_stage_is_refused(workspace):
    register(workspace)
    for ref in ("cats", "pets@v7"):
        with pytest.raises(VersionNotFound):
            hide_model(workspace, ref)
    with pytest.raises(InvalidName, match="names a stage"):
        hide_model(workspace, "pets@v1:epoch5")


def test_a_model_that_a_project_uses_cannot_be_hidden(workspace, make_project):
    register(workspace)
    register(workspace, metrics=(0.1, 0.2))
    project = make_project()
    project.record(0, "training", settings={"model": ""}, result={"model": "pets@v1"}, seconds=1.0)
    project.record(1, "mining", settings={"model": "pets@v1:epoch5"}, result={}, seconds=1.0)
    assert models_in_use(workspace) == {"pets@v1": ["dogs, round 0", "dogs, round 1"]}
    for ref in ("pets@v1", "pets"):
        with pytest.raises(ProjectError, match=r"pets@v1 \(dogs, round 0, dogs, round 1\)"):
            hide_model(workspace, ref)
    assert hidden_models(workspace) == frozenset()
    assert hide_model(workspace, "pets@v2") == ["pets@v2"]
    project.delete()
    assert hide_model(workspace, "pets@v1") == ["pets@v1"]


@pytest.mark.parametrize("text", ["models: 3", "[", "- a", "models: [3]", "\xff"])
def test_a_list_of_hidden_models_that_was_spoilt_by_hand_is_named(workspace, text):
    register(workspace)
    (workspace.root / HIDDEN_FILE).write_bytes(text.encode("latin-1"))
    with pytest.raises(StoreError, match=rf"{HIDDEN_FILE}.*git checkout"):
        list_models(workspace)


# ---------------------------------------------------------------------------------------------------- card


class Seen(HTMLParser):
    """Collects what a browser would make of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags, self.links, self.text = [], [], ""
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        if tag == "a":
            self.links.append(dict(attributes))
        assert not any(name.startswith("on") for name, _ in attributes)

    def handle_data(self, data):
        self.text += data


def test_the_card_shows_the_model_and_links_its_package(workspace, tmp_path, monkeypatch, run):
    monkeypatch.chdir(tmp_path)
    model = register(workspace)
    seen = Seen(model.at("epoch5")._repr_html_())
    for word in ("pets@v1:epoch5", "mAP 0.500", "cat", "dog", "epoch15", "0.250", model.card["sha1"], "tiny", "train"):
        assert word in seen.text
    (link,) = seen.links
    assert link.keys() == {"style", "href", "download"}
    assert link["href"].startswith("ws/downloads/pets-v1-")
    assert (tmp_path / unquote(link["href"])).read_bytes() == model.package()
    assert run("git", "status", "--porcelain", cwd=workspace.root) == ""
    md5 = workspace.store.files(workspace.version("models/pets"))["model.tar.gz"]
    assert model.download().samefile(workspace.store.objects.path(md5))


def test_the_card_takes_its_colours_from_the_theme(workspace):
    html = register(workspace)._repr_html_()
    colours = re.findall(r"(?:^|[;\"])(?:color|background|border[a-z-]*):([^;\"]+)", html)
    assert colours
    assert all("var(--jp-" in c or c in ("transparent", "9px", "6px", "collapse") for c in colours), set(colours)
    assert not re.search(r"#[0-9a-f]{3,6}\b|<script|<style", html)


def test_case_53_hostile_labels_and_names_stay_text(workspace, tmp_path):
    attack = "<img src=x onerror=alert(1)>"
    (tmp_path / "w.pt").write_bytes(b"x")
    model = import_weights(
        workspace,
        "pets",
        tmp_path / "w.pt",
        labels=[attack, "\"'><script>"],
        executor="tiny",
        parameters={attack: attack},
    )
    seen = Seen(model._repr_html_())
    assert attack in seen.text
    assert not {"img", "script"} & set(seen.tags)


def test_a_card_without_its_package_says_how_to_get_it(workspace, tmp_path, monkeypatch):
    model = register(workspace)
    version = workspace.version("models/pets")
    file = workspace.store.objects.path(workspace.store.files(version)["model.tar.gz"])
    (workspace.root / "models/pets/model.tar.gz").unlink()
    file.unlink()
    with pytest.raises(ObjectMissing):
        model.download()
    seen = Seen(model._repr_html_())
    assert seen.links == []
    assert "dvc fetch" in seen.text


def test_a_download_that_was_changed_is_put_right(workspace):
    model = register(workspace)
    path = model.download()
    path.unlink()
    path.write_bytes(b"something else")
    assert model.download().read_bytes() == model.package()


def test_a_card_of_many_labels_stays_short(workspace):
    model = register(workspace, labels=[f"label {n}" for n in range(500)])
    seen = Seen(model._repr_html_())
    assert "and 440 more" in seen.text
    assert len(model._repr_html_()) < 20_000
