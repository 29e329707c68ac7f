"""TensorBoard's files: read while they grow, and harmless whatever they hold."""

import math
import os
import shutil
import struct
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ymir_nb.backend.event_files import EventLimits, EventReader, read_scalars
from ymir_nb.backend.event_records import masked_crc, scalars

COLUMNS = ["run", "tag", "step", "wall_time", "value"]


def framed(data: bytes) -> bytes:
    length = struct.pack("<Q", len(data))
    return length + struct.pack("<I", masked_crc(length)) + data + struct.pack("<I", masked_crc(data))


def event(tag: str, step: int, value: float, wall_time: float = 1.0) -> bytes:
    entry = b"\x0a" + bytes([len(tag)]) + tag.encode() + b"\x15" + struct.pack("<f", value)
    summary = b"\x0a" + bytes([len(entry)]) + entry
    return b"\x09" + struct.pack("<d", wall_time) + b"\x10" + bytes([step]) + b"\x2a" + bytes([len(summary)]) + summary


def log(folder: Path, *events: bytes, name: str = "events.out.tfevents.1") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / name).open("ab") as file:
        file.write(b"".join(map(framed, events)))
    return folder / name


def values(frame) -> list:
    return list(frame[["tag", "step", "value"]].itertuples(index=False, name=None))


def test_real_files_of_pytorch_are_read_as_they_were_written(tmp_path):
    tensorboard = pytest.importorskip("torch.utils.tensorboard", reason="PyTorch is not installed")
    import numpy as np

    begin = time.time()
    with tensorboard.SummaryWriter(str(tmp_path)) as board:
        for step in (0, 3, 300, 2**40):
            board.add_scalar("loss/total", 1 / (step + 1), step)
        board.add_scalar("new style", 0.25, 1, new_style=True)
        board.add_scalar("double", 0.1, 1, new_style=True, double_precision=True)
        board.add_scalar("Verlust größer", float("nan"), 7)
        board.add_scalar("before", 2.0, -1)
        board.add_histogram("weights", np.arange(100.0), 1)
        board.add_image("picture", np.random.default_rng(0).random((3, 200, 200)), 1)
        board.add_text("words", "hello", 1)
        board.add_scalars("both", {"train": 1.0, "val": 2.0}, 5)
        board.add_hparams({"rate": 0.1}, {"score": 0.5}, run_name="tried")
    reader = EventReader(tmp_path)
    frame = reader.read()
    assert frame.columns.tolist() == COLUMNS
    top = frame[frame["run"] == "."]
    assert values(top[top["tag"] == "loss/total"]) == [
        ("loss/total", step, pytest.approx(1 / (step + 1))) for step in (0, 3, 300, 2**40)
    ]
    found = {(row.run, row.tag): row.value for row in frame.itertuples()}
    assert math.isnan(found.pop((".", "Verlust größer")))
    assert found[".", "new style"] == 0.25
    assert found[".", "double"] == 0.1
    assert frame.loc[frame["tag"] == "before", "step"].tolist() == [-1]
    assert (found["both_train", "both"], found["both_val", "both"]) == (1.0, 2.0)
    assert found["tried", "score"] == 0.5
    assert {tag for _, tag in found} == {"loss/total", "new style", "double", "before", "both", "score"}
    assert frame["wall_time"].between(begin - 1, time.time() + 1).all()
    assert reader.notes == ()
    assert frame.equals(frame.sort_values(COLUMNS[:4], ignore_index=True))


def test_the_checksum_is_that_of_tensorboard_itself():
    theirs = pytest.importorskip("tensorboard.compat.tensorflow_stub.pywrap_tensorflow", reason="no TensorBoard here")
    for data in (b"", b"123456789", bytes(range(256)) * 3):
        assert masked_crc(data) == theirs.masked_crc32c(data)


