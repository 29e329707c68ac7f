import io
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ymir_nb.backend import contract
from ymir_nb.backend.errors import FormatNotRecognised, ImportRefused, UnknownLabels
from ymir_nb.backend.importing import import_dataset

TURNS = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}
"""How an upright picture is turned to be stored with an EXIF orientation."""


def store(upright: Image.Image, orientation: int) -> bytes:
    turn = TURNS[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    buffer = io.BytesIO()
    (upright if turn is None else upright.transpose(turn)).save(buffer, "JPEG", quality=95, exif=exif)
    return buffer.getvalue()


@pytest.mark.parametrize("orientation", TURNS)
def test_case_12_what_an_executor_gets_shows_the_object_where_its_box_is(workspace, tmp_path, orientation):
    """A red patch is boxed on the upright picture; import, thumbnail and export must all show it there."""
    pixels = np.full((60, 100, 3), 90, dtype=np.uint8)
    pixels[10:30, 60:90] = (250, 0, 0)
    folder = tmp_path / "photos"
    folder.mkdir()
    (folder / "a.jpg").write_bytes(store(Image.fromarray(pixels), orientation))
    box = "<bndbox><xmin>60</xmin><ymin>10</ymin><xmax>90</xmax><ymax>30</ymax></bndbox>"
    size = "<size><width>100</width><height>60</height><depth>3</depth></size>"
    (folder / "a.xml").write_text(f"<annotation>{size}<object><name>red</name>{box}</object></annotation>")
    dataset = import_dataset(workspace, "photos", folder, unknown_labels="add")
    assert dataset.annotations[["x1", "y1", "x2", "y2"]].to_numpy().tolist() == [[60, 10, 90, 30]]
    (small,) = (dataset.media.thumbnail(image, side_px=50) for image in dataset.images["image"])
    task = contract.Task(
        "t",
        ("red",),
        training=True,
        train=dataset,
        val=_other(workspace, tmp_path),
        config={"export_format": "ark:raw"},
    )
    contract.write_in(
        tmp_path / "job", task, in_root=str(tmp_path / "job" / "in"), out_root=str(tmp_path / "job" / "out")
    )
    image, annotation = (tmp_path / "job" / "in" / "train-index.tsv").read_text().split()
    x1, y1, x2, y2 = (int(number) for number in Path(annotation).read_text().split(", ")[1:5])
    for picture, scale in ((Image.open(image), 1.0), (Image.open(io.BytesIO(small)), 0.5)):
        seen = np.asarray(picture.convert("RGB"), dtype=int)
        assert seen.shape == (60 * scale, 100 * scale, 3)
        inside = seen[int(y1 * scale) + 2 : int(y2 * scale) - 2, int(x1 * scale) + 2 : int(x2 * scale) - 2]
        assert (inside[..., 0] > 200).all()
        assert (inside[..., 1] < 60).all()
        assert (seen[..., 0] > 200).sum() < 30 * 20 * scale**2 * 1.3


def _other(workspace, tmp_path):
    folder = tmp_path / "other"
    folder.mkdir()
    Image.new("RGB", (20, 20)).save(folder / "b.jpg")
    size = "<size><width>20</width><height>20</height><depth>3</depth></size>"
    box = "<bndbox><xmin>1</xmin><ymin>1</ymin><xmax>9</xmax><ymax>9</ymax></bndbox>"
    (folder / "b.xml").write_text(f"<annotation>{size}<object><name>red</name>{box}</object></annotation>")
    return import_dataset(workspace, "other", folder)


def test_the_blood_cells_come_in_with_their_two_zero_area_boxes_reported(workspace, shared):
    dataset = import_dataset(workspace, "cells", shared / "bccd_voc", unknown_labels="add")
    assert (dataset.ref, len(dataset), dataset.n_boxes) == ("cells@v1", 364, 4886)
    assert dataset.labels == ("Platelets", "RBC", "WBC")
    rejected = [row.file for row in dataset.report.rows if row.kind == "rejected"]
    assert len(rejected) == 2
    assert dataset.images["split"].value_counts().to_dict() == {"train": 205, "val": 87, "test": 72}
    kept = json.loads(workspace.store.read(workspace.version("cells"), "report.json"))
    assert kept["n_rejected"] == 2


def test_the_same_truth_in_voc_and_in_coco_is_the_same_boxes(workspace, shared):
    base = shared / "multiformat_voc100" / "database"
    found = []
    for name, form in (("pascalvoc_format", "voc"), ("coco_format_v1", "coco"), ("coco_format_v2", "coco")):
        folder = workspace.root.parent / name
        folder.mkdir()
        shutil.copytree(base / "images", folder / "images")
        for path in (base / "gts" / name).iterdir():
            (folder / path.name).write_bytes(path.read_bytes())
        dataset = import_dataset(workspace, name, folder, format=form, unknown_labels="add")
        found.append(dataset.annotations[["image", "label", "x1", "y1", "x2", "y2"]])
    assert len(found[0]) == 273
    for other in found[1:]:
        assert other.reset_index(drop=True).equals(found[0].reset_index(drop=True))


def test_case_5_a_truncated_zip_is_refused_and_nothing_is_committed(workspace, tmp_path, draw):
    import zipfile

    path = tmp_path / "photos.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for n in range(4):
            archive.writestr(f"images/{n}.jpg", draw(n))
    path.write_bytes(path.read_bytes()[:-200])
    head = workspace.store.git.head()
    with pytest.raises(ImportRefused):
        import_dataset(workspace, "photos", path)
    assert workspace.store.git.head() == head
    assert not list(workspace.store.objects.directory.rglob("*"))


def test_case_23_nothing_is_stored_where_a_label_is_unknown(workspace, shared):
    with pytest.raises(UnknownLabels) as stop:
        import_dataset(workspace, "cells", shared / "bccd_voc")
    assert stop.value.counts == {"Platelets": 361, "RBC": 4153, "WBC": 372}
    assert not list(workspace.store.objects.directory.rglob("*"))
    assert workspace.labels.names == ()


def test_an_import_with_no_usable_image_says_why(workspace, tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").write_bytes(b"<html>no photo</html>")
    with pytest.raises(ImportRefused, match=r"a\.jpg"):
        import_dataset(workspace, "photos", tmp_path / "photos", format="images")
    with pytest.raises((ImportRefused, FormatNotRecognised)):
        import_dataset(workspace, "photos", tmp_path / "nowhere")
