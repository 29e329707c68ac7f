"""What each command of ``ymir-nb`` does: one library call, and how its result reads."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from ymir_nb.backend.errors import YmirError
from ymir_nb.backend.workspace import Workspace

Namespace = argparse.Namespace


@dataclass(frozen=True)
class Answer:
    """What a command found: plain values for ``--json``, and text for people."""

    data: Any
    text: str = ""
    status: int = 0


@dataclass(frozen=True)
class Argument:
    """One argument, as `argparse` takes it."""

    names: tuple[str, ...]
    options: dict[str, Any]


@dataclass(frozen=True)
class Command:
    """A command: what it takes and what it runs; its help is the first line of the docstring."""

    run: Callable[[Namespace], Answer]
    arguments: tuple[Argument, ...] = ()


def arg(*names: str, **options: Any) -> Argument:
    """Describe an argument."""
    return Argument(names, options)


def _workspace(a: Namespace) -> Workspace:
    return Workspace.open(a.workspace)


def _frame(frame: pd.DataFrame) -> Answer:
    rows = json.loads(frame.to_json(orient="records", date_format="iso"))
    return Answer(rows, frame.to_string(index=False) if len(frame) else "none yet")


def _saved(ws: Workspace, ref: str) -> Answer:
    version = ws.version(ref)
    counts = {key: version.meta.get(key) for key in ("n_images", "n_boxes", "n_negatives", "n_unlabelled", "labels")}
    data = {"dataset": version.name, "version": version.ref, **counts}
    text = f"{version.ref}: {counts['n_images']} images, {counts['n_boxes']} boxes, {counts['n_unlabelled']} unlabelled"
    return Answer(data, text)


def _settings(pairs: list[str] | None) -> dict[str, Any]:
    """Read ``key=value`` words; a value is a plain YAML literal, so 3 is a number and text needs no quotes."""
    settings = {}
    for pair in pairs or []:
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise YmirError(f"--set takes key=value, not {pair!r}. Such as: --set max_steps=300")
        try:
            settings[key] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise YmirError(
                f"--set {key}: {value!r} is no plain value ({error}). Quote it: {key}='\"text\"'"
            ) from error
    return settings


def _by_kind(pairs: list[str] | None) -> dict[str, dict[str, Any]]:
    """Read ``kind.key=value`` words, such as ``training.max_steps=300``."""
    parameters: dict[str, dict[str, Any]] = {}
    for key, value in _settings(pairs).items():
        kind, dot, name = key.partition(".")
        if not dot:
            raise YmirError(f"--set {key}: say for which work, such as training.{key}=... (training, infer or mining)")
        parameters.setdefault(kind, {})[name] = value
    return parameters


def init(a: Namespace) -> Answer:
    """Make a workspace: a git and DVC repository."""
    ws = Workspace.init(a.path or a.workspace)
    return Answer({"workspace": str(ws.root)}, f"workspace {ws.root}")


def label_add(a: Namespace) -> Answer:
    """Add a label."""
    _workspace(a).labels.add(a.name, aliases=a.alias or [])
    return label_list(a)


def label_alias(a: Namespace) -> Answer:
    """Give a label further names."""
    _workspace(a).labels.alias(*a.aliases, of=a.of)
    return label_list(a)


def label_rename(a: Namespace) -> Answer:
    """Change a label's main name; the old one stays as an alias."""
    _workspace(a).labels.rename(a.name, to=a.to)
    return label_list(a)


def label_list(a: Namespace) -> Answer:
    """List labels with their ids and aliases."""
    labels = _workspace(a).labels.read()
    data = [{"id": label.id, "name": label.name, "aliases": list(label.aliases)} for label in labels.items]
    return Answer(data, _frame(labels.to_frame()).text)


def import_(a: Namespace) -> Answer:
    """Import images with their annotations from a folder or zip."""
    from ymir_nb.backend.importing import import_dataset

    ws = _workspace(a)
    imported = import_dataset(ws, a.name, a.source, format=a.format, unknown_labels=a.unknown_labels)
    version = ws.version(imported.ref)
    report = imported.report
    data = {
        "dataset": version.name,
        "version": version.ref,
        "n_images": len(imported),
        "n_boxes": imported.n_boxes,
        "n_quarantined": report.n_quarantined,
        "labels": imported.counts(),
        "report": json.loads(report.to_frame().to_json(orient="records")),
    }
    return Answer(data, f"{_saved(ws, version.ref).text}\n{report.to_text()}")


