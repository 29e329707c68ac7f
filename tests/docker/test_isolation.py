"""What a hostile executor can do in a container: no more than its isolation names."""

import ipaddress
import json
import os
import shutil
import signal
import socket
import tempfile
import threading
import time
from pathlib import Path

import pytest
from rigs import Rig, until

from ymir_nb.backend.failures import explain
from ymir_nb.backend.gpu_queue import GpuQueue
from ymir_nb.backend.gpus import inventory
from ymir_nb.backend.runners import RUNNERS, Isolation, Launch
from ymir_nb.backend.runners.base import KILLED, OUT_OF_MEMORY

HARMLESS = {"write_out", "write_tmp", "write_shm"}
NOWHERE = {"reach_metadata", "ask_dns"}  # with a network, these depend on where the tests run


@pytest.fixture(scope="module")
def image(build_image):
    """An image with the probe, a program that is root's whoever starts it, and a folder that all may write to."""
    root_id = "/usr/bin/root-id"
    lines = f"RUN cp /usr/bin/id {root_id} && chmod 4755 {root_id} && mkdir -m 777 -p /opt/cache\nCOPY probe.py /"
    return build_image("probe", lines, {"probe.py": (Path(__file__).parent / "probe.py").read_bytes()})


@pytest.fixture(scope="module")
def listener(docker_client):
    """Listen on the host's side of the engine's bridge."""
    config = docker_client.networks.get("bridge").attrs["IPAM"]["Config"][0]
    gateway = config.get("Gateway") or str(ipaddress.ip_network(config["Subnet"])[1])
    with socket.create_server((gateway, 0)) as server:
        threading.Thread(target=lambda: [server.accept() for _ in range(100)], daemon=True).start()
        yield f"{gateway}:{server.getsockname()[1]}"


@pytest.fixture(scope="module")
def probed(image, listener, tmp_path_factory):
    """Run the probe with some loosening, and give what it could and what it saw; once for each."""
    seen = {}

    def probe(*names: str, **options):
        key = (*names, *sorted(options.items()))
        if key not in seen:
            rig = Rig("docker", tmp_path_factory.mktemp("probe") / "jobs" / "a", image)
            (rig.job / "in" / "given").write_text("mine")
            isolation = Isolation.of({"memory_bytes": 1 << 30} | dict.fromkeys(names, True))
            launch = Launch("docker", ("python3", "/probe.py", listener), image, isolation=isolation, **options)
            try:
                rig.runner.start(rig.job, launch)
                assert rig.ended().code == 0, rig.log()
                seen[key] = json.loads(rig.log())
                assert (rig.job / "in" / "given").read_text() == "mine"
            finally:
                rig.close()
        return seen[key]

    return probe


def test_case_50_an_executor_can_write_where_its_results_go_and_do_nothing_else(probed):
    found = probed()
    assert set(found["could"]) == HARMLESS, found["errors"]
    assert "Read-only file system" in found["errors"]["write_in"]
    assert "Read-only file system" in found["errors"]["write_root"]
    assert "Network is unreachable" in found["errors"]["reach_host"]


def test_case_50_it_has_no_rights_that_it_could_use_and_no_way_to_get_any(probed):
    found = probed()
    assert found["capabilities"] == ["0000000000000000"] * 4
    assert (found["no_new_privileges"], found["seccomp"]) == ("1", "2")
    assert found["user"][0] != 0
    assert found["user"][2] in ([], [found["user"][1]])
    assert found["links"] == ["lo"]
    assert found["disks"] == []
    files = {"/etc/resolv.conf", "/etc/hostname", "/etc/hosts"}
    assert {path for path in found["mounts"] if not path.endswith("/docker-init")} <= {
        "/",
        "/in",
        "/out",
        "/tmp",
    } | files


def test_case_50_its_environment_holds_no_secrets_and_its_home_can_be_written(probed):
    env = probed()["env"]
    assert set(env) <= {"PATH", "HOSTNAME", "HOME", "PYTHONUNBUFFERED", "LC_CTYPE"}
    assert env["HOME"] == "/tmp"


