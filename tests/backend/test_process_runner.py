"""What only local processes do: they see their environment, die with their supervisor, and may leave their session."""

import json
import os
import signal
import sys
import time
from pathlib import Path

import pytest
from rigs import Rig, alive, until

from ymir_nb.backend.errors import PreflightFailed
from ymir_nb.backend.failures import explain
from ymir_nb.backend.runners import RUNNERS, Launch, process, processes
from ymir_nb.backend.runners.base import LOST

RUNNER = RUNNERS["process"]


@pytest.fixture
def rig(tmp_path):
    """Give a rig, and leave nothing running behind it."""
    made = Rig("process", tmp_path / "job")
    yield made
    made.close()


def test_an_executor_finds_the_two_folders_and_no_secrets(rig, monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hush")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    job = rig.job
    rig.start("import json; print(json.dumps(dict(os.environ))); print(os.getcwd())", env={"MORE": "1"})
    rig.ended()
    said, directory = rig.log().splitlines()
    env = json.loads(said)
    assert env["DEFAULT_ENV_FILE_PATH"] == f"{job}/in/env.yaml"
    assert (env["YMIR_IN"], env["YMIR_OUT"], env["MORE"]) == (f"{job}/in", f"{job}/out", "1")
    assert {"PATH", "OMP_NUM_THREADS"} <= env.keys()
    assert "hush" not in said
    assert directory == f"{job}/out"


def test_a_path_with_a_blank_is_reached_through_a_link_without_one(tmp_path, monkeypatch):
    job = tmp_path / "my work" / "job"
    (job / "out").mkdir(parents=True)
    (job / "in").mkdir()
    monkeypatch.setattr(process.tempfile, "gettempdir", lambda: str(tmp_path))
    roots = RUNNER.roots(job)
    assert not any(" " in root for root in roots)
    assert [Path(root).resolve() for root in roots] == [job / "in", job / "out"]
    assert RUNNER.roots(job) == roots
    (tmp_path / "a b").mkdir()
    monkeypatch.setattr(process.tempfile, "gettempdir", lambda: str(tmp_path / "a b"))
    with pytest.raises(PreflightFailed, match="blank"):
        RUNNER.roots(job)


def test_a_program_that_is_not_there_is_refused_beforehand():
    for command in ([], ["no-such-program"]):
        with pytest.raises(PreflightFailed, match="was not found"):
            RUNNER.preflight(Launch(command=tuple(command)))
    RUNNER.preflight(Launch(command=(sys.executable,)))


def test_case_43_cancel_ends_a_tree_that_ignores_sigterm_forks_and_hides_its_mark(rig):
    text = """
        import signal, subprocess
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        code = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"
        def escape(env):
            if os.fork() == 0:
                os.setsid()
                if os.fork() == 0:
                    os.execve(sys.executable, [sys.executable, "-c", code], env)
                os._exit(0)
            os.wait()
        escape(dict(os.environ))
        escape({})
        subprocess.Popen([sys.executable, "-c", code])
        print("ready", flush=True)
        time.sleep(600)
    """
    rig.start(text)
    rig.says("ready")
    tree = processes.members(rig.supervisor(), rig.record()["token"])
    assert len(tree) == 4
    begin = time.monotonic()
    RUNNER.cancel(rig.job)
    assert time.monotonic() - begin < 10
    until(lambda: not alive(rig.supervisor()))
    assert not [member for member in tree if alive(member.pid)]


def test_case_45_a_killed_supervisor_is_seen_and_its_executor_goes_with_it(rig):
    code = "import time; time.sleep(600)"
    rig.start(f"import subprocess; subprocess.Popen([sys.executable, '-c', {code!r}]); time.sleep(600)")
    run = rig.record()
    until(lambda: len(processes.members(run["supervisor"]["pid"], run["token"])) == 2)
    os.kill(run["supervisor"]["pid"], signal.SIGKILL)
    until(lambda: rig.poll().phase == "vanished")
    assert "machine stopped" in explain(rig.job / "out", rig.poll())
    if sys.platform == "linux":
        until(lambda: not alive(run["executor"]), seconds=2)
    RUNNER.cancel(rig.job)
    assert rig.poll().reason == "lost"
    until(lambda: not processes.members(None, run["token"]))


def test_a_later_process_with_the_same_id_is_not_taken_for_the_job(rig):
    rig.start("time.sleep(600)")
    run = rig.record()
    own = os.getpid()
    stale = run | {"supervisor": {"pid": own, "identity": "another boot:1"}}
    (rig.job / "run.json").write_text(json.dumps(stale))
    assert rig.poll().phase == "vanished"
    (rig.job / "run.json").write_text(json.dumps(run))
    assert rig.poll().phase == "running"
    assert processes.identity(own) == processes.identity(own) != ""
    assert processes.identity(2**22 + 5) == ""


def test_case_45_a_machine_that_is_shut_down_interrupts_a_job_and_does_not_cancel_it(rig):
    rig.start("print('up', flush=True); time.sleep(600)")
    rig.says("up")
    os.kill(rig.supervisor(), signal.SIGTERM)
    assert rig.ended().reason == LOST
    assert rig.left_over() == []
