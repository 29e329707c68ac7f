"""Whole jobs in containers: what they leave is what the same executor leaves as a local process."""

import hashlib
import io
import json
import os
import sys
from pathlib import Path

import pytest
from PIL import Image
from real_engine import forget_sockets
from rigs import until

from ymir_nb.backend import ops, packages
from ymir_nb.backend.contract import Task
from ymir_nb.backend.dataset import Dataset
from ymir_nb.backend.errors import JobError, JobFailed, PreflightFailed, ProtocolViolated
from ymir_nb.backend.jobs import Jobs, Order
from ymir_nb.backend.outbox import clear_away
from ymir_nb.backend.runners import Isolation, Launch
from ymir_nb.backend.runners.container import container_name
from ymir_nb.backend.training_results import read_training

AVERAGE = Path(__file__).parents[1] / "executors" / "average.py"
pytestmark = pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
CONFIG = {"export_format": "ark:raw"}


@pytest.fixture(scope="module")
def image(build_image, yaml_image):
    """The tests' small executor as an image."""
    lines = 'COPY average.py /app/average.py\nCMD ["python3", "/app/average.py"]'
    return build_image("average", lines, {"average.py": AVERAGE.read_bytes()}, base=yaml_image)


@pytest.fixture
def jobs(tmp_path):
    """Give a folder of jobs, and leave nothing running behind it."""
    made = Jobs(tmp_path / "jobs")
    yield made
    forget_sockets()
    for record in made.records():
        made.cancel(record.id)
    made.sweep()


class Folder:
    """Image files by id, as a store gives them."""

    def __init__(self, path: Path) -> None:
        self.root = path

    def path(self, image: str) -> Path:
        return self.root / image

    def files(self, images: list[str]) -> list[str]:
        return [str(self.path(image)) for image in images]

    def read(self, image: str) -> bytes:
        return self.path(image).read_bytes()

    def thumbnail(self, image: str, *, side_px: int) -> bytes:
        raise NotImplementedError


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """Draw `n` images with a box each, from a number on."""
    media = Folder(tmp_path_factory.mktemp("images"))

    def make(n: int, start: int = 0) -> Dataset:
        images, boxes = [], []
        for number in range(start, start + n):
            sink = io.BytesIO()
            Image.new("RGB", (40, 30), (number, 0, 0)).save(sink, "PNG")
            name = hashlib.md5(sink.getvalue()).hexdigest()
            media.path(name).write_bytes(sink.getvalue())
            row = {"image": name, "file": f"{number}.png", "format": "PNG", "mode": "RGB", "width": 40, "height": 30}
            images.append(row | {"n_bytes": len(sink.getvalue()), "labelled": True})
            boxes.append({"image": name, "label": "dog", "x1": number % 5, "y1": 2, "x2": 20, "y2": 20.5})
        return Dataset.of(images, boxes, labels=["dog"], media=media)

    return make


@pytest.fixture(scope="module")
def training(dataset):
    return Task("t", ("dog",), CONFIG, training=True, train=dataset(4), val=dataset(2, 4))


def contained(image: str, *command: str, **isolation) -> Launch:
    return Launch("docker", command, image, isolation=Isolation.of({"memory_bytes": 1 << 30, **isolation}))


def order(task: Task, launch: Launch, name: str = "a") -> Order:
    return Order(name, task, launch, lambda out: read_training(out).best_stage_name if task.training else "read")


def stays(*words: str) -> tuple[str, ...]:
    return ("python3", "-c", f"import time; print('up', flush=True); time.sleep(600); {words}")


def container(jobs: Jobs, client):
    token = json.loads((jobs.directory / "a" / "run.json").read_text())["token"]
    return client.containers.get(container_name(token))


def train_and_infer(jobs: Jobs, launch: Launch, training: Task, pool) -> tuple:
    """Train, infer and mine; give what was left, as far as it does not depend on paths and times."""
    done = jobs.run(order(training, launch, "training"))
    assert (done.state, done.result) == ("done", "only")
    result = read_training(done.out_dir)
    package = packages.pack(result.files, result.to_info(executor_config={"class_names": ["dog"]}, task_context={}))
    told = {"config": CONFIG, "candidates": pool, "model": package}
    infer = jobs.run(order(Task("t", ("dog",), infer=True, **told), launch, "infer"))
    mining = jobs.run(order(Task("t", ("dog",), mining=True, **told), launch, "mining"))
    rows = [line.rpartition("/")[2] for line in (mining.out_dir / "result.tsv").read_text().splitlines()]
    found = json.loads((infer.out_dir / "infer-result.json").read_text())
    return (result.files["only/means.json"].read_bytes(), package, found, rows)


def test_training_inference_and_mining_in_a_container_give_what_a_process_gives(
    tmp_path, image, training, make_dataset
):
    pool = ops.unlabel(make_dataset(5, start=6))
    local = Launch("process", (sys.executable, str(AVERAGE)))
    found = [
        train_and_infer(Jobs(tmp_path / launch.runner), launch, training, pool) for launch in (contained(image), local)
    ]
    assert found[0] == found[1]
    assert len(found[0][3]) == 5
    assert {path.stat().st_uid for path in (tmp_path / "docker").rglob("*")} == {os.getuid()}


def test_case_50_what_is_loosened_stands_in_the_jobs_record(jobs, image, training):
    record = jobs.run(order(training, contained(image, network=True, image_user=True)))
    assert record.launch["isolation"] == {"network": True, "image_user": True, "memory_bytes": 1 << 30}
    assert jobs.attach("a").to_dict()["launch"]["isolation"]["network"] is True


