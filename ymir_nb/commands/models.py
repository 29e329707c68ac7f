"""Commands on models: list, show, export, import, hide and restore."""

from __future__ import annotations

from typing import Any

import yaml

from ymir_nb.commands.answers import Answer, Command, Namespace, arg, as_table, open_workspace, settings_of

MODEL = arg("ref", help="model, such as helmets, helmets@v2 or helmets@v2:epoch10")
VERSION = arg("ref", help="model, such as helmets (all its versions) or helmets@v2")


def model_list(a: Namespace) -> Answer:
    """List models with their newest versions."""
    from ymir_nb.backend.models import list_models

    return as_table(list_models(open_workspace(a), hidden=a.hidden))


def model_show(a: Namespace) -> Answer:
    """Show a model's card and its stages."""
    from ymir_nb.backend.models import open_model

    model = open_model(open_workspace(a), a.ref)
    card = {"model": model.full_ref, **model.card}
    text = yaml.safe_dump(card, sort_keys=False, allow_unicode=True).rstrip()
    return Answer(card, f"{text}\n{as_table(model.stages).text}")


def model_export(a: Namespace) -> Answer:
    """Write a model's package, a YMIR tar, into a folder."""
    from ymir_nb.backend.models import open_model

    path = open_model(open_workspace(a), a.ref).export(a.to)
    return Answer({"file": str(path)}, str(path))


def model_import(a: Namespace) -> Answer:
    """Register a YMIR model package, or, with --label, foreign weights; nothing in them is opened."""
    from ymir_nb.backend.errors import ImportRefused
    from ymir_nb.backend.model_imports import import_model, import_weights

    ws = open_workspace(a)
    if a.label:
        model = import_weights(
            ws,
            a.name,
            a.file,
            labels=a.label,
            executor=a.executor,
            metric=a.metric,
            stage=a.stage or "imported",
            object_type=a.object_type or 2,
            parameters=settings_of(a.set),
        )
    elif len(a.file) > 1 or any(value is not None for value in (a.metric, a.stage, a.object_type, a.set)):
        raise ImportRefused(
            "a package is one file that says all of itself. For foreign weights, name their labels in the order of "
            "class ids: --label helmet --label person"
        )
    else:
        model = import_model(ws, a.name, a.file[0], executor=a.executor)
    return Answer({"model": model.ref, **model.card}, repr(model))


def model_hide(a: Namespace) -> Answer:
    """Keep a model out of lists; it can still be opened by its full reference."""
    from ymir_nb.backend.hidden import hide_model

    refs = hide_model(open_workspace(a), a.ref)
    return Answer({"hidden": refs}, f"hidden: {', '.join(refs)}")


def model_restore(a: Namespace) -> Answer:
    """Bring a hidden model back."""
    from ymir_nb.backend.hidden import restore_model

    refs = restore_model(open_workspace(a), a.ref)
    return Answer({"restored": refs}, f"restored: {', '.join(refs)}")


COMMANDS: dict[str, Any] = {
    "model": {
        "list": Command(model_list, (arg("--hidden", action="store_true", help="list the hidden versions as well"),)),
        "show": Command(model_show, (MODEL,)),
        "export": Command(model_export, (MODEL, arg("--to", required=True, help="folder"))),
        "import": Command(
            model_import,
            (
                arg("name", help="name of the model"),
                arg("file", nargs="+", help="the package; with --label: files of weights, or their folder"),
                arg("--executor", default="tiny", help="who can run it (default: tiny)"),
                arg("--label", action="append", help="a label that foreign weights know, in the order of class ids"),
                arg("--metric", type=float, help="of foreign weights: how good they are, in [0, 1]"),
                arg("--stage", help="of foreign weights: what to call them (default: imported)"),
                arg("--object-type", type=int, help="of foreign weights: 2 detection (default), 3 and 4 segmentation"),
                arg("--set", action="append", metavar="KEY=VALUE", help="of foreign weights: a training parameter"),
            ),
        ),
        "hide": Command(model_hide, (VERSION,)),
        "restore": Command(model_restore, (VERSION,)),
    }
}