@pytest.mark.parametrize(
    ("number", "kind"), [(0.1, "float64"), (0.5, "float32"), (-7, "int32"), (-(2**40), "int64"), (3, "int64")]
)
def test_scalars_of_the_newer_form_are_read_whatever_their_type_and_packing(number, kind):
    pytest.importorskip("tensorboard", reason="no TensorBoard here")
    import numpy as np
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.util.tensor_util import make_tensor_proto

    plain = make_tensor_proto(np.array(number, dtype=kind))
    raw = make_tensor_proto(np.array(number, dtype=kind))
    field = {"float64": "double_val", "float32": "float_val", "int32": "int_val", "int64": "int64_val"}[kind]
    raw.ClearField(field)
    raw.tensor_content = np.array(number, dtype=kind).tobytes()
    for tensor in (plain, raw):
        entry = Event(wall_time=2.0, step=-1, summary=Summary(value=[Summary.Value(tag="a", tensor=tensor)]))
        assert list(scalars(entry.SerializeToString())) == [("a", -1, 2.0, number)]
    many = make_tensor_proto(np.arange(5, dtype=kind))
    words = make_tensor_proto(np.array(b"hello", dtype=object))
    for tensor in (many, words):
        entry = Event(summary=Summary(value=[Summary.Value(tag="a", tensor=tensor)]))
        assert list(scalars(entry.SerializeToString())) == []


def test_a_reader_gives_each_scalar_once_while_the_file_grows(tmp_path):
    reader = EventReader(tmp_path / "tensorboard")
    assert len(reader.read()) == 0
    log(tmp_path / "tensorboard", event("a", 1, 0.5))
    assert values(reader.read()) == [("a", 1, 0.5)]
    assert len(reader.read()) == 0
    log(tmp_path / "tensorboard", event("a", 2, 0.25))
    log(tmp_path / "tensorboard/val", event("a", 1, 4.0))
    frame = reader.read()
    assert frame[["run", "step", "value"]].to_numpy().tolist() == [[".", 2, 0.25], ["val", 1, 4.0]]
    assert frame.dtypes.map(str).to_dict() == {
        "run": "str", "tag": "str", "step": "int64", "wall_time": "float64", "value": "float64",
    }  # fmt: skip
    assert reader.read().dtypes.equals(frame.dtypes)


def test_a_record_that_is_being_written_is_left_until_it_is_whole(tmp_path):
    path = log(tmp_path, event("a", 1, 1.0))
    whole = path.read_bytes() + framed(event("a", 2, 2.0))
    reader = EventReader(tmp_path)
    seen = []
    for n in range(path.stat().st_size, len(whole) + 1):
        path.write_bytes(whole[:n])
        seen.append(len(reader.read()))
    assert seen == [1, *[0] * (len(seen) - 2), 1]
    assert reader.notes == ()


def test_a_file_that_is_written_anew_is_read_anew(tmp_path):
    path = log(tmp_path, event("a", 1, 1.0), event("a", 2, 2.0))
    reader = EventReader(tmp_path)
    assert len(reader.read()) == 2
    path.write_bytes(framed(event("a", 1, 7.0)))
    assert values(reader.read()) == [("a", 1, 7.0)]
    log(tmp_path / "other", *(event("b", step, 8.0) for step in range(3))).replace(path)
    assert len(reader.read()) == 3


def test_several_summaries_of_one_record_and_several_files_of_one_run_are_one_table(tmp_path):
    log(tmp_path, event("b", 2, 1.0), event("b", 1, 1.0), name="events.out.tfevents.2")
    log(tmp_path, event("a", 9, 1.0) + event("b", 9, 3.0)[11:], name="events.out.tfevents.1")
    log(tmp_path, b"not an event file", name="executor.log")
    assert values(read_scalars(tmp_path)) == [("a", 9, 1.0), ("b", 1, 1.0), ("b", 2, 1.0), ("b", 9, 3.0)]


def test_case_41_a_spoilt_record_is_left_out_and_told_of(tmp_path):
    path = log(tmp_path, event("a", 1, 1.0), event("a", 2, 2.0), event("a", 3, 3.0))
    data = bytearray(path.read_bytes())
    n = len(data) // 3
    data[n + 20] ^= 1
    path.write_bytes(data)
    reader = EventReader(tmp_path)
    assert values(reader.read()) == [("a", 1, 1.0), ("a", 3, 3.0)]
    assert reader.notes == (f"'events.out.tfevents.1': the record at byte {n} has a wrong checksum and was left out",)


@pytest.mark.parametrize("size", [1, 12, 100, 5000])
def test_case_41_garbage_ends_a_file_and_is_told_of_once(tmp_path, size):
    path = log(tmp_path, event("a", 1, 1.0))
    with path.open("ab") as file:
        file.write(b"\xff" * size)
    log(tmp_path / "other", event("a", 2, 2.0))
    reader = EventReader(tmp_path)
    assert len(reader.read()) == 2
    assert len(reader.read()) == 0
    assert len(reader.notes) == (size >= 12)


