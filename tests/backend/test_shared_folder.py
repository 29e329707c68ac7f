"""A folder that many users write to: nobody's files are harmed, and nothing planted is followed."""

import json
import os
import stat
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from ymir_nb.backend import shared_folder
from ymir_nb.backend.errors import JobError, PreflightFailed
from ymir_nb.backend.shared_folder import SharedFolder, user_name

FIX = "Set SOME_DIR to another."


@pytest.fixture
def folder(tmp_path):
    return SharedFolder(tmp_path / "a" / "shared", fix=FIX)


def names(path):
    return sorted(entry.name for entry in path.iterdir())


def test_the_folder_is_made_when_first_used_open_to_all_and_sticky(folder):
    assert folder.read("x-") == []
    before = os.umask(0o077)
    try:
        with folder.locked():
            folder.write("x-1.json", {"a": [1]})
    finally:
        os.umask(before)
    assert stat.S_IMODE(folder.path.stat().st_mode) == 0o1777
    assert stat.S_IMODE((folder.path / "lock").stat().st_mode) == 0o666
    assert stat.S_IMODE((folder.path / "x-1.json").stat().st_mode) == 0o644
    (entry,) = folder.read("x-")
    assert (entry.path.name, entry.user_id, entry.value) == ("x-1.json", os.getuid(), {"a": [1]})
    assert names(folder.path) == ["lock", "x-1.json"]
    assert names(folder.path.parent) == ["shared"]


def test_what_is_no_json_object_in_a_regular_file_is_passed_over(folder, tmp_path):
    secret = tmp_path / "secret"
    secret.write_text('{"a": 1}')
    with folder.locked():
        folder.write("x-5.json", {"a": 5})
    for name, data in {"0": b"", "1": b"{", "2": b"[1]", "3": b"\xff{}", "4": b"[" * 60_000}.items():
        (folder.path / f"x-{name}.json").write_bytes(data)
    (folder.path / "x-6.json").write_text(json.dumps({"a": "x" * shared_folder.MOST_BYTES}))
    (folder.path / "x-7.json").symlink_to(secret)
    os.mkfifo(folder.path / "x-8.json")
    (folder.path / "x-9.json").mkdir()
    assert [entry.value for entry in folder.read("x-")] == [{"a": 5}]


def test_a_draft_that_a_killed_process_left_is_removed(folder):
    with folder.locked():
        pass
    (folder.path / ".draft-abc").write_text("{")
    with folder.locked():
        assert names(folder.path) == ["lock"]


def test_a_planted_link_is_neither_followed_nor_used_as_the_lock(folder, tmp_path):
    target = tmp_path / "target"
    target.write_text("mine")
    with folder.locked():
        pass
    (folder.path / "lock").unlink()
    (folder.path / "lock").symlink_to(target)
    with pytest.raises(PreflightFailed, match=FIX), folder.locked():
        pass
    (folder.path / "lock").unlink()
    (folder.path / "x-1.json").symlink_to(target)
    with folder.locked():
        folder.write("x-1.json", {})
    assert target.read_text() == "mine"


def test_a_folder_that_is_a_link_or_from_which_all_may_remove_is_refused(folder, tmp_path):
    real = tmp_path / "real"
    real.mkdir(mode=0o700)
    (tmp_path / "a").mkdir()
    folder.path.symlink_to(real)
    with (
        pytest.raises(PreflightFailed, match=rf"it is a link or a file, made by {user_name(os.getuid())}"),
        folder.locked(),
    ):
        pass
    folder.path.unlink()
    real.rename(folder.path)
    folder.path.chmod(0o777)
    with pytest.raises(PreflightFailed, match=r"chmod \+t"), folder.locked():
        pass
    folder.path.chmod(0o700)
    with folder.locked():
        assert stat.S_IMODE(folder.path.stat().st_mode) == 0o700, "what somebody chose is left so"


def test_a_folder_that_cannot_be_made_is_refused_with_the_remedy(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(PreflightFailed, match=FIX), SharedFolder(tmp_path / "file" / "shared", fix=FIX).locked():
        pass


def test_whoever_comes_second_uses_the_folder_of_the_first(folder):
    with folder.locked():
        folder.write("x-1.json", {})
    folder._make()
    assert folder.names("x-") == ["x-1.json"]
    assert names(folder.path.parent) == ["shared"]


def test_a_lock_that_is_held_too_long_is_an_error_that_names_the_file(folder, monkeypatch):
    monkeypatch.setattr(shared_folder, "LOCK_SECONDS", 0.05)
    with folder.locked():
        other = SharedFolder(folder.path, fix=FIX)
        with pytest.raises(JobError, match=r"fuser -v .*shared/lock"), other.locked():
            pass


def test_a_killed_process_leaves_no_lock(folder):
    code = (
        "import os, sys; from pathlib import Path; from ymir_nb.backend.shared_folder import SharedFolder\n"
        f"with SharedFolder(Path({str(folder.path)!r}), fix='').locked(): os.kill(os.getpid(), 9)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -9
    begin = time.monotonic()
    with folder.locked():
        assert time.monotonic() - begin < 5


# One user cannot become another unless he is root; what is below is then not there, rather than skipped.
if os.geteuid() == 0:
    NOBODY = 65534
    forks = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # the child runs no thread's code

    @pytest.fixture
    def open_folder():
        """A folder that another user reaches: pytest's own are closed to others."""
        with tempfile.TemporaryDirectory() as name:
            Path(name).chmod(0o1777)
            yield SharedFolder(Path(name) / "shared", fix=FIX)

    def as_nobody(work):
        """Run a function as another user, in a process of its own; tell its exit code."""
        sys.stdout.flush()
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                os.setgid(NOBODY)
                os.setuid(NOBODY)
                code = work()
            finally:
                os._exit(code)
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    @forks
    def test_two_users_share_a_folder_and_neither_can_touch_the_others_files(open_folder):
        with open_folder.locked():
            open_folder.write("x-1.json", {"whose": "root"})

        def work():
            with open_folder.locked():
                open_folder.write("x-2.json", {"whose": "nobody"})
                removed = open_folder.remove(open_folder.path / "x-1.json")
                try:
                    open_folder.write("x-1.json", {"whose": "nobody"})
                except PreflightFailed:
                    return 10 + removed
            return 1

        assert as_nobody(work) == 10
        found = {entry.path.name: (entry.user_id, entry.value["whose"]) for entry in open_folder.read("x-")}
        assert found == {"x-1.json": (0, "root"), "x-2.json": (NOBODY, "nobody")}

    @forks
    def test_a_folder_of_another_user_that_is_closed_is_refused(open_folder):
        open_folder.path.mkdir(mode=0o755)

        def work():
            try:
                with open_folder.locked():
                    return 1
            except PreflightFailed as error:
                return 10 if "root's, and not open to others" in str(error) else 2

        assert as_nobody(work) == 10
