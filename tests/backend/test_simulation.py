import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from ymir_nb.backend import ops
from ymir_nb.backend.dataset import Dataset
from ymir_nb.backend.errors import JobFailed, PreflightFailed, ProjectError
from ymir_nb.backend.executors import ExecutorBook
from ymir_nb.backend.jobs import Jobs
from ymir_nb.backend.learning_curves import COLUMNS, compare
from ymir_nb.backend.runs import Runs
from ymir_nb.backend.simulation import simulate
from ymir_nb.backend.workspace import Workspace

SMALL = {"strategies": ("random", "entropy"), "seeds": (1,), "n_start": 2, "k": 2, "rounds": 1, "executor": "average"}
HERE = Path(__file__).resolve().parents[1] / "executors"


def pictures(workspace, n):
    """Small drawn pictures with a box each."""
    images, boxes = [], []
    for seed in range(n):
        pixels = np.random.default_rng(seed).integers(0, 255, (30, 40, 3), dtype=np.uint8)
        stream = io.BytesIO()
        Image.fromarray(pixels).save(stream, "JPEG")
        data = stream.getvalue()
        row = {"image": workspace.store.objects.put(data), "file": f"{seed}.jpg", "format": "JPEG", "mode": "RGB"}
        images.append(row | {"width": 40, "height": 30, "n_bytes": len(data), "labelled": True})
        boxes.append({"image": row["image"], "label": "dog", "x1": seed % 5, "y1": 2, "x2": 20, "y2": 20.5})
    return Dataset.of(images, boxes, labels=["dog"], media=workspace.media)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Twelve labelled images to choose from, three to measure on and two for the executor's own choice."""
    workspace = Workspace.init(tmp_path_factory.mktemp("simulation") / "ws")
    ExecutorBook(workspace.store).add(
        "average", [sys.executable, str(HERE / "average.py")], templates=HERE / "average-man"
    )
    workspace.labels.add("dog")
    whole = pictures(workspace, 17)
    names = whole.images["image"].tolist()
    for name, images in (("val", names[:2]), ("test", names[2:5]), ("truth", names)):
        workspace.save(ops.take(whole, images), name, operation="import")
    return workspace


@pytest.fixture
def replay(data):
    """Simulate on these data, quickly; what another test has run already is there."""
    return lambda **options: simulate(data, "truth", val="val", test="test", **{**SMALL, **options})


def arm(runs, strategy, seed=1):
    return [row for _, row in sorted(runs.rounds(strategy, seed).items())]


def measured(row):
    return {key: row[key] for key in ("round", "ap50", "ap", "n_images", "n_boxes", "per_label", "chosen")}


def test_every_strategy_of_a_seed_begins_with_the_same_model_trained_once(data, replay):
    runs = replay()
    first, other = arm(runs, "random"), arm(runs, "entropy")
    assert first[0]["jobs"] == other[0]["jobs"]
    assert first[0]["ap50"] == other[0]["ap50"]
    assert first[1]["jobs"] != other[1]["jobs"]
    assert [row["n_images"] for row in first] == [2, 4]
    records = [Jobs.of(data).attach(job) for row in (*first, *other) for job in row["jobs"]]
    assert [record.kind for record in records] == ["training", "infer"] * 4
    assert {record.state for record in records} == {"done"}


def test_seeds_begin_with_different_images(replay):
    runs = replay(seeds=(1, 2), rounds=0)
    assert arm(runs, "random", 1)[0]["jobs"] != arm(runs, "random", 2)[0]["jobs"]


def test_what_is_measured_on_is_never_chosen_and_nothing_is_chosen_twice(data, replay):
    rows = arm(replay(strategies=("random",), k=5, rounds=2), "random")
    chosen = [image for row in rows for image in row["chosen"]]
    fixed = {image for name in ("val", "test") for image in data.dataset(name).images["image"]}
    assert len(set(chosen)) == len(chosen) == 10
    assert not fixed & set(chosen)
    assert [row["per_label"]["dog"]["n_images"] for row in rows] == [2, 7, 12]


def test_it_goes_on_where_it_stopped_and_adds_what_is_asked_for(replay):
    before = replay()
    assert replay().lines == before.lines
    longer = replay(strategies=("random",), rounds=2, seeds=(1, 2))
    assert [row["round"] for row in arm(longer, "random")] == [0, 1, 2]
    assert arm(longer, "random")[0] == arm(before, "random")[0]
    assert arm(longer, "random")[1]["ap50"] == arm(before, "random")[1]["ap50"]
    assert len(arm(longer, "random", 2)) == 3


