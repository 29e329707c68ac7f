"""Run-length masks, held against pycocotools."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco

from ymir_nb.backend import masks
from ymir_nb.backend.errors import InvalidTable


@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 2**32 - 1), st.sampled_from([0.0, 0.02, 0.5, 1.0]))
@settings(max_examples=100, deadline=None)
def test_masks_are_read_and_written_as_pycocotools_does_it(height, width, seed, share):
    pixels = np.random.default_rng(seed).random((height, width)) < share
    theirs = coco.encode(np.asfortranarray(pixels.astype(np.uint8)))
    text = theirs["counts"].decode()
    assert masks.from_pixels(pixels) == {"size": [height, width], "counts": text}
    assert (masks.to_pixels({"size": [height, width], "counts": text}) == pixels).all()


def test_a_large_mask_with_long_runs_is_the_same_both_ways():
    pixels = np.zeros((1080, 1920), dtype=bool)
    pixels[200:900, 300:1500] = True
    pixels[500:510] = False
    assert (masks.to_pixels(masks.from_pixels(pixels)) == pixels).all()
    assert coco.area(masks.from_pixels(pixels)) == pixels.sum()


def test_a_mask_at_twice_the_size_has_each_pixel_four_times():
    pixels = np.random.default_rng(3).random((5, 7)) < 0.4
    bigger = masks.resized(masks.from_pixels(pixels), width=14, height=10)
    assert (masks.to_pixels(bigger) == np.kron(pixels, np.ones((2, 2), dtype=bool))).all()


@pytest.mark.parametrize(
    "rle",
    [
        {},
        {"size": [2, 2]},
        {"size": [2], "counts": [4]},
        {"size": [2, 2], "counts": [5]},
        {"size": [2, 2], "counts": [5, -1]},
        {"size": [0, 2], "counts": []},
        {"size": [1 << 20, 1 << 20], "counts": [1 << 40]},
        {"size": [2, 2], "counts": "P"},
        {"size": [2, 2], "counts": "é"},
        {"size": ["a", 2], "counts": "4"},
        {"size": [2, 2], "counts": [None]},
        {"size": None, "counts": 3},
    ],
)
def test_what_is_no_mask_is_refused_before_memory_is_asked_for(rle):
    with pytest.raises(InvalidTable, match="no run-length mask"):
        masks.to_pixels(rle)
