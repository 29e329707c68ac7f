"""What an executor finds in `/in`, held against what the real system writes."""

import hashlib
import io
import json
import math
import os
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
import yaml
from PIL import Image

from ymir_nb.backend import packages
from ymir_nb.backend.contract import Task, preflight, write_in
from ymir_nb.backend.contract_annotations import annotation_format
from ymir_nb.backend.dataset import Dataset
from ymir_nb.backend.errors import JobError, ObjectDamaged, PreflightFailed
from ymir_nb.backend.tables import annotations_frame

SAMPLES = (Path(__file__).resolve().parents[2] / "../shared/data/ymir_contract").resolve()
needs_samples = pytest.mark.skipif(not SAMPLES.is_dir(), reason="the samples of the real contract are not here")


class FolderMedia:
    """Image files by id, as a store gives them."""

    def __init__(self, paths: dict[str, Path]) -> None:
        self.paths = paths

    def path(self, image: str) -> Path:
        return self.paths[image]

    def read(self, image: str) -> bytes:
        data = self.paths[image].read_bytes()
        if hashlib.new("md5" if len(image) == 32 else "sha1", data).hexdigest() != image:
            raise ObjectDamaged(f"image {image} is not what its name says")
        return data

    def files(self, images: Sequence[str]) -> list[str]:
        assert all(self.read(image) for image in images)
        return [str(self.paths[image]) for image in images]

    def thumbnail(self, image: str, *, side_px: int) -> bytes:
        raise NotImplementedError


def sample_dataset(folder: Path, index: str, labels: Iterable[str] = ("cat", "dog")) -> Dataset:
    """Read a set of the real det-ark export back into a dataset."""
    images, boxes, files = [], [], {}
    for line in (folder / index).read_text().splitlines():
        asset, *annotation = line.split("\t")
        path = folder / Path(asset).relative_to("/in")
        files[path.stem] = path
        with Image.open(path) as picture:
            width, height = picture.size
        row = {"image": path.stem, "file": path.name, "format": "JPEG", "mode": "RGB", "width": width}
        images.append(row | {"height": height, "n_bytes": path.stat().st_size, "labelled": True})
        for text in annotation and (folder / Path(annotation[0]).relative_to("/in")).read_text().splitlines():
            label, x1, y1, x2, y2, _, _ = map(float, text.split(","))
            box = {"image": path.stem, "label": list(labels)[int(label)], "x1": x1, "y1": y1}
            boxes.append(box | {"x2": x2 + 1, "y2": y2 + 1})
    return Dataset.of(images, boxes, labels=labels, media=FolderMedia(files))


def drawn(
    folder: Path, colours: Iterable[str], *, suffix: str = "PNG", mode: str = "RGB", orientation: int = 1
) -> Dataset:
    """Make a small labelled dataset of one image a colour, a dog on each."""
    folder.mkdir(parents=True, exist_ok=True)
    images, boxes, files = [], [], {}
    for colour in colours:
        sink = io.BytesIO()
        exif = Image.Exif()
        exif[0x0112] = orientation
        Image.new("RGB", (40, 30), colour).convert(mode).save(sink, suffix, exif=exif)
        name = hashlib.md5(sink.getvalue()).hexdigest()
        files[name] = folder / name
        files[name].write_bytes(sink.getvalue())
        sides = (30, 40) if orientation > 4 else (40, 30)
        row = {"image": name, "file": f"{colour}.{suffix.lower()}", "format": suffix, "mode": mode}
        row |= {"width": sides[0], "height": sides[1], "orientation": orientation, "n_bytes": len(sink.getvalue())}
        images.append(row | {"labelled": True})
        boxes.append({"image": name, "label": "dog", "x1": 1.4, "y1": 2.5, "x2": 10.6, "y2": 20.0})
    return Dataset.of(images, boxes, labels=["cat", "dog"], media=FolderMedia(files))


def training(folder: Path, **changes: object) -> Task:
    values = {"task_id": "t1", "class_names": ("cat", "dog"), "training": True, "config": {"export_format": "ark:raw"}}
    values |= {"train": drawn(folder / "a", ["red", "blue"]), "val": drawn(folder / "b", ["green"])}
    return Task(**(values | changes))