@pytest.mark.parametrize(
    ("name", "more"),
    [
        ("network", {"reach_host"}),
        ("writable_root", {"write_root"}),
        ("image_user", {"be_root"}),
        ("capabilities", {"become_root"}),
    ],
)
def test_case_50_each_loosening_allows_what_it_names_and_no_more(probed, name, more):
    found = probed(name)
    assert set(found["could"]) - NOWHERE == HARMLESS | more, found["errors"]
    assert (found["links"] == ["lo"]) == (name != "network")
    assert (found["user"][0] == 0) == (name == "image_user")
    assert (found["no_new_privileges"] == "0") == (name == "capabilities")
    assert (found["capabilities"][2] == "0" * 16) == (name != "capabilities")
    assert found["seccomp"] == "2"


def test_case_50_all_loosened_it_still_cannot_touch_its_inputs_the_engine_or_the_machine(probed):
    found = probed("network", "writable_root", "image_user", "capabilities")
    never = {
        "write_in",
        "change_in",
        "remove_in",
        "reach_engine",
        "mount",
        "new_namespace",
        "write_sysctl",
        "read_disk",
    }
    assert not never & set(found["could"])
    assert {"raw_socket", "chown", "write_etc", "reach_host"} <= set(found["could"])


def test_shared_memory_is_as_large_as_asked_or_as_ymir_has_it(probed):
    assert probed()["shm_bytes"] == 16 << 30
    assert probed(shm_bytes=64 << 20)["shm_bytes"] == 64 << 20


def test_case_43_a_fork_bomb_stops_at_the_number_of_processes(rig):
    text = """
        n = 0
        try:
            while os.fork():
                n += 1
            time.sleep(600)
        except OSError:
            print("children:", n, flush=True)
            sys.exit(0)
    """
    assert rig.run(text, n_pids=30).code == 0
    assert 10 < int(rig.log().split()[1]) < 30


def test_case_44_running_out_of_memory_is_told_from_a_kill_and_from_a_gpu(rig, docker_client):
    out = rig.job / "out"
    state = rig.run("a = bytearray(600 << 20); print(len(a))", memory_bytes=100 << 20)
    assert (state.code, state.reason) == (137, OUT_OF_MEMORY)
    assert "memory ran out" in explain(out, state)
    child = "import subprocess; sys.exit(subprocess.call([sys.executable, '-c', 'bytearray(600 << 20)']) and 5)"
    state = rig.run(child, memory_bytes=100 << 20)
    assert (state.code, state.reason) == (5, OUT_OF_MEMORY)
    rig.start("time.sleep(600)")
    docker_client.containers.get(f"ymir-nb-{rig.record()['token']}").kill()
    state = rig.ended()
    assert (state.code, state.reason) == (137, KILLED)
    assert "killed from outside" in explain(out, state)
    state = rig.run("raise RuntimeError('CUDA out of memory. Tried to allocate 20.00 MiB')")
    assert (state.code, state.reason) == (1, "")
    assert "the GPU's memory ran out" in explain(out, state)
    state = rig.run("open('/tmp/a', 'wb').write(bytes(1 << 20)); raise OSError(28, os.strerror(28))")
    assert "the disk is full" in explain(out, state)


def test_case_42_a_sparse_file_of_a_terabyte_is_refused_and_ten_million_files_stop_at_the_quota(rig):
    state = rig.run("os.truncate(open(OUT + '/sparse', 'w').name, 1 << 40)")
    assert state.code == 1
    assert "larger than all of /out may be" in explain(rig.job / "out", state)
    begin = time.monotonic()
    state = rig.run("for n in range(10**7): os.mknod(OUT + f'/{n}')", out_files=1000)
    assert "more than 1000 files" in state.reason
    assert time.monotonic() - begin < 15


