"""How long it takes to calibrate, to judge, and to judge the first time with a filter.

    python benchmarks/stages/calibrate.py [--rows 10000] [--captions 10000] [--dim 384] [--vectors base.npy] [--memory]

Rows are synthetic vectors with the geometry of CLIP's (``benchmarks/datasets.py``), or those of a float16 file; their
distribution does not change the time. They lie in a collection on the disk, as ``index`` leaves them, or with
``--memory`` in an array, for sizes that would take long to write. Captions are sentences; ``mini`` embeds the queries
made of them if ``--dim`` is 384, else a stand-in that takes no time. One JSON line a figure:

- ``first``: nothing is known but the bank's embeddings by ``mini``, which ship; ``text tower`` is the part that embeds
- ``again``: texts and hubs are known, as after every later run
- ``judge``: one verdict, once 100 rows were found
- ``filter``: the first verdict with a filter that lets a share of the rows pass, each kind of query

Times are those of the clock, and ``cpu_s`` the median of the processor's: on a busy machine only that means something,
with OPENBLAS_NUM_THREADS=1 and ``--threads 1``.
"""

import argparse
import hashlib
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent))
from datasets import Synthetic
from results import append, machine, summary

from clipsearch.embed import load_encoder
from clipsearch.flows.calibrate import make_calibration
from clipsearch.flows.calibrate_queries import Texts
from clipsearch.flows.filtered_verdicts import filtered
from clipsearch.flows.memory import MemoryRows, MemoryVersion
from clipsearch.flows.query_terms import build_queries
from clipsearch.flows.verdicts import Judge
from clipsearch.store import ImageRow, Store, TextRow
from clipsearch.types import EmbeddingBlock

THINGS = ("man", "woman", "dog", "child", "car", "boat", "horse", "tree", "house", "bird")
DOING = ("walks", "stands", "waits", "plays", "rests", "runs", "turns", "works")
WHERE = ("in a park", "at the beach", "near the river", "on a street", "in the snow", "behind the old station")


class Standing:
    """An encoder that takes no time."""

    name = "standing"

    def __init__(self, dim):
        self.dim = dim

    def encode_texts(self, texts):
        return Synthetic(1, self.dim).text_queries(len(texts))

    def fingerprint(self):
        return "0" * 64

    def covers_text(self, text):
        return True


class Watch:
    """Notes the time spent in the text tower."""

    def __init__(self, inner):
        self.inner, self.spent, self.texts = inner, [], 0
        self.name, self.dim = inner.name, inner.dim

    def encode_texts(self, texts):
        found, spent = timed(lambda: self.inner.encode_texts(texts))
        self.spent.append(spent)
        self.texts += len(texts)
        return found

    def fingerprint(self):
        return self.inner.fingerprint()

    def covers_text(self, text):
        return self.inner.covers_text(text)


