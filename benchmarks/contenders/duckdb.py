"""DuckDB: ``array_inner_product`` over a FLOAT[D] column. Its HNSW extension is not on the package index."""

import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from benchmarks.contenders.base import Contender, Source


class DuckDB(Contender):
    """Exact."""

    environment = "duckdb"
    packages = ("duckdb", "numpy")
    exact = True

    def load(self) -> None:
        import duckdb

        self.duckdb = duckdb

    def build(self, source: Source, folder: str, params: Mapping[str, Any]) -> dict[str, Any]:
        import pyarrow as pa

        dim = source.rows().shape[1]
        database = self.duckdb.connect(os.path.join(folder, "rows.duckdb"), config={"threads": self.threads})
        database.execute(f"CREATE TABLE rows (id BIGINT, vector FLOAT[{dim}])")
        for start, rows in source.blocks():
            column = pa.FixedSizeListArray.from_arrays(pa.array(rows.ravel()), dim)
            block = pa.table({"id": np.arange(start, start + len(rows)), "vector": column})
            database.register("block", block)
            database.execute("INSERT INTO rows SELECT id, vector FROM block")
            database.unregister("block")
        database.execute("CHECKPOINT")
        database.close()
        return {}

    def open(self, folder: str, params: Mapping[str, Any]) -> None:
        path = os.path.join(folder, "rows.duckdb")
        self.database = self.duckdb.connect(path, read_only=True, config={"threads": self.threads})

    def search(self, xq: np.ndarray, k: int) -> Any:
        query = f"SELECT id FROM rows ORDER BY array_inner_product(vector, ?::FLOAT[{xq.shape[1]}]) DESC LIMIT {k}"
        return [[row[0] for row in self.database.execute(query, [one.tolist()]).fetchall()] for one in xq]
