"""The executor's parts by themselves: what they compute, against references and by eye."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ymir_nb.executor.annotations import Sample, read_candidates, read_samples
from ymir_nb.executor.augmentation import Augmenter, Objects
from ymir_nb.executor.detection import Detections, Finder, iou_matrix, suppress
from ymir_nb.executor.errors import ExecutorFailure
from ymir_nb.executor.images import PAD, InputSize, Picture, load_picture
from ymir_nb.executor.losses import Targets, box_loss, heatmap_loss, make_targets
from ymir_nb.executor.network import Detector, for_inference, new_detector
from ymir_nb.executor.precision import mean_ap50
from ymir_nb.executor.scoring import uncertainty


def objects(*rows: tuple[int, int, float, float, float, float]) -> Objects:
    """Rows of image, class, x1, y1, x2, y2."""
    table = torch.tensor(rows, dtype=torch.float32).reshape(-1, 6)
    return Objects(table[:, 0].long(), table[:, 2:], table[:, 1].long())


def index(tmp_path: Path, annotation: str) -> Path:
    (tmp_path / "a.txt").write_text(annotation)
    (tmp_path / "index.tsv").write_text(f"/data/a.png\t{tmp_path / 'a.txt'}\n")
    return tmp_path / "index.tsv"


# annotations


def test_ark_lines_of_five_columns_and_boxes_without_area_are_understood(tmp_path):
    path = index(tmp_path, "1, 4, 5, 9, 7\n\n0, 3, 3, 2, 8, -1.0, 0.0\n")
    (sample,) = read_samples(path, "det-ark:raw", ["cat", "dog"], key="training_index_file")
    assert sample.boxes.tolist() == [[4, 5, 10, 8]]
    assert sample.classes.tolist() == [1]


@pytest.mark.parametrize(
    ("form", "text", "words"),
    [
        ("ark:raw", "0, 1, 2, 3", "has 4 columns, 5 are needed"),
        ("ark:raw", "0, 1, 2, x, 4", "' x' is no number"),
        ("ark:raw", "0, 1, 2, nan, 4", "' nan' is not finite"),
        ("voc:raw", "<annotation>", "is no XML"),
        ("voc:raw", '<!DOCTYPE a [<!ENTITY b "c">]><annotation/>', "declares a document type"),
        ("voc:raw", "<a><object><name>cat</name></object></a>", "xmin: None is no number"),
        ("coco:raw", "[]", "is no COCO annotation file"),
        ("coco:raw", '{"images": [], "annotations": [], "categories": []}', "does not list the image a.png"),
    ],
)
def test_a_malformed_annotation_is_refused_with_its_path(tmp_path, form, text, words):
    with pytest.raises(ExecutorFailure, match=r"a\.txt") as caught:
        read_samples(index(tmp_path, text), form, ["cat"], key="training_index_file")
    assert words in str(caught.value)
    assert caught.value.code == 300002


def test_voc_leaves_other_classes_out_and_compares_names_without_case(tmp_path):
    item = "<object><name>{}</name><bndbox><xmin>1</xmin><ymin>2</ymin><xmax>3</xmax><ymax>4</ymax></bndbox></object>"
    path = index(tmp_path, f"<annotation>{item.format('bird')}{item.format(' Cat')}</annotation>")
    (sample,) = read_samples(path, "voc:raw", ["cat"], key="training_index_file")
    assert sample.boxes.tolist() == [[1, 2, 4, 5]]


def test_coco_crowds_are_no_targets_and_categories_go_by_name(tmp_path):
    box = '{{"id": {}, "image_id": 7, "category_id": 9, "bbox": [1, 2, 3.5, 4], "iscrowd": {}}}'
    images = '"images": [{"id": 7, "file_name": "a.png"}], "categories": [{"id": 9, "name": "dog"}]'
    path = index(tmp_path, f'{{{images}, "annotations": [{box.format(1, 0)}, {box.format(2, 1)}]}}')
    (sample,) = read_samples(path, "coco:raw", ["cat", "dog"], key="training_index_file")
    assert sample.boxes.tolist() == [[1, 2, 4.5, 6]]
    assert sample.classes.tolist() == [1]


def test_candidates_may_have_one_column_or_two_and_stand_there_twice(tmp_path):
    (tmp_path / "c.tsv").write_text("/b.png\t\n/a.png\n/b.png\n\n")
    assert read_candidates(tmp_path / "c.tsv") == ["/a.png", "/b.png"]


# images and augmentation


def test_an_image_is_turned_upright_and_scaled_into_the_top_left_corner(tmp_path):
    image = Image.new("RGB", (40, 80), (200, 0, 0))
    image.paste((0, 0, 200), (0, 0, 40, 40))
    exif = image.getexif()
    exif[0x0112] = 6
    image.save(tmp_path / "a.jpg", exif=exif)
    picture = load_picture(str(tmp_path / "a.jpg"), InputSize(64, 64))
    assert (picture.width, picture.height, picture.scale) == (80, 40, (0.8, 0.8))
    assert (picture.pixels[0, :32, :28] > 150).all()
    assert (picture.pixels[2, :32, 36:] > 150).all()
    assert (picture.pixels[:, 32:] == PAD).all()


@pytest.mark.parametrize("flip", ["none", "horizontal", "both"])
def test_boxes_follow_their_pixels_through_every_change(flip):
    pixels = torch.full((8, 3, 96, 128), PAD, dtype=torch.uint8)
    rows = []
    for i in range(8):
        x, y = 20 + 5 * i, 30 + 3 * i
        pixels[i, :, y : y + 24, x : x + 32] = 255
        rows.append((i, 0, x, y, x + 32, y + 24))
    augment = Augmenter(strength=1.0, flip=flip, generator=torch.Generator().manual_seed(5))
    n_seen = 0
    for _ in range(5):
        images, found = augment(pixels, objects(*rows))
        assert len(found.boxes) == len(found.image)
        for image, box in zip(found.image.tolist(), found.boxes.tolist(), strict=True):
            x1, y1, x2, y2 = (round(edge) for edge in box)
            inner = images[image, 0, y1 + 2 : y2 - 2, x1 + 2 : x2 - 2]
            if min(inner.shape) > 2:
                n_seen += 1
                assert inner.min() > images[image, 0].median() + 0.5
    assert n_seen > 20


def test_no_augmentation_and_no_flips_leave_the_batch_as_it_is():
    pixels = torch.randint(0, 255, (2, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    augment = Augmenter(strength=0.0, flip="none", generator=torch.Generator().manual_seed(0))
    images, found = augment(pixels, objects((1, 0, 2, 3, 20, 30)))
    torch.testing.assert_close(images * 58 + PAD, pixels.float())
    assert found.boxes.tolist() == [[2, 3, 20, 30]]


# targets and losses


def test_targets_peak_at_centres_and_the_smaller_box_has_a_shared_cell():
    targets = make_targets(objects((0, 1, 0, 0, 64, 64), (0, 0, 24, 24, 40, 40)), 1, 2, 16, 16)
    assert targets.heatmap.amax((2, 3)).tolist() == [[1, 1]]
    assert targets.heatmap[0, 0, 8, 8] == targets.heatmap[0, 1, 8, 8] == 1
    assert targets.edges[0, :, 8, 8].tolist() == [24, 24, 40, 40]
    assert targets.edges[0, :, 8, 6].tolist() == [0, 0, 64, 64]
    assert make_targets(objects(), 1, 2, 4, 4).weight.sum() == 0


def test_a_perfect_answer_has_no_loss_and_a_wrong_one_has():
    rows = objects((0, 0, 8, 8, 24, 20))
    targets = make_targets(rows, 1, 1, 8, 8)
    y, x = torch.meshgrid(torch.arange(8) * 4 + 2, torch.arange(8) * 4 + 2, indexing="ij")
    right = torch.stack([x - 8, y - 8, 24 - x, 20 - y])[None].float()
    assert box_loss(right, targets) == pytest.approx(0, abs=1e-6)
    assert box_loss(right + 4, targets) > 0.3
    sure = torch.where(targets.heatmap == 1, 20.0, -20.0)
    assert heatmap_loss(sure, targets.heatmap) < 1e-4
    assert heatmap_loss(-sure, targets.heatmap) > 10
    empty = Targets(targets.heatmap * 0, targets.edges, targets.weight * 0)
    assert box_loss(right, empty) == 0


def test_folding_the_norms_changes_no_answer_whatever_the_input_size():
    model = new_detector(2, torch.Generator().manual_seed(0))
    x = torch.randn(2, 3, 60, 100, generator=torch.Generator().manual_seed(1))
    model(x)
    for slow, fast in zip(model.eval()(x), for_inference(model, half=False)(x), strict=True):
        assert slow.shape[2:] == (15, 25)
        torch.testing.assert_close(slow, fast, atol=1e-4, rtol=1e-4)


def test_a_peak_becomes_a_box_of_the_original_image():
    class Answer(Detector):
        def forward(self, x):
            logits = torch.full((1, 2, 8, 8), -9.0)
            logits[0, 1, 3, 4] = 2.0
            return logits, torch.full((1, 4, 8, 8), 6.0)

    picture = Picture(torch.zeros(3, 32, 32, dtype=torch.uint8), 64, 128, (0.5, 0.25))
    (found,) = Finder(Answer(2), conf_threshold=0.01, nms_iou=0.5, max_boxes=10)([picture])
    assert found.boxes.tolist() == [[24, 32, 48, 80]]
    assert found.classes.tolist() == [1]
    assert found.scores == pytest.approx([1 / (1 + np.exp(-2))])


def test_suppression_keeps_the_first_of_a_class_and_other_classes():
    boxes = np.array([[0, 0, 10, 10], [1, 0, 10, 10], [0, 0, 10, 10], [30, 0, 40, 10]], dtype=float)
    assert suppress(boxes, np.array([0, 0, 1, 0]), 0.5).tolist() == [0, 2, 3]
    assert suppress(boxes[:0], np.zeros(0), 0.5).tolist() == []
    assert iou_matrix(boxes[:1], boxes).round(3).tolist() == [[1, 0.9, 1, 0]]


def test_ap50_is_that_of_pycocotools_up_to_its_interpolation():
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    rng = np.random.default_rng(0)
    samples, found, truth, guesses = [], [], [], []
    for i in range(60):
        corners = rng.uniform(0, 80, (6, 2))
        boxes = np.concatenate([corners, corners + rng.uniform(10, 40, (6, 2))], axis=1)
        classes = rng.integers(0, 2, 6)
        moved = np.concatenate([boxes + rng.normal(0, 3, boxes.shape), boxes[:2] + 1])  # the last two come twice
        scores = np.sort(rng.uniform(size=8))[::-1]
        labels = np.concatenate([classes, classes[:2]])
        samples.append(Sample(str(i), boxes, classes))
        found.append(Detections(moved, scores, labels, scores))
        for box, label in zip(boxes, classes, strict=True):
            xywh = [*box[:2], *(box[2:] - box[:2])]
            row = {"id": len(truth) + 1, "image_id": i, "category_id": int(label), "bbox": xywh, "iscrowd": 0}
            truth.append(row | {"area": xywh[2] * xywh[3]})
        for box, label, score in zip(moved, labels, scores, strict=True):
            xywh = [*box[:2], *(box[2:] - box[:2])]
            guesses.append({"image_id": i, "category_id": int(label), "bbox": xywh, "score": score})
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = {
            "images": [{"id": i} for i in range(60)], "annotations": truth, "categories": [{"id": 0}, {"id": 1}],
        }  # fmt: skip
        coco.createIndex()
        judge = COCOeval(coco, coco.loadRes(guesses), "bbox")
        judge.evaluate()
        judge.accumulate()
        judge.summarize()
    assert 0.3 < judge.stats[1] < 0.95
    assert mean_ap50(samples, found, 3) == pytest.approx(judge.stats[1], abs=0.01)


def test_uncertainty_is_the_mean_entropy_of_the_least_certain_places():
    assert uncertainty(np.array([0.5, 0.0, 1.0, 0.5]), 2) == pytest.approx(1.0)
    assert uncertainty(np.array([0.9, 0.5]), 4) == pytest.approx((1 + 0.468996) / 4, abs=1e-5)
    assert uncertainty(np.array([]), 3) == 0
