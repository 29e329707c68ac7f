"""What a notebook shows: pictures with their boxes, ranked images, and the curve over the rounds.

Each widget is live in JupyterLab and has a static form (`text/html` with the pictures inside, and
`text/plain`) that shows wherever no kernel runs. They take values (a `Dataset`, a frame) and read
back as values (`.selection`, `.frame`); they start nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ymir_nb.widgets.dataset_browser import DatasetBrowser
    from ymir_nb.widgets.iteration_chart import IterationChart
    from ymir_nb.widgets.mining_leaderboard import MiningLeaderboard
    from ymir_nb.widgets.picture import label_colour
    from ymir_nb.widgets.report import report_page
    from ymir_nb.widgets.simulation_report import comparison, curves_png, simulation_page

__all__ = [
    "DatasetBrowser",
    "IterationChart",
    "MiningLeaderboard",
    "comparison",
    "curves_png",
    "label_colour",
    "report_page",
    "simulation_page",
]

_HOMES = {
    "DatasetBrowser": "dataset_browser",
    "IterationChart": "iteration_chart",
    "MiningLeaderboard": "mining_leaderboard",
    "comparison": "simulation_report",
    "curves_png": "simulation_report",
    "label_colour": "picture",
    "report_page": "report",
    "simulation_page": "simulation_report",
}


def __getattr__(name: str) -> Any:
    """Load a widget when it is first asked for: naming them costs nothing."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}. It has {', '.join(__all__)}.")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
