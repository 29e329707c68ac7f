"""A real container engine for the tests: the one that answers, or one that is started for them.

Run as a program it starts an engine that stays, makes the base image, and prints what to export:
``python tests/real_engine.py FOLDER``. Whoever runs it ends the engine by the process id in
``FOLDER/dockerd.pid``.
"""

from __future__ import annotations

import contextlib
import gc
import io
import os
import platform
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
import uuid
import warnings
from pathlib import Path

import docker
import docker.errors
import pytest
import yaml

from ymir_nb.backend.runners.engine import _client

DEFAULT_HOST = "unix:///var/run/docker.sock"
REQUIRED = "YMIR_NB_REQUIRE_ENGINE"
BASES = ("ymir-nb/test-base:latest", "ymir/base:latest")
PACKAGES = ("docker.io", "containerd", "debootstrap")
INSIDE = "python3-minimal,python3-pip,busybox,git"


class PrivateEngine:
    """An engine of its own, with its own images, in a folder; it can be stopped and started again.

    Parameters
    ----------
    folder : Path
        Holds all that it has.
    options : str
        More arguments for dockerd.
    apart : bool
        Beside another engine, whose bridge it would take away otherwise; its containers have no network.
    """

    def __init__(self, folder: Path, *options: str, apart: bool = False) -> None:
        self.folder = folder
        self.options = options
        self.prefix = ["unshare", "--net"] if apart else []
        self.host = f"unix://{folder}/docker.sock"

    def start(self) -> None:
        """Start it; back when it answers."""
        command = [*self.prefix, "dockerd", "--data-root", f"{self.folder}/data", "--exec-root", f"{self.folder}/exec"]
        command += ["-H", self.host, "--pidfile", f"{self.folder}/dockerd.pid", *self.options]
        with (self.folder / "dockerd.log").open("ab") as log:
            streams = {"stdin": subprocess.DEVNULL, "stdout": log, "stderr": log}
            self.process = subprocess.Popen(command, start_new_session=True, **streams)
        deadline = time.monotonic() + 60
        while silence := why_not(self.host):
            if self.process.poll() is not None or time.monotonic() > deadline:
                said = (self.folder / "dockerd.log").read_text()[-2000:]
                pytest.fail(f"the engine does not start: {silence} {said}")
            time.sleep(0.1)

    def stop(self) -> None:
        """End it politely, and with it its containers, unless it is set to let them live."""
        self.process.terminate()
        self.process.wait()

    def close(self) -> None:
        """Stop it and remove all that it had."""
        self.stop()
        # With live containers it leaves its folder mounted on itself.
        subprocess.run(["umount", "--lazy", f"{self.folder}/data"], check=False, capture_output=True)
        shutil.rmtree(self.folder)

    def client(self) -> docker.DockerClient:
        """Talk to it."""
        return docker.DockerClient(base_url=self.host)


def why_not(host: str | None = None) -> str:
    """Say why no engine answers; empty where one does."""
    try:
        client = docker.DockerClient(base_url=host) if host else docker.from_env()
        client.ping()
    except (docker.errors.DockerException, OSError) as error:
        reason = str(error)
    else:
        client.close()
        return ""
    forget_sockets()
    return reason


def forget_sockets() -> None:
    """Let go of the sockets that the SDK leaves open where it cannot connect, without a warning."""
    _client.cache_clear()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


def is_required() -> bool:
    """Tell whether the tests with an engine must not be skipped."""
    return os.environ.get(REQUIRED) == "1"


def install() -> str:
    """See to it that an engine can be started here; say why it cannot."""
    if os.getuid():
        return "only root can start one"
    missing = [name for name in ("dockerd", "debootstrap") if shutil.which(name) is None]
    if missing and is_required():
        env = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
        for words in (["update", "-qq"], ["install", "-y", "-qq", "--no-install-recommends", *PACKAGES]):
            subprocess.run(["apt-get", *words], env=env, stdout=subprocess.DEVNULL, check=True)
    return f"{missing[0]} is not installed ({REQUIRED}=1 installs it)" if missing and not is_required() else ""


def refuse(reason: str) -> None:
    """Skip, or fail where an engine is required."""
    if is_required():
        pytest.fail(reason)
    pytest.skip(reason)