def package(tmp_path: Path, names: Iterable[str] = ("cat", "dog"), config: dict | None = None) -> bytes:
    """Make a model package of the stages and files of the real samples."""
    files = {}
    for stage in ("epoch10", "epoch20"):
        for name in (f"{stage}.pt", "config.py"):
            files[f"{stage}/{name}"] = tmp_path / f"{stage}-{name}"
            files[f"{stage}/{name}"].write_text(stage + name)
    metrics = {"epoch10": 0.3971193369559863, "epoch20": 0.8}
    stages = {
        s: packages.Stage(s, (f"{s}.pt", "config.py"), 1795148622, {"mAP": value}) for s, value in metrics.items()
    }
    executor_config = {"class_names": list(names)} | (config or {})
    return packages.pack(files, packages.PackageInfo(stages, "epoch20", executor_config))


def tree(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def sample_training(form: str) -> Task:
    real = SAMPLES / "det-ark_raw/tr1/in"
    config = yaml.safe_load((SAMPLES / form / "tr1/in/config.yaml").read_text())
    return Task(
        task_id="model1",
        class_names=("cat", "dog"),
        config=config | {"run_mining": True, "model_params_path": ["left over"], "pretrained_model_params": ["x"]},
        training=True,
        train=sample_dataset(real, "train-index.tsv"),
        val=sample_dataset(real, "val-index.tsv"),
    )


@needs_samples
@pytest.mark.parametrize("form", ["det-ark_raw", "voc_raw", "seg-coco_raw"])
def test_a_training_is_handed_over_as_the_real_system_does_it(tmp_path, form):
    real, ours = SAMPLES / form / "tr1/in", tmp_path / "job/in"
    write_in(tmp_path / "job", sample_training(form))
    for name in ("env.yaml", "config.yaml"):
        assert yaml.safe_load((ours / name).read_text()) == yaml.safe_load((real / name).read_text())
    indices = sorted(path.name for path in real.glob("*.tsv"))
    assert sorted(path.name for path in ours.glob("*.tsv")) == indices
    for name in indices:
        lines = (ours / name).read_text().splitlines()
        assert sorted(lines) == sorted((real / name).read_text().splitlines()), name
        assert lines == sorted(lines, key=lambda line: line.split("\t")[0].rpartition("/")[2])
    assert {k: v for k, v in tree(ours).items() if k.startswith("assets")} == {
        k: v for k, v in tree(real).items() if k.startswith("assets")
    }
    assert sorted(tree(ours)) == sorted(tree(real))
    assert (tmp_path / "job/out/models").is_dir()
    assert (tmp_path / "job/out/tensorboard").is_dir()


@needs_samples
def test_ark_annotations_are_those_of_the_real_system(tmp_path):
    write_in(tmp_path / "job", sample_training("det-ark_raw"))
    for path in sorted((SAMPLES / "det-ark_raw/tr1/in/annotations").rglob("*.txt")):
        ours = tmp_path / "job/in/annotations" / path.parent.name / path.name
        assert sorted(ours.read_text().splitlines()) == sorted(path.read_text().splitlines())


@needs_samples
def test_voc_annotations_are_those_of_the_real_system(tmp_path):
    write_in(tmp_path / "job", sample_training("voc_raw"))

    def plain(path):
        root = ET.fromstring(path.read_text())
        parts = [ET.tostring(part, encoding="unicode") for part in root]
        n_head = sum(part.tag != "object" for part in root)
        return parts[:n_head] + sorted(parts[n_head:])

    for path in sorted((SAMPLES / "voc_raw/tr1/in/annotations").rglob("*.xml")):
        assert plain(tmp_path / "job/in/annotations" / path.parent.name / path.name) == plain(path)


@needs_samples
def test_coco_annotations_are_those_of_the_real_system(tmp_path):
    write_in(tmp_path / "job", sample_training("seg-coco_raw"))

    def plain(path):
        document = json.loads(path.read_text())
        for image in document["images"]:
            del image["date_captured"]  # the time of the real export
        document["categories"].sort(key=lambda row: row["id"])
        assert [row.pop("id") for row in document["annotations"]] == list(range(1, len(document["annotations"]) + 1))
        document["annotations"].sort(key=lambda row: json.dumps(row, sort_keys=True))
        return document

    name = "in/annotations/coco-annotations.json"
    assert plain(tmp_path / "job" / name) == plain(SAMPLES / "seg-coco_raw/tr1" / name)


@needs_samples
@pytest.mark.parametrize(("run", "mining"), [("mi1", True), ("mi2", False)])
def test_mining_and_inference_are_handed_over_as_the_real_system_does_it(tmp_path, run, mining):
    real, ours = SAMPLES / "det-ark_raw" / run / "in", tmp_path / "job/in"
    info = yaml.safe_load((real / "models/ymir-info.yaml").read_text())
    config = yaml.safe_load((real / "config.yaml").read_text())
    task = Task(
        task_id=config["task_id"],
        class_names=("cat", "dog"),
        config={key: config[key] for key in ("gpu_count", "idle_seconds")},
        mining=mining,
        infer=True,
        candidates=sample_dataset(real, "candidate-index.tsv"),
        model=package(tmp_path, config=info["executor_config"]),
    )
    write_in(tmp_path / "job", task)
    for name in ("env.yaml", "config.yaml"):
        assert yaml.safe_load((ours / name).read_text()) == yaml.safe_load((real / name).read_text())
    lines = (ours / "candidate-index.tsv").read_text().splitlines()
    assert sorted(lines) == sorted((real / "candidate-index.tsv").read_text().splitlines())
    written = yaml.safe_load((ours / "models/ymir-info.yaml").read_text())
    for stages in (written["stages"], info["stages"]):
        for stage in stages.values():
            del stage["timestamp"]  # ours is the rank
    context = {"producer": "ymir", "type": 1, "mAP": 0.8}
    assert written == info | {"task_context": context}
    assert (ours / "models/epoch20/epoch20.pt").read_text() == "epoch20epoch20.pt"
    assert not any((ours / "annotations").iterdir())
    assert not any((ours / "predictions").iterdir())


def test_equal_tasks_give_equal_files_and_digests_whatever_the_order_of_the_rows(tmp_path):
    one = training(tmp_path)
    again = training(tmp_path, train=drawn(tmp_path / "a", ["blue", "red"]))
    write_in(tmp_path / "1", one)
    write_in(tmp_path / "2", again)
    assert tree(tmp_path / "1") == tree(tmp_path / "2")
    assert one.digest() == again.digest()
    assert one.digest() != training(tmp_path, config={"export_format": "ark:raw", "epochs": 2}).digest()
    assert one.digest() != training(tmp_path, train=drawn(tmp_path / "a", ["red"])).digest()


def test_a_local_process_is_given_the_real_paths(tmp_path):
    write_in(tmp_path, training(tmp_path / "data"), in_root=f"{tmp_path}/in", out_root=f"{tmp_path}/out")
    env = yaml.safe_load((tmp_path / "in/env.yaml").read_text())
    for line in Path(env["input"]["training_index_file"]).read_text().splitlines():
        assert all(Path(part).is_file() for part in line.split("\t"))
    assert Path(env["output"]["tensorboard_dir"]).is_dir()


def test_a_path_with_a_blank_is_refused_since_executors_split_there(tmp_path):
    with pytest.raises(PreflightFailed, match="blank"):
        write_in(tmp_path, training(tmp_path / "data"), in_root="/my work/in")
    assert not (tmp_path / "in").exists()


def test_plain_images_are_linked_and_odd_ones_rewritten_upright(tmp_path):
    cases = {
        "plain": drawn(tmp_path / "p", ["red"], suffix="JPEG"),
        "turned": drawn(tmp_path / "t", ["lime"], suffix="JPEG", orientation=6),
        "cmyk": drawn(tmp_path / "c", ["blue"], suffix="JPEG", mode="CMYK"),
        "palette": drawn(tmp_path / "i", ["pink"], mode="P"),
        "alpha": drawn(tmp_path / "x", ["gold"], mode="RGBA"),
        "webp": drawn(tmp_path / "w", ["teal"], suffix="WEBP"),
    }
    for name, dataset in cases.items():
        write_in(tmp_path / name, training(tmp_path / "d", train=dataset))
        image = dataset.images["image"].iloc[0]
        line = (tmp_path / name / "in/train-index.tsv").read_text().split("\t")[0]
        path = tmp_path / name / line.lstrip("/")
        assert path.parent.name == image[-2:]
        assert path.stem == image
        with Image.open(path) as picture:
            assert picture.mode == "RGB"
            assert picture.size == tuple(dataset.images[["width", "height"]].iloc[0])
            assert picture.format == ("JPEG" if name == "plain" else "PNG")
        if name == "plain":
            assert path.stat().st_ino == dataset.media.path(image).stat().st_ino


def test_case_16_an_image_that_changed_on_disk_is_not_used_silently(tmp_path):
    task = training(tmp_path / "data")
    changed = task.train.media.path(task.train.images["image"].iloc[0])
    changed.write_bytes(changed.read_bytes()[:-1] + b"x")
    with pytest.raises(ObjectDamaged):
        write_in(tmp_path, task)


def test_boxes_are_rounded_inside_the_image_and_other_classes_are_left_out(tmp_path):
    train = drawn(tmp_path / "a", ["red"])
    image = train.images["image"].iloc[0]
    rows = [
        {"image": image, "label": "dog", "x1": -3.0, "y1": 0.2, "x2": 99.0, "y2": 0.4, "quality": 0.5},
        {"image": image, "label": "cat", "x1": 1.0, "y1": 1.0, "x2": 2.0, "y2": 2.0},
    ]
    train = Dataset.of(train.images, rows, labels=train.labels, media=train.media)
    write_in(tmp_path / "job", training(tmp_path, train=train, class_names=("dog",)))
    text = (tmp_path / f"job/in/annotations/{image[-2:]}/{image}.txt").read_text()
    assert text == "0, 0, 0, 39, 0, 0.5, 0.0\n"


def test_what_a_box_and_an_image_carry_reaches_voc_and_coco_as_text(tmp_path):
    base = drawn(tmp_path / "a", ["red"])
    image = base.images["image"].iloc[0]
    hostile = {"side view": "<b>&\x00", "9": "x"}
    images = base.images.assign(keys=json.dumps(hostile), quality=0.25)
    box = {"image": image, "label": "a<b & c", "x1": 1.5, "y1": 2.0, "x2": 11.0, "y2": 12.25}
    rle = {"size": [30, 40], "counts": "abc"}
    row = box | {"tags": json.dumps(hostile), "crowd": True, "segmentation": json.dumps(rle), "area_px": 77.5}
    train = Dataset.of(images, [row], labels=["a<b & c"], media=base.media)
    val = drawn(tmp_path / "b", ["green"])
    val = Dataset.of(val.images, labels=["a<b & c"], media=val.media)
    values = {"train": train, "val": val, "class_names": ("a<b & c",)}
    write_in(tmp_path / "voc", training(tmp_path, config={}, **values))
    root = ET.parse(tmp_path / f"voc/in/annotations/{image[-2:]}/{image}.xml").getroot()
    assert root.findtext("object/name") == "a<b & c"
    assert root.findtext("object/tags/side_view") == "<b>&?"
    assert root.findtext("cks/_9") == "x"
    assert root.findtext("image_quality") == "0.2500"
    write_in(tmp_path / "coco", training(tmp_path, config={"export_format": "COCO:raw"}, **values))
    document = json.loads((tmp_path / "coco/in/annotations/coco-annotations.json").read_text())
    (entry,) = document["annotations"]
    assert (entry["bbox"], entry["area"], entry["iscrowd"]) == ([1.5, 2, 9.5, 10.25], 77.5, 1)
    assert entry["segmentation"] == rle


def test_predictions_lie_beside_the_annotations_with_their_scores(tmp_path):
    task = training(tmp_path, config={"export_format": "voc:raw"})
    image = task.train.images["image"].iloc[0]
    row = {"image": image, "label": "cat", "x1": 1, "y1": 1, "x2": 5, "y2": 5, "score": 0.75}
    write_in(tmp_path / "job", training(tmp_path, config={}, predictions=annotations_frame([row])))
    root = ET.parse(tmp_path / f"job/in/predictions/{image[-2:]}/{image}.xml").getroot()
    assert [(o.findtext("name"), o.findtext("confidence")) for o in root.iter("object")] == [("cat", "0.7500")]


def test_a_training_can_start_from_a_model(tmp_path):
    write_in(tmp_path / "job", training(tmp_path, model=package(tmp_path, names=["bird"]), stage="epoch10"))
    config = yaml.safe_load((tmp_path / "job/in/config.yaml").read_text())
    assert config["pretrained_model_params"] == ["/in/models/epoch10/epoch10.pt", "/in/models/epoch10/config.py"]
    assert "run_infer" not in config


@pytest.mark.parametrize(
    ("asked", "form"),
    [
        (None, "voc"),
        ("", "voc"),
        ("VOC:raw", "voc"),
        ("det-voc:raw", "voc"),
        ("ark:raw", "ark"),
        ("seg-coco:raw", "coco"),
    ],
)
def test_the_known_export_formats_and_their_synonyms(asked, form):
    assert annotation_format({"export_format": asked}) == form


@pytest.mark.parametrize("asked", ["none:raw", "det-coco:raw", "ark:lmdb", "ark", "yolo:raw", 3])
def test_an_unknown_export_format_is_refused_before_anything_is_written(tmp_path, asked):
    with pytest.raises(PreflightFailed, match="export_format"):
        write_in(tmp_path / "job", training(tmp_path, config={"export_format": asked}))
    assert not (tmp_path / "job").exists()


def test_case_27_unlabelled_images_never_pass_as_negatives(tmp_path):
    train = drawn(tmp_path / "a", ["red", "blue"])
    images = train.images.assign(labelled=[True, False])
    kept = train.annotations[train.annotations["image"] == images["image"].iloc[0]]
    half = Dataset.of(images, kept, labels=train.labels, media=train.media)
    with pytest.raises(PreflightFailed, match="1 of the 2 images of the train set are not labelled"):
        preflight(training(tmp_path, train=half))


def test_case_28_an_image_in_train_and_val_stops_the_training_and_is_named(tmp_path):
    both = drawn(tmp_path / "a", ["red", "blue"])
    with pytest.raises(PreflightFailed, match=r"1 images stand in both train and val: red\.png"):
        preflight(training(tmp_path, train=both, val=drawn(tmp_path / "b", ["red"])))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"task_id": "../x"}, "task id"),
        ({"mining": True}, "training, or mining"),
        ({"training": False}, "none"),
        ({"class_names": ()}, "no classes"),
        ({"class_names": ("dog", "dog")}, "more than once"),
        ({"class_names": ("bird",)}, "not annotated for 'bird'"),
        ({"val": None}, "val set is empty"),
        ({"train": Dataset.of()}, "train set is empty"),
        ({"config": {"size": math}}, "YAML"),
        ({"training": False, "infer": True}, "no candidate"),
    ],
)
def test_a_task_that_cannot_end_well_is_refused_with_the_reason(tmp_path, changes, said):
    with pytest.raises(PreflightFailed, match=said):
        preflight(training(tmp_path, **changes))


