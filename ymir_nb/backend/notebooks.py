"""Template notebooks, run by papermill."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ymir_nb.backend.errors import ProjectError, StepFailed
from ymir_nb.backend.objects import write_atomically

KERNEL = "python3"


def template(name: str) -> Path:
    """Give a template notebook by name, from the wheel or from the checkout it was installed from.

    Raises
    ------
    ProjectError
        There is no such template.
    """
    package = Path(__file__).resolve().parents[1]
    for folder in (package / "templates", package.parent / "templates"):
        path = folder / f"{name}.ipynb"
        if path.is_file():
            return path
    raise ProjectError(f"ymir-nb has no template {name!r}. Install it again: the wheel carries templates/.")


def parameters_of(notebook: Path) -> dict[str, str]:
    """List a template's parameters with their help, read from its ``parameters`` cell."""
    import papermill

    with _quiet():
        found = papermill.inspect_notebook(str(notebook))
    return {name: parameter["help"] for name, parameter in found.items()}


def run_notebook(notebook: Path, output: Path, *, parameters: Mapping[str, Any], cwd: Path) -> dict[str, Any]:
    """Execute a template and give what its last cell recorded.

    Parameters
    ----------
    notebook : Path
        The template.
    output : Path
        Where the executed notebook is kept, whether it succeeds or fails; its result lies beside it as JSON.
    parameters : mapping
        Plain values for the ``parameters`` cell; they reach it as typed literals, never as code.
    cwd : Path
        The kernel's folder.

    Returns
    -------
    dict
        The result that the notebook wrote.

    Raises
    ------
    ProjectError
        An unknown parameter; no kernel was started.
    StepFailed
        A cell raised; the notebook is kept and marked.
    """
    import papermill
    from papermill.exceptions import PapermillExecutionError

    known = parameters_of(notebook)
    unknown = sorted(set(parameters) - set(known))
    if unknown:
        raise ProjectError(f"{notebook.name} has no parameter {', '.join(unknown)}. It takes {', '.join(known)}.")
    output.parent.mkdir(parents=True, exist_ok=True)
    result_path = output.with_suffix(".json")
    result_path.unlink(missing_ok=True)
    try:
        with _quiet():
            papermill.execute_notebook(
                str(notebook),
                str(output),
                parameters={**parameters, "result": os.path.relpath(result_path, cwd)},
                cwd=str(cwd),
                kernel_name=KERNEL,
                progress_bar=False,
                log_output=False,
                # Without a kernel only the static form of a widget shows; its saved state would hide that.
                store_widget_state=False,
                extra_arguments=["--log-level=CRITICAL"],
            )
    except PapermillExecutionError as error:
        words = str(error.evalue).strip().splitlines() or [""]
        raise StepFailed(
            f"{output.stem} stopped with {error.ename}: {words[0]} The notebook is kept: {output}"
        ) from error
    if not result_path.exists():
        raise StepFailed(f"{output.stem} ended without a result. Its last cell must write it: see {output}")
    result: dict[str, Any] = json.loads(result_path.read_text(encoding="utf-8"))
    return result


def write_result(path: str, result: Mapping[str, Any]) -> None:
    """Write a step's result file, as a template's last cell does; an empty path writes none."""
    if path:
        write_atomically(Path(path), json.dumps(result, indent=1, sort_keys=True, ensure_ascii=False) + "\n")


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the warnings and log lines of the Jupyter stack to itself: its errors arrive as exceptions."""
    loggers = [logging.getLogger(name) for name in ("papermill", "traitlets", "asyncio")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
