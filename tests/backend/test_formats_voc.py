"""Pascal VOC: layouts, odd files, hostile XML."""

from __future__ import annotations

import io
import json
import shutil
import time
from pathlib import Path

import pytest
from PIL import Image

from ymir_nb.backend.errors import FormatNotRecognised
from ymir_nb.backend.formats import guess_format, voc
from ymir_nb.backend.gathering import gather, hash_only
from ymir_nb.backend.labels import Labels
from ymir_nb.backend.sources import open_source

DATA = Path(__file__).resolve().parents[2] / "../shared/data"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="the shared datasets are not here")
BOX = "<bndbox><xmin>1</xmin><ymin>2</ymin><xmax>11</xmax><ymax>12</ymax></bndbox>"
DOG = f"<object><name>dog</name>{BOX}</object>"


def add_image(path: Path, *, size=(40, 30), colour=0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (colour, 100, 50)).save(path)


def add_xml(path: Path, body: str | bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(body if isinstance(body, bytes) else f"<annotation>{body}</annotation>".encode())


def gathered(folder: Path, **options):
    with open_source(folder) as source:
        return gather(source, labels=Labels(), put=hash_only, unknown_labels="add", **options)


def kinds(result) -> list[str]:
    return [row.kind for row in result.report.rows if row.kind != "added"]


@needs_data
def test_the_blood_cells_come_in_with_their_splits_and_two_boxes_without_area_are_reported():
    result = gathered(DATA / "bccd_voc")
    assert (len(result.images), len(result.annotations)) == (364, 4886)
    rejected = result.report.to_frame().query("kind == 'rejected'")
    assert rejected["file"].str.extract(r"(BloodImage_\d+)")[0].tolist() == ["BloodImage_00338", "BloodImage_00343"]
    assert rejected["reason"].str.contains("without area").all()
    assert (rejected["remedy"] != "").all()
    assert result.images["split"].value_counts().to_dict() == {"train": 205, "val": 87, "test": 72}
    assert result.images["labelled"].all()
    assert result.dataset_labels == ("Platelets", "RBC", "WBC")


@needs_data
@pytest.mark.parametrize("run", ["voc_raw/tr1"])
def test_a_folder_as_ymir_writes_it_comes_in_and_predictions_stay_out(run):
    result = gathered(DATA / "ymir_contract" / run / "in")
    assert (len(result.images), len(result.annotations), result.report.n_negatives) == (12, 19, 3)
    assert result.annotations[["score", "quality"]].isna().all(axis=None)
    assert kinds(result) == ["note"]


@pytest.mark.parametrize(
    ("image", "xml"),
    [
        ("JPEGImages/a.png", "Annotations/a.xml"),
        ("images/a.png", "annotations/a.xml"),
        ("images/a.png", "gt/a.xml"),
        ("a.png", "a.xml"),
        ("VOCdevkit/VOC2012/JPEGImages/a.png", "VOCdevkit/VOC2012/Annotations/a.xml"),
        ("images/A.png", "annotations/a.xml"),
        ("images/b.png", "annotations/1.xml"),
    ],
)
def test_every_layout_finds_its_images_by_main_name_then_by_file_name(tmp_path, image, xml):
    add_image(tmp_path / image)
    add_xml(tmp_path / xml, f"<filename>/in/x/{Path(image).name}</filename>{DOG}")
    result = gathered(tmp_path)
    assert result.annotations[["label", "x1", "y1", "x2", "y2"]].to_numpy().tolist() == [["dog", 1, 2, 11, 12]]
    assert kinds(result) == []


def test_of_images_with_one_name_the_nearest_counts(tmp_path):
    for split, colour in (("train", 1), ("val", 2)):
        add_image(tmp_path / split / "images" / "0.png", colour=colour)
        add_xml(tmp_path / split / "annotations" / "0.xml", f"<object><name>{split}</name>{BOX}</object>")
    result = gathered(tmp_path)
    merged = result.images.merge(result.annotations, on="image")
    assert (merged["label"] == merged["split"]).all()
    assert sorted(merged["label"]) == ["train", "val"]


def test_an_annotation_that_fits_two_images_is_given_to_none(tmp_path):
    add_image(tmp_path / "x" / "0.png", colour=1)
    add_image(tmp_path / "y" / "0.png", colour=2)
    add_xml(tmp_path / "z" / "0.xml", DOG)
    result = gathered(tmp_path)
    assert kinds(result) == ["unmatched"]
    assert not result.images["labelled"].any()


def test_flags_tags_keys_and_qualities_are_kept(tmp_path):
    add_image(tmp_path / "a.png")
    add_xml(
        tmp_path / "a.xml",
        "<image_quality>0.5000</image_quality><cks><site>north</site><hour>7</hour></cks>"
        f"<object><name> dog </name><pose>Left</pose><truncated>1</truncated><difficult>0</difficult>"
        f"<occluded>0</occluded>{BOX.replace('</bndbox>', '<rotate_angle>0.25</rotate_angle></bndbox>')}"
        "<tags><colour>brown</colour></tags><box_quality>0.7500</box_quality><confidence>0.9000</confidence></object>",
    )
    result = gathered(tmp_path)
    image, row = result.images.iloc[0], result.annotations.iloc[0]
    assert json.loads(image["keys"]) == {"site": "north", "hour": "7"}
    assert image["quality"] == 0.5
    assert json.loads(row["tags"]) == {"pose": "Left", "truncated": "1", "colour": "brown"}
    assert (row["label"], row["rotation"], row["quality"], row["score"]) == ("dog", 0.25, 0.75, 0.9)


def test_split_lists_win_over_trainval_and_contradictions_are_reported(tmp_path):
    for position, name in enumerate("abcd"):
        add_image(tmp_path / "JPEGImages" / f"{name}.png", colour=position)
        add_xml(tmp_path / "Annotations" / f"{name}.xml", DOG)
    lists = tmp_path / "ImageSets" / "Main"
    lists.mkdir(parents=True)
    for name, text in (("trainval", "a\nb\nc  1\n"), ("val", "b\n"), ("test", "d\nmissing\n"), ("train", "d\n")):
        (lists / f"{name}.txt").write_text(text)
    result = gathered(tmp_path)
    splits = dict(zip(result.images["file"].str[-5], result.images["split"], strict=True))
    assert splits == {"a": "train", "b": "val", "c": "train", "d": "test"}
    assert kinds(result) == ["unmatched", "conflict"]


def test_a_split_list_that_is_no_text_is_reported(tmp_path):
    add_image(tmp_path / "a.png")
    add_xml(tmp_path / "a.xml", DOG)
    (tmp_path / "ImageSets" / "Main").mkdir(parents=True)
    (tmp_path / "ImageSets" / "Main" / "train.txt").write_bytes(b"a\xff\xfe")
    assert kinds(gathered(tmp_path)) == ["unreadable"]


@pytest.mark.parametrize(
    "body",
    [
        '<!DOCTYPE a [<!ENTITY x "ha">]><annotation>&x;</annotation>',
        "<!DOCTYPE a [<!ENTITY l0 'lol'>"
        + "".join(f"<!ENTITY l{n} '{f'&l{n - 1};' * 10}'>" for n in range(1, 10))
        + "]><annotation><filename>&l9;</filename></annotation>",
        '<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><annotation><filename>&x;</filename></annotation>',
        '<!DOCTYPE a SYSTEM "http://127.0.0.1:9/x.dtd"><annotation/>',
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_case_18_document_types_and_entities_are_refused_at_once(tmp_path, body, encoding):
    add_image(tmp_path / "a.png")
    add_xml(tmp_path / "a.xml", body.encode(encoding))
    begun = time.perf_counter()
    result = gathered(tmp_path, format="voc")
    assert time.perf_counter() - begun < 1
    assert kinds(result) == ["unreadable"]
    assert "never expanded" in result.report.rows[0].reason
    assert result.report.n_unlabelled == 1


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"<annotation>\n  <object><name>dog</nam></object></annotation>", "line 2, column 2"),
        (b"", "line 1"),
        (b"<annotations/>", "root is <annotations>"),
        (b"<annotation>\xff\xfe</annotation>", "cannot be decoded"),
        (b'<?xml version="1.0" encoding="nonsense"?><annotation/>', "cannot be decoded"),
    ],
)
def test_case_19_a_malformed_file_is_reported_and_its_image_is_no_negative(tmp_path, body, said):
    add_image(tmp_path / "a.png")
    add_image(tmp_path / "b.png", colour=9)
    add_xml(tmp_path / "a.xml", body)
    add_xml(tmp_path / "b.xml", DOG)
    result = gathered(tmp_path, format="voc")
    (row,) = (row for row in result.report.rows if row.kind == "unreadable")
    assert row.file == "a.xml"
    assert said in row.reason
    assert (result.report.n_unlabelled, result.report.n_negatives) == (1, 0)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "latin-1", "gb18030"])
