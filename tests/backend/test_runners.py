"""Executors under every runner: they outlive their starter, are watched by files alone, and end for good."""

import json
import os
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
from rigs import Rig, alive, until

from ymir_nb.backend.errors import PreflightFailed
from ymir_nb.backend.failures import LOG_FILE, explain
from ymir_nb.backend.runners import RUNNERS, Isolation, capped_log

HANG = "print('up', flush=True); time.sleep(600)"


@pytest.fixture(params=sorted(RUNNERS))
def rig(request, tmp_path):
    """Give a rig of each runner, and leave nothing running behind it."""
    image = request.getfixturevalue("base_image") if request.param == "docker" else ""
    made = Rig(request.param, tmp_path / "jobs" / "a", image)
    yield made
    made.close()
    assert made.left_over() == []


def test_an_executor_that_ends_well_leaves_its_code_its_time_and_its_words(rig):
    assert rig.poll().phase == "absent"
    state = rig.run("print('out', flush=True); time.sleep(0.3); print('err', file=sys.stderr)")
    assert (state.phase, state.code, state.reason, state.log_error) == ("exited", 0, "", "")
    assert 0 < state.seconds < 60
    assert sorted(rig.log().split()) == ["err", "out"]
    assert rig.left_over() == []


def test_exit_codes_and_signals_are_told_apart_and_a_second_start_forgets_the_first(rig):
    state = rig.run("print('first'); raise SystemExit(3)")
    assert (state.code, state.reason) == (3, "")
    state = rig.run("import signal; os.kill(os.getpid(), signal.SIGKILL)")
    assert "it was killed" in explain(rig.job / "out", state)
    assert rig.log() == ""
    state = rig.run("import signal; os.kill(os.getpid(), signal.SIGSEGV)")
    assert "SIGSEGV (exit code 139)" in explain(rig.job / "out", state)


def test_an_executor_finds_the_two_folders_and_its_environment_and_no_secrets(rig, monkeypatch, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"proxies": {"default": {"httpProxy": "http://me:hush@proxy"}}}))
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hush")
    (rig.job / "in" / "env.yaml").write_text("here")
    text = """
        import json
        print(open(os.environ.get("YMIR_IN", "/in") + "/env.yaml").read())
        print(json.dumps(dict(os.environ)))
        open(OUT + "/mine", "w").close()
    """
    rig.start(text, env={"MORE": "1"})
    assert rig.ended().code == 0
    assert rig.log().startswith("here\n")
    assert json.loads(rig.log().splitlines()[1])["MORE"] == "1"
    assert "hush" not in rig.log()
    assert (rig.job / "out" / "mine").exists()


def test_what_an_executor_leaves_belongs_to_the_caller_and_has_no_rights_of_its_own(rig):
    text = """
        os.makedirs(OUT + "/models/deep")
        open(OUT + "/models/deep/w", "w").close()
        os.chmod(OUT + "/models/deep/w", 0o4755)
        os.symlink("/etc/passwd", OUT + "/link")
        os.mkfifo(OUT + "/pipe")
    """
    before = Path("/etc/passwd").stat()
    assert rig.run(text).code == 0
    out = rig.job / "out"
    left = [out, *out.rglob("*")]
    assert len(left) == 7
    assert {(path.lstat().st_uid, path.lstat().st_gid) for path in left} == {(os.getuid(), os.getgid())}
    assert Path("/etc/passwd").stat() == before
    if rig.image and os.getuid() == 0:
        assert not (out / "models/deep/w").stat().st_mode & 0o4000  # of a file of root's it would be a way to be root


def test_a_program_that_is_not_there_is_told_and_nothing_is_left(rig):
    launch = rig.launch("")
    rig.runner.start(rig.job, type(launch)(rig.name, ("no-such-program",), rig.image, isolation=launch.isolation))
    rig.tokens.append(rig.record()["token"])
    state = rig.ended()
    assert (state.phase, state.code) == ("exited", 127)
    assert "no-such-program" in explain(rig.job / "out", state)


