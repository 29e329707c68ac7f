import json
import os
import signal
import subprocess
import sys
import time

import pytest

from ymir_nb.backend import ops
from ymir_nb.backend.errors import (
    InvalidName,
    LabelNotFound,
    ObjectDamaged,
    ObjectMissing,
    StoreError,
    VersionNotFound,
    WorkspaceNotFound,
)
from ymir_nb.backend.workspace import Workspace


def assert_clean(ws, run, dvc):
    assert run("git", "status", "--porcelain", cwd=ws.root) == ""
    assert "up to date" in dvc("status", cwd=ws.root)


def test_init_makes_a_repository_that_git_and_dvc_find_clean(workspace, run, dvc):
    assert {"ymir.yaml", "labels.yaml", "executors.yaml", "datasets", "projects"} <= {
        p.name for p in workspace.root.iterdir()
    }
    assert run("git", "status", "--porcelain", cwd=workspace.root) == ""
    dvc("status", cwd=workspace.root)
    assert "analytics = false" in (workspace.root / ".dvc" / "config").read_text()


def test_init_needs_no_git_identity_from_outside(tmp_path, monkeypatch):
    for name in ("GIT_AUTHOR_NAME", "GIT_AUTHOR_EMAIL", "GIT_COMMITTER_NAME", "GIT_COMMITTER_EMAIL", "EMAIL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "nobody"))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    ws = Workspace.init(tmp_path / "ws")
    assert len(ws.store.git.head()) == 40


def test_init_twice_opens_the_workspace_that_is_there(workspace):
    head = workspace.store.git.head()
    assert Workspace.init(workspace.root).store.git.head() == head


def test_open_finds_the_workspace_from_any_folder_inside(workspace, monkeypatch):
    inner = workspace.root / "rounds" / "helmets" / "01"
    inner.mkdir(parents=True)
    monkeypatch.chdir(inner)
    assert Workspace.open().root == workspace.root


def test_open_outside_says_how_to_make_one(tmp_path):
    with pytest.raises(WorkspaceNotFound, match=r"ymir-nb -w .* init"):
        Workspace.open(tmp_path)


def test_a_saved_dataset_reads_back_equal_and_leaves_everything_clean(workspace, make_dataset, run, dvc):
    dataset = make_dataset(3)
    saved = workspace.save(dataset, "train", operation="import")
    read = workspace.dataset("train")
    assert saved.ref == read.ref == "train@v1"
    assert read.images.equals(dataset.images)
    assert read.annotations.equals(dataset.annotations)
    assert read.labels == ("dog",)
    assert_clean(workspace, run, dvc)
    assert len(list((workspace.root / "datasets/train/images").iterdir())) == 3


def test_versions_count_up_and_each_can_be_read_without_a_checkout(workspace, make_dataset):
    workspace.save(make_dataset(2), "train", operation="import")
    workspace.save(make_dataset(4), "train", operation="import", parents=["train@v1"])
    assert [len(workspace.dataset(ref)) for ref in ("train@v1", "train@v2", "train", "train@HEAD~1")] == [2, 4, 4, 2]
    assert workspace.versions("train")["ref"].tolist() == ["train@v2", "train@v1"]
    version = workspace.version("train")
    assert version.meta["parents"] == {"train@v1": workspace.version("train@v1").hash}


def test_saving_the_same_thing_again_makes_no_second_version(workspace, make_dataset):
    first = workspace.save(make_dataset(2), "train", operation="import", parameters={"n": 2})
    head = workspace.store.git.head()
    again = workspace.save(make_dataset(2), "train", operation="import", parameters={"n": 2})
    other = workspace.save(make_dataset(2), "train", operation="import", parameters={"n": 3})
    assert (first.ref, again.ref, other.ref) == ("train@v1", "train@v1", "train@v2")
    assert workspace.version("train@v1").commit == head


def test_an_unknown_version_lists_what_there_is(workspace, make_dataset):
    workspace.save(make_dataset(1), "train", operation="import")
    with pytest.raises(VersionNotFound, match="there is: train"):
        workspace.dataset("tain")
    with pytest.raises(VersionNotFound, match="v1 to v1"):
        workspace.dataset("train@v7")
    with pytest.raises(VersionNotFound, match="no git revision"):
        workspace.dataset("train@nowhere")


@pytest.mark.parametrize("name", ["../x", "a/b", "", ".hidden", "-x", "a b", "x.dvc", "a" * 101, "a..b"])
def test_a_path_is_never_a_name(workspace, make_dataset, name):
    with pytest.raises(InvalidName):
        workspace.save(make_dataset(1), name, operation="import")


def test_the_listing_is_byte_for_byte_what_dvc_writes(workspace, make_dataset):
    from dvc_data.hashfile.hash_info import HashInfo
    from dvc_data.hashfile.tree import Tree

    workspace.save(make_dataset(3), "train", operation="import")
    version = workspace.version("train")
    tree = Tree()
    for relpath, md5 in workspace.store.files(version).items():
        tree.add(tuple(relpath.split("/")), None, HashInfo("md5", md5))
    tree.digest()
    assert tree.hash_info.value == version.hash
    assert tree.as_bytes() == workspace.store.objects.read(version.hash)


def test_push_clone_and_pull_give_images_and_tables_back_byte_for_byte(workspace, make_dataset, run, dvc, tmp_path):
    workspace.save(make_dataset(2), "train", operation="import")
    workspace.save(make_dataset(3), "train", operation="import")
    dvc("remote", "add", "-d", "there", tmp_path / "remote", cwd=workspace.root)
    run("git", "commit", "-qam", "remote", cwd=workspace.root)
    workspace.push()
    run("git", "clone", "-q", workspace.root, tmp_path / "clone", cwd=tmp_path)
    dvc("pull", cwd=tmp_path / "clone")
    ours, theirs = (
        {p.name: p.read_bytes() for p in (root / "datasets/train").rglob("*") if p.is_file()}
        for root in (workspace.root, tmp_path / "clone")
    )
    assert ours == theirs
    assert len(ours) == 5
    clone = Workspace.open(tmp_path / "clone")
    assert clone.dataset("train").images.equals(workspace.dataset("train").images)
    with pytest.raises(ObjectMissing, match="dvc fetch"):
        clone.dataset("train@v1")
    clone.pull(all_versions=True)
    assert len(clone.dataset("train@v1")) == 2
    assert_clean(clone, run, dvc)


def test_a_version_over_the_limit_stays_a_pointer_until_dvc_checkout(workspace, make_dataset, run, dvc):
    workspace.store.checkout_limit = 3
    workspace.save(make_dataset(2), "train", operation="import")
    assert not (workspace.root / "datasets/train").exists()
    status = json.loads(dvc("status", "--json", cwd=workspace.root))
    assert list(status.values()) == [[{"changed outs": {"datasets/train": "deleted"}}]]
    assert len(workspace.dataset("train")) == 2
    assert len(list((workspace.checkout("train") / "images").iterdir())) == 2
    assert_clean(workspace, run, dvc)


def test_case_16_an_image_changed_on_disk_is_found_by_its_hash(workspace, make_dataset):
    dataset = workspace.save(make_dataset(1), "train", operation="import")
    image = dataset.images["image"][0]
    path = workspace.media.path(image)
    path.chmod(0o644)
    path.write_bytes(path.read_bytes()[:-3] + b"xyz")
    with pytest.raises(ObjectDamaged, match=image):
        dataset.media.read(image)
    with pytest.raises(ObjectDamaged):
        dataset.media.thumbnail(image, side_px=32)


def test_case_16_a_file_edited_in_a_checkout_is_never_written_over(workspace, make_dataset):
    workspace.save(make_dataset(2), "train", operation="import")
    edited = next((workspace.root / "datasets/train/images").iterdir())
    edited.unlink()
    edited.write_bytes(b"my own work")
    with pytest.raises(StoreError, match="changed by hand"):
        workspace.save(make_dataset(3), "train", operation="import")
    assert edited.read_bytes() == b"my own work"


def test_a_missing_object_is_named_with_the_way_to_get_it(workspace, make_dataset):
    workspace.save(make_dataset(1), "train", operation="import")
    image = workspace.dataset("train").images["image"][0]
    path = workspace.media.path(image)
    path.chmod(0o644)
    path.unlink()
    with pytest.raises(ObjectMissing, match="dvc fetch"):
        workspace.media.read(image)


def test_a_renamed_label_folds_in_every_old_version(workspace, make_dataset):
    workspace.save(make_dataset(2), "train", operation="import")
    workspace.labels.rename("dog", to="hound")
    read = workspace.dataset("train@v1")
    assert read.labels == ("hound",)
    assert set(read.annotations["label"]) == {"hound"}


def test_labels_that_nobody_declared_are_not_saved(workspace, make_dataset):
    dataset = make_dataset(1)
    from dataclasses import replace

    strange = replace(dataset, labels=("dog", "unicorn"))
    with pytest.raises(LabelNotFound, match="unicorn"):
        workspace.save(strange, "train", operation="import")


def test_labels_change_under_a_lock_and_are_committed(workspace, run):
    workspace.labels.add("dog")
    Workspace.open(workspace.root).labels.alias("pup", of="dog")
    assert workspace.labels.main_name("PUP") == "dog"
    assert run("git", "status", "--porcelain", cwd=workspace.root) == ""
    assert "aliases pup" in run("git", "log", "--format=%s", "-1", cwd=workspace.root)


def test_two_processes_that_save_at_once_lose_nothing(workspace, make_dataset):
    make_dataset(1)
    code = (
        "import sys; from ymir_nb.backend.workspace import Workspace\n"
        "ws = Workspace.open(sys.argv[1])\n"
        "for i in range(4): ws.labels.add(f'{sys.argv[2]}{i}')\n"
    )
    both = [subprocess.Popen([sys.executable, "-c", code, str(workspace.root), who]) for who in "ab"]
    assert [process.wait(timeout=60) for process in both] == [0, 0]
    assert set(workspace.labels.names) == {"dog", *(f"{who}{i}" for who in "ab" for i in range(4))}


def test_a_save_killed_at_any_moment_leaves_the_last_version_valid(workspace, make_dataset, run, dvc):
    workspace.save(make_dataset(2), "train", operation="import")
    bigger = make_dataset(12)
    code = (
        "import sys, time; from ymir_nb.backend.workspace import Workspace; from ymir_nb.backend.ops import take\n"
        "ws = Workspace.open(sys.argv[1]); full = ws.dataset('full'); print('go', flush=True)\n"
        "n = 3\n"
        "while True: ws.save(take(full, full.images['image'][:n]), 'train', operation='sample'); n = 3 + (n - 2) % 9\n"
    )
    workspace.save(bigger, "full", operation="import")
    for delay in (0.02, 0.05, 0.09, 0.14):
        process = subprocess.Popen(
            [sys.executable, "-c", code, str(workspace.root)], stdout=subprocess.PIPE, start_new_session=True
        )
        process.stdout.readline()
        time.sleep(delay)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        process.stdout.close()
        (workspace.root / ".git" / "index.lock").unlink(missing_ok=True)
        newest = workspace.dataset("train")
        assert newest.images["image"].isin(bigger.images["image"]).all()
    workspace.save(ops.take(bigger, bigger.images["image"][:1]), "train", operation="sample")
    assert_clean(workspace, run, dvc)


def test_predictions_are_versioned_apart_and_list_no_images(workspace, make_dataset):
    truth = workspace.save(make_dataset(2), "val", operation="import")
    from ymir_nb.backend.dataset import Dataset

    predicted = Dataset.of(truth.images, truth.annotations.assign(score=0.5), labels=truth.labels)
    saved = workspace.save(predicted, "val.helmets", operation="infer", parents=["val@v1"], shelf="predictions")
    assert saved.ref == "val.helmets@v1"
    assert workspace.predictions("val.helmets").annotations["score"].tolist() == [0.5, 0.5]
    assert set(workspace.store.files(workspace.version("predictions/val.helmets"))) == {
        "images.parquet",
        "annotations.parquet",
    }
