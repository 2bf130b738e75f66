"""Filters at a million rows: what evaluating one costs, what a filtered search finds and how long it takes.

    python benchmarks/stages/filters.py FOLDER [--part all|make|cold|evaluate|rows|search] [--rows 1000000] [--dim 512]
                                        [--vectors base.npy] [--queries q.npz] [--commit 1000]
                                        [--out benchmarks/results/filters.jsonl]

FOLDER keeps the collection between runs: a million rows as a person's folders would give them (ten years, 30 cameras,
2,000 folders), committed a thousand at a time as ``clipsearch index`` does. Embeddings are the rows of ``--vectors``
((n, D) float16, as .npy) or else ``datasets.Synthetic``; queries likewise (``text`` and ``image`` of an .npz).

- *cold*: new processes; the collection is open, DuckDB and Arrow are imported, nothing was evaluated. By parts.
- *evaluate*: one process, filter after filter: the first time, again after something else (repeated).
- *rows*: ten result rows fetched, in a new process and later.
- *search*: for selectivities from 0.001 to 100 %, recall@10 against exact filtered search, and the time beside the
  unfiltered search at the same settings, asked in turn. ``size`` is a permutation of the rows' numbers, so
  ``size < n`` is an exact selectivity, unrelated to what a row shows; ``path`` and ``camera`` are related to nothing
  either, so these are the hard kind: the allowed rows are spread over all lists.
"""

import argparse
import hashlib
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent))
from datasets import Synthetic
from results import append, machine

SELECTIVITIES = (0.00001, 0.0001, 0.001, 0.01, 0.1, 0.5, 1.0)
CAMERAS = [
    f"{maker} {model}{number}"
    for maker, model in (
        ("Canon", "EOS R"),
        ("NIKON", "Z "),
        ("SONY", "ILCE-"),
        ("Apple", "iPhone "),
        ("Google", "Pixel "),
    )
    for number in range(5, 11)
]
WIDTHS = (6000, 5184, 4032, 4000, 3024, 1920, 1600, 1024)
EXPRESSIONS = (
    "taken >= '2020-01-01'",
    "taken >= '2023-06-01' AND taken < '2023-07-01'",
    "camera LIKE 'Canon%'",
    "camera = 'NIKON Z 7'",
    "width > 2000",
    "path LIKE '2019/%'",
    "folder LIKE '2021/%' AND width > height",
    "taken >= '2024-01-01' AND camera LIKE 'Canon%' AND width > 2000",
    "latitude BETWEEN 45 AND 48 AND longitude BETWEEN 6 AND 10",
    "name ILIKE '%.heic' OR format = 'png'",
)
SLOWER = ("lower(camera) = 'canon eos r5'", "year(taken) = 2023 AND month(taken) = 12", "NOT path LIKE '%trip%1/%'")
CAPTIONS = 300  # text queries that are stored, for the index to be tuned with; the others are asked
Ids = np.ndarray[Any, np.dtype[np.int64]]