@pytest.mark.parametrize(
    "record",
    [
        b"\xff" * 30,
        b"\x2a\x05abc",
        b"\x0b",
        b"\x09\x00\x00\x00\x00\x00\x00\xf8\x7f",  # its time is NaN
        event("a", 1, 1.0)[:11] + b"\x2a\x08\x0a\x06\x0a\x01\xff\x15\x00\x00",
        b"\x2a\x04\x0a\x02\x12\x00",
    ],
)
def test_case_41_a_sound_record_that_holds_no_event_is_told_of(tmp_path, record):
    log(tmp_path, record, event("a", 2, 2.0))
    reader = EventReader(tmp_path)
    assert values(reader.read()) == [("a", 2, 2.0)]
    assert "holds no event" in "".join(reader.notes)


def test_case_42_links_pipes_and_long_paths_are_not_followed(tmp_path):
    outside = tmp_path / "outside"
    log(outside, event("secret", 1, 1.0))
    board = tmp_path / "tensorboard"
    log(board, event("a", 1, 1.0))
    (board / "events.out.tfevents.link").symlink_to(outside / "events.out.tfevents.1")
    (board / "linked").symlink_to(outside)
    os.mkfifo(board / "tfevents")
    (board / "tfevents.folder").mkdir()
    deep = board.joinpath(*(["d"] * 12))
    log(deep, event("deep", 1, 1.0))
    assert values(read_scalars(board)) == [("a", 1, 1.0)]
    shutil.rmtree(board)
    board.symlink_to(outside)
    assert len(read_scalars(board)) == 0


def test_case_42_sparse_files_and_records_of_a_terabyte_cost_nothing(tmp_path):
    length = struct.pack("<Q", 1 << 39)
    path = log(tmp_path, event("a", 1, 1.0))
    with path.open("ab") as file:
        file.write(length + struct.pack("<I", masked_crc(length)))
        file.truncate(1 << 40)
    with (tmp_path / "zeros.tfevents").open("wb") as file:
        file.truncate(1 << 40)
    begin = time.monotonic()
    reader = EventReader(tmp_path)
    assert values(reader.read()) == [("a", 1, 1.0)]
    assert time.monotonic() - begin < 2
    assert len(reader.notes) == 2


def test_case_42_files_rows_and_bytes_are_capped(tmp_path):
    for n in range(20):
        log(tmp_path, *(event("a", step, n) for step in range(10)), name=f"{n:02}.tfevents")
    assert len(read_scalars(tmp_path, limits=EventLimits(n_entries=5))) == 50
    some = EventReader(tmp_path, EventLimits(n_rows=25))
    assert len(some.read()) == 25
    assert len(some.read()) == 0
    assert some.notes == ("more than 25 scalars or 268435456 bytes were logged; the rest was not read",)
    assert len(read_scalars(tmp_path, limits=EventLimits(n_bytes=10))) == 1


def test_a_large_log_is_read_in_parts_so_that_nobody_waits_long(tmp_path):
    log(tmp_path, *(event("a", step % 100, step) for step in range(1000)))
    limits = EventLimits(bytes_a_read=2000)
    reader = EventReader(tmp_path, limits)
    first = reader.read()
    assert 0 < len(first) < 100
    assert reader.behind
    whole = read_scalars(tmp_path, limits=limits)
    assert sorted(whole["value"]) == list(range(1000))
    assert whole.equals(read_scalars(tmp_path))


def test_descriptors_are_given_back(tmp_path):
    for n in range(3):
        log(tmp_path / f"run{n}", event("a", 1, 1.0))
    reader, descriptors = EventReader(tmp_path), Path("/proc/self/fd")
    reader.read()
    before = len(list(descriptors.iterdir()))
    for _ in range(5):
        reader.read()
    assert len(list(descriptors.iterdir())) == before


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=120))
def test_any_bytes_are_scalars_or_a_value_error(data):
    try:
        found = list(scalars(data))
    except ValueError:
        return
    assert all(isinstance(step, int) and math.isfinite(when) for _, step, when, _ in found)
