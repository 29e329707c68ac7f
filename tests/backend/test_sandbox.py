"""The drawn building site: exact boxes, the same from the same seed, hard in the way it says."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
from defusedxml import ElementTree
from PIL import Image

from ymir_nb.backend.errors import InvalidTable, StoreError
from ymir_nb.backend.sandbox import LABELS, draw_sandbox, draw_scene, scene_seed
from ymir_nb.backend.sandbox.canvas import FINE, Brush, Canvas, ellipse, rectangle
from ymir_nb.backend.sandbox.clutter import KINDS
from ymir_nb.backend.sandbox.figures import POSES, paint_cone, paint_person, some_person
from ymir_nb.backend.sandbox.heads import HEADWEAR, Head, paint_head
from ymir_nb.backend.sandbox.light import LIGHTS, expose, some_light

GREY = (117, 119, 121)


def blank(size=(96, 96)):
    return Canvas(Image.new("RGB", size, GREY))


def extent(before, after):
    """The smallest box of whole pixels around everything that differs."""
    ys, xs = np.nonzero(np.any(np.asarray(before) != np.asarray(after), axis=2))
    return xs.min(), ys.min(), xs.max() + 1, ys.max() + 1


def digests(folder):
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def read_voc(path):
    root = ElementTree.parse(path).getroot()
    corners = ("xmin", "ymin", "xmax", "ymax")
    boxes = tuple(
        (item.findtext("name"), *(int(item.findtext(f"bndbox/{corner}")) for corner in corners))
        for item in root.iter("object")
    )
    return root, boxes


@pytest.fixture(scope="module")
def scenes():
    return [draw_scene(scene_seed(0, index), rare_share=0.3) for index in range(40)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return draw_sandbox(
        tmp_path_factory.mktemp("drawn") / "site", n_images=12, splits={"train": 7, "val": 2, "test": 3}
    )


def test_the_same_arguments_give_the_same_bytes(tmp_path, folder):
    again = draw_sandbox(tmp_path / "again", n_images=12, splits={"train": 7, "val": 2, "test": 3})
    assert digests(again) == digests(folder)


def test_another_seed_gives_other_scenes():
    one, other = draw_scene(scene_seed(0, 3)), draw_scene(scene_seed(1, 3))
    assert one.to_jpeg() != other.to_jpeg()


def test_a_scene_does_not_depend_on_the_set_it_is_drawn_in(tmp_path, folder):
    part = draw_sandbox(tmp_path / "part", n_images=2, first=4)
    whole = digests(folder)
    assert list(digests(part)) == [
        f"{kind}/scene_0_00000{index}.{ending}"
        for kind, ending in (("Annotations", "xml"), ("JPEGImages", "jpg"))
        for index in (4, 5)
    ]
    assert digests(part).items() <= whole.items()


def test_cones_come_into_a_scene_that_is_otherwise_the_same():
    for seed in range(8):
        without, with_cones = draw_scene(seed, rare_share=0.0), draw_scene(seed, rare_share=1.0)
        assert without.light == with_cones.light
        people = [box for box in with_cones.boxes if box[0] != "cone"]
        assert [box[0] for box in people] == [box[0] for box in without.boxes]
        highest = min((box[2] for box in with_cones.boxes if box[0] == "cone"), default=192)
        above = (0, 0, 256, min(highest, 60) - 4)
        assert without.image.crop(above).tobytes() == with_cones.image.crop(above).tobytes()


def test_boxes_lie_inside_the_image_and_carry_known_labels(scenes):
    for scene in scenes:
        width, height = scene.image.size
        assert (width, height) == (256, 192)
        for label, x1, y1, x2, y2 in scene.boxes:
            assert label in LABELS
            assert 0 <= x1 < x2 <= width
            assert 0 <= y1 < y2 <= height
            assert min(x2 - x1, y2 - y1) >= 4


def test_every_label_light_and_kind_of_scene_occurs(scenes):
    assert {box[0] for scene in scenes for box in scene.boxes} == set(LABELS)
    assert {some_light(np.random.default_rng(seed)) for seed in range(200)} == set(LIGHTS)
    assert len({scene.light for scene in scenes}) >= 4
    assert 2 <= sum(not scene.boxes for scene in scenes) <= 12


def test_rare_share_is_the_share_of_scenes_with_cones():
    def share(asked, n):
        drawn = [draw_scene(scene_seed(2, i), rare_share=asked, width=128, height=96) for i in range(n)]
        return sum(any(box[0] == "cone" for box in scene.boxes) for scene in drawn) / len(drawn)

    assert share(0.0, 10) == 0
    assert 0.1 <= share(0.2, 100) <= 0.3
    assert share(1.0, 20) >= 0.9


@pytest.mark.parametrize("wear", HEADWEAR)
@pytest.mark.parametrize("helmet", [True, False])
@pytest.mark.parametrize("is_back", [True, False])
def test_the_box_of_a_head_is_tight_around_what_was_painted(wear, helmet, is_back):
    canvas = blank()
    before = canvas.finish()
    head = Head(helmet, wear, turn=0.7, is_back=is_back, skin=(190, 138, 100), cloth=(58, 74, 106))
    paint_head(Brush(canvas, 47.3, 48.1, 13.7, angle=11), head, np.random.default_rng(4))
    ((label, box),) = canvas.boxes()
    assert label == ("helmet" if helmet else "head")
    assert box == extent(before, canvas.finish())


@pytest.mark.parametrize("seed", range(12))
def test_the_box_of_a_cone_is_tight_around_it_without_its_shadow(seed):
    canvas = blank()
    paint_cone(Brush(canvas, 47.3, 80.2, 90.0), np.random.default_rng(seed))
    ((label, box),) = canvas.boxes()
    changed = np.abs(np.asarray(canvas.finish()).astype(int) - GREY).max(axis=2)
    # The shadow changes grey by 32 at most, the cone by far more, but for half-covered pixels at its rim.
    ys, xs = np.nonzero(changed > 40)
    assert label == "cone"
    solid = np.array([xs.min(), ys.min(), xs.max() + 1, ys.max() + 1])
    assert (np.abs(solid - box) <= 1).all()
    changed[box[1] : box[3], box[0] : box[2]] = 0
    assert changed.any()


def test_a_box_shrinks_to_what_is_left_of_a_covered_object():
    canvas = blank()
    canvas.begin("head")
    canvas.paint(rectangle(20, 20, 40, 60), (200, 30, 30))
    canvas.end()
    canvas.paint(rectangle(0, 45, 96, 96), (30, 30, 200))
    ((_, box),) = canvas.boxes()
    red = np.argwhere(np.asarray(canvas.finish())[..., 0] > 150)
    assert box == (20, 20, red[:, 1].max() + 1, red[:, 0].max() + 1)
    assert box[3] == 45


def test_what_is_nearly_hidden_or_tiny_is_not_boxed():
    canvas = blank()
    for x in (10, 50):
        canvas.begin("head")
        canvas.paint(ellipse(x, 30, 8, 8), (200, 30, 30))
        canvas.end()
    canvas.begin("cone")
    canvas.paint(rectangle(80, 80, 82, 82), (240, 100, 30))
    canvas.end()
    canvas.paint(rectangle(0, 0, 14, 96), (30, 30, 200))
    assert [box[0] for _, box in canvas.boxes()] == [50 - 8]


def test_a_shadow_takes_no_pixels_from_an_object():
    canvas = blank()
    canvas.begin("head")
    canvas.paint(ellipse(40, 40, 10, 10), (200, 30, 30))
    canvas.end()
    before = canvas.boxes()
    canvas.paint(rectangle(0, 0, 96, 96), (0, 0, 0), alpha=0.3)
    assert canvas.boxes() == before


@pytest.mark.parametrize("pose", POSES)
def test_a_person_of_every_pose_has_one_head_and_stands_on_the_ground(pose):
    canvas = blank((192, 192))
    person = some_person(np.random.default_rng(3), helmet_share=0.5)
    person = type(person)(person.helmet, person.wear, pose, person.turn, person.is_back, seed=11)
    paint_person(Brush(canvas, 96, 170, 130), person)
    assert len(canvas.labels) == 1
    assert len(canvas.boxes(min_visible=0.2)) == 1
    below = np.asarray(canvas.finish())[178:]
    assert (below == GREY).all()


def test_clutter_is_painted_and_never_boxed():
    for name, kind in KINDS.items():
        canvas = blank((192, 192))
        kind.paint(Brush(canvas, 96, 150, 100), np.random.default_rng(2))
        assert canvas.boxes() == [], name
        x1, y1, x2, y2 = extent(blank((192, 192)).finish(), canvas.finish())
        assert x2 - x1 > 8, name
        assert y2 - y1 > 8, name


@pytest.mark.parametrize("light", LIGHTS)
def test_light_changes_the_picture_and_never_its_size(light):
    picture = draw_scene(5).image
    lit = expose(picture, np.random.default_rng(1), light)
    assert lit.size == picture.size
    assert lit.mode == "RGB"
    assert np.asarray(lit).std() > 5
    assert (np.asarray(lit) != np.asarray(picture)).mean() > 0.5


def test_the_folder_is_pascal_voc_that_says_what_was_drawn(folder):
    for index in range(12):
        name = f"scene_0_{index:06d}"
        scene = draw_scene(scene_seed(0, index))
        root, boxes = read_voc(folder / "Annotations" / f"{name}.xml")
        assert boxes == scene.boxes
        assert root.findtext("filename") == f"{name}.jpg"
        assert (root.findtext("size/width"), root.findtext("size/height")) == ("256", "192")
        assert root.findtext("cks/light") == scene.light
        with Image.open(folder / "JPEGImages" / f"{name}.jpg") as image:
            assert (image.format, image.size, image.mode) == ("JPEG", (256, 192), "RGB")


def test_splits_take_the_scenes_in_order(folder):
    lists = {path.stem: path.read_text().split() for path in (folder / "ImageSets" / "Main").iterdir()}
    assert {split: len(names) for split, names in lists.items()} == {"train": 7, "val": 2, "test": 3}
    assert lists["train"] + lists["val"] + lists["test"] == [f"scene_0_{i:06d}" for i in range(12)]


def test_progress_is_told_after_every_scene(tmp_path):
    seen = []
    draw_sandbox(tmp_path / "site", n_images=3, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(1, 3), (2, 3), (3, 3)]


def test_an_interrupted_drawing_leaves_nothing_behind(tmp_path):
    def stop(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        draw_sandbox(tmp_path / "site", n_images=3, progress=stop)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_with_something_in_it_is_left_alone(tmp_path):
    (tmp_path / "mine.txt").write_text("keep")
    with pytest.raises(StoreError, match="has something in it"):
        draw_sandbox(tmp_path, n_images=1)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


@pytest.mark.parametrize(
    "wrong",
    [{"n_images": 0}, {"n_images": 1, "seed": -1}, {"n_images": 1, "first": -1}, {"n_images": 1, "rare_share": 1.5}],
)
def test_numbers_out_of_range_are_refused_before_anything_is_drawn(tmp_path, wrong):
    with pytest.raises(InvalidTable, match="sandbox needs"):
        draw_sandbox(tmp_path / "site", **wrong)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("splits", [{"train": 2, "val": 2}, {"training": 3}, {"train": 4, "val": -1}])
def test_splits_that_do_not_fit_are_refused(tmp_path, splits):
    with pytest.raises(InvalidTable, match="splits"):
        draw_sandbox(tmp_path / "site", n_images=3, splits=splits)


def test_scenes_of_other_sizes_keep_their_boxes_inside():
    for seed in range(10):
        scene = draw_scene(seed, width=320, height=320, rare_share=1.0)
        assert scene.image.size == (320, 320)
        assert all(0 <= x1 < x2 <= 320 and 0 <= y1 < y2 <= 320 for _, x1, y1, x2, y2 in scene.boxes)


def test_the_canvas_measures_at_a_multiple_of_the_size():
    assert FINE >= 2
    assert blank().owners.size == (96 * FINE, 96 * FINE)


def test_docstring_examples_run(tmp_path):
    import doctest

    from ymir_nb.backend.sandbox import folder as folder_module
    from ymir_nb.backend.sandbox import scene as scene_module

    for module in (folder_module, scene_module):
        outcome = doctest.testmod(module, extraglobs={"tmp": Path(tmp_path)})
        assert outcome.attempted >= 2
        assert outcome.failed == 0