class Rows:
    """The metadata of ``n`` pictures, from their numbers and a seed alone."""

    def __init__(self, n: int) -> None:
        rng = np.random.default_rng(7)
        self.size = rng.permutation(n)
        self.folder = np.sort(rng.integers(0, 2000, n))  # folders lie one after the other, as they are scanned
        self.second = rng.integers(0, 18 * 86400, n)
        self.camera = rng.choice(30, n, p=np.sort(rng.dirichlet(np.ones(30)))[::-1])
        self.width = rng.integers(0, len(WIDTHS), n)
        self.place = rng.random((n, 2))

    def row(self, number: int, id_: int, root: int, embedding: Any) -> Any:
        """Return a row for the writer."""
        from clipsearch.store import ImageRow

        folder, width = int(self.folder[number]), WIDTHS[self.width[number]]
        format_ = ("jpeg", "jpeg", "heif", "png")[number % 7 % 4]
        taken = datetime(2015, 1, 1) + timedelta(days=folder * 1.82, seconds=int(self.second[number]))
        has_place = number % 3 == 0
        return ImageRow(
            id=id_,
            root=root,
            path=f"{taken.year}/trip {folder:04d}/IMG_{number:07d}.{format_.replace('heif', 'heic')}".encode(),
            member=None,
            size=int(self.size[number]),
            mtime_ns=1_600_000_000_000_000_000 + number,
            ctime_ns=1_600_000_000_000_000_000 + number,
            content_hash=hashlib.sha256(number.to_bytes(8, "little")).digest(),
            width=width,
            height=3024,
            format=format_,
            taken=taken if number % 20 else None,
            camera=CAMERAS[self.camera[number]] if number % 20 else None,
            lens=f"{CAMERAS[self.camera[number]]} {24 + number % 5} mm" if number % 4 else None,
            latitude=float(self.place[number, 0] * 180 - 90) if has_place else None,
            longitude=float(self.place[number, 1] * 360 - 180) if has_place else None,
            embedding=embedding,
        )


def make(options: argparse.Namespace) -> None:
    """Make the collection, as ``index`` would leave it."""
    from clipsearch.store import Store, TextRow, update_packs

    if os.path.exists(os.path.join(options.folder, "CURRENT")):
        return
    encoder = {"name": "hashing", "fingerprint": "f" * 64, "card": {"family": "hashing"}, "pixel_policy": 1}
    store = Store.create(options.folder, encoder, options.dim)
    rows, start = Rows(options.rows), time.perf_counter()
    with store.writer() as writer:
        root, number, waiting = writer.root_id(b"/photos"), 0, []
        for block in vectors(options):
            ids = writer.new_ids(len(block))
            for id_, embedding in zip(ids, block, strict=True):
                waiting.append(rows.row(number, id_, root, embedding))
                number += 1
            while len(waiting) >= options.commit or (waiting and number == options.rows):
                writer.commit(images=waiting[: options.commit])
                del waiting[: options.commit]
        texts = queries(options)["text"][-CAPTIONS:]
        ids = writer.new_ids(len(texts))
        writer.commit(texts=[TextRow(id_, None, "a caption", b"", x) for id_, x in zip(ids, texts, strict=True)])
    made = time.perf_counter()
    packed = update_packs(store.snapshot())
    print(f"made {number:,} rows in {made - start:.0f} s; packed {packed} shards in {time.perf_counter() - made:.1f} s")


def vectors(options: argparse.Namespace) -> Iterator[Any]:
    """Yield embeddings, a few thousand at a time."""
    if options.vectors:
        rows = np.load(options.vectors, mmap_mode="r")
        for start in range(0, options.rows, 8192):
            yield np.asarray(rows[start : min(start + 8192, options.rows), : options.dim])
    else:
        for _, block in Synthetic(options.rows, options.dim).blocks():
            yield block


def queries(options: argparse.Namespace) -> dict[str, Any]:
    """Return queries (Q, D) float32 by kind."""
    if options.queries:
        given = np.load(options.queries)
        return {kind: np.ascontiguousarray(given[kind][:, : options.dim], np.float32) for kind in ("text", "image")}
    data = Synthetic(options.rows, options.dim)
    return {"text": data.text_queries(1000), "image": data.image_queries(1000)}


def clock(function: Callable[..., Any], *given: Any, **named: Any) -> tuple[float, Any]:
    """Return the milliseconds of a call, and what it returns."""
    start = time.perf_counter()
    result = function(*given, **named)
    return (time.perf_counter() - start) * 1e3, result


# One process each.

