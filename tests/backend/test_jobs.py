"""Jobs: work that is named, outlives its kernel, and is not done twice."""

import hashlib
import io
import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pandas as pd
import pytest
import yaml
from filelock import FileLock
from PIL import Image

from ymir_nb.backend import jobs as jobs_module
from ymir_nb.backend.contract import Task
from ymir_nb.backend.dataset import Dataset
from ymir_nb.backend.errors import InvalidName, JobError, JobFailed, ObjectMissing, PreflightFailed, ProtocolViolated
from ymir_nb.backend.jobs import Jobs, Order
from ymir_nb.backend.progress import bar
from ymir_nb.backend.results import read_training
from ymir_nb.backend.runners import RUNNERS, Isolation, Launch

GOOD = """
    import os, yaml
    env = yaml.safe_load(open(os.environ["DEFAULT_ENV_FILE_PATH"]))
    out = env["output"]
    lines = open(env["input"]["training_index_file"]).read().splitlines()
    assert all(os.path.exists(part) for line in lines for part in line.split())
    os.makedirs(out["models_dir"] + "/best", exist_ok=True)
    with open(out["models_dir"] + "/best/w.bin", "w") as file:
        file.write("weights")
    with open(out["root_dir"] + "/runs", "a") as file:
        file.write("run\\n")
    best = {"stage_name": "best", "files": ["w.bin"], "timestamp": 1700000000, "mAP": 0.5}
    with open(out["training_result_file"], "w") as file:
        yaml.safe_dump({"model_stages": {"best": best}, "best_stage_name": "best"}, file)
    print("trained")
"""
SLOW = GOOD.replace('print("trained")', 'import time; print("trained", flush=True); time.sleep(1.0)')
HANG = "import time; print('here', flush=True); time.sleep(600)"


class FolderMedia:
    """Image files by id, as a store gives them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, image: str) -> Path:
        if not (self.folder / image).exists():
            raise ObjectMissing(f"image {image} is not in the cache. Fetch it: ymir-nb pull")
        return self.folder / image

    def read(self, image: str) -> bytes:
        return self.path(image).read_bytes()

    def files(self, images: list[str]) -> list[str]:
        return [str(self.path(image)) for image in images]

    def thumbnail(self, image: str, *, side_px: int) -> bytes:
        raise NotImplementedError


def dataset(folder: Path, colour: str) -> Dataset:
    folder.mkdir(exist_ok=True)
    sink = io.BytesIO()
    Image.new("RGB", (40, 30), colour).save(sink, "PNG")
    name = hashlib.md5(sink.getvalue()).hexdigest()
    (folder / name).write_bytes(sink.getvalue())
    row = {"image": name, "file": f"{colour}.png", "format": "PNG", "mode": "RGB", "width": 40, "height": 30}
    box = {"image": name, "label": "dog", "x1": 1, "y1": 2, "x2": 10, "y2": 20}
    return Dataset.of([row | {"n_bytes": 1, "labelled": True}], [box], labels=["dog"], media=FolderMedia(folder))


def ref(out: Path) -> str:
    return f"model@{read_training(out).best_stage_name}"


class Rig:
    """A folder of jobs, a task, and executors written on the spot."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.jobs = Jobs(folder / "jobs")

    def task(self, **config: object) -> Task:
        train, val = dataset(self.folder / "images", "red"), dataset(self.folder / "images", "green")
        config = {"export_format": "ark:raw"} | config
        return Task(task_id="t", class_names=("dog",), config=config, training=True, train=train, val=val)

    def command(self, text: str) -> list[str]:
        path = self.folder / f"{hashlib.md5(text.encode()).hexdigest()}.py"
        path.write_text(textwrap.dedent(text))
        return [sys.executable, str(path)]

    def run(self, name: str, text: str, task: Task | None = None, *, isolation=None, **options: object):
        record = self.jobs.run(self.order(name, text, task, isolation=isolation), **options)
        return read_training(record.out_dir)

    def order(self, name: str, text: str, task: Task | None = None, **options: object) -> Order:
        launch = Launch(command=tuple(self.command(text)), isolation=Isolation.of(options.get("isolation") or {}))
        return Order(name, task or self.task(), launch, ref)

    def start(self, name: str, text: str, task: Task | None = None):
        return self.jobs.start(self.order(name, text, task))

    def n_runs(self, name: str) -> int:
        return len((self.jobs.directory / name / "out/runs").read_text().splitlines())


