"""Tables: one form for every input, and bytes that depend on the content alone."""

import io

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ymir_nb.backend.errors import InvalidTable
from ymir_nb.backend.tables import (
    ANNOTATIONS,
    IMAGES,
    annotations_frame,
    from_parquet_bytes,
    images_frame,
    to_parquet_bytes,
)

A, B = "a" * 32, "b" * 32


def image(name=A, **more):
    return {
        "image": name,
        "file": "x.png",
        "format": "PNG",
        "mode": "RGB",
        "width": 9,
        "height": 9,
        "n_bytes": 1,
    } | more


def box(name=A, **more):
    return {"image": name, "label": "dog", "x1": 0, "y1": 0, "x2": 4, "y2": 3} | more


nan = float("nan")
text = st.text(st.characters(exclude_categories=["Cs"]), max_size=5)
objects = st.lists(
    st.fixed_dictionaries(
        {
            "image": st.sampled_from([A, B]),
            "label": st.sampled_from(["dog", "naïve 🦓"]) | text,
            "x1": st.sampled_from([0.0, -0.0, 1.5]),
            "y1": st.just(0.0),
            "x2": st.sampled_from([4.0, 4.25]),
            "y2": st.just(3.0),
            "score": st.sampled_from([nan, -nan, 0.5]),
            "segmentation": st.sampled_from(["", "[[0, 0, 1, 1, 2, 0]]"]),
            "area_px": st.sampled_from([nan, 3.0, 4.0]),
            "crowd": st.booleans(),
            "quality": st.sampled_from([nan, 0.25, 1.0]),
            "rotation": st.sampled_from([0.0, -0.0, 0.5]),
            "tags": st.sampled_from(["{}", '{"a": "b"}']),
        }
    ),
    max_size=8,
)


@settings(deadline=None)
@given(rows=objects, data=st.data())
def test_equal_rows_in_any_order_give_equal_bytes(rows, data):
    frame = annotations_frame(rows)
    shuffled = annotations_frame(data.draw(st.permutations(rows)))
    pd.testing.assert_frame_equal(frame, shuffled)
    assert to_parquet_bytes(frame, ANNOTATIONS) == to_parquet_bytes(shuffled, ANNOTATIONS)


@settings(deadline=None)
@given(rows=objects)
def test_a_table_comes_back_from_parquet_as_it_went(rows):
    frame = annotations_frame(rows)
    data = to_parquet_bytes(frame, ANNOTATIONS)
    again = from_parquet_bytes(data, ANNOTATIONS)
    pd.testing.assert_frame_equal(again, frame)
    assert to_parquet_bytes(again, ANNOTATIONS) == data
    pd.testing.assert_frame_equal(annotations_frame(again), frame)


def test_frames_that_compare_equal_have_equal_bytes_whatever_their_zeros_nans_and_index():
    plain = annotations_frame([box(x1=0.0, rotation=0.0), box(x1=1.0)])
    odd_nan = np.array([0x7FF8000000000000, 0xFFF8000000000001], dtype=np.uint64).view(np.float64)
    odd = annotations_frame(
        pd.DataFrame([box(x1=-0.0, rotation=-0.0), box(x1=1.0)], index=[7, 7]).assign(score=odd_nan)
    )
    assert plain.equals(odd)
    assert to_parquet_bytes(plain, ANNOTATIONS) == to_parquet_bytes(odd, ANNOTATIONS)


def test_images_are_sorted_and_their_bytes_do_not_follow_the_order_given():
    frames = [images_frame(rows) for rows in ([image(A), image(B)], [image(B), image(A)])]
    assert frames[0]["image"].tolist() == [A, B]
    assert to_parquet_bytes(frames[0], IMAGES) == to_parquet_bytes(frames[1], IMAGES)
    pd.testing.assert_frame_equal(from_parquet_bytes(to_parquet_bytes(frames[0], IMAGES), IMAGES), frames[0])


@pytest.mark.parametrize(("make", "schema"), [(images_frame, IMAGES), (annotations_frame, ANNOTATIONS)])
@pytest.mark.parametrize("rows", [(), [], pd.DataFrame()])
def test_an_empty_table_has_all_columns_with_their_types(make, schema, rows):
    frame = make(rows)
    assert frame.columns.tolist() == list(schema)
    full = make([image() if schema is IMAGES else box()])
    assert frame.dtypes.tolist() == full.dtypes.tolist()
    pd.testing.assert_frame_equal(from_parquet_bytes(to_parquet_bytes(frame, schema), schema), frame)


