"""Live code from real git repositories; what an image's start does is done by a script that clones as it does."""

import http.server
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest
import yaml

from ymir_nb.backend import livecode
from ymir_nb.backend.contract import Task, preflight, write_in
from ymir_nb.backend.dataset import Dataset
from ymir_nb.backend.errors import PreflightFailed

# What YMIR's start does in an image with live code; /app is the second argument here.
START = """
import subprocess, sys, yaml
config = yaml.safe_load(open(sys.argv[1] + "/config.yaml"))
subprocess.run(["git", "clone", "--filter=blob:none", config["git_url"], sys.argv[2]], check=True)
subprocess.run(["git", "checkout", config["git_branch"]], cwd=sys.argv[2], check=True)
subprocess.run([sys.executable, "start.py"], cwd=sys.argv[2], check=True)
"""


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "protocol.file.allow=always"]
    done = subprocess.run(["git", *identity, *arguments], cwd=folder, check=True, capture_output=True, text=True)
    return done.stdout.strip()


def commit(folder: Path, text: str) -> str:
    (folder / "start.py").write_text(f"print({text!r})\n")
    git(folder, "add", ".")
    git(folder, "commit", "-q", "-m", text)
    return git(folder, "rev-parse", "HEAD")


@pytest.fixture
def repository(tmp_path):
    folder = tmp_path / "trainer"
    folder.mkdir()
    git(folder, "init", "-q", "-b", "main")
    commit(folder, "first")
    git(folder, "tag", "-a", "v1", "-m", "v1")
    commit(folder, "second")
    git(folder, "checkout", "-q", "-b", "try/faster")
    commit(folder, "faster")
    git(folder, "checkout", "-q", "main")
    return folder


def task(**changes: object) -> Task:
    train, val = ({"image": name * 32, "file": name, "format": "PNG", "mode": "RGB"} for name in "ab")
    sizes = {"width": 4, "height": 3, "n_bytes": 1, "labelled": True}
    sides = {
        role: Dataset.of([row | sizes], labels=["dog"], media=Bytes()) for role, row in (("train", train), ("val", val))
    }
    return Task(**({"task_id": "t1", "class_names": ("dog",), "training": True} | sides | changes))


class Bytes:
    """Files that nobody opens."""

    def files(self, images: list[str]) -> list[str]:
        return [__file__ for _ in images]


@pytest.mark.parametrize(
    ("asked", "meant"),
    [("main", "main"), ("v1", "v1^{commit}"), ("try/faster", "try/faster"), ("SHA", "v1^{commit}"), ("sha", "main")],
)
def test_a_branch_a_tag_and_a_commit_are_pinned_to_the_commit_that_they_mean(tmp_path, repository, asked, meant):
    expected = git(repository, "rev-parse", meant)
    revision = {"SHA": expected, "sha": expected[:8]}.get(asked, asked)
    found = livecode.fetch(str(repository), revision, tmp_path / "job/in/code")
    assert found == expected
    heads = git(tmp_path, "bundle", "list-heads", "job/in/code").splitlines()
    assert heads == [f"{expected} HEAD", f"{expected} refs/heads/ymir-nb"]


@pytest.mark.parametrize("address", ["{path}", "file://{path}"])
def test_an_executor_clones_the_pinned_code_from_the_job_and_runs_it(tmp_path, repository, address):
    config = {"git_url": address.format(path=repository), "git_branch": "v1", "epochs": 3}
    write_in(tmp_path / "job", task(config=config), in_root=f"{tmp_path}/job/in", out_root=f"{tmp_path}/job/out")
    pinned = git(repository, "rev-parse", "v1^{commit}")
    written = yaml.safe_load((tmp_path / "job/in/config.yaml").read_text())
    assert (written["git_url"], written["git_branch"], written["epochs"]) == (f"{tmp_path}/job/in/code", pinned, 3)
    commit(repository, "later")
    git(repository, "tag", "-f", "v1")
    repository.rename(tmp_path / "gone")
    command = [sys.executable, "-c", START, str(tmp_path / "job/in"), str(tmp_path / "app")]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "first", done.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_code_that_belongs_to_another_user_is_cloned_as_well(tmp_path, repository):
    pinned = livecode.fetch(str(repository), "main", tmp_path / "code")
    os.chown(tmp_path / "code", 12345, 12345)
    os.chown(tmp_path, 12345, 12345)
    git(tmp_path, "clone", "-q", "--filter=blob:none", str(tmp_path / "code"), "app")
    git(tmp_path / "app", "checkout", "-q", pinned)
    assert (tmp_path / "app/start.py").read_text() == "print('second')\n"


def test_a_shallow_clone_is_refused_with_the_remedy(tmp_path, repository):
    git(tmp_path, "clone", "-q", "--depth", "1", f"file://{repository}", "short")
    with pytest.raises(PreflightFailed, match="git fetch --unshallow"):
        livecode.fetch(f"file://{tmp_path}/short", "main", tmp_path / "code")


def test_what_was_asked_and_what_was_pinned_is_recorded_beside_the_inputs(tmp_path, repository):
    config = {"git_url": str(repository), "git_branch": "main"}
    write_in(tmp_path / "job", task(config=config))
    pinned = git(repository, "rev-parse", "main")
    assert livecode.read(tmp_path / "job") == livecode.Code(str(repository), "main", pinned)
    assert json.loads((tmp_path / "job/code.json").read_text()) == config | {"commit": pinned}
    written = yaml.safe_load((tmp_path / "job/in/config.yaml").read_text())
    assert written["git_url"] == "/in/code"


