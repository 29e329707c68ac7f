"""Folders and archives as sources: what is listed, what is refused, and that nothing leads out."""

from __future__ import annotations

import os
import shutil
import stat
import struct
import sys
import tempfile
import zipfile
from pathlib import Path

import pytest

from ymir_nb.backend import sources
from ymir_nb.backend.errors import ImportRefused
from ymir_nb.backend.sources import EntryUnreadable, open_source


def packed(path: Path, entries: dict[str, bytes], **options) -> Path:
    with zipfile.ZipFile(path, "w", **options) as archive:
        for name, data in entries.items():
            archive.writestr(name, data)
    return path


def kinds(source) -> dict[str, str]:
    return {row.file: row.reason for row in source.refused}


def test_a_folder_and_its_zip_give_the_same_names_and_bytes(tmp_path):
    folder = tmp_path / "data"
    for name in ("b.jpg", "sub/a.jpg", ".git/x", "sub/.hidden.jpg", "__MACOSX/b.jpg", "Thumbs.db"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(name.encode())
    archive = shutil.make_archive(str(tmp_path / "data"), "zip", folder)
    for place in (folder, archive):
        with open_source(place) as source:
            assert source.names() == ["b.jpg", "sub/a.jpg"]
            assert source.read("sub/a.jpg") == b"sub/a.jpg"
            assert source.peek("sub/a.jpg", n_bytes=3) == b"sub"
            assert source.size("b.jpg") == 5
            assert source.refused == []


def test_case_01_entries_that_lead_out_of_an_archive_are_refused(tmp_path):
    evil = ["../x.jpg", "a/../../x.jpg", "/etc/x.jpg", "C:/x.jpg", "a\\b.jpg", "a//b.jpg", "./c.jpg", "../"]
    archive = packed(tmp_path / "evil.zip", {**dict.fromkeys(evil, b"x"), "good.jpg": b"g"})
    with open_source(archive) as source:
        assert source.names() == ["good.jpg"]
        assert sorted(kinds(source)) == sorted(evil)
        assert all(row.kind == "refused" and row.remedy for row in source.refused)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["evil.zip"]


def test_case_02_links_and_devices_in_an_archive_are_refused(tmp_path):
    path = tmp_path / "links.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name, kind in (("link.jpg", stat.S_IFLNK), ("pipe.jpg", stat.S_IFIFO), ("plain.jpg", stat.S_IFREG)):
            info = zipfile.ZipInfo(name)
            info.external_attr = (kind | 0o644) << 16
            archive.writestr(info, "/etc/passwd")
    with open_source(path) as source:
        assert source.names() == ["plain.jpg"]
        assert sorted(kinds(source)) == ["link.jpg", "pipe.jpg"]


def test_case_02_links_of_a_folder_are_followed_inside_it_only(tmp_path):
    folder = tmp_path / "data"
    (folder / "images").mkdir(parents=True)
    (folder / "images" / "a.jpg").write_bytes(b"a")
    (tmp_path / "secret.jpg").write_bytes(b"s")
    (folder / "inside.jpg").symlink_to("images/a.jpg")
    (folder / "outside.jpg").symlink_to(tmp_path / "secret.jpg")
    (folder / "above").symlink_to(tmp_path)
    (folder / "again").symlink_to("images")
    with open_source(folder) as source:
        assert source.names() == ["images/a.jpg", "inside.jpg"]
        assert {row.file: row.kind for row in source.refused} == {
            "outside.jpg": "refused",
            "above": "refused",
            "again": "note",
        }


def test_case_04_a_zip_bomb_is_refused_before_it_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "_RATIO_FLOOR_BYTES", 1 << 20)
    path = packed(tmp_path / "bomb.zip", {"a.bmp": b"\0" * (4 << 20)}, compression=zipfile.ZIP_DEFLATED)
    with pytest.raises(ImportRefused, match="zip bombs"):
        open_source(path)


def test_case_04_nested_archives_stay_closed(tmp_path):
    inner = packed(tmp_path / "inner.zip", {"a.jpg": b"a"}).read_bytes()
    with open_source(packed(tmp_path / "outer.zip", {"inner.zip": inner})) as source:
        assert source.names() == ["inner.zip"]


def test_case_04_too_many_entries_are_refused_before_they_are_loaded(tmp_path, monkeypatch):
    path = packed(tmp_path / "many.zip", {f"{i:03}.jpg": b"" for i in range(100)})
    monkeypatch.setattr(sources, "MAX_ENTRIES", 20)
    with pytest.raises(ImportRefused, match="more files than the 20"):
        open_source(path)


def test_case_05_a_truncated_archive_is_refused_with_a_remedy(tmp_path):
    path = packed(tmp_path / "cut.zip", {"a.jpg": b"a" * 1000, "b.jpg": b"b" * 1000})
    path.write_bytes(path.read_bytes()[:1500])
    with pytest.raises(ImportRefused, match=r"no complete zip archive.*again"):
        open_source(path)


def test_case_05_a_wrong_checksum_names_the_entry(tmp_path):
    path = packed(tmp_path / "crc.zip", {"a.jpg": b"a" * 1000, "b.jpg": b"b" * 1000})
    data = bytearray(path.read_bytes())
    data[data.index(b"b" * 1000) + 500] ^= 1
    path.write_bytes(data)
    with pytest.raises(ImportRefused, match=r"entry 'b\.jpg' cannot be read.*nothing was imported"):
        open_source(path)


