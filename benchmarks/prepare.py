"""Data sets on the disk, in one form for all contenders: made or converted once, then read.

    <cache>/<name>/base.npy      rows (N, D) float16 of unit norm: what clipsearch stores, so everybody gets the same
    <cache>/<name>/queries.npz   a (Q, D) float32 array a kind: text, image, hard
    <cache>/<name>/truth.npz     <kind>_ids (Q, 100) and <kind>_scores (Q, 100): exact, best first
    <cache>/<name>/tuning.npy    (T, D) float32 text queries that are not measured; where there are any

Kinds of ``[dataset]`` in a suite:

    synthetic    n, dim, seed, queries, clusters, topics       datasets.py
    hdf5         path                                          ann-benchmarks: train, test (and neighbors)
    bigann       base, queries, truth (may be left out)        .fbin, .u8bin, .i8bin; ground truth as ids and distances
    collection   path, queries                                 rows of a clipsearch collection of real pictures
"""

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.datasets import Synthetic

DEPTH = 100
BLOCK = 50_000
TUNING = 500
TIE = 1e-6  # scores nearer than this are equal: float32 products of 512 numbers differ by less
Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Dataset:
    """A data set in its folder; see the module's docstring."""

    name: str
    folder: str

    def path(self, file: str) -> str:
        """Return where a file of it is."""
        return os.path.join(self.folder, file)

    @property
    def base(self) -> NDArray[Any]:
        """Rows (N, D), memory-mapped."""
        return np.load(self.path("base.npy"), mmap_mode="r")

    @property
    def tuning(self) -> str | None:
        """Where the text queries that may be tuned with are, or None."""
        return self.path("tuning.npy") if os.path.exists(self.path("tuning.npy")) else None

    def queries(self, kind: str) -> Floats:
        """Return the queries (Q, D) of a kind."""
        with np.load(self.path("queries.npz")) as file:
            return file[kind]

    def truth(self, kind: str) -> tuple[NDArray[np.int64], Floats]:
        """Return ids and scores (Q, 100) of the exact answers, best first."""
        with np.load(self.path("truth.npz")) as file:
            return file[f"{kind}_ids"], file[f"{kind}_scores"]

    def recall(self, kind: str, ids: NDArray[np.int64], k: int) -> float:
        """Return recall@k (0 to 1) of answers (Q, k) to the first Q queries; who ties with the k-th exact is right."""
        xq, (_, exact) = self.queries(kind)[: len(ids)], self.truth(kind)
        scores = _scores(self.base, xq, ids[:, :k])
        fresh = np.array([np.isin(range(row.size), np.unique(row, return_index=True)[1]) for row in ids[:, :k]])
        right = (scores >= exact[: len(ids), k - 1 : k] - TIE) & fresh
        return float(right.sum(axis=1).mean() / k)


def prepare(spec: Mapping[str, Any], cache: str) -> Dataset:
    """Return a data set, made if it is not there.

    Raises:
        ValueError: a kind or key that is not known.
    """
    makers = {"synthetic": _synthetic, "hdf5": _hdf5, "bigann": _bigann, "collection": _collection}
    options = {key: value for key, value in spec.items() if key != "kind"}
    if spec.get("kind") not in makers:
        raise ValueError(f"dataset.kind is {spec.get('kind')!r}; known: {', '.join(makers)}.")
    dataset = Dataset(_name(spec), os.path.join(cache, _name(spec)))
    if not os.path.exists(dataset.path("dataset.json")):
        os.makedirs(dataset.folder, exist_ok=True)
        makers[spec["kind"]](dataset, **options)
        with open(dataset.path("dataset.json"), "w", encoding="utf-8") as file:
            json.dump({**spec, "rows": list(dataset.base.shape)}, file)
    return dataset


def _name(spec: Mapping[str, Any]) -> str:
    """Name a set; what the name does not say (other options, the whole path) is in a digest at its end."""
    if spec["kind"] == "synthetic":
        name = f"synthetic-{spec['n']}x{spec.get('dim', 512)}-seed{spec.get('seed', 0)}"
        rest = {key: value for key, value in spec.items() if key not in ("kind", "n", "dim", "seed")}
    else:
        path = str(spec.get("path", spec.get("base"))).rstrip("/")
        name, rest = f"{spec['kind']}-{os.path.splitext(os.path.basename(path))[0]}", spec
    digest = hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()[:6]
    return f"{name}-{digest}" if rest else name


def _synthetic(dataset: Dataset, n: int, queries: int = 1000, **options: Any) -> None:
    source = Synthetic(n, **options)
    _write_base(dataset, n, source.dim, (rows for _, rows in source.blocks()))
    kinds = {
        "text": source.text_queries(queries),
        "hard": source.hard_queries(queries),
        "image": source.image_queries(queries),
    }
    np.save(dataset.path("tuning.npy"), source.text_queries(queries + TUNING)[queries:])
    _write_queries(dataset, kinds)


