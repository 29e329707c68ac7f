"""Executors of a workspace: what they say of themselves, what may be set, and how they are recorded."""

import gc
import io
import json
import re
import sys
import tarfile
import tomllib
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from ymir_nb.backend import building
from ymir_nb.backend.errors import ExecutorNotFound, JobFailed, PreflightFailed
from ymir_nb.backend.executors import Executor, ExecutorBook, builtin
from ymir_nb.backend.manual_files import MAX_ARCHIVE_BYTES, MAX_FILE_BYTES, MAX_FILES, read_archive, read_folder
from ymir_nb.backend.manuals import RESERVED, Manual, parse_template, read_manual
from ymir_nb.backend.parameters import bytes_of
from ymir_nb.backend.pinned_images import is_image_name
from ymir_nb.backend.public_executors import public_executors
from ymir_nb.backend.results import read_infer
from ymir_nb.backend.tables import images_frame
from ymir_nb.cli import main

ROOT = Path(__file__).resolve().parents[2]
MAN = ROOT / "tests" / "executors" / "average-man"
TEMPLATE = ROOT / "templates" / "executor"
INFER = {"infer-template.yaml": b"conf: 0.5"}


def manual(**files: str) -> Manual:
    """Read a manual whose files are named `infer_template` and the like."""
    held = {f"{name.replace('_', '-')}.yaml": text.encode() for name, text in files.items()}
    return read_manual(held, where="it")


