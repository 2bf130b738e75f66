"""A folder tree: what is met, in which order, and what every odd thing in it becomes."""

import os
import socket
import sys
from pathlib import Path

import pytest

from clipsearch.errors import ClipsearchError, SourceNotFoundError, UnknownNameError
from clipsearch.scan import Ignored, open_source
from clipsearch.types import ImageRef, Skip


def put(place: Path, *names):
    for name in names:
        path = os.path.join(os.fsencode(place), os.fsencode(name))
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(b"content")


def scan(place, **options):
    return list(open_source(place, **options).scan())


def images(entries):
    return [entry.path for entry in entries if isinstance(entry, ImageRef)]


def skips(entries):
    return {entry.path: str(entry.reason) for entry in entries if isinstance(entry, Skip)}


def ignored(entries):
    return [entry.path for entry in entries if isinstance(entry, Ignored)]


def test_images_are_met_by_their_extension_in_the_order_of_their_path_bytes(tmp_path):
    put(tmp_path, "b.JPG", "a/z.png", "a/b/c.HeIc", "a.webp", "a-b.tif", "notes.txt", "noext", "z.jpeg.bak")
    entries = scan(tmp_path)
    assert images(entries) == sorted([b"b.JPG", b"a/z.png", b"a/b/c.HeIc", b"a.webp", b"a-b.tif"])
    assert sorted(ignored(entries)) == [b"noext", b"notes.txt", b"z.jpeg.bak"]
    assert entries == scan(tmp_path)


def test_a_reference_holds_what_the_file_system_says(tmp_path):
    put(tmp_path, "a.jpg")
    os.utime(tmp_path / "a.jpg", ns=(1, 4_102_444_800_000_000_001))
    (ref,) = scan(tmp_path)
    status = (tmp_path / "a.jpg").stat()
    assert ref == ImageRef(os.fsencode(tmp_path), b"a.jpg", None, 7, 4_102_444_800_000_000_001, status.st_ctime_ns, 0)


def test_a_source_is_named_after_its_folder(tmp_path):
    (tmp_path / "Summer 24").mkdir()
    source = open_source(str(tmp_path / "Summer 24") + "/")
    assert (source.kind, source.name, source.root) == ("folder", "Summer 24", os.fsencode(tmp_path / "Summer 24"))


HOSTILE = [
    b"new\nline.jpg", b"tab\t.jpg", b"'\"`$(x);&|.jpg", b"<b>x</b>.jpg", "n\u0303.jpg".encode(), "\u00f1.jpg".encode(),
    b"-rf.jpg", b"=1+1.jpg", b"x" * 251 + b".jpg", b"CON.jpg", "\U0001f600.jpg".encode(), b"' OR 1=1 --.jpg", b"A.JPG",
    b"a  b.jpg", b"a,b;c.jpg", b"*.jpg", b"\xff\xfe\x80.jpg", b"\x01\x7f.jpg",
]  # fmt: skip


def test_names_of_any_bytes_are_met_and_open_again(tmp_path):
    put(tmp_path, *HOSTILE)
    found = images(scan(tmp_path))
    assert found == sorted(HOSTILE)
    for name in found:
        assert os.path.exists(os.path.join(os.fsencode(tmp_path), name))


def test_hidden_and_foreign_folders_are_not_even_counted(tmp_path):
    put(tmp_path, ".hidden/a.jpg", ".b.jpg", "@eaDir/c.jpg", "node_modules/d.png", "System Volume Information/e.jpg")
    put(tmp_path, "$RECYCLE.BIN/f.jpg", "kept/g.jpg")
    assert [entry.path for entry in scan(tmp_path)] == [b"kept/g.jpg"]


def test_excluded_names_paths_and_folders_are_not_met(tmp_path):
    put(tmp_path, "a.jpg", "raw/b.jpg", "x/raw/c.jpg", "x/thumb_1.jpg", "x/y/d.jpg", "home/e.jpg")
    options = {"excludes": ["thumb_*", "x/raw/"], "exclude_dirs": [os.fsencode(tmp_path / "home")]}
    assert images(scan(tmp_path, **options)) == [b"a.jpg", b"raw/b.jpg", b"x/y/d.jpg"]
    source = open_source(tmp_path, **options)
    covered = [b"a.jpg", b"raw/b.jpg", b"x/raw/c.jpg", b"x/thumb_1.jpg", b"home/e.jpg", b".h/i.jpg", b"a.txt"]
    assert [source.covers(path, None) for path in covered] == [True, True, False, False, False, False, False]
    assert not source.covers(b"a.jpg", b"member.jpg")


