"""Executors' images on the real engine: looked into, pinned, built, and run; and the page that tells how."""

import hashlib
import io
import json
import os
import re
import subprocess
import sys
import tarfile
import uuid
import zipfile
from pathlib import Path

import pytest

from ymir_nb.backend.building import build_executor
from ymir_nb.backend.errors import JobError, JobFailed, PreflightFailed
from ymir_nb.backend.executors import ExecutorBook
from ymir_nb.backend.jobs import Jobs
from ymir_nb.backend.runners import RUNNERS
from ymir_nb.backend.runners.engine import ImageMissing

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "README.md").read_text(encoding="utf-8").split("## Wrap a trainer of your own")[1].split("\n## ")[0]
EPOCHS = b"epochs: 3  # rounds over the images\n"
START = 'CMD ["/start"]'
FILES = {"img-man/training-template.yaml": EPOCHS, "start": b""}


@pytest.fixture
def book(workspace, docker_client):
    return ExecutorBook.of(workspace)


@pytest.fixture
def probe(build_image, request):
    """Build an image with nothing in it but what a test puts there."""

    def make(lines: str, files: dict[str, bytes] | None = None, *, name: str = "") -> str:
        name = name or re.sub(r"[^a-z0-9]+", "-", request.node.name.lower())[:80].strip("-")
        return build_image(name, lines, files, base="scratch")

    return make


# What an image says of itself


def test_an_image_is_pinned_and_its_manual_read_without_running_it(book, probe, docker_client, workspace):
    files = {
        "img-man/training-template.yaml": EPOCHS,
        "img-man/manifest.yaml": b"object_type: 2\nenable_livecode: true\n",
        "img-man/code-access.yaml": b"git_url: https://example.org/x.git\n",
        "img-man/readme.md": b"# What it is for\n",
        "start": b"",
    }
    name = probe(f"COPY img-man /img-man\nCOPY start /start\n{START}", files)
    executor = book.add("mine", name)
    assert docker_client.containers.list(all=True, filters={"ancestor": name}) == []
    assert (executor.image, executor.digest) == (name, docker_client.images.get(name).id)
    assert executor.parameters("training").iloc[0].tolist() == ["epochs", "number", 3, "rounds over the images"]
    assert (executor.manual.livecode, executor.manual.readme) == (True, "# What it is for")
    launch = executor.launch(executor.config("training"))
    assert (launch.runner, launch.command, launch.digest) == ("docker", (), executor.digest)
    assert book.to_frame().set_index("name").loc["mine", "digest"] == executor.digest[:19]
    assert executor.digest in workspace.store.git.run("show", "HEAD:executors.yaml").decode()


def test_templates_of_several_object_types_are_read_out_of_their_folders(book, probe):
    files = {
        "img-man/manifest.yaml": b"object_type: [2, 4]",
        "img-man/det/training-template.yaml": EPOCHS,
        "img-man/instance-seg/infer-template.yaml": b"conf: 1",
        "start": b"",
    }
    name = probe(f"COPY img-man /img-man\nCOPY start /start\n{START}", files)
    assert list(book.add("both", name).templates) == ["training"]
    other = book.add("both", name, object_type=4)
    assert (other.object_type, list(other.templates)) == (4, ["infer"])


def test_a_manual_whose_files_are_links_is_read(book, build_image):
    lines = (
        "COPY img-man /opt/man\nRUN ln -s /opt/man /img-man && ln -s det.yaml /opt/man/training-template.yaml\n"
        f"COPY start /start\n{START}"
    )
    name = build_image("links", lines, {"img-man/det.yaml": EPOCHS, "start": b""})
    assert book.add("mine", name).templates == {"training": {"epochs": 3}}
    name = build_image(
        "strays",
        f"RUN mkdir /img-man && ln -s /etc/passwd /img-man/infer-template.yaml\nCOPY start /start\n{START}",
        FILES,
    )
    with pytest.raises(PreflightFailed, match="is a link to"):
        book.add("mine", name)


def test_case_39_an_image_that_is_not_there_is_refused_with_both_remedies(book):
    with pytest.raises(ImageMissing, match=r"docker pull nobody/no-such-image.*If .* is a local command"):
        book.add("mine", "nobody/no-such-image")


def test_case_39_an_image_that_cannot_run_or_is_no_executor_is_not_added(book, probe):
    with pytest.raises(PreflightFailed, match="has no start command"):
        book.add("mine", probe("COPY img-man /img-man", FILES, name="idle"))
    with pytest.raises(PreflightFailed, match=r"no folder /img-man, so it is no executor.*COPY img-man /img-man"):
        book.add("mine", probe(f"COPY start /start\n{START}", FILES, name="plain"))
    with pytest.raises(PreflightFailed, match=r"img-man holds no template"):
        book.add("mine", probe(f"COPY start /img-man/x\nCOPY start /start\n{START}", FILES, name="bare"))
    broken = {"img-man/training-template.yaml": b"a: [1", "start": b""}
    with pytest.raises(PreflightFailed, match=r"training-template\.yaml is no YAML"):
        book.add("mine", probe(f"COPY img-man /img-man\nCOPY start /start\n{START}", broken, name="broken"))
    assert list(book.read()) == ["tiny"]


