"""Archives that are whole, broken or hostile."""

import gzip
import io
import os
import subprocess
import tarfile
import warnings
import zipfile

import pytest

from t2i_supcon.data import archives
from t2i_supcon.data.archives import (
    BrokenArchiveError,
    Files,
    check_file,
    check_name,
    decode_text,
    fingerprint,
    parse_json,
)


def tar(path, *members):
    with tarfile.open(path, "w:gz") as archive:
        for member, data in members:
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return path


def link(kind):
    member = tarfile.TarInfo("a/link")
    member.type, member.linkname = kind, "/etc/passwd"
    return member


def test_all_kinds_read_alike(tmp_path):
    (tmp_path / "folder" / "a").mkdir(parents=True)
    (tmp_path / "folder" / "a" / "b.txt").write_bytes(b"hello")
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("a/b.txt", b"hello")
    tar(tmp_path / "x.tgz", (tarfile.TarInfo("./a/b.txt"), b"hello"))
    for name in ("folder", "x.zip", "x.tgz"):
        files = Files(tmp_path / name, tmp_path / "work")
        assert files.names == ["a/b.txt"] and files.read("a/b.txt") == b"hello"
        with pytest.raises(FileNotFoundError, match="c.txt is missing"):
            files.read("c.txt")


def test_another_archive_of_the_same_name_is_unpacked_anew(tmp_path):
    (tmp_path / "other").mkdir()
    for content in (b"first", b"other"):
        files = [
            Files(tar(tmp_path / folder / "x.tgz", (tarfile.TarInfo("a"), content + end)), tmp_path / "work")
            for folder, end in (("", b"1"), ("other", b"2"))
        ]
        assert [archive.read("a") for archive in files] == [content + b"1", content + b"2"]


def test_a_finished_unpacking_is_used_again(tmp_path):
    path = tar(tmp_path / "x.tgz", (tarfile.TarInfo("a"), b"1"))
    Files(path, tmp_path / "work")
    (unpacked,) = (tmp_path / "work").glob("*/a")
    unpacked.write_bytes(b"2")
    assert Files(path, tmp_path / "work").read("a") == b"2"


def test_fingerprints_cover_small_files_whole_and_both_ends_of_large_ones(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "HASHED", 4 << 20)
    path = tmp_path / "x"

    def changed(size, at):
        path.write_bytes(bytes(size))
        before = fingerprint(path)
        with path.open("r+b") as file:
            file.seek(at)
            file.write(b"1")
        return fingerprint(path) != before

    assert changed(4 << 20, 2 << 20) and changed(8 << 20, 1) and changed(8 << 20, (8 << 20) - 1)
    path.write_bytes(b"")
    empty = fingerprint(path)
    path.write_bytes(bytes(5))
    assert fingerprint(path) != empty


def test_the_fingerprint_of_a_folder_tells_names_sizes_and_times(tmp_path):
    (tmp_path / "a").mkdir()
    seen = set()
    for path, content, time in [("a/x", "1", 1), ("a/y", "1", 1), ("a/y", "12", 1), ("a/y", "21", 2), ("z", "", 1)]:
        (tmp_path / path).write_text(content)
        os.utime(tmp_path / path, (time, time))
        seen.add(fingerprint(tmp_path))
    assert len(seen) == 5
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "x").write_text("1")
    (tmp_path / "a" / ".hidden").write_text("1")
    assert fingerprint(tmp_path, without=tmp_path / "out") in seen and fingerprint(tmp_path) not in seen
    assert fingerprint(tmp_path, without=tmp_path.parent) == fingerprint(tmp_path)


@pytest.mark.parametrize("name", ["../x", "/x", "a/../../x", "a\\..\\x", "C:/x", ""])
def test_names_that_lead_out_are_refused(tmp_path, name):
    with pytest.raises(BrokenArchiveError, match="leads out"):
        check_name(name, "x.zip")


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE])
def test_links_and_devices_in_a_tar_are_refused(tmp_path, kind):
    with pytest.raises(BrokenArchiveError, match="a/link is a link or a device"):
        Files(tar(tmp_path / "x.tgz", (link(kind), b"")), tmp_path / "work")