def test_case_43_a_flood_of_output_is_capped_and_its_end_kept(rig):
    flood = "print('first'); [print('x' * 999) for _ in range(20_000)]; print('last')"
    assert rig.run(flood, log_bytes=100_000).code == 0
    text = rig.log()
    assert text.startswith("first\n")
    assert text.endswith("last\n")
    assert len(text) < 100_000 + capped_log.TAIL_BYTES + 200
    assert "bytes left out" in text


def test_case_43_the_time_limit_ends_an_executor_that_hangs_and_floods(rig):
    begin = time.monotonic()
    state = rig.run("while True: print('x' * 1000)", seconds=0.5, log_bytes=100_000)
    assert state.reason == "time limit of 0.5 s"
    assert "time limit of 0.5 s." in explain(rig.job / "out", state)
    assert time.monotonic() - begin < 15
    assert rig.left_over() == []


def test_case_43_cancel_ends_a_tree_that_ignores_sigterm_forks_and_leaves_its_session(rig):
    text = """
        import signal, subprocess
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        code = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                os.execve(sys.executable, [sys.executable, "-c", code], {})
            os._exit(0)
        os.wait()
        subprocess.Popen([sys.executable, "-c", code])
        print("up", flush=True)
        time.sleep(600)
    """
    rig.start(text)
    rig.says("up")
    begin = time.monotonic()
    rig.runner.cancel(rig.job)
    assert time.monotonic() - begin < 10
    assert (rig.poll().phase, rig.poll().reason) == ("exited", "cancelled")
    assert rig.left_over() == []
    until(lambda: not alive(rig.supervisor()))
    rig.runner.cancel(rig.job)  # once more does no harm
    assert rig.poll().reason == "cancelled"


def test_an_executor_that_heeds_sigterm_is_not_killed(rig):
    rig.start(HANG)
    rig.says("up")
    rig.runner.cancel(rig.job)
    assert (rig.poll().code, rig.poll().reason) == (143 if rig.image else -15, "cancelled")


def test_case_43_what_an_executor_leaves_running_ends_with_it(rig):
    state = rig.run("import subprocess; subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])")
    assert state.code == 0
    assert rig.left_over() == []


def test_cancel_works_when_the_supervisor_does_not_answer(rig, monkeypatch):
    monkeypatch.setattr(sys.modules[type(rig.runner).__module__], "CANCEL_SECONDS", 0.2)
    rig.start(HANG)
    os.kill(rig.supervisor(), 19)
    rig.runner.cancel(rig.job)
    assert rig.poll().reason == "cancelled"
    until(lambda: not alive(rig.supervisor()) and rig.left_over() == [])


@pytest.mark.parametrize(
    ("text", "limit", "said"),
    [
        ("open(OUT + '/a', 'wb').write(bytes(3 << 20)); time.sleep(600)", {"out_bytes": 2 << 20}, "2097152 bytes"),
        ("[os.truncate(open(OUT + f'/{n}', 'w').name, 1 << 20) for n in range(3)]; time.sleep(600)",
         {"out_bytes": 2 << 20}, "2097152 bytes"),
        ("[os.mkdir(OUT + f'/{n}') for n in range(60)]; time.sleep(600)", {"out_files": 50}, "50 files"),
        ("os.mkdir(OUT + '/a'); os.chmod(OUT + '/a', 0o300); time.sleep(600)", {}, "hid them"),
        ("os.chdir(OUT)\nfor _ in range(99): os.mkdir('d' * 99); os.chdir('d' * 99)\ntime.sleep(600)", {}, "hid them"),
    ],
    ids=["bytes", "sparse", "files", "closed", "deep"],
)  # fmt: skip
def test_case_42_an_executor_that_fills_its_folder_or_hides_what_it_writes_is_ended(rig, text, limit, said):
    if "chmod" in text and os.getuid() == 0:  # who sees all the same, and counts
        limit, said = {"out_files": 1}, "1 files"
    if rig.image and "a', 'wb'" in text:  # there, one file cannot grow past the limit at all
        state = rig.run(text, **limit)
        assert (state.code, state.reason) == (1, "")
        assert "File too large" in rig.log()
        return
    state = rig.run(text, **limit)
    assert said in state.reason
    assert state.reason in explain(rig.job / "out", state)