def test_a_container_that_is_paused_is_cancelled_and_ended_at_its_time_limit(rig, docker_client):
    for seconds in (0, 1.5):
        rig.start("print('up', flush=True); time.sleep(600)", seconds=seconds)
        rig.says("up")
        docker_client.containers.get(f"ymir-nb-{rig.record()['token']}").pause()
        begin = time.monotonic()
        if seconds:
            assert rig.ended().reason == "time limit of 1.5 s"
        else:
            rig.runner.cancel(rig.job)
            assert rig.poll().reason == "cancelled"
        assert time.monotonic() - begin < 10
        assert rig.left_over() == []


def test_case_40_a_container_that_somebody_removes_has_failed_with_that_reason(rig, docker_client):
    rig.start("print('up', flush=True); time.sleep(600)")
    rig.says("up")
    os.kill(rig.supervisor(), signal.SIGSTOP)  # so that it does not see it end before it is gone
    docker_client.containers.get(f"ymir-nb-{rig.record()['token']}").remove(force=True)
    os.kill(rig.supervisor(), signal.SIGCONT)
    state = rig.ended()
    assert (state.code, state.reason) == (137, "its container was removed by somebody else")
    assert rig.log() == "up\n"


@pytest.fixture
def anybodys():
    """Give a folder that any user can reach and write to."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o777)
    yield folder
    shutil.rmtree(folder)


def test_what_a_container_leaves_is_the_callers_where_he_is_not_root(base_image, as_nobody, engine, anybodys):
    """As most people run it: their files come back to them, also from an image that works as root."""
    group = Path(engine.removeprefix("unix://")).stat().st_gid
    text = f"""
        drop({group})
        code = "import os; os.umask(0o77); os.makedirs('/out/models/a'); open('/out/models/a/w', 'w').close()"
        for image_user in (False, True):
            job = Path({str(anybodys)!r}) / f"job-{{image_user}}"
            (job / "in").mkdir(parents=True), (job / "out").mkdir()
            (job / "in/secret").write_text("mine")
            (job / "in/secret").chmod(0o600)
            isolation = Isolation.of({{"image_user": image_user, "memory_bytes": 1 << 30}})
            launch = Launch("docker", ("python3", "-c", code), {base_image!r}, isolation=isolation)
            order = {{"launch": launch.to_dict(), "token": f"nobody-{{os.getpid()}}-{{image_user}}", "resume": False}}
            supervisor.Supervisor(job, order).run(lambda: None)
            left = sorted(job.rglob("*"))
            print(json.loads((job / "exit.json").read_text())["code"], {{p.lstat().st_uid for p in left}}, len(left))
            shutil.rmtree(job)
    """
    assert as_nobody(text, user=12345) == "0 {12345} 9\n0 {12345} 9\n"


def test_gpus_that_the_engine_cannot_hand_out_are_told_and_nothing_is_left(rig, stand_in_gpus):
    launch = rig.launch("")
    asked = Launch("docker", launch.command, rig.image, isolation=launch.isolation, n_gpus=1)
    RUNNERS["docker"].start(rig.job, asked)
    state = rig.ended()
    assert state.code == 127
    assert "NVIDIA Container Toolkit" in state.reason
    assert rig.record()["gpus"][0]["uuid"] in stand_in_gpus.uuids


def test_case_46_a_job_that_waits_for_a_gpu_can_be_cancelled_and_leaves_its_place(rig, stand_in_gpus):
    first = Rig("process", rig.job.with_name("first"))
    try:
        launch = first.launch("time.sleep(600)")
        first.runner.start(first.job, Launch("process", launch.command, isolation=launch.isolation, n_gpus=2))
        until(lambda: first.poll().phase == "running")
        asked = Launch("docker", ("true",), rig.image, n_gpus=1)
        rig.runner.start(rig.job, asked)
        assert rig.poll().phase == "queued"
        rig.runner.cancel(rig.job)
        assert rig.poll().reason == "cancelled"
        assert sorted(GpuQueue().holders()["gpu"]) == stand_in_gpus.uuids
        first.runner.cancel(first.job)
        assert GpuQueue().holders().empty
        queue = GpuQueue()
        queue.ask("next", 2, os.getpid())
        assert queue.take("next", inventory())
        queue.release("next")
    finally:
        first.close()