def test_columns_left_out_and_values_left_open_get_their_defaults():
    frame = images_frame([image(), image(B, orientation=6, keys=None)])
    assert frame["orientation"].tolist() == [1, 6]
    assert frame["keys"].tolist() == ["{}", "{}"]
    assert frame["labelled"].tolist() == [False, False]
    assert np.isnan(annotations_frame([box()])[["score", "area_px", "quality"]].to_numpy(dtype=float)).all()


def test_missing_and_unknown_columns_are_named_with_those_there_are():
    with pytest.raises(InvalidTable, match=r"missing columns height, n_bytes; unknown columns hieght.*The columns are"):
        images_frame([{k: v for k, v in image().items() if k not in ("height", "n_bytes")} | {"hieght": 1}])


@pytest.mark.parametrize("column", ["x1", "y1", "x2", "y2"])
@pytest.mark.parametrize("value", [nan, float("inf"), None])
def test_case_20_a_coordinate_that_is_no_finite_number_is_refused_with_its_image(column, value):
    with pytest.raises(InvalidTable, match=f"1 boxes have a coordinate.*first on image {B}"):
        annotations_frame([box(), box(B, **{column: value})])


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("width", "wide"),
        ("width", 3.5),
        ("width", 2**40),
        ("height", None),
        ("orientation", 300),
        ("labelled", "false"),
        ("labelled", 2),
        ("image", None),
        ("file", nan),
        ("file", "caf\udce9.png"),
    ],
)
def test_a_value_that_does_not_fit_its_column_is_refused_and_never_bent(column, value):
    with pytest.raises(InvalidTable, match=f"images table: column {column} "):
        images_frame([image(A), image(B, **{column: value})])


def test_whole_numbers_may_come_as_floats_and_booleans_as_zero_and_one():
    frame = images_frame([image(width=640.0, labelled=1), image(B, labelled=np.bool_(False))])
    assert frame["width"].tolist() == [640, 9]
    assert frame["labelled"].tolist() == [True, False]


def test_an_image_that_stands_twice_is_refused():
    with pytest.raises(InvalidTable, match=f"1 images stand there more than once, the first is {A}"):
        images_frame([image(A), image(A)])


def test_a_frame_with_a_column_twice_is_refused():
    frame = pd.DataFrame([box()])
    with pytest.raises(InvalidTable, match="columns x1 stand there twice"):
        annotations_frame(pd.concat([frame, frame[["x1"]]], axis=1))


def test_making_a_table_changes_nothing_of_what_it_was_made_from():
    frame = pd.DataFrame([box(B), box(A, x1=-0.0)])
    before = frame.copy()
    annotations_frame(frame)
    pd.testing.assert_frame_equal(frame, before)


def test_a_stored_table_from_before_a_column_came_gets_its_default():
    stored = pa.table({name: [value] for name, value in box(x1=0.0, y1=0.0, x2=4.0, y2=3.0).items()})
    sink = io.BytesIO()
    pq.write_table(stored, sink)
    pd.testing.assert_frame_equal(from_parquet_bytes(sink.getvalue(), ANNOTATIONS), annotations_frame([box()]))


def test_a_stored_table_with_a_column_of_a_later_release_is_refused():
    sink = io.BytesIO()
    pq.write_table(pa.table({**{k: [v] for k, v in box().items()}, "depth_m": [1.0]}), sink)
    with pytest.raises(InvalidTable, match="unknown columns depth_m"):
        from_parquet_bytes(sink.getvalue(), ANNOTATIONS)


@pytest.mark.parametrize("data", [b"", b"PAR1", b"not parquet at all"])
def test_bytes_that_are_no_parquet_are_refused(data):
    with pytest.raises(InvalidTable, match="not a readable Parquet"):
        from_parquet_bytes(data, ANNOTATIONS)


@settings(deadline=None, max_examples=80)
@given(cut=st.integers(0, 3000), place=st.integers(0, 3000), value=st.integers(0, 255))
def test_a_damaged_parquet_file_is_refused_or_read_and_nothing_else(cut, place, value):
    data = bytearray(to_parquet_bytes(annotations_frame([box(), box(B)]), ANNOTATIONS))
    data[place % len(data)] = value
    for damaged in (bytes(data), bytes(data[: cut % len(data)])):
        try:
            frame = from_parquet_bytes(damaged, ANNOTATIONS)
        except InvalidTable:
            continue
        assert frame.columns.tolist() == list(ANNOTATIONS)
