"""Two writers, and readers beside a writer."""

import subprocess
import sys
import time

import pytest
from faults.runs import ENVIRONMENT, check, command, leftovers, names, pictures, start

import clipsearch


def started_twice(tmp_path, n: int, files: int) -> None:
    photos = pictures(tmp_path / "photos", files)
    expected = [file.name for file in sorted(photos.iterdir())]
    writers = {0: 0, 11: 0}
    slowest = 0.0
    for number in range(n):
        collection = tmp_path / f"{number}"
        clipsearch.create(collection, model="hashing")
        runs = [start(command(collection, photos, 8)) for _ in range(2)]
        began = time.monotonic()
        ended = {run: 0.0 for run in runs}
        while not all(ended.values()):
            for run in runs:
                if not ended[run] and run.poll() is not None:
                    ended[run] = time.monotonic() - began
            time.sleep(0.005)
        said = [run.communicate() for run in runs]
        codes = sorted(run.returncode for run in runs)
        # One may have begun when the other had finished: then both did their work, one after the other.
        assert codes in ([0, 11], [0, 0]), said
        for run, (_, problem) in zip(runs, said, strict=True):
            writers[run.returncode] += 1
            if run.returncode == 11:
                slowest = max(slowest, ended[run])
                assert "is being written by" in problem
        assert names(collection) == expected and leftovers(collection) == []
        check(collection, set(expected))
    assert writers[11] >= n * 0.8, writers
    print(f"{n} double starts: {writers[11]} refused, the slowest after {slowest:.2f} s")


def test_of_two_runs_at_once_one_writes_and_the_other_is_refused(tmp_path):
    started_twice(tmp_path, 1, 60)


@pytest.mark.slow
def test_of_two_runs_at_once_one_writes_200_times(tmp_path):
    started_twice(tmp_path, 200, 60)


def test_a_run_that_waits_comes_to_the_same_end(tmp_path):
    photos = pictures(tmp_path / "photos", 40)
    clipsearch.create(tmp_path / "c", model="hashing")
    runs = [start(command(tmp_path / "c", photos, 8, "--wait")) for _ in range(2)]
    said = [run.communicate(timeout=120) for run in runs]
    assert [run.returncode for run in runs] == [0, 0], said
    assert names(tmp_path / "c") == [file.name for file in sorted(photos.iterdir())]


SEARCHER = """
import json, sys, time
sys.path.insert(0, sys.argv[1])
import clipsearch
end, answers, last = time.monotonic() + float(sys.argv[3]), 0, 0
with clipsearch.open(sys.argv[2]) as collection:
    while time.monotonic() < end:
        collection.refresh()
        version = collection.version
        assert version >= last, (version, last)
        last = version
        count = collection.status().images
        hits = collection.search("a red square", k=10_000)
        # All live rows come back with so large a k: as many as that version holds, each once, best first.
        assert len(hits) == count, (len(hits), count)
        assert len(set(hits.ids.tolist())) == count
        assert (hits.scores[:-1] >= hits.scores[1:]).all()
        answers += 1
print(json.dumps({"answers": answers, "version": last}))
"""


def indexed_while_searched(tmp_path, seconds: float, searchers: int) -> None:
    """Keep indexing a folder that grows and shrinks, while others search without a pause."""
    import json

    photos = pictures(tmp_path / "photos", 30)
    collection = clipsearch.create(tmp_path / "c", model="hashing")
    collection.index(photos, workers=1)
    line = [sys.executable, "-c", SEARCHER, ENVIRONMENT["PYTHONPATH"], str(tmp_path / "c"), str(seconds)]
    readers = [
        subprocess.Popen(line, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(searchers)
    ]
    end, turn = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        turn += 1
        pictures(photos, 10, first=20 + 10 * turn)
        for number in range(10 * (turn - 1), 10 * turn):
            (photos / f"{number:05}.png").unlink()
        report = collection.index(photos, workers=1, commit_rows=4)
        assert report.images_total == 30
    said = [reader.communicate(timeout=300) for reader in readers]
    assert [reader.returncode for reader in readers] == [0] * searchers, said
    told = [json.loads(out) for out, _ in said]
    assert min(one["answers"] for one in told) >= 3
    print(
        f"{seconds:g} s: {turn} runs, {sum(one['answers'] for one in told)} answers of {searchers} searchers, 0 errors"
    )


def test_every_answer_beside_an_index_run_is_of_one_version(tmp_path):
    indexed_while_searched(tmp_path, 4, 2)


@pytest.mark.slow
def test_every_answer_of_four_searchers_in_60_seconds_is_of_one_version(tmp_path):
    indexed_while_searched(tmp_path, 60, 4)
