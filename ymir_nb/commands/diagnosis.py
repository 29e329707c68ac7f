"""Commands that say what is wrong with predictions, labels and datasets."""

from __future__ import annotations

from typing import Any

from ymir_nb.commands.answers import REF, SEED, Answer, Command, Namespace, arg, as_table, open_workspace


def diagnose(a: Namespace) -> Answer:
    """Say what predictions get wrong: causes, labels mixed up, thresholds, calibration."""
    from ymir_nb.backend.reviewing import diagnose as run

    found = run(open_workspace(a), a.predictions, truth=a.truth, iou=a.iou, min_score=a.min_score)
    return Answer(found.to_dict(), "\n".join([*found.findings(), as_table(found.to_frame()).text]))


def compare(a: Namespace) -> Answer:
    """Compare the predictions of two models on the same images."""
    from ymir_nb.backend.reviewing import compare as run

    found = run(open_workspace(a), a.first, a.second, truth=a.truth, n=a.draws, seed=a.seed)
    only = {"first": found.where(first="right", second="wrong"), "second": found.where(first="wrong", second="right")}
    data = {
        "verdict": found.verdict(),
        "numbers": as_table(found.to_frame()).data,
        "only_first_right": only["first"],
        "only_second_right": only["second"],
        "left_out": list(found.left_out),
    }
    counts = f"images that only the first gets right: {len(only['first'])}, only the second: {len(only['second'])}"
    return Answer(data, f"{found.verdict()}\n{counts}\n{as_table(found.to_frame()).text}")


def review(a: Namespace) -> Answer:
    """Rank labels that are probably wrong: overlooked, badly placed, swapped."""
    from ymir_nb.backend.reviewing import review as run

    found = run(open_workspace(a), a.predictions, truth=a.truth, sure=a.sure, likely=a.likely)
    queue = found.queue(a.n, issues=not a.all)
    shown = queue[["image", "kind", "score", "label", "suggestion", "why"]]
    return Answer(as_table(queue).data, f"{found!r}\n{as_table(shown).text}")


def analyse(a: Namespace) -> Answer:
    """Count what a dataset holds, with hints on what it lacks."""
    from ymir_nb.backend.analysis import analyse as run

    found = run(open_workspace(a).dataset(a.ref))
    return Answer(found.to_dict(), "\n".join([repr(found), as_table(found.per_label).text, *found.hints()]))


_PREDICTIONS = arg("predictions", help="such as val.helmets@v2")

_TRUTH = arg("--truth", default="", help="dataset to hold them against (default: the one predicted on)")

COMMANDS: dict[str, Any] = {
    "diagnose": Command(
        diagnose,
        (
            _PREDICTIONS,
            _TRUTH,
            arg("--iou", type=float, default=0.5, help="overlap that is right: 0.5, 0.55 ... 0.95 (default: 0.5)"),
            arg("--min-score", type=float, default=0.3, help="score from which predictions count (default: 0.3)"),
        ),
    ),
    "compare": Command(
        compare,
        (
            arg("first", help="predictions, such as val.helmets@v1"),
            arg("second", help="predictions, such as val.helmets@v2"),
            _TRUTH,
            arg("--draws", type=int, default=1000, help="of the bootstrap (default: 1000)"),
            SEED,
        ),
    ),
    "review": Command(
        review,
        (
            _PREDICTIONS,
            _TRUTH,
            arg("-n", type=int, default=None, help="at most so many (default: all)"),
            arg("--all", action="store_true", help="also what is hardly suspicious"),
            arg("--sure", type=float, default=0.95, help="score of an overlooked or swapped label (default: 0.95)"),
            arg("--likely", type=float, default=0.5, help="score of a better place (default: 0.5)"),
        ),
    ),
    "analyse": Command(analyse, (REF,)),
}
