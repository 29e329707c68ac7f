"""The command that replays active learning on labelled data."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ymir_nb.backend.errors import YmirError
from ymir_nb.commands.answers import Answer, Command, Namespace, arg, open_workspace, settings_by_kind


def simulate(a: Namespace) -> Answer:
    """Replay active learning on labelled images with held-back labels, and compare strategies with random."""
    from ymir_nb.backend.learning_curves import CONTROL, compare, finished
    from ymir_nb.backend.objects import write_atomically
    from ymir_nb.backend.progress import bar
    from ymir_nb.backend.simulation import simulate as run
    from ymir_nb.backend.strategies import DEFAULT
    from ymir_nb.widgets.simulation_report import comparison, simulation_page

    with bar("simulation") as watch:
        runs = run(
            open_workspace(a),
            a.truth,
            val=a.val,
            test=a.test,
            strategies=a.strategy or [CONTROL, DEFAULT],
            seeds=_seeds(a.seeds),
            n_start=a.start,
            k=a.k,
            rounds=a.rounds,
            executor=a.executor,
            parameters=settings_by_kind(a.set),
            warm_start=a.warm_start,
            n_parallel=a.parallel,
            results=a.results,
            watch=watch,
        )
    frame = runs.to_frame()
    data: dict[str, Any] = {"id": runs.plan["id"], "results": str(runs.path), "compared": []}
    text = f"{runs!r}\nresults {runs.path}"
    if CONTROL in set(finished(frame)["strategy"]):
        data["compared"] = json.loads(compare(frame).to_json(orient="records"))
        text = f"{comparison(frame).to_string(index=False)}\n\n{text}"
    if a.report:
        page = simulation_page(title=f"Simulation on {runs.plan['truth']}", runs=frame, plan=runs.plan)
        write_atomically(Path(a.report), page)
        data["report"], text = a.report, f"{text}\nreport  {a.report}"
    return Answer(data, text)


def _seeds(words: str) -> list[int]:
    """Read ``1,2,3``."""
    try:
        return [int(word) for word in words.split(",")]
    except ValueError as error:
        raise YmirError(
            f"--seeds takes whole numbers with commas between them, not {words!r}. Such as 1,2,3"
        ) from error


COMMANDS: dict[str, Any] = {
    "simulate": Command(
        simulate,
        (
            arg("truth", help="labelled dataset to choose from; images of val and test are left out"),
            arg("--val", required=True, help="dataset to choose the best stage on"),
            arg("--test", default="", help="dataset to measure on (default: val)"),
            arg("--strategy", action="append", help="may be given again (default: random and hybrid)"),
            arg("--seeds", default="1,2,3", help="a start and a training each (default: 1,2,3)"),
            arg("--start", type=int, default=40, help="labelled images to begin with (default: 40)"),
            arg("-k", type=int, default=40, help="images chosen a round (default: 40)"),
            arg("--rounds", type=int, default=6, help="rounds after the first model (default: 6)"),
            arg("--executor", default=None, help="who trains and infers (default: the workspace's)"),
            arg("--set", action="append", metavar="KIND.KEY=VALUE", help="such as training.max_steps=300"),
            arg("--warm-start", action="store_true", help="begin each training from the last model"),
            arg("--parallel", type=int, default=1, help="arms at a time (default: 1)"),
            arg("--results", default="", help="file of the runs, to go on with"),
            arg("--report", default="", help="HTML page to write"),
        ),
    )
}