def list_(a: Namespace) -> Answer:
    """List datasets, predictions or models with their newest versions."""
    return _frame(_workspace(a).datasets(a.shelf))


def show(a: Namespace) -> Answer:
    """Show a version: counts, labels, how it came to be."""
    version = _workspace(a).version(a.ref)
    data = {
        "ref": version.path_ref,
        "hash": version.hash,
        "commit": version.commit,
        "n_bytes": version.n_bytes,
        **version.meta,
    }
    return Answer(data, yaml.safe_dump(data, sort_keys=False, allow_unicode=True).rstrip())


def log(a: Namespace) -> Answer:
    """List the versions of a dataset, prediction or model, newest first."""
    return _frame(_workspace(a).versions(a.name))


def merge(a: Namespace) -> Answer:
    """Merge datasets into a new version."""
    from ymir_nb.backend import ops

    ws = _workspace(a)
    parts = [ws.dataset(ref) for ref in a.refs]
    merged = ops.merge(parts, conflicts=a.conflicts)
    saved = ws.save(
        merged, a.to, operation="merge", parameters={"conflicts": a.conflicts}, parents=[part.ref for part in parts]
    )
    return _saved(ws, saved.ref)


def filter_(a: Namespace) -> Answer:
    """Keep images by label, split or state, as a new version."""
    from ymir_nb.backend import ops

    ws = _workspace(a)
    dataset = ws.dataset(a.ref)
    any_of, none_of = ([ws.labels.main_name(label) for label in labels or []] for labels in (a.label, a.without))
    kept = ops.filter(dataset, any_of=any_of, none_of=none_of, split=a.split, state=a.state)
    given = {"any_of": any_of, "none_of": none_of, "split": a.split, "state": a.state}
    parameters = {key: value for key, value in given.items() if value not in (None, [])}
    return _saved(ws, ws.save(kept, a.to, operation="filter", parameters=parameters, parents=[dataset.ref]).ref)


def exclude(a: Namespace) -> Answer:
    """Leave out the images of other datasets, as a new version."""
    from ymir_nb.backend import ops

    ws = _workspace(a)
    dataset, others = ws.dataset(a.ref), [ws.dataset(ref) for ref in a.others]
    kept = ops.exclude(dataset, *others)
    saved = ws.save(kept, a.to, operation="exclude", parents=[dataset.ref, *(other.ref for other in others)])
    return _saved(ws, saved.ref)


def sample(a: Namespace) -> Answer:
    """Draw images at random, as a new version."""
    from ymir_nb.backend import ops

    ws = _workspace(a)
    dataset = ws.dataset(a.ref)
    drawn = ops.sample(dataset, n=a.n, rate=a.rate, seed=a.seed)
    parameters = {"n": a.n, "rate": a.rate, "seed": a.seed}
    return _saved(ws, ws.save(drawn, a.to, operation="sample", parameters=parameters, parents=[dataset.ref]).ref)


def split(a: Namespace) -> Answer:
    """Divide a dataset's images into train, val and test at random, as a new version."""
    from ymir_nb.backend import ops

    ws = _workspace(a)
    dataset = ws.dataset(a.ref)
    shares = {name: share for name, share in (("train", a.train), ("val", a.val), ("test", a.test)) if share}
    divided = ops.split(dataset, shares, seed=a.seed)
    parameters = {"shares": shares, "seed": a.seed}
    return _saved(ws, ws.save(divided, a.to, operation="split", parameters=parameters, parents=[dataset.ref]).ref)


def export(a: Namespace) -> Answer:
    """Write a dataset's images and annotations into a folder."""
    from ymir_nb.backend.exporting import export_dataset

    dataset = _workspace(a).dataset(a.ref)
    lost = export_dataset(dataset, a.to, format=a.format)
    notes = "".join(f"\nnot kept: {note}" for note in lost)
    return Answer({"ref": dataset.ref, "to": str(Path(a.to)), "lost": lost}, f"{dataset.ref} is in {a.to}{notes}")


def checkout(a: Namespace) -> Answer:
    """Fill a dataset's folder with its files, whatever their number."""
    folder = _workspace(a).checkout(a.ref)
    return Answer({"folder": str(folder)}, str(folder))


def train(a: Namespace) -> Answer:
    """Train a model."""
    from ymir_nb.backend.jobs import bar
    from ymir_nb.backend.training import train as run

    with bar("training") as watch:
        model = run(
            _workspace(a),
            a.name,
            train=a.train,
            val=a.val,
            labels=a.label,
            executor=a.executor,
            parameters=_settings(a.set),
            pretrained=a.pretrained,
            overlap=a.overlap,
            watch=watch,
        )
    return Answer({"model": model.ref, **model.card}, repr(model))


