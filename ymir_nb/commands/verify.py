"""The command that holds an executor against the contract."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from ymir_nb.commands.answers import Answer, Command, Namespace, arg, open_workspace, settings_by_kind


def executor_verify(a: Namespace) -> Answer:
    """Run an executor on a small dataset and report what of the contract it holds; exit status 1 where it breaks it."""
    from ymir_nb.backend.errors import ImportRefused
    from ymir_nb.backend.executors import BUILTIN, ExecutorBook, builtin
    from ymir_nb.backend.progress import bar
    from ymir_nb.backend.verification import verify

    executor = builtin() if a.name == BUILTIN else ExecutorBook.of(open_workspace(a)).get(a.name)
    try:
        model = Path(a.model).expanduser().read_bytes() if a.model else None
    except OSError as error:
        raise ImportRefused(f"{a.model} cannot be read: {error.strerror}. Name a model package.") from error
    scratch = None if a.keep else tempfile.mkdtemp(prefix="ymir-nb-verify-")
    try:
        with bar(f"verify {a.name}") as watch:
            found = verify(
                executor,
                Path(scratch or a.keep),
                parameters=settings_by_kind(a.set),
                model=model,
                quick=a.quick,
                watch=watch,
                **({"only": a.only} if a.only else {}),
                **({"seconds": a.seconds} if a.seconds else {}),
            )
    finally:
        if scratch:
            shutil.rmtree(scratch, ignore_errors=True)
    return Answer(found.to_dict(), found.to_text(), status=0 if found.ok else 1)


VERIFY = Command(
    executor_verify,
    (
        arg("name"),
        arg("--model", metavar="PACKAGE", help="a model package, for one that does not train"),
        arg(
            "--only",
            action="append",
            choices=("training", "mining", "infer", "mining+infer"),
            help="look at this alone; may be given again (default: all)",
        ),
        arg("--quick", action="store_true", help="one plain run of each kind, nothing repeated, spoilt or stopped"),
        arg("--set", action="append", metavar="KIND.KEY=VALUE", help="a parameter, such as training.epochs=1"),
        arg("--seconds", type=float, help="longest time of one run (default: 1800)"),
        arg("--keep", metavar="DIR", help="keep the runs' folders here, to look at them"),
    ),
)
