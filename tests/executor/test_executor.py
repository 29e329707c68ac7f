"""The reference executor through its /in and /out folders: as a process of its own, or by its entry function."""

from __future__ import annotations

import ast
import contextlib
import io
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image, ImageDraw
from safetensors.numpy import load_file, save_file

from ymir_nb.executor.__main__ import main

REPOSITORY = Path(__file__).resolve().parents[2]
COLOURS = {"ball": (220, 60, 40), "crate": (40, 90, 220)}
SMALL = {
    "class_names": list(COLOURS), "gpu_id": "", "gpu_count": 0, "object_type": 2, "export_format": "ark:raw",
    "max_steps": 4, "batch_size": 4, "input_width": 64, "input_height": 48, "n_checkpoints": 2, "n_threads": 1,
}  # fmt: skip


@dataclass
class Rig:
    """A pair of in and out folders, and the executor started on them."""

    root: Path
    flags: dict
    config: dict
    indices: dict = field(default_factory=dict)
    variables: dict = field(default_factory=dict)
    stderr: str = ""

    def prepare(self) -> dict:
        given, out = self.root / "in", self.root / "out"
        given.mkdir(parents=True)
        out.mkdir()
        files = {"training_index_file": "", "val_index_file": "", "candidate_index_file": ""}
        for key, lines in self.indices.items():
            files[key] = str(given / f"{key}.tsv")
            Path(files[key]).write_text("".join(f"{line}\n" for line in lines))
        env = {
            "protocol_version": "1.1.0", "task_id": "t1", "run_training": False, "run_mining": False,
            "run_infer": False, "manifest_file": "", "input": {"config_file": str(given / "config.yaml"), **files},
            "output": {
                "root_dir": str(out), "models_dir": str(out / "models"), "tensorboard_dir": str(out / "tensorboard"),
                "training_result_file": str(out / "models/result.yaml"), "mining_result_file": str(out / "result.tsv"),
                "infer_result_file": str(out / "infer-result.json"), "monitor_file": str(out / "monitor.txt"),
            }, **self.flags,
        }  # fmt: skip
        (given / "config.yaml").write_text(yaml.safe_dump(self.config))
        (given / "env.yaml").write_text(yaml.safe_dump(env))
        variables = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST")} | self.variables
        return variables | {"DEFAULT_ENV_FILE_PATH": str(given / "env.yaml"), "PYTHONDONTWRITEBYTECODE": "1"}

    def start(self, variables: dict) -> subprocess.Popen:
        return subprocess.Popen(
            [sys.executable, "-m", "ymir_nb.executor"],
            cwd=REPOSITORY, env=variables, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    def process(self) -> Rig:
        """Run as the container does, and hold it to success."""
        with self.start(self.prepare()) as process:
            _, self.stderr = process.communicate(timeout=120)
        assert process.returncode == 0, self.stderr
        return self

    def call(self) -> int:
        """Run the entry function in this process, where torch is loaded already."""
        stderr = io.StringIO()
        with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stderr(stderr):
            patch.setenv("DEFAULT_ENV_FILE_PATH", self.prepare()["DEFAULT_ENV_FILE_PATH"])
            code = main()
        self.stderr = stderr.getvalue()
        return code

    def ok(self) -> Rig:
        assert self.call() == 0, self.stderr
        return self

    def failed(self, code: int, words: str) -> None:
        assert self.call() == 1
        assert self.stderr.startswith(f"error {code}: ")
        assert len(self.stderr.splitlines()) == 1
        assert words in self.stderr
        assert self.monitor[3:5] == ["4", str(code)]
        assert words in self.monitor[5]

    @property
    def out(self) -> Path:
        return self.root / "out"

    @property
    def result(self) -> dict:
        return yaml.safe_load((self.out / "models/result.yaml").read_text())

    @property
    def best(self) -> list[str]:
        stage = self.result["best_stage_name"]
        return [str(self.out / "models" / stage / name) for name in self.result["model_stages"][stage]["files"]]

    @property
    def weights(self) -> bytes:
        return Path(self.best[0]).read_bytes()

    @property
    def monitor(self) -> list[str]:
        return (self.out / "monitor.txt").read_text().split("\n")[0].split("\t")

    @property
    def detection(self) -> dict:
        return json.loads((self.out / "infer-result.json").read_text())["detection"]


@dataclass(frozen=True)
class World:
    """Drawn images with the same truth in three formats."""

    images: list[Path]
    boxes: list[list[tuple[str, int, int, int, int]]]
    root: Path

    def index(self, form: str) -> list[str]:
        return [f"{image}\t{self.annotation(image, form)}" for image in self.images]

    def annotation(self, image: Path, form: str) -> Path:
        return self.root / "coco.json" if form == "coco" else self.root / form / f"{image.stem}.txt"


def draw(rng: np.random.Generator, size: tuple[int, int]) -> tuple[Image.Image, list[tuple[str, int, int, int, int]]]:
    """Paint up to three shapes on noise."""
    width, height = size
    noise = rng.integers(90, 150, (height, width, 3), dtype=np.uint8)
    image, boxes = Image.fromarray(noise), []
    brush = ImageDraw.Draw(image)
    for name in rng.choice(list(COLOURS), int(rng.integers(1, 4))):
        w, h = (int(v) for v in rng.integers(12, 30, 2))
        x, y = int(rng.integers(0, width - w)), int(rng.integers(0, height - h))
        shape = brush.ellipse if name == "ball" else brush.rectangle
        shape((x, y, x + w - 1, y + h - 1), fill=COLOURS[str(name)])
        boxes.append((str(name), x, y, x + w, y + h))
    return image, boxes


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> World:
    """Ten images, annotated as ark, VOC and COCO; the last one is a negative."""
    root, rng = tmp_path_factory.mktemp("world"), np.random.default_rng(3)
    for folder in ("images", "ark", "voc"):
        (root / folder).mkdir()
    images, truth, coco = [], [], {"images": [], "annotations": [], "categories": []}
    coco["categories"] = [{"id": i, "name": name} for i, name in enumerate(COLOURS)]
    for i in range(10):
        image, boxes = draw(rng, (96, 72) if i % 2 else (80, 80))
        boxes = boxes if i < 9 else []
        path = root / f"images/{i:03d}.png"
        (image if boxes else Image.new("RGB", (96, 72), (120, 120, 120))).save(path)
        images.append(path)
        truth.append(boxes)
        lines = [f"{list(COLOURS).index(n)}, {a}, {b}, {c - 1}, {d - 1}, -1.0, 0.0\n" for n, a, b, c, d in boxes]
        (root / f"ark/{path.stem}.txt").write_text("".join(lines))
        objects = "".join(
            f"<object><name>{n}</name><bndbox><xmin>{a}</xmin><ymin>{b}</ymin><xmax>{c - 1}</xmax>"
            f"<ymax>{d - 1}</ymax></bndbox></object>"
            for n, a, b, c, d in boxes
        )
        (root / f"voc/{path.stem}.txt").write_text(f"<annotation>{objects}</annotation>")
        coco["images"].append({"id": i + 1, "file_name": path.name, "width": image.width, "height": image.height})
        coco["annotations"] += [
            {"id": 100 * i + k, "image_id": i + 1, "category_id": list(COLOURS).index(n), "iscrowd": 0,
             "bbox": [a, b, c - a, d - b]}
            for k, (n, a, b, c, d) in enumerate(boxes)
        ]  # fmt: skip
    (root / "coco.json").write_text(json.dumps(coco))
    return World(images, truth, root)


def training(root: Path, world: World, *, form: str = "ark", backwards: bool = False, **config) -> Rig:
    lines = world.index(form)
    lines = lines[::-1] if backwards else lines
    return Rig(
        root,
        {"run_training": True},
        {**SMALL, "export_format": f"{form}:raw", **config},
        {"training_index_file": lines, "val_index_file": lines},
    )


def scoring(root: Path, world: World, model: list[str], *, lines: list[str] | None = None, **config) -> Rig:
    flags = {key: config.pop(key, True) for key in ("run_mining", "run_infer")}
    names = config.pop("class_names", SMALL["class_names"])
    given = {"class_names": names, "gpu_id": "", "n_threads": 1, "model_params_path": model, **config}
    indices = {"candidate_index_file": lines if lines is not None else [str(path) for path in world.images]}
    return Rig(root, flags, given, indices)


@pytest.fixture(autouse=True)
def _own_signals():
    """Give back what the entry function takes over."""
    handler = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, handler)