@pytest.fixture
def rig(tmp_path):
    """Give a rig, and leave nothing running behind it."""
    made = Rig(tmp_path)
    yield made
    for path in made.jobs.directory.glob("*/job.json"):
        RUNNERS["process"].cancel(path.parent)


def until(true, *, seconds: float = 15) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.02)


def test_a_job_runs_an_executor_and_gives_what_it_left(rig):
    seen = []
    result = rig.run("helmets-r01-training", GOOD, watch=lambda *args: seen.append(args))
    assert result.metric == 0.5
    assert result.files["best/w.bin"].read_text() == "weights"
    assert seen[-1][0] == 1.0
    record = rig.jobs.attach("helmets-r01-training")
    assert (record.state, record.kind, record.fraction) == ("done", "training", 1.0)
    assert rig.jobs.log("helmets-r01-training") == "trained"
    assert json.loads(json.dumps(record.to_dict()))["state"] == "done"
    assert repr(record).startswith("<Job helmets-r01-training: training, done, 100% after ")
    kept = sorted(path.name for path in (record.directory / "in").iterdir())
    assert kept == ["config.yaml", "env.yaml"]


def test_work_that_is_done_is_not_done_again_and_other_work_is(rig):
    rig.run("a", GOOD)
    rig.run("a", GOOD)
    assert rig.n_runs("a") == 1
    rig.run("a", GOOD, rig.task(epochs=2))
    assert yaml.safe_load((rig.jobs.directory / "a/in/config.yaml").read_text())["epochs"] == 2
    assert (rig.jobs.directory / ".previous/a/out/runs").exists()


def test_a_failed_job_says_why_keeps_its_record_and_can_be_run_again(rig):
    text = """
        import os
        with open(os.environ["YMIR_OUT"] + "/monitor.txt", "w") as file:
            file.write("t\\t1\\t1.00\\t4\\t300002\\n")
        print("before")
        raise ValueError("no such label <b>")
    """
    with pytest.raises(JobFailed) as caught:
        rig.run("a", text)
    message = str(caught.value)
    log = rig.jobs.directory / "a/out/ymir-executor-out.log"
    for part in ("training job 'a' failed: exit code 1.", "the dataset is wrong (return code 300002)"):
        assert part in message
    assert "First error: ValueError: no such label <b>" in message
    assert message.endswith(f"Log: {log}")
    assert rig.jobs.attach("a").state == "failed"
    with pytest.raises(JobFailed):
        rig.jobs.wait("a")
    rig.run("a", GOOD)
    assert rig.jobs.attach("a").state == "done"
    assert "ValueError" in (rig.jobs.directory / ".previous/a/out/ymir-executor-out.log").read_text()


def test_case_41_a_result_that_breaks_the_contract_fails_the_job_with_the_list(rig):
    bad = GOOD.replace('"mAP": 0.5', '"mAP": 5').replace('["w.bin"]', '["w.bin", "../w.bin"]')
    with pytest.raises(ProtocolViolated, match="training job 'a'") as caught:
        rig.run("a", bad)
    assert len(caught.value.faults) == 2
    record = rig.jobs.attach("a")
    assert record.state == "failed"
    assert "breaks the contract" in record.message
    with pytest.raises(ProtocolViolated):
        rig.run("a", bad)
    assert rig.n_runs("a") == 1  # of the second run: the first was set aside


def test_case_41_an_executor_that_ends_well_and_leaves_nothing_has_failed(rig):
    with pytest.raises(ProtocolViolated, match=r"result\.yaml does not exist"):
        rig.run("a", "print('all is well')")
    assert rig.jobs.attach("a").state == "failed"


def test_case_43_progress_never_goes_back_and_garbage_is_passed_over(rig):
    text = """
        import os, time
        def tell(words):
            with open(os.environ["YMIR_OUT"] + "/monitor.part", "w") as file:
                file.write(words)
            os.replace(os.environ["YMIR_OUT"] + "/monitor.part", os.environ["YMIR_OUT"] + "/monitor.txt")
            time.sleep(1.0)
        tell("t\\t1\\t0.6\\t2\\n"); tell("garbage"); tell("t\\t1\\t0.2\\t2\\n"); tell("t\\t1\\tnan\\t2\\n")
    """
    seen = []
    rig.start("a", text)
    rig.jobs.wait("a", lambda fraction, words: seen.append(fraction), poll_seconds=0.02)
    assert seen == sorted(seen)
    assert 0.6 in seen


