"""Progress, wherever one looks: a widget in a notebook, a line in a terminal, few lines in a log, JSON on request.

``YMIR_NB_PROGRESS`` chooses by hand: ``bar``, ``lines``, ``json`` (one object a line on standard error) or ``none``.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

VARIABLE = "YMIR_NB_PROGRESS"
LINE_SECONDS, JSON_SECONDS = 30.0, 1.0
_FORM = "{desc}: {percentage:3.0f}%|{bar}| {postfix}"


@contextmanager
def bar(title: str) -> Iterator[Callable[[float, str], None]]:
    """Show progress that is fed with a share and a few words.

    A notebook gets a widget, a terminal a line that moves; elsewhere there is a line on standard error
    every half a minute, so that the log of a nightly run stays readable.

    Parameters
    ----------
    title : str
        Stands before the bar.

    Yields
    ------
    callable
        Takes the share done, in [0, 1], and a few words; fits `jobs.Jobs.wait`.

    Examples
    --------
    >>> with bar("training") as watch:
    ...     watch(0.5, "half of it")
    """
    form = _form()
    if form != "bar":
        yield _Lines(title, as_json=form == "json").show if form != "none" else _show_nothing
        return
    from tqdm.auto import tqdm

    with tqdm(total=1.0, desc=title, bar_format=_FORM, leave=False) as shown:

        def show(fraction: float, words: str) -> None:
            shown.set_postfix_str(words, refresh=False)
            shown.update(max(0.0, fraction - shown.n))
            shown.refresh()

        yield show


class _Lines:
    """Writes a line now and then; a change of what is said to JSON readers at once, and the end always."""

    def __init__(self, title: str, *, as_json: bool) -> None:
        self.title = title
        self.as_json = as_json
        self.next = time.monotonic() + (0.0 if as_json else LINE_SECONDS)
        self.spoke = as_json

    def show(self, fraction: float, words: str) -> None:
        """Write it, if it is time."""
        now = time.monotonic()
        if now < self.next and not (fraction >= 1.0 and self.spoke):
            return
        self.next = now + (JSON_SECONDS if self.as_json else LINE_SECONDS)
        self.spoke = True
        line = f"{self.title}: {fraction:4.0%} {words}"
        if self.as_json:
            line = json.dumps({"what": self.title, "fraction": round(fraction, 4), "words": words, "time": time.time()})
        print(line, file=sys.stderr, flush=True)  # noqa: T201 (the log of a nightly run)


def _show_nothing(_fraction: float, _words: str) -> None:
    """Take progress, and be silent."""


@contextmanager
def follow(running_share: Callable[[], float], title: str) -> Iterator[Callable[[int, str], None]]:
    """Show a bar for rounds whose work goes on in other processes.

    Where no bar can be shown, each step is a line on standard error.

    Parameters
    ----------
    running_share : callable
        Gives how far the work at hand is, in [0, 1]; asked twice a second.
    title : str
        Stands before the bar.

    Yields
    ------
    callable
        Takes round and step as they begin; fits `rounds.run_round`.
    """
    from tqdm.auto import tqdm

    ended = threading.Event()
    with tqdm(total=1.0, desc=title, disable=_form() != "bar", bar_format=_FORM, leave=False) as shown:

        def look() -> None:
            while not ended.wait(0.5):
                shown.n = running_share()
                shown.refresh()

        def announce(number: int, step: str) -> None:
            words = f"round {number}: {step.replace('_', ' ')}"
            shown.set_postfix_str(words)
            if _form() == "json":
                print(json.dumps({"what": title, "round": number, "step": step}), file=sys.stderr, flush=True)  # noqa: T201
            elif _form() == "lines":
                print(f"{title}, {words}", file=sys.stderr, flush=True)  # noqa: T201 (the log of a nightly run)

        looking = threading.Thread(target=look, daemon=True)
        looking.start()
        try:
            yield announce
        finally:
            ended.set()
            looking.join()


def _form() -> str:
    """Choose how to show progress: as asked, or as fits whoever may be looking."""
    asked = os.environ.get(VARIABLE, "")
    if asked in ("bar", "lines", "json", "none"):
        return asked
    return "bar" if _is_kernel() or sys.stderr.isatty() else "lines"


def _is_kernel() -> bool:
    """Tell whether this process is a notebook's kernel."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return getattr(shell, "kernel", None) is not None