def infer(a: Namespace) -> Answer:
    """Predict on a dataset with a model."""
    from ymir_nb.backend.inference import infer as run
    from ymir_nb.backend.jobs import bar

    ws = _workspace(a)
    with bar("inference") as watch:
        predictions = run(ws, a.ref, a.model, executor=a.executor, parameters=_settings(a.set), watch=watch)
    return _saved(ws, f"predictions/{predictions.ref}")


def mine(a: Namespace) -> Answer:
    """Rank a pool and keep the images worth labelling."""
    from ymir_nb.backend.jobs import bar
    from ymir_nb.backend.mining import mine as run

    ws = _workspace(a)
    with bar("mining") as watch:
        mined = run(
            ws,
            a.ref,
            name=a.to,
            model=a.model,
            strategy=a.strategy,
            k=a.k,
            seed=a.seed,
            executor=a.executor,
            watch=watch,
        )
    return Answer(
        {"mined": mined.dataset.ref, "predictions": mined.predictions.ref, "board": _frame(mined.board).data},
        f"{mined.dataset.ref}\n{_frame(mined.board).text}",
    )


def evaluate(a: Namespace) -> Answer:
    """Measure predictions against the labels of their dataset."""
    from ymir_nb.backend.evaluation import evaluate as run

    measured = run(_workspace(a), a.predictions, truth=a.truth)
    return Answer(measured.to_dict(), measured.to_frame().to_string(index=False))


def predictions(a: Namespace) -> Answer:
    """List predictions with their newest versions."""
    return _frame(_workspace(a).datasets("predictions"))


def model_list(a: Namespace) -> Answer:
    """List models with their newest versions."""
    from ymir_nb.backend.models import open_model

    ws = _workspace(a)
    models = [open_model(ws, name) for name in ws.store.names("models")]
    rows = [
        {"ref": m.ref, "metric": m.card["metric"], "labels": ", ".join(m.labels), "executor": m.card["executor"]}
        for m in models
    ]
    return _frame(pd.DataFrame(rows, columns=["ref", "metric", "labels", "executor"]))


def model_show(a: Namespace) -> Answer:
    """Show a model's card."""
    from ymir_nb.backend.models import open_model

    model = open_model(_workspace(a), a.ref)
    data = {"model": model.ref, **model.card}
    return Answer(data, yaml.safe_dump(data, sort_keys=False, allow_unicode=True).rstrip())


def model_export(a: Namespace) -> Answer:
    """Write a model's package, a YMIR tar, into a folder."""
    from ymir_nb.backend.models import open_model

    path = open_model(_workspace(a), a.ref).export(a.to)
    return Answer({"file": str(path)}, str(path))


def model_import(a: Namespace) -> Answer:
    """Register a YMIR model package."""
    from ymir_nb.backend.models import import_model

    model = import_model(_workspace(a), a.name, a.file, executor=a.executor)
    return Answer({"model": model.ref, **model.card}, repr(model))


def executor_add(a: Namespace) -> Answer:
    """Register an executor that is a local command."""
    from ymir_nb.backend.executors import ExecutorBook

    executor = ExecutorBook(_workspace(a).store).add(a.name, a.executable, templates=a.templates)
    return Answer(
        {"executor": executor.name, "offers": list(executor.templates)},
        f"{executor.name}: {', '.join(executor.templates)}",
    )


def executor_list(a: Namespace) -> Answer:
    """List executors."""
    from ymir_nb.backend.executors import ExecutorBook

    return _frame(ExecutorBook(_workspace(a).store).to_frame())


def executor_show(a: Namespace) -> Answer:
    """Show an executor's command and parameters with their defaults."""
    from ymir_nb.backend.executors import ExecutorBook

    executor = ExecutorBook(_workspace(a).store).get(a.name)
    data = {
        "name": executor.name,
        "runner": executor.runner,
        "command": list(executor.command),
        "templates": {kind: dict(template) for kind, template in executor.templates.items()},
    }
    return Answer(data, yaml.safe_dump(data, sort_keys=False, allow_unicode=True).rstrip())