def test_case_39_an_image_for_another_machine_is_not_added(book, docker_client):
    tag = f"ymir-nb-test-foreign:{uuid.uuid4().hex[:8]}"
    layer = b"\0" * 1024
    config = {"architecture": "s390x", "os": "linux", "config": {"Cmd": ["/start"]}}
    config["rootfs"] = {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}"]}
    manifest = [{"Config": "config.json", "RepoTags": [tag], "Layers": ["layer.tar"]}]
    files = {"layer.tar": layer, "config.json": json.dumps(config), "manifest.json": json.dumps(manifest)}
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for name, text in files.items():
            data = text.encode() if isinstance(text, str) else text
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    docker_client.images.load(packed.getvalue())
    try:
        with pytest.raises(PreflightFailed, match="is built for s390x, and this engine runs"):
            book.add("mine", tag)
    finally:
        docker_client.images.remove(tag, force=True)


def test_case_39_a_changed_image_trains_nothing_until_it_is_added_again(book, probe, workspace, make_dataset):
    import ymir_nb as ym

    workspace.save(make_dataset(3), "train", operation="import")
    workspace.save(make_dataset(2, start=3), "val", operation="import")
    lines = f"COPY img-man /img-man\nCOPY start /start\n{START}"
    name = probe(lines, FILES)
    former = book.add("mine", name)
    probe(lines, FILES | {"img-man/training-template.yaml": b"epochs: 4\n"})
    with pytest.raises(PreflightFailed, match=r"when it was registered\. Look at what changed.*executor add"):
        ym.train(workspace, "first", train="train", val="val", executor="mine")
    assert Jobs.of(workspace).records() == []
    assert not list((workspace.root / ".ymir" / "jobs").glob("*/in"))
    now = book.add("mine", name)
    assert now.changes(former) == [
        f"digest: {former.digest[:19]} -> {now.digest[:19]}",
        "training, epochs: 3 -> 4",
    ]


# What is built


def test_a_build_that_fails_says_where_and_registers_nothing(book, tmp_path, base_image, registered):
    (tmp_path / "Dockerfile").write_text("ARG BASE_IMAGE\nFROM $BASE_IMAGE\nRUN echo so far && no-such-program\n")
    said = []
    with pytest.raises(JobFailed) as caught:
        build_executor(book, registered, source=tmp_path, base=base_image, say=said.append)
    text = str(caught.value)
    assert "RUN echo so far && no-such-program" in text
    assert "returned a non-zero code: 127" in text
    assert "no-such-program: not found" in text
    assert "so far" in said
    assert registered not in book.read()
    with pytest.raises(JobFailed, match=r"docker pull.*--base IMAGE"):
        build_executor(book, registered, source=tmp_path, base="localhost:1/no-such-base")
    (tmp_path / "Dockerfile").write_text("FROM ymir-nb/no-such-base\nNONSENSE\n")
    with pytest.raises(JobError, match="unknown instruction: NONSENSE"):
        build_executor(book, registered, source=tmp_path)


def test_a_build_without_a_network_installs_from_wheels(book, tmp_path, yaml_base, registered):
    from ymir_nb.backend.building import start_own

    own = start_own(tmp_path / "own")
    (own / "requirements.txt").write_text("pyyaml\nlittle-thing==1.0\n")
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    with zipfile.ZipFile(wheels / "little_thing-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("little_thing.py", "")
        wheel.writestr(
            "little_thing-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: little-thing\nVersion: 1.0\n"
        )
        wheel.writestr(
            "little_thing-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr("little_thing-1.0.dist-info/RECORD", "")
    said = []
    executor = build_executor(book, registered, source=own, base=yaml_base, wheels=wheels, say=said.append)
    assert executor.image == f"ymir-nb/{registered}:{executor.digest[7:19]}"
    assert any("Successfully installed little-thing-1.0" in line for line in said)
    (own / "app" / "trainer.py").write_text("")
    other = build_executor(book, registered, source=own, base=yaml_base, wheels=wheels)
    assert other.digest != executor.digest
    RUNNERS["docker"].preflight(executor.launch({}))  # what was registered before is there still


# The page


def blocks() -> list[tuple[str, str]]:
    """Give the page's code, as (language, text)."""
    return re.findall(r"^```(\w*)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def test_the_page_holds_what_this_test_follows():
    assert [language for language, _ in blocks()] == ["", "python", "", "", ""]
    commands = re.findall(r"^ymir-nb (\w+(?: \w+)?)", "".join(text for _, text in blocks()), re.MULTILINE)
    assert {"executor new", "executor build", "executor show", "executor verify"} <= set(commands)


@pytest.mark.slow
def test_the_page_on_wrapping_a_trainer_works_as_it_stands(workspace, make_dataset, yaml_base, registered):
    workspace.save(make_dataset(4), "train", operation="import")
    workspace.save(make_dataset(2, start=4), "val", operation="import")
    workspace.save(make_dataset(3, start=6, labelled=False), "pool", operation="import")
    env = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    said = ""
    for language, code in blocks():
        own = code.replace("my-trainer", registered)  # so that nobody's image is replaced
        if language == "python":
            (workspace.root / registered / "app" / "trainer.py").write_text(own)
            continue
        words = own.replace("python:3.11-slim", yaml_base)
        done = subprocess.run(
            ["bash", "-euxc", words], cwd=workspace.root, env=env, capture_output=True, text=True, check=False
        )
        said += done.stdout + done.stderr
        assert done.returncode == 0, said
    assert re.search(r"ap50 +[01]\.\d+", said), said
    assert len(re.findall(r"^ok +\w+ +names its failure", said, re.MULTILINE)) >= 2, said
    assert "isolation: none -> network, memory_bytes=8589934592" in said
    executor = ExecutorBook.of(workspace).get(registered)
    assert executor.isolation.settings() == {"network": True, "memory_bytes": 8 << 30}
    assert len(workspace.dataset("picked").images) == 2
    assert {record.state for record in Jobs.of(workspace).records()} == {"done"}
