import contextlib
import json
import subprocess
import sys
import time

import nbformat
import psutil
import pytest

from ymir_nb.backend import notebooks, ops
from ymir_nb.backend.errors import PreflightFailed, ProjectError, ProjectNotFound, StepFailed, VersionNotFound
from ymir_nb.backend.evaluation import evaluate
from ymir_nb.backend.projects import STEPS, create_project, names, open_project
from ymir_nb.backend.rounds import TEMPLATES, folder, run_round, run_rounds
from ymir_nb.backend.steps import finish as finish_round
from ymir_nb.backend.steps import leaderboard, presets, run_step, run_until
from ymir_nb.backend.training import separate, train
from ymir_nb.backend.workspace import Workspace


def hashes(ws):
    """Every version of everything, by content."""
    return {
        (shelf, name, version.number): version.hash
        for shelf in ("datasets", "predictions", "models")
        for name in ws.store.names(shelf)
        for version in ws.store.versions(shelf, name)
    }


def finish(project, source="truth"):
    return run_until(project, "training", settings={"source": source})


def test_a_round_by_hand_merges_what_was_mined_and_trains_on_it(workspace, make_project, run, dvc):
    project = make_project()
    number = run_until(project, "mining")
    mined = leaderboard(project, number)
    assert len(mined.board) == 12
    assert mined.dataset.images["image"].tolist() == sorted(mined.board["image"][:3])
    assert finish(project) == 1
    table = project.to_frame()
    assert table["round"].tolist() == [0, 1]
    assert table["n_images"].tolist() == [4, 7]
    assert table["train"].tolist() == ["train@v1", "train@v2"]
    assert table["model"].tolist() == ["dogs@v1", "dogs@v2"]
    assert run("git", "status", "--porcelain", cwd=workspace.root) == ""
    assert "up to date" in dvc("status", cwd=workspace.root)


def test_a_second_round_mines_nothing_that_is_in_train_val_or_an_earlier_batch(workspace, make_project):
    project = make_project()
    finish(project)
    run_until(project, "mining")
    first, second = (workspace.dataset(project.result(n, "mining")["mined"]).images["image"] for n in (1, 2))
    gone = {*workspace.dataset("train@v2").images["image"], *workspace.dataset("val").images["image"], *first}
    assert len(second) == 3
    assert not gone & set(second)


def test_a_finished_step_is_not_run_twice(workspace, make_project):
    project = make_project()
    run_until(project, "mining")
    before, head = project.result(1, "mining"), workspace.store.git.head()
    assert run_step(project, "mining", number=1, settings={"k": 9}) == before
    assert workspace.store.git.head() == head


def test_steps_run_in_their_order_alone(make_project):
    project = make_project()
    with pytest.raises(ProjectError, match="next is round 0, training"):
        run_step(project, "mining", number=1)
    run_step(project, "training")
    with pytest.raises(ProjectError, match="next is round 1, prepare mining"):
        run_step(project, "training", number=1)
    with pytest.raises(ProjectError, match="no setting colour"):
        run_step(project, "prepare_mining", settings={"colour": 1})


def test_each_step_is_prefilled_from_the_one_before(make_project):
    project = make_project()
    run_until(project, "mining")
    assert presets(project, 1, "label") == {"mined": "dogs-mined@v1", "labels": ["dog"], "source": ""}
    assert presets(project, 1, "mining")["model"] == "dogs@v1"


def test_the_executors_own_mining_ranks_the_pool_too(make_project):
    project = make_project(strategy="executor")
    board = leaderboard(project, run_until(project, "mining")).board
    assert board["why"].unique().tolist() == ["scored by the executor"]
    assert board["score"].is_monotonic_decreasing
    assert len(board) == 12


def test_labelling_waits_for_a_source_and_a_source_must_know_the_images(workspace, make_project, make_dataset):
    project = make_project()
    run_until(project, "mining")
    with pytest.raises(ProjectError, match="have no labels yet"):
        run_step(project, "label")
    workspace.save(make_dataset(2, start=90), "others", operation="import")
    with pytest.raises(ProjectError, match="known by their bytes"):
        run_step(project, "label", settings={"source": "others"})


def test_a_pool_with_nothing_left_says_so(make_project):
    project = make_project(k=50)
    finish(project)
    with pytest.raises(ProjectError, match="nothing is left to mine"):
        run_step(project, "prepare_mining")


def test_case_28_images_in_train_and_val_stop_a_training_or_go_to_one_side(workspace, make_dataset):
    from dataclasses import replace

    train, val = (replace(make_dataset(4, start=start), ref=name) for start, name in ((0, "train@v1"), (3, "val@v1")))
    with pytest.raises(PreflightFailed, match=r"1 images stand in both train@v1 and val@v1: 3\.jpg"):
        separate(train, val)
    assert [len(side) for side in separate(train, val, overlap="train")] == [4, 3]
    assert [len(side) for side in separate(train, val, overlap="val")] == [3, 4]


