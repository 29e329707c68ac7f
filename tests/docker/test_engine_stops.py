"""The engine itself is stopped and started again while jobs run: one beside that of the other tests."""

import os
import tempfile
import time
from pathlib import Path

import pytest
from real_engine import PrivateEngine, forget_sockets, install, refuse
from rigs import Rig, until

from ymir_nb.backend.failures import explain
from ymir_nb.backend.runners import Launch, docker
from ymir_nb.backend.runners.base import CANCELLED, ENGINE_STOPPED, Isolation
from ymir_nb.backend.runners.engine import EngineUnreachable

pytestmark = pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
TINY = """
RUN mkdir /tiny && cp -L --parents /bin/busybox $(ldd /bin/busybox | grep -o '/lib[^ ]*') /tiny
FROM scratch
COPY --from=0 /tiny /
"""


@pytest.fixture(scope="module")
def tiny(docker_client, build_image):
    """An image of a few megabytes with a shell in it, as a tar."""
    return b"".join(docker_client.images.get(build_image("tiny", TINY)).save(named=True))


@pytest.fixture(params=["--live-restore", ""], ids=["live", "plain"])
def private(request, tiny, monkeypatch):
    """An engine that can be stopped; with and without letting containers outlive it."""
    if reason := install():
        refuse(f"an engine that may be stopped cannot be started: {reason}")
    folder = Path(tempfile.mkdtemp(prefix="ymir-nb-private-"))
    made = PrivateEngine(folder, *filter(None, [request.param]), apart=True)
    try:
        made.start()
        client = made.client()
        client.images.load(tiny)[0].tag("tiny:1")
        monkeypatch.setenv("DOCKER_HOST", made.host)
        yield made
        for container in client.containers.list(all=True):
            container.remove(force=True)
        client.close()
    finally:
        made.close()
        forget_sockets()


def shell(rig: Rig, text: str) -> None:
    launch = Launch("docker", ("/bin/busybox", "sh", "-c", text), "tiny:1", isolation=Isolation(memory_bytes=1 << 28))
    rig.runner.start(rig.job, launch)


def test_case_40_the_engine_is_stopped_while_jobs_run_and_comes_back(private, tmp_path, monkeypatch):
    monkeypatch.setattr(docker, "CANCEL_SECONDS", 1.0)
    lasting, cancelled = (Rig("docker", tmp_path / "jobs" / name, "tiny:1") for name in ("lasting", "cancelled"))
    lives = "--live-restore" in private.options
    stays = 'trap "" TERM; ' if lives else ""
    shell(lasting, f"{stays}echo one; /bin/busybox sleep 6; echo two")
    shell(cancelled, "echo up; /bin/busybox sleep 600")
    lasting.says("one")
    private.stop()
    until(lambda: lasting.poll().phase == ("unreachable" if lives else "exited"))
    if lives:
        with pytest.raises(EngineUnreachable, match="no container engine answers"):
            cancelled.runner.cancel(cancelled.job)
        assert cancelled.poll().phase == "unreachable"  # and not cancelled, as long as it may be running
    private.start()
    if lives:
        until(lambda: lasting.poll().phase == "running")
        state = lasting.ended()
        assert (state.code, state.reason) == (0, "")
        assert lasting.log() == "one\ntwo\n"
        assert cancelled.ended().reason == CANCELLED
    else:
        for rig in (lasting, cancelled):
            state = rig.ended()
            assert state.reason == ENGINE_STOPPED
            assert "Start it again" in explain(rig.job / "out", state)
        assert lasting.log() == "one\n"
        assert len(lasting.runner.sweep(lasting.job.parent)) == 2  # what could not be removed without the engine
    for rig in (lasting, cancelled):
        assert rig.left_over() == []
        rig.close()


def test_case_40_the_engine_stops_when_nobody_looks(private, tmp_path):
    rig = Rig("docker", tmp_path / "jobs" / "a", "tiny:1")
    shell(rig, "echo one; /bin/busybox sleep 600")
    rig.says("one")
    os.kill(rig.supervisor(), 9)
    private.stop()
    assert rig.poll().phase == "unreachable"
    private.start()
    time.sleep(0.5)
    state = rig.poll()
    if "--live-restore" in private.options:
        assert state.phase == "running"
        rig.runner.cancel(rig.job)
        assert rig.poll().reason == CANCELLED
    else:
        assert rig.ended().code != 0
    assert rig.log() == "one\n"
    assert rig.left_over() == []
    rig.close()
