"""Executors as local processes: they outlive their starter, are watched by files alone, and end for good."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import psutil
import pytest

from ymir_nb.backend.errors import JobFailed, PreflightFailed
from ymir_nb.backend.failures import LOG_FILE, explain, first_error, last_lines
from ymir_nb.backend.runners import RUNNERS, capped_log, process, processes
from ymir_nb.backend.runners.base import ENGINE_STOPPED, OUT_OF_MEMORY, Isolation, Launch, RunState
from ymir_nb.backend.runners.process import ProcessRunner

RUNNER = ProcessRunner()


@pytest.fixture
def job(tmp_path):
    """Make a job's directory, and leave nothing running in it."""
    directory = tmp_path / "job"
    (directory / "in").mkdir(parents=True)
    (directory / "out").mkdir()
    yield directory
    RUNNER.cancel(directory)


def script(job: Path, text: str) -> list[str]:
    path = job / "executor.py"
    path.write_text(textwrap.dedent(text))
    return [sys.executable, str(path)]


def start(job: Path, text: str, *, env: dict[str, str] | None = None, **isolation: float) -> None:
    RUNNER.start(job, Launch(command=tuple(script(job, text)), env=env or {}, isolation=Isolation.of(isolation)))


def ended(job: Path, *, seconds: float = 15) -> RunState:
    until(lambda: RUNNER.poll(job).phase != "running", seconds=seconds)
    return RUNNER.poll(job)


def until(true, *, seconds: float = 15) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.02)


def log(job: Path) -> str:
    return (job / "out" / LOG_FILE).read_text(errors="replace")


def alive(pid: int) -> bool:
    with contextlib.suppress(psutil.Error):
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    return False


def test_an_executor_that_ends_well_leaves_its_code_its_time_and_its_words(job):
    assert RUNNER.poll(job).phase == "absent"
    start(job, "import sys; print('out'); print('err', file=sys.stderr)")
    state = ended(job)
    assert (state.phase, state.code, state.reason) == ("exited", 0, "")
    assert 0 < state.seconds < 10
    assert sorted(log(job).split()) == ["err", "out"]


def test_exit_codes_and_signals_are_told_apart(job):
    start(job, "raise SystemExit(3)")
    assert ended(job).code == 3
    start(job, "import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
    assert ended(job).code == -signal.SIGKILL
    assert log(job) == ""


def test_an_executor_finds_the_two_folders_and_no_secrets(job, monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hush")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    start(job, "import json, os; print(json.dumps(dict(os.environ))); print(os.getcwd())", env={"MORE": "1"})
    ended(job)
    said, directory = log(job).splitlines()
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


def test_a_program_that_is_not_there_is_refused_beforehand_and_reported_afterwards(job):
    for command in ([], ["no-such-program"]):
        with pytest.raises(PreflightFailed, match="was not found"):
            RUNNER.preflight(Launch(command=tuple(command)))
    RUNNER.preflight(Launch(command=(sys.executable,)))
    RUNNER.start(job, Launch(command=("no-such-program",)))
    state = RUNNER.poll(job)
    assert (state.phase, state.code) == ("exited", 127)
    assert "could not be started" in explain(job / "out", state)


def test_case_42_a_log_that_is_a_link_is_not_written_through(job):
    victim = job / "victim"
    victim.write_text("mine")
    (job / "out" / LOG_FILE).symlink_to(victim)
    with pytest.raises(JobFailed, match="could not be started"):
        start(job, "print('x')")
    assert victim.read_text() == "mine"


def test_case_43_a_flood_of_output_is_capped_and_its_end_kept(job):
    start(job, "print('first'); [print('x' * 999) for _ in range(20_000)]; print('last')", log_bytes=100_000)
    assert ended(job).code == 0
    text = log(job)
    assert text.startswith("first\n")
    assert text.endswith("last\n")
    assert len(text) < 100_000 + capped_log.TAIL_BYTES + 200
    assert "bytes left out" in text


def test_case_43_the_time_limit_ends_an_executor_that_hangs_and_floods(job):
    start(job, "while True: print('x' * 1000)", seconds=0.5)
    state = ended(job)
    assert state.reason == "time limit of 0.5 s"
    assert "time limit" in explain(job / "out", state)


def test_case_43_cancel_ends_a_tree_that_ignores_sigterm_forks_and_leaves_its_session(job):
    text = """
        import os, signal, subprocess, sys, time
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
    start(job, text)
    until(lambda: "ready" in log(job))
    token = json.loads((job / "run.json").read_text())["token"]
    pid = json.loads((job / "run.json").read_text())["supervisor"]["pid"]
    tree = processes.members(pid, token)
    assert len(tree) == 4
    begin = time.monotonic()
    RUNNER.cancel(job)
    assert time.monotonic() - begin < 10
    state = RUNNER.poll(job)
    assert (state.phase, state.reason) == ("exited", "cancelled")
    until(lambda: not alive(pid))
    assert not [member for member in tree if alive(member.pid)]


def test_what_an_executor_leaves_running_ends_with_it(job):
    start(job, "import subprocess, sys; subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])")
    assert ended(job).code == 0
    token = json.loads((job / "run.json").read_text())["token"]
    assert processes.members(None, token) == []


def test_cancel_works_when_the_supervisor_does_not_answer(job, monkeypatch):
    monkeypatch.setattr(process, "CANCEL_SECONDS", 0.2)
    start(job, "import time; time.sleep(600)")
    run = json.loads((job / "run.json").read_text())
    os.kill(run["supervisor"]["pid"], signal.SIGSTOP)
    RUNNER.cancel(job)
    assert RUNNER.poll(job).reason == "cancelled"
    until(lambda: not alive(run["supervisor"]["pid"]) and not alive(run["executor"]))
    RUNNER.cancel(job)  # once more does no harm
    assert RUNNER.poll(job).phase == "exited"


def test_case_45_a_killed_supervisor_is_seen_and_its_executor_goes_with_it(job):
    code = "import time; time.sleep(600)"
    start(job, f"import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', {code!r}]); time.sleep(600)")
    run = json.loads((job / "run.json").read_text())
    until(lambda: len(processes.members(run["supervisor"]["pid"], run["token"])) == 2)
    os.kill(run["supervisor"]["pid"], signal.SIGKILL)
    until(lambda: RUNNER.poll(job).phase == "vanished")
    assert "machine stopped" in explain(job / "out", RUNNER.poll(job))
    if sys.platform == "linux":
        until(lambda: not alive(run["executor"]), seconds=2)
    RUNNER.cancel(job)
    assert RUNNER.poll(job).reason == "lost"
    until(lambda: not processes.members(None, run["token"]))


def test_case_45_an_executor_outlives_the_process_that_started_it(job, tmp_path):
    command = script(job, "import time; time.sleep(1); print('done')")
    starter = f"""
        import os
        from pathlib import Path
        from ymir_nb.backend.runners import Launch, ProcessRunner
        ProcessRunner().start(Path({str(job)!r}), Launch(command=tuple({command!r})))
        os.kill(os.getpid(), 9)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(starter)], check=False)
    assert done.returncode == -9
    assert RUNNER.poll(job).phase == "running"
    assert ended(job).code == 0
    assert log(job) == "done\n"