def test_case_19_byte_order_marks_and_other_encodings_are_understood(tmp_path, encoding):
    add_image(tmp_path / "a.png")
    declared = f'<?xml version="1.0" encoding="{encoding}"?>' if encoding in ("latin-1", "gb18030") else ""
    text = f"{declared}<annotation>{DOG.replace('dog', 'Käse')}</annotation>"
    add_xml(tmp_path / "a.xml", text.encode(encoding))
    assert gathered(tmp_path).dataset_labels == ("Käse",)


@pytest.mark.parametrize(
    ("numbers", "said"),
    [
        (("nan", 2, 11, 12), "not finite"),
        (("inf", 2, 11, 12), "not finite"),
        (("x", 2, 11, 12), "no number"),
        (("", 2, 11, 12), "no number"),
        ((11, 2, 1, 12), "inverted"),
        ((1, 2, 1, 12), "without area"),
        ((41, 2, 60, 12), "outside"),
        ((-9, -9, 0, 0), "outside"),
    ],
)
def test_case_20_boxes_that_are_none_are_rejected_and_counted(tmp_path, numbers, said):
    add_image(tmp_path / "a.png")
    tags = ("xmin", "ymin", "xmax", "ymax")
    box = "".join(f"<{tag}>{value}</{tag}>" for tag, value in zip(tags, numbers, strict=True))
    add_xml(tmp_path / "a.xml", f"<object><name>dog</name><bndbox>{box}</bndbox></object>{DOG}")
    result = gathered(tmp_path)
    assert len(result.annotations) == 1
    assert result.report.n_rejected == 1
    (row,) = (row for row in result.report.rows if row.kind == "rejected")
    assert (row.file, said in row.reason, "object 1" in row.reason, bool(row.remedy)) == ("a.png", True, True, True)
    assert result.images["labelled"].all()