def test_case_43_a_job_past_its_time_limit_has_failed(rig):
    with pytest.raises(JobFailed, match=r"time limit of 0\.3 s"):
        rig.run("a", HANG, isolation={"seconds": 0.3})
    assert rig.jobs.attach("a").state == "failed"


def test_a_cancelled_job_says_so_to_whoever_waits(rig):
    rig.start("a", HANG)
    failures = []

    def wait() -> None:
        try:
            rig.jobs.wait("a")
        except JobFailed as error:
            failures.append(str(error))

    waiting = threading.Thread(target=wait)
    waiting.start()
    assert rig.jobs.cancel("a").state == "cancelled"
    waiting.join(10)
    assert "training job 'a' was cancelled" in failures[0]
    assert rig.jobs.cancel("a").state == "cancelled"


def test_case_45_the_waiting_process_is_killed_and_another_attaches(rig):
    task = rig.folder / "waiter.py"
    here = Path(__file__).resolve()
    text = f"""
        import sys
        sys.path.insert(0, {str(here.parent)!r})
        from pathlib import Path
        from test_jobs import Rig, SLOW
        Rig(Path({str(rig.folder)!r})).run("a", SLOW)
    """
    task.write_text(textwrap.dedent(text))
    waiter = subprocess.Popen([sys.executable, str(task)])
    until((rig.jobs.directory / "a/run.json").exists)
    waiter.kill()
    waiter.wait()
    assert rig.jobs.attach("a").state == "running"
    assert rig.run("a", SLOW).metric == 0.5
    assert rig.n_runs("a") == 1


def test_case_45_a_killed_supervisor_is_an_interrupted_job_that_can_be_run_again(rig):
    rig.start("a", HANG)
    pid = json.loads((rig.jobs.directory / "a/run.json").read_text())["supervisor"]["pid"]
    os.kill(pid, signal.SIGKILL)
    until(lambda: rig.jobs.attach("a").state == "interrupted")
    with pytest.raises(JobFailed, match="was interrupted: its supervisor was killed"):
        rig.jobs.wait("a")
    assert rig.run("a", GOOD).metric == 0.5