def tar(*members: tuple[str, bytes | str], kind: bytes = tarfile.SYMTYPE) -> bytes:
    """Make an archive: bytes are a file, text is where a link leads."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for name, content in members:
            member = tarfile.TarInfo(name)
            if isinstance(content, str):
                member.type, member.linkname = kind, content
                archive.addfile(member)
            else:
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
    return packed.getvalue()


def unpack(data: bytes, *, size: int = 1000) -> dict[str, bytes]:
    return read_archive((data[i : i + size] for i in range(0, len(data), size)), where="image 'it', /img-man")


# What /img-man says


def test_a_template_is_there_where_the_function_is_offered():
    read = manual(infer_template="conf: 0.5", mining_template="")
    assert list(read.templates) == ["mining", "infer"]
    assert read.templates["mining"] == {}
    assert (read.object_type, read.livecode, read.code) == (2, False, {})


def test_the_comment_behind_a_parameter_is_its_help():
    text = (
        "a: 1 # one\nb: '# no' # yes\nc:   # nothing given\nd: [1, 2]  ## a list\n"
        "e: 'two\n  lines'\n# of f\nf: |\n  x\n# g\ng: 1"
    )
    defaults, helps = parse_template(text, where="it")
    assert defaults == {"a": 1, "b": "# no", "c": None, "d": [1, 2], "e": "two lines", "f": "x\n", "g": 1}
    assert helps == {"a": "one", "b": "yes", "c": "nothing given", "d": "a list"}


def test_what_the_caller_fills_in_is_no_parameter():
    read = manual(training_template="\n".join(f"{key}: x" for key in sorted(RESERVED)) + "\nepochs: 3")
    assert read.templates == {"training": {"epochs": 3}}


def test_an_executor_of_several_object_types_has_templates_of_its_own_for_each():
    files = {
        "manifest.yaml": b"object_type: [2, 3, 4]\nenable_livecode: true",
        "det/training-template.yaml": b"model: yolo",
        "instance-seg/training-template.yaml": b"model: mask",
        "instance-seg/infer-template.yaml": b"conf: 1",
        "code-access.yaml": b"git_url: https://example.org/x.git\ngit_branch: main\nother: 1",
        "readme.md": b"Reads \x00well.\n",
    }
    read = read_manual(files, where="it")
    assert (read.object_type, read.object_types) == (2, (2, 4))
    assert read.templates == {"training": {"model": "yolo"}}
    assert (read.livecode, read.code) == (True, {"git_url": "https://example.org/x.git", "git_branch": "main"})
    assert read.readme == "Reads well."
    assert list(read_manual(files, where="it", object_type=4).templates) == ["training", "infer"]
    with pytest.raises(PreflightFailed, match=r"object type 3; it offers 2 \(det\), 4 \(instance-seg\)"):
        read_manual(files, where="it", object_type=3)
    assert Executor("it", ("x",), read).config("training")["object_type"] == 2


def test_a_manual_without_any_template_is_refused():
    with pytest.raises(PreflightFailed, match=r"one or more of training-template\.yaml"):
        manual(manifest="object_type: 2")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("!!python/object/apply:os.system [echo]", "is no YAML"),
        ("a: !!python/name:os.system", "is no YAML"),
        ("a: &x [1, 1]\nb: [*x, *x]", "anchors and aliases"),
        ("- a\n- b", "flat mapping"),
        ("a: 2020-01-02", "a is datetime.date"),
        ("a: .nan", "a is nan"),
        ("on: 1", "name True is no text"),
        ("a: [1", "is no YAML"),
        ("a: 2020-99-99", "is no YAML"),
        ("a: " + "[" * 400, "is no YAML"),
        ("a: " + "[" * 5000, "over 500 lists"),
        ("a: " + "9" * 5000, "is no YAML"),
        ("a: \x07", "is no YAML"),
    ],
)
def test_case_48_a_template_or_manifest_is_plain_yaml_or_refused(text, words):
    with pytest.raises(PreflightFailed, match=re.escape(words)):
        manual(infer_template=text)
    with pytest.raises(PreflightFailed, match=re.escape(words)):
        manual(infer_template="a: 1", manifest=text)


@pytest.mark.parametrize("kind", ["det", "true", "7", "[2, 9]", "[]", "{a: 1}"])
def test_an_object_type_that_is_none_is_refused_with_those_that_are(kind):
    with pytest.raises(PreflightFailed, match=r"object_type is .*must be of 2 \(det\), 3"):
        manual(infer_template="a: 1", manifest=f"object_type: {kind}")


def test_text_that_is_no_utf8_is_refused():
    with pytest.raises(PreflightFailed, match=r"infer-template.yaml is no text in UTF-8"):
        read_manual({"infer-template.yaml": b"a: \xff"}, where="it")


def test_only_files_that_mean_something_are_taken_out_of_an_archive():
    data = tar(("./infer-template.yaml", b"a: 1"), ("../infer-template.yaml", b"b: 1"), ("/etc/passwd", b"x"))
    assert unpack(data) == {"infer-template.yaml": b"a: 1"}


def test_a_link_within_an_archive_is_followed_and_one_out_of_it_refused():
    inside = tar(("det.yaml", b"a: 1"), ("infer-template.yaml", "./det.yaml"))
    assert unpack(inside) == {"infer-template.yaml": b"a: 1"}
    hard = tar(("det.yaml", b"a: 1"), ("infer-template.yaml", "det.yaml"), kind=tarfile.LNKTYPE)
    assert unpack(hard) == {"infer-template.yaml": b"a: 1"}
    for target in ("/etc/passwd", "../../etc/passwd", "infer-template.yaml"):
        with pytest.raises(PreflightFailed, match=r"infer-template\.yaml is a link to"):
            unpack(tar(("infer-template.yaml", target)))


def test_an_archive_is_read_within_bounds():
    with pytest.raises(PreflightFailed, match="over 64 KiB"):
        unpack(tar(("infer-template.yaml", b"#" * (MAX_FILE_BYTES + 1))), size=1 << 16)
    assert unpack(tar(("docs.bin", b"#" * (MAX_FILE_BYTES + 1)), *INFER.items()), size=1 << 16) == INFER
    with pytest.raises(PreflightFailed, match="over 64 MiB"):
        unpack(tar(("docs.bin", bytes(MAX_ARCHIVE_BYTES))), size=1 << 20)
    with pytest.raises(PreflightFailed, match="over 1000 files"):
        unpack(tar(*((f"{n}.txt", b"") for n in range(MAX_FILES + 2))), size=1 << 16)
    with pytest.raises(PreflightFailed, match="cannot be read"):
        unpack(tar(("infer-template.yaml", b"a: 1" * 500))[:1000])
    with pytest.raises(PreflightFailed, match="cannot be read"):
        unpack(b"no archive at all" * 100)


def test_a_folder_is_read_within_bounds(tmp_path):
    (tmp_path / "infer-template.yaml").write_text("#" * (MAX_FILE_BYTES + 1))
    with pytest.raises(PreflightFailed, match="over 64 KiB"):
        read_folder(tmp_path)
    with pytest.raises(PreflightFailed, match="is no folder"):
        read_folder(tmp_path / "none")


# What may be set


def test_parameters_are_listed_with_type_default_and_help():
    executor = Executor(
        "it", ("x",), manual(training_template="n: 3 # how many\nrate: 1e-3\nfast: true\nname: a\nmore:")
    )
    rows = executor.parameters("training").set_index("name")
    assert rows.loc["n"].tolist() == ["number", 3, "how many"]
    assert rows["type"].tolist()[:5] == ["number", "number", "true/false", "text", "any"]
    assert rows.index.tolist()[5:] == ["gpu_count", "shm_size", "export_format", "preprocess"]
    assert not set(rows.index) & RESERVED
    with pytest.raises(PreflightFailed, match="offers training, not infer"):
        executor.parameters("infer")


def test_what_every_executor_takes_can_be_set_though_its_template_is_silent():
    executor = Executor("it", ("x",), manual(training_template="epochs: 3", infer_template="conf: 1"))
    assert executor.config("training") == {"epochs": 3}
    given_ = {"gpu_count": 2, "shm_size": "2G", "export_format": "voc:raw"}
    assert executor.config("training", given_) == {"epochs": 3, **given_}
    launch = executor.launch(executor.config("training", given_))
    assert (launch.n_gpus, launch.shm_bytes) == (2, 2 << 30)
    with pytest.raises(PreflightFailed, match="export_format cannot be set"):
        executor.config("infer", {"export_format": "voc:raw"})


def test_live_code_can_be_set_where_the_executor_knows_it_and_never_by_itself():
    code = {"git_url": "https://example.org/x.git"}
    executor = Executor("it", ("x",), Manual({"infer": {}}, livecode=True, code=code))
    assert executor.config("infer") == {}
    assert executor.config("infer", {"git_url": "/srv/x.git"}) == {"git_url": "/srv/x.git"}
    shown = executor.parameters("infer").set_index("name")
    assert "it suggests https://example.org/x.git" in shown.loc["git_url", "help"]
    with pytest.raises(PreflightFailed, match="git_url cannot be set"):
        Executor("it", ("x",), Manual({"infer": {}})).config("infer", {"git_url": "/srv/x.git"})


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("task_id", "x", "task_id are set by ymir-nb itself"),
        ("class_names", ["dog"], "set by ymir-nb itself"),
        ("speed", 1, "its template does not list them"),
        ("n", "many", "must be a number, such as its default 3"),
        ("n", True, "must be a number"),
        ("rate", "fast", "must be a number, such as its default '1e-3'"),
        ("fast", 1, "must be true or false"),
        ("name", 5, "must be text"),
        ("name", [5], "must be text"),
    ],
)
def test_a_parameter_that_cannot_be_set_is_refused(name, value, words):
    executor = Executor("it", ("x",), manual(training_template="n: 3\nrate: 1e-3\nfast: true\nname: a\nmore:"))
    with pytest.raises(PreflightFailed, match=re.escape(words)):
        executor.config("training", {name: value})
    assert executor.config("training", {"rate": 0.5, "n": 2.5, "more": [1], "name": ""})["rate"] == 0.5


@pytest.mark.parametrize(("size", "n"), [("16G", 16 << 30), ("512m", 512 << 20), (7, 7), (None, 0), ("1 KiB", 1024)])
def test_sizes_are_read_as_docker_does(size, n):
    assert bytes_of(size, what="it") == n


# What is recorded


def test_a_template_is_recorded_as_the_text_that_it_is(workspace):
    book = ExecutorBook.of(workspace)
    book.add("mine", [sys.executable, "x.py"], templates=building.template_dir() / "img-man")
    text = (workspace.root / "executors.yaml").read_text()
    assert "        epochs: 10               # rounds over the images\n" in text
    assert book.get("mine").parameters("training").set_index("name").loc["epochs", "help"] == "rounds over the images"
    assert not workspace.store.git.run("status", "--porcelain")


@given(st.dictionaries(st.text(min_size=1), st.none() | st.booleans() | st.integers() | st.text(), max_size=5))
def test_a_recorded_template_says_what_the_file_said(values):
    data = yaml.safe_dump(values, allow_unicode=True).encode()
    read = read_manual({"training-template.yaml": data}, where="it")
    again = Manual.from_row(yaml.safe_load(yaml.safe_dump(read.to_row())), where="it")
    expected = {key: value for key, value in yaml.safe_load(data).items() if key not in RESERVED}
    assert again.templates == read.templates == {"training": expected}


def test_records_of_before_are_read(workspace):
    row = {"command": ["python", "x.py"], "object_type": 2, "runner": "process", "templates": {"infer": {"conf": 1}}}
    (workspace.root / "executors.yaml").write_text(yaml.safe_dump({"executors": {"old": row}}))
    old = ExecutorBook.of(workspace).get("old")
    assert (old.command, old.runner, old.templates) == (("python", "x.py"), "process", {"infer": {"conf": 1}})
    assert old.parameters("infer")["name"].tolist()[:3] == ["conf", "gpu_count", "shm_size"]


@pytest.mark.parametrize(
    "text",
    ["executors: {a: 1}", "executors: {a: {templates: 3}}", "executors: [a]", "executors: {a: {object_type: x}}"],
)
def test_a_record_that_cannot_be_understood_is_named(workspace, text):
    (workspace.root / "executors.yaml").write_text(text)
    with pytest.raises(PreflightFailed, match=r"git checkout executors\.yaml"):
        ExecutorBook.of(workspace).read()


def test_loosened_isolation_is_recorded_kept_and_taken_back(workspace):
    book = ExecutorBook.of(workspace)
    command = {"image_or_command": [sys.executable, "x.py"], "templates": MAN}
    book.add("mine", **command, isolation={"network": True, "memory_bytes": 4 << 30})
    first = book.get("mine")
    assert first.launch({}).isolation.network
    assert book.to_frame().set_index("name").loc["mine", "isolation"] == "network, memory_bytes=4294967296"
    assert first.to_dict()["loosened"] == {"network": True, "memory_bytes": 4 << 30}
    assert book.add("mine", **command).isolation == first.isolation
    last = book.add("mine", **command, isolation={})
    assert not last.isolation.settings()
    assert last.changes(first) == ["isolation: network, memory_bytes=4294967296 -> none"]
    with pytest.raises(PreflightFailed, match="no isolation setting 'gravity'"):
        book.add("mine", **command, isolation={"gravity": True})
    with pytest.raises(PreflightFailed, match="network is 1; it must be true or false"):
        book.add("mine", **command, isolation={"network": 1})
    assert book.get("mine") == last


def test_adding_again_tells_what_changed(workspace, tmp_path):
    book, folder = ExecutorBook.of(workspace), tmp_path / "man"
    folder.mkdir()
    (folder / "training-template.yaml").write_text("epochs: 3\nold: 1")
    former = book.add("mine", [sys.executable, "x.py"], templates=folder)
    (folder / "training-template.yaml").write_text("epochs: 4\nnew: a")
    (folder / "infer-template.yaml").write_text("conf: 1")
    now = book.add("mine", [sys.executable, "y.py"], templates=folder)
    assert now.changes(former) == [
        f"command: {sys.executable} x.py -> {sys.executable} y.py",
        "offers: training -> training, infer",
        "training, epochs: 3 -> 4",
        "training, old: 1 -> none",
        "training, new: none -> 'a'",
    ]
    assert now.changes(now) == []


def test_an_image_and_a_command_are_told_apart_by_the_templates(workspace):
    book = ExecutorBook.of(workspace)
    with pytest.raises(PreflightFailed, match=r"'python start\.py' is no name of an image.*--templates"):
        book.add("mine", "python start.py")
    with pytest.raises(PreflightFailed, match=r"no program 'example/yolo:1' here\. If it is an image, leave"):
        book.add("mine", "example/yolo:1", templates=MAN)
    with pytest.raises(PreflightFailed, match="needs a command"):
        book.add("mine", "", templates=MAN)
    with pytest.raises(PreflightFailed, match="'tiny' is the embedded executor"):
        book.add("tiny", "x", templates=MAN)
    with pytest.raises(ExecutorNotFound, match="executor add mine IMAGE"):
        book.get("mine")


@pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")  # the SDK leaves one open that failed
def test_case_40_an_image_is_not_added_where_no_engine_answers(workspace, monkeypatch, tmp_path):
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/no.sock")
    with pytest.raises(PreflightFailed, match=r"no container engine answers\. Start it"):
        ExecutorBook.of(workspace).add("mine", "example/yolo:1")
    with pytest.raises(PreflightFailed, match="no container engine answers"):
        building.build_executor(ExecutorBook.of(workspace))
    gc.collect()


@pytest.mark.parametrize(
    ("name", "is_name"),
    [
        ("ymir/base:latest", True),
        ("localhost:5000/a/b_c:V1.2", True),
        ("sha256:" + "0" * 64, True),
        ("a@sha256:" + "0" * 64, True),
        ("Case", False),
        ("a b", False),
        ("-x", False),
        ("a:", False),
        ("/opt/start.sh", False),
        ("a\n", False),
        ("", False),
    ],
)
def test_names_of_images_are_known(name, is_name):
    assert is_image_name(name) is is_name


def test_the_public_list_names_images_without_digest_and_what_they_do():
    listed = public_executors()
    assert listed["image"].is_unique
    assert all(is_image_name(name) and "@" not in name and ":" in name for name in listed["image"])
    assert "industryessentials/ymir-executor:ymir2.4.0-detection-instance-sementic-in-one" in set(listed["image"])
    for family in ("yolov4", "yolov5", "yolov7", "nanodet", "vidt", "detectron2", "mmdet", "mmseg"):
        assert listed["image"].str.contains(family).any(), family


# What is built


def test_the_reference_image_holds_the_embedded_executor_and_nothing_else():
    context = building.reference_context()
    package = ROOT / "ymir_nb" / "executor"
    files = [*package.glob("*.py"), *package.glob("img-man/*")]
    assert {name: path for name, path in context.items() if name.startswith("app/ymir_nb")} == {
        f"app/ymir_nb/executor/{path.relative_to(package).as_posix()}": path for path in files
    }
    for path in (package / "img-man").iterdir():
        assert context[f"img-man/{path.name}"] == path
    assert context["Dockerfile"] == TEMPLATE / "Dockerfile"


def test_the_reference_image_installs_what_the_package_names_in_the_versions_that_are_here():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    named = {*extras["dependencies"], *extras["optional-dependencies"]["torch"]}
    assert set(building.REQUIREMENTS) <= named
    import numpy as np

    lines = building.reference_context()["requirements.txt"].decode().splitlines()
    assert f"numpy=={np.__version__}" in lines
    assert len(lines) == len(building.REQUIREMENTS)
    assert not [line for line in lines if "+" in line]


def test_a_build_packs_the_same_bytes_for_the_same_files(tmp_path):
    (tmp_path / "start.sh").write_text("x")
    (tmp_path / "start.sh").chmod(0o700)
    (tmp_path / "notes.txt").write_text("y")
    (tmp_path / "notes.txt").chmod(0o600)
    (tmp_path / "Dockerfile").write_text("FROM scratch")
    (tmp_path / ".dockerignore").write_text("# left out\nsecrets\n")
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "key").write_text("z")
    with building.pack(building.folder_context(tmp_path)) as packed, tarfile.open(fileobj=packed) as archive:
        modes = {member.name: (member.mode, member.mtime, member.uid) for member in archive}
    assert modes["start.sh"] == (0o755, 0, 0)
    assert modes["notes.txt"] == (0o644, 0, 0)
    assert not [name for name in modes if "secrets" in name]


def test_a_build_that_cannot_begin_says_what_is_missing(workspace, tmp_path):
    book = ExecutorBook.of(workspace)
    with pytest.raises(PreflightFailed, match=r"has no Dockerfile\. Begin with a copy of the template"):
        building.build_executor(book, "mine", source=tmp_path)
    with pytest.raises(PreflightFailed, match=r"holds no wheel.*pip download"):
        building.build_executor(book, wheels=tmp_path)
    with pytest.raises(PreflightFailed, match="is there already"):
        building.start_own(tmp_path)


def test_a_failed_step_is_named_with_its_last_words():
    lines = [
        {"stream": "Step 1/2 : FROM x\n"},
        {"stream": "Step 2/2 : RUN make\n"},
        {"stream": "\x1b[91mno rule\x1b[0m"},
    ]
    said = []
    with pytest.raises(JobFailed, match=r"'Step 2/2 : RUN make': code 2\. It said:\nno rule"):
        building._follow(iter([*lines, {"error": "code 2"}]), "it", said.append)
    assert said == ["Step 1/2 : FROM x", "Step 2/2 : RUN make", "no rule"]


# The template that people copy


@pytest.fixture
def template(workspace, tmp_path):
    """A copy of templates/executor, run as a local command."""
    own = building.start_own(tmp_path / "own")
    book = ExecutorBook.of(workspace)
    book.add("own", [sys.executable, str(own / "app" / "start.py")], templates=own / "img-man")
    return own


def test_the_template_trains_infers_and_mines_as_it_stands(workspace, make_dataset, template):
    import ymir_nb as ym
    from ymir_nb.backend.mining import mine

    workspace.save(make_dataset(3), "train", operation="import")
    workspace.save(make_dataset(2, start=3), "val", operation="import")
    workspace.save(make_dataset(4, start=5, labelled=False), "pool", operation="import")
    model = ym.train(workspace, "first", train="train", val="val", executor="own", parameters={"epochs": 2})
    assert model.card["metric"] == 0.0
    assert len(ym.infer(workspace, "pool", "first").annotations) == 0
    mined = mine(workspace, "pool", name="picked", model="first", strategy="executor", k=2)
    assert len(mined.dataset.images) == 2


def test_the_template_needs_nothing_but_pyyaml():
    for path in (TEMPLATE / "app").glob("*.py"):
        assert set(re.findall(r"^(?:import|from) (\w+)", path.read_text(), re.MULTILINE)) <= {
            *sys.stdlib_module_names,
            "yaml",
            "trainer",
        }
    assert (TEMPLATE / "requirements.txt").read_text() == "pyyaml>=6.0\n"


def test_the_templates_segmentation_in_coco_form_is_what_is_read(tmp_path):
    lines = (TEMPLATE / "app" / "start.py").read_text().splitlines()
    start = next(i for i, line in enumerate(lines) if line.strip() == "# result = {")
    stop = next(i for i, line in enumerate(lines) if i > start and line.strip() == "# }")
    code = "\n".join(line.replace("    # ", "", 1) for line in lines[start : stop + 1])
    names: dict = {
        "images": [Path(f"/in/assets/{name}.jpg") for name in ("a" * 32, "b" * 32)],
        "CONFIG": {"class_names": ["dog"]},
    }
    exec(code, names)
    (tmp_path / "infer-result.json").write_text(json.dumps(names["result"]))
    image = {
        "image": "",
        "file": "",
        "format": "JPEG",
        "mode": "RGB",
        "width": 40,
        "height": 30,
        "n_bytes": 1,
    }
    found = read_infer(
        tmp_path, images_frame([image | {"image": c * 32, "file": c} for c in "ab"]), ["dog"]
    ).annotations
    assert found[["label", "x1", "y1", "x2", "y2", "score"]].to_numpy().tolist() == [["dog", 5, 5, 15, 15, 0.9]]
    assert not found["segmentation"].isna().any()


# The command


def test_the_command_registers_shows_and_loosens(workspace, capsys):
    def call(*words: str) -> object:
        assert main(["-w", str(workspace.root), *words, "--json"]) == 0
        return json.loads(capsys.readouterr().out)

    words = ["executor", "add", "mine", f"{sys.executable} x.py", "--templates", str(MAN)]
    assert call(*words)["changes"] == []
    loosened = call(*words, "--allow", "network", "--limit", "memory_bytes=4G", "--limit", "n_pids=9")
    assert loosened["changes"] == ["isolation: none -> network, memory_bytes=4294967296, n_pids=9"]
    shown = call("executor", "show", "mine")
    assert shown["loosened"] == {"network": True, "memory_bytes": 4 << 30, "n_pids": 9}
    assert shown["parameters"]["training"][0] == {
        "name": "idle_seconds",
        "type": "number",
        "default": 0.0,
        "help": "waits so long before it works",
    }
    assert call(*words, "--allow", "nothing")["changes"] == [
        "isolation: network, memory_bytes=4294967296, n_pids=9 -> none"
    ]
    assert "industryessentials/executor-example:latest" in {
        row["image"] for row in call("executor", "list", "--public")
    }
    assert main(["-w", str(workspace.root), *words, "--limit", "network=1"]) == 1
    assert "--limit knows memory_bytes" in capsys.readouterr().err
    assert main(["-w", str(workspace.root), "executor", "show", "mine"]) == 0
    assert "waits so long before it works" in capsys.readouterr().out


def test_the_command_copies_the_template(tmp_path, capsys):
    assert main(["executor", "new", str(tmp_path / "own")]) == 0
    assert (tmp_path / "own" / "app" / "trainer.py").read_text() == (TEMPLATE / "app" / "trainer.py").read_text()


def test_the_embedded_executor_is_as_its_templates_say():
    tiny = builtin()
    assert tiny.runner == "process"
    assert list(tiny.templates) == ["training", "mining", "infer"]
    assert all(tiny.parameters(kind)["help"].astype(bool).sum() > 5 for kind in tiny.templates)