def test_case_20_boxes_partly_outside_are_cut_and_texts_of_numbers_are_numbers(tmp_path):
    add_image(tmp_path / "a.png")
    box = "<xmin> -3.5 </xmin><ymin>1e1</ymin><xmax>41</xmax><ymax>30.0</ymax>"
    add_xml(tmp_path / "a.xml", f"<object><name>dog</name><bndbox>{box}</bndbox></object>")
    result = gathered(tmp_path)
    assert result.annotations[["x1", "y1", "x2", "y2"]].to_numpy().tolist() == [[0, 10, 40, 30]]
    assert result.report.n_clipped == 1


@needs_data
def test_case_24_numbers_are_plain_edges_so_voc_and_coco_agree_and_round_trips_are_stable(tmp_path):
    shared = DATA / "multiformat_voc100" / "database"
    frames = []
    for position, form in enumerate(("pascalvoc_format", "coco_format_v1", "coco_format_v2")):
        folder = tmp_path / str(position)
        shutil.copytree(shared / "images", folder / "images")
        shutil.copytree(shared / "gts" / form, folder / "annotations")
        frames.append(gathered(folder).annotations[["image", "label", "x1", "y1", "x2", "y2"]])
    assert len(frames[0]) == 273
    assert frames[0].equals(frames[1])
    assert frames[0].equals(frames[2])


