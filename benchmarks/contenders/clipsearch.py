"""clipsearch as a program uses it: a collection with its rows committed, ``update_index``, ``open_index``, ``search``.

Parameters: ``recipe``, the name of a ready one or a table of its fields. Settings: ``nprobe`` and ``refine_factor``, or
none: then what the collection chose by its own measurement, for the kind of query, is used. Its measurement needs text
queries, which the collection gets as captions: ones that are not among the measured.
"""

import hashlib
import multiprocessing
import os
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from benchmarks.contenders.base import Contender, Source

STORE = "collection"
COMMIT = 50_000
# Methods of faiss's classes that do work: every call of one is a call of faiss, whoever makes it and on what object.
CALLS = (
    "apply", "apply_py", "assign", "compute_distance_subset", "reconstruct", "reconstruct_batch", "reconstruct_n",
    "search", "search_and_reconstruct", "search_and_return_codes", "search_preassigned",
)  # fmt: skip


class Clipsearch(Contender):
    """The product; runs in the environment that the harness runs in."""

    environment = None
    packages = ("numpy", "faiss-cpu", "pyarrow")

    def load(self) -> None:
        """Import what ``clipsearch search`` imports for the index."""
        import faiss

        from clipsearch.flows import index_files

        faiss.omp_set_num_threads(self.threads)
        self.files, self.faiss = index_files, faiss

    def build(self, source: Source, folder: str, params: Mapping[str, Any]) -> dict[str, Any]:
        from clipsearch.flows.build import update_index
        from clipsearch.store import Store

        made = os.path.join(source.shared, STORE)
        if not os.path.exists(os.path.join(made, "done")):  # in a process of its own: its memory is not the index's
            process = multiprocessing.get_context("spawn").Process(target=_make_collection, args=(source, made))
            process.start()
            process.join()
            if process.exitcode != 0:
                raise RuntimeError("the collection could not be made; see above")
        path = os.path.join(folder, STORE)
        _copy_linked(made, path)
        before, start = time.process_time(), time.perf_counter()
        report = update_index(Store.open(path), _no_encoder, recipe=_recipe(params["recipe"]))
        seconds, cpu = time.perf_counter() - start, time.process_time() - before
        with open(os.path.join(made, "done"), encoding="ascii") as file:
            ingest = float(file.read())
        return {
            "seconds": seconds,
            "cpu_seconds": cpu,
            "line": report.line,
            "stages": report.stages,
            "ingest_s": ingest,
        }

    def open(self, folder: str, params: Mapping[str, Any]) -> None:
        from clipsearch.store import Store

        snapshot = Store.open(os.path.join(folder, STORE)).snapshot()
        index, notes = self.files.open_index(snapshot)
        if index is None:
            raise RuntimeError(f"clipsearch would compare every row: {notes}")
        self.index = index
        self.first = 0  # ids are positions: the rows were committed first, in their order

    def tune(self, settings: Mapping[str, Any], kind: str) -> None:
        from clipsearch.index.base import Effort

        kind = "image" if kind == "image" else "text"
        self.effort = Effort(**settings) if settings else self.index.effort(None, kind)

    def chosen(self) -> dict[str, Any]:
        """Return the settings in force."""
        return {"nprobe": self.effort.nprobe, "refine_factor": self.effort.refine_factor, "exact": self.effort.exact}

    def search(self, xq: np.ndarray, k: int) -> Any:
        return self.index.search(xq, k, effort=self.effort).ids

    def trace(self) -> None:
        """Count the seconds spent inside calls of faiss from now on; call it before ``open``."""
        self._inside = [0.0]
        count_calls(self.faiss, self._inside)
        self.inside_seconds: Callable[[], float] = lambda: self._inside[0]

    def hot_bytes(self, folder: str) -> int:
        return self._index_bytes(folder) - self.rows_bytes(folder)

    def rows_bytes(self, folder: str) -> int:
        index = os.path.join(folder, STORE, "index")
        return sum(os.path.getsize(os.path.join(index, name)) for name in os.listdir(index) if name.endswith(".f16"))

    def _index_bytes(self, folder: str) -> int:
        index = os.path.join(folder, STORE, "index")
        return sum(os.path.getsize(os.path.join(index, name)) for name in os.listdir(index))


def count_calls(library: Any, total: list[float]) -> None:
    """Let every class of faiss add the seconds of its calls to ``total[0]``; a call within a call counts once.

    Classes are changed, not objects: so no matter which objects the package holds, how deep, or makes later.
    """
    depth = [0]
    for cls in {value for value in vars(library).values() if isinstance(value, type)}:
        for name in CALLS:
            if name in vars(cls) and callable(vars(cls)[name]):
                setattr(cls, name, _counted(vars(cls)[name], total, depth))


def _counted(call: Callable[..., Any], total: list[float], depth: list[int]) -> Callable[..., Any]:
    def counted(*args: Any, **kwargs: Any) -> Any:
        if depth[0]:
            return call(*args, **kwargs)
        depth[0] = 1
        start = time.perf_counter()
        try:
            return call(*args, **kwargs)
        finally:
            total[0] += time.perf_counter() - start
            depth[0] = 0

    return counted


def _recipe(value: Any) -> Any:
    if isinstance(value, str):
        return value
    from clipsearch.index.recipe import from_mapping

    return from_mapping(value)


def _no_encoder() -> Any:
    raise RuntimeError("the collection has captions to measure with; no encoder should be asked for")


def _make_collection(source: Source, path: str) -> None:
    """Commit all rows, in their order, then the tuning queries as captions."""
    import shutil

    from clipsearch.store import Store, TextRow

    shutil.rmtree(path, ignore_errors=True)
    rows = source.rows()
    start = time.perf_counter()
    store = Store.create(path, {"name": "benchmark", "fingerprint": "benchmark"}, rows.shape[1])
    with store.writer() as writer:
        for block in _images(writer, rows):
            writer.commit(images=block)
        seconds = time.perf_counter() - start
        if source.tuning is not None:
            queries = np.load(source.tuning)
            ids = writer.new_ids(len(queries))
            writer.commit(texts=[TextRow(i, None, f"caption {i}", b"", q) for i, q in zip(ids, queries, strict=True)])
    with open(os.path.join(path, "done"), "w", encoding="ascii") as file:
        file.write(f"{seconds:.2f}")


def _images(writer: Any, rows: Any) -> Iterator[list[Any]]:
    from clipsearch.store import ImageRow

    root = writer.root_id(b"/photos")
    for start in range(0, len(rows), COMMIT):
        block = np.asarray(rows[start : start + COMMIT])
        ids = writer.new_ids(len(block))
        if ids[0] != start:
            raise RuntimeError(f"the store gave the id {ids[0]} to row {start}")
        yield [
            ImageRow(
                id=id_,
                root=root,
                path=f"{id_:09d}.jpg".encode(),
                member=None,
                size=1,
                mtime_ns=0,
                ctime_ns=0,
                content_hash=hashlib.sha256(str(id_).encode()).digest(),
                width=1,
                height=1,
                format="jpeg",
                taken=None,
                camera=None,
                lens=None,
                latitude=None,
                longitude=None,
                embedding=row,
            )
            for id_, row in zip(ids, block, strict=True)
        ]


def _copy_linked(source: str, target: str) -> None:
    """Copy a collection by hard links: its files are never written again, only replaced."""
    for where, _, names in os.walk(source):
        into = os.path.join(target, os.path.relpath(where, source))
        os.makedirs(into, exist_ok=True)
        for name in names:
            if name != "done":
                os.link(os.path.join(where, name), os.path.join(into, name))