def test_a_model_that_does_not_fit_is_refused(tmp_path):
    pool = drawn(tmp_path / "c", ["red"])
    task = {"training": False, "infer": True, "candidates": pool}
    with pytest.raises(PreflightFailed, match="needs a model"):
        preflight(training(tmp_path, **task))
    with pytest.raises(PreflightFailed, match="must be the model's"):
        preflight(training(tmp_path, **task, model=package(tmp_path, names=["dog", "cat"])))
    with pytest.raises(PreflightFailed, match="no stage 'x'"):
        preflight(training(tmp_path, **task, model=package(tmp_path), stage="x"))
    with pytest.raises(PreflightFailed, match="object_type"):
        preflight(training(tmp_path, **task, model=package(tmp_path), config={"object_type": 4}))
    with pytest.raises((PreflightFailed, JobError, ValueError), match="package"):
        preflight(training(tmp_path, **task, model=b"no package"))


def test_images_are_copied_where_no_link_can_be_made(tmp_path, monkeypatch):
    def refuse(*_args: object) -> None:
        raise PermissionError("no links here")

    monkeypatch.setattr(os, "link", refuse)
    task = training(tmp_path / "data")
    write_in(tmp_path, task)
    image = task.train.images["image"].iloc[0]
    assert (tmp_path / f"in/assets/{image[-2:]}/{image}.png").read_bytes() == task.train.media.read(image)


