"""Results of jobs that nobody waited for, or that failed half-way."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import time

import numpy as np
import pytest

import ymir_nb as ym
from ymir_nb.backend import collecting
from ymir_nb.backend.errors import JobError, JobFailed, PreflightFailed, ProtocolViolated
from ymir_nb.backend.inference import infer, order_inference, run_inference
from ymir_nb.backend.jobs import Jobs
from ymir_nb.backend.models import open_model
from ymir_nb.backend.training import order_training, train


@pytest.fixture
def data(workspace, average, make_dataset):
    workspace.save(make_dataset(4), "train", operation="import")
    workspace.save(make_dataset(3, start=10), "val", operation="import")
    return workspace


def ended(jobs, job_id, *, seconds=60):
    deadline = time.monotonic() + seconds
    while (record := jobs.attach(job_id)).state in ("queued", "running"):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return record


def training(ws, **parameters):
    return order_training(ws, "dogs", train="train", val="val", executor="average", parameters=parameters)


def test_a_training_that_was_started_and_left_is_taken_in_by_whoever_looks_first(data):
    order = training(data, idle_seconds=5.0)
    started = Jobs.of(data).start(order)
    assert started.state in ("queued", "running")
    assert collecting.collect(data).empty
    ended(Jobs.of(data), order.id)
    assert Jobs.of(data).attach(order.id).result == ""
    assert collecting.collect(data)[["id", "result"]].values.tolist() == [[order.id, "dogs@v1"]]
    assert collecting.collect(data).empty
    assert ym.jobs(data).attach(order.id).result == "dogs@v1"
    assert "dogs@v1" in ym.jobs(data)._repr_html_()
    again = train(data, "dogs", train="train", val="val", executor="average", parameters={"idle_seconds": 5.0})
    assert again.ref == "dogs@v1"
    inference = order_inference(data, "val", "dogs", executor="average")
    Jobs.of(data).start(inference)
    ended(Jobs.of(data), inference.id)
    assert collecting.collect(data)["result"].tolist() == ["val.dogs@v1"]
    assert data.predictions("val.dogs@v1").n_boxes == 3


def test_five_processes_that_notice_the_end_make_one_version(data):
    order = training(data)
    Jobs.of(data).start(order)
    ended(Jobs.of(data), order.id)
    code = f"""
        from ymir_nb.backend.collecting import collect
        from ymir_nb.backend.workspace import Workspace
        collect(Workspace.open({str(data.root)!r}))
    """
    several = [subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)]) for _ in range(5)]
    assert [process.wait(60) for process in several] == [0] * 5
    assert [version.ref for version in data.store.versions("models", "dogs")] == ["dogs@v1"]
    assert data.store.versions("models", "dogs")[0].meta["job"] == order.id


def test_a_killed_ingestion_is_finished_by_the_next(data, monkeypatch):
    order = training(data)
    Jobs.of(data).start(order)
    ended(Jobs.of(data), order.id)
    code = f"""
        import os
        from ymir_nb.backend import jobs
        from ymir_nb.backend.collecting import collect
        from ymir_nb.backend.workspace import Workspace
        jobs.Jobs._update = lambda *_: os.kill(os.getpid(), 9)
        collect(Workspace.open({str(data.root)!r}))
    """
    assert subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=False).returncode == -signal.SIGKILL
    assert data.store.names("models") == ["dogs"]
    assert collecting.collect(data)["result"].tolist() == ["dogs@v1"]


def test_a_result_that_cannot_be_taken_in_is_told_and_left(data):
    order = training(data)
    Jobs.of(data).start(order)
    record = ended(Jobs.of(data), order.id)
    (record.out_dir / "models/only/means.json").unlink()
    told = collecting.collect(data)
    assert told["result"].tolist() == [""]
    assert "means.json" in told["problem"][0]
    assert Jobs.of(data).attach(order.id).state == "failed"
    assert data.store.names("models") == []


def test_the_model_of_a_training_that_failed_at_its_end_can_be_kept(data):
    with pytest.raises(JobFailed, match="jobs salvage") as caught:
        train(data, "dogs", train="train", val="val", executor="average", parameters={"crash_after": "train"})
    job_id = str(caught.value).rpartition(" ")[2]
    kept = collecting.salvage(data, job_id)
    assert (kept.ref, kept.card["metric"]) == ("dogs@v1", 0.5)
    assert data.store.versions("models", "dogs")[0].meta["operation"] == "salvage"
    assert open_model(data, "dogs").ref == "dogs@v1"


def test_what_left_nothing_or_goes_on_cannot_be_salvaged(data):
    order = training(data, idle_seconds=600)
    jobs = Jobs.of(data)
    jobs.start(order)
    with pytest.raises(JobError, match="is running"):
        collecting.salvage(data, order.id)
    jobs.cancel(order.id)
    with pytest.raises(JobError, match="left no model"):
        collecting.salvage(data, order.id)


def test_a_cancelled_job_is_tried_again_with_the_inputs_that_it_had(data):
    order = training(data, idle_seconds=600)
    jobs = Jobs.of(data)
    jobs.start(order)
    with pytest.raises(JobError, match="nothing to try again"):
        jobs.retry(order.id)
    assert jobs.cancel(order.id).state == "cancelled"
    record = jobs.attach(order.id)
    config = record.directory / "in/config.yaml"
    config.write_text(config.read_text().replace("idle_seconds: 600", "idle_seconds: 0"))
    assert jobs.retry(order.id).state in ("queued", "running", "done")
    assert ended(jobs, order.id).state == "done"
    assert (jobs.directory / ".previous" / order.id / "exit.json").exists()
    assert collecting.collect(data)["result"].tolist() == ["dogs@v1"]
    with pytest.raises(JobError, match="is done"):
        jobs.retry(order.id)


def test_case_45_after_a_reboot_a_job_is_interrupted_and_can_be_tried_again(data):
    order = training(data, idle_seconds=600)
    jobs = Jobs.of(data)
    jobs.start(order)
    run_file = jobs.directory / order.id / "run.json"
    run = json.loads(run_file.read_text())
    os.kill(run["supervisor"]["pid"], signal.SIGKILL)
    # What a machine that was switched off leaves: ids of processes that are others now.
    run["supervisor"] = {"pid": os.getpid(), "identity": "an-earlier-boot:1"}
    run_file.write_text(json.dumps(run))
    assert jobs.attach(order.id).state == "interrupted"
    assert jobs.retry(order.id).state in ("queued", "running")
    assert jobs.cancel(order.id).state == "cancelled"


def test_a_job_that_says_nothing_is_told_to_be_silent(data):
    order = training(data, idle_seconds=600)
    jobs = Jobs.of(data)
    jobs.start(order)
    record = jobs.attach(order.id)
    assert record.message == ""
    job_file, run_file = record.directory / "job.json", record.directory / "run.json"
    stored, run = json.loads(job_file.read_text()), json.loads(run_file.read_text())
    job_file.write_text(json.dumps(stored | {"created": stored["created"] - 3000}))
    run_file.write_text(json.dumps(run | {"started": run["started"] - 3000}))
    for path in (record.log_path, record.out_dir / "monitor.txt"):
        if path.exists():
            os.utime(path, (0, time.time() - 2700))
    assert jobs.attach(order.id).message == "no word from it for 45 minutes"
    record.log_path.write_text("here I am")
    assert jobs.attach(order.id).message == ""
    jobs.cancel(order.id)


def test_a_command_of_the_users_is_told_of_the_end(data, tmp_path, monkeypatch):
    told = tmp_path / "told; touch x"
    code = f"import os; open({str(told)!r}, 'w').write(os.environ['YMIR_JOB'] + ' ' + os.environ['YMIR_JOB_CODE'])"
    monkeypatch.setenv("YMIR_NB_NOTIFY", f'{sys.executable} -c "{code}"')
    order = training(data)
    Jobs.of(data).run(order)
    deadline = time.monotonic() + 10
    while not told.exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert told.read_text() == f"{order.id} 0"


def test_metrics_are_read_while_an_executor_trains(data):
    order = training(data)
    jobs = Jobs.of(data)
    jobs.run(order)
    assert jobs.metrics(order.id).columns.tolist() == ["run", "tag", "step", "wall_time", "value"]


def test_the_command_starts_leaves_and_attaches(data, run):
    def call(*words):
        return json.loads(run(sys.executable, "-m", "ymir_nb", *words, "--json", cwd=data.root))

    options = ("--train", "train", "--val", "val", "--executor", "average")
    started = call("train", "dogs", *options, "--detach")
    assert started["state"] in ("queued", "running", "done")
    assert call("jobs", "attach", started["id"])["result"] == "dogs@v1"
    assert call("jobs", "list")[0]["result"] == "dogs@v1"
    assert call("jobs", "sweep") == {"ended": []}


def test_a_stage_of_a_model_is_used_where_it_is_named(data):
    parameters = {"n_stages": 2}
    train(data, "dogs", train="train", val="val", executor="average", parameters=parameters)
    stages = open_model(data, "dogs").stages["stage"].tolist()
    assert stages == ["first", "only"]
    whole, early = (order_inference(data, "val", ref, executor="average") for ref in ("dogs", "dogs@v1:first"))
    assert whole.id != early.id
    assert (whole.task.stage, early.task.stage) == ("", "first")
    assert order_inference(data, "val", "dogs:first", executor="average").asked["arguments"]["model"] == "dogs@v1:first"
    Jobs.of(data).run(early)
    assert "first/means.json" in (Jobs.of(data).directory / early.id / "in/config.yaml").read_text()
    again = order_training(data, "dogs", train="train", val="val", executor="average", pretrained="dogs@v1:first")
    assert again.task.stage == "first"


def test_case_41_images_that_a_result_leaves_out_fail_it_unless_the_executor_may(data):
    train(data, "dogs", train="train", val="val", executor="average")
    with pytest.raises(ProtocolViolated, match="1 of 3 candidates are not named"):
        infer(data, "val", "dogs", parameters={"n_left_out": 1})
    given = {"n_left_out": 1, "strays": "report"}
    found = run_inference(data, "val", "dogs", mining=True, parameters={"infer": given, "mining": given})
    assert (len(found.predictions), found.predictions.n_boxes, len(found.scores)) == (3, 2, 2)
    notes = data.version(f"predictions/{found.predictions.ref}").meta["notes"]
    assert notes[0].startswith("1 of 3 candidates are not named")
    assert "strays" not in (Jobs.of(data).records()[0].directory / "in/config.yaml").read_text()
    with pytest.raises(PreflightFailed, match="strays"):
        infer(data, "val", "dogs", parameters={"strays": "ignore"})


def test_images_are_rescaled_for_the_executor_and_its_boxes_scaled_back(data):
    train(data, "dogs", train="train", val="val", executor="average")
    usual = infer(data, "val", "dogs").annotations.sort_values("image")
    given = {"preprocess": {"longside_resize": {"dest_size": 80}}}  # twice as large as they are
    halved = infer(data, "val", "dogs", parameters=given).annotations.sort_values("image")
    np.testing.assert_allclose(halved[["x1", "x2"]], usual[["x1", "x2"]] / 2)
