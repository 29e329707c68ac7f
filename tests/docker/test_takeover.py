"""A container goes on when its supervisor is killed, and whoever looks next takes it over."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import time

import psutil
import pytest
from rigs import Rig, alive, until

from ymir_nb.backend.runners.base import CANCELLED, LOST
from ymir_nb.backend.runners.container import JOB_LABEL, JOBS_LABEL, container_name

SPEAKS = "print('one', flush=True); time.sleep({}); print('two', flush=True)"


def kill_supervisor(rig: Rig, number: int = signal.SIGKILL) -> int:
    pid = rig.supervisor()
    os.kill(pid, number)
    until(lambda: not alive(pid))
    return pid


def container(rig: Rig, client):
    return client.containers.get(container_name(rig.record()["token"]))


def forget_the_boot(rig: Rig) -> None:
    """Let the record look as if the machine had been started again since."""
    path = rig.job / "run.json"
    run = json.loads(path.read_text())
    run["supervisor"]["identity"] = "another-boot:1"
    path.write_text(json.dumps(run))


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_case_45_a_container_whose_supervisor_is_killed_goes_on_and_its_log_is_complete(rig, number):
    rig.start(SPEAKS.format(1.5))
    rig.says("one")
    first = kill_supervisor(rig, number)
    assert rig.poll().phase == "running"
    assert rig.supervisor() != first
    state = rig.ended()
    assert (state.code, state.reason) == (0, "")
    assert state.seconds > 1.5
    assert rig.log() == "one\ntwo\n"


def test_case_45_a_container_that_ends_while_nobody_looks_is_found_with_its_code_and_its_log(rig, docker_client):
    rig.start(SPEAKS.format(0.5) + "; sys.exit(7)")
    kill_supervisor(rig)
    container(rig, docker_client).wait()
    state = rig.ended()
    assert (state.code, state.reason) == (7, "")
    assert rig.log() == "one\ntwo\n"


@pytest.mark.parametrize(
    ("text", "limit", "said"),
    [
        ("", {"seconds": 2.0}, "time limit of 2 s"),
        ("[os.mkdir(OUT + f'/{n}') for n in range(60)];", {"out_files": 50}, "50 files"),
    ],
)
def test_case_43_limits_hold_after_a_takeover_too(rig, text, limit, said):
    rig.start(f"time.sleep(0.5); {text} time.sleep(600)", **limit)
    kill_supervisor(rig)
    assert rig.poll().phase == "running"
    assert said in rig.ended().reason
    assert rig.left_over() == []


def test_case_42_a_log_that_was_made_a_folder_does_not_stop_a_takeover(rig):
    text = """
        print("one", flush=True)
        os.remove(OUT + "/ymir-executor-out.log"); os.mkdir(OUT + "/ymir-executor-out.log")
        time.sleep(600)
    """
    rig.start(text)
    until((rig.job / "out" / "ymir-executor-out.log").is_dir)
    kill_supervisor(rig)
    assert rig.poll().phase == "running"
    rig.runner.cancel(rig.job)
    state = rig.poll()
    assert (state.phase, state.reason) == ("exited", CANCELLED)
    assert "could not be written" in state.log_error


def test_case_43_cancel_needs_no_supervisor(rig):
    rig.start("time.sleep(600)")
    kill_supervisor(rig)
    rig.runner.cancel(rig.job)
    assert rig.poll().reason == CANCELLED
    assert rig.left_over() == []


def test_case_45_many_who_look_at_once_make_one_supervisor(rig):
    rig.start("time.sleep(600)")
    kill_supervisor(rig)
    asks = f"""
        from pathlib import Path
        from ymir_nb.backend.runners import RUNNERS
        print(RUNNERS["docker"].poll(Path({str(rig.job)!r})).phase)
    """
    command = [sys.executable, "-c", textwrap.dedent(asks)]
    asking = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    assert [process.communicate()[0] for process in asking] == ["running\n"] * 4
    until(lambda: of_job(rig) == [rig.supervisor()], seconds=5)


def of_job(rig: Rig) -> list[int]:
    """Find the supervisors of a job: those who hold a file of it open."""
    found = []
    for process in psutil.process_iter():
        try:
            if any(file.path.startswith(str(rig.job)) for file in process.open_files()):
                found.append(process.pid)
        except psutil.Error:
            continue
    return found


def test_case_45_after_a_reboot_a_job_is_lost_whether_its_container_is_there_or_gone(rig, docker_client):
    for is_gone in (False, True):
        rig.start("time.sleep(600)")
        kill_supervisor(rig)
        container(rig, docker_client).kill()
        container(rig, docker_client).wait()
        if is_gone:
            container(rig, docker_client).remove()
        forget_the_boot(rig)
        until(lambda: rig.poll().phase in ("exited", "vanished"))
        rig.runner.cancel(rig.job)  # as `Jobs` does with what was interrupted
        assert rig.poll().reason == LOST
        assert rig.left_over() == []


def test_a_container_that_was_made_and_never_started_is_lost(rig, docker_client):
    rig.start("time.sleep(600)")
    kill_supervisor(rig)
    made = container(rig, docker_client)
    made.remove(force=True)
    labels = {JOB_LABEL: str(rig.job), JOBS_LABEL: str(rig.job.parent)}
    docker_client.containers.create(rig.image, ["true"], name=made.name, labels=labels)
    state = rig.ended()
    assert state.reason == LOST
    assert rig.left_over() == []


def test_orphans_of_jobs_whose_record_is_gone_are_found_by_their_label(rig, docker_client):
    rig.start("time.sleep(600)")
    name = container(rig, docker_client).name
    kill_supervisor(rig)
    other = Rig("docker", rig.job.with_name("b"), rig.image)
    other.run("")
    (rig.job / "run.json").unlink()
    assert rig.runner.sweep(rig.job.parent) == [name]
    assert rig.left_over() == []
    other.close()


def test_case_40_sweeping_jobs_that_ran_without_containers_needs_no_engine(tmp_path, monkeypatch):
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/no.sock")
    local = Rig("process", tmp_path / "jobs" / "a")
    local.run("")
    assert Rig("docker", local.job).runner.sweep(tmp_path / "jobs") == []


def test_looking_at_a_job_again_and_again_starts_nothing_and_costs_little(rig):
    rig.start("time.sleep(600)")
    supervisor = rig.supervisor()
    busy = psutil.Process(supervisor).cpu_times()
    begin = time.monotonic()
    while time.monotonic() - begin < 1.5:
        assert rig.poll().phase == "running"
    spent = psutil.Process(supervisor).cpu_times()
    assert spent.user + spent.system - busy.user - busy.system < 0.4
    assert rig.supervisor() == supervisor
