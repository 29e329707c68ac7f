"""The loop with the reference executor in a container, held against the same loop in a local process.

The image is built from the wheels that pip downloads for the versions of this Python; without a network it is skipped.
"""

import subprocess
import sys

import numpy as np
import pytest

from ymir_nb.backend.building import REFERENCE, REQUIREMENTS, _pinned, build_executor
from ymir_nb.backend.executors import ExecutorBook
from ymir_nb.backend.jobs import Jobs
from ymir_nb.backend.workspace import Workspace
from ymir_nb.demo import run_demo

FEW_STEPS = {"training": {"max_steps": 30, "n_checkpoints": 1}}


@pytest.fixture(scope="session")
def wheels(tmp_path_factory):
    """The reference executor's packages as wheels."""
    directory = tmp_path_factory.mktemp("wheels")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--dest", str(directory), *_pinned(REQUIREMENTS)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"the reference executor's packages cannot be had here: {done.stderr.strip()[-300:]}")
    return directory


@pytest.mark.slow
def test_the_loop_in_a_container_is_the_loop_in_a_process(engine, base_image, wheels, tmp_path):
    ws = Workspace.init(tmp_path / "contained")
    executor = build_executor(ExecutorBook.of(ws), base=base_image, wheels=wheels)
    outcomes = [
        run_demo(folder, rounds=1, k=5, start=10, executor=name, parameters=FEW_STEPS)
        for folder, name in ((tmp_path / "contained", REFERENCE), (tmp_path / "local", "tiny"))
    ]
    contained, local = (Workspace.open(outcome.workspace) for outcome in outcomes)
    mined = [ws.dataset("demo-mined").images["image"].tolist() for ws in (contained, local)]
    assert mined[0] == mined[1]
    numbers = [outcome.rounds.drop(columns="seconds").to_numpy(dtype=float) for outcome in outcomes]
    np.testing.assert_allclose(numbers[0], numbers[1], atol=1e-6)
    jobs = Jobs.of(contained).records()
    assert {job.launch["digest"] for job in jobs} == {executor.digest}
    assert {job.state for job in jobs} == {"done"}
    assert not engine.containers.list(all=True, filters={"label": f"ymir-nb.jobs={Jobs.of(contained).directory}"})