def project_create(a: Namespace) -> Answer:
    """Make a project: datasets, labels, executor, strategy, targets."""
    from ymir_nb.backend.projects import create_project

    given = {key: value for key in _PLAN if (value := getattr(a, key)) not in (None, [])}
    parameters = {"parameters": _by_kind(a.set)} if a.set else {}
    project = create_project(_workspace(a), a.name, train=a.train, val=a.val, pool=a.pool, **given, **parameters)
    return _shown(project)


def project_set(a: Namespace) -> Answer:
    """Change a project's plan."""
    from ymir_nb.backend.projects import open_project

    project = open_project(_workspace(a), a.name)
    given = {key: value for key in (*_PLAN, "train", "val", "pool") if (value := getattr(a, key)) not in (None, [])}
    if a.set:
        plan = project.plan
        merged = {kind: dict(values) for kind, values in plan.parameters.items()}
        for kind, values in _by_kind(a.set).items():
            merged[kind] = merged.get(kind, {}) | values
        given["parameters"] = merged
    return _shown(project.edit(**given))


def project_copy(a: Namespace) -> Answer:
    """Make a project with the same plan and no rounds."""
    from ymir_nb.backend.projects import open_project

    return _shown(open_project(_workspace(a), a.name).copy(a.to))


def project_delete(a: Namespace) -> Answer:
    """Remove a project; its datasets and models stay."""
    from ymir_nb.backend.projects import open_project

    open_project(_workspace(a), a.name).delete()
    return Answer({"deleted": a.name}, f"{a.name} is deleted; its datasets and models stay")


def project_list(a: Namespace) -> Answer:
    """List projects and what comes next in each."""
    from ymir_nb.backend.projects import names, open_project

    ws = _workspace(a)
    projects = [open_project(ws, name) for name in names(ws)]
    return Answer([{"name": p.name, **p.next_step()} for p in projects], "\n".join(map(repr, projects)) or "none yet")


def project_show(a: Namespace) -> Answer:
    """Show a project's plan, rounds and next step."""
    from ymir_nb.backend.projects import open_project

    return _shown(open_project(_workspace(a), a.name))


def _shown(project: Any) -> Answer:
    data = project.to_dict()
    plan = yaml.safe_dump(data["plan"], sort_keys=False, allow_unicode=True)
    return Answer(data, f"{project!r}\n{plan}{_frame(project.to_frame()).text}")


def round_run(a: Namespace) -> Answer:
    """Run the next round headless, or what is left of it."""
    from ymir_nb.backend.projects import open_project
    from ymir_nb.backend.rounds import run_rounds

    outcome = run_rounds(open_project(_workspace(a), a.name), a.n, oracle=a.oracle, settings=_settings(a.set))
    return Answer(outcome.to_dict(), outcome.waiting or repr(outcome))


def round_mine(a: Namespace) -> Answer:
    """Run a round's steps up to the leaderboard, without notebooks."""
    from ymir_nb.backend.jobs import bar
    from ymir_nb.backend.projects import open_project
    from ymir_nb.backend.steps import leaderboard, run_until

    project = open_project(_workspace(a), a.name)
    with bar("mining") as watch:
        number = run_until(project, "mining", settings={"k": a.k} if a.k else {}, watch=watch)
    return _frame(leaderboard(project, number).board)


def round_finish(a: Namespace) -> Answer:
    """Run the rest of a round: labels, merge, training, evaluation, without notebooks."""
    from ymir_nb.backend.jobs import bar
    from ymir_nb.backend.projects import open_project
    from ymir_nb.backend.steps import run_until

    project = open_project(_workspace(a), a.name)
    with bar("training") as watch:
        run_until(project, "training", settings={"source": a.source} if a.source else {}, watch=watch)
    return _shown(project)


def jobs_list(a: Namespace) -> Answer:
    """List jobs with their states."""
    from ymir_nb.backend.jobs import Jobs

    return _frame(Jobs.of(_workspace(a)).to_frame())


def jobs_log(a: Namespace) -> Answer:
    """Print a job's log."""
    from ymir_nb.backend.jobs import Jobs

    text = Jobs.of(_workspace(a)).log(a.id)
    return Answer({"id": a.id, "log": text}, text.rstrip())


def jobs_attach(a: Namespace) -> Answer:
    """Watch a job until it ends; Ctrl-C stops the watching, not the job."""
    from ymir_nb.backend.jobs import Jobs, bar

    with bar(a.id) as watch:
        record = Jobs.of(_workspace(a)).wait(a.id, watch)
    return Answer(record.to_dict(), repr(record))


