"""Live code on the real engine: an image that fetches its program when it starts, as YMIR's do."""

import json
import subprocess
from pathlib import Path

import pytest

from ymir_nb.backend.executors import ExecutorBook
from ymir_nb.backend.jobs import Jobs
from ymir_nb.backend.training import train

AVERAGE = Path(__file__).resolve().parents[1] / "executors"
START = b"""set -e
value() { python3 -c "import yaml; print(yaml.safe_load(open('/in/config.yaml'))['$1'])"; }
git clone --quiet --filter=blob:none "$(value git_url)" /app
cd /app
git checkout --quiet "$(value git_branch)"
python3 start.py
"""


def git(folder, *words):
    who = ("-c", "user.name=a", "-c", "user.email=a@b.c")
    return subprocess.run(["git", *who, *words], cwd=folder, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def live(build_image, yaml_base, docker_client, workspace):
    if docker_client.containers.run(yaml_base, ["sh", "-c", "command -v git || true"], remove=True) == b"":
        pytest.skip("the base image has no git")
    manual = {f"img-man/{path.name}": path.read_bytes() for path in (AVERAGE / "average-man").iterdir()}
    manual["img-man/manifest.yaml"] = b"object_type: 2\nenable_livecode: true\n"
    lines = 'COPY img-man /img-man\nCOPY start.sh /usr/bin/start.sh\nCMD ["bash", "/usr/bin/start.sh"]'
    image = build_image("live", lines, manual | {"start.sh": START}, base=yaml_base)
    return ExecutorBook.of(workspace).add("live", image)


def test_live_code_is_fetched_on_the_host_pinned_and_run_without_a_network(live, workspace, make_dataset, tmp_path):
    workspace.save(make_dataset(4), "train", operation="import")
    workspace.save(make_dataset(3, start=10), "val", operation="import")
    repository = tmp_path / "code"
    repository.mkdir()
    git(repository, "init", "--quiet", "--initial-branch", "main")
    (repository / "start.py").write_bytes((AVERAGE / "average.py").read_bytes())
    git(repository, "add", ".")
    git(repository, "commit", "--quiet", "-m", "first")
    commit = git(repository, "rev-parse", "HEAD")
    given = {"git_url": str(repository), "git_branch": "main"}
    model = train(workspace, "dogs", train="train", val="val", executor="live", parameters=given)
    assert model.card["metric"] == 0.5
    record = Jobs.of(workspace).records()[0]
    code = json.loads((record.directory / "code.json").read_text())
    assert code == {"git_url": str(repository), "git_branch": "main", "commit": commit}
    assert record.launch["isolation"] == {}