def test_a_file_goes_on_where_no_job_is(replay, data, tmp_path):
    whole = replay(k=3)
    part = tmp_path / "elsewhere.jsonl"
    kept = [line for line in whole.path.read_text().splitlines(keepends=True) if '"entropy"' not in line]
    part.write_text("".join(kept[:2]) + '{"strategy": "entr')  # and a line that a crash cut short
    shutil.rmtree(Jobs.of(data).directory)
    again = replay(k=3, results=part)
    for strategy in ("random", "entropy"):
        assert [measured(row) for row in arm(again, strategy)] == [measured(row) for row in arm(whole, strategy)]


def test_rounds_whose_weights_are_gone_are_done_again_where_the_file_is_lost(data, replay):
    before = replay(strategies=("random",), n_start=3)
    spent = Jobs.of(data).attach(arm(before, "random")[1]["jobs"][0])
    assert not (spent.out_dir / "models").exists()
    assert spent.log_path.exists()
    before.path.unlink()
    again = replay(strategies=("random",), n_start=3)
    assert [measured(row) for row in arm(again, "random")] == [measured(row) for row in arm(before, "random")]


def test_arms_side_by_side_give_what_they_give_one_by_one(data, replay, tmp_path):
    one = replay(k=4)
    shutil.rmtree(Jobs.of(data).directory)
    two = replay(k=4, n_parallel=2, results=tmp_path / "two.jsonl")
    for strategy in ("random", "entropy"):
        assert [measured(row) for row in arm(one, strategy)] == [measured(row) for row in arm(two, strategy)]
    assert one.to_frame().equals(two.to_frame())


def test_every_round_trains_from_scratch_unless_told_otherwise(data, replay):
    def given(runs):
        job = Jobs.of(data).attach(arm(runs, "random")[1]["jobs"][0])
        return yaml.safe_load((job.directory / "in" / "config.yaml").read_text()).get("pretrained_model_params")

    assert given(replay(strategies=("random",), k=6)) is None
    assert given(replay(strategies=("random",), k=6, warm_start=True)) is not None


def test_a_failing_executor_ends_it_and_finished_rounds_stay(data, replay):
    with pytest.raises(JobFailed, match="the disk of the results went away"):
        replay(parameters={"training": {"crash_after": "train"}})
    runs = replay(rounds=0)
    lines = len(runs.lines)
    with pytest.raises(PreflightFailed, match="mining_algorithm"):
        replay(strategies=("random", "cald"), rounds=1, n_start=4)
    assert len(Runs.read(runs.path).lines) == lines


def test_a_job_whose_supervisor_was_killed_is_done_once_more(data, replay):
    killed = []

    def kill(share, words):
        for state in jobs.glob("*s7-r0-train*/run.json") if not killed else ():
            pid = json.loads(state.read_text()).get("supervisor", {}).get("pid")
            if pid:
                os.kill(pid, signal.SIGKILL)
                killed.append(pid)

    jobs = Jobs.of(data).directory
    runs = replay(
        strategies=("random",), seeds=(7,), rounds=0, parameters={"training": {"idle_seconds": 1.0}}, watch=kill
    )
    assert killed
    assert len(arm(runs, "random", 7)) == 1


def test_runs_of_another_plan_are_not_mixed(replay, tmp_path):
    kept = tmp_path / "kept.jsonl"
    replay(results=kept, rounds=0)
    with pytest.raises(ProjectError, match="another simulation: k differ"):
        replay(results=kept, k=1)
    kept.write_text("no runs\n")
    with pytest.raises(ProjectError, match="cannot be read"):
        Runs.read(kept)


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ({"k": 20}, "2 images to begin with and 1 rounds of 20 are 22, and the pool has 12"),
        ({"strategies": ("random", "luck")}, "'luck' to replay; there is hybrid"),
        ({"strategies": ("committee",)}, "'committee' to replay"),
        ({"seeds": ()}, "one seed"),
        ({"rounds": -1}, "rounds=-1"),
        ({"n_parallel": 0}, "n_parallel=0"),
    ],
)
def test_what_cannot_be_replayed_is_refused_before_anything_starts(data, replay, asked, says):
    before = Jobs.of(data).to_frame()
    with pytest.raises(ProjectError, match=says):
        replay(**asked)
    assert Jobs.of(data).to_frame().equals(before)


def test_the_frame_is_what_learning_curves_take(replay):
    frame = replay(n_start=5).to_frame()
    assert list(frame.columns) == list(COLUMNS)
    assert len(frame) == 2 * 1 * 2 * 2
    assert set(compare(frame)["strategy"]) == {"random", "entropy"}


