"""The loop with the reference executor in a container, held against the same loop in a local process."""

import numpy as np
import pytest

from ymir_nb.backend.building import build_executor
from ymir_nb.backend.executors import ExecutorBook
from ymir_nb.backend.jobs import Jobs
from ymir_nb.backend.verification import verify
from ymir_nb.backend.workspace import Workspace
from ymir_nb.demo import run_demo

FEW_STEPS = {"training": {"max_steps": 30, "n_checkpoints": 1}}


@pytest.mark.slow
def test_the_loop_in_a_container_is_the_loop_in_a_process(docker_client, torch_base, registered, tmp_path):
    contained = Workspace.init(tmp_path / "contained")
    executor = build_executor(ExecutorBook.of(contained), registered, base=torch_base)
    assert list(executor.templates) == ["training", "mining", "infer"]
    outcomes = [
        run_demo(tmp_path / folder, rounds=1, k=5, start=10, executor=name, parameters=FEW_STEPS)
        for folder, name in (("contained", registered), ("local", "tiny"))
    ]
    mined = [Workspace.open(tmp_path / name).dataset("demo-mined").images["image"] for name in ("contained", "local")]
    assert mined[0].tolist() == mined[1].tolist()
    numbers = [outcome.rounds.drop(columns="seconds").to_numpy(dtype=float) for outcome in outcomes]
    np.testing.assert_allclose(numbers[0], numbers[1], atol=1e-6)
    records = Jobs.of(contained).records()
    assert {record.state for record in records} == {"done"}
    assert {record.launch["digest"] for record in records} == {executor.digest}
    assert {str(record.launch["isolation"]) for record in records} == {"{}"}
    assert verify(executor, tmp_path / "verified", quick=True).ok
    left = docker_client.containers.list(all=True, filters={"label": "ymir-nb.job"})
    assert not [container for container in left if str(tmp_path) in container.labels["ymir-nb.job"]]