COLD = """
import json, sys, time
sys.path[:0] = json.loads(sys.argv[3])
clock = time.perf_counter
marks = [("start", clock())]
def mark(name): marks.append((name, clock()))
import numpy; mark("import numpy")
from clipsearch.flows.view import View
from clipsearch.store import Store; mark("import clipsearch")
view = View(Store.open(sys.argv[1]).snapshot()); mark("open collection")
if sys.argv[4] == "apart":
    import pyarrow, pyarrow.compute; mark("import pyarrow")
    import duckdb; mark("import duckdb")
    import clipsearch.filter.mask, clipsearch.store.metadata; mark("import the rooms")
import threading
lock = threading.RLock()
if sys.argv[4] == "apart":
    from clipsearch.filter.connection import Engine
    view._engine = Engine(); view._engine._ready(); mark("start DuckDB")
    view.snapshot.stored_table(); mark("map columns")
busy = time.process_time()
ids = view.allowed(sys.argv[2], "images", lock); mark("evaluate")
busy = time.process_time() - busy
assert not ids.flags.writeable
view.allowed(sys.argv[2], "images", lock); mark("repeated")
names, times = zip(*marks)
found = {n: round((b - a) * 1e3, 3) for n, a, b in zip(names[1:], times, times[1:])}
print(json.dumps({**found, "evaluate, CPU": round(busy * 1e3, 2), "ids": len(ids)}))
"""