def test_a_task_without_live_code_records_none(tmp_path):
    write_in(tmp_path / "job", task(config={"git_url": "", "git_branch": ""}))
    assert livecode.read(tmp_path / "job") is None
    assert not (tmp_path / "job/in/code").exists()


@pytest.mark.parametrize(
    ("url", "revision", "said"),
    [
        ("{path}/none", "main", "cannot clone.*does not exist"),
        ("{path}", "v9", "no branch, tag or commit 'v9'; it has 'main', 'try/faster', 'v1'"),
        ("{path}", "deadbeef", "no branch, tag or commit"),
        ("https://127.0.0.1:1/x.git", "main", "cannot clone.*(refused|connect)"),
    ],
)
def test_what_cannot_be_fetched_is_told_in_the_words_of_git_and_leaves_nothing(
    tmp_path, repository, url, revision, said, monkeypatch
):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    with pytest.raises(PreflightFailed, match=said):
        livecode.fetch(url.format(path=repository), revision, tmp_path / "job/code")
    assert not (tmp_path / "job").exists()
    assert list((tmp_path / "temporary").iterdir()) == []


@pytest.mark.parametrize(
    ("url", "revision", "said"),
    [
        ("ext::sh -c touch% /tmp/x", "main", "must be https"),
        ("http://example.org/x.git", "main", "must be https"),
        ("--upload-pack=touch x", "main", "must be https"),
        ("../trainer", "main", "must be https"),
        (["/x"], "main", "must be https"),
        ("https://me:secret@example.org/x.git", "main", "password or token"),
        ("https://token@example.org/x.git", "main", "password or token"),
        ("/x", None, "needs a git_branch"),
        ("/x", "", "needs a git_branch"),
        ("/x", "-f", "needs a git_branch"),
        ("/x", "main^{/x}", "needs a git_branch"),
    ],
)
def test_an_address_or_revision_that_git_should_not_be_given_is_refused(url, revision, said):
    with pytest.raises(PreflightFailed, match=said) as caught:
        preflight(task(config={"git_url": url, "git_branch": revision}, allow_network=True))
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    ["https://example.org/x.git", "ssh://git@example.org/x.git", "git@example.org:x.git", "HTTPS://example.org/x"],
)
def test_the_network_is_used_only_where_the_task_allows_it(tmp_path, url):
    config = {"git_url": url, "git_branch": "main"}
    with pytest.raises(PreflightFailed, match="--allow network"):
        write_in(tmp_path / "job", task(config=config))
    assert not (tmp_path / "job").exists()
    preflight(task(config=config, allow_network=True))


def test_hooks_filters_and_submodules_of_a_repository_are_not_run_or_followed(tmp_path, repository, monkeypatch):
    marks = tmp_path / "marks"
    marks.mkdir()
    templates = tmp_path / "templates/hooks"
    templates.mkdir(parents=True)
    for hook in ("post-checkout", "reference-transaction"):
        (templates / hook).write_text(f"#!/bin/sh\ntouch {marks}/hook\n")
        (templates / hook).chmod(0o755)
    settings = tmp_path / "gitconfig"
    settings.write_text(
        f'[init]\n templateDir = {templates.parent}\n[filter "x"]\n smudge = touch {marks}/filter\n'
        "[submodule]\n recurse = true\n"
    )
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(settings))
    (repository / ".gitattributes").write_text("*.py filter=x\n")
    (repository / ".gitmodules").write_text(f'[submodule "s"]\n path = s\n url = {tmp_path}/sub\n')
    pinned = commit(repository, "hostile")
    marks.joinpath("filter").unlink(missing_ok=True)
    assert livecode.fetch(str(repository), "main", tmp_path / "job/code") == pinned
    assert list(marks.iterdir()) == []


def test_a_repository_that_does_not_answer_is_given_up_on_with_all_its_processes(tmp_path, monkeypatch):
    program = tmp_path / "bin/ssh"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\necho $$ > $MARK\nsleep 600\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("MARK", str(tmp_path / "pid"))
    begin = time.monotonic()
    with pytest.raises(PreflightFailed, match="took over 1 s"):
        livecode.fetch("git@example.org:x.git", "main", tmp_path / "job/code", limit_seconds=1.0)
    assert time.monotonic() - begin < 5
    pid = int((tmp_path / "pid").read_text())
    state = Path(f"/proc/{pid}/stat")
    assert not state.exists() or state.read_text().split()[2] == "Z"
    assert not (tmp_path / "job").exists()


def test_a_host_that_asks_for_a_password_is_an_error_and_not_a_question(tmp_path, monkeypatch):
    asked = tmp_path / "asked"
    helper = tmp_path / "askpass"
    helper.write_text(f"#!/bin/sh\ntouch {asked}\n")
    helper.chmod(0o755)
    monkeypatch.setenv("GIT_ASKPASS", str(helper))
    monkeypatch.setenv("SSH_ASKPASS", str(helper))

    class Locked(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(401)
            self.send_header("WWW-Authenticate", "Basic realm=x")
            self.end_headers()

        def log_message(self, *_args):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Locked)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    # Plain http keeps a certificate out of this test; elsewhere it is not spoken.
    monkeypatch.setitem(livecode._ENVIRONMENT, "GIT_ALLOW_PROTOCOL", "http")
    monkeypatch.setattr(livecode, "PROTOCOLS", ("http",))
    try:
        with pytest.raises(PreflightFailed, match="could not read Username"):
            livecode.fetch(f"http://127.0.0.1:{server.server_port}/x.git", "main", tmp_path / "job/code")
    finally:
        server.shutdown()
        server.server_close()
    assert not asked.exists()
