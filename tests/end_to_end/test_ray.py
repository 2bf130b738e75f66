"""Indexing over a real Ray on this machine: a worker is killed, the run is interrupted, and nothing is amiss."""

import os
import shutil
import signal
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import clipsearch
from clipsearch.store import Store

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_spec("ray") is None, reason="ray is not installed"),
]
PICTURES = 400
# As Collection.index, with no commits by the clock: only then are shards cut at the same places.
INDEX = """
import sys, clipsearch
path, source, engine = sys.argv[1:4]
collection = clipsearch.create(path, "hashing")
how = {"ray_workers": 4, "workers": 1} if engine == "ray" else {"workers": 1}
report = collection.index(source, engine=engine, batch_size=8, commit_rows=16, commit_seconds=3600.0, **how)
print(report.embedded, report.reused, len(report.skips), report.stages, flush=True)
"""


@pytest.fixture(scope="module")
def gallery(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four hundred pictures that take a while to decode, ten of them copies; and twenty files that are broken."""
    folder = tmp_path_factory.mktemp("gallery")
    for i in range(PICTURES):
        (folder / f"d{i % 7}").mkdir(exist_ok=True)
        file = folder / f"d{i % 7}" / f"{i:03}.png"
        if i % 40 == 39:
            shutil.copy(folder / "d0" / "000.png", file)
        else:
            Image.new("RGB", (1600, 1200), (i % 256, i * 3 % 256, 90 + i // 256)).save(file, compress_level=1)
        if i % 20 == 0:
            whole = file.read_bytes()
            file.with_suffix(".jpg").write_bytes((b"\xff\xd8\xff\xe0 no picture", whole[: len(whole) // 2], b"")[i % 3])
    return folder


def environment() -> dict[str, str]:
    root = str(Path(__file__).parent.parent.parent)
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))}


def start(collection: Path, source: Path, engine: str) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        [sys.executable, "-c", INDEX, str(collection), str(source), engine],
        env=environment(),
        cwd=collection.parent,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def workers_of(driver: int) -> list[int]:
    """Return the processes of Ray's workers that embed, below a driver."""
    parents, titles = {}, {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                status = Path("/proc", entry, "stat").read_text()
                titles[int(entry)] = Path("/proc", entry, "cmdline").read_text()
            except OSError:  # it has ended
                continue
            parents[int(entry)] = int(status.rsplit(")", 1)[1].split()[1])

    def is_below(process: int) -> bool:
        while process in parents and process != driver:
            process = parents[process]
        return process == driver

    return [process for process, title in titles.items() if "MapWorker" in title and is_below(process)]


def runs(process: int) -> bool:
    """Tell whether a process runs; a zombie that nobody reaps does not."""
    try:
        return Path("/proc", str(process), "stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def shards(collection: Path) -> int:
    return len(list((collection / "embeddings").glob("images-*.parquet")))


def wait_for_shards(process: "subprocess.Popen[bytes]", collection: Path, count: int) -> None:
    while shards(collection) < count:
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)


def content(collection: Path):
    """Return everything that a run decides: rows and ids in order, embeddings, skips, how shards are cut."""
    snapshot = Store.open(str(collection)).snapshot()
    known = sorted(snapshot.known_files(), key=lambda row: row.id)
    ids = [row.id for row in known]
    cuts = [(entry.kind, entry.rows) for entry in snapshot.manifest.files if entry.kind in ("images", "deleted")]
    rows = snapshot.rows("images", ids)
    return known, rows, snapshot.embeddings("images", ids), snapshot.skipped(), cuts, snapshot.manifest.next_id


def assert_equal(found, expected) -> None:
    for one, other in zip(found, expected, strict=True):
        if isinstance(other, np.ndarray):
            np.testing.assert_array_equal(one, other)
        else:
            assert one == other


def test_four_workers_of_which_one_is_killed_make_the_collection_that_one_process_makes(gallery, tmp_path):
    single = start(tmp_path / "single", gallery, "local")
    said, complaints = single.communicate(timeout=300)
    assert single.returncode == 0, complaints
    expected = content(tmp_path / "single")
    assert len(expected[0]) == PICTURES and len(expected[3]) == 20

    run = start(tmp_path / "ray", gallery, "ray")
    try:
        wait_for_shards(run, tmp_path / "ray", 3)
        before = workers_of(run.pid)
        os.kill(before[0], signal.SIGKILL)
        written = shards(tmp_path / "ray")
        assert run.poll() is None
        answer, complaints = run.communicate(timeout=300)
    finally:
        run.kill()
    assert run.returncode == 0, complaints
    assert len(before) == 4 and written < 25, f"{written} of 25 shards were there when a worker was killed"
    assert answer.split()[:3] == said.split()[:3] == [b"390", b"10", b"20"]
    assert complaints == b"" and answer.count(b"\n") == 1, "Ray keeps quiet"
    assert_equal(content(tmp_path / "ray"), expected)


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_run_that_is_stopped_goes_on_from_what_was_committed(gallery, tmp_path, how):
    options = ("--engine", "ray", "--workers", "2", "--batch-size", "8", "--commit-every", "8")
    command = [sys.executable, "-m", "clipsearch", "index", str(gallery), "-i", "./made", "--model", "hashing"]
    run = subprocess.Popen([*command, *options], env=environment(), cwd=tmp_path, stderr=subprocess.PIPE)
    try:
        wait_for_shards(run, tmp_path / "made", 3)
        workers = workers_of(run.pid)
        run.send_signal(how)
        _, said = run.communicate(timeout=120)
    finally:
        run.kill()
    if how == signal.SIGKILL:
        assert run.returncode == -signal.SIGKILL
    else:
        assert run.returncode == 130, said
        assert said.decode().splitlines()[-1].startswith("interrupted: what is finished is saved")
    held = sum(1 for _ in Store.open(str(tmp_path / "made")).snapshot().known_files())
    assert 16 <= held < PICTURES  # the third shard may have been killed before it was listed
    end = time.monotonic() + 30
    while any(map(runs, workers)) and time.monotonic() < end:
        time.sleep(0.1)
    assert workers and not any(map(runs, workers)), "no worker is left behind"
    with clipsearch.open(tmp_path / "made") as made:
        report = made.index(gallery, workers=2)
    assert report.unchanged == held and report.images_total == PICTURES and len(report.skips) == 20


def test_no_cluster_at_the_address_is_said_in_a_few_lines(gallery, tmp_path):
    options = ("--engine", "ray", "--ray-address", "127.0.0.1:1", "-i", "./made", "--model", "hashing")
    command = [sys.executable, "-m", "clipsearch", "index", str(gallery), *options]
    done = subprocess.run(command, env=environment(), cwd=tmp_path, capture_output=True, timeout=120, check=False)
    assert done.returncode == 1
    lines = done.stderr.decode().splitlines()
    assert lines[0].startswith("error: No Ray cluster answers at 127.0.0.1:1") and len(lines) <= 3
