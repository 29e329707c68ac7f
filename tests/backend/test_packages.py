"""Model packages: equal trainings give equal bytes, and a stranger's package harms nobody."""

import io
import os
import tarfile
from pathlib import Path

import pytest
import yaml

from ymir_nb.backend import packages
from ymir_nb.backend.errors import ImportRefused
from ymir_nb.backend.package_info import PackageInfo, Stage, kept_stages, parse_info
from ymir_nb.backend.packages import inspect, pack, read_info, unpack


def stages(*times: int) -> dict[str, Stage]:
    names = [f"epoch{10 * (place + 1)}" for place in range(len(times))]
    return {n: Stage(n, ("w.bin",), time, {"mAP": 0.5}) for n, time in zip(names, times, strict=True)}


def info(*times: int) -> PackageInfo:
    return PackageInfo(stages(*times), "epoch10", {"class_names": ["cat"], "epochs": 3}, {"executor": "tiny"})


def weights(folder: Path, n: int = 2) -> dict[str, Path]:
    folder.mkdir(exist_ok=True)
    files = {}
    for place in range(n):
        path = folder / f"w{place}"
        path.write_bytes(b"weights %d" % place)
        files[f"epoch{10 * (place + 1)}/w.bin"] = path
    return files


def tarred(members: dict[str, bytes | tarfile.TarInfo]) -> bytes:
    """Make a gzip tar by hand."""
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w:gz") as tar:
        for name, content in members.items():
            if isinstance(content, tarfile.TarInfo):
                tar.addfile(content)
                continue
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return sink.getvalue()


def legacy_info(**more: object) -> bytes:
    document = {"models": ["w.bin"], "executor_config": {"class_names": ["cat"]}, "task_context": {"mAP": 0.25}}
    return yaml.safe_dump(document | more).encode()


def test_equal_trainings_give_equal_bytes_whenever_they_ran(tmp_path):
    first = pack(weights(tmp_path / "a"), info(1700000000, 1700000050))
    files = weights(tmp_path / "b")
    for path in files.values():
        os.utime(path, (1, 1))
        path.chmod(0o600)
    second = pack(dict(reversed(files.items())), info(1800000000, 1800000099))
    assert first == second
    assert first[4:8] == bytes(4)  # the time in gzip's own header
    assert [s.timestamp for s in read_info(first).stages.values()] == [0, 1]


def test_stages_of_one_second_keep_the_order_of_their_numbers(tmp_path):
    found = {n: Stage(n, (), 5) for n in ("epoch10", "epoch9")}
    ranked = read_info(pack({}, PackageInfo(found, "epoch9"))).stages
    assert (ranked["epoch9"].timestamp, ranked["epoch10"].timestamp) == (0, 1)


def test_a_package_comes_back_as_it_was_packed(tmp_path):
    given = info(3, 4)
    given = PackageInfo(
        given.stages,
        "epoch20",
        given.executor_config,
        given.task_context,
        object_type=2,
        attachments={"plots": ("a/b.png",)},
        evaluate_config={"conf_thr": 0.3},
    )
    files = weights(tmp_path / "a")
    files["attachments/plots/a/b.png"] = tmp_path / "a/w0"
    data = pack(files, given)
    found = unpack(data, tmp_path / "model")
    assert found == read_info(data) == inspect(data)
    assert found.class_names == ("cat",)
    assert found.metric == 0.5
    assert found.evaluate_config == {"conf_thr": 0.3}
    assert (tmp_path / "model/epoch20/w.bin").read_bytes() == b"weights 1"
    assert (tmp_path / "model/attachments/plots/a/b.png").exists()
    assert parse_info((tmp_path / "model/ymir-info.yaml").read_text()) == found
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_a_package_that_lacks_a_listed_file_is_not_made(tmp_path):
    with pytest.raises(ImportRefused, match=r"epoch20/w\.bin"):
        pack(weights(tmp_path / "a", n=1), info(1, 2))


