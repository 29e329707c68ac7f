"""What cannot be started in a container is refused before anything is exported, with words that help."""

import hashlib
import io
import json
import os
import tarfile

import pytest
from real_engine import forget_sockets

from ymir_nb.backend.errors import PreflightFailed
from ymir_nb.backend.runners import RUNNERS, Launch
from ymir_nb.backend.runners.engine import EngineUnreachable, connect

RUNNER = RUNNERS["docker"]
pytestmark = pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")


@pytest.fixture(autouse=True)
def forgotten():
    """Forget the sockets that the SDK leaves open where it could not connect."""
    yield
    forget_sockets()


def launch(image: str, **options) -> Launch:
    return Launch("docker", image=image, **options)


def foreign(client, name: str) -> None:
    """Load an image that is said to be for another kind of machine."""
    layer = io.BytesIO()
    tarfile.open(fileobj=layer, mode="w").close()
    diff = "sha256:" + hashlib.sha256(layer.getvalue()).hexdigest()
    config = {"architecture": "s390x", "os": "linux", "config": {"Cmd": ["/start"]}}
    config["rootfs"] = {"type": "layers", "diff_ids": [diff]}
    manifest = [{"Config": "config.json", "RepoTags": [name], "Layers": ["layer.tar"]}]
    files = {"layer.tar": layer.getvalue()}
    files |= {"config.json": json.dumps(config).encode(), "manifest.json": json.dumps(manifest).encode()}
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for path, data in files.items():
            entry = tarfile.TarInfo(path)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    client.images.load(archive.getvalue())


@pytest.fixture(scope="module")
def image(build_image):
    return build_image(
        "starts", 'COPY start.sh /usr/bin/start.sh\nCMD ["bash", "/usr/bin/start.sh"]', {"start.sh": b""}
    )


def test_an_image_that_can_be_started_passes(image, docker_client):
    RUNNER.preflight(launch(image))
    RUNNER.preflight(launch(image, digest=docker_client.images.get(image).id))


def test_case_39_an_image_that_is_missing_is_refused_with_where_to_get_it(engine):
    with pytest.raises(PreflightFailed, match="docker pull ymir-nb/no-such-image:1"):
        RUNNER.preflight(launch("ymir-nb/no-such-image:1"))


def test_case_39_an_image_that_changed_since_it_was_registered_is_refused(image):
    with pytest.raises(PreflightFailed, match=r"was sha256:000000000000 when it was registered.*executor add"):
        RUNNER.preflight(launch(image, digest="sha256:" + "0" * 64))


def test_case_39_an_image_for_another_kind_of_machine_is_refused(docker_client):
    name = f"ymir-nb-test-foreign:{os.getpid()}"
    foreign(docker_client, name)
    try:
        with pytest.raises(PreflightFailed, match="built for s390x, and this engine runs"):
            RUNNER.preflight(launch(name))
    finally:
        docker_client.images.remove(name)


def test_case_39_an_image_with_nothing_to_start_is_refused(base_image):
    with pytest.raises(PreflightFailed, match="no start command"):
        RUNNER.preflight(launch(base_image))
    RUNNER.preflight(launch(base_image, command=("python3",)))


@pytest.mark.parametrize(
    "command",
    [
        'CMD ["bash", "/usr/bin/start.sh"]',
        'ENTRYPOINT ["/usr/bin/start.sh"]',
        'CMD ["/usr/bin/python3.11", "/usr/bin/start.sh"]',
    ],
)
def test_case_39_an_image_without_its_start_file_is_refused(build_image, docker_client, command):
    name = build_image("empty", command)
    with pytest.raises(PreflightFailed, match=r"starts /usr/bin/start\.sh, and has no such file"):
        RUNNER.preflight(launch(name))
    assert not [c for c in docker_client.containers.list(all=True) if name in c.image.tags]


@pytest.mark.parametrize("command", ['CMD ["bash", "-c", "echo hi"]', "CMD echo hi", 'CMD ["start"]'])
def test_an_image_whose_command_names_no_file_is_taken_at_its_word(build_image, command):
    RUNNER.preflight(launch(build_image("words", command)))


def test_case_40_an_absent_engine_is_named_with_what_starts_it(monkeypatch, tmp_path):
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/no.sock")
    with pytest.raises(PreflightFailed, match=r"no container engine answers\. Start it .*DOCKER_HOST"):
        RUNNER.preflight(launch("any"))
    with pytest.raises(EngineUnreachable):
        connect()


def test_case_40_an_address_that_is_none_is_a_readable_error(monkeypatch):
    for address in ("no such thing", "tcp://127.0.0.1:1"):
        monkeypatch.setenv("DOCKER_HOST", address)
        with pytest.raises(PreflightFailed) as caught:
            RUNNER.preflight(launch("any"))
        assert str(caught.value).startswith("no container engine answers. Start it")
        assert len(str(caught.value)) < 600


def test_case_40_a_user_without_rights_is_told_how_to_get_them(engine, as_nobody):
    said = as_nobody(
        """
        from ymir_nb.backend.errors import PreflightFailed
        from ymir_nb.backend.runners import RUNNERS, Launch
        docker.from_env().ping()
        drop()
        try:
            RUNNERS["docker"].preflight(Launch("docker", image="any"))
        except PreflightFailed as error:
            print(error)
        """
    )
    assert "this user may not talk to the container engine" in said
    assert "usermod -aG docker" in said


def test_gpus_are_refused_where_the_engine_cannot_hand_them_out(image, stand_in_gpus):
    with pytest.raises(PreflightFailed, match=r"more GPUs|gpu_count"):
        RUNNER.preflight(launch(image, n_gpus=9))
    with pytest.raises(PreflightFailed, match="NVIDIA Container Toolkit"):
        RUNNER.preflight(launch(image, n_gpus=1))
