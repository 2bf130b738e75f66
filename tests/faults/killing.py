"""Kill index runs at random moments: ``python killing.py FOLDER RUNS FILES SEED``; prints what it saw as JSON.

One process imports everything once and forks for each run: a run begins at once, and the moment falls into its work.
"""

import json
import os
import random
import signal
import sys
import time
import traceback
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[2])]

from faults.runs import check, leftovers, names, pictures  # noqa: E402

import clipsearch  # noqa: E402
from clipsearch.flows import ingest, run  # noqa: E402
from clipsearch.store import parquet  # noqa: E402, F401 (once, before all the forks)


def index(collection: Path, photos: Path, told: int) -> None:
    """Index, and name each row on a pipe once it is safe."""
    real = run.commit

    def commit(state):
        places = [row.path for row, _ in state.pending]
        real(state)
        os.write(told, b"".join(place + b"\n" for place in places))

    run.commit = ingest.commit = commit
    with clipsearch.open(collection) as opened:
        opened.index(photos, workers=1, batch_size=4, commit_rows=8)


def start(collection: Path, photos: Path) -> tuple[int, int]:
    """Fork a run; returns its process and the pipe it tells on."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.close(reading)
            index(collection, photos, writing)
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    os.close(writing)
    return child, reading


def ended(child: int, seconds: float) -> int | None:
    """Wait so long for a process; returns its status, or None where it runs on."""
    end = time.monotonic() + seconds
    while True:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return status
        if time.monotonic() >= end:
            return None
        time.sleep(0.002)


def main(folder: Path, runs: int, files: int, seed: int) -> None:
    photos, chance = pictures(folder / "photos", files), random.Random(seed)
    seen = {"runs": runs, "files": files, "seed": seed, "kills": 0, "whole": 0, "acknowledged": 0, "left_behind": 0}
    acknowledged: set[str] = set()
    collection, seconds = folder / "0", 1.0
    clipsearch.create(collection, model="hashing")
    for turn in range(runs + 1):
        child, told = start(collection, photos)
        began = time.monotonic()
        status = ended(child, chance.random() * seconds if turn < runs else 300)
        if status is None:
            os.kill(child, signal.SIGKILL)
            _, status = os.waitpid(child, 0)
            seen["kills"] += 1
            seconds *= 1.05  # on a busy machine runs take longer: the moments are to fall on all of a run
        else:
            assert status == 0, f"a run that nobody stopped ended with {status}"
            seconds = max(0.8 * seconds, time.monotonic() - began)
        with open(told, "rb") as pipe:
            acknowledged |= {line.decode().strip() for line in pipe if line.endswith(b"\n")}
        check(collection, acknowledged)
        seen["left_behind"] += bool(leftovers(collection))
        if status == 0:
            assert len(names(collection)) == files
            assert leftovers(collection) == []
            seen["acknowledged"] += len(acknowledged)
            seen["whole"] += 1
            acknowledged = set()
            collection = folder / str(seen["whole"])
            clipsearch.create(collection, model="hashing")
    print(json.dumps(seen))


if __name__ == "__main__":
    main(Path(sys.argv[1]), *map(int, sys.argv[2:5]))
