"""Commands that train, infer, mine and evaluate, and on models."""

from __future__ import annotations

from typing import Any

from ymir_nb.commands.answers import (
    DETACH,
    EXECUTOR,
    REF,
    SEED,
    SET,
    TO,
    Answer,
    Command,
    Namespace,
    arg,
    as_job,
    as_table,
    as_version,
    open_workspace,
    settings_of,
)


def train(a: Namespace) -> Answer:
    """Train a model."""
    from ymir_nb.backend.jobs import Jobs
    from ymir_nb.backend.progress import bar
    from ymir_nb.backend.training import order_training
    from ymir_nb.backend.training import train as run

    ws = open_workspace(a)
    asked = {
        "train": a.train,
        "val": a.val,
        "labels": a.label,
        "executor": a.executor,
        "parameters": settings_of(a.set),
        "pretrained": a.pretrained,
        "overlap": a.overlap,
    }
    if a.detach:
        return as_job(Jobs.of(ws).start(order_training(ws, a.name, **asked)))
    with bar("training") as watch:
        model = run(ws, a.name, **asked, watch=watch)
    return Answer({"model": model.ref, **model.card}, repr(model))


def infer(a: Namespace) -> Answer:
    """Predict on a dataset with a model."""
    from ymir_nb.backend.inference import infer as run
    from ymir_nb.backend.inference import order_inference
    from ymir_nb.backend.jobs import Jobs
    from ymir_nb.backend.progress import bar

    ws, parameters = open_workspace(a), settings_of(a.set)
    if a.detach:
        order = order_inference(ws, a.ref, a.model, executor=a.executor, parameters={"infer": parameters})
        return as_job(Jobs.of(ws).start(order))
    with bar("inference") as watch:
        predictions = run(ws, a.ref, a.model, executor=a.executor, parameters=parameters, watch=watch)
    return as_version(ws, f"predictions/{predictions.ref}")


def mine(a: Namespace) -> Answer:
    """Rank a pool and keep the images worth labelling."""
    from ymir_nb.backend.mining import mine as run
    from ymir_nb.backend.progress import bar

    ws = open_workspace(a)
    with bar("mining") as watch:
        mined = run(
            ws,
            a.ref,
            name=a.to,
            model=a.model,
            strategy=a.strategy,
            k=a.k,
            budget=a.budget,
            seed=a.seed,
            train=a.train,
            executor=a.executor,
            watch=watch,
        )
    return Answer(
        {"mined": mined.dataset.ref, "predictions": mined.predictions.ref, "board": as_table(mined.board).data},
        f"{mined.dataset.ref}\n{as_table(mined.board).text}",
    )


def evaluate(a: Namespace) -> Answer:
    """Measure predictions against the labels of their dataset."""
    from ymir_nb.backend.evaluation import evaluate as run

    measured = run(open_workspace(a), a.predictions, truth=a.truth)
    return Answer(measured.to_dict(), measured.to_frame().to_string(index=False))


def predictions(a: Namespace) -> Answer:
    """List predictions with their newest versions."""
    return as_table(open_workspace(a).datasets("predictions"))


COMMANDS: dict[str, Any] = {
    "train": Command(
        train,
        (
            arg("name", help="name of the model"),
            arg("--train", required=True, help="dataset to learn from"),
            arg("--val", required=True, help="dataset to choose the best stage on"),
            arg("--label", action="append", help="a label to train (default: all of the training set)"),
            arg("--from", dest="pretrained", default="", metavar="MODEL", help="begin with this model's weights"),
            arg(
                "--overlap",
                choices=("stop", "train", "val"),
                default="stop",
                help="whose are images in both (default: stop)",
            ),
            EXECUTOR,
            SET,
            DETACH,
        ),
    ),
    "infer": Command(infer, (REF, arg("--model", required=True, help="such as helmets@v2"), EXECUTOR, SET, DETACH)),
    "mine": Command(
        mine,
        (
            arg("ref", help="pool to choose from"),
            arg("--model", required=True, help="such as helmets@v2"),
            TO,
            arg("-k", type=int, default=20, help="images to choose (default: 20)"),
            arg("--strategy", default="hybrid", help="hybrid (default), random, entropy ..., or executor for its own"),
            arg("--train", default="", help="what is labelled so far: its labels' counts and images are looked at"),
            arg("--budget", choices=("images", "boxes"), default="images", help="what -k counts (default: images)"),
            SEED,
            EXECUTOR,
        ),
    ),
    "evaluate": Command(
        evaluate,
        (
            arg("predictions", help="such as val.helmets@v2"),
            arg("--truth", default="", help="dataset to measure against (default: the one predicted on)"),
        ),
    ),
    "predictions": Command(predictions),
}
