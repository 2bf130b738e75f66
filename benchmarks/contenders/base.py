"""What a contender is: a library, used as its makers show it, behind five verbs.

A contender runs in a process of its own, in an environment of its own (``worker.py``), and may import numpy, its
library and this module, nothing else. Its module imports the library inside the functions only, so that the harness
can read ``environment`` and ``packages`` without having it.

    build   rows on the disk → files in a folder; what the library keeps in memory must be in them
    load    import the library
    open    a fresh process opens those files
    tune    set the parameters of the searches that follow
    search  (Q, D) float32 → ids (Q, k), best first, -1 where there is none

Rows are numbered by their position; the score is the inner product of unit vectors. What is timed is ``search`` with
ids as a numpy array or a list at its end, by the worker, inside the contender's process.
"""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

BLOCK = 50_000


@dataclass(frozen=True)
class Source:
    """What an index is built from.

    Attributes:
        path: of a numpy file (N, D), float16 or float32, rows of unit norm.
        tuning: of a numpy file of queries (Q, D) float32 that are not the measured ones, or None.
        shared: a folder for what several builds of one contender on this data have in common.
    """

    path: str
    tuning: str | None
    shared: str

    def rows(self) -> NDArray[Any]:
        """Return the rows (N, D), memory-mapped."""
        return np.load(self.path, mmap_mode="r")

    def blocks(self, size: int = BLOCK) -> Iterator[tuple[int, NDArray[np.float32]]]:
        """Yield (number of the first row, rows (B, D) float32)."""
        rows = self.rows()
        for start in range(0, len(rows), size):
            yield start, np.asarray(rows[start : start + size], np.float32)

    def matrix(self) -> NDArray[np.float32]:
        """Return all rows (N, D) as float32 in memory."""
        rows = self.rows()
        out = np.empty(rows.shape, np.float32)
        for start in range(0, len(rows), BLOCK):
            out[start : start + BLOCK] = rows[start : start + BLOCK]
        return out


class Contender:
    """Base of all contenders; see the module's docstring."""

    environment: ClassVar[str | None] = None  # requirements/<environment>.txt; None is the one that runs the harness
    packages: ClassVar[tuple[str, ...]] = ("numpy",)  # whose versions are recorded
    exact: ClassVar[bool] = False  # compares every row: its answer costs the same for every kind of query

    def __init__(self, threads: int) -> None:
        """Use that many threads; the process is also bound to that many cores."""
        self.threads = threads

    def build(self, source: Source, folder: str, params: Mapping[str, Any]) -> dict[str, Any]:
        """Make the files; return what is worth a note in the record."""
        raise NotImplementedError

    def load(self) -> None:
        """Import the library."""

    def open(self, folder: str, params: Mapping[str, Any]) -> None:
        """Open the files that ``build`` made with the same parameters."""
        raise NotImplementedError

    def tune(self, settings: Mapping[str, Any], kind: str) -> None:
        """Use these settings for queries of a kind ("text", "image", ...)."""

    def search(self, xq: NDArray[np.float32], k: int) -> Any:
        """Return ids (Q, k) of the best rows."""
        raise NotImplementedError

    def hot_bytes(self, folder: str) -> int:
        """Return the bytes that every search works with, in memory or mapped: lists, codes, graph, scanned rows."""
        return folder_bytes(folder) - self.rows_bytes(folder)

    def rows_bytes(self, folder: str) -> int:
        """Return the bytes of exact rows that only candidates are looked up in, for re-ranking."""
        return 0


def cpu_seconds_of(pid: int) -> float:
    """Return the CPU seconds of a running process, and of those of its children that have ended."""
    with open(f"/proc/{pid}/stat", encoding="ascii") as file:
        fields = file.read().rsplit(")", 1)[1].split()
    return sum(int(ticks) for ticks in fields[11:15]) / os.sysconf("SC_CLK_TCK")


def folder_bytes(folder: str) -> int:
    """Return the bytes of all files below a folder, without the harness's own record."""
    return sum(
        os.path.getsize(os.path.join(where, name))
        for where, _, names in os.walk(folder)
        for name in names
        if name != "build.json"
    )
