"""The conformance kit on images: shut in, and what it says where an image needs more."""

from pathlib import Path

import pytest

from ymir_nb.backend.executors import Executor
from ymir_nb.backend.manual_files import read_folder
from ymir_nb.backend.manuals import read_manual
from ymir_nb.backend.verification import verify

HERE = Path(__file__).resolve().parents[1] / "executors"
BROKEN = (HERE / "broken.py").read_bytes()


@pytest.fixture
def image(build_image, yaml_image):
    """Build an image that starts the tests' executor, and give it as an executor."""

    def make(name: str, *faults: str, lines: str = "") -> Executor:
        words = ", ".join(f'"{word}"' for word in ("python3", "/broken.py", *faults))
        built = build_image(name, f"COPY broken.py /\n{lines}\nCMD [{words}]", {"broken.py": BROKEN}, base=yaml_image)
        manual = read_manual(read_folder(HERE / "average-man"), where="average-man")
        return Executor(name, (), manual, image=built)

    return make


def results(found) -> dict[str, set[str]]:
    """Name the checks by what they found."""
    return {result: {row.check for row in found.rows if row.result == result} for result in ("failed", "warning")}


def test_an_image_in_order_passes_every_check_shut_in(image, tmp_path):
    found = verify(image("in-order"), tmp_path / "kept", parameters={"training": {"idle_seconds": 0.5}})
    assert {row.result for row in found.rows} == {"ok"}


def test_an_image_that_writes_to_its_own_folder_is_told_which_loosening_it_needs(image, tmp_path):
    it = image("cache", "writes-to-its-own-folder", lines="RUN mkdir -m 777 /opt/cache")
    found = verify(it, tmp_path / "kept", only=["training"], quick=True)
    assert found.ok
    assert results(found) == {"failed": set(), "warning": {"isolation"}}
    assert next(row.detail for row in found.rows if row.check == "isolation") == "it needs writable_root: true"


def test_an_image_that_needs_two_loosenings_is_told_both_and_no_more(image, tmp_path):
    it = image("owned-cache", "writes-to-its-own-folder", lines="RUN mkdir -m 700 /opt/cache")
    found = verify(it, tmp_path / "kept", only=["training"], quick=True)
    told = next(row.detail for row in found.rows if row.check == "isolation")
    assert told == "it needs writable_root: true, image_user: true"


def test_an_image_without_a_start_command_is_told_and_not_run(base_image, tmp_path):
    manual = read_manual(read_folder(HERE / "average-man"), where="average-man")
    found = verify(Executor("mute", (), manual, image=base_image), tmp_path / "kept", only=["training"])
    assert results(found) == {"failed": {"starts"}, "warning": set()}
