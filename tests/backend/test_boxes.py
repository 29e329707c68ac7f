"""Box arithmetic, as properties and against pixels that Pillow really turns."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageOps

from ymir_nb.backend.boxes import area, clip, from_xywh, iou, orient, to_xywh

coordinate = st.floats(-1e6, 1e6)
side = st.floats(0, 1e6)
boxes = st.lists(st.tuples(coordinate, coordinate, side, side).map(lambda b: (b[0], b[1], b[0] + b[2], b[1] + b[3])))
whole_boxes = st.lists(
    st.tuples(st.integers(0, 40), st.integers(0, 40), st.integers(0, 20), st.integers(0, 20)).map(
        lambda b: (b[0], b[1], b[0] + b[2], b[1] + b[3])
    ),
    max_size=5,
)


@given(first=boxes, second=boxes)
def test_iou_is_symmetric_and_lies_between_zero_and_one(first, second):
    overlap = iou(first, second)
    assert overlap.shape == (len(first), len(second))
    assert ((overlap >= 0) & (overlap <= 1)).all()
    np.testing.assert_array_equal(overlap, iou(second, first).T)


@given(boxes=boxes)
def test_a_box_overlaps_itself_wholly_unless_it_is_empty(boxes):
    np.testing.assert_array_equal(np.diag(iou(boxes, boxes)), (area(boxes) > 0).astype(float))


@given(first=whole_boxes, second=whole_boxes)
def test_iou_counts_the_pixels_of_both(first, second):
    def pixels(box):
        return {(x, y) for x in range(box[0], box[2]) for y in range(box[1], box[3])}

    for i, one in enumerate(first):
        for j, other in enumerate(second):
            either = len(pixels(one) | pixels(other))
            expected = len(pixels(one) & pixels(other)) / either if either else 0.0
            assert iou(first, second)[i, j] == pytest.approx(expected, abs=1e-12)


def test_touching_and_inverted_boxes_do_not_overlap():
    assert iou([[0, 0, 4, 4]], [[4, 0, 8, 4], [3, 3, 1, 1]]).tolist() == [[0, 0]]
    assert area([[3, 3, 1, 1], [0, 0, 2, 3]]).tolist() == [0, 6]


@given(boxes=whole_boxes)
def test_width_and_height_form_goes_there_and_back(boxes):
    np.testing.assert_array_equal(from_xywh(to_xywh(boxes)), np.reshape(boxes, (-1, 4)))


def test_the_width_and_height_form_is_measured_from_the_far_edge():
    assert to_xywh([[1, 2, 4, 8]]).tolist() == [[1, 2, 3, 6]]
    assert from_xywh([1, 2, 3, 6]).tolist() == [[1, 2, 4, 8]]


@given(boxes=boxes)
def test_clipped_boxes_lie_on_the_image_and_clipping_again_changes_nothing(boxes):
    cut = clip(boxes, width=640, height=480)
    assert ((cut >= 0) & (cut <= [640, 480, 640, 480])).all()
    np.testing.assert_array_equal(clip(cut, width=640, height=480), cut)
    assert (area(cut) <= area(boxes)).all()


def test_a_box_beside_the_image_becomes_empty():
    assert area(clip([[700, 10, 800, 20], [-9, -9, -1, -1]], width=640, height=480)).tolist() == [0, 0]


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("box", [(3, 2, 9, 5), (0, 0, 1, 1), (0, 0, 16, 12), (15, 11, 16, 12)])
def test_case_12_boxes_turn_with_the_pixels_for_every_exif_orientation(orientation, box):
    stored = Image.new("L", (16, 12))
    stored.paste(255, box)
    stored.getexif()[0x0112] = orientation
    upright = ImageOps.exif_transpose(stored)
    assert upright.size == ((16, 12) if orientation < 5 else (12, 16))
    turned = orient([box], orientation=orientation, width=upright.width, height=upright.height)
    assert tuple(turned[0]) == upright.getbbox()


def test_case_12_all_eight_orientations_are_different_turns():
    turned = {tuple(orient([[1, 2, 4, 8]], orientation=o, width=16, height=16)[0]) for o in range(1, 9)}
    assert len(turned) == 8


@pytest.mark.parametrize("empty", [[], np.zeros((0, 4))])
def test_no_boxes_are_fine_everywhere(empty):
    assert iou(empty, empty).shape == (0, 0)
    for turned in (from_xywh(empty), to_xywh(empty), clip(empty, width=1, height=1)):
        assert turned.shape == (0, 4)
    assert orient(empty, orientation=6, width=1, height=1).shape == (0, 4)
