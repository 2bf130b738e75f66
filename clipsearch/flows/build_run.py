"""What the steps of a build share: the collection, who listens, the clock, the lock, and how files are put in place."""

import os
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache

import numpy as np

from clipsearch.embed.base import Encoder
from clipsearch.flows.build_state import kept_files
from clipsearch.flows.index_files import files_in_force, remove_others
from clipsearch.flows.index_folders import INDEX_FOLDERS
from clipsearch.flows.progress import Progress
from clipsearch.flows.saved_files import SavedFile, stamped, stream_to
from clipsearch.index.ondisk import Write
from clipsearch.store import Snapshot, Store
from clipsearch.store.files import DIR_MODE, WriterLock, replace_file, sha256, storage_errors

Tell = Callable[[Progress], None]
Say = Callable[[str], None]


@dataclass
class Run:
    """One run of ``update_index``.

    Attributes:
        store: the collection.
        snapshot: the version that is worked on.
        encoder: gives the encoder, where there are no captions to measure with.
        tell: hears how far it is.
        say: hears what was decided, in one line.
        jobs: processes that add rows.
        kind: of the rows, "images" or "texts".
        wait: for another builder, instead of raising LockedError.
        start: when it began, by the monotonic clock.
        stages: seconds by stage.
        version: makes the names of this run's files unique.
    """

    store: Store
    snapshot: Snapshot
    encoder: Callable[[], Encoder]
    tell: Tell
    say: Say
    jobs: int = 1
    kind: str = "images"
    wait: bool = False
    start: float = field(default_factory=time.monotonic)
    stages: dict[str, float] = field(default_factory=dict)
    version: str = field(default_factory=lambda: secrets.token_hex(4))

    @property
    def folder(self) -> str:
        """Where the index lies."""
        return os.path.join(self.store.path, INDEX_FOLDERS[self.kind])

    @property
    def rows(self) -> int:
        """Live rows that there are to index."""
        return self.snapshot.count(self.kind)

    def stem(self, name: str) -> str:
        """Return a file name never used before."""
        return f"{name}-{self.snapshot.version:06d}-{self.version}"

    def renew(self) -> None:
        """Make names that follow differ from those before."""
        self.version = secrets.token_hex(4)

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Count the time of a block as a stage's."""
        start = time.monotonic()
        try:
            yield
        finally:
            self.stages[stage] = round(self.stages.get(stage, 0.0) + time.monotonic() - start, 3)

    def step(self, stage: str) -> Callable[[int, int], None]:
        """Return what hears (done, total) of a stage."""
        return lambda done, total: self.tell(Progress(stage, done, total))

    def write(self, name: str, data: bytes | memoryview) -> SavedFile:
        """Put a small file in place."""
        replace_file(os.path.join(self.folder, name), data)  # pyright: ignore[reportArgumentType]
        return stamped(self.folder, name, len(data), sha256(data))  # pyright: ignore[reportArgumentType]

    def stream(self, name: str, writing: Callable[[Write], object]) -> SavedFile:
        """Put a large file in place, whose bytes come piece by piece."""
        return stream_to(self.folder, name, writing)


@contextmanager
def locked(run: Run) -> Iterator[None]:
    """Be the only builder; indexing and searching go on meanwhile. What a killed build left, and is of no use, goes."""
    with storage_errors(run.store.path):
        os.makedirs(run.folder, DIR_MODE, exist_ok=True)
        lock = WriterLock(run.folder)
        lock.acquire(run.wait)
    try:
        with storage_errors(run.store.path):
            remove_others(run.folder, {*files_in_force(run.store.path, run.kind), *kept_files(run.folder)})
            yield
    finally:
        lock.release()


def available_memory() -> int:
    """Return the bytes of memory that are free, or 4 GB where the system does not say; a container's limit counts."""
    free = [4 * 10**9]
    for file, entry in (("/proc/meminfo", "MemAvailable:"),):
        try:
            with open(file, encoding="ascii") as lines:
                free = [int(line.split()[1]) * 1024 for line in lines if line.startswith(entry)] or free
        except OSError:
            continue
    limit, used = _number("/sys/fs/cgroup/memory.max"), _number("/sys/fs/cgroup/memory.current")
    return min(free[0], max(limit - used, 0)) if limit is not None and used is not None else free[0]


def _number(path: str) -> int | None:
    try:
        with open(path, encoding="ascii") as file:
            return int(file.read())
    except (OSError, ValueError):  # "max": no limit
        return None


@cache
def measured_flops() -> float:
    """Return the floating point operations a second of a matrix product here: a tenth of a second's look, once."""
    x = np.ones((1024, 512), np.float32)
    np.dot(x, x.T)  # wakes the threads
    best = 0.0
    for _ in range(5):
        start = time.perf_counter()
        np.dot(x, x.T)
        best = max(best, 2.0 * 1024 * 1024 * 512 / max(time.perf_counter() - start, 1e-9))
    return 0.8 * best


def now() -> str:
    """Return the time, ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="seconds")
