"""Index runs in processes of their own, to be stopped anywhere; and what must be true of a collection afterwards."""

import os
import signal
import subprocess
import sys
from pathlib import Path

from PIL import Image

from clipsearch.store import Store, verify_files
from clipsearch.store.files import is_temporary

ROOT = str(Path(__file__).parents[2])
ENVIRONMENT = {**os.environ, "PYTHONPATH": ROOT, "PYTHONUNBUFFERED": "1"}
# Says after each commit which rows are safe now: what a person was told must be there whatever happens next.
RUN = """
import sys
sys.path.insert(0, sys.argv[1])
import clipsearch
from clipsearch.flows import ingest, run
real = run.commit
def commit(state):
    places = [row.path.decode() for row, _ in state.pending]
    real(state)
    for place in places:
        sys.stdout.write(place + "\\n")
    sys.stdout.flush()
run.commit = ingest.commit = commit
try:
    with clipsearch.open(sys.argv[2]) as collection:
        done = collection.index(sys.argv[3], workers=1, batch_size=4, commit_rows=int(sys.argv[4]),
                                wait="--wait" in sys.argv)
except KeyboardInterrupt:
    sys.exit(130)
except clipsearch.ClipsearchError as problem:
    print(problem, file=sys.stderr)
    sys.exit(problem.exit_code)
print("done", done.images_total)
"""


def pictures(folder: Path, n: int, first: int = 0) -> Path:
    """Write n small pictures, each of its own colours."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(first, first + n):
        picture = Image.new("RGB", (16, 16), (number % 256, number // 256 % 256, 90))
        picture.putpixel((number % 16, number // 16 % 16), (255, 255, 255))
        picture.save(folder / f"{number:05}.png")
    return folder


def command(collection: Path, photos: Path, commit_rows: int = 8, *more: str) -> list[str]:
    """Return the command line of a run that reports each row once it is safe."""
    return [sys.executable, "-c", RUN, ROOT, str(collection), str(photos), str(commit_rows), *more]


def start(line: list[str]) -> "subprocess.Popen[str]":
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # who runs tests in the background ignores it
    try:
        return subprocess.Popen(
            line, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
        )
    finally:
        signal.signal(signal.SIGINT, before)


def names(collection: Path) -> list[str]:
    """Return the file names of all live rows, as often as they are there."""
    return sorted(row.path.decode() for row in Store.open(collection).snapshot().known_files())


def check(collection: Path, acknowledged: set[str]) -> None:
    """A collection that was left at any point: it can be read, holds what was acknowledged, and nothing twice."""
    found = names(collection)
    assert len(found) == len(set(found)), "a row is there twice"
    assert acknowledged <= set(found), f"lost: {sorted(acknowledged - set(found))}"
    assert verify_files(Store.open(collection).snapshot()) == []


def leftovers(collection: Path) -> list[str]:
    """Return files that an unfinished write left, and files of the store that no manifest names."""
    manifest = Store.open(collection).snapshot().manifest
    named = {entry.name for entry in manifest.files}
    left = []
    for folder, _, files in os.walk(collection):
        for name in files:
            path = os.path.relpath(os.path.join(folder, name), collection)
            stray = path.split(os.sep)[0] in ("embeddings", "sidecars", "deleted", "skipped") and path not in named
            if is_temporary(name) or stray:
                left.append(path)
    return left


def children_of(process: int) -> list[int]:
    """Return the ids of a process's children."""
    found: list[int] = []
    for task in Path(f"/proc/{process}/task").glob("*/children"):
        found += [int(word) for word in task.read_text().split()]
    return found