@pytest.fixture(scope="module")
def trained(tmp_path_factory, world) -> Rig:
    return training(tmp_path_factory.mktemp("trained") / "run", world).process()


@pytest.fixture(scope="module")
def scored(tmp_path_factory, world, trained) -> Rig:
    return scoring(tmp_path_factory.mktemp("scored") / "run", world, trained.best, max_boxes=5).process()


def test_training_writes_a_result_whose_stages_and_files_exist(trained):
    result = trained.result
    assert list(result["model_stages"]) == ["step_2", "step_4"]
    for name, stage in result["model_stages"].items():
        assert stage["stage_name"] == name
        assert name.isidentifier()
        assert isinstance(stage["timestamp"], int)
        assert 0 <= stage["mAP"] <= 1
        for file in stage["files"]:
            assert (trained.out / "models" / name / file).is_file()
    assert result["mAP"] == max(stage["mAP"] for stage in result["model_stages"].values())
    assert result["evaluate_config"] == {"iou_thr": 0.5, "conf_thr": 0.005}


def test_training_ends_with_a_full_monitor_and_scalars_on_the_board(trained):
    task, seconds, percent, state, code = trained.monitor
    assert (task, percent, state, code) == ("t1", "1.00", "2", "0")
    assert abs(float(seconds) - time.time()) < 600
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    board = EventAccumulator(str(trained.out / "tensorboard"))
    board.Reload()
    assert {"loss/total", "loss/heatmap", "loss/box", "val/mAP", "learning_rate"} <= set(board.Tags()["scalars"])
    assert [event.step for event in board.Scalars("val/mAP")] == [2, 4]