def test_links_are_followed_and_loops_end(tmp_path):
    put(tmp_path, "real/a.jpg", "real/deep/b.jpg")
    (tmp_path / "link.jpg").symlink_to("real/a.jpg")
    (tmp_path / "zlink").symlink_to("real")
    (tmp_path / "real" / "up").symlink_to("..")
    (tmp_path / "real" / "deep" / "self").symlink_to(".")
    (tmp_path / "dangling.png").symlink_to("nowhere")
    (tmp_path / "dangling").symlink_to("nowhere")
    (tmp_path / "round.gif").symlink_to("round.gif")
    entries = scan(tmp_path)
    assert images(entries) == [b"link.jpg", b"real/a.jpg", b"real/deep/b.jpg", b"zlink/a.jpg", b"zlink/deep/b.jpg"]
    assert skips(entries) == {
        b"real/up": "symlink_loop",
        b"real/deep/self": "symlink_loop",
        b"zlink/up": "symlink_loop",
        b"zlink/deep/self": "symlink_loop",
        b"dangling.png": "vanished",
        b"round.gif": "symlink_loop",
    }
    assert ignored(entries) == [b"dangling"]


def test_folders_that_link_to_each_other_end(tmp_path):
    names = [f"d{number}" for number in range(12)]
    put(tmp_path, *(f"{name}/{name}.jpg" for name in names))
    for name in names:
        for other in names:
            if other != name:
                (tmp_path / name / f"to_{other}").symlink_to(f"../{other}")
    assert 12 <= len(images(scan(tmp_path))) <= 12 * 14


def test_what_is_no_file_is_never_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")
    os.mkfifo(tmp_path / "pipe")
    put(tmp_path, "dir.jpg/a.jpg")
    with socket.socket(socket.AF_UNIX) as listener:
        folder = os.open(tmp_path, os.O_RDONLY)
        try:  # a socket's address is short; the folder's may be long
            listener.bind(f"/proc/self/fd/{folder}/socket.png")
        finally:
            os.close(folder)
        entries = scan(tmp_path)
    assert skips(entries) == {b"pipe.jpg": "not_regular_file", b"socket.png": "not_regular_file"}
    assert images(entries) == [b"dir.jpg/a.jpg"]
    assert ignored(entries) == [b"pipe"]


@pytest.fixture
def nobody():
    """Run as a user without rights: root may read anything."""
    if os.geteuid() == 0:
        os.seteuid(65534)
        yield
        os.seteuid(0)
    else:
        yield


def test_an_unreadable_folder_is_one_skip(tmp_path, request):
    put(tmp_path, "shut/a.jpg", "b.jpg")
    above = 3 if "PYTEST_XDIST_WORKER" in os.environ else 2  # folders of pytest's own, which another user comes through
    for folder in (tmp_path, *list(tmp_path.parents)[:above]):
        folder.chmod(0o755)
    (tmp_path / "shut").chmod(0)
    request.getfixturevalue("nobody")
    entries = scan(tmp_path)
    assert (images(entries), skips(entries)) == ([b"b.jpg"], {b"shut": "unreadable"})


def test_a_path_too_long_for_the_system_is_a_skip(tmp_path):
    here = os.getcwd()
    os.chdir(tmp_path)
    try:
        for _ in range(25):
            os.mkdir("d" * 200)
            os.chdir("d" * 200)
    finally:
        os.chdir(here)
    put(tmp_path, "e.jpg")
    entries = scan(tmp_path)
    assert images(entries) == [b"e.jpg"]
    assert list(skips(entries).values()) == ["path_too_long"]


def test_a_tree_deeper_than_the_recursion_limit_is_walked_to_its_end(tmp_path):
    folders = ["/".join(["d"] * depth) for depth in range(1, sys.getrecursionlimit() + 200)]
    for folder in folders:
        os.mkdir(tmp_path / folder)
    put(tmp_path, f"{folders[-1]}/a.jpg")
    try:
        assert images(scan(tmp_path)) == [f"{folders[-1]}/a.jpg".encode()]
    finally:  # here: what pytest clears up with is recursive
        (tmp_path / folders[-1] / "a.jpg").unlink()
        for folder in reversed(folders):
            os.rmdir(tmp_path / folder)


def test_a_root_that_vanishes_yields_nothing(tmp_path):
    (tmp_path / "disk").mkdir()
    source = open_source(tmp_path / "disk")
    (tmp_path / "disk").rmdir()
    assert list(source.scan()) == []


def test_files_that_come_and_go_during_a_scan_do_not_raise(tmp_path):
    put(tmp_path, *(f"{number}/{number}.jpg" for number in range(9)))
    entries = []
    for entry in open_source(tmp_path).scan():
        entries.append(entry)
        for path in tmp_path.glob("[5-9]/*.jpg"):
            path.unlink()
    assert images(entries) == [f"{number}/{number}.jpg".encode() for number in range(5)]


@pytest.mark.parametrize(
    ("name", "words"),
    [("gone", "No such file"), ("a.tar.gz", "Decompress"), ("a.tgz", "Decompress"), ("notes.txt", "neither")],
)
def test_what_cannot_be_scanned_is_refused_with_advice(tmp_path, name, words):
    if name != "gone":
        put(tmp_path, name)
    with pytest.raises(SourceNotFoundError, match=words) as caught:
        open_source(tmp_path / name)
    assert isinstance(caught.value, ClipsearchError)
    assert len(str(caught.value).splitlines()) <= 3


def test_an_unknown_kind_offers_the_known_ones(tmp_path):
    with pytest.raises(UnknownNameError, match="folder"):
        open_source(tmp_path, kind="foldr")
