"""Build an index over millions of rows under a memory budget: what it takes, and what it then finds.

    python benchmarks/stages/build_10m.py FOLDER --rows 10000000 --memory 4GB

Makes a collection of synthetic rows (``datasets.Synthetic``, float16, block by block) in FOLDER unless it is there,
builds the index in a process of its own whose memory is watched from outside, and asks it 1,000 text and 500 image
queries whose exact answers come from one pass over all rows. Writes one JSON line to ``results/build.jsonl``.

Memory is given twice. *Anonymous* is what the process holds and nobody can take back. *Resident* adds the pages of
mapped files that happened to be in memory, which the kernel takes back when it wants them.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

from datasets import Synthetic  # noqa: E402
from results import append, machine  # noqa: E402

import clipsearch  # noqa: E402
from clipsearch.cli.build import read_size  # noqa: E402
from clipsearch.flows.index_files import read_record  # noqa: E402
from clipsearch.flows.pages import trim  # noqa: E402
from clipsearch.flows.streaming import joined, live  # noqa: E402
from clipsearch.index.costs import disk_bytes, peak_bytes  # noqa: E402
from clipsearch.index.exact import exact_samples  # noqa: E402
from clipsearch.index.tuning import K, recall_of  # noqa: E402
from clipsearch.store import NO_HASH, Columns, Store, TextRow  # noqa: E402
from clipsearch.types import Neighbors  # noqa: E402

COMMIT = 100_000
QUERIES = {"text": 1000, "image": 500}
BUILD = """
import json, resource, sys, time
import clipsearch
path, index_type, memory, jobs = sys.argv[1:]
said, start = [], time.perf_counter()
with clipsearch.open(path) as collection:
    report = collection.build_index(
        index_type, memory_bytes=int(memory), jobs=int(jobs), retrain=True, say=said.append,
        progress=lambda p: print(f"\\r{p.stage} {p.done:,}/{p.total or 0:,}    ", end="", file=sys.stderr, flush=True),
    )
used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
print(json.dumps({"cpu_s": sum(one.ru_utime + one.ru_stime for one in used), "said": said, "line": report.line, "stages_s": report.stages, "build_s": report.seconds,
                  "recall_measured": report.recall}))
"""
FIRST = """
import json, sys, time
start = time.perf_counter()
import numpy as np
import clipsearch
with clipsearch.open(sys.argv[1]) as collection:
    result = collection.search(vector=np.load(sys.argv[2])[0], k=10)
print(json.dumps({"open_and_first_query_s": time.perf_counter() - start, "notes": result.notes}))
"""


def make_collection(path: Path, data: Synthetic) -> None:
    """Commit all rows; the captions are text queries, so the build measures itself with such."""
    store = Store.create(str(path), {"name": "synthetic", "fingerprint": f"synthetic-{data.dim}"}, data.dim)
    with store.writer() as writer:
        captions = data.text_queries(2 * QUERIES["text"])[QUERIES["text"] :]
        writer.commit(texts=[TextRow(writer.new_ids(1)[0], None, "a caption", b"", row) for row in captions])
        root = writer.root_id(b"/photos")
        for start in range(0, data.n, COMMIT):
            rows = data.base(start, min(start + COMMIT, data.n)).astype(np.float16)
            writer.commit_columns(images=_columns(np.asarray(writer.new_ids(len(rows))), root, rows))
            print(f"\rmade {start + len(rows):,} rows", end="", file=sys.stderr, flush=True)


def _columns(ids, root, rows):
    same = {"root": root, "size": 1, "mtime_ns": 0, "ctime_ns": 0, "width": 1, "height": 1, "format": "jpeg"}
    return Columns(ids, rows, {"path": [b"%d.jpg" % id_ for id_ in ids]}, {**same, "content_hash": NO_HASH})


def watched(code: str, *args: str) -> dict:
    """Run Python code in a process of its own; return what it prints as JSON, and its peaks of memory in bytes."""
    process = subprocess.Popen(
        [sys.executable, "-c", code, *args], stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    peaks = {"peak_anonymous": 0, "peak_resident": 0}
    while process.poll() is None:
        tree = [memory_of(pid) for pid in family(process.pid)]
        for name, entry in (("peak_anonymous", "RssAnon"), ("peak_resident", "VmRSS")):
            peaks[name] = max(peaks[name], sum(status.get(entry, 0) for status in tree))
        time.sleep(0.02)
    out = process.stdout.read()
    if process.returncode:
        raise SystemExit(f"the build ended with {process.returncode}")
    return {**json.loads(out), **peaks}


def family(pid: int) -> list[int]:
    """Return a process and those that it started."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        threads = [t for t in os.listdir(f"/proc/{pid}/task") if t != str(pid)]
        for thread in threads:
            children += Path(f"/proc/{pid}/task/{thread}/children").read_text().split()
    except OSError:
        children = []
    return [pid, *(int(child) for child in children)]


