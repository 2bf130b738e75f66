"""A flat faiss index as a file, as in clip-retrieval's index folder: ids are positions, scores inner products."""

import time
from collections.abc import Iterable
from typing import Any

import numpy as np

from clipsearch.index.faiss_library import faiss_errors, load_faiss
from clipsearch.types import Halves

_QUERIES = 100


def write_flat_file(blocks: Iterable[Halves], dim: int, path: str, named: str) -> dict[str, Any]:
    """Write an index of rows and return what clip-retrieval's ``image.json`` says of it.

    Args:
        blocks: arrays (n, D) of unit norm; all of them are held in memory as float32.
        dim: numbers in a row.
        path: file to write.
        named: its name in the description.
    """
    library: Any = load_faiss()
    index = library.IndexFlatIP(dim)
    first = np.empty((0, dim), np.float32)
    for block in blocks:
        rows = np.ascontiguousarray(block, dtype=np.float32)
        index.add(rows)
        if len(first) < _QUERIES:
            first = np.concatenate([first, rows[: _QUERIES - len(first)]])
    took = [_milliseconds(index, query[None]) for query in first]
    with faiss_errors(f"write {path}"):
        library.write_index(index, path)
    size = 4 * dim * index.ntotal
    return {
        "index_key": "Flat",
        "index_param": "",
        "index_path": named,
        "size in bytes": size,
        "avg_search_speed_ms": float(np.mean(took)) if took else 0.0,
        "99p_search_speed_ms": float(np.quantile(took, 0.99)) if took else 0.0,
        "reconstruction error %": 0.0,
        "nb vectors": index.ntotal,
        "vectors dimension": dim,
        "compression ratio": 1.0,
    }


def _milliseconds(index: Any, query: Any) -> float:
    start = time.perf_counter()
    index.search(query, 10)
    return 1000 * (time.perf_counter() - start)
