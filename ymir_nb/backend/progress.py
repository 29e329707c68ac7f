"""The progress bar of jobs, wherever one looks: notebook, terminal, or nowhere."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager


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

    seen = "ipykernel" in sys.modules or sys.stderr.isatty()
    form = "{desc}: {percentage:3.0f}%|{bar}| {postfix}"
    with tqdm(total=1.0, desc=title, disable=not seen, bar_format=form, leave=False) as shown:

        def show(fraction: float, words: str) -> None:
            shown.set_postfix_str(words, refresh=False)
            shown.update(max(0.0, fraction - shown.n))
            shown.refresh()

        yield show