def memory_of(pid: int) -> dict[str, int]:
    """Return the sizes in a process's status, in bytes."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return {}
    return {k: int(v.split()[0]) * 1024 for k, v in (line.split(":", 1) for line in lines) if v.endswith(" kB")}


def quality(path: Path, data: Synthetic) -> dict:
    """Ask queries that nobody tuned with: recall@10 of both kinds, and how long one takes, asked alone."""
    with clipsearch.open(path) as collection:
        snapshot = collection._store.snapshot()
        queries = {"text": data.text_queries(QUERIES["text"]), "image": data.image_queries(QUERIES["image"])}
        none = {kind: (xq, np.full(len(xq), -1, np.int64)) for kind, xq in queries.items()}
        exact = exact_samples(joined(live(snapshot)), none, data.dim)
        figures = {}
        for kind, xq in queries.items():
            ids, scores, seconds = [], [], []
            for q in xq:
                start = time.perf_counter()
                result = collection.search(vector=q, k=K + 1)
                seconds.append(time.perf_counter() - start)
                ids.append(result.ids)
                scores.append(result.scores)
            trim(str(path))
            within = replace(exact[kind], scores=exact[kind].scores - 1e-6)  # a search normalises its query once more
            recall = recall_of(Neighbors(np.stack(ids), np.stack(scores)), within)
            warm = np.array(seconds[len(seconds) // 5 :]) * 1e3
            figures[kind] = {
                "recall@10": round(recall, 4),
                "p50_ms": round(float(np.percentile(warm, 50)), 3),
                "p99_ms": round(float(np.percentile(warm, 99)), 3),
                "first_ms": round(seconds[0] * 1e3, 1),
            }
        return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--memory", type=read_size, default="4GB")
    parser.add_argument("--index-type", default="ivfpq")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results" / "build.jsonl")
    args = parser.parse_args()
    data = Synthetic(args.rows, args.dim)
    path = args.folder / f"synthetic-{args.rows}-{args.dim}"
    if not path.exists():
        make_collection(path, data)
    what = {"rows": args.rows, "dim": args.dim, "memory": args.memory, "type": args.index_type, "jobs": args.jobs}
    built = watched(BUILD, str(path), args.index_type, str(args.memory), str(args.jobs))
    record = read_record(str(path))
    files = {"lists": record.lists.bytes, "rows": sum(s.rows.bytes + s.ids.bytes for s in record.segments)}
    np.save(args.folder / "query.npy", data.text_queries(1))
    first = [watched(FIRST, str(path), str(args.folder / "query.npy")) for _ in range(3)]
    figures = {
        **what,
        **built,
        "stated_memory": peak_bytes(record.recipe, args.rows, args.jobs),
        "stated_disk": disk_bytes(record.recipe, args.rows),
        "nlist": record.recipe.nlist,
        "file_bytes": files,
        "bytes_per_vector_searched": round(record.hot_bytes, 1),
        "bytes_per_vector_on_disk": round(record.disk_bytes / record.rows, 1),
        "open_and_first_query_s": [round(one["open_and_first_query_s"], 3) for one in first],
        "queries": quality(path, data),
        "machine": machine(),
    }
    append(args.out, figures)
    print(json.dumps(figures, indent=1))
    if figures["peak_resident"] > figures["stated_memory"]:
        raise SystemExit("more memory was taken than had been stated")


if __name__ == "__main__":
    main()
