"""From a source to tables: labels, duplicates, quarantine, reports, and back out again."""

from __future__ import annotations

import io
import json
import shutil
import struct
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from ymir_nb.backend.dataset import Dataset
from ymir_nb.backend.errors import FormatNotRecognised, ImportRefused, StoreError, UnknownLabels
from ymir_nb.backend.formats import FORMATS
from ymir_nb.backend.gathering import gather, hash_only
from ymir_nb.backend.images import inspect
from ymir_nb.backend.labels import Labels
from ymir_nb.backend.sources import open_source
from ymir_nb.backend.tables import ANNOTATIONS, IMAGES, to_parquet_bytes

DATA = Path(__file__).resolve().parents[2] / "../shared/data"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="the shared datasets are not here")


def png(colour: int, *, size=(40, 30)) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", size, (colour, 100, 50)).save(file, "PNG")
    return file.getvalue()


def xml(*names: str, x1: float = 1) -> bytes:
    box = f"<bndbox><xmin>{x1}</xmin><ymin>2</ymin><xmax>11</xmax><ymax>12</ymax></bndbox>"
    return (
        f"<annotation>{''.join(f'<object><name>{name}</name>{box}</object>' for name in names)}</annotation>".encode()
    )


def filled(folder: Path, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


def gathered(folder: Path, *, labels: Labels | None = None, unknown_labels="add", put=hash_only, **options):
    with open_source(folder) as source:
        return gather(source, labels=labels or Labels(), put=put, unknown_labels=unknown_labels, **options)


def rows(result, kind: str) -> list[tuple[str, str]]:
    return [(row.file, row.reason) for row in result.report.rows if row.kind == kind]


class Files:
    """The image files of a test, by hash."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, image: str) -> Path:
        return self.folder / image

    def read(self, image: str) -> bytes:
        return self.path(image).read_bytes()

    def thumbnail(self, image: str, *, side_px: int) -> bytes:
        raise NotImplementedError


def test_case_23_stop_shows_every_unknown_label_with_its_count_before_anything_is_stored(tmp_path):
    filled(
        tmp_path, {"a.png": png(1), "a.xml": xml("dog", "Cat", "cat "), "b.png": png(2), "b.xml": xml("bird", "bird")}
    )
    stored = []
    with pytest.raises(UnknownLabels) as caught:
        gathered(
            tmp_path, labels=Labels().add("dog"), unknown_labels="stop", put=lambda data: stored.append(data) or ""
        )
    assert caught.value.counts == {"bird": 2, "Cat": 1, "cat": 1}
    assert all(f"'{name}' ({n})" in str(caught.value) for name, n in caught.value.counts.items())
    assert "Nothing was imported" in str(caught.value)
    assert stored == []


def test_case_23_ignore_leaves_objects_out_and_the_image_stays_labelled(tmp_path):
    filled(tmp_path, {"a.png": png(1), "a.xml": xml("dog", "cat", "cat"), "b.png": png(2), "b.xml": xml("cat")})
    result = gathered(tmp_path, labels=Labels().add("dog"), unknown_labels="ignore")
    assert result.annotations["label"].tolist() == ["dog"]
    assert rows(result, "ignored") == [("", "label 'cat' is not known; 3 objects were left out")]
    assert (result.labels.names, result.dataset_labels) == (("dog",), ("dog",))
    assert (result.report.n_negatives, result.report.n_unlabelled) == (1, 0)


def test_case_23_add_appends_in_alphabetical_order_and_folds_case_and_aliases(tmp_path):
    filled(
        tmp_path,
        {
            "a.png": png(1),
            "a.xml": xml("zebra", "ant", "Bee", "bee", "PUP"),
            "b.png": png(2),
            "b.xml": xml("BEE", "dog"),
        },
    )
    known = Labels().add("dog", aliases=["pup"])
    result = gathered(tmp_path, labels=known)
    assert result.labels.names == ("dog", "ant", "BEE", "zebra")
    assert result.dataset_labels == ("dog", "ant", "BEE", "zebra")
    assert result.annotations["label"].value_counts().to_dict() == {"BEE": 3, "dog": 2, "ant": 1, "zebra": 1}
    assert [reason for _, reason in rows(result, "folded")] == [
        "label 'Bee' became 'BEE' in 1 objects",
        "label 'PUP' became 'dog' in 1 objects",
        "label 'bee' became 'BEE' in 1 objects",
    ]
    assert known.names == ("dog",)


def test_case_23_a_label_that_can_be_none_is_rejected(tmp_path):
    data = {
        "images": [{"id": 1, "file_name": "a.png"}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 1, 5, 5]}],
        "categories": [{"id": 1, "name": "d\x1bog"}],
    }
    result = gathered(filled(tmp_path, {"a.png": png(1), "x.json": json.dumps(data).encode()}))
    assert len(result.annotations) == 0
    assert "control characters" in rows(result, "rejected")[0][1]
    assert result.report.n_unlabelled == 1


def test_case_15_the_same_bytes_are_one_image_with_all_its_names(tmp_path):
    filled(tmp_path, {"b.png": png(1), "a/x.png": png(1), "c.png": png(1), "b.xml": xml("dog"), "c.xml": xml("dog")})
    stored = {}
    result = gathered(tmp_path, put=lambda data: stored.setdefault(hash_only(data), hash_only(data)))
    (image,) = result.images.itertuples()
    assert image.image == next(iter(stored)) == hash_only(png(1))
    assert (image.file, json.loads(image.other_files)) == ("a/x.png", ["b.png", "c.png"])
    assert image.labelled
    assert result.annotations["label"].tolist() == ["dog"]
    assert [file for file, _ in rows(result, "duplicate")] == ["b.png", "c.png"]
    assert rows(result, "conflict") == []


def test_case_15_same_bytes_with_other_annotations_are_a_conflict_and_the_first_counts(tmp_path):
    filled(tmp_path, {"a.png": png(1), "a.xml": xml("dog"), "b.png": png(1), "b.xml": xml("cat")})
    result = gathered(tmp_path)
    assert result.annotations["label"].tolist() == ["dog"]
    assert rows(result, "conflict") == [
        ("b.png", "the same bytes as a.png, but annotated differently; the first counts")
    ]


def test_case_15_same_bytes_in_two_splits_are_reported(tmp_path):
    result = gathered(filled(tmp_path, {"train/a.png": png(1), "val/b.png": png(1), "test/c.png": png(2)}))
    assert dict(zip(result.images["file"], result.images["split"], strict=True)) == {
        "test/c.png": "test",
        "train/a.png": "train",
    }
    assert rows(result, "conflict")[0][0] == "val/b.png"


def test_case_15_other_bytes_under_the_same_name_are_two_images(tmp_path):
    result = gathered(filled(tmp_path, {"x/a.png": png(1), "y/a.png": png(2)}))
    assert sorted(result.images["file"]) == ["x/a.png", "y/a.png"]
    assert result.images["image"].nunique() == 2


def test_case_10_bad_images_are_quarantined_counted_and_never_stored(tmp_path):
    whole = png(1)
    files = {
        "good.png": whole,
        "empty.png": b"",
        "cut.png": whole[:-20],
        "web.png": b"<html>gone</html>",
        "named.jpg": png(2),
        "photo.heic": b"ftypheic",
        "cut.xml": xml("dog", "dog"),
        "good.xml": xml("dog"),
    }
    stored = []
    result = gathered(filled(tmp_path, files), put=lambda data: stored.append(data) or hash_only(data))
    assert stored == [whole]
    assert result.images["file"].tolist() == ["good.png"]
    bad = dict(rows(result, "quarantined"))
    assert sorted(bad) == ["cut.png", "empty.png", "named.jpg", "photo.heic", "web.png"]
    assert bad["cut.png"] == "truncated; 2 objects on it are left out"
    assert result.report.n_quarantined == 5
    assert len(result.annotations) == 1


def test_case_11_a_bomb_among_good_images_is_quarantined_by_its_header(tmp_path):
    bomb = bytearray(png(1))
    bomb[16:24] = struct.pack(">II", 50_000, 50_000)
    bomb[29:33] = struct.pack(">I", zlib.crc32(bomb[12:29]))
    result = gathered(filled(tmp_path, {"bomb.png": bytes(bomb), "good.png": png(1)}))
    assert rows(result, "quarantined") == [("bomb.png", "50000 x 50000 pixels, the limit is 178,956,970 in all")]


def test_case_27_images_alone_are_not_labelled(tmp_path):
    result = gathered(filled(tmp_path, {"a.png": png(1), "a.xml": xml("dog")}), format="images")
    assert (result.report.n_unlabelled, result.report.n_negatives, result.dataset_labels) == (1, 0, ())
    assert result.report.format == "images"


@needs_data
def test_grey_photographs_come_in_as_they_are():
    result = gathered(DATA / "coco128_yolo" / "images")
    assert result.images["mode"].value_counts().to_dict() == {"RGB": 79, "L": 1}
    assert set(result.images["split"]) == {"train", "val"}
    assert result.report.n_unlabelled == 80


@needs_data
def test_a_format_is_guessed_only_where_it_is_plain():
    with pytest.raises(FormatNotRecognised, match=r"161 \.txt files.*format='images'"):
        gathered(DATA / "coco128_yolo")
    with pytest.raises(FormatNotRecognised, match=r"201 Pascal VOC \.xml files; 3 COCO \.json files"):
        gathered(DATA / "multiformat_voc100")
    with pytest.raises(FormatNotRecognised, match="format 'yaml' is not known"):
        gathered(DATA / "bccd_voc", format="yaml")


def test_a_source_without_images_and_a_policy_that_is_none_are_refused(tmp_path):
    with pytest.raises(ImportRefused, match="has no image"):
        gathered(filled(tmp_path, {"a.txt": b"x"}))
    with pytest.raises(ImportRefused, match="one of stop, ignore, add"):
        gathered(tmp_path, unknown_labels="merge")


@needs_data
def test_a_zip_gives_the_same_tables_as_its_folder_and_so_does_a_second_time(tmp_path):
    folder = tmp_path / "data"
    for sub in ("Annotations", "JPEGImages"):
        (folder / sub).mkdir(parents=True)
        for file in sorted((DATA / "bccd_voc" / sub).iterdir())[:40]:
            shutil.copy(file, folder / sub)
    archive = shutil.make_archive(str(tmp_path / "data"), "zip", folder)
    results = [gathered(place) for place in (folder, archive, folder)]
    for schema, part in ((IMAGES, "images"), (ANNOTATIONS, "annotations")):
        assert len({to_parquet_bytes(getattr(result, part), schema) for result in results}) == 1
    assert len({json.dumps(result.report.summary()) for result in results}) == 1
    assert len(results[0].images) == 40


def test_case_05_a_damaged_archive_stores_nothing(tmp_path):
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.png", png(1))
        archive.writestr("b.png", png(2))
    data = bytearray(path.read_bytes())
    data[data.rindex(b"IDAT") + 8] ^= 1
    path.write_bytes(data)
    stored = []
    with pytest.raises(ImportRefused, match=r"b\.png"):
        gathered(path, put=lambda item: stored.append(item) or hash_only(item))
    assert stored == []


def test_case_07_strange_names_are_stored_as_they_are_and_shown_escaped(tmp_path):
    evil = ["<script>alert(1)</script>.png", "line\nbreak\x1b[31m.png", "-rf.png", "\U0001f600.png"]
    files = {name.replace("/", "_"): png(position) for position, name in enumerate(evil)}
    names = sorted(files)
    result = gathered(
        filled(tmp_path, {**files, "<b>bad.png": b"", "<img src=x onerror=x>.xml": xml("<i>".replace("<", "&lt;"))})
    )
    assert sorted(result.images["file"]) == names
    html, text = result.report._repr_html_(), result.report.to_text()
    assert "&lt;b&gt;bad.png" in html
    for shown in ("<script>", "<b>", "<img"):
        assert shown not in html
    assert "\x1b" not in html + text + repr(result.report)
    assert result.report.to_frame()["file"].tolist()[0] == "<b>bad.png"


def test_a_report_counts_its_rows_and_is_plain_json(tmp_path):
    report = gathered(filled(tmp_path, {"a.png": png(1), "a.xml": xml("dog", x1=-4), "b.png": b""})).report
    assert repr(report) == (
        "<ImportReport: 1 images, 1 boxes, 0 negatives, 0 unlabelled, 1 quarantined, 1 clipped, 1 labels added>"
    )
    summary = json.loads(json.dumps(report.summary()))
    assert (summary["n_images"], summary["n_boxes"], summary["n_quarantined"], summary["n_clipped"]) == (1, 1, 1, 1)
    assert summary["report"][0] == {
        "file": "b.png",
        "kind": "quarantined",
        "reason": "an empty file",
        "remedy": "copy or download it again",
        "n": 1,
    }
    assert list(report.to_frame().columns) == ["file", "kind", "reason", "remedy", "n"]


def test_case_26_a_hundred_thousand_boxes_on_one_image_come_in(tmp_path):
    box = [{"id": n, "image_id": 1, "category_id": 1, "bbox": [n % 30, 1, 5, 5]} for n in range(100_000)]
    data = {"images": [{"id": 1, "file_name": "a.png"}], "annotations": box, "categories": [{"id": 1, "name": "dog"}]}
    result = gathered(filled(tmp_path, {"a.png": png(1), "x.json": json.dumps(data).encode()}))
    assert len(result.annotations) == 100_000


# --- out and in again ---------------------------------------------------------------------------

COLOURS = [png(n) for n in range(4)]
quarter = st.integers(0, 79).map(lambda n: n / 4)
words = st.text(st.characters(exclude_categories=("Cs", "Cc")), max_size=6)
keys = st.one_of(
    st.from_regex(r"[A-Za-z_][A-Za-z0-9_.-]{0,5}", fullmatch=True), st.sampled_from(["pose", "truncated", "difficult"])
)
pairs = st.dictionaries(keys, st.one_of(words, st.sampled_from(["0", "1", "Left", "unknown"])), max_size=3)
unit = st.one_of(st.just(float("nan")), st.floats(0, 1, width=32))


@st.composite
def datasets(draw, folder: Path) -> Dataset:
    """Draw a dataset of real files with everything that tables can say about labelled images."""
    images, objects = [], []
    for position in range(draw(st.integers(1, 4))):
        image = hash_only(COLOURS[position])
        (folder / image).write_bytes(COLOURS[position])
        info = inspect(COLOURS[position], "x.png")
        labelled = draw(st.booleans())
        images.append(
            {
                **vars(info),
                "image": image,
                "file": f"{position}.png",
                "labelled": labelled,
                "split": draw(st.sampled_from(["train", "val", "test", ""])),
                "keys": json.dumps(draw(pairs), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
                if labelled
                else "{}",
                "quality": draw(unit) if labelled else float("nan"),
            }
        )
        for _ in range(draw(st.integers(0, 3)) if labelled else 0):
            x1, y1 = draw(quarter), draw(quarter)
            polygon = draw(st.booleans())
            objects.append(
                {
                    "image": image,
                    "x1": x1,
                    "y1": y1,
                    "x2": min(x1 + 2 + draw(quarter), 40.0),
                    "y2": y1 + 2 + draw(quarter) / 4,
                    "label": draw(st.sampled_from(["dog", "a<b>&\"c'", "Käse \U0001f9c0"])),
                    "score": draw(unit),
                    "quality": draw(unit),
                    "rotation": draw(st.floats(-3, 3, width=32)),
                    "tags": json.dumps(draw(pairs), sort_keys=True, separators=(",", ":"), ensure_ascii=False),
                    "segmentation": "[[1.5,2,3,4,5,6.25]]" if polygon else "",
                    "area_px": 3.5 if polygon else float("nan"),
                    "crowd": draw(st.booleans()),
                }
            )
    return Dataset.of(images, objects, labels=["dog", "a<b>&\"c'", "Käse \U0001f9c0"], media=Files(folder))


@pytest.mark.parametrize("name", ["voc", "coco"])
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_case_25_what_is_written_reads_back_equal_up_to_the_losses_it_names(name, tmp_path, data):
    store, out = tmp_path / "store", tmp_path / "out"
    store.mkdir(exist_ok=True)
    shutil.rmtree(out, ignore_errors=True)
    dataset = data.draw(datasets(store))
    losses = FORMATS[name].write(dataset, out)
    known = Labels()
    for label in dataset.labels:
        known = known.add(label)
    back = gathered(
        out, labels=known, unknown_labels="stop", format=name if dataset.images["labelled"].any() else "images"
    )
    images, objects = dataset.images.copy(), dataset.annotations.copy()
    if name == "voc" or not dataset.images["labelled"].any():
        for column, column_loss in (
            ("segmentation", "polygons or masks"),
            ("crowd", "crowd mark"),
            ("area_px", "given area"),
        ):
            default = ANNOTATIONS[column].default
            lost = (objects[column] != default) & ~(objects[column].isna() & pd.isna(default))
            assert any(column_loss in loss for loss in losses) == lost.any()
            objects[column] = default
    if not dataset.images["labelled"].all() and name == "coco":
        images.loc[~images["labelled"], "split"] = ""
    if not dataset.images["labelled"].any():
        images["split"] = ""
    pd.testing.assert_frame_equal(back.images.drop(columns="file"), images.drop(columns="file"))
    assert [Path(file).name for file in back.images["file"]] == images["file"].tolist()
    order = ["image", "label", "x1", "y1", "x2", "y2", "score", "tags", "quality", "rotation", "crowd", "segmentation"]
    expected = objects.sort_values(order, ignore_index=True)
    pd.testing.assert_frame_equal(back.annotations.sort_values(order, ignore_index=True), expected, check_exact=True)


@pytest.mark.parametrize("name", FORMATS)
def test_writing_is_deterministic_links_on_demand_and_wants_an_empty_folder(name, tmp_path):
    store = tmp_path / "store"
    filled(tmp_path / "in", {"x/a.png": png(1), "y/a.png": png(2), "x/a.xml": xml("dog"), "y/\n..-.png": png(3)})
    result = gathered(
        tmp_path / "in", format="voc", put=lambda data: (filled(store, {hash_only(data): data}), hash_only(data))[1]
    )
    dataset = Dataset.of(result.images, result.annotations, labels=result.dataset_labels, media=Files(store))
    for folder, link in (("one", False), ("two", True)):
        losses = FORMATS[name].write(dataset, tmp_path / folder, link=link)
        assert losses[:2] == [
            "the names of 3 images, which are not unique or not safe",
            "which of 2 folders the images came from",
        ]
    files = [
        {
            str(path.relative_to(tmp_path / folder)): path.read_bytes()
            for path in (tmp_path / folder).rglob("*.*")
            if path.is_file()
        }
        for folder in ("one", "two")
    ]
    assert files[0] == files[1]
    linked = [path for path in (tmp_path / "two").rglob("*.png") if path.stat().st_nlink > 1]
    assert len(linked) == 3
    assert not [path for path in (tmp_path / "one").rglob("*.png") if path.stat().st_nlink > 1]
    with pytest.raises(StoreError, match="not empty"):
        FORMATS[name].write(dataset, tmp_path / "one")


@needs_data
def test_the_blood_cells_go_out_as_coco_and_come_back_the_same(tmp_path):
    store = tmp_path / "store"
    store.mkdir()

    def put(data: bytes) -> str:
        (store / hash_only(data)).write_bytes(data)
        return hash_only(data)

    first = gathered(DATA / "bccd_voc", put=put)
    dataset = Dataset.of(first.images, first.annotations, labels=first.dataset_labels, media=Files(store))
    assert FORMATS["coco"].write(dataset, tmp_path / "out", link=True) == []
    again = gathered(tmp_path / "out", labels=first.labels, unknown_labels="stop")
    assert np.array_equal(again.annotations[["x1", "y1", "x2", "y2"]], first.annotations[["x1", "y1", "x2", "y2"]])
    pd.testing.assert_frame_equal(again.images.drop(columns="file"), first.images.drop(columns="file"))
