"""Fill parts of an index, in this process or in several.

A worker process reads one task from stdin, fills the part, and writes
what became of it to stdout. Its stdin stays open as long as its parent lives; at the end of it the worker ends too, so
that a build that is killed leaves nobody at work behind it.
"""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from typing import Any

from clipsearch.errors import ClipsearchError
from clipsearch.flows.saved_files import SavedFile, saved_file, stream_to
from clipsearch.flows.streaming import joined, live_range
from clipsearch.index.filling import PartFiller
from clipsearch.index.recipe import Recipe, from_mapping
from clipsearch.store import Manifest, Snapshot
from clipsearch.store.manifest import from_bytes, to_bytes

Told = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class PartTask:
    """A part to be filled.

    Attributes:
        path: the collection.
        manifest: the version, as ``Snapshot`` takes it.
        kind: of the rows, "images" or "texts".
        recipe: of the index.
        trained: file of the trained, empty index.
        name: the file to write, in the folder of ``trained``.
        number: of the part.
        start: the first of the live rows to put in.
        n: how many.
    """

    path: str
    manifest: Manifest
    kind: str
    recipe: Recipe
    trained: str
    name: str
    number: int
    start: int
    n: int


class PartError(ClipsearchError):
    """A worker ended without a part."""


def run_parts(tasks: Sequence[PartTask], jobs: int, told: Told) -> Generator[tuple[int, SavedFile], None, None]:
    """Fill parts and yield the number and the file of each as it is finished.

    Args:
        tasks: the parts.
        jobs: processes; 1 works in this one.
        told: hears how many rows this process has put in; of other processes it hears nothing.

    Raises:
        PartError: a worker was killed.
    """
    if jobs > 1 and len(tasks) > 1:
        yield from _in_processes(tasks, jobs)
        return
    before = 0
    for task in tasks:
        start = before
        yield task.number, fill(task, lambda done, start=start: told(start + done))
        before += task.n


def fill(task: PartTask, told: Told | None = None) -> SavedFile:
    """Fill one part and put its file in place."""
    filler, done = PartFiller(task.recipe, task.trained), 0
    for block in joined(live_range(Snapshot(task.path, task.manifest), task.start, task.n, task.kind)):
        filler.add(task.start + done, block.embeddings)
        done += len(block.ids)
        if told is not None:
            told(done)
    folder = os.path.dirname(task.trained)
    return stream_to(folder, task.name, filler.write)


def _in_processes(tasks: Sequence[PartTask], jobs: int) -> Generator[tuple[int, SavedFile], None, None]:
    running: set[subprocess.Popen[bytes]] = set()
    stopped = threading.Event()

    def one(task: PartTask) -> SavedFile:
        if stopped.is_set():
            raise PartError("stopped")
        process = _started(max((os.cpu_count() or 1) // jobs, 1))
        running.add(process)
        try:
            if stopped.is_set():  # between the two lines above
                process.kill()
            return _answer(process, task)
        finally:
            running.discard(process)

    with ThreadPoolExecutor(min(jobs, len(tasks))) as threads:
        futures = {threads.submit(one, task): task.number for task in tasks}
        try:
            for future in as_completed(futures):
                yield futures[future], future.result()
        finally:  # also where this generator is closed: nobody goes on working for nothing
            stopped.set()
            threads.shutdown(wait=False, cancel_futures=True)
            for process in list(running):
                process.kill()


def _started(threads: int) -> "subprocess.Popen[bytes]":
    boot = (
        "import sys, json; sys.path[:] = json.loads(sys.argv[1]); from clipsearch.flows.part_worker import main; main()"
    )
    return subprocess.Popen(
        [sys.executable, "-I", "-c", boot, json.dumps(sys.path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "OMP_NUM_THREADS": str(threads), "OPENBLAS_NUM_THREADS": str(threads)},
        start_new_session=True,  # Ctrl-C is for the parent, which ends its workers
    )


def _answer(process: "subprocess.Popen[bytes]", task: PartTask) -> SavedFile:
    assert process.stdin is not None and process.stdout is not None
    with process, process.stdin, process.stdout:
        try:
            process.stdin.write(_to_line(task))
            process.stdin.flush()
            answer = json.loads(process.stdout.readline())
        except (OSError, ValueError) as problem:
            process.kill()
            raise PartError(
                f"A process that filled part {task.number} of the index was killed, perhaps for memory.\n"
                "What is finished is kept: run the command again, with fewer --jobs."
            ) from problem
    return _understood(answer)


def _understood(answer: dict[str, Any]) -> SavedFile:  # Any: JSON
    if "errno" in answer:
        raise OSError(answer["errno"], answer["why"])
    if "why" in answer:
        raise PartError(answer["why"])
    return saved_file(answer)


def _to_line(task: PartTask) -> bytes:
    plain = {name: getattr(task, name) for name in ("path", "kind", "trained", "name", "number", "start", "n")}
    manifest = to_bytes(task.manifest).decode()
    return json.dumps({**plain, "recipe": asdict(task.recipe), "manifest": manifest}).encode() + b"\n"


def _from_line(line: bytes) -> PartTask:
    document = json.loads(line)
    manifest = from_bytes(document.pop("manifest").encode(), document["path"])
    return PartTask(**{**document, "recipe": from_mapping(document["recipe"]), "manifest": manifest})


def main() -> None:
    """Do one task: the body of a worker process."""
    task = _from_line(sys.stdin.buffer.readline())
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        answer = asdict(fill(task))
    except ClipsearchError as problem:
        answer = {"why": str(problem)}
    except OSError as problem:
        answer = {"errno": problem.errno, "why": problem.strerror or str(problem)}
    sys.stdout.buffer.write(json.dumps(answer).encode() + b"\n")
    sys.stdout.flush()


def _end_with_parent() -> None:
    sys.stdin.buffer.read()
    os._exit(1)