def cold(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Evaluate each expression as the first of its process: by parts, and as one whole."""
    for how in ("apart", "whole"):
        for text in EXPRESSIONS:
            found = []
            for _ in range(options.runs):
                command = [sys.executable, "-c", COLD, options.folder, text, json.dumps(sys.path), how]
                found.append(json.loads(subprocess.run(command, check=True, capture_output=True).stdout))
            parts = {name: round(statistics.median(one[name] for one in found), 2) for name in found[0]}
            yield {"part": f"cold, {how}", "filter": text, "ms": parts, "runs": options.runs}


def evaluate(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Evaluate filter after filter in one process."""
    from threading import RLock

    from clipsearch.flows.view import View
    from clipsearch.store import Store

    snapshot, lock = Store.open(options.folder).snapshot(), RLock()
    View(snapshot).allowed("id >= 0", "images", lock)
    views = [View(snapshot) for _ in range(options.runs)]
    for view in views:
        view.allowed("id < 0", "images", lock)
    for text in (*EXPRESSIONS, *SLOWER):
        first, again, other = [], [], []
        for view in views:
            ms, ids = clock(view.allowed, text, "images", lock)
            first.append(ms)
            again.append(clock(view.allowed, text, "images", lock)[0])
            other.append(clock(view.allowed, f"({text})", "images", lock)[0])
        yield {
            "part": "evaluate",
            "filter": text,
            "ids": len(ids),
            "first_ms": round(statistics.median(first), 2),
            "repeated_ms": round(statistics.median(again), 4),
            "repeated_in_other_words_ms": round(statistics.median(other), 2),
        }


ROWS = """
import json, sys, time
sys.path[:0] = json.loads(sys.argv[2])
import numpy as np
from clipsearch.store import Store
snapshot = Store.open(sys.argv[1]).snapshot()
rng, times = np.random.default_rng(int(sys.argv[3])), []
for _ in range(20):
    ids = rng.integers(0, snapshot.count("images"), 10)
    start = time.perf_counter()
    rows = snapshot.rows("images", ids)
    times.append((time.perf_counter() - start) * 1e3)
    assert [row["id"] for row in rows] == ids.tolist()
assert not {"pyarrow", "duckdb"} & set(sys.modules)
print(json.dumps(times))
"""


def rows(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Fetch ten rows from anywhere, for the first time in a process and later."""
    runs = []
    for seed in range(options.runs):
        command = [sys.executable, "-c", ROWS, options.folder, json.dumps(sys.path), str(seed)]
        runs.append(json.loads(subprocess.run(command, check=True, capture_output=True).stdout))
    first, later = [run[0] for run in runs], [ms for run in runs for ms in run[10:]]
    yield {
        "part": "ten rows",
        "first_ms": round(statistics.median(first), 2),
        "later_ms": round(statistics.median(later), 2),
    }


def search(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Search within filters of each selectivity, beside the unfiltered search at the same settings."""
    from threading import RLock

    from clipsearch.flows.build import update_index
    from clipsearch.flows.view import View
    from clipsearch.store import Store

    store, lock = Store.open(options.folder), RLock()
    view = View(store.snapshot())
    index = view.index("images", lock)
    if view.built is None or view.notes:  # none, or one that this version cannot use
        print(update_index(store, _no_encoder, recipe=options.recipe, retrain=view.built is not None, say=print).line)
        view = View(store.snapshot())
        index = view.index("images", lock)
    everything = np.concatenate([block.embeddings for block in store.snapshot().blocks()])
    for kind, xq in queries(options).items():
        effort, xq = index.effort(options.recall, kind), xq[: options.queries_n]
        for query in xq[:50]:
            index.search(query[None], 10, effort=effort)
        for share in SELECTIVITIES:
            n = round(share * options.rows)
            ms, ids = clock(view.allowed, f"size < {n}", "images", lock)
            first_ms = clock(index.search, xq[:1], 10, allowed=ids, effort=effort)[0]
            found, times, plain = [], [], []
            for query in xq:  # in turn, so that drift meets both alike
                plain.append(clock(index.search, query[None], 10, effort=effort)[0])
                took, one = clock(index.search, query[None], 10, allowed=ids, effort=effort)
                times.append(took)
                found.append(one)
            recall, fewest = _recall(everything, xq, ids, found)
            yield {
                "part": "search",
                "kind": kind,
                "selectivity": share,
                "rows": len(ids),
                "effort": None if effort is None else [effort.nprobe, effort.refine_factor],
                "recall@10": round(recall, 4),
                "fewest": fewest,
                "p50_ms": round(statistics.median(times), 3),
                "unfiltered_p50_ms": round(statistics.median(plain), 3),
                "ratio": round(statistics.median(times) / statistics.median(plain), 2),
                "first_with_these_ids_ms": round(first_ms, 2),
                "evaluation_ms": round(ms, 2),
            }


def _no_encoder() -> Any:
    raise AssertionError("the captions are enough to tune with")


def _recall(everything: Any, xq: Any, ids: Ids, found: list[Any]) -> tuple[float, int]:
    """Return recall@10 against comparing all allowed rows, ties allowed, and the fewest answers that a query got."""
    wanted = min(10, len(ids))
    best = np.full((len(xq), wanted), -np.inf, np.float32)
    for start in range(0, len(ids), 65536):
        scores = xq @ everything[ids[start : start + 65536]].astype(np.float32).T
        top = np.partition(scores, -min(wanted, scores.shape[1]), axis=1)[:, -wanted:]
        best = np.sort(np.concatenate([best, top], axis=1), axis=1)[:, -wanted:]
    right, fewest = 0, wanted
    for q, one in enumerate(found):
        there = one.ids[0] >= 0
        assert np.isin(one.ids[0][there], ids).all()
        right += min(wanted, int((one.scores[0][there] >= best[q, 0] - 1e-6).sum()))
        fewest = min(fewest, int(there.sum()))
    return right / (wanted * len(xq)), fewest


PARTS = {"cold": cold, "evaluate": evaluate, "rows": rows, "search": search}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder")
    parser.add_argument("--part", choices=["all", "make", *PARTS], default="all")
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--commit", type=int, default=1000)
    parser.add_argument("--vectors")
    parser.add_argument("--queries")
    parser.add_argument("--queries-n", type=int, default=200)
    parser.add_argument("--recipe", default="ivfpq-1m")
    parser.add_argument("--recall", type=float)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--out", default="benchmarks/results/filters.jsonl")
    options = parser.parse_args()
    make(options)
    for name, part in PARTS.items():
        if options.part in (name, "all"):
            for record in part(options):
                print(json.dumps(record), flush=True)
                append(options.out, {"stage": "filters", "n": options.rows, "dim": options.dim, **record, **machine()})


if __name__ == "__main__":
    main()