@pytest.mark.parametrize("version", [None, "1.1.0"])
def test_packages_of_the_first_version_become_one_stage(tmp_path, version):
    more = {"package_version": version} if version else {}
    data = tarred({"w.bin": b"abc", "ymir-info.yaml": legacy_info(**more)})
    found = unpack(data, tmp_path / "model")
    assert list(found.stages) == ["default_best_stage"]
    assert found.metric == 0.25
    assert found.object_type == 2
    assert (tmp_path / "model/default_best_stage/w.bin").read_bytes() == b"abc"


def test_files_that_a_foreign_package_keeps_flat_go_to_their_stages(tmp_path):
    document = {
        "executor_config": {"class_names": ["cat"]},
        "stages": {n: {"files": ["w.bin"], "mAP": 0.5, "stage_name": n, "timestamp": 1} for n in ("a", "b")},
        "best_stage_name": "b",
    }
    data = tarred({"./w.bin": b"abc", "./ymir-info.yaml": yaml.safe_dump(document).encode()})
    unpack(data, tmp_path / "model")
    assert (tmp_path / "model/a/w.bin").read_bytes() == (tmp_path / "model/b/w.bin").read_bytes() == b"abc"


def link(name: str, kind: bytes, target: str = "/etc/passwd") -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, target
    return member


@pytest.mark.parametrize(
    ("members", "said"),
    [
        ({"../evil": b"x"}, "leaves"),
        ({"/evil": b"x"}, "leaves"),
        ({"a/../../evil": b"x"}, "leaves"),
        ({"a\\evil": b"x"}, "leaves"),
        ({"w.bin": link("w.bin", tarfile.SYMTYPE)}, "link or device"),
        ({"w.bin": link("w.bin", tarfile.LNKTYPE)}, "link or device"),
        ({"w.bin": link("w.bin", tarfile.FIFOTYPE)}, "link or device"),
        ({"w.bin": link("w.bin", tarfile.CHRTYPE)}, "link or device"),
        ({"w.bin": b"x", "./w.bin": b"y"}, "twice"),
        ({"a": b"x", "a/b": b"y"}, "as a file and as a folder"),
        ({"a/b": b"x", "a": b"y"}, "as a file and as a folder"),
        ({}, "no ymir-info.yaml"),
        ({"ymir-info.yaml": b"[1]"}, "no mapping"),
        ({"ymir-info.yaml": legacy_info(models=["../w.bin"])}, "relative file names"),
        ({"ymir-info.yaml": legacy_info(task_context={"mAP": float("nan")})}, "finite"),
        ({"ymir-info.yaml": legacy_info(object_type=7)}, "object_type"),
        ({"ymir-info.yaml": legacy_info(object_type=[2])}, "object_type"),
        ({"ymir-info.yaml": legacy_info(best_stage_name=["a"])}, "best_stage_name"),
        ({"ymir-info.yaml": legacy_info(executor_config={"class_names": "cat"})}, "list of names"),
        ({"ymir-info.yaml": legacy_info(executor_config={"class_names": ["cat", ["dog"]]})}, "list of names"),
        ({"ymir-info.yaml": legacy_info(executor_config={"class_names": ["cat", " "]})}, "list of names"),
        ({"ymir-info.yaml": legacy_info(executor_config={"class_names": ["cat", "cat"]})}, "twice"),
        ({"ymir-info.yaml": legacy_info(attachments={7: ["a"]})}, "relative name"),
        (
            {"ymir-info.yaml": legacy_info(attachments={"../..": ["w.bin"]}), "w.bin": b"x", "attachments/a": b"y"},
            "relative name",
        ),
        ({"ymir-info.yaml": legacy_info()}, "does not have"),
        ({"ymir-info.yaml": b"stages: {a b: {files: []}}\nbest_stage_name: a b"}, "identifier"),
        ({"ymir-info.yaml": b"stages: {a: {files: []}}"}, "best_stage_name"),
        ({"ymir-info.yaml": b"#" * (packages.MAX_INFO_BYTES + 1)}, "bytes long"),
    ],
)
def test_an_unsafe_or_broken_package_leaves_nothing_behind(tmp_path, members, said):
    (tmp_path / "here").mkdir()
    with pytest.raises(ImportRefused, match=said):
        unpack(tarred(members), tmp_path / "here/model")
    with pytest.raises(ImportRefused, match=said):
        inspect(tarred(members))
    assert list(tmp_path.rglob("*")) == [tmp_path / "here"]


