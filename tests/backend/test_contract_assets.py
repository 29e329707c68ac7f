"""Images in `/in`: linked from a real workspace, rescaled where that is asked, and results carried back."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from ymir_nb.backend import masks
from ymir_nb.backend.contract import Task, longside_px, preflight, write_in
from ymir_nb.backend.dataset import Dataset
from ymir_nb.backend.detections import read_infer
from ymir_nb.backend.errors import ObjectDamaged, PreflightFailed, ProtocolViolated, StoreError
from ymir_nb.backend.images import inspect
from ymir_nb.backend.many_files import write_files
from ymir_nb.backend.scaling import rescale, rescaled_size
from ymir_nb.backend.workspace import Workspace

RESIZE = {"preprocess": {"longside_resize": {"dest_size": 60}}}


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    return Workspace.init(tmp_path_factory.mktemp("assets") / "ws")


def put(workspace: Workspace, shade: int, size: tuple[int, int], *, kind: str = "JPEG", orientation: int = 1) -> dict:
    """Store a picture, its left half dark and its right half of a shade, and describe it."""
    pixels = np.zeros((size[1], size[0], 3), dtype=np.uint8)
    pixels[:, size[0] // 2 :] = shade
    exif = Image.Exif()
    exif[0x0112] = orientation
    sink = io.BytesIO()
    Image.fromarray(pixels).save(sink, kind, exif=exif)
    info = inspect(sink.getvalue(), f"{shade}.{kind.lower()}")
    row = {name: getattr(info, name) for name in ("format", "mode", "width", "height", "orientation", "n_bytes")}
    return row | {"image": workspace.store.objects.put(sink.getvalue()), "file": f"{shade}.jpg", "labelled": True}


def task(workspace: Workspace, rows: list[dict], boxes: list[dict], config: dict) -> Task:
    """Train on the first images, check on the last one."""
    sides = {
        role: Dataset.of(
            side,
            [b for b in boxes if b["image"] in {row["image"] for row in side}],
            labels=["dog"],
            media=workspace.media,
        )
        for role, side in (("train", rows[:-1]), ("val", rows[-1:]))
    }
    return Task("t1", ("dog",), config, training=True, **sides)


def exported(folder: Path) -> dict[str, Path]:
    return {path.stem: path for path in (folder / "in/assets").rglob("*.*")}


def test_images_of_a_workspace_are_linked_and_never_copied(tmp_path, workspace):
    rows = [put(workspace, shade, (40, 30)) for shade in range(50, 59)]
    write_in(tmp_path / "job", task(workspace, rows, [], {}))
    found = exported(tmp_path / "job")
    assert len(found) == 9
    assert all(path.samefile(workspace.media.path(image)) for image, path in found.items())


def test_case_16_an_image_that_changed_since_the_last_job_stops_the_next_one(tmp_path, workspace):
    rows = [put(workspace, shade, (40, 30)) for shade in (20, 21)]
    work = task(workspace, rows, [], {})
    write_in(tmp_path / "job1", work)
    path = workspace.media.path(rows[0]["image"])
    path.chmod(0o644)
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(ObjectDamaged, match=rows[0]["image"]):
        write_in(tmp_path / "job2", work)


def test_inputs_that_cannot_be_written_are_an_error_of_the_disk_with_the_place(tmp_path, workspace):
    (tmp_path / "job").write_text("a file where the folder belongs")
    rows = [put(workspace, shade, (40, 30)) for shade in (60, 61)]
    with pytest.raises(StoreError, match=r"cannot write the job's inputs below .*job"):
        write_in(tmp_path / "job", task(workspace, rows, [], {}))


def test_small_files_are_written_and_the_empty_ones_of_a_folder_are_one(tmp_path):
    files = {"ab/1.txt": b"", "ab/2.txt": b"x", "ab/3.txt": b"", "cd/4.txt": b""}
    write_files(tmp_path / "out", files)
    assert {name: (tmp_path / "out" / name).read_bytes() for name in files} == files
    inodes = {name: (tmp_path / "out" / name).stat().st_ino for name in files}
    assert inodes["ab/1.txt"] == inodes["ab/3.txt"]
    assert len(set(inodes.values())) == 3
    with pytest.raises(FileExistsError):
        write_files(tmp_path / "out", {"ab/2.txt": b"y"})


@pytest.mark.parametrize(
    ("size", "pixels", "expected"),
    [
        ((640, 480), 320, (320, 240)),
        ((480, 640), 320, (240, 320)),
        ((100, 30), 640, (640, 192)),
        ((1000, 1), 10, (10, 1)),
        ((333, 222), 100, (100, 67)),
        ((640, 480), 0, (640, 480)),
    ],
)
def test_the_longer_side_gets_the_length_and_the_other_follows(size, pixels, expected):
    assert rescaled_size(*size, pixels) == expected


def test_larger_and_smaller_images_are_rescaled_and_one_of_that_size_is_linked(tmp_path, workspace):
    rows = [
        put(workspace, 80, (120, 90)),
        put(workspace, 81, (30, 20)),
        put(workspace, 82, (60, 45)),
        put(workspace, 83, (120, 90), kind="PNG"),
        put(workspace, 84, (120, 90), orientation=6),
    ]
    write_in(tmp_path / "job", task(workspace, rows, [], RESIZE))
    found = exported(tmp_path / "job")
    sizes, suffixes = [], []
    for row in rows:
        suffixes.append(found[row["image"]].suffix)
        with Image.open(found[row["image"]]) as picture:
            sizes.append(picture.size)
            assert picture.mode == "RGB"
            assert 0x0112 not in picture.getexif() or picture.getexif()[0x0112] == 1
            assert picture.format == {".jpg": "JPEG", ".png": "PNG"}[suffixes[-1]]
    assert sizes == [(60, 45), (60, 40), (60, 45), (60, 45), (45, 60)]
    assert suffixes == [".jpg", ".jpg", ".jpg", ".png", ".jpg"]
    assert [found[row["image"]].samefile(workspace.media.path(row["image"])) for row in rows] == [
        False,
        False,
        True,
    ] + [False] * 2
    with Image.open(found[rows[3]["image"]]) as picture:
        assert picture.getpixel((10, 20)) == (0, 0, 0)
        assert picture.getpixel((50, 20)) == (83, 83, 83)


def test_boxes_polygons_and_masks_follow_their_image(tmp_path, workspace):
    rows = [put(workspace, shade, (120, 90)) for shade in (90, 91)]
    pixels = np.zeros((90, 120), dtype=bool)
    pixels[20:40, 10:60] = True
    shapes = [json.dumps([[10, 20, 60, 20, 60, 40]]), json.dumps(masks.from_pixels(pixels)), ""]
    box = {"image": rows[0]["image"], "label": "dog", "x1": 10.0, "y1": 20.0, "x2": 60.0, "y2": 40.0, "area_px": 1000.0}
    boxes = [box | {"segmentation": shape} for shape in shapes]
    write_in(tmp_path / "job", task(workspace, rows, boxes, RESIZE | {"export_format": "coco:raw"}))
    document = json.loads((tmp_path / "job/in/annotations/coco-annotations.json").read_text())
    assert [entry["bbox"] for entry in document["annotations"]] == [[5, 10, 25, 10]] * 3
    assert {entry["area"] for entry in document["annotations"]} == {250}
    by_kind = {type(e["segmentation"]).__name__ + str(bool(e["segmentation"])): e for e in document["annotations"]}
    assert by_kind["listTrue"]["segmentation"] == [[5, 10, 30, 10, 30, 20]]
    small = masks.to_pixels(by_kind["dictTrue"]["segmentation"])
    assert small.shape == (45, 60)
    assert small.sum() == small[10:20, 5:30].sum() == 250
    assert {(image["width"], image["height"]) for image in document["images"]} == {(60, 45)}


def test_the_order_is_not_handed_on_and_what_else_stands_there_is(tmp_path, workspace):
    rows = [put(workspace, shade, (40, 30)) for shade in (70, 71)]
    write_in(tmp_path / "a", task(workspace, rows, [], RESIZE))
    assert "preprocess" not in yaml.safe_load((tmp_path / "a/in/config.yaml").read_text())
    both = {"preprocess": RESIZE["preprocess"] | {"flip": True}}
    write_in(tmp_path / "b", task(workspace, rows, [], both))
    assert yaml.safe_load((tmp_path / "b/in/config.yaml").read_text())["preprocess"] == {"flip": True}
    write_in(tmp_path / "c", task(workspace, rows, [], {"preprocess": "mosaic"}))
    assert yaml.safe_load((tmp_path / "c/in/config.yaml").read_text())["preprocess"] == "mosaic"


@pytest.mark.parametrize("value", [None, 0, -5, 1 << 20, "640", 64.0, True, {}])
def test_a_length_that_is_no_number_of_pixels_is_refused(workspace, value):
    rows = [put(workspace, shade, (40, 30)) for shade in (70, 71)]
    config = {"preprocess": {"longside_resize": {"dest_size": value}}}
    with pytest.raises(PreflightFailed, match="dest_size"):
        preflight(task(workspace, rows, [], config))
    with pytest.raises(PreflightFailed, match="dest_size"):
        longside_px({"preprocess": {"longside_resize": 640}})


@pytest.mark.parametrize("size", [(120, 90), (31, 17), (1000, 7)])
def test_there_and_back_the_edges_of_an_image_stay_its_edges(size):
    row = {"image": "a" * 32, "file": "a", "format": "PNG", "mode": "RGB", "n_bytes": 1, "labelled": True}
    images = Dataset.of([row | {"width": size[0], "height": size[1]}]).images
    box = {"image": "a" * 32, "label": "dog", "x1": 0.0, "y1": 0.0, "x2": float(size[0]), "y2": float(size[1])}
    whole = Dataset.of(images, [box | {"label": "dog"}], labels=["dog"]).annotations
    there = rescale(whole, images, 64)
    assert there.loc[0, ["x2", "y2"]].tolist() == list(rescaled_size(*size, 64))
    assert rescale(there, images, 64, back=True).equals(whole)


def infer_out(folder: Path, document: dict) -> Path:
    folder.mkdir()
    (folder / "infer-result.json").write_text(json.dumps(document))
    return folder


def test_what_is_found_on_rescaled_images_is_carried_back_to_their_own_size(tmp_path, workspace):
    images = Dataset.of([put(workspace, 99, (120, 90))]).images
    name = f"{images['image'].iloc[0]}.jpg"
    box = {"class_name": "dog", "score": 0.5, "box": {"x": 5, "y": 10, "w": 60, "h": 10}}
    out = infer_out(tmp_path / "out", {"detection": {name: {"boxes": [box]}}})
    found = read_infer(out, images, ["dog"], longside_px=60)
    assert found.annotations[["x1", "y1", "x2", "y2"]].to_numpy().tolist() == [[10.0, 20.0, 120.0, 40.0]]
    assert found.notes == ("1 boxes were clipped to their image",)
    own = read_infer(out, images, ["dog"])
    assert own.annotations[["x1", "y1", "x2", "y2"]].to_numpy().tolist() == [[5.0, 10.0, 65.0, 20.0]]


def coco_result(name: str, segmentation: object) -> dict:
    entry = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [5, 10, 20, 10], "confidence": 0.5, "area": 200}
    return {
        "images": [{"id": 1, "file_name": name}],
        "categories": [{"id": 1, "name": "dog"}],
        "annotations": [entry | {"segmentation": segmentation}],
    }


def test_polygons_and_masks_are_carried_back_as_well(tmp_path, workspace):
    images = Dataset.of([put(workspace, 99, (120, 90))]).images
    name = f"{images['image'].iloc[0]}.jpg"
    pixels = np.zeros((45, 60), dtype=bool)
    pixels[10:20, 5:25] = True
    polygon = infer_out(tmp_path / "p", coco_result(name, [[5, 10, 25, 10, 25, 20]]))
    mask = infer_out(tmp_path / "m", coco_result(name, masks.from_pixels(pixels)))
    found = [read_infer(out, images, ["dog"], longside_px=60).annotations.iloc[0] for out in (polygon, mask)]
    assert [row["area_px"] for row in found] == [800.0, 800.0]
    assert json.loads(found[0]["segmentation"]) == [[10, 20, 50, 20, 50, 40]]
    large = masks.to_pixels(json.loads(found[1]["segmentation"]))
    assert large.shape == (90, 120)
    assert large.sum() == large[20:40, 10:50].sum() == 800


@pytest.mark.parametrize("segmentation", [{"size": [45, 60], "counts": "zz"}, [5, 10], {"a": 1}, [["x", "y"]]])
def test_a_shape_that_cannot_be_carried_back_breaks_the_contract(tmp_path, workspace, segmentation):
    images = Dataset.of([put(workspace, 99, (120, 90))]).images
    out = infer_out(tmp_path / "out", coco_result(f"{images['image'].iloc[0]}.jpg", segmentation))
    with pytest.raises(ProtocolViolated, match="segmentation"):
        read_infer(out, images, ["dog"], longside_px=60)