def test_a_later_process_with_the_same_id_is_not_taken_for_the_job(job):
    start(job, "import time; time.sleep(600)")
    run = json.loads((job / "run.json").read_text())
    own = os.getpid()
    stale = run | {"supervisor": {"pid": own, "identity": "another boot:1"}}
    (job / "run.json").write_text(json.dumps(stale))
    assert RUNNER.poll(job).phase == "vanished"
    (job / "run.json").write_text(json.dumps(run))
    assert RUNNER.poll(job).phase == "running"
    assert processes.identity(own) == processes.identity(own) != ""
    assert processes.identity(2**22 + 5) == ""


def test_a_second_start_forgets_the_first(job):
    start(job, "raise SystemExit(4)")
    assert ended(job).code == 4
    start(job, "import time; time.sleep(0.3)")
    assert RUNNER.poll(job).phase == "running"
    assert ended(job).code == 0


def test_the_process_runner_is_registered():
    assert isinstance(RUNNERS["process"], ProcessRunner)


@pytest.mark.parametrize(
    ("state", "said"),
    [
        (RunState("exited", 3), "exit code 3"),
        (RunState("exited", -9), "was killed (signal 9"),
        (RunState("exited", 137), "was killed (signal 9"),
        (RunState("exited", 137, reason=OUT_OF_MEMORY), "memory ran out"),
        (RunState("exited", 137, reason=ENGINE_STOPPED), "engine was stopped"),
        (RunState("exited", -11), "SIGSEGV"),
        (RunState("exited", None, reason="cancelled"), "asked for it"),
        (RunState("vanished"), "machine stopped"),
    ],
)
def test_case_44_ends_of_different_kinds_have_different_words(tmp_path, state, said):
    assert said in explain(tmp_path, state)


def test_the_first_real_error_line_is_found_in_a_long_log(tmp_path):
    path = tmp_path / LOG_FILE
    lines = ["loading, 0 errors found", "Traceback (most recent call last):", "torch.OutOfMemoryError: CUDA is full"]
    path.write_text("\n".join([*lines, "ValueError: later", *(f"bye {n}" for n in range(30)), "  5%|x\r 10%|xx\n\n"]))
    assert first_error(path) == "torch.OutOfMemoryError: CUDA is full"
    assert last_lines(path, n_lines=2) == ["bye 29", " 10%|xx"]
    (tmp_path / "monitor.txt").write_text("t\t1\t1\t4\t300103\n")
    text = explain(tmp_path, RunState("exited", 1))
    assert "exit code 1. It says: memory ran out (return code 300103)." in text
    assert "First error: torch.OutOfMemoryError" in text
    assert text.endswith(f"Log: {path}")
    path.write_bytes(b"bash: nope: command not found\x1b[0m\n\xff\xfe")
    assert first_error(path) == "bash: nope: command not found [0m"