def _hdf5(dataset: Dataset, path: str) -> None:
    from benchmarks.data_files import read_hdf5

    base, queries = read_hdf5(path)
    _write_base(dataset, len(base), base.shape[1], (_unit(base[i : i + BLOCK]) for i in range(0, len(base), BLOCK)))
    _write_queries(dataset, {"text": _unit(queries)})


def _bigann(dataset: Dataset, base: str, queries: str, truth: str | None = None) -> None:
    from benchmarks.data_files import read_bin, read_truth

    rows = read_bin(base)
    _write_base(dataset, len(rows), rows.shape[1], (_unit(rows[i : i + BLOCK]) for i in range(0, len(rows), BLOCK)))
    known = None if truth is None else {"text": read_truth(truth)[0]}
    _write_queries(dataset, {"text": _unit(read_bin(queries))}, known)


def _collection(dataset: Dataset, path: str, queries: int = 500) -> None:
    """Rows of a collection; some pictures are held back as image queries, captions or prompts are the text queries."""
    from clipsearch.embed import load_encoder
    from clipsearch.flows.prompts import generic_prompts
    from clipsearch.store import Store

    snapshot = Store.open(path).snapshot()
    rows = np.concatenate([np.asarray(block.embeddings) for block in snapshot.blocks("images")])
    held = np.random.default_rng(0).permutation(len(rows))[: min(queries, len(rows) // 10)]
    kept = np.delete(rows, held, axis=0)
    _write_base(dataset, len(kept), kept.shape[1], (kept[i : i + BLOCK] for i in range(0, len(kept), BLOCK)))
    texts = [np.asarray(block.embeddings, np.float32) for block in snapshot.blocks("texts")]
    if sum(map(len, texts)) < 100:
        encoder = load_encoder(str(snapshot.manifest.encoder["name"]))
        texts = [np.asarray(encoder.encode_texts(generic_prompts(200)), np.float32)]
    text = np.random.default_rng(1).permutation(np.concatenate(texts))
    half = len(text) // 2
    np.save(dataset.path("tuning.npy"), text[half : half + TUNING])
    _write_queries(dataset, {"text": text[: min(half, queries)], "image": rows[held].astype(np.float32)})


def _write_base(dataset: Dataset, n: int, dim: int, blocks: Iterable[NDArray[Any]]) -> None:
    out = np.lib.format.open_memmap(dataset.path("base.npy"), "w+", np.float16, (n, dim))
    start = 0
    for rows in blocks:
        out[start : start + len(rows)] = rows
        start += len(rows)
    out.flush()


def _write_queries(
    dataset: Dataset, kinds: Mapping[str, Floats], known: Mapping[str, NDArray[np.int64]] | None = None
) -> None:
    arrays: dict[str, Any] = {kind: np.ascontiguousarray(xq, np.float32) for kind, xq in kinds.items()}
    np.savez(dataset.path("queries.npz"), **arrays)
    truth: dict[str, Any] = {}
    for kind, xq in kinds.items():
        ids = (known or {}).get(kind)
        ids, scores = exact(dataset.base, xq) if ids is None else _scored(dataset.base, xq, ids)
        truth |= {f"{kind}_ids": ids, f"{kind}_scores": scores}
    np.savez(dataset.path("truth.npz"), **truth)


def exact(base: NDArray[Any], xq: Floats, depth: int = DEPTH) -> tuple[NDArray[np.int64], Floats]:
    """Return ids and scores (Q, depth) of the best rows by inner product, best first, block by block."""
    depth = min(depth, len(base))
    ids = np.zeros((len(xq), 0), np.int64)
    scores = np.zeros((len(xq), 0), np.float32)
    for start in range(0, len(base), BLOCK):
        block = xq @ np.asarray(base[start : start + BLOCK], np.float32).T
        best = np.argpartition(-block, min(depth, block.shape[1]) - 1, axis=1)[:, :depth]
        scores = np.concatenate([scores, np.take_along_axis(block, best, 1)], axis=1)
        ids = np.concatenate([ids, best + start], axis=1)
        order = np.argsort(-scores, axis=1, kind="stable")[:, :depth]
        ids, scores = np.take_along_axis(ids, order, 1), np.take_along_axis(scores, order, 1)
    return ids, scores


def _scored(base: NDArray[Any], xq: Floats, ids: NDArray[np.int64]) -> tuple[NDArray[np.int64], Floats]:
    """Score the answers that a file gives anew, on the rows as they are stored here."""
    scores = _scores(base, xq, ids[: len(xq)])
    order = np.argsort(-scores, axis=1, kind="stable")
    return np.take_along_axis(ids[: len(xq)], order, 1), np.take_along_axis(scores, order, 1).astype(np.float32)


def _scores(base: NDArray[Any], xq: Floats, ids: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the scores of answers (Q, k); -inf for an id that is none."""
    scores = np.full(ids.shape, -np.inf)
    for q, (query, row) in enumerate(zip(xq, ids, strict=True)):
        there = (row >= 0) & (row < len(base))
        scores[q, there] = np.asarray(base[row[there]], np.float64) @ query.astype(np.float64)
    return scores


def _unit(rows: NDArray[Any]) -> Floats:
    rows = np.asarray(rows, np.float32)
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
