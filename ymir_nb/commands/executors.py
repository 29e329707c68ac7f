"""Commands on executors: register, build, look at."""

from __future__ import annotations

import sys
from typing import Any

import yaml

from ymir_nb.backend.errors import PreflightFailed
from ymir_nb.backend.runners.base import Isolation
from ymir_nb.commands.answers import Answer, Command, Namespace, arg, as_table, open_workspace, settings_of
from ymir_nb.commands.verify import VERIFY

_FLAGS = tuple(name for name, value in vars(Isolation()).items() if isinstance(value, bool))
_LIMITS = tuple(name for name in vars(Isolation()) if name not in _FLAGS)


def executor_add(a: Namespace) -> Answer:
    """Register an executor: an image, or with its templates a local command."""
    from ymir_nb.backend.executors import ExecutorBook

    book = ExecutorBook.of(open_workspace(a))
    former = book.read().get(a.name)
    executor = book.add(
        a.name, a.executable, templates=a.templates, isolation=_isolation_of(a), object_type=a.object_type
    )
    changes = executor.changes(former) if former else []
    shown = {"executor": executor.name, "offers": list(executor.templates), "digest": executor.digest}
    return Answer(shown | {"changes": changes}, "\n".join([_line(executor), *changes]))


def executor_new(a: Namespace) -> Answer:
    """Copy the template of an executor into a new folder, to make your own of it."""
    from ymir_nb.backend.building import start_own

    folder = start_own(a.folder)
    return Answer({"folder": str(folder)}, f"{folder}: put your trainer into app/trainer.py")


def executor_build(a: Namespace) -> Answer:
    """Build an executor's image, the reference executor's or your own, and register it."""
    from ymir_nb.backend.building import build_executor
    from ymir_nb.backend.executors import ExecutorBook

    executor = build_executor(
        ExecutorBook.of(open_workspace(a)),
        a.name,
        source=a.source,
        base=a.base,
        wheels=a.wheels,
        say=lambda line: sys.stderr.write(f"{line}\n"),
    )
    shown = {"executor": executor.name, "image": executor.image, "digest": executor.digest}
    return Answer(shown | {"offers": list(executor.templates)}, _line(executor))


def executor_list(a: Namespace) -> Answer:
    """List executors, or the known public images."""
    from ymir_nb.backend.executors import ExecutorBook
    from ymir_nb.backend.public_executors import public_executors

    return as_table(public_executors() if a.public else ExecutorBook.of(open_workspace(a)).to_frame())


def executor_show(a: Namespace) -> Answer:
    """Show what an executor is, what it may do, and its parameters with type, default and help."""
    from ymir_nb.backend.executors import ExecutorBook

    executor = ExecutorBook.of(open_workspace(a)).get(a.name)
    tables = {kind: as_table(executor.parameters(kind)) for kind in executor.templates}
    data = executor.to_dict()
    words = yaml.safe_dump(
        {name: value for name, value in data.items() if name != "templates" and value not in ("", [], {}, False)},
        sort_keys=False,
        allow_unicode=True,
    )
    shown = "\n\n".join(f"{kind}\n{table.text}" for kind, table in tables.items())
    return Answer(data | {"parameters": {kind: table.data for kind, table in tables.items()}}, f"{words}\n{shown}")


def _line(executor: Any) -> str:
    """Say in a line what was registered."""
    return f"{executor.name}: {', '.join(executor.templates)}" + (
        f" ({executor.digest[:19]})" if executor.image else ""
    )


def _isolation_of(a: Namespace) -> dict[str, Any] | None:
    """Read --allow and --limit; None where neither was given."""
    from ymir_nb.backend.parameters import bytes_of

    if not a.allow and not a.limit:
        return None
    limits = settings_of(a.limit)
    unknown = sorted(set(limits) - set(_LIMITS))
    if unknown:
        raise PreflightFailed(f"--limit knows {', '.join(_LIMITS)}, not {', '.join(unknown)}.")
    sizes = {name: bytes_of(value, what=name) for name, value in limits.items() if name.endswith("_bytes")}
    return {name: True for name in a.allow or () if name != "nothing"} | limits | sizes


COMMANDS: dict[str, Any] = {
    "executor": {
        "add": Command(
            executor_add,
            (
                arg("name"),
                arg("executable", metavar="IMAGE_OR_COMMAND", help="an image; or program and arguments, as one word"),
                arg("--templates", help="for a command: folder with its templates, as an image has in /img-man"),
                arg(
                    "--allow",
                    action="append",
                    choices=(*_FLAGS, "nothing"),
                    help="loosen a container's isolation; may be given again (default: what it had before)",
                ),
                arg(
                    "--limit",
                    action="append",
                    metavar="NAME=VALUE",
                    help=f"set a limit, such as memory_bytes=4G: {', '.join(_LIMITS)}",
                ),
                arg("--object-type", type=int, help="which of several: 2 boxes, 3 pixels, 4 outlines, 50 multimodal"),
            ),
        ),
        "new": Command(executor_new, (arg("folder", help="folder to make"),)),
        "build": Command(
            executor_build,
            (
                arg("name", nargs="?", default="tiny-docker", help="what to call it (default: tiny-docker)"),
                arg("--from", dest="source", metavar="DIR", help="folder with a Dockerfile (default: the reference)"),
                arg("--base", default="", metavar="IMAGE", help="image to build on (default: the Dockerfile's)"),
                arg("--wheels", metavar="DIR", help="install Python packages from here, not from the network"),
            ),
        ),
        "list": Command(executor_list, (arg("--public", action="store_true", help="known public images instead"),)),
        "show": Command(executor_show, (arg("name"),)),
        "verify": VERIFY,
    },
}
