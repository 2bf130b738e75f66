"""The commands as a person runs them: real collections, real processes, a real terminal."""

import json
import os
import pty
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image

CLIPSEARCH = [sys.executable, "-m", "clipsearch"]


class Shell:
    """Runs ``clipsearch`` in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        root = str(Path(__file__).parent.parent.parent)
        paths = os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))
        self.environment = {**os.environ, "PYTHONPATH": paths, "TERM": "xterm-256color", "COLORTERM": "truecolor"}
        for name in ("NO_COLOR", "COLUMNS", "CLIPSEARCH_INDEXES"):
            self.environment.pop(name, None)

    def run(self, *arguments: str, code: int = 0, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        done = subprocess.run(
            [*CLIPSEARCH, *arguments],
            cwd=self.folder,
            env=self.environment,
            input=stdin,
            capture_output=True,
            check=False,
        )
        assert done.returncode == code, done.stderr.decode()
        assert b"Traceback" not in done.stderr
        return done

    def start(self, *arguments: str, **streams: int) -> subprocess.Popen[bytes]:
        # whoever runs the tests in the background has SIGINT ignored, and children inherit that: a terminal does not
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            return subprocess.Popen([*CLIPSEARCH, *arguments], cwd=self.folder, env=self.environment, **streams)
        finally:
            signal.signal(signal.SIGINT, before)

    def in_terminal(self, *arguments: str, columns: int = 80) -> str:
        """Return what appears on a terminal, stdout and stderr together."""
        import fcntl
        import struct
        import termios

        ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 30, columns, 0, 0))
        process = self.start(*arguments, stdin=theirs, stdout=theirs, stderr=theirs)
        os.close(theirs)
        shown = b""
        while select.select([ours], [], [], 60)[0]:
            try:
                data = os.read(ours, 65536)
            except OSError:  # Linux says so when the other side is closed
                break
            if not data:
                break
            shown += data
        process.wait(30)
        os.close(ours)
        return shown.decode().replace("\r\n", "\n")


@pytest.fixture
def shell(photos: Path) -> Shell:
    """A folder with ``photos`` (six colours, one broken file, one text) and its collection."""
    (photos / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 no picture")
    (photos / "notes.txt").write_text("x")
    shell = Shell(photos.parent)
    done = shell.run("index", "./photos", "--model", "hashing", "--report", "r.jsonl", code=3)
    assert done.stdout == b""
    assert (
        b"indexes/photos: 6 images (6 embedded, 0 reused, 0 unchanged, 0 deleted), 1 skipped, 1 ignored" in done.stderr
    )
    return shell


def test_the_walk_of_a_first_day(shell, photos):
    (skipped,) = map(json.loads, (shell.folder / "r.jsonl").read_text().splitlines())
    assert skipped["path"] == "broken.jpg" and skipped["schema"] == "clipsearch.skip/1"

    again = shell.run("index", "photos", code=3)
    assert b"(0 embedded, 0 reused, 6 unchanged, 0 deleted), 1 skipped" in again.stderr

    rank, score, path = shell.run("search", "red").stdout.splitlines()[0].split(b"\t")
    assert (rank, path) == (b"1", b"photos/red.png") and 0 < float(score) <= 1

    own = shell.run("search", "photos/blue.png", "-k", "1", "--files")
    assert own.stdout == os.fsencode(photos / "blue.png") + b"\n"
    other = shell.run("search", "photos/blue.png", "-k", "1", "--files", "--leave-out-self")
    assert other.stdout not in (own.stdout, b"")
    piped = shell.run("search", "-", "-k", "1", "-0", stdin=(photos / "blue.png").read_bytes())
    assert piped.stdout == os.fsencode(photos / "blue.png") + b"\0"

    *hits, whole = map(json.loads, shell.run("search", "green", "--add", "0.1:blue", "--json").stdout.splitlines())
    assert [hit["rank"] for hit in hits] == [1, 2, 3, 4, 5, 6] and hits[0]["path"] == str(photos / "green.png")
    assert (hits[0]["width"], hits[0]["format"]) == (96, "png")
    assert whole["collection"] == "photos" and whole["model"] == "hashing" and whole["hits"] == 6

    state = json.loads(shell.run("status", "--json").stdout)
    assert state["images"] == 6 and state["roots"] == [{"path": str(photos), "exists": True, "images": 6}]
    assert whole["version"] == state["version"]


def test_captions_are_found_and_measured(shell, photos):
    pairs = [(f"{name}.png", f"a {name} wall") for name in ("red", "green", "blue")] + [("gone.png", "nothing")]
    (shell.folder / "c.csv").write_text("image,caption\n" + "".join(f"{i},{c}\n" for i, c in pairs))
    assert b"4 new captions" in shell.run("index", "photos", "--captions", "c.csv", code=3).stderr
    found = shell.run("search", "photos/red.png", "--target", "text", "-k", "1").stdout.decode().split("\t")
    assert found[2:] == ["a red wall", "photos/red.png\n"]
    measured = shell.run("evaluate", "c.csv", "--json")
    report = json.loads(measured.stdout)
    assert report["schema"] == "clipsearch.evaluation/1" and report["text_to_image"]["queries"] == 3
    assert b"1 caption left out" in measured.stderr and b"gone.png" in measured.stderr
    table = shell.run("evaluate", "c.csv").stdout.decode().splitlines()
    assert table[0].split("\t")[:2] == ["direction", "R@1"] and len(table) == 3


def test_mistakes_are_answered_in_a_few_lines_with_their_codes(shell, photos):
    def said(code, *arguments):
        lines = shell.run(*arguments, code=code).stderr.decode().splitlines()
        assert lines[0].startswith("error: ") and 1 <= len(lines) <= 3
        return "\n".join(lines)

    assert "nothing" in said(2, "index", "nothing")
    assert not (shell.folder / "indexes" / "nothing").exists()
    assert "clipsearch index" in said(10, "search", "x", "--indexes-dir", "none")
    assert "is a file" in said(2, "index", "photos", "--model", "hashing", "--indexes-dir", "photos/notes.txt")
    assert "Did you mean 'photos'" in said(10, "status", "-i", "photo")
    assert "red.jpg" in said(2, "search", "photos/red.jpg")
    assert "--text" not in said(2, "search", "photos/broken.jpg")
    assert "--text" in said(2, "search", "photos/notes.txt")
    assert "hashing" in said(12, "index", "photos", "--model", "mini")
    assert "vit-b-32-256" in said(2, "models", "path", "vit-b-32-25")
    (shell.folder / "indexes" / "photos" / "CURRENT").write_text("nonsense")
    assert "photos" in said(4, "status")


def test_several_collections_are_never_guessed_between(shell):
    shell.run("index", "photos/red.png", "-i", "other", "--model", "hashing")
    done = shell.run("search", "red", code=2)
    assert b"other, photos" in done.stderr
    assert [line.split("\t")[0] for line in shell.run("status").stdout.decode().splitlines()] == [
        "name",
        "other",
        "photos",
    ]
    assert shell.run("search", "red", "-i", "other").stdout.count(b"\n") == 1
    assert shell.run("search", "red", "-i", "indexes/other").stdout.count(b"\n") == 1


def test_a_terminal_of_80_cells_is_never_overrun(shell, photos):
    deep = photos / "a folder with a long name" / "and another one below it" / "2019"
    deep.mkdir(parents=True)
    (photos / "red.png").rename(deep / "IMG_20190704_183012.png")
    shown = shell.in_terminal("index", "photos")
    assert "indexes/photos: 6 images\n" in shown and "1 reused" in shown
    table = shell.in_terminal("search", "red", "--no-color").splitlines()
    assert table[0].split() == ["rank", "score", "path"]
    assert len(table[1]) == 80 and table[1].endswith("IMG_20190704_183012.png") and "…" in table[1]
    assert all(len(line) <= 80 for line in table)
    models = shell.in_terminal("models", "list", "--no-color").splitlines()
    assert all(len(line) <= 80 for line in models) and any("hashing" in line for line in models)
    assert "\x1b[" in shell.in_terminal("search", "red")


def test_pictures_are_shown_in_the_terminal_and_on_a_sheet(shell, photos):
    shown = shell.in_terminal("search", "red", "-k", "2", "--preview")
    assert "\x1b[38;2;" in shown and "▀" in shown and "red.png" in shown
    (photos / "green.png").unlink()
    shell.run("search", "red", "--contact-sheet", "sheet.png")
    with Image.open(shell.folder / "sheet.png") as sheet:
        assert sheet.size == (5 * 236 + 16, 50 + 2 * 278)
    shell.run("search", "red", "-k", "1", "--contact-sheet", "sheet.png")  # its own sheet may be replaced
    done = shell.run("search", "red", "--contact-sheet", "photos/blue.png", code=2)
    assert b"--force" in done.stderr


def test_members_of_a_tar_are_shown_too(shell, photos):
    import tarfile

    with tarfile.open(shell.folder / "t.tar", "w") as tar:
        tar.add(photos / "red.png", "in/red.png")
    shell.run("index", "t.tar", "--model", "hashing")
    done = shell.run("search", "red", "-i", "t", "--contact-sheet", "t.png")
    assert done.stdout.endswith(b"t.tar::in/red.png\n")
    with Image.open(shell.folder / "t.png") as sheet:
        pixel = sheet.getpixel((16 + 110, 48 + 110))
    assert isinstance(pixel, tuple) and pixel[0] > 180 and max(pixel[1:]) < 60


def test_an_index_run_calibrates_and_searches_have_verdicts(shell, photos):
    small = shell.run("search", "red", "-v").stderr.decode()
    assert "uncalibrated: the collection has 6 pictures; at least 100 are needed" in small
    colours = [(220, 20, 20), (20, 180, 30), (20, 40, 220), (240, 220, 20)]
    for n in range(120):
        picture = Image.new("RGB", (40, 40), colours[n % 4])
        picture.paste((n, 255 - n, 2 * n), (n % 8, n % 11, n % 8 + 9, n % 11 + 9))
        picture.save(photos / f"{n}.png")
    done = shell.run("index", "photos", "-v", code=3)
    assert b"calibrate" in done.stderr and b"calibrate" not in shell.run("index", "photos", "-v", code=3).stderr
    state = json.loads(shell.run("status", "--json").stdout)
    assert state["calibrated"] and "keyword (bank)" in state["calibration"]
    assert b"image (images)" in shell.run("status").stdout
    found = {}
    for query in ("red square", "a blue and yellow square", "qwertz"):
        done = subprocess.run(
            [*CLIPSEARCH, "search", query, "--json"], cwd=shell.folder, env=shell.environment, capture_output=True
        )
        *hits, whole = map(json.loads, done.stdout.splitlines())
        found[query] = whole["verdict"]
        assert whole["levels"] == {"match": 0.05, "none": 0.1} and 0 < whole["p_value"] <= 1
        assert done.returncode == (whole["verdict"] == "none") and bool(hits) == (whole["verdict"] != "none")
        shown = shell.run("search", query, "--json", "--all", code=done.returncode).stdout.splitlines()
        assert len(shown) == 11
    assert "uncalibrated" not in found.values() and found["qwertz"] != "match"


def test_a_reader_that_goes_away_ends_the_command_quietly(shell):
    reading, writing = os.pipe()
    os.close(reading)  # gone before the first byte, as `| true` is
    process = shell.start("search", "red", "--json", stdout=writing, stderr=subprocess.PIPE)
    os.close(writing)
    _, said = process.communicate(timeout=60)
    assert said == b"" and process.returncode == 141


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full")
def test_a_full_disk_below_the_output_is_said_in_one_line(shell):
    with open("/dev/full", "wb") as full:
        process = shell.start("search", "red", stdout=full.fileno(), stderr=subprocess.PIPE)
        _, said = process.communicate(timeout=60)
    assert process.returncode == 2 and said == b"error: The results cannot be written: No space left on device.\n"


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_ends_with_130_and_the_next_run_goes_on(shell, photos, how):
    for n in range(400):
        Image.new("RGB", (700, 500), (n % 256, 90 + n // 256, 30)).save(photos / f"{n}.png", compress_level=1)
    arguments = ("index", "photos", "--jobs", "1", "--batch-size", "4", "--commit-every", "4")
    process = shell.start(*arguments, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL)
    shards = shell.folder / "indexes" / "photos" / "embeddings"
    while process.poll() is None and len(list(shards.glob("images-*.parquet"))) < 3:
        time.sleep(0.01)
    process.send_signal(how)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert said.decode().splitlines()[-1].startswith("interrupted: what is finished is saved")
    rest = shell.run("index", "photos", code=3).stderr.decode()
    assert "406 images" in rest and " 6 unchanged" not in rest  # what was saved is not embedded again


def test_what_a_killed_first_run_left_is_taken_up(shell):
    (shell.folder / "indexes" / "late" / "manifests").mkdir(parents=True)
    (shell.folder / "indexes" / "late" / ".lock").touch()
    shell.run("search", "red", "-i", "late", code=10)
    shell.run("index", "photos/red.png", "-i", "late", "--model", "hashing")
    assert shell.run("search", "red", "-i", "late").stdout.count(b"\n") == 1


def test_two_first_runs_at_once_leave_one_whole_collection(shell, photos):
    arguments = ("index", "photos", "-i", "both", "--model", "hashing", "--wait")
    runs = [shell.start(*arguments, stderr=subprocess.PIPE) for _ in range(2)]
    said = [run.communicate(timeout=60)[1] for run in runs]
    assert [run.returncode for run in runs] == [3, 3], said
    assert b"6 images" in shell.run("index", "photos", "-i", "both", code=3).stderr