def caption(n):
    a, b, c, d = THINGS[n % 10], THINGS[n // 10 % 10], DOING[n // 100 % 8], WHERE[n // 800 % 6]
    return f"a {a} with a {b} {c} {d} beside number {n}"


def on_disk(folder, images, texts):
    dim = images.shape[1]
    store = Store.create(Path(folder) / "c", {"name": "hashing", "fingerprint": "0"}, dim)
    with store.writer() as writer:
        root = writer.root_id(b"/pictures")
        for start in range(0, len(images), 10_000):
            part = images[start : start + 10_000]
            ids = writer.new_ids(len(part))
            rows = [picture(id_, root, row) for id_, row in zip(ids, part, strict=True)]
            own = [
                TextRow(text_id, id_, caption(id_), b"", row)
                for text_id, id_, row in zip(
                    writer.new_ids(len(part)), ids, texts[start : start + 10_000], strict=False
                )
            ]
            writer.commit(images=rows, texts=own)
    return Store.open(store.path).snapshot()


def picture(id_, root, row):
    facts = dict.fromkeys(("member", "taken", "camera", "lens", "latitude", "longitude"))
    sizes = dict.fromkeys(("size", "mtime_ns", "ctime_ns", "width", "height"), 1)
    digest = hashlib.sha256(str(id_).encode()).digest()
    return ImageRow(
        id=id_,
        root=root,
        path=f"{id_}.jpg".encode(),
        content_hash=digest,
        format="jpeg",
        embedding=row,
        **facts,
        **sizes,
    )


class Lying(MemoryVersion):
    """Rows in an array that may be larger than memory: blocks as a collection has them."""

    def blocks(self, kind):
        rows = self.kinds[kind]
        for start in range(0, len(rows.ids), 50_000):
            part = slice(start, start + 50_000)
            yield EmbeddingBlock(rows.ids[part], rows.embeddings[part])


def in_memory(images, texts):
    ids, text_ids = np.arange(len(images)), len(images) + np.arange(len(texts))
    said = tuple(caption(n) for n in range(len(texts)))
    pictures = MemoryRows(ids, images, np.full(len(ids), -1))
    return Lying(pictures, MemoryRows(text_ids, texts, np.arange(len(texts)), said))


def timed(make):
    """Return what was made, and seconds by the clock and of the processor."""
    start, cpu = time.perf_counter(), time.process_time()
    made = make()
    return made, (time.perf_counter() - start, time.process_time() - cpu)


def filters(version, target, shares, report):
    rng = np.random.default_rng(0)
    for share in shares:
        allowed = np.sort(rng.permutation(target.ids)[: int(share * len(target.ids))])
        judge = filtered(Judge(target, None), version, "images", allowed, allowed)
        for kind in target.kinds:
            _, seconds = timed(lambda judge=judge, kind=kind: judge.target.kinds[kind])
            report("filter", [seconds], kind=kind, allowed=len(allowed))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--captions", type=int, default=10_000)
    parser.add_argument("--dim", type=int, default=384)
    parser.add_argument("--vectors", type=Path)
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--threads", type=int, help="of the text tower")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--shares", default="1,0.5,0.1")
    parser.add_argument("--out", default="benchmarks/results/calibrate.jsonl")
    options = parser.parse_args()
    data = Synthetic(options.rows, options.dim)
    images = np.load(options.vectors, mmap_mode="r") if options.vectors else data.base().astype(np.float16)
    images = images[: options.rows]
    texts = data.text_queries(options.captions).astype(np.float16) if options.captions else images[:0]
    encoder = Watch(load_encoder("mini", threads=options.threads) if options.dim == 384 else Standing(options.dim))
    encoder.encode_texts(["a text, so that the tower is loaded"])

    def report(what, seconds, **more):
        record = {"stage": "calibrate", "what": what, "rows": len(images), "captions": len(texts)}
        clock, cpu = zip(*seconds, strict=True)
        record |= {"dim": options.dim, "memory": options.memory, "threads": options.threads, **summary(clock), **more}
        record["cpu_s"] = round(statistics.median(cpu), 4)
        append(options.out, {**record, "date": time.strftime("%Y-%m-%d"), **machine()})
        print(
            f"{what:12} {record['median_s'] * 1e3:10.1f} ms, cpu {record['cpu_s'] * 1e3:8.1f} ms  {more or ''}",
            flush=True,
        )

    with tempfile.TemporaryDirectory() as folder:
        version = in_memory(images, texts) if options.memory else on_disk(folder, images, texts)
        firsts, towers, agains = [], [], []
        for _ in range(options.repeats):
            encoder.spent, encoder.texts = [], 0
            tower = Texts(encoder, {})
            made, seconds = timed(lambda tower=tower: make_calibration(version, tower))
            firsts.append(seconds)
            towers.append(tuple(map(sum, zip(*encoder.spent, strict=True))))
            asked = encoder.texts
            known = Texts(encoder, tower.used)
            agains.append(timed(lambda known=known, made=made: make_calibration(version, known, made))[1])
        report("first", firsts, texts_embedded=asked)
        if asked and options.dim == 384:
            report("text tower", towers, texts_embedded=asked)
        report("again", agains)
        target = made.targets["images"]
        (query,), _ = build_queries("a dog in the snow")
        ids, scores = target.ids[:100], np.linspace(0.3, 0.2, 100, dtype=np.float32)
        judge = Judge(target, None)
        report("judge", [timed(lambda: judge.judge(query.terms, True, ids, scores))[1] for _ in range(200)])
        filters(version, target, [float(share) for share in options.shares.split(",")], report)


if __name__ == "__main__":
    main()
