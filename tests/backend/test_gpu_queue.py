"""Processes compete for GPUs, are killed while they wait and while they hold.

No test machine is sure to have a GPU: the GPUs are values, the processes, files, locks and signals are real.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pandas as pd
import pytest

from ymir_nb.backend import gpu_queue
from ymir_nb.backend.errors import JobError, JobFailed, PreflightFailed
from ymir_nb.backend.gpu_queue import DIR_VARIABLE, GpuQueue
from ymir_nb.backend.gpus import Gpu
from ymir_nb.backend.shared_folder import user_name

GIB = 1 << 30
ME = os.getpid()


def gpu(index, *, free=8, fault=""):
    return Gpu(index, f"GPU-0{index}", "Tiny 9000", 8 * GIB, int(free * GIB), fault)


TWO = [gpu(0), gpu(1)]


@pytest.fixture
def queue(tmp_path):
    return GpuQueue(tmp_path / "gpus")


@pytest.fixture
def process():
    """Start processes that do nothing, or what they are told; none is left."""
    started = []

    def start(code="import time; time.sleep(60)", *arguments):
        command = [sys.executable, "-c", code, *map(str, arguments)]
        started.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
        return started[-1]

    yield start
    for one in started:
        one.kill()
        one.wait()
        one.stdout.close()


def kill(process):
    process.send_signal(signal.SIGKILL)
    process.wait()


def uuids(gpus):
    return None if gpus is None else [gpu.uuid for gpu in gpus]


def files(queue):
    return sorted(path.name for path in queue.folder.path.iterdir())


# One competitor: asks, waits, marks every GPU that it gets by a file that must not be there yet, holds, gives back.
COMPETITOR = """
import os, sys, time
from pathlib import Path
from ymir_nb.backend.gpu_queue import GpuQueue
from ymir_nb.backend.gpus import Gpu

TWO = [Gpu(i, f"GPU-0{i}", "Tiny 9000", 8, 8) for i in (0, 1)]

def compete(directory, ticket, n, seconds):
    queue, marks = GpuQueue(Path(directory)), Path(directory).parent
    queue.ask(ticket, n, os.getpid())
    print("asked", flush=True)
    while (taken := queue.take(ticket, TWO) if queue.position(ticket) == 0 else None) is None:
        time.sleep(0.05)
    print("took", flush=True)
    assert len(taken) == n
    for gpu in taken:
        os.close(os.open(marks / gpu.uuid, os.O_CREAT | os.O_EXCL))
    with open(marks / "order", "a") as file:
        file.write(ticket + "\\n")
    time.sleep(seconds)
    for gpu in taken:
        (marks / gpu.uuid).unlink()
    queue.release(ticket)
"""
ONE = COMPETITOR + "compete(sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4]))"
CROWD = (
    COMPETITOR
    + """
children = []
for i in range(30):
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            compete(sys.argv[1], f"job-{i}", 1 + (i % 5 == 0), 0.01)
            code = 0
        finally:
            os._exit(code)
    children.append(pid)