@pytest.mark.parametrize(("form", "suffix"), [("ark:raw", ".txt"), ("voc:raw", ".xml"), ("coco:raw", ".json")])
def test_predictions_have_index_files_of_their_own_beside_those_of_the_truth(tmp_path, form, suffix):
    task = training(tmp_path, config={"export_format": form})
    image = task.train.images["image"].iloc[0]
    row = {"image": image, "label": "cat", "x1": 1, "y1": 1, "x2": 5, "y2": 5, "score": 0.75}
    stranger = row | {"image": "f" * 32}
    write_in(tmp_path / "job", replace(task, predictions=annotations_frame([row, stranger])))
    for role, dataset in (("train", task.train), ("val", task.val)):
        truth, guesses = (
            [line.split("\t") for line in (tmp_path / f"job/in/{prefix}{role}-index.tsv").read_text().splitlines()]
            for prefix in ("", "pred-")
        )
        assert [line[0] for line in guesses] == [line[0] for line in truth]
        assert len(truth) == len(dataset)
        for (_, known), (_, guessed) in zip(truth, guesses, strict=True):
            assert known.startswith("/in/annotations/")
            assert known.endswith(suffix)
            assert guessed == known.replace("/in/annotations/", "/in/predictions/")
            assert (tmp_path / "job" / guessed.lstrip("/")).is_file()
    assert (tmp_path / "job/in/pred-test-index.tsv").read_text() == ""
    boxes = b"".join(content for name, content in tree(tmp_path / "job/in/predictions").items())
    assert b"f" * 32 not in boxes
    assert (b"cat" if suffix != ".txt" else b"0, 1, 1, 4, 4") in boxes


