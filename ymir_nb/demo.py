"""The demo: the whole loop on drawn scenes, or on a labelled folder of one's own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from ymir_nb.backend import ops
from ymir_nb.backend.errors import ImportRefused
from ymir_nb.backend.importing import import_dataset
from ymir_nb.backend.projects import Project, create_project, names, open_project
from ymir_nb.backend.rounds import run_rounds
from ymir_nb.backend.sandbox import draw_sandbox
from ymir_nb.backend.workspace import Workspace
from ymir_nb.notebook import report

PROJECT = "demo"
N_POOL, N_VAL, SEED = 400, 150, 7
WIDTH, HEIGHT = 256, 192
TARGET_MAP50 = 0.8
VAL_SHARE = 0.2


@dataclass(frozen=True)
class DemoOutcome:
    """What the demo came to.

    Parameters
    ----------
    rounds : DataFrame
        Columns round, images, boxes, AP50, AP50:95, seconds.
    workspace, report : Path
        Where it lies, and the page that tells of it.
    """

    rounds: pd.DataFrame
    workspace: Path
    report: Path

    def to_dict(self) -> dict[str, Any]:
        """Give it as plain values."""
        return {
            "workspace": str(self.workspace),
            "report": str(self.report),
            "rounds": self.rounds.to_dict("records"),
        }

    def to_text(self) -> str:
        """Write the table and where to look next."""
        table = self.rounds.to_string(index=False, float_format=lambda value: f"{value:.3f}")
        return f"{table}\n\nworkspace {self.workspace}\nreport    {self.report}"


def run_demo(
    to: str | Path,
    *,
    data: str | Path = "",
    rounds: int = 3,
    k: int | None = None,
    start: int = 20,
    executor: str | None = None,
    parameters: Mapping[str, Mapping[str, Any]] | None = None,
) -> DemoOutcome:
    """Run an active-learning loop headless, with held-back labels in the place of a person.

    Interrupted, it goes on where it stopped; finished, it only writes its report again.

    Parameters
    ----------
    to : str or Path
        Folder of the workspace to make.
    data : str or Path
        A labelled folder or zip; by default scenes of a building site are drawn.
    rounds : int
        Rounds after the first model.
    k : int, optional
        Images mined each round; 30 by default, 20 on data of one's own.
    start : int
        Labelled images that the first model learns from.
    executor : str, optional
        Who does the work; by default the workspace's.
    parameters : mapping, optional
        Executor parameters under ``training``, ``infer`` and ``mining``.

    Returns
    -------
    DemoOutcome

    Raises
    ------
    ImportRefused
        The data has too few labelled images for such a loop.
    """
    ws = Workspace.init(to)
    if PROJECT in names(ws):
        project = open_project(ws, PROJECT)
    else:
        _prepare(ws, data, start)
        project = create_project(
            ws,
            PROJECT,
            train="train",
            val="val",
            pool="pool",
            k=k or (20 if data else 30),
            target_map50=TARGET_MAP50,
            target_rounds=rounds,
            executor=executor or str(ws.settings["executor"]),
            parameters=_parameters(parameters or {}, drawn=not data),
        )
    left = rounds - int(project.to_frame()["round"].max() if len(project.to_frame()) else 0)
    if left > 0:
        run_rounds(project, left, oracle="truth")
    page = report(project, ws.root / "report.html")
    ws.store.git.commit([page], "Report of the demo")
    return DemoOutcome(_table(project), ws.root, page)


def open_lab(directory: Path, *, browser: bool = True) -> int:
    """Open JupyterLab on the notebooks, copied into a folder where they are not there yet.

    Parameters
    ----------
    directory : Path
        Where ``notebooks/`` is or shall be.
    browser : bool
        Open a browser; otherwise the address is printed.

    Returns
    -------
    int
        Exit status of JupyterLab.
    """
    target = directory / "notebooks"
    if not target.exists():
        package = Path(__file__).resolve().parent
        source = next(p for p in (package / "notebooks", package.parent / "notebooks") if p.is_dir())
        shutil.copytree(source, target)
    command = [sys.executable, "-m", "jupyterlab", "--ip=127.0.0.1", str(target / "00_start_here.ipynb")]
    command += [] if browser else ["--no-browser"]
    # In a container one is root, and the server listens on this machine alone.
    command += ["--allow-root"] if os.geteuid() == 0 else []
    return subprocess.run(command, check=False).returncode


def _prepare(ws: Workspace, data: str | Path, start: int) -> None:
    """Import the truth, and divide it into val, a small train and a pool without labels."""
    if not data:
        data = ws.root / ".ymir" / "sandbox"
        if not data.exists():
            n_train = N_POOL + start
            draw_sandbox(data, n_images=n_train + N_VAL, seed=SEED, splits={"train": n_train, "val": N_VAL})
    truth = ops.filter(import_dataset(ws, "truth", data, unknown_labels="add"), state="labelled")
    val = _val(truth)
    rest = ops.exclude(truth, val)
    if len(rest) < 2 * start or not len(val):
        raise ImportRefused(
            f"{data} has {len(truth)} labelled images; {start} to begin with, as many to mine and some to measure on "
            "are needed. Give more, or begin with fewer: --start 5"
        )
    train = ops.sample(rest, n=start, seed=SEED)
    pool = ops.unlabel(ops.exclude(rest, train))
    ws.save(val, "val", operation="filter", parents=["truth"])
    ws.save(train, "train", operation="sample", parameters={"n": start, "seed": SEED}, parents=["truth"])
    ws.save(pool, "pool", operation="unlabel", parents=["truth"])


def _parameters(given: Mapping[str, Mapping[str, Any]], *, drawn: bool) -> dict[str, dict[str, Any]]:
    """Train drawn scenes at the size that they have, unless told otherwise."""
    parameters = {kind: dict(values) for kind, values in given.items()}
    if drawn:
        parameters["training"] = {"input_width": WIDTH, "input_height": HEIGHT, **parameters.get("training", {})}
    return parameters


def _val(truth: Any) -> Any:
    """Take the images to measure on: the test split, else the val split, else a fifth at random."""
    for split in ("test", "val"):
        found = ops.filter(truth, split=split)
        if len(found):
            return found
    return ops.sample(truth, rate=VAL_SHARE, seed=SEED)


def _table(project: Project) -> pd.DataFrame:
    columns = {
        "round": "round",
        "n_images": "images",
        "n_boxes": "boxes",
        "ap50": "AP50",
        "ap": "AP50:95",
        "seconds": "seconds",
    }
    return project.to_frame()[list(columns)].rename(columns=columns)