def test_case_24_the_far_edge_of_a_picture_is_no_overhang(tmp_path):
    add_image(tmp_path / "a.png")
    box = "<xmin>1</xmin><ymin>1</ymin><xmax>40</xmax><ymax>30</ymax>"
    add_xml(tmp_path / "a.xml", f"<object><name>dog</name><bndbox>{box}</bndbox></object>")
    assert kinds(gathered(tmp_path)) == []


def test_case_27_an_empty_file_is_a_negative_and_no_file_is_unlabelled(tmp_path):
    for position, name in enumerate(("negative", "open", "lost")):
        add_image(tmp_path / f"{name}.png", colour=position)
    add_xml(tmp_path / "negative.xml", "<segmented>0</segmented>")
    add_xml(tmp_path / "lost.xml", DOG.replace("<xmin>1<", "<xmin>nan<"))
    result = gathered(tmp_path)
    labelled = dict(zip(result.images["file"], result.images["labelled"], strict=True))
    assert labelled == {"negative.png": True, "open.png": False, "lost.png": False}
    assert kinds(result) == ["unlabelled", "rejected"]


def test_a_file_made_for_another_picture_size_is_not_used(tmp_path):
    add_image(tmp_path / "a.png")
    add_xml(tmp_path / "a.xml", f"<size><width>80</width><height>60</height></size>{DOG}")
    result = gathered(tmp_path)
    assert kinds(result) == ["unlabelled"]
    assert "80 x 60 pixels, the picture has 40 x 30" in result.report.rows[0].reason
    assert not result.images["labelled"].any()


@pytest.mark.parametrize(("declared", "box"), [((40, 30), [18, 1, 28, 11]), ((30, 40), [1, 2, 11, 12]), ((0, 0), None)])
def test_case_12_the_declared_size_tells_whether_boxes_lie_on_stored_or_upright_pixels(tmp_path, declared, box):
    exif = Image.Exif()
    exif[0x0112] = 6
    file = io.BytesIO()
    Image.new("RGB", (40, 30)).save(file, "JPEG", exif=exif)
    (tmp_path / "a.jpg").write_bytes(file.getvalue())
    width, height = declared
    add_xml(tmp_path / "a.xml", f"<size><width>{width}</width><height>{height}</height></size>{DOG}")
    result = gathered(tmp_path)
    assert result.images[["width", "height", "orientation"]].to_numpy().tolist() == [[30, 40, 6]]
    assert result.annotations[["x1", "y1", "x2", "y2"]].to_numpy().tolist() == [box or [1, 2, 11, 12]]


def test_a_second_file_for_one_image_is_a_conflict(tmp_path):
    add_image(tmp_path / "a.png")
    add_xml(tmp_path / "one" / "a.xml", DOG)
    add_xml(tmp_path / "two" / "a.xml", DOG.replace("dog", "cat"))
    result = gathered(tmp_path)
    assert result.annotations["label"].tolist() == ["dog"]
    assert kinds(result) == ["conflict"]


def test_voc_is_recognised_by_its_root_and_asked_for_in_vain_where_there_is_none(tmp_path):
    add_image(tmp_path / "a.png")
    add_xml(tmp_path / "cvat.xml", b"<annotations/>")
    with open_source(tmp_path) as source:
        assert voc.recognise(source) == ""
        with pytest.raises(FormatNotRecognised, match=r"1 \.png files, 1 \.xml files"):
            guess_format(source)
    (tmp_path / "cvat.xml").unlink()
    with pytest.raises(FormatNotRecognised, match="no annotations of the format 'voc'"):
        gathered(tmp_path, format="voc")
