"""The progress bar of jobs, wherever one looks: notebook, terminal, or nowhere."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_FORM = "{desc}: {percentage:3.0f}%|{bar}| {postfix}"


@contextmanager
def bar(title: str) -> Iterator[Callable[[float, str], None]]:
    """Show a bar that is fed with a share and a few words.

    A notebook gets a widget, a terminal a line; where neither is, nothing is written, so that the
    log of a nightly run stays readable.

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
    from tqdm.auto import tqdm

    with tqdm(total=1.0, desc=title, disable=not _is_seen(), bar_format=_FORM, leave=False) as shown:

        def show(fraction: float, words: str) -> None:
            shown.set_postfix_str(words, refresh=False)
            shown.update(max(0.0, fraction - shown.n))
            shown.refresh()

        yield show


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
    with tqdm(total=1.0, desc=title, disable=not _is_seen(), bar_format=_FORM, leave=False) as shown:

        def look() -> None:
            while not ended.wait(0.5):
                shown.n = running_share()
                shown.refresh()

        def announce(number: int, step: str) -> None:
            words = f"round {number}: {step.replace('_', ' ')}"
            shown.set_postfix_str(words)
            if not _is_seen():
                print(f"{title}, {words}", file=sys.stderr, flush=True)  # noqa: T201 (the log of a nightly run)

        looking = threading.Thread(target=look, daemon=True)
        looking.start()
        try:
            yield announce
        finally:
            ended.set()
            looking.join()


def _is_seen() -> bool:
    """Tell whether somebody may be looking."""
    return _is_kernel() or sys.stderr.isatty()


def _is_kernel() -> bool:
    """Tell whether this process is a notebook's kernel."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return getattr(shell, "kernel", None) is not None
