"""A real JupyterLab in a real Chromium, started once for all browser tests."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).resolve().parents[2]
SCREENSHOTS = ROOT / ".screenshots"
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
SETTINGS = {
    "@jupyterlab/apputils-extension:notification": {"fetchNews": "false", "checkForUpdates": False},
    "@jupyterlab/docmanager-extension:plugin": {"autosave": False},
}
PATIENCE_MS = 60_000


def chromium_path() -> str | None:
    """Find the browser: the one that is named, or the system's."""
    named = os.environ.get("YMIR_NB_CHROMIUM")
    return named or shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@dataclass(frozen=True)
class Lab:
    """A running JupyterLab."""

    url: str
    folder: Path
    runtime: Path


@pytest.fixture(scope="session")
def chromium() -> Iterator:
    """Give a browser, or skip; with YMIR_NB_REQUIRE_BROWSER=1 its absence is a failure."""
    path = chromium_path()
    if path is None:
        reason = "no chromium was found: install it, or name it in YMIR_NB_CHROMIUM"
        if os.environ.get("YMIR_NB_REQUIRE_BROWSER") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=list(FLAGS))
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """Start a JupyterLab with settings, data and runtime folders of its own."""
    base = tmp_path_factory.mktemp("lab")
    folder = base / "notebooks"
    for name in ("notebooks", "config/labconfig", "data", "runtime"):
        (base / name).mkdir(parents=True)
    (base / "config/labconfig/default_setting_overrides.json").write_text(json.dumps(SETTINGS))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", f"--ServerApp.root_dir={folder}", "--allow-root"]
    command += [f"--ServerApp.port={port}", "--ServerApp.ip=127.0.0.1", "--IdentityProvider.token="]
    command += [
        "--ServerApp.disable_check_xsrf=True",
        "--LabApp.expose_app_in_browser=True",
        "--ServerApp.port_retries=0",
    ]
    places = {name: str(base / name.split("_")[1].lower()) for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR")}
    environment = os.environ | places | {"JUPYTER_RUNTIME_DIR": str(base / "runtime"), "PYTHONPATH": str(ROOT)}
    with (base / "lab.log").open("w") as log:
        server = subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT)
    try:
        _wait_for(f"http://127.0.0.1:{port}/api", server, base / "lab.log")
        yield Lab(f"http://127.0.0.1:{port}", folder, base / "runtime")
    finally:
        server.terminate()
        server.wait(20)


def _wait_for(url: str, server: subprocess.Popen, log: Path) -> None:
    """Wait until the server answers; fail with its log if it does not."""
    end = time.monotonic() + 90
    while time.monotonic() < end and server.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=2):
                return
        except (urllib.error.URLError, ConnectionError):
            time.sleep(0.2)
    pytest.fail(f"JupyterLab did not start:\n{log.read_text()[-3000:]}")