def build(client: docker.DockerClient, tag: str, dockerfile: str, files: dict[str, bytes] | None = None) -> str:
    """Build an image from a Dockerfile and the files beside it; give its name."""
    context = io.BytesIO()
    with tarfile.open(fileobj=context, mode="w") as archive:
        for name, data in {"Dockerfile": dockerfile.encode(), **(files or {})}.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(data), 0o755
            archive.addfile(entry, io.BytesIO(data))
    context.seek(0)
    client.images.build(fileobj=context, custom_context=True, tag=tag, rm=True, forcerm=True)
    return tag


def make_base(client: docker.DockerClient) -> str:
    """Give the name of a small Debian with Python, made without a registry and kept for the next time."""
    for name in BASES:
        with contextlib.suppress(docker.errors.ImageNotFound):
            client.images.get(name)
            return name
    kept = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ymir-nb-tests" / "base.tar"
    if not kept.exists():
        if reason := install():
            refuse(f"there is no base image, and {reason}")
        kept.parent.mkdir(parents=True, exist_ok=True)
        suite = platform.freedesktop_os_release()["VERSION_CODENAME"]
        with tempfile.TemporaryDirectory() as root:
            said = subprocess.run(
                ["debootstrap", "--variant=minbase", f"--include={INSIDE}", suite, f"{root}/rootfs"],
                capture_output=True,
                text=True,
                check=False,
            )
            assert not said.returncode, said.stdout[-2000:] + said.stderr[-2000:]
            draft = kept.with_suffix(".draft")
            subprocess.run(["tar", "-C", f"{root}/rootfs", "-cf", str(draft), "."], check=True)
            draft.replace(kept)
    repository, _, tag = BASES[0].partition(":")
    client.api.import_image(str(kept), repository=repository, tag=tag)
    return BASES[0]


@pytest.fixture(scope="session")
def engine():
    """The address of an engine that answers; it stands in DOCKER_HOST too."""
    silence = why_not()
    if not silence:
        yield os.environ.get("DOCKER_HOST", DEFAULT_HOST)
        return
    if reason := install():
        refuse(f"no container engine answers ({silence}), and {reason}")
    folder = Path(tempfile.mkdtemp(prefix="ymir-nb-engine-"))
    private = PrivateEngine(folder)
    private.start()
    former, os.environ["DOCKER_HOST"] = os.environ.get("DOCKER_HOST"), private.host
    try:
        yield private.host
    finally:
        private.close()
        if former is None:
            del os.environ["DOCKER_HOST"]
        else:
            os.environ["DOCKER_HOST"] = former


@pytest.fixture(scope="session")
def docker_client(engine):
    """Talk to the engine."""
    client = docker.from_env()
    yield client
    client.close()


@pytest.fixture(scope="session")
def base_image(docker_client):
    """An image of Debian with python3, pip, git, busybox and bash; it has no start command and no PyYAML."""
    return make_base(docker_client)


@pytest.fixture(scope="session")
def build_image(docker_client, base_image):
    """Build an image on the base image: lines of a Dockerfile, and files; it is removed at the end."""
    repository, names = f"ymir-nb-test-{uuid.uuid4().hex[:8]}", set()

    def make(name: str, lines: str, files: dict[str, bytes] | None = None, *, base: str = base_image) -> str:
        names.add(build(docker_client, f"{repository}:{name}", f"FROM {base}\n{lines}\n", files))
        return f"{repository}:{name}"

    yield make
    for name in sorted(names):
        docker_client.images.remove(name, force=True)


@pytest.fixture(scope="session")
def yaml_image(build_image):
    """The base image with PyYAML, which is plain Python."""
    package = Path(yaml.__file__).parent
    files = {f"yaml/{path.name}": path.read_bytes() for path in package.glob("*.py")}
    return build_image("yaml", "COPY yaml /usr/lib/python3/dist-packages/yaml", files)


def main(folder: Path) -> int:
    """Start an engine that stays, unless one answers."""
    os.environ[REQUIRED] = "1"
    host = os.environ.get("DOCKER_HOST", DEFAULT_HOST)
    if why_not():
        if reason := install():
            sys.exit(f"no container engine can be had: {reason}")
        folder.mkdir(parents=True, exist_ok=True)
        private = PrivateEngine(folder.resolve())
        private.start()
        host = private.host
    make_base(docker.DockerClient(base_url=host))
    sys.stdout.write(f"DOCKER_HOST={host}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