def test_model_files_hold_no_pickle_and_say_what_they_need(trained):
    weights, description = trained.best
    assert load_file(weights)["heatmap.weight"].shape[0] == 2
    assert yaml.safe_load(Path(description).read_text()) == {
        "architecture": "centre-heatmap-1", "class_names": ["ball", "crate"], "input_width": 64, "input_height": 48,
    }  # fmt: skip


def test_two_processes_with_the_same_seed_write_the_same_weights(tmp_path, world, trained):
    assert training(tmp_path / "run", world).process().weights == trained.weights


@pytest.mark.parametrize("change", [{"backwards": True}, {"form": "voc"}, {"form": "coco"}, {"cache_mb": 0}], ids=str)
def test_the_same_seed_gives_the_same_weights_whatever_carries_the_data(tmp_path, world, trained, change):
    assert training(tmp_path / "run", world, **change).ok().weights == trained.weights


def test_no_result_depends_on_the_number_of_threads(tmp_path, world):
    wide = {"batch_size": 20, "max_steps": 2}
    one, four = (training(tmp_path / f"train{n}", world, n_threads=n, **wide).ok() for n in (1, 4))
    assert one.weights == four.weights
    scored = [scoring(tmp_path / f"score{n}", world, one.best, n_threads=n, batch_size=3).ok() for n in (1, 4)]
    for name in ("infer-result.json", "result.tsv"):
        assert (scored[0].out / name).read_bytes() == (scored[1].out / name).read_bytes()


def test_another_seed_gives_other_weights(tmp_path, world, trained):
    assert training(tmp_path / "run", world, seed=1).ok().weights != trained.weights


