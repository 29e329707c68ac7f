"""What all tests share: a workspace on disk and images drawn from a seed."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings
from PIL import Image

os.environ.setdefault("DVC_NO_ANALYTICS", "1")
settings.register_profile("steady", derandomize=True)
if os.environ.get("CI"):
    # What lands is judged by the same examples each time; new ones are drawn wherever people work.
    settings.load_profile("steady")
os.environ.setdefault("JUPYTER_PLATFORM_DIRS", "1")
pytest_plugins = ["real_engine"]
SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture
def workspace(tmp_path):
    from ymir_nb.backend.workspace import Workspace

    return Workspace.init(tmp_path / "ws")


@pytest.fixture
def shared():
    if not SHARED.is_dir():
        pytest.skip(f"the real datasets are not beside this checkout ({SHARED})")
    return SHARED


@pytest.fixture
def run():
    """Run a program and give its output; its error text is in the failure."""

    def call(*command, cwd, check=True):
        done = subprocess.run(list(map(str, command)), cwd=cwd, capture_output=True, text=True, check=False)
        assert not (check and done.returncode), f"{command}: {done.stdout}{done.stderr}"
        return done.stdout

    return call


@pytest.fixture
def dvc(run):
    """Run the real dvc."""
    return lambda *arguments, cwd: run(sys.executable, "-m", "dvc", *arguments, cwd=cwd)


def jpeg(seed: int, *, width: int = 40, height: int = 30, **options) -> bytes:
    """Draw a small JPEG whose pixels depend on the seed alone."""
    pixels = np.random.default_rng(seed).integers(0, 255, (height, width, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", **options)
    return buffer.getvalue()


@pytest.fixture
def draw():
    return jpeg


@pytest.fixture
def make_dataset(workspace):
    """Put `n` drawn images with a box each into the workspace's cache and give them as a dataset."""
    from ymir_nb.backend.dataset import Dataset

    def make(n: int = 3, *, start: int = 0, label: str = "dog", labelled: bool = True) -> Dataset:
        if label not in workspace.labels:
            workspace.labels.add(label)
        images, boxes = [], []
        for seed in range(start, start + n):
            data = jpeg(seed)
            image = workspace.store.objects.put(data)
            images.append(
                {
                    "image": image,
                    "file": f"{seed}.jpg",
                    "format": "JPEG",
                    "mode": "RGB",
                    "width": 40,
                    "height": 30,
                    "n_bytes": len(data),
                    "labelled": labelled,
                }
            )
            if labelled:
                boxes.append({"image": image, "label": label, "x1": seed % 5, "y1": 2, "x2": 20, "y2": 20.5})
        return Dataset.of(images, boxes, labels=[label], media=workspace.media)

    return make


@pytest.fixture
def average(workspace):
    """Register the tests' small executor."""
    from ymir_nb.backend.executors import ExecutorBook

    here = Path(__file__).parent / "executors"
    command = [sys.executable, str(here / "average.py")]
    return ExecutorBook(workspace.store).add("average", command, templates=here / "average-man")


@pytest.fixture
def make_project(workspace, average, make_dataset):
    """A project on 4 labelled images, 3 to measure on and 12 in the pool, with their truth beside them."""
    from ymir_nb.backend import ops
    from ymir_nb.backend.projects import create_project

    def make(name: str = "dogs", **settings):
        truth = make_dataset(19)
        workspace.save(truth, "truth", operation="import")
        images = truth.images["image"].tolist()
        workspace.save(ops.take(truth, images[:4]), "train", operation="sample", parents=["truth"])
        workspace.save(ops.take(truth, images[4:7]), "val", operation="sample", parents=["truth"])
        workspace.save(ops.unlabel(ops.take(truth, images[7:])), "pool", operation="unlabel", parents=["truth"])
        # Not the default strategy: this executor gives no features, and a pretrained network takes seconds to start.
        plan = {"executor": "average", "strategy": "entropy", "k": 3, **settings}
        return create_project(workspace, name, train="train", val="val", pool="pool", **plan)

    return make


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """Where everything is required, a test that skips has failed."""
    outcome = yield
    report = outcome.get_result()
    if report.skipped and not hasattr(report, "wasxfail") and os.environ.get("YMIR_NB_REQUIRE_ALL") == "1":
        report.outcome = "failed"
        report.longrepr = f"skipped where nothing may be: {report.longrepr}"


def pytest_collection_modifyitems(items):
    """Keep together, where tests run side by side, what shares an engine or a JupyterLab."""
    for item in items:
        if "engine" in item.fixturenames:
            item.add_marker(pytest.mark.xdist_group("engine"))
        elif "browser" in item.path.parts:
            item.add_marker(pytest.mark.xdist_group("browser"))