def jobs_cancel(a: Namespace) -> Answer:
    """End a job and everything that it started."""
    from ymir_nb.backend.jobs import Jobs

    record = Jobs.of(_workspace(a)).cancel(a.id)
    return Answer(record.to_dict(), repr(record))


def push(a: Namespace) -> Answer:
    """Send the files of all versions to DVC's remote."""
    words = _workspace(a).push()
    return Answer({"pushed": words.strip()}, words.strip())


def pull(a: Namespace) -> Answer:
    """Get files from DVC's remote."""
    words = _workspace(a).pull(all_versions=a.all)
    return Answer({"pulled": words.strip()}, words.strip())


def lab(a: Namespace) -> Answer:
    """Open JupyterLab on the notebooks."""
    from ymir_nb.demo import open_lab

    return Answer({}, status=open_lab(Path(a.workspace), browser=not a.no_browser))


def demo(a: Namespace) -> Answer:
    """Run the whole loop on drawn scenes, or on your own Pascal VOC or COCO folder."""
    from ymir_nb.demo import run_demo

    outcome = run_demo(a.to, data=a.data, rounds=a.rounds, k=a.k, start=a.start, parameters=_by_kind(a.set))
    return Answer(outcome.to_dict(), outcome.to_text())


_REF = arg("ref", help="dataset, such as train or train@v3")
_TO = arg("--to", required=True, help="name of the dataset to save")
_SEED = arg("--seed", type=int, default=0, help="of the draw")
_SET = arg("--set", action="append", metavar="KEY=VALUE", help="an executor parameter; may be given again")
_EXECUTOR = arg("--executor", default=None, help="who does it (default: the model's own, or the workspace's)")

_PLAN = (
    "labels",
    "executor",
    "strategy",
    "k",
    "seed",
    "overlap",
    "warm_start",
    "target_map50",
    "target_rounds",
    "target_images",
    "description",
)
_DATASETS = tuple(arg(f"--{role}", required=True, help="dataset") for role in ("train", "val", "pool"))
_DATASETS_OPTIONAL = tuple(arg(f"--{role}", help="dataset") for role in ("train", "val", "pool"))
_PLAN_ARGUMENTS = (
    arg("--label", dest="labels", action="append", help="a label to train (default: all of the training set)"),
    arg("--executor"),
    arg("--strategy", help="entropy, random, or executor for its own"),
    arg("-k", type=int, help="images mined each round"),
    arg("--seed", type=int),
    arg("--overlap", choices=("stop", "train", "val"), help="whose are images in both train and val"),
    arg("--warm-start", action=argparse.BooleanOptionalAction, help="begin from the last model's weights"),
    arg("--target-map50", type=float, help="AP50 in (0, 1] to reach"),
    arg("--target-rounds", type=int),
    arg("--target-images", type=int),
    arg("--description"),
    arg(
        "--set", action="append", metavar="KIND.KEY=VALUE", help="an executor parameter, such as training.max_steps=300"
    ),
)

