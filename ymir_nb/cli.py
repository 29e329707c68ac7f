"""The command ``ymir-nb``: words in, one library call, text or one JSON document out."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

import ymir_nb
from ymir_nb.backend.errors import YmirError
from ymir_nb.backend.progress import VARIABLE

Build = Callable[[argparse.ArgumentParser], None]


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Parameters
    ----------
    argv : sequence of str, optional
        The words after ``ymir-nb``; by default those of the process.

    Returns
    -------
    int
        0; 1 after an error, of which one line stands on standard error; 130 after Ctrl-C. A wrong
        call leaves through `argparse` with 2.
    """
    arguments = build_parser().parse_args(argv)
    if arguments.progress:
        os.environ[VARIABLE] = arguments.progress
    try:
        answer = arguments.run(arguments)
    except YmirError as error:
        print(f"ymir-nb: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    except KeyboardInterrupt as error:
        words = " ".join(str(error).split()) or "stopped."
        print(f"ymir-nb: {words}", file=sys.stderr)
        return 130
    if arguments.json:
        print(json.dumps(answer.data, ensure_ascii=False))
    elif answer.text:
        print(answer.text)
    return answer.status


def build_parser() -> argparse.ArgumentParser:
    """Make the parser of all commands."""
    from ymir_nb import commands

    parser = argparse.ArgumentParser(
        prog="ymir-nb",
        description="Active learning for computer vision, from datasets to rounds.",
        parents=[_shared(workspace=".", json=False)],
    )
    parser.add_argument("--version", action="version", version=f"ymir-nb {ymir_nb.__version__}")
    # Repeated behind the command, where leaving an option out must not undo what stood before it.
    shared = _shared(workspace=argparse.SUPPRESS, json=argparse.SUPPRESS)
    _add(parser, commands.COMMANDS, shared)
    return parser


def _shared(*, workspace: str, json: bool | str) -> argparse.ArgumentParser:
    """Make the options that every command has."""
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("-w", "--workspace", default=workspace, help="a folder in the workspace (default: this one)")
    shared.add_argument("--json", action="store_true", default=json, help="print one JSON document")
    shared.add_argument(
        "--progress",
        choices=("bar", "lines", "json", "none"),
        default=argparse.SUPPRESS if json == argparse.SUPPRESS else None,
        help="how to show progress, on standard error (default: a bar in a terminal, else a line now and then)",
    )
    return shared


def _add(parser: argparse.ArgumentParser, table: dict[str, Any], shared: argparse.ArgumentParser) -> None:
    """Add a table of commands, whose values are commands or tables of sub-commands."""
    group = parser.add_subparsers(metavar="COMMAND", required=True)
    for name, entry in table.items():
        if isinstance(entry, dict):
            words = ", ".join(entry)
            _add(group.add_parser(name, help=words, description=words, parents=[shared]), entry, shared)
            continue
        words = (entry.run.__doc__ or "").strip().splitlines()[0]
        command = group.add_parser(name, help=words, description=words, parents=[shared])
        for argument in entry.arguments:
            command.add_argument(*argument.names, **argument.options)
        command.set_defaults(run=entry.run)