@pytest.mark.parametrize("what", ["remove", "symlink", "pipe", "truncate", "folder"])
def test_case_42_an_executor_that_takes_its_log_away_harms_nothing(rig, what, tmp_path):
    victim = tmp_path / "victim"
    victim.write_text("mine")
    text = f"""
        print("spoken", flush=True)
        time.sleep(0.3)
        log = OUT + "/{LOG_FILE}"
        if {what!r} == "truncate":
            open(log, "w").close()
        else:
            os.remove(log)
        if {what!r} == "symlink":
            os.symlink({str(victim)!r}, log)
        if {what!r} == "pipe":
            os.mkfifo(log)
        if {what!r} == "folder":
            os.mkdir(log)
        print("more", flush=True)
    """
    state = rig.run(text)
    assert state.code == 0
    assert victim.read_text() == "mine"
    if what == "folder":
        assert "took its log away" in state.log_error
        assert "took its log away" in explain(rig.job / "out", state)
    else:
        assert rig.log() == ("more\n" if what == "truncate" else "spoken\nmore\n")


def test_case_42_a_log_that_is_a_link_is_not_written_through(rig, tmp_path):
    (tmp_path / "victim").write_text("mine")
    (rig.job / "out" / LOG_FILE).symlink_to(tmp_path / "victim")
    assert rig.run("print('x')").code == 0
    assert (tmp_path / "victim").read_text() == "mine"
    assert rig.log() == "x\n"


def test_case_45_an_executor_outlives_the_process_that_started_it_and_another_sees_its_end(rig):
    rig.start("")  # makes the order below easy to write
    rig.ended()
    launch = rig.launch("time.sleep(1); print('done')").to_dict()
    starter = f"""
        import os
        from pathlib import Path
        from ymir_nb.backend.runners import RUNNERS, Launch
        RUNNERS[{rig.name!r}].start(Path({str(rig.job)!r}), Launch.from_dict({launch!r}))
        os.kill(os.getpid(), 9)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(starter)], check=False)
    assert done.returncode == -9
    asks = f"""
        from pathlib import Path
        from ymir_nb.backend.runners import RUNNERS
        print(RUNNERS[{rig.name!r}].poll(Path({str(rig.job)!r})).phase)
    """
    said = subprocess.run([sys.executable, "-c", textwrap.dedent(asks)], check=True, capture_output=True, text=True)
    assert said.stdout == "running\n"
    assert rig.ended().code == 0
    assert rig.log() == "done\n"


def test_a_sweep_ends_what_jobs_that_are_over_left_and_nothing_else(rig):
    other = Rig(rig.name, rig.job.with_name("b"), rig.image)
    try:
        for one in (rig, other):
            one.start(HANG)
        assert rig.runner.sweep(rig.job.parent) == []
        os.kill(rig.supervisor(), 19)
        (rig.job / "exit.json").write_text('{"code": 0, "reason": "", "seconds": 1, "log": ""}')
        (swept,) = rig.runner.sweep(rig.job.parent)
        assert swept.startswith("ymir-nb-" if rig.image else "process ")
        assert rig.left_over() == []
        assert other.poll().phase == "running"
    finally:
        os.kill(rig.supervisor(), 9)
        other.close()


def test_isolation_settings_are_checked_by_name_and_kind():
    assert Isolation.of({"seconds": 5}).settings() == {"seconds": 5.0}
    wrong = [{"netwrok": True}, {"network": 1}, {"seconds": True}, {"seconds": -1}, {"n_pids": 0}, {"seconds": "5"}]
    for settings in [*wrong, {"seconds": float("nan")}, {"out_bytes": float("inf")}]:
        with pytest.raises(PreflightFailed, match=f"isolation setting.*{next(iter(settings))}"):
            Isolation.of(settings)