def test_case_28_a_project_stops_at_the_overlap_before_anything_is_exported(workspace, make_project, make_dataset):
    project = make_project()
    workspace.save(ops.merge([workspace.dataset("train"), workspace.dataset("val")]), "train", operation="merge")
    with pytest.raises(ProjectError, match="stand in both"):
        project.edit(train="train")
    with pytest.raises(PreflightFailed, match="stand in both"):
        train(workspace, "dogs", train="train", val="val", executor="average")
    assert not (workspace.root / ".ymir" / "jobs").exists()
    project.edit(train="train", overlap="val")
    assert run_step(project, "training")["n_images"] == 4


def test_a_pool_that_was_labelled_all_along_answers_for_itself(workspace, make_project):
    project = make_project()
    workspace.save(workspace.dataset("truth"), "pool", operation="copy")
    assert not run_round(project).waiting
    assert project.to_frame()["n_images"].tolist() == [4, 7]


def test_finishing_needs_a_mined_round_and_never_starts_the_next(workspace, make_project):
    project = make_project()
    with pytest.raises(ProjectError, match="Mine first"):
        finish_round(project, "truth")
    run_until(project, "mining")
    with pytest.raises(VersionNotFound):
        finish_round(project, "nobody")
    finish_round(project, "truth")
    head = workspace.store.git.head()
    with pytest.raises(ProjectError, match="Round 1 is finished"):
        finish_round(project, "truth")
    assert workspace.store.git.head() == head


def test_an_oracle_that_is_not_there_is_told_before_anything_runs(make_project):
    project = make_project()
    with pytest.raises(VersionNotFound, match="nobody"):
        run_round(project, oracle="nobody")
    assert project.rounds == []
    with pytest.raises(ProjectError, match="0 rounds"):
        run_rounds(project, 0)


def test_images_left_unlabelled_are_told_of(workspace, make_project):
    project = make_project()
    run_until(project, "mining")
    mined = workspace.dataset(project.result(1, "mining")["mined"])
    workspace.save(ops.take(workspace.dataset("truth"), mined.images["image"][:2]), "half", operation="sample")
    assert "1 mined images have no label" in repr(run_round(project, oracle="half"))


def test_a_copy_begins_where_the_project_began(workspace, make_project):
    project = make_project()
    finish(project)
    assert workspace.version("train").number == 2
    assert project.copy("control").plan.train == "train@v1"


def test_evaluation_counts_only_what_was_predicted_on(workspace, make_project):
    project = make_project()
    result = run_step(project, "training")
    same, wider = (evaluate(workspace, result["predictions"], truth=truth) for truth in ("val", "truth"))
    assert wider.to_dict() == same.to_dict()
    with pytest.raises(ProjectError, match="nothing to hold them"):
        evaluate(workspace, result["predictions"], truth="pool")


def test_a_project_is_checked_when_it_is_made(workspace, make_project):
    make_project()
    base = {"train": "train", "val": "val", "pool": "pool"}
    for wrong, words in (
        ({"k": 0}, "k is 0"),
        ({"strategy": "luck"}, "strategy is 'luck'"),
        ({"target_map50": 1.5}, "target_map50"),
        ({"overlap": "both"}, "overlap"),
        ({"colour": 1}, "no setting colour"),
        ({"labels": ("dog", "DOG")}, "each once"),
        ({"parameters": {"cooking": {}}}, "not under cooking"),
        ({"val": "pool"}, "no labelled image"),
    ):
        with pytest.raises(ProjectError, match=words):
            create_project(workspace, "other", **{**base, **wrong})
    with pytest.raises(PreflightFailed, match="its template does not list them"):
        create_project(workspace, "other", **base, executor="average", parameters={"training": {"speed": 1}})
    with pytest.raises(PreflightFailed, match="must be a number"):
        create_project(
            workspace, "other", **base, executor="average", parameters={"training": {"idle_seconds": "many"}}
        )
    with pytest.raises(ProjectError, match="already"):
        create_project(workspace, "dogs", **base)
    assert names(workspace) == ["dogs"]


def test_a_project_can_be_edited_copied_and_deleted(workspace, make_project, run):
    project = make_project()
    assert project.edit(k=5, target_rounds=4).plan.k == 5
    other = project.copy("dogs-2")
    run_step(project, "training")
    with pytest.raises(ProjectError, match="labels are settled"):
        project.edit(labels=("cat",)) if workspace.labels.add("cat") else None
    assert (other.plan, other.rounds) == (project.plan, [])
    project.delete()
    with pytest.raises(ProjectNotFound, match="there is: dogs-2"):
        open_project(workspace, "dogs")
    assert run("git", "status", "--porcelain", cwd=workspace.root) == ""


def test_headless_and_by_hand_give_the_same_versions(workspace, make_project, tmp_path, run, dvc):
    project = make_project()
    run("git", "clone", "-q", workspace.root, tmp_path / "twin", cwd=tmp_path)
    (tmp_path / "twin" / ".dvc" / "cache").symlink_to(workspace.root / ".dvc" / "cache")
    twin = open_project(Workspace.open(tmp_path / "twin"), "dogs")
    finish(twin)
    outcome = run_round(project, oracle="truth")
    assert outcome.results["training"]["n_images"] == 7
    assert hashes(workspace) == hashes(twin.workspace)
    assert project.to_frame().drop(columns="seconds").equals(twin.to_frame().drop(columns="seconds"))
    assert run("git", "status", "--porcelain", cwd=workspace.root) == ""
    assert "up to date" in dvc("status", cwd=workspace.root)
    for step, stem in TEMPLATES.items():
        kept = nbformat.read(folder(project, 1) / f"{stem}.ipynb", as_version=4)
        assert kept.metadata.papermill.exception is None, step
        assert json.loads((folder(project, 1) / f"{stem}.json").read_text()) == project.result(1, step)