def test_case_41_a_container_that_ends_well_and_leaves_nothing_has_failed(jobs, image, training):
    with pytest.raises(ProtocolViolated, match=r"result\.yaml does not exist"):
        jobs.run(order(training, contained(image, "true")))
    assert jobs.attach("a").state == "failed"


def test_case_42_links_pipes_and_foreign_paths_are_never_followed(jobs, image, training):
    code = """
import os, yaml
os.makedirs("/out/models/only")
os.symlink("/etc/passwd", "/out/models/only/link")
os.mkfifo("/out/models/only/pipe")
os.symlink("/etc", "/out/models/folder")
os.remove("/out/ymir-executor-out.log"); os.symlink("/etc/passwd", "/out/ymir-executor-out.log")
os.symlink("/etc/passwd", "/out/monitor.txt")
files = ["link", "pipe", "../folder/passwd", "/etc/passwd", "../../../../../../etc/passwd"]
stage = {"stage_name": "only", "files": files, "timestamp": 1, "mAP": 0.5}
with open("/out/models/result.yaml", "w") as file:
    yaml.safe_dump({"model_stages": {"only": stage}, "best_stage_name": "only"}, file)
"""
    with pytest.raises(ProtocolViolated) as caught:
        jobs.run(order(training, contained(image, "python3", "-c", code)))
    assert len(caught.value.faults) >= 5
    record = jobs.attach("a")
    assert record.state == "failed"
    assert "root:" not in jobs.log("a") + record.message


def test_case_48_a_result_that_would_build_objects_is_refused(jobs, image, training):
    code = """
import os
os.makedirs("/out/models", exist_ok=True)
open("/out/models/result.yaml", "w").write("!!python/object/apply:os.system ['touch /tmp/built']")
"""
    with pytest.raises(ProtocolViolated, match="no plain YAML"):
        jobs.run(order(training, contained(image, "python3", "-c", code)))


def test_case_49_a_model_with_code_in_it_is_handed_on_and_never_opened(jobs, image, training, tmp_path):
    mark = tmp_path / "opened"
    code = f"""
import os, pickle, yaml
class Evil:
    def __reduce__(self):
        return (os.system, ("touch {mark}",))
os.makedirs("/out/models/only")
pickle.dump(Evil(), open("/out/models/only/weights.pt", "wb"))
stage = {{"stage_name": "only", "files": ["weights.pt"], "timestamp": 1, "mAP": 0.5}}
yaml.safe_dump({{"model_stages": {{"only": stage}}, "best_stage_name": "only"}}, open("/out/models/result.yaml", "w"))
"""
    record = jobs.run(order(training, contained(image, "python3", "-c", code)))
    result = read_training(record.out_dir)
    packages.read_info(packages.pack(result.files, result.to_info(executor_config={}, task_context={})))
    assert not mark.exists()


def test_case_39_a_missing_image_is_refused_before_anything_is_exported(jobs, image, training):
    with pytest.raises(PreflightFailed, match="docker pull"):
        jobs.start(order(training, contained("ymir-nb/no-such-image:1")))
    assert not (jobs.directory / "a").exists()


def test_case_40_a_job_is_lost_while_its_engine_does_not_answer_and_found_again(
    jobs, image, training, monkeypatch, engine, tmp_path
):
    jobs.start(order(training, contained(image, *stays())))
    os.kill(json.loads((jobs.directory / "a" / "run.json").read_text())["supervisor"]["pid"], 9)
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/away.sock")
    until(lambda: jobs.attach("a").state == "lost")
    assert "does not answer" in jobs.attach("a").message
    with pytest.raises(JobError, match="no container engine answers"):
        jobs.cancel("a")
    monkeypatch.setenv("DOCKER_HOST", engine)
    assert jobs.attach("a").state == "running"
    assert jobs.cancel("a").state == "cancelled"


def test_case_45_a_job_that_a_reboot_ended_is_interrupted_and_can_be_tried_again(jobs, image, training, docker_client):
    asked = order(training, contained(image, "sh", "-c", "[ -e /in/again ] || sleep 600; exec python3 /app/average.py"))
    jobs.start(asked)
    path = jobs.directory / "a" / "run.json"
    run = json.loads(path.read_text())
    os.kill(run["supervisor"]["pid"], 9)
    container(jobs, docker_client).kill()
    run["supervisor"]["identity"] = "another-boot:1"
    path.write_text(json.dumps(run))
    until(lambda: jobs.attach("a").state == "interrupted")
    assert "jobs retry" in jobs.attach("a").message
    with pytest.raises(JobFailed, match="was interrupted"):
        jobs.wait("a")
    (jobs.directory / "a" / "in" / "again").touch()
    assert jobs.retry("a").state == "running"
    done = jobs.ingest(jobs.wait("a"), asked)
    assert (done.state, done.result) == ("done", "only")
    assert jobs.sweep() == []


def test_case_42_what_a_hostile_job_left_can_be_cleared_away(jobs, image, training):
    code = """
import os, time
os.chdir("/out")
for _ in range(1500):
    os.mkdir("d" * 100); os.chdir("d" * 100)
os.mkdir("closed"); open("closed/file", "w").close(); os.chmod("closed", 0)
time.sleep(600)
"""
    with pytest.raises(JobFailed, match="hid them"):
        jobs.run(order(training, contained(image, "python3", "-c", code)))
    clear_away(jobs.directory / "a" / "out")
    assert not (jobs.directory / "a" / "out").exists()
