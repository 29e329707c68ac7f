"""ymir-nb: an active-learning workbench for computer vision that lives in the notebook.

::

    import ymir_nb as ym

    ws = ym.Workspace.init("helmets")
    pool = ym.import_dataset(ws, "pool", "site-photos.zip")
    train = ym.import_dataset(ws, "train", "labelled/", format="voc", unknown_labels="add")
    val = ym.import_dataset(ws, "val", "val/", format="coco")
    ym.browse(train)
    project = ym.create_project(ws, "helmets", train="train", val="val", pool="pool", target_map50=0.8)
    board = ym.mine(project, k=100)
    ym.finish_round(project, source="labelled-by-hand")
    ym.chart(project)

Names load when they are first used, so that the import is cheap.
"""

from __future__ import annotations

import importlib
from typing import Any

_HOMES = {
    "backend.workspace": ("Workspace",),
    "backend.dataset": ("Dataset",),
    "backend.importing": ("import_dataset",),
    "backend.exporting": ("export_dataset",),
    "backend.sandbox": ("draw_sandbox",),
    "backend.projects": ("Project", "create_project", "open_project"),
    "backend.models": ("open_model",),
    "backend.model_imports": ("import_model", "import_weights"),
    "backend.hidden": ("hide_model", "restore_model"),
    "backend.executors": ("ExecutorBook",),
    "backend.public_executors": ("public_executors",),
    "backend.building": ("build_executor",),
    "backend.training": ("order_training", "train"),
    "backend.inference": ("infer", "order_inference"),
    "backend.evaluation": ("evaluate",),
    "backend.steps": ("presets", "run_step"),
    "backend.rounds": ("run_round",),
    "backend.simulation": ("simulate",),
    "backend.runs": ("Runs",),
    "backend.notebooks": ("write_result",),
    "notebook": ("browse", "chart", "finish_round", "jobs", "leaderboard", "mine", "report"),
}
_OWNERS = {name: module for module, names in _HOMES.items() for name in names}
_MODULES = {"ops": "backend.ops", "errors": "backend.errors", "strategies": "backend.strategies"}

__all__ = sorted([*_OWNERS, *_MODULES])  # noqa: PLE0605 (built from one table)
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """Load a public name from its module."""
    if name in _OWNERS:
        return getattr(importlib.import_module(f"ymir_nb.{_OWNERS[name]}"), name)
    if name in _MODULES:
        return importlib.import_module(f"ymir_nb.{_MODULES[name]}")
    raise AttributeError(f"ymir_nb has no {name!r}. It has {', '.join(__all__)}.")


def __dir__() -> list[str]:
    return __all__
