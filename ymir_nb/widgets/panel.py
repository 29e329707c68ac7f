"""What every widget is: an anywidget with a static form, an error strip and guarded keys."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import resources
from typing import Any

import anywidget
import traitlets
from IPython import get_ipython

VIEW_MIMETYPE = "application/vnd.jupyter.widget-view+json"


def static_text(*names: str) -> str:
    """Join files of `static/` into one text: the shared parts first, the widget's own module last."""
    folder = resources.files("ymir_nb.widgets") / "static"
    return "\n".join((folder / name).read_text(encoding="utf-8") for name in names)


def has_viewer() -> bool:
    """Tell whether somebody can click in the cell's output.

    A notebook that runs headless (papermill, nbconvert, nbval) says so by allowing no input. There a live
    view would be worse than none: nbconvert prefers it to the static form, and it shows nothing without a
    kernel and a CDN.
    """
    kernel = getattr(get_ipython(), "kernel", None)
    if kernel is None:
        return True
    return bool(kernel.get_parent("shell").get("content", {}).get("allow_stdin", True))


class Panel(anywidget.AnyWidget):
    """Base of the widgets.

    A subclass gives `to_html` and `__repr__`, and answers messages of its front end in `_answer`.

    Attributes
    ----------
    last_error : Exception or None
        What a callback, or the widget itself, last raised; its text also stands in the widget.
    """

    error = traitlets.Unicode("").tag(sync=True)

    def __init__(self, **traits: Any) -> None:
        self.last_error: Exception | None = None
        self._callbacks: list[Callable[[Any], object]] = []
        super().__init__(**traits)
        self.on_msg(self._receive)

    def on_select(self, callback: Callable[[Any], object]) -> None:
        """Call a function with `.selection` each time it changes.

        Parameters
        ----------
        callback : callable
            What it raises is shown in the widget and kept on `.last_error`.
        """
        self._callbacks.append(callback)

    def to_html(self) -> str:
        """Write the static form: HTML without scripts."""
        raise TypeError(f"{type(self).__name__} must give a static form")

    def _answer(self, kind: str, content: dict[str, Any]) -> tuple[dict[str, Any], Sequence[bytes]]:
        """Answer a message of the front end with a message and buffers."""
        raise ValueError(f"{type(self).__name__} knows no message {kind!r} ({sorted(content)}). Reload the page.")

    def _receive(self, _widget: object, content: Any, _buffers: object) -> None:
        """Take a message of the front end."""
        with _Guard(self):
            answer, buffers = self._answer(str(content["kind"]), content)
            self.send(answer, buffers=list(buffers))

    def _tell(self, selection: Any) -> None:
        """Call the callbacks, each guarded by itself."""
        for callback in self._callbacks:
            with _Guard(self):
                callback(selection)

    def _repr_mimebundle_(self, **kwargs: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        live, metadata = super()._repr_mimebundle_(**kwargs) or ({}, {})
        data = {kind: value for kind, value in live.items() if kind != VIEW_MIMETYPE or has_viewer()}
        return data | {"text/html": self.to_html(), "text/plain": repr(self)}, metadata


class _Guard:
    """Keeps an exception on the widget: a front end's message has no caller that could catch it."""

    def __init__(self, panel: Panel) -> None:
        self._panel = panel

    def __enter__(self) -> None:
        pass

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> bool:
        if not isinstance(error, Exception):
            return False
        self._panel.last_error = error
        self._panel.error = f"{type(error).__name__}: {error}"
        return True