sys.exit(sum(os.waitpid(pid, 0)[1] != 0 for pid in children))
"""
)


def test_case_46_two_jobs_that_want_the_same_gpu_get_it_one_after_the_other(queue):
    for ticket in ("first", "second"):
        queue.ask(ticket, 1, ME)
    assert [queue.position(ticket) for ticket in ("first", "second")] == [0, 1]
    assert queue.take("second", [gpu(0)]) is None, "the first has not had its turn"
    assert uuids(queue.take("first", [gpu(0)])) == ["GPU-00"]
    assert queue.position("second") == 0
    assert queue.take("second", [gpu(0)]) is None
    queue.release("first")
    assert uuids(queue.take("second", [gpu(0)])) == ["GPU-00"]


def test_case_46_a_large_request_is_not_starved_by_small_ones(queue):
    for ticket, n in {"a": 1, "large": 2, "b": 1, "c": 1}.items():
        queue.ask(ticket, n, ME)
    assert queue.take("a", TWO) is not None
    for ticket in ("large", "b", "c"):
        assert queue.take(ticket, TWO) is None, f"{ticket} must wait, though a GPU is free"
    queue.release("a")
    assert queue.take("b", TWO) is None
    assert uuids(queue.take("large", TWO)) == ["GPU-00", "GPU-01"]
    queue.release("large")
    assert uuids(queue.take("b", TWO) + queue.take("c", TWO)) == ["GPU-00", "GPU-01"]


def test_case_46_a_job_that_is_cancelled_while_queued_leaves_its_place_and_nothing_else(queue):
    for ticket in ("holder", "cancelled", "next"):
        queue.ask(ticket, 2, ME)
    queue.take("holder", TWO)
    assert queue.position("next") == 1
    queue.release("cancelled")
    queue.release("cancelled")
    assert queue.position("next") == 0
    with pytest.raises(JobError, match="'cancelled' is not in the queue"):
        queue.take("cancelled", TWO)
    queue.release("holder")
    assert uuids(queue.take("next", TWO)) == ["GPU-00", "GPU-01"]
    queue.release("next")
    assert files(queue) == ["lock"]


def test_case_46_a_job_that_is_killed_in_the_queue_or_with_gpus_leaks_nothing(queue, process):
    folder = queue.folder.path
    holder = process(ONE, folder, "holder", 2, 60)
    assert [holder.stdout.readline().strip() for _ in range(2)] == ["asked", "took"]
    waiting = process(ONE, folder, "waiting", 1, 60)
    assert waiting.stdout.readline().strip() == "asked"
    queue.ask("last", 1, ME)
    assert queue.position("last") == 1
    assert queue.holders()["pid"].tolist() == [holder.pid] * 2
    kill(waiting)
    assert queue.position("last") == 0
    assert queue.take("last", TWO) is None
    kill(holder)
    assert queue.holders().empty
    assert uuids(queue.take("last", TWO)) == ["GPU-00"]
    assert files(queue) == ["lock", "request-000000000003.json"]


def test_case_46_thirty_processes_on_two_gpus_never_overlap_and_all_get_their_turn(queue, process, tmp_path):
    crowd = process(CROWD, queue.folder.path)
    assert crowd.wait(timeout=240) == 0, "a GPU was given twice, or a turn was lost"
    order = (tmp_path / "order").read_text().split()
    assert sorted(order) == sorted(f"job-{i}" for i in range(30))
    assert files(queue) == ["lock"]


def test_case_46_competing_processes_are_served_in_the_order_of_asking(queue, process, tmp_path):
    queue.ask("gate", 2, ME)
    queue.take("gate", TWO)
    running = []
    for i in (3, 1, 4, 0, 2):
        running.append(process(ONE, queue.folder.path, f"job-{i}", 2, 0))
        assert running[-1].stdout.readline().strip() == "asked"
    queue.release("gate")
    assert [one.wait(timeout=120) for one in running] == [0] * 5
    assert (tmp_path / "order").read_text().split() == ["job-3", "job-1", "job-4", "job-0", "job-2"]


def test_case_46_more_gpus_than_there_are_is_refused_and_not_waited_for(queue):
    queue.ask("small", 1, ME)
    queue.ask("large", 3, ME)
    with pytest.raises(PreflightFailed, match=r"asks for 3 GPUs.* has 2"):
        queue.take("large", TWO)
    with pytest.raises(PreflightFailed, match="none"):
        queue.take("small", [])


def test_case_44_a_gpu_that_is_set_aside_is_given_to_nobody_until_it_is_readmitted(queue):
    queue.ask("a", 1, ME)
    queue.ask("b", 1, ME)
    assert uuids(queue.take("a", TWO)) == ["GPU-00"]
    queue.quarantine("GPU-00", "it is lost")
    assert uuids(queue.take("a", TWO)) == ["GPU-00"], "who has it keeps it"
    queue.release("a")
    assert queue.quarantined() == {"GPU-00": f"{user_name(os.getuid())} set it aside: it is lost"}
    assert uuids(queue.take("b", TWO)) == ["GPU-01"]
    queue.ask("c", 2, ME)
    with pytest.raises(PreflightFailed, match=r"has 1 that can be used.*set it aside: it is lost"):
        queue.take("c", TWO)
    queue.readmit("GPU-00")
    queue.readmit("GPU-00")
    assert queue.quarantined() == {}
    queue.release("b")
    assert uuids(queue.take("c", TWO)) == ["GPU-00", "GPU-01"]


def test_case_44_a_broken_gpu_is_not_given_and_who_has_it_is_told(queue):
    broken = [gpu(0, fault="it is lost."), gpu(1)]
    queue.ask("a", 1, ME)
    assert uuids(queue.take("a", broken)) == ["GPU-01"]
    for now, reason in {"it is lost": [gpu(0), gpu(1, fault="it is lost.")], "not list": [gpu(0)]}.items():
        with pytest.raises(JobFailed, match=f"GPU-01.*{now}"):
            queue.take("a", reason)
    queue.ask("b", 2, ME)
    with pytest.raises(PreflightFailed, match="it is lost"):
        queue.take("b", broken)


def test_the_gpus_with_the_most_free_memory_are_given_first_and_listed_by_index(queue):
    gpus = [gpu(0, free=7), gpu(1, free=6.5), gpu(2, free=7.5), gpu(3, free=7.5)]
    queue.ask("a", 1, ME)
    queue.ask("b", 2, ME)
    assert uuids(queue.take("a", gpus)) == ["GPU-02"]
    assert uuids(queue.take("b", gpus)) == ["GPU-00", "GPU-03"]
    assert uuids(queue.take("b", gpus)) == ["GPU-00", "GPU-03"], "taking again gives the same"


def test_a_gpu_that_a_foreign_program_uses_is_not_given_and_the_reason_is_told(queue):
    queue.ask("a", 2, ME)
    queue.ask("b", 1, ME)
    used = [gpu(0, free=6.3), gpu(1, free=6.5)]
    assert queue.take("a", used) is None
    assert "asks for 2 GPUs, and 1 of 2 are free" in queue.why("a", used)
    assert "GPU-00): 79% of its memory is free and 80% must be; a program uses it" in queue.why("a", used)
    assert f"behind 1 others; 'a' of {user_name(os.getuid())} is the first, and asks for 2" in queue.why("b", used)
    queue.ask("c", 1, ME)
    assert f"behind 2 others; 'a' of {user_name(os.getuid())} is the first" in queue.why("c", used)
    assert GpuQueue(queue.folder.path, free_share=0.5).why("a", used) == ""
    assert uuids(GpuQueue(queue.folder.path, free_share=0.5).take("a", used)) == ["GPU-00", "GPU-01"]
    assert queue.why("a", used) == ""
    assert "'a' of" in queue.why("b", used)
    assert "has it" in queue.why("b", used)


def test_asking_again_keeps_the_place_and_another_number_is_refused(queue):
    queue.ask("a", 1, ME)
    queue.ask("b", 1, ME)
    queue.ask("a", 1, ME)
    assert [queue.position(ticket) for ticket in "ab"] == [0, 1]
    with pytest.raises(JobError, match=r"asks for 1 GPUs already, and not 2\. Release"):
        queue.ask("a", 2, ME)
    with pytest.raises(PreflightFailed, match="needs no ticket"):
        queue.ask("c", 0, ME)
    queue.release("a")
    queue.ask("a", 1, ME)
    assert queue.position("a") == 1, "who leaves and comes back stands at the end"


def test_a_lease_lives_as_long_as_the_last_process_that_keeps_it(queue, process):
    one, other = process(), process()
    queue.ask("a", 1, one.pid)
    queue.take("a", TWO)
    queue.keep("a", other.pid)
    kill(one)
    assert queue.holders()["pid"].tolist() == [other.pid]
    queue.keep("a", ME)
    kill(other)
    assert queue.holders()["pid"].tolist() == [ME]
    with pytest.raises(PreflightFailed, match=f"no process {one.pid} is alive"):
        queue.keep("a", one.pid)
    with pytest.raises(JobError, match="not in the queue"):
        queue.keep("b", ME)


def test_a_process_that_has_ended_and_is_not_collected_yet_holds_nothing(queue, process):
    one = process()
    queue.ask("a", 1, one.pid)
    one.send_signal(signal.SIGKILL)
    os.waitid(os.P_PID, one.pid, os.WEXITED | os.WNOWAIT)
    with pytest.raises(JobError, match="the process that asked has ended"):
        queue.position("a")


@pytest.mark.skipif(sys.platform != "linux", reason="the boot and the process numbering are read from /proc")
def test_another_process_with_the_same_number_and_one_from_before_a_reboot_hold_nothing(queue):
    queue.ask("a", 1, ME)
    (path,) = queue.folder.path.glob("request-*")
    whole = json.loads(path.read_text())
    boot, _, ticks = whole["owners"][0]["identity"].partition(":")
    elsewhere = "pid:[1]"
    for identity, namespace, lives in [
        (f"{boot}:{ticks}", whole["owners"][0]["namespace"], True),
        (f"{boot}:{int(ticks) + 1}", whole["owners"][0]["namespace"], False),
        (f"00000000:{ticks}", whole["owners"][0]["namespace"], False),
        (f"{boot}:{int(ticks) + 1}", elsewhere, True),
        (f"00000000:{ticks}", elsewhere, False),
    ]:
        owner = {"pid": ME, "identity": identity, "namespace": namespace}
        path.write_text(json.dumps(whole | {"owners": [owner]}))
        assert bool(queue._requests()) == lives, (identity, namespace)


def test_files_that_are_no_requests_count_for_nothing_and_break_nothing(queue):
    queue.ask("a", 1, ME)
    (path,) = queue.folder.path.glob("request-*")
    whole = json.loads(path.read_text())
    owner = whole["owners"][0]
    wrong = [
        {"ticket": 1},
        {"n": "1"},
        {"since": "now"},
        {"gpus": [1]},
        {"gpus": "GPU-00"},
        {"owners": []},
        {"owners": {}},
        {"owners": [owner | {"pid": -1}]},
        {"owners": [owner | {"pid": 1 << 40}]},
        {"owners": [owner | {"identity": None}]},
        {"owners": [{"pid": ME}]},
    ]
    path.rename(queue.folder.path / "request-000000000099.json")
    for i, change in enumerate(wrong):
        (queue.folder.path / f"request-{i:012d}.json").write_text(json.dumps(whole | {"ticket": "x"} | change))
    (queue.folder.path / "request-one.json").write_text(json.dumps(whole))
    (queue.folder.path / "aside-1.json").write_text('{"uuid": ["GPU-00"], "reason": "x"}')
    assert [r.ticket for r in queue._requests()] == ["a"]
    assert queue.position("a") == 0
    queue.ask("b", 1, ME)
    names = sorted(path.name for path in queue.folder.path.glob("request-*"))
    assert names == ["request-000000000099.json", "request-000000000100.json"]


def test_holders_are_listed_with_who_and_since_when(queue):
    columns = ["gpu", "ticket", "user", "pid", "since"]
    empty = queue.holders()
    assert (list(empty.columns), len(empty)) == (columns, 0)
    queue.ask("a", 2, ME)
    queue.ask("b", 1, ME)
    queue.take("a", TWO)
    frame = queue.holders()
    assert list(frame.columns) == columns
    assert frame[["gpu", "ticket", "user", "pid"]].to_numpy().tolist() == [
        [uuid, "a", user_name(os.getuid()), ME] for uuid in ("GPU-00", "GPU-01")
    ]
    assert abs((frame["since"] - pd.Timestamp.now("UTC")).dt.total_seconds()).max() < 60
    assert frame["since"].dtype == empty["since"].dtype


def test_the_folder_is_the_one_named_in_the_environment_or_one_that_all_users_share(monkeypatch, tmp_path):
    monkeypatch.setenv(DIR_VARIABLE, str(tmp_path / "named"))
    assert GpuQueue().folder.path == tmp_path / "named"
    monkeypatch.delenv(DIR_VARIABLE)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    if Path("/dev/shm").is_dir():
        assert GpuQueue().folder.path == Path("/dev/shm/ymir-nb-gpus")
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with pytest.raises(PreflightFailed, match=f"Set {DIR_VARIABLE} to a folder"):
        GpuQueue(tmp_path / "link").ask("a", 1, ME)


def test_a_poll_among_a_handful_of_tickets_takes_less_than_five_milliseconds(queue):
    for i in range(6):
        queue.ask(f"job-{i}", 1, ME)

    def best(call):
        times = []
        for _ in range(20):
            begin = time.perf_counter()
            call()
            times.append(time.perf_counter() - begin)
        return min(times)

    assert best(lambda: queue.position("job-5")) < 0.005
    assert best(lambda: queue.take("job-5", TWO)) < 0.005


# One user cannot become another unless he is root; what is below is then not there, rather than skipped.
if os.geteuid() == 0:
    NOBODY = 65534

    @pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # the child runs no thread's code
    def test_users_wait_for_each_other_and_cannot_end_each_others_leases():
        with tempfile.TemporaryDirectory() as name:
            Path(name).chmod(0o1777)
            queue = GpuQueue(Path(name) / "gpus")
            queue.ask("job", 1, ME)
            queue.take("job", TWO)
            queue.quarantine("GPU-01", "it is hot")
            pid = os.fork()
            if pid == 0:
                code = 1
                with contextlib.suppress(BaseException):
                    os.setgid(NOBODY)
                    os.setuid(NOBODY)
                    queue.release("job")  # of this name he has none
                    queue.ask("job", 1, os.getpid())
                    assert queue.take("job", TWO) is None
                    assert "'job' of root has it" in queue.why("job", TWO)
                    with pytest.raises(JobError, match="set aside by root"):
                        queue.readmit("GPU-01")
                    code = 0
                os._exit(code)
            assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
            assert queue.holders()["user"].tolist() == ["root"]

    def test_in_doubt_a_process_that_is_hidden_from_a_user_is_alive(monkeypatch):
        # Stands in for a /proc mounted with hidepid: to mount one needs more than root in a container.
        def denied(pid, number):
            raise PermissionError

        monkeypatch.setattr(gpu_queue.os, "kill", denied)
        assert gpu_queue._is_hidden(1 << 30)
        assert not gpu_queue._is_hidden(ME)