def test_case_48_tags_that_build_objects_are_refused(tmp_path):
    mark = tmp_path / "ran"
    text = f"executor_config: !!python/object/apply:os.system ['touch {mark}']\nmodels: []\n"
    with pytest.raises(ImportRefused, match="no plain YAML"):
        unpack(tarred({"ymir-info.yaml": text.encode()}), tmp_path / "model")
    assert not mark.exists()


def test_aliases_that_would_fill_the_memory_are_shown_in_a_line(tmp_path):
    bomb = "a: &a [x,x,x,x,x,x,x,x,x]\n"
    for one, two in zip("abcdefgh", "bcdefghi", strict=True):
        bomb += f"{two}: &{two} [{','.join([f'*{one}'] * 9)}]\n"
    with pytest.raises(ImportRefused, match="relative file names") as caught:
        parse_info(bomb + "models: *i\n")
    assert len(str(caught.value)) < 1000


def test_a_bomb_of_aliases_is_no_name_of_a_class_or_stage():
    bomb = "a: &a [x,x,x,x,x,x,x,x,x]\n"
    for one, two in zip("abcdefgh", "bcdefghi", strict=True):
        bomb += f"{two}: &{two} [{','.join([f'*{one}'] * 9)}]\n"
    for spoilt in ("best_stage_name: *i\n", "executor_config: {class_names: *i}\n", "object_type: *i\n"):
        with pytest.raises(ImportRefused) as caught:
            parse_info(bomb + "models: [w.bin]\n" + spoilt)
        assert len(str(caught.value)) < 1000


def test_eleven_stages_are_kept_the_best_and_the_ten_newest_of_the_others():
    many = {f"epoch{n}": Stage(f"epoch{n}", (), timestamp=100 - n) for n in range(30)}
    assert list(kept_stages(many, "epoch29")) == [*(f"epoch{n}" for n in range(10)), "epoch29"]
    assert list(kept_stages(many, "epoch3")) == [f"epoch{n}" for n in range(11)]
    few = dict(list(many.items())[:11])
    assert kept_stages(few, "epoch0") == few


@pytest.mark.parametrize("cut", [10, 100, -8])
def test_a_truncated_package_is_refused(tmp_path, cut):
    data = pack(weights(tmp_path / "a"), info(1, 2))
    for take in (inspect, lambda cut_off: unpack(cut_off, tmp_path / "model")):
        with pytest.raises(ImportRefused, match="cannot be read"):
            take(data[:cut])
    assert not (tmp_path / "model").exists()


def test_a_package_that_grows_past_all_measure_is_refused_by_its_headers(tmp_path, monkeypatch):
    monkeypatch.setattr(packages, "MAX_BYTES", 1000)
    data = tarred({"w.bin": bytes(100_000), "ymir-info.yaml": legacy_info()})
    assert len(data) < 1000
    with pytest.raises(ImportRefused, match="too large"):
        unpack(data, tmp_path / "model")
    monkeypatch.setattr(packages, "MAX_MEMBERS", 1)
    with pytest.raises(ImportRefused, match="too large"):
        unpack(tarred({"w.bin": b"", "ymir-info.yaml": legacy_info()}), tmp_path / "model")


def test_case_49_weights_are_carried_and_never_opened(tmp_path):
    mark = tmp_path / "ran"
    payload = f"cposix\nsystem\n(S'touch {mark}'\ntR.".encode()  # a pickle that runs a command when it is loaded
    (tmp_path / "w").write_bytes(payload)
    data = pack({"a/w.pt": tmp_path / "w"}, PackageInfo({"a": Stage("a", ("w.pt",))}, "a"))
    unpack(data, tmp_path / "model")
    assert (tmp_path / "model/a/w.pt").read_bytes() == payload
    assert not mark.exists()