def test_without_an_oracle_a_round_stops_at_the_labels_and_goes_on_later(workspace, make_project):
    project = make_project()
    outcome = run_round(project)
    assert "ymir-nb export dogs-mined@v1" in outcome.waiting
    assert project.next_step() == {"round": 1, "step": "label"}
    assert not run_round(project, oracle="truth").waiting
    assert project.next_step() == {"round": 2, "step": "prepare_mining"}


def test_an_unknown_parameter_is_an_error_before_a_kernel_starts(make_project):
    project = make_project()
    with pytest.raises(ProjectError, match="takes speed"):
        run_round(project, oracle="truth", settings={"speed": 1})
    assert project.rounds == []


def test_case_69_parameters_reach_the_notebook_as_text_never_as_code(workspace, tmp_path):
    evil = '"; import os; os.system("touch pwned"); "'
    source = tmp_path / "t.ipynb"
    cells = [
        nbformat.v4.new_code_cell('word = ""  # any text\nresult = ""  # file', metadata={"tags": ["parameters"]}),
        nbformat.v4.new_code_cell('import ymir_nb as ym\nym.write_result(result, {"word": word})'),
    ]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=kernel), source)
    result = notebooks.run_notebook(source, tmp_path / "o.ipynb", parameters={"word": evil}, cwd=tmp_path)
    assert result == {"word": evil}
    assert not (tmp_path / "pwned").exists()


def test_a_failed_notebook_is_kept_marked_and_named(workspace, make_project):
    project = make_project(parameters={"training": {"idle_seconds": -1.0}})
    with pytest.raises(StepFailed, match=r"05_training stopped with JobFailed.*05_training\.ipynb"):
        run_round(project, oracle="truth")
    kept = nbformat.read(folder(project, 0) / "05_training.ipynb", as_version=4)
    assert kept.metadata.papermill.exception is True
    assert project.rounds == []
    assert workspace.store.git.run("status", "--porcelain") == b""


def kill_within(command, words, moment, *, whole_tree):
    """Start a command, wait until it announces a step and the moment has come, and kill it.

    Gives whether the moment came before the command's own end.
    """
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
    for line in process.stderr:
        if words in line:
            break
    while process.poll() is None and not moment():
        time.sleep(0.002)
    hit = process.poll() is None
    family = psutil.Process(process.pid).children(recursive=True) if hit and whole_tree else []
    for member in family:
        with contextlib.suppress(psutil.NoSuchProcess):
            member.kill()
    process.kill()
    process.wait()
    process.stderr.close()
    return hit


@pytest.mark.slow
@pytest.mark.parametrize("whole_tree", [True, False], ids=["with its kernel", "alone"])
def test_a_round_killed_in_each_step_ends_in_the_same_versions(workspace, make_project, tmp_path, run, dvc, whole_tree):
    """The process is killed once in every step, half-way through its work; nothing is done twice or lost."""
    idle = {kind: {"idle_seconds": 0.5} for kind in ("training", "infer")}
    project = make_project(parameters=idle)
    run("git", "clone", "-q", workspace.root, tmp_path / "twin", cwd=tmp_path)
    (tmp_path / "twin" / ".dvc" / "cache").symlink_to(workspace.root / ".dvc" / "cache")
    twin = open_project(Workspace.open(tmp_path / "twin"), "dogs")
    finish(twin)
    jobs, heads = workspace.root / ".ymir" / "jobs", workspace.root / ".git" / "logs" / "HEAD"
    command = [sys.executable, "-m", "ymir_nb", "-w", str(workspace.root), "round", "run", "dogs", "--oracle", "truth"]
    for number, step in ((0, "training"), *((1, step) for step in STEPS)):
        kind = {"training": "train-*", "mining": "infer-dogs-candidates*"}.get(step)
        known, size = set(jobs.glob("*")), heads.stat().st_size

        def moment(kind=kind, known=known, size=size):
            # A job has been started, or the step's dataset is committed and the step not yet recorded.
            return (
                bool(set(jobs.glob(f"{kind}/out/monitor.txt")) and set(jobs.glob(kind)) - known)
                if kind
                else (heads.stat().st_size > size)
            )

        assert kill_within(command, f"round {number}: {step.replace('_', ' ')}", moment, whole_tree=whole_tree), step
    while project.next_step()["round"] < 2:
        assert not run_round(project, oracle="truth").waiting
    assert hashes(workspace) == hashes(twin.workspace)
    assert run("git", "status", "--porcelain", cwd=workspace.root) == ""
    assert "up to date" in dvc("status", cwd=workspace.root)