@pytest.mark.parametrize(("mining", "infer"), [(True, False), (False, True), (True, True)])
def test_mining_and_inference_are_asked_for_alone_or_in_one_run(tmp_path, mining, infer):
    pool = drawn(tmp_path / "c", ["red", "blue"])
    task = Task("t1", ("cat", "dog"), mining=mining, infer=infer, candidates=pool, model=package(tmp_path))
    write_in(tmp_path / "job", task)
    config, env = (yaml.safe_load((tmp_path / f"job/in/{name}.yaml").read_text()) for name in ("config", "env"))
    assert (config["run_mining"], config["run_infer"]) == (mining, infer)
    assert (env["run_training"], env["run_mining"], env["run_infer"]) == (False, mining, infer)
    assert env["input"]["training_index_file"] == ""
    assert len((tmp_path / "job/in/candidate-index.tsv").read_text().splitlines()) == 2
    assert task.kind == "+".join(name for name, asked in (("mining", mining), ("infer", infer)) if asked)


@pytest.mark.parametrize(("stage", "used"), [("", "epoch20"), ("epoch10", "epoch10"), ("epoch20", "epoch20")])
def test_the_stage_of_a_model_is_the_best_unless_another_is_chosen(tmp_path, stage, used):
    pool = drawn(tmp_path / "c", ["red"])
    task = Task("t1", ("cat", "dog"), infer=True, candidates=pool, model=package(tmp_path), stage=stage)
    write_in(tmp_path / "job", task)
    paths = yaml.safe_load((tmp_path / "job/in/config.yaml").read_text())["model_params_path"]
    assert paths == [f"/in/models/{used}/{used}.pt", f"/in/models/{used}/config.py"]
    assert all((tmp_path / "job" / path.lstrip("/")).is_file() for path in paths)


