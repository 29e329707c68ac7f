"""Objects that were hashed before are not read again; what changed since always is."""

import os
from pathlib import Path

import pytest

from ymir_nb.backend.errors import ObjectDamaged, ObjectMissing
from ymir_nb.backend.objects import VERIFIED_FILE, Objects
from ymir_nb.backend.verified import Stamp, Verified


def aged(path: Path) -> Path:
    """Make a file look an hour old."""
    status = path.stat()
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns - 3_600_000_000_000))
    return path


def change(path: Path, *, stealthily: bool) -> None:
    """Write other bytes of the same length in place; stealthily: and set the clock back."""
    status = path.stat()
    path.chmod(0o644)
    path.write_bytes(path.read_bytes()[::-1])
    if stealthily:
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def foreign(folder: Path, data: bytes) -> tuple[Objects, str]:
    """Make a cache with one old object that another program put there."""
    md5 = Objects(folder / "elsewhere/md5").put(data)
    objects = Objects(folder / "files/md5")
    objects.path(md5).parent.mkdir(parents=True)
    objects.path(md5).write_bytes(data)
    aged(objects.path(md5))
    return objects, md5


def test_an_object_that_was_hashed_is_not_read_again(tmp_path):
    objects, md5 = foreign(tmp_path, b"abc")
    assert objects.verify([md5]) == [str(objects.path(md5))]
    change(objects.path(md5), stealthily=True)
    Objects(objects.directory).verify([md5])
    (objects.directory.parent / VERIFIED_FILE).unlink()
    with pytest.raises(ObjectDamaged, match="was changed on disk"):
        objects.verify([md5])


@pytest.mark.parametrize("size", [3, 100_000])
def test_case_16_a_changed_object_is_told_however_often_it_was_good_before(tmp_path, size):
    objects, md5 = foreign(tmp_path, bytes(range(1, 4)) * (size // 3))
    for _ in range(2):
        objects.verify([md5])
    change(objects.path(md5), stealthily=False)
    for _ in range(2):
        with pytest.raises(ObjectDamaged, match="was changed on disk"):
            objects.verify([md5])


def test_case_16_another_file_in_an_objects_place_is_told_even_with_its_time_and_size(tmp_path):
    objects, md5 = foreign(tmp_path, b"abc")
    objects.verify([md5])
    path, other = objects.path(md5), tmp_path / "other"
    other.write_bytes(b"xyz")
    os.utime(other, ns=(path.stat().st_atime_ns, path.stat().st_mtime_ns))
    other.replace(path)
    with pytest.raises(ObjectDamaged):
        objects.verify([md5])


def test_what_is_put_is_known_from_then_on_and_a_save_writes_it_down(tmp_path):
    objects = Objects(tmp_path / "files/md5")
    md5 = objects.put(b"abc")
    objects.put_listing({"a": md5})
    assert Verified(tmp_path / "files" / VERIFIED_FILE).read()[md5] == Stamp.of(objects.path(md5))
    change(objects.path(md5), stealthily=True)
    Objects(tmp_path / "files/md5").verify([md5])


def test_a_file_too_young_to_show_its_next_change_is_hashed_every_time(tmp_path):
    objects, md5 = foreign(tmp_path, b"abc")
    objects.path(md5).touch()
    objects.verify([md5])
    change(objects.path(md5), stealthily=True)
    with pytest.raises(ObjectDamaged):
        objects.verify([md5])


def test_an_object_that_is_not_there_is_named_with_the_way_to_get_it(tmp_path):
    objects, md5 = foreign(tmp_path, b"abc")
    objects.path(md5).unlink()
    with pytest.raises(ObjectMissing, match=f"{md5} is not in the cache.*dvc fetch"):
        objects.verify([md5])


def test_lines_that_a_crash_cut_short_are_passed_over_and_the_last_one_of_an_object_counts(tmp_path):
    record = Verified(tmp_path / "v.txt")
    assert record.read() == {}
    record.add({"a": Stamp(1, 2, 3), "b": Stamp(4, 5, 6)})
    with record.path.open("ab") as file:
        file.write(b"c 7 8\nd 7 8 \xff\n\ne 1 2 x\na 1 2")
    record.add({"f": Stamp(7, 8, 9)})
    record.add({"b": Stamp(5, 5, 5)})
    assert record.read() == {"a": Stamp(1, 2, 3), "b": Stamp(5, 5, 5)}
