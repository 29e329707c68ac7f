"""Commands on workspaces, labels and datasets."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from ymir_nb.backend.workspace import Workspace
from ymir_nb.commands.answers import (
    REF,
    SEED,
    TO,
    Answer,
    Command,
    Namespace,
    arg,
    as_table,
    as_version,
    open_workspace,
)


def init(a: Namespace) -> Answer:
    """Make a workspace: a git and DVC repository."""
    ws = Workspace.init(a.path or a.workspace)
    return Answer({"workspace": str(ws.root)}, f"workspace {ws.root}")


def label_add(a: Namespace) -> Answer:
    """Add a label."""
    open_workspace(a).labels.add(a.name, aliases=a.alias or [])
    return label_list(a)


def label_alias(a: Namespace) -> Answer:
    """Give a label further names."""
    open_workspace(a).labels.alias(*a.aliases, of=a.of)
    return label_list(a)


def label_rename(a: Namespace) -> Answer:
    """Change a label's main name; the old one stays as an alias."""
    open_workspace(a).labels.rename(a.name, to=a.to)
    return label_list(a)


def label_list(a: Namespace) -> Answer:
    """List labels with their ids and aliases."""
    labels = open_workspace(a).labels.read()
    data = [{"id": label.id, "name": label.name, "aliases": list(label.aliases)} for label in labels.items]
    return Answer(data, as_table(labels.to_frame()).text)


def import_(a: Namespace) -> Answer:
    """Import images with their annotations from a folder or zip."""
    from ymir_nb.backend.importing import import_dataset

    ws = open_workspace(a)
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
    return Answer(data, f"{as_version(ws, version.ref).text}\n{report.to_text()}")


def list_(a: Namespace) -> Answer:
    """List datasets, predictions or models with their newest versions."""
    return as_table(open_workspace(a).datasets(a.shelf))


def show(a: Namespace) -> Answer:
    """Show a version: counts, labels, how it came to be."""
    version = open_workspace(a).version(a.ref)
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
    return as_table(open_workspace(a).versions(a.name))


def merge(a: Namespace) -> Answer:
    """Merge datasets into a new version."""
    from ymir_nb.backend import ops

    ws = open_workspace(a)
    parts = [ws.dataset(ref) for ref in a.refs]
    merged = ops.merge(parts, conflicts=a.conflicts)
    saved = ws.save(
        merged, a.to, operation="merge", parameters={"conflicts": a.conflicts}, parents=[part.ref for part in parts]
    )
    return as_version(ws, saved.ref)


def filter_(a: Namespace) -> Answer:
    """Keep images by label, split or state, as a new version."""
    from ymir_nb.backend import ops

    ws = open_workspace(a)
    dataset = ws.dataset(a.ref)
    any_of, none_of = ([ws.labels.main_name(label) for label in labels or []] for labels in (a.label, a.without))
    kept = ops.filter(dataset, any_of=any_of, none_of=none_of, split=a.split, state=a.state)
    given = {"any_of": any_of, "none_of": none_of, "split": a.split, "state": a.state}
    parameters = {key: value for key, value in given.items() if value not in (None, [])}
    return as_version(ws, ws.save(kept, a.to, operation="filter", parameters=parameters, parents=[dataset.ref]).ref)


def exclude(a: Namespace) -> Answer:
    """Leave out the images of other datasets, as a new version."""
    from ymir_nb.backend import ops

    ws = open_workspace(a)
    dataset, others = ws.dataset(a.ref), [ws.dataset(ref) for ref in a.others]
    kept = ops.exclude(dataset, *others)
    saved = ws.save(kept, a.to, operation="exclude", parents=[dataset.ref, *(other.ref for other in others)])
    return as_version(ws, saved.ref)


def sample(a: Namespace) -> Answer:
    """Draw images at random, as a new version."""
    from ymir_nb.backend import ops

    ws = open_workspace(a)
    dataset = ws.dataset(a.ref)
    drawn = ops.sample(dataset, n=a.n, rate=a.rate, seed=a.seed)
    parameters = {"n": a.n, "rate": a.rate, "seed": a.seed}
    return as_version(ws, ws.save(drawn, a.to, operation="sample", parameters=parameters, parents=[dataset.ref]).ref)