def test_scoring_again_in_another_order_gives_the_same_bytes(tmp_path, world, trained, scored):
    lines = [f"{path}\t" for path in reversed(world.images)]
    again = scoring(tmp_path / "run", world, trained.best, lines=lines, max_boxes=5).ok()
    for name in ("infer-result.json", "result.tsv"):
        assert (again.out / name).read_bytes() == (scored.out / name).read_bytes()


def test_every_candidate_has_whole_pixel_boxes_and_the_same_box_as_floats(scored, world):
    assert sorted(scored.detection) == [path.name for path in world.images]
    seen = 0
    for path in world.images:
        with Image.open(path) as image:
            width, height = image.size
        rows = scored.detection[path.name]["boxes"]
        assert len(rows) <= 5
        assert [row["score"] for row in rows] == sorted((row["score"] for row in rows), reverse=True)
        for row in rows:
            seen += 1
            assert row["class_name"] in COLOURS
            assert all(isinstance(value, int) for value in row["box"].values())
            x1, y1, x2, y2 = row["xyxy"]
            assert 0 <= x1 < x2 <= width
            assert 0 <= y1 < y2 <= height
            assert abs(row["box"]["x"] - x1) <= 0.5
            assert abs(row["box"]["x"] + row["box"]["w"] - x2) <= 1
    assert seen


def test_mining_ranks_every_image_by_finite_falling_scores(scored, world):
    rows = [line.split("\t") for line in (scored.out / "result.tsv").read_text().splitlines()]
    assert sorted(path for path, _ in rows) == [str(path) for path in world.images]
    scores = [float(score) for _, score in rows]
    assert scores == sorted(scores, reverse=True)
    assert all(0 <= score <= 1 for score in scores)


def test_images_without_any_detection_keep_a_place_and_an_entry(tmp_path, world, trained):
    run = scoring(tmp_path / "run", world, trained.best, conf_threshold=1.0).ok()
    assert run.detection == {path.name: {"boxes": []} for path in world.images}
    assert len((run.out / "result.tsv").read_text().splitlines()) == len(world.images)


def test_random_mining_follows_the_seed_and_writes_no_detections_unasked(tmp_path, world, trained):
    runs = [
        scoring(tmp_path / str(i), world, trained.best, mining_algorithm="random", seed=seed, run_infer=False).ok()
        for i, seed in enumerate((1, 1, 2))
    ]
    first, second, third = ((run.out / "result.tsv").read_text() for run in runs)
    assert first == second != third
    assert not (runs[0].out / "infer-result.json").exists()


def test_a_warm_start_carries_the_body_and_the_shared_classes_over(tmp_path, world, trained):
    names = ["lamp", "crate"]
    run = training(
        tmp_path / "run", world, form="voc", class_names=names, max_steps=1, n_checkpoints=1, learning_rate=1e-8,
        pretrained_model_params=trained.best,
    ).ok()  # fmt: skip
    old, new = load_file(trained.best[0]), load_file(run.best[0])
    np.testing.assert_allclose(new["stem.conv.weight"], old["stem.conv.weight"], atol=1e-6)
    np.testing.assert_allclose(new["heatmap.weight"][1], old["heatmap.weight"][1], atol=1e-6)
    assert np.abs(new["heatmap.weight"][0] - old["heatmap.weight"][0]).max() > 1e-3


def test_nothing_is_written_outside_the_out_folder(tmp_path, world):
    home = tmp_path / "home"
    home.mkdir()
    run = training(tmp_path / "run", world, max_steps=1, n_checkpoints=1)
    run.variables = {"HOME": str(home), "TMPDIR": str(home)}
    before = {path: path.stat().st_mtime_ns for path in world.root.rglob("*")}
    run.process()
    assert {path: path.stat().st_mtime_ns for path in world.root.rglob("*")} == before
    assert list(home.iterdir()) == []
    assert {path.name for path in (run.root / "in").iterdir()} == {
        "config.yaml", "env.yaml", "training_index_file.tsv", "val_index_file.tsv",
    }  # fmt: skip
    assert not list(run.out.rglob("*.part"))


