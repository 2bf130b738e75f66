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
        query = xq[0] if len(xq) == 1 else xq
        search = self.table.search(query, vector_column_name="vector").metric("dot").select(["id", "_distance"])
        search = search.limit(k).nprobes(self.settings["nprobe"]).refine_factor(self.settings["refine_factor"])
        found = search.to_arrow()
        ids = np.full((len(xq), k), -1, np.int64)
        owner = np.zeros(len(found), np.int64) if len(xq) == 1 else found["query_index"].to_numpy()
        order = np.lexsort((found["_distance"].to_numpy(), owner))
        owner = owner[order]
        place = np.arange(len(owner)) - np.searchsorted(owner, owner)
        ids[owner, place] = found["id"].to_numpy()[order]
        return ids

    def rows_bytes(self, folder: str) -> int:
        table = os.path.join(folder, "rows.lance")
        return folder_bytes(table) - folder_bytes(os.path.join(table, "_indices"))
