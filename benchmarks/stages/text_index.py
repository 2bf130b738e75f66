"""The index of the texts beside comparing all of them: building, recall@10, milliseconds, for both kinds of query.

    python benchmarks/stages/text_index.py FOLDER [--rows 1000000] [--queries 400] [--rounds 5]
    python benchmarks/stages/text_index.py FOLDER --flickr8k DIR      # real captions, embedded by mini

By default the rows are synthetic, with the geometry of CLIP's: texts in one cone, pictures in another. Queries are none
that the index was tuned with. With ``--flickr8k`` the texts are the captions of train.csv, the pictures and the text
queries those of dev.csv, and beside the recall of the index stands what retrieval on the dev captions loses by it.
"""

import argparse
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))
import clipsearch  # noqa: E402
from benchmarks.datasets import Synthetic  # noqa: E402
from benchmarks.results import append, machine  # noqa: E402
from clipsearch.flows.index_files import read_record  # noqa: E402
from clipsearch.index.flat import FlatIndex  # noqa: E402
from clipsearch.store import Columns, Store  # noqa: E402

K, COMMIT, PICTURES = 10, 100_000, 20_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--queries", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--flickr8k", type=Path)
    parser.add_argument("--out", default=ROOT / "benchmarks" / "results" / "text_index.jsonl")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    part = real if options.flickr8k else synthetic
    for figures in part(options):
        append(options.out, {"stage": "text_index", **figures, "queries": options.queries, "machine": machine()})
        print(figures)


def synthetic(options: argparse.Namespace):
    data = Synthetic(options.rows, options.dim)
    path = options.folder / f"texts-{options.rows}-{options.dim}"
    if not path.exists():
        _fill(path, data)
    n = options.queries
    queries = {"text": data.image_queries(n), "image": data.text_queries(PICTURES + n)[PICTURES:]}
    yield from measured(path, ["ivfpq", "ivfflat"], queries, options, {"rows": "synthetic"})


def real(options: argparse.Namespace):
    """Index the training captions and the dev pictures with ``mini``; no dev caption is in the index."""
    import csv

    path = options.folder / "flickr8k-texts"
    if not path.exists():
        with clipsearch.create(path, model="mini") as collection:
            collection.index(options.flickr8k / "dev.tar")
            collection.index_texts(options.flickr8k / "train.csv")
    with (options.flickr8k / "dev.csv").open(newline="", encoding="utf-8") as file:
        said = [row["caption"] for row in csv.DictReader(file)]
    with clipsearch.open(path) as collection:
        some = np.random.default_rng(0).choice(len(said), options.queries, replace=False)
        texts = collection.encoder.encode_texts([said[n] for n in some])
        snapshot = Store.open(path).snapshot()
        ids = np.concatenate([block.ids for block in snapshot.blocks("images")])[-options.queries :]
        images = snapshot.embeddings("images", ids).astype(np.float32)
    queries = {"text": np.asarray(texts), "image": images}
    yield from measured(path, ["ivfpq", "ivfflat"], queries, options, {"rows": "captions of Flickr8k, by mini"})


def measured(path: Path, types: list[str], queries: dict[str, Any], options: argparse.Namespace, what: dict[str, Any]):
    """Build each type and ask it beside exact search, query by query, in turn."""
    for index_type in types:
        with clipsearch.open(path) as collection:
            report = collection.build_index(index_type, target="text", retrain=True)
            record = read_record(str(path), "texts")
            view = collection._current()
            index, plain = view.index("texts", collection._lock), _compared(view.snapshot)
            kinds = {
                kind: _asked(index, plain, xq.astype(np.float32), index.effort(None, kind), options.rounds)
                for kind, xq in queries.items()
            }
            yield {
                **what,
                "type": index_type,
                "texts": record.rows,
                "recipe": record.recipe.name,
                "nlist": record.recipe.nlist,
                "build_s": report.seconds,
                "bytes_a_row": round(record.hot_bytes, 1),
                "stated_recall": report.recall,
                "kinds": kinds,
            }


def _compared(snapshot: Any) -> FlatIndex:
    """Return what searches use where there is no index, warmed as in a process that stays."""
    index = FlatIndex(snapshot.manifest.dim)
    for block in snapshot.blocks("texts"):
        index.add(block)
    return index.warmed()


def _asked(index: Any, plain: FlatIndex, xq: Any, effort: Any, rounds: int) -> dict[str, Any]:
    times: dict[str, list[float]] = {"index": [], "exact": []}
    exact = np.concatenate([plain.search(xq[n : n + 50], K).scores for n in range(0, len(xq), 50)])
    found = np.concatenate([index.search(q[None], K, effort=effort).scores for q in xq])
    for _ in range(rounds):
        for name, one, how, some in (("index", index, effort, xq), ("exact", plain, None, xq[:20])):
            taken = []
            for q in some:
                start = time.perf_counter()
                one.search(q[None], K, effort=how)
                taken.append(time.perf_counter() - start)
            times[name].append(1e3 * statistics.median(taken))
    return {
        "recall@10": round(float((found >= exact[:, -1:] - 1e-6).mean()), 4),
        "index_ms": round(statistics.median(times["index"]), 3),
        "index_ms_rounds": [round(min(times["index"]), 3), round(max(times["index"]), 3)],
        "exact_ms": round(statistics.median(times["exact"]), 2),
        "exact_ms_rounds": [round(min(times["exact"]), 2), round(max(times["exact"]), 2)],
    }


def _fill(path: Path, data: Synthetic) -> None:
    store = Store.create(str(path), {"name": "synthetic", "fingerprint": f"synthetic-{data.dim}"}, data.dim)
    with store.writer() as writer:
        rows = data.text_queries(PICTURES).astype(np.float16)
        ids, root = np.asarray(writer.new_ids(len(rows))), writer.root_id(b"/photos")
        same = {"root": root, "size": 1, "mtime_ns": 0, "ctime_ns": 0, "format": "jpeg"}
        hashes = [b"%032d" % id_ for id_ in ids]
        values = {"path": [b"%d.jpg" % id_ for id_ in ids], "content_hash": hashes}
        writer.commit_columns(images=Columns(ids, rows, values, same))
        for start in range(0, data.n, COMMIT):
            rows = data.base(start, min(start + COMMIT, data.n)).astype(np.float16)
            ids = np.asarray(writer.new_ids(len(rows)))
            said = {"text": [f"caption {id_}" for id_ in ids], "image_id": [None] * len(ids)}
            writer.commit_columns(texts=Columns(ids, rows, said, {"source": b""}))


if __name__ == "__main__":
    main()
