"""COCO: polygons and masks, odd ids, odd files, splits."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image
from pycocotools import mask

from ymir_nb.backend.errors import ImportRefused
from ymir_nb.backend.formats import coco
from ymir_nb.backend.gathering import gather, hash_only
from ymir_nb.backend.labels import Labels
from ymir_nb.backend.sources import open_source

DATA = Path(__file__).resolve().parents[2] / "../shared/data"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="the shared datasets are not here")
DOG = {"id": 1, "image_id": 1, "category_id": 7, "bbox": [1, 2, 10, 10], "area": 100, "iscrowd": 0}


def document(*objects, images=None, categories=None) -> dict:
    return {
        "images": [{"id": 1, "file_name": "a.png", "width": 40, "height": 30}] if images is None else images,
        "annotations": list(objects),
        "categories": [{"id": 7, "name": "dog"}, {"id": 90, "name": "cat"}] if categories is None else categories,
    }


def gathered(folder: Path, data=None, *, name="coco.json", images=("a.png",), **options):
    for position, image in enumerate(images):
        (folder / image).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (40, 30), (position, 100, 50)).save(folder / image)
    if data is not None:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data if isinstance(data, bytes) else json.dumps(data).encode())
    with open_source(folder) as source:
        return gather(source, labels=Labels(), put=hash_only, unknown_labels="add", **options)


def kinds(result) -> list[str]:
    return [row.kind for row in result.report.rows if row.kind != "added"]


def corners(result) -> list[list[float]]:
    return result.annotations[["x1", "y1", "x2", "y2"]].to_numpy().tolist()


@needs_data
def test_fruits_and_nuts_keep_their_polygons_and_areas():
    result = gathered(DATA / "fruits_nuts_cocoseg", images=())
    assert (len(result.images), len(result.annotations)) == (18, 165)
    assert (result.annotations["segmentation"].str[:2] == "[[").all()
    assert result.annotations["area_px"].gt(0).all()
    assert result.annotations["label"].value_counts().to_dict() == {"date": 71, "hazelnut": 53, "fig": 41}
    assert kinds(result) == []


@needs_data
def test_a_file_as_ymir_writes_it_keeps_its_masks_and_predictions_stay_out():
    result = gathered(DATA / "ymir_contract" / "mir_ins-seg" / "tr1" / "in", images=())
    masks = [json.loads(text) for text in result.annotations["segmentation"] if text.startswith("{")]
    assert (len(result.images), len(result.annotations), len(masks)) == (12, 24, 12)
    for one in masks:
        assert mask.area(one) > 0
    assert result.annotations["score"].isna().all()
    assert kinds(result) == ["note"]


def test_scores_attributes_crowds_and_splits_are_kept(tmp_path):
    run = {**DOG, "iscrowd": 1, "segmentation": {"size": [30, 40], "counts": [0, 100, 1100]}, "area": 50}
    run |= {"score": 0.5, "attributes": {"occluded": False, "colour": "brown", "n": 3}}
    result = gathered(tmp_path, document(run), name="annotations/instances_train2017.json", images=["train2017/a.png"])
    row = result.annotations.iloc[0]
    assert json.loads(row["tags"]) == {"occluded": "false", "colour": "brown", "n": "3"}
    assert (row["score"], row["crowd"], row["area_px"]) == (0.5, True, 50)
    assert json.loads(row["segmentation"]) == {"size": [30, 40], "counts": [0, 100, 1100]}
    assert result.images["split"].tolist() == ["train"]


def test_files_of_one_name_in_two_splits_go_to_the_right_picture(tmp_path):
    for split, label in (("train", "dog"), ("val", "cat")):
        data = document({**DOG, "category_id": {"dog": 7, "cat": 90}[label]})
        (tmp_path / "annotations").mkdir(exist_ok=True)
        (tmp_path / "annotations" / f"instances_{split}2017.json").write_text(json.dumps(data))
    result = gathered(tmp_path, images=["train2017/a.png", "val2017/a.png"])
    merged = result.images.merge(result.annotations, on="image")
    assert dict(zip(merged["split"], merged["label"], strict=True)) == {"train": "dog", "val": "cat"}


def test_other_coco_files_are_passed_over_where_there_are_instances(tmp_path):
    (tmp_path / "captions_val.json").write_text(json.dumps(document({"id": 1, "image_id": 1, "caption": "x"})))
    result = gathered(tmp_path, document(DOG), name="instances_val.json")
    assert corners(result) == [[1, 2, 11, 12]]
    assert kinds(result) == ["note"]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b'{"images": [],\n  "annotations": [}', "line 2, column"),
        (b'{"images": 3}', "no list `images`"),
        (b"[1, 2]", "no list `images`"),
        (b'{"images": \xff}', "line 1"),
        (b'{"images": [NaN', "line 1"),
        (b"[" * 100_000, "line 1"),
        (b'{"images": [], "x": [NaN, "\\ud800"]}', "cannot be read"),
        (b'{"images": [], "x": [NaN, 1' + b"0" * 400 + b"]}", "cannot be read"),
        (b"", "line 1"),
    ],
)
def test_case_19_a_malformed_file_is_reported_and_no_image_is_a_negative(tmp_path, body, said):
    result = gathered(tmp_path, body, format="coco")
    (row,) = result.report.rows
    assert (row.kind, row.file) == ("unreadable", "coco.json")
    assert said in row.reason
    assert (result.report.n_unlabelled, result.report.n_negatives) == (1, 0)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
def test_case_19_byte_order_marks_and_utf16_are_understood(tmp_path, encoding):
    data = document(DOG, categories=[{"id": 7, "name": "Käse"}])
    result = gathered(tmp_path, json.dumps(data, ensure_ascii=False).encode(encoding))
    assert result.dataset_labels == ("Käse",)


def test_case_19_a_file_over_the_limit_is_refused_before_it_is_read(tmp_path):
    data = document(DOG)
    gathered(tmp_path, data)
    with (tmp_path / "coco.json").open("r+b") as file:
        file.truncate(coco.MAX_JSON_BYTES + 1)  # a sparse file: it takes no room
    with pytest.raises(ImportRefused, match="Split it into several files"):
        gathered(tmp_path, format="coco")


@pytest.mark.parametrize(
    ("bbox", "said"),
    [
        ([float("nan"), 2, 3, 4], "not finite"),
        ([1, 2, float("inf"), 4], "not finite"),
        (["x", 2, 3, 4], "no number"),
        ([None, 2, 3, 4], "no number"),
        ([True, 2, 3, 4], "no number"),
        ([9, 9, -3, 4], "inverted"),
        ([9, 9, 0, 4], "without area"),
        ([1, 2, 3], "four numbers"),
        ("1 2 3 4", "four numbers"),
        ([50, 50, 5, 5], "outside"),
    ],
)
def test_case_20_boxes_that_are_none_are_rejected_and_counted(tmp_path, bbox, said):
    result = gathered(tmp_path, document({**DOG, "bbox": bbox}, {**DOG, "id": 2}))
    assert (len(result.annotations), result.report.n_rejected) == (1, 1)
    (row,) = (row for row in result.report.rows if row.kind == "rejected")
    assert row.file == "a.png"
    assert said in row.reason
    assert row.remedy


def test_case_20_boxes_partly_outside_are_cut_and_rounding_makes_no_noise(tmp_path):
    loud, quiet = {**DOG, "bbox": ["-4", "1e1", 10, 99]}, {**DOG, "id": 2, "bbox": [39.9, 29.9, 0.1 + 1e-9, 0.1]}
    result = gathered(tmp_path, document(loud, quiet))
    assert corners(result) == [[0, 10, 6, 30], [39.9, 29.9, 40, 30]]
    assert result.report.n_clipped == 1


def test_case_22_ids_may_have_gaps_and_be_texts(tmp_path):
    data = document(
        {**DOG, "image_id": "x", "category_id": 4000},
        images=[{"id": "x", "file_name": "a.png"}],
        categories=[{"id": 4000, "name": "dog"}, {"id": 3, "name": "cat"}],
    )
    assert gathered(tmp_path, data).annotations["label"].tolist() == ["dog"]


def test_case_22_equal_annotation_ids_are_listed_and_equal_rows_count_once(tmp_path):
    result = gathered(tmp_path, document(DOG, DOG, {**DOG, "bbox": [5, 5, 5, 5]}))
    assert corners(result) == [[1, 2, 11, 12], [5, 5, 10, 10]]
    assert kinds(result) == ["note", "note"]


def test_case_22_an_image_id_for_two_files_labels_neither(tmp_path):
    images = [{"id": 1, "file_name": "a.png"}, {"id": 1, "file_name": "b.png"}]
    result = gathered(tmp_path, document(DOG, images=images), images=["a.png", "b.png"])
    assert kinds(result) == ["rejected", "conflict"]
    assert not result.images["labelled"].any()


def test_case_22_a_category_id_with_two_names_labels_nothing(tmp_path):
    result = gathered(tmp_path, document(DOG, categories=[{"id": 7, "name": "dog"}, {"id": 7, "name": "cat"}]))
    assert len(result.annotations) == 0
    assert kinds(result) == ["unlabelled", "rejected", "conflict"]


def test_case_22_missing_images_and_categories_are_listed_with_what_they_cost(tmp_path):
    images = [{"id": 1, "file_name": "a.png"}, {"id": 2, "file_name": "gone.png"}]
    lost = [{**DOG, "id": n, "image_id": 2} for n in (2, 3)]
    data = document(DOG, *lost, {**DOG, "id": 4, "image_id": 55}, {**DOG, "id": 5, "category_id": 1}, images=images)
    result = gathered(tmp_path, data)
    rows = {row.kind: row for row in result.report.rows}
    assert (rows["unmatched"].file, "its 2 objects" in rows["unmatched"].reason) == ("gone.png", True)
    assert sorted(row.reason for row in result.report.rows if row.kind == "rejected") == [
        "1 objects belong to image_id 55, which is not listed or not used",
        "coco.json, annotation 5: category_id 1 has no (one) name",
    ]
    assert len(result.annotations) == 1


def test_case_22_a_size_that_is_not_the_files_makes_the_image_unlabelled(tmp_path):
    images = [{"id": 1, "file_name": "a.png", "width": 400, "height": 300}]
    result = gathered(tmp_path, document(DOG, images=images))
    assert kinds(result) == ["unlabelled"]
    assert "its 1 objects are not used" in result.report.rows[0].reason
    assert not result.images["labelled"].any()


@pytest.mark.parametrize(
    "segmentation",
    [
        [[1, 2, 3]],
        [[1, 2, 3, 4, 5, "x"]],
        [[1, 2, 3, 4, 5, 6, 7]],
        [5],
        {"size": [30, 40], "counts": [1, 2]},
        {"size": "x", "counts": "y"},
        {"size": [30, 40], "counts": [-1, 1201]},
        {"counts": "abc"},
        "text",
    ],
)
def test_case_22_a_spoilt_outline_is_listed_and_its_box_is_kept(tmp_path, segmentation):
    result = gathered(tmp_path, document({**DOG, "segmentation": segmentation}))
    assert result.annotations["segmentation"].tolist() == [""]
    assert kinds(result) == ["note"]


@pytest.mark.parametrize("key", ["images", "annotations", "categories"])
@pytest.mark.parametrize("value", [3, "x", None, [None], [3], [[]], [{}], [{"id": []}], [{"id": {}, "name": 3}]])
def test_case_22_lists_of_anything_else_never_break_the_import(tmp_path, key, value):
    result = gathered(tmp_path, document(DOG) | {key: value}, format="coco")
    assert len(result.images) == 1
    assert result.report.rows


def test_case_27_a_listed_image_without_objects_is_a_negative_and_an_unlisted_one_is_unlabelled(tmp_path):
    result = gathered(tmp_path, document(), images=["a.png", "b.png"])
    labelled = dict(zip(result.images["file"], result.images["labelled"], strict=True))
    assert labelled == {"a.png": True, "b.png": False}
    assert (result.report.n_negatives, result.report.n_unlabelled) == (1, 1)


def test_polygons_turn_with_boxes_that_lie_on_stored_pixels(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (40, 30)).save(tmp_path / "a.jpg", exif=exif)
    images = [{"id": 1, "file_name": "a.jpg", "width": 40, "height": 30}]
    outline = {**DOG, "segmentation": [[1, 2, 11, 2, 11, 12, 1, 12]]}
    result = gathered(tmp_path, document(outline, images=images), images=())
    assert corners(result) == [[18, 1, 28, 11]]
    assert json.loads(result.annotations["segmentation"][0]) == [[28, 1, 28, 11, 18, 11, 18, 1]]