def test_case_05_damage_anywhere_in_an_archive_raises_nothing_but_a_refusal(tmp_path):
    whole = packed(
        tmp_path / "x.zip", {"a.jpg": b"abc" * 50, "b/c.xml": b"<a/>" * 9}, compression=zipfile.ZIP_DEFLATED
    ).read_bytes()
    for position in range(len(whole)):
        damaged = bytearray(whole)
        damaged[position] ^= 0xFF
        path = tmp_path / "y.zip"
        path.write_bytes(damaged)
        try:
            with open_source(path) as source:
                for name in source.names():
                    source.read(name)
        except ImportRefused:
            pass


def test_case_05_an_encrypted_archive_says_so(tmp_path):
    path = packed(tmp_path / "locked.zip", {"a.jpg": b"a" * 20})
    data = bytearray(path.read_bytes())
    for signature, offset in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        at = data.index(signature) + offset
        data[at : at + 2] = struct.pack("<H", 1)
    path.write_bytes(data)
    with pytest.raises(ImportRefused, match="encrypted"):
        open_source(path)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_case_06_of_equal_names_the_last_counts_and_twins_are_reported(tmp_path):
    path = tmp_path / "twins.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in (
            ("a.jpg", "old"),
            ("a.jpg", "new"),
            ("A.JPG", "x"),
            ("\u00e9.jpg", "c"),
            ("e\u0301.jpg", "d"),
        ):
            archive.writestr(name, data)
    with open_source(path) as source:
        assert source.read("a.jpg") == b"new"
        assert len(source.names()) == 4
        assert sorted(row.kind for row in source.refused) == ["note", "note", "refused"]


def test_case_07_strange_names_are_data(tmp_path):
    names = ["line\nbreak.jpg", "tab\t.jpg", "-rf.jpg", "\U0001f600.jpg", "<script>.jpg", "b" * 300 + ".jpg"]
    with open_source(packed(tmp_path / "names.zip", dict.fromkeys(names, b"x"))) as source:
        assert source.names() == sorted(names)
    folder = tmp_path / "folder"
    folder.mkdir()
    for name in names[:-1]:
        (folder / name).write_bytes(b"x")
    with open_source(folder) as source:
        assert source.names() == sorted(names[:-1])


def test_case_07_names_with_nul_or_broken_unicode_are_refused(tmp_path):
    path = packed(tmp_path / "nul.zip", {"a_.jpg": b"x"})
    path.write_bytes(path.read_bytes().replace(b"a_.jpg", b"a\0.jpg"))
    with open_source(path) as source:
        assert source.names() == []
        assert "NUL" in source.refused[0].reason
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / os.fsdecode(b"bad\xff.jpg")).write_bytes(b"x")
    with open_source(folder) as source:
        assert source.names() == []
        assert "UTF-8" in source.refused[0].reason
        source.refused[0].file.encode()


def test_case_09_pipes_loops_and_dangling_links_are_passed_over_without_waiting(tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "loop.jpg").symlink_to("loop.jpg")
    (tmp_path / "gone.jpg").symlink_to("nowhere.jpg")
    (tmp_path / "good.jpg").write_bytes(b"x")
    with open_source(tmp_path) as source:
        assert source.names() == ["good.jpg"]
        assert sorted(kinds(source)) == ["gone.jpg", "loop.jpg", "pipe.jpg"]
    for name in ("pipe.jpg", "loop.jpg", "nothing"):
        with pytest.raises(ImportRefused, match="folder or a zip"):
            open_source(tmp_path / name)


def test_case_09_a_file_that_becomes_a_pipe_or_vanishes_is_reported_not_waited_for(tmp_path):
    for name in ("a.jpg", "b.jpg"):
        (tmp_path / name).write_bytes(b"x")
    with open_source(tmp_path) as source:
        for name in ("a.jpg", "b.jpg"):
            (tmp_path / name).unlink()
        os.mkfifo(tmp_path / "a.jpg")
        for name in ("a.jpg", "b.jpg"):
            with pytest.raises(EntryUnreadable, match="Import again"):
                source.read(name)


@pytest.mark.skipif(sys.platform == "win32", reason="permissions as POSIX has them")
def test_case_09_unreadable_files_and_folders_are_refused_with_a_reason():
    # Outside pytest's own folder, which only its user may enter; root reads everything, so root steps down.
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        place.chmod(0o755)
        (place / "good.jpg").write_bytes(b"x")
        (place / "shut.jpg").write_bytes(b"x")
        (place / "closed").mkdir()
        (place / "shut.jpg").chmod(0)
        (place / "closed").chmod(0)
        user = os.geteuid()
        if user == 0:
            os.seteuid(65534)
        try:
            with open_source(place) as source:
                assert source.names() == ["good.jpg"]
                assert sorted(kinds(source)) == ["closed", "shut.jpg"]
        finally:
            os.seteuid(user)
            (place / "closed").chmod(0o755)


def test_something_that_is_no_archive_is_refused_with_the_way_out(tmp_path):
    (tmp_path / "x.tar").write_bytes(b"not a zip")
    with pytest.raises(ImportRefused, match="unpack it and import the folder"):
        open_source(tmp_path / "x.tar")
