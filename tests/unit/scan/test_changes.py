"""What counts as a change below a folder, and noticing it by looking."""

import os
import shutil

import pytest

from clipsearch.errors import MissingExtraError
from clipsearch.scan import ScanOptions, changes
from clipsearch.scan.changes import PollWatcher, concerns, open_watcher
from clipsearch.scan.folder import FolderSource


@pytest.fixture
def source(tmp_path):
    folder = tmp_path / "photos"
    (folder / "sub").mkdir(parents=True)
    (folder / "a.jpg").write_bytes(b"a")
    (folder / "notes.txt").write_bytes(b"n")
    (folder / "home").mkdir()
    (folder / "link").symlink_to("sub")
    options = ScanOptions(excludes=("raw",), exclude_dirs=(os.fsencode(folder / "home"),))
    return FolderSource.open(os.fsencode(folder), options)


@pytest.mark.parametrize(
    ("name", "counts"),
    [
        (b"a.jpg", True), (b"gone.JPG", True), (b"sub", True), (b"sub/deep/new.png", True), (b"link", True),
        (b"", True),
        (b"was-perhaps-a-folder", True), (b"\xff.png", True),
        (b"notes.txt", False), (b".a.jpg.part", False), (b".git/a.jpg", False), (b"raw/a.jpg", False),
        (b"home/CURRENT", False), (b"home/x/a.jpg", False), (b"home", False), (b"@eaDir/a.jpg", False),
    ],
)  # fmt: skip
def test_only_what_a_run_would_see_is_a_change(source, name, counts):
    assert concerns(source, os.path.join(source.root, name)) is counts


def test_a_look_notices_whatever_a_run_would(source, tmp_path, monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(changes.time, "sleep", lambda seconds: clock.__setitem__(0, clock[0] + max(seconds, 0.01)))
    watcher = PollWatcher(source, 1.0, lambda: clock[0])
    folder = tmp_path / "photos"

    def looks():
        return any(watcher.tick() for _ in range(8))

    assert not looks()
    (folder / "b.jpg").write_bytes(b"b")
    assert looks() and not looks()
    os.utime(folder / "b.jpg", ns=(1, 1))
    assert looks()
    (folder / "sub" / "c.png").write_bytes(b"c")
    assert looks()
    (folder / "notes.txt").write_bytes(b"other")
    (folder / "home" / "d.jpg").write_bytes(b"d")
    assert not looks()
    shutil.rmtree(folder / "sub")
    assert looks()
    shutil.rmtree(folder)
    assert looks() and not looks()


def test_without_the_package_the_message_says_what_to_do(source, monkeypatch):
    monkeypatch.setattr(changes, "find_spec", lambda _: None)
    with pytest.raises(MissingExtraError, match=r"clipsearch\[watch\]") as caught:
        open_watcher(source, None)
    assert "--poll" in str(caught.value) and len(str(caught.value).splitlines()) <= 3
    open_watcher(source, 5.0).close()