def split(a: Namespace) -> Answer:
    """Divide a dataset's images into train, val and test at random, as a new version."""
    from ymir_nb.backend import ops

    ws = open_workspace(a)
    dataset = ws.dataset(a.ref)
    shares = {name: share for name, share in (("train", a.train), ("val", a.val), ("test", a.test)) if share}
    divided = ops.split(dataset, shares, seed=a.seed)
    parameters = {"shares": shares, "seed": a.seed}
    return as_version(ws, ws.save(divided, a.to, operation="split", parameters=parameters, parents=[dataset.ref]).ref)


def export(a: Namespace) -> Answer:
    """Write a dataset's images and annotations into a folder."""
    from ymir_nb.backend.exporting import export_dataset

    dataset = open_workspace(a).dataset(a.ref)
    lost = export_dataset(dataset, a.to, format=a.format)
    notes = "".join(f"\nnot kept: {note}" for note in lost)
    return Answer({"ref": dataset.ref, "to": str(Path(a.to)), "lost": lost}, f"{dataset.ref} is in {a.to}{notes}")


def checkout(a: Namespace) -> Answer:
    """Fill a dataset's folder with its files, whatever their number."""
    folder = open_workspace(a).checkout(a.ref)
    return Answer({"folder": str(folder)}, str(folder))


def push(a: Namespace) -> Answer:
    """Send the files of all versions to DVC's remote."""
    words = open_workspace(a).push()
    return Answer({"pushed": words.strip()}, words.strip())


def pull(a: Namespace) -> Answer:
    """Get files from DVC's remote."""
    words = open_workspace(a).pull(all_versions=a.all)
    return Answer({"pulled": words.strip()}, words.strip())


COMMANDS: dict[str, Any] = {
    "init": Command(init, (arg("path", nargs="?", help="folder (default: the one of -w)"),)),
    "import": Command(
        import_,
        (
            arg("name", help="name of the dataset"),
            arg("source", help="folder or zip"),
            arg("--format", choices=("voc", "coco", "images"), help="default: guessed"),
            arg("--unknown-labels", choices=("stop", "ignore", "add"), default="stop", help="default: stop"),
        ),
    ),
    "export": Command(
        export,
        (
            REF,
            arg("--to", required=True, help="folder to make"),
            arg("--format", choices=("voc", "coco"), default="voc"),
        ),
    ),
    "list": Command(
        list_, (arg("shelf", nargs="?", choices=("datasets", "predictions", "models"), default="datasets"),)
    ),
    "show": Command(show, (arg("ref", help="such as train@v3, models/helmets, predictions/val.helmets"),)),
    "log": Command(log, (arg("name", help="such as train, models/helmets, predictions/val.helmets"),)),
    "checkout": Command(checkout, (REF,)),
    "merge": Command(
        merge,
        (
            arg("refs", nargs="+", help="datasets; the first is the host"),
            TO,
            arg("--conflicts", choices=("stop", "first", "last"), default="stop", help="default: stop"),
        ),
    ),
    "filter": Command(
        filter_,
        (
            REF,
            TO,
            arg("--label", action="append", help="keep images with any of these"),
            arg("--without", action="append", metavar="LABEL", help="leave out images with any of these"),
            arg("--split", choices=("train", "val", "test", ""), help="keep this split"),
            arg("--state", choices=("labelled", "negative", "unlabelled"), help="keep this state"),
        ),
    ),
    "exclude": Command(exclude, (REF, arg("others", nargs="+", help="datasets whose images to leave out"), TO)),
    "sample": Command(
        sample,
        (REF, TO, arg("-n", type=int, help="how many"), arg("--rate", type=float, help="share in [0, 1]"), SEED),
    ),
    "split": Command(
        split,
        (
            REF,
            TO,
            *(arg(f"--{name}", type=float, default=0.0, help="share in [0, 1]") for name in ("train", "val", "test")),
            SEED,
        ),
    ),
    "label": {
        "add": Command(
            label_add, (arg("name"), arg("--alias", action="append", help="a further name; may be given again"))
        ),
        "alias": Command(label_alias, (arg("aliases", nargs="+"), arg("--of", required=True, help="the label"))),
        "rename": Command(label_rename, (arg("name"), arg("--to", required=True, help="its new main name"))),
        "list": Command(label_list),
    },
    "push": Command(push),
    "pull": Command(
        pull, (arg("--all", action="store_true", help="the files of every version, not of the newest alone"),)
    ),
}