def test_case_47_a_kill_while_inputs_are_written_leaves_an_interrupted_job(rig):
    text = f"""
        import os, sys
        sys.path.insert(0, {str(Path(__file__).resolve().parent)!r})
        from pathlib import Path
        import test_jobs
        class Deadly(test_jobs.FolderMedia):
            def files(self, images):
                os.kill(os.getpid(), 9)
        test_jobs.FolderMedia = Deadly
        test_jobs.Rig(Path({str(rig.folder)!r})).run("a", test_jobs.GOOD)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(text)], check=False)
    assert done.returncode == -9
    assert (rig.jobs.directory / "a/in").exists()
    assert rig.jobs.attach("a").state == "interrupted"
    assert rig.run("a", GOOD).metric == 0.5


def test_case_47_a_job_cancelled_while_its_inputs_are_written_never_starts(rig, monkeypatch):
    write_in = jobs_module.contract.write_in
    states = []

    def write_and_cancel(*args, **options):
        write_in(*args, **options)
        other = threading.Thread(target=lambda: states.append(rig.jobs.cancel("a").state))
        other.start()
        other.join()

    monkeypatch.setattr(jobs_module.contract, "write_in", write_and_cancel)
    with pytest.raises(JobFailed, match="cancelled before it started"):
        rig.run("a", GOOD)
    assert states == ["queued"]
    assert not (rig.jobs.directory / "a").exists()


def test_case_60_ctrl_c_while_a_job_starts_leaves_it_running_or_nothing(rig, monkeypatch):
    process = RUNNERS["process"]
    real = process.start

    def interrupted(job_dir, launch):
        if started:
            real(job_dir, launch)
        raise KeyboardInterrupt

    monkeypatch.setattr(process, "start", interrupted)
    started = False
    with pytest.raises(KeyboardInterrupt):
        rig.start("a", HANG)
    assert not (rig.jobs.directory / "a").exists()
    started = True
    with pytest.raises(KeyboardInterrupt):
        rig.start("a", HANG)
    assert rig.jobs.attach("a").state == "running"
    assert rig.jobs.cancel("a").state == "cancelled"


def test_an_export_that_fails_leaves_no_job(rig):
    task = rig.task()
    next((rig.folder / "images").iterdir()).unlink()
    with pytest.raises(ObjectMissing):
        rig.run("a", GOOD, task)
    assert not (rig.jobs.directory / "a").exists()


def test_case_39_what_cannot_work_is_refused_before_anything_is_written(rig):
    with pytest.raises(PreflightFailed, match="was not found"):
        rig.jobs.start(Order("a", rig.task(), Launch(command=("no-such-program",)), ref))
    with pytest.raises(PreflightFailed, match="export_format"):
        rig.run("a", GOOD, rig.task(export_format="yolo:raw"))
    with pytest.raises(PreflightFailed, match="no runner 'ssh'"):
        rig.jobs.start(Order("a", rig.task(), Launch(runner="ssh"), ref))
    assert not (rig.jobs.directory / "a").exists()


def test_a_running_job_is_joined_and_never_replaced(rig):
    first = rig.start("a", HANG)
    assert first.state == "running"
    assert rig.start("a", HANG).created == first.created
    with pytest.raises(PreflightFailed, match=r"running with other inputs.*jobs cancel a"):
        rig.start("a", HANG, rig.task(epochs=3))


def test_two_processes_that_ask_for_the_same_work_share_one_run(rig):
    results = []
    threads = [threading.Thread(target=lambda: results.append(rig.run("a", SLOW).metric)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert results == [0.5, 0.5, 0.5]
    assert rig.n_runs("a") == 1


def test_case_60_ctrl_c_stops_the_waiting_and_not_the_job(rig):
    rig.start("a", HANG)

    def interrupt(fraction: float, words: str) -> None:
        signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt, match=r"keeps running.*jobs cancel a"):
        rig.jobs.wait("a", interrupt)
    assert rig.jobs.attach("a").state == "running"


@pytest.mark.parametrize("name", ["../a", "a/b", "", ".hidden", "a\n"])
def test_case_65_a_job_is_no_path(rig, name):
    for ask in (rig.jobs.attach, rig.jobs.cancel, rig.jobs.log, rig.jobs.wait, lambda n: rig.run(n, GOOD)):
        with pytest.raises(InvalidName):
            ask(name)


def test_jobs_are_listed_newest_first_with_their_states(rig):
    assert rig.jobs.to_frame().empty
    rig.run("first", GOOD)
    with pytest.raises(JobFailed):
        rig.run("second", "raise SystemExit(2)")
    (rig.jobs.directory / "broken").mkdir()
    (rig.jobs.directory / "broken/job.json").write_text("{")
    frame = rig.jobs.to_frame()
    assert frame["id"].tolist() == ["second", "first"]
    assert frame["state"].tolist() == ["failed", "done"]
    assert isinstance(frame["created"].dtype, pd.DatetimeTZDtype)
    with pytest.raises(JobError, match="no job 'third'"):
        rig.jobs.attach("third")


def test_a_job_whose_inputs_another_process_is_writing_is_queued(rig):
    rig.start("a", HANG)
    RUNNERS["process"].cancel(rig.jobs.directory / "a")
    (rig.jobs.directory / "a/run.json").unlink()
    (rig.jobs.directory / "a/exit.json").unlink(missing_ok=True)
    record = json.loads((rig.jobs.directory / "a/job.json").read_text())
    assert record["state"] == "running"
    with FileLock(rig.jobs.directory / ".a.lock"):
        assert rig.jobs.attach("a").state == "queued"
    assert rig.jobs.attach("a").state == "interrupted"


def test_case_69_names_in_a_command_are_never_read_by_a_shell(rig):
    mark = rig.folder / "ran"
    hostile = f'"; touch {mark}; $(touch {mark}) `touch {mark}`'
    text = "import sys; print(sys.argv[1])"
    rig.jobs.start(Order("a", rig.task(note=hostile), Launch(command=(*rig.command(text), hostile)), ref))
    rig.jobs.wait("a")
    assert rig.jobs.log("a") == hostile
    assert not mark.exists()


def test_the_bar_takes_progress_and_is_silent_where_nobody_looks(capsys):
    with bar("training") as watch:
        watch(0.5, "half")
        watch(0.25, "less")
        watch(1.0, "done")
    assert capsys.readouterr().err == ""
