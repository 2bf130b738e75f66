"""Whole runs over everything a folder can hold that is no picture: each entry is counted once, and nothing hangs."""

import ctypes
import json
import os
import re
import shutil
import socket
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from support import make_photo

import clipsearch
from clipsearch.flows import ingest as ingest_flow

ROOT = str(Path(__file__).parents[2])
PR_CAPBSET_DROP, CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH = 24, 1, 2
ANY_BYTES = [bytes(n for n in range(first, first + 128) if n not in (0, 47)) + b".png" for first in (0, 128)]
HOSTILE = [
    b"new\nline.png", b"tab\t.png", b"'\"`$(x);&|.png", b"<img src=x>.png", "n\u0303.png".encode(),
    "\u00f1.png".encode(),
    b"-rf.png", b"=1+1.png", b"x" * 251 + b".png", b"CON.png", "\U0001f600.png".encode(), b"' OR 1=1 --.png", b"A.PNG",
    b"a  b.png", b"a,b;c.png", b"*.png", b"\x1b[31mred.png", *ANY_BYTES,
]  # fmt: skip


def a_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        folder = os.open(path.parent, os.O_RDONLY)
        try:  # a socket's address is short; the folder's may be long
            listener.bind(f"/proc/self/fd/{folder}/{path.name}")
        finally:
            os.close(folder)


def too_deep(folder: Path) -> None:
    here = os.getcwd()
    os.chdir(folder)
    try:
        for _ in range(25):
            os.mkdir("d" * 200)
            os.chdir("d" * 200)
    finally:
        os.chdir(here)


@pytest.fixture
def zoo(tmp_path):
    """A folder with one of everything; returns it with what is to become of each entry that is skipped."""
    folder = tmp_path / "zoo"
    for number, name in enumerate(HOSTILE):
        picture = make_photo(tmp_path / "one.png", (10 * number, 250 - 10 * number, 90), number, (24, 16))
        folder.mkdir(exist_ok=True)
        os.rename(os.fsencode(picture), os.path.join(os.fsencode(folder), name))
    os.mkfifo(folder / "pipe.jpg")
    os.mkfifo(folder / "pipe")
    a_socket(folder / "socket.png")
    (folder / "null.jpg").symlink_to("/dev/null")
    (folder / "endless.jpg").symlink_to("/dev/zero")
    (folder / "self.gif").symlink_to("self.gif")
    (folder / "here").symlink_to(".")
    (folder / "dangling.png").symlink_to("nowhere")
    make_photo(folder / "dir.jpg" / "inner.png", (1, 2, 3), 99, (24, 16))
    (folder / "dir.jpg" / "up").symlink_to("..")
    make_photo(folder / "shut" / "in.png", (1, 2, 3), 98, (24, 16))
    make_photo(folder / "closed.png", (1, 2, 3), 97, (24, 16))
    (folder / "empty.jpg").touch()
    (folder / "noise.jpg").write_bytes(b"this is no picture" * 10)
    (folder / "notes.txt").write_text("no picture by its name")
    make_photo(folder / ".hidden" / "a.png", (5, 5, 5), 96, (24, 16))
    too_deep(folder)
    (folder / "shut").chmod(0)
    (folder / "closed.png").chmod(0)
    skips = {
        b"pipe.jpg": "not_regular_file", b"socket.png": "not_regular_file", b"null.jpg": "not_regular_file",
        b"endless.jpg": "not_regular_file", b"self.gif": "symlink_loop", b"here": "symlink_loop",
        b"dir.jpg/up": "symlink_loop",
        b"dangling.png": "vanished", b"shut": "unreadable", b"closed.png": "unreadable",
        b"empty.jpg": "empty", b"noise.jpg": "unidentified",
    }  # fmt: skip
    yield folder, skips
    (folder / "shut").chmod(0o755)


def without_privileges() -> None:
    """Let root be refused what it may not do as any owner: Linux gives up its rights to pass over modes."""
    if os.geteuid() == 0:
        libc = ctypes.CDLL(None)
        for right in (CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH):
            libc.prctl(PR_CAPBSET_DROP, right, 0, 0, 0)


