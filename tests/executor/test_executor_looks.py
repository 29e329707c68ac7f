"""What the reference executor tells beside boxes: features, score maps' disagreement, boxes on changed images."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from ymir_nb.executor.__main__ import main
from ymir_nb.executor.checkpoints import save_checkpoint
from ymir_nb.executor.consistency import CHANGES, consistencies, cut, divergence, flipped, smaller
from ymir_nb.executor.detection import Detections, Finder, Look
from ymir_nb.executor.disagreement import disagreement
from ymir_nb.executor.images import PAD, InputSize, Picture, load_picture
from ymir_nb.executor.network import for_inference, new_detector

CLASSES = ["ball", "crate", "lamp"]


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Five pictures of several shapes, and an untrained model that sees something on each."""
    root = tmp_path_factory.mktemp("looks")
    model = new_detector(len(CLASSES), torch.Generator().manual_seed(1))
    torch.nn.init.normal_(model.heatmap.weight, std=0.6, generator=torch.Generator().manual_seed(2))
    files = save_checkpoint(root / "model", model, CLASSES, InputSize(96, 64))
    rng = np.random.default_rng(0)
    for i in range(5):
        shape = (64, 96, 3) if i % 2 else (60, 40, 3)
        Image.fromarray(rng.integers(0, 255, shape, dtype=np.uint8)).save(root / f"{i}.png")
    return root, model, [str(root / "model" / file) for file in files]


def score(world, out, *, infer=True, mining=False, **config):
    """Run the entry function on the five pictures."""
    root, _, model = world
    out.mkdir(parents=True)
    (out / "index.tsv").write_text("".join(f"{root / f'{i}.png'}\n" for i in config.pop("order", range(5))))
    given = {"class_names": CLASSES, "gpu_id": "", "n_threads": 1, "model_params_path": model, **config}
    (out / "config.yaml").write_text(yaml.safe_dump(given))
    paths = {"config_file": str(out / "config.yaml"), "candidate_index_file": str(out / "index.tsv")}
    results = {
        "mining_result_file": str(out / "result.tsv"), "infer_result_file": str(out / "infer-result.json"),
        "monitor_file": str(out / "monitor.txt"),
    }  # fmt: skip
    env = {"task_id": "t", "run_mining": mining, "run_infer": infer, "input": paths, "output": results}
    (out / "env.yaml").write_text(yaml.safe_dump(env))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DEFAULT_ENV_FILE_PATH", str(out / "env.yaml"))
        assert main() == 0
    return out


def arrays(out):
    names = ("images", "objects", "objects_index", "objects_score", "boxes", "boxes_index", "boxes_score")
    return {name: np.load(out / "features" / f"{name}.npy", allow_pickle=False) for name in names}


def test_features_are_plain_arrays_with_a_vector_an_image_a_class_and_scores_of_all_classes(world, tmp_path):
    out = score(world, tmp_path / "run", features=True)
    found = arrays(out)
    index = json.loads((out / "features/index.json").read_text())
    assert index == {"version": 1, "images": [f"{i}.png" for i in range(5)], "class_names": CLASSES}
    assert found["images"].shape == (5, 48)
    assert found["images"].dtype == np.float16
    assert len(found["objects"]) == len(found["objects_index"]) == len(found["objects_score"]) > 5
    detection = json.loads((out / "infer-result.json").read_text())["detection"]
    boxes = [(i, b) for i in range(5) for b in detection[f"{i}.png"]["boxes"] if b["score"] >= 0.05]
    assert found["boxes_index"].tolist() == [[i, CLASSES.index(b["class_name"])] for i, b in boxes]
    assert found["boxes_score"] == pytest.approx([b["score"] for _, b in boxes], abs=1e-3)
    own = found["boxes"][np.arange(len(boxes)), found["boxes_index"][:, 1]]
    assert own == pytest.approx(found["boxes_score"], abs=1e-3)
    pairs = {(i, CLASSES.index(b["class_name"])): 0.0 for i, b in boxes}
    for i, b in boxes:
        key = (i, CLASSES.index(b["class_name"]))
        pairs[key] = max(pairs[key], b["score"])
    assert list(map(tuple, found["objects_index"])) == sorted(pairs)
    assert found["objects_score"] == pytest.approx([pairs[key] for key in sorted(pairs)], abs=1e-3)


def test_features_are_the_same_whatever_the_order_and_the_threads_and_are_not_written_unasked(world, tmp_path):
    one = score(world, tmp_path / "one", features=True, precision="float32")
    two = score(world, tmp_path / "two", features=True, precision="float32", order=[3, 1, 4, 0, 2], n_threads=2)
    for name, array in arrays(one).items():
        assert (array == arrays(two)[name]).all()
    assert not (score(world, tmp_path / "three") / "features").exists()
    with_boxes = [(each / "infer-result.json").read_bytes() for each in (one, two)]
    assert with_boxes[0] == with_boxes[1]


def test_an_images_vector_is_the_mean_over_the_image_and_not_over_its_padding(world):
    root, model, _ = world
    fast = for_inference(model, half=False)
    picture = load_picture(str(root / "0.png"), InputSize(96, 64))
    (found,) = Finder(fast, 0.005, 0.6, 20, look=True)([picture])
    inner = picture.pixels[None, :, :, :44].float()
    assert (picture.pixels[:, :, 43:] == PAD).all()
    features = fast.features((picture.pixels[None].float() - PAD) / 58)[0, :, :, :11]
    assert found.look.whole == pytest.approx(features.mean((1, 2)).numpy(), rel=1e-5)
    assert inner.shape[3] == 44