def test_links_in_a_zip_and_out_of_a_folder_are_refused(tmp_path):
    info = zipfile.ZipInfo("link")
    info.external_attr = 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr(info, "/etc/passwd")
    with pytest.raises(BrokenArchiveError, match="link is a link"):
        Files(tmp_path / "x.zip", tmp_path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "out").symlink_to(tmp_path / "x.zip")
    with pytest.raises(BrokenArchiveError, match="out is a link out of the folder"):
        Files(tmp_path / "folder", tmp_path).read("out")


def test_bombs_are_refused(tmp_path):
    zeros = bytes(8 << 20)
    with zipfile.ZipFile(tmp_path / "x.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("zeros", zeros)
    with pytest.raises(BrokenArchiveError, match="zeros expands from"):
        Files(tmp_path / "x.zip", tmp_path)
    with pytest.raises(BrokenArchiveError, match="expands"):
        Files(tar(tmp_path / "x.tgz", (tarfile.TarInfo("zeros"), zeros)), tmp_path / "work")
    many = [(tarfile.TarInfo(f"zeros{i}"), bytes(1 << 19)) for i in range(16)]
    with pytest.raises(BrokenArchiveError, match="expands more than 200 times"):
        Files(tar(tmp_path / "y.tgz", *many), tmp_path / "work")


@pytest.mark.parametrize("kind", ["gnu", "pax"])
def test_sparse_files_are_refused(tmp_path, kind):
    """Theirs are the only bytes that are written without being in the stream."""
    with (tmp_path / "holes").open("wb") as file:
        file.truncate(3 << 20)
    subprocess.run(["tar", "--sparse", "-H", kind, "-czf", tmp_path / "x.tgz", "-C", tmp_path, "holes"], check=True)
    assert (tmp_path / "x.tgz").stat().st_size < 1000
    with pytest.raises(BrokenArchiveError, match="holes.* is a sparse file"):
        Files(tmp_path / "x.tgz", tmp_path / "work")


@pytest.mark.parametrize(
    ("cut", "whole"),
    [(1024, False), (1024 + 300, False), (1024 + 512 + 100, False), (2048, False), (3072, True), (2048 + 512, True)],
)
def test_a_plain_tar_ends_by_a_block_of_zeros(tmp_path, cut, whole):
    """Cut after a member, in a header, in a file; after the last file; whole; without the second
    block, which GNU tar takes too."""
    with tarfile.open(tmp_path / "x.tar", "w") as archive:
        for name in "ab":
            member = tarfile.TarInfo(name)
            member.size = 512
            archive.addfile(member, io.BytesIO(b"x" * 512))
    (tmp_path / "x.tar").write_bytes((tmp_path / "x.tar").read_bytes()[:cut])
    if whole:
        assert Files(tmp_path / "x.tar", tmp_path / "work").names == ["a", "b"]
    else:
        with pytest.raises(BrokenArchiveError, match="x.tar: truncated or broken"):
            Files(tmp_path / "x.tar", tmp_path / "work")


def test_a_broken_header_does_not_end_a_tar(tmp_path):
    tar(tmp_path / "x.tgz", (tarfile.TarInfo("a"), b"x"), (tarfile.TarInfo("b"), b"x"))
    content = bytearray(gzip.decompress((tmp_path / "x.tgz").read_bytes()))
    content[1024] ^= 1  # in the name of b, which the header's check sum covers
    (tmp_path / "x.tar").write_bytes(content)
    with pytest.raises(BrokenArchiveError, match="x.tar: truncated or broken archive .*bad checksum"):
        Files(tmp_path / "x.tar", tmp_path / "work")


def test_truncated_archives_are_named(tmp_path):
    noise = bytes(i * i % 251 for i in range(5000))
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("noise", noise)
    tar(tmp_path / "x.tgz", (tarfile.TarInfo("noise"), noise))
    for name in ("x.zip", "x.tgz"):
        path = tmp_path / name
        path.write_bytes(path.read_bytes()[:-60])
        with pytest.raises(BrokenArchiveError, match=f"{name}: truncated or broken"):
            Files(path, tmp_path / "work")
    (tmp_path / "page.tgz").write_text("<html>")
    with pytest.raises(BrokenArchiveError, match="neither a zip nor a tar"):
        Files(tmp_path / "page.tgz", tmp_path)


@pytest.mark.parametrize("name", ["Photo 10:30:05.jpg", "a\\b.jpg", "train/a:b.jpg", "..a", "a..b/c"])
def test_names_that_lead_nowhere_are_admitted(tmp_path, name):
    assert check_name(name, "x.zip") == name
    tar(tmp_path / "x.tgz", (tarfile.TarInfo(name), b"hello"))
    files = Files(tmp_path / "x.tgz", tmp_path / "work")
    assert files.names == [name] and files.read(name) == b"hello"


def test_zip_archives_of_windows_are_read_with_slashes(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("photos\\", b"")
        archive.writestr("photos\\a.jpg", b"hello")
    files = Files(tmp_path / "x.zip", tmp_path)
    assert files.names == ["photos/a.jpg"] and files.read("photos/a.jpg") == b"hello"
    assert files.find_picture("photos\\a.jpg") == files.find_picture("a.jpg") == "photos/a.jpg"


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_two_files_of_one_name_are_refused_unless_they_are_the_same(tmp_path, kind):
    def write(*contents):
        if kind == "tar":
            return tar(tmp_path / "x", *((tarfile.TarInfo("a/b.txt"), content) for content in contents))
        with zipfile.ZipFile(tmp_path / "x", "w") as archive, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # zipfile's own word on duplicates
            for content in contents:
                archive.writestr("a/b.txt", content)
        return tmp_path / "x"

    assert Files(write(b"one", b"one"), tmp_path / "work").read("a/b.txt") == b"one"
    with pytest.raises(BrokenArchiveError, match="x: it holds two different files called a/b.txt"):
        Files(write(b"one", b"two"), tmp_path / "work")


def test_a_name_of_a_file_and_of_a_folder_is_refused(tmp_path):
    with pytest.raises(BrokenArchiveError, match="a/b is both a file and a folder"):
        Files(tar(tmp_path / "x.tgz", (tarfile.TarInfo("a"), b""), (tarfile.TarInfo("a/b"), b"")), tmp_path / "work")


def test_pipes_and_links_to_themselves_are_named(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for read in (check_file, fingerprint, lambda path: Files(path, tmp_path / "work")):
        with pytest.raises(BrokenArchiveError, match="pipe: neither a file nor a folder but a pipe"):
            read(tmp_path / "pipe")
        with pytest.raises(FileNotFoundError, match="loop: it is a link that leads nowhere"):
            read(tmp_path / "loop")
    assert Files(tmp_path, tmp_path / "work").names == []


def test_pictures_are_found_under_the_names_that_lists_have_for_them(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        for name in ("p/a.JPG", "p/b.png", "p/c.jpg", "p/c.png", "__MACOSX/p/._a.JPG", "p/._a.JPG", "p/notes.txt"):
            archive.writestr(name, name)
    files = Files(tmp_path / "x.zip", tmp_path)
    assert files.pictures == ["p/a.JPG", "p/b.png", "p/c.jpg", "p/c.png"]
    found = {
        listed: files.find_picture(listed) for listed in ("p/a.jpg", "a.jpg", "./p/b.jpg", "c.png", "c.gif", "d.jpg")
    }
    assert found == {
        "p/a.jpg": "p/a.JPG",
        "a.jpg": "p/a.JPG",
        "./p/b.jpg": "p/b.png",
        "c.png": "p/c.png",
    } | dict.fromkeys(
        ["c.gif", "d.jpg"]  # of two kinds, and missing
    )


def test_text_and_json_that_cannot_be_read_are_named():
    assert decode_text(b"\xef\xbb\xbfcaf\xc3\xa9", "t.csv") == "caf\u00e9"
    with pytest.raises(ValueError, match="^t.csv: it is not in UTF-8 .*save it in UTF-8"):
        decode_text(b"caf\xe9", "t.csv")
    assert parse_json('{"a": [1]}', "t.json") == {"a": [1]}
    for text, message in (("{", "t.json is not JSON "), ("[" * 10**6, "t.json is not JSON .* nested too deeply")):
        with pytest.raises(ValueError, match=message):
            parse_json(text, "t.json")