COMMANDS: dict[str, Any] = {
    "init": Command(init, (arg("path", nargs="?", help="folder (default: the one of -w)"),)),
    "label": {
        "add": Command(
            label_add, (arg("name"), arg("--alias", action="append", help="a further name; may be given again"))
        ),
        "alias": Command(label_alias, (arg("aliases", nargs="+"), arg("--of", required=True, help="the label"))),
        "rename": Command(label_rename, (arg("name"), arg("--to", required=True, help="its new main name"))),
        "list": Command(label_list),
    },
    "import": Command(
        import_,
        (
            arg("name", help="name of the dataset"),
            arg("source", help="folder or zip"),
            arg("--format", choices=("voc", "coco", "images"), help="default: guessed"),
            arg("--unknown-labels", choices=("stop", "ignore", "add"), default="stop", help="default: stop"),
        ),
    ),
    "list": Command(
        list_, (arg("shelf", nargs="?", choices=("datasets", "predictions", "models"), default="datasets"),)
    ),
    "show": Command(show, (arg("ref", help="such as train@v3, models/helmets, predictions/val.helmets"),)),
    "log": Command(log, (arg("name", help="such as train, models/helmets, predictions/val.helmets"),)),
    "merge": Command(
        merge,
        (
            arg("refs", nargs="+", help="datasets; the first is the host"),
            _TO,
            arg("--conflicts", choices=("stop", "first", "last"), default="stop", help="default: stop"),
        ),
    ),
    "filter": Command(
        filter_,
        (
            _REF,
            _TO,
            arg("--label", action="append", help="keep images with any of these"),
            arg("--without", action="append", metavar="LABEL", help="leave out images with any of these"),
            arg("--split", choices=("train", "val", "test", ""), help="keep this split"),
            arg("--state", choices=("labelled", "negative", "unlabelled"), help="keep this state"),
        ),
    ),
    "exclude": Command(exclude, (_REF, arg("others", nargs="+", help="datasets whose images to leave out"), _TO)),
    "sample": Command(
        sample,
        (_REF, _TO, arg("-n", type=int, help="how many"), arg("--rate", type=float, help="share in [0, 1]"), _SEED),
    ),
    "split": Command(
        split,
        (
            _REF,
            _TO,
            *(arg(f"--{name}", type=float, default=0.0, help="share in [0, 1]") for name in ("train", "val", "test")),
            _SEED,
        ),
    ),
    "export": Command(
        export,
        (
            _REF,
            arg("--to", required=True, help="folder to make"),
            arg("--format", choices=("voc", "coco"), default="voc"),
        ),
    ),
    "checkout": Command(checkout, (_REF,)),
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
            _EXECUTOR,
            _SET,
        ),
    ),
    "infer": Command(infer, (_REF, arg("--model", required=True, help="such as helmets@v2"), _EXECUTOR, _SET)),
    "mine": Command(
        mine,
        (
            arg("ref", help="pool to choose from"),
            arg("--model", required=True, help="such as helmets@v2"),
            _TO,
            arg("-k", type=int, default=20, help="images to choose (default: 20)"),
            arg("--strategy", default="entropy", help="entropy (default), random, or executor for its own"),
            _SEED,
            _EXECUTOR,
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
    "model": {
        "list": Command(model_list),
        "show": Command(model_show, (arg("ref"),)),
        "export": Command(model_export, (arg("ref"), arg("--to", required=True, help="folder"))),
        "import": Command(
            model_import, (arg("name"), arg("file", help="the package"), arg("--executor", default="tiny"))
        ),
    },
    "executor": {
        "add": Command(
            executor_add,
            (
                arg("name"),
                arg("executable", metavar="COMMAND", help="program and arguments, quoted as one word"),
                arg("--templates", required=True, help="folder with its templates, a copy of /img-man"),
            ),
        ),
        "list": Command(executor_list),
        "show": Command(executor_show, (arg("name"),)),
    },
    "project": {
        "create": Command(project_create, (arg("name"), *_DATASETS, *_PLAN_ARGUMENTS)),
        "set": Command(project_set, (arg("name"), *_DATASETS_OPTIONAL, *_PLAN_ARGUMENTS)),
        "copy": Command(project_copy, (arg("name"), arg("--to", required=True, help="name of the copy"))),
        "delete": Command(project_delete, (arg("name"),)),
        "list": Command(project_list),
        "show": Command(project_show, (arg("name"),)),
    },
    "round": {
        "run": Command(
            round_run,
            (
                arg("name", help="the project"),
                arg("-n", type=int, default=1, help="how many rounds (default: 1)"),
                arg("--oracle", default="", help="dataset whose labels answer for a person"),
                arg("--set", action="append", metavar="KEY=VALUE", help="a parameter of the steps' templates"),
            ),
        ),
        "mine": Command(round_mine, (arg("name", help="the project"), arg("-k", type=int, help="images to choose"))),
        "finish": Command(
            round_finish,
            (arg("name", help="the project"), arg("--source", default="", help="dataset that has the labels")),
        ),
    },
    "jobs": {
        "list": Command(jobs_list),
        "attach": Command(jobs_attach, (arg("id"),)),
        "cancel": Command(jobs_cancel, (arg("id"),)),
        "log": Command(jobs_log, (arg("id"),)),
    },
    "push": Command(push),
    "pull": Command(
        pull, (arg("--all", action="store_true", help="the files of every version, not of the newest alone"),)
    ),
    "demo": Command(
        demo,
        (
            arg("--to", default="demo", help="folder of the workspace (default: demo)"),
            arg("--data", default="", help="your own labelled folder or zip, Pascal VOC or COCO"),
            arg("--rounds", type=int, default=3),
            arg("-k", type=int, default=None, help="images a round"),
            arg("--start", type=int, default=20, help="labelled images to begin with"),
            arg("--set", action="append", metavar="KIND.KEY=VALUE", help="such as training.max_steps=200"),
        ),
    ),
    "lab": Command(lab, (arg("--no-browser", action="store_true", help="print the address only"),)),
}