def test_the_share_that_is_done_ends_at_one(replay):
    told = []
    replay(n_start=5, watch=lambda share, words: told.append((share, words)))
    assert told[-1][0] == 1.0
    assert [share for share, words in told if "AP50" in words] == [0.25, 0.5, 0.75, 1.0]


def test_ctrl_c_stops_the_waiting_and_the_same_command_goes_on(data, tmp_path):
    results = tmp_path / "runs.jsonl"
    command = [
        sys.executable,
        "-m",
        "ymir_nb",
        "-w",
        str(data.root),
        "simulate",
        "truth",
        "--val",
        "val",
        "--test",
        "test",
    ]
    command += [
        "--strategy",
        "random",
        "--seeds",
        "1",
        "--start",
        "2",
        "-k",
        "2",
        "--rounds",
        "1",
        "--executor",
        "average",
    ]
    command += ["--results", str(results), "--set", "infer.idle_seconds=1.5", "--json"]
    jobs = data.root / ".ymir" / "jobs"
    before = set(jobs.glob("*infer*/job.json"))
    running = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while set(jobs.glob("*infer*/job.json")) <= before and time.monotonic() < deadline:
        time.sleep(0.05)
    running.send_signal(signal.SIGINT)
    _, said = running.communicate(timeout=60)
    assert running.returncode == 130
    assert "the same call goes on" in said
    assert "Traceback" not in said
    page = tmp_path / "report.html"
    done = subprocess.run(
        [*command, "--report", str(page)], capture_output=True, text=True, check=True, env=dict(os.environ)
    )
    answer = json.loads(done.stdout)
    assert answer["compared"][0]["strategy"] == "random"
    assert len(Runs.read(results).lines) == 2
    assert "<svg" in page.read_text()


def test_the_notebook_shows_runs_and_writes_the_page(data, replay, tmp_path):
    from ymir_nb.backend import notebooks

    runs = replay(n_start=5)
    result = notebooks.run_notebook(
        notebooks.template("simulation"),
        tmp_path / "simulation.ipynb",
        parameters={"results": str(runs.path), "page": str(tmp_path / "page.html")},
        cwd=tmp_path,
    )
    assert result == {"id": runs.plan["id"], "page": str(tmp_path / "page.html"), "results": str(runs.path)}
    executed = json.loads((tmp_path / "simulation.ipynb").read_text())
    shown = [kind for cell in executed["cells"] for out in cell.get("outputs", ()) for kind in out.get("data", {})]
    assert shown.count("image/png") == 2
    assert shown.count("text/html") >= 3
    assert "<svg" in (tmp_path / "page.html").read_text()


SEEING = """
import json, os, subprocess, sys
from pathlib import Path
import numpy as np, yaml
env = yaml.safe_load(Path(os.environ["DEFAULT_ENV_FILE_PATH"]).read_text())
config = yaml.safe_load(Path(env["input"]["config_file"]).read_text())
code = subprocess.run([sys.executable, {average!r}]).returncode
if config.get("features"):
    paths = [line.split()[0] for line in Path(env["input"]["candidate_index_file"]).read_text().splitlines()]
    folder = Path(env["output"]["root_dir"]) / "features"
    folder.mkdir()
    names = [path.rsplit("/", 1)[1] for path in paths]
    (folder / "index.json").write_text(json.dumps({"images": names, "class_names": config["class_names"]}))
    np.save(folder / "images.npy", np.random.default_rng(0).random((len(names), 4), dtype=np.float32))
sys.exit(code)
"""


def test_a_strategy_that_compares_images_is_given_features_of_these_and_of_the_labelled_ones(data, replay, tmp_path):
    manual = tmp_path / "man"
    shutil.copytree(HERE / "average-man", manual)
    with (manual / "infer-template.yaml").open("a") as template:
        template.write("features: false\n")
    script = tmp_path / "seeing.py"
    script.write_text(SEEING.replace("{average!r}", repr(str(HERE / "average.py"))))
    ExecutorBook(data.store).add("seeing", [sys.executable, str(script)], templates=manual)
    runs = replay(executor="seeing", strategies=("kcenter", "random"))
    seen = Jobs.of(data).attach(arm(runs, "kcenter")[0]["jobs"][1]).out_dir / "features" / "index.json"
    assert len(json.loads(seen.read_text())["images"]) == 12 + 3
    assert not (Jobs.of(data).attach(arm(runs, "random")[0]["jobs"][1]).out_dir / "features").exists()
    assert arm(runs, "kcenter")[0]["chosen"] != arm(runs, "random")[0]["chosen"]
    with pytest.raises(ProjectError, match="needs features"):
        replay(strategies=("kcenter",))
