"""LanceDB: IVF_PQ inside a table of Lance files, re-ranked from the table (``refine_factor``)."""

import os
import time
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from benchmarks.contenders.base import Contender, Source, folder_bytes


class LanceDB(Contender):
    """Parameters: ``partitions``, ``sub_vectors``. Settings: ``nprobe``, ``refine_factor`` (times k)."""

    environment = "lancedb"
    packages = ("lancedb", "pyarrow", "numpy")

    def load(self) -> None:
        import lancedb

        self.lancedb = lancedb

    def build(self, source: Source, folder: str, params: Mapping[str, Any]) -> dict[str, Any]:
        import pyarrow as pa

        dim = source.rows().shape[1]
        schema = pa.schema([("id", pa.int64()), ("vector", pa.list_(pa.float32(), dim))])

        def batches() -> Iterator[pa.RecordBatch]:
            for start, rows in source.blocks():
                column = pa.FixedSizeListArray.from_arrays(pa.array(rows.ravel()), dim)
                yield pa.record_batch([pa.array(np.arange(start, start + len(rows))), column], schema=schema)

        start = time.perf_counter()
        table = self.lancedb.connect(folder).create_table("rows", batches(), schema=schema)
        ingested = time.perf_counter() - start
        table.create_index(
            metric="dot",
            num_partitions=params["partitions"],
            num_sub_vectors=params["sub_vectors"],
            vector_column_name="vector",
            index_type="IVF_PQ",
        )
        return {"ingest_s": round(ingested, 2), "rows_indexed": table.index_stats("vector_idx").num_indexed_rows}

    def open(self, folder: str, params: Mapping[str, Any]) -> None:
        self.table = self.lancedb.connect(folder).open_table("rows")

    def tune(self, settings: Mapping[str, Any], kind: str) -> None:
        self.settings = settings

    def search(self, xq: np.ndarray, k: int) -> Any:
        return [self._one(query, k) for query in xq]

    def _one(self, query: np.ndarray, k: int) -> list[int]:
        search = self.table.search(query, vector_column_name="vector").metric("dot").select(["id", "_distance"]).limit(k)
        search = search.nprobes(self.settings["nprobe"])
        if self.settings.get("refine_factor"):
            search = search.refine_factor(self.settings["refine_factor"])
        ids = search.to_arrow()["id"].to_pylist()
        return ids + [-1] * (k - len(ids))

    def rows_bytes(self, folder: str) -> int:
        table = os.path.join(folder, "rows.lance")
        return folder_bytes(table) - folder_bytes(os.path.join(table, "_indices"))