@pytest.mark.parametrize(
    ("change", "code", "words"),
    [
        ({"max_steps": "many"}, 300001, "max_steps is 'many', it must be a whole number"),
        ({"learning_rate": 7}, 300001, "learning_rate is 7.0, it must lie in"),
        ({"input_width": 66}, 300001, "must be a multiple of 4"),
        ({"flip": "sideways"}, 300001, "must be one of none, horizontal, both"),
        ({"class_names": []}, 300001, "class_names must be a list of names"),
        ({"form": "lmdb"}, 300001, "must be ark:raw, voc:raw or coco:raw"),
        ({"object_type": 3}, 300005, "this executor does 2 (detection) only"),
        ({"gpu_id": "99"}, 300102, "gpu_id is '99'"),
        ({"class_names": ["ball"]}, 300002, "class id 1, class_names has 0 to 0"),
        ({"pretrained_model_params": ["/in/models/a/a.pt"]}, 300004, "it lists a.pt"),
    ],
    ids=str,
)
def test_what_cannot_be_done_is_told_in_one_line_with_its_code(tmp_path, world, change, code, words):
    training(tmp_path / "run", world, **change).failed(code, words)


def test_a_loss_that_is_no_number_stops_the_training(tmp_path, world, trained):
    weights = load_file(trained.best[0])
    weights["distances.bias"] = np.full(4, np.nan, dtype=np.float32)
    (tmp_path / "model").mkdir()
    save_file(weights, tmp_path / "model/weights.safetensors")
    (tmp_path / "model/model.yaml").write_bytes(Path(trained.best[1]).read_bytes())
    files = [str(tmp_path / "model" / name) for name in ("weights.safetensors", "model.yaml")]
    training(tmp_path / "run", world, pretrained_model_params=files).failed(300201, "the loss is nan at step 1")


@pytest.mark.parametrize(
    ("file", "content", "code"),
    [("a.jpg", None, 300002), ("a.jpg", b"no image at all", 300003), ("sub/000.png", b"", 300002)],
    ids=["missing", "no image", "same name"],
)
def test_a_candidate_that_cannot_be_scored_is_named(tmp_path, world, trained, file, content, code):
    path = tmp_path / file
    path.parent.mkdir(exist_ok=True)
    if content is not None:
        path.write_bytes(content)
    run = scoring(tmp_path / "run", world, trained.best, lines=[*map(str, world.images), str(path)])
    run.failed(code, str(path))
    assert not (run.out / "infer-result.json").exists()


def test_classes_that_the_model_does_not_know_are_refused(tmp_path, world, trained):
    run = scoring(tmp_path / "run", world, trained.best, class_names=["ball", "lamp"])
    run.failed(300004, "class_names has 'lamp', the model knows only 'ball', 'crate'")


@pytest.mark.parametrize("missing", ["env.yaml", "config.yaml"])
def test_a_missing_description_is_told_by_its_path(tmp_path, world, missing):
    run = training(tmp_path / "run", world)
    variables = run.prepare()
    (run.root / "in" / missing).unlink()
    with run.start(variables) as process:
        _, stderr = process.communicate(timeout=60)
    assert process.returncode == 1
    assert stderr == f"error 300001: {run.root / 'in' / missing} cannot be read: No such file or directory\n"


def test_sigterm_ends_a_training_promptly_and_leaves_a_word(tmp_path, world):
    run = training(tmp_path / "run", world, max_steps=100_000)
    with run.start(run.prepare()) as process:
        assert process.stdout.readline().startswith("train 100000 steps")
        asked = time.monotonic()
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=20) == 128 + signal.SIGTERM
        assert time.monotonic() - asked < 10
    assert run.monitor[3:] == ["4", "160004", "terminated by a signal"]


def test_the_executor_imports_nothing_of_the_backend():
    for path in (REPOSITORY / "ymir_nb/executor").glob("*.py"):
        imports = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ImportFrom)]
        ours = {node.module for node in imports if (node.module or "").startswith("ymir_nb")}
        assert all(name.startswith("ymir_nb.executor") for name in ours), path