def run_plain(*command: str, where: Path) -> subprocess.CompletedProcess[bytes]:
    """Run as somebody without special rights: root may read anything."""
    environment = {**os.environ, "PYTHONPATH": ROOT, "HOME": str(where)}
    return subprocess.run(
        [sys.executable, *command],
        cwd=where,
        env=environment,
        capture_output=True,
        timeout=120,
        preexec_fn=without_privileges,
    )


def path_of(line: dict) -> bytes:
    import base64

    return base64.b64decode(line["path_b64"]) if "path_b64" in line else line["path"].encode()


def test_every_entry_of_a_folder_of_everything_is_counted_once(zoo, tmp_path):
    folder, expected = zoo
    arguments = ("index", str(folder), "-i", "./c", "--model", "hashing", "--report", "skipped.jsonl", "--jobs", "1")
    done = run_plain("-m", "clipsearch", *arguments, where=tmp_path)
    said = done.stderr.decode()
    assert done.returncode == 3 and "Traceback" not in said, said
    assert all(ord(letter) >= 32 or letter == "\n" for letter in said)  # no name reaches a terminal as it is
    lines = [json.loads(line) for line in (tmp_path / "skipped.jsonl").read_bytes().splitlines()]
    found = {path_of(line): line["reason"] for line in lines}
    deep = [path for path, reason in found.items() if reason == "path_too_long"]
    assert len(deep) == 1 and all(line["detail"] for line in lines)
    assert {path: reason for path, reason in found.items() if path not in deep} == expected
    numbers = dict(
        reversed(pair.split(" "))
        for pair in re.findall(r"\d+ [a-z]+", next(line for line in said.splitlines() if " embedded" in line))
    )
    assert int(numbers["embedded"]) + int(numbers["reused"]) == len(HOSTILE) + 1
    assert int(numbers["skipped"]) == len(lines) == len(found)
    stored = run_plain("-c", COUNT, "c", str(folder), where=tmp_path)
    again = json.loads(stored.stdout)
    assert again["scanned"] == again["unchanged"] + again["skipped"] + again["ignored"]
    assert (again["embedded"], again["unchanged"], again["skipped"]) == (0, len(HOSTILE) + 1, len(lines))
    assert set(again["hits"]) == {os.fsencode(folder).hex() + b"/".hex() + name.hex() for name in HOSTILE} | {
        os.fsencode(folder / "dir.jpg" / "inner.png").hex()
    }


COUNT = """
import json, os, sys, clipsearch
with clipsearch.open(sys.argv[1]) as collection:
    done = collection.index(sys.argv[2], workers=1)
    hits = [hit.path for hit in collection.search("anything", k=100)]
assert all(os.path.exists(hit) for hit in hits)
names = ("scanned", "embedded", "unchanged", "ignored")
print(json.dumps({**{name: getattr(done, name) for name in names}, "skipped": len(done.skips),
                  "hits": [os.fsencode(hit).hex() for hit in hits]}))
"""


@pytest.mark.parametrize("name", ["pipe.jpg", "socket.png", "null.jpg", "self.gif", "dangling.png", "closed.png"])
def test_a_query_picture_goes_the_same_way(zoo, tmp_path, name):
    folder, expected = zoo
    script = (
        "import sys, clipsearch\nfrom clipsearch.decode import decode_query\n"
        "from clipsearch.embed import load_encoder\n"
        "try: decode_query(sys.argv[1], load_encoder('hashing').preprocess)\n"
        "except clipsearch.QueryImageError as problem: print(problem)\n"
    )
    done = run_plain("-c", script, str(folder / name), where=tmp_path)
    said = done.stdout.decode()
    words = {
        "not_regular_file": "no file of data",
        "symlink_loop": "symbolic links",
        "vanished": "no such file",
        "unreadable": "denied",
    }
    assert name in said and words[expected[os.fsencode(name)]] in said, (said, done.stderr.decode())
    assert len(said.splitlines()) <= 3


def balance(report) -> Counter:
    counted = report.embedded + report.reused + report.unchanged + len(report.skips) + report.ignored
    assert report.scanned == counted
    return Counter(str(skip.reason) for skip in report.skips)