@pytest.mark.parametrize("kind", ["training", "infer"])
def test_reserved_keys_are_always_those_of_the_task_and_all_others_the_users(tmp_path, kind):
    forged = {
        "task_id": "other",
        "class_names": ["bird"],
        "gpu_id": "7",
        "pretrained_model_params": ["/etc/passwd"],
        "model_params_path": ["/etc/passwd"],
        "run_infer": "yes",
        "run_mining": "yes",
    }
    own = {"epochs": 3, "git_branch": "x", "code_config": "a.yaml", "shm_size": "1G", "gpu_count": 2}
    config = forged | own | {"export_format": "ark:raw"}
    task = training(tmp_path, config=config, gpu_id="0,1")
    if kind == "infer":
        task = replace(task, training=False, infer=True, candidates=task.val, train=None, val=None)
        task = replace(task, model=package(tmp_path))
    write_in(tmp_path / "job", task)
    written = yaml.safe_load((tmp_path / "job/in/config.yaml").read_text())
    expected = {"task_id": "t1", "class_names": ["cat", "dog"], "gpu_id": "0,1"} | own | {"export_format": "ark:raw"}
    if kind == "infer":
        stage = "/in/models/epoch20/"
        paths = [f"{stage}epoch20.pt", f"{stage}config.py"]
        expected |= {"model_params_path": paths, "run_infer": True, "run_mining": False}
    assert written == expected


def test_live_code_is_part_of_what_makes_two_tasks_differ(tmp_path):
    one, other = (training(tmp_path, config={"git_url": "/x", "git_branch": branch}) for branch in ("a", "b"))
    assert one.digest() != other.digest()
    assert one.digest() == replace(one, allow_network=True).digest()
