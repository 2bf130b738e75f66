"""``clipsearch watch`` as a person runs it: real files, real events, real signals."""

import importlib.util
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from support import make_photo

import clipsearch
from clipsearch.store import Store, verify_files

ROOT = str(Path(__file__).parents[2])
EVENTS = pytest.param((), id="events", marks=pytest.mark.skipif(
    importlib.util.find_spec("watchfiles") is None, reason="pip install 'clipsearch[watch]'"
))  # fmt: skip
POLL = pytest.param(("--poll", "300ms"), id="poll")


class Watching:
    """A running ``clipsearch watch``, and what it has said so far."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        line = [sys.executable, "-m", "clipsearch", "watch", "photos", "--model", "hashing", "--jobs", "1", *arguments]
        environment = {**os.environ, "PYTHONPATH": ROOT, "PYTHONUNBUFFERED": "1"}
        environment.pop("CLIPSEARCH_INDEXES", None)
        before = signal.signal(signal.SIGINT, signal.default_int_handler)  # who runs tests in the background ignores it
        try:
            self.process = subprocess.Popen(line, cwd=folder, env=environment, stderr=subprocess.PIPE, text=True)
        finally:
            signal.signal(signal.SIGINT, before)
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        for line in self.process.stderr:
            self.lines.append(line.rstrip("\n"))

    def says(self, pattern: str, n: int = 1) -> str:
        """Wait until so many lines have matched; return the last of them."""
        end = time.monotonic() + 60
        while len(found := [line for line in list(self.lines) if re.search(pattern, line)]) < n:
            assert time.monotonic() < end and self.process.poll() is None, (pattern, self.lines)
            time.sleep(0.02)
        return found[-1]

    def end(self, how: signal.Signals = signal.SIGINT) -> tuple[int, float]:
        """Stop it; return its exit code and how long that took."""
        began = time.monotonic()
        if self.process.poll() is None:
            self.process.send_signal(how)
        code = self.process.wait(60)
        seconds = time.monotonic() - began
        self._reader.join()
        self.process.stderr.close()
        return code, seconds


@pytest.fixture
def watching(photos, tmp_path):
    running: list[Watching] = []

    def start(*arguments: str) -> Watching:
        running.append(Watching(tmp_path, "--quiet-time", "300ms", *arguments))
        return running[-1]

    yield start
    for one in running:
        one.end(signal.SIGKILL)


@pytest.mark.parametrize("how", [EVENTS, POLL])
def test_a_collection_follows_its_folder(photos, tmp_path, watching, how):
    watch = watching("--report", "skipped.jsonl", *how)
    assert re.match(r"\d\d:\d\d:\d\d indexes/photos: 6 embedded; 6 images", watch.says("6 images"))
    make_photo(photos / "new.png", (1, 90, 200), 11)
    watch.says("1 embedded; 7 images")
    (photos / "red.png").rename(photos / "rose.png")
    watch.says("1 reused; 7 images")
    (photos / "blue.png").unlink()
    watch.says("1 deleted; 6 images")
    (photos / "noise.jpg").write_bytes(b"no picture")
    watch.says(r"1 skipped \(noise.jpg: unidentified\); 6 images")
    assert "noise.jpg" in (tmp_path / "skipped.jsonl").read_text()
    make_photo(tmp_path / "deep" / "below" / "inner.png", (9, 9, 200), 12)
    (tmp_path / "deep").rename(photos / "deep")  # a whole tree at once
    watch.says("1 embedded; 7 images", 2)
    make_photo(photos / "deep" / "below" / "second.png", (9, 99, 200), 13)  # in a folder that was not there at first
    watch.says("1 embedded; 8 images")
    os.rename(os.fsencode(make_photo(tmp_path / "n.png", (3, 3, 3))), os.path.join(os.fsencode(photos), b"\xff\n.png"))
    watch.says("1 embedded; 9 images")
    (photos / "notes.txt").write_text("no picture by its name")
    code, seconds = watch.end()
    assert code == 130 and seconds < 10, watch.lines
    assert watch.lines[-1] == "interrupted: what is finished is saved. The same command goes on from there."
    with clipsearch.open(tmp_path / "indexes" / "photos") as collection:
        found = {os.fsencode(os.path.basename(hit.path)) for hit in collection.search("x", k=99)}
    assert found == {os.fsencode(path.name) for path in photos.rglob("*.png")}
    assert len([line for line in watch.lines if re.match(r"\d\d:\d\d:\d\d ", line)]) <= 12, watch.lines


@pytest.mark.parametrize("how", [EVENTS, POLL])
def test_many_files_that_come_one_after_the_other_are_one_batch(photos, watching, how):
    watch = watching("--quiet-time", "2s", *how)
    watch.says("6 images")
    for number in range(20):
        make_photo(photos / f"{number}.png", (10 * number, 7, 7), number)
        time.sleep(0.02)
    watch.says("20 embedded; 26 images")


def test_a_folder_that_is_unplugged_keeps_its_pictures_and_is_taken_up_again(photos, tmp_path, watching):
    watch = watching("--poll", "300ms")
    watch.says("6 images")
    photos.rename(tmp_path / "away")
    watch.says("photos is gone; what is known from there is kept")
    photos.mkdir()  # the empty mount point
    watch.says("photos is back")
    time.sleep(1)
    photos.rmdir()
    watch.says("is gone", 2)
    make_photo(tmp_path / "away" / "new.png", (1, 90, 200), 11)
    (tmp_path / "away").rename(photos)
    watch.says("1 embedded; 7 images")
    assert not any("deleted" in line for line in watch.lines)


def test_once_ends_after_one_batch(photos, watching):
    watch = watching("--once", "--poll", "300ms")
    watch.says("6 images")
    (photos / "noise.jpg").write_bytes(b"no picture")
    watch.says("1 skipped")
    assert watch.process.wait(60) == 3


def test_killed_at_any_moment_it_goes_on(photos, tmp_path, watching):
    for turn in range(3):
        watch = watching("--poll", "100ms")
        watch.says(r"\d images")
        for number in range(30):
            make_photo(photos / f"{turn}-{number}.png", (80 * turn, 8 * number, 7), number)
        time.sleep(0.4 + 0.3 * turn)
        watch.end(signal.SIGKILL)
        snapshot = Store.open(tmp_path / "indexes" / "photos").snapshot()
        paths = [row.path for row in snapshot.known_files()]
        assert len(paths) == len(set(paths)) and verify_files(snapshot) == []
    watch = watching("--poll", "300ms")
    watch.says("96 images")
    assert watch.end(signal.SIGTERM)[0] == 130


def test_what_cannot_be_watched_is_refused_before_a_collection_is_made(tmp_path, watching):
    (tmp_path / "photos" / "red.png").unlink()
    line = [sys.executable, "-m", "clipsearch", "watch"]
    for source, more, word in (
        ("none", (), "no folder"),
        ("photos/blue.png", (), "no folder"),
        ("photos", ("--poll", "x"), "no time"),
    ):
        done = subprocess.run(
            [*line, source, *more], cwd=tmp_path, env={**os.environ, "PYTHONPATH": ROOT}, capture_output=True
        )
        assert done.returncode == 2 and word in done.stderr.decode() and not (tmp_path / "indexes").exists()