def test_aldd_is_the_entropy_of_the_neighbourhoods_mean_less_the_mean_entropy():
    rng = np.random.default_rng(0)
    p = rng.random((2, 20, 40))
    bits = lambda x: -x * np.log2(x) - (1 - x) * np.log2(1 - x)  # noqa: E731
    total = 0.0
    for each in p:
        torn = np.zeros_like(each)
        for y in range(20):
            for x in range(40):
                around = each[max(0, y - 4) : y + 5, max(0, x - 4) : x + 5]
                torn[y, x] = bits(around.mean()) - bits(around).mean()
        total += np.mean([torn[:, :32].max(), torn[:, 32:].max()])
    assert disagreement(torch.from_numpy(p)) == pytest.approx(total, abs=1e-6)
    assert disagreement(torch.zeros(1, 5, 5)) == disagreement(torch.ones(1, 50, 50)) == 0.0


def test_the_changes_leave_the_padding_alone_and_boxes_find_their_way_back():
    pixels = torch.full((3, 40, 64), PAD, dtype=torch.uint8)
    pixels[:, :40, :48] = 200
    pixels[:, 8:16, 4:12] = 10
    picture = Picture(pixels, 96, 80, (0.5, 0.5))
    mirrored = flipped(picture)
    assert (mirrored.pixels[:, 8:16, 36:44] == 10).all()
    assert (mirrored.pixels[:, :, 48:] == PAD).all()
    back = CHANGES[0][1](np.array([[72.0, 16, 88, 32]]), picture)
    assert back.tolist() == [[8.0, 16, 24, 32]]
    small = smaller(picture)
    assert small.scale == (36 / 96, 30 / 80)
    assert (small.pixels[:, 30:] == PAD).all()
    assert (small.pixels[:, :, 36:] == PAD).all()
    holes = cut(picture).pixels[0]
    assert holes[10, 12] == holes[30, 36] == PAD
    assert holes[0, 0] == 200


class Steady:
    """Finds the same boxes, with the same scores, on every picture; moved by `drift` after the first look."""

    def __init__(self, drift=0.0, score=0.9):
        self.looks, self.drift, self.score = 0, drift, score

    def __call__(self, pictures):
        moved = self.drift if self.looks else 0.0
        mirrored = self.looks == 1
        self.looks += 1
        box = np.array([[10.0 + moved, 10, 30 + moved, 30]])
        if mirrored:
            box = np.array([[100.0 - 30 - moved, 10, 100 - 10 - moved, 30]])
        chances = np.array([[self.score, 0.1]])
        look = Look(np.zeros(4), np.zeros((1, 4)), chances, 0.0)
        n = int(self.score > 0)
        return [Detections(box[:n], np.array([self.score])[:n], np.zeros(n, int), np.zeros(1), look) for _ in pictures]


def test_cald_is_the_distance_of_the_least_consistent_box_from_the_middle():
    picture = Picture(torch.zeros(3, 32, 32, dtype=torch.uint8), 100, 100, (0.32, 0.32))
    assert consistencies(Steady(), [picture]) == pytest.approx([-abs(1 + 0.9 - 1.3)])
    overlap = (15 * 20) / (2 * 400 - 15 * 20)
    assert consistencies(Steady(drift=5.0), [picture]) == pytest.approx([-abs(overlap + 0.9 - 1.3)])
    assert consistencies(Steady(drift=50.0), [picture]) == pytest.approx([-1.3])
    assert consistencies(Steady(score=0.0), [picture, picture]) == [-1.3, -1.3]
    halves = np.array([[0.5, 0.5]]), np.array([[1.0, 0.0]])
    expected = 0.5 * (math.log2(4 / 3) + 0.5 * math.log2(2 / 3) + 0.5 * math.log2(2))
    assert divergence(*halves) == pytest.approx([expected])


@pytest.mark.parametrize("algorithm", ["aldd", "cald"])
def test_mining_by_maps_or_by_changed_images_scores_every_candidate_alike_each_time(world, tmp_path, algorithm):
    given = {"mining": True, "infer": False, "mining_algorithm": algorithm, "precision": "float32"}
    one = score(world, tmp_path / "one", **given)
    two = score(world, tmp_path / "two", **given, order=[4, 3, 2, 1, 0], n_threads=2)
    assert (one / "result.tsv").read_bytes() == (two / "result.tsv").read_bytes()
    scores = [float(line.split("\t")[1]) for line in (one / "result.tsv").read_text().splitlines()]
    assert len(set(scores)) > 1
    assert scores == sorted(scores, reverse=True)
    assert all(s > 0 for s in scores) if algorithm == "aldd" else all(-1.3 <= s <= 0 for s in scores)


def test_features_must_be_true_or_false(world, tmp_path, capsys):
    with pytest.raises(AssertionError):
        score(world, tmp_path / "run", features="maybe")
    assert "features is 'maybe', it must be true or false" in capsys.readouterr().err