def test_what_changes_between_the_scan_and_the_reading_is_counted_once(photos, tmp_path, monkeypatch):
    make_photo(photos / "sub" / "inner.png", (40, 50, 60), 7)
    make_photo(photos / "big.png", (40, 50, 60), 8, (400, 300))
    real = ingest_flow.make_plan

    def then_change(*arguments, **options):
        plan = real(*arguments, **options)
        (photos / "red.png").unlink()
        (photos / "green.png").unlink()
        os.mkfifo(photos / "green.png")
        (photos / "blue.png").unlink()
        (photos / "blue.png").mkdir()
        (photos / "white.png").unlink()
        (photos / "white.png").symlink_to("white.png")
        os.truncate(photos / "big.png", 2000)
        shutil.rmtree(photos / "sub")
        return plan

    collection = clipsearch.create(tmp_path / "collection", model="hashing")
    with monkeypatch.context() as patch:
        patch.setattr(ingest_flow, "make_plan", then_change)
        report = collection.index(photos, workers=1)
    reasons = balance(report)
    assert (reasons["vanished"], reasons["not_regular_file"], reasons["symlink_loop"]) == (2, 2, 1)
    assert reasons["truncated"] + reasons["corrupt"] == 1 and report.embedded == 2
    quiet = balance(collection.index(photos, workers=1))
    assert quiet["vanished"] == 0
    fresh = clipsearch.create(tmp_path / "fresh", model="hashing")
    assert balance(fresh.index(photos, workers=1)) == quiet
    assert {hit.path for hit in collection.search("x", k=9)} == {hit.path for hit in fresh.search("x", k=9)}


def test_a_root_that_is_unmounted_keeps_its_pictures_and_one_that_is_removed_is_refused(photos, tmp_path):
    collection = clipsearch.create(tmp_path / "collection", model="hashing")
    collection.index(photos, workers=1)
    disk = photos.rename(tmp_path / "disk")
    with pytest.raises(clipsearch.SourceNotFoundError):
        collection.index(photos)
    photos.mkdir()  # an empty mount point, as it is seen when the disk is away
    (photos / "readme.txt").write_text("mount the disk here")
    report = collection.index(photos)
    assert (report.deleted, report.images_total, report.ignored) == (0, 6, 1)
    assert "is it mounted?" in report.notes[0]
    (photos / "readme.txt").unlink()
    photos.rmdir()
    disk.rename(photos)
    report = collection.index(photos, workers=1)
    assert (report.unchanged, report.embedded, report.notes) == (6, 0, ())


def test_an_unreadable_folder_keeps_what_is_known_from_it(photos, tmp_path):
    make_photo(photos / "sub" / "inner.png", (40, 50, 60), 7)
    run = ("-m", "clipsearch", "index", str(photos), "-i", "./c", "--model", "hashing", "--jobs", "1")
    assert run_plain(*run, where=tmp_path).returncode == 0
    (photos / "sub").chmod(0)
    done = run_plain(*run, where=tmp_path)
    assert done.returncode == 3 and b"7 images" in done.stderr and b"0 deleted" in done.stderr, done.stderr
    (photos / "sub").chmod(0o755)
    assert run_plain(*run, where=tmp_path).returncode == 0


def test_a_run_over_the_bad_image_set_ends_in_time_and_meets_every_expectation(test_data, tmp_path):
    folder = test_data / "badimages"
    rows = [json.loads(line) for line in (folder / "manifest.jsonl").read_text(encoding="utf-8").splitlines()]
    collection = clipsearch.create(tmp_path / "collection", model="hashing")
    report = collection.index(folder / "files")
    reasons = balance(report)
    assert report.scanned == len(rows) == 261 and report.seconds < 60
    assert not reasons.keys() & {"decode_crash", "decode_timeout", "decode_memory"}
    skipped = {skip.display: str(skip.reason) for skip in report.skips}
    wrong = {row["file"] for row in rows if row["expected"] == "ok" and row["file"] in skipped}
    wrong |= {row["file"] for row in rows if row["expected"] == "skip" and row["file"] not in skipped}
    assert not wrong
    expected = [row for row in rows if row["expected"] == "skip"]
    differing = [(row["file"], row["reason"]) for row in expected if skipped[row["file"]] != row["reason"]]
    assert len(differing) <= 0.02 * len(expected), differing
    again = collection.index(folder / "files")
    assert again.skips and balance(again) == reasons and again.embedded == 0 and again.seconds < 20