class OpenNotebook:
    """A notebook that stands open in JupyterLab, with its kernel at hand."""

    def __init__(self, page, lab: Lab, path: Path, problems: list[str]) -> None:
        self.page, self.lab, self.path, self.problems = page, lab, path, problems

    def command(self, name: str, arguments: dict | None = None) -> None:
        """Run a command of JupyterLab."""
        script = """([name, args]) => Promise.race([
            window.jupyterapp.commands.execute(name, args).then(() => 'done'),
            new Promise((resolve) => setTimeout(() => resolve('late'), 60000)),
        ])"""
        assert self.page.evaluate(script, [name, arguments or {}]) == "done", f"{name} did not end within 60 s"

    def run_all(self) -> None:
        """Run all cells and wait for the kernel."""
        self.command("notebook:run-all-cells")
        self.value("1")

    def value(self, expression: str):
        """Evaluate an expression in the notebook's kernel and give its JSON value."""
        from jupyter_client import BlockingKernelClient

        client = BlockingKernelClient(connection_file=str(self._connection_file()))
        client.load_connection_file()
        client.start_channels()
        try:
            client.wait_for_ready(timeout=60)
            reply = client.execute_interactive(
                "import json as _json",
                user_expressions={"value": f"_json.dumps({expression})"},
                store_history=False,
                timeout=60,
                output_hook=lambda _message: None,
            )
        finally:
            client.stop_channels()
        result = reply["content"]["user_expressions"]["value"]
        assert result["status"] == "ok", result
        return json.loads(eval(result["data"]["text/plain"]))

    def wait_value(self, expression: str, expected) -> None:
        """Wait until an expression in the kernel has a value."""
        end = time.monotonic() + 20
        while (value := self.value(expression)) != expected:
            assert time.monotonic() < end, f"{expression} is {value!r}, expected {expected!r}"
            time.sleep(0.1)

    def n_cells(self) -> int:
        """Count the notebook's cells."""
        return self.page.evaluate("window.jupyterapp.shell.currentWidget.content.widgets.length")

    def theme(self, name: str) -> None:
        """Switch JupyterLab's theme: `JupyterLab Dark` or `JupyterLab Light`."""
        self.command("apputils:change-theme", {"theme": name})
        light = "false" if "Dark" in name else "true"
        self.page.wait_for_selector(f"body[data-jp-theme-light='{light}']", state="attached", timeout=PATIENCE_MS)

    def picture(self, selector: str, name: str) -> None:
        """Keep a screenshot of an element."""
        SCREENSHOTS.mkdir(exist_ok=True)
        self.page.locator(selector).first.screenshot(path=SCREENSHOTS / f"{name}.png")

    def _connection_file(self) -> Path:
        with urllib.request.urlopen(f"{self.lab.url}/api/sessions", timeout=10) as answer:
            sessions = json.load(answer)
        kernel = next(each["kernel"]["id"] for each in sessions if each["path"] == self.path.name)
        return self.lab.runtime / f"kernel-{kernel}.json"


@pytest.fixture
def open_notebook(chromium, lab: Lab) -> Iterator:
    """Give a function that writes cells into a notebook, opens it in JupyterLab and waits for its kernel."""
    opened = []

    def open_cells(name: str, *cells: str) -> OpenNotebook:
        path = lab.folder / f"{name}.ipynb"
        made = [nbformat.v4.new_code_cell(source, id=f"cell-{k}") for k, source in enumerate(cells)]
        kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
        nbformat.write(nbformat.v4.new_notebook(cells=made, metadata=kernel), path)
        return open_path(path)

    def open_path(path: Path) -> OpenNotebook:
        page = chromium.new_page(viewport={"width": 1400, "height": 1000})
        problems: list[str] = []
        page.on("pageerror", lambda error: problems.append(str(error)))
        # Nothing may come from anywhere but this server.
        page.route(lambda url: not url.startswith((lab.url, "data:", "blob:")), lambda route: route.abort())
        page.goto(f"{lab.url}/lab/workspaces/{path.stem}/tree/{path.name}?reset")
        page.wait_for_selector(".jp-NotebookPanel:not(.lm-mod-hidden) .jp-Cell", timeout=PATIENCE_MS)
        # Until the session is there, running a cell would ask which kernel to take.
        session = "window.jupyterapp.shell.currentWidget.sessionContext"
        page.wait_for_function(
            f"{session}?.isReady && {session}.session?.kernel?.status === 'idle'", timeout=PATIENCE_MS
        )
        notebook = OpenNotebook(page, lab, path, problems)
        opened.append(page)
        return notebook

    open_cells.path = open_path
    yield open_cells
    for page in opened:
        page.close()
    _end_kernels(lab)


def _end_kernels(lab: Lab) -> None:
    """End the kernels of a test, so that the next has the machine."""
    with urllib.request.urlopen(f"{lab.url}/api/sessions", timeout=10) as answer:
        sessions = json.load(answer)
    for session in sessions:
        request = urllib.request.Request(f"{lab.url}/api/sessions/{session['id']}", method="DELETE")
        urllib.request.urlopen(request, timeout=20).close()
